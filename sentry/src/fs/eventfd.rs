//! `eventfd(2)`: a counter that one can wait for.
//!
//! Key type: [`EventFd`].

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use super::anon;
use crate::Errno;
use crate::io::{Sink, Source};
use crate::sync::{Events, WaitQueue};
use crate::task::Task;
use crate::vfs::{FileOps, Op, OpenFile};

/// The counter's largest value; a write that would pass it waits.
const MAX: u64 = u64::MAX - 1;
const O_RDWR: u32 = 2;

/// What a read takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// All of the counter.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// The counter.
#[derive(Debug)]
pub struct EventFd {
    mode: ReadMode,
    /// LOCK: leaf.
    count: Mutex<u64>,
    queue: WaitQueue,
}

/// Makes one; `flags`: `O_NONBLOCK`.
#[must_use]
pub fn new(task: &Arc<Task>, initial: u32, mode: ReadMode, flags: u32) -> Arc<OpenFile> {
    anon::open(task, "eventfd", Arc::new(EventFd::new(initial, mode)), flags | O_RDWR)
}

impl EventFd {
    fn new(initial: u32, mode: ReadMode) -> Self {
        Self { mode, count: Mutex::new(u64::from(initial)), queue: WaitQueue::new() }
    }

    fn count(&self) -> std::sync::MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<u64, Errno> {
        let mut count = self.count();
        let value = match self.mode {
            _ if *count == 0 => return Err(Errno::EAGAIN),
            ReadMode::All => *count,
            ReadMode::One => 1,
        };
        *count -= value;
        drop(count);
        self.queue.wake(Events::WRITABLE);
        Ok(value)
    }

    /// Adds to the counter.
    ///
    /// # Errors
    /// EINVAL for `u64::MAX`; EAGAIN if the counter would overflow.
    pub fn add(&self, value: u64) -> Result<(), Errno> {
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        let mut count = self.count();
        *count = count.checked_add(value).filter(|&sum| sum <= MAX).ok_or(Errno::EAGAIN)?;
        drop(count);
        self.queue.wake_one(Events::READABLE);
        Ok(())
    }
}

impl FileOps for EventFd {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        sink.write(&self.take()?.to_ne_bytes())
    }

    fn write(&self, _: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        if source.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        if source.read(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        self.add(u64::from_ne_bytes(bytes))?;
        Ok(8)
    }

    fn readiness(&self) -> Events {
        let count = *self.count();
        let mut events = Events::empty();
        events.set(Events::READABLE, count > 0);
        events.set(Events::WRITABLE, count < MAX);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn fdinfo(&self) -> String {
        let is_semaphore = u8::from(self.mode == ReadMode::One);
        format!("eventfd-count: {:16x}\neventfd-semaphore: {is_semaphore}\n", *self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_takes_all_and_then_would_wait() {
        let counter = EventFd::new(3, ReadMode::All);
        counter.add(4).unwrap();
        assert_eq!(counter.take(), Ok(7));
        assert_eq!(counter.take(), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_semaphore_gives_ones() {
        let counter = EventFd::new(2, ReadMode::One);
        assert_eq!((counter.take(), counter.take(), counter.take()), (Ok(1), Ok(1), Err(Errno::EAGAIN)));
    }

    #[test]
    fn overflow_would_wait() {
        let counter = EventFd::new(0, ReadMode::All);
        assert_eq!(counter.add(u64::MAX), Err(Errno::EINVAL));
        assert_eq!(counter.add(u64::MAX - 1), Ok(()));
        assert_eq!(counter.readiness(), Events::READABLE);
        assert_eq!(counter.add(1), Err(Errno::EAGAIN));
    }
}
