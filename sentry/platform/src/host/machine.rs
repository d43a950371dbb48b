//! What machine is this? Processors and memory, asked once.

/// Number of processors that this process may use.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Total and available memory of the host in bytes, `sysinfo(2)`.
#[must_use]
pub fn memory() -> (u64, u64) {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    (info.totalram.saturating_mul(unit), info.freeram.saturating_mul(unit))
}

/// Host kernel release, `uname(2)`.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
