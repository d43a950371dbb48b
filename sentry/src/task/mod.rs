//! Tasks: threads and processes of the guest, their credentials, signals, birth and death.
//!
//! Key types: [`Task`] (a thread, what other threads may touch), [`Process`] (a thread group), [`Current`] (the running
//! task as its own sentry thread sees it), [`SyscallAbi`] (how a system call reaches its handler).

mod abi;
mod access;
mod account;
mod clone;
mod credentials;
mod current;
mod exec;
mod exec_credentials;
mod exit;
mod io_count;
mod login;
mod notices;
mod overdue;
mod peak;
mod pi;
mod pid;
pub mod pidfd;
mod process;
mod queue;
mod rlimit;
mod run;
mod session;
pub mod signal;
mod space_user;
mod tree;
mod user_counts;
mod user_memory;

pub use abi::{Outcome, SyscallAbi};
pub use access::{AccessMode, ExecUpdate};
pub use clone::{CloneRequest, STACK_BYTES, exit_signal};
pub use credentials::{Capability, Credentials};
pub use current::{Current, WaitEnd};
pub use exec::{ExecInput, LoadedProgram, load_program, prepare_program};
pub use exit::{Leaving, VforkDone};
pub use io_count::{IoCount, IoFigures};
pub use login::Login;
pub use notices::Notices;
pub use peak::Peaks;
pub use pi::{PiLocks, PiWait};
pub use pid::{PID_MAX, PidNamespace};
pub use platform::RseqArea;
pub use process::{ExitWatch, Group, NewProcess, Origin, Process};
pub use rlimit::{INFINITY, Limits, NOFILE_MAX, Resource};
pub use run::run;
pub use session::{ControllingTerminal, ProcessGroup, Session};
pub use space_user::SpaceUser;
pub use tree::{ChildEvent, ExitStatus, ProcessTree, WaitFor};
pub use user_counts::{UserCharge, UserCounts};
pub use user_memory::{IOV_MAX, Iovec, PATH_MAX, RW_MAX, UserReader, UserWriter};

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use platform::Interrupter;
use platform::host::clock::{Clock, now_ns};

use crate::kernel::Kernel;
use crate::machine::Uts;
use crate::mm::{MemoryManager, MemoryPolicy};
use crate::sync::Parker;
use crate::vfs::{FdTable, FsContext};

/// A guest thread: what any thread of the kernel may touch.
pub struct Task {
    /// Changes only when a thread that is not the leader calls exec.
    tid: AtomicI32,
    /// When it was made, on the monotonic clock, in nanoseconds.
    pub start_ns: u64,
    /// The sandbox.
    pub kernel: Arc<Kernel>,
    /// Its thread group.
    pub process: Arc<Process>,
    /// What its sentry thread sleeps on.
    pub parker: Arc<Parker>,
    /// LOCK: after the process's group.
    signals: Mutex<signal::TaskSignals>,
    /// LOCK: after the process's locks.
    inner: Mutex<Inner>,
    /// Stops its guest code; replaced at exec.
    interrupter: Mutex<Option<Arc<dyn Interrupter>>>,
    /// Something (a signal, a group stop, death) wants the task out of its wait or its guest code.
    interrupted: AtomicBool,
    /// It waits for something in the kernel.
    sleeping: AtomicBool,
    /// Its affinity was changed by another: its own sentry thread is to know before the guest thread serves anybody else.
    affinity_stale: AtomicBool,
    /// What identity calls answer has changed.
    identity_stale: AtomicBool,
    account: account::Account,
    /// What it has read and written.
    pub io: IoCount,
    /// `PR_SET_PDEATHSIG`; 0: none.
    parent_death_signal: AtomicI32,
    /// It is or was the parent of a process: who ends looks for children only then.
    has_children: AtomicBool,
}

struct Inner {
    credentials: Arc<Credentials>,
    fs: Arc<FsContext>,
    files: Arc<FdTable>,
    mm: Option<Arc<MemoryManager>>,
    name: [u8; 16],
    scheduling: Scheduling,
    /// `None`: its container's.
    uts: Option<Arc<Uts>>,
}

/// How the task wants to be scheduled; the host's scheduler hears of the affinity only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// -20 to 19.
    pub nice: i32,
    /// `SCHED_*`.
    pub policy: u32,
    /// Real-time priority.
    pub priority: u32,
    /// `SCHED_RESET_ON_FORK`.
    pub resets_on_fork: bool,
    /// CPUs, bit n of word n / 64; `None`: all.
    pub affinity: Option<Vec<u64>>,
    /// `ioprio_set(2)`.
    pub io_priority: u32,
    /// `personality(2)`.
    pub personality: u32,
    /// `PR_SET_TIMERSLACK`, in nanoseconds; 0 stands for the default.
    pub timer_slack_ns: u64,
    /// `set_mempolicy(2)`.
    pub memory_policy: MemoryPolicy,
}

