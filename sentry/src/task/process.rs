//! A thread group: what its threads share besides memory, files and directories.
//!
//! Key types: [`Process`], [`Group`] (threads, shared pending signals, stop and exit state), [`ExitWatch`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use linux_abi::task::Rlimit64;
use platform::Template;
use platform::host::clock::{Clock, now_ns};

use super::overdue::{Ended, Overdue};
use super::signal::{Actions, Pending};
use super::{
    ExecUpdate, ExitStatus, IoFigures, Limits, Login, Notices, Peaks, PidNamespace, ProcessGroup, Resource,
    Task,
};
use crate::Errno;
use crate::account::{Account, TaskCharge};
use crate::kernel::Kernel;
use crate::mm::{MemoryLimits, MemoryManager};
use crate::sync::WaitQueue;
use crate::time::ProcessTimers;
use crate::vfs::Location;

/// Is told when a process that the shim started has ended.
pub trait ExitWatch: Send + Sync {
    /// Called once, after the last thread has ended and its files are closed; no lock is held.
    fn exited(&self, process: &Arc<Process>, status: ExitStatus, killed_by_host: bool);
}

/// What all processes of a container have in common.
pub struct Origin {
    /// The pristine stub from which its address spaces are forked.
    pub template: Arc<dyn Template>,
    /// The host has killed memory of one of them.
    pub killed_by_host: AtomicBool,
    /// What the operator hears of them.
    pub notices: Notices,
}

/// A thread group.
pub struct Process {
    /// Thread group id in its pid namespace.
    pub pid: i32,
    /// Unique in the sandbox, never reused.
    pub key: u64,
    /// The sandbox.
    pub kernel: Arc<Kernel>,
    /// Where its ids are numbers.
    pub namespace: Arc<PidNamespace>,
    /// The container it belongs to.
    pub container: String,
    /// That container's account.
    pub account: Arc<Account>,
    /// When it was made, on the monotonic clock, in nanoseconds.
    pub start_ns: u64,
    /// Woken when a signal begins to wait for the process or one of its threads (`signalfd`).
    pub signal_events: WaitQueue,
    /// Woken when a child has something to tell.
    pub child_events: WaitQueue,
    /// Woken when it has ended (`pidfd`).
    pub exit_events: WaitQueue,
    /// Interval and POSIX timers.
    pub timers: ProcessTimers,
    /// Held by exec while it changes who the process is and which memory it has.
    pub exec_update: ExecUpdate,
    /// LOCK: process.inner; before task signals.
    group: Mutex<Group>,
    /// LOCK: leaf, taken alone.
    shared: Mutex<Shared>,
    watch: OnceLock<Arc<dyn ExitWatch>>,
    origin: OnceLock<Arc<Origin>>,
    dumpable: AtomicI32,
    subreaper: AtomicBool,
    thp_disabled: AtomicBool,
    oom_score_adj: AtomicI32,
    /// How low an unprivileged process may set it. LINUX: `oom_score_adj_min`.
    oom_score_adj_min: AtomicI32,
    /// Its first thread as a task of its container, until it has been waited for. LOCK: leaf.
    charge: Mutex<Option<TaskCharge>>,
    /// As whom it logged in.
    pub login: Login,
}

/// Threads, shared signals, and what happens to all of them at once.
#[derive(Default)]
pub struct Group {
    /// Living threads, the oldest first.
    pub threads: Vec<Arc<Task>>,
    /// Signals for any thread.
    pub(super) pending: Pending,
    /// All threads are to end; this is what the process ends with.
    pub(super) exit: Option<ExitStatus>,
    /// How many of the threads have begun to end.
    pub(super) leaving: usize,
    /// This thread does exec: all others are to end.
    pub(super) exec: Option<i32>,
    /// Set while stopping or stopped by this signal.
    pub(super) stop: Option<Stop>,
    /// Sees to it that the end does not take too long.
    pub(super) overdue: Option<Overdue>,
    /// Container init: signals that it does not handle do nothing.
    pub(super) unkillable: bool,
    /// The host killed its memory.
    pub(super) killed_by_host: bool,
}

/// A group stop.
pub(super) struct Stop {
    pub(super) signo: i32,
    /// Threads that have stopped.
    pub(super) stopped: HashSet<i32>,
    /// All have, and the parent has been told.
    pub(super) complete: bool,
}

