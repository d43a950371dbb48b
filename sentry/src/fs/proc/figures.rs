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
    let resident =
        |process: Arc<crate::task::Process>| process.mm().map_or(0, |mm| mm.space().resident_bytes());
    kernel.machine.memory(kernel.tasks.all().into_iter().map(resident).sum())
}

/// Number of tasks in the sandbox.
#[must_use]
pub fn task_count(kernel: &Kernel) -> usize {
    kernel.tasks.all().iter().map(|process| process.threads().len()).sum()
}
