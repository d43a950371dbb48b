//! How other threads stop a guest thread: a signal before which its tracer sees it stop.
//!
//! Key type: [`Handle`]. An interrupt sticks until a `run` has answered it.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use super::space::Space;
use super::tracee::Tracee;
use crate::api::Interrupter;

/// One guest thread, as those who interrupt it see it.
pub struct Handle {
    wanted: AtomicBool,
    in_guest: AtomicBool,
    /// The call that lasts is the host's: the guest does not run.
    in_order: AtomicBool,
    tracee: Tracee,
    space: Weak<Space>,
}

impl Handle {
    /// Of a thread that does not run.
    #[must_use]
    pub const fn new(tracee: Tracee, space: Weak<Space>) -> Self {
        Self {
            wanted: AtomicBool::new(false),
            in_guest: AtomicBool::new(false),
            in_order: AtomicBool::new(false),
            tracee,
            space,
        }
    }

    /// The guest is about to run. `true`: it must not, it is interrupted already.
    #[must_use]
    pub fn enter(&self) -> bool {
        // Pairs with `interrupt`: either that sees `in_guest`, or this sees `wanted`.
        self.in_guest.store(true, Ordering::SeqCst);
        self.take_wanted()
    }

    /// The thread is about to make a call that may last, whose maker looks at [`Handle::is_wanted`] first.
    pub fn enter_order(&self) {
        self.in_order.store(true, Ordering::SeqCst);
        self.in_guest.store(true, Ordering::SeqCst);
    }

    /// The guest does not run any more.
    pub fn leave(&self) {
        self.in_order.store(false, Ordering::SeqCst);
        self.in_guest.store(false, Ordering::SeqCst);
    }

    /// An interrupt has not been answered.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// The same, and it is answered now.
    #[must_use]
    pub fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::SeqCst)
    }
}

impl Interrupter for Handle {
    fn interrupt(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        if self.in_guest.load(Ordering::SeqCst) {
            self.tracee.signal(libc::SIGURG);
        }
    }

    fn set_affinity(&self, mask: &[u64]) {
        // A thread that has just ended needs no processor.
        let _ = crate::sys::set_affinity(self.tracee.thread(), mask);
    }

    fn cpu_time_ns(&self) -> u64 {
        self.space.upgrade().map_or(0, |space| space.thread_cpu_ns(self.tracee.thread()))
    }

    fn is_idle_in_guest(&self) -> bool {
        self.in_order.load(Ordering::SeqCst)
    }
}
