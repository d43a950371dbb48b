//! How requests get to the gofer and answers back: a pool of sockets, one request under way on each.
//!
//! Key type: [`Client`]; its operations are in `calls.rs`. A caller borrows a socket, sends, and waits for the
//! answer on it; the gofer serves each socket with a thread of its own, so a slow call (a dead NFS server) holds up
//! nobody else. The pool grows on demand, up to [`CHANNELS_MAX`], by asking over the first socket, which
//! carries nothing else. When all are busy, callers wait.
//!
//! Once anything is wrong with the connection, every call returns `EIO` at once: see [`Client::is_alive`].

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::channel::{Channel, Descriptors};
use crate::errno::Errno;
use crate::types::{Node, Result};
use crate::wire::{CHANNELS_MAX, CLOSE_MAX, HEADER, Header, Op, VERSION};

/// Handles given back are collected and sent this many at a time.
const CLOSE_BATCH: usize = 64;

/// A connection to one gofer. Every method may be called from many threads at once; all of them block.
#[derive(Debug)]
pub struct Client {
    /// LOCK: before `pool`, for the time of one `OpenChannel`.
    control: Mutex<Channel>,
    /// LOCK: after `control`, never across a request.
    pool: Mutex<Pool>,
    returned: Condvar,
    /// LOCK: taken alone.
    closing: Mutex<Vec<u64>>,
    next_id: AtomicU64,
    dead: AtomicBool,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Channel>,
    /// How many exist or are being made.
    made: usize,
}

/// The body of an answer, and its descriptor.
pub(crate) struct Answer<'a> {
    pub(crate) body: &'a [u8],
    /// Or why there is none: `ENFILE` if this process had no room for it, `EIO` if the gofer sent none.
    pub(crate) fd: Result<OwnedFd>,
}

impl Client {
    /// Takes the `SOCK_SEQPACKET` socket whose other end the gofer has. Sends nothing yet.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            control: Mutex::new(Channel::new(socket)),
            pool: Mutex::default(),
            returned: Condvar::new(),
            closing: Mutex::default(),
            next_id: AtomicU64::new(1),
            dead: AtomicBool::new(false),
        }
    }

    /// False once the gofer has gone or has answered nonsense; it stays false.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Acquire)
    }

    /// Gives a handle back. Cheap: handles travel in batches, and nobody waits.
    pub fn close(&self, node: Node) {
        let batch = {
            let mut closing = lock(&self.closing);
            closing.push(node.0);
            if closing.len() < CLOSE_BATCH {
                return;
            }
            std::mem::take(&mut *closing)
        };
        self.send_closes(&batch);
    }

    /// Sends the handles that wait for their batch to fill up.
    pub fn flush_closes(&self) {
        let batch = std::mem::take(&mut *lock(&self.closing));
        self.send_closes(&batch);
    }

    fn send_closes(&self, batch: &[u64]) {
        for nodes in batch.chunks(CLOSE_MAX) {
            let Ok(channel) = self.borrow() else { return };
            let header = self.header(Op::Close);
            if channel.send(header, &[zerocopy::IntoBytes::as_bytes(nodes)], None).is_err() {
                self.die();
            }
            self.give_back(channel);
        }
    }

    /// One request and its answer. `read` turns the answer into the result, before the socket is given back.
    pub(crate) fn call<T>(
        &self,
        op: Op,
        parts: &[&[u8]],
        read: impl FnOnce(Answer<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut channel = self.borrow()?;
        let result = self.exchange(&mut channel, op, parts, read);
        self.give_back(channel);
        result
    }

    fn exchange<T>(
        &self,
        channel: &mut Channel,
        op: Op,
        parts: &[&[u8]],
        read: impl FnOnce(Answer<'_>) -> Result<T>,
    ) -> Result<T> {
        let request = self.header(op);
        let fail = || {
            self.die();
            Errno::EIO
        };
        if HEADER + parts.iter().map(|part| part.len()).sum::<usize>() > crate::wire::MESSAGE_MAX {
            return Err(Errno::EINVAL);
        }
        channel.send(request, parts, None).map_err(|_| fail())?;
        let record = channel.receive(Descriptors::Accept).map_err(|_| fail())?;
        if (Header { status: 0, ..record.header }) != request {
            return Err(fail());
        }
        match i32::try_from(record.header.status) {
            Ok(0) => {
                let missing = if record.is_fd_lost { Errno::ENFILE } else { Errno::EIO };
                read(Answer { body: record.body, fd: record.fd.ok_or(missing) })
            }
            Ok(raw) => Err(Errno::new(raw)),
            Err(_) => Err(fail()),
        }
    }

    fn header(&self, op: Op) -> Header {
        Header { version: VERSION, op: op.raw(), status: 0, id: self.next_id.fetch_add(1, Ordering::Relaxed) }
    }

    /// An idle socket, a new one, or the next that is given back.
    fn borrow(&self) -> Result<Channel> {
        let mut pool = lock(&self.pool);
        loop {
            if !self.is_alive() {
                return Err(Errno::EIO);
            }
            if let Some(channel) = pool.idle.pop() {
                return Ok(channel);
            }
            if pool.made < CHANNELS_MAX {
                pool.made += 1;
                drop(pool);
                match self.open_channel() {
                    Ok(channel) => return Ok(channel),
                    Err(errno) => {
                        pool = lock(&self.pool);
                        pool.made -= 1;
                        if pool.made == 0 {
                            // Nothing will ever be given back: whoever waits must try for itself.
                            self.returned.notify_all();
                            return Err(errno);
                        }
                        if !pool.idle.is_empty() || !self.is_alive() {
                            continue;
                        }
                    }
                }
            }
            // INVARIANT: alive was seen, and nothing idle, under this very lock; both changes notify.
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, channel: Channel) {
        lock(&self.pool).idle.push(channel);
        self.returned.notify_one();
    }

    /// The connection is of no use any more; nobody shall wait for it.
    fn die(&self) {
        self.dead.store(true, Ordering::Release);
        let _waiters_are_waiting = lock(&self.pool);
        self.returned.notify_all();
    }

    fn open_channel(&self) -> Result<Channel> {
        let mut control = lock(&self.control);
        self.exchange(&mut control, Op::OpenChannel, &[], |answer| answer.fd.map(Channel::new))
    }

    /// The sockets in use, for tests and figures.
    #[must_use]
    pub fn channels(&self) -> usize {
        lock(&self.pool).made
    }

    /// Calls `seen` with each descriptor that this client holds now (for a sentry that lists what it may keep open).
    pub fn with_descriptors(&self, mut seen: impl FnMut(BorrowedFd<'_>)) {
        use std::os::fd::AsFd;
        seen(lock(&self.control).as_fd());
        lock(&self.pool).idle.iter().for_each(|channel| seen(channel.as_fd()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
