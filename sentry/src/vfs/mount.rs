//! Which file systems are mounted where?
//!
//! Key types: [`Mount`], [`MountNamespace`].

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Dentry, FileSystem, Location};

/// A file system at a place. The tree of mounts is held by parents.
pub struct Mount {
    /// What is mounted.
    pub file_system: Arc<dyn FileSystem>,
    /// Its root as seen through this mount.
    pub root: Arc<Dentry>,
    /// `MS_*` flags of this mount: RDONLY, NOSUID, NODEV, NOEXEC, NOATIME...
    pub flags: Mutex<u32>,
    /// Unique number, as in mountinfo.
    pub id: u32,
    /// What is shown as the device in `/proc/self/mounts`.
    pub source: Vec<u8>,
    /// Where it is mounted; `None` for a root or a private mount.
    place: Mutex<Option<(Weak<Mount>, Arc<Dentry>)>>,
    /// Mounts upon this one, oldest first.
    children: Mutex<Vec<(Arc<Dentry>, Arc<Mount>)>>,
}

impl Mount {
    /// A mount that is attached nowhere yet.
    #[must_use]
    pub fn new(file_system: Arc<dyn FileSystem>, root: Arc<Dentry>, flags: u32, source: &[u8]) -> Arc<Self> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(20);
        Arc::new(Self {
            file_system,
            root,
            flags: Mutex::new(flags),
            id: NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            source: source.to_vec(),
            place: Mutex::new(None),
            children: Mutex::default(),
        })
    }

    /// Its own root as a location.
    #[must_use]
    pub fn root_location(self: &Arc<Self>) -> Location {
        Location { mount: Arc::clone(self), dentry: Arc::clone(&self.root) }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn place(&self) -> Option<Location> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let (mount, dentry) = place.as_ref()?;
        Some(Location { mount: mount.upgrade()?, dentry: Arc::clone(dentry) })
    }

    /// The newest mount on `dentry` of this mount.
    #[must_use]
    pub fn mounted_on(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.iter().rev().find(|(at, _)| Arc::ptr_eq(at, dentry)).map(|(_, mount)| Arc::clone(mount))
    }

    /// Attaches `child` at `dentry` of this mount.
    pub fn attach(self: &Arc<Self>, dentry: &Arc<Dentry>, child: &Arc<Mount>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.push((Arc::clone(dentry), Arc::clone(child)));
        *child.place.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::downgrade(self), Arc::clone(dentry)));
    }

    /// Detaches `child`, which is mounted on this one.
    pub fn detach(&self, child: &Arc<Mount>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|(_, mount)| !Arc::ptr_eq(mount, child));
        *child.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The mounts upon this one, oldest first.
    #[must_use]
    pub fn children(&self) -> Vec<Arc<Mount>> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.iter().map(|(_, mount)| Arc::clone(mount)).collect()
    }
}

/// A tree of mounts that processes share.
pub struct MountNamespace {
    /// The mount at `/`.
    pub root: Mutex<Arc<Mount>>,
    /// Inode number in `/proc/PID/ns/mnt`.
    pub id: u32,
}
