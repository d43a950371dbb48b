//! What is in a file, and getting it to disk: `ReadLink`, `Open`, `Connect`, `Fsync`, `SyncFs`.

use std::os::fd::OwnedFd;

use gofer_protocol::wire::{self, OneNode};
use gofer_protocol::{Errno, O_ACCMODE, OPEN_FLAGS, file_type};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use zerocopy::IntoBytes;

use crate::host;
use crate::nodes::Node;
use crate::request::{Outcome, Reply, whole};
use crate::serve::Server;

/// A symlink's target.
pub(crate) fn read_link(server: &Server, body: &[u8]) -> Outcome {
    let request: OneNode = whole(body)?;
    let node = server.nodes.get(request.node)?;
    if node.file_type != file_type::SYMLINK {
        return Err(Errno::EINVAL.into());
    }
    let target = rustix::fs::readlinkat(&*node, "", Vec::with_capacity(256))?;
    Ok(Reply { body: target.into_bytes(), fd: None })
}

/// A descriptor for a regular file's data.
pub(crate) fn open(server: &Server, body: &[u8]) -> Outcome {
    let request: wire::Open = whole(body)?;
    let node = server.nodes.get(request.node)?;
    let flags = u32::try_from(request.flags).map_err(|_| Errno::EINVAL)?;
    let fd = open_node(server, &node, flags)?;
    let stat = server.stat(&fd)?;
    Ok(Reply { body: stat.as_bytes().to_vec(), fd: Some(fd) })
}

/// The descriptor that is donated. Never anything but a regular file: a directory's would lead to `..`, a device's to
/// the host's drivers, a fifo's or socket's to the host's processes.
pub(super) fn open_node(server: &Server, node: &Node, flags: u32) -> Result<OwnedFd, Errno> {
    match node.file_type {
        file_type::REGULAR => {}
        file_type::DIRECTORY => return Err(Errno::EISDIR),
        file_type::SYMLINK => return Err(Errno::ELOOP),
        _ => return Err(Errno::ENXIO),
    }
    let flags = open_flags(flags)?;
    if changes(flags) && server.mounts[node.mount].readonly {
        return Err(Errno::EROFS);
    }
    Ok(host::reopen(&server.proc_fds, node, flags)?)
}

/// Access mode and [`OPEN_FLAGS`], or `EINVAL`.
pub(super) fn open_flags(raw: u32) -> Result<OFlags, Errno> {
    if raw & !(O_ACCMODE | OPEN_FLAGS) != 0 || raw & O_ACCMODE == O_ACCMODE {
        return Err(Errno::EINVAL);
    }
    Ok(OFlags::from_bits_retain(raw))
}

/// LINUX: `O_TRUNC` truncates whatever the access mode.
fn changes(flags: OFlags) -> bool {
    flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
}

/// A connection to a socket that one of the host's processes has bound, if the mount allows it.
pub(crate) fn connect(server: &Server, body: &[u8]) -> Outcome {
    let request: wire::Connect = whole(body)?;
    let node = server.nodes.get(request.node)?;
    if !server.mounts[node.mount].allow_host_sockets {
        return Err(Errno::EACCES.into());
    }
    if node.file_type != file_type::SOCKET {
        return Err(Errno::ECONNREFUSED.into());
    }
    let kind = [SocketType::STREAM, SocketType::DGRAM, SocketType::SEQPACKET]
        .into_iter()
        .find(|kind| u64::from(kind.as_raw()) == request.kind)
        .ok_or(Errno::EINVAL)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    // Relative to the working directory, which is our /proc/self/fd: this very socket, whatever its name is now.
    let address = SocketAddrUnix::new(host::entry(&*node))?;
    rustix::net::connect(&socket, &address)?;
    Ok(Reply::default().with(socket))
}

/// `fsync` or `fdatasync`.
pub(crate) fn fsync(server: &Server, body: &[u8]) -> Outcome {
    let request: wire::Fsync = whole(body)?;
    let fd = open_for_sync(server, request.node)?;
    if request.data_only == 0 { rustix::fs::fsync(fd) } else { rustix::fs::fdatasync(fd) }?;
    Reply::done()
}

/// `syncfs`.
pub(crate) fn sync_fs(server: &Server, body: &[u8]) -> Outcome {
    let request: OneNode = whole(body)?;
    rustix::fs::syncfs(open_for_sync(server, request.node)?)?;
    Reply::done()
}

fn open_for_sync(server: &Server, handle: u64) -> Result<OwnedFd, Errno> {
    let node = server.nodes.get(handle)?;
    match node.file_type {
        file_type::REGULAR | file_type::DIRECTORY => {
            Ok(host::reopen(&server.proc_fds, &*node, OFlags::RDONLY)?)
        }
        _ => Err(Errno::EINVAL),
    }
}
