//! The memory calls on the fake platform: what the guest sees, and what the host is told.

use std::sync::Arc;

use linux_abi::mm::{
    MAP_32BIT, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, MREMAP_DONTUNMAP,
    MREMAP_FIXED, MREMAP_MAYMOVE, Prot, madv,
};
use platform::fake::{FAKE_VDSO, FakeContext, FakeSpace};

use super::Dice;
use crate::Errno;
use crate::mm::layout::{PAGE, STUB_END, STUB_START};
use crate::mm::map::{MapRequest, MapTarget, anonymous, check_place};
use crate::mm::remap::checked;
use crate::mm::{LockFault, MemoryLimits, MemoryManager};

const RW: u32 = 3;

struct Guest {
    mm: Arc<MemoryManager>,
    space: Arc<FakeSpace>,
    context: FakeContext,
    limits: MemoryLimits,
}

impl Guest {
    fn new() -> Self {
        let (space, context) = FakeSpace::with_context();
        let mm = MemoryManager::new(Arc::clone(&space) as Arc<dyn platform::AddressSpace>);
        let limits = MemoryLimits { locked: 64 * PAGE, ..MemoryLimits::default() };
        Self { mm, space, context, limits }
    }

    /// As `MemoryManager::mmap` without a file, which needs no task.
    fn map(&mut self, addr: u64, pages: u64, prot: u32, flags: u32) -> Result<u64, Errno> {
        let request = MapRequest { addr, len: pages * PAGE, prot, flags, target: MapTarget::Anonymous };
        let (placement, len) = check_place(&request)?;
        self.mm.establish(&mut self.context, placement, anonymous(len, prot, flags)?, &self.limits)
    }

    fn protect(&mut self, addr: u64, pages: u64, prot: u32) -> Result<(), Errno> {
        self.mm.mprotect(&mut self.context, addr, pages * PAGE, prot, &self.limits)
    }

    fn unmap(&mut self, addr: u64, pages: u64) -> Result<(), Errno> {
        self.mm.munmap(&mut self.context, addr, pages * PAGE)
    }

    fn remap(&mut self, addr: u64, old: u64, new: u64, flags: u32, to: u64) -> Result<u64, Errno> {
        let request = checked(addr, old * PAGE, new * PAGE, flags, to)?;
        self.mm.remap(&mut self.context, request, &self.limits)
    }

    /// Layout and pages agree.
    fn check(&self) {
        let mut ours: Vec<(u64, u64, Prot)> = Vec::new();
        for vma in self.mm.lock().tree.iter().filter(|vma| !vma.is_special()) {
            match ours.last_mut() {
                Some(last) if last.1 == vma.start && last.2 == vma.prot => last.1 = vma.end,
                _ => ours.push((vma.start, vma.end, vma.prot)),
            }
        }
        assert_eq!(ours, self.space.regions());
    }

    fn maps(&self) -> String {
        String::from_utf8(self.mm.maps(&|_| Vec::new())).expect("text")
    }
}

#[test]
fn layout_and_host_agree_whatever_happens() {
    for seed in 1..40 {
        let mut dice = Dice::new(seed);
        let mut guest = Guest::new();
        let base = 0x1000_0000;
        for _ in 0..200 {
            let addr = base + dice.below(64) * PAGE;
            let pages = 1 + dice.below(10);
            let prot = [0, 1, RW, 5][dice.below(4) as usize];
            if dice.below(6) == 0 {
                guest.space.fail_next(Errno::ENOMEM);
            }
            let kind = if dice.below(3) == 0 { MAP_SHARED } else { MAP_PRIVATE };
            // Whether each one succeeds is not the question here.
            let _ = match dice.below(8) {
                0 => guest.map(0, pages, prot, kind).map(drop),
                1 => guest.map(addr, pages, prot, kind | MAP_FIXED).map(drop),
                2 => guest.map(addr, pages, prot, kind | MAP_FIXED_NOREPLACE).map(drop),
                3 => guest.unmap(addr, pages),
                4 => guest.protect(addr, pages, prot),
                5 => guest.remap(addr, pages, 1 + dice.below(10), MREMAP_MAYMOVE, 0).map(drop),
                6 => {
                    let to = base + dice.below(64) * PAGE;
                    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
                    guest.remap(addr, pages, 1 + dice.below(10), flags, to).map(drop)
                }
                _ => guest.remap(addr, pages, pages, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0).map(drop),
            };
            guest.check();
        }
    }
}

