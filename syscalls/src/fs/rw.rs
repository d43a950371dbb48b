//! `read`, `write`, `pread64`, `pwrite64`, `lseek`; the transfers that `vector.rs` makes of several pieces, too.
//!
//! Key types: [`Place`] (where in the file), the functions [`read_into`] and [`write_from`].

use std::sync::Arc;

use linux_abi::net::msg;
use linux_abi::signal::{SIGPIPE, SIGXFSZ, SigInfo};
use linux_abi::{Errno, UserPtr};
use platform::BulkIn;
use sentry::fs::inotify;
use sentry::io::{Sink, Source};
use sentry::sync::Events;
use sentry::task::signal::Sender;
use sentry::task::{Current, INFINITY, Iovec, Resource};
use sentry::vfs::open_flags::{O_APPEND, O_NONBLOCK};
use sentry::vfs::{Caller, Fd, Op, OpenFile, Whence};

use crate::net::io;

/// Most bytes of one transfer.
const TRANSFER_MAX: usize = 0x7fff_f000;

/// Where in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At its position, which moves.
    Position,
    /// At this offset.
    At(u64),
}

impl Place {
    /// An offset from a register.
    pub(super) fn at(offset: i64) -> Result<Self, Errno> {
        u64::try_from(offset).map(Self::At).map_err(|_| Errno::EINVAL)
    }
}

/// Where the bytes are in guest memory.
pub(super) enum Memory {
    One(UserPtr<u8>, usize),
    Several(Vec<Iovec>),
}

impl Memory {
    fn pieces(&self) -> Result<Vec<Iovec>, Errno> {
        match self {
            Self::One(buf, len) => io::one_piece(*buf, *len),
            Self::Several(pieces) => Ok(pieces.clone()),
        }
    }
}

/// `MSG_*` for `O_*`.
fn socket_flags(more_flags: u32) -> u32 {
    if more_flags & O_NONBLOCK == 0 { 0 } else { msg::DONTWAIT }
}

/// `read(2)`: <https://man7.org/linux/man-pages/man2/read.2.html>
pub(crate) fn read(current: &mut Current, fd: Fd, buf: UserPtr<u8>, len: usize) -> Result<usize, Errno> {
    let file = readable(current, fd)?;
    read_into(current, &file, &Memory::One(buf, len), Place::Position, 0)
}

/// `pread64(2)`: <https://man7.org/linux/man-pages/man2/pread64.2.html>
pub(crate) fn pread64(
    current: &mut Current,
    fd: Fd,
    buf: UserPtr<u8>,
    len: usize,
    offset: i64,
) -> Result<usize, Errno> {
    let place = Place::at(offset)?;
    let file = readable(current, fd)?;
    read_into(current, &file, &Memory::One(buf, len), place, 0)
}

/// `write(2)`: <https://man7.org/linux/man-pages/man2/write.2.html>
pub(crate) fn write(current: &mut Current, fd: Fd, buf: UserPtr<u8>, len: usize) -> Result<usize, Errno> {
    let file = writable(current, fd)?;
    write_from(current, &file, &Memory::One(buf, len), Place::Position, 0)
}

/// `pwrite64(2)`: <https://man7.org/linux/man-pages/man2/pwrite64.2.html>
pub(crate) fn pwrite64(
    current: &mut Current,
    fd: Fd,
    buf: UserPtr<u8>,
    len: usize,
    offset: i64,
) -> Result<usize, Errno> {
    let place = Place::at(offset)?;
    let file = writable(current, fd)?;
    write_from(current, &file, &Memory::One(buf, len), place, 0)
}

/// The open file, if it is open for reading.
pub(super) fn readable(current: &Current, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    let file = current.files().get(fd)?;
    if file.is_readable() { Ok(file) } else { Err(Errno::EBADF) }
}

/// The open file, if it is open for writing.
pub(super) fn writable(current: &Current, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    let file = current.files().get(fd)?;
    if file.is_writable() { Ok(file) } else { Err(Errno::EBADF) }
}

/// Reads into guest memory; waits if the file says so. `more_flags`: `O_*` for this transfer alone.
pub(super) fn read_into(
    current: &mut Current,
    file: &Arc<OpenFile>,
    memory: &Memory,
    place: Place,
    more_flags: u32,
) -> Result<usize, Errno> {
    if matches!(place, Place::At(_)) && !file.ops.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    if file.ops.as_socket().is_some() {
        return io::read(current, file, memory.pieces()?, socket_flags(more_flags));
    }
    let task = Arc::clone(current.task());
    let op = Op { task: &task, flags: file.flags() | more_flags };
    let nonblocking = op.flags & O_NONBLOCK != 0;
    let n = current.block_on_file(file, Events::READABLE, nonblocking, None, |current| {
        let mut sink = match memory {
            Memory::One(buf, len) => current.user_writer(*buf, *len)?,
            Memory::Several(pieces) => current.user_writer_of(pieces.clone()),
        };
        read_at_place(file, &op, &mut sink, place)
    })?;
    if n > 0 {
        inotify::notify_at(&task.kernel, &file.location, inotify::mask::ACCESS);
    }
    Ok(n)
}

fn read_at_place(file: &OpenFile, op: &Op<'_>, sink: &mut dyn Sink, place: Place) -> Result<usize, Errno> {
    match place {
        Place::At(offset) => file.ops.read(op, sink, offset),
        Place::Position if file.ops.is_seekable() => {
            let mut position = file.lock_position();
            let n = file.ops.read(op, sink, *position)?;
            *position += n as u64;
            Ok(n)
        }
        Place::Position => file.ops.read(op, sink, 0),
    }
}

