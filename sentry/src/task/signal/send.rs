//! Who gets a signal, and may it be sent?
//!
//! Key types: [`Sender`]; methods of [`Process`], [`Task`] and [`ProcessGroup`].

use std::sync::Arc;

use linux_abi::signal::SigInfo;
use linux_abi::signal::code::SI_TIMER;

use super::{DefaultAction, Disposition, Queued, SigSet, Signal};
use crate::Errno;
use crate::sync::Events;
use crate::task::overdue::Ended;
use crate::task::process::Group;
use crate::task::{Capability, ExitStatus, Process, ProcessGroup, Resource, Task};

/// Where a signal comes from; a container's init obeys SIGKILL and SIGSTOP only from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A process of the same pid namespace.
    Guest,
    /// The kernel, or the operator of the sandbox.
    Kernel,
}

/// LINUX: `kill_ok_by_cred` and the SIGCONT rule of `check_kill_permission`.
#[must_use]
pub fn may_signal(sender: &Task, target: &Arc<Process>, signal: Option<Signal>) -> bool {
    if sender.process.key == target.key {
        return true;
    }
    let credentials = sender.credentials();
    let allowed = target.any_thread().is_none_or(|thread| {
        let theirs = thread.credentials();
        [credentials.euid, credentials.uid].iter().any(|&uid| uid == theirs.suid || uid == theirs.uid)
    });
    if allowed || credentials.has(Capability::Kill) {
        return true;
    }
    let session = |process: &Process| process.process_group().map(|group| group.session.sid);
    signal == Some(Signal::CONT) && session(&sender.process) == session(target)
}

impl Process {
    /// Sends to any thread of the process. LOCK: none may be held.
    pub fn send(self: &Arc<Self>, info: SigInfo, sender: Sender) -> bool {
        self.post(None, info, sender)
    }

    /// Takes a signal that is ignored from now on out of all queues.
    pub fn forget_signal(&self, signal: Signal) {
        let mut group = self.lock_group();
        group.pending.remove(SigSet::of(signal));
        for task in &group.threads {
            task.lock_signals().pending.remove(SigSet::of(signal));
        }
    }

    /// Changes a signal that waits for the process (overruns of a timer); `false`: there is none that `matches`.
    pub fn update_pending(
        &self,
        matches: impl Fn(&SigInfo) -> bool,
        change: impl FnOnce(&mut SigInfo),
    ) -> bool {
        self.lock_group().pending.update(matches, change)
    }

    /// Sends to one thread, or to any; `false`: a real-time queue is full.
    fn post(self: &Arc<Self>, target: Option<&Arc<Task>>, info: SigInfo, sender: Sender) -> bool {
        let Ok(signal) = Signal::new(info.signo) else { return true };
        let limit = self.limit(Resource::Sigpending).soft;
        let actions = self.actions();
        let mut group = self.lock_group();
        let continued = prepare(&mut group, signal);
        let queued = match target.or(group.threads.first()).cloned() {
            None => Queued::Yes,
            Some(judge) if is_dropped(&group, &judge, actions.disposition(signal), signal, sender) => {
                Queued::Yes
            }
            Some(judge) => {
                // LINUX: __send_signal_locked: what comes from the kernel, and a plain kill(2), is not held up by a limit.
                let is_forced = info.code == SI_TIMER || (!signal.is_realtime() && info.code >= 0);
                let limit = if is_forced { u64::MAX } else { limit };
                let charge = || self.kernel.tasks.waiting.take(judge.credentials().uid, 1, limit);
                let queued = match target {
                    Some(task) => task.lock_signals().pending.push(signal, info, charge),
                    None => group.pending.push(signal, info, charge),
                };
                if queued == Queued::Yes {
                    group.say_signals_wait(target);
                    complete(&mut group, target, signal, actions.disposition(signal));
                }
                queued
            }
        };
        drop(group);
        if continued {
            self.kernel.tasks.stop_changed(self, None);
        }
        self.signal_events.wake(Events::READABLE);
        queued != Queued::Full
    }
}

impl Task {
    /// Sends to this thread alone. LOCK: none may be held.
    pub fn send(self: &Arc<Self>, info: SigInfo, sender: Sender) -> bool {
        let process = Arc::clone(&self.process);
        process.post(Some(self), info, sender)
    }

    /// As [`Process::update_pending`], among the signals for this task alone.
    pub fn update_pending(
        &self,
        matches: impl Fn(&SigInfo) -> bool,
        change: impl FnOnce(&mut SigInfo),
    ) -> bool {
        let _group = self.process.lock_group();
        self.lock_signals().pending.update(matches, change)
    }

