//! How is a task born? `clone(2)` and its kin.
//!
//! Key type: [`CloneRequest`]. Order of checks as in `copy_process` of `kernel/fork.c`.
//!
//! | flags | host side | process |
//! |---|---|---|
//! | `THREAD` (with `VM`) | thread in the same stub | the same |
//! | `VM` (`vfork`, `posix_spawn`) | thread in the same stub | a new one on the same memory |
//! | none | fork of the stub | a new one |

use std::sync::Arc;

use linux_abi::task::clone as flag;
use linux_abi::{Errno, Registers};
use platform::{Context, PlatformError, Service, ThreadCall, Unserved, serve};

use super::exit::Leaving;
use super::run::run_started;
use super::signal::Signal;
use super::{
    Capability, Current, NewProcess, Process, Resource, RseqArea, SpaceUser, Task, VforkDone, pidfd, run,
};
use crate::account::TaskCharge;
use crate::descriptors::{Charge, Use};
use crate::mm::MemoryManager;

/// Stack of a sentry thread that serves a task. PERF: virtual until touched.
pub const STACK_BYTES: usize = 512 << 10;
/// Largest number of tasks in a sandbox, if the configuration names none; EAGAIN above.
const MAX_TASKS: usize = 32 << 10;
/// How many times what is left of those a container may have.
const GREED: u64 = 3;

/// What `clone(2)` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloneRequest {
    /// `CLONE_*` without the signal.
    pub flags: u64,
    /// Sent to the parent at the end; 0: none.
    pub exit_signal: i32,
    /// The child's stack pointer; 0: the parent's.
    pub stack: u64,
    /// `CLONE_SETTLS`.
    pub tls: u64,
    /// `CLONE_PARENT_SETTID`.
    pub parent_tid: u64,
    /// `CLONE_CHILD_SETTID`, `CLONE_CHILD_CLEARTID`.
    pub child_tid: u64,
    /// `CLONE_PIDFD`.
    pub pidfd: u64,
}

