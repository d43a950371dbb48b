//! Files: paths, descriptors, transfers, attributes, mounts.
//!
//! One theme a file. What the calls share is here: where a path starts, what `AT_*` flags mean, how a file gets a number.

pub(crate) mod access;
pub(crate) mod attr;
pub(crate) mod dirs;
pub(crate) mod fcntl;
pub(crate) mod fd;
pub(crate) mod lock;
pub(crate) mod mount;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod rw;
pub(crate) mod splice;
pub(crate) mod stat;
pub(crate) mod storage;
pub(crate) mod transfer;
pub(crate) mod vector;
pub(crate) mod xattr;

use std::sync::Arc;

use linux_abi::fs::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use linux_abi::{Errno, UserCStr};
use sentry::task::{Current, Resource};
use sentry::vfs::{Caller, Fd, Found, Location, Lookup, OpenFile};

/// Where a path starts: the working directory, or a descriptor. An absolute path does not look at it.
fn start(current: &Current, dir: Fd, path: &[u8]) -> Result<Location, Errno> {
    if dir.0 == AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(current.fs().cwd());
    }
    Ok(current.files().get_any(dir)?.location.clone())
}

/// `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` for a walk that follows links by default.
fn lookup(flags: u32) -> Lookup {
    let mut lookup = Lookup::FOLLOW;
    lookup.set(Lookup::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    lookup.set(Lookup::EMPTY, flags & AT_EMPTY_PATH != 0);
    lookup
}

/// Reads a path and walks it.
fn find(current: &Current, dir: Fd, path: UserCStr, lookup: Lookup) -> Result<Found, Errno> {
    let path = read_path(current, path, lookup)?;
    let start = start(current, dir, &path)?;
    Caller::of(current.task()).find(&start, &path, lookup)
}

/// Reads a path. LINUX: with `AT_EMPTY_PATH` a null pointer is an empty path.
fn read_path(current: &Current, path: UserCStr, lookup: Lookup) -> Result<Vec<u8>, Errno> {
    if path.is_null() && lookup.contains(Lookup::EMPTY) { Ok(Vec::new()) } else { current.read_path(path) }
}

/// Gives a file the lowest free number.
fn install(current: &Current, file: Arc<OpenFile>, close_on_exec: bool) -> Result<Fd, Errno> {
    let limit = current.process().limit(Resource::Nofile).soft;
    current.files().add(file, close_on_exec, 0, limit)
}

/// The working directory as a `dirfd`.
const CWD: Fd = Fd(AT_FDCWD);
