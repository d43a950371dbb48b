//! Advisory locks: `flock`, and the lock commands of `fcntl`.

use std::sync::Arc;

use linux_abi::fs::{F_RDLCK, F_UNLCK, F_WRLCK, Flock};
use linux_abi::{Errno, UserPtr};
use sentry::sync::Events;
use sentry::task::{Current, WaitEnd};
use sentry::vfs::{Fd, LockKind, LockOwner, LockRange, Locks, OpenFile};

/// `LOCK_NB`.
const LOCK_NB: u32 = 4;

/// Whether to wait for a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Answer EAGAIN.
    None,
    /// Until it can be had or a signal comes.
    Wait,
}

/// `flock(2)`: <https://man7.org/linux/man-pages/man2/flock.2.html>
pub(crate) fn flock(current: &mut Current, fd: Fd, operation: u32) -> Result<(), Errno> {
    let kind = match operation & !LOCK_NB {
        1 => Some(LockKind::Shared),
        2 => Some(LockKind::Exclusive),
        8 => None,
        _ => return Err(Errno::EINVAL),
    };
    let file = current.files().get(fd)?;
    let owner = LockOwner::Flock(file.id);
    let locks = Arc::clone(&current.kernel().vfs.locks);
    let Some(kind) = kind else {
        locks.release(file.location.inode(), owner, LockRange::ALL);
        return Ok(());
    };
    let patience = if operation & LOCK_NB == 0 { Patience::Wait } else { Patience::None };
    // LINUX: changing the kind is not atomic: the old lock goes first.
    locks.release(file.location.inode(), owner, LockRange::ALL);
    take(current, &locks, &file, owner, kind, LockRange::ALL, patience)
}

fn take(
    current: &mut Current,
    locks: &Arc<Locks>,
    file: &Arc<OpenFile>,
    owner: LockOwner,
    kind: LockKind,
    range: LockRange,
    patience: Patience,
) -> Result<(), Errno> {
    let first = locks.take(file, owner, kind, range);
    if first != Err(Errno::EAGAIN) || patience == Patience::None {
        return first;
    }
    let table = match owner {
        LockOwner::Process { table, .. } => Some(table),
        LockOwner::OpenFile(_) | LockOwner::Flock(_) => None,
    };
    let end = current.wait(&[(&locks.changed, Events::all())], None, |_| {
        match locks.take(file, owner, kind, range) {
            Err(Errno::EAGAIN) => {}
            result => return Some(result),
        }
        let conflict = locks.conflict(file.location.inode(), owner, kind, range)?;
        table.and_then(|table| locks.begin_wait(table, &conflict).err()).map(Err)
    });
    if let Some(table) = table {
        locks.end_wait(table);
    }
    match end {
        Ok(result) => result,
        Err(WaitEnd::Interrupted | WaitEnd::TimedOut) => Err(Errno::ERESTARTSYS),
    }
}

/// Whether the locks are the process's or the open file's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Process,
    OpenFile,
}

fn owner(current: &Current, file: &OpenFile, scope: Scope) -> LockOwner {
    match scope {
        Scope::Process => LockOwner::Process { table: current.files().id(), pid: current.process().pid },
        Scope::OpenFile => LockOwner::OpenFile(file.id),
    }
}

fn range(file: &OpenFile, lock: &Flock) -> Result<LockRange, Errno> {
    let base = match lock.whence {
        0 => 0,
        1 => i64::try_from(*file.lock_position()).map_err(|_| Errno::EOVERFLOW)?,
        2 => i64::try_from(file.ops.size()?).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let mut start = base.checked_add(lock.start).ok_or(Errno::EOVERFLOW)?;
    let mut len = lock.len;
    if len < 0 {
        start = start.checked_add(len).ok_or(Errno::EINVAL)?;
        len = len.checked_neg().ok_or(Errno::EINVAL)?;
    }
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    let end = if len == 0 { u64::MAX } else { start + len.cast_unsigned() };
    if len != 0 && end > i64::MAX.cast_unsigned() + 1 {
        return Err(Errno::EOVERFLOW);
    }
    Ok(LockRange { start, end })
}

fn kind(lock: &Flock) -> Result<Option<LockKind>, Errno> {
    match lock.kind {
        F_RDLCK => Ok(Some(LockKind::Shared)),
        F_WRLCK => Ok(Some(LockKind::Exclusive)),
        F_UNLCK => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

/// `F_SETLK`, `F_SETLKW` and their relatives for open files.
pub(super) fn set(
    current: &mut Current,
    file: &Arc<OpenFile>,
    ptr: UserPtr<Flock>,
    scope: Scope,
    patience: Patience,
) -> Result<(), Errno> {
    let lock = current.read_object(ptr)?;
    if scope == Scope::OpenFile && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (range, kind) = (range(file, &lock)?, kind(&lock)?);
    let owner = owner(current, file, scope);
    let locks = Arc::clone(&current.kernel().vfs.locks);
    match kind {
        None => {
            locks.release(file.location.inode(), owner, range);
            return Ok(());
        }
        Some(LockKind::Shared) if !file.is_readable() => return Err(Errno::EBADF),
        Some(LockKind::Exclusive) if !file.is_writable() => return Err(Errno::EBADF),
        Some(_) => {}
    }
    take(current, &locks, file, owner, kind.ok_or(Errno::EINVAL)?, range, patience)
}

/// `F_GETLK` and its relative for open files.
pub(super) fn get(
    current: &mut Current,
    file: &Arc<OpenFile>,
    ptr: UserPtr<Flock>,
    scope: Scope,
) -> Result<(), Errno> {
    let mut lock = current.read_object(ptr)?;
    if scope == Scope::OpenFile && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let range = range(file, &lock)?;
    let kind = kind(&lock)?.ok_or(Errno::EINVAL)?;
    let owner = owner(current, file, scope);
    match current.kernel().vfs.locks.conflict(file.location.inode(), owner, kind, range) {
        None => lock.kind = F_UNLCK,
        Some(conflict) => {
            lock.kind = if conflict.kind == LockKind::Shared { F_RDLCK } else { F_WRLCK };
            lock.whence = 0;
            lock.start = i64::try_from(conflict.range.start).unwrap_or(i64::MAX);
            lock.len = match conflict.range.end {
                u64::MAX => 0,
                end => i64::try_from(end - conflict.range.start).unwrap_or(i64::MAX),
            };
            lock.pid = match conflict.owner {
                LockOwner::Process { pid, .. } => pid,
                LockOwner::OpenFile(_) | LockOwner::Flock(_) => -1,
            };
        }
    }
    current.write_object(ptr, &lock)
}