struct Shared {
    actions: Arc<Actions>,
    limits: Limits,
    exe: Option<Location>,
    /// User time of memory that exec has replaced, system time of threads that have ended.
    past_cpu_ns: (u64, u64),
    /// How often threads that have ended had slept.
    past_switches: u64,
    /// What threads that have ended had read and written.
    past_io: IoFigures,
    /// Largest resident size of memory that it has left.
    past_peaks: Peaks,
}

/// What a new process starts with, besides its ids.
pub struct NewProcess {
    /// Its pid namespace.
    pub namespace: Arc<PidNamespace>,
    /// The container it belongs to.
    pub container: String,
    /// Signal actions.
    pub actions: Arc<Actions>,
    /// Limits.
    pub limits: Limits,
    /// The program it runs.
    pub exe: Option<Location>,
}

impl Process {
    /// Ends the protection that an init process has from signals without a handler.
    pub fn obey_signals(&self) {
        self.lock_group().unkillable = false;
    }

    /// A process without threads; `pid` has been allocated in its namespace.
    #[must_use]
    pub fn new(kernel: &Arc<Kernel>, pid: i32, new: NewProcess) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let shared = Shared {
            actions: new.actions,
            limits: new.limits,
            exe: new.exe,
            past_cpu_ns: (0, 0),
            past_switches: 0,
            past_io: IoFigures::default(),
            past_peaks: Peaks::default(),
        };
        Arc::new(Self {
            pid,
            key: NEXT.fetch_add(1, Ordering::Relaxed),
            kernel: Arc::clone(kernel),
            namespace: new.namespace,
            account: kernel.accounts.of(&new.container),
            container: new.container,
            start_ns: now_ns(Clock::Monotonic),
            signal_events: WaitQueue::new(),
            child_events: WaitQueue::new(),
            exit_events: WaitQueue::new(),
            timers: ProcessTimers::default(),
            exec_update: ExecUpdate::default(),
            group: Mutex::new(Group { unkillable: pid == 1, ..Group::default() }),
            shared: Mutex::new(shared),
            watch: OnceLock::new(),
            origin: OnceLock::new(),
            dumpable: AtomicI32::new(1),
            subreaper: AtomicBool::new(false),
            thp_disabled: AtomicBool::new(false),
            oom_score_adj: AtomicI32::new(0),
            oom_score_adj_min: AtomicI32::new(0),
            charge: Mutex::default(),
            login: Login::default(),
        })
    }

    /// Keeps what it costs; `None`: it has been waited for, and costs nothing.
    pub(crate) fn keep_charge(&self, charge: Option<TaskCharge>) {
        *self.charge.lock().unwrap_or_else(PoisonError::into_inner) = charge;
    }

    /// Forgets the signals that wait: it has been waited for, and they hold no place in its user's limit any more.
    /// LINUX: `__exit_signal`.
    pub(super) fn forget_signals(&self) {
        self.lock_group().pending = Pending::default();
    }

    /// Threads and shared signals. LOCK: process.inner.
    pub fn lock_group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its living threads, the oldest first.
    #[must_use]
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.lock_group().threads.clone()
    }

    /// Any living thread, the leader if it lives.
    #[must_use]
    pub fn any_thread(&self) -> Option<Arc<Task>> {
        self.lock_group().threads.first().cloned()
    }

    /// Its memory; `None` for a zombie.
    #[must_use]
    pub fn mm(&self) -> Option<Arc<MemoryManager>> {
        self.any_thread()?.mm()
    }

    /// Real user of its first thread; 0 for a zombie.
    #[must_use]
    pub fn real_uid(&self) -> u32 {
        self.any_thread().map_or(0, |task| task.credentials().uid)
    }

    /// Signal actions.
    #[must_use]
    pub fn actions(&self) -> Arc<Actions> {
        Arc::clone(&self.lock_shared().actions)
    }

    /// Gives it actions of its own (exec).
    pub fn set_actions(&self, actions: Arc<Actions>) {
        self.lock_shared().actions = actions;
    }

    /// One of its limits.
    #[must_use]
    pub fn limit(&self, resource: Resource) -> Rlimit64 {
        self.lock_shared().limits.get(resource)
    }

    /// All its limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.lock_shared().limits
    }

    /// Reads and changes its limits under their lock.
    pub fn change_limits<T>(&self, change: impl FnOnce(&mut Limits) -> T) -> T {
        change(&mut self.lock_shared().limits)
    }

    /// The program it runs (`/proc/PID/exe`).
    #[must_use]
    pub fn exe(&self) -> Option<Location> {
        self.lock_shared().exe.clone()
    }

    /// It runs another program now.
    pub fn set_exe(&self, exe: Option<Location>) {
        self.lock_shared().exe = exe;
    }

    /// Its parent; `None` if that is not a guest process.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Process>> {
        self.kernel.tasks.parent(self)
    }

    /// `getppid(2)`: 0 if the parent is not in its namespace.
    #[must_use]
    pub fn parent_pid(&self) -> i32 {
        self.parent().filter(|parent| Arc::ptr_eq(&parent.namespace, &self.namespace)).map_or(0, |p| p.pid)
    }

    /// Its process group; `None` once it has been waited for.
    #[must_use]
    pub fn process_group(&self) -> Option<Arc<ProcessGroup>> {
        self.kernel.tasks.group(self)
    }

    /// All its threads have ended.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.lock_group().threads.is_empty()
    }

    /// All its threads are stopped by job control.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock_group().stop.as_ref().is_some_and(|stop| stop.complete)
    }

    /// This thread of it is stopped by job control.
    #[must_use]
    pub fn is_thread_stopped(&self, tid: i32) -> bool {
        self.lock_group().stop.as_ref().is_some_and(|stop| stop.stopped.contains(&tid))
    }

    /// The host killed its memory.
    #[must_use]
    pub fn was_killed_by_host(&self) -> bool {
        self.lock_group().killed_by_host
    }

    /// Makes all threads end; the first status stays.
    pub fn begin_exit(&self, status: ExitStatus) {
        self.lock_group().begin_exit(status, Ended::ByOthers);
    }

    /// The same, told by a thread of its own that ends next.
    pub fn exit_group(&self, status: ExitStatus) {
        self.lock_group().begin_exit(status, Ended::ByItself);
    }

    /// All its threads are to end, or have.
    #[must_use]
    pub(super) fn is_ending(&self) -> bool {
        let group = self.lock_group();
        group.exit.is_some() || group.threads.is_empty()
    }

    /// User and system time in nanoseconds, of its threads and those it had.
    #[must_use]
    pub fn cpu_ns(&self) -> (u64, u64) {
        let past = self.lock_shared().past_cpu_ns;
        let now = self.mm().map_or((0, 0), |mm| mm.space().cpu_time_ns());
        let system: u64 = self.threads().iter().map(|thread| thread.system_ns()).sum();
        (past.0.saturating_add(now.0), past.1.saturating_add(now.1).saturating_add(system))
    }

    /// How often its threads, and those it had, have slept in the kernel.
    #[must_use]
    pub fn voluntary_switches(&self) -> u64 {
        let past = self.lock_shared().past_switches;
        past + self.threads().iter().map(|thread| thread.voluntary_switches()).sum::<u64>()
    }

    /// Its memory or a thread is about to go: what it used is kept.
    pub fn keep_used(&self, spent: (u64, u64), switches: u64) {
        let mut shared = self.lock_shared();
        shared.past_switches += switches;
        shared.past_cpu_ns =
            (shared.past_cpu_ns.0.saturating_add(spent.0), shared.past_cpu_ns.1.saturating_add(spent.1));
    }

    /// Remembers what a thread that has ended had read and written.
    pub fn keep_io(&self, figures: IoFigures) {
        let mut shared = self.lock_shared();
        shared.past_io = shared.past_io.plus(figures);
    }

    /// What threads that have ended, and children that have been waited for, had read and written.
    #[must_use]
    pub fn past_io(&self) -> IoFigures {
        self.lock_shared().past_io
    }

    /// What all its threads have read and written.
    #[must_use]
    pub fn io(&self) -> IoFigures {
        let past = self.lock_shared().past_io;
        self.threads().iter().fold(past, |all, task| all.plus(task.io.figures()))
    }

    /// It leaves memory whose largest resident size will be known.
    pub fn keep_peak(&self, peak: Arc<AtomicU64>) {
        self.lock_shared().past_peaks.add(peak);
    }

    /// Largest resident size of memory that it has left.
    #[must_use]
    pub fn past_peaks(&self) -> Peaks {
        self.lock_shared().past_peaks.clone()
    }

    /// Its largest resident size so far, in bytes.
    #[must_use]
    pub fn peak_resident(&self) -> u64 {
        let now = self.mm().map_or(0, |mm| mm.peak_resident());
        self.lock_shared().past_peaks.bytes().max(now)
    }

    /// Who is told of its end.
    #[must_use]
    pub fn watch(&self) -> Option<&Arc<dyn ExitWatch>> {
        self.watch.get()
    }

    /// Sets who is told of its end; once, before it starts.
    pub fn set_watch(&self, watch: Arc<dyn ExitWatch>) {
        let _ = self.watch.set(watch);
    }

    /// Where its address spaces come from.
    #[must_use]
    pub fn origin(&self) -> Option<&Arc<Origin>> {
        self.origin.get()
    }

    /// Sets where its address spaces come from; once.
    pub fn set_origin(&self, origin: Arc<Origin>) {
        let _ = self.origin.set(origin);
    }

    /// The limits that memory calls look at.
    #[must_use]
    pub fn memory_limits(&self, may_lock: bool) -> MemoryLimits {
        let limits = self.limits();
        MemoryLimits {
            address_space: limits.get(Resource::As).soft,
            data: limits.get(Resource::Data).soft,
            stack: limits.get(Resource::Stack).soft,
            locked: if may_lock { u64::MAX } else { limits.get(Resource::Memlock).soft },
        }
    }

    /// `PR_GET_DUMPABLE`.
    #[must_use]
    pub fn dumpable(&self) -> i32 {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// `PR_SET_DUMPABLE`, changes of credentials.
    pub fn set_dumpable(&self, dumpable: i32) {
        self.dumpable.store(dumpable, Ordering::Relaxed);
    }

    /// `PR_GET_THP_DISABLE`; inherited, and kept over exec.
    #[must_use]
    pub fn is_thp_disabled(&self) -> bool {
        self.thp_disabled.load(Ordering::Relaxed)
    }

    /// `PR_SET_THP_DISABLE`.
    pub fn set_thp_disabled(&self, disabled: bool) {
        self.thp_disabled.store(disabled, Ordering::Relaxed);
    }

    /// `PR_GET_CHILD_SUBREAPER`.
    #[must_use]
    pub fn is_subreaper(&self) -> bool {
        self.subreaper.load(Ordering::Relaxed)
    }

    /// `PR_SET_CHILD_SUBREAPER`.
    pub fn set_subreaper(&self, subreaper: bool) {
        self.subreaper.store(subreaper, Ordering::Relaxed);
    }

    /// `/proc/PID/oom_score_adj`.
    #[must_use]
    pub fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj.load(Ordering::Relaxed)
    }

    /// Sets `/proc/PID/oom_score_adj`; what a privileged process sets is how low others may go from then on.
    ///
    /// # Errors
    /// EACCES if that is too low for an unprivileged process.
    pub fn set_oom_score_adj(&self, value: i32, privileged: bool) -> Result<(), Errno> {
        if privileged {
            self.oom_score_adj_min.store(value, Ordering::Relaxed);
        } else if value < self.oom_score_adj_min.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
        self.oom_score_adj.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Fork: the child is as likely to be killed, and can make itself as unlikely.
    pub(super) fn inherit_oom_score_adj(&self, parent: &Self) {
        for (mine, theirs) in [
            (&self.oom_score_adj, &parent.oom_score_adj),
            (&self.oom_score_adj_min, &parent.oom_score_adj_min),
        ] {
            mine.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Group {
    /// Makes all threads end; the first status stays.
    pub(super) fn begin_exit(&mut self, status: ExitStatus, by: Ended) {
        if self.exit.is_none() {
            self.exit = Some(status);
            self.stop = None;
        }
        for task in &self.threads {
            task.interrupt();
        }
        // A single thread that ends itself needs nobody to see to it.
        if self.overdue.is_none() && (self.threads.len() > 1 || by == Ended::ByOthers) {
            self.overdue = self.threads.first().map(|task| Overdue::arm(&task.process));
        }
    }
}
