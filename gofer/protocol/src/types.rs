//! What callers of the gofer handle: nodes, attributes, directory entries.
//!
//! Key types: [`Node`], [`Stat`], [`SetAttr`], [`DirEntry`], [`StatFs`]. The fixed-layout ones travel as they are.

use std::os::fd::OwnedFd;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::Errno;
use crate::wire;

/// What every call returns.
pub type Result<T> = std::result::Result<T, Errno>;

/// A file, directory, symlink, ... that the gofer holds for us. Plain number: give it back with `Client::close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u64);

/// A point in time: seconds since 1970 and nanoseconds (0..1e9).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: i64,
}

/// Attributes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stat {
    /// Inode number, unique together with `dev`.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// File system: a small number from 1, the same for two mounts of one host file system.
    pub dev: u32,
    /// File type and permission bits.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Best size for reads and writes.
    pub blksize: u32,
    /// Of a device node: its major number.
    pub rdev_major: u32,
    /// Of a device node: its minor number.
    pub rdev_minor: u32,
    /// Which extended attributes that decide about rights it has: bits of [`mark`].
    pub marks: u32,
    /// How its file system keeps it: bits of [`storage`].
    pub storage: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the attributes.
    pub ctime: Time,
    /// Birth; zero if the file system does not know.
    pub btime: Time,
}

/// Bits of [`Stat::marks`]: what is not set is not there; what is set may be.
pub mod mark {
    /// An access control list (`system.posix_acl_access`).
    pub const ACL: u32 = 1;
    /// File capabilities (`security.capability`).
    pub const CAPABILITIES: u32 = 2;
    /// All of them.
    pub const ALL: u32 = 3;
}

/// Bits of [`Stat::storage`].
pub mod storage {
    /// What is written is sent away at `close(2)`, which may fail, and what others wrote is seen at the next `open(2)`: NFS, FUSE and
    /// their like.
    pub const AT_CLOSE: u32 = 1;
}

/// LINUX: `S_IFMT` and the types under it.
pub mod file_type {
    /// Mask of the type bits.
    pub const MASK: u32 = 0o170_000;
    /// Socket.
    pub const SOCKET: u32 = 0o140_000;
    /// Symlink.
    pub const SYMLINK: u32 = 0o120_000;
    /// Regular file.
    pub const REGULAR: u32 = 0o100_000;
    /// Block device.
    pub const BLOCK: u32 = 0o060_000;
    /// Directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// Character device.
    pub const CHAR: u32 = 0o020_000;
    /// Fifo.
    pub const FIFO: u32 = 0o010_000;
}

impl Stat {
    /// The type bits of the mode, one of [`file_type`].
    #[must_use]
    pub fn file_type(&self) -> u32 {
        self.mode & file_type::MASK
    }

    /// A directory?
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_type() == file_type::DIRECTORY
    }

    /// A symlink?
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.file_type() == file_type::SYMLINK
    }

    /// A regular file?
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.file_type() == file_type::REGULAR
    }
}

/// A time to set; leave the field `None` for `UTIME_OMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`.
    Now,
    /// This one.
    At(Time),
}

/// Attributes to change; `None` leaves one alone. Applied in the order size, owner, mode, times; the first failure ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits, 07777.
    pub mode: Option<u32>,
    /// Owner. LINUX: a change of owner or group clears set-user-ID and set-group-ID unless `mode` is given as well.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
}

impl SetAttr {
    pub(crate) fn to_wire(self, node: Node) -> wire::SetAttrRequest {
        let mut valid = 0;
        let mut field = |value: Option<u32>, bit: u32| value.inspect(|_| valid |= bit).unwrap_or(0);
        let mode = field(self.mode, wire::ATTR_MODE);
        let uid = field(self.uid, wire::ATTR_UID);
        let gid = field(self.gid, wire::ATTR_GID);
        if self.size.is_some() {
            valid |= wire::ATTR_SIZE;
        }
        let mut time = |value: Option<SetTime>, at: u32, now: u32| match value {
            None => Time::default(),
            Some(SetTime::Now) => {
                valid |= now;
                Time::default()
            }
            Some(SetTime::At(time)) => {
                valid |= at;
                time
            }
        };
        let atime = time(self.atime, wire::ATTR_ATIME, wire::ATTR_ATIME_NOW);
        let mtime = time(self.mtime, wire::ATTR_MTIME, wire::ATTR_MTIME_NOW);
        wire::SetAttrRequest {
            node: node.0,
            valid,
            mode,
            uid,
            gid,
            size: self.size.unwrap_or(0),
            atime: atime.sec,
            atime_nsec: atime.nsec,
            mtime: mtime.sec,
            mtime_nsec: mtime.nsec,
        }
    }
}

/// What `Client::walk_many` found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walked {
    /// One per component resolved, in order. The last may be something else than a directory.
    pub nodes: Vec<(Node, Stat)>,
    /// Why the next component could not be resolved (`ENOENT`, ...). `None` if all were, or if the walk ended
    /// early at a symlink or another non-directory, which is then the last of `nodes`.
    pub stopped: Option<Errno>,
}

/// An open regular file.
#[derive(Debug)]
pub struct OpenReply {
    /// The host's file, opened with the access mode asked for. Its position belongs to nobody: use `pread`,
    /// `pwrite` and `mmap`, and share it among any number of the guest's open files.
    pub fd: OwnedFd,
    /// Attributes at that moment.
    pub stat: Stat,
}

/// One entry of a directory. `.` and `..` are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Inode number.
    pub ino: u64,
    /// Pass it to `Client::read_dir` to go on after this entry.
    pub cookie: u64,
    /// LINUX: `DT_*` (`DT_DIR` 4, `DT_REG` 8, `DT_LNK` 10, ..., 0 if the file system does not tell).
    pub kind: u8,
    /// The name.
    pub name: Vec<u8>,
    /// The directory ended with it: there is no need to ask for what comes next.
    pub is_last: bool,
}

/// Figures of a file system, as in `statfs(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatFs {
    /// Magic number of the file system's type.
    pub kind: u64,
    /// Block size.
    pub bsize: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for ordinary users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Longest name.
    pub namelen: u64,
    /// Fragment size.
    pub frsize: u64,
    /// LINUX: `ST_*` flags.
    pub flags: u64,
}
