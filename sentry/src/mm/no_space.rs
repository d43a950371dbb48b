//! The memory of what has none: a process before its first program, the builder of a container's mounts, tests.

use platform::AddressSpace;

/// An address space in which nothing is mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoSpace;

impl AddressSpace for NoSpace {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
    fn write(&self, _: u64, _: &[u8]) -> usize {
        0
    }
    fn kill(&self) {}
    fn killed_by_host(&self) -> bool {
        false
    }
    fn cpu_time_ns(&self) -> (u64, u64) {
        (0, 0)
    }
    fn count_resident(&self, _: &[u64]) -> usize {
        0
    }
    fn vdso(&self) -> u64 {
        0
    }
}
