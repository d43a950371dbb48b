//! `madvise(2)`, `msync(2)`, `mincore(2)`: calls that the host executes once the layout allows them.

use std::sync::Arc;

use linux_abi::mm::{MS_ASYNC, MS_INVALIDATE, MS_SYNC, Prot, madv};
use platform::{Context, MemoryCall, is_host_advice};

use super::layout::{self, END};
use super::tree::VmaTree;
use super::vma::{Backing, Vma, VmaFlags};
use super::{MemoryManager, host};
use crate::Errno;
use crate::vfs::OpenFile;

/// The open file that is mapped.
fn file_of(vma: &Vma) -> Option<Arc<OpenFile>> {
    match &vma.backing {
        Backing::File { file, .. } => file.clone(),
        _ => None,
    }
}

/// Which flag of a mapping an advice sets or clears.
fn flag_of(advice: u32) -> Option<(VmaFlags, VmaFlags)> {
    let none = VmaFlags::empty();
    Some(match advice {
        madv::DONTFORK => (VmaFlags::DONTFORK, none),
        madv::DOFORK => (none, VmaFlags::DONTFORK),
        madv::WIPEONFORK => (VmaFlags::WIPEONFORK, none),
        madv::KEEPONFORK => (none, VmaFlags::WIPEONFORK),
        madv::DONTDUMP => (VmaFlags::DONTDUMP, none),
        madv::DODUMP => (none, VmaFlags::DONTDUMP),
        madv::HUGEPAGE => (VmaFlags::HUGEPAGE, VmaFlags::NOHUGEPAGE),
        madv::NOHUGEPAGE => (VmaFlags::NOHUGEPAGE, VmaFlags::HUGEPAGE),
        madv::NORMAL => (none, VmaFlags::RANDOM | VmaFlags::SEQUENTIAL),
        madv::RANDOM => (VmaFlags::RANDOM, VmaFlags::SEQUENTIAL),
        madv::SEQUENTIAL => (VmaFlags::SEQUENTIAL, VmaFlags::RANDOM),
        _ => return None,
    })
}

/// Does the host need to hear of it? Dumps are ours.
fn host_hears(advice: u32) -> bool {
    !matches!(advice, madv::DONTDUMP | madv::DODUMP)
}

/// Contents are lost by it, here or in a child.
fn discards(advice: u32) -> bool {
    matches!(
        advice,
        madv::FREE
            | madv::DONTNEED
            | madv::DONTNEED_LOCKED
            | madv::REMOVE
            | madv::DONTFORK
            | madv::WIPEONFORK
    )
}

