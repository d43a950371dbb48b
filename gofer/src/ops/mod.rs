//! What each request means and when it is refused; one function per operation of the protocol.
//!
//! Every operation follows one pattern: decode, look the handles up, refuse what the mount or the file's type does not
//! allow, then act through [`crate::host`]. The checks shared by several are here.

pub(crate) mod attr;
pub(crate) mod data;
pub(crate) mod lookup;
pub(crate) mod make;
pub(crate) mod names;
pub(crate) mod xattr;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use gofer_protocol::wire::NodeStat;
use gofer_protocol::{Errno, file_type};

use crate::nodes::Node;
use crate::serve::Server;

/// The node of a handle that is about to be changed, or `EROFS`.
fn writable(server: &Server, handle: u64) -> Result<Arc<Node>, Errno> {
    let node = server.nodes.get(handle)?;
    if server.mounts[node.mount].readonly { Err(Errno::EROFS) } else { Ok(node) }
}

/// The directory of a handle, whose entries are about to be changed, or `ENOTDIR` or `EROFS`.
fn writable_dir(server: &Server, handle: u64) -> Result<Arc<Node>, Errno> {
    let node = writable(server, handle)?;
    if node.file_type == file_type::DIRECTORY { Ok(node) } else { Err(Errno::ENOTDIR) }
}

/// A handle for a file just found in, or made in, `mount`.
fn new_node(server: &Server, fd: OwnedFd, mount: usize) -> Result<NodeStat, Errno> {
    let stat = server.stat(&fd)?;
    let node = server.nodes.insert(Node::new(fd, mount, stat.file_type()))?;
    Ok(NodeStat { node, stat })
}
