//! Waiting: how a task sleeps until something happens, and who wakes it.
//!
//! Key types: [`WaitQueue`] (things one can wait for own one), [`Waiter`] (an entry in queues), [`Events`].
//! A task waits through [`crate::task::Current::wait`]; nothing else in the kernel blocks a task.
//!
//! ```text
//! sleeper: register with queues -> check the condition -> park -> (woken) check again -> unregister
//! waker:   change the state     -> queue.wake(events)
//! ```
//! Registering before checking makes a lost wake-up impossible.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

bitflags::bitflags! {
    /// Readiness, as `poll(2)` and `epoll(7)` number it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Events: u32 {
        /// Readable.
        const IN = 0x001;
        /// Urgent data.
        const PRI = 0x002;
        /// Writable.
        const OUT = 0x004;
        /// Error; always reported.
        const ERR = 0x008;
        /// Hung up; always reported.
        const HUP = 0x010;
        /// Bad descriptor (`poll` only).
        const NVAL = 0x020;
        /// Normal data readable.
        const RDNORM = 0x040;
        /// Priority band readable.
        const RDBAND = 0x080;
        /// Normal data writable.
        const WRNORM = 0x100;
        /// Priority band writable.
        const WRBAND = 0x200;
        /// The peer shut down its writing half.
        const RDHUP = 0x2000;
    }
}

impl Events {
    /// Readable in the usual sense.
    pub const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// Writable in the usual sense.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
    /// What is reported whether asked for or not.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP);
}

/// Is told when a queue that it is registered with is woken. Called with no lock held but the queue's own;
/// must not block.
pub trait Wake: Send + Sync {
    /// `events`: what the waker says has happened.
    fn wake(&self, events: Events);
}

/// An entry in a wait queue.
struct Entry {
    key: u64,
    interest: Events,
    exclusive: bool,
    wake: Arc<dyn Wake>,
}

/// Those who wait for one thing.
#[derive(Default)]
pub struct WaitQueue {
    /// LOCK: leaf.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_key: u64,
    entries: Vec<Entry>,
}

impl std::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WaitQueue({})", self.lock().entries.len())
    }
}

/// A registration's name within its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration(u64);

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers; `wake` is called at each wake-up that has one of `interest` or of [`Events::ALWAYS`].
    pub fn register(&self, interest: Events, wake: Arc<dyn Wake>) -> Registration {
        self.insert(interest, false, wake)
    }

    /// As [`WaitQueue::register`], but [`WaitQueue::wake_one`] stops at the first such entry (`EPOLLEXCLUSIVE`, `accept`).
    pub fn register_exclusive(&self, interest: Events, wake: Arc<dyn Wake>) -> Registration {
        self.insert(interest, true, wake)
    }

    fn insert(&self, interest: Events, exclusive: bool, wake: Arc<dyn Wake>) -> Registration {
        let mut inner = self.lock();
        inner.next_key += 1;
        let key = inner.next_key;
        inner.entries.push(Entry { key, interest: interest | Events::ALWAYS, exclusive, wake });
        Registration(key)
    }

    /// Ends a registration; once this returns, its `wake` is not called any more.
    pub fn unregister(&self, registration: Registration) {
        self.lock().entries.retain(|entry| entry.key != registration.0);
    }

    /// Wakes all that are interested in one of `events`.
    pub fn wake(&self, events: Events) {
        for entry in &self.lock().entries {
            if entry.interest.intersects(events) {
                entry.wake.wake(events);
            }
        }
    }

    /// Wakes all that are not exclusive and one that is.
    pub fn wake_one(&self, events: Events) {
        let mut woken = false;
        for entry in &self.lock().entries {
            if entry.interest.intersects(events) && !(entry.exclusive && woken) {
                woken |= entry.exclusive;
                entry.wake.wake(events);
            }
        }
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }
}

/// What a sentry thread sleeps on; may be woken any number of times by anyone.
#[derive(Debug)]
pub struct Parker {
    woken: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Default for Parker {
    fn default() -> Self {
        Self { woken: AtomicBool::new(false), thread: Mutex::new(None) }
    }
}

impl Parker {
    /// Makes the calling thread the one that sleeps here.
    pub fn adopt(&self) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
    }

    /// Sleeps until woken or until `timeout` is over; returns at once if woken since the last sleep.
    pub fn park(&self, timeout: Option<Duration>) {
        if !self.woken.swap(false, Ordering::Acquire) {
            match timeout {
                Some(timeout) => std::thread::park_timeout(timeout),
                None => std::thread::park(),
            }
            self.woken.store(false, Ordering::Release);
        }
    }

    /// Wakes the sleeper, or lets its next sleep end at once.
    pub fn unpark(&self) {
        self.woken.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(thread) = thread {
            thread.unpark();
        }
    }
}

impl Wake for Parker {
    fn wake(&self, _: Events) {
        self.unpark();
    }
}
