//! How does a task end, and what is owed to others then?
//!
//! Key types: [`Leaving`] (what exec and exit owe to the guest's memory), [`VforkDone`]. Order as in `do_exit`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux_abi::UserPtr;
use platform::{Context, Death, ThreadCall};

use super::overdue::Ended;
use super::signal::{Pending, SigInfo, Signal};
use super::{Current, ExitStatus, Process, RseqArea, Task};
use crate::sync::{Events, WaitQueue};
use crate::vfs::FdTable;

/// Longest robust list that is followed. LINUX: `ROBUST_LIST_LIMIT`.
const ROBUST_LIST_LIMIT: usize = 2048;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Lets a parent in `vfork(2)` go on.
#[derive(Debug, Default)]
pub struct VforkDone {
    done: AtomicBool,
    /// Woken when it is done.
    pub queue: WaitQueue,
}

impl VforkDone {
    /// The child no longer uses the parent's memory.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    fn finish(&self) {
        self.done.store(true, Ordering::Release);
        self.queue.wake(Events::READABLE);
    }
}

/// What a task owes to its memory and its parent when it leaves that memory.
#[derive(Default)]
pub struct Leaving {
    /// Zeroed and woken (`CLONE_CHILD_CLEARTID`, `set_tid_address`); 0: nothing.
    pub clear_child_tid: u64,
    /// `set_robust_list(2)`: address of the head, 0: none.
    pub(super) robust_list: u64,
    /// A parent waits in `vfork`.
    pub vfork: Option<Arc<VforkDone>>,
    /// What `exit(2)` was given.
    pub exit_code: u8,
}

impl Current {
    /// What is owed when the task leaves its memory.
    pub fn leaving(&mut self) -> &mut Leaving {
        &mut self.leaving
    }

    /// The task leaves its memory, by exec or exit. LINUX: `mm_release`, `exec_mm_release`.
    pub fn release_memory(&mut self) {
        let _ = self.context_mut().flush_writes();
        self.walk_robust_list();
        self.clear_tid();
        if let Some(vfork) = self.leaving.vfork.take() {
            vfork.finish();
        }
    }

    fn clear_tid(&mut self) {
        let addr = std::mem::take(&mut self.leaving.clear_child_tid);
        if addr == 0 || !self.space_user().is_shared() {
            return;
        }
        if self.mm().write(addr, &0_u32.to_ne_bytes()) == 4 {
            let _ = self.context_mut().thread_call(ThreadCall::FutexWake { addr, count: 1, private: false });
        }
    }

    /// Marks the locks that the task holds as left behind. LINUX: `exit_robust_list`.
    fn walk_robust_list(&mut self) {
        let head = self.robust_list();
        if head == 0 {
            return;
        }
        self.set_robust_list(0);
        let Ok([first, offset, pending]) = self.read_object(UserPtr::<[u64; 3]>::new(head)) else { return };
        // The lowest bit of a link says that the lock is a priority-inheriting one.
        let lock_of = |entry: u64| (entry & !1).wrapping_add(offset);
        let mut entry = first;
        for _ in 0..ROBUST_LIST_LIMIT {
            if entry & !1 == head {
                break;
            }
            let next = self.read_object(UserPtr::<u64>::new(entry & !1));
            if entry != pending {
                self.leave_lock(lock_of(entry), entry & 1 != 0, false);
            }
            let Ok(next) = next else { break };
            entry = next;
        }
        if pending & !1 != 0 {
            self.leave_lock(lock_of(pending), pending & 1 != 0, true);
        }
    }

    /// LINUX: `handle_futex_death`. Always wakes one: a waiter may have come between our read and our write.
    fn leave_lock(&mut self, addr: u64, inheriting: bool, pending: bool) {
        if !addr.is_multiple_of(4) {
            return;
        }
        let Ok(word) = self.read_object(UserPtr::<u32>::new(addr)) else { return };
        let is_mine = word & FUTEX_TID_MASK == self.task().tid().cast_unsigned();
        let was_to_be_mine = pending && !inheriting && word == 0;
        if !is_mine && !was_to_be_mine {
            return;
        }
        if is_mine {
            let left = word & FUTEX_WAITERS | FUTEX_OWNER_DIED;
            if self.mm().write(addr, &left.to_ne_bytes()) != 4 {
                return;
            }
        }
        let _ = self.context_mut().thread_call(ThreadCall::FutexWake { addr, count: 1, private: false });
    }

    /// The host process that was the guest's memory is gone.
    pub(super) fn died(&mut self) {
        let (by_host, why) = (self.space().killed_by_host(), self.space().death());
        if by_host && let Some(origin) = self.process().origin() {
            origin.killed_by_host.store(true, Ordering::Release);
        }
        // LINUX: `rseq_handle_notify_resume` raises SIGSEGV where the area that the guest has registered cannot be used, and does so again on
        // the way to its handler: what the guest did, and nobody else's business.
        let by_rseq = why == Some(Death::Signal(Signal::SEGV.number())) && self.rseq().is_some();
        let signal = if by_rseq { Signal::SEGV } else { Signal::KILL };
        let mut group = self.process().lock_group();
        group.killed_by_host |= by_host;
        // One of several threads is the first; and who was to end anyway needs no reason.
        let why = why.filter(|_| group.exit.is_none() && !by_rseq);
        group.begin_exit(ExitStatus::Signal { signo: signal.number() }, Ended::ByItself);
        drop(group);
        if let Some(why) = why {
            self.task().tell(format_args!("killed: {why}"));
        }
    }

