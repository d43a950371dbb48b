//! Figures of the whole sandbox that several files and calls show.

use std::sync::Arc;

use platform::host::clock::{Clock, now_ns};

use crate::kernel::Kernel;
use crate::machine::Memory;

/// Nanoseconds since the sandbox booted.
#[must_use]
pub fn uptime_ns(kernel: &Kernel) -> u64 {
    now_ns(Clock::Monotonic).saturating_sub(kernel.boot_ns)
}

/// Memory as guests see it.
#[must_use]
pub fn memory(kernel: &Arc<Kernel>) -> Memory {
    kernel.machine.memory(0)
}

/// Number of tasks in the sandbox.
#[must_use]
pub fn task_count(_kernel: &Kernel) -> usize {
    1
}
