//! `fcntl`: descriptor flags, status flags, and the commands of particular files.

use std::sync::Arc;

use linux_abi::fs::{FD_CLOEXEC, FOwnerEx};
use linux_abi::{Errno, UserPtr};
use sentry::fs::pipe;
use sentry::fs::tmpfs::TmpFile;
use sentry::task::{Current, Resource};
use sentry::vfs::open_flags::{O_APPEND, O_ASYNC, O_DIRECT, O_NOATIME, O_NONBLOCK, O_PATH};
use sentry::vfs::permission::is_owner;
use sentry::vfs::{Fd, FileOwner, OpenFile, owner_kind};

use super::lock::{self, Patience, Scope};

/// What `F_SETFL` may change. LINUX: `SETFL_MASK` but for `O_ASYNC`.
const CHANGEABLE: u32 = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;

/// `fcntl(2)`: <https://man7.org/linux/man-pages/man2/fcntl.2.html>
pub(crate) fn fcntl(current: &mut Current, fd: Fd, command: u32, arg: u64) -> Result<u64, Errno> {
    const F_DUPFD: u32 = 0;
    const F_GETFD: u32 = 1;
    const F_SETFD: u32 = 2;
    const F_GETFL: u32 = 3;
    const F_SETFL: u32 = 4;
    const F_DUPFD_QUERY: u32 = 1027;
    const F_DUPFD_CLOEXEC: u32 = 1030;
    let descriptor = current.files().descriptor(fd)?;
    let file = descriptor.file;
    match command {
        F_DUPFD => duplicate(current, file, arg, false),
        F_DUPFD_CLOEXEC => duplicate(current, file, arg, true),
        F_DUPFD_QUERY => {
            let other = Fd(i32::try_from(arg).map_err(|_| Errno::EBADF)?);
            Ok(u64::from(Arc::ptr_eq(&file, &current.files().get_any(other)?)))
        }
        F_GETFD => Ok(if descriptor.close_on_exec { FD_CLOEXEC } else { 0 }),
        F_SETFD => current.files().set_close_on_exec(fd, arg & FD_CLOEXEC != 0).map(|()| 0),
        F_GETFL => Ok(u64::from(file.flags())),
        // LINUX: with O_PATH nothing else works.
        _ if file.flags() & O_PATH != 0 => Err(Errno::EBADF),
        F_SETFL => set_status(current, fd, &file, arg).map(|()| 0),
        _ => of_file(current, &file, command, arg),
    }
}

fn duplicate(current: &Current, file: Arc<OpenFile>, from: u64, close_on_exec: bool) -> Result<u64, Errno> {
    let limit = current.process().limit(Resource::Nofile).soft;
    if from >= limit {
        return Err(Errno::EINVAL);
    }
    let from = usize::try_from(from).map_err(|_| Errno::EINVAL)?;
    let fd = current.files().add(file, close_on_exec, from, limit)?;
    Ok(i64::from(fd.0).cast_unsigned())
}

/// Commands on the open file.
fn of_file(current: &mut Current, file: &Arc<OpenFile>, command: u32, arg: u64) -> Result<u64, Errno> {
    let done = |()| 0;
    match command {
        // F_GETLK, F_SETLK, F_SETLKW; F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW.
        5 => lock::get(current, file, UserPtr::new(arg), Scope::Process).map(done),
        6 => lock::set(current, file, UserPtr::new(arg), Scope::Process, Patience::None).map(done),
        7 => lock::set(current, file, UserPtr::new(arg), Scope::Process, Patience::Wait).map(done),
        36 => lock::get(current, file, UserPtr::new(arg), Scope::OpenFile).map(done),
        37 => lock::set(current, file, UserPtr::new(arg), Scope::OpenFile, Patience::None).map(done),
        38 => lock::set(current, file, UserPtr::new(arg), Scope::OpenFile, Patience::Wait).map(done),
        // F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG, F_SETOWN_EX, F_GETOWN_EX: kept and told.
        8 | 9 | 10 | 11 | 15 | 16 => owner(current, file, command, arg),
        // F_SETLEASE, F_GETLEASE, F_NOTIFY.
        1024 => Err(Errno::EAGAIN),
        1025 => Ok(2),
        1026 => Err(Errno::EINVAL),
        // F_SETPIPE_SZ, F_GETPIPE_SZ.
        1031 => {
            let wanted = u32::try_from(arg).map_err(|_| Errno::EINVAL)?;
            Ok(pipe::end_of(file).ok_or(Errno::EBADF)?.set_capacity(wanted)? as u64)
        }
        1032 => Ok(pipe::end_of(file).ok_or(Errno::EBADF)?.capacity() as u64),
        // F_ADD_SEALS, F_GET_SEALS.
        1033 if !file.is_writable() => Err(Errno::EPERM),
        1033 => {
            let seals = u32::try_from(arg).map_err(|_| Errno::EINVAL)?;
            sealable(file)?.add_seals(seals).map(done)
        }
        1034 => Ok(u64::from(sealable(file)?.seals()?)),
        _ => Err(Errno::EINVAL),
    }
}

