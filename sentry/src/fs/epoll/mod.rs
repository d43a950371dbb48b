//! `epoll(7)`: which of many files are ready?
//!
//! Key types: [`Epoll`] (the instance), [`Item`] (one registered file). An item is a [`Wake`] in its file's wait queue:
//!
//! ```text
//! file.queue.wake ──> Item::wake: not yet listed? list it ──> epoll.queue.wake ──> epoll_wait
//! epoll_wait: take an item off the list -> ask the file -> report; level-triggered ones are listed again
//! ```
//! An item is taken off the list *before* its file is asked, so that a change in between lists it anew.
//!
//! Files that the host keeps are watched by an epoll instance of the host ([`hosted`]), in which the waiting thread sleeps.
//!
//! LOCK order: `items` (also held while the host is told of a file) > file's wait queue > `ready` > the instance's own wait
//! queue. No `Arc<OpenFile>` is dropped under one: its end may take all of them.

mod collect;
mod hosted;
mod queued;
mod watchers;

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use self::hosted::{Hosted, Place};
pub use self::queued::bit;
pub use self::watchers::Watchers;
use platform::host::poller::Poller;

use super::anon;
use crate::Errno;
use crate::account::{self, Charge};
use crate::descriptors::Share;
use crate::sync::{Events, Registration, WaitQueue, Wake};
use crate::task::Task;
use crate::vfs::{Fd, FileOps, OpenFile};

/// Deepest chain of instances that watch each other. LINUX: `EP_MAX_NESTS`, ELOOP above.
const MAX_NESTING: usize = 5;
/// Most files that one instance watches. LINUX: `/proc/sys/fs/epoll/max_user_watches`, ENOSPC above.
const MAX_ITEMS: usize = 1 << 17;

/// What an item costs in the tables of its instance, of its file, and of the file's wait queue.
const ITEM_TABLES: usize = 224;

/// `EPOLLEXCLUSIVE`.
const EXCLUSIVE: u32 = 1 << 28;
/// `EPOLLWAKEUP`: accepted without effect, as by a kernel without suspend.
const WAKEUP: u32 = 1 << 29;
/// `EPOLLONESHOT`.
const ONESHOT: u32 = 1 << 30;
/// `EPOLLET`.
const EDGE: u32 = 1 << 31;
/// All that is not an event.
const MODE_BITS: u32 = EXCLUSIVE | WAKEUP | ONESHOT | EDGE;

/// What the guest wants to know of a file, and the word it gets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// `EPOLL*` bits.
    pub events: u32,
    /// The guest's own.
    pub data: u64,
}

/// An instance as a file; its end ends all registrations.
pub struct Instance(Arc<Epoll>);

/// An instance.
///
/// Items hold it weakly and may drop the last reference under a wait queue's lock, hence it has no `Drop` of its own.
pub struct Epoll {
    me: Weak<Epoll>,
    items: Mutex<HashMap<(Fd, u64), Arc<Item>>>,
    ready: Mutex<VecDeque<Arc<Item>>>,
    /// The items by which other instances watch this one.
    parents: Mutex<Vec<Weak<Item>>>,
    /// It watches, or has watched, other instances.
    has_nested: AtomicBool,
    queue: WaitQueue,
    hosted: Hosted,
}

/// A file as one instance watches it.
pub struct Item {
    me: Weak<Item>,
    epoll: Weak<Epoll>,
    file: Weak<OpenFile>,
    key: (Fd, u64),
    /// `EPOLL*` bits; no event bits at all once a one-shot has fired.
    events: AtomicU32,
    data: AtomicU64,
    /// It is in the instance's `ready` list.
    is_listed: AtomicBool,
    source: Mutex<Option<Source>>,
    _charge: Charge,
}

/// Who tells of a file's readiness.
enum Source {
    /// Its wait queue.
    Queue(Registration),
    /// The host.
    Host(Place),
}

/// Serialises the search for loops with what could make one. LOCK: outermost of this file.
static NESTING: Mutex<()> = Mutex::new(());

/// `epoll_create1(2)`.
#[must_use]
pub fn new(task: &Arc<Task>) -> Arc<OpenFile> {
    const O_RDWR: u32 = 2;
    let share = task.kernel.descriptors.share(&task.process.container);
    let instance = Instance(Epoll::new(Arc::clone(&task.kernel.poller), share));
    anon::open(task, "eventpoll", Arc::new(instance), O_RDWR)
}