    /// A signal that the task cannot escape, since it has caused it itself: unblocked, and deadly if it was blocked or
    /// ignored. LINUX: `force_sig_info_to_task`.
    pub fn force(self: &Arc<Self>, info: SigInfo) {
        let Ok(signal) = Signal::new(info.signo) else { return };
        let actions = self.process.actions();
        let uid = self.credentials().uid;
        let mut group = self.process.lock_group();
        let mut signals = self.lock_signals();
        if signals.blocked().contains(signal) || actions.disposition(signal) == Disposition::Ignored {
            actions.reset(signal);
            let blocked = signals.blocked().without(signal);
            signals.put_blocked(blocked);
        }
        if actions.disposition(signal) != Disposition::Handler {
            group.unkillable = false;
        }
        signals.pending.push(signal, info, || self.kernel.tasks.waiting.take(uid, 1, u64::MAX));
        drop(signals);
        drop(group);
        self.interrupt();
    }
}

impl ProcessGroup {
    /// Sends to all members, from the kernel (terminals).
    pub fn signal(self: &Arc<Self>, tree: &crate::task::ProcessTree, signal: Signal) {
        for process in tree.members(self) {
            process.send(SigInfo::kernel(signal.number()), Sender::Kernel);
        }
    }
}

/// SIGCONT undoes stops and the other way round, whatever becomes of the signal itself. Answers: a stop has ended.
fn prepare(group: &mut Group, signal: Signal) -> bool {
    let flush = match signal {
        Signal::CONT => SigSet::STOPPING,
        _ if SigSet::STOPPING.contains(signal) => SigSet::of(Signal::CONT),
        _ => return false,
    };
    group.pending.remove(flush);
    for task in &group.threads {
        task.lock_signals().pending.remove(flush);
    }
    if signal != Signal::CONT {
        return false;
    }
    let stop = group.stop.take();
    for task in &group.threads {
        if stop.is_some() {
            task.parker.unpark();
        }
    }
    stop.is_some_and(|stop| stop.complete)
}

/// The signal would do nothing.
fn is_dropped(group: &Group, judge: &Task, disposition: Disposition, signal: Signal, sender: Sender) -> bool {
    // LINUX: sig_ignored: what is blocked may get a handler before it is unblocked, even at init.
    let signals = judge.lock_signals();
    if signals.blocked().contains(signal) || signals.real_blocked.is_some_and(|set| set.contains(signal)) {
        return false;
    }
    let is_default = matches!(disposition, Disposition::Default(_));
    let obeys = sender == Sender::Kernel && signal.is_kernel_only();
    if group.unkillable && is_default && !obeys {
        return true;
    }
    matches!(
        disposition,
        Disposition::Ignored | Disposition::Default(DefaultAction::Ignore | DefaultAction::Continue)
    )
}

/// Chooses who deals with a signal that now waits, and tells it; all are told if it is deadly.
fn complete(group: &mut Group, target: Option<&Arc<Task>>, signal: Signal, disposition: Disposition) {
    // LINUX: wants_signal: who has stopped takes nothing but SIGKILL until it goes on.
    let has_stopped =
        |task: &Arc<Task>| group.stop.as_ref().is_some_and(|stop| stop.stopped.contains(&task.tid()));
    let wants = |task: &&Arc<Task>| {
        signal == Signal::KILL || !(has_stopped(task) || task.lock_signals().blocked().contains(signal))
    };
    let chosen = match target {
        Some(task) => Some(task).filter(wants).cloned(),
        None => group.threads.iter().find(wants).cloned(),
    };
    let Some(chosen) = chosen else { return };
    let in_timed_wait = chosen.lock_signals().real_blocked.is_some_and(|set| set.contains(signal));
    let is_deadly =
        matches!(disposition, Disposition::Default(DefaultAction::Terminate | DefaultAction::Core));
    if is_deadly && (signal == Signal::KILL || !in_timed_wait) {
        group.begin_exit(ExitStatus::Signal { signo: signal.number() }, Ended::ByOthers);
    } else {
        chosen.interrupt();
    }
}

/// Sends to whoever `kill(2)` names by `pid`. LOCK: none may be held.
///
/// # Errors
/// ESRCH; EPERM if none of them may be signalled.
pub fn kill(sender: &Arc<Task>, pid: i32, signal: Option<Signal>, info: SigInfo) -> Result<(), Errno> {
    let tree = &sender.kernel.tasks;
    let namespace = &sender.process.namespace;
    let targets = match pid {
        1.. => vec![namespace.process(pid).ok_or(Errno::ESRCH)?],
        0 => tree.all_members(&sender.process.process_group().ok_or(Errno::ESRCH)?),
        // LINUX: all but init and the caller itself; EPERM counts only if nobody could be signalled.
        -1 => {
            let others = namespace.processes().into_iter();
            others.filter(|process| process.pid != 1 && process.key != sender.process.key).collect()
        }
        i32::MIN => return Err(Errno::ESRCH),
        _ => tree.all_members(&namespace.group(-pid).ok_or(Errno::ESRCH)?),
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let mut result = Err(Errno::EPERM);
    for target in targets {
        if !may_signal(sender, &target, signal) {
            continue;
        }
        result = Ok(());
        if signal.is_some() && !target.send(info, Sender::Guest) {
            return Err(Errno::EAGAIN);
        }
    }
    result
}
