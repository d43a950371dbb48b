//! What happens to a task's signals on its way back to the guest, and to the call that they interrupted?
//!
//! Key types: [`Flow`], [`Restart`], [`RestartBlock`]. Order as in `get_signal` and `arch_do_signal_or_restart`.

use std::collections::HashSet;

use linux_abi::nr;
use linux_abi::signal::{SigAction, SigInfo, code, sa};

use super::{DefaultAction, Disposition, Sender, SigSet, Signal};
use crate::Errno;
use crate::task::overdue::Ended;
use crate::task::process::Stop;
use crate::task::{Capability, Current, ExitStatus};

/// Does the task go on?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It runs guest code.
    Run,
    /// It has ended.
    End,
}

/// A system call that answered a restart code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The code.
    pub errno: Errno,
    /// The call.
    pub number: u64,
}

/// How `restart_syscall(2)` goes on with an interrupted call.
pub type RestartBlock = Box<dyn FnOnce(&mut Current) -> Result<u64, Errno> + Send>;

/// Length of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// What the next signal comes to.
enum Next {
    Nothing,
    Handle(Signal, SigInfo, SigAction),
    Stop,
    /// A stop by the terminal, which an orphaned group ignores.
    TerminalStop(Signal),
    End,
}

/// A handler runs: is the call run again after it (`None`), or what does it answer?
fn answer_with_handler(errno: Errno, flags: u64) -> Option<Errno> {
    match errno {
        Errno::ERESTARTNOINTR => None,
        Errno::ERESTARTSYS if flags & sa::RESTART != 0 => None,
        _ => Some(Errno::EINTR),
    }
}

impl Current {
    /// Deals with all signals that wait. `restart`: what the system call answered, if a restart code.
    pub fn deliver_signals(&mut self, mut restart: Option<Restart>) -> Flow {
        self.task().take_interrupt();
        loop {
            match self.next_signal() {
                Next::Nothing => break,
                Next::End => return Flow::End,
                Next::Stop => self.stop(),
                Next::TerminalStop(signal) => {
                    let group = self.process().process_group();
                    if group.is_some_and(|group| !self.kernel().tasks.is_orphaned(&group)) {
                        self.begin_stop(signal);
                    }
                }
                Next::Handle(signal, info, action) => {
                    if let Some(restart) = restart.take() {
                        match answer_with_handler(restart.errno, action.flags) {
                            None => self.rewind(restart.number),
                            Some(errno) => self.regs.rax = errno.to_return(),
                        }
                    }
                    self.handle(signal, &info, &action);
                }
            }
        }
        if let Some(restart) = restart {
            let again = restart.errno == Errno::ERESTART_RESTARTBLOCK;
            self.rewind(if again { nr::RESTART_SYSCALL } else { restart.number });
        }
        self.restore_saved_mask();
        self.leave_signals();
        Flow::Run
    }

    /// Makes the guest run its system call instruction again.
    fn rewind(&mut self, number: u64) {
        self.regs.rax = number;
        self.regs.rip = self.regs.rip.wrapping_sub(SYSCALL_LEN);
    }

    fn next_signal(&mut self) -> Next {
        let task = self.task();
        let actions = task.process.actions();
        let mut group = task.process.lock_group();
        loop {
            if group.exit.is_some() || group.exec.is_some_and(|tid| tid != task.tid()) {
                return Next::End;
            }
            if group.stop.is_some() {
                return Next::Stop;
            }
            let mut signals = task.lock_signals();
            let blocked = signals.blocked();
            let Some(info) = signals.pending.pop(blocked).or_else(|| group.pending.pop(blocked)) else {
                return Next::Nothing;
            };
            drop(signals);
            let Ok(signal) = Signal::new(info.signo) else { continue };
            match actions.disposition(signal) {
                Disposition::Handler => {
                    let action = actions.get(signal);
                    if action.flags & sa::RESETHAND != 0 {
                        actions.reset(signal);
                    }
                    return Next::Handle(signal, info, action);
                }
                Disposition::Ignored => continue,
                Disposition::Default(DefaultAction::Ignore | DefaultAction::Continue) => continue,
                Disposition::Default(_) if group.unkillable && !signal.is_kernel_only() => continue,
                Disposition::Default(DefaultAction::Stop) if signal == Signal::STOP => {
                    drop(group);
                    self.begin_stop(signal);
                    return Next::Stop;
                }
                Disposition::Default(DefaultAction::Stop) => return Next::TerminalStop(signal),
                Disposition::Default(_) => {}
            }
            group.begin_exit(ExitStatus::Signal { signo: signal.number() }, Ended::ByItself);
        }
    }

