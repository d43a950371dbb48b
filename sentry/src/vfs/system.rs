//! What does the virtual file system share across the sandbox? The kinds of file systems that can be mounted, the drivers
//! behind device numbers, and the private mount on which nameless files live.
//!
//! Key types: [`System`] (one per kernel), [`FileSystemType`] and [`MountRequest`] (what `mount(2)` calls),
//! [`DeviceDriver`] and [`FifoDriver`] (what opening a special node calls).
//! Rooms that bring kinds of files register them when the kernel is made; this file knows none of them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    Dentry, DentryCache, FileOps, FileSystem, Inode, Location, Locks, Mount, SetAttr, Stat, StatFs, mode, now,
};
use crate::Errno;
use crate::descriptors::Share;
use crate::fs::inotify::Registry;
use crate::kernel::Kernel;
use crate::task::{PidNamespace, Task};

/// What a file system is asked to be mounted with.
pub struct MountRequest<'a> {
    /// The sandbox.
    pub kernel: &'a Arc<Kernel>,
    /// Whose processes `proc` shows.
    pub pid_namespace: &'a Arc<PidNamespace>,
    /// Whose descriptors of the host its files are.
    pub descriptors: &'a Arc<Share>,
    /// The device or other source as given.
    pub source: &'a [u8],
    /// The data string: `size=64m,mode=755`.
    pub options: &'a str,
    /// Owner of the new root, unless the options say otherwise.
    pub uid: u32,
    /// Group of the new root, unless the options say otherwise.
    pub gid: u32,
}

/// A kind of file system that can be mounted, as in `/proc/filesystems`.
pub trait FileSystemType: Send + Sync {
    /// Its name: `tmpfs`.
    fn name(&self) -> &'static str;

    /// Makes one.
    ///
    /// # Errors
    /// EINVAL for options that it does not know.
    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>, Errno>;
}

/// Opens device nodes, whatever file system they are on.
pub trait DeviceDriver: Send + Sync {
    /// Opens the device `rdev` (`makedev(major, minor)`); `flags`: `O_*`.
    ///
    /// # Errors
    /// ENXIO if there is no such minor number.
    fn open(
        &self,
        task: &Arc<Task>,
        location: &Location,
        rdev: u64,
        flags: u32,
    ) -> Result<Arc<dyn FileOps>, Errno>;
}

/// Where the pipe of a fifo is kept while somebody has it open.
#[derive(Default)]
pub struct FifoSlot(pub Mutex<Option<Weak<dyn Any + Send + Sync>>>);

/// Opens fifos, whatever file system they are on.
pub trait FifoDriver: Send + Sync {
    /// Opens one end. The open is complete once [`FileOps::open_ready`] says so.
    ///
    /// # Errors
    /// ENXIO for `O_WRONLY | O_NONBLOCK` without a reader.
    fn open(
        &self,
        task: &Arc<Task>,
        location: &Location,
        slot: &FifoSlot,
        flags: u32,
    ) -> Result<Arc<dyn FileOps>, Errno>;
}

/// What all mounts and open files of the sandbox share.
pub struct System {
    /// LOCK: leaf.
    types: Mutex<BTreeMap<&'static str, Arc<dyn FileSystemType>>>,
    /// Character devices by major number. LOCK: leaf.
    devices: Mutex<BTreeMap<u32, Arc<dyn DeviceDriver>>>,
    /// LOCK: leaf.
    fifos: Mutex<Option<Arc<dyn FifoDriver>>>,
    /// Where nameless files live.
    anonymous: Arc<Mount>,
    next_device: AtomicU64,
    /// Locks on files.
    pub locks: Arc<Locks>,
    /// Who watches what.
    pub inotify: Arc<Registry>,
    /// Directory entries of file systems in memory.
    pub dentries: Arc<DentryCache>,
}

/// `makedev`'s major number.
#[must_use]
pub const fn major(rdev: u64) -> u32 {
    (((rdev >> 8) & 0xfff) | ((rdev >> 32) & 0xffff_f000)) as u32
}

/// `makedev`'s minor number.
#[must_use]
pub const fn minor(rdev: u64) -> u32 {
    ((rdev & 0xff) | ((rdev >> 12) & 0xffff_ff00)) as u32
}

/// `makedev(major, minor)`, as `stat(2)` shows it.
#[must_use]
pub const fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xffff_ff00) << 12) | ((major & 0xffff_f000) << 32)
}

