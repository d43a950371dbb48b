//! Advisory locks on files: `flock(2)`, record locks of processes and of open files (`fcntl(2)`). LINUX: fs/locks.c.
//!
//! Key types: [`Locks`] (all of the sandbox), [`LockOwner`], [`LockRange`], [`Conflict`]. Nothing waits here: a caller that
//! may wait does so on [`Locks::changed`] and tries again. A table of descriptors stands for its process, as on Linux.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Inode, OpenFile};
use crate::Errno;
use crate::account::Charge;
use crate::sync::{Events, WaitQueue};

/// What a lock costs in its table. LINUX: ENOLCK where there is no memory for it.
const LOCK_BYTES: usize = 2 * size_of::<Conflict>();

/// Shared or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Many may read.
    Shared,
    /// Nobody else may.
    Exclusive,
}

/// Whose lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOwner {
    /// Record lock of the process with this table of descriptors.
    Process {
        /// [`super::FdTable::id`].
        table: u64,
        /// For `F_GETLK`.
        pid: i32,
    },
    /// Record lock of an open file (`F_OFD_SETLK`).
    OpenFile(u64),
    /// Lock of a whole file by `flock(2)`, which knows nothing of the others.
    Flock(u64),
}

impl LockOwner {
    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Process { table, .. }, Self::Process { table: theirs, .. }) => table == theirs,
            _ => self == other,
        }
    }

    fn is_flock(self) -> bool {
        matches!(self, Self::Flock(_))
    }
}

/// Bytes `start..end`; `u64::MAX` is the end of all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRange {
    /// First byte.
    pub start: u64,
    /// First byte after.
    pub end: u64,
}

impl LockRange {
    /// The whole file.
    pub const ALL: Self = Self { start: 0, end: u64::MAX };

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A lock that stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Its kind.
    pub kind: LockKind,
    /// Its bytes.
    pub range: LockRange,
    /// Whose it is.
    pub owner: LockOwner,
}

/// All locks on files of the sandbox.
#[derive(Default)]
pub struct Locks {
    /// LOCK: leaf.
    inner: Mutex<Inner>,
    /// How many there are, so that closing a file costs nothing where there are none.
    count: AtomicUsize,
    /// Woken when locks have gone.
    pub changed: WaitQueue,
}

#[derive(Default)]
struct Inner {
    /// By the node's address: a node with locks is held by the open file that took them.
    by_node: HashMap<usize, Held>,
    /// Which process waits for which.
    waiting: HashMap<u64, u64>,
}

/// The locks on one node.
#[derive(Default)]
struct Held {
    locks: Vec<Conflict>,
    charge: Charge,
}

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<()>().addr()
}

impl Inner {
    /// Gives up what `owner` holds of `range`; `true` if it held anything there.
    fn clear(held: &mut Vec<Conflict>, owner: LockOwner, range: LockRange) -> bool {
        let mut pieces = Vec::new();
        let mut found = false;
        held.retain(|lock| {
            if !lock.owner.is_same(owner) || !lock.range.overlaps(range) {
                return true;
            }
            found = true;
            if lock.range.start < range.start {
                pieces.push(Conflict { range: LockRange { end: range.start, ..lock.range }, ..*lock });
            }
            if lock.range.end > range.end {
                pieces.push(Conflict { range: LockRange { start: range.end, ..lock.range }, ..*lock });
            }
            false
        });
        held.append(&mut pieces);
        found
    }

    /// Following who waits for whom from `from` leads to `to`.
    fn waits_for(&self, from: u64, to: u64) -> bool {
        let mut at = from;
        for _ in 0..self.waiting.len() {
            match self.waiting.get(&at) {
                Some(&next) if next == to => return true,
                Some(&next) => at = next,
                None => return false,
            }
        }
        false
    }
}

impl Locks {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first lock of somebody else that does not go with this one.
    #[must_use]
    pub fn conflict(
        &self,
        inode: &Arc<dyn Inode>,
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
    ) -> Option<Conflict> {
        Self::conflict_in(&self.lock().by_node.get(&key(inode))?.locks, owner, kind, range)
    }

