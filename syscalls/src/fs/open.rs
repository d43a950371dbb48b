//! `open` and its relatives, `close`, `close_range`.

use std::sync::Arc;

use linux_abi::fs::OpenHow;
use linux_abi::{Errno, PAGE_SIZE, UserCStr, UserPtr};
use sentry::fs::tmpfs;
use sentry::sync::Events;
use sentry::task::Current;
use sentry::vfs::open_flags::{
    O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDWR, O_TMPFILE_BIT, O_TRUNC, O_WRONLY,
    VALID,
};
use sentry::vfs::{Caller, Fd, How, Lookup, OpenFile};

use super::{CWD, install, start};

/// `RESOLVE_CACHED`.
const RESOLVE_CACHED: u64 = 0x20;
/// `RESOLVE_*` in the order of their bits.
const RESOLVE: [(u64, Lookup); 5] = [
    (1, Lookup::NO_XDEV),
    (2, Lookup::NO_MAGICLINKS),
    (4, Lookup::NO_SYMLINKS),
    (8, Lookup::BENEATH),
    (16, Lookup::IN_ROOT),
];
/// `CLOSE_RANGE_UNSHARE`.
const CLOSE_RANGE_UNSHARE: u32 = 2;
/// `CLOSE_RANGE_CLOEXEC`.
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// `open(2)`: <https://man7.org/linux/man-pages/man2/open.2.html>
pub(crate) fn open(current: &mut Current, path: UserCStr, flags: u32, mode: u32) -> Result<Fd, Errno> {
    openat(current, CWD, path, flags, mode)
}

/// `creat(2)`: <https://man7.org/linux/man-pages/man2/creat.2.html>
pub(crate) fn creat(current: &mut Current, path: UserCStr, mode: u32) -> Result<Fd, Errno> {
    openat(current, CWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}

/// `openat(2)`: <https://man7.org/linux/man-pages/man2/openat.2.html>
pub(crate) fn openat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    flags: u32,
    mode: u32,
) -> Result<Fd, Errno> {
    // LINUX: bits that open(2) does not know are ignored, with O_PATH also most of those that it does.
    let mut flags = flags & VALID;
    if flags & O_PATH != 0 {
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    }
    let makes = flags & (O_CREAT | O_TMPFILE_BIT) != 0;
    let how = How { flags, mode: if makes { mode & 0o7777 } else { 0 }, ..How::default() };
    open_how(current, dir, path, how)
}

