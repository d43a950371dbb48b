//! Pipes and fifos, `pipe(7)`.
//!
//! Key types: [`Pipe`] (what both ends share), [`End`] (an open file of it), [`Fifos`] (opens fifos).
//! SIGPIPE is the system call layer's: a write answers EPIPE.

mod ring;

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linux_abi::UserPtr;

use self::ring::{PAGE, Ring};
use super::anon;
use crate::Errno;
use crate::io::{Sink, Source};
use crate::sync::{Events, WaitQueue};
use crate::task::{Current, Task};
use crate::vfs::{FifoDriver, FifoSlot, FileOps, Location, Op, OpenFile};

/// Writes up to this long are not interleaved with others. LINUX: `PIPE_BUF`.
pub const PIPE_BUF: usize = 4096;
/// Capacity of a new pipe. LINUX: 16 pages.
pub const DEFAULT_CAPACITY: usize = 16 * 4096;
/// Largest capacity. LINUX: `/proc/sys/fs/pipe-max-size`, EPERM above; here for the privileged, too.
pub const MAX_CAPACITY: usize = 1 << 20;
/// Capacity of all pipes of the sandbox together beyond which new ones get [`SMALL_CAPACITY`].
/// LINUX: `pipe-user-pages-soft`.
const SOFT_TOTAL: usize = 64 << 20;
/// Capacity of new pipes beyond [`SOFT_TOTAL`]. LINUX: `PIPE_MIN_DEF_BUFFERS`.
const SMALL_CAPACITY: usize = 2 * 4096;

const O_ACCMODE: u32 = 3;
const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
const O_NONBLOCK: u32 = 0o4000;
const O_DIRECT: u32 = 0o40_000;
const FIONREAD: u32 = 0x541b;

/// Sum of the capacities of all pipes.
static TOTAL_CAPACITY: AtomicUsize = AtomicUsize::new(0);

/// What both ends share.
pub struct Pipe {
    /// LOCK: leaf but for guest memory, which is copied under it, as Linux does.
    inner: Mutex<Inner>,
    queue: WaitQueue,
}

struct Inner {
    ring: Ring,
    capacity: usize,
    readers: u32,
    writers: u32,
    /// How many reading ends have ever been opened; a fifo's opener waits for it to grow.
    reader_opens: u64,
    writer_opens: u64,
    /// Made by `pipe(2)`: an open through /proc never waits for the other side. LINUX: `is_pipe` in `fifo_open`.
    is_nameless: bool,
}

/// An open end of a pipe; a fifo opened `O_RDWR` is both.
pub struct End {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// `writer_opens` when this end was opened without any writer there: no hang-up until one has come and gone.
    unmet_writers: Option<u64>,
    /// `reader_opens`, likewise.
    unmet_readers: Option<u64>,
}

impl Default for Inner {
    fn default() -> Self {
        let wanted = TOTAL_CAPACITY.fetch_add(DEFAULT_CAPACITY, Ordering::Relaxed) + DEFAULT_CAPACITY;
        let mut capacity = DEFAULT_CAPACITY;
        if wanted > SOFT_TOTAL {
            capacity = SMALL_CAPACITY;
            TOTAL_CAPACITY.fetch_sub(DEFAULT_CAPACITY - SMALL_CAPACITY, Ordering::Relaxed);
        }
        Self {
            ring: Ring::default(),
            capacity,
            readers: 0,
            writers: 0,
            reader_opens: 0,
            writer_opens: 0,
            is_nameless: false,
        }
    }
}

impl Inner {
    /// No page is free. LINUX: `pipe_full`.
    fn is_full(&self) -> bool {
        self.ring.pages() >= self.capacity / PAGE
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        TOTAL_CAPACITY.fetch_sub(self.capacity, Ordering::Relaxed);
    }
}

