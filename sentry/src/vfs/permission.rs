//! May this caller do that to a node? Permission bits, ownership, capabilities, read-only mounts.
//!
//! Key types: [`Want`], the functions on [`Credentials`] and [`Mount`] flags. Access control lists are in `acl.rs`.

use super::acl::Acl;
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
    /// Access times are kept at each access; not kept itself.
    pub const STRICTATIME: u32 = 1 << 24;
    /// Times are written late.
    pub const LAZYTIME: u32 = 1 << 25;
    /// Locks are mandatory, as no Linux has them any more.
    pub const MANDLOCK: u32 = 64;
    /// Changes of directories are synchronous.
    pub const DIRSYNC: u32 = 128;
    /// All that a mount may carry.
    pub const PER_MOUNT: u32 =
        RDONLY | NOSUID | NODEV | NOEXEC | SUPER | NOSYMFOLLOW | NOATIME | NODIRATIME | RELATIME;
    /// Flags of the file system that are kept and told, without effect: nothing here is written later than asked.
    pub const SUPER: u32 = SYNCHRONOUS | MANDLOCK | DIRSYNC | LAZYTIME;
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
    if granted.contains(want) || overrides(credentials, access, want) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whatever an access control list says, the answer is that of [`check`]. LINUX: `acl_permission_check`: the owner is told by
/// the mode, and a list needs the group's bits; besides, capabilities have the last word.
#[must_use]
pub fn is_mode_enough(credentials: &Credentials, access: &Access, want: Want) -> bool {
    credentials.fsuid == access.uid || access.mode & 0o070 == 0 || overrides(credentials, access, want)
}

/// As [`check`], for a node with an access control list.
///
/// # Errors
/// EACCES; EIO if the list is none.
pub fn check_with_acl(
    credentials: &Credentials,
    access: &Access,
    acl: &Acl,
    want: Want,
) -> Result<(), Errno> {
    if is_mode_enough(credentials, access, want) {
        return check(credentials, access, want);
    }
    acl.check(credentials, access, want)
}

/// Capabilities allow it, whatever the permission bits say.
fn overrides(credentials: &Credentials, access: &Access, want: Want) -> bool {
    let is_harmless = want.difference(Want::READ | Want::EXEC).is_empty();
    let by_override = credentials.has(Capability::DacOverride)
        && (access.is_dir() || !want.contains(Want::EXEC) || access.mode & 0o111 != 0);
    let by_search = credentials.has(Capability::DacReadSearch)
        && if access.is_dir() { is_harmless } else { want == Want::READ };
    by_override || by_search
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

/// LINUX: `may_follow_link` with `fs.protected_symlinks` 1: who puts a link into everybody's directory leads nobody else away.
/// It is about the last component of a path alone.
///
/// # Errors
/// EACCES.
pub fn check_follow(credentials: &Credentials, dir: &Access, link: &Access) -> Result<(), Errno> {
    const EVERYBODYS: u32 = mode::S_ISVTX | 0o002;
    let is_trusted = link.uid == credentials.fsuid || link.uid == dir.uid;
    if dir.mode & EVERYBODYS == EVERYBODYS && !is_trusted { Err(Errno::EACCES) } else { Ok(()) }
}

/// LINUX: `may_create_in_sticky` with `fs.protected_regular` 2 and `fs.protected_fifos` 1: who wants to make a file in
/// everybody's directory does not get one that somebody else has put there. `node` was there before.
///
/// # Errors
/// EACCES.
pub fn check_open_in_sticky(credentials: &Credentials, dir: &Access, node: &Access) -> Result<(), Errno> {
    let is_trusted = node.uid == credentials.fsuid || node.uid == dir.uid;
    let by_others = dir.mode & 0o002 != 0;
    let by_group = dir.mode & 0o020 != 0 && node.is_regular();
    let is_shared = dir.mode & mode::S_ISVTX != 0 && (by_others || by_group);
    if is_shared && !is_trusted { Err(Errno::EACCES) } else { Ok(()) }
}

/// EROFS if nothing on that mount may change.
///
/// # Errors
/// EROFS.
pub fn check_writable_mount(location: &Location) -> Result<(), Errno> {
    if location.mount.flags() & ms::RDONLY != 0 { Err(Errno::EROFS) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;
    const OTHER: u32 = 1001;

    fn node(mode: u32, uid: u32) -> Access {
        Access { mode, uid, dev: 0, ino: 0, gid: 0, rdev: 0 }
    }

    fn user() -> Credentials {
        Credentials { fsuid: USER, ..Credentials::default() }
    }

    #[test]
    fn links_of_strangers_in_everybodys_directory_are_not_followed() {
        let follow = |dir_mode, dir_uid, link_uid| {
            check_follow(&user(), &node(dir_mode, dir_uid), &node(0o120_777, link_uid)).is_ok()
        };
        assert!(!follow(0o1777, 0, OTHER));
        assert!(follow(0o1777, 0, USER) && follow(0o1777, OTHER, OTHER) && follow(0o1777, 0, 0));
        assert!(follow(0o777, 0, OTHER) && follow(0o1775, 0, OTHER));
    }

    #[test]
    fn what_strangers_put_into_everybodys_directory_is_not_opened_as_ones_own() {
        let open =
            |dir_mode, mode, uid| check_open_in_sticky(&user(), &node(dir_mode, 0), &node(mode, uid)).is_ok();
        assert!(!open(0o1777, 0o100_666, OTHER) && !open(0o1777, 0o010_666, OTHER));
        assert!(open(0o1777, 0o100_666, USER) && open(0o1777, 0o100_666, 0) && open(0o777, 0o100_666, OTHER));
        assert!(!open(0o1770, 0o100_666, OTHER) && open(0o1770, 0o010_666, OTHER));
    }

    #[test]
    fn a_list_is_not_asked_where_it_changes_nothing() {
        let with = |capability: Capability| Credentials { effective: 1 << capability as u8, ..user() };
        assert!(is_mode_enough(&user(), &node(0o100_640, USER), Want::READ));
        assert!(is_mode_enough(&user(), &node(0o100_604, 0), Want::READ));
        assert!(is_mode_enough(&with(Capability::DacOverride), &node(0o100_640, 0), Want::WRITE));
        assert!(is_mode_enough(&with(Capability::DacReadSearch), &node(0o100_640, 0), Want::READ));
        assert!(!is_mode_enough(&with(Capability::DacReadSearch), &node(0o100_640, 0), Want::WRITE));
        assert!(!is_mode_enough(&user(), &node(0o100_644, 0), Want::READ));
    }
}
