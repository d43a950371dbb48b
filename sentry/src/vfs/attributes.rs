//! Changing a node's attributes: `chmod(2)`, `chown(2)`, `truncate(2)`, `utimensat(2)`, `setxattr(2)` and who may.
//! LINUX: `setattr_prepare`, `xattr_permission`.
//!
//! Key types: [`Times`], [`NewTime`]. All are methods of [`Caller`].

use super::modify::truncate_at;
use super::permission::{self, Want, check_writable_mount};
use super::walk::Caller;
use super::{Access, Location, SetAttr, mode, now};
use crate::Errno;
use crate::fs::inotify;
use crate::task::Capability;

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    /// `UTIME_NOW`.
    Now,
    /// `UTIME_OMIT`.
    Omit,
    /// This one, in nanoseconds.
    At(i64),
}

/// Access and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Access time.
    pub atime: NewTime,
    /// Modification time.
    pub mtime: NewTime,
}

/// File capabilities.
const CAPABILITIES: &[u8] = b"security.capability";

/// LINUX: `validheader` of security/commoncap.c.
fn is_capabilities(value: &[u8]) -> bool {
    matches!((value.len(), value.get(3)), (20, Some(2)) | (24, Some(3)))
}

impl NewTime {
    fn value(self, now: i64) -> Option<i64> {
        match self {
            Self::Now => Some(now),
            Self::Omit => None,
            Self::At(time) => Some(time),
        }
    }
}

