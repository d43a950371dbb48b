//! Reading and writing guest memory on behalf of the running task.
//!
//! Key types: [`UserReader`] (a [`Source`]), [`UserWriter`] (a [`Sink`]), [`Iovec`].
//! Every byte is read once: a reader is consumed as it is read, and nobody holds a reference into guest memory.
//! Arguments up to some KiB come with the system call, results go back with it (see `platform::Context`); all else is a
//! remote copy. The bytes of a transfer need not pass through here: [`Source::peek`] and [`Sink::room`] lend them to the host.

use linux_abi::{Errno, TASK_SIZE, UserCStr, UserPtr};
use platform::{BulkIn, BulkOut};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Current;
use crate::io::{Sink, Source};

/// Longest path, with its zero byte. LINUX: `PATH_MAX`, ENAMETOOLONG above.
pub const PATH_MAX: usize = 4096;
/// Most elements of an I/O vector. LINUX: `UIO_MAXIOV`, EINVAL above.
pub const IOV_MAX: usize = 1024;
/// Most bytes of one transfer. LINUX: `MAX_RW_COUNT`, transfers are cut to it.
pub const RW_MAX: u64 = 0x7fff_f000;

/// Results up to this long may be deferred to any memory that the layout calls writable: one that cannot be written after all
/// makes the call fail with EFAULT. What is longer must tell how far it went, so it is deferred only where nothing can go wrong.
const SMALL: usize = 256;

