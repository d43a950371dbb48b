//! What is one mapping of guest memory?
//!
//! Key types: [`Vma`], [`Backing`], [`VmaFlags`].

use std::sync::Arc;

use linux_abi::mm::Prot;

use super::layout::STACK_GUARD;
use crate::vfs::{OpenFile, Pages};

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
        /// `MAP_GROWSDOWN`: grows when something below it is touched, and keeps a gap below it as stacks do.
        const GROWSDOWN = 1 << 13;
        /// `MLOCK_ONFAULT`: locked as it is touched; with `LOCKED`.
        const LOCKED_ON_FAULT = 1 << 14;
        /// `MADV_RANDOM`.
        const RANDOM = 1 << 15;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL = 1 << 16;
        /// Shared, of a file that is open for reading only. LINUX: `VM_MAYSHARE` without `VM_SHARED`.
        const READ_SHARED = 1 << 17;
        /// Private pages of `/dev/zero`: no file's, although they have one. LINUX: `vma_is_anonymous`.
        const ZERO = 1 << 18;
        /// `mbind(2)`: see [`super::MemoryPolicy`].
        const POLICY = 0x3f << 24;

        /// What `mlock(2)` sets and `munlock(2)` clears.
        const LOCKS = Self::LOCKED.bits() | Self::LOCKED_ON_FAULT.bits();
        /// What is below it wants a gap, and it is counted as a stack.
        const STACKS = Self::STACK.bits() | Self::GROWSDOWN.bits();
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
        /// Its size in bytes; a mapping that has grown may reach beyond it.
        size: u64,
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

    /// Its memory.
    fn pages(&self) -> Pages;
}

impl Backing {
    /// The same, `by` bytes further on.
    pub(super) fn advanced(&self, by: u64) -> Self {
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

/// A mapping with these properties counts against `RLIMIT_DATA`. LINUX: `is_data_mapping`.
pub(super) const fn is_data(prot: Prot, flags: VmaFlags) -> bool {
    prot.contains(Prot::WRITE) && !flags.intersects(VmaFlags::STACKS.union(VmaFlags::SHARED))
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

    /// Its pages are no file's.
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Anonymous) || self.flags.contains(VmaFlags::ZERO)
    }

    /// No file behind it can be too short, so that its pages are there whenever they are touched.
    #[must_use]
    pub const fn is_always_there(&self) -> bool {
        match self.backing {
            Backing::Anonymous | Backing::Special(_) => true,
            Backing::File { .. } => self.flags.intersects(VmaFlags::IMAGE.union(VmaFlags::ZERO)),
            Backing::Memory { offset, size, .. } => offset.saturating_add(self.len()) <= size,
        }
    }

    /// Counts against `RLIMIT_DATA`.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        is_data(self.prot, self.flags)
    }

    /// Where the room that it needs starts: a stack wants a gap below it.
    #[must_use]
    pub const fn guarded_start(&self) -> u64 {
        if self.flags.intersects(VmaFlags::STACKS) {
            self.start.saturating_sub(STACK_GUARD)
        } else {
            self.start
        }
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
