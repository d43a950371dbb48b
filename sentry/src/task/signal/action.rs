//! What does a process do about a signal? Its table of actions (`CLONE_SIGHAND`).
//!
//! Key types: [`Actions`], [`Disposition`].

use std::sync::{Arc, Mutex, PoisonError};

use linux_abi::signal::{SIG_DFL, SIG_IGN, SigAction, sa};

use super::{DefaultAction, SigSet, Signal};

/// Actions by signal; shared by threads, and by processes with `CLONE_SIGHAND`.
pub struct Actions {
    /// LOCK: after process and task signals; leaf.
    table: Mutex<[SigAction; 64]>,
}

/// What a signal comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The default.
    Default(DefaultAction),
    /// Ignored by wish.
    Ignored,
    /// Handled.
    Handler,
}

impl Default for Actions {
    fn default() -> Self {
        Self { table: Mutex::new([SigAction::default(); 64]) }
    }
}

impl Actions {
    fn lock(&self) -> std::sync::MutexGuard<'_, [SigAction; 64]> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A table of its own with the same actions (`fork`).
    #[must_use]
    pub fn copy(&self) -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(*self.lock()) })
    }

    /// The action.
    #[must_use]
    pub fn get(&self, signal: Signal) -> SigAction {
        self.lock()[signal.index()]
    }

    /// Replaces it; answers the old one.
    pub fn set(&self, signal: Signal, mut action: SigAction) -> SigAction {
        action.flags &= sa::KNOWN;
        action.mask = SigSet::blockable(action.mask).0;
        std::mem::replace(&mut self.lock()[signal.index()], action)
    }

    /// Back to the default, but the rest of the action stays (`SA_RESETHAND`, forced signals).
    pub fn reset(&self, signal: Signal) {
        self.lock()[signal.index()].handler = SIG_DFL;
    }

    /// Exec: handlers go, ignored signals stay ignored.
    pub fn reset_handlers(&self) {
        for action in self.lock().iter_mut() {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigAction { handler, ..SigAction::default() };
        }
    }

    /// `CLONE_CLEAR_SIGHAND`: handlers go to the default, the ignored stay.
    #[must_use]
    pub fn cleared_copy(&self) -> Arc<Self> {
        let copy = self.copy();
        copy.reset_handlers();
        copy
    }

    /// What the signal comes to now.
    #[must_use]
    pub fn disposition(&self, signal: Signal) -> Disposition {
        match self.get(signal).handler {
            SIG_DFL => Disposition::Default(signal.default_action()),
            SIG_IGN => Disposition::Ignored,
            _ => Disposition::Handler,
        }
    }

    /// Nothing would happen if it were delivered.
    #[must_use]
    pub fn ignores(&self, signal: Signal) -> bool {
        matches!(
            self.disposition(signal),
            Disposition::Ignored | Disposition::Default(DefaultAction::Ignore | DefaultAction::Continue)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_keeps_ignored_signals_ignored() {
        let actions = Actions::default();
        actions.set(Signal::INT, SigAction { handler: SIG_IGN, ..SigAction::default() });
        actions.set(Signal::TERM, SigAction { handler: 0x1000, ..SigAction::default() });
        actions.reset_handlers();
        assert_eq!(actions.disposition(Signal::INT), Disposition::Ignored);
        assert_eq!(actions.disposition(Signal::TERM), Disposition::Default(DefaultAction::Terminate));
    }

    #[test]
    fn sigchld_is_ignored_by_default() {
        assert!(Actions::default().ignores(Signal::CHLD));
        assert!(!Actions::default().ignores(Signal::TERM));
    }
}