/// One piece of guest memory: `struct iovec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Iovec {
    /// Guest address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Current {
    /// Fills `buf` from guest memory.
    ///
    /// # Errors
    /// EFAULT unless all of it is readable.
    pub fn read_user(&self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        if self.read_user_some(addr, buf) == buf.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads as much of `buf` as there is; answers how much.
    #[must_use]
    pub fn read_user_some(&self, addr: u64, buf: &mut [u8]) -> usize {
        if self.context().prefetched(addr, buf) {
            return buf.len();
        }
        if !in_user_space(addr, buf.len()) {
            return 0;
        }
        self.mm().read(addr, buf)
    }

    /// Writes `bytes` to guest memory, now or (small ones) on the way back to the guest.
    ///
    /// # Errors
    /// EFAULT unless all of it is writable.
    pub fn write_user(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !in_user_space(addr, bytes.len()) {
            return Err(Errno::EFAULT);
        }
        let len = bytes.len() as u64;
        let may_defer = if bytes.len() > SMALL {
            self.mm().is_plain(addr, len)
        } else {
            self.mm().is_writable(addr, len)
        };
        if may_defer && self.context_mut().defer_write(addr, bytes) {
            return Ok(());
        }
        self.context_mut().flush_writes()?;
        if self.mm().write(addr, bytes) == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads a plain structure.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_object<T: FromBytes + IntoBytes>(&self, ptr: UserPtr<T>) -> Result<T, Errno> {
        let mut object = T::new_zeroed();
        self.read_user(ptr.addr(), object.as_mut_bytes())?;
        Ok(object)
    }

    /// Writes a plain structure.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write_object<T: IntoBytes + Immutable>(
        &mut self,
        ptr: UserPtr<T>,
        object: &T,
    ) -> Result<(), Errno> {
        self.write_user(ptr.addr(), object.as_bytes())
    }

    /// Reads `count` plain structures that lie one after the other. The caller has limited `count`.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_objects<T: FromBytes + IntoBytes + Clone>(
        &self,
        ptr: UserPtr<T>,
        count: usize,
    ) -> Result<Vec<T>, Errno> {
        let mut objects = vec![T::new_zeroed(); count];
        self.read_user(ptr.addr(), objects.as_mut_slice().as_mut_bytes())?;
        Ok(objects)
    }

    /// Reads a zero-terminated string without its zero byte.
    ///
    /// # Errors
    /// EFAULT; `too_long` if there is no zero byte within `max` bytes.
    pub fn read_cstr(&self, ptr: UserCStr, max: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
        if let Some(text) = self.context().prefetched_cstr(ptr.addr(), max) {
            return Ok(text);
        }
        let mut text = Vec::new();
        let mut addr = ptr.addr();
        while text.len() < max {
            // Up to the end of the page, since the next one may not be there.
            let step = (4096 - addr % 4096).min((max - text.len()) as u64);
            let mut piece = vec![0; usize::try_from(step).expect("at most a page")];
            let n = self.read_user_some(addr, &mut piece);
            if let Some(end) = piece[..n].iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Ok(text);
            }
            if n < piece.len() {
                return Err(Errno::EFAULT);
            }
            text.extend_from_slice(&piece);
            addr = addr.wrapping_add(step);
        }
        Err(too_long)
    }

    /// Reads a path name.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG.
    pub fn read_path(&self, ptr: UserCStr) -> Result<Vec<u8>, Errno> {
        self.read_cstr(ptr, PATH_MAX, Errno::ENAMETOOLONG)
    }

    /// Reads an I/O vector; lengths are checked as Linux does.
    ///
    /// # Errors
    /// EINVAL for too many elements or a length over `SSIZE_MAX`; EFAULT.
    pub fn read_iovecs(&self, ptr: UserPtr<Iovec>, count: usize) -> Result<Vec<Iovec>, Errno> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut pieces = self.read_objects(ptr, count)?;
        let mut room = RW_MAX;
        for piece in &mut pieces {
            if i64::try_from(piece.len).is_err() {
                return Err(Errno::EINVAL);
            }
            if !in_user_space(piece.base, usize::try_from(piece.len).unwrap_or(usize::MAX)) && piece.len > 0 {
                return Err(Errno::EFAULT);
            }
            piece.len = piece.len.min(room);
            room -= piece.len;
        }
        Ok(pieces)
    }

    /// Guest memory as a source of bytes.
    ///
    /// # Errors
    /// EFAULT if it is not in user space at all.
    pub fn user_reader(&self, buf: UserPtr<u8>, len: usize) -> Result<UserReader<'_>, Errno> {
        let len = (len as u64).min(RW_MAX);
        if !in_user_space(buf.addr(), usize::try_from(len).unwrap_or(usize::MAX)) {
            return Err(Errno::EFAULT);
        }
        Ok(UserReader { current: self, pieces: Pieces::one(Iovec { base: buf.addr(), len }) })
    }

    /// Several pieces of guest memory (from [`Current::read_iovecs`]) as one source.
    #[must_use]
    pub fn user_reader_of(&self, pieces: Vec<Iovec>) -> UserReader<'_> {
        UserReader { current: self, pieces: Pieces::new(pieces) }
    }

    /// Guest memory as a sink.
    ///
    /// # Errors
    /// EFAULT if it is not in user space at all.
    pub fn user_writer(&mut self, buf: UserPtr<u8>, len: usize) -> Result<UserWriter<'_>, Errno> {
        let len = (len as u64).min(RW_MAX);
        if !in_user_space(buf.addr(), usize::try_from(len).unwrap_or(usize::MAX)) {
            return Err(Errno::EFAULT);
        }
        Ok(UserWriter { current: self, pieces: Pieces::one(Iovec { base: buf.addr(), len }) })
    }

    /// Several pieces of guest memory (from [`Current::read_iovecs`]) as one sink.
    pub fn user_writer_of(&mut self, pieces: Vec<Iovec>) -> UserWriter<'_> {
        UserWriter { current: self, pieces: Pieces::new(pieces) }
    }
}

/// The whole range is user space, so that it cannot wrap around.
fn in_user_space(addr: u64, len: usize) -> bool {
    addr.checked_add(len as u64).is_some_and(|end| end <= TASK_SIZE)
}

/// What is left of some pieces of guest memory.
struct Pieces {
    pieces: std::vec::IntoIter<Iovec>,
    current: Iovec,
    remaining: usize,
}

impl Pieces {
    fn new(pieces: Vec<Iovec>) -> Self {
        let total: u64 = pieces.iter().map(|piece| piece.len).sum();
        let remaining = usize::try_from(total).expect("limited by RW_MAX");
        Self { pieces: pieces.into_iter(), current: Iovec::default(), remaining }
    }

    /// Without allocating.
    fn one(piece: Iovec) -> Self {
        let remaining = usize::try_from(piece.len).expect("limited by RW_MAX");
        Self { pieces: Vec::new().into_iter(), current: piece, remaining }
    }