impl Caller<'_> {
    /// `chmod(2)`.
    ///
    /// # Errors
    /// EPERM; EROFS; EOPNOTSUPP for a symbolic link.
    pub fn chmod(&self, location: &Location, bits: u32) -> Result<(), Errno> {
        check_writable_mount(location)?;
        let stat = location.inode().access()?;
        if stat.is_symlink() {
            return Err(Errno::EOPNOTSUPP);
        }
        if !permission::is_owner(&self.credentials, &stat) {
            return Err(Errno::EPERM);
        }
        let mut bits = bits & 0o7777;
        if !self.credentials.in_group(stat.gid) && !self.has(Capability::Fsetid) {
            bits &= !mode::S_ISGID;
        }
        let change = SetAttr { mode: Some(bits), ..SetAttr::default() };
        location.inode().set_attr(&change)?;
        inotify::notify_change(&self.task.kernel, location, &change);
        Ok(())
    }

    /// `chown(2)`; `None` leaves one alone.
    ///
    /// # Errors
    /// EPERM; EROFS.
    pub fn chown(&self, location: &Location, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        check_writable_mount(location)?;
        let stat = location.inode().access()?;
        let is_owner = self.credentials.fsuid == stat.uid;
        let may_uid = uid.is_none_or(|uid| is_owner && uid == stat.uid);
        let may_gid = gid.is_none_or(|gid| is_owner && (gid == stat.gid || self.credentials.in_group(gid)));
        let may = may_uid && may_gid;
        if !may && !self.has(Capability::Chown) {
            return Err(Errno::EPERM);
        }
        let mode = self.mode_after_chown(&stat);
        // LINUX: `setattr_prepare`: bits are for the owner to change, even if it is the kernel that takes them away.
        if mode.is_some() && !permission::is_owner(&self.credentials, &stat) {
            return Err(Errno::EPERM);
        }
        if stat.is_regular() {
            location.inode().drop_capabilities()?;
        }
        let change = SetAttr { mode, uid, gid, ..SetAttr::default() };
        location.inode().set_attr(&change)?;
        inotify::notify_change(&self.task.kernel, location, &change);
        Ok(())
    }

    /// The permission bits that a change of owner leaves; `None`: all of them. LINUX: `chown_common`.
    fn mode_after_chown(&self, access: &Access) -> Option<u32> {
        let mut bits = access.mode & 0o7777;
        if access.is_dir() || bits & 0o6000 == 0 {
            return None;
        }
        let keeps_group = self.credentials.in_group(access.gid) || self.has(Capability::Fsetid);
        bits &= !mode::S_ISUID;
        if bits & 0o010 != 0 || !keeps_group {
            bits &= !mode::S_ISGID;
        }
        (bits != access.mode & 0o7777).then_some(bits)
    }

    /// `truncate(2)`.
    ///
    /// # Errors
    /// EISDIR; EINVAL for what is no regular file; EACCES; EROFS.
    pub fn truncate(&self, location: &Location, len: u64) -> Result<(), Errno> {
        let stat = location.inode().access()?;
        if stat.is_dir() {
            return Err(Errno::EISDIR);
        }
        if !stat.is_regular() {
            return Err(Errno::EINVAL);
        }
        check_writable_mount(location)?;
        self.check(location, &stat, Want::WRITE)?;
        truncate_at(self, location, len, None)
    }

    /// `utimensat(2)`.
    ///
    /// # Errors
    /// EPERM or EACCES as the man page; EROFS.
    pub fn set_times(&self, location: &Location, times: Times) -> Result<(), Errno> {
        if times == (Times { atime: NewTime::Omit, mtime: NewTime::Omit }) {
            return Ok(());
        }
        check_writable_mount(location)?;
        let stat = location.inode().access()?;
        if !permission::is_owner(&self.credentials, &stat) {
            if times != (Times { atime: NewTime::Now, mtime: NewTime::Now }) {
                return Err(Errno::EPERM);
            }
            self.check(location, &stat, Want::WRITE)?;
        }
        let now = now();
        let change = SetAttr {
            atime_ns: times.atime.value(now),
            mtime_ns: times.mtime.value(now),
            ..SetAttr::default()
        };
        location.inode().set_attr(&change)?;
        inotify::notify_change(&self.task.kernel, location, &change);
        Ok(())
    }

    /// `setxattr(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn set_xattr(&self, location: &Location, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        check_writable_mount(location)?;
        if name == CAPABILITIES && !is_capabilities(value) {
            return Err(Errno::EINVAL);
        }
        self.check_xattr(location, &location.inode().access()?, name, Want::WRITE)?;
        location.inode().set_xattr(name, value, flags)?;
        // LINUX: `fsnotify_xattr`.
        inotify::notify_at(&self.task.kernel, location, inotify::mask::ATTRIB);
        Ok(())
    }

    /// `getxattr(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn get_xattr(&self, location: &Location, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.check_xattr(location, &location.inode().access()?, name, Want::READ)?;
        location.inode().get_xattr(name)
    }

    /// `removexattr(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn remove_xattr(&self, location: &Location, name: &[u8]) -> Result<(), Errno> {
        check_writable_mount(location)?;
        self.check_xattr(location, &location.inode().access()?, name, Want::WRITE)?;
        location.inode().remove_xattr(name)?;
        inotify::notify_at(&self.task.kernel, location, inotify::mask::ATTRIB);
        Ok(())
    }

    /// `listxattr(2)`: the names that the caller may see.
    ///
    /// # Errors
    /// The file system's.
    pub fn list_xattr(&self, location: &Location) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = location.inode().list_xattr()?;
        if !self.has(Capability::SysAdmin) {
            names.retain(|name| !name.starts_with(b"trusted."));
        }
        Ok(names)
    }

    fn check_xattr(&self, location: &Location, stat: &Access, name: &[u8], want: Want) -> Result<(), Errno> {
        let denied = |reading| if want == Want::READ { reading } else { Errno::EPERM };
        if name.starts_with(b"user.") {
            if !stat.is_regular() && !stat.is_dir() {
                return Err(denied(Errno::ENODATA));
            }
            let is_sticky = stat.is_dir() && stat.mode & mode::S_ISVTX != 0;
            if is_sticky && want == Want::WRITE && !permission::is_owner(&self.credentials, stat) {
                return Err(Errno::EPERM);
            }
            return self.check(location, stat, want);
        }
        if name.starts_with(b"trusted.") && !self.has(Capability::SysAdmin) {
            return Err(denied(Errno::ENODATA));
        }
        if name.starts_with(b"security.") && want == Want::WRITE {
            let capability = if name == CAPABILITIES { Capability::Setfcap } else { Capability::SysAdmin };
            return if self.has(capability) { Ok(()) } else { Err(Errno::EPERM) };
        }
        Ok(())
    }
}
