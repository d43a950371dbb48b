//! Reading and writing files of the host by descriptors that somebody gave us: the gofer, the shim, or memory files.
//!
//! Nothing here opens a path. Offsets and lengths are bytes.

use std::os::fd::{AsFd, IntoRawFd, OwnedFd};

use linux_abi::Errno;
use rustix::fs::{MemfdFlags, SealFlags};

use super::errno;

/// Reads at the file's own position; for pipes, terminals and the like.
///
/// # Errors
/// As `read(2)`.
pub fn read(fd: impl AsFd, buf: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::read(fd, buf).map_err(errno)
}

/// Writes at the file's own position.
///
/// # Errors
/// As `write(2)`.
pub fn write(fd: impl AsFd, buf: &[u8]) -> Result<usize, Errno> {
    rustix::io::write(fd, buf).map_err(errno)
}

/// Access mode and status flags, `F_GETFL`.
///
/// # Errors
/// As `fcntl(2)`.
pub fn flags(fd: impl AsFd) -> Result<u32, Errno> {
    rustix::fs::fcntl_getfl(fd).map(|flags| flags.bits()).map_err(errno)
}

/// Major and minor number of a device.
#[must_use]
pub fn device(stat: &rustix::fs::Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// Moves the open file's own position, `lseek(2)`; `whence` is the raw `SEEK_*`.
///
/// # Errors
/// As `lseek(2)`; EINVAL for another `whence`.
pub fn seek(fd: impl AsFd, whence: u32, offset: i64) -> Result<u64, Errno> {
    use rustix::fs::SeekFrom;
    let start = |offset: i64| u64::try_from(offset).map_err(|_| Errno::EINVAL);
    let to = match whence {
        0 => SeekFrom::Start(start(offset)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        3 => SeekFrom::Data(start(offset).map_err(|_| Errno::ENXIO)?),
        4 => SeekFrom::Hole(start(offset).map_err(|_| Errno::ENXIO)?),
        _ => return Err(Errno::EINVAL),
    };
    rustix::fs::seek(fd, to).map_err(errno)
}

/// The open file's own position.
///
/// # Errors
/// As `lseek(2)`.
pub fn position(fd: impl AsFd) -> Result<u64, Errno> {
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Current(0)).map_err(errno)
}

/// Reads at `offset`.
///
/// # Errors
/// As `pread(2)`.
pub fn read_at(fd: impl AsFd, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    rustix::io::pread(fd, buf, offset).map_err(errno)
}

/// Writes at `offset`.
///
/// # Errors
/// As `pwrite(2)`.
pub fn write_at(fd: impl AsFd, buf: &[u8], offset: u64) -> Result<usize, Errno> {
    rustix::io::pwrite(fd, buf, offset).map_err(errno)
}

/// Sets the length.
///
/// # Errors
/// As `ftruncate(2)`.
pub fn truncate(fd: impl AsFd, len: u64) -> Result<(), Errno> {
    rustix::fs::ftruncate(fd, len).map_err(errno)
}

/// Allocates or punches, `fallocate(2)`; `mode` is the raw mode.
///
/// # Errors
/// As `fallocate(2)`.
pub fn allocate(fd: impl AsFd, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
    let mode = rustix::fs::FallocateFlags::from_bits(mode).ok_or(Errno::EOPNOTSUPP)?;
    rustix::fs::fallocate(fd, mode, offset, len).map_err(errno)
}

/// Size and allocated blocks of 512 bytes, as `fstat(2)` tells.
///
/// # Errors
/// As `fstat(2)`.
pub fn size_and_blocks(fd: impl AsFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd).map_err(errno)?;
    Ok((u64::try_from(stat.st_size).unwrap_or(0), u64::try_from(stat.st_blocks).unwrap_or(0)))
}

/// All of `fstat(2)`.
///
/// # Errors
/// As `fstat(2)`.
pub fn stat(fd: impl AsFd) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::fstat(fd).map_err(errno)
}

/// `SEEK_DATA` from `offset`.
///
/// # Errors
/// ENXIO past the end.
pub fn seek_data(fd: impl AsFd, offset: u64) -> Result<u64, Errno> {
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Data(offset)).map_err(errno)
}

/// `SEEK_HOLE` from `offset`.
///
/// # Errors
/// ENXIO past the end.
pub fn seek_hole(fd: impl AsFd, offset: u64) -> Result<u64, Errno> {
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Hole(offset)).map_err(errno)
}

/// Whether there is anything at `offset` of a file with holes, and up to where that goes on; `u64::MAX` if nothing follows.
#[must_use]
pub fn stretch(fd: impl AsFd, offset: u64) -> (bool, u64) {
    match seek_data(&fd, offset) {
        Ok(data) if data <= offset => (true, seek_hole(&fd, offset).unwrap_or(u64::MAX)),
        Ok(data) => (false, data),
        Err(_) => (false, u64::MAX),
    }
}

/// Flushes to storage; only the data if `data_only`.
///
/// # Errors
/// As `fsync(2)`.
pub fn sync(fd: impl AsFd, data_only: bool) -> Result<(), Errno> {
    if data_only { rustix::fs::fdatasync(fd).map_err(errno) } else { rustix::fs::fsync(fd).map_err(errno) }
}

/// Sends away what has been written, as `close(2)` does, and leaves the descriptor open.
///
/// # Errors
/// As `close(2)`.
pub fn flush(fd: impl AsFd) -> Result<(), Errno> {
    let copy = duplicate(fd)?.into_raw_fd();
    // SAFETY: the copy is ours, and nobody knows its number any more.
    match unsafe { libc::close(copy) } {
        0 => Ok(()),
        _ => Err(Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))),
    }
}

/// A new memory file, sealed against nothing yet.
///
/// # Errors
/// As `memfd_create(2)`.
pub fn new_memory_file(name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(errno)
}

/// Adds raw `F_SEAL_*` bits to a memory file.
///
/// # Errors
/// As `fcntl(F_ADD_SEALS)`.
pub fn add_seals(fd: impl AsFd, seals: u32) -> Result<(), Errno> {
    rustix::fs::fcntl_add_seals(fd, SealFlags::from_bits_retain(seals)).map_err(errno)
}

/// Another descriptor for the same open file.
///
/// # Errors
/// As `dup(2)`.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(errno)
}

/// Makes reads and writes of the open file fail with EAGAIN instead of waiting.
///
/// # Errors
/// As `fcntl(F_SETFL)`.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(&fd).map_err(errno)?;
    flags.set(rustix::fs::OFlags::NONBLOCK, nonblocking);
    rustix::fs::fcntl_setfl(fd, flags).map_err(errno)
}

/// Bytes from the host's random number generator.
pub fn random(buf: &mut [u8]) {
    let mut done = 0;
    while done < buf.len() {
        // Blocks only before the host's generator is seeded, and cannot fail otherwise.
        done += rustix::rand::getrandom(&mut buf[done..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
}
