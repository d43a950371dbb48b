//! Files as they lie in guest memory: `stat`, `statx`, `statfs`, `flock`, directory entries, `openat2`, and their numbers.
//!
//! Key types: [`StatBuf`], [`Statx`], [`StatFsBuf`], [`Flock`], [`OpenHow`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::time::Timespec;

/// Start at the working directory.
pub const AT_FDCWD: i32 = -100;
/// Do not follow a link.
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// Remove a directory (`unlinkat`).
pub const AT_REMOVEDIR: u32 = 0x200;
/// With effective ids (`faccessat`).
pub const AT_EACCESS: u32 = 0x200;
/// Follow a link (`linkat`).
pub const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// Do not trigger an automount.
pub const AT_NO_AUTOMOUNT: u32 = 0x800;
/// An empty path is the descriptor itself.
pub const AT_EMPTY_PATH: u32 = 0x1000;
/// How fresh `statx` shall be.
pub const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// `FD_CLOEXEC`.
pub const FD_CLOEXEC: u64 = 1;
/// `UTIME_NOW`.
pub const UTIME_NOW: i64 = 0x3fff_ffff;
/// `UTIME_OMIT`.
pub const UTIME_OMIT: i64 = 0x3fff_fffe;

/// `struct stat`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in stat(2)")]
pub struct StatBuf {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub pad: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u64,
    pub blocks: u64,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    pub unused: [u64; 3],
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct StatxTime {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: u32,
    /// Zero.
    pub pad: i32,
}

/// `struct statx`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in statx(2)")]
pub struct Statx {
    pub mask: u32,
    pub blksize: u32,
    pub attributes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub pad: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub atime: StatxTime,
    pub btime: StatxTime,
    pub ctime: StatxTime,
    pub mtime: StatxTime,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mnt_id: u64,
    pub dio_mem_align: u32,
    pub dio_offset_align: u32,
    pub spare: [u64; 12],
}

/// `fallocate(2)`: modes.
pub mod falloc {
    /// `FALLOC_FL_KEEP_SIZE`.
    pub const KEEP_SIZE: u32 = 1;
    /// `FALLOC_FL_PUNCH_HOLE`.
    pub const PUNCH_HOLE: u32 = 2;
    /// `FALLOC_FL_ZERO_RANGE`.
    pub const ZERO_RANGE: u32 = 16;
}

/// `STATX_BASIC_STATS`.
pub const STATX_BASIC_STATS: u32 = 0x7ff;
/// `STATX_BTIME`.
pub const STATX_BTIME: u32 = 0x800;
/// `STATX_MNT_ID`.
pub const STATX_MNT_ID: u32 = 0x1000;
/// `STATX__RESERVED`.
pub const STATX_RESERVED: u32 = 0x8000_0000;
/// `STATX_ATTR_MOUNT_ROOT`.
pub const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

/// `struct statfs`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in statfs(2)")]
pub struct StatFsBuf {
    pub kind: u64,
    pub bsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: u64,
    pub namelen: u64,
    pub frsize: u64,
    pub flags: u64,
    pub spare: [u64; 4],
}

/// `struct flock`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct Flock {
    /// `F_RDLCK`, `F_WRLCK`, `F_UNLCK`.
    pub kind: i16,
    /// `SEEK_*`.
    pub whence: i16,
    /// Alignment.
    pub pad: i32,
    /// First byte.
    pub start: i64,
    /// Number of bytes; 0: to the end of all files.
    pub len: i64,
    /// Who holds it.
    pub pid: i32,
    /// Alignment.
    pub pad_end: i32,
}

/// `F_RDLCK`.
pub const F_RDLCK: i16 = 0;
/// `F_WRLCK`.
pub const F_WRLCK: i16 = 1;
/// `F_UNLCK`.
pub const F_UNLCK: i16 = 2;

/// `struct open_how`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: u64,
    /// Permission bits of a new file.
    pub mode: u64,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

/// `struct utimbuf`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct Utimbuf {
    /// Access time, seconds.
    pub actime: i64,
    /// Modification time, seconds.
    pub modtime: i64,
}

/// `struct f_owner_ex`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct FOwnerEx {
    /// `F_OWNER_*`.
    pub kind: i32,
    /// Thread, process or group.
    pub pid: i32,
}

const _: () = {
    assert!(size_of::<StatBuf>() == 144);
    assert!(size_of::<Statx>() == 256);
    assert!(size_of::<StatFsBuf>() == 120);
    assert!(size_of::<Flock>() == 32);
};
