//! Which mappings does an address space have, and where is room for another?
//!
//! Key type: [`VmaTree`]. Pure bookkeeping: nothing here reaches the host. The caller has checked ranges and rights.

use std::collections::BTreeMap;

use linux_abi::mm::Prot;

use super::vma::{Vma, VmaFlags};

/// Sums over all mappings that are the guest's, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Everything (`VmSize`, `RLIMIT_AS`).
    pub size: u64,
    /// Private and writable (`VmData`, `RLIMIT_DATA`).
    pub data: u64,
    /// Stacks (`VmStk`).
    pub stack: u64,
    /// Of these, the program's, which is set aside whole.
    pub set_aside: u64,
    /// Executable and not writable (`VmExe` and `VmLib`).
    pub exec: u64,
    /// Locked (`VmLck`, `RLIMIT_MEMLOCK`), without the program's stack: it is set aside whole, where Linux counts what has been used.
    pub locked: u64,
}

/// The mappings of one address space.
///
/// INVARIANT: the key is the mapping's start; mappings do not overlap; two that could be merged are.
#[derive(Clone)]
pub struct VmaTree {
    map: BTreeMap<u64, Vma>,
    totals: Totals,
    specials: usize,
    /// Mappings are placed from here downwards.
    top: u64,
    /// PERF: a search need not look above this unless for no more than `hole` bytes.
    /// INVARIANT: no gap between here and `top` is larger than `hole`.
    search_from: u64,
    hole: u64,
}

impl VmaTree {
    /// An empty tree; default placement starts below `top`.
    #[must_use]
    pub fn new(top: u64) -> Self {
        let (map, totals) = (BTreeMap::new(), Totals::default());
        Self { map, totals, specials: 0, top, search_from: top, hole: 0 }
    }

    /// Default placement starts below `top` from now on.
    pub fn set_top(&mut self, top: u64) {
        (self.top, self.search_from, self.hole) = (top, top, 0);
    }

    /// Sums.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Number of mappings that are the guest's.
    #[must_use]
    pub fn count(&self) -> usize {
        self.map.len() - self.specials
    }