/// `pipe2(2)`: reading end, writing end. `flags`: `O_NONBLOCK`, `O_DIRECT`.
#[must_use]
pub fn new_pair(task: &Arc<Task>, flags: u32) -> (Arc<OpenFile>, Arc<OpenFile>) {
    let pipe = Pipe::new();
    let (read_end, write_end) = pipe.ends();
    let location = anon::pipe_location(task, &pipe);
    let kept = flags & (O_NONBLOCK | O_DIRECT);
    let reader = OpenFile::new(read_end, location.clone(), kept);
    (reader, OpenFile::new(write_end, location, kept | O_WRONLY))
}

/// The end of a pipe or fifo behind an open file, if it is one.
#[must_use]
pub fn end_of(file: &OpenFile) -> Option<&End> {
    file.ops.as_any().downcast_ref::<End>()
}

impl Pipe {
    /// A pipe that nobody has opened yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), queue: WaitQueue::new() })
    }

    /// A reading and a writing end at once, so that neither finds the other missing.
    #[must_use]
    pub fn ends(self: &Arc<Self>) -> (Arc<End>, Arc<End>) {
        self.lock().is_nameless = true;
        (self.open_end(true, false), self.open_end(false, true))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an end by access mode, as `open(2)` of a fifo does before it waits for the other side.
    ///
    /// # Errors
    /// ENXIO for `O_WRONLY | O_NONBLOCK` without a reader; EINVAL for access mode 3.
    pub fn open(self: &Arc<Self>, flags: u32) -> Result<Arc<End>, Errno> {
        let must_meet = |inner: &Inner| !inner.is_nameless && inner.readers == 0;
        match flags & O_ACCMODE {
            0 => Ok(self.open_end(true, false)),
            O_WRONLY if flags & O_NONBLOCK != 0 && must_meet(&self.lock()) => Err(Errno::ENXIO),
            O_WRONLY => Ok(self.open_end(false, true)),
            O_RDWR => Ok(self.open_end(true, true)),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open_end(self: &Arc<Self>, reads: bool, writes: bool) -> Arc<End> {
        let mut inner = self.lock();
        if reads {
            inner.readers += 1;
            inner.reader_opens += 1;
        }
        if writes {
            inner.writers += 1;
            inner.writer_opens += 1;
        }
        let waits = !inner.is_nameless;
        let unmet_writers = (waits && inner.writers == 0).then_some(inner.writer_opens);
        let unmet_readers = (waits && inner.readers == 0).then_some(inner.reader_opens);
        drop(inner);
        self.queue.wake(Events::all());
        Arc::new(End { pipe: Arc::clone(self), reads, writes, unmet_writers, unmet_readers })
    }

    fn read(&self, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let wanted = sink.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let mut inner = self.lock();
        if inner.ring.len() == 0 {
            return if inner.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let was_full = inner.is_full();
        let n = inner.ring.drain(sink, wanted)?;
        let has_room_again = was_full && !inner.is_full();
        drop(inner);
        // LINUX: pipe_read: that there is more room than before is news to nobody.
        if has_room_again {
            self.queue.wake_one(Events::WRITABLE);
        }
        Ok(n)
    }

    fn write(&self, source: &mut dyn Source, is_packet: bool) -> Result<usize, Errno> {
        let wanted = source.remaining();
        let mut inner = self.lock();
        if inner.readers == 0 {
            return Err(Errno::EPIPE);
        }
        if wanted == 0 {
            return Ok(0);
        }
        let room = inner.ring.room(wanted, inner.capacity / PAGE, is_packet);
        if room == 0 {
            drop(inner);
            // LINUX: pipe_write: who polls is told by each write, of one that found no room, too.
            self.queue.wake_one(Events::READABLE);
            return Err(Errno::EAGAIN);
        }
        let mut done = 0;
        while done < room {
            let step = if is_packet { (room - done).min(PIPE_BUF) } else { room - done };
            match inner.ring.fill(source, step, is_packet) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        drop(inner);
        self.queue.wake_one(Events::READABLE);
        Ok(done)
    }
}

impl End {
    /// What this is an end of.
    #[must_use]
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// It reads.
    #[must_use]
    pub fn is_reader(&self) -> bool {
        self.reads
    }

    /// It writes.
    #[must_use]
    pub fn is_writer(&self) -> bool {
        self.writes
    }

    /// `F_GETPIPE_SZ`.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pipe.lock().capacity
    }

    /// `F_SETPIPE_SZ`; answers what it became.
    ///
    /// # Errors
    /// EINVAL for no size at all; EPERM above [`MAX_CAPACITY`]; EBUSY if more than that is in the pipe.
    pub fn set_capacity(&self, wanted: u32) -> Result<usize, Errno> {
        if wanted > 1 << 31 || wanted == 0 {
            return Err(Errno::EINVAL);
        }
        let capacity = (wanted as usize).next_power_of_two().max(4096);
        let mut inner = self.pipe.lock();
        if capacity > MAX_CAPACITY {
            return Err(Errno::EPERM);
        }
        if capacity / PAGE < inner.ring.pages() {
            return Err(Errno::EBUSY);
        }
        TOTAL_CAPACITY.fetch_add(capacity, Ordering::Relaxed);
        TOTAL_CAPACITY.fetch_sub(inner.capacity, Ordering::Relaxed);
        inner.capacity = capacity;
        drop(inner);
        self.pipe.queue.wake(Events::WRITABLE);
        Ok(capacity)
    }

    /// `FIONREAD`: bytes in the pipe.
    #[must_use]
    pub fn available(&self) -> usize {
        self.pipe.lock().ring.len()
    }

    /// How many bytes a write may put now.
    #[must_use]
    pub fn room(&self) -> usize {
        let inner = self.pipe.lock();
        inner.ring.room(inner.capacity, inner.capacity / PAGE, false)
    }

    /// Gives up to `limit` bytes to `take`, which says how many it could use; only those leave the pipe (`splice`).
    /// `take` runs under the pipe's lock and must not touch this pipe.
    ///
    /// # Errors
    /// EAGAIN if there is nothing but there are writers; `take`'s.
    pub fn drain_with(
        &self,
        limit: usize,
        take: impl FnOnce(&[u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut inner = self.pipe.lock();
        if inner.ring.len() == 0 {
            return if inner.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let bytes = inner.ring.peek(limit);
        let n = take(&bytes)?.min(bytes.len());
        let pages = inner.ring.pages();
        inner.ring.consume(n);
        let is_freed = inner.ring.pages() < pages;
        drop(inner);
        if is_freed {
            self.pipe.queue.wake(Events::WRITABLE);
        }
        Ok(n)
    }

    /// Who takes bytes out has to wait for a writer.
    #[must_use]
    pub fn awaits_bytes(&self) -> bool {
        let inner = self.pipe.lock();
        inner.ring.len() == 0 && inner.writers > 0
    }

    /// Puts bytes in as pages of their own, which nothing else goes into (`splice` from a file).
    ///
    /// # Errors
    /// As a write's.
    pub fn put_pages(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let is_full = {
            let mut inner = self.pipe.lock();
            inner.ring.seal();
            inner.is_full()
        };
        if is_full && !self.readiness().contains(Events::ERR) {
            return Err(Errno::EAGAIN);
        }
        let n = self.pipe.write(&mut &*bytes, false)?;
        self.pipe.lock().ring.seal();
        Ok(n)
    }

    /// `tee(2)`, or with `consume` `splice(2)` between pipes.
    ///
    /// # Errors
    /// EINVAL for one and the same pipe; EPIPE; EAGAIN.
    pub fn copy_to(&self, to: &End, limit: usize, consume: bool) -> Result<usize, Errno> {
        if Arc::ptr_eq(&self.pipe, &to.pipe) {
            return Err(Errno::EINVAL);
        }
        // LOCK: two pipes are locked by address.
        let from_first = Arc::as_ptr(&self.pipe) < Arc::as_ptr(&to.pipe);
        let (mut from, mut into);
        if from_first {
            from = self.pipe.lock();
            into = to.pipe.lock();
        } else {
            into = to.pipe.lock();
            from = self.pipe.lock();
        }
        // LINUX: ipipe_prep, opipe_prep, splice_pipe_to_pipe, in this order.
        let is_empty = from.ring.len() == 0;
        if is_empty && from.writers > 0 {
            return Err(Errno::EAGAIN);
        }
        if into.readers == 0 {
            return Err(Errno::EPIPE);
        }
        if into.is_full() {
            return Err(Errno::EAGAIN);
        }
        if is_empty {
            return Ok(0);
        }
        let pages = from.ring.pages();
        let n = from.ring.peek_pages(limit, into.capacity / PAGE - into.ring.pages()).len();
        into.ring.fill_pages(&from.ring, n)?;
        if consume {
            from.ring.consume(n);
        }
        let is_freed = from.ring.pages() < pages;
        drop(from);
        drop(into);
        if is_freed {
            self.pipe.queue.wake(Events::WRITABLE);
        }
        to.pipe.queue.wake(Events::READABLE);
        Ok(n)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut inner = self.pipe.lock();
        inner.readers -= u32::from(self.reads);
        inner.writers -= u32::from(self.writes);
        let is_last = inner.readers == 0 || inner.writers == 0;
        if inner.readers == 0 && inner.writers == 0 {
            // What nobody read is gone when a fifo is opened the next time.
            inner.ring = Ring::default();
        }
        drop(inner);
        if is_last {
            self.pipe.queue.wake(Events::READABLE | Events::WRITABLE | Events::ALWAYS);
        }
    }
}

impl FileOps for End {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        if self.reads { self.pipe.read(sink) } else { Err(Errno::EBADF) }
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        if self.writes { self.pipe.write(source, op.flags & O_DIRECT != 0) } else { Err(Errno::EBADF) }
    }

    fn takes_splice(&self) -> bool {
        true
    }

    fn open_ready(&self) -> Result<(), Errno> {
        let inner = self.pipe.lock();
        // LINUX: fs/pipe.c `wait_for_partner`: one that came and went counts.
        let lacks_writer = self.reads && self.unmet_writers == Some(inner.writer_opens);
        let lacks_reader = self.writes && self.unmet_readers == Some(inner.reader_opens);
        if lacks_writer || lacks_reader { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    fn readiness(&self) -> Events {
        let inner = self.pipe.lock();
        let mut events = Events::empty();
        if self.reads {
            events.set(Events::READABLE, inner.ring.len() > 0);
            events.set(Events::HUP, inner.writers == 0 && self.unmet_writers != Some(inner.writer_opens));
        }
        if self.writes {
            events.set(Events::WRITABLE, !inner.is_full());
            events.set(Events::ERR, inner.readers == 0);
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
    }

    fn concerns(&self) -> Events {
        let mut events = Events::ALWAYS;
        events.set(Events::READABLE | Events::RDHUP, self.reads);
        events.set(Events::WRITABLE, self.writes);
        events
    }

    fn ioctl(&self, current: &mut Current, _: &Arc<OpenFile>, command: u32, arg: u64) -> Result<u64, Errno> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let available = u32::try_from(self.available()).unwrap_or(u32::MAX);
        current.write_object(UserPtr::new(arg), &available).map(|()| 0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens fifos for the virtual file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fifos;

impl FifoDriver for Fifos {
    fn open(
        &self,
        _: &Arc<Task>,
        _: &Location,
        slot: &FifoSlot,
        flags: u32,
    ) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(open_fifo(slot, flags)?)
    }
}

fn open_fifo(slot: &FifoSlot, flags: u32) -> Result<Arc<End>, Errno> {
    let mut slot = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
    let there = slot.as_ref().and_then(Weak::upgrade);
    let pipe = there.and_then(|pipe| pipe.downcast::<Pipe>().ok()).unwrap_or_else(Pipe::new);
    *slot = Some(Arc::downgrade(&pipe) as Weak<dyn Any + Send + Sync>);
    pipe.open(flags)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
