//! Extended attributes: `GetXattr`, `SetXattr`, `ListXattr`, `RemoveXattr`, and which of them exist for a guest.
//!
//! `user.*` is the guest's to read and write. `security.capability` and POSIX ACLs can be read, so that the sentry can
//! honour them. Everything else (`trusted.*`, which is where an overlay keeps its bookkeeping; other `security.*`) is not there.

use gofer_protocol::Errno;
use gofer_protocol::wire::{self, OneNode, XATTR_NAME_MAX, XATTR_VALUE_MAX};
use rustix::fs::XattrFlags;

use super::writable;
use crate::host;
use crate::request::{Outcome, Reply, head, split, whole};
use crate::serve::Server;

/// Can be read besides `user.*`.
const READABLE: [&[u8]; 3] =
    [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
/// LINUX: `XATTR_LIST_MAX`.
const LIST_MAX: usize = 64 << 10;

fn is_readable(name: &[u8]) -> bool {
    is_user(name) || READABLE.contains(&name)
}

fn is_user(name: &[u8]) -> bool {
    name.starts_with(b"user.") && name.len() > b"user.".len()
}

/// LINUX: `xattr(7)`: `ERANGE` for a name that is empty or too long.
fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX {
        return Err(Errno::ERANGE);
    }
    if name.contains(&0) { Err(Errno::EINVAL) } else { Ok(()) }
}

fn check_write(name: &[u8]) -> Result<(), Errno> {
    check_name(name)?;
    if is_user(name) {
        return Ok(());
    }
    let privileged = name.starts_with(b"trusted.") || name.starts_with(b"security.");
    Err(if privileged { Errno::EPERM } else { Errno::EOPNOTSUPP })
}

/// A value.
pub(crate) fn get(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (OneNode, _) = head(body)?;
    let node = server.nodes.get(request.node)?;
    check_name(name)?;
    if !is_readable(name) {
        return Err(Errno::ENODATA.into());
    }
    let mut value = vec![0; XATTR_VALUE_MAX];
    let length = match rustix::fs::getxattr(host::entry(&*node), name, &mut value[..]) {
        Err(rustix::io::Errno::RANGE) => return Err(Errno::E2BIG.into()),
        result => result?,
    };
    value.truncate(length);
    Ok(Reply { body: value, fd: None })
}

/// Sets `user.*`.
pub(crate) fn set(server: &Server, body: &[u8]) -> Outcome {
    let (request, tail): (wire::SetXattr, _) = head(body)?;
    let (name, value) = split(tail, request.name_length)?;
    let node = writable(server, request.node)?;
    check_write(name)?;
    let flags = XattrFlags::from_bits(request.flags)
        .filter(|flags| *flags != XattrFlags::all())
        .ok_or(Errno::EINVAL)?;
    rustix::fs::setxattr(host::entry(&*node), name, value, flags)?;
    Reply::done()
}

/// The names that can be read.
pub(crate) fn list(server: &Server, body: &[u8]) -> Outcome {
    let request: OneNode = whole(body)?;
    let node = server.nodes.get(request.node)?;
    let mut names = vec![0; LIST_MAX];
    let length = rustix::fs::listxattr(host::entry(&*node), &mut names[..])?;
    let mut visible = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        if is_readable(name.strip_suffix(b"\0").unwrap_or(name))
            && visible.len() + name.len() <= XATTR_VALUE_MAX
        {
            visible.extend_from_slice(name);
        }
    }
    Ok(Reply { body: visible, fd: None })
}

/// Removes `user.*`.
pub(crate) fn remove(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (OneNode, _) = head(body)?;
    let node = writable(server, request.node)?;
    check_write(name)?;
    rustix::fs::removexattr(host::entry(&*node), name)?;
    Reply::done()
}