/// The instance behind an open file, if it is one.
#[must_use]
pub fn instance_of(file: &OpenFile) -> Option<&Arc<Epoll>> {
    file.ops.as_any().downcast_ref::<Instance>().map(|instance| &instance.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Epoll {
    fn new(poller: Arc<Poller>, share: Arc<Share>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            items: Mutex::default(),
            ready: Mutex::default(),
            parents: Mutex::default(),
            has_nested: AtomicBool::new(false),
            queue: WaitQueue::new(),
            hosted: Hosted::new(poller, share),
        })
    }

    /// Woken when a file may have become ready.
    #[must_use]
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// `EPOLL_CTL_ADD`.
    ///
    /// # Errors
    /// EPERM for a file that is always ready; EINVAL for itself or bad exclusive flags; ELOOP; EEXIST; ENOSPC; ENOMEM; the host's.
    pub fn add(&self, fd: Fd, file: &Arc<OpenFile>, interest: Interest) -> Result<(), Errno> {
        let target = instance_of(file);
        if target.is_some_and(|target| std::ptr::eq(Arc::as_ptr(target), self)) {
            return Err(Errno::EINVAL);
        }
        if interest.events & EXCLUSIVE != 0 && !exclusive_is_valid(interest.events, target.is_some()) {
            return Err(Errno::EINVAL);
        }
        let nesting = target.map(|_| lock(&NESTING));
        if let Some(target) = target
            && (target.depth_below(self, 1)? + self.depth_above(1)? > MAX_NESTING)
        {
            return Err(Errno::ELOOP);
        }
        let item = self.enter(fd, file, interest)?;
        file.watchers.add(&item);
        if file.ops.host_descriptor().is_some() {
            self.interest_changed();
            return Ok(());
        }
        let queue = file.ops.wait_queue().ok_or(Errno::EPERM)?;
        if let Some(target) = target {
            self.has_nested.store(true, Ordering::Release);
            let mut parents = lock(&target.parents);
            parents.retain(|parent| parent.strong_count() > 0);
            parents.push(Arc::downgrade(&item));
        }
        let wake: Arc<dyn Wake> = Arc::clone(&item) as Arc<dyn Wake>;
        let registration = if interest.events & EXCLUSIVE == 0 {
            queue.register(file.ops.concerns(), wake)
        } else {
            queue.register_exclusive(file.ops.concerns(), wake)
        };
        *lock(&item.source) = Some(Source::Queue(registration));
        drop(nesting);
        item.list_if_ready(file);
        Ok(())
    }

    /// A new item, known to the host if the host keeps the file.
    fn enter(&self, fd: Fd, file: &Arc<OpenFile>, interest: Interest) -> Result<Arc<Item>, Errno> {
        let key = (fd, file.id);
        let mut items = lock(&self.items);
        if items.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        if items.len() >= MAX_ITEMS {
            return Err(Errno::ENOSPC);
        }
        let charge = account::charge_for::<Item>(ITEM_TABLES)?;
        let item = Item::new(self, file, key, interest, charge);
        if let Some(host) = file.ops.host_descriptor() {
            let place = self.add_hosted(host, interest)?;
            self.watch_place(&place, host);
            *lock(&item.source) = Some(Source::Host(place));
        } else if file.ops.wait_queue().is_none() {
            return Err(Errno::EPERM);
        }
        items.insert(key, Arc::clone(&item));
        Ok(item)
    }

    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// ENOENT; EINVAL where exclusive waiting is involved.
    pub fn modify(&self, fd: Fd, file: &Arc<OpenFile>, interest: Interest) -> Result<(), Errno> {
        let items = lock(&self.items);
        let item = items.get(&(fd, file.id)).cloned().ok_or(Errno::ENOENT)?;
        if (interest.events | item.events.load(Ordering::Acquire)) & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.data.store(interest.data, Ordering::Release);
        item.events.store(interest.events | Events::ALWAYS.bits(), Ordering::Release);
        if let (Some(Source::Host(place)), Some(host)) = (&*lock(&item.source), file.ops.host_descriptor()) {
            self.hosted.modify(place, host, interest)?;
            self.interest_changed();
            return Ok(());
        }
        drop(items);
        item.list_if_ready(file);
        Ok(())
    }

    /// `EPOLL_CTL_DEL`.
    ///
    /// # Errors
    /// ENOENT.
    pub fn remove(&self, fd: Fd, file: &Arc<OpenFile>) -> Result<(), Errno> {
        let mut items = lock(&self.items);
        let item = items.remove(&(fd, file.id)).ok_or(Errno::ENOENT)?;
        item.unregister(self, file.ops.as_ref());
        drop(items);
        file.watchers.remove(&item);
        lock(&self.ready).retain(|listed| !Arc::ptr_eq(listed, &item));
        Ok(())
    }

    /// How many instances hang below this one, itself included. ELOOP if `forbidden` is among them.
    fn depth_below(&self, forbidden: &Epoll, depth: usize) -> Result<usize, Errno> {
        if std::ptr::eq(self, forbidden) || depth > MAX_NESTING {
            return Err(Errno::ELOOP);
        }
        let files: Vec<_> = lock(&self.items).values().filter_map(|item| item.file.upgrade()).collect();
        let mut deepest = 1;
        for file in &files {
            if let Some(child) = instance_of(file) {
                deepest = deepest.max(1 + child.depth_below(forbidden, depth + 1)?);
            }
        }
        Ok(deepest)
    }

    /// How many instances watch this one, in a row, itself included.
    fn depth_above(&self, depth: usize) -> Result<usize, Errno> {
        if depth > MAX_NESTING {
            return Err(Errno::ELOOP);
        }
        let mut highest = 1;
        let parents: Vec<_> = lock(&self.parents).iter().filter_map(Weak::upgrade).collect();
        for parent in parents.iter().filter_map(|item| item.epoll.upgrade()) {
            highest = highest.max(1 + parent.depth_above(depth + 1)?);
        }
        Ok(highest)
    }
}

