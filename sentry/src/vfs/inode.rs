//! What can a node of a file system do, and what does a file system say of itself?
//!
//! Key types: the traits [`Inode`] and [`FileSystem`], [`Stat`], [`SetAttr`], [`NewNode`].
//! Permission bits, sticky directories, read-only mounts and name rules are checked by the path walk before any of
//! these is called; implementations check only what they alone can know.

use std::any::Any;
use std::sync::Arc;

use platform::host::clock::{Clock, now_ns};

use super::permission::{self, Want};
use super::{DentryCache, DirEntry, FileOps, Location, Moment};
use crate::Errno;
use crate::task::{Credentials, Task};

/// `S_IFMT` and friends, as in `inode(7)`.
pub mod mode {
    /// Mask of the type bits.
    pub const S_IFMT: u32 = 0o170_000;
    /// Socket.
    pub const S_IFSOCK: u32 = 0o140_000;
    /// Symbolic link.
    pub const S_IFLNK: u32 = 0o120_000;
    /// Regular file.
    pub const S_IFREG: u32 = 0o100_000;
    /// Block device.
    pub const S_IFBLK: u32 = 0o060_000;
    /// Directory.
    pub const S_IFDIR: u32 = 0o040_000;
    /// Character device.
    pub const S_IFCHR: u32 = 0o020_000;
    /// Fifo.
    pub const S_IFIFO: u32 = 0o010_000;
    /// Set user id.
    pub const S_ISUID: u32 = 0o4000;
    /// Set group id.
    pub const S_ISGID: u32 = 0o2000;
    /// Sticky.
    pub const S_ISVTX: u32 = 0o1000;
}

/// Attributes of a node; times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "fields of stat(2) and statx(2)")]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub blksize: u32,
    pub atime_ns: i64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub btime_ns: i64,
}

impl Stat {
    /// An access at `now_ns` moves the access time. LINUX: `relatime_need_update`: if it is not newer than the last change, and once
    /// a day.
    #[must_use]
    pub const fn is_access_due(&self, now_ns: i64) -> bool {
        const DAY_NS: i64 = 86_400_000_000_000;
        self.atime_ns <= self.mtime_ns
            || self.atime_ns <= self.ctime_ns
            || now_ns.saturating_sub(self.atime_ns) >= DAY_NS
    }

    /// Type bits.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        self.mode & mode::S_IFMT
    }

    /// Is a directory.
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        self.kind() == mode::S_IFDIR
    }

    /// Is a symbolic link.
    #[must_use]
    pub const fn is_symlink(&self) -> bool {
        self.kind() == mode::S_IFLNK
    }

    /// Is a regular file.
    #[must_use]
    pub const fn is_regular(&self) -> bool {
        self.kind() == mode::S_IFREG
    }
}

/// What a node is and whose: enough to check permission by, and nothing else.
///
/// INVARIANT: it has no size, times or number of links, which change without anybody being told: where one of these decides
/// something, a [`Stat`] is asked for. Kind and numbers never change; bits and owner change by `set_attr` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields of stat(2)")]
pub struct Access {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
}

impl Access {
    /// Type bits.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        self.mode & mode::S_IFMT
    }

    /// Is a directory.
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        self.kind() == mode::S_IFDIR
    }

    /// Is a symbolic link.
    #[must_use]
    pub const fn is_symlink(&self) -> bool {
        self.kind() == mode::S_IFLNK
    }

    /// Is a regular file.
    #[must_use]
    pub const fn is_regular(&self) -> bool {
        self.kind() == mode::S_IFREG
    }
}

impl From<&Stat> for Access {
    fn from(stat: &Stat) -> Self {
        let Stat { dev, ino, mode, uid, gid, rdev, .. } = *stat;
        Self { dev, ino, mode, uid, gid, rdev }
    }
}

/// Attributes to change; `None` leaves one alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time, ns.
    pub atime_ns: Option<i64>,
    /// Modification time, ns.
    pub mtime_ns: Option<i64>,
}