impl CloneRequest {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Combinations that make no sense, and what the sandbox does not offer.
    fn check(&self, process: &Process, may_make_namespaces: bool) -> Result<(), Errno> {
        let both = |a, b| self.has(a) && self.has(b);
        let wrong = both(flag::NEWNS | flag::NEWUSER, flag::FS)
            || (self.has(flag::THREAD) && !self.has(flag::SIGHAND))
            || (self.has(flag::SIGHAND) && !self.has(flag::VM))
            || both(flag::SIGHAND, flag::CLEAR_SIGHAND)
            || (self.has(flag::PARENT) && process.pid == 1)
            || both(flag::THREAD, flag::NEWUSER | flag::NEWPID | flag::PIDFD)
            || both(flag::PIDFD, flag::DETACHED)
            // Undo values of semaphores are a process's, and shared by its threads alone.
            || (self.has(flag::SYSVSEM) && !self.has(flag::THREAD));
        if wrong {
            return Err(Errno::EINVAL);
        }
        // As where the administrator allows none of the others: user namespaces are refused as well.
        let refused = self.has(flag::NEW_NAMESPACES & !(flag::NEWUTS | flag::NEWNS));
        if refused || (self.has(flag::NEW_NAMESPACES) && !may_make_namespaces) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

/// The host's trouble as `clone(2)` tells it.
fn as_errno(task: &Task, error: &PlatformError) -> Errno {
    tracing::debug!(error = %error, "no host thread for a new task");
    match error {
        // Limits are the guest's to run into; this is not.
        PlatformError::Stub(_) => {
            task.tell(format_args!("got no new task: {error}"));
            Errno::EAGAIN
        }
        PlatformError::Missing(_) => Errno::ENOSYS,
        _ => Errno::EAGAIN,
    }
}

/// The child's host side.
struct Body {
    /// For the descriptors of the host that they cost: of the thread, and of the process if there is one.
    charges: (Charge, Option<Charge>),
    /// For the task in its container's account.
    counted: Option<TaskCharge>,
    context: Box<dyn Context>,
    mm: Arc<MemoryManager>,
    user: SpaceUser,
}

impl Current {
    /// Makes a new task; answers its id.
    ///
    /// # Errors
    /// EINVAL, EPERM for flags; EAGAIN at a limit; ERESTARTNOINTR if a signal waits.
    pub fn clone_task(&mut self, request: &CloneRequest) -> Result<i32, Errno> {
        request.check(self.process(), self.credentials().has(Capability::SysAdmin))?;
        // LINUX: a signal to the group is either taken before or by both.
        if self.task().is_interrupted() && self.task().has_work() {
            return Err(Errno::ERESTARTNOINTR);
        }
        self.check_limits()?;
        let namespace = Arc::clone(&self.process().namespace);
        let tid = namespace.allocate()?;
        let result = self.clone_with_tid(request, tid);
        if result.is_err() {
            namespace.release(tid);
        }
        let vfork = result?;
        if let Some(vfork) = vfork {
            let _ = self.wait_killable(&[(&vfork.queue, crate::sync::Events::READABLE)], |_| {
                vfork.is_done().then_some(())
            });
        }
        Ok(tid)
    }

    fn check_limits(&self) -> Result<(), Errno> {
        let kernel = self.kernel();
        let max = match kernel.config.max_tasks {
            0 => MAX_TASKS,
            max => max as usize,
        };
        let namespace = &self.process().namespace;
        // A container may take another one as long as it has less than three times what is left: so something is left for others.
        let free = max.saturating_sub(kernel.tasks.task_count()) as u64;
        if self.process().account.tasks() >= free.saturating_mul(GREED) {
            return Err(Errno::EAGAIN);
        }
        let limit = self.process().limit(Resource::Nproc).soft;
        let credentials = self.credentials();
        let exempt = credentials.uid == 0
            || credentials.has(Capability::SysResource)
            || credentials.has(Capability::SysAdmin);
        if limit == u64::MAX || exempt {
            return Ok(());
        }
        let mine = namespace.processes().into_iter().flat_map(|process| process.threads());
        let mine = mine.filter(|task| task.credentials().uid == credentials.uid).count();
        if mine as u64 >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    fn clone_with_tid(&mut self, request: &CloneRequest, tid: i32) -> Result<Option<Arc<VforkDone>>, Errno> {
        // What the guest has been promised must be in memory before it is copied or shared.
        self.context_mut().flush_writes()?;
        let mut body = self.clone_body(request)?;
        if request.has(flag::PARENT_SETTID) {
            // Now and not on the way back: the child may end, and clear the same word, before we get there.
            let _ = self.mm().write(request.parent_tid, &tid.to_ne_bytes());
        }
        let process = if request.has(flag::THREAD) {
            Arc::clone(self.process())
        } else {
            let process = self.clone_process(request, tid);
            process.keep_charge(body.counted.take());
            process
        };
        let task = self.clone_object(request, tid, &process, &body.mm);
        let pidfd = match request.has(flag::PIDFD) {
            true => Some(pidfd::install(self, &process, request.pidfd)?),
            false => None,
        };
        let vfork = request.has(flag::VFORK).then(Arc::<VforkDone>::default);
        let entered = self.enter(request, &task).and_then(|()| {
            let launched = self.launch(request, Arc::clone(&task), body, vfork.clone());
            if launched.is_err() {
                task.retire();
            }
            launched
        });
        if let (Err(_), Some(fd)) = (&entered, pidfd) {
            let _ = self.files().remove(fd);
        }
        entered.map(|()| vfork)
    }

    fn clone_body(&mut self, request: &CloneRequest) -> Result<Body, Errno> {
        let share = self.kernel().descriptors.share(&self.process().container);
        let charge = || share.take(Use::Task).map_err(|_| Errno::EAGAIN);
        let counted = Some(self.process().account.charge_task()?);
        let user = self.space_user().share();
        let task = Arc::clone(self.task());
        let (mm, context) = self.mm_and_context();
        let process = if request.has(flag::THREAD) { None } else { Some(charge()?) };
        let charges = (charge()?, process);
        if request.has(flag::VM) {
            let context = context.clone_thread().map_err(|error| as_errno(&task, &error))?;
            return Ok(Body { charges, counted, context, mm, user });
        }
        drop(user);
        let (mm, context) = mm.fork(context).map_err(|error| as_errno(&task, &error))?;
        let user = SpaceUser::new(mm.space());
        Ok(Body { charges, counted, context, mm, user })
    }

    fn clone_process(&self, request: &CloneRequest, pid: i32) -> Arc<Process> {
        let parent = self.process();
        let actions = parent.actions();
        let new = NewProcess {
            namespace: Arc::clone(&parent.namespace),
            container: parent.container.clone(),
            actions: match () {
                () if request.has(flag::SIGHAND) => actions,
                () if request.has(flag::CLEAR_SIGHAND) => actions.cleared_copy(),
                () => actions.copy(),
            },
            limits: parent.limits(),
            exe: parent.exe(),
        };
        let process = Process::new(self.kernel(), pid, new);
        process.set_dumpable(parent.dumpable());
        process.inherit_oom_score_adj(parent);
        process.set_thp_disabled(parent.is_thp_disabled());
        process.login.inherit(&parent.login);
        process.timers.watch_cpu_limit(&process);
        if let Some(origin) = parent.origin() {
            process.set_origin(Arc::clone(origin));
        }
        process
    }

    fn clone_object(
        &self,
        request: &CloneRequest,
        tid: i32,
        process: &Arc<Process>,
        mm: &Arc<MemoryManager>,
    ) -> Arc<Task> {
        let fs = match () {
            () if request.has(flag::FS) => self.fs(),
            () if request.has(flag::NEWNS) => self.fs().namespace().copy(&self.fs()),
            () => self.fs().copy(),
        };
        let files = if request.has(flag::FILES) { self.files() } else { self.files().copy() };
        // LINUX: `copy_creds`: only threads share the very credentials, by which `linkat(2)` asks who opened a file.
        let credentials = match request.has(flag::THREAD) {
            true => self.credentials(),
            false => Arc::new(self.credentials().as_ref().clone()),
        };
        let task = Task::new(tid, Arc::clone(process), credentials, fs, files, Arc::clone(mm));
        if request.has(flag::NEWUTS) {
            task.copy_uts(&self.task().uts());
        } else {
            task.inherit_uts(self.task());
        }
        task.set_name(&self.task().name());
        let scheduling = self.task().scheduling().inherited();
        task.change_scheduling(|theirs| *theirs = scheduling);
        // LINUX: a new thread loses the alternate stack, unless its parent waits for it to leave the memory.
        let keep_stack = !request.has(flag::VM) || request.has(flag::VFORK);
        let signals = self.task().lock_signals().inherit(keep_stack);
        *task.lock_signals() = signals;
        task
    }

    /// Makes the task one that others can find.
    fn enter(&self, request: &CloneRequest, task: &Arc<Task>) -> Result<(), Errno> {
        let process = &task.process;
        if request.has(flag::THREAD) {
            let mut group = process.lock_group();
            if group.exit.is_some() || group.exec.is_some() {
                return Err(Errno::ERESTARTNOINTR);
            }
            group.threads.push(Arc::clone(task));
            drop(group);
        } else {
            process.lock_group().threads.push(Arc::clone(task));
            let group = self.process().process_group().ok_or(Errno::ESRCH)?;
            let tree = &self.kernel().tasks;
            if request.has(flag::PARENT) {
                let exit_signal = tree.exit_signal(self.process());
                tree.enter(process, tree.parent_task(self.process()).as_ref(), group, exit_signal);
            } else {
                tree.enter(process, Some(self.task()), group, request.exit_signal);
            }
        }
        process.namespace.enter_task(task);
        self.kernel().tasks.count_task(1);
        Ok(())
    }

    /// Starts the task's sentry thread.
    fn launch(
        &self,
        request: &CloneRequest,
        task: Arc<Task>,
        body: Body,
        vfork: Option<Arc<VforkDone>>,
    ) -> Result<(), Errno> {
        let mut regs = self.regs;
        regs.rax = 0;
        regs.orig_rax = u64::MAX;
        if request.stack != 0 {
            regs.rsp = request.stack;
        }
        if request.has(flag::SETTLS) {
            regs.fs_base = request.tls;
        }
        let own_memory = !request.has(flag::VM);
        let rseq = self.rseq().filter(|_| own_memory);
        let clear_child_tid = if request.has(flag::CHILD_CLEARTID) { request.child_tid } else { 0 };
        let abi = Arc::clone(&self.kernel().abi);
        let Body { charges, counted, context, mm, user } = body;
        if request.has(flag::CHILD_SETTID) {
            let _ = mm.write(request.child_tid, &task.tid().to_ne_bytes());
        }
        let theirs = Arc::clone(&task);
        let is_rested = context.is_rested();
        let service: Service = Box::new(move |context| {
            let _charges = (charges, counted);
            let mut current = Current::with_user(theirs, context, mm, user, regs);
            current.leaving = Leaving { clear_child_tid, vfork, ..Leaving::default() };
            if is_rested {
                return run_started(current, abi.as_ref());
            }
            current.settle(rseq);
            run(current, abi.as_ref())
        });
        let unserved = match start_rested(&task, context, &regs, service) {
            Ok(()) => return Ok(()),
            Err(unserved) => unserved,
        };
        let thread = std::thread::Builder::new().name(format!("task-{}", task.tid())).stack_size(STACK_BYTES);
        thread.spawn(move || serve(unserved)).map(drop).map_err(|error| {
            tracing::warn!(error = %error, "no sentry thread for a new task");
            Errno::EAGAIN
        })
    }

    /// What the host thread of a new task does not inherit by itself.
    fn settle(&mut self, rseq: Option<RseqArea>) {
        if let Some(area) = rseq {
            let RseqArea { addr, len, signature } = area;
            if self.context_mut().thread_call(ThreadCall::Rseq { addr, len, flags: 0, signature }).is_ok() {
                self.set_rseq(Some(area));
            }
        }
        if let Some(mask) = self.task().scheduling().affinity {
            let _ = self.context_mut().set_affinity(&mask);
        }
    }
}

/// Starts the guest thread, if it has a sentry thread asleep beside it: all that the task's own sentry thread would have done
/// before the guest's first instruction is done here.
fn start_rested(
    task: &Arc<Task>,
    mut context: Box<dyn Context>,
    regs: &Registers,
    service: Service,
) -> Result<(), Unserved> {
    if !context.is_rested() {
        return Err((context, service));
    }
    if task.take_identity_stale() {
        context.set_identity(task.identity());
    }
    if let Some(mask) = task.scheduling().affinity {
        let _ = context.set_affinity(&mask);
    }
    let interrupter = context.interrupter();
    task.set_interrupter(Some(Arc::clone(&interrupter)));
    // Whoever came before that could not reach the guest thread.
    if task.is_interrupted() {
        interrupter.interrupt();
    }
    context.start(regs, service)
}

impl Task {
    /// Takes a task that never ran out of everybody's sight.
    pub(crate) fn retire(self: &Arc<Self>) {
        let process = &self.process;
        process.namespace.leave_task(self.tid());
        let mut group = process.lock_group();
        let before = group.threads.len();
        group.threads.retain(|thread| !Arc::ptr_eq(thread, self));
        let entered = group.threads.len() < before;
        let is_last = group.threads.is_empty();
        drop(group);
        if entered {
            process.kernel.tasks.count_task(-1);
        }
        if is_last {
            process.kernel.tasks.forget(process);
        }
    }
}

/// The signal in the lowest byte of `clone(2)`'s flags.
///
/// # Errors
/// EINVAL unless it is 0 or a signal.
pub fn exit_signal(number: u64) -> Result<i32, Errno> {
    let number = i32::try_from(number).map_err(|_| Errno::EINVAL)?;
    if number == 0 { Ok(0) } else { Signal::new(number).map(Signal::number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_signals_are_checked() {
        assert_eq!(exit_signal(17), Ok(17));
        assert_eq!(exit_signal(0), Ok(0));
        assert_eq!(exit_signal(65), Err(Errno::EINVAL));
        assert_eq!(exit_signal(u64::MAX), Err(Errno::EINVAL));
    }
}