/// Writes from guest memory; waits if the file says so. `more_flags`: `O_*` for this transfer alone.
pub(super) fn write_from(
    current: &mut Current,
    file: &Arc<OpenFile>,
    memory: &Memory,
    place: Place,
    more_flags: u32,
) -> Result<usize, Errno> {
    let is_seekable = file.ops.is_seekable();
    if matches!(place, Place::At(_)) && !is_seekable {
        return Err(Errno::ESPIPE);
    }
    if file.ops.as_socket().is_some() {
        return io::write(current, file, memory.pieces()?, socket_flags(more_flags));
    }
    let task = Arc::clone(current.task());
    let op = Op { task: &task, flags: file.flags() | more_flags };
    let nonblocking = op.flags & O_NONBLOCK != 0;
    let limit = if is_seekable { before_write(current, file)? } else { INFINITY };
    // What a stream has taken before it had to wait is not taken again.
    let mut done = 0;
    let result = current.block_on_file(file, Events::WRITABLE, nonblocking, None, |current| {
        let mut source = match memory {
            Memory::One(buf, len) => current.user_reader(*buf, *len)?,
            Memory::Several(pieces) => current.user_reader_of(pieces.clone()),
        };
        let mut source = Limited { skip: done, left: usize::MAX, source: &mut source };
        source.skip_done()?;
        let n = write_at_place(file, &op, &mut source, place, limit)?;
        done += n;
        let is_partial = !is_seekable && n > 0 && source.source.remaining() > 0;
        if is_partial && !nonblocking && file.ops.can_wait() { Err(Errno::EAGAIN) } else { Ok(()) }
    });
    if done > 0 {
        inotify::notify_at(&task.kernel, &file.location, inotify::mask::MODIFY);
    }
    match result {
        Ok(()) => Ok(done),
        Err(_) if done > 0 => Ok(done),
        Err(errno) => {
            write_failed(current, errno);
            Err(errno)
        }
    }
}

fn write_at_place(
    file: &OpenFile,
    op: &Op<'_>,
    source: &mut Limited<'_>,
    place: Place,
    limit: u64,
) -> Result<usize, Errno> {
    if !file.ops.is_seekable() {
        return file.ops.write(op, source, 0);
    }
    let appends = op.flags & O_APPEND != 0;
    let mut position = file.lock_position();
    let offset = match place {
        // The file finds its end itself.
        _ if appends && limit == INFINITY => 0,
        _ if appends => file.ops.size()?,
        Place::At(offset) => offset,
        Place::Position => *position,
    };
    if limit != INFINITY {
        let room = limit.checked_sub(offset).filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
        source.left = usize::try_from(room).unwrap_or(usize::MAX);
    }
    if offset > i64::MAX.cast_unsigned() - TRANSFER_MAX as u64 {
        return Err(Errno::EFBIG);
    }
    let n = file.ops.write(op, source, offset)?;
    if place == Place::Position {
        *position = if appends { file.ops.size()? } else { offset + n as u64 };
    }
    Ok(n)
}

/// Set-ID bits go; answers `RLIMIT_FSIZE`.
fn before_write(current: &Current, file: &OpenFile) -> Result<u64, Errno> {
    Caller::of(current.task()).drop_privileges(&file.location)?;
    Ok(current.process().limit(Resource::Fsize).soft)
}

/// SIGPIPE and SIGXFSZ go to the thread that wrote.
pub(super) fn write_failed(current: &Current, errno: Errno) {
    let signal = match errno {
        Errno::EPIPE => SIGPIPE,
        Errno::EFBIG if current.process().limit(Resource::Fsize).soft != INFINITY => SIGXFSZ,
        _ => return,
    };
    current.task().send(SigInfo::kernel(signal), Sender::Kernel);
}

/// A source of which the beginning is skipped and only so much is taken.
struct Limited<'a> {
    skip: usize,
    left: usize,
    source: &'a mut dyn Source,
}

impl Limited<'_> {
    /// Goes over what has been written already.
    fn skip_done(&mut self) -> Result<(), Errno> {
        self.source.skip(std::mem::take(&mut self.skip))
    }
}

impl Source for Limited<'_> {
    fn remaining(&self) -> usize {
        self.source.remaining().min(self.left)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let want = buf.len().min(self.left);
        let n = self.source.read(&mut buf[..want])?;
        self.left -= n;
        Ok(n)
    }

    fn peek(&self, limit: usize) -> Option<BulkIn<'_>> {
        self.source.peek(limit.min(self.left))
    }

    fn skip(&mut self, n: usize) -> Result<(), Errno> {
        self.source.skip(n)?;
        self.left -= n;
        Ok(())
    }
}

/// `lseek(2)`: <https://man7.org/linux/man-pages/man2/lseek.2.html>
pub(crate) fn lseek(current: &mut Current, fd: Fd, offset: i64, whence: u32) -> Result<i64, Errno> {
    let file = current.files().get(fd)?;
    let whence = match whence {
        0 => Whence::Start,
        1 => Whence::Current,
        2 => Whence::End,
        3 => Whence::Data,
        4 => Whence::Hole,
        _ => return Err(Errno::EINVAL),
    };
    if !file.ops.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    let mut position = file.lock_position();
    if file.ops.stays_at_zero() {
        *position = 0;
        return Ok(0);
    }
    let base = match whence {
        Whence::Start => 0,
        Whence::Current => *position,
        Whence::End => file.ops.size()?,
        Whence::Data | Whence::Hole => {
            let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            *position = file.ops.seek_sparse(whence, from)?;
            return i64::try_from(*position).map_err(|_| Errno::EOVERFLOW);
        }
    };
    let base = i64::try_from(base).map_err(|_| Errno::EOVERFLOW)?;
    let target = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    *position = u64::try_from(target).map_err(|_| Errno::EINVAL)?;
    Ok(target)
}
