//! `stat` and its relatives, `statx`, `statfs`.

use linux_abi::fs::{
    AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_STATX_SYNC_TYPE, AT_SYMLINK_NOFOLLOW, STATX_ATTR_MOUNT_ROOT,
    STATX_BASIC_STATS, STATX_BTIME, STATX_MNT_ID, STATX_RESERVED, StatBuf, StatFsBuf, Statx, StatxTime,
};
use linux_abi::time::Timespec;
use linux_abi::{Errno, UserCStr, UserPtr};
use sentry::task::Current;
use sentry::vfs::permission::ms;
use sentry::vfs::{Fd, Location, Lookup, Stat, major, minor};
use std::sync::Arc;

use super::{CWD, find, lookup};

/// `stat(2)`: <https://man7.org/linux/man-pages/man2/stat.2.html>
pub(crate) fn stat(current: &mut Current, path: UserCStr, buf: UserPtr<StatBuf>) -> Result<(), Errno> {
    newfstatat(current, CWD, path, buf, 0)
}

/// `lstat(2)`: <https://man7.org/linux/man-pages/man2/lstat.2.html>
pub(crate) fn lstat(current: &mut Current, path: UserCStr, buf: UserPtr<StatBuf>) -> Result<(), Errno> {
    newfstatat(current, CWD, path, buf, AT_SYMLINK_NOFOLLOW)
}

/// `fstat(2)`: <https://man7.org/linux/man-pages/man2/fstat.2.html>
pub(crate) fn fstat(current: &mut Current, fd: Fd, buf: UserPtr<StatBuf>) -> Result<(), Errno> {
    let stat = current.files().get_any(fd)?.location.inode().stat()?;
    current.write_object(buf, &stat_buf(&stat))
}

/// `newfstatat(2)`: <https://man7.org/linux/man-pages/man2/newfstatat.2.html>
pub(crate) fn newfstatat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    buf: UserPtr<StatBuf>,
    flags: u32,
) -> Result<(), Errno> {
    // LINUX: vfs_statx: how fresh it is to be may be asked for here, too.
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(current, dir, path, lookup(flags))?;
    current.write_object(buf, &stat_buf(&found.stat()?))
}

fn stat_buf(stat: &Stat) -> StatBuf {
    StatBuf {
        dev: stat.dev,
        ino: stat.ino,
        nlink: u64::from(stat.nlink),
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        pad: 0,
        rdev: stat.rdev,
        size: stat.size,
        blksize: u64::from(stat.blksize),
        blocks: stat.blocks,
        atime: time(stat.atime_ns),
        mtime: time(stat.mtime_ns),
        ctime: time(stat.ctime_ns),
        unused: [0; 3],
    }
}

fn time(ns: i64) -> Timespec {
    Timespec { sec: ns.div_euclid(1_000_000_000), nsec: ns.rem_euclid(1_000_000_000) }
}

/// `statx(2)`: <https://man7.org/linux/man-pages/man2/statx.2.html>
pub(crate) fn statx(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    flags: u32,
    mask: u32,
    buf: UserPtr<Statx>,
) -> Result<(), Errno> {
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    if flags & !known != 0 || mask & STATX_RESERVED != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let found = find(current, dir, path, lookup(flags))?;
    current.write_object(buf, &statx_buf(&found.stat()?, &found.location))
}

fn statx_buf(stat: &Stat, location: &Location) -> Statx {
    let stamp = |ns| {
        let Timespec { sec, nsec } = time(ns);
        StatxTime { sec, nsec: u32::try_from(nsec).unwrap_or(0), pad: 0 }
    };
    let is_mount_root = Arc::ptr_eq(&location.dentry, &location.mount.root);
    let born = if stat.btime_ns == 0 { 0 } else { STATX_BTIME };
    Statx {
        mask: STATX_BASIC_STATS | STATX_MNT_ID | born,
        blksize: stat.blksize,
        attributes: if is_mount_root { STATX_ATTR_MOUNT_ROOT } else { 0 },
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        mode: u16::try_from(stat.mode & 0xffff).unwrap_or(0),
        ino: stat.ino,
        size: stat.size,
        blocks: stat.blocks,
        attributes_mask: STATX_ATTR_MOUNT_ROOT,
        atime: stamp(stat.atime_ns),
        btime: stamp(stat.btime_ns),
        ctime: stamp(stat.ctime_ns),
        mtime: stamp(stat.mtime_ns),
        rdev_major: major(stat.rdev),
        rdev_minor: minor(stat.rdev),
        dev_major: major(stat.dev),
        dev_minor: minor(stat.dev),
        mnt_id: u64::from(location.mount.id),
        ..Statx::default()
    }
}

/// `statfs(2)`: <https://man7.org/linux/man-pages/man2/statfs.2.html>
pub(crate) fn statfs(current: &mut Current, path: UserCStr, buf: UserPtr<StatFsBuf>) -> Result<(), Errno> {
    let found = find(current, CWD, path, Lookup::FOLLOW)?;
    let answer = statfs_buf(&found.location)?;
    current.write_object(buf, &answer)
}

/// `fstatfs(2)`: <https://man7.org/linux/man-pages/man2/fstatfs.2.html>
pub(crate) fn fstatfs(current: &mut Current, fd: Fd, buf: UserPtr<StatFsBuf>) -> Result<(), Errno> {
    let answer = statfs_buf(&current.files().get_any(fd)?.location)?;
    current.write_object(buf, &answer)
}

fn statfs_buf(location: &Location) -> Result<StatFsBuf, Errno> {
    /// LINUX: `ST_VALID`.
    const ST_VALID: u32 = 0x20;
    /// LINUX: `ST_RELATIME`.
    const ST_RELATIME: u32 = 0x1000;
    let from = location.mount.file_system.stat_fs()?;
    let mount = location.mount.flags();
    let relatime = if mount & ms::RELATIME == 0 { 0 } else { ST_RELATIME };
    let of_super = ms::RDONLY | ms::SYNCHRONOUS | ms::MANDLOCK;
    let plain = mount & (of_super | ms::NOSUID | ms::NODEV | ms::NOEXEC | ms::NOATIME | ms::NODIRATIME);
    Ok(StatFsBuf {
        kind: from.magic,
        bsize: from.block_size,
        blocks: from.blocks,
        bfree: from.blocks_free,
        bavail: from.blocks_available,
        files: from.files,
        ffree: from.files_free,
        fsid: location.mount.root.inode().access()?.dev,
        namelen: from.name_max,
        frsize: from.block_size,
        flags: u64::from(ST_VALID | plain | relatime),
        spare: [0; 4],
    })
}
