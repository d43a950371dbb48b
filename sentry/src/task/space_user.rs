//! Who keeps an address space alive? Each task in it; when the last one leaves, it is killed.
//!
//! Key type: [`SpaceUser`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use platform::AddressSpace;

/// One task's share of an address space.
pub struct SpaceUser {
    space: Arc<dyn AddressSpace>,
    users: Arc<AtomicUsize>,
}

impl SpaceUser {
    /// The first user.
    #[must_use]
    pub fn new(space: &Arc<dyn AddressSpace>) -> Self {
        Self { space: Arc::clone(space), users: Arc::new(AtomicUsize::new(1)) }
    }

    /// One more user.
    #[must_use]
    pub fn share(&self) -> Self {
        self.users.fetch_add(1, Ordering::Relaxed);
        Self { space: Arc::clone(&self.space), users: Arc::clone(&self.users) }
    }

    /// Others use it too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.users.load(Ordering::Acquire) > 1
    }
}

impl Drop for SpaceUser {
    fn drop(&mut self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.space.kill();
        }
    }
}
