//! Where do our nameless files live? On the virtual file system's private mount, with a node each.
//!
//! [`open`] makes an open file of an `anon_inode` object, [`pipe_location`] the place that both ends of a pipe share.

use std::any::Any;
use std::sync::Arc;

use super::pipe::Pipe;
use crate::Errno;
use crate::task::Task;
use crate::vfs::{AnonymousInode, FileOps, Inode, Location, OpenFile, SetAttr, Stat, mode};

/// Makes an open file of `ops`, shown as `anon_inode:[KIND]`; `flags` are `O_*`.
#[must_use]
pub fn open(task: &Arc<Task>, kind: &str, ops: Arc<dyn FileOps>, flags: u32) -> Arc<OpenFile> {
    let credentials = task.credentials();
    // LINUX: fs/anon_inodes.c, the node has no type bits at all.
    let location = task.kernel.vfs.anonymous(kind, 0o600, credentials.fsuid, credentials.fsgid);
    OpenFile::new(ops, location, flags)
}

/// The place of a pipe, shown as `pipe:[INO]`.
#[must_use]
pub(super) fn pipe_location(task: &Arc<Task>, pipe: &Arc<Pipe>) -> Location {
    let credentials = task.credentials();
    let node = AnonymousInode::new(mode::S_IFIFO | 0o600, credentials.fsuid, credentials.fsgid);
    let label = format!("pipe:[{}]", node.ino());
    task.kernel.vfs.labelled(label.as_bytes(), Arc::new(PipeInode { node, pipe: Arc::clone(pipe) }))
}

/// A pipe's node: opening it again, through `/proc/PID/fd`, opens another end.
struct PipeInode {
    node: Arc<AnonymousInode>,
    pipe: Arc<Pipe>,
}

impl Inode for PipeInode {
    fn stat(&self) -> Result<Stat, Errno> {
        self.node.stat()
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        self.node.set_attr(change)
    }

    fn open(&self, _: &Arc<Task>, _: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(self.pipe.open(flags)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
