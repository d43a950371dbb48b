//! What a platform offers to the kernel: address spaces, and threads that run guest code in them.
//!
//! Key types: the traits [`Platform`], [`Template`], [`AddressSpace`], [`Context`], [`Interrupter`], and [`Exit`].
//! The kernel names no host process, no signal of the host and no descriptor number; it deals in these only.
//!
//! ```text
//! Platform ── new_template ──> Template ── spawn ──> AddressSpace + first Context
//!                                                      │ Context::clone_thread ──> Context   (same space)
//!                                                      └ Context::fork ──> AddressSpace + Context
//! ```
//!
//! A `Context` belongs to the one sentry thread that serves that guest thread; everything else may be shared.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use linux_abi::{Errno, Registers};

use crate::bulk::{BulkIn, BulkOut};
use crate::death::Death;
pub use crate::stub::filter::{is_host_advice, is_host_futex};
use crate::stub::layout::{CALL_MAX, GUARD_START, STUB_END};

/// Addresses that no guest can have: [`crate::stub::layout`] says why these.
pub const RESERVED: Range<u64> = GUARD_START..STUB_END;
/// Longest range of one [`MemoryCall`].
pub const MEMORY_CALL_MAX: u64 = CALL_MAX;

/// Why the host or the platform failed; never the guest's fault.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The host refused an operation.
    #[error("{what}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The host lacks a feature that this platform needs.
    #[error("host lacks {0}")]
    Missing(&'static str),
    /// A stub did something that only a hostile or broken one does, or it died.
    #[error("stub failed: {0}")]
    Stub(&'static str),
    /// A limit of the platform's own.
    #[error("limit reached: {0}")]
    Limit(&'static str),
}

/// A way to run guest code.
pub trait Platform: Send + Sync {
    /// `systrap` or `ptrace`.
    fn name(&self) -> &'static str;

    /// Forks a pristine stub from which the stubs of one container will be forked.
    ///
    /// # Errors
    /// When the host has no more processes or memory.
    fn new_template(&self) -> Result<Arc<dyn Template>, PlatformError>;
}

/// A pristine stub: the parent, as far as cgroups go, of all the address spaces of one container.
pub trait Template: Send + Sync {
    /// Names the host process, so that the shim can put it into the container's cgroup.
    fn pidfd(&self) -> BorrowedFd<'_>;

    /// A new, empty address space with one context in it.
    ///
    /// # Errors
    /// When the host has no more processes or memory.
    fn spawn(&self) -> Result<Spawned, PlatformError>;

    /// Why it has ended, if [`Template::kill`] has not killed it.
    fn death(&self) -> Option<Death> {
        None
    }

    /// Kills the template; address spaces forked from it live on.
    fn kill(&self);
}

/// A new address space and the first context in it.
pub type Spawned = (Arc<dyn AddressSpace>, Box<dyn Context>);

/// Memory protection and mapping calls that a context executes for the kernel, in its own address space.
///
/// Addresses and lengths are page-aligned and inside the guest's range: the kernel has checked them.
#[derive(Debug, Clone, Copy)]
pub enum MemoryCall<'a> {
    /// Anonymous memory, always at a fixed place; `shared` memory must come from a descriptor instead.
    MapAnonymous {
        /// Start.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// `PROT_*` bits.
        prot: u32,
        /// `MAP_*` bits besides `PRIVATE`, `ANONYMOUS` and `FIXED`: `NORESERVE`, `STACK`, `GROWSDOWN`, `POPULATE`.
        extra_flags: u32,
    },
    /// A file, always at a fixed place.
    MapFile {
        /// Start.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// `PROT_*` bits.
        prot: u32,
        /// `MAP_SHARED`, else private.
        shared: bool,
        /// What to map; open for writing only if the guest may write to it.
        file: BorrowedFd<'a>,
        /// Offset in the file, in bytes.
        offset: u64,
    },
    /// Unmap.
    Unmap {
        /// Start.
        addr: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Change protection.
    Protect {
        /// Start.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// `PROT_*` bits.
        prot: u32,
    },
    /// Move or resize; the new place is always fixed when it differs.
    Remap {
        /// Old start.
        addr: u64,
        /// Old length in bytes.
        old_len: u64,
        /// New length in bytes.
        new_len: u64,
        /// New start; equal to `addr` to resize in place.
        new_addr: u64,
        /// Leave the old place mapped and empty (`MREMAP_DONTUNMAP`).
        keep_old: bool,
    },
    /// Advice, from the kernel's list of harmless ones.
    Advise {
        /// Start.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// `MADV_*`.
        advice: u32,
    },
    /// `msync(2)`.
    Sync {
        /// Start.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// `MS_*`.
        flags: u32,
    },
    /// `mincore(2)`: the answer is written to guest memory at `vec`.
    Incore {
        /// Start.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// Guest address of the answer.
        vec: u64,
    },
}

/// Calls on the guest thread itself that the host kernel executes for it.
#[derive(Debug, Clone, Copy)]
pub enum ThreadCall {
    /// Register (or with `unregister`, remove) restartable sequences, `rseq(2)`.
    Rseq {
        /// Guest address of `struct rseq`.
        addr: u64,
        /// Its length in bytes.
        len: u32,
        /// `RSEQ_FLAG_UNREGISTER` or 0.
        flags: u32,
        /// Signature before abort handlers.
        signature: u32,
    },
    /// `FUTEX_WAKE` on a guest address, as thread exit and robust lists need.
    FutexWake {
        /// Guest address.
        addr: u64,
        /// How many to wake.
        count: u32,
        /// Process-private.
        private: bool,
    },
    /// Sets one bit of a 32-bit word of the guest's, atomically.
    FutexOr {
        /// Guest address.
        addr: u64,
        /// Which bit.
        bit: u32,
    },
    /// `membarrier(2)` on this address space.
    Membarrier {
        /// `MEMBARRIER_CMD_*`.
        command: u32,
        /// Flags.
        flags: u32,
        /// CPU, with `MEMBARRIER_CMD_FLAG_CPU`.
        cpu: u32,
    },
    /// A futex call that the stub did not let through natively: one of those that [`is_host_futex`] names. A wait, and nothing else, can be
    /// interrupted: then it answers EINTR.
    Futex {
        /// The six arguments as the guest gave them; pointers are the guest's own.
        args: [u64; 6],
        /// When a wait ends, on the monotonic clock, in place of its fourth argument.
        deadline_ns: Option<u64>,
    },
}

/// The arguments of the host's `futex(2)` that set a bit: `FUTEX_WAKE_OP`, whose waking is of no consequence.
pub(crate) fn futex_or(addr: u64, bit: u32) -> [u64; 6] {
    const WAKE_OP: u64 = 5;
    // LINUX: `FUTEX_OP(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, bit, FUTEX_OP_CMP_LT, 0)`.
    const OR_SHIFTED: u64 = 2 | 8;
    const LESS: u64 = 2;
    [addr, WAKE_OP, 0, 0, addr, OR_SHIFTED << 28 | LESS << 24 | u64::from(bit & 31) << 12]
}

/// Registered restartable sequences, `rseq(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RseqArea {
    /// Guest address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// Signature before abort handlers.
    pub signature: u32,
}

/// Whether a piece of guest memory was being read, written or executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// Why guest code stopped running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It made a system call: number in `orig_rax` and `rax`, arguments in the registers.
    /// `rip` is after the instruction.
    Syscall,
    /// The host could not let an instruction run: signal number (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP) and details.
    Fault(Fault),
    /// [`Interrupter::interrupt`] was called, or the stub came in for no reason of the guest's.
    Interrupted,
    /// The same, and it was waiting in a call that the host serves for it: number in `orig_rax` and `rax`, arguments in the registers, `rip`
    /// after the instruction. Whether the call is made again is the kernel's to say.
    WaitInterrupted {
        /// How long it has waited, by its own claim.
        waited_ns: u64,
    },
    /// The host process is gone: killed by the host (out of memory) or by [`AddressSpace::kill`].
    Died,
}

