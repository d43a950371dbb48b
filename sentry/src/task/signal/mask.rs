//! Where is a task's mask of blocked signals? In the task, or, while it has a guest thread that changes it by itself, in that thread's pages.
//!
//! Key type: [`Mask`]. Such a thread changes its mask without asking, and only then looks whether a signal waits, for it or its process.
//! So whoever makes a signal wait says so first ([`Group::say_signals_wait`]) and then reads the masks: either the change is seen here, or the
//! thread sees the signal and comes in. What it comes in with is looked at afresh each time ([`Current::deliver_signals`]).

use std::sync::Arc;

use platform::Interrupter;

use super::{SigSet, TaskSignals};
use crate::task::process::Group;
use crate::task::{Current, Task};

/// A task's mask.
#[derive(Default)]
pub(super) struct Mask {
    /// While it is not shared.
    pub(super) own: SigSet,
    /// The guest thread that has it.
    pub(super) shared: Option<Arc<dyn Interrupter>>,
}

impl Mask {
    fn get(&self) -> SigSet {
        let theirs = self.shared.as_ref().and_then(|shared| shared.blocked());
        theirs.map_or(self.own, SigSet::blockable)
    }

    fn set(&mut self, blocked: SigSet) {
        self.own = blocked;
        if let Some(shared) = &self.shared {
            shared.set_blocked(blocked.0);
        }
    }
}

impl TaskSignals {
    /// Signals held back, as of now.
    #[must_use]
    pub fn blocked(&self) -> SigSet {
        self.mask.get()
    }

    /// Replaces the mask; offering what waits to others is the caller's.
    pub(super) fn put_blocked(&mut self, blocked: SigSet) {
        self.mask.set(blocked);
    }

    pub(super) fn say_signals_wait(&self, waits: bool) {
        if let Some(shared) = &self.mask.shared {
            shared.set_signals_wait(waits);
        }
    }
}

impl Group {
    /// A signal is in the task's queue or, for `None`, in the group's: before anybody looks at a mask.
    pub(super) fn say_signals_wait(&self, target: Option<&Arc<Task>>) {
        match target {
            Some(task) => task.lock_signals().say_signals_wait(true),
            None => self.threads.iter().for_each(|task| task.lock_signals().say_signals_wait(true)),
        }
    }
}

impl Task {
    /// The guest thread has the mask from now on; `None`: it is gone.
    pub(in crate::task) fn share_mask(&self, with: Option<Arc<dyn Interrupter>>) {
        let group = self.process.lock_group();
        let mut signals = self.lock_signals();
        let is_theirs =
            matches!((&signals.mask.shared, &with), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
        // It may run already, and has changed it since.
        if !is_theirs {
            let blocked = signals.blocked();
            signals.mask = Mask { own: blocked, shared: with };
            signals.put_blocked(blocked);
        }
        signals.say_signals_wait(!(group.pending.is_empty() && signals.pending.is_empty()));
    }
}

impl Current {
    /// After the task's signals have been dealt with: what still waits is blocked by this task. Others may take it, if they do not block it too:
    /// they may have been passed over when it was sent.
    pub(super) fn leave_signals(&self) {
        let task = self.task();
        let group = task.process.lock_group();
        let signals = task.lock_signals();
        signals.say_signals_wait(!(group.pending.is_empty() && signals.pending.is_empty()));
        let blocked = signals.blocked();
        drop(signals);
        group.offer(group.pending.set().intersection(blocked), task);
    }
}

impl Group {
    /// Tells threads other than `from` of signals in the group's queue that they would take.
    pub(super) fn offer(&self, signals: SigSet, from: &Task) {
        if signals.is_empty() {
            return;
        }
        for other in self.threads.iter().filter(|other| other.tid() != from.tid()) {
            if !signals.difference(other.lock_signals().blocked()).is_empty() {
                other.interrupt();
            }
        }
    }
}
