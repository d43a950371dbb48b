//! What has a task used of the processors, besides its guest thread?
//!
//! Key type: [`Account`]. The kernel's part of a task's work is done by its sentry thread, whose clock the host keeps: it is the task's
//! system time. The guest thread's clock is its user time, with what the host itself does for it (page faults, waits for futexes).

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use platform::Interrupter;
use platform::host::clock::{Clock, now_ns, own_thread, thread_cpu_ns};

use super::{Current, Task};

/// What a task has used.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Its sentry thread; 0: none yet, or none any more.
    thread: AtomicI32,
    /// What that thread had used before it served this task.
    base_ns: AtomicU64,
    /// How often it has slept in the kernel.
    sleeps: AtomicU64,
}

impl Task {
    /// The calling thread serves the task from now on.
    pub(super) fn open_account(&self) {
        self.account.base_ns.store(now_ns(Clock::SentryThread), Ordering::Relaxed);
        self.account.thread.store(own_thread(), Ordering::Release);
    }

    /// The task has ended: answers what it has used, once.
    pub(super) fn close_account(&self) -> u64 {
        let used = self.system_ns();
        self.account.thread.store(0, Ordering::Release);
        used
    }

    /// Its guest thread is another one now: what was watched for the old one stays nobody's.
    pub(super) fn carry_watched(
        &self,
        old: Option<&Arc<dyn Interrupter>>,
        new: Option<&Arc<dyn Interrupter>>,
    ) {
        let is_same = matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
        if let Some(old) = old.filter(|_| !is_same) {
            self.account.base_ns.fetch_add(old.watched_ns(), Ordering::Relaxed);
        }
    }

    /// CPU time in the kernel, in nanoseconds; what its sentry thread spends watching for the next call is nobody's.
    #[must_use]
    pub fn system_ns(&self) -> u64 {
        let thread = self.account.thread.load(Ordering::Acquire);
        if thread == 0 {
            return 0;
        }
        let watched = self.interrupter().map_or(0, |interrupter| interrupter.watched_ns());
        let base = self.account.base_ns.load(Ordering::Relaxed).saturating_add(watched);
        thread_cpu_ns(thread).saturating_sub(base)
    }

    /// How often it has given a processor up to wait in the kernel. Waits that the host serves (futexes) are not counted.
    #[must_use]
    pub fn voluntary_switches(&self) -> u64 {
        self.account.sleeps.load(Ordering::Relaxed)
    }
}

impl Current {
    /// The task is about to sleep.
    pub(super) fn count_sleep(&self) {
        self.task().account.sleeps.fetch_add(1, Ordering::Relaxed);
    }
}
