//! The client's operations, one method each, named as Linux names them.
//!
//! Each method lays out its request and checks the answer's length; what the operation means, and which
//! errors it has, is the gofer's business. Names are single components: never empty, `.`, `..`, or with `/` or NUL (`EINVAL`).

use std::os::fd::OwnedFd;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::client::{Answer, Client};
use crate::errno::Errno;
use crate::types::{DirEntry, Node, OpenReply, Result, SetAttr, Stat, StatFs, Walked};
use crate::wire::{self, Limits, NodeStat, OneNode, Op};

/// What a name that does not exist yet is to become. The owner is set before anybody can open it through this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Owner.
    pub uid: u32,
    /// Group; the directory's own group takes its place if that directory is set-group-ID.
    pub gid: u32,
}

/// Answer of [`Client::create`].
#[derive(Debug)]
pub struct Created {
    /// The file's handle.
    pub node: Node,
    /// Its attributes.
    pub stat: Stat,
    /// The host's file, as in [`OpenReply`].
    pub fd: OwnedFd,
}

impl Client {
    /// How many mounts there are and how many handles the gofer will hold.
    ///
    /// # Errors
    /// `EIO` if the gofer has gone; so for every call below.
    pub fn limits(&self) -> Result<Limits> {
        self.call(Op::Hello, &[], fixed)
    }

    /// The root of a mount: 0 is the root file system, volumes follow in the configuration's order.
    /// It may be a single file.
    ///
    /// # Errors
    /// `ENOENT` if there is no such mount.
    pub fn attach(&self, mount: u32) -> Result<(Node, Stat)> {
        self.call(Op::Attach, &[wire::Attach { mount, reserved: 0 }.as_bytes()], node_stat)
    }

    /// Looks one name up in a directory; never follows a symlink.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`, `EINVAL` for a bad name, `ENFILE` if too many handles are held.
    pub fn walk(&self, dir: Node, name: &[u8]) -> Result<(Node, Stat)> {
        let walked = self.walk_many(dir, &[name])?;
        match (walked.nodes.first(), walked.stopped) {
            (Some(found), _) => Ok(*found),
            (None, Some(errno)) => Err(errno),
            (None, None) => Err(Errno::EIO),
        }
    }

    /// Looks up several components in one round trip; stops after a symlink or other non-directory, and
    /// before a component that cannot be resolved. At most [`wire::WALK_MAX`] of them.
    ///
    /// # Errors
    /// As for [`Client::walk`], but a component's own failure is in [`Walked::stopped`].
    pub fn walk_many(&self, dir: Node, names: &[&[u8]]) -> Result<Walked> {
        let mut tail = Vec::new();
        for name in names {
            let length = u16::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
            tail.extend_from_slice(length.as_bytes());
            tail.extend_from_slice(name);
        }
        let count = u64::try_from(names.len()).map_err(|_| Errno::EINVAL)?;
        let head = wire::Walk { dir: dir.0, count };
        self.call(Op::Walk, &[head.as_bytes(), &tail], |answer| {
            let (head, mut rest) = wire::Walked::read_from_prefix(answer.body).map_err(|_| Errno::EIO)?;
            let mut nodes = Vec::new();
            while !rest.is_empty() {
                let (found, tail) = NodeStat::read_from_prefix(rest).map_err(|_| Errno::EIO)?;
                nodes.push((Node(found.node), found.stat));
                rest = tail;
            }
            if Ok(head.count) != u32::try_from(nodes.len()) || nodes.len() > names.len() {
                return Err(Errno::EIO);
            }
            let stopped = (head.stopped != 0).then(|| Errno::new(head.stopped.cast_signed()));
            Ok(Walked { nodes, stopped })
        })
    }

    /// Attributes.
    ///
    /// # Errors
    /// `ESTALE` if the handle is unknown; so for every call with a handle.
    pub fn stat(&self, node: Node) -> Result<Stat> {
        self.call(Op::Stat, &[OneNode { node: node.0 }.as_bytes()], fixed)
    }