impl Scheduling {
    /// What a new task begins with. LINUX: `sched_fork`.
    #[must_use]
    pub fn inherited(self) -> Self {
        const SCHED_FIFO: u32 = 1;
        const SCHED_RR: u32 = 2;
        if !self.resets_on_fork {
            return self;
        }
        let is_realtime = matches!(self.policy, SCHED_FIFO | SCHED_RR);
        let policy = if is_realtime { 0 } else { self.policy };
        let nice = if is_realtime { 0 } else { self.nice.max(0) };
        Self { policy, nice, priority: 0, resets_on_fork: false, ..self }
    }
}

impl Task {
    /// A new thread of `process`.
    #[must_use]
    pub fn new(
        tid: i32,
        process: Arc<Process>,
        credentials: Arc<Credentials>,
        fs: Arc<FsContext>,
        files: Arc<FdTable>,
        mm: Arc<MemoryManager>,
    ) -> Arc<Self> {
        let kernel = Arc::clone(&process.kernel);
        let scheduling = Scheduling::default();
        let inner = Inner { credentials, fs, files, mm: Some(mm), name: [0; 16], scheduling, uts: None };
        Arc::new(Self {
            tid: AtomicI32::new(tid),
            start_ns: now_ns(Clock::Monotonic),
            kernel,
            process,
            parker: Arc::default(),
            signals: Mutex::default(),
            inner: Mutex::new(inner),
            interrupter: Mutex::new(None),
            interrupted: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            affinity_stale: AtomicBool::new(false),
            identity_stale: AtomicBool::new(true),
            account: account::Account::default(),
            io: IoCount::default(),
            parent_death_signal: AtomicI32::new(0),
            has_children: AtomicBool::new(false),
        })
    }

