//! Which entries stay although nobody uses them? Those used lately, within one budget for all trees that share it.
//!
//! Key type: [`DentryCache`]. One belongs to each gofer, which holds a descriptor for every entry of its mounts, and one to
//! all file systems in memory. A file system whose names end without being removed (`proc`, `devpts`) has none: what a dead
//! process or terminal holds would stay with its names. Entries that have lost their names leave at once.
//!
//! The order is a clock's: a hand goes round, and an entry that was used since it came by last gets another round.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Dentry;

/// Entries that one cache keeps, where the host's limit of descriptors allows it.
pub const ENTRIES_MAX: usize = 16384;
/// Absent names that all directories of one cache remember together.
const ABSENT_MAX: usize = 16384;
/// A cache gives up at least so many entries when somebody needs room.
const SHRINK_MIN: usize = 64;
/// Entries that are looked at for absent names when there are too many of those.
const LOOKED_AT: usize = 256;

/// An entry's place while no cache has it.
pub(super) const NOWHERE: usize = usize::MAX;

/// Entries that are kept alive.
pub struct DentryCache {
    limit: usize,
    /// LOCK: leaf; nothing is dropped under it.
    kept: Mutex<Kept>,
    /// How many absent names are remembered.
    absent: AtomicUsize,
}

/// INVARIANT: an entry's `slot` is its index here.
#[derive(Default)]
struct Kept {
    entries: Vec<Arc<Dentry>>,
    hand: usize,
    /// The hand that takes absent names away.
    absent_hand: usize,
}

impl Kept {
    /// The entry that the hand is at, once it has passed those used since it came by last.
    fn advance(&mut self) -> Option<usize> {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let at = self.entries.get(self.hand)?;
            if !at.take_used() {
                return Some(self.hand);
            }
            self.hand += 1;
        }
    }

    fn take(&mut self, slot: usize) -> Arc<Dentry> {
        let taken = self.entries.swap_remove(slot);
        taken.slot().store(NOWHERE, Ordering::Relaxed);
        if let Some(moved) = self.entries.get(slot) {
            moved.slot().store(slot, Ordering::Relaxed);
        }
        taken
    }
}

impl DentryCache {
    /// A cache for at most `limit` entries, and never more than [`ENTRIES_MAX`].
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let limit = limit.clamp(1, ENTRIES_MAX);
        Arc::new(Self { limit, kept: Mutex::default(), absent: AtomicUsize::new(0) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an entry alive, and lets go of one that has not been used for longest.
    pub(super) fn keep(&self, dentry: &Arc<Dentry>) {
        let mut kept = self.kept();
        if dentry.slot().load(Ordering::Relaxed) != NOWHERE {
            return;
        }
        let mut dropped = None;
        let mut slot = kept.entries.len();
        if slot < self.limit {
            kept.entries.push(Arc::clone(dentry));
        } else if let Some(oldest) = kept.advance() {
            slot = oldest;
            let old = std::mem::replace(&mut kept.entries[slot], Arc::clone(dentry));
            old.slot().store(NOWHERE, Ordering::Relaxed);
            kept.hand = slot + 1;
            dropped = Some(old);
        }
        dentry.slot().store(slot, Ordering::Relaxed);
        drop(kept);
        drop(dropped);
    }

    /// Lets go of an entry.
    pub(super) fn forget(&self, dentry: &Dentry) {
        let mut kept = self.kept();
        let slot = dentry.slot().load(Ordering::Relaxed);
        let taken = (slot != NOWHERE).then(|| kept.take(slot));
        drop(kept);
        drop(taken);
    }

    /// Lets go of a quarter of the entries, because what stands behind them is needed; `false`: there are none.
    pub fn shrink(&self) -> bool {
        let mut kept = self.kept();
        let count = (kept.entries.len() / 4).max(SHRINK_MIN).min(kept.entries.len());
        let mut dropped = Vec::with_capacity(count);
        while dropped.len() < count
            && let Some(slot) = kept.advance()
        {
            dropped.push(kept.take(slot));
        }
        drop(kept);
        !dropped.is_empty()
    }

    /// How many it keeps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept().entries.len()
    }

    /// It keeps none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Absent names are remembered, or forgotten again.
    pub(super) fn absent(&self) -> &AtomicUsize {
        &self.absent
    }

    /// There is room for one more absent name; if need be, some of the directories that are kept forget theirs.
    pub(super) fn has_room_for_absent(&self) -> bool {
        if self.absent.load(Ordering::Relaxed) < ABSENT_MAX {
            return true;
        }
        for _ in 0..LOOKED_AT {
            let mut kept = self.kept();
            kept.absent_hand =
                if kept.absent_hand + 1 < kept.entries.len() { kept.absent_hand + 1 } else { 0 };
            let dentry = kept.entries.get(kept.absent_hand).cloned();
            drop(kept);
            let Some(dentry) = dentry else { return false };
            dentry.forget_absent();
            if self.absent.load(Ordering::Relaxed) < ABSENT_MAX {
                return true;
            }
        }
        false
    }
}
