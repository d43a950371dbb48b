//! Changing attributes: modes, owners, times, sizes, the umask.

use linux_abi::fs::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, UTIME_NOW, UTIME_OMIT, Utimbuf, falloc};
use linux_abi::time::{Timespec, Timeval};
use linux_abi::{Errno, UserCStr, UserPtr};
use sentry::task::Current;
use sentry::vfs::{Caller, Fd, Location, Lookup, NewTime, Times};

use super::{CWD, find, lookup};

const NS: i64 = 1_000_000_000;

/// `umask(2)`: <https://man7.org/linux/man-pages/man2/umask.2.html>
pub(crate) fn umask(current: &mut Current, mask: u32) -> Result<u32, Errno> {
    Ok(current.fs().set_umask(mask))
}

/// `chmod(2)`: <https://man7.org/linux/man-pages/man2/chmod.2.html>
pub(crate) fn chmod(current: &mut Current, path: UserCStr, mode: u32) -> Result<(), Errno> {
    fchmodat(current, CWD, path, mode)
}

/// `fchmod(2)`: <https://man7.org/linux/man-pages/man2/fchmod.2.html>
pub(crate) fn fchmod(current: &mut Current, fd: Fd, mode: u32) -> Result<(), Errno> {
    let file = current.files().get(fd)?;
    Caller::of(current.task()).chmod(&file.location, mode)
}

/// `fchmodat(2)`: <https://man7.org/linux/man-pages/man2/fchmodat.2.html>
pub(crate) fn fchmodat(current: &mut Current, dir: Fd, path: UserCStr, mode: u32) -> Result<(), Errno> {
    fchmodat2(current, dir, path, mode, 0)
}

/// `fchmodat2(2)`: <https://man7.org/linux/man-pages/man2/fchmodat2.2.html>
pub(crate) fn fchmodat2(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    mode: u32,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(current, dir, path, lookup(flags))?;
    Caller::of(current.task()).chmod(&found.location, mode)
}

/// `chown(2)`: <https://man7.org/linux/man-pages/man2/chown.2.html>
pub(crate) fn chown(current: &mut Current, path: UserCStr, uid: u32, gid: u32) -> Result<(), Errno> {
    fchownat(current, CWD, path, uid, gid, 0)
}

/// `lchown(2)`: <https://man7.org/linux/man-pages/man2/lchown.2.html>
pub(crate) fn lchown(current: &mut Current, path: UserCStr, uid: u32, gid: u32) -> Result<(), Errno> {
    fchownat(current, CWD, path, uid, gid, AT_SYMLINK_NOFOLLOW)
}

/// `fchown(2)`: <https://man7.org/linux/man-pages/man2/fchown.2.html>
pub(crate) fn fchown(current: &mut Current, fd: Fd, uid: u32, gid: u32) -> Result<(), Errno> {
    let file = current.files().get(fd)?;
    chown_at(current, &file.location, uid, gid)
}

/// `fchownat(2)`: <https://man7.org/linux/man-pages/man2/fchownat.2.html>
pub(crate) fn fchownat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(current, dir, path, lookup(flags))?;
    chown_at(current, &found.location, uid, gid)
}

/// LINUX: -1 leaves one alone.
fn chown_at(current: &Current, location: &Location, uid: u32, gid: u32) -> Result<(), Errno> {
    let given = |id| if id == u32::MAX { None } else { Some(id) };
    Caller::of(current.task()).chown(location, given(uid), given(gid))
}

/// `utime(2)`: <https://man7.org/linux/man-pages/man2/utime.2.html>
pub(crate) fn utime(current: &mut Current, path: UserCStr, times: UserPtr<Utimbuf>) -> Result<(), Errno> {
    let times = match times.non_null() {
        None => NOW,
        Some(times) => {
            let times = current.read_object(times)?;
            let at = |seconds: i64| NewTime::At(seconds.saturating_mul(NS));
            Times { atime: at(times.actime), mtime: at(times.modtime) }
        }
    };
    let found = find(current, CWD, path, Lookup::FOLLOW)?;
    Caller::of(current.task()).set_times(&found.location, times)
}

/// Both now.
const NOW: Times = Times { atime: NewTime::Now, mtime: NewTime::Now };

