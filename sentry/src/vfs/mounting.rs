//! `mount(2)`, `umount2(2)`, `pivot_root(2)`, and a copy of all mounts for `unshare(CLONE_NEWNS)`. LINUX: fs/namespace.c.
//!
//! Key types: [`MountArgs`], the `MS_*` commands in [`command`]. There is no propagation between mounts: all are private. To
//! make one private, or a slave (of nobody, since it shares with nobody), changes nothing; what would share is refused.

use std::sync::Arc;

use super::permission::ms;
use super::walk::{Caller, Lookup};
use super::{Dentry, FsContext, Location, Mount, MountNamespace, MountRequest};
use crate::Errno;
use crate::task::Capability;

/// Mounts of one namespace. LINUX: `fs.mount-max` is 100,000; ENOSPC above.
const MOUNTS_MAX: usize = 10_000;

/// `MS_*` flags that are commands.
pub mod command {
    /// Change flags of a mount.
    pub const REMOUNT: u32 = 32;
    /// Show a directory at another place.
    pub const BIND: u32 = 4096;
    /// Move a mount.
    pub const MOVE: u32 = 8192;
    /// With all mounts below.
    pub const REC: u32 = 16384;
    /// Flags of propagation.
    pub const PROPAGATION: u32 = (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20);
    /// `MS_SHARED`: what is mounted below one is mounted below its copies.
    pub const SHARED: u32 = 1 << 20;
    /// `MS_UNBINDABLE`: it has no copies.
    pub const UNBINDABLE: u32 = 1 << 17;
    /// High half that old programs set.
    pub const MAGIC_MASK: u32 = 0xffff_0000;
    /// Its value.
    pub const MAGIC: u32 = 0xc0ed_0000;
    /// `MNT_DETACH`.
    pub const DETACH: u32 = 2;
    /// `MNT_EXPIRE`.
    pub const EXPIRE: u32 = 4;
    /// `UMOUNT_NOFOLLOW`.
    pub const NOFOLLOW: u32 = 8;
}

/// What `mount(2)` was given.
pub struct MountArgs<'a> {
    /// Device, or directory to bind.
    pub source: &'a [u8],
    /// Where.
    pub target: &'a [u8],
    /// Kind of file system.
    pub kind: &'a [u8],
    /// `MS_*`.
    pub flags: u32,
    /// Options of the file system.
    pub data: &'a str,
}

