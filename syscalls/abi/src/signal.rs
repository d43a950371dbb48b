//! Signals as they lie in guest memory: numbers, sets, `siginfo_t`, `struct sigaction`, the signal frame.
//!
//! Key types: [`SigInfo`], [`SigAction`], [`RtSigFrame`], [`StackT`].
//! Sources: `signal(7)`, `sigaction(2)`, `arch/x86/include/asm/sigframe.h`, `uapi/asm/sigcontext.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! numbers {
    ($($name:ident = $number:literal),* $(,)?) => {$(
        #[doc = concat!("Signal ", stringify!($number), ".")]
        pub const $name: i32 = $number;
    )*};
}
numbers! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9,
    SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15, SIGSTKFLT = 16, SIGCHLD = 17,
    SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22, SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25,
    SIGVTALRM = 26, SIGPROF = 27, SIGWINCH = 28, SIGIO = 29, SIGPWR = 30, SIGSYS = 31, SIGRTMIN = 32, SIGRTMAX = 64,
}

/// The handler's address that stands for the default action.
pub const SIG_DFL: u64 = 0;
/// The handler's address that stands for ignoring.
pub const SIG_IGN: u64 = 1;

/// `sa_flags`.
#[expect(missing_docs, reason = "named as in sigaction(2)")]
pub mod sa {
    pub const NOCLDSTOP: u64 = 0x1;
    pub const NOCLDWAIT: u64 = 0x2;
    pub const SIGINFO: u64 = 0x4;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
    /// All that Linux keeps; unknown bits are cleared (`UAPI_SA_FLAGS`), and `SA_UNSUPPORTED` (0x400), by which programs find that out.
    pub const KNOWN: u64 = 0xdc00_0807;
}

/// `ss_flags` of `sigaltstack(2)`.
#[expect(missing_docs, reason = "named as in sigaltstack(2)")]
pub mod ss {
    pub const ONSTACK: i32 = 1;
    pub const DISABLE: i32 = 2;
    pub const AUTODISARM: i32 = i32::MIN;
}

/// `si_code`.
#[expect(missing_docs, reason = "named as in sigaction(2)")]
pub mod code {
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_MESGQ: i32 = -3;
    pub const SI_TKILL: i32 = -6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRERR: i32 = 2;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
    pub const SYS_SECCOMP: i32 = 1;
}

/// `siginfo_t`: 128 bytes, of which the meaning of the last 112 hangs on signal and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct SigInfo {
    /// Signal number.
    pub signo: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// Alignment.
    pub pad: i32,
    /// The union.
    pub fields: [u64; 14],
}

/// Two 32-bit numbers as they share one of [`SigInfo::fields`].
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl SigInfo {
    /// From the kernel, without more to tell.
    #[must_use]
    pub fn kernel(signo: i32) -> Self {
        Self { signo, code: code::SI_KERNEL, ..Self::default() }
    }

    /// From a process: `kill(2)` and friends.
    #[must_use]
    pub fn from_process(signo: i32, code: i32, pid: i32, uid: u32) -> Self {
        let mut info = Self { signo, code, ..Self::default() };
        info.fields[0] = pair(pid.cast_unsigned(), uid);
        info
    }

    /// As [`SigInfo::from_process`] with a value: `sigqueue(3)`, message queues.
    #[must_use]
    pub fn with_value(signo: i32, code: i32, pid: i32, uid: u32, value: u64) -> Self {
        let mut info = Self::from_process(signo, code, pid, uid);
        info.fields[1] = value;
        info
    }

    /// From a POSIX timer.
    #[must_use]
    pub fn timer(signo: i32, timer: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self { signo, code: code::SI_TIMER, ..Self::default() };
        info.fields[0] = pair(timer.cast_unsigned(), overrun.cast_unsigned());
        info.fields[1] = value;
        info
    }

    /// About a fault at an address.
    #[must_use]
    pub fn fault(signo: i32, code: i32, addr: u64) -> Self {
        let mut info = Self { signo, code, ..Self::default() };
        info.fields[0] = addr;
        info
    }

    /// About a child; times in clock ticks.
    #[must_use]
    pub fn child(code: i32, pid: i32, uid: u32, status: i32, utime: u64, stime: u64) -> Self {
        let mut info = Self::from_process(SIGCHLD, code, pid, uid);
        info.fields[1] = u64::from(status.cast_unsigned());
        info.fields[2] = utime;
        info.fields[3] = stime;
        info
    }

    /// About a descriptor (`SIGIO`).
    #[must_use]
    pub fn poll(signo: i32, code: i32, band: i64, fd: i32) -> Self {
        let mut info = Self { signo, code, ..Self::default() };
        info.fields[0] = band.cast_unsigned();
        info.fields[1] = u64::from(fd.cast_unsigned());
        info
    }

    /// `si_pid`, also `si_tid` of timers.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.fields[0] as u32 as i32
    }

    /// `si_uid`, also `si_overrun` of timers.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }

    /// `si_value`.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.fields[1]
    }

    /// `si_status` of a child.
    #[must_use]
    pub const fn status(&self) -> i32 {
        self.fields[1] as u32 as i32
    }

    /// `si_addr`.
    #[must_use]
    pub const fn addr(&self) -> u64 {
        self.fields[0]
    }
}

