//! How does one wait for a priority-inheriting futex (`FUTEX_LOCK_PI` and kin)? LINUX: `kernel/futex/pi.c`, `futex(2)`.
//!
//! Key types: [`PiLocks`] (one sandbox's), [`Room`] (one futex that somebody waits for). Nobody's priority is raised: the host does not
//! know which of its threads a guest's number means.
//!
//! The word belongs to user space as long as its waiters' bit is clear. A caller first sets that bit, by an atomic operation of the
//! host's on the guest's own thread; from then on each change goes through the kernel, one at a time, under the lock of the room, and
//! can be a plain write. INVARIANT: such a write changes the waiters' bit with its last byte (the host copies upwards), so that
//! user space never sees the word free before it is whole.
//!
//! A waiter is told, by its place in the room: the lock is yours (the word says so already), or its owner has died (it takes over
//! by itself, on its own thread).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux_abi::{Errno, UserPtr};
use platform::ThreadCall;

use super::{Current, Task, WaitEnd};
use crate::mm::SharedPlace;
use crate::sync::{Events, WaitQueue};

/// LINUX: `linux/futex.h`.
const WAITERS: u32 = 1 << 31;
const OWNER_DIED: u32 = 1 << 30;
const TID_MASK: u32 = 0x3fff_ffff;

/// Which futex: the memory and the address, or what others see it in, too.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Private { memory: usize, addr: u64 },
    Shared(SharedPlace),
}

/// The futexes that somebody waits for: as many as there are tasks at most.
#[derive(Default)]
pub struct PiLocks {
    /// LOCK: before a room's; nothing else is taken under it.
    rooms: Mutex<HashMap<Key, Arc<Mutex<Room>>>>,
}

/// LOCK: held while the word is changed, which the caller's own stub thread does.
#[derive(Default)]
struct Room {
    /// Who held the lock when somebody last began to wait.
    owner: Option<Arc<Task>>,
    waiters: VecDeque<Arc<Waiter>>,
}

struct Waiter {
    task: Arc<Task>,
    news: AtomicU8,
    queue: WaitQueue,
}

/// Values of [`Waiter::news`].
const NONE: u8 = 0;
const YOURS: u8 = 1;
const OWNER_IS_DEAD: u8 = 2;

impl Waiter {
    fn tell(&self, news: u8) {
        self.news.store(news, Ordering::Release);
        self.queue.wake(Events::READABLE);
    }

    fn news(&self) -> Option<u8> {
        Some(self.news.load(Ordering::Acquire)).filter(|&news| news != NONE)
    }
}

/// Whether a lock that is taken is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PiWait {
    /// `FUTEX_TRYLOCK_PI`.
    No,
    /// Until this time on the monotonic clock, in nanoseconds; `None`: for ever.
    Until(Option<u64>),
}

/// What a look at the word has led to.
enum Step {
    Taken,
    Wait(Arc<Waiter>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PiLocks {
    fn room(&self, key: &Key) -> Arc<Mutex<Room>> {
        Arc::clone(lock(&self.rooms).entry(key.clone()).or_default())
    }

    /// Forgets a room that nobody waits in or looks at.
    fn leave(&self, key: &Key, room: Arc<Mutex<Room>>) {
        let mut rooms = lock(&self.rooms);
        drop(room);
        // Only the table has it: nobody can come in while the table is locked.
        let is_empty =
            |room: &Arc<Mutex<Room>>| Arc::strong_count(room) == 1 && lock(room).waiters.is_empty();
        if rooms.get(key).is_some_and(is_empty) {
            rooms.remove(key);
        }
    }

    /// A task has ended, and can be found by its number no more: the first waiter for each lock that it held takes over.
    pub(super) fn owner_ended(&self, task: &Arc<Task>) {
        let rooms: Vec<_> = {
            let rooms = lock(&self.rooms);
            if rooms.is_empty() {
                return;
            }
            rooms.values().cloned().collect()
        };
        for room in rooms {
            let mut room = lock(&room);
            if room.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, task)) {
                room.owner = None;
                if let Some(first) = room.waiters.pop_front() {
                    first.tell(OWNER_IS_DEAD);
                }
            }
        }
    }
}

impl Current {
    /// `FUTEX_LOCK_PI`, `FUTEX_LOCK_PI2`, `FUTEX_TRYLOCK_PI`.
    ///
    /// # Errors
    /// EDEADLK, ESRCH, EAGAIN (trying only), ETIMEDOUT, EFAULT, EINVAL as the man page; ERESTARTNOINTR for a signal.
    pub fn lock_inheriting(&mut self, addr: u64, wait: PiWait) -> Result<(), Errno> {
        let key = self.pi_key(addr)?;
        let locks = Arc::clone(&self.kernel().pi_locks);
        let room = locks.room(&key);
        let result = self.lock_in(&room, addr, wait);
        locks.leave(&key, room);
        result
    }