    fn conflict_in(
        held: &[Conflict],
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
    ) -> Option<Conflict> {
        let stands_in_the_way = |lock: &&Conflict| {
            lock.owner.is_flock() == owner.is_flock()
                && !lock.owner.is_same(owner)
                && lock.range.overlaps(range)
                && (kind == LockKind::Exclusive || lock.kind == LockKind::Exclusive)
        };
        held.iter().filter(stands_in_the_way).min_by_key(|lock| lock.range.start).copied()
    }

    /// Takes a lock, or changes or splits what the owner has there.
    ///
    /// # Errors
    /// EAGAIN if another stands in the way; ENOLCK.
    pub fn take(
        self: &Arc<Self>,
        file: &OpenFile,
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
    ) -> Result<(), Errno> {
        let mut inner = self.lock();
        let Held { locks: held, charge } = inner.by_node.entry(key(file.location.inode())).or_default();
        if Self::conflict_in(held, owner, kind, range).is_some() {
            return Err(Errno::EAGAIN);
        }
        let before = held.len();
        charge.resize((before + 2) * LOCK_BYTES).map_err(|_| Errno::ENOLCK)?;
        let had_some = Inner::clear(held, owner, range);
        let mut merged = range;
        held.retain(|lock| {
            let touches = lock.owner.is_same(owner)
                && lock.kind == kind
                && lock.range.start <= merged.end
                && merged.start <= lock.range.end;
            if touches {
                merged = LockRange {
                    start: merged.start.min(lock.range.start),
                    end: merged.end.max(lock.range.end),
                };
            }
            !touches
        });
        held.push(Conflict { kind, range: merged, owner });
        let after = held.len();
        charge.set(after * LOCK_BYTES);
        drop(inner);
        self.count_changed(before, after);
        if !matches!(owner, LockOwner::Process { .. }) {
            file.remember_locks(self);
        }
        if had_some {
            self.changed.wake(Events::all());
        }
        Ok(())
    }

    /// Gives up what the owner holds there.
    pub fn release(&self, inode: &Arc<dyn Inode>, owner: LockOwner, range: LockRange) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut inner = self.lock();
        let Some(Held { locks: held, charge }) = inner.by_node.get_mut(&key(inode)) else { return };
        let before = held.len();
        let found = Inner::clear(held, owner, range);
        let after = held.len();
        charge.set(after * LOCK_BYTES);
        if after == 0 {
            inner.by_node.remove(&key(inode));
        }
        drop(inner);
        self.count_changed(before, after);
        if found {
            self.changed.wake(Events::all());
        }
    }

    fn count_changed(&self, before: usize, after: usize) {
        if after >= before {
            self.count.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.count.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// The process has closed a descriptor of the file: its record locks there go. LINUX: so says POSIX.
    pub fn release_process(&self, inode: &Arc<dyn Inode>, table: u64) {
        self.release(inode, LockOwner::Process { table, pid: 0 }, LockRange::ALL);
    }

    /// The open file has gone.
    pub fn release_file(&self, inode: &Arc<dyn Inode>, id: u64) {
        self.release(inode, LockOwner::OpenFile(id), LockRange::ALL);
        self.release(inode, LockOwner::Flock(id), LockRange::ALL);
    }

    /// A process is about to wait for what stands in the way.
    ///
    /// # Errors
    /// EDEADLK if that one waits for this one already.
    pub fn begin_wait(&self, table: u64, conflict: &Conflict) -> Result<(), Errno> {
        let LockOwner::Process { table: theirs, .. } = conflict.owner else { return Ok(()) };
        let mut inner = self.lock();
        if inner.waits_for(theirs, table) {
            return Err(Errno::EDEADLK);
        }
        inner.waiting.insert(table, theirs);
        Ok(())
    }

    /// It waits no more.
    pub fn end_wait(&self, table: u64) {
        self.lock().waiting.remove(&table);
    }
}
