//! Where do things lie in a guest's address space? Bounds, the hole that belongs to the stub, randomisation.

use linux_abi::TASK_SIZE;
use platform::host::file::random;

/// Size of a page.
pub const PAGE: u64 = linux_abi::PAGE_SIZE;
/// Lowest address that a guest may map. LINUX: `vm.mmap_min_addr`, EPERM below.
pub const MIN_ADDR: u64 = 0x1_0000;
/// End of guest memory.
pub const END: u64 = TASK_SIZE;
/// Start of what the stub keeps for itself, with a guard below it.
pub const STUB_START: u64 = platform::RESERVED.start;
/// End of what the stub keeps for itself.
pub const STUB_END: u64 = platform::RESERVED.end;
/// The host's vDSO image is preceded by its data pages.
pub const VDSO_BEFORE: u64 = 0x1_0000;
/// Length of the host's vDSO image, rounded up generously.
pub const VDSO_LEN: u64 = 0x4000;
/// Most mappings of one address space. LINUX: `vm.max_map_count`, ENOMEM above.
pub const MAX_MAP_COUNT: usize = 65530;
/// Kept free below a stack. LINUX: `stack_guard_gap`.
pub const STACK_GUARD: u64 = 256 * PAGE;
/// Largest stack that is set aside, however high `RLIMIT_STACK` is.
pub const STACK_MAX: u64 = 1 << 30;
/// Smallest stack that is set aside: the least room for arguments, and some to run in.
pub const STACK_MIN: u64 = 256 << 10;
/// Huge page of the host: large anonymous mappings are aligned to it, as Linux does since 6.7.
pub const HUGE_PAGE: u64 = 2 << 20;
/// Where `MAP_32BIT` looks. LINUX: `find_start_end` in `arch/x86/kernel/sys_x86_64.c`.
pub const LOW_START: u64 = 0x4000_0000;
/// End of where `MAP_32BIT` looks.
pub const LOW_END: u64 = 0x8000_0000;
/// Programs that can be loaded anywhere go here. LINUX: `ELF_ET_DYN_BASE`.
pub const PIE_BASE: u64 = END / 3 * 2 / PAGE * PAGE;

/// Least room between the stack's top and the highest mapping. LINUX: `MIN_GAP` in `arch/x86/mm/mmap.c`.
const MIN_GAP: u64 = 128 << 20;
/// Random pages below the end of memory for the stack. LINUX: `__STACK_RND_MASK`.
const STACK_RANDOM_PAGES: u64 = 0x3f_ffff;
/// Random pages of mappings. LINUX: `vm.mmap_rnd_bits` is 28.
const MMAP_RANDOM_PAGES: u64 = (1 << 28) - 1;
/// Random pages between a program and its heap. LINUX: `arch_randomize_brk`, 32 MiB.
const BRK_RANDOM_PAGES: u64 = 0x1fff;

/// Is the layout to be randomised (`personality(2)`, `ADDR_NO_RANDOMIZE`)?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aslr {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Random or fixed places of the big pieces of one address space.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// End of the stack.
    pub stack_top: u64,
    /// Mappings are placed from here downwards.
    pub mmap_base: u64,
    /// Load bias for programs that can be loaded anywhere.
    pub pie_base: u64,
    /// Distance between the program's end and the heap.
    pub brk_gap: u64,
}

impl Places {
    /// Throws the dice.
    #[must_use]
    pub fn new(aslr: Aslr, stack_size: u64) -> Self {
        let pages = |mask: u64| match aslr {
            Aslr::Off => 0,
            Aslr::On => (random_u64() & mask) * PAGE,
        };
        let stack_top = END - pages(STACK_RANDOM_PAGES);
        let gap = stack_size.clamp(MIN_GAP, END / 6 * 5) + STACK_GUARD;
        Self {
            stack_top,
            mmap_base: page_down(stack_top - gap - pages(MMAP_RANDOM_PAGES)),
            pie_base: PIE_BASE + pages(MMAP_RANDOM_PAGES),
            brk_gap: pages(BRK_RANDOM_PAGES),
        }
    }
}

/// Eight bytes of chance.
#[must_use]
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Rounds down to a page.
#[must_use]
pub const fn page_down(addr: u64) -> u64 {
    addr & !(PAGE - 1)
}

/// Rounds up to a page; `None` if that is beyond 64 bits.
#[must_use]
pub const fn page_up(addr: u64) -> Option<u64> {
    match addr.checked_add(PAGE - 1) {
        Some(sum) => Some(page_down(sum)),
        None => None,
    }
}

/// Lies on a page boundary.
#[must_use]
pub const fn is_aligned(addr: u64) -> bool {
    addr.is_multiple_of(PAGE)
}
