//! New files: `Create`, `CreateUnnamed`, `Mkdir`, `Symlink`, `Mknod`.
//!
//! Every file is made by its owner: the thread takes the owner's ids for that one call ([`ActingAs`]). So nothing is given to anybody
//! afterwards, when its name may lead elsewhere already, and set-group-ID directories, default access lists and quotas are as the host's
//! kernel does them. Nothing is removed here either: what cannot be answered for is refused before it is made.

use std::os::fd::OwnedFd;

use gofer_protocol::wire::{self, NodeStat};
use gofer_protocol::{Errno, O_EXCL, file_type};
use rustix::fs::{FileType, OFlags};
use seccomp::jail::{ActingAs, Ids};

use super::attr::{gid, mode_bits, uid};
use super::data::{open_flags, open_node};
use super::writable_dir;
use crate::host;
use crate::nodes::{Node, Place};
use crate::request::{Name, Outcome, Reply, head, split, whole};
use crate::serve::Server;

/// How often a name may come and go between two looks at it.
const TRIES: usize = 16;

fn owner(raw_uid: u32, raw_gid: u32) -> Result<Ids, Errno> {
    Ok(Ids { uid: uid(raw_uid)?.as_raw(), gid: gid(raw_gid)?.as_raw() })
}

/// `EPERM` for a gofer that has no rights of its own, of files that are not to be its user's.
fn act_as(server: &Server, owner: Ids) -> Result<ActingAs, Errno> {
    ActingAs::new(server.ids, owner).map_err(|_| Errno::EPERM)
}

/// A regular file, new, or without `O_EXCL` an existing one; and its descriptor.
pub(crate) fn create(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (wire::Create, _) = head(body)?;
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    let mode = mode_bits(request.mode)?;
    let flags = open_flags(request.flags & !O_EXCL)?;
    let owner = owner(request.uid, request.gid)?;
    let place = server.nodes.place()?;
    for _ in 0..TRIES {
        let acting = act_as(server, owner)?;
        let made = host::open_child(&*dir, name, OFlags::CREATE | OFlags::EXCL | flags, mode);
        drop(acting);
        match made {
            Ok(fd) => return created(server, &dir, place, fd),
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

fn created(server: &Server, dir: &Node, place: Place<'_>, fd: OwnedFd) -> Outcome {
    let held = host::reopen(&server.proc_fds, &fd, OFlags::PATH)?;
    Ok(Reply::value(&in_place(server, dir, place, held)?).with(fd))
}

fn in_place(server: &Server, dir: &Node, place: Place<'_>, fd: OwnedFd) -> Result<NodeStat, Errno> {
    let stat = server.stat(&fd)?;
    Ok(NodeStat { node: place.fill(Node::new(fd, dir.mount, stat.file_type())), stat })
}

/// A regular file without a name, open for reading and writing.
pub(crate) fn create_unnamed(server: &Server, body: &[u8]) -> Outcome {
    let request: wire::Create = whole(body)?;
    let dir = writable_dir(server, request.dir)?;
    let mode = mode_bits(request.mode)?;
    if request.flags & !O_EXCL != 0 {
        return Err(Errno::EINVAL.into());
    }
    let owner = owner(request.uid, request.gid)?;
    let place = server.nodes.place()?;
    let acting = act_as(server, owner)?;
    let made = host::open_unnamed(&*dir, OFlags::from_bits_retain(request.flags), mode);
    drop(acting);
    created(server, &dir, place, made?)
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

/// A directory. LINUX: `mkdir(2)`: a set-group-ID bit is inherited, not asked for.
pub(crate) fn mkdir(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (wire::Make, _) = head(body)?;
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    let mode = mode_bits(request.mode)?;
    let owner = owner(request.uid, request.gid)?;
    make(server, &dir, name, owner, || rustix::fs::mkdirat(&*dir, name.bytes(), mode))
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
    let owner = owner(request.uid, request.gid)?;
    make(server, &dir, name, owner, || rustix::fs::symlinkat(target, &*dir, name.bytes()))
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
    let owner = owner(request.uid, request.gid)?;
    make(server, &dir, name, owner, || rustix::fs::mknodat(&*dir, name.bytes(), kind, mode, 0))
}

/// Makes a node as its owner and looks it up. What is found may be another, where somebody else works in the same
/// directory: then the sentry learns of that one, as by any lookup, and nothing is done to it.
fn make(
    server: &Server,
    dir: &Node,
    name: Name<'_>,
    owner: Ids,
    host_call: impl Fn() -> rustix::io::Result<()>,
) -> Outcome {
    let place = server.nodes.place()?;
    for _ in 0..TRIES {
        let acting = act_as(server, owner)?;
        let made = host_call();
        drop(acting);
        made?;
        match host::find_child(dir, name) {
            // It was made, and somebody else has removed it: as if this call came after that.
            Err(rustix::io::Errno::NOENT) => {}
            found => return Ok(Reply::value(&in_place(server, dir, place, found?)?)),
        }
    }
    Err(Errno::ENOENT.into())
}