/// What `EPOLLEXCLUSIVE` may be combined with. LINUX: `EPOLLEXCLUSIVE_OK_BITS`.
fn exclusive_is_valid(events: u32, is_epoll: bool) -> bool {
    let allowed = Events::IN | Events::OUT | Events::ALWAYS;
    !is_epoll && events & !(allowed.bits() | WAKEUP | EDGE | EXCLUSIVE) == 0
}

impl Item {
    fn new(
        epoll: &Epoll,
        file: &Arc<OpenFile>,
        key: (Fd, u64),
        interest: Interest,
        charge: Charge,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            epoll: epoll.me.clone(),
            file: Arc::downgrade(file),
            key,
            events: AtomicU32::new(interest.events | Events::ALWAYS.bits()),
            data: AtomicU64::new(interest.data),
            is_listed: AtomicBool::new(false),
            source: Mutex::new(None),
            _charge: charge,
        })
    }

    /// What the guest wants to hear of; nothing for a one-shot that has fired.
    fn interest(&self) -> Events {
        Events::from_bits_truncate(self.events.load(Ordering::Acquire) & !MODE_BITS)
    }

    /// Asks the file; a one-shot that is ready is disabled.
    fn take_ready(&self) -> Option<Events> {
        let file = self.file.upgrade()?;
        let interest = self.interest();
        let ready = file.ops.readiness() & interest;
        if ready.is_empty() {
            return None;
        }
        if self.events.load(Ordering::Acquire) & ONESHOT != 0 {
            self.events.fetch_and(MODE_BITS, Ordering::AcqRel);
        }
        Some(ready)
    }

    fn list_if_ready(&self, file: &OpenFile) {
        if file.ops.readiness().intersects(self.interest()) {
            self.list();
        }
    }

    /// Puts the item on the ready list, unless it is there, and wakes who waits for the instance.
    fn list(&self) {
        let (Some(me), Some(epoll)) = (self.me.upgrade(), self.epoll.upgrade()) else { return };
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            lock(&epoll.ready).push_back(me);
        }
        epoll.queue.wake_one(Events::READABLE);
    }

    fn unregister(&self, epoll: &Epoll, ops: &dyn FileOps) {
        let source = lock(&self.source).take();
        match source {
            Some(Source::Queue(registration)) => {
                if let Some(queue) = ops.wait_queue() {
                    queue.unregister(registration);
                }
            }
            Some(Source::Host(place)) => epoll.hosted.remove(&place, ops.host_descriptor()),
            None => {}
        }
    }

    /// The file's last descriptor is gone: so is the item. LINUX: `eventpoll_release`.
    fn file_closed(self: &Arc<Self>, ops: &dyn FileOps) {
        if let Some(epoll) = self.epoll.upgrade() {
            self.unregister(&epoll, ops);
            lock(&epoll.items).remove(&self.key);
            lock(&epoll.ready).retain(|listed| !Arc::ptr_eq(listed, self));
        }
    }
}

impl Wake for Item {
    fn wake(&self, events: Events) {
        if events.intersects(self.interest()) {
            self.list();
        }
    }

    fn is_waiting(&self) -> bool {
        self.epoll.upgrade().is_some_and(|epoll| epoll.queue.has_sleeper())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let items: Vec<_> = lock(&self.0.items).drain().map(|(_, item)| item).collect();
        for item in items {
            if let Some(file) = item.file.upgrade() {
                item.unregister(&self.0, file.ops.as_ref());
                file.watchers.remove(&item);
            }
        }
        lock(&self.0.ready).clear();
    }
}

impl FileOps for Instance {
    fn readiness(&self) -> Events {
        // A snapshot, since asking a nested instance takes its locks.
        let listed: Vec<_> = lock(&self.0.ready).iter().cloned().collect();
        let is_ready = listed.iter().any(|item| {
            let file = item.file.upgrade();
            file.is_some_and(|file| file.ops.readiness().intersects(item.interest()))
        });
        if is_ready || self.0.hosted.is_ready() { Events::READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        self.0.watch_hosted();
        Some(&self.0.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn fdinfo(&self) -> String {
        let items: Vec<_> = lock(&self.0.items).values().cloned().collect();
        let line = |item: &Arc<Item>| {
            let events = item.events.load(Ordering::Relaxed);
            let data = item.data.load(Ordering::Relaxed);
            format!("tfd: {:8} events: {events:8x} data: {data:16x}  pos:0 ino:0 sdev:0\n", item.key.0.0)
        };
        items.iter().map(line).collect()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