    /// The next `limit` bytes as stretches, one a piece.
    fn stretches(&self, limit: usize) -> impl Iterator<Item = (u64, u64)> {
        let mut left = limit as u64;
        std::iter::once(&self.current).chain(self.pieces.as_slice()).map_while(move |piece| {
            let len = piece.len.min(left);
            left -= len;
            (len > 0 || left > 0).then_some((piece.base, len))
        })
    }

    /// The next stretch of at most `limit` bytes that lies in one piece.
    fn next(&mut self, limit: usize) -> Option<(u64, usize)> {
        while self.current.len == 0 {
            self.current = self.pieces.next()?;
        }
        let n = usize::try_from(self.current.len).expect("limited by RW_MAX").min(limit);
        Some((self.current.base, n))
    }

    fn advance(&mut self, n: usize) {
        self.current.base += n as u64;
        self.current.len -= n as u64;
        self.remaining -= n;
    }
}

/// Guest memory as a source of bytes; consumed as it is read.
pub struct UserReader<'a> {
    current: &'a Current,
    pieces: Pieces,
}

impl Source for UserReader<'_> {
    fn remaining(&self) -> usize {
        self.pieces.remaining
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < buf.len() {
            let Some((addr, n)) = self.pieces.next(buf.len() - done) else { break };
            let copied = self.current.read_user_some(addr, &mut buf[done..done + n]);
            self.pieces.advance(copied);
            done += copied;
            if copied < n {
                break;
            }
        }
        if done == 0 && !buf.is_empty() && self.pieces.remaining > 0 { Err(Errno::EFAULT) } else { Ok(done) }
    }

    fn is_cancelled(&self) -> bool {
        self.current.task().is_killed()
    }

    fn peek(&self, limit: usize) -> Option<BulkIn<'_>> {
        let limit = limit.min(self.pieces.remaining);
        self.current.context().bulk_in(&mut self.pieces.stretches(limit))
    }

    fn skip(&mut self, n: usize) -> Result<(), Errno> {
        let mut left = n;
        while left > 0 {
            let (_, step) = self.pieces.next(left).ok_or(Errno::EFAULT)?;
            self.pieces.advance(step);
            left -= step;
        }
        Ok(())
    }
}

/// Guest memory as a sink of bytes.
pub struct UserWriter<'a> {
    current: &'a mut Current,
    pieces: Pieces,
}

impl Sink for UserWriter<'_> {
    fn remaining(&self) -> usize {
        self.pieces.remaining
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let Some((addr, n)) = self.pieces.next(bytes.len() - done) else { break };
            let piece = &bytes[done..done + n];
            // How far it goes is told now, while what does not fit can stay where it is: nothing is deferred that may fail.
            let is_sure = self.current.mm().is_plain(addr, n as u64);
            let copied = if is_sure && self.current.write_user(addr, piece).is_ok() {
                n
            } else if self.current.context_mut().flush_writes().is_ok() {
                self.current.mm().write(addr, piece)
            } else {
                0
            };
            self.pieces.advance(copied);
            done += copied;
            if copied < n {
                break;
            }
        }
        if done == 0 && !bytes.is_empty() && self.pieces.remaining > 0 {
            Err(Errno::EFAULT)
        } else {
            Ok(done)
        }
    }

    fn is_cancelled(&self) -> bool {
        self.current.task().is_killed()
    }

    fn room(&mut self, len: usize) -> Option<BulkOut<'_>> {
        let len = len.min(self.pieces.remaining);
        let mut count = 0;
        for (addr, len) in self.pieces.stretches(len).filter(|(_, len)| *len > 0) {
            if !self.current.mm().is_plain(addr, len) {
                return None;
            }
            count += 1;
        }
        if count == 0 { None } else { self.current.context_mut().bulk_out(len as u64, count) }
    }

    fn filled(&mut self, n: usize) -> Result<usize, Errno> {
        let mut done = 0;
        while done < n {
            let (addr, step) = self.pieces.next(n - done).ok_or(Errno::EFAULT)?;
            if !self.current.context_mut().commit_out(addr, step as u64) {
                return Err(Errno::EFAULT);
            }
            self.pieces.advance(step);
            done += step;
        }
        Ok(done)
    }
}

#[cfg(test)]
#[path = "user_memory_tests.rs"]
mod tests;
