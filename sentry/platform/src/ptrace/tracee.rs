//! One traced thread: the calls of `ptrace(2)` that this platform uses, each a safe function.
//!
//! Key types: [`Tracee`], [`Stop`], [`Gone`]. Only the thread that seized a tracee may call anything on it but [`Tracee::signal`].

use std::io;

use libc::{c_int, c_long, c_uint, pid_t, user_regs_struct};

use crate::sys;

/// `PTRACE_SYSEMU`: runs to the entry of the next call, which the host then skips.
const SYSEMU: c_uint = 31;
/// `PTRACE_GET_SYSCALL_INFO`.
const GET_SYSCALL_INFO: c_uint = 0x420e;
/// `NT_X86_XSTATE`.
const XSTATE: usize = 0x202;
/// Room for any extended state: AMX's is 11 KiB.
const XSTATE_MAX: usize = 16 << 10;

/// The thread is gone, or going: it cannot be traced any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The signal that killed it, if one did.
    pub signal: Option<c_int>,
}

/// Why a tracee has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At the entry of a call.
    Call,
    /// Before a signal is delivered; it is lost unless the tracer passes it on, which we never do.
    Signal(c_int),
    /// The tracer asked, or the whole process was stopped.
    Asked,
}

/// How a tracee goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// To the entry of its next call, which the host will not execute.
    ToCall,
    /// For one instruction, a call included, which the host executes.
    OneStep,
}

/// `siginfo_t` of a stop before a fault's signal.
#[derive(Debug, Clone, Copy)]
pub struct SignalInfo {
    /// `si_code`.
    pub code: c_int,
    /// `si_addr`.
    pub addr: u64,
}

/// A thread of a stub.
#[derive(Debug, Clone, Copy)]
pub struct Tracee {
    process: pid_t,
    thread: pid_t,
}

impl Tracee {
    /// Names a thread; it is not traced yet.
    #[must_use]
    pub const fn new(process: pid_t, thread: pid_t) -> Self {
        Self { process, thread }
    }

    /// Its thread id.
    #[must_use]
    pub const fn thread(&self) -> pid_t {
        self.thread
    }

    /// There is such a thread, and it is in that process.
    #[must_use]
    pub fn exists(&self) -> bool {
        sys::tgkill(self.process, self.thread, 0).is_ok()
    }

    /// Sends it a signal. Any thread may.
    pub fn signal(&self, signal: c_int) {
        // One that has just ended needs no signal.
        let _ = sys::tgkill(self.process, self.thread, signal);
    }

    fn request(&self, request: c_uint, addr: usize, data: usize) -> io::Result<c_long> {
        // SAFETY: the callers below pass addresses of live values of the sizes that the request implies.
        let result = unsafe { libc::ptrace(request, self.thread, addr, data) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }

    /// A request that fails only because the thread has been killed: then its end is awaited.
    fn must(&self, request: c_uint, addr: usize, data: usize) -> Result<(), Gone> {
        self.request(request, addr, data).map(drop).map_err(|_| self.bury())
    }

    /// Begins to trace it, from this thread of ours. All of its process dies with this thread.
    ///
    /// # Errors
    /// The host's: EPERM if another thread of ours traces it.
    pub fn seize(&self) -> io::Result<()> {
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
        self.request(libc::PTRACE_SEIZE, 0, usize::try_from(options).expect("bits")).map(drop)
    }

    /// Makes it stop; the stop is to be waited for.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn stop(&self) -> Result<(), Gone> {
        self.must(libc::PTRACE_INTERRUPT, 0, 0)
    }

