//! `mmap(2)` and `munmap(2)`: where does a mapping go, what replaces what?
//!
//! Key types: [`MapRequest`], [`MapTarget`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linux_abi::mm::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGETLB, MAP_LOCKED,
    MAP_NONBLOCK, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK,
    MAP_TYPE, Prot,
};
use platform::host::file as host_file;
use platform::{Context, MemoryCall};

use super::gate::Gate;
use super::host;
use super::layout::{self, END, HUGE_PAGE, LOW_END, LOW_START, MIN_ADDR, PAGE};
use super::lock::populate;
use super::vma::{Attachment, Backing, Vma, VmaFlags, is_data};
use super::{Inner, MemoryLimits, MemoryManager};
use crate::Errno;
use crate::task::Task;
use crate::vfs::{Mappable, OpenFile, Pages};

/// Flags that `MAP_SHARED_VALIDATE` knows. LINUX: `LEGACY_MAP_MASK`.
const LEGACY_MAP_MASK: u32 = MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_32BIT
    | MAP_GROWSDOWN
    | linux_abi::mm::MAP_DENYWRITE
    | linux_abi::mm::MAP_EXECUTABLE
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | linux_abi::mm::MAP_HUGE_SIZES
    | linux_abi::mm::MAP_UNINITIALIZED;
/// `MS_NOEXEC` of a mount.
const MS_NOEXEC: u32 = 8;

/// What is to be mapped.
pub enum MapTarget {
    /// Anonymous memory.
    Anonymous,
    /// A file from `offset` on.
    File {
        /// The open file.
        file: Arc<OpenFile>,
        /// In bytes.
        offset: u64,
    },
}

/// The arguments of `mmap(2)`.
pub struct MapRequest {
    /// Wanted address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`; unknown bits are ignored, as Linux does.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
    /// What.
    pub target: MapTarget,
}

/// A mapping that is ready to be placed: everything about it but its address.
pub(super) struct Blueprint {
    pub(super) len: u64,
    pub(super) prot: Prot,
    pub(super) max_prot: Prot,
    pub(super) flags: VmaFlags,
    pub(super) backing: Backing,
    /// The host's pages; `None` for private anonymous memory.
    pub(super) pages: Option<Pages>,
    pub(super) populate: bool,
    /// `MAP_*` flags for the host besides the obvious; for private anonymous memory.
    pub(super) host_flags: u32,
    /// Of a mapping that there is: what holds for new ones does not concern it.
    pub(super) is_copy: bool,
}

impl Blueprint {
    /// What stands before the holes of its file.
    fn gate(&self) -> Option<Arc<Gate>> {
        self.backing.gate()
    }
}

/// Where a mapping shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// There if there is room, else anywhere. 0: anywhere.
    Hint(u64),
    /// Exactly there, replacing what is there.
    Fixed(u64),
    /// Exactly there, EEXIST if something is there.
    FixedNoReplace(u64),
    /// Below 2 GiB.
    Low,
}

