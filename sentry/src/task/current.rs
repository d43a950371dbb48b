//! The running task, as its own sentry thread sees it.
//!
//! Key types: [`Current`], [`WaitEnd`]. Only the thread that serves the task has one.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linux_abi::Registers;
use platform::host::clock::{Clock, now_ns};
use platform::{AddressSpace, Context, RseqArea};

use super::exit::Leaving;
use super::queue::Queue;
use super::signal::RestartBlock;
use super::{Credentials, Process, SpaceUser, Task};
use crate::Errno;
use crate::account;
use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::sync::{Events, HostPoll, Parker, WaitQueue, Wake};
use crate::vfs::{FdTable, FsContext, OpenFile};

/// A wait this long is worth giving memory of the guest thread's back.
const TRIM_AFTER_NS: u64 = 100_000_000;

/// The running task: its guest thread, its registers, and the shared [`Task`].
pub struct Current {
    task: Arc<Task>,
    pub(super) context: Box<dyn Context>,
    /// Calls that the guest takes for made.
    pub(super) queue: Queue,
    mm: Arc<MemoryManager>,
    /// Keeps the address space alive.
    user: SpaceUser,
    /// What is owed to the guest when the task ends or calls exec.
    pub(super) leaving: Leaving,
    /// How `restart_syscall` goes on.
    restart_block: Option<RestartBlock>,
    /// The last fault, for the next signal frame.
    fault: Option<platform::Fault>,
    /// What `rseq(2)` registered here; see [`Current::rseq`].
    rseq: Option<RseqArea>,
    /// The guest's registers, as of the last exit from guest code.
    pub regs: Registers,
}

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitEnd {
    /// A signal, or something else that the task must look at.
    Interrupted,
    /// The deadline passed.
    TimedOut,
}

impl Current {
    /// Adopts the calling thread as the task's sentry thread.
    #[must_use]
    pub fn new(task: Arc<Task>, context: Box<dyn Context>, mm: Arc<MemoryManager>, regs: Registers) -> Self {
        let user = SpaceUser::new(mm.space());
        Self::with_user(task, context, mm, user, regs)
    }

    /// As [`Current::new`], in an address space that others use too.
    #[must_use]
    pub fn with_user(
        task: Arc<Task>,
        context: Box<dyn Context>,
        mm: Arc<MemoryManager>,
        user: SpaceUser,
        regs: Registers,
    ) -> Self {
        task.parker.adopt();
        task.open_account();
        account::enter(&task.process.account);
        task.set_interrupter(Some(context.interrupter()));
        mm.space().on_death(task.death_notice());
        let leaving = Leaving::default();
        Self {
            task,
            context,
            queue: Queue::default(),
            mm,
            user,
            leaving,
            restart_block: None,
            fault: None,
            rseq: None,
            regs,
        }
    }

    /// How many tasks use the address space, and keeping it alive for one more.
    #[must_use]
    pub fn space_user(&self) -> &SpaceUser {
        &self.user
    }

    /// Sets how `restart_syscall(2)` goes on; the caller answers ERESTART_RESTARTBLOCK.
    pub fn set_restart(&mut self, block: RestartBlock) {
        self.restart_block = Some(block);
    }

    /// `restart_syscall(2)`.
    ///
    /// # Errors
    /// What the interrupted call answers; EINTR if there is none.
    pub fn restart_syscall(&mut self) -> Result<u64, Errno> {
        match self.restart_block.take() {
            Some(block) => block(self),
            None => Err(Errno::EINTR),
        }
    }

    /// What is registered, so that fork can register it again: by a call that came here, or by the guest thread itself.
    #[must_use]
    pub fn rseq(&self) -> Option<RseqArea> {
        self.rseq.or_else(|| self.context.rseq())
    }

    /// The head of the list of robust locks; 0: none.
    #[must_use]
    pub fn robust_list(&self) -> u64 {
        if self.context.keeps_own_state() { self.context.robust_list() } else { self.leaving.robust_list }
    }

    /// `set_robust_list(2)`.
    pub fn set_robust_list(&mut self, head: u64) {
        if self.context.keeps_own_state() {
            self.context.set_robust_list(head);
        } else {
            self.leaving.robust_list = head;
        }
    }

    /// Remembers what `rseq(2)` registered.
    pub fn set_rseq(&mut self, area: Option<RseqArea>) {
        self.rseq = area;
    }

    pub(super) fn set_fault(&mut self, fault: platform::Fault) {
        self.fault = Some(fault);
    }

    pub(super) fn take_fault(&mut self) -> Option<platform::Fault> {
        self.fault.take()
    }