#[test]
fn mmap_refuses_as_linux_does() {
    let mut guest = Guest::new();
    assert_eq!(guest.map(0, 0, RW, MAP_PRIVATE), Err(Errno::EINVAL));
    assert_eq!(guest.map(0x1234_5678, 1, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::EINVAL));
    assert_eq!(guest.map(0x1000, 1, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::EPERM));
    assert_eq!(guest.map(0x7fff_ffff_f000, 1, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::ENOMEM));
    assert_eq!(guest.map(0, 1, RW, 0), Err(Errno::EINVAL));
    assert_eq!(guest.map(0, 1 << 50, RW, MAP_PRIVATE), Err(Errno::ENOMEM));
    let there = guest.map(0, 1, RW, MAP_PRIVATE).expect("room");
    assert_eq!(guest.map(there, 1, RW, MAP_PRIVATE | MAP_FIXED_NOREPLACE), Err(Errno::EEXIST));
}

#[test]
fn the_stub_and_the_vdso_cannot_be_replaced() {
    let mut guest = Guest::new();
    for addr in [STUB_START, STUB_END - PAGE, FAKE_VDSO, FAKE_VDSO - PAGE] {
        assert_eq!(guest.map(addr, 1, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::ENOMEM));
        guest.space.take_log();
        assert_eq!(guest.unmap(addr, 1), Ok(()));
        assert_eq!(guest.protect(addr, 1, RW), Err(Errno::EACCES));
        assert_eq!(guest.remap(addr, 1, 2, MREMAP_MAYMOVE, 0), Err(Errno::EFAULT));
        let advised = guest.mm.madvise(&mut guest.context, addr, PAGE, madv::DONTNEED);
        assert_eq!(advised, Err(Errno::EINVAL));
        assert_eq!(guest.space.take_log(), Vec::<String>::new(), "the host must not hear of it");
    }
    let target = guest.map(0, 1, RW, MAP_PRIVATE).expect("room");
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    assert_eq!(guest.remap(target, 1, 1, flags, STUB_END - PAGE), Err(Errno::ENOMEM));
    assert!(guest.maps().contains("[vdso]") && !guest.maps().contains("[stub]"));
}

#[test]
fn unmapping_everything_goes_around_what_is_not_the_guests() {
    let mut guest = Guest::new();
    guest.map(STUB_START - 4 * PAGE, 4, RW, MAP_PRIVATE | MAP_FIXED).expect("room");
    guest.map(STUB_END, 4, RW, MAP_PRIVATE | MAP_FIXED).expect("room");
    guest.space.take_log();
    guest.mm.munmap(&mut guest.context, 0, 0x7fff_ffff_f000).expect("all of it");
    assert_eq!(guest.space.take_log().len(), 2);
    assert_eq!(guest.space.regions(), vec![]);
}

#[test]
fn low_memory_is_below_two_gigabytes() {
    let mut guest = Guest::new();
    let addr = guest.map(0, 16, RW, MAP_PRIVATE | MAP_32BIT).expect("room");
    assert!(addr + 16 * PAGE <= 0x8000_0000);
}

