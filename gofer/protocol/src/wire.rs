//! What a message looks like in memory: the header, the operations and each one's fixed part.
//!
//! Everything is `repr(C)` without padding, in the host's byte order (both ends are on one host). A message is
//! one SEQPACKET record: [`Header`], then the operation's fixed part, then its variable part (names, values).
//! Names of several parts carry their lengths in the fixed part. The table in the crate's documentation lists all.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::Stat;

/// Version of this layout; a peer that speaks another is refused.
pub const VERSION: u16 = 1;
/// Longest record in bytes, header included.
pub const MESSAGE_MAX: usize = 64 << 10;
/// LINUX: `NAME_MAX`, `ENAMETOOLONG` above.
pub const NAME_MAX: usize = 255;
/// LINUX: `PATH_MAX` (with the NUL) bounds a symlink's target, `ENAMETOOLONG` above.
pub const TARGET_MAX: usize = 4095;
/// Most components in one walk, `EINVAL` above.
pub const WALK_MAX: usize = 64;
/// Most handles in one close.
pub const CLOSE_MAX: usize = 256;
/// LINUX: `XATTR_SIZE_MAX` is 64 KiB; ours is what fits in a record, `E2BIG` above.
pub const XATTR_VALUE_MAX: usize = 60 << 10;
/// LINUX: `XATTR_NAME_MAX`, `ERANGE` above.
pub const XATTR_NAME_MAX: usize = 255;
/// Room for directory entries in one page.
pub const DIR_PAGE_MAX: usize = 60 << 10;
/// In the place of a user: nobody is asked whether the name is theirs.
pub const ANYBODY: u32 = u32::MAX;
/// In the kind of a directory entry: the directory ends here, as far as it can be told already.
pub const LAST_ENTRY: u32 = 1 << 31;
/// Most sockets (and so requests under way) of one client.
pub const CHANNELS_MAX: usize = 16;

/// In front of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`VERSION`].
    pub version: u16,
    /// An [`Op`]; a reply repeats its request's.
    pub op: u16,
    /// Zero in a request. In a reply: zero, or the errno, in which case nothing follows.
    pub status: u32,
    /// Chosen by the client, repeated in the reply.
    pub id: u64,
}

/// Bytes of a [`Header`].
pub const HEADER: usize = size_of::<Header>();

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $number:literal),* $(,)?) => {
        /// The operations; the numbers are the wire format.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Op {
            $($(#[$doc])* $name = $number),*
        }

        impl Op {
            /// Its number.
            #[must_use]
            pub fn raw(self) -> u16 {
                match self {
                    $(Self::$name => $number),*
                }
            }

            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The operation with this number, if there is one.
            #[must_use]
            pub fn from_raw(raw: u16) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

ops! {
    /// Limits of this gofer. Nothing -> [`Limits`].
    Hello = 1,
    /// Root of a mount. [`Attach`] -> [`NodeStat`].
    Attach = 2,
    /// Resolve components. [`Walk`], names as `u16` length and bytes -> [`Walked`], [`NodeStat`]s.
    Walk = 3,
    /// Attributes. [`OneNode`] -> [`Stat`].
    Stat = 4,
    /// Change attributes. [`SetAttrRequest`] -> [`Stat`].
    SetAttr = 5,
    /// Target of a symlink. [`OneNode`] -> bytes.
    ReadLink = 6,
    /// A descriptor of a regular file. [`Open`] -> [`Stat`] and one descriptor.
    Open = 7,
    /// Make (or, without `O_EXCL`, find) and open a regular file. [`Create`], name -> [`NodeStat`] and one descriptor.
    Create = 8,
    /// Make a directory. [`Make`], name -> [`NodeStat`].
    Mkdir = 9,
    /// Make a symlink. [`Make`] (mode is the name's length), name, target -> [`NodeStat`].
    Symlink = 10,
    /// Make a fifo, a socket's name or an empty regular file. [`Make`], name -> [`NodeStat`].
    Mknod = 11,
    /// Another name for a file. [`Link`], name -> [`Stat`] of the file.
    Link = 12,
    /// Remove a name. [`Unlink`], name -> nothing.
    Unlink = 13,
    /// Move a name. [`Rename`], old name, new name -> nothing.
    Rename = 14,
    /// A page of a directory. [`ReadDir`] -> [`DirEntryHead`] and name, repeated; nothing at the end.
    ReadDir = 15,
    /// File system figures. [`OneNode`] -> [`crate::StatFs`].
    StatFs = 16,
    /// Value of an extended attribute. [`OneNode`], name -> bytes.
    GetXattr = 17,
    /// Set one. [`SetXattr`], name, value -> nothing.
    SetXattr = 18,
    /// Names of the visible ones, NUL after each. [`OneNode`] -> bytes.
    ListXattr = 19,
    /// Remove one. [`OneNode`], name -> nothing.
    RemoveXattr = 20,
    /// Connect to a host's Unix socket. [`Connect`] -> one descriptor.
    Connect = 21,
    /// Give handles back. `u64`s; **no reply**.
    Close = 22,
    /// `fsync(2)` of a file or directory. [`Fsync`] -> nothing.
    Fsync = 23,
    /// `syncfs(2)` of the file system of a node. [`OneNode`] -> nothing.
    SyncFs = 24,
    /// One more socket to the same gofer, served by a thread of its own. Nothing -> one descriptor.
    OpenChannel = 25,
    /// Make and open a regular file without a name (`O_TMPFILE`). [`Create`] -> [`NodeStat`] and one descriptor.
    CreateUnnamed = 26,
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type),*
            }
        )*
    };
}

