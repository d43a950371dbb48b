//! Guest memory: the layout is ours, the pages are the host's.
//!
//! Key type: [`MemoryManager`], one per guest address space. It decides where mappings lie and what they allow, and orders
//! the host's memory calls through the running task's `platform::Context`.

use std::sync::Arc;

use platform::AddressSpace;

/// A guest address space's layout.
pub struct MemoryManager {
    space: Arc<dyn AddressSpace>,
}

impl MemoryManager {
    /// An empty layout over an empty address space.
    #[must_use]
    pub fn new(space: Arc<dyn AddressSpace>) -> Arc<Self> {
        Arc::new(Self { space })
    }

    /// The host side.
    #[must_use]
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// All of `addr..addr + len` is mapped writable, as far as the layout knows.
    #[must_use]
    pub fn is_writable(&self, _addr: u64, _len: u64) -> bool {
        false
    }
}