impl SetAttr {
    /// Makes the change to plain attributes: all but the size, which is not only a number.
    pub fn apply(&self, stat: &mut Stat) {
        if let Some(bits) = self.mode {
            stat.mode = stat.kind() | bits & 0o7777;
        }
        stat.uid = self.uid.unwrap_or(stat.uid);
        stat.gid = self.gid.unwrap_or(stat.gid);
        stat.atime_ns = self.atime_ns.unwrap_or(stat.atime_ns);
        stat.mtime_ns = self.mtime_ns.unwrap_or(stat.mtime_ns);
        stat.ctime_ns = now();
    }
}

/// The wall clock as file times count it.
#[must_use]
pub fn now() -> i64 {
    i64::try_from(now_ns(Clock::Realtime)).unwrap_or(i64::MAX)
}

/// Whether a file that is made without a name may get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linkable {
    /// `linkat(2)` may give it one.
    Yes,
    /// It stays nameless (`O_EXCL`).
    No,
}

/// What a new node shall be.
#[derive(Debug, Clone)]
pub enum NewKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link with its target.
    Symlink(Vec<u8>),
    /// Fifo.
    Fifo,
    /// Bound `AF_UNIX` socket.
    Socket,
    /// Character (`true`) or block device.
    Device {
        /// Character device.
        character: bool,
        /// `makedev(major, minor)`.
        rdev: u64,
    },
}

/// A new node: kind, permission bits (umask applied), owner.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "plain fields")]
pub struct NewNode {
    pub kind: NewKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Where a symbolic link leads.
pub enum LinkTarget {
    /// To a path.
    Path(Vec<u8>),
    /// Straight to a place, as `/proc/self/fd/3` does.
    Jump(Location),
}

/// May lookups of a directory's children be remembered?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Yes: only this sandbox changes them.
    Exclusive,
    /// Ask each time (proc, shared volumes).
    Never,
}

/// A node of a file system.
pub trait Inode: Send + Sync + Any {
    /// `stat(2)`: true now. Must be cheap where [`Caching::Exclusive`] holds.
    ///
    /// # Errors
    /// The gofer's.
    fn stat(&self) -> Result<Stat, Errno>;

    /// As [`Inode::stat`], true at some moment since `since`: what the walk that found the node has been
    /// told need not be asked again.
    ///
    /// # Errors
    /// The gofer's.
    fn stat_since(&self, _since: Moment) -> Result<Stat, Errno> {
        self.stat()
    }

    /// What permission is checked by; never dearer than that needs to be.
    ///
    /// # Errors
    /// The gofer's.
    fn access(&self) -> Result<Access, Errno> {
        self.stat().map(|stat| Access::from(&stat))
    }

    /// Type and permission bits, true now: asked before each change of content.
    ///
    /// # Errors
    /// The gofer's.
    fn mode(&self) -> Result<u32, Errno> {
        self.access().map(|access| access.mode)
    }

    /// `fsync(2)`, `fdatasync(2)` of a directory.
    ///
    /// # Errors
    /// EINVAL by default: it has nothing to be kept; the gofer's.
    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// Who writes to it and who runs it, if it is a regular file that can be run.
    fn write_count(&self) -> Option<&super::WriteCount> {
        None
    }

