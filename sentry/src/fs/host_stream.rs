//! A pipe, terminal, file or device of the host as an open file: the standard streams of a container's processes.
//!
//! Key type: [`HostStream`]. The host's open file may be shared with others (the user's shell), so its flags are left
//! alone: readiness is asked before each read, and writes are no longer than what a ready pipe takes without waiting.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};

use platform::host::file;
use platform::host::poller::{self, Poller, Ready, Watch};

use crate::Errno;
use crate::io::{Sink, Source};
use crate::sync::{Events, WaitQueue};
use crate::vfs::{FileOps, Op};

/// What a pipe that is ready for writing takes without waiting. LINUX: `PIPE_BUF`.
const WRITE_STEP: usize = 4096;
/// Most bytes of one read.
const READ_MAX: usize = 64 << 10;

/// A stream of the host.
pub struct HostStream {
    fd: OwnedFd,
    queue: WaitQueue,
    /// Unset for what is always ready (files, `/dev/null`).
    watch: OnceLock<Watch>,
}

/// Passes the poller's news on; holds the stream weakly, since the stream holds the watch.
struct Receiver(Weak<HostStream>);

impl Ready for Receiver {
    fn ready(&self, events: u32) {
        if let Some(stream) = self.0.upgrade() {
            stream.queue.wake(Events::from_bits_truncate(events));
        }
    }
}

/// Keeps a receiver as long as its stream.
pub struct Stream {
    stream: Arc<HostStream>,
    _receiver: Arc<dyn Ready>,
}

impl Stream {
    /// Wraps a descriptor.
    ///
    /// # Errors
    /// The host's, but for descriptors that are always ready.
    pub fn new(fd: OwnedFd, poller: &Arc<Poller>) -> Result<Arc<Self>, Errno> {
        let stream = Arc::new(HostStream { fd, queue: WaitQueue::new(), watch: OnceLock::new() });
        let receiver: Arc<dyn Ready> = Arc::new(Receiver(Arc::downgrade(&stream)));
        match poller.watch(&stream.fd, &receiver) {
            Ok(watch) => drop(stream.watch.set(watch)),
            Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
        Ok(Arc::new(Self { stream, _receiver: receiver }))
    }

    fn is_always_ready(&self) -> bool {
        self.stream.watch.get().is_none()
    }

    /// Ready now for reading, an end or an error included.
    fn can_read(&self) -> bool {
        self.is_always_ready() || self.readiness().intersects(Events::IN | Events::HUP | Events::ERR)
    }

    fn can_write(&self) -> bool {
        self.is_always_ready() || self.readiness().intersects(Events::OUT | Events::ERR | Events::HUP)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// EAGAIN; the host's.
    pub fn read_some(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        if !self.can_read() {
            return Err(Errno::EAGAIN);
        }
        file::read(&self.stream.fd, buf)
    }

    /// Writes what can be written without waiting.
    ///
    /// # Errors
    /// EAGAIN if nothing could be; the host's (EPIPE if nobody reads any more).
    pub fn write_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < bytes.len() {
            if !self.can_write() {
                break;
            }
            let step = if self.is_always_ready() { bytes.len() } else { done.saturating_add(WRITE_STEP) };
            match file::write(&self.stream.fd, &bytes[done..step.min(bytes.len())]) {
                Ok(n) => done += n,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        if done == 0 && !bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok(done) }
    }
}

impl FileOps for Stream {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        let mut buffer = vec![0; sink.remaining().min(READ_MAX)];
        let n = self.read_some(&mut buffer)?;
        sink.write(&buffer[..n])
    }

    fn write(&self, _: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        let mut done = 0;
        while source.remaining() > 0 {
            if !self.can_write() {
                break;
            }
            // A source is consumed as it is read: no more is taken than what can be written.
            let bytes = source.read_to_vec(WRITE_STEP)?;
            match self.write_some(&bytes) {
                Ok(n) => {
                    done += n;
                    if n < bytes.len() {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        if done == 0 && source.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn takes_splice(&self) -> bool {
        true
    }

    fn readiness(&self) -> Events {
        if self.is_always_ready() {
            return Events::READABLE | Events::WRITABLE;
        }
        Events::from_bits_truncate(u32::from(poller::readiness(&self.stream.fd)))
    }

    fn is_seekable(&self) -> bool {
        // LINUX: `/dev/null` and its like are always ready and have no place to be at.
        self.is_always_ready()
    }

    fn stays_at_zero(&self) -> bool {
        true
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.stream.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
