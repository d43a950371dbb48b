//! How do other threads stop a guest thread, or see what it does?
//!
//! Key type: [`Handle`].

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::space::Space;
use crate::api::Interrupter;
use crate::stub::arena::Window;
use crate::stub::layout::{RW, ro, rw};
use crate::sys;

/// How other threads stop a guest thread.
pub struct Handle {
    space: Weak<Space>,
    pub(super) wanted: AtomicBool,
    pub(super) in_guest: AtomicBool,
    pub(super) process: AtomicI32,
    pub(super) thread: AtomicI32,
    /// What the host thread had used before it became this one.
    pub(super) cpu_base_ns: AtomicU64,
    /// See [`Interrupter::watched_ns`].
    pub(super) watched_ns: AtomicU64,
    /// The thread's pages, if the guest changes its signal mask itself.
    mask: Option<Arc<Window>>,
}

impl Handle {
    /// Of a thread that has not begun.
    #[must_use]
    pub const fn new(space: Weak<Space>, mask: Option<Arc<Window>>) -> Self {
        Self {
            space,
            mask,
            wanted: AtomicBool::new(false),
            in_guest: AtomicBool::new(false),
            process: AtomicI32::new(0),
            thread: AtomicI32::new(0),
            cpu_base_ns: AtomicU64::new(0),
            watched_ns: AtomicU64::new(0),
        }
    }

    /// Of a host thread that has been another guest thread before, and has used `cpu_ns` as that.
    pub(super) fn again(old: &Self, space: &Arc<Space>, thread: i32, cpu_ns: u64) -> Self {
        let handle = Self::new(Arc::downgrade(space), old.mask.clone());
        handle.process.store(space.process().pid, Ordering::Release);
        handle.thread.store(thread, Ordering::Release);
        handle.cpu_base_ns.store(cpu_ns, Ordering::Relaxed);
        handle
    }

    /// CPU time of the host thread, whatever it has been.
    pub(super) fn host_cpu_ns(&self) -> u64 {
        let thread = self.thread.load(Ordering::Acquire);
        self.space.upgrade().map_or(0, |space| space.thread_cpu_ns(thread))
    }

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

    fn blocked(&self) -> Option<u64> {
        self.mask.as_ref().map(|window| window.long(RW + rw::BLOCKED).load(Ordering::SeqCst))
    }

    fn set_blocked(&self, mask: u64) {
        if let Some(window) = &self.mask {
            window.long(RW + rw::BLOCKED).store(mask, Ordering::SeqCst);
        }
    }

    fn set_signals_wait(&self, waits: bool) {
        if let Some(window) = &self.mask {
            window.word(ro::SIGNALS_WAIT).store(u32::from(waits), Ordering::SeqCst);
        }
    }

    fn cpu_time_ns(&self) -> u64 {
        self.host_cpu_ns().saturating_sub(self.cpu_base_ns.load(Ordering::Relaxed))
    }

    fn set_affinity(&self, mask: &[u64]) {
        let thread = self.thread.load(Ordering::Acquire);
        if thread != 0 {
            // A thread that has just ended needs no processor.
            let _ = sys::set_affinity(thread, mask);
        }
    }

    fn watched_ns(&self) -> u64 {
        self.watched_ns.load(Ordering::Relaxed)
    }

    fn is_idle_in_guest(&self) -> bool {
        /// Long enough for the clock of a thread that runs to show it.
        const LOOK: std::time::Duration = std::time::Duration::from_micros(20);
        if !self.in_guest.load(Ordering::SeqCst) {
            return false;
        }
        let before = self.cpu_time_ns();
        std::thread::sleep(LOOK);
        before == self.cpu_time_ns() && self.in_guest.load(Ordering::SeqCst)
    }
}
