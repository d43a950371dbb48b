//! Finding files: `Hello`, `Attach`, `Walk`, and `Close`, which forgets them.

use gofer_protocol::wire::{self, NodeStat};
use gofer_protocol::{Errno, file_type};
use rustix::fs::OFlags;
use zerocopy::{FromBytes, IntoBytes};

use super::new_node;
use crate::host;
use crate::nodes::Node;
use crate::request::{Fault, Name, Outcome, Reply, head, whole};
use crate::serve::Server;

/// How many mounts there are and how many handles there may be.
pub(crate) fn hello(server: &Server, body: &[u8]) -> Outcome {
    if !body.is_empty() {
        return Err(Fault::Malformed("wrong length"));
    }
    Ok(Reply::value(&wire::Limits {
        mounts: u32::try_from(server.mounts.len()).expect("checked when the server was made"),
        nodes_max: u32::try_from(server.nodes.limit()).expect("at most NODES_MAX"),
    }))
}

/// The root of a mount.
pub(crate) fn attach(server: &Server, body: &[u8]) -> Outcome {
    let request: wire::Attach = whole(body)?;
    let index = usize::try_from(request.mount).map_err(|_| Errno::ENOENT)?;
    let mount = server.mounts.get(index).ok_or(Errno::ENOENT)?;
    let fd = host::reopen(&server.proc_fds, &mount.root, OFlags::PATH)?;
    Ok(Reply::value(&new_node(server, fd, index)?))
}

/// Components, one after the other.
pub(crate) fn walk(server: &Server, body: &[u8]) -> Outcome {
    let (request, tail): (wire::Walk, _) = head(body)?;
    let names = names(tail)?;
    if u64::try_from(names.len()) != Ok(request.count) {
        return Err(Fault::Malformed("the number of names is not what it says"));
    }
    if names.is_empty() || names.len() > wire::WALK_MAX {
        return Err(Errno::EINVAL.into());
    }
    let start = server.nodes.get(request.dir)?;
    let mut found: Vec<NodeStat> = Vec::with_capacity(names.len());
    let mut stopped = None;
    for name in names {
        let dir = match found.last() {
            None if start.file_type != file_type::DIRECTORY => Err(Errno::ENOTDIR),
            None => Ok(start.clone()),
            Some(last) if !last.stat.is_dir() => break,
            // Only gone if the sentry has guessed and closed a handle that it has not been told.
            Some(last) => server.nodes.get(last.node),
        };
        match dir.and_then(|dir| step(server, &dir, name)) {
            Ok(child) => found.push(child),
            Err(errno) => {
                stopped = Some(errno);
                break;
            }
        }
    }
    let head = wire::Walked {
        count: u32::try_from(found.len()).expect("at most WALK_MAX"),
        stopped: stopped.map_or(0, |errno| errno.raw().unsigned_abs()),
    };
    let mut body = head.as_bytes().to_vec();
    body.extend_from_slice(found.as_bytes());
    Ok(Reply { body, fd: None })
}

fn step(server: &Server, dir: &Node, name: &[u8]) -> Result<NodeStat, Errno> {
    let fd = host::find_child(dir, Name::new(name)?)?;
    new_node(server, fd, dir.mount)
}

fn names(mut tail: &[u8]) -> Outcome<Vec<&[u8]>> {
    let mut names = Vec::new();
    while !tail.is_empty() {
        let (length, rest) = u16::read_from_prefix(tail).map_err(|_| Fault::Malformed("half a length"))?;
        let (name, rest) =
            rest.split_at_checked(usize::from(length)).ok_or(Fault::Malformed("a length past the end"))?;
        names.push(name);
        tail = rest;
    }
    Ok(names)
}

/// Forgets handles. There is no reply.
pub(crate) fn close(server: &Server, body: &[u8]) -> Outcome {
    if !body.len().is_multiple_of(size_of::<u64>()) || body.len() > wire::CLOSE_MAX * size_of::<u64>() {
        return Err(Fault::Malformed("wrong length"));
    }
    let handles: Vec<u64> = body
        .chunks_exact(size_of::<u64>())
        .map(|chunk| u64::read_from_bytes(chunk).expect("eight bytes"))
        .collect();
    server.nodes.remove(&handles);
    Reply::done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_by_their_lengths() {
        assert_eq!(names(b"\x01\x00a\x02\x00bc\x00\x00").expect("good"), [&b"a"[..], b"bc", b""]);
        assert_eq!(names(b"").expect("good"), Vec::<&[u8]>::new());
    }

    #[test]
    fn names_cut_short_are_malformed() {
        for tail in [&b"\x01"[..], b"\x01\x00", b"\xff\xffa", b"\x01\x00a\x01"] {
            assert!(matches!(names(tail), Err(Fault::Malformed(_))), "{tail:?}");
        }
    }
}
