//! `read`, `write`, `pread64`, `pwrite64`, `lseek`; the transfers that `vector.rs` makes of several pieces, too.
//!
//! Key functions: [`read_into`] and [`write_from`].

use std::sync::Arc;

use linux_abi::net::msg;
use linux_abi::signal::{SIGPIPE, SigInfo};
use linux_abi::{Errno, UserPtr};
use sentry::fs::inotify;
use sentry::io::{Sink, Source};
use sentry::sync::Events;
use sentry::task::signal::Sender;
use sentry::task::{Current, Iovec};
use sentry::vfs::open_flags::O_NONBLOCK;
use sentry::vfs::{Fd, Op, OpenFile, Place, Whence};

use crate::net::io;

/// Where the bytes are in guest memory.
pub(super) enum Memory {
    One(UserPtr<u8>, usize),
    Several(Vec<Iovec>),
}

impl Memory {
    /// Several pieces without a byte. LINUX: `vfs_readv` and `vfs_writev` ask no file then.
    fn is_several_of_nothing(&self) -> bool {
        matches!(self, Self::Several(_)) && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::One(_, len) => *len == 0,
            Self::Several(pieces) => pieces.iter().all(|piece| piece.len == 0),
        }
    }

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
    let file = readable_at(current, fd, place)?;
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
    let file = writable_at(current, fd, place)?;
    write_from(current, &file, &Memory::One(buf, len), place, 0)
}

/// The open file, if it is open for reading.
pub(super) fn readable(current: &Current, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    readable_at(current, fd, Place::Position)
}

/// The same for a transfer at this place. LINUX: `FMODE_PREAD` is asked first.
pub(super) fn readable_at(current: &Current, fd: Fd, place: Place) -> Result<Arc<OpenFile>, Errno> {
    let file = file_at(current, fd, place)?;
    if file.is_readable() { Ok(file) } else { Err(Errno::EBADF) }
}

/// The open file, if it is open for writing.
pub(super) fn writable(current: &Current, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    writable_at(current, fd, Place::Position)
}

/// The same for a transfer at this place.
pub(super) fn writable_at(current: &Current, fd: Fd, place: Place) -> Result<Arc<OpenFile>, Errno> {
    let file = file_at(current, fd, place)?;
    if file.is_writable() { Ok(file) } else { Err(Errno::EBADF) }
}

fn file_at(current: &Current, fd: Fd, place: Place) -> Result<Arc<OpenFile>, Errno> {
    let file = current.files().get(fd)?;
    if matches!(place, Place::At(_)) && !file.ops.is_seekable() { Err(Errno::ESPIPE) } else { Ok(file) }
}

/// Reads into guest memory; waits if the file says so. `more_flags`: `O_*` for this transfer alone.
pub(super) fn read_into(
    current: &mut Current,
    file: &Arc<OpenFile>,
    memory: &Memory,
    place: Place,
    more_flags: u32,
) -> Result<usize, Errno> {
    let read = transfer_in(current, file, memory, place, more_flags);
    current.task().io.has_read(*read.as_ref().unwrap_or(&0));
    read
}

fn transfer_in(
    current: &mut Current,
    file: &Arc<OpenFile>,
    memory: &Memory,
    place: Place,
    more_flags: u32,
) -> Result<usize, Errno> {
    let task = Arc::clone(current.task());
    if memory.is_several_of_nothing() {
        inotify::notify_at(&task.kernel, &file.location, inotify::mask::ACCESS);
        return Ok(0);
    }
    if file.ops.as_socket().is_some() {
        return io::read(current, file, memory.pieces()?, socket_flags(more_flags));
    }
    let op = Op { task: &task, flags: file.flags() | more_flags };
    let nonblocking = op.flags & O_NONBLOCK != 0;
    let n = current.block_on_file(file, Events::READABLE, nonblocking, None, |current| {
        let mut sink = match memory {
            Memory::One(buf, len) => current.user_writer(*buf, *len)?,
            Memory::Several(pieces) => current.user_writer_of(pieces.clone()),
        };
        read_at_place(file, &op, &mut sink, place)
    })?;
    // LINUX: `vfs_readv` tells of the end of a file, too, `vfs_read` does not.
    if n > 0 || matches!(memory, Memory::Several(_)) {
        inotify::notify_at(&task.kernel, &file.location, inotify::mask::ACCESS);
    }
    Ok(n)
}

fn read_at_place(file: &OpenFile, op: &Op<'_>, sink: &mut dyn Sink, place: Place) -> Result<usize, Errno> {
    match (place, file.ops.shared_position()) {
        (Place::At(offset), _) => file.ops.read(op, sink, offset),
        (Place::Position, Some(shared)) => shared.read(sink),
        (Place::Position, None) if file.ops.is_seekable() => {
            let mut position = file.lock_position();
            let n = file.ops.read(op, sink, *position)?;
            *position += n as u64;
            Ok(n)
        }
        (Place::Position, None) => file.ops.read(op, sink, 0),
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
    let written = transfer_out(current, file, memory, place, more_flags);
    current.task().io.has_written(*written.as_ref().unwrap_or(&0));
    written
}

fn transfer_out(
    current: &mut Current,
    file: &Arc<OpenFile>,
    memory: &Memory,
    place: Place,
    more_flags: u32,
) -> Result<usize, Errno> {
    let is_seekable = file.ops.is_seekable();
    if memory.is_several_of_nothing() {
        return Ok(0);
    }
    if file.ops.as_socket().is_some() {
        return io::write(current, file, memory.pieces()?, socket_flags(more_flags));
    }
    let task = Arc::clone(current.task());
    let op = Op { task: &task, flags: file.flags() | more_flags };
    let nonblocking = op.flags & O_NONBLOCK != 0;
    if memory.is_empty() && file.ops.has_content() {
        // LINUX: nothing is written, and nothing changes.
        return Ok(0);
    }
    let writing = file.begin_write(&op, place)?;
    // What a stream has taken before it had to wait is not taken again.
    let mut done = 0;
    let result = current.block_on_file(file, Events::WRITABLE, nonblocking, None, |current| {
        let mut source = match memory {
            Memory::One(buf, len) => current.user_reader(*buf, *len)?,
            Memory::Several(pieces) => current.user_reader_of(pieces.clone()),
        };
        source.skip(done)?;
        let n = writing.write(&mut source, place)?;
        done += n;
        let is_partial = !is_seekable && n > 0 && source.remaining() > 0;
        if is_partial && !nonblocking && file.ops.can_wait() { Err(Errno::EAGAIN) } else { Ok(()) }
    });
    drop(writing);
    match result {
        Ok(()) => Ok(done),
        Err(_) if done > 0 => Ok(done),
        Err(errno) => {
            write_failed(current, errno);
            Err(errno)
        }
    }
}

/// SIGPIPE goes to the thread that wrote.
pub(super) fn write_failed(current: &Current, errno: Errno) {
    if errno == Errno::EPIPE {
        current.task().send(SigInfo::kernel(SIGPIPE), Sender::Kernel);
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
    if let Some(shared) = file.ops.shared_position() {
        return i64::try_from(shared.seek(whence, offset)?).map_err(|_| Errno::EOVERFLOW);
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
