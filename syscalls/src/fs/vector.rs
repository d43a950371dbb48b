//! `readv`, `writev` and their positioned relatives.

use linux_abi::{Errno, UserPtr};
use sentry::task::{Current, Iovec};
use sentry::vfs::open_flags::{O_APPEND, O_DSYNC, O_NONBLOCK, O_SYNC};
use sentry::vfs::{Fd, Place};

use super::rw::{Memory, read_into, readable, readable_at, writable, writable_at, write_from};

/// `readv(2)`: <https://man7.org/linux/man-pages/man2/readv.2.html>
pub(crate) fn readv(
    current: &mut Current,
    fd: Fd,
    pieces: UserPtr<Iovec>,
    count: usize,
) -> Result<usize, Errno> {
    let file = readable(current, fd)?;
    let pieces = current.read_iovecs(pieces, count)?;
    read_into(current, &file, &Memory::Several(pieces), Place::Position, 0)
}

/// `writev(2)`: <https://man7.org/linux/man-pages/man2/writev.2.html>
pub(crate) fn writev(
    current: &mut Current,
    fd: Fd,
    pieces: UserPtr<Iovec>,
    count: usize,
) -> Result<usize, Errno> {
    let file = writable(current, fd)?;
    let pieces = current.read_iovecs(pieces, count)?;
    write_from(current, &file, &Memory::Several(pieces), Place::Position, 0)
}

/// `preadv(2)`: <https://man7.org/linux/man-pages/man2/preadv.2.html>
pub(crate) fn preadv(
    current: &mut Current,
    fd: Fd,
    pieces: UserPtr<Iovec>,
    count: usize,
    offset: i64,
) -> Result<usize, Errno> {
    let place = Place::at(offset)?;
    let file = readable_at(current, fd, place)?;
    let pieces = current.read_iovecs(pieces, count)?;
    read_into(current, &file, &Memory::Several(pieces), place, 0)
}

/// `pwritev(2)`: <https://man7.org/linux/man-pages/man2/pwritev.2.html>
pub(crate) fn pwritev(
    current: &mut Current,
    fd: Fd,
    pieces: UserPtr<Iovec>,
    count: usize,
    offset: i64,
) -> Result<usize, Errno> {
    let place = Place::at(offset)?;
    let file = writable_at(current, fd, place)?;
    let pieces = current.read_iovecs(pieces, count)?;
    write_from(current, &file, &Memory::Several(pieces), place, 0)
}

/// `preadv2(2)`: <https://man7.org/linux/man-pages/man2/preadv2.2.html>
pub(crate) fn preadv2(
    current: &mut Current,
    fd: Fd,
    pieces: UserPtr<Iovec>,
    count: usize,
    offset: i64,
    _offset_high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    let place = if offset == -1 { Place::Position } else { Place::at(offset)? };
    let file = readable_at(current, fd, place)?;
    let pieces = current.read_iovecs(pieces, count)?;
    read_into(current, &file, &Memory::Several(pieces), place, open_flags(flags)?)
}

/// `pwritev2(2)`: <https://man7.org/linux/man-pages/man2/pwritev2.2.html>
pub(crate) fn pwritev2(
    current: &mut Current,
    fd: Fd,
    pieces: UserPtr<Iovec>,
    count: usize,
    offset: i64,
    _offset_high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    let place = if offset == -1 { Place::Position } else { Place::at(offset)? };
    let file = writable_at(current, fd, place)?;
    let pieces = current.read_iovecs(pieces, count)?;
    write_from(current, &file, &Memory::Several(pieces), place, open_flags(flags)?)
}

/// `RWF_*` as the `O_*` flags of one transfer. `RWF_HIPRI` is only advice.
fn open_flags(flags: u32) -> Result<u32, Errno> {
    const HIPRI: u32 = 1;
    const FLAGS: [(u32, u32); 4] = [(2, O_DSYNC), (4, O_SYNC), (8, O_NONBLOCK), (16, O_APPEND)];
    let known = FLAGS.iter().fold(HIPRI, |all, (flag, _)| all | flag);
    if flags & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(FLAGS.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, open)| all | open))
}