/// A synchronous fault, as the host's siginfo tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Signal number.
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
    /// Hardware trap number (14 is a page fault).
    pub trapno: u64,
    /// Hardware error code.
    pub error_code: u64,
}

/// A guest address space: one host process.
///
/// Reads and writes are remote copies (1 to 1.5 us each on the test machines).
pub trait AddressSpace: Send + Sync {
    /// Copies from guest memory; returns how many bytes were there before the first unreadable one.
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize;

    /// Copies to guest memory; returns how many bytes went in before the first unwritable one.
    fn write(&self, addr: u64, buf: &[u8]) -> usize;

    /// Kills the host process and all threads in it. Contexts in it answer [`Exit::Died`].
    fn kill(&self);

    /// The host process was killed, and not by [`AddressSpace::kill`].
    fn killed_by_host(&self) -> bool;

    /// Why it has ended, if the sandbox did not want that: the platform or the host has killed it.
    fn death(&self) -> Option<Death> {
        None
    }

    /// The host process has ended.
    fn has_died(&self) -> bool {
        false
    }

    /// `notice` is told when the host process has ended; at once, if it has.
    fn on_death(&self, _notice: Weak<dyn DeathNotice>) {}

    /// CPU time used so far by the host process: user and system, in nanoseconds.
    fn cpu_time_ns(&self) -> (u64, u64);