/// `struct sigaction` of the system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct SigAction {
    /// `sa_handler`, or [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// [`sa`] bits.
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: u64,
}

/// `stack_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackT {
    /// Lowest address.
    pub sp: u64,
    /// [`ss`] bits.
    pub flags: i32,
    /// Alignment.
    pub pad: i32,
    /// Length in bytes.
    pub size: u64,
}

impl Default for StackT {
    fn default() -> Self {
        Self { sp: 0, flags: ss::DISABLE, pad: 0, size: 0 }
    }
}

/// `struct sigcontext` (`mcontext_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in sigcontext.h")]
pub struct SigContext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub err: u64,
    pub trapno: u64,
    pub oldmask: u64,
    pub cr2: u64,
    /// Guest address of the extended state.
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// `struct ucontext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in ucontext.h")]
pub struct UContext {
    pub flags: u64,
    pub link: u64,
    pub stack: StackT,
    pub mcontext: SigContext,
    pub sigmask: u64,
}

/// `struct rt_sigframe`: what a handler finds on its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in sigframe.h")]
pub struct RtSigFrame {
    pub pretcode: u64,
    pub uc: UContext,
    pub info: SigInfo,
}

/// The extended state goes with `fpstate`.
pub const UC_FP_XSTATE: u64 = 1;
/// `ss` of the frame is valid.
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// `ss` is restored exactly.
pub const UC_STRICT_RESTORE_SS: u64 = 4;
/// First magic number of an extended `fpstate`.
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// The magic number after it.
pub const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where `struct _fpx_sw_bytes` lies in `struct _fpstate`.
pub const SW_RESERVED_OFFSET: usize = 464;

/// `struct _fpx_sw_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in sigcontext.h")]
pub struct FpxSwBytes {
    pub magic1: u32,
    pub extended_size: u32,
    pub xfeatures: u64,
    pub xstate_size: u32,
    pub padding: [u32; 7],
}

/// `struct sigevent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigEvent {
    /// `sigev_value`.
    pub value: u64,
    /// Signal.
    pub signo: i32,
    /// `SIGEV_*`.
    pub notify: i32,
    /// Thread id with `SIGEV_THREAD_ID`.
    pub tid: i32,
    /// Rest of the union.
    pub pad: [u32; 11],
}

/// `SIGEV_SIGNAL`.
pub const SIGEV_SIGNAL: i32 = 0;
/// `SIGEV_NONE`.
pub const SIGEV_NONE: i32 = 1;
/// `SIGEV_THREAD`.
pub const SIGEV_THREAD: i32 = 2;
/// `SIGEV_THREAD_ID`.
pub const SIGEV_THREAD_ID: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_linux() {
        assert_eq!(size_of::<SigInfo>(), 128);
        assert_eq!(size_of::<SigContext>(), 256);
        assert_eq!(size_of::<UContext>(), 304);
        assert_eq!(size_of::<RtSigFrame>(), 440);
        assert_eq!(size_of::<FpxSwBytes>(), 48);
        assert_eq!(size_of::<SigEvent>(), 64);
        assert_eq!(size_of::<SigAction>(), 32);
        assert_eq!(size_of::<StackT>(), 24);
    }
}
