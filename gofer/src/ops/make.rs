//! New files: `Create`, `CreateUnnamed`, `Mkdir`, `Symlink`, `Mknod`.
//!
//! The host makes them as root and they are given to their owner at once. In a set-group-ID directory the group is the
//! directory's (the host's kernel sees to that, and to the bit on a new directory; we then leave the group alone).

use std::os::fd::{AsFd, OwnedFd};

use gofer_protocol::wire::{self, NodeStat};
use gofer_protocol::{Errno, O_EXCL, file_type};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use zerocopy::IntoBytes;

use super::attr::{gid, mode_bits, uid};
use super::data::{open_flags, open_node};
use super::{new_node, writable_dir};
use crate::host;
use crate::nodes::Node;
use crate::request::{Name, Outcome, Reply, head, split, whole};
use crate::serve::Server;

/// Set-user-ID, set-group-ID; given only after the owner has been set, which would clear them.
const SPECIAL_BITS: Mode = Mode::SUID.union(Mode::SGID);
/// How often a name may come and go between two looks at it.
const CREATE_TRIES: usize = 16;

/// Who gets a new file.
struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    fn new(raw_uid: u32, raw_gid: u32) -> Result<Self, Errno> {
        Ok(Self { uid: uid(raw_uid)?, gid: gid(raw_gid)? })
    }
}