    /// Tells the platform what identity calls answer, if that has changed.
    pub(super) fn refresh_identity(&mut self) {
        if !self.task.take_identity_stale() {
            return;
        }
        self.context.set_identity(self.task.identity());
        self.refresh_affinity();
    }

    /// Makes the platform know what another task has changed.
    pub(super) fn refresh_affinity(&mut self) {
        if self.task.affinity_stale.swap(false, Ordering::AcqRel)
            && let Some(mask) = self.task.scheduling().affinity
        {
            let _ = self.context.set_affinity(&mask);
        }
    }

    /// What is left when the guest thread has ended.
    pub(super) fn into_parts(self) -> (Arc<Task>, Box<dyn Context>, SpaceUser) {
        (self.task, self.context, self.user)
    }

    /// The task as others see it.
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Its thread group.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.task.process
    }

    /// The sandbox.
    #[must_use]
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.task.kernel
    }

    /// Its memory.
    #[must_use]
    pub fn mm(&self) -> &Arc<MemoryManager> {
        &self.mm
    }

    /// Its descriptors.
    #[must_use]
    pub fn files(&self) -> Arc<FdTable> {
        self.task.files()
    }

    /// Root, working directory, umask.
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        self.task.fs()
    }

    /// Its credentials.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        self.task.credentials()
    }

    /// The guest thread.
    #[must_use]
    pub fn context(&self) -> &dyn Context {
        self.context.as_ref()
    }

    /// The guest thread, to order something.
    pub fn context_mut(&mut self) -> &mut dyn Context {
        self.context.as_mut()
    }

    /// The guest address space.
    #[must_use]
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        self.mm.space()
    }

    /// Memory manager and guest thread together, for memory calls.
    pub fn mm_and_context(&mut self) -> (Arc<MemoryManager>, &mut dyn Context) {
        (Arc::clone(&self.mm), self.context.as_mut())
    }

    /// Exec: a new guest thread in the new memory that the task has got. The old guest thread is ended.
    pub(super) fn replace(&mut self, context: Box<dyn Context>, mm: Arc<MemoryManager>, user: SpaceUser) {
        self.task.set_interrupter(Some(context.interrupter()));
        mm.space().on_death(self.task.death_notice());
        let mut old = std::mem::replace(&mut self.context, context);
        self.mm = mm;
        self.rseq = None;
        self.task.spoil_identity();
        old.exit();
        drop(std::mem::replace(&mut self.user, user));
    }

    /// A call that came by the slow way: the platform may make its next one faster.
    pub(super) fn patch_call_site(&mut self) {
        self.mm.patch_call_site(self.context.as_mut(), &self.regs);
    }

    /// Runs guest code until it needs the kernel.
    pub fn run_guest(&mut self) -> platform::Exit {
        self.refresh_identity();
        self.review_licence(|| true);
        self.context.run(&mut self.regs)
    }

    /// Waits until `condition` answers, some queue having been woken, or a signal or the deadline ends it.
    /// `deadline_ns`: on the monotonic clock.
    ///
    /// # Errors
    /// Why it ended otherwise; the condition is tried once more before a time-out is reported.
    pub fn wait<T>(
        &mut self,
        queues: &[(&WaitQueue, Events)],
        deadline_ns: Option<u64>,
        condition: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, WaitEnd> {
        let wake: Arc<dyn Wake> = Arc::clone(&self.task.parker) as Arc<dyn Wake>;
        let entries: Vec<_> = queues
            .iter()
            .map(|(queue, events)| (*queue, queue.register(*events, Arc::clone(&wake))))
            .collect();
        let end = self.wait_registered(deadline_ns, condition);
        for (queue, registration) in entries {
            queue.unregister(registration);
        }
        end
    }

    /// The loop of [`Current::wait`], for callers that register their parker with queues themselves.
    ///
    /// # Errors
    /// As [`Current::wait`].
    pub fn wait_registered<T>(
        &mut self,
        deadline_ns: Option<u64>,
        condition: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, WaitEnd> {
        self.wait_asleep(deadline_ns, condition, Parker::park)
    }

    /// As [`Current::wait_registered`], with the caller's own way to `sleep` at the parker for at most a time (epoll, poll).
    /// After each sleep the condition is asked, whatever ended it.
    ///
    /// # Errors
    /// As [`Current::wait`].
    pub fn wait_asleep<T>(
        &mut self,
        deadline_ns: Option<u64>,
        mut condition: impl FnMut(&mut Self) -> Option<T>,
        mut sleep: impl FnMut(&Parker, Option<Duration>),
    ) -> Result<T, WaitEnd> {
        // What the guest has been promised must be there before others run on the strength of it.
        let _ = self.context.flush_writes();
        let mut trim_at = self.context.holds_memory().then(|| now_ns(Clock::Monotonic) + TRIM_AFTER_NS);
        loop {
            if let Some(value) = condition(self) {
                return Ok(value);
            }
            // An interrupt may have been for something that another thread has dealt with since.
            if self.task.take_interrupt() && self.task.has_work() {
                self.task.mark_interrupted();
                return Err(WaitEnd::Interrupted);
            }
            let timeout = match deadline_ns {
                None => None,
                Some(deadline) => match deadline.checked_sub(now_ns(Clock::Monotonic)) {
                    None | Some(0) => return Err(WaitEnd::TimedOut),
                    Some(left) => Some(Duration::from_nanos(left)),
                },
            };
            let patience = trim_at.map(|at| at.saturating_sub(now_ns(Clock::Monotonic)));
            if patience == Some(0) {
                self.context.trim();
                trim_at = None;
            }
            let first = patience.filter(|&left| left > 0).map(Duration::from_nanos);
            self.context.before_sleep();
            self.count_sleep();
            self.task.set_sleeping(true);
            sleep(&self.task.parker, timeout.into_iter().chain(first).min());
            self.task.set_sleeping(false);
        }
    }

    /// As [`Current::wait`] until the host says that `fd` is ready for one of `interest`; `condition` is asked after that.
    ///
    /// # Errors
    /// As [`Current::wait`].
    pub fn wait_on_host<T>(
        &mut self,
        fd: BorrowedFd<'_>,
        interest: Events,
        deadline_ns: Option<u64>,
        mut condition: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, WaitEnd> {
        /// Until one looks again at what is ready, but not as the condition wants it (`MSG_PEEK` with `MSG_WAITALL`).
        const NAP: Duration = Duration::from_millis(1);
        let mut has_slept = false;
        let mut in_vain = 0;
        self.wait_asleep(
            deadline_ns,
            |current| if std::mem::replace(&mut has_slept, true) { condition(current) } else { None },
            |parker, timeout| {
                if in_vain > 1 {
                    parker.park(Some(timeout.unwrap_or(NAP).min(NAP)));
                }
                let ready = parker.park_on(&mut [HostPoll::new(fd, interest.bits())], timeout);
                in_vain = if ready > 0 { in_vain + 1 } else { 0 };
            },
        )
    }

    /// As [`Current::wait`] without a deadline, but only the task's end interrupts it.
    ///
    /// # Errors
    /// The task is to end.
    pub fn wait_killable<T>(
        &mut self,
        queues: &[(&WaitQueue, Events)],
        mut condition: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, WaitEnd> {
        let _ = self.context.flush_writes();
        let wake: Arc<dyn Wake> = Arc::clone(&self.task.parker) as Arc<dyn Wake>;
        let entries: Vec<_> = queues
            .iter()
            .map(|(queue, events)| (*queue, queue.register(*events, Arc::clone(&wake))))
            .collect();
        let end = loop {
            if let Some(value) = condition(self) {
                break Ok(value);
            }
            if self.task.is_dying() {
                break Err(WaitEnd::Interrupted);
            }
            self.context.before_sleep();
            self.task.parker.park(None);
        };
        for (queue, registration) in entries {
            queue.unregister(registration);
        }
        end
    }

    /// Tries a file operation, and waits and tries again as long as it answers EAGAIN, unless the file (or `nonblocking`)
    /// says not to.
    ///
    /// # Errors
    /// The operation's; ERESTARTSYS if a signal came first; EAGAIN at the deadline or without waiting.
    pub fn block_on_file<T>(
        &mut self,
        file: &Arc<OpenFile>,
        interest: Events,
        nonblocking: bool,
        deadline_ns: Option<u64>,
        mut operation: impl FnMut(&mut Self) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if self.task.is_killed() {
            return Err(Errno::ERESTARTSYS);
        }
        let first = operation(self);
        if first.as_ref().err() != Some(&Errno::EAGAIN) || nonblocking || file.is_nonblocking() {
            return first;
        }
        let ops = Arc::clone(&file.ops);
        let again = |current: &mut Self| match operation(current) {
            Err(Errno::EAGAIN) => None,
            result => Some(result),
        };
        let end = match (ops.host_descriptor(), ops.wait_queue()) {
            (Some(fd), _) => self.wait_on_host(fd, interest, deadline_ns, again),
            (None, Some(queue)) => self.wait(&[(queue, interest)], deadline_ns, again),
            (None, None) => return first,
        };
        match end {
            Ok(result) => result,
            Err(WaitEnd::Interrupted) => Err(Errno::ERESTARTSYS),
            Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN),
        }
    }
}