    /// How many of the pages that begin at these addresses are mapped to memory now; 0 if the host cannot tell.
    fn count_resident(&self, pages: &[u64]) -> usize;

    /// Largest resident size that the host has seen, in bytes, the stub's own few pages included; 0 if it cannot tell.
    fn peak_resident_bytes(&self) -> u64 {
        0
    }

    /// Will hold the largest resident size in bytes once the host process has been reaped; 0 until then.
    fn final_peak(&self) -> Arc<AtomicU64> {
        Arc::default()
    }

    /// Changes protection or gives advice without one of its threads: somebody else needs it changed. A hostile guest can claim that it
    /// was done.
    ///
    /// # Errors
    /// The host's errno; EINVAL for another call; EAGAIN if it does not answer soon: it is frozen, or hostile.
    fn memory(&self, _call: MemoryCall<'_>) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// Address of the host's vDSO image in this address space, for `AT_SYSINFO_EHDR`; 0 if there is none.
    fn vdso(&self) -> u64;
}

/// Is told that an address space is gone, since a task that waits in the kernel would not see it.
pub trait DeathNotice: Send + Sync {
    /// Called on a thread of the platform's; must not block.
    fn address_space_died(&self);
}

/// What guests may learn without leaving the stub: the answers of identity calls of one thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    /// `getpid(2)`.
    pub pid: u32,
    /// `gettid(2)`.
    pub tid: u32,
    /// `getppid(2)`.
    pub ppid: u32,
    /// `getuid(2)`.
    pub uid: u32,
    /// `geteuid(2)`.
    pub euid: u32,
    /// `getgid(2)`.
    pub gid: u32,
    /// `getegid(2)`.
    pub egid: u32,
}

/// Code around a call that has just trapped, for [`Context::patch`].
#[derive(Debug, Clone, Copy)]
pub struct CallSite<'a> {
    /// Address of the `syscall` instruction.
    pub call: u64,
    /// Start and end of the mapping that it lies in: private, executable, not writable by the guest.
    pub mapping: (u64, u64),
    /// The mapping's protection.
    pub prot: u32,
    /// The registers with which the call came.
    pub regs: &'a Registers,
}

/// One guest thread, as the sentry thread that serves it sees it.
pub trait Context: Send {
    /// Runs guest code from `regs` until something needs the kernel; fills `regs` again.
    ///
    /// A pending interrupt makes it return at once, but never loses a system call.
    fn run(&mut self, regs: &mut Registers) -> Exit;

