//! What is one mapping of guest memory?
//!
//! Key types: [`Vma`], [`Backing`], [`VmaFlags`].

use std::sync::Arc;

use linux_abi::mm::Prot;

use super::layout::STACK_GUARD;
use crate::vfs::OpenFile;

bitflags::bitflags! {
    /// Properties of a mapping besides its protection.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct VmaFlags: u32 {
        /// `MAP_SHARED`.
        const SHARED = 1 << 0;
        /// A stack: a guard gap is kept below it.
        const STACK = 1 << 1;
        /// `MAP_NORESERVE`.
        const NORESERVE = 1 << 2;
        /// `mlock(2)`.
        const LOCKED = 1 << 3;
        /// `MADV_DONTFORK`: the child does not get it.
        const DONTFORK = 1 << 4;
        /// `MADV_WIPEONFORK`: the child gets it empty.
        const WIPEONFORK = 1 << 5;
        /// `MADV_DONTDUMP`.
        const DONTDUMP = 1 << 6;
        /// `MADV_HUGEPAGE`.
        const HUGEPAGE = 1 << 7;
        /// `MADV_NOHUGEPAGE`.
        const NOHUGEPAGE = 1 << 8;
        /// `mseal(2)`.
        const SEALED = 1 << 9;
        /// Not the guest's: it can neither change nor remove it.
        const SPECIAL = 1 << 10;
        /// Not shown in `/proc/PID/maps`.
        const HIDDEN = 1 << 11;
        /// A segment of a program that runs: its file does not shrink. LINUX: ETXTBSY.
        const IMAGE = 1 << 12;
    }
}

/// What a mapping's pages are.
#[derive(Clone)]
pub enum Backing {
    /// Anonymous memory, always private.
    Anonymous,
    /// A file, shared or private.
    File {
        /// The open file; it stays open as long as it is mapped. `None` only in tests.
        file: Option<Arc<OpenFile>>,
        /// Offset in the file of the mapping's start.
        offset: u64,
    },
    /// Shared anonymous memory: a memory file of its own.
    Memory {
        /// Which one.
        id: u64,
        /// Offset in it of the mapping's start.
        offset: u64,
        /// As shown in `/proc/PID/maps`.
        name: Arc<str>,
        /// Called back when pieces of it are mapped and unmapped (System V shared memory).
        attachment: Option<Arc<dyn Attachment>>,
    },
    /// Something of the platform's.
    Special(&'static str),
}

/// Keeps count of the mappings of a System V segment: one value per `shmat`, dropped with its last piece.
pub trait Attachment: Send + Sync {
    /// The id of the segment.
    fn id(&self) -> i32;
}

impl Backing {
    /// The same, `by` bytes further on.
    fn advanced(&self, by: u64) -> Self {
        let mut copy = self.clone();
        match &mut copy {
            Self::File { offset, .. } | Self::Memory { offset, .. } => *offset = offset.wrapping_add(by),
            Self::Anonymous | Self::Special(_) => {}
        }
        copy
    }

    /// `next`, which lies `len` bytes after the start of this, goes on where this ends.
    fn continues(&self, len: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::File { file: a, offset: at }, Self::File { file: b, offset: next_at }) => {
                let same = match (a, b) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    (None, None) => true,
                    _ => false,
                };
                same && at.checked_add(len) == Some(*next_at)
            }
            (
                Self::Memory { id: a, offset: at, attachment: x, .. },
                Self::Memory { id: b, offset: next_at, attachment: y, .. },
            ) => {
                let same = match (x, y) {
                    (Some(x), Some(y)) => Arc::ptr_eq(x, y),
                    (None, None) => true,
                    _ => false,
                };
                a == b && same && at.checked_add(len) == Some(*next_at)
            }
            _ => false,
        }
    }
}

/// One mapping: a range of pages with one protection and one backing.
///
/// INVARIANT: `start < end`, both page-aligned; `prot` is within `max_prot` unless it is special.
#[derive(Clone)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What it allows.
    pub prot: Prot,
    /// What `mprotect(2)` may make it allow.
    pub max_prot: Prot,
    /// Other properties.
    pub flags: VmaFlags,
    /// What its pages are.
    pub backing: Backing,
}

impl Vma {
    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never; a mapping has at least a page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Not the guest's.
    #[must_use]
    pub const fn is_special(&self) -> bool {
        self.flags.contains(VmaFlags::SPECIAL)
    }

    /// `MAP_SHARED`.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    /// Counts against `RLIMIT_DATA`. LINUX: `is_data_mapping`.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.is_shared() && !self.flags.contains(VmaFlags::STACK)
    }

    /// Where the room that it needs starts: a stack wants a gap below it.
    #[must_use]
    pub const fn guarded_start(&self) -> u64 {
        if self.flags.contains(VmaFlags::STACK) { self.start.saturating_sub(STACK_GUARD) } else { self.start }
    }

    /// The piece of it within a range that overlaps it.
    #[must_use]
    pub fn clipped(&self, start: u64, end: u64) -> Self {
        let start = start.max(self.start);
        Self {
            start,
            end: end.min(self.end),
            backing: self.backing.advanced(start - self.start),
            ..self.clone()
        }
    }

    /// The two can be one: `next` follows immediately and is of the same kind.
    #[must_use]
    pub fn can_merge(&self, next: &Self) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.flags == next.flags
            && !self.is_special()
            && self.backing.continues(self.len(), &next.backing)
    }
}
