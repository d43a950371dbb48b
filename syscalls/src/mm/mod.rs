//! Memory calls: `map` places and removes mappings, `advise` tells the host about them, `lock` pins them.

pub(crate) mod advise;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod numa;

use sentry::mm::MemoryLimits;
use sentry::task::{Capability, Current};

/// The limits that apply to the running task.
pub(crate) fn limits(current: &Current) -> MemoryLimits {
    current.process().memory_limits(current.credentials().has(Capability::IpcLock))
}