impl MemoryManager {
    /// `mmap(2)`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn mmap(
        &self,
        context: &mut dyn Context,
        task: &Arc<Task>,
        request: MapRequest,
        limits: &MemoryLimits,
    ) -> Result<u64, Errno> {
        let (placement, len) = check_place(&request)?;
        self.check_room(placement, len, request.flags, limits)?;
        let blueprint = match request.target {
            MapTarget::Anonymous => anonymous(len, request.prot, request.flags)?,
            MapTarget::File { file, offset } => {
                of_file(task, file, offset, len, request.prot, request.flags)?
            }
        };
        self.establish(context, placement, blueprint, limits)
    }

    /// What Linux looks at before it looks at what is to be mapped.
    fn check_room(
        &self,
        placement: Placement,
        len: u64,
        flags: u32,
        limits: &MemoryLimits,
    ) -> Result<(), Errno> {
        let inner = self.lock();
        if let Placement::FixedNoReplace(addr) = placement
            && !inner.tree.is_free(addr, addr + len)
        {
            return Err(Errno::EEXIST);
        }
        let asks = flags & MAP_LOCKED != 0;
        if asks && limits.locked == 0 {
            return Err(Errno::EPERM);
        }
        if (asks || !inner.lock_future.is_empty()) && !inner.may_lock(len, limits) {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Maps a System V segment.
    ///
    /// # Errors
    /// As `shmat(2)`.
    pub fn attach(
        &self,
        context: &mut dyn Context,
        addr: u64,
        replace: bool,
        prot: Prot,
        segment: SharedSegment,
        limits: &MemoryLimits,
    ) -> Result<u64, Errno> {
        let len = layout::page_up(segment.len).filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
        let end = addr.checked_add(len).filter(|&end| end <= END).ok_or(Errno::EINVAL)?;
        if addr != 0 && !replace && !self.lock().tree.is_free(addr, end) {
            return Err(Errno::EINVAL);
        }
        if addr != 0 && addr < MIN_ADDR {
            return Err(Errno::EPERM);
        }
        let placement = if addr == 0 { Placement::Hint(0) } else { Placement::Fixed(addr) };
        let (mut max_prot, mut flags) = (Prot::all(), VmaFlags::SHARED);
        if !segment.writable {
            max_prot -= Prot::WRITE;
            flags |= VmaFlags::READ_SHARED;
        }
        let blueprint = Blueprint {
            len,
            prot,
            max_prot,
            flags,
            backing: Backing::Memory {
                id: next_memory_id(),
                offset: 0,
                size: len,
                name: segment.name,
                attachment: Some(segment.attachment),
            },
            pages: Some(segment.pages),
            populate: false,
            host_flags: 0,
            is_copy: false,
        };
        self.establish(context, placement, blueprint, limits)
    }

    /// Places a mapping and makes it.
    pub(super) fn establish(
        &self,
        context: &mut dyn Context,
        placement: Placement,
        blueprint: Blueprint,
        limits: &MemoryLimits,
    ) -> Result<u64, Errno> {
        // LOCK: files are let go of outside the lock, since the last one closes: what is declared before the guard goes after it,
        // on each way out.
        let mut gone = Vec::new();
        let mut blueprint = blueprint;
        let gate = blueprint.gate();
        let turn = gate.as_ref().map(|gate| {
            let turn = gate.turn();
            self.has_gates.store(true, Ordering::Relaxed);
            gate.admit(&self.me);
            turn
        });
        let mut inner = self.lock_to_change();
        if !blueprint.is_copy {
            blueprint.flags |= inner.lock_future;
        }
        blueprint.populate |= blueprint.flags.contains(VmaFlags::LOCKED);
        blueprint.populate &= !blueprint.flags.contains(VmaFlags::LOCKED_ON_FAULT);
        let addr = inner.choose(placement, &blueprint)?;
        let end = addr + blueprint.len;
        let replaced: u64 = inner.tree.overlapping(addr, end).map(|vma| vma.clipped(addr, end).len()).sum();
        if blueprint.flags.contains(VmaFlags::LOCKED) && !inner.may_lock(blueprint.len, limits) {
            return Err(Errno::EAGAIN);
        }
        let data = is_data(blueprint.prot, blueprint.flags);
        if !inner.may_expand(blueprint.len.saturating_sub(replaced), data, limits) {
            return Err(Errno::ENOMEM);
        }
        let pieces = inner.tree.cuts(addr, end) + 1;
        inner.reserve(pieces)?;
        inner.make(context, addr, &mut blueprint, replaced > 0, &mut gone)?;
        drop((inner, turn));
        if blueprint.populate && gate.is_some_and(|gate| !gate.is_open()) {
            // LINUX: mmap(2) does not fail if the mapping cannot be populated.
            let _ = self.bring_in(context, addr, end);
        }
        Ok(addr)
    }

    /// `munmap(2)`.
    ///
    /// # Errors
    /// EINVAL; ENOMEM for too many pieces; EPERM if sealed.
    pub fn munmap(&self, context: &mut dyn Context, addr: u64, len: u64) -> Result<(), Errno> {
        let len = layout::page_up(len).ok_or(Errno::EINVAL)?;
        if !layout::is_aligned(addr) || len == 0 || addr > END || len > END - addr {
            return Err(Errno::EINVAL);
        }
        // LOCK: files are let go of outside the lock, since the last one closes.
        let mut gone = Vec::new();
        let mut inner = self.lock_to_change();
        inner.unmap(context, addr, addr + len, &mut gone)
    }

    /// `RLIMIT_STACK` was raised while the program runs: its stack is extended as far as there is room at once. On Linux
    /// it would grow when touched.
    pub fn raise_stack_limit(&self, context: &mut dyn Context, limit: u64) {
        let wanted = layout::page_down(limit.clamp(layout::STACK_MIN, layout::STACK_MAX));
        let found = {
            let inner = self.lock();
            let stack = inner.tree.iter().rfind(|vma| vma.flags.contains(VmaFlags::STACK));
            let extended = stack.and_then(|stack| {
                let start = stack.end.checked_sub(wanted).filter(|&start| start >= MIN_ADDR)?;
                (start < stack.start && inner.tree.is_free(start, stack.start)).then_some((start, stack))
            });
            extended.map(|(start, stack)| (start, stack.start - start, stack.prot))
        };
        let Some((start, len, prot)) = found else { return };
        let Ok(mut blueprint) = anonymous(len, prot.bits(), MAP_PRIVATE | MAP_NORESERVE | MAP_STACK) else {
            return;
        };
        blueprint.flags = VmaFlags::STACK;
        let limits = MemoryLimits { address_space: u64::MAX, data: u64::MAX, ..MemoryLimits::default() };
        // The old stack is still there if this fails.
        let _ = self.establish(context, Placement::FixedNoReplace(start), blueprint, &limits);
    }

    /// `shmdt(2)`: unmaps all pieces of the attachment that starts at `addr`; answers the segment's id.
    ///
    /// # Errors
    /// EINVAL if none does.
    pub fn detach(&self, context: &mut dyn Context, addr: u64) -> Result<i32, Errno> {
        // LOCK: files are let go of outside the lock, since the last one closes.
        let mut gone = Vec::new();
        let mut inner = self.lock_to_change();
        // What lies where the attachment at `addr` has put it: which mapping, the memory's size, the segment.
        let piece = |vma: &Vma| match &vma.backing {
            Backing::Memory { id, offset, size, attachment: Some(segment), .. }
                if vma.start.checked_sub(*offset) == Some(addr) =>
            {
                Some((*id, *size, segment.id()))
            }
            _ => None,
        };
        // LINUX: the piece at `addr` itself may be gone already.
        let found = inner.tree.from(addr).find_map(|vma| Some((vma.start, piece(vma)?)));
        let (first, (wanted, size, segment)) = found.ok_or(Errno::EINVAL)?;
        let is_within = |vma: &&Vma| vma.start == first || vma.end - addr <= size;
        let ranges: Vec<(u64, u64)> = inner
            .tree
            .from(first)
            .take_while(is_within)
            .filter(|vma| piece(vma).is_some_and(|(id, ..)| id == wanted))
            .map(|vma| (vma.start, vma.end))
            .collect();
        for (start, end) in ranges {
            // LINUX: `ksys_shmdt` does not ask what came of it.
            let _ = inner.unmap(context, start, end, &mut gone);
        }
        Ok(segment)
    }
}

/// What `shmat(2)` maps.
pub struct SharedSegment {
    /// Size in bytes.
    pub len: u64,
    /// The memory file.
    pub pages: Pages,
    /// As in `/proc/PID/maps`.
    pub name: Arc<str>,
    /// May be mapped writable.
    pub writable: bool,
    /// Counts attachments.
    pub attachment: Arc<dyn Attachment>,
}

impl Inner {
    /// The address for a mapping. LINUX: `get_unmapped_area`.
    pub(super) fn choose(&mut self, placement: Placement, blueprint: &Blueprint) -> Result<u64, Errno> {
        let len = blueprint.len;
        let huge = blueprint.pages.is_none() && len >= HUGE_PAGE && len.is_multiple_of(HUGE_PAGE);
        match placement {
            Placement::Fixed(addr) | Placement::FixedNoReplace(addr) => {
                let end = addr + len;
                if placement == Placement::FixedNoReplace(addr) && !self.tree.is_free(addr, end) {
                    return Err(Errno::EEXIST);
                }
                if self.tree.has_special(addr, end) {
                    return Err(Errno::ENOMEM);
                }
                if self.tree.has_sealed(addr, end) {
                    return Err(Errno::EPERM);
                }
                Ok(addr)
            }
            Placement::Low => self.tree.gap_above(len, LOW_START, LOW_END).ok_or(Errno::ENOMEM),
            Placement::Hint(hint) => {
                let end = hint.checked_add(len).filter(|&end| end <= END);
                if hint != 0
                    && let Some(end) = end
                    && self.tree.is_roomy(hint, end)
                {
                    return Ok(hint);
                }
                let align = if huge { HUGE_PAGE } else { PAGE };
                // Above the usual base is room too, for when all else is full.
                self.tree
                    .place(len, MIN_ADDR, align)
                    .or_else(|| self.tree.gap_below(len, MIN_ADDR, END))
                    .ok_or(Errno::ENOMEM)
            }
        }
    }

    /// Makes the mapping at `addr`. If the host refuses, what was there before may be gone, and then is gone here
    /// too. `gone`: what was replaced, to be dropped outside the lock.
    pub(super) fn make(
        &mut self,
        context: &mut dyn Context,
        addr: u64,
        blueprint: &mut Blueprint,
        replaces: bool,
        gone: &mut Vec<Vma>,
    ) -> Result<(), Errno> {
        let end = addr + blueprint.len;
        let is_gated = blueprint.gate().is_some_and(|gate| !gate.is_open());
        let result = host::call(context, host_call(addr, blueprint, is_gated));
        // A host that failed may or may not have unmapped what was there, or have mapped the first pieces: then it is told to
        // unmap all. Where it cannot even do that (too many pieces), it did nothing the first time either.
        let undo = result.is_err() && (replaces || blueprint.len > host::PIECE_MAX);
        let undone = undo && host::call(context, MemoryCall::Unmap { addr, len: blueprint.len }).is_ok();
        if replaces && (result.is_ok() || undone) {
            gone.append(&mut self.tree.remove(addr, end));
        }
        result?;
        let Blueprint { prot, max_prot, flags, .. } = *blueprint;
        let backing = std::mem::replace(&mut blueprint.backing, Backing::Anonymous);
        let vma = Vma { start: addr, end, prot, max_prot, flags, backing };
        if blueprint.populate && blueprint.pages.is_some() && !is_gated {
            // LINUX: mmap(2) does not fail if the mapping cannot be populated.
            let _ = populate(context, &vma, addr, end);
        }
        self.tree.insert(vma);
        self.note_peak();
        Ok(())
    }

    /// Unmaps whatever of the guest's is in the range. `gone`: what it was, also where the host refuses the rest; to be dropped
    /// outside the lock.
    pub(super) fn unmap(
        &mut self,
        context: &mut dyn Context,
        start: u64,
        end: u64,
        gone: &mut Vec<Vma>,
    ) -> Result<(), Errno> {
        if self.tree.has_sealed(start, end) {
            return Err(Errno::EPERM);
        }
        self.reserve(self.tree.cuts(start, end))?;
        for (from, to) in self.guest_runs(start, end) {
            host::call(context, MemoryCall::Unmap { addr: from, len: to - from })?;
            gone.append(&mut self.tree.remove(from, to));
        }
        Ok(())
    }

    /// The stretches of a range from the first to the last mapping of the guest's, without what is not the guest's.
    fn guest_runs(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut joined = false;
        for vma in self.tree.overlapping(start, end) {
            if vma.is_special() {
                joined = false;
                continue;
            }
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            match runs.last_mut().filter(|_| joined) {
                Some(last) => last.1 = to,
                None => runs.push((from, to)),
            }
            joined = true;
        }
        runs
    }
}

/// The host's call for a mapping.
fn host_call(addr: u64, blueprint: &Blueprint, is_gated: bool) -> MemoryCall<'_> {
    let prot = if is_gated { Prot::empty() } else { blueprint.prot };
    let (len, prot) = (blueprint.len, prot.bits());
    match &blueprint.pages {
        Some(pages) => MemoryCall::MapFile {
            addr,
            len,
            prot,
            // The guest can make the host's `mprotect` by itself, and memory files are open for writing here. A private mapping
            // that nobody writes to shows the file's own pages, and keeps its futexes' place; one that somebody writes to
            // after all gets copies of them.
            shared: blueprint.flags.contains(VmaFlags::SHARED) && blueprint.max_prot.contains(Prot::WRITE),
            file: std::os::fd::AsFd::as_fd(&*pages.source),
            offset: pages.offset,
        },
        None => {
            let populate = if blueprint.populate { MAP_POPULATE } else { 0 };
            MemoryCall::MapAnonymous { addr, len, prot, extra_flags: blueprint.host_flags | populate }
        }
    }
}