/// A regular file, new, or without `O_EXCL` an existing one; and its descriptor.
pub(crate) fn create(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (wire::Create, _) = head(body)?;
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    let mode = mode_bits(request.mode)?;
    let flags = open_flags(request.flags & !O_EXCL)?;
    let owner = Owner::new(request.uid, request.gid)?;
    for _ in 0..CREATE_TRIES {
        let new = OFlags::CREATE | OFlags::EXCL | flags;
        match host::open_child(&*dir, name, new, mode - SPECIAL_BITS) {
            Ok(fd) => return created(server, &dir, name, fd, mode, &owner),
            Err(rustix::io::Errno::EXIST) if request.flags & O_EXCL == 0 => {}
            Err(errno) => return Err(errno.into()),
        }
        match existing(server, &dir, name, request.flags) {
            Err(Errno::ENOENT) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::EEXIST.into())
}

fn created(server: &Server, dir: &Node, name: Name<'_>, fd: OwnedFd, mode: Mode, owner: &Owner) -> Outcome {
    let made = (|| {
        give(server, dir, &fd, mode, owner)?;
        new_node(server, host::reopen(&server.proc_fds, &fd, OFlags::PATH)?, dir.mount)
    })();
    match made {
        Ok(made) => Ok(Reply::value(&made).with(fd)),
        Err(errno) => {
            undo(dir, name, AtFlags::empty());
            Err(errno.into())
        }
    }
}

/// A regular file without a name, open for reading and writing.
pub(crate) fn create_unnamed(server: &Server, body: &[u8]) -> Outcome {
    let request: wire::Create = whole(body)?;
    let dir = writable_dir(server, request.dir)?;
    let mode = mode_bits(request.mode)?;
    if request.flags & !O_EXCL != 0 {
        return Err(Errno::EINVAL.into());
    }
    let owner = Owner::new(request.uid, request.gid)?;
    let fd = host::open_unnamed(&*dir, OFlags::from_bits_retain(request.flags), mode - SPECIAL_BITS)?;
    // Should the rest fail, the file goes with its descriptor.
    give(server, &dir, &fd, mode, &owner)?;
    let made = new_node(server, host::reopen(&server.proc_fds, &fd, OFlags::PATH)?, dir.mount)?;
    Ok(Reply::value(&made).with(fd))
}

fn existing(server: &Server, dir: &Node, name: Name<'_>, flags: u32) -> Result<Reply, Errno> {
    let found = host::find_child(dir, name)?;
    let file_type = server.stat(&found)?.file_type();
    if file_type != file_type::REGULAR {
        return Err(Errno::EEXIST);
    }
    let node = Node::new(found, dir.mount, file_type);
    let fd = open_node(server, &node, flags)?;
    let stat = server.stat(&fd)?;
    Ok(Reply::value(&NodeStat { node: server.nodes.insert(node)?, stat }).with(fd))
}

/// A directory.
pub(crate) fn mkdir(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (wire::Make, _) = head(body)?;
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    let mode = mode_bits(request.mode)?;
    let owner = Owner::new(request.uid, request.gid)?;
    rustix::fs::mkdirat(&*dir, name.bytes(), mode - SPECIAL_BITS)?;
    finish(server, &dir, name, mode, &owner, AtFlags::REMOVEDIR)
}

/// A symlink; its target is any text.
pub(crate) fn symlink(server: &Server, body: &[u8]) -> Outcome {
    let (request, tail): (wire::Make, _) = head(body)?;
    let (name, target) = split(tail, request.mode)?;
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    if target.len() > wire::TARGET_MAX {
        return Err(Errno::ENAMETOOLONG.into());
    }
    if target.is_empty() {
        return Err(Errno::ENOENT.into()); // LINUX: symlink(2)
    }
    let owner = Owner::new(request.uid, request.gid)?;
    rustix::fs::symlinkat(target, &*dir, name.bytes())?;
    finish(server, &dir, name, Mode::empty(), &owner, AtFlags::empty())
}

/// A fifo, the name of a socket, or an empty file. Devices are the sentry's own affair: `EPERM`.
pub(crate) fn mknod(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (wire::Make, _) = head(body)?;
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    let kind = match request.mode & file_type::MASK {
        file_type::FIFO => FileType::Fifo,
        file_type::SOCKET => FileType::Socket,
        file_type::REGULAR | 0 => FileType::RegularFile,
        file_type::CHAR | file_type::BLOCK => return Err(Errno::EPERM.into()),
        _ => return Err(Errno::EINVAL.into()),
    };
    if request.rdev != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mode = mode_bits(request.mode & !file_type::MASK)?;
    let owner = Owner::new(request.uid, request.gid)?;
    rustix::fs::mknodat(&*dir, name.bytes(), kind, mode - SPECIAL_BITS, 0)?;
    finish(server, &dir, name, mode, &owner, AtFlags::empty())
}

/// Gives what was just made to its owner, and us a handle of it; or unmakes it.
fn finish(
    server: &Server,
    dir: &Node,
    name: Name<'_>,
    mode: Mode,
    owner: &Owner,
    remove: AtFlags,
) -> Outcome {
    let made = (|| {
        let fd = host::find_child(dir, name)?;
        give(server, dir, &fd, mode, owner)?;
        new_node(server, fd, dir.mount)
    })();
    match made {
        Ok(made) => Ok(Reply { body: made.as_bytes().to_vec(), fd: None }),
        Err(errno) => {
            undo(dir, name, remove);
            Err(errno.into())
        }
    }
}

fn give(server: &Server, dir: &Node, fd: impl AsFd, mode: Mode, owner: &Owner) -> Result<(), Errno> {
    let has = host::statx(&fd)?;
    let inherits_group = u32::from(host::statx(dir)?.stx_mode) & Mode::SGID.bits() != 0;
    let new_uid = (has.stx_uid != owner.uid.as_raw()).then_some(owner.uid);
    let new_gid = (has.stx_gid != owner.gid.as_raw() && !inherits_group).then_some(owner.gid);
    let entry = host::entry(&fd);
    if new_uid.is_some() || new_gid.is_some() {
        rustix::fs::chownat(&server.proc_fds, entry.clone(), new_uid, new_gid, AtFlags::empty())?;
    }
    let special = mode & SPECIAL_BITS;
    if !special.is_empty() {
        let mode = Mode::from_bits_retain(u32::from(has.stx_mode) & 0o7777) | special;
        rustix::fs::chmodat(&server.proc_fds, entry, mode, AtFlags::empty())?;
    }
    Ok(())
}

/// Nobody has been told of the file yet. If it cannot be removed either, the first error is still the one to tell.
fn undo(dir: &Node, name: Name<'_>, flags: AtFlags) {
    if let Err(errno) = rustix::fs::unlinkat(dir, name.bytes(), flags) {
        tracing::warn!("a file that could not be given to its owner cannot be removed: {errno}");
    }
}