    fn lock_in(&mut self, room: &Mutex<Room>, addr: u64, wait: PiWait) -> Result<(), Errno> {
        let mut takes_over = false;
        loop {
            let waiter = match self.look(room, addr, wait, takes_over)? {
                Step::Taken => return Ok(()),
                Step::Wait(waiter) => waiter,
            };
            let PiWait::Until(deadline) = wait else { return Err(Errno::EAGAIN) };
            let queues = [(&waiter.queue, Events::READABLE)];
            let news = self.wait(&queues, deadline, |_| waiter.news()).or_else(|end| {
                let mut room = lock(room);
                room.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                // It may have been told just now.
                waiter.news().ok_or(end)
            });
            match news {
                Ok(OWNER_IS_DEAD) => takes_over = true,
                Ok(_) => return Ok(()),
                Err(WaitEnd::Interrupted) => return Err(Errno::ERESTARTNOINTR),
                Err(WaitEnd::TimedOut) => return Err(Errno::ETIMEDOUT),
            }
        }
    }

    /// Takes the lock if it is free, or joins those who wait.
    fn look(&mut self, room: &Mutex<Room>, addr: u64, wait: PiWait, takes_over: bool) -> Result<Step, Errno> {
        let mut room = lock(room);
        let word = self.hold_word(addr)?;
        let owner = word & TID_MASK;
        if owner == self.task().tid().cast_unsigned() {
            return Err(Errno::EDEADLK);
        }
        let holder = i32::try_from(owner).ok().and_then(|tid| self.process().namespace.task(tid));
        if owner == 0 || (takes_over && holder.is_none()) {
            let died = if owner == 0 { word & OWNER_DIED } else { OWNER_DIED };
            let more = if room.waiters.is_empty() { 0 } else { WAITERS };
            self.write_word(addr, self.task().tid().cast_unsigned() | died | more)?;
            room.owner = Some(Arc::clone(self.task()));
            return Ok(Step::Taken);
        }
        let holder = holder.ok_or(Errno::ESRCH)?;
        if wait == PiWait::No {
            return Err(Errno::EAGAIN);
        }
        let task = Arc::clone(self.task());
        let waiter = Arc::new(Waiter { task, news: AtomicU8::new(NONE), queue: WaitQueue::new() });
        // One whose owner ends from here on is told: `owner_ended` waits for the room.
        room.owner = Some(holder);
        if i32::try_from(owner).ok().and_then(|tid| self.process().namespace.task(tid)).is_none() {
            waiter.tell(OWNER_IS_DEAD);
        } else {
            room.waiters.push_back(Arc::clone(&waiter));
        }
        Ok(Step::Wait(waiter))
    }

    /// `FUTEX_UNLOCK_PI`: the one that has waited longest gets the lock.
    ///
    /// # Errors
    /// EPERM if the lock is not the caller's; EFAULT, EINVAL.
    pub fn unlock_inheriting(&mut self, addr: u64) -> Result<(), Errno> {
        let key = self.pi_key(addr)?;
        let locks = Arc::clone(&self.kernel().pi_locks);
        let room = locks.room(&key);
        let result = self.unlock_in(&room, addr);
        locks.leave(&key, room);
        result
    }

    fn unlock_in(&mut self, room: &Mutex<Room>, addr: u64) -> Result<(), Errno> {
        let mut room = lock(room);
        let word: u32 = self.read_object(UserPtr::new(addr))?;
        if word & TID_MASK != self.task().tid().cast_unsigned() {
            return Err(Errno::EPERM);
        }
        if word & WAITERS == 0 {
            self.hold_word(addr)?;
        }
        let Some(next) = room.waiters.front().cloned() else { return self.write_word(addr, 0) };
        let more = if room.waiters.len() > 1 { WAITERS } else { 0 };
        self.write_word(addr, next.task.tid().cast_unsigned() | more)?;
        room.waiters.pop_front();
        room.owner = Some(Arc::clone(&next.task));
        next.tell(YOURS);
        Ok(())
    }

    /// Sets the waiters' bit: user space leaves the word alone now. Answers the word.
    fn hold_word(&mut self, addr: u64) -> Result<u32, Errno> {
        self.context_mut().thread_call(ThreadCall::FutexOr { addr, bit: WAITERS.trailing_zeros() })?;
        self.read_object(UserPtr::new(addr))
    }

    fn write_word(&self, addr: u64, word: u32) -> Result<(), Errno> {
        if self.mm().write(addr, &word.to_ne_bytes()) == 4 { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn pi_key(&self, addr: u64) -> Result<Key, Errno> {
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let mm = self.task().mm().ok_or(Errno::EFAULT)?;
        Ok(match mm.shared_place(addr)? {
            Some(place) => Key::Shared(place),
            None => Key::Private { memory: Arc::as_ptr(&mm).addr(), addr },
        })
    }
}