    /// The content is about to change: file capabilities go.
    ///
    /// # Errors
    /// The gofer's.
    fn drop_capabilities(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// The content has been changed by somebody who may keep these permission bits, set-ID bits among them: they are put back
    /// where a host's kernel has taken them away.
    fn keep_set_id(&self, _bits: u32) {}

    /// May `task`, by these credentials, do that to this node, of which `access` is told? LINUX: `i_op->permission`.
    ///
    /// # Errors
    /// EACCES; the gofer's.
    fn permission(
        &self,
        _task: &Arc<Task>,
        credentials: &Credentials,
        access: &Access,
        want: Want,
    ) -> Result<(), Errno> {
        permission::check(credentials, access, want)
    }

    /// A name of this node has been made, removed or replaced through its directory.
    fn links_changed(&self) {}

    /// Changes attributes.
    ///
    /// # Errors
    /// EPERM by default.
    fn set_attr(&self, _change: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Child by name; never `.` or `..`.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR by default.
    fn lookup(&self, _task: &Arc<Task>, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// May the dentry cache remember lookups in this directory?
    fn caching(&self) -> Caching {
        Caching::Never
    }

    /// Makes a child.
    ///
    /// # Errors
    /// EEXIST; EPERM by default.
    fn create(&self, _name: &[u8], _new: &NewNode) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EPERM)
    }

    /// Makes a nameless regular file (`O_TMPFILE`). The caller sees to it that one which is not linkable is not linked.
    ///
    /// # Errors
    /// EOPNOTSUPP by default.
    fn create_unnamed(&self, _new: &NewNode, _linkable: Linkable) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a hard link to a node of the same file system.
    ///
    /// # Errors
    /// EPERM by default.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes a child; `directory`: it must be an empty directory. `by`: the user who must own it or the directory, if that is sticky:
    /// for who keeps names that others may change meanwhile.
    ///
    /// # Errors
    /// EPERM by default.
    fn unlink(&self, _name: &[u8], _directory: bool, _by: Option<u32>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Moves a child to `new`, a name in a directory of the same file system. `flags`: `RENAME_*`; `by`: as of [`Inode::unlink`].
    ///
    /// # Errors
    /// EPERM by default.
    fn rename(
        &self,
        _old: &[u8],
        _new: (&Arc<dyn Inode>, &[u8]),
        _flags: u32,
        _by: Option<u32>,
    ) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL by default.
    fn read_link(&self, _task: &Arc<Task>) -> Result<LinkTarget, Errno> {
        Err(Errno::EINVAL)
    }

    /// Opens it (`flags`: `O_*`); `location` is where. Truncation and permission have been dealt with.
    ///
    /// # Errors
    /// ENXIO by default.
    fn open(&self, _task: &Arc<Task>, _location: &Location, _flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }

    /// Entries from `cookie` on, without `.` and `..`, until `emit` returns `false`.
    ///
    /// # Errors
    /// ENOTDIR by default.
    fn read_dir(
        &self,
        _task: &Arc<Task>,
        _cookie: u64,
        _emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA; EOPNOTSUPP by default.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute; `flags`: `XATTR_CREATE`, `XATTR_REPLACE`.
    ///
    /// # Errors
    /// EOPNOTSUPP by default.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of extended attributes.
    ///
    /// # Errors
    /// EOPNOTSUPP by default.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// EOPNOTSUPP by default.
    fn remove_xattr(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The listening `AF_UNIX` socket that is bound here, if any (a slot that the net room fills).
    fn bound_socket(&self) -> Option<&super::SocketSlot> {
        None
    }

    /// For those who know the concrete type.
    fn as_any(&self) -> &dyn Any;
}

/// `statfs(2)`.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "fields of statfs(2)")]
pub struct StatFs {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u64,
}

/// A mounted (or mountable) file system.
pub trait FileSystem: Send + Sync {
    /// As in `/proc/filesystems`.
    fn name(&self) -> &'static str;

    /// Its root directory (or, for a bind mount of one file, that file).
    fn root(&self) -> Arc<dyn Inode>;

    /// What keeps its directory entries. `None`: nothing does, as its names end without being removed.
    fn dentry_cache(&self) -> Option<Arc<DentryCache>> {
        None
    }

    /// `statfs(2)`.
    ///
    /// # Errors
    /// The gofer's.
    fn stat_fs(&self) -> Result<StatFs, Errno>;

    /// Options shown in `/proc/self/mounts` besides the mount's own flags.
    fn options(&self) -> String {
        String::new()
    }

    /// `syncfs(2)`.
    ///
    /// # Errors
    /// The gofer's.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}