/// Who is to be told of events, and by which signal. LINUX: `f_setown`, `do_fcntl`.
fn owner(current: &mut Current, file: &OpenFile, command: u32, arg: u64) -> Result<u64, Errno> {
    let int = || i32::from_ne_bytes([0, 1, 2, 3].map(|at| arg.to_ne_bytes()[at]));
    let old = file.owner();
    match command {
        8 => {
            let who = int();
            let kind = if who < 0 { owner_kind::PGRP } else { owner_kind::PID };
            let id = who.checked_abs().ok_or(Errno::EINVAL)?;
            set_owner(current, file, kind, id).map(|()| 0)
        }
        9 => Ok(i64::from(if old.kind == owner_kind::PGRP { -old.id } else { old.id }).cast_unsigned()),
        10 => {
            let signal = u8::try_from(arg).ok().filter(|&signal| signal <= 64).ok_or(Errno::EINVAL)?;
            file.set_owner(FileOwner { signal, ..old });
            Ok(0)
        }
        11 => Ok(u64::from(old.signal)),
        15 => {
            let wanted = current.read_object(UserPtr::<FOwnerEx>::new(arg))?;
            if !(owner_kind::TID..=owner_kind::PGRP).contains(&wanted.kind) {
                return Err(Errno::EINVAL);
            }
            set_owner(current, file, wanted.kind, wanted.pid).map(|()| 0)
        }
        _ => {
            let told = FOwnerEx { kind: old.kind, pid: old.id };
            current.write_object(UserPtr::new(arg), &told).map(|()| 0)
        }
    }
}

fn set_owner(current: &Current, file: &OpenFile, kind: i32, id: i32) -> Result<(), Errno> {
    let namespace = &current.process().namespace;
    let is_there = match kind {
        _ if id == 0 => true,
        owner_kind::PGRP => namespace.group(id).is_some(),
        owner_kind::PID => namespace.process(id).is_some(),
        _ => namespace.task(id).is_some(),
    };
    if !is_there {
        return Err(Errno::ESRCH);
    }
    let credentials = current.credentials();
    let users = [credentials.uid, credentials.euid];
    file.set_owner(FileOwner { kind, id, users, ..file.owner() });
    Ok(())
}

fn sealable(file: &OpenFile) -> Result<&TmpFile, Errno> {
    file.ops.as_any().downcast_ref().ok_or(Errno::EINVAL)
}

/// `F_SETFL`.
fn set_status(current: &Current, fd: Fd, file: &Arc<OpenFile>, arg: u64) -> Result<(), Errno> {
    let [low, _] = [arg & 0xffff_ffff, arg >> 32];
    let wanted = u32::try_from(low).map_err(|_| Errno::EINVAL)?;
    let old = file.flags();
    if wanted & O_NOATIME != 0 && old & O_NOATIME == 0 {
        let stat = file.location.inode().access()?;
        if !is_owner(&current.credentials(), &stat) {
            return Err(Errno::EPERM);
        }
    }
    let mut kept = old & !CHANGEABLE;
    if (wanted ^ old) & O_ASYNC != 0 {
        let is_on = file.set_async(current.task(), fd, wanted & O_ASYNC != 0);
        kept = kept & !O_ASYNC | if is_on { O_ASYNC } else { 0 };
    }
    file.set_flags(kept | wanted & CHANGEABLE);
    Ok(())
}