/// `utimes(2)`: <https://man7.org/linux/man-pages/man2/utimes.2.html>
pub(crate) fn utimes(current: &mut Current, path: UserCStr, times: UserPtr<Timeval>) -> Result<(), Errno> {
    futimesat(current, CWD, path, times)
}

/// `futimesat(2)`: <https://man7.org/linux/man-pages/man2/futimesat.2.html>
pub(crate) fn futimesat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    times: UserPtr<Timeval>,
) -> Result<(), Errno> {
    let times = match times.non_null() {
        None => NOW,
        Some(times) => {
            let atime = microseconds(current.read_object(times)?)?;
            let mtime = microseconds(current.read_object(times.element(1))?)?;
            Times { atime, mtime }
        }
    };
    if path.is_null() {
        return set_times_of(current, dir, times);
    }
    let found = find(current, dir, path, Lookup::FOLLOW)?;
    Caller::of(current.task()).set_times(&found.location, times)
}

fn microseconds(time: Timeval) -> Result<NewTime, Errno> {
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EINVAL);
    }
    Ok(NewTime::At(time.sec.saturating_mul(NS).saturating_add(time.usec * 1000)))
}

/// `utimensat(2)`: <https://man7.org/linux/man-pages/man2/utimensat.2.html>
pub(crate) fn utimensat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    times: UserPtr<Timespec>,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let times = match times.non_null() {
        None => NOW,
        Some(times) => {
            let atime = nanoseconds(current.read_object(times)?)?;
            let mtime = nanoseconds(current.read_object(times.element(1))?)?;
            Times { atime, mtime }
        }
    };
    if path.is_null() {
        return set_times_of(current, dir, times);
    }
    let found = find(current, dir, path, lookup(flags))?;
    Caller::of(current.task()).set_times(&found.location, times)
}

fn nanoseconds(time: Timespec) -> Result<NewTime, Errno> {
    match time.nsec {
        UTIME_NOW => Ok(NewTime::Now),
        UTIME_OMIT => Ok(NewTime::Omit),
        0..NS => Ok(NewTime::At(time.sec.saturating_mul(NS).saturating_add(time.nsec))),
        _ => Err(Errno::EINVAL),
    }
}

/// LINUX: a null path means the descriptor itself.
fn set_times_of(current: &Current, fd: Fd, times: Times) -> Result<(), Errno> {
    if fd == CWD {
        return Err(Errno::EFAULT);
    }
    let file = current.files().get(fd)?;
    Caller::of(current.task()).set_times(&file.location, times)
}

/// `truncate(2)`: <https://man7.org/linux/man-pages/man2/truncate.2.html>
pub(crate) fn truncate(current: &mut Current, path: UserCStr, len: i64) -> Result<(), Errno> {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    let found = find(current, CWD, path, Lookup::FOLLOW)?;
    Caller::of(current.task()).truncate(&found.location, len)
}

/// `ftruncate(2)`: <https://man7.org/linux/man-pages/man2/ftruncate.2.html>
pub(crate) fn ftruncate(current: &mut Current, fd: Fd, len: i64) -> Result<(), Errno> {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    let file = current.files().get(fd)?;
    if !file.is_writable() || !file.location.inode().access()?.is_regular() {
        return Err(Errno::EINVAL);
    }
    file.truncate(current.task(), len)
}

/// `fallocate(2)`: <https://man7.org/linux/man-pages/man2/fallocate.2.html>
pub(crate) fn fallocate(
    current: &mut Current,
    fd: Fd,
    mode: u32,
    offset: i64,
    len: i64,
) -> Result<(), Errno> {
    /// What the sentry may do on the host.
    const KNOWN: u32 = falloc::KEEP_SIZE | falloc::PUNCH_HOLE | falloc::ZERO_RANGE;
    let file = current.files().get(fd)?;
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
        return Err(Errno::EINVAL);
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if mode & !KNOWN != 0 || mode & falloc::PUNCH_HOLE != 0 && mode & falloc::KEEP_SIZE == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    let stat = file.location.inode().access()?;
    if stat.is_dir() {
        return Err(Errno::EISDIR);
    }
    if !stat.is_regular() {
        return Err(if file.ops.is_seekable() { Errno::ENODEV } else { Errno::ESPIPE });
    }
    offset.checked_add(len).filter(|&end| end <= i64::MAX.cast_unsigned()).ok_or(Errno::EFBIG)?;
    file.allocate(current.task(), mode, offset, len)
}
