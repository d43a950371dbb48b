//! Which file systems are mounted where?
//!
//! Key types: [`Mount`], [`MountNamespace`]. What `mount(2)` and its kin do with them is in `mounting.rs`.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Dentry, FileSystem, Location, System};

/// A file system at a place. The tree of mounts is held by parents.
pub struct Mount {
    /// What is mounted.
    pub file_system: Arc<dyn FileSystem>,
    /// Its root as seen through this mount.
    pub root: Arc<Dentry>,
    /// `MS_*` flags of this mount: RDONLY, NOSUID, NODEV, NOEXEC, NOATIME...
    flags: AtomicU32,
    /// Unique number, as in mountinfo.
    pub id: u32,
    /// What is shown as the device in `/proc/self/mounts`.
    pub source: Vec<u8>,
    /// Where it is mounted; `None` for a root or a private mount. LOCK: leaf.
    place: Mutex<Option<(Weak<Mount>, Arc<Dentry>)>>,
    /// Mounts upon this one, oldest first. LOCK: before any `place`.
    children: Mutex<Vec<(Arc<Dentry>, Arc<Mount>)>>,
    /// How often a path has led here since `MNT_EXPIRE` marked it, and one more, up to [`USED`]; 0: it is not marked.
    expiring: AtomicU8,
}

/// Values of `Mount::expiring`.
const MARKED: u8 = 1;
const USED: u8 = 3;

impl Mount {
    /// A mount that is attached nowhere yet.
    #[must_use]
    pub fn new(file_system: Arc<dyn FileSystem>, root: Arc<Dentry>, flags: u32, source: &[u8]) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(20);
        root.show();
        Arc::new(Self {
            file_system,
            root,
            flags: AtomicU32::new(flags),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            source: source.to_vec(),
            place: Mutex::new(None),
            children: Mutex::default(),
            expiring: AtomicU8::new(0),
        })
    }

    /// A mount of all of a file system, attached nowhere yet.
    #[must_use]
    pub fn of(system: &System, file_system: Arc<dyn FileSystem>, flags: u32, source: &[u8]) -> Arc<Self> {
        let watches = Some(Arc::clone(&system.inotify));
        let root = Dentry::root(file_system.root(), file_system.dentry_cache(), watches);
        Self::new(file_system, root, flags, source)
    }

    /// Its `MS_*` flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// `mount(MS_REMOUNT | MS_BIND)`.
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Relaxed);
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
        if !dentry.is_mountpoint() {
            return None;
        }
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let found = children.iter().rev().find(|(at, _)| Arc::ptr_eq(at, dentry));
        let mount = found.map(|(_, mount)| Arc::clone(mount))?;
        let uses = mount.expiring.load(Ordering::Relaxed);
        if (MARKED..USED).contains(&uses) {
            mount.expiring.store(uses + 1, Ordering::Relaxed);
        }
        Some(mount)
    }

    /// `MNT_EXPIRE`, by a path that has just led here: whether it was marked before, and nobody has used it since.
    pub(super) fn expires(&self) -> bool {
        self.expiring.swap(MARKED, Ordering::Relaxed) == MARKED + 1
    }

    /// Attaches `child` at `dentry` of this mount.
    pub fn attach(self: &Arc<Self>, dentry: &Arc<Dentry>, child: &Arc<Mount>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.push((Arc::clone(dentry), Arc::clone(child)));
        dentry.mounted();
        *child.place.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::downgrade(self), Arc::clone(dentry)));
    }

    /// Detaches `child`, which is mounted on this one.
    pub fn detach(&self, child: &Arc<Mount>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = children.iter().position(|(_, mount)| Arc::ptr_eq(mount, child)) else { return };
        let (dentry, mount) = children.remove(index);
        *child.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
        drop(children);
        dentry.unmounted();
        drop(mount);
    }

    /// The mounts upon this one, oldest first.
    #[must_use]
    pub fn children(&self) -> Vec<Arc<Mount>> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.iter().map(|(_, mount)| Arc::clone(mount)).collect()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let children = self.children.get_mut().unwrap_or_else(PoisonError::into_inner);
        children.iter().for_each(|(dentry, _)| dentry.unmounted());
        self.root.hide();
    }
}

/// A tree of mounts that processes share.
pub struct MountNamespace {
    /// The mount at `/`. LOCK: leaf.
    root: Mutex<Arc<Mount>>,
    /// Inode number in `/proc/PID/ns/mnt`.
    pub id: u32,
    /// LOCK: outside all other mount locks; held while the tree of mounts is changed.
    changing: Mutex<()>,
}

impl MountNamespace {
    /// A tree that so far is one mount.
    #[must_use]
    pub fn new(root: Arc<Mount>) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0xf000_1000);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { root: Mutex::new(root), id, changing: Mutex::default() })
    }

    /// The mount at `/`.
    #[must_use]
    pub fn root(&self) -> Arc<Mount> {
        Arc::clone(&self.root.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `pivot_root(2)`.
    pub fn set_root(&self, root: Arc<Mount>) {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
    }

    /// Only one change at a time.
    pub fn lock_changes(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All mounts, parents first.
    #[must_use]
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        let mut all = vec![self.root()];
        let mut next = 0;
        while let Some(mount) = all.get(next) {
            let children = mount.children();
            all.extend(children);
            next += 1;
        }
        all
    }
}
