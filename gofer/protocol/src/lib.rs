//! What the sentry and the gofer say to each other about a container's files.
//!
//! Key types: [`Client`] (what the sentry calls), [`Node`] (a handle), [`Stat`], and for the gofer's side [`Channel`]
//! and [`wire`]. This crate decides nothing about files: the rules are in the gofer.
//!
//! ## How it works
//!
//! The gofer is one process per container, shut into the container's own mounts. A [`Node`] is the number of a
//! descriptor (`O_PATH`) that the gofer holds: it stays good through renames and unlinks and costs one descriptor until
//! [`Client::close`]. **The sentry holds few nodes**: the gofer's limit ([`Client::limits`], about 16,000 where
//! descriptors are limited to 20,000) is to be respected by the sentry's dentry cache, which drops unused dentries; beyond it, calls
//! that make a node fail with `ENFILE`. (Nodes without a descriptor, found again by name, would survive neither
//! rename nor unlink without more bookkeeping than the cache that the sentry has anyway.)
//!
//! Data does not travel here: [`Client::open`] and [`Client::create`] donate the host's descriptor of a regular
//! file, for `pread`, `pwrite` and `mmap`; keep one per file and access mode, and opening again costs no round trip.
//! Directories, fifos, sockets and devices are never donated.
//!
//! ## The wire
//!
//! AF_UNIX `SOCK_SEQPACKET`, one record per message, at most [`wire::MESSAGE_MAX`] bytes, host byte order:
//! a 16-byte [`wire::Header`] (version, operation, status, id), the operation's fixed part, its variable part.
//! A reply repeats version, operation and id; its status is 0, or an errno with nothing after it. One request is
//! under way per socket; a client opens further sockets with `OpenChannel` (at most [`wire::CHANNELS_MAX`]). A request
//! that is malformed (unknown version or operation, wrong length) ends the connection and with it the gofer; one
//! that is merely wrong gets an errno. Requests cannot carry descriptors.
//!
//! | nr | operation | request: fixed part, variable part | reply | changes files |
//! |---|---|---|---|---|
//! | 1 | `Hello` | | `Limits` | |
//! | 2 | `Attach` | `Attach` | `NodeStat` | |
//! | 3 | `Walk` | `Walk`, (u16 length, name)... | `Walked`, `NodeStat`... | |
//! | 4 | `Stat` | `OneNode` | `Stat` | |
//! | 5 | `SetAttr` | `SetAttrRequest` | `Stat` | yes |
//! | 6 | `ReadLink` | `OneNode` | target | |
//! | 7 | `Open` | `Open` | `Stat` + descriptor | if for writing |
//! | 8 | `Create` | `Create`, name | `NodeStat` + descriptor | yes |
//! | 9 | `Mkdir` | `Make`, name | `NodeStat` | yes |
//! | 10 | `Symlink` | `Make`, name, target | `NodeStat` | yes |
//! | 11 | `Mknod` | `Make`, name | `NodeStat` | yes |
//! | 12 | `Link` | `Link`, name | `Stat` | yes |
//! | 13 | `Unlink` | `Unlink`, name | | yes |
//! | 14 | `Rename` | `Rename`, old name, new name | | yes |
//! | 15 | `ReadDir` | `ReadDir` | (`DirEntryHead`, name)... | |
//! | 16 | `StatFs` | `OneNode` | `StatFs` | |
//! | 17 | `GetXattr` | `OneNode`, name | value | |
//! | 18 | `SetXattr` | `SetXattr`, name, value | | yes |
//! | 19 | `ListXattr` | `OneNode` | names | |
//! | 20 | `RemoveXattr` | `OneNode`, name | | yes |
//! | 21 | `Connect` | `Connect` | descriptor | if the mount allows it |
//! | 22 | `Close` | u64... | none at all | |
//! | 23 | `Fsync` | `Fsync` | | |
//! | 24 | `SyncFs` | `OneNode` | | |
//! | 25 | `OpenChannel` | | descriptor | |
//! | 26 | `CreateUnnamed` | `Create` | `NodeStat` + descriptor | yes |
//!
//! Operations that change files fail with `EROFS` on a read-only mount.
//!
//! Not there yet: a way to learn of changes made from outside (an inotify descriptor per mount, donated at attach). Until then the
//! sentry revalidates what it caches of volumes by `stat` or `walk`.

#![forbid(unsafe_code)]

mod calls;
pub mod channel;
mod client;
mod errno;
mod types;
pub mod wire;

pub use calls::{Created, Ownership};
pub use channel::{Channel, ChannelError, Descriptors, Record};
pub use client::Client;
pub use errno::Errno;
pub use types::{
    DirEntry, Node, OpenReply, Result, SetAttr, SetTime, Stat, StatFs, Time, Walked, file_type, mark, storage,
};
pub use wire::Limits;

/// LINUX: flags that [`Client::open`] and [`Client::create`] take besides the access mode: `O_TRUNC`, `O_APPEND`,
/// `O_DSYNC`, `O_SYNC`, `O_DIRECT`, `O_NOATIME`.
pub const OPEN_FLAGS: u32 = 0o1000 | 0o2000 | 0o10_000 | 0o4_010_000 | 0o40_000 | 0o1_000_000;
/// LINUX: `O_ACCMODE`.
pub const O_ACCMODE: u32 = 3;
/// LINUX: `O_EXCL`, for [`Client::create`].
pub const O_EXCL: u32 = 0o200;
