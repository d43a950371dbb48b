//! `renameat2(2)`. LINUX: `do_renameat2`, `vfs_rename`.
//!
//! Renames of one file system happen one at a time, so that nobody moves a directory into itself while ancestors are
//! being compared.

use std::sync::Arc;

use super::permission::{self, Want};
use super::walk::{Caller, Last, LastName, Lookup};
use super::{Access, Cached, Caching, Dentry, Location};
use crate::Errno;
use crate::fs::inotify::{self, mask};

/// The target must not exist.
pub const RENAME_NOREPLACE: u32 = 1;
/// Swap the two.
pub const RENAME_EXCHANGE: u32 = 2;

/// One of the two names.
struct Side {
    dir: Location,
    dir_access: Access,
    name: Vec<u8>,
    is_dir_only: bool,
}

/// What a name leads to now.
struct Node {
    dentry: Arc<Dentry>,
    access: Access,
}

impl Caller<'_> {
    /// `renameat2(2)`.
    ///
    /// # Errors
    /// As the man page; EINVAL for `RENAME_WHITEOUT`.
    pub fn rename(&self, old: (&Location, &[u8]), new: (&Location, &[u8]), flags: u32) -> Result<(), Errno> {
        if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0 || flags == RENAME_NOREPLACE | RENAME_EXCHANGE {
            return Err(Errno::EINVAL);
        }
        let old = self.find_parent(old.0, old.1, Lookup::empty())?;
        let new = self.find_parent(new.0, new.1, Lookup::empty())?;
        if !Arc::ptr_eq(&old.dir.mount, &new.dir.mount) {
            return Err(Errno::EXDEV);
        }
        let old = Side::of(old, Errno::EBUSY)?;
        let new = Side::of(new, if flags & RENAME_NOREPLACE == 0 { Errno::EBUSY } else { Errno::EEXIST })?;
        permission::check_writable_mount(&old.dir)?;
        let tree = old.dir.dentry.tree().cloned().ok_or(Errno::EINVAL)?;
        let _one_at_a_time = tree.lock_renames();
        let names = Dentry::lock_two(&old.dir.dentry, &new.dir.dentry);
        let source = self.node(&old)?;
        let target = match self.node(&new) {
            Ok(target) => Some(target),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        self.check_rename(&old, &new, &source, target.as_ref(), flags)?;
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(target.dentry.inode(), source.dentry.inode())) {
            return Ok(());
        }
        let by = self.sticky_user(&[old.dir_access, new.dir_access]);
        old.dir.inode().rename(&old.name, (new.dir.inode(), &new.name), flags, by)?;
        source.dentry.inode().links_changed();
        if let Some(target) = &target {
            target.dentry.inode().links_changed();
        }
        match &target {
            Some(target) if flags & RENAME_EXCHANGE != 0 => source.dentry.exchange(&target.dentry),
            _ => {
                source.dentry.move_to(&new.dir.dentry, &new.name);
                if old.dir.inode().caching() == Caching::Exclusive
                    && !matches!(old.dir.dentry.cached(&old.name), Cached::Known(_))
                {
                    old.dir.dentry.add_absent(&old.name);
                }
            }
        }
        drop(names);
        match target {
            Some(target) if flags & RENAME_EXCHANGE != 0 => {
                self.notify_renamed(&old, &new, &source, None);
                self.notify_renamed(&new, &old, &target, None);
            }
            replaced => self.notify_renamed(&old, &new, &source, replaced),
        }
        Ok(())
    }

    /// LINUX: `fsnotify_move`. `replaced`: what was there before, which may go now.
    fn notify_renamed(&self, old: &Side, new: &Side, source: &Node, replaced: Option<Node>) {
        let kernel = &self.task.kernel;
        let cookie = kernel.vfs.inotify.next_cookie();
        let dir = if source.access.is_dir() { mask::ISDIR } else { 0 };
        inotify::notify(kernel, old.dir.inode(), mask::MOVED_FROM | dir, Some(&old.name), cookie);
        inotify::notify(kernel, new.dir.inode(), mask::MOVED_TO | dir, Some(&new.name), cookie);
        if let Some(replaced) = &replaced {
            let dir = if replaced.access.is_dir() { mask::ISDIR } else { 0 };
            inotify::notify(kernel, replaced.dentry.inode(), mask::ATTRIB | dir, None, 0);
        }
        inotify::notify(kernel, source.dentry.inode(), mask::MOVE_SELF, None, 0);
    }

    fn node(&self, side: &Side) -> Result<Node, Errno> {
        let dentry = self.child_locked(&side.dir, &side.name)?;
        let access = dentry.inode().access()?;
        Ok(Node { dentry, access })
    }

    fn check_rename(
        &self,
        old: &Side,
        new: &Side,
        source: &Node,
        target: Option<&Node>,
        flags: u32,
    ) -> Result<(), Errno> {
        let is_exchange = flags & RENAME_EXCHANGE != 0;
        match target {
            Some(_) if flags & RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
            None if is_exchange => return Err(Errno::ENOENT),
            _ => {}
        }
        let is_dir = source.access.is_dir();
        let target_is_dir = target.is_some_and(|target| target.access.is_dir());
        if is_exchange && new.is_dir_only && !target_is_dir {
            return Err(Errno::ENOTDIR);
        }
        if !is_dir && (old.is_dir_only || (!is_exchange && new.is_dir_only)) {
            return Err(Errno::ENOTDIR);
        }
        if new.dir.dentry.is_within(&source.dentry) {
            return Err(Errno::EINVAL);
        }
        if target.is_some_and(|target| old.dir.dentry.is_within(&target.dentry)) {
            return Err(if is_exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        let same = target.is_some_and(|target| Arc::ptr_eq(target.dentry.inode(), source.dentry.inode()));
        if same {
            return Ok(());
        }
        self.check_may_delete(&old.dir, &old.dir_access, &source.access)?;
        match target {
            None => self.check_may_create(&new.dir, &new.dir_access)?,
            Some(target) => {
                self.check_may_delete(&new.dir, &new.dir_access, &target.access)?;
                if !is_exchange && is_dir && !target_is_dir {
                    return Err(Errno::ENOTDIR);
                }
                if !is_exchange && !is_dir && target_is_dir {
                    return Err(Errno::EISDIR);
                }
            }
        }
        self.check_moved_directories(old, new, source, target.filter(|_| is_exchange))?;
        let is_busy = |node: &Node| node.dentry.is_mountpoint();
        if is_busy(source) || target.is_some_and(is_busy) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// A directory that gets another parent is written to: its `..` changes.
    fn check_moved_directories(
        &self,
        old: &Side,
        new: &Side,
        source: &Node,
        swapped: Option<&Node>,
    ) -> Result<(), Errno> {
        if Arc::ptr_eq(&old.dir.dentry, &new.dir.dentry) {
            return Ok(());
        }
        for node in std::iter::once(source).chain(swapped) {
            if node.access.is_dir() {
                self.check(&old.dir.with(&node.dentry), &node.access, Want::WRITE)?;
            }
        }
        Ok(())
    }
}

impl Side {
    fn of(last: Last, otherwise: Errno) -> Result<Self, Errno> {
        let Last { dir, dir_access, name, is_dir_only } = last;
        match name {
            LastName::Normal(name) => Ok(Self { dir, dir_access, name, is_dir_only }),
            LastName::Root | LastName::Dot | LastName::DotDot => Err(otherwise),
        }
    }
}
