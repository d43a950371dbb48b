//! The few host calls that every operation is made of.
//!
//! Names are resolved one component at a time beneath a directory's descriptor, never through a symlink
//! ([`open_child`]). A node is reached again through its own descriptor's entry in procfs ([`reopen`], [`entry`]), which
//! leads to that very file whatever has become of its name.

use std::os::fd::{AsFd, OwnedFd};

use gofer_protocol::{Stat, Time, file_type, mark, storage};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::{Errno, Result};
use rustix::path::DecInt;

use crate::request::Name;

/// Tries again where the kernel says that a lookup raced with a rename elsewhere.
const LOOKUP_TRIES: usize = 16;

/// Opens `name` in `dir`. A symlink there is never followed, a mount point is crossed, nothing else is left.
pub(crate) fn open_child(dir: impl AsFd, name: Name<'_>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..LOOKUP_TRIES {
        match rustix::fs::openat2(&dir, name.bytes(), flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Makes and opens a regular file that is in the file system of `dir` but has no name; with `O_EXCL` it cannot get one.
pub(crate) fn open_unnamed(dir: impl AsFd, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&dir, c".", flags, mode, resolve) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The node itself, whatever it is, without opening it.
pub(crate) fn find_child(dir: impl AsFd, name: Name<'_>) -> Result<OwnedFd> {
    open_child(dir, name, OFlags::PATH, Mode::empty())
}

/// The entry of a descriptor in our `/proc/self/fd`: a path relative to that directory, which is the working directory too.
pub(crate) fn entry(fd: impl AsFd) -> DecInt {
    DecInt::from_fd(fd)
}

/// Opens the file behind an `O_PATH` descriptor. The caller has checked that it is a regular file or a directory.
pub(crate) fn reopen(proc_fds: impl AsFd, fd: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    loop {
        match rustix::fs::openat(
            &proc_fds,
            entry(&fd),
            flags | OFlags::CLOEXEC | OFlags::NOCTTY,
            Mode::empty(),
        ) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Everything that `stat` tells, before the device is numbered.
pub(crate) fn statx(fd: impl AsFd) -> Result<Statx> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// Which extended attributes it has that decide about rights. PERF: most files have none at all, which is one call to learn,
/// 1 us; the sentry would take 50 us to ask for one.
pub(crate) fn marks(fd: impl AsFd, host: &Statx) -> u32 {
    /// Room for the names; a file with more has to be asked.
    const NAMES_MAX: usize = 512;
    let is_symlink = u32::from(host.stx_mode) & file_type::MASK == file_type::SYMLINK;
    if is_symlink {
        return 0;
    }
    let mut names = [0; NAMES_MAX];
    let length = match rustix::fs::listxattr(entry(fd), &mut names[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return 0,
        Ok(length) => length,
        Err(_) => return mark::ALL,
    };
    let has = |name: &[u8]| names[..length].split(|&byte| byte == 0).any(|there| there == name);
    let acl = if has(b"system.posix_acl_access") { mark::ACL } else { 0 };
    let capabilities = if has(b"security.capability") { mark::CAPABILITIES } else { 0 };
    acl | capabilities
}

/// Bits of [`storage`] for the file system of `fd`.
///
/// LINUX: those whose `file_operations` have a `flush`. overlayfs has one, too, which asks the file below it; that is local here.
pub(crate) fn storage(fd: impl AsFd) -> u32 {
    const FUSE: i64 = 0x6573_5546;
    const NFS: i64 = 0x6969;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    const CEPH: i64 = 0x00c3_6400;
    const AFS: i64 = 0x6b41_4653;
    const V9FS: i64 = 0x0102_1997;
    let kind = rustix::fs::fstatfs(fd).map_or(0, |told| told.f_type);
    if [FUSE, NFS, CIFS, SMB2, CEPH, AFS, V9FS].contains(&kind) { storage::AT_CLOSE } else { 0 }
}

/// As the protocol has it; `dev` is the small number of the file system, `storage` what it does.
pub(crate) fn stat(host: &Statx, (dev, storage): (u32, u32), marks: u32) -> Stat {
    let time = |stamp: StatxTimestamp| Time { sec: stamp.tv_sec, nsec: i64::from(stamp.tv_nsec) };
    Stat {
        ino: host.stx_ino,
        size: host.stx_size,
        blocks: host.stx_blocks,
        dev,
        mode: u32::from(host.stx_mode),
        nlink: host.stx_nlink,
        uid: host.stx_uid,
        gid: host.stx_gid,
        blksize: host.stx_blksize,
        rdev_major: host.stx_rdev_major,
        rdev_minor: host.stx_rdev_minor,
        marks,
        storage,
        atime: time(host.stx_atime),
        mtime: time(host.stx_mtime),
        ctime: time(host.stx_ctime),
        btime: if host.stx_mask & StatxFlags::BTIME.bits() == 0 {
            Time::default()
        } else {
            time(host.stx_btime)
        },
    }
}