    /// Runs a handler, or SIGSEGV if its frame cannot be written.
    fn handle(&mut self, signal: Signal, info: &SigInfo, action: &SigAction) {
        if self.push_frame(signal, info, action).is_err() {
            // LINUX: force_sigsegv.
            if signal == Signal::SEGV {
                self.process().actions().reset(Signal::SEGV);
            }
            self.task().force(SigInfo::kernel(Signal::SEGV.number()));
            return;
        }
        let mut signals = self.task().lock_signals();
        signals.saved = None;
        let mut blocked = signals.blocked().union(SigSet::blockable(action.mask));
        if action.flags & sa::NODEFER == 0 {
            blocked = blocked.with(signal);
        }
        drop(signals);
        self.set_blocked(blocked);
    }

    /// Starts a group stop.
    fn begin_stop(&self, signal: Signal) {
        let mut group = self.process().lock_group();
        if group.exit.is_some() || group.stop.is_some() {
            return;
        }
        group.stop = Some(Stop { signo: signal.number(), stopped: HashSet::new(), complete: false });
        for task in &group.threads {
            task.interrupt();
        }
    }

    /// Sleeps as long as the group is stopped.
    fn stop(&mut self) {
        let tid = self.task().tid();
        loop {
            let mut group = self.process().lock_group();
            if group.exit.is_some() || group.exec.is_some_and(|by| by != tid) {
                return;
            }
            let everyone = group.threads.len();
            let Some(stop) = &mut group.stop else { return };
            stop.stopped.insert(tid);
            let tell = (!stop.complete && stop.stopped.len() >= everyone).then_some(stop.signo);
            stop.complete |= tell.is_some();
            drop(group);
            if tell.is_some() {
                self.kernel().tasks.stop_changed(self.process(), tell);
            }
            self.context_mut().before_sleep();
            self.task().parker.park(None);
        }
    }

    /// Replaces the mask of blocked signals, as the guest asked.
    pub fn set_blocked(&mut self, blocked: SigSet) {
        self.task().set_blocked(blocked);
    }

    /// Blocks `mask` until the call ends (`ppoll`, `rt_sigsuspend`...); see [`Current::restore_mask_unless`].
    pub fn set_temporary_mask(&mut self, mask: SigSet) {
        {
            let mut signals = self.task().lock_signals();
            signals.saved = Some(signals.saved.unwrap_or(signals.blocked()));
        }
        self.set_blocked(mask.difference(SigSet::KERNEL_ONLY));
    }

    /// The call with a temporary mask has ended; if a signal interrupted it, the mask stays until that is delivered.
    pub fn restore_mask_unless(&mut self, interrupted: bool) {
        if !interrupted {
            self.restore_saved_mask();
        }
    }

    fn restore_saved_mask(&mut self) {
        let saved = self.task().lock_signals().saved.take();
        if let Some(saved) = saved {
            self.set_blocked(saved);
        }
    }

    /// A synchronous fault of the guest's code becomes a signal, unless the memory can be made to be there.
    pub fn fault(&mut self, fault: platform::Fault) {
        let (mm, context) = self.mm_and_context();
        let Some(fault) = mm.resolve_fault(context, fault) else { return };
        let is_unmapped = fault.signo == Signal::SEGV.number() && fault.code == code::SEGV_MAPERR;
        if is_unmapped && self.grow_to(fault.addr) {
            return;
        }
        self.log_fault(fault);
        self.set_fault(fault);
        self.task().force(SigInfo::fault(fault.signo, fault.code, fault.addr));
    }

    /// Something was touched where nothing is: see [`MemoryManager::grow_to`](crate::mm::MemoryManager::grow_to).
    fn grow_to(&mut self, addr: u64) -> bool {
        let limits = self.process().memory_limits(self.credentials().has(Capability::IpcLock));
        let (mm, context) = self.mm_and_context();
        mm.grow_to(context, addr, &limits)
    }

    /// One line for whoever debugs: where it was, and what the platform has done to the code there.
    fn log_fault(&self, fault: platform::Fault) {
        if !tracing::enabled!(target: "fault", tracing::Level::DEBUG) {
            return;
        }
        const SHOWN: usize = 16;
        let mut code = [0; SHOWN];
        let len = self.mm().read(self.regs.rip, &mut code);
        let code: String = code[..len].iter().map(|byte| format!("{byte:02x}")).collect();
        let (tid, name) = (self.task().tid(), self.task().name_text());
        let about = self.context().about_code(self.regs.rip);
        tracing::debug!(
            target: "fault",
            "[{tid}] {name}: signal {} at {:#x} ({code}), address {:#x}, rsp {:#x}; {about}",
            fault.signo,
            self.regs.rip,
            fault.addr,
            self.regs.rsp,
        );
    }

    /// Sends SIGPIPE to the task itself, as a write to a pipe without readers does.
    pub fn sigpipe(&mut self) {
        let task = self.task();
        let pid = task.process.pid;
        task.send(
            SigInfo::from_process(Signal::PIPE.number(), 0, pid, task.credentials().uid),
            Sender::Kernel,
        );
    }