/// Checks address and length in Linux's order (`do_mmap`); answers where it shall go and the length in whole pages.
pub(super) fn check_place(request: &MapRequest) -> Result<(Placement, u64), Errno> {
    let MapRequest { addr, len, flags, .. } = *request;
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let len = layout::page_up(len).filter(|&len| len <= END).ok_or(Errno::ENOMEM)?;
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if addr > END - len {
            return Err(Errno::ENOMEM);
        }
        if !layout::is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr < MIN_ADDR {
            return Err(Errno::EPERM);
        }
        let placement = if flags & MAP_FIXED_NOREPLACE != 0 {
            Placement::FixedNoReplace(addr)
        } else {
            Placement::Fixed(addr)
        };
        return Ok((placement, len));
    }
    if flags & MAP_32BIT != 0 {
        return Ok((Placement::Low, len));
    }
    // LINUX: `round_hint_to_min`.
    let hint = if addr == 0 { 0 } else { layout::page_down(addr).max(MIN_ADDR) };
    Ok((Placement::Hint(hint), len))
}

fn common_flags(flags: u32) -> VmaFlags {
    let mut vma_flags = VmaFlags::empty();
    vma_flags.set(VmaFlags::NORESERVE, flags & MAP_NORESERVE != 0);
    vma_flags.set(VmaFlags::LOCKED, flags & MAP_LOCKED != 0);
    vma_flags
}

