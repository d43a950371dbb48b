//! May this caller do that to a node? Permission bits, ownership, capabilities, read-only mounts.
//!
//! Key types: [`Want`], the functions on [`Credentials`] and [`Mount`] flags. Access control lists are not looked at.

use super::{Access, Location, mode};
use crate::Errno;
use crate::task::{Capability, Credentials};

bitflags::bitflags! {
    /// What a caller wants to do with a node.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Want: u32 {
        /// Execute a file, search a directory.
        const EXEC = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// `MS_*` flags that a mount carries; the same bits as `ST_*` but for `RELATIME`.
pub mod ms {
    /// Read only.
    pub const RDONLY: u32 = 1;
    /// Set-user-ID bits are not honoured.
    pub const NOSUID: u32 = 2;
    /// Device nodes cannot be opened.
    pub const NODEV: u32 = 4;
    /// Nothing can be executed.
    pub const NOEXEC: u32 = 8;
    /// Writes are synchronous.
    pub const SYNCHRONOUS: u32 = 16;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u32 = 256;
    /// Access times are not kept.
    pub const NOATIME: u32 = 1024;
    /// Nor those of directories.
    pub const NODIRATIME: u32 = 2048;
    /// Access times are kept now and then.
    pub const RELATIME: u32 = 1 << 21;
    /// All that a mount may carry.
    pub const PER_MOUNT: u32 =
        RDONLY | NOSUID | NODEV | NOEXEC | SYNCHRONOUS | NOSYMFOLLOW | NOATIME | NODIRATIME | RELATIME;
}

/// LINUX: `generic_permission`. EACCES unless the caller may.
///
/// # Errors
/// EACCES.
pub fn check(credentials: &Credentials, access: &Access, want: Want) -> Result<(), Errno> {
    let shift = if credentials.fsuid == access.uid {
        6
    } else if credentials.in_group(access.gid) {
        3
    } else {
        0
    };
    let granted = Want::from_bits_truncate(access.mode >> shift);
    if granted.contains(want) {
        return Ok(());
    }
    let is_harmless = want.difference(Want::READ | Want::EXEC).is_empty();
    let by_override = credentials.has(Capability::DacOverride)
        && (access.is_dir() || !want.contains(Want::EXEC) || access.mode & 0o111 != 0);
    let by_search = credentials.has(Capability::DacReadSearch)
        && if access.is_dir() { is_harmless } else { want == Want::READ };
    if by_override || by_search { Ok(()) } else { Err(Errno::EACCES) }
}

/// The caller owns the node or may act as if.
#[must_use]
pub fn is_owner(credentials: &Credentials, access: &Access) -> bool {
    credentials.fsuid == access.uid || credentials.has(Capability::Fowner)
}

/// LINUX: `check_sticky`: EPERM if the directory's sticky bit protects the child from the caller.
///
/// # Errors
/// EPERM.
pub fn check_sticky(credentials: &Credentials, dir: &Access, child: &Access) -> Result<(), Errno> {
    let is_protected = dir.mode & mode::S_ISVTX != 0
        && child.uid != credentials.fsuid
        && dir.uid != credentials.fsuid
        && !credentials.has(Capability::Fowner);
    if is_protected { Err(Errno::EPERM) } else { Ok(()) }
}

/// EROFS if nothing on that mount may change.
///
/// # Errors
/// EROFS.
pub fn check_writable_mount(location: &Location) -> Result<(), Errno> {
    if location.mount.flags() & ms::RDONLY != 0 { Err(Errno::EROFS) } else { Ok(()) }
}