    /// `rt_sigtimedwait(2)`: takes a signal out of `set`, waiting for one until the deadline.
    ///
    /// # Errors
    /// EAGAIN at the deadline; EINTR.
    pub fn wait_for_signal(&mut self, set: SigSet, deadline_ns: Option<u64>) -> Result<SigInfo, Errno> {
        let set = set.difference(SigSet::KERNEL_ONLY);
        if let Some(info) = self.task().take_signal(set) {
            return Ok(info);
        }
        if deadline_ns == Some(0) {
            return Err(Errno::EAGAIN);
        }
        let old = {
            let mut signals = self.task().lock_signals();
            let old = signals.blocked();
            signals.real_blocked = Some(old);
            signals.put_blocked(old.difference(set));
            old
        };
        let end = self.wait(&[], deadline_ns, |current| current.task().take_signal(set));
        {
            let mut signals = self.task().lock_signals();
            signals.real_blocked = None;
        }
        self.set_blocked(old);
        match end {
            Ok(info) => Ok(info),
            Err(end) => match self.task().take_signal(set) {
                Some(info) => Ok(info),
                None if end == crate::task::WaitEnd::TimedOut => Err(Errno::EAGAIN),
                None => Err(Errno::EINTR),
            },
        }
    }
}

impl crate::task::Task {
    /// This task's part of signals. LOCK: after the process's group.
    pub fn lock_signals(&self) -> std::sync::MutexGuard<'_, super::TaskSignals> {
        self.signals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Signals held back.
    #[must_use]
    pub fn blocked(&self) -> SigSet {
        self.lock_signals().blocked()
    }

    /// Signals that wait for this task or its process.
    #[must_use]
    pub fn pending_signals(&self) -> SigSet {
        let group = self.process.lock_group();
        group.pending.set().union(self.lock_signals().pending.set())
    }

    /// Signals that wait for this task alone, and for its process (`/proc/PID/status`).
    #[must_use]
    pub fn pending_apart(&self) -> (SigSet, SigSet) {
        let group = self.process.lock_group();
        (self.lock_signals().pending.set(), group.pending.set())
    }

    /// Takes a waiting signal out of `set` (`signalfd`, `rt_sigtimedwait`).
    #[must_use]
    pub fn take_signal(&self, set: SigSet) -> Option<SigInfo> {
        let mask = SigSet(!set.0);
        let mut group = self.process.lock_group();
        let own = self.lock_signals().pending.pop(mask);
        own.or_else(|| group.pending.pop(mask))
    }

    /// Replaces the mask. Signals that this task does not take any more are offered to other threads.
    pub fn set_blocked(&self, blocked: SigSet) {
        let group = self.process.lock_group();
        let mut signals = self.lock_signals();
        let newly = blocked.difference(signals.blocked());
        signals.put_blocked(blocked);
        let waiting = signals.pending.set().union(group.pending.set());
        signals.say_signals_wait(!waiting.is_empty());
        drop(signals);
        if !waiting.difference(blocked).is_empty() {
            self.mark_interrupted();
        }
        group.offer(group.pending.set().intersection(newly), self);
    }

    /// The task has something to do before it may go on: a signal, a stop, or its end.
    #[must_use]
    pub fn has_work(&self) -> bool {
        if self.has_lost_memory() {
            return true;
        }
        let group = self.process.lock_group();
        if group.exit.is_some() || group.stop.is_some() || group.exec.is_some_and(|by| by != self.tid()) {
            return true;
        }
        let signals = self.lock_signals();
        let waiting = signals.pending.set().union(group.pending.set());
        !waiting.difference(signals.blocked()).is_empty()
    }

    /// Its address space is gone: it will end as soon as it is to run.
    fn has_lost_memory(&self) -> bool {
        self.mm().is_some_and(|mm| mm.space().has_died())
    }

    /// The task is to end.
    #[must_use]
    pub fn is_dying(&self) -> bool {
        if self.has_lost_memory() {
            return true;
        }
        let group = self.process.lock_group();
        group.exit.is_some() || group.exec.is_some_and(|by| by != self.tid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_restarts_only_what_it_may() {
        assert_eq!(answer_with_handler(Errno::ERESTARTSYS, sa::RESTART), None);
        assert_eq!(answer_with_handler(Errno::ERESTARTSYS, 0), Some(Errno::EINTR));
        assert_eq!(answer_with_handler(Errno::ERESTARTNOINTR, 0), None);
        assert_eq!(answer_with_handler(Errno::ERESTARTNOHAND, sa::RESTART), Some(Errno::EINTR));
        assert_eq!(answer_with_handler(Errno::ERESTART_RESTARTBLOCK, sa::RESTART), Some(Errno::EINTR));
    }
}
