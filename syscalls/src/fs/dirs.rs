//! Directories: listing them, where one stands, making and removing them.

use linux_abi::{Errno, UserCStr, UserPtr};
use sentry::fs::inotify;
use sentry::task::{Capability, Current};
use sentry::vfs::permission::Want;
use sentry::vfs::{Caller, DirEntry, Fd, Location, Lookup};

use super::{CWD, find, start};

/// Most bytes of one listing.
const LISTING_MAX: usize = 64 << 10;

/// How directory entries are laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent`: the kind is the last byte.
    Old,
    /// `struct linux_dirent64`.
    New,
}

/// `getdents64(2)`: <https://man7.org/linux/man-pages/man2/getdents64.2.html>
pub(crate) fn getdents64(current: &mut Current, fd: Fd, buf: UserPtr<u8>, len: u32) -> Result<usize, Errno> {
    list(current, fd, buf, len as usize, Layout::New)
}

/// `getdents(2)`: <https://man7.org/linux/man-pages/man2/getdents.2.html>
pub(crate) fn getdents(current: &mut Current, fd: Fd, buf: UserPtr<u8>, len: u32) -> Result<usize, Errno> {
    list(current, fd, buf, len as usize, Layout::Old)
}

fn list(current: &mut Current, fd: Fd, buf: UserPtr<u8>, len: usize, layout: Layout) -> Result<usize, Errno> {
    let file = current.files().get(fd)?;
    let room = len.min(LISTING_MAX);
    let mut bytes = Vec::with_capacity(room);
    let mut is_too_small = false;
    let mut position = file.lock_position();
    let mut next = *position;
    file.ops.read_dir(&file.op(current.task()), *position, &mut |entry| {
        let fits = append(&mut bytes, &entry, room, layout);
        if fits {
            next = entry.next;
        }
        is_too_small = !fits && bytes.is_empty();
        fits
    })?;
    if is_too_small {
        return Err(Errno::EINVAL);
    }
    current.write_user(buf.addr(), &bytes)?;
    *position = next;
    drop(position);
    inotify::notify_at(&current.task().kernel, &file.location, inotify::mask::ACCESS);
    Ok(bytes.len())
}

/// Adds an entry if there is room for it.
fn append(bytes: &mut Vec<u8>, entry: &DirEntry<'_>, room: usize, layout: Layout) -> bool {
    // Inode, offset, length; then kind and name, or name and kind; then zeros up to the next eight bytes.
    let length = (8 + 8 + 2 + 1 + entry.name.len() + 1).next_multiple_of(8);
    let Ok(length_field) = u16::try_from(length) else { return true };
    if bytes.len() + length > room {
        return false;
    }
    let end = bytes.len() + length;
    bytes.extend_from_slice(&entry.ino.to_le_bytes());
    bytes.extend_from_slice(&entry.next.to_le_bytes());
    bytes.extend_from_slice(&length_field.to_le_bytes());
    if layout == Layout::New {
        bytes.push(entry.kind);
    }
    bytes.extend_from_slice(entry.name);
    bytes.resize(end, 0);
    if layout == Layout::Old
        && let Some(last) = bytes.last_mut()
    {
        *last = entry.kind;
    }
    true
}

/// `getcwd(2)`: <https://man7.org/linux/man-pages/man2/getcwd.2.html>
pub(crate) fn getcwd(current: &mut Current, buf: UserPtr<u8>, len: usize) -> Result<usize, Errno> {
    let fs = current.fs();
    let cwd = fs.cwd();
    if cwd.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let (path, is_reachable) = cwd.path(&fs.root());
    let mut text = if is_reachable { Vec::new() } else { b"(unreachable)".to_vec() };
    text.extend_from_slice(&path);
    text.push(0);
    if text.len() > len {
        return Err(Errno::ERANGE);
    }
    current.write_user(buf.addr(), &text)?;
    Ok(text.len())
}

/// `chdir(2)`: <https://man7.org/linux/man-pages/man2/chdir.2.html>
pub(crate) fn chdir(current: &mut Current, path: UserCStr) -> Result<(), Errno> {
    let found = find(current, CWD, path, Lookup::FOLLOW | Lookup::DIRECTORY)?;
    Caller::of(current.task()).check(&found.location, &found.access, Want::EXEC)?;
    current.fs().set_cwd(found.location);
    Ok(())
}

/// `fchdir(2)`: <https://man7.org/linux/man-pages/man2/fchdir.2.html>
pub(crate) fn fchdir(current: &mut Current, fd: Fd) -> Result<(), Errno> {
    let location: Location = current.files().get_any(fd)?.location.clone();
    let stat = location.inode().access()?;
    if !stat.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    Caller::of(current.task()).check(&location, &stat, Want::EXEC)?;
    current.fs().set_cwd(location);
    Ok(())
}

/// `chroot(2)`: <https://man7.org/linux/man-pages/man2/chroot.2.html>
pub(crate) fn chroot(current: &mut Current, path: UserCStr) -> Result<(), Errno> {
    let found = find(current, CWD, path, Lookup::FOLLOW | Lookup::DIRECTORY)?;
    let caller = Caller::of(current.task());
    caller.check(&found.location, &found.access, Want::EXEC)?;
    if !caller.has(Capability::SysChroot) {
        return Err(Errno::EPERM);
    }
    current.fs().set_root(found.location);
    Ok(())
}

/// `mkdir(2)`: <https://man7.org/linux/man-pages/man2/mkdir.2.html>
pub(crate) fn mkdir(current: &mut Current, path: UserCStr, mode: u32) -> Result<(), Errno> {
    mkdirat(current, CWD, path, mode)
}

/// `mkdirat(2)`: <https://man7.org/linux/man-pages/man2/mkdirat.2.html>
pub(crate) fn mkdirat(current: &mut Current, dir: Fd, path: UserCStr, mode: u32) -> Result<(), Errno> {
    let path = current.read_path(path)?;
    let start = start(current, dir, &path)?;
    Caller::of(current.task()).mkdir(&start, &path, mode).map(|_| ())
}

/// `rmdir(2)`: <https://man7.org/linux/man-pages/man2/rmdir.2.html>
pub(crate) fn rmdir(current: &mut Current, path: UserCStr) -> Result<(), Errno> {
    let path = current.read_path(path)?;
    let start = start(current, CWD, &path)?;
    Caller::of(current.task()).rmdir(&start, &path)
}
