//! Figures of the whole sandbox that several files and calls show.

use std::sync::Arc;

use platform::host::clock::{Clock, now_ns};

use crate::kernel::Kernel;
use crate::machine::Memory;

/// Nanoseconds since the machine booted: the host, whose clocks a guest reads without asking anybody.
#[must_use]
pub fn uptime_ns() -> u64 {
    now_ns(Clock::Boottime)
}

/// A time of the monotonic clock on the boot clock, which also runs while the machine is suspended.
#[must_use]
pub fn since_boot_ns(monotonic_ns: u64) -> u64 {
    monotonic_ns.saturating_add(now_ns(Clock::Boottime).saturating_sub(now_ns(Clock::Monotonic)))
}

/// Memory as guests see it.
#[must_use]
pub fn memory(kernel: &Arc<Kernel>) -> Memory {
    kernel.machine.memory(|| resident(kernel))
}

/// What all processes hold, in bytes; processes that share memory (`vfork`) count once each.
#[must_use]
pub fn resident(kernel: &Arc<Kernel>) -> u64 {
    let all = kernel.tasks.all().into_iter();
    all.filter_map(|process| process.mm()).map(|mm| mm.resident().total()).sum()
}

/// CPU time of everything that runs or ran, user and system, in nanoseconds.
#[must_use]
pub fn cpu_ns(kernel: &Kernel) -> (u64, u64) {
    let add =
        |sum: (u64, u64), time: (u64, u64)| (sum.0.saturating_add(time.0), sum.1.saturating_add(time.1));
    let living = kernel.tasks.all().into_iter().filter(|process| !process.is_zombie());
    living.map(|process| process.cpu_ns()).fold(kernel.tasks.gone_cpu_ns(), add)
}

/// Number of tasks in the sandbox.
#[must_use]
pub fn task_count(kernel: &Kernel) -> usize {
    kernel.tasks.all().iter().map(|process| process.threads().len()).sum()
}