    /// All mappings, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.map.values()
    }

    /// The mapping that contains `addr`.
    #[must_use]
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..=addr).next_back().map(|(_, vma)| vma).filter(|vma| vma.end > addr)
    }

    /// The mappings that begin at `addr` or above it, ascending.
    pub fn from(&self, addr: u64) -> impl Iterator<Item = &Vma> {
        self.map.range(addr..).map(|(_, vma)| vma)
    }

    /// The mapping that begins last below `addr`.
    #[must_use]
    pub fn below(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..addr).next_back().map(|(_, vma)| vma)
    }

    /// The mappings that overlap the range, ascending.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |vma| vma.start);
        self.map.range(first..end.max(first)).map(|(_, vma)| vma)
    }

    /// Nothing is mapped in the range.
    #[must_use]
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// As [`VmaTree::is_free`], and no stack above wants the range as its guard.
    #[must_use]
    pub fn is_roomy(&self, start: u64, end: u64) -> bool {
        self.is_free(start, end)
            && self.map.range(end..).next().is_none_or(|(_, next)| next.guarded_start() >= end)
    }

    /// Something that the guest may not touch is in the range.
    #[must_use]
    pub fn has_special(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).any(Vma::is_special)
    }

    /// Something sealed is in the range.
    #[must_use]
    pub fn has_sealed(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).any(|vma| vma.flags.contains(VmaFlags::SEALED))
    }

    /// All of the range is mapped.
    #[must_use]
    pub fn covers(&self, start: u64, end: u64) -> bool {
        self.covered_to(start, end) >= end
    }

    /// How far from `start` on everything is mapped: `end` at most.
    #[must_use]
    pub fn covered_to(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        for vma in self.overlapping(start, end) {
            if vma.start > at {
                break;
            }
            at = vma.end;
        }
        at.min(end)
    }

    /// Enters a mapping where nothing is, and merges it with its neighbours.
    pub fn insert(&mut self, vma: Vma) {
        debug_assert!(!vma.is_empty() && self.is_free(vma.start, vma.end));
        let (start, end) = (vma.start, vma.end);
        self.put(vma);
        self.merge_around(start, end);
    }

    /// Takes all mappings out of the range, cutting those that reach beyond it; answers the pieces.
    /// Special mappings stay.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        let hit: Vec<u64> =
            self.overlapping(start, end).filter(|vma| !vma.is_special()).map(|vma| vma.start).collect();
        let mut pieces = Vec::with_capacity(hit.len());
        for key in hit {
            let Some(whole) = self.take(key) else { continue };
            if whole.start < start {
                self.put(whole.clipped(whole.start, start));
            }
            if whole.end > end {
                self.put(whole.clipped(end, whole.end));
            }
            pieces.push(whole.clipped(start, end));
        }
        if !pieces.is_empty() {
            self.note_hole(start);
        }
        pieces
    }

    /// Changes all mappings in the range, cutting those that reach beyond it. Special mappings stay as they are.
    pub fn update(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        for mut piece in self.remove(start, end) {
            change(&mut piece);
            self.put(piece);
        }
        self.merge_around(start, end);
    }

    /// How many mappings more there would be if the range were cut out of those that reach beyond it.
    #[must_use]
    pub fn cuts(&self, start: u64, end: u64) -> usize {
        let inside = |addr: u64| self.find(addr).is_some_and(|vma| vma.start < addr);
        usize::from(inside(start)) + usize::from(inside(end))
    }

    /// The highest place with `len` bytes of room, by default placement. `align`: of its start.
    pub fn place(&mut self, len: u64, low: u64, align: u64) -> Option<u64> {
        let from = if len > self.hole { self.search_from } else { self.top };
        let (found, hole) = self.search_down(len, low, from, align);
        if let Some(addr) = found {
            // What lies between the new mapping and the place where the search began is known now.
            self.hole = if from == self.top { hole } else { self.hole.max(hole) };
            self.search_from = addr + len;
        }
        found
    }

    /// The highest place with `len` bytes of room between `low` and `high`.
    #[must_use]
    pub fn gap_below(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        self.search_down(len, low, high, 1).0
    }

    /// Also answers the largest gap that was passed over.
    fn search_down(&self, len: u64, low: u64, high: u64, align: u64) -> (Option<u64>, u64) {
        let fits = |floor: u64, ceiling: u64| {
            let addr = ceiling.checked_sub(len)? / align * align;
            (addr >= floor).then_some(addr)
        };
        let (mut ceiling, mut hole) = (high, 0);
        if let Some((_, next)) = self.map.range(high..).next() {
            ceiling = ceiling.min(next.guarded_start());
        }
        for vma in self.map.range(..high).rev().map(|(_, vma)| vma) {
            let floor = vma.end.max(low);
            if let Some(addr) = fits(floor, ceiling) {
                return (Some(addr), hole.max(ceiling - addr - len));
            }
            hole = hole.max(ceiling.saturating_sub(vma.end));
            ceiling = ceiling.min(vma.guarded_start());
            if ceiling <= low {
                return (None, hole);
            }
        }
        let found = fits(low, ceiling);
        (found, found.map_or(hole, |addr| hole.max(ceiling - addr - len)))
    }

    /// The lowest place with `len` bytes of room between `low` and `high`.
    #[must_use]
    pub fn gap_above(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut floor = low;
        for vma in self.overlapping(low, high) {
            if vma.guarded_start().checked_sub(floor).is_some_and(|room| room >= len) {
                return Some(floor);
            }
            floor = floor.max(vma.end);
        }
        let after = self.map.range(high..).next().map_or(high, |(_, next)| next.guarded_start().min(high));
        (floor.checked_add(len)? <= after).then_some(floor)
    }

    fn put(&mut self, vma: Vma) {
        self.account(&vma, u64::wrapping_add);
        self.specials += usize::from(vma.is_special());
        self.map.insert(vma.start, vma);
    }

    fn take(&mut self, key: u64) -> Option<Vma> {
        let vma = self.map.remove(&key)?;
        self.account(&vma, u64::wrapping_sub);
        self.specials -= usize::from(vma.is_special());
        Some(vma)
    }

    fn account(&mut self, vma: &Vma, change: fn(u64, u64) -> u64) {
        if vma.is_special() {
            return;
        }
        let len = vma.len();
        let add = |sum: &mut u64, counts: bool| {
            if counts {
                *sum = change(*sum, len);
            }
        };
        let totals = &mut self.totals;
        add(&mut totals.size, true);
        add(&mut totals.data, vma.is_data());
        add(&mut totals.stack, vma.flags.intersects(VmaFlags::STACKS));
        add(&mut totals.set_aside, vma.flags.contains(VmaFlags::STACK));
        add(&mut totals.exec, vma.prot.contains(Prot::EXEC) && !vma.prot.contains(Prot::WRITE));
        add(&mut totals.locked, vma.flags & (VmaFlags::LOCKED | VmaFlags::STACK) == VmaFlags::LOCKED);
    }

    /// Merges what can be merged from the mapping before `start` to the one at `end`.
    fn merge_around(&mut self, start: u64, end: u64) {
        let mut key = match self.map.range(..start).next_back() {
            Some((&key, _)) => key,
            None => start,
        };
        while key <= end {
            let Some((&first, vma)) = self.map.range(key..=end).next() else { return };
            let next = self.map.get(&vma.end);
            match next.filter(|next| vma.can_merge(next)).map(|next| (next.start, next.end)) {
                Some((next_key, next_end)) => {
                    self.take(next_key);
                    if let Some(mut merged) = self.take(first) {
                        merged.end = next_end;
                        self.put(merged);
                    }
                    key = first;
                }
                None => key = first + 1,
            }
        }
    }

    /// Something around `addr` was unmapped.
    fn note_hole(&mut self, addr: u64) {
        let below = self.map.range(..addr).next_back().map_or(0, |(_, vma)| vma.end);
        let above = self.map.range(addr..).next().map_or(self.top, |(_, vma)| vma.start);
        if above > self.search_from {
            self.hole = self.hole.max(above - below.min(above));
        }
    }
}
