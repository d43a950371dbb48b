//! The virtual file system: paths, mounts, directory entries, open files, descriptors.
//!
//! Key types: [`Location`] (a directory entry on a mount: what a path means), [`Dentry`], [`Mount`],
//! [`OpenFile`], [`FdTable`], the traits [`Inode`], [`FileSystem`] and [`FileOps`].
//! File systems themselves live in [`crate::fs`].

pub mod acl;
mod attributes;
pub mod container;
mod dentry;
mod dentry_cache;
mod directory;
mod fd_table;
mod file;
mod fs_context;
mod inode;
#[cfg(test)]
mod lifetime_tests;
mod locks;
mod modify;
mod moment;
mod mount;
pub mod mount_text;
pub mod mounting;
mod names;
mod notice;
mod open;
pub mod permission;
mod rename;
mod system;
#[cfg(test)]
mod tests;
mod walk;
mod write_count;

pub use attributes::{NewTime, Times};
pub use dentry::{Cached, Dentry, Tree};
pub use dentry_cache::DentryCache;
pub use directory::DirectoryFile;
pub use fd_table::{Descriptor, Fd, FdTable};
pub use file::{DirEntry, FileOps, Mappable, Op, OpenFile, Opener, Pages, SharedPosition, Whence};
pub use fs_context::FsContext;
pub use inode::{
    Access, Caching, FileSystem, Inode, LinkTarget, Linkable, NewKind, NewNode, SetAttr, Stat, StatFs, mode,
    now,
};
pub use locks::{Conflict, LockKind, LockOwner, LockRange, Locks};
pub use modify::{Place, Writing};
pub use moment::Moment;
pub use mount::{Mount, MountNamespace};
pub use notice::{FileOwner, owner_kind};
pub use open::{How, open_flags};
pub use rename::{RENAME_EXCHANGE, RENAME_NOREPLACE};
pub use system::{
    AnonymousInode, DeviceDriver, FifoDriver, FifoSlot, FileSystemType, MountRequest, System, major, makedev,
    minor,
};
pub use walk::{Caller, Found, Last, LastName, Lookup, NAME_MAX};
pub use write_count::{DenyWrite, WriteAccess, WriteCount};

use std::any::Any;
use std::sync::{Arc, Mutex, Weak};

/// A directory entry seen through a mount: what a path resolves to.
#[derive(Clone)]
pub struct Location {
    /// The mount it is seen through.
    pub mount: Arc<Mount>,
    /// The entry on that mount's file system.
    pub dentry: Arc<Dentry>,
}

impl Location {
    /// The node.
    #[must_use]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// Another entry, seen through the same mount.
    #[must_use]
    pub fn with(&self, dentry: &Arc<Dentry>) -> Self {
        Self { mount: Arc::clone(&self.mount), dentry: Arc::clone(dentry) }
    }

    /// The same entry on the same mount.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}

/// Where the net room keeps the socket that is bound to a node; emptied when the socket goes.
#[derive(Default)]
pub struct SocketSlot(pub Mutex<Option<Weak<dyn Any + Send + Sync>>>);
