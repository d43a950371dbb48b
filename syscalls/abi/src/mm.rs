//! Constants of the memory calls: `mmap(2)`, `mremap(2)`, `madvise(2)`, `msync(2)`, `mlock(2)`.
//!
//! Source: `include/uapi/linux/mman.h`, `include/uapi/asm-generic/mman*.h`.

bitflags::bitflags! {
    /// What a mapping allows, `PROT_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Prot: u32 {
        /// May be read.
        const READ = 1;
        /// May be written.
        const WRITE = 2;
        /// May be executed.
        const EXEC = 4;
    }
}

/// `PROT_SEM`: accepted and without meaning on x86.
pub const PROT_SEM: u32 = 8;
/// `PROT_GROWSDOWN`: extend the change to the start of a mapping that grows down.
pub const PROT_GROWSDOWN: u32 = 0x0100_0000;
/// `PROT_GROWSUP`: the same upwards; no such mapping exists on x86.
pub const PROT_GROWSUP: u32 = 0x0200_0000;

/// Mask of the sharing type in `mmap` flags.
pub const MAP_TYPE: u32 = 0xf;
/// Share changes.
pub const MAP_SHARED: u32 = 1;
/// Changes are private.
pub const MAP_PRIVATE: u32 = 2;
/// As `MAP_SHARED`, and refuse unknown flags.
pub const MAP_SHARED_VALIDATE: u32 = 3;
/// Exactly there, replacing what is there.
pub const MAP_FIXED: u32 = 0x10;
/// No file.
pub const MAP_ANONYMOUS: u32 = 0x20;
/// Below 2 GiB.
pub const MAP_32BIT: u32 = 0x40;
/// A stack-like mapping.
pub const MAP_GROWSDOWN: u32 = 0x0100;
/// Ignored.
pub const MAP_DENYWRITE: u32 = 0x0800;
/// Ignored.
pub const MAP_EXECUTABLE: u32 = 0x1000;
/// Lock the pages.
pub const MAP_LOCKED: u32 = 0x2000;
/// Do not reserve swap.
pub const MAP_NORESERVE: u32 = 0x4000;
/// Fill the page tables.
pub const MAP_POPULATE: u32 = 0x8000;
/// With `MAP_POPULATE`: do not wait for I/O.
pub const MAP_NONBLOCK: u32 = 0x1_0000;
/// Meant for a stack; no effect.
pub const MAP_STACK: u32 = 0x2_0000;
/// Huge pages of hugetlbfs.
pub const MAP_HUGETLB: u32 = 0x4_0000;
/// Synchronous faults of persistent memory.
pub const MAP_SYNC: u32 = 0x8_0000;
/// As `MAP_FIXED`, but EEXIST if something is there.
pub const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;
/// `MAP_HUGE_2MB` and `MAP_HUGE_1GB`: sizes of huge pages in the flags.
pub const MAP_HUGE_SIZES: u32 = 21 << 26 | 30 << 26;
/// Not cleared; ignored by a kernel with memory protection.
pub const MAP_UNINITIALIZED: u32 = 0x400_0000;

/// The mapping may move.
pub const MREMAP_MAYMOVE: u32 = 1;
/// To exactly there.
pub const MREMAP_FIXED: u32 = 2;
/// The old place stays mapped, empty.
pub const MREMAP_DONTUNMAP: u32 = 4;

/// Start writing.
pub const MS_ASYNC: u32 = 1;
/// Drop other cached copies.
pub const MS_INVALIDATE: u32 = 2;
/// Write and wait.
pub const MS_SYNC: u32 = 4;

/// `mlock2`: lock pages as they are touched.
pub const MLOCK_ONFAULT: u32 = 1;
/// `mlockall`: what is mapped now.
pub const MCL_CURRENT: u32 = 1;
/// `mlockall`: what will be mapped.
pub const MCL_FUTURE: u32 = 2;
/// `mlockall`: lock pages as they are touched.
pub const MCL_ONFAULT: u32 = 4;

/// Advice numbers of `madvise(2)`.
#[expect(missing_docs, reason = "named as in madvise(2)")]
pub mod madv {
    pub const NORMAL: u32 = 0;
    pub const RANDOM: u32 = 1;
    pub const SEQUENTIAL: u32 = 2;
    pub const WILLNEED: u32 = 3;
    pub const DONTNEED: u32 = 4;
    pub const FREE: u32 = 8;
    pub const REMOVE: u32 = 9;
    pub const DONTFORK: u32 = 10;
    pub const DOFORK: u32 = 11;
    pub const MERGEABLE: u32 = 12;
    pub const UNMERGEABLE: u32 = 13;
    pub const HUGEPAGE: u32 = 14;
    pub const NOHUGEPAGE: u32 = 15;
    pub const DONTDUMP: u32 = 16;
    pub const DODUMP: u32 = 17;
    pub const WIPEONFORK: u32 = 18;
    pub const KEEPONFORK: u32 = 19;
    pub const COLD: u32 = 20;
    pub const PAGEOUT: u32 = 21;
    pub const POPULATE_READ: u32 = 22;
    pub const POPULATE_WRITE: u32 = 23;
    pub const DONTNEED_LOCKED: u32 = 24;
    pub const COLLAPSE: u32 = 25;
}