impl System {
    /// Knows tmpfs and nothing else yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let root = AnonymousInode::new(mode::S_IFDIR | 0o700, 0, 0);
        let file_system: Arc<dyn FileSystem> = Arc::new(AnonymousFs { root: Arc::clone(&root) });
        let anonymous = Mount::new(file_system, Dentry::root(root, None, None), 0, b"none");
        let tmpfs: Arc<dyn FileSystemType> = Arc::new(crate::fs::tmpfs::TmpFsType);
        Arc::new(Self {
            types: Mutex::new(BTreeMap::from([(tmpfs.name(), tmpfs)])),
            devices: Mutex::default(),
            fifos: Mutex::default(),
            anonymous,
            next_device: AtomicU64::new(ANONYMOUS_DEVICE + 1),
            locks: Arc::default(),
            inotify: Arc::default(),
            dentries: DentryCache::new(usize::MAX),
        })
    }

    /// Adds a kind of file system.
    pub fn add_type(&self, kind: Arc<dyn FileSystemType>) {
        self.types.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.name(), kind);
    }

    /// The kind of that name.
    #[must_use]
    pub fn file_system_type(&self, name: &str) -> Option<Arc<dyn FileSystemType>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All kinds, by name.
    #[must_use]
    pub fn type_names(&self) -> Vec<&'static str> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Adds the driver of a character device's major number.
    pub fn add_device(&self, major: u32, driver: Arc<dyn DeviceDriver>) {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).insert(major, driver);
    }

    /// Says how fifos are opened.
    pub fn set_fifo_driver(&self, driver: Arc<dyn FifoDriver>) {
        *self.fifos.lock().unwrap_or_else(PoisonError::into_inner) = Some(driver);
    }

    /// A new device number (`st_dev`) for a file system that has no device.
    pub fn new_device(&self) -> u64 {
        self.next_device.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a fifo, socket or device node that is at `location`.
    ///
    /// # Errors
    /// ENXIO for sockets and for devices without a driver.
    pub fn open_special(
        &self,
        task: &Arc<Task>,
        location: &Location,
        stat: &Stat,
        slot: &FifoSlot,
        flags: u32,
    ) -> Result<Arc<dyn FileOps>, Errno> {
        match stat.kind() {
            mode::S_IFIFO => {
                let driver = self.fifos.lock().unwrap_or_else(PoisonError::into_inner).clone();
                driver.ok_or(Errno::ENXIO)?.open(task, location, slot, flags)
            }
            mode::S_IFCHR => {
                let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
                let driver = devices.get(&major(stat.rdev)).cloned();
                drop(devices);
                driver.ok_or(Errno::ENXIO)?.open(task, location, stat.rdev, flags)
            }
            _ => Err(Errno::ENXIO),
        }
    }

    /// A place for a nameless file with a node of its own. `/proc/self/fd` shows `pipe:[INO]` for a pipe or socket
    /// (by the type bits of `mode`), `anon_inode:[KIND]` for anything else.
    #[must_use]
    pub fn anonymous(&self, kind: &str, mode: u32, uid: u32, gid: u32) -> Location {
        let inode = AnonymousInode::new(mode, uid, gid);
        let label = match mode & mode::S_IFMT {
            mode::S_IFIFO | mode::S_IFSOCK => format!("{kind}:[{}]", inode.ino),
            _ => format!("anon_inode:[{kind}]"),
        };
        self.labelled(label.as_bytes(), inode)
    }

    /// A place for a nameless file with a node of the caller's; `label` is what `/proc/self/fd` shows.
    #[must_use]
    pub fn labelled(&self, label: &[u8], inode: Arc<dyn Inode>) -> Location {
        Location { mount: Arc::clone(&self.anonymous), dentry: Dentry::labelled(inode, label) }
    }
}

/// `st_dev` of nameless files.
const ANONYMOUS_DEVICE: u64 = 16;
/// LINUX: `ANON_INODE_FS_MAGIC`.
const ANONYMOUS_MAGIC: u64 = 0x0904_1934;

/// The node of a nameless file: attributes and nothing else.
pub struct AnonymousInode {
    ino: u64,
    /// LOCK: leaf.
    stat: Mutex<Stat>,
}

impl AnonymousInode {
    /// A new node; `mode` with its type bits (none, for an anonymous inode proper).
    #[must_use]
    pub fn new(mode: u32, uid: u32, gid: u32) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let ino = NEXT.fetch_add(1, Ordering::Relaxed);
        let now = now();
        let stat = Stat {
            dev: ANONYMOUS_DEVICE,
            ino,
            mode,
            nlink: 1,
            uid,
            gid,
            blksize: 4096,
            atime_ns: now,
            mtime_ns: now,
            ctime_ns: now,
            ..Stat::default()
        };
        Arc::new(Self { ino, stat: Mutex::new(stat) })
    }

    /// Its inode number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }
}

impl Inode for AnonymousInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(*self.stat.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut stat = self.stat.lock().unwrap_or_else(PoisonError::into_inner);
        change.apply(&mut stat);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct AnonymousFs {
    root: Arc<AnonymousInode>,
}

impl FileSystem for AnonymousFs {
    fn name(&self) -> &'static str {
        "anon_inodefs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::clone(&self.root) as Arc<dyn Inode>
    }

    fn stat_fs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { magic: ANONYMOUS_MAGIC, block_size: 4096, name_max: 255, ..StatFs::default() })
    }
}