#[test]
fn writable_is_known_and_forgotten() {
    let mut guest = Guest::new();
    let addr = guest.map(0, 4, RW, MAP_PRIVATE).expect("room");
    assert!(guest.mm.is_writable(addr, 4 * PAGE));
    assert!(guest.mm.is_writable(addr + 8, 8), "from memory");
    assert!(!guest.mm.is_writable(addr + 8, 4 * PAGE));
    guest.protect(addr, 2, 1).expect("mapped");
    assert!(!guest.mm.is_writable(addr + 8, 8));
    assert!(guest.mm.is_writable(addr + 2 * PAGE, 8));
    guest.unmap(addr, 4).expect("mapped");
    assert!(!guest.mm.is_writable(addr + 2 * PAGE, 8));
    assert!(!guest.mm.is_writable(u64::MAX - 3, 8));
    assert!(!guest.mm.is_writable(STUB_START, 8));
}

#[test]
fn the_heap_grows_and_shrinks() {
    let mut guest = Guest::new();
    guest.mm.set_brk_start(0x5000_0000);
    let brk = |guest: &mut Guest, to| guest.mm.brk(&mut guest.context, to, &guest.limits);
    assert_eq!(brk(&mut guest, 0), 0x5000_0000);
    assert_eq!(brk(&mut guest, 0x5000_2345), 0x5000_2345);
    assert!(guest.mm.is_writable(0x5000_2ff0, 16));
    assert!(guest.maps().contains("[heap]"));
    assert_eq!(brk(&mut guest, 0x5000_1000), 0x5000_1000);
    assert!(!guest.mm.is_writable(0x5000_2000, 1));
    guest.map(0x5000_4000, 1, RW, MAP_PRIVATE | MAP_FIXED).expect("room");
    assert_eq!(brk(&mut guest, 0x5000_5000), 0x5000_1000, "something is in the way");
    guest.check();
}

#[test]
fn limits_hold() {
    let mut guest = Guest::new();
    guest.limits.address_space = 10 * PAGE;
    let addr = guest.map(0, 8, RW, MAP_PRIVATE).expect("within the limit");
    assert_eq!(guest.map(0, 3, RW, MAP_PRIVATE), Err(Errno::ENOMEM));
    // Replacing does not add.
    assert_eq!(guest.map(addr, 8, RW, MAP_PRIVATE | MAP_FIXED), Ok(addr));
    guest.limits = MemoryLimits { data: 8 * PAGE, ..guest.limits };
    guest.limits.address_space = u64::MAX;
    assert_eq!(guest.map(0, 1, RW, MAP_PRIVATE), Err(Errno::ENOMEM));
    guest.map(0, 1, 1, MAP_PRIVATE).expect("read-only memory is no data");
}

#[test]
fn locking_is_counted() {
    let mut guest = Guest::new();
    let addr = guest.map(0, 100, RW, MAP_PRIVATE).expect("room");
    let lock = |guest: &mut Guest, pages: u64| {
        guest.mm.mlock(&mut guest.context, addr, pages * PAGE, LockFault::Now, &guest.limits)
    };
    assert_eq!(lock(&mut guest, 65), Err(Errno::ENOMEM));
    assert_eq!(lock(&mut guest, 40), Ok(()));
    assert_eq!(lock(&mut guest, 64), Ok(()), "what is locked already counts once");
    assert_eq!(guest.mm.usage().locked, 64 * PAGE);
    let advised = guest.mm.madvise(&mut guest.context, addr, PAGE, madv::DONTNEED);
    assert_eq!(advised, Err(Errno::EINVAL));
    guest.mm.munlock(addr, 64 * PAGE).expect("mapped");
    assert_eq!(guest.mm.usage().locked, 0);
}

#[test]
fn a_moved_mapping_keeps_its_content() {
    let mut guest = Guest::new();
    let addr = guest.map(0, 2, RW, MAP_PRIVATE).expect("room");
    guest.map(addr + 2 * PAGE, 1, 1, MAP_PRIVATE | MAP_FIXED).expect("in the way");
    let space = Arc::clone(guest.mm.space());
    assert_eq!(space.write(addr + PAGE, b"kept"), 4);
    assert_eq!(guest.remap(addr, 2, 4, 0, 0), Err(Errno::ENOMEM), "no room to grow in place");
    let moved = guest.remap(addr, 2, 4, MREMAP_MAYMOVE, 0).expect("room elsewhere");
    let mut buf = [0; 4];
    assert_eq!(space.read(moved + PAGE, &mut buf), 4);
    assert_eq!(&buf, b"kept");
    guest.check();
}

