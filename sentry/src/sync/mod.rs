//! Waiting: how a task sleeps until something happens, and who wakes it.
//!
//! Key types: [`WaitQueue`] (things one can wait for own one), [`Wake`] (an entry in queues), [`Events`], [`Parker`] (where a
//! thread sleeps). A task waits through [`crate::task::Current::wait`]; nothing else in the kernel blocks a task.
//! What the host keeps (sockets) has no queue: the thread sleeps on the host's descriptors, and on its parker, at once.
//!
//! ```text
//! sleeper: register with queues -> check the condition -> park -> (woken) check again -> unregister
//! waker:   change the state     -> queue.wake(events)
//! ```
//! Registering before checking makes a lost wake-up impossible.

use std::sync::{Arc, Mutex, PoisonError};

pub use platform::host::parker::{HostPoll, Parker};

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

    /// A wake-up would reach somebody who sleeps: only then has an exclusive one been used up.
    fn is_waiting(&self) -> bool {
        true
    }

    /// It may also be told once the registration has ended: then it is told without the queue's lock.
    fn may_be_late(&self) -> bool {
        false
    }
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

    /// Ends a registration; once this returns, its `wake` is not called any more, unless that may be late.
    pub fn unregister(&self, registration: Registration) {
        self.lock().entries.retain(|entry| entry.key != registration.0);
    }

    /// Wakes all that are interested in one of `events`.
    pub fn wake(&self, events: Events) {
        self.wake_some(events, usize::MAX);
    }

    /// Wakes all that are not exclusive and one that is, and sleeps. LINUX: `__wake_up_common`, where `ep_poll_callback` says whether it
    /// has woken anybody.
    pub fn wake_one(&self, events: Events) {
        self.wake_some(events, 1);
    }

    fn wake_some(&self, events: Events, mut exclusive: usize) {
        // PERF: a thread that is woken under the lock runs at once, and into the lock: four context switches for one.
        let mut late: SmallList<Arc<dyn Wake>> = SmallList::default();
        let inner = self.lock();
        for entry in &inner.entries {
            if !entry.interest.intersects(events) || (entry.exclusive && exclusive == 0) {
                continue;
            }
            exclusive -= usize::from(entry.exclusive && entry.wake.is_waiting());
            if entry.wake.may_be_late() {
                late.push(Arc::clone(&entry.wake));
            } else {
                entry.wake.wake(events);
            }
        }
        drop(inner);
        late.for_each(|wake| wake.wake(events));
    }

    /// Somebody sleeps who has not been woken yet.
    #[must_use]
    pub fn has_sleeper(&self) -> bool {
        self.lock().entries.iter().any(|entry| entry.wake.is_waiting())
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }
}

impl Wake for Parker {
    fn wake(&self, _: Events) {
        self.unpark();
    }

    fn is_waiting(&self) -> bool {
        self.is_asleep()
    }

    /// To be woken for nothing does no harm.
    fn may_be_late(&self) -> bool {
        true
    }
}

/// A list that allocates from the second element on.
struct SmallList<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Default for SmallList<T> {
    fn default() -> Self {
        Self { first: None, rest: Vec::new() }
    }
}

impl<T> SmallList<T> {
    fn push(&mut self, item: T) {
        if self.first.is_none() { self.first = Some(item) } else { self.rest.push(item) }
    }

    fn for_each(self, body: impl FnMut(T)) {
        self.first.into_iter().chain(self.rest).for_each(body);
    }
}
