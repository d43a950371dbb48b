//! Making and removing names: `mkdir(2)`, `mknod(2)`, `symlink(2)`, `link(2)`, `unlink(2)`, `rmdir(2)`. LINUX: fs/namei.c.
//!
//! All are methods of [`Caller`], with Linux's checks in Linux's order. Renaming is in `rename.rs`.

use std::sync::Arc;

use super::permission::{self, Want};
use super::walk::{Caller, Last, LastName, Lookup};
use super::{Access, Dentry, Inode, Location, NewKind, NewNode, mode};
use crate::Errno;
use crate::fs::inotify::{self, mask};
use crate::task::Capability;

/// Longest target of a symbolic link. LINUX: `PATH_MAX` with its zero byte.
const TARGET_MAX: usize = 4095;

impl Caller<'_> {
    /// Owner and permission bits of something new in a directory: umask, and what a set-group-ID directory passes on.
    #[must_use]
    pub fn new_node(&self, dir: &Access, kind: NewKind, bits: u32) -> NewNode {
        let mut mode = bits & 0o7777 & !self.task.fs().umask();
        let inherits = dir.mode & mode::S_ISGID != 0;
        let gid = if inherits { dir.gid } else { self.credentials.fsgid };
        if matches!(kind, NewKind::Directory) {
            mode &= 0o1777;
            mode |= if inherits { mode::S_ISGID } else { 0 };
        } else if mode & 0o2010 == 0o2010 && !self.credentials.in_group(gid) && !self.has(Capability::Fsetid)
        {
            mode &= !mode::S_ISGID;
        }
        NewNode { kind, mode, uid: self.credentials.fsuid, gid }
    }

    /// The name that is to be made must be free. LINUX: `filename_create`, `may_create`.
    fn check_new(&self, last: &Last, allow_slash: bool) -> Result<Vec<u8>, Errno> {
        let LastName::Normal(name) = &last.name else { return Err(Errno::EEXIST) };
        match self.child(&last.dir, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        if last.is_dir_only && !allow_slash {
            return Err(Errno::ENOENT);
        }
        permission::check_writable_mount(&last.dir)?;
        self.check_may_create(&last.dir, &last.dir_access)?;
        Ok(name.clone())
    }

    /// LINUX: `may_create`.
    pub(super) fn check_may_create(&self, dir: &Location, dir_access: &Access) -> Result<(), Errno> {
        if dir.dentry.is_deleted() {
            return Err(Errno::ENOENT);
        }
        self.check(dir, dir_access, Want::WRITE | Want::EXEC)
    }

    /// Makes a node under a name that the caller has checked.
    pub(super) fn make(&self, dir: &Location, name: &[u8], new: &NewNode) -> Result<Location, Errno> {
        let parent = &dir.dentry;
        let names = parent.lock_names();
        if parent.is_deleted() {
            return Err(Errno::ENOENT);
        }
        let inode = parent.inode().create(name, new)?;
        let dentry = parent.add_child(name, inode);
        drop(names);
        let is_dir = matches!(new.kind, NewKind::Directory);
        self.notify_name(parent, mask::CREATE, name, is_dir);
        Ok(Location { mount: Arc::clone(&dir.mount), dentry })
    }

    /// `mkdirat(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn mkdir(&self, start: &Location, path: &[u8], bits: u32) -> Result<Location, Errno> {
        let last = self.find_parent(start, path, Lookup::empty())?;
        let name = self.check_new(&last, true)?;
        let new = self.new_node(&last.dir_access, NewKind::Directory, bits);
        self.make(&last.dir, &name, &new)
    }

    /// `mknodat(2)`, also how `bind(2)` makes a socket's name.
    ///
    /// # Errors
    /// As the man page.
    pub fn mknod(&self, start: &Location, path: &[u8], kind: NewKind, bits: u32) -> Result<Location, Errno> {
        let last = self.find_parent(start, path, Lookup::empty())?;
        let name = self.check_new(&last, false)?;
        // LINUX: a character device 0:0 is a whiteout, which anybody may make.
        let is_device = matches!(kind, NewKind::Device { rdev, character } if rdev != 0 || !character);
        if is_device && !self.has(Capability::Mknod) {
            return Err(Errno::EPERM);
        }
        let new = self.new_node(&last.dir_access, kind, bits);
        self.make(&last.dir, &name, &new)
    }

    /// `symlinkat(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn symlink(&self, target: &[u8], start: &Location, path: &[u8]) -> Result<Location, Errno> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() > TARGET_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let last = self.find_parent(start, path, Lookup::empty())?;
        let name = self.check_new(&last, false)?;
        let mut new = self.new_node(&last.dir_access, NewKind::Symlink(target.to_vec()), 0);
        new.mode = 0o777;
        self.make(&last.dir, &name, &new)
    }

    /// `linkat(2)`: `old` is what the first path resolved to.
    ///
    /// # Errors
    /// As the man page.
    pub fn link(&self, old: &Location, start: &Location, path: &[u8]) -> Result<(), Errno> {
        let last = self.find_parent(start, path, Lookup::empty())?;
        let stat = old.inode().access()?;
        let name = self.check_new_link(old, &stat, &last)?;
        if stat.is_dir() {
            return Err(Errno::EPERM);
        }
        let parent = &last.dir.dentry;
        let names = parent.lock_names();
        if parent.is_deleted() {
            return Err(Errno::ENOENT);
        }
        // LINUX: what has lost its last name cannot get another.
        if old.inode().stat()?.nlink == 0 && !old.dentry.is_linkable() {
            return Err(Errno::ENOENT);
        }
        parent.inode().link(&name, old.inode())?;
        old.dentry.has_been_linked();
        old.inode().links_changed();
        parent.add_child(&name, Arc::clone(old.inode()));
        drop(names);
        // LINUX: `fsnotify_link`.
        inotify::notify(&self.task.kernel, old.inode(), mask::ATTRIB, None, 0);
        self.notify_name(parent, mask::CREATE, &name, false);
        Ok(())
    }

    fn check_new_link(&self, old: &Location, access: &Access, last: &Last) -> Result<Vec<u8>, Errno> {
        let LastName::Normal(name) = &last.name else { return Err(Errno::EEXIST) };
        match self.child(&last.dir, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        if last.is_dir_only {
            return Err(Errno::ENOENT);
        }
        if !Arc::ptr_eq(&old.mount, &last.dir.mount) {
            return Err(Errno::EXDEV);
        }
        permission::check_writable_mount(&last.dir)?;
        self.check_may_link(old, access)?;
        self.check_may_create(&last.dir, &last.dir_access)?;
        Ok(name.clone())
    }

    /// LINUX: `may_linkat` with `fs.protected_hardlinks` set, as every distribution has it.
    fn check_may_link(&self, old: &Location, access: &Access) -> Result<(), Errno> {
        if permission::is_owner(&self.credentials, access) {
            return Ok(());
        }
        let is_privileged = access.mode & mode::S_ISUID != 0 || access.mode & 0o2010 == 0o2010;
        let may_use = self.check(old, access, Want::READ | Want::WRITE).is_ok();
        if access.is_regular() && !is_privileged && may_use { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `unlink(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn unlink(&self, start: &Location, path: &[u8]) -> Result<(), Errno> {
        let last = self.find_parent(start, path, Lookup::empty())?;
        let LastName::Normal(name) = &last.name else { return Err(Errno::EISDIR) };
        permission::check_writable_mount(&last.dir)?;
        let victim = self.child(&last.dir, name)?;
        let stat = victim.inode().access()?;
        if last.is_dir_only {
            return Err(if stat.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        self.check_may_delete(&last.dir, &last.dir_access, &stat)?;
        if stat.is_dir() {
            return Err(Errno::EISDIR);
        }
        self.remove((&last.dir, &last.dir_access), name, victim, false)
    }

    /// `rmdir(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn rmdir(&self, start: &Location, path: &[u8]) -> Result<(), Errno> {
        let last = self.find_parent(start, path, Lookup::empty())?;
        let name = match &last.name {
            LastName::Normal(name) => name,
            LastName::Dot => return Err(Errno::EINVAL),
            LastName::DotDot => return Err(Errno::ENOTEMPTY),
            LastName::Root => return Err(Errno::EBUSY),
        };
        permission::check_writable_mount(&last.dir)?;
        let victim = self.child(&last.dir, name)?;
        let stat = victim.inode().access()?;
        self.check_may_delete(&last.dir, &last.dir_access, &stat)?;
        if !stat.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        self.remove((&last.dir, &last.dir_access), name, victim, true)
    }

    /// LINUX: `may_delete`, but for the question whether it is a directory.
    pub(super) fn check_may_delete(
        &self,
        dir: &Location,
        dir_access: &Access,
        victim: &Access,
    ) -> Result<(), Errno> {
        self.check(dir, dir_access, Want::WRITE | Want::EXEC)?;
        permission::check_sticky(&self.credentials, dir_access, victim)
    }

    /// Whose ids decide about names of these directories: the caller's, if one is sticky and the caller is not above that. The file
    /// system asks again, in the moment of the change, where others may turn a name to another file after we have looked.
    pub(super) fn sticky_user(&self, dirs: &[Access]) -> Option<u32> {
        let is_sticky = dirs.iter().any(|dir| dir.mode & mode::S_ISVTX != 0);
        (is_sticky && !self.has(Capability::Fowner)).then_some(self.credentials.fsuid)
    }

    fn remove(
        &self,
        (dir, dir_access): (&Location, &Access),
        name: &[u8],
        victim: Location,
        is_dir: bool,
    ) -> Result<(), Errno> {
        let parent = &dir.dentry;
        let names = parent.lock_names();
        if victim.dentry.is_mountpoint() {
            return Err(Errno::EBUSY);
        }
        parent.inode().unlink(name, is_dir, self.sticky_user(&[*dir_access]))?;
        victim.inode().links_changed();
        parent.remove_child(name);
        if parent.inode().caching() == super::Caching::Exclusive {
            parent.add_absent(name);
        }
        drop(names);
        if !is_dir {
            inotify::notify(&self.task.kernel, victim.inode(), mask::ATTRIB, None, 0);
        }
        self.task.kernel.trim.ended();
        // If nobody uses it, it goes now. LINUX: `d_delete_notify` tells of that before it tells the directory.
        drop(victim);
        self.notify_name(parent, mask::DELETE, name, is_dir);
        Ok(())
    }

    /// Tells those who watch the directory.
    fn notify_name(&self, dir: &Dentry, event: u32, name: &[u8], is_dir: bool) {
        let event = if is_dir { event | mask::ISDIR } else { event };
        inotify::notify(&self.task.kernel, dir.inode(), event, Some(name), 0);
    }

    /// Where a bound socket's name leads; for `connect(2)` and `sendto(2)`.
    ///
    /// # Errors
    /// As `unix(7)`: ECONNREFUSED if it is no socket, EACCES without write permission.
    pub fn find_socket(&self, path: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = self.find(&self.task.fs().cwd(), path, Lookup::FOLLOW)?;
        self.check(&found.location, &found.access, Want::WRITE)?;
        if found.access.kind() != mode::S_IFSOCK {
            return Err(Errno::ECONNREFUSED);
        }
        Ok(Arc::clone(found.location.inode()))
    }
}
