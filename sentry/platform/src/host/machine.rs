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

/// How many descriptors this process may have, `getrlimit(2)`.
#[must_use]
pub fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Host kernel release, `uname(2)`.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// What the host's kernel tells programs of the processor in the auxiliary vector, `getauxval(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuxInfo {
    /// `AT_HWCAP`.
    pub hwcap: u64,
    /// `AT_HWCAP2`.
    pub hwcap2: u64,
    /// `AT_MINSIGSTKSZ`: bytes.
    pub min_signal_stack: u64,
    /// `AT_RSEQ_FEATURE_SIZE`: bytes; 0 if the host does not say.
    pub rseq_feature_size: u64,
    /// `AT_RSEQ_ALIGN`: bytes; 0 if the host does not say.
    pub rseq_align: u64,
}

/// Asks the sentry's own auxiliary vector.
#[must_use]
pub fn aux_info() -> AuxInfo {
    const AT_RSEQ_FEATURE_SIZE: u64 = 27;
    const AT_RSEQ_ALIGN: u64 = 28;
    const AT_MINSIGSTKSZ: u64 = 51;
    // SAFETY: `getauxval` reads the process's own auxiliary vector and answers 0 for what is not there.
    let ask = |kind: u64| unsafe { libc::getauxval(kind) };
    AuxInfo {
        // A static C library answers AT_HWCAP with bits of its own; the kernel's are CPUID's.
        hwcap: u64::from(cpuid(1, 0)[3]),
        hwcap2: ask(libc::AT_HWCAP2),
        min_signal_stack: ask(AT_MINSIGSTKSZ).max(2048),
        rseq_feature_size: ask(AT_RSEQ_FEATURE_SIZE),
        rseq_align: ask(AT_RSEQ_ALIGN),
    }
}

/// What the processor says of itself: eax, ebx, ecx, edx.
#[must_use]
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let answer = std::arch::x86_64::__cpuid_count(leaf, subleaf);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// Gives the host every page of the C library's heaps that nothing is on.
pub fn trim_heaps() {
    // SAFETY: looks at free memory alone, under the allocator's own locks.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Limits how many heaps the C library's allocator makes for threads.
///
/// Without it, the allocator counts processors in /sys when the ninth thread allocates, which the filter forbids. To be
/// called while there is one thread.
pub fn limit_heaps(heaps: u16) {
    // SAFETY: sets a number in the allocator; other threads, which could be allocating, do not exist yet.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, i32::from(heaps)) };
}