    /// Changes attributes; returns the new ones.
    ///
    /// # Errors
    /// `EROFS`, `EPERM`, `EINVAL`, `EFBIG`, ... as `chmod`, `chown`, `truncate` and `utimensat`.
    pub fn set_attr(&self, node: Node, attr: SetAttr) -> Result<Stat> {
        self.call(Op::SetAttr, &[attr.to_wire(node).as_bytes()], fixed)
    }

    /// A symlink's target.
    ///
    /// # Errors
    /// `EINVAL` if it is not a symlink.
    pub fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        self.call(Op::ReadLink, &[OneNode { node: node.0 }.as_bytes()], bytes)
    }

    /// Opens a regular file. `flags`: the access mode and any of [`crate::OPEN_FLAGS`].
    ///
    /// # Errors
    /// `EISDIR` for a directory (use [`Client::read_dir`]; a directory's descriptor would be a way out), `ENXIO`
    /// for a fifo, socket or device (the sentry has its own), `ELOOP` for a symlink, `EROFS`, `EINVAL` for other flags.
    pub fn open(&self, node: Node, flags: u32) -> Result<OpenReply> {
        let request = wire::Open { node: node.0, flags: u64::from(flags) };
        self.call(Op::Open, &[request.as_bytes()], |answer| {
            let stat = Stat::read_from_bytes(answer.body).map_err(|_| Errno::EIO)?;
            Ok(OpenReply { fd: answer.fd?, stat })
        })
    }

    /// Makes a regular file and opens it. Without `O_EXCL` in `flags` a regular file that exists is opened instead.
    ///
    /// # Errors
    /// `EEXIST` (with `O_EXCL`, or if what exists is no regular file), `EROFS`, `ENOTDIR`, `ENOENT` if the
    /// directory has been removed, ...
    pub fn create(&self, dir: Node, name: &[u8], mode: u32, owner: Ownership, flags: u32) -> Result<Created> {
        let request = wire::Create { dir: dir.0, mode, uid: owner.uid, gid: owner.gid, flags };
        let (node, stat, fd) = self.call(Op::Create, &[request.as_bytes(), name], created)?;
        self.keep(node, stat, fd)
    }

    /// Makes a regular file that has no name and opens it for reading and writing. [`Client::link`] gives it one if
    /// `is_linkable`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the host's file system cannot, `EROFS`, `ENOTDIR`, `ENOENT` if the directory has been removed, ...
    pub fn create_unnamed(
        &self,
        dir: Node,
        mode: u32,
        owner: Ownership,
        is_linkable: bool,
    ) -> Result<Created> {
        let flags = if is_linkable { 0 } else { crate::O_EXCL };
        let request = wire::Create { dir: dir.0, mode, uid: owner.uid, gid: owner.gid, flags };
        let (node, stat, fd) = self.call(Op::CreateUnnamed, &[request.as_bytes()], created)?;
        self.keep(node, stat, fd)
    }

    /// What was made, if its descriptor has arrived; else its handle is given back.
    fn keep(&self, node: Node, stat: Stat, fd: Result<OwnedFd>) -> Result<Created> {
        let fd = fd.inspect_err(|_| self.close(node))?;
        Ok(Created { node, stat, fd })
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, ... as `mkdir(2)`.
    pub fn mkdir(&self, dir: Node, name: &[u8], mode: u32, owner: Ownership) -> Result<(Node, Stat)> {
        let request = wire::Make { dir: dir.0, mode, uid: owner.uid, gid: owner.gid, rdev: 0 };
        self.call(Op::Mkdir, &[request.as_bytes(), name], node_stat)
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `ENAMETOOLONG`, ... as `symlink(2)`.
    pub fn symlink(&self, dir: Node, name: &[u8], target: &[u8], owner: Ownership) -> Result<(Node, Stat)> {
        let length = u32::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let request = wire::Make { dir: dir.0, mode: length, uid: owner.uid, gid: owner.gid, rdev: 0 };
        self.call(Op::Symlink, &[request.as_bytes(), name, target], node_stat)
    }

    /// Makes a fifo, the name of a socket, or an empty regular file: `mode` with the type bits.
    ///
    /// # Errors
    /// `EPERM` for devices, `EEXIST`, `EROFS`, ... as `mknod(2)`.
    pub fn mknod(&self, dir: Node, name: &[u8], mode: u32, owner: Ownership) -> Result<(Node, Stat)> {
        let request = wire::Make { dir: dir.0, mode, uid: owner.uid, gid: owner.gid, rdev: 0 };
        self.call(Op::Mknod, &[request.as_bytes(), name], node_stat)
    }

    /// Gives a file one more name; returns its attributes.
    ///
    /// # Errors
    /// `EXDEV`, `EPERM` for a directory, `EEXIST`, `EROFS`, ... as `link(2)`.
    pub fn link(&self, node: Node, dir: Node, name: &[u8]) -> Result<Stat> {
        let request = wire::Link { node: node.0, dir: dir.0 };
        self.call(Op::Link, &[request.as_bytes(), name], fixed)
    }

    /// Removes a name: an empty directory's if `is_dir`, else anything else's. Handles of it stay good. `by`: the user who must own the
    /// file or the directory, where that is sticky; `None` where nobody must.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`, `EPERM`, `EROFS`, ... as `unlinkat(2)`.
    pub fn unlink(&self, dir: Node, name: &[u8], is_dir: bool, by: Option<u32>) -> Result<()> {
        let by = by.unwrap_or(wire::ANYBODY);
        let request = wire::Unlink { dir: dir.0, is_dir: u32::from(is_dir), by };
        self.call(Op::Unlink, &[request.as_bytes(), name], nothing)
    }

    /// Moves a name, of a directory (`old`) to one of a directory (`new`); `flags` as in `renameat2(2)`: `RENAME_NOREPLACE` (1) or
    /// `RENAME_EXCHANGE` (2). Handles stay good. `by`: as of [`Calls::unlink`].
    ///
    /// # Errors
    /// `EXDEV`, `EEXIST`, `ENOTEMPTY`, `EPERM`, `EROFS`, `EINVAL`, ... as `renameat2(2)`.
    pub fn rename(&self, old: (Node, &[u8]), new: (Node, &[u8]), flags: u32, by: Option<u32>) -> Result<()> {
        let old_length = u32::try_from(old.1.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        let by = by.unwrap_or(wire::ANYBODY);
        let request = wire::Rename { old_dir: old.0.0, new_dir: new.0.0, flags, old_length, by, pad: 0 };
        self.call(Op::Rename, &[request.as_bytes(), old.1, new.1], nothing)
    }

    /// A page of entries: begin with cookie 0, go on with the last entry's; an empty page is the end, also an entry that says so.
    /// To list a directory that is being changed, read all pages at once.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn read_dir(&self, dir: Node, cookie: u64) -> Result<Vec<DirEntry>> {
        let request = wire::ReadDir { node: dir.0, cookie };
        self.call(Op::ReadDir, &[request.as_bytes()], |answer| dir_entries(answer.body))
    }

    /// Figures of the file system that a node is on.
    ///
    /// # Errors
    /// The host's.
    pub fn stat_fs(&self, node: Node) -> Result<StatFs> {
        self.call(Op::StatFs, &[OneNode { node: node.0 }.as_bytes()], fixed)
    }

    /// Value of an extended attribute: `user.*`, `security.capability`, `system.posix_acl_access` and `_default`.
    ///
    /// # Errors
    /// `ENODATA`, also for attributes that are hidden; `EOPNOTSUPP`.
    pub fn get_xattr(&self, node: Node, name: &[u8]) -> Result<Vec<u8>> {
        self.call(Op::GetXattr, &[OneNode { node: node.0 }.as_bytes(), name], bytes)
    }

    /// Sets an extended attribute, `user.*` only. `flags`: `XATTR_CREATE` (1) or `XATTR_REPLACE` (2).
    ///
    /// # Errors
    /// `EPERM` for `trusted.*` and `security.*`, `EOPNOTSUPP` for `system.*`, `E2BIG`, `EROFS`, ...
    pub fn set_xattr(&self, node: Node, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let name_length = u32::try_from(name.len()).map_err(|_| Errno::ERANGE)?;
        if value.len() > wire::XATTR_VALUE_MAX {
            return Err(Errno::E2BIG);
        }
        let request = wire::SetXattr { node: node.0, flags, name_length };
        self.call(Op::SetXattr, &[request.as_bytes(), name, value], nothing)
    }

    /// Names of the visible extended attributes, with a NUL after each, as `listxattr(2)` gives them.
    ///
    /// # Errors
    /// The host's.
    pub fn list_xattr(&self, node: Node) -> Result<Vec<u8>> {
        self.call(Op::ListXattr, &[OneNode { node: node.0 }.as_bytes()], bytes)
    }

    /// Removes an extended attribute, `user.*` only.
    ///
    /// # Errors
    /// As for [`Client::set_xattr`]; `ENODATA`.
    pub fn remove_xattr(&self, node: Node, name: &[u8]) -> Result<()> {
        self.call(Op::RemoveXattr, &[OneNode { node: node.0 }.as_bytes(), name], nothing)
    }

    /// Connects to a Unix socket of the host; `kind` is `SOCK_STREAM` (1), `SOCK_DGRAM` (2) or `SOCK_SEQPACKET` (5).
    ///
    /// # Errors
    /// `EACCES` unless the mount allows it, `ECONNREFUSED`, `EPROTOTYPE`, ... as `connect(2)`.
    pub fn connect(&self, node: Node, kind: u32) -> Result<OwnedFd> {
        let request = wire::Connect { node: node.0, kind: u64::from(kind) };
        self.call(Op::Connect, &[request.as_bytes()], |answer| answer.fd)
    }

    /// `fsync(2)`, or `fdatasync(2)` if `data_only`, of a regular file or a directory.
    ///
    /// # Errors
    /// `EINVAL` for anything else; the host's.
    pub fn fsync(&self, node: Node, data_only: bool) -> Result<()> {
        let request = wire::Fsync { node: node.0, data_only: u64::from(data_only) };
        self.call(Op::Fsync, &[request.as_bytes()], nothing)
    }

    /// `syncfs(2)` of the file system that a regular file or directory is on; for `sync(2)`, call it once per mount.
    ///
    /// # Errors
    /// `EINVAL` for anything else; the host's.
    pub fn sync_fs(&self, node: Node) -> Result<()> {
        self.call(Op::SyncFs, &[OneNode { node: node.0 }.as_bytes()], nothing)
    }
}

fn fixed<T: FromBytes + KnownLayout + Immutable>(answer: Answer<'_>) -> Result<T> {
    T::read_from_bytes(answer.body).map_err(|_| Errno::EIO)
}

fn created(answer: Answer<'_>) -> Result<(Node, Stat, Result<OwnedFd>)> {
    let made = NodeStat::read_from_bytes(answer.body).map_err(|_| Errno::EIO)?;
    Ok((Node(made.node), made.stat, answer.fd))
}

fn node_stat(answer: Answer<'_>) -> Result<(Node, Stat)> {
    let found: NodeStat = fixed(answer)?;
    Ok((Node(found.node), found.stat))
}

#[expect(clippy::unnecessary_wraps, reason = "one of the readers that `call` takes")]
fn bytes(answer: Answer<'_>) -> Result<Vec<u8>> {
    Ok(answer.body.to_vec())
}

fn nothing(answer: Answer<'_>) -> Result<()> {
    if answer.body.is_empty() { Ok(()) } else { Err(Errno::EIO) }
}

fn dir_entries(mut rest: &[u8]) -> Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = wire::DirEntryHead::read_from_prefix(rest).map_err(|_| Errno::EIO)?;
        let (name, tail) =
            tail.split_at_checked(usize::try_from(head.length).map_err(|_| Errno::EIO)?).ok_or(Errno::EIO)?;
        let kind = u8::try_from(head.kind & !wire::LAST_ENTRY).map_err(|_| Errno::EIO)?;
        let is_last = head.kind & wire::LAST_ENTRY != 0;
        entries.push(DirEntry { ino: head.ino, cookie: head.cookie, kind, name: name.to_vec(), is_last });
        rest = tail;
    }
    Ok(entries)
}