/// May a mapping be advised so? LINUX: `madvise_vma_behavior`.
fn check(vma: &Vma, advice: u32) -> Result<(), Errno> {
    let has_file = !matches!(vma.backing, Backing::Anonymous);
    let locked = vma.flags.contains(VmaFlags::LOCKED);
    // LINUX: `can_madvise_modify`.
    let protected =
        vma.flags.contains(VmaFlags::SEALED) && vma.is_anonymous() && !vma.prot.contains(Prot::WRITE);
    if protected && discards(advice) {
        return Err(Errno::EPERM);
    }
    let wrong = match advice {
        madv::DONTNEED | madv::COLD | madv::PAGEOUT => locked,
        madv::FREE => !vma.is_anonymous() || locked,
        madv::WIPEONFORK => has_file,
        madv::REMOVE if locked || !has_file => true,
        madv::REMOVE => {
            let writable = vma.is_shared() && vma.max_prot.contains(Prot::WRITE);
            return if writable { Ok(()) } else { Err(Errno::EACCES) };
        }
        _ => false,
    };
    if vma.is_special() || wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Advice of which the layout keeps nothing: one call of the host for all mappings that touch, the last one on the guest's way back.
fn advise_at_once(
    tree: &VmaTree,
    context: &mut dyn Context,
    (start, end): (u64, u64),
    advice: u32,
) -> Result<(), Errno> {
    let mut run = (start, start);
    let mut unmapped = false;
    let advise = |(from, to): (u64, u64)| MemoryCall::Advise { addr: from, len: to - from, advice };
    for vma in tree.overlapping(start, end) {
        let from = vma.start.max(start);
        let wrong = check(vma, advice).err();
        if from > run.1 || wrong.is_some() {
            unmapped |= from > run.1;
            if run.1 > run.0 {
                host::call(context, advise(run))?;
            }
            // LINUX: `madvise_populate` ends at the first hole.
            if unmapped && matches!(advice, madv::POPULATE_READ | madv::POPULATE_WRITE) {
                return Err(Errno::ENOMEM);
            }
            run = (from, from);
        }
        match wrong {
            Some(errno) => return Err(errno),
            None => run.1 = vma.end.min(end),
        }
    }
    unmapped |= run.1 < end;
    if run.1 == run.0 {
        return Err(Errno::ENOMEM);
    }
    if unmapped || run.1 - run.0 > host::PIECE_MAX {
        host::call(context, advise(run))?;
        return if unmapped { Err(Errno::ENOMEM) } else { Ok(()) };
    }
    context.memory_on_return(advise(run))
}

impl MemoryManager {
    /// `madvise(2)`.
    ///
    /// # Errors
    /// As `madvise(2)`; ENOMEM if part of the range is not mapped, the rest having been advised.
    pub fn madvise(&self, context: &mut dyn Context, addr: u64, len: u64, advice: u32) -> Result<(), Errno> {
        // LINUX: what the kernel was not built with is EINVAL; merging and collapsing pages are that here.
        if !is_host_advice(advice) && host_hears(advice) {
            return Err(Errno::EINVAL);
        }
        let (start, end) = super::checked_range(addr, len, Errno::EINVAL, Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        match advice {
            madv::REMOVE if self.remove_from_files(start, end)? => return Ok(()),
            madv::POPULATE_READ | madv::POPULATE_WRITE => self.bring_in(context, start, end)?,
            _ => {}
        }
        let mut inner = self.lock_to_change();
        let flags = flag_of(advice);
        if flags.is_some() {
            let pieces = inner.tree.cuts(start, end);
            inner.reserve(pieces)?;
        }
        if flags.is_none() && host_hears(advice) {
            return advise_at_once(&inner.tree, context, (start, end), advice);
        }
        let mut at = start;
        let mut unmapped = false;
        while at < end {
            let Some(vma) = inner.tree.overlapping(at, end).next() else {
                unmapped = true;
                break;
            };
            unmapped |= vma.start > at;
            let (from, to) = (vma.start.max(at), vma.end.min(end));
            check(vma, advice)?;
            if host_hears(advice) {
                host::call(context, MemoryCall::Advise { addr: from, len: to - from, advice })?;
            }
            if let Some((set, clear)) = flags {
                inner.tree.update(from, to, |vma| vma.flags = (vma.flags - clear) | set);
            }
            at = to;
        }
        if unmapped { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// `MADV_REMOVE` of files that count their pages: they hear of it, and not the host. `false`: there is something else in the range.
    fn remove_from_files(&self, start: u64, end: u64) -> Result<bool, Errno> {
        let pieces: Vec<Vma> = {
            let inner = self.lock();
            let pieces = inner.tree.overlapping(start, end);
            let removable = pieces.take_while(|vma| check(vma, madv::REMOVE).is_ok());
            removable.map(|vma| vma.clipped(start, end)).collect()
        };
        // LOCK: a file's content comes before the layout.
        let mut done = start;
        for piece in pieces {
            if let Backing::File { file: Some(file), offset } = &piece.backing
                && file.ops.counts_pages()
            {
                file.remove_mapped(*offset, piece.len())?;
                done = if piece.start == done { piece.end } else { done };
            }
        }
        Ok(done >= end)
    }

    /// `msync(2)`.
    ///
    /// # Errors
    /// As `msync(2)`.
    pub fn msync(&self, context: &mut dyn Context, addr: u64, len: u64, flags: u32) -> Result<(), Errno> {
        if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0
            || flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC
        {
            return Err(Errno::EINVAL);
        }
        // LINUX: a length that cannot be rounded up to pages is none.
        let len = layout::page_up(len).unwrap_or(0);
        let (start, end) = super::checked_range(addr, len, Errno::EINVAL, Errno::ENOMEM)?;
        if start == end {
            return Ok(());
        }
        let (ranges, covered, busy) = {
            let inner = self.lock();
            let busy = |vma: &Vma| flags & MS_INVALIDATE != 0 && vma.flags.contains(VmaFlags::LOCKED);
            let shared: Vec<(u64, u64, Option<Arc<OpenFile>>)> = inner
                .tree
                .overlapping(start, end)
                .filter(|vma| vma.is_shared() && !vma.is_special())
                .map(|vma| (vma.start.max(start), vma.end.min(end), file_of(vma)))
                .collect();
            (shared, inner.tree.covers(start, end), inner.tree.overlapping(start, end).any(busy))
        };
        if busy {
            return Err(Errno::EBUSY);
        }
        // LOCK: writing back may take long and changes no layout, so it is done without the lock.
        for (from, to, file) in ranges {
            let outcome = match host::call(context, MemoryCall::Sync { addr: from, len: to - from, flags }) {
                Ok(_) | Err(Errno::ENOMEM) => Ok(()),
                Err(errno) => Err(errno),
            };
            match file {
                Some(file) if flags & MS_SYNC != 0 => file.ops.synced(outcome)?,
                _ => outcome?,
            }
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// `mincore(2)`: the host writes the answer to guest memory.
    ///
    /// # Errors
    /// As `mincore(2)`.
    pub fn mincore(&self, context: &mut dyn Context, addr: u64, len: u64, vec: u64) -> Result<(), Errno> {
        if !layout::is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let len = layout::page_up(len).ok_or(Errno::ENOMEM)?;
        let end = addr.checked_add(len).filter(|&end| end <= END).ok_or(Errno::ENOMEM)?;
        let vec_end = vec.checked_add(len / layout::PAGE).filter(|&end| end <= END).ok_or(Errno::EFAULT)?;
        if len == 0 {
            return Ok(());
        }
        self.bring_in(context, vec, vec_end)?;
        let inner = self.lock();
        if inner.tree.find(addr).is_none() {
            return Err(Errno::ENOMEM);
        }
        // The host writes with the guest's own rights, but nowhere near what is not the guest's.
        if inner.tree.has_special(vec, vec_end) || !inner.tree.covers(vec, vec_end) {
            return Err(Errno::EFAULT);
        }
        if inner.tree.has_special(addr, end) {
            return Err(Errno::ENOMEM);
        }
        let stop = inner.tree.covered_to(addr, end);
        host::call(context, MemoryCall::Incore { addr, len: stop - addr, vec })?;
        if stop < end { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}
