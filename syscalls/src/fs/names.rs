//! Names: removing, linking, renaming, making nodes, reading links.

use std::sync::Arc;

use linux_abi::fs::{AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW};
use linux_abi::{Errno, UserCStr, UserPtr};
use sentry::task::{Capability, Current};
use sentry::vfs::{Caller, Fd, LinkTarget, Lookup, NewKind, OpenFile, mode};

use super::{CWD, read_path, start};

/// `unlink(2)`: <https://man7.org/linux/man-pages/man2/unlink.2.html>
pub(crate) fn unlink(current: &mut Current, path: UserCStr) -> Result<(), Errno> {
    unlinkat(current, CWD, path, 0)
}

/// `unlinkat(2)`: <https://man7.org/linux/man-pages/man2/unlinkat.2.html>
pub(crate) fn unlinkat(current: &mut Current, dir: Fd, path: UserCStr, flags: u32) -> Result<(), Errno> {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let path = current.read_path(path)?;
    let start = start(current, dir, &path)?;
    let caller = Caller::of(current.task());
    if flags & AT_REMOVEDIR == 0 { caller.unlink(&start, &path) } else { caller.rmdir(&start, &path) }
}

/// `link(2)`: <https://man7.org/linux/man-pages/man2/link.2.html>
pub(crate) fn link(current: &mut Current, old: UserCStr, new: UserCStr) -> Result<(), Errno> {
    linkat(current, CWD, old, CWD, new, 0)
}

/// `linkat(2)`: <https://man7.org/linux/man-pages/man2/linkat.2.html>
pub(crate) fn linkat(
    current: &mut Current,
    old_dir: Fd,
    old: UserCStr,
    new_dir: Fd,
    new: UserCStr,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Caller::of(current.task());
    let mut lookup = Lookup::empty();
    lookup.set(Lookup::FOLLOW, flags & AT_SYMLINK_FOLLOW != 0);
    lookup.set(Lookup::EMPTY, flags & AT_EMPTY_PATH != 0);
    let old = read_path(current, old, lookup)?;
    // LINUX: since 6.10 whoever opened the descriptor may, too.
    if old.is_empty() && !caller.has(Capability::DacReadSearch) {
        let may = |file: Arc<OpenFile>| file.is_opened_by(&caller.credentials);
        if !current.files().get_any(old_dir).is_ok_and(may) {
            return Err(Errno::ENOENT);
        }
    }
    let old_start = start(current, old_dir, &old)?;
    let old = caller.resolve(&old_start, &old, lookup)?;
    let new = current.read_path(new)?;
    let new_start = start(current, new_dir, &new)?;
    caller.link(&old, &new_start, &new)
}

/// `symlink(2)`: <https://man7.org/linux/man-pages/man2/symlink.2.html>
pub(crate) fn symlink(current: &mut Current, target: UserCStr, path: UserCStr) -> Result<(), Errno> {
    symlinkat(current, target, CWD, path)
}

/// `symlinkat(2)`: <https://man7.org/linux/man-pages/man2/symlinkat.2.html>
pub(crate) fn symlinkat(
    current: &mut Current,
    target: UserCStr,
    dir: Fd,
    path: UserCStr,
) -> Result<(), Errno> {
    let target = current.read_path(target)?;
    let path = current.read_path(path)?;
    let start = start(current, dir, &path)?;
    Caller::of(current.task()).symlink(&target, &start, &path).map(|_| ())
}

/// `readlink(2)`: <https://man7.org/linux/man-pages/man2/readlink.2.html>
pub(crate) fn readlink(
    current: &mut Current,
    path: UserCStr,
    buf: UserPtr<u8>,
    len: i32,
) -> Result<usize, Errno> {
    readlinkat(current, CWD, path, buf, len)
}

/// `readlinkat(2)`: <https://man7.org/linux/man-pages/man2/readlinkat.2.html>
pub(crate) fn readlinkat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    buf: UserPtr<u8>,
    len: i32,
) -> Result<usize, Errno> {
    let len = usize::try_from(len).ok().filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
    let path = current.read_path(path)?;
    let start = start(current, dir, &path)?;
    let found = Caller::of(current.task()).find(&start, &path, Lookup::EMPTY)?;
    if !found.access.is_symlink() {
        // LINUX: with an empty path the descriptor must be a link's.
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    }
    let mut target = match found.location.inode().read_link(current.task())? {
        LinkTarget::Path(target) => target,
        LinkTarget::Jump(location) => location.path(&current.fs().root()).0,
    };
    target.truncate(len);
    current.write_user(buf.addr(), &target)?;
    Ok(target.len())
}

/// `rename(2)`: <https://man7.org/linux/man-pages/man2/rename.2.html>
pub(crate) fn rename(current: &mut Current, old: UserCStr, new: UserCStr) -> Result<(), Errno> {
    renameat2(current, CWD, old, CWD, new, 0)
}

/// `renameat(2)`: <https://man7.org/linux/man-pages/man2/renameat.2.html>
pub(crate) fn renameat(
    current: &mut Current,
    old_dir: Fd,
    old: UserCStr,
    new_dir: Fd,
    new: UserCStr,
) -> Result<(), Errno> {
    renameat2(current, old_dir, old, new_dir, new, 0)
}

/// `renameat2(2)`: <https://man7.org/linux/man-pages/man2/renameat2.2.html>
pub(crate) fn renameat2(
    current: &mut Current,
    old_dir: Fd,
    old: UserCStr,
    new_dir: Fd,
    new: UserCStr,
    flags: u32,
) -> Result<(), Errno> {
    let old = current.read_path(old)?;
    let new = current.read_path(new)?;
    let old_start = start(current, old_dir, &old)?;
    let new_start = start(current, new_dir, &new)?;
    Caller::of(current.task()).rename((&old_start, &old), (&new_start, &new), flags)
}

/// `mknod(2)`: <https://man7.org/linux/man-pages/man2/mknod.2.html>
pub(crate) fn mknod(current: &mut Current, path: UserCStr, mode: u32, dev: u32) -> Result<(), Errno> {
    mknodat(current, CWD, path, mode, dev)
}

/// `mknodat(2)`: <https://man7.org/linux/man-pages/man2/mknodat.2.html>
pub(crate) fn mknodat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    mode: u32,
    dev: u32,
) -> Result<(), Errno> {
    let rdev = u64::from(dev);
    let kind = match mode & mode::S_IFMT {
        0 | mode::S_IFREG => NewKind::Regular,
        mode::S_IFIFO => NewKind::Fifo,
        mode::S_IFSOCK => NewKind::Socket,
        mode::S_IFCHR => NewKind::Device { character: true, rdev },
        mode::S_IFBLK => NewKind::Device { character: false, rdev },
        mode::S_IFDIR => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let path = current.read_path(path)?;
    let start = start(current, dir, &path)?;
    Caller::of(current.task()).mknod(&start, &path, kind, mode).map(|_| ())
}