    /// Executes a memory call in the guest's address space and waits for its result.
    ///
    /// # Errors
    /// The host's errno; ESRCH if the stub died.
    fn memory(&mut self, call: MemoryCall<'_>) -> Result<u64, Errno>;

    /// Executes a call on the guest thread itself.
    ///
    /// # Errors
    /// The host's errno; ESRCH if the stub died.
    fn thread_call(&mut self, call: ThreadCall) -> Result<u64, Errno>;

    /// As [`Context::memory`] for a call whose success the guest is told by 0 and nothing else depends on: it may be left to the guest's
    /// way back, and if it fails there the guest is told then.
    ///
    /// # Errors
    /// As [`Context::memory`].
    fn memory_on_return(&mut self, call: MemoryCall<'_>) -> Result<(), Errno> {
        self.memory(call).map(drop)
    }

    /// The same for [`Context::thread_call`].
    ///
    /// # Errors
    /// As [`Context::thread_call`].
    fn thread_call_on_return(&mut self, call: ThreadCall) -> Result<(), Errno> {
        self.thread_call(call).map(drop)
    }

    /// Executes what was left to the guest's way back now: its registers are about to change.
    ///
    /// # Errors
    /// What the guest's call is to answer after all.
    fn finish_call(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    /// A new thread in the same address space; extended state (FP, vectors) is copied from this one.
    ///
    /// # Errors
    /// When the host has no more threads or memory, or the stub misbehaves.
    fn clone_thread(&mut self) -> Result<Box<dyn Context>, PlatformError>;

    /// A copy of the address space with one thread in it, extended state copied from this one.
    ///
    /// # Errors
    /// When the host has no more processes or memory, or the stub misbehaves.
    fn fork(&mut self) -> Result<Spawned, PlatformError>;

    /// Whether [`Context::set_robust_list`] and [`Context::rseq`] are the guest thread's own, which does not ask the kernel for them.
    fn keeps_own_state(&self) -> bool {
        false
    }

    /// `set_robust_list(2)`, as the guest thread has it now; 0: none.
    fn robust_list(&self) -> u64 {
        0
    }

    /// Replaces it.
    fn set_robust_list(&mut self, _head: u64) {}

    /// What the guest thread has registered with the host by itself.
    fn rseq(&self) -> Option<RseqArea> {
        None
    }

    /// What the platform has done to the code that the guest was running at `addr`, for whoever looks into a fault of the guest's.
    fn about_code(&self, _addr: u64) -> String {
        String::new()
    }

    /// How other threads stop this one.
    fn interrupter(&self) -> Arc<dyn Interrupter>;

    /// Sets what identity calls answer without leaving the guest; `None` makes them come to the kernel.
    fn set_identity(&mut self, identity: Option<Identity>);

    /// The extended state as an XSAVE image in the standard (not compacted) format, as `struct _fpstate` holds it.
    ///
    /// # Errors
    /// ESRCH if the stub died.
    fn save_extended(&mut self, image: &mut Vec<u8>) -> Result<(), Errno>;

    /// Loads an XSAVE image (checked and trimmed here), or the initial state for `None`.
    ///
    /// # Errors
    /// EINVAL for an image that the processor would refuse; ESRCH if the stub died.
    fn load_extended(&mut self, image: Option<&[u8]>) -> Result<(), Errno>;

    /// Fills `buf` with guest memory that the stub copied along with the current system call; `false` if not all of it is at hand.
    fn prefetched(&self, _addr: u64, _buf: &mut [u8]) -> bool {
        false
    }

    /// The zero-terminated string at `addr` without its zero byte, if the stub copied it along and it is at most `max` bytes long with it.
    fn prefetched_cstr(&self, _addr: u64, _max: usize) -> Option<Vec<u8>> {
        None
    }

    /// Pieces of guest memory (address and length) that the stub copied along, if all are at hand one behind the other.
    fn bulk_in(&self, _pieces: &mut dyn Iterator<Item = (u64, u64)>) -> Option<BulkIn<'_>> {
        None
    }

    /// Room for `len` bytes of results in `pieces` places of guest memory, to be named by [`Context::commit_out`].
    fn bulk_out(&mut self, _len: u64, _pieces: u64) -> Option<BulkOut<'_>> {
        None
    }

    /// The stub copies the next `len` bytes of the room to `addr` on the way back. `false`: they must be written otherwise.
    /// The kernel has checked that the range is writable.
    fn commit_out(&mut self, _addr: u64, _len: u64) -> bool {
        false
    }

    /// Hands a result to the stub, which copies it to guest memory on the way back.
    /// `false`: no room, the caller must write it itself. The kernel has checked that the range is writable.
    fn defer_write(&mut self, _addr: u64, _bytes: &[u8]) -> bool {
        false
    }

