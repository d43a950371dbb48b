//! How do other threads stop a guest thread, or see what it does?
//!
//! Key type: [`Handle`].

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crate::api::Interrupter;
use crate::sys;

/// How other threads stop a guest thread.
#[derive(Debug, Default)]
pub struct Handle {
    pub(super) wanted: AtomicBool,
    pub(super) in_guest: AtomicBool,
    pub(super) process: AtomicI32,
    pub(super) thread: AtomicI32,
}

impl Handle {
    pub(super) fn signal(&self) {
        // A thread that has just ended needs no interrupt.
        let _ = sys::tgkill(
            self.process.load(Ordering::Acquire),
            self.thread.load(Ordering::Acquire),
            libc::SIGURG,
        );
    }
}

impl Interrupter for Handle {
    fn interrupt(&self) {
        // Pairs with `run`: either this sees `in_guest`, or `run` sees `wanted`.
        self.wanted.store(true, Ordering::SeqCst);
        if self.in_guest.load(Ordering::SeqCst) {
            self.signal();
        }
    }

    fn is_idle_in_guest(&self) -> bool {
        /// Long enough for the clock of a thread that runs to show it.
        const LOOK: std::time::Duration = std::time::Duration::from_micros(20);
        if !self.in_guest.load(Ordering::SeqCst) {
            return false;
        }
        let tid = self.thread.load(Ordering::Acquire);
        let before = sys::thread_cpu_ns(tid);
        std::thread::sleep(LOOK);
        before == sys::thread_cpu_ns(tid) && self.in_guest.load(Ordering::SeqCst)
    }
}
