//! Descriptors: `dup` and its relatives, `ioctl`.

use linux_abi::{Errno, UserPtr};
use sentry::task::{Current, Resource};
use sentry::vfs::open_flags::{O_ASYNC, O_CLOEXEC, O_NONBLOCK};
use sentry::vfs::{Fd, OpenFile};
use std::sync::Arc;

use super::install;

const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIONBIO: u32 = 0x5421;
const FIOASYNC: u32 = 0x5452;
const FIONREAD: u32 = 0x541b;
const FIGETBSZ: u32 = 2;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;

/// `dup(2)`: <https://man7.org/linux/man-pages/man2/dup.2.html>
pub(crate) fn dup(current: &mut Current, fd: Fd) -> Result<Fd, Errno> {
    let file = current.files().get_any(fd)?;
    install(current, file, false)
}

/// `dup2(2)`: <https://man7.org/linux/man-pages/man2/dup2.2.html>
pub(crate) fn dup2(current: &mut Current, old: Fd, new: Fd) -> Result<Fd, Errno> {
    let file = current.files().get_any(old)?;
    if old == new {
        return Ok(new);
    }
    replace(current, file, new, false)
}

/// `dup3(2)`: <https://man7.org/linux/man-pages/man2/dup3.2.html>
pub(crate) fn dup3(current: &mut Current, old: Fd, new: Fd, flags: u32) -> Result<Fd, Errno> {
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let limit = current.process().limit(Resource::Nofile).soft;
    if u64::try_from(new.0).is_ok_and(|new| new >= limit) {
        return Err(Errno::EBADF);
    }
    let file = current.files().get_any(old)?;
    replace(current, file, new, flags & O_CLOEXEC != 0)
}

fn replace(current: &Current, file: Arc<OpenFile>, new: Fd, close_on_exec: bool) -> Result<Fd, Errno> {
    let limit = current.process().limit(Resource::Nofile).soft;
    let files = current.files();
    if let Some(old) = files.replace(new, file, close_on_exec, limit)? {
        // LINUX: what becomes of the old one's data is not told.
        let _ = old.close(current.task(), &files);
    }
    Ok(new)
}

/// `ioctl(2)`: <https://man7.org/linux/man-pages/man2/ioctl.2.html>
pub(crate) fn ioctl(current: &mut Current, fd: Fd, command: u32, arg: u64) -> Result<u64, Errno> {
    let file = current.files().get(fd)?;
    match command {
        FIOCLEX | FIONCLEX => {
            current.files().set_close_on_exec(fd, command == FIOCLEX)?;
            Ok(0)
        }
        FIONBIO => set_flag(current, &file, O_NONBLOCK, arg),
        FIOASYNC => set_async(current, fd, &file, arg),
        FIONREAD | FIGETBSZ | FICLONE | FICLONERANGE if file.location.inode().access()?.is_regular() => {
            regular(current, &file, command, arg)
        }
        _ => {
            let ops = Arc::clone(&file.ops);
            ops.ioctl(current, &file, command, arg)
        }
    }
}

fn set_flag(current: &Current, file: &OpenFile, flag: u32, arg: u64) -> Result<u64, Errno> {
    let on: i32 = current.read_object(UserPtr::new(arg))?;
    let flags = file.flags();
    file.set_flags(if on == 0 { flags & !flag } else { flags | flag });
    Ok(0)
}

/// LINUX: `ioctl_fioasync`.
fn set_async(current: &mut Current, fd: Fd, file: &Arc<OpenFile>, arg: u64) -> Result<u64, Errno> {
    let wanted = current.read_object(UserPtr::<i32>::new(arg))? != 0;
    if wanted == (file.flags() & O_ASYNC != 0) {
        return Ok(0);
    }
    let is_on = file.set_async(current.task(), fd, wanted);
    file.set_flags(file.flags() & !O_ASYNC | if is_on { O_ASYNC } else { 0 });
    if wanted && !is_on { Err(Errno::ENOTTY) } else { Ok(0) }
}

/// What every regular file answers.
fn regular(current: &mut Current, file: &OpenFile, command: u32, arg: u64) -> Result<u64, Errno> {
    let answer = match command {
        FIONREAD => {
            let left = file.ops.size()?.saturating_sub(*file.lock_position());
            i32::try_from(left).unwrap_or(i32::MAX)
        }
        FIGETBSZ => i32::try_from(file.location.inode().stat()?.blksize).unwrap_or(4096),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    current.write_object(UserPtr::new(arg), &answer)?;
    Ok(0)
}