impl Caller<'_> {
    fn check_admin(&self) -> Result<(), Errno> {
        if self.has(Capability::SysAdmin) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn find_mount_target(&self, path: &[u8]) -> Result<Location, Errno> {
        self.resolve(&self.task.fs().cwd(), path, Lookup::FOLLOW)
    }

    /// `mount(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn mount(&self, args: &MountArgs<'_>) -> Result<(), Errno> {
        let mut flags = args.flags;
        if flags & command::MAGIC_MASK == command::MAGIC {
            flags &= !command::MAGIC_MASK;
        }
        let target = self.find_mount_target(args.target)?;
        self.check_admin()?;
        let namespace = self.task.fs().namespace();
        let _changes = namespace.lock_changes();
        if flags & command::REMOUNT != 0 {
            if !Arc::ptr_eq(&target.dentry, &target.mount.root) {
                return Err(Errno::EINVAL);
            }
            target.mount.set_flags(per_mount(flags));
            return Ok(());
        }
        if flags & command::BIND != 0 {
            return self.bind(args.source, &target, flags, &namespace);
        }
        if flags & command::PROPAGATION != 0 {
            let is_root = Arc::ptr_eq(&target.dentry, &target.mount.root);
            let is_so_anyway = flags & (command::SHARED | command::UNBINDABLE) == 0;
            return if is_root && is_so_anyway { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if flags & command::MOVE != 0 {
            return self.move_mount(args.source, &target);
        }
        self.mount_new(args, &target, flags, &namespace)
    }

    fn mount_new(
        &self,
        args: &MountArgs<'_>,
        target: &Location,
        flags: u32,
        namespace: &Arc<MountNamespace>,
    ) -> Result<(), Errno> {
        let kernel = &self.task.kernel;
        let kind = std::str::from_utf8(args.kind).map_err(|_| Errno::ENODEV)?;
        let kind = kernel.vfs.file_system_type(kind).ok_or(Errno::ENODEV)?;
        let file_system = kind.mount(&MountRequest {
            kernel,
            pid_namespace: &self.task.process.namespace,
            descriptors: &kernel.descriptors.share(&self.task.process.container),
            source: args.source,
            options: args.data,
            uid: self.credentials.fsuid,
            gid: self.credentials.fsgid,
        })?;
        attach(namespace, target, &Mount::of(&kernel.vfs, file_system, per_mount(flags), args.source))
    }

    fn bind(
        &self,
        source: &[u8],
        target: &Location,
        flags: u32,
        namespace: &Arc<MountNamespace>,
    ) -> Result<(), Errno> {
        let source = self.find_mount_target(source)?;
        let mount = if flags & command::REC != 0 {
            copy_tree(&source.mount, &source.dentry, &mut |_, _| {})
        } else {
            clone_at(&source.mount, &source.dentry)
        };
        attach(namespace, target, &mount)
    }

    fn move_mount(&self, source: &[u8], target: &Location) -> Result<(), Errno> {
        let source = self.find_mount_target(source)?;
        if !Arc::ptr_eq(&source.dentry, &source.mount.root) {
            return Err(Errno::EINVAL);
        }
        let place = source.mount.place().ok_or(Errno::EINVAL)?;
        if is_below(&target.mount, &source.mount) {
            return Err(Errno::ELOOP);
        }
        check_kinds(target, &source.mount)?;
        place.mount.detach(&source.mount);
        target.mount.attach(&target.dentry, &source.mount);
        Ok(())
    }

    /// `umount2(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn umount(&self, path: &[u8], flags: u32) -> Result<(), Errno> {
        const VALID: u32 = 1 | command::DETACH | command::EXPIRE | command::NOFOLLOW;
        if flags & !VALID != 0 {
            return Err(Errno::EINVAL);
        }
        let follow = if flags & command::NOFOLLOW == 0 { Lookup::FOLLOW } else { Lookup::empty() };
        let target = self.resolve(&self.task.fs().cwd(), path, follow)?;
        if !Arc::ptr_eq(&target.dentry, &target.mount.root) {
            return Err(Errno::EINVAL);
        }
        self.check_admin()?;
        let namespace = self.task.fs().namespace();
        let _changes = namespace.lock_changes();
        let mount = target.mount;
        drop(target.dentry);
        let place = mount.place().ok_or(Errno::EINVAL)?;
        if flags & command::DETACH == 0 {
            // One reference is ours, one the parent's: any other is somebody's open file or working directory.
            let is_used = Arc::strong_count(&mount) > 2;
            if !mount.children().is_empty() || is_used {
                return Err(Errno::EBUSY);
            }
            if flags & command::EXPIRE != 0 && !mount.expires() {
                return Err(Errno::EAGAIN);
            }
        }
        place.mount.detach(&mount);
        self.task.kernel.trim.many_ended();
        Ok(())
    }

    /// `pivot_root(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn pivot_root(&self, new_root: &[u8], put_old: &[u8]) -> Result<(), Errno> {
        self.check_admin()?;
        let fs = self.task.fs();
        let find = |path| self.resolve(&fs.cwd(), path, Lookup::FOLLOW | Lookup::DIRECTORY);
        let (new_root, put_old) = (find(new_root)?, find(put_old)?);
        let namespace = fs.namespace();
        let _changes = namespace.lock_changes();
        let old_root = fs.root();
        if Arc::ptr_eq(&new_root.mount, &old_root.mount) || Arc::ptr_eq(&put_old.mount, &old_root.mount) {
            return Err(Errno::EBUSY);
        }
        let is_mount = Arc::ptr_eq(&new_root.dentry, &new_root.mount.root);
        let old_is_mount = Arc::ptr_eq(&old_root.dentry, &old_root.mount.root);
        if !is_mount || !old_is_mount || !is_below(&put_old.mount, &new_root.mount) {
            return Err(Errno::EINVAL);
        }
        let place = new_root.mount.place().ok_or(Errno::EINVAL)?;
        place.mount.detach(&new_root.mount);
        match old_root.mount.place() {
            Some(old_place) => {
                old_place.mount.detach(&old_root.mount);
                old_place.mount.attach(&old_place.dentry, &new_root.mount);
            }
            None => namespace.set_root(Arc::clone(&new_root.mount)),
        }
        put_old.mount.attach(&put_old.dentry, &old_root.mount);
        if fs.cwd().is_same(&old_root) {
            fs.set_cwd(new_root.clone());
        }
        fs.set_root(new_root);
        Ok(())
    }
}