fn wants_populate(flags: u32) -> bool {
    flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE || flags & MAP_LOCKED != 0
}

/// A blueprint of anonymous memory.
pub(super) fn anonymous(len: u64, prot: u32, flags: u32) -> Result<Blueprint, Errno> {
    if flags & MAP_HUGETLB != 0 {
        // As on a host whose pool of huge pages is empty.
        return Err(Errno::ENOMEM);
    }
    let mut blueprint = Blueprint {
        len,
        prot: Prot::from_bits_truncate(prot),
        max_prot: Prot::all(),
        flags: common_flags(flags),
        backing: Backing::Anonymous,
        pages: None,
        populate: wants_populate(flags),
        // `MAP_STACK` keeps huge pages away from stacks on newer hosts.
        host_flags: flags & (MAP_NORESERVE | MAP_STACK),
        is_copy: false,
    };
    match flags & MAP_TYPE {
        MAP_PRIVATE => {
            blueprint.flags.set(VmaFlags::GROWSDOWN, flags & MAP_GROWSDOWN != 0);
            Ok(blueprint)
        }
        MAP_SHARED if flags & MAP_GROWSDOWN != 0 => Err(Errno::EINVAL),
        MAP_SHARED => {
            let source = host_file::new_memory_file("shared-anonymous")?;
            host_file::truncate(&source, len)?;
            blueprint.pages = Some(Pages { source: Arc::new(source), offset: 0 });
            blueprint.flags |= VmaFlags::SHARED;
            blueprint.backing = Backing::Memory {
                id: next_memory_id(),
                offset: 0,
                size: len,
                name: Arc::from("/dev/zero (deleted)"),
                attachment: None,
            };
            Ok(blueprint)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn next_memory_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A blueprint of a file mapping, with the checks of `do_mmap`.
fn of_file(
    task: &Arc<Task>,
    file: Arc<OpenFile>,
    offset: u64,
    len: u64,
    prot: u32,
    flags: u32,
) -> Result<Blueprint, Errno> {
    if offset.checked_add(len).is_none() || i64::try_from(offset + len).is_err() {
        return Err(Errno::EOVERFLOW);
    }
    let prot = Prot::from_bits_truncate(prot);
    let shared = match flags & MAP_TYPE {
        MAP_PRIVATE => false,
        MAP_SHARED => true,
        MAP_SHARED_VALIDATE if flags & !LEGACY_MAP_MASK & !MAP_TYPE != 0 => return Err(Errno::EOPNOTSUPP),
        MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    if flags & MAP_TYPE != MAP_SHARED_VALIDATE && flags & MAP_HUGETLB != 0 {
        return Err(Errno::EINVAL);
    }
    let mut max_prot = Prot::all();
    let read_shared = shared && !file.is_writable();
    if read_shared {
        if prot.contains(Prot::WRITE) {
            return Err(Errno::EACCES);
        }
        max_prot -= Prot::WRITE;
    }
    if !file.is_readable() {
        return Err(Errno::EACCES);
    }
    let mount_flags = file.location.mount.flags();
    if mount_flags & MS_NOEXEC != 0 {
        if prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        max_prot -= Prot::EXEC;
    }
    let writable = shared && max_prot.contains(Prot::WRITE);
    let mappable = file.ops.map(&file.op(task), offset, len, writable);
    if flags & MAP_GROWSDOWN != 0 && !matches!(mappable, Err(Errno::ENODEV)) {
        return Err(Errno::EINVAL);
    }
    let mappable = match mappable {
        // LINUX: `memfd_check_seals_mmap`: what is sealed against writing can be mapped for reading, for ever.
        Err(Errno::EPERM) if writable && !prot.contains(Prot::WRITE) => {
            max_prot -= Prot::WRITE;
            file.ops.map(&file.op(task), offset, len, false)?
        }
        mappable => mappable?,
    };
    let pages = match mappable {
        Mappable::Pages(pages) => pages,
        Mappable::Anonymous => {
            let kind = if shared { MAP_SHARED } else { MAP_PRIVATE };
            let mut blueprint = anonymous(len, prot.bits(), (flags & !MAP_TYPE) | kind)?;
            if !shared {
                blueprint.flags |= VmaFlags::ZERO;
                blueprint.backing = Backing::File { file: Some(file), offset };
            }
            return Ok(blueprint);
        }
    };
    let mut vma_flags = common_flags(flags);
    vma_flags.set(VmaFlags::SHARED, shared);
    vma_flags.set(VmaFlags::READ_SHARED, read_shared);
    Ok(Blueprint {
        len,
        prot,
        max_prot,
        flags: vma_flags,
        backing: Backing::File { file: Some(file), offset },
        pages: Some(pages),
        populate: wants_populate(flags),
        host_flags: 0,
        is_copy: false,
    })
}

/// A blueprint for the program loader: private, of pages that have been found already.
pub(super) fn of_pages(
    len: u64,
    prot: Prot,
    file: Option<Arc<OpenFile>>,
    offset: u64,
    pages: Pages,
) -> Blueprint {
    Blueprint {
        len,
        prot,
        max_prot: Prot::all(),
        flags: VmaFlags::IMAGE,
        backing: Backing::File { file, offset },
        pages: Some(pages),
        populate: false,
        host_flags: 0,
        is_copy: false,
    }
}
