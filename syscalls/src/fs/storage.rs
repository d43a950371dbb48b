//! Getting data to storage, and advice about it.

use linux_abi::Errno;
use sentry::task::Current;
use sentry::vfs::Fd;

/// `fsync(2)`: <https://man7.org/linux/man-pages/man2/fsync.2.html>
pub(crate) fn fsync(current: &mut Current, fd: Fd) -> Result<(), Errno> {
    current.files().get(fd)?.ops.sync(false)
}

/// `fdatasync(2)`: <https://man7.org/linux/man-pages/man2/fdatasync.2.html>
pub(crate) fn fdatasync(current: &mut Current, fd: Fd) -> Result<(), Errno> {
    current.files().get(fd)?.ops.sync(true)
}

/// `sync(2)`: <https://man7.org/linux/man-pages/man2/sync.2.html>
pub(crate) fn sync(current: &mut Current) -> Result<(), Errno> {
    for mount in current.fs().namespace().mounts() {
        // LINUX: it never fails.
        let _ = mount.file_system.sync();
    }
    Ok(())
}

/// `syncfs(2)`: <https://man7.org/linux/man-pages/man2/syncfs.2.html>
pub(crate) fn syncfs(current: &mut Current, fd: Fd) -> Result<(), Errno> {
    current.files().get(fd)?.location.mount.file_system.sync()
}

/// `sync_file_range(2)`: <https://man7.org/linux/man-pages/man2/sync_file_range.2.html>
pub(crate) fn sync_file_range(
    current: &mut Current,
    fd: Fd,
    offset: i64,
    len: i64,
    flags: u32,
) -> Result<(), Errno> {
    const WRITE: u32 = 2;
    let file = current.files().get(fd)?;
    let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
    if flags & !7 != 0 || offset < 0 || end < offset {
        return Err(Errno::EINVAL);
    }
    if !file.ops.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    if flags & WRITE == 0 { Ok(()) } else { file.ops.sync(true) }
}

/// `fadvise64(2)`: <https://man7.org/linux/man-pages/man2/posix_fadvise.2.html>
pub(crate) fn fadvise64(
    current: &mut Current,
    fd: Fd,
    _offset: i64,
    len: i64,
    advice: u32,
) -> Result<(), Errno> {
    const ADVICE_MAX: u32 = 5;
    let file = current.files().get(fd)?;
    if !file.ops.is_seekable() {
        return Err(Errno::ESPIPE);
    }
    if advice > ADVICE_MAX || len < 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `readahead(2)`: <https://man7.org/linux/man-pages/man2/readahead.2.html>
pub(crate) fn readahead(current: &mut Current, fd: Fd, _offset: i64, _count: usize) -> Result<(), Errno> {
    let file = current.files().get(fd)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    if file.location.inode().access()?.is_regular() { Ok(()) } else { Err(Errno::EINVAL) }
}