/// Flags that stay with the mount. LINUX: `relatime` unless told otherwise.
fn per_mount(flags: u32) -> u32 {
    let kept = flags & ms::PER_MOUNT;
    match flags {
        _ if flags & ms::STRICTATIME != 0 => kept & !(ms::NOATIME | ms::RELATIME),
        _ if kept & ms::NOATIME != 0 => kept,
        _ => kept | ms::RELATIME,
    }
}

/// Only directories on directories.
fn check_kinds(target: &Location, mount: &Arc<Mount>) -> Result<(), Errno> {
    let target_is_dir = target.inode().access()?.is_dir();
    let root_is_dir = mount.root.inode().access()?.is_dir();
    if target_is_dir == root_is_dir { Ok(()) } else { Err(Errno::ENOTDIR) }
}

/// Attaches a new mount.
///
/// # Errors
/// ENOTDIR; ENOSPC for too many mounts.
pub(super) fn attach(
    namespace: &Arc<MountNamespace>,
    target: &Location,
    mount: &Arc<Mount>,
) -> Result<(), Errno> {
    check_kinds(target, mount)?;
    if namespace.mounts().len() >= MOUNTS_MAX {
        return Err(Errno::ENOSPC);
    }
    target.mount.attach(&target.dentry, mount);
    Ok(())
}

/// `mount` is `top` or is mounted below it.
fn is_below(mount: &Arc<Mount>, top: &Arc<Mount>) -> bool {
    let mut at = Some(Arc::clone(mount));
    while let Some(mount) = at {
        if Arc::ptr_eq(&mount, top) {
            return true;
        }
        at = mount.place().map(|place| place.mount);
    }
    false
}

fn clone_at(mount: &Arc<Mount>, root: &Arc<Dentry>) -> Arc<Mount> {
    Mount::new(Arc::clone(&mount.file_system), Arc::clone(root), mount.flags(), &mount.source)
}

/// A copy of a mount as seen from `root`, with all that is mounted below. `seen` is told each original and its copy.
fn copy_tree(
    mount: &Arc<Mount>,
    root: &Arc<Dentry>,
    seen: &mut dyn FnMut(&Arc<Mount>, &Arc<Mount>),
) -> Arc<Mount> {
    let top = clone_at(mount, root);
    seen(mount, &top);
    let mut pending = vec![(Arc::clone(mount), Arc::clone(&top))];
    while let Some((original, copy)) = pending.pop() {
        for child in original.children() {
            let Some(place) = child.place() else { continue };
            if place.dentry.is_within(&copy.root) {
                let child_copy = clone_at(&child, &child.root);
                seen(&child, &child_copy);
                copy.attach(&place.dentry, &child_copy);
                pending.push((child, child_copy));
            }
        }
    }
    top
}

impl MountNamespace {
    /// A copy of all mounts, and root and working directory of `fs` in it (`CLONE_NEWNS`).
    #[must_use]
    pub fn copy(&self, fs: &FsContext) -> Arc<FsContext> {
        let _changes = self.lock_changes();
        let (mut root, mut cwd) = (fs.root(), fs.cwd());
        let (old_root, old_cwd) = (Arc::clone(&root.mount), Arc::clone(&cwd.mount));
        let top = self.root();
        let copy = copy_tree(&top, &top.root, &mut |original, copy| {
            if Arc::ptr_eq(original, &old_root) {
                root.mount = Arc::clone(copy);
            }
            if Arc::ptr_eq(original, &old_cwd) {
                cwd.mount = Arc::clone(copy);
            }
        });
        FsContext::new(Self::new(copy), root, cwd, fs.umask())
    }
}
