//! What does a file in a tmpfs take of its file system?
//!
//! Key types: [`Charged`] (what is counted for a file), [`Held`] (which pages of a memory file are there, as far as that is known without the
//! host).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use platform::MapSource;
use platform::host::file;

use super::{PAGE, Shared};
use crate::mm::Gate;

/// Most stretches of allocated pages that are remembered.
const ALLOCATED_MAX: usize = 32;

/// What a file system counts for a file, in bytes; and the host's file, once guests have it mapped: they fill its holes without
/// asking anybody, so that what there is has to be asked of the host.
#[derive(Default)]
pub(super) struct Charged {
    bytes: AtomicU64,
    mapped: OnceLock<Arc<Gate>>,
    is_gone: AtomicBool,
}

impl Charged {
    pub(super) fn get(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, shared: &Shared, bytes: u64) {
        shared.charge(self.bytes.swap(bytes, Ordering::AcqRel), bytes);
    }

    /// What stands before its holes, once it has been mapped.
    pub(super) fn gate(&self) -> Option<Arc<Gate>> {
        self.mapped.get().cloned()
    }

    /// It has been mapped; `true` for the first time.
    pub(super) fn set_mapped(&self, gate: Arc<Gate>) -> bool {
        self.mapped.set(gate).is_ok()
    }

    /// Brings it up to date, if guests may have filled holes. Answers the bytes of holes that they may fill by themselves.
    pub(super) fn refresh(&self, shared: &Shared) -> u64 {
        let Some(gate) = self.mapped.get() else { return 0 };
        let Ok((size, blocks)) = file::size_and_blocks(&**gate.file()) else { return 0 };
        let there = blocks.saturating_mul(512);
        self.set(shared, there);
        if self.is_gone.load(Ordering::Acquire) {
            self.set(shared, 0);
            return 0;
        }
        if gate.is_open() { pages(size).saturating_sub(there) } else { 0 }
    }

    /// The content goes. It may be that somebody refreshes it at this moment.
    pub(super) fn end(&self, shared: &Shared) {
        self.is_gone.store(true, Ordering::Release);
        self.set(shared, 0);
    }
}

/// Which pages of a memory file are there.
///
/// The host tells pages that were allocated and not written since (`fallocate(2)`) from holes by their number only, so those are remembered.
pub(super) struct Held {
    /// All up to the end, and none behind it.
    is_dense: bool,
    allocated: Vec<(u64, u64)>,
}

impl Held {
    pub(super) const fn new(is_dense: bool) -> Self {
        Self { is_dense, allocated: Vec::new() }
    }

    pub(super) const fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// Bytes have been written from `offset` on to a file of `size` bytes.
    pub(super) fn wrote(&mut self, offset: u64, size: u64) {
        self.is_dense &= offset <= pages(size);
    }

    /// The size is another.
    pub(super) fn truncated(&mut self, old: u64, new: u64) {
        self.is_dense = new == 0 || self.is_dense && pages(new) <= pages(old);
        self.forget(pages(new), u64::MAX);
    }

    /// `fallocate(2)`.
    pub(super) fn allocated(&mut self, start: u64, end: u64) {
        self.is_dense = false;
        let (mut start, mut end) = (start / PAGE * PAGE, pages(end));
        self.allocated.retain(|&(from, to)| {
            let is_apart = to < start || end < from;
            if !is_apart {
                (start, end) = (start.min(from), end.max(to));
            }
            is_apart
        });
        if self.allocated.len() < ALLOCATED_MAX {
            self.allocated.push((start, end));
        }
    }

    /// A hole has been made.
    pub(super) fn punched(&mut self, start: u64, end: u64) {
        self.is_dense = false;
        self.forget(pages(start), end / PAGE * PAGE);
    }

    fn forget(&mut self, start: u64, end: u64) {
        let left = |&(from, to): &(u64, u64)| [(from, to.min(start)), (from.max(end), to)];
        let left: Vec<_> = self.allocated.iter().flat_map(left).filter(|(from, to)| from < to).collect();
        self.allocated = left;
        self.allocated.truncate(ALLOCATED_MAX);
    }

    /// How far one comes from the start of a range if `free` bytes of what is not there can be added.
    pub(super) fn reach(&self, source: &MapSource, size: u64, range: (u64, u64), free: u64) -> u64 {
        let (mut at, end) = (range.0, pages(range.1));
        let mut left = free / PAGE * PAGE;
        while at < end {
            let (until, is_there) = self.piece(source, size, at);
            let until = until.min(end);
            if !is_there {
                let len = (until - at).min(left);
                left -= len;
                if len < until - at {
                    return at + len;
                }
            }
            at = until;
        }
        at
    }

    /// How far it is like `at`, and whether it is there.
    fn piece(&self, source: &MapSource, size: u64, at: u64) -> (u64, bool) {
        if let Some(&(_, end)) = self.allocated.iter().find(|(start, end)| (*start..*end).contains(&at)) {
            return (end, true);
        }
        let next = self.allocated.iter().map(|&(start, _)| start).filter(|&start| start > at).min();
        let next = next.unwrap_or(u64::MAX);
        if self.is_dense && at < size {
            return (pages(size).min(next), true);
        }
        match file::stretch(&**source, at) {
            (true, end) => (pages(end).max(at + PAGE).min(next), true),
            (false, end) => ((end / PAGE * PAGE).max(at + PAGE).min(next), false),
        }
    }
}

pub(super) fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE).saturating_mul(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 1 << 20;

    fn file(size: u64) -> MapSource {
        let file = file::new_memory_file("test").expect("a memory file");
        file::truncate(&file, size).expect("a size");
        Arc::new(file)
    }

    #[test]
    fn what_is_there_takes_no_room() {
        let source = file(END);
        file::write_at(&*source, &[1], 2 * PAGE).expect("a page");
        let held = Held::new(false);
        assert_eq!(held.reach(&source, END, (0, END), 0), 0);
        assert_eq!(held.reach(&source, END, (0, END), 2 * PAGE), 3 * PAGE);
        assert_eq!(held.reach(&source, END, (2 * PAGE, 3 * PAGE), 0), 3 * PAGE);
        assert_eq!(held.reach(&source, END, (END, END + 2 * PAGE), PAGE), END + PAGE);
    }

    #[test]
    fn what_has_been_allocated_is_there_until_it_is_punched_or_cut() {
        let source = file(0);
        let mut held = Held::new(true);
        held.allocated(PAGE, 2 * PAGE);
        held.allocated(2 * PAGE, 5 * PAGE - 1);
        assert_eq!(held.allocated, [(PAGE, 5 * PAGE)]);
        assert_eq!(held.reach(&source, 0, (PAGE, 6 * PAGE), 0), 5 * PAGE);
        held.punched(2 * PAGE - 1, 3 * PAGE + 1);
        assert_eq!(held.allocated, [(PAGE, 2 * PAGE), (3 * PAGE, 5 * PAGE)]);
        held.truncated(0, 4 * PAGE - 1);
        assert_eq!(held.allocated, [(PAGE, 2 * PAGE), (3 * PAGE, 4 * PAGE)]);
        assert!(!held.is_dense());
        held.truncated(4 * PAGE, 0);
        assert!(held.is_dense() && held.allocated.is_empty());
    }

    #[test]
    fn writes_that_follow_each_other_leave_no_hole() {
        let mut held = Held::new(true);
        held.wrote(0, 0);
        held.wrote(100, 100);
        assert!(held.is_dense());
        held.wrote(2 * PAGE + 1, PAGE + 1);
        assert!(!held.is_dense());
    }
}
