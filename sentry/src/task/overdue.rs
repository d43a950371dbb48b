//! What if a process that was told to end does not? Then its memory is killed, and with it whatever its threads do.
//!
//! Key type: [`Overdue`]. A thread is told to end by an interrupt of its stub's, and guest code can make itself deaf to it: it can
//! block the host's signals, or keep its thread from finishing an order. Its sentry thread would wait for it for ever.

use std::sync::{Arc, Weak};

use platform::host::clock::{Clock, now_ns};

use super::Process;
use crate::time::{Armed, Expire};

/// How long the threads of a process may take to end, and how long until one that could not be helped is looked at again. Longer than
/// whatever a busy machine takes: who is killed so leaves its robust locks as they are.
const PATIENCE_NS: u64 = 4_000_000_000;

/// Who tells a process to end?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// A thread of its own, which is in the kernel and ends next.
    ByItself,
    /// Anybody else.
    ByOthers,
}

/// Looks after a process that is to end, as long as it is kept.
pub(super) struct Overdue {
    _watch: Arc<Watch>,
    _armed: Armed,
}

struct Watch {
    process: Weak<Process>,
}

impl Overdue {
    /// The process has been told to end now.
    pub(super) fn arm(process: &Arc<Process>) -> Self {
        let watch = Arc::new(Watch { process: Arc::downgrade(process) });
        let receiver: Weak<dyn Expire> = Arc::<Watch>::downgrade(&watch);
        let deadline = now_ns(Clock::Monotonic) + PATIENCE_NS;
        Self { _armed: process.kernel.timers.arm(deadline, receiver), _watch: watch }
    }
}

impl Expire for Watch {
    fn expire(&self, now_ns: u64) -> Option<u64> {
        let process = self.process.upgrade().filter(|process| !process.is_zombie())?;
        if let Some(mm) = process.mm() {
            let uses_it = |other: &Arc<Process>| other.mm().is_some_and(|theirs| Arc::ptr_eq(&theirs, &mm));
            let all = process.kernel.tasks.all();
            // Memory that is lent (vfork) is its owner's as well.
            if all.iter().filter(|other| uses_it(other)).all(|other| other.is_ending()) {
                mm.space().kill();
            }
        }
        Some(now_ns + PATIENCE_NS)
    }
}