    /// What the memory that the task leaves has cost its process: user and system time in nanoseconds.
    pub(super) fn spent_ns(&mut self) -> (u64, u64) {
        if !self.space_user().is_shared() {
            return self.space().cpu_time_ns();
        }
        // One of several threads: whoever is the last tells. Borrowed memory (vfork): only this thread's own time counts.
        let is_last = self.process().lock_group().threads.len() <= 1;
        if is_last { (self.context_mut().cpu_time_ns(), 0) } else { (0, 0) }
    }

    /// Ends the task. Answers its guest thread, if that may serve another task of the same memory.
    pub(super) fn end(mut self) -> Option<Box<dyn Context>> {
        self.begin_leaving();
        let may_rest = self.others_remain();
        if may_rest {
            self.refresh_affinity();
            self.forget_rseq();
        }
        self.release_memory();
        let spent = self.spent_ns();
        let peak = self.space().final_peak();
        let (task, mut context, user) = self.into_parts();
        let process = Arc::clone(&task.process);
        // Only the last user of a table gets it here, and closes what is in it.
        if let Some(files) = Arc::into_inner(task.set_files(FdTable::new())) {
            files.close_where(&task, |_, _| true);
        }
        if !may_rest {
            context.exit();
        }
        task.set_interrupter(None);
        task.set_mm(None);
        drop(user);
        task.namespace_leave();
        process.kernel.pi_locks.owner_ended(&task);
        process.kernel.tasks.count_task(-1);
        let uid = task.credentials().uid;
        process.keep_used((0, task.close_account()), task.voluntary_switches());
        process.keep_io(task.io.figures());
        if let Some(status) = leave_group(&process, &task) {
            process.keep_used(spent, 0);
            process.keep_peak(peak);
            finish(&process, status, uid);
        }
        may_rest.then_some(context)
    }

    /// LINUX: `synchronize_group_exit`: the last thread that begins to leave says what the process ends with, and no signal that comes
    /// afterwards changes that.
    fn begin_leaving(&self) {
        let mut group = self.process().lock_group();
        group.leaving += 1;
        if group.leaving >= group.threads.len() {
            group.exit.get_or_insert(ExitStatus::Code(self.leaving.exit_code));
        }
    }

    /// Other tasks go on in the memory, and may make new threads.
    fn others_remain(&self) -> bool {
        let group = self.process().lock_group();
        // A group that ends as one leaves nobody behind, unless it only borrowed the memory (vfork).
        self.space_user().is_shared() && (group.exit.is_none() || group.threads.len() == 1)
    }

    /// Takes the restartable-sequences area back from the host thread, while its memory is still the task's.
    fn forget_rseq(&mut self) {
        /// `RSEQ_FLAG_UNREGISTER`.
        const UNREGISTER: u32 = 1;
        if let Some(RseqArea { addr, len, signature }) = self.rseq() {
            self.set_rseq(None);
            // Where the host refuses, the thread is not used again.
            let _ =
                self.context_mut().thread_call(ThreadCall::Rseq { addr, len, flags: UNREGISTER, signature });
        }
    }
}

impl Task {
    fn namespace_leave(&self) {
        self.process.namespace.leave_task(self.tid());
    }
}

/// Takes the task out of its group; answers the process's status if it was the last.
fn leave_group(process: &Arc<Process>, task: &Arc<Task>) -> Option<ExitStatus> {
    let mut group = process.lock_group();
    // LINUX: `__exit_signal`: those sent to it alone go with it.
    task.lock_signals().pending = Pending::default();
    group.threads.retain(|thread| !Arc::ptr_eq(thread, task));
    group.leaving = group.leaving.saturating_sub(1);
    let Some(oldest) = group.threads.first().cloned() else {
        return Some(group.exit.unwrap_or(ExitStatus::Code(0)));
    };
    // Whoever waits for the others to go (exec) or to stop looks again.
    for thread in &group.threads {
        thread.parker.unpark();
    }
    // A signal that was meant for the task to take is for somebody else now.
    if !group.pending.is_empty() {
        oldest.interrupt();
    }
    drop(group);
    if task.has_children() {
        process.kernel.tasks.thread_ended(task, &oldest);
    }
    None
}

/// The last thread has ended.
fn finish(process: &Arc<Process>, status: ExitStatus, uid: u32) {
    process.timers.clear();
    process.kernel.ipc.semaphores.process_exited(crate::ipc::undo_owner(process), process.pid);
    leave_session(process);
    let killed_by_host = process.was_killed_by_host();
    if process.pid == 1 {
        // LINUX: zap_pid_ns_processes.
        for other in process.namespace.processes() {
            other.begin_exit(ExitStatus::Signal { signo: Signal::KILL.number() });
        }
    }
    process.kernel.tasks.exited(process, status, uid, process.cpu_ns());
    if let Some(watch) = process.watch() {
        watch.exited(process, status, killed_by_host);
    }
}

/// A session leader's terminal is free again. LINUX: `disassociate_ctty`.
fn leave_session(process: &Arc<Process>) {
    let Some(group) = process.process_group() else { return };
    let session = &group.session;
    if session.sid != process.pid {
        return;
    }
    let foreground = session.foreground();
    if let Some(terminal) = session.set_terminal(None, None) {
        terminal.leader_exited();
        for member in foreground.iter().flat_map(|group| process.kernel.tasks.members(group)) {
            for signal in [Signal::HUP, Signal::CONT] {
                member.send(SigInfo::kernel(signal.number()), super::signal::Sender::Kernel);
            }
        }
    }
}