/// `openat2(2)`: <https://man7.org/linux/man-pages/man2/openat2.2.html>
pub(crate) fn openat2(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    how: UserPtr<OpenHow>,
    size: usize,
) -> Result<Fd, Errno> {
    let asked = read_how(current, how, size)?;
    let flags = u32::try_from(asked.flags).map_err(|_| Errno::EINVAL)?;
    let makes = flags & (O_CREAT | O_TMPFILE_BIT) != 0;
    if flags & !VALID != 0 || asked.mode & !0o7777 != 0 || (!makes && asked.mode != 0) {
        return Err(Errno::EINVAL);
    }
    if flags & O_PATH != 0 && flags & !(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut resolve = Lookup::empty();
    let mut rest = asked.resolve;
    for (bit, lookup) in RESOLVE {
        if rest & bit != 0 {
            resolve |= lookup;
            rest &= !bit;
        }
    }
    if rest & RESOLVE_CACHED != 0 {
        return Err(Errno::EAGAIN);
    }
    if rest != 0 || resolve.contains(Lookup::BENEATH | Lookup::IN_ROOT) {
        return Err(Errno::EINVAL);
    }
    let mode = u32::try_from(asked.mode).map_err(|_| Errno::EINVAL)?;
    open_how(current, dir, path, How { flags, mode, resolve })
}

/// LINUX: `copy_struct_from_user`: larger structures are fine as long as the rest is zero.
fn read_how(current: &Current, how: UserPtr<OpenHow>, size: usize) -> Result<OpenHow, Errno> {
    const KNOWN: usize = size_of::<OpenHow>();
    if size < KNOWN {
        return Err(Errno::EINVAL);
    }
    if size as u64 > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut rest = vec![0; size - KNOWN];
    current.read_user(how.byte_add(KNOWN as u64).addr(), &mut rest)?;
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    current.read_object(how)
}

fn open_how(current: &mut Current, dir: Fd, path: UserCStr, how: How) -> Result<Fd, Errno> {
    if how.flags & O_TMPFILE_BIT != 0 {
        // LINUX: `__O_TMPFILE` alone is nothing; a nameless file is only good for writing.
        let is_writable = matches!(how.flags & O_ACCMODE, O_WRONLY | O_RDWR);
        if how.flags & O_DIRECTORY == 0 || !is_writable || how.flags & O_CREAT != 0 {
            return Err(Errno::EINVAL);
        }
    }
    if how.flags & (O_CREAT | O_DIRECTORY) == O_CREAT | O_DIRECTORY {
        return Err(Errno::EINVAL);
    }
    let path = current.read_path(path)?;
    // LINUX: in a root of its own an absolute path begins at the descriptor as well.
    let is_rooted = how.resolve.contains(Lookup::IN_ROOT);
    let start = start(current, dir, if is_rooted { b"" } else { &path })?;
    let file = Caller::of(current.task()).open(&start, &path, how)?;
    wait_until_open(current, &file)?;
    install(current, file, how.flags & O_CLOEXEC != 0)
}

/// A fifo waits for its other end.
fn wait_until_open(current: &mut Current, file: &Arc<OpenFile>) -> Result<(), Errno> {
    if file.is_nonblocking() {
        return Ok(());
    }
    let interest = Events::READABLE | Events::WRITABLE;
    current.block_on_file(file, interest, false, None, |_| file.ops.open_ready())
}

/// `close(2)`: <https://man7.org/linux/man-pages/man2/close.2.html>
pub(crate) fn close(current: &mut Current, fd: Fd) -> Result<(), Errno> {
    let files = current.files();
    let file = files.remove(fd)?;
    file.close(current.task(), &files)
}

/// `close_range(2)`: <https://man7.org/linux/man-pages/man2/close_range.2.html>
pub(crate) fn close_range(current: &mut Current, first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        current.unshare_files();
    }
    let files = current.files();
    let is_meant = |fd: Fd| u32::try_from(fd.0).is_ok_and(|number| (first..=last).contains(&number));
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        for fd in files.numbers().into_iter().filter(|&fd| is_meant(fd)) {
            // Another thread may have closed it meanwhile.
            let _ = files.set_close_on_exec(fd, true);
        }
    } else {
        files.close_where(current.task(), |fd, _| is_meant(fd));
    }
    Ok(())
}

/// `MFD_CLOEXEC`.
const MFD_CLOEXEC: u32 = 1;
/// `MFD_ALLOW_SEALING`.
const MFD_ALLOW_SEALING: u32 = 2;
/// `MFD_NOEXEC_SEAL`.
const MFD_NOEXEC_SEAL: u32 = 8;
/// `MFD_EXEC`.
const MFD_EXEC: u32 = 16;
/// Longest name, with its zero byte and without the `memfd:` in front. LINUX: `MFD_NAME_MAX_LEN`.
const MFD_NAME_MAX: usize = 250;

/// `memfd_create(2)`: <https://man7.org/linux/man-pages/man2/memfd_create.2.html>
pub(crate) fn memfd_create(current: &mut Current, name: UserCStr, flags: u32) -> Result<Fd, Errno> {
    let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !known != 0 || flags & MFD_EXEC != 0 && flags & MFD_NOEXEC_SEAL != 0 {
        return Err(Errno::EINVAL);
    }
    let name = current.read_cstr(name, MFD_NAME_MAX, Errno::EINVAL)?;
    let (mode, seals) = match flags & (MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING) {
        0 => (0o777, tmpfs::seal::SEAL),
        MFD_ALLOW_SEALING => (0o777, 0),
        _ => (0o666, tmpfs::seal::EXEC),
    };
    let location = tmpfs::new_memory_file(current.task(), &name, mode, seals)?;
    let access = location.inode().access()?;
    let file = Caller::of(current.task()).open_unchecked(&location, &access, O_RDWR)?;
    install(current, file, flags & MFD_CLOEXEC != 0)
}