bodies! {
    /// Answer to [`Op::Hello`].
    Limits {
        /// Mounts that can be attached: `0..mounts`.
        mounts: u32,
        /// Handles that the gofer holds at once; above it walks fail with `ENFILE`.
        nodes_max: u32,
    }
    /// For [`Op::Attach`].
    Attach {
        /// Index of the mount, 0 is the root file system.
        mount: u32,
        /// Zero.
        reserved: u32,
    }
    /// A new handle and what it is.
    NodeStat {
        /// The handle.
        node: u64,
        /// Its attributes.
        stat: Stat,
    }
    /// Just a handle.
    OneNode {
        /// The handle.
        node: u64,
    }
    /// For [`Op::Walk`].
    Walk {
        /// Where to start.
        dir: u64,
        /// How many names follow, at most [`WALK_MAX`].
        count: u64,
    }
    /// Answer to [`Op::Walk`].
    Walked {
        /// How many [`NodeStat`]s follow.
        count: u32,
        /// Errno of the component after those, or zero.
        stopped: u32,
    }
    /// For [`Op::SetAttr`]; which fields count is in `valid`.
    SetAttrRequest {
        /// The file.
        node: u64,
        /// `ATTR_*` bits.
        valid: u32,
        /// Permission bits, 07777.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Length.
        size: u64,
        /// Access time, seconds.
        atime: i64,
        /// Nanoseconds.
        atime_nsec: i64,
        /// Modification time, seconds.
        mtime: i64,
        /// Nanoseconds.
        mtime_nsec: i64,
    }
    /// For [`Op::Open`].
    Open {
        /// A regular file.
        node: u64,
        /// Access mode and the flags of [`crate::OPEN_FLAGS`].
        flags: u64,
    }
    /// For [`Op::Create`] and [`Op::CreateUnnamed`].
    Create {
        /// Where.
        dir: u64,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group (the directory's, if that is set-group-ID).
        gid: u32,
        /// As for `Open`; also `O_EXCL`. For `CreateUnnamed`: `O_EXCL` if it may never get a name, or zero.
        flags: u32,
    }
    /// For [`Op::Mkdir`], [`Op::Symlink`] and [`Op::Mknod`].
    Make {
        /// Where.
        dir: u64,
        /// Permission bits; for `Mknod` with the file type; for `Symlink` the length of the name.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group (the directory's, if that is set-group-ID).
        gid: u32,
        /// For `Mknod`: the device, which must be zero. Else zero.
        rdev: u32,
    }
    /// For [`Op::Link`].
    Link {
        /// The file.
        node: u64,
        /// Where the new name goes.
        dir: u64,
    }
    /// For [`Op::Unlink`].
    Unlink {
        /// Where.
        dir: u64,
        /// 1 to remove an empty directory, 0 for anything else.
        is_dir: u32,
        /// As whom, where the directory is sticky; [`ANYBODY`] where that is not asked.
        by: u32,
    }
    /// For [`Op::Rename`].
    Rename {
        /// Where from.
        old_dir: u64,
        /// Where to.
        new_dir: u64,
        /// `RENAME_NOREPLACE` or `RENAME_EXCHANGE`.
        flags: u32,
        /// Length of the old name, which comes first.
        old_length: u32,
        /// As whom, where one of the directories is sticky; [`ANYBODY`] where that is not asked.
        by: u32,
        /// Zero.
        pad: u32,
    }
    /// For [`Op::ReadDir`].
    ReadDir {
        /// The directory.
        node: u64,
        /// 0 to begin with, then the last entry's.
        cookie: u64,
    }
    /// One directory entry, followed by its name.
    DirEntryHead {
        /// Inode number.
        ino: u64,
        /// Where to go on after it.
        cookie: u64,
        /// `DT_*`; with [`LAST_ENTRY`] if none comes after it.
        kind: u32,
        /// Length of the name.
        length: u32,
    }
    /// For [`Op::SetXattr`].
    SetXattr {
        /// The file.
        node: u64,
        /// `XATTR_CREATE` or `XATTR_REPLACE` or zero.
        flags: u32,
        /// Length of the name, which comes first.
        name_length: u32,
    }
    /// For [`Op::Connect`].
    Connect {
        /// A socket.
        node: u64,
        /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_SEQPACKET`.
        kind: u64,
    }
    /// For [`Op::Fsync`].
    Fsync {
        /// The file.
        node: u64,
        /// 1 for `fdatasync(2)`.
        data_only: u64,
    }
}

/// [`SetAttrRequest::mode`] counts.
pub const ATTR_MODE: u32 = 1;
/// [`SetAttrRequest::uid`] counts.
pub const ATTR_UID: u32 = 2;
/// [`SetAttrRequest::gid`] counts.
pub const ATTR_GID: u32 = 4;
/// [`SetAttrRequest::size`] counts.
pub const ATTR_SIZE: u32 = 8;
/// Access time is set to the value given.
pub const ATTR_ATIME: u32 = 16;
/// Modification time is set to the value given.
pub const ATTR_MTIME: u32 = 32;
/// Access time is set to now.
pub const ATTR_ATIME_NOW: u32 = 64;
/// Modification time is set to now.
pub const ATTR_MTIME_NOW: u32 = 128;
/// All of them.
pub const ATTR_ALL: u32 = 255;