#[test]
fn fork_leaves_out_what_it_was_told_to() {
    let mut guest = Guest::new();
    let first = guest.map(0, 4, RW, MAP_PRIVATE).expect("room");
    guest.mm.madvise(&mut guest.context, first, PAGE, madv::DONTFORK).expect("mapped");
    let (child, _) = guest.mm.fork(&mut guest.context).expect("the fake forks");
    assert!(!child.is_writable(first, 1));
    assert!(child.is_writable(first + PAGE, 3 * PAGE));
}

#[test]
fn sealed_memory_stays() {
    let mut guest = Guest::new();
    let addr = guest.map(0, 4, RW, MAP_PRIVATE).expect("room");
    guest.mm.mseal(addr + PAGE, PAGE, 0).expect("mapped");
    assert_eq!(guest.unmap(addr, 4), Err(Errno::EPERM));
    assert_eq!(guest.protect(addr, 4, 1), Err(Errno::EPERM));
    assert_eq!(guest.map(addr, 4, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::EPERM));
    assert_eq!(guest.remap(addr + PAGE, 1, 2, MREMAP_MAYMOVE, 0), Err(Errno::EPERM));
    assert_eq!(guest.unmap(addr, 1), Ok(()));
}

#[test]
fn room_for_a_trampoline_is_near_hidden_and_safe() {
    let mut guest = Guest::new();
    let code = guest.map(0x40_0000, 4, 5, MAP_PRIVATE | MAP_FIXED).expect("room");
    let near = guest.mm.lock_to_change().reserve_near(code, 1 << 31, PAGE).expect("room");
    assert!(near.abs_diff(code) < 1 << 31);
    assert_eq!(guest.map(near, 1, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::ENOMEM));
    assert!(!guest.maps().contains("trampoline"));
    assert!(guest.mm.is_patchable(code) && !guest.mm.is_patchable(near));
    assert_eq!(guest.mm.executable_range_containing(code + 5), Some((code, code + 4 * PAGE)));
}

#[test]
fn maps_lines_look_like_linux() {
    let mut guest = Guest::new();
    guest.map(0x40_0000, 2, 5, MAP_PRIVATE | MAP_FIXED).expect("room");
    let shared = guest.map(0x50_0000, 1, RW, MAP_SHARED | MAP_FIXED).expect("room");
    let maps = guest.maps();
    assert!(maps.starts_with("00400000-00402000 r-xp 00000000 00:00 0\n"), "{maps}");
    let line = maps.lines().find(|line| line.starts_with(&format!("{shared:08x}"))).expect("shown");
    assert!(line.contains(" rw-s ") && line.ends_with("/dev/zero (deleted)"));
    assert_eq!(line.find('/'), Some(73));
}

#[test]
fn the_host_hears_of_huge_ranges_in_pieces() {
    let mut guest = Guest::new();
    let terabytes = 3 << (40 - 12);
    let addr = guest.map(0, terabytes, 0, MAP_PRIVATE | MAP_NORESERVE).expect("room");
    guest.protect(addr, terabytes, 1).expect("mapped");
    let pieces = (3 << 40) / platform::MEMORY_CALL_MAX;
    assert_eq!(guest.space.take_log().len() as u64, 2 * pieces);
    guest.check();
    guest.space.fail_next(Errno::ENOMEM);
    assert_eq!(guest.map(0, terabytes, 0, MAP_PRIVATE), Err(Errno::ENOMEM));
    guest.check();
    guest.unmap(addr, terabytes).expect("mapped");
    guest.check();
}
