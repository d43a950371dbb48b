//! Where does a process stand in the file tree? Root, working directory, umask (`CLONE_FS`).

use std::sync::{Arc, Mutex, PoisonError};

use super::{Location, MountNamespace};

/// What `CLONE_FS` shares.
pub struct FsContext {
    inner: Mutex<Inner>,
}

#[derive(Clone)]
struct Inner {
    root: Location,
    cwd: Location,
    umask: u32,
    namespace: Arc<MountNamespace>,
}

impl FsContext {
    /// Starts at `root`.
    #[must_use]
    pub fn new(namespace: Arc<MountNamespace>, root: Location, cwd: Location, umask: u32) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner { root, cwd, umask, namespace }) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy that changes on its own.
    #[must_use]
    pub fn copy(&self) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(self.lock().clone()) })
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Location {
        self.lock().root.clone()
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(&self) -> Location {
        self.lock().cwd.clone()
    }

    /// The mount namespace.
    #[must_use]
    pub fn namespace(&self) -> Arc<MountNamespace> {
        Arc::clone(&self.lock().namespace)
    }

    /// `chroot(2)`.
    pub fn set_root(&self, root: Location) {
        self.lock().root = root;
    }

    /// `chdir(2)`.
    pub fn set_cwd(&self, cwd: Location) {
        self.lock().cwd = cwd;
    }

    /// File mode creation mask.
    #[must_use]
    pub fn umask(&self) -> u32 {
        self.lock().umask
    }

    /// `umask(2)`; answers the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        std::mem::replace(&mut self.lock().umask, umask & 0o777)
    }
}