    /// Makes all deferred writes happen now.
    ///
    /// # Errors
    /// EFAULT if one could not be written.
    fn flush_writes(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    /// From now on, until it is taken back (`None`), the guest may be told at once that `epoll_ctl` has succeeded, as far as the licence goes;
    /// the calls are queued for [`Context::take_queued`], which forgets none before the next [`Context::run`] ends. `false`: never here.
    fn license(&mut self, _licence: Option<&EpollLicence>) -> bool {
        false
    }

    /// Moves the calls that the guest has been told of to the end of `calls`, in their order. All in them is the guest's claim.
    fn take_queued(&mut self, _calls: &mut Vec<QueuedCall>) {}

    /// [`Context::trim`] would free something.
    fn holds_memory(&self) -> bool {
        false
    }

    /// Gives back memory that larger arguments and results use; the thread is going to wait for long.
    fn trim(&mut self) {}

    /// The sentry thread is about to sleep: what the platform keeps busy for the sake of a quick next call may be given back.
    fn before_sleep(&mut self) {}

    /// The CPU that the guest thread ran on last.
    fn last_cpu(&self) -> u32;

    /// Restricts the guest thread to CPUs (bit n of word n/64).
    ///
    /// # Errors
    /// The host's errno.
    fn set_affinity(&mut self, mask: &[u64]) -> Result<(), Errno>;

    /// After [`Exit::Syscall`]: the `syscall` that made the call, if the platform could make that place cheaper. Asked once a call.
    fn call_site(&self) -> Option<u64> {
        None
    }

    /// Rewrites a call site (from [`Context::call_site`]). The kernel holds the layout still; `reserve` finds a page of address space
    /// near it.
    fn patch(&mut self, _code: &CallSite<'_>, _reserve: &mut dyn FnMut() -> Option<u64>) {}

    /// CPU time used by the guest thread, in nanoseconds; 0 if the host does not tell.
    fn cpu_time_ns(&mut self) -> u64 {
        self.interrupter().cpu_time_ns()
    }

    /// Ends the host thread (not the address space). The context may not be used afterwards.
    fn exit(&mut self);

    /// From [`Context::clone_thread`]: it has a sentry thread of its own, which sleeps beside it: to be begun by [`Context::start`].
    /// Only then; until then it takes no orders.
    fn is_rested(&self) -> bool {
        false
    }

    /// Starts a rested guest thread at `regs`; its own sentry thread goes on with `service` when it first needs the kernel: its first
    /// [`Context::run`] does not start the guest, but waits for it.
    ///
    /// # Errors
    /// Both are given back if it has no sentry thread, or not any more.
    fn start(self: Box<Self>, regs: &Registers, service: Service) -> Result<(), Unserved>;

    /// The guest thread's task has ended, and the calling sentry thread has nothing else to do: puts both to rest, so that a later
    /// [`Context::clone_thread`] need not make new ones. Answers when they have been started again. `None`: the guest thread has ended.
    fn rest(self: Box<Self>) -> Option<Unserved>;
}

/// For which calls of `epoll_ctl` success is certain: to end or change what is registered, and to register again what has
/// been ended since the queue was last emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpollLicence {
    /// The instance.
    pub epfd: i32,
    /// What is registered there, bit n of word n / 64 for descriptor n.
    pub fds: [u64; Self::FDS / 64],
}

impl EpollLicence {
    /// Descriptors below this only.
    pub const FDS: usize = 1024;
}

/// A call of `epoll_ctl` on the licensed instance that the guest takes for made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedCall {
    /// `EPOLL_CTL_*`.
    pub operation: u32,
    /// The file.
    pub fd: i32,
    /// `EPOLL*` bits; without meaning for `EPOLL_CTL_DEL`, like `data`.
    pub events: u32,
    /// The guest's own.
    pub data: u64,
    /// Where the event was.
    pub addr: u64,
}

/// What a sentry thread does for a guest thread: serves its task to the end, and hands the guest thread back if it may be used again.
pub type Service = Box<dyn FnOnce(Box<dyn Context>) -> Option<Box<dyn Context>> + Send>;

/// A guest thread, and what is to be done for it.
pub type Unserved = (Box<dyn Context>, Service);

/// Serves guest threads, one after the other, on the calling sentry thread.
pub fn serve(first: Unserved) {
    let mut next = Some(first);
    while let Some((context, service)) = next {
        next = service(context).and_then(Context::rest);
    }
}

/// Stops a running guest thread from any other thread.
pub trait Interrupter: Send + Sync {
    /// Makes the context's current or next [`Context::run`] return [`Exit::Interrupted`] soon.
    /// A thread that waits in a native futex call comes back with EINTR.
    fn interrupt(&self);

    /// The mask of blocked signals, as the guest has it now: read once, and any value possible. `None`: it makes all such calls to the kernel.
    ///
    /// The guest thread changes the mask, then looks whether a signal waits. So whoever makes one wait says so first and then looks at
    /// the mask: one of the two sees the other.
    fn blocked(&self) -> Option<u64> {
        None
    }

    /// Replaces it. Only for the guest thread's own sentry thread, or before it has run.
    fn set_blocked(&self, _mask: u64) {}

    /// Binds its host thread to processors, bit n of word n / 64, whatever it does. The caller also sees to [`Context::set_affinity`], before
    /// the thread is anybody else's.
    fn set_affinity(&self, _mask: &[u64]) {}

    /// For how long the thread that serves it has watched for its calls without sleeping, in nanoseconds.
    fn watched_ns(&self) -> u64 {
        0
    }

    /// A signal waits for the thread, blocked or not: its next change of the mask comes to the kernel, as an interrupt at least.
    fn set_signals_wait(&self, _waits: bool) {}

    /// The thread is in guest code, but uses no processor: it waits in a native call, or for its turn.
    fn is_idle_in_guest(&self) -> bool {
        false
    }

    /// CPU time used by the guest thread so far, in nanoseconds; 0 if the host does not tell.
    fn cpu_time_ns(&self) -> u64 {
        0
    }
}

/// A file that the guest may map: kept open as long as a mapping may need it.
pub type MapSource = Arc<OwnedFd>;