    /// Thread id in its pid namespace.
    #[must_use]
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Acquire)
    }

    /// Exec: takes the leader's number.
    pub(crate) fn set_tid(&self, tid: i32) {
        self.tid.store(tid, Ordering::Release);
        self.spoil_identity();
    }

    /// `PR_GET_PDEATHSIG`.
    #[must_use]
    pub fn parent_death_signal(&self) -> Option<signal::Signal> {
        signal::Signal::new(self.parent_death_signal.load(Ordering::Relaxed)).ok()
    }

    /// `PR_SET_PDEATHSIG`.
    pub fn set_parent_death_signal(&self, signal: Option<signal::Signal>) {
        self.parent_death_signal.store(signal.map_or(0, signal::Signal::number), Ordering::Relaxed);
    }

    fn has_children(&self) -> bool {
        self.has_children.load(Ordering::Relaxed)
    }

    /// What identity calls answer has changed; the task refreshes it before it runs guest code again.
    pub(crate) fn spoil_identity(&self) {
        self.identity_stale.store(true, Ordering::Release);
    }

    fn take_identity_stale(&self) -> bool {
        self.identity_stale.swap(false, Ordering::AcqRel)
    }

    /// What identity calls of its guest thread answer without coming to the kernel.
    fn identity(&self) -> Option<platform::Identity> {
        let id = |number: i32| u32::try_from(number).unwrap_or(0);
        self.kernel.config.tuning.identity.then(|| {
            let credentials = self.credentials();
            platform::Identity {
                pid: id(self.process.pid),
                tid: id(self.tid()),
                ppid: id(self.process.parent_pid()),
                uid: credentials.uid,
                euid: credentials.euid,
                gid: credentials.gid,
                egid: credentials.egid,
            }
        })
    }

    /// CPU time of its guest thread as the host counts it now, in nanoseconds; 0 once it has ended.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.interrupter().map_or(0, |interrupter| interrupter.cpu_time_ns())
    }

    /// How it wants to be scheduled.
    #[must_use]
    pub fn scheduling(&self) -> Scheduling {
        self.lock().scheduling.clone()
    }

    /// `PR_GET_TIMERSLACK`.
    #[must_use]
    pub fn timer_slack_ns(&self) -> u64 {
        /// LINUX: `init_task.timer_slack_ns`.
        const DEFAULT: u64 = 50_000;
        match self.lock().scheduling.timer_slack_ns {
            0 => DEFAULT,
            slack => slack,
        }
    }

    /// Changes how it wants to be scheduled.
    pub fn change_scheduling(&self, change: impl FnOnce(&mut Scheduling)) {
        change(&mut self.lock().scheduling);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds its guest thread to processors, from another task.
    pub fn rebind(&self, affinity: Vec<u64>) {
        if let Some(interrupter) = self.interrupter() {
            interrupter.set_affinity(&affinity);
        }
        self.change_scheduling(|scheduling| scheduling.affinity = Some(affinity));
        self.affinity_stale.store(true, Ordering::Release);
        self.spoil_identity();
    }

    /// Its credentials, as they are now.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.lock().credentials)
    }

    /// Replaces its credentials; only the task itself does.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.lock().credentials = Arc::new(credentials);
        self.spoil_identity();
    }

    /// Root, working directory, umask.
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        Arc::clone(&self.lock().fs)
    }

    /// Replaces them (`unshare`).
    pub fn set_fs(&self, fs: Arc<FsContext>) {
        self.lock().fs = fs;
    }

    /// Its descriptors.
    #[must_use]
    pub fn files(&self) -> Arc<FdTable> {
        Arc::clone(&self.lock().files)
    }

    /// Replaces them (`unshare`, exec, exit); answers the old ones.
    pub fn set_files(&self, files: Arc<FdTable>) -> Arc<FdTable> {
        std::mem::replace(&mut self.lock().files, files)
    }

    /// Its host and domain name.
    #[must_use]
    pub fn uts(&self) -> Arc<Uts> {
        let own = self.lock().uts.clone();
        own.unwrap_or_else(|| self.kernel.machine.uts(&self.process.container))
    }

    /// Gives it a copy of `from`'s names (`CLONE_NEWUTS`).
    pub fn copy_uts(&self, from: &Uts) {
        self.lock().uts = Some(self.kernel.machine.copy_uts(from));
    }

    /// It has the same names as `parent`.
    fn inherit_uts(&self, parent: &Self) {
        let uts = parent.lock().uts.clone();
        self.lock().uts = uts;
    }

    /// Its memory; `None` once it has exited.
    #[must_use]
    pub fn mm(&self) -> Option<Arc<MemoryManager>> {
        self.lock().mm.clone()
    }

    /// Replaces its memory (exec, exit).
    pub fn set_mm(&self, mm: Option<Arc<MemoryManager>>) {
        self.lock().mm = mm;
    }

    /// `comm`, padded with zeros.
    #[must_use]
    pub fn name(&self) -> [u8; 16] {
        self.lock().name
    }

    /// `comm` as text.
    #[must_use]
    pub fn name_text(&self) -> String {
        let name = self.name();
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(15);
        String::from_utf8_lossy(&name[..end]).into_owned()
    }

    /// Sets `comm`; cut to 15 bytes.
    pub fn set_name(&self, name: &[u8]) {
        let mut padded = [0; 16];
        let n = name.len().min(15);
        padded[..n].copy_from_slice(&name[..n]);
        self.lock().name = padded;
    }

    /// Says how to stop its guest code, which may change its signal mask by itself from now on.
    pub fn set_interrupter(&self, interrupter: Option<Arc<dyn Interrupter>>) {
        self.share_mask(interrupter.clone());
        let mut slot = self.interrupter.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *slot, interrupter);
        self.carry_watched(old.as_ref(), slot.as_ref());
    }

    /// Makes the task look at its signals soon, wherever it is: in guest code, in a wait, or in a system call.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.parker.unpark();
        if let Some(interrupter) = self.interrupter() {
            interrupter.interrupt();
        }
    }

    fn interrupter(&self) -> Option<Arc<dyn Interrupter>> {
        self.interrupter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn death_notice(self: &Arc<Self>) -> std::sync::Weak<dyn platform::DeathNotice> {
        let notice: Arc<dyn platform::DeathNotice> = Arc::clone(self) as Arc<dyn platform::DeathNotice>;
        Arc::downgrade(&notice)
    }

    fn set_sleeping(&self, sleeping: bool) {
        self.sleeping.store(sleeping, Ordering::Relaxed);
    }

    /// It waits: in the kernel, or in a call that the host serves.
    #[must_use]
    pub fn is_sleeping(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed) || self.is_idle_in_guest()
    }

    /// Its guest thread uses no processor, though it is not in the kernel: it waits in a futex call of the host.
    fn is_idle_in_guest(&self) -> bool {
        self.interrupter().is_some_and(|interrupter| interrupter.is_idle_in_guest())
    }

    /// As [`Task::interrupt`], by the task itself.
    fn mark_interrupted(&self) {
        self.interrupted.store(true, Ordering::Release);
    }

    /// Somebody called [`Task::interrupt`] since [`Task::take_interrupt`].
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// It is to end, and a call that is not waiting ends early, too. PERF: one load, unless something interrupts it.
    pub fn is_killed(&self) -> bool {
        self.is_interrupted() && self.is_dying()
    }

    /// Clears the mark; the caller is about to look at its signals.
    pub fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::AcqRel)
    }
}

impl platform::DeathNotice for Task {
    fn address_space_died(&self) {
        self.interrupt();
    }
}