    /// Lets it go on by itself.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn detach(&self) -> Result<(), Gone> {
        self.must(libc::PTRACE_DETACH, 0, 0)
    }

    /// Lets it go on, without the signal before which it has stopped.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn resume(&self, how: Resume) -> Result<(), Gone> {
        let request = match how {
            Resume::ToCall => SYSEMU,
            Resume::OneStep => libc::PTRACE_SINGLESTEP,
        };
        self.must(request, 0, 0)
    }

    /// Waits until it stops or ends.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn wait(&self) -> Result<Stop, Gone> {
        self.wait_with(0)?.ok_or(Gone { signal: None })
    }

    /// It has been killed while it was stopped.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn look(&self) -> Result<(), Gone> {
        self.wait_with(libc::WNOHANG).map(drop)
    }

    fn wait_with(&self, flags: c_int) -> Result<Option<Stop>, Gone> {
        loop {
            let mut status = 0;
            // SAFETY: `status` lives across the call.
            let result = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL | flags) };
            if result == 0 {
                return Ok(None);
            }
            if result < 0 {
                if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) {
                    continue;
                }
                return Err(Gone { signal: None });
            }
            if !libc::WIFSTOPPED(status) {
                return Err(Gone { signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)) });
            }
            return Ok(Some(match (status >> 16, libc::WSTOPSIG(status)) {
                (0, signal) if signal == libc::SIGTRAP | 0x80 => Stop::Call,
                (0, signal) => Stop::Signal(signal),
                _ => Stop::Asked,
            }));
        }
    }

    /// Waits for its end: it has been killed, or is now.
    #[must_use]
    pub fn bury(&self) -> Gone {
        loop {
            match self.wait() {
                Err(gone) => return gone,
                // A stop that came before the kill.
                Ok(_) => self.signal(libc::SIGKILL),
            }
        }
    }

    /// Its registers.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn registers(&self) -> Result<user_regs_struct, Gone> {
        // SAFETY: all fields are plain numbers.
        let mut regs: user_regs_struct = unsafe { std::mem::zeroed() };
        self.must(libc::PTRACE_GETREGS, 0, (&raw mut regs) as usize)?;
        Ok(regs)
    }

    /// Sets its registers. Selectors and bases must be legal ones.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn set_registers(&self, regs: &user_regs_struct) -> Result<(), Gone> {
        self.must(libc::PTRACE_SETREGS, 0, std::ptr::from_ref(regs) as usize)
    }

    /// What the host says about the signal before which it has stopped.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn signal_info(&self) -> Result<SignalInfo, Gone> {
        // SAFETY: all fields are plain numbers.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        self.must(libc::PTRACE_GETSIGINFO, 0, (&raw mut info) as usize)?;
        // SAFETY: every byte of the union is initialised.
        let addr = unsafe { info.si_addr() } as u64;
        Ok(SignalInfo { code: info.si_code, addr })
    }

    /// `AUDIT_ARCH_*` of the call at whose entry it has stopped; `None` before Linux 5.3.
    #[must_use]
    pub fn call_arch(&self) -> Option<u32> {
        // The first 8 bytes of `struct ptrace_syscall_info`: op, padding, arch.
        let mut head = [0_u32; 2];
        self.request(GET_SYSCALL_INFO, size_of_val(&head), (&raw mut head) as usize).ok()?;
        Some(head[1])
    }

    /// The whole extended state, as an XSAVE image in the standard format.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn extended(&self) -> Result<Vec<u8>, Gone> {
        let mut image = vec![0_u8; XSTATE_MAX];
        let mut piece = libc::iovec { iov_base: image.as_mut_ptr().cast(), iov_len: image.len() };
        self.must(libc::PTRACE_GETREGSET, XSTATE, (&raw mut piece) as usize)?;
        image.truncate(piece.iov_len);
        Ok(image)
    }

    /// Loads an extended state, as long as the host's own.
    ///
    /// # Errors
    /// The host's: EINVAL for what the processor would refuse, ESRCH if the thread is gone.
    pub fn set_extended(&self, image: &mut [u8]) -> io::Result<()> {
        let mut piece = libc::iovec { iov_base: image.as_mut_ptr().cast(), iov_len: image.len() };
        self.request(libc::PTRACE_SETREGSET, XSTATE, (&raw mut piece) as usize).map(drop)
    }
}
