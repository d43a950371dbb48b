//! Signals: sending, waiting to be delivered, and delivery (`signal(7)`).
//!
//! Key types: [`Signal`], [`SigSet`], [`Actions`] (what a process does about them), [`Pending`] (those that wait),
//! [`TaskSignals`] (a task's mask, queue and alternate stack).
//!
//! ```text
//! send ──> task's queue or process's queue ──> chosen task is interrupted ──> it takes the signal on its way to the guest
//!            └ ignored: dropped                                                ├ handler: frame on the guest's stack
//!            └ fatal: all threads are told to end at once                      └ default: end, stop, nothing
//! ```

mod action;
mod deliver;
mod frame;
mod mask;
mod queue;
mod send;
mod set;

pub use action::{Actions, Disposition};
pub use deliver::{Flow, Restart, RestartBlock};
pub use queue::{Pending, Queued};
pub use send::{Sender, kill, may_signal};
pub use set::{DefaultAction, SigSet, Signal};

use linux_abi::signal::StackT;
pub use linux_abi::signal::{SigAction, SigInfo};
use mask::Mask;

/// A task's own part of signals. LOCK: after the process's group.
#[derive(Default)]
pub struct TaskSignals {
    mask: Mask,
    /// What was held back before `rt_sigtimedwait` let some through.
    pub(super) real_blocked: Option<SigSet>,
    /// The mask to go back to after `rt_sigsuspend`, `ppoll` and the like.
    pub(super) saved: Option<SigSet>,
    /// Signals for this task only.
    pub(super) pending: Pending,
    /// `sigaltstack(2)`.
    pub(super) stack: StackT,
}

impl TaskSignals {
    /// What a new task inherits: the mask, and the alternate stack if it has memory of its own or is a `vfork` child.
    #[must_use]
    pub fn inherit(&self, keep_stack: bool) -> Self {
        let stack = if keep_stack { self.stack } else { StackT::default() };
        let mask = Mask { own: self.saved.unwrap_or(self.blocked()), shared: None };
        Self { mask, stack, ..Self::default() }
    }
}
