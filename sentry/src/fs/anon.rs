//! Where do files live that no path leads to? Pipes, sockets, and the objects of `anon_inode`.
//!
//! Key types: [`Kind`], [`AnonInode`]; [`open`] makes an open file of any such object, [`link_text`] says what
//! `/proc/PID/fd/N` shows for it.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use platform::host::clock::{Clock, now_ns};

use super::pipe::Pipe;
use crate::Errno;
use crate::task::Task;
use crate::vfs::{
    Dentry, FileOps, FileSystem, Inode, Location, Mount, OpenFile, SetAttr, Stat, StatFs, mode,
};

/// What a nameless file is.
#[derive(Clone)]
pub enum Kind {
    /// `pipe:[INO]`; the pipe can be opened again through `/proc/PID/fd`.
    Pipe(Arc<Pipe>),
    /// `socket:[INO]`.
    Socket,
    /// `anon_inode:NAME`, e.g. `[eventfd]`.
    Object(&'static str),
}

/// The node behind a nameless file.
pub struct AnonInode {
    kind: Kind,
    ino: u64,
    /// LOCK: leaf.
    attributes: Mutex<Attributes>,
}

#[derive(Clone, Copy)]
struct Attributes {
    permissions: u32,
    uid: u32,
    gid: u32,
    atime_ns: i64,
    mtime_ns: i64,
}

/// Makes an open file of `ops`; `flags` are `O_*`.
#[must_use]
pub fn open(task: &Arc<Task>, kind: Kind, ops: Arc<dyn FileOps>, flags: u32) -> Arc<OpenFile> {
    OpenFile::new(ops, location(task, kind), flags)
}

/// A place for a nameless file, for callers that open it more than once (both ends of a pipe share one).
#[must_use]
pub fn location(task: &Arc<Task>, kind: Kind) -> Location {
    static NEXT_INO: AtomicU64 = AtomicU64::new(1000);
    let credentials = task.credentials();
    let now = i64::try_from(now_ns(Clock::Realtime)).unwrap_or(i64::MAX);
    let permissions = if matches!(kind, Kind::Socket) { 0o777 } else { 0o600 };
    let attributes = Attributes {
        permissions,
        uid: credentials.fsuid,
        gid: credentials.fsgid,
        atime_ns: now,
        mtime_ns: now,
    };
    let mount = match kind {
        Kind::Pipe(_) => &PIPES,
        Kind::Socket => &SOCKETS,
        Kind::Object(_) => &OBJECTS,
    };
    let ino = NEXT_INO.fetch_add(1, Ordering::Relaxed);
    let inode = Arc::new(AnonInode { kind, ino, attributes: Mutex::new(attributes) });
    Location { mount: Arc::clone(mount), dentry: Dentry::root(inode) }
}

/// What a link to such a file shows; `None` if `location` is not one.
#[must_use]
pub fn link_text(location: &Location) -> Option<Vec<u8>> {
    let inode = location.inode().as_any().downcast_ref::<AnonInode>()?;
    Some(match inode.kind {
        Kind::Pipe(_) => format!("pipe:[{}]", inode.ino).into_bytes(),
        Kind::Socket => format!("socket:[{}]", inode.ino).into_bytes(),
        Kind::Object(name) => format!("anon_inode:{name}").into_bytes(),
    })
}

impl AnonInode {
    fn attributes(&self) -> std::sync::MutexGuard<'_, Attributes> {
        self.attributes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inode for AnonInode {
    fn stat(&self) -> Result<Stat, Errno> {
        let attributes = *self.attributes();
        let (dev, kind) = match self.kind {
            Kind::Pipe(_) => (14, mode::S_IFIFO),
            Kind::Socket => (8, mode::S_IFSOCK),
            // LINUX: fs/anon_inodes.c, the node has no type at all.
            Kind::Object(_) => (15, 0),
        };
        Ok(Stat {
            dev,
            ino: self.ino,
            mode: kind | attributes.permissions,
            nlink: 1,
            uid: attributes.uid,
            gid: attributes.gid,
            blksize: 4096,
            atime_ns: attributes.atime_ns,
            mtime_ns: attributes.mtime_ns,
            ctime_ns: attributes.mtime_ns,
            ..Stat::default()
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        if matches!(self.kind, Kind::Object(_)) {
            return Err(Errno::EOPNOTSUPP);
        }
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut attributes = self.attributes();
        attributes.permissions = change.mode.map_or(attributes.permissions, |mode| mode & 0o7777);
        attributes.uid = change.uid.unwrap_or(attributes.uid);
        attributes.gid = change.gid.unwrap_or(attributes.gid);
        attributes.atime_ns = change.atime_ns.unwrap_or(attributes.atime_ns);
        attributes.mtime_ns = change.mtime_ns.unwrap_or(attributes.mtime_ns);
        Ok(())
    }

    fn open(&self, _: &Arc<Task>, _: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        match &self.kind {
            Kind::Pipe(pipe) => Ok(pipe.open(flags)?),
            Kind::Socket | Kind::Object(_) => Err(Errno::ENXIO),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A file system that only the kernel mounts.
struct AnonFs {
    name: &'static str,
    magic: u64,
}

/// The root of such a mount: nothing can be done with it.
struct NoRoot;

impl Inode for NoRoot {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { mode: mode::S_IFDIR, nlink: 1, ino: 1, ..Stat::default() })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileSystem for AnonFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(NoRoot)
    }

    fn stat_fs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { magic: self.magic, block_size: 4096, name_max: 255, ..StatFs::default() })
    }
}

fn private_mount(name: &'static str, magic: u64) -> Arc<Mount> {
    let file_system = Arc::new(AnonFs { name, magic });
    let root = Dentry::root(file_system.root());
    Mount::new(file_system, root, 0, name.as_bytes())
}

// The kernel's own mounts, which nobody sees and which hold no state: one per sentry is what Linux has, too.
static PIPES: LazyLock<Arc<Mount>> = LazyLock::new(|| private_mount("pipefs", 0x5049_5045));
static SOCKETS: LazyLock<Arc<Mount>> = LazyLock::new(|| private_mount("sockfs", 0x534f_434b));
static OBJECTS: LazyLock<Arc<Mount>> = LazyLock::new(|| private_mount("anon_inodefs", 0x0904_1934));
