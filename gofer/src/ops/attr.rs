//! Attributes: `Stat`, `SetAttr`, `StatFs`.

use gofer_protocol::wire::{
    ATTR_ALL, ATTR_ATIME, ATTR_ATIME_NOW, ATTR_GID, ATTR_MODE, ATTR_MTIME, ATTR_MTIME_NOW, ATTR_SIZE,
    ATTR_UID, OneNode, SetAttrRequest,
};
use gofer_protocol::{Errno, StatFs, file_type};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use super::writable;
use crate::host;
use crate::nodes::Node;
use crate::request::{Fault, Outcome, Reply, whole};
use crate::serve::Server;

const NSEC_PER_SEC: i64 = 1_000_000_000;

/// Attributes of a file.
pub(crate) fn stat(server: &Server, body: &[u8]) -> Outcome {
    let request: OneNode = whole(body)?;
    let node = server.nodes.get(request.node)?;
    Ok(Reply::value(&server.stat(&*node)?))
}

/// Size, owner, mode, times, in this order: a new owner takes set-user-ID away, which the mode may give back.
pub(crate) fn set_attr(server: &Server, body: &[u8]) -> Outcome {
    let request: SetAttrRequest = whole(body)?;
    if request.valid & !ATTR_ALL != 0 {
        return Err(Fault::Malformed("unknown attributes"));
    }
    let node = writable(server, request.node)?;
    let has = |bit| request.valid & bit != 0;
    // Everything is checked before anything is changed.
    let owner = has(ATTR_UID).then(|| uid(request.uid)).transpose()?;
    let group = has(ATTR_GID).then(|| gid(request.gid)).transpose()?;
    let mode = has(ATTR_MODE).then(|| mode_bits(request.mode)).transpose()?;
    let times = times(&request)?;

    if has(ATTR_SIZE) {
        set_size(server, &node, request.size)?;
    }
    let entry = host::entry(&*node);
    if owner.is_some() || group.is_some() {
        rustix::fs::chownat(&server.proc_fds, entry.clone(), owner, group, AtFlags::empty())?;
    }
    if let Some(mode) = mode {
        rustix::fs::chmodat(&server.proc_fds, entry.clone(), mode, AtFlags::empty())?;
    }
    if let Some(times) = times {
        rustix::fs::utimensat(&server.proc_fds, entry, &times, AtFlags::empty())?;
    }
    Ok(Reply::value(&server.stat(&*node)?))
}

fn set_size(server: &Server, node: &Node, size: u64) -> Result<(), Errno> {
    match node.file_type {
        file_type::REGULAR => {}
        file_type::DIRECTORY => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    if i64::try_from(size).is_err() {
        return Err(Errno::EINVAL);
    }
    let fd = host::reopen(&server.proc_fds, node, OFlags::WRONLY)?;
    Ok(rustix::fs::ftruncate(fd, size)?)
}

/// Permission bits, or `EINVAL`.
pub(super) fn mode_bits(raw: u32) -> Result<Mode, Errno> {
    if raw & !0o7777 == 0 { Ok(Mode::from_bits_retain(raw)) } else { Err(Errno::EINVAL) }
}

/// LINUX: -1 is no user; `chown` takes it as "leave alone".
pub(super) fn uid(raw: u32) -> Result<Uid, Errno> {
    if raw == u32::MAX { Err(Errno::EINVAL) } else { Ok(Uid::from_raw(raw)) }
}

/// As [`uid`].
pub(super) fn gid(raw: u32) -> Result<Gid, Errno> {
    if raw == u32::MAX { Err(Errno::EINVAL) } else { Ok(Gid::from_raw(raw)) }
}

fn times(request: &SetAttrRequest) -> Outcome<Option<Timestamps>> {
    let one = |at, now, sec, nsec: i64| match (request.valid & at != 0, request.valid & now != 0) {
        (true, true) => Err(Fault::Malformed("a time that is now and another")),
        (true, false) if (0..NSEC_PER_SEC).contains(&nsec) => Ok(Timespec { tv_sec: sec, tv_nsec: nsec }),
        (true, false) => Err(Errno::EINVAL.into()),
        (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }),
        (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
    };
    let last_access = one(ATTR_ATIME, ATTR_ATIME_NOW, request.atime, request.atime_nsec)?;
    let last_modification = one(ATTR_MTIME, ATTR_MTIME_NOW, request.mtime, request.mtime_nsec)?;
    let any = request.valid & (ATTR_ATIME | ATTR_ATIME_NOW | ATTR_MTIME | ATTR_MTIME_NOW) != 0;
    Ok(any.then_some(Timestamps { last_access, last_modification }))
}

/// Figures of the file system.
pub(crate) fn stat_fs(server: &Server, body: &[u8]) -> Outcome {
    let request: OneNode = whole(body)?;
    let node = server.nodes.get(request.node)?;
    let kind = rustix::fs::fstatfs(&*node)?.f_type;
    let host = rustix::fs::fstatvfs(&*node)?;
    Ok(Reply::value(&StatFs {
        kind: kind.cast_unsigned(),
        bsize: host.f_bsize,
        blocks: host.f_blocks,
        bfree: host.f_bfree,
        bavail: host.f_bavail,
        files: host.f_files,
        ffree: host.f_ffree,
        namelen: host.f_namemax,
        frsize: host.f_frsize,
        flags: host.f_flag.bits(),
    }))
}
