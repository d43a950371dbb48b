//! `mremap(2)`: a mapping grows, shrinks or moves.

use std::sync::Arc;

use linux_abi::mm::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, Prot};
use platform::{Context, MemoryCall};

use super::host;
use super::layout::{self, END, MIN_ADDR, PAGE};
use super::lock::populate;
use super::map::{Blueprint, Placement};
use super::vma::{Backing, Vma, VmaFlags};
use super::{Inner, MemoryLimits, MemoryManager};
use crate::Errno;
use crate::task::Task;
use crate::vfs::{Mappable, Pages};

/// The arguments of `mremap(2)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    addr: u64,
    old_len: u64,
    new_len: u64,
    flags: u32,
    new_addr: u64,
}

impl MemoryManager {
    /// `mremap(2)`: answers the new address.
    ///
    /// # Errors
    /// As `mremap(2)`.
    #[expect(clippy::too_many_arguments, reason = "as the system call has them")]
    pub fn mremap(
        &self,
        context: &mut dyn Context,
        task: &Arc<Task>,
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new_addr: u64,
        limits: &MemoryLimits,
    ) -> Result<u64, Errno> {
        let request = checked(addr, old_len, new_len, flags, new_addr)?;
        if request.old_len == 0
            && let Some((placement, blueprint)) = self.read_only_twin(task, request)?
        {
            // LINUX: the target is unmapped first, and with it what was to be mapped once more.
            if placement != Placement::Hint(0) && (new_addr..new_addr + blueprint.len).contains(&addr) {
                return self.munmap(context, new_addr, blueprint.len).and(Err(Errno::EFAULT));
            }
            return self.establish(context, placement, blueprint, limits);
        }
        self.remap(context, request, limits)
    }

    /// What needs no more than the layout and the host.
    pub(super) fn remap(
        &self,
        context: &mut dyn Context,
        request: Move,
        limits: &MemoryLimits,
    ) -> Result<u64, Errno> {
        // LOCK: files are let go of outside the lock.
        let mut gone = Vec::new();
        let mut inner = self.lock_to_change();
        inner.remap(context, request, limits, &mut gone)
    }

    /// What an old length of 0 makes of a shared mapping that can never be written to: another mapping of the same. The host has such a one
    /// as a private mapping, and would not make it.
    fn read_only_twin(
        &self,
        task: &Arc<Task>,
        request: Move,
    ) -> Result<Option<(Placement, Blueprint)>, Errno> {
        let Move { addr, new_len, flags, new_addr, .. } = request;
        let found = self.lock().tree.find(addr).cloned();
        let Some(vma) = found.filter(|vma| vma.is_shared() && !vma.max_prot.contains(Prot::WRITE)) else {
            return Ok(None);
        };
        if vma.flags.contains(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        if flags & MREMAP_FIXED != 0 && new_addr < MIN_ADDR {
            return Err(Errno::EPERM);
        }
        let backing = vma.backing.advanced(addr - vma.start);
        let pages = match &backing {
            Backing::File { file: Some(file), offset } => {
                match file.ops.map(&file.op(task), *offset, new_len, false)? {
                    Mappable::Pages(pages) => pages,
                    Mappable::Anonymous => return Ok(None),
                }
            }
            Backing::Memory { attachment: Some(segment), offset, .. } => {
                let Pages { source, offset: from } = segment.pages();
                Pages { source, offset: from + offset }
            }
            _ => return Ok(None),
        };
        let placement =
            if flags & MREMAP_FIXED == 0 { Placement::Hint(0) } else { Placement::Fixed(new_addr) };
        let blueprint = Blueprint {
            len: new_len,
            prot: vma.prot,
            max_prot: vma.max_prot,
            flags: vma.flags - VmaFlags::IMAGE,
            backing,
            pages: Some(pages),
            populate: false,
            host_flags: 0,
            is_copy: true,
        };
        Ok(Some((placement, blueprint)))
    }
}

/// Checks what can be checked without the layout. LINUX: `check_mremap_params`.
pub(super) fn checked(
    addr: u64,
    old_len: u64,
    new_len: u64,
    flags: u32,
    new_addr: u64,
) -> Result<Move, Errno> {
    if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 || !layout::is_aligned(addr) {
        return Err(Errno::EINVAL);
    }
    // LINUX: a length that cannot be rounded up to pages is none.
    let old_len = layout::page_up(old_len).unwrap_or(0);
    let new_len = layout::page_up(new_len).unwrap_or(0);
    if new_len == 0 || new_len > END {
        return Err(Errno::EINVAL);
    }
    let request = Move { addr, old_len, new_len, flags, new_addr };
    if request.has_place() {
        let end = new_addr.checked_add(new_len).filter(|&end| end <= END).ok_or(Errno::EINVAL)?;
        let overlaps = addr.wrapping_add(old_len) > new_addr && end > addr;
        let resizes = flags & MREMAP_DONTUNMAP != 0 && old_len != new_len;
        if !layout::is_aligned(new_addr) || flags & MREMAP_MAYMOVE == 0 || overlaps || resizes {
            return Err(Errno::EINVAL);
        }
    }
    Ok(request)
}

impl Move {
    /// It goes to another place in any case. LINUX: `vrm_implies_new_addr`.
    const fn has_place(&self) -> bool {
        self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) != 0
    }
}

impl Inner {
    fn remap(
        &mut self,
        context: &mut dyn Context,
        mut request: Move,
        limits: &MemoryLimits,
        gone: &mut Vec<Vma>,
    ) -> Result<u64, Errno> {
        let Move { addr, old_len, new_len, flags, new_addr } = request;
        let mut vma = self.movable(addr)?;
        if vma.flags.contains(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        // LINUX: a move may cut at both places.
        self.reserve(5)?;
        if new_len <= old_len && !request.has_place() {
            self.cut_tail(context, request, gone)?;
            return Ok(addr);
        }
        self.check_remap(&vma, request, limits)?;
        if vma.closed_gate().is_some() {
            // What the guest could reach of it is one mapping of the host's again.
            let call = MemoryCall::Protect { addr: vma.start, len: vma.len(), prot: Prot::empty().bits() };
            host::call(context, call)?;
        }
        let is_fixed = flags & MREMAP_FIXED != 0;
        if is_fixed {
            let end = new_addr + new_len;
            if new_addr < MIN_ADDR {
                return Err(Errno::EPERM);
            }
            if self.tree.has_special(new_addr, end) {
                return Err(Errno::ENOMEM);
            }
            self.unmap(context, new_addr, end, gone)?;
            // It may have been part of that.
            vma = self.movable(addr)?;
        }
        if new_len < old_len {
            self.cut_tail(context, request, gone)?;
            request.old_len = new_len;
        }
        if flags & MREMAP_DONTUNMAP != 0 && !self.may_expand(old_len, vma.is_data(), limits) {
            return Err(Errno::ENOMEM);
        }
        if !request.has_place() && self.grow_in_place(context, &vma, request)? {
            return Ok(addr);
        }
        if flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let target = if is_fixed {
            new_addr
        } else {
            let end = new_addr.saturating_add(new_len);
            let hinted = new_addr >= MIN_ADDR && request.has_place() && self.tree.is_roomy(new_addr, end);
            let place = if hinted { Some(new_addr) } else { self.tree.place(new_len, MIN_ADDR, PAGE) };
            place.ok_or(Errno::ENOMEM)?
        };
        self.move_to(context, &vma, request, target)?;
        Ok(target)
    }

    fn movable(&self, addr: u64) -> Result<Vma, Errno> {
        self.tree.find(addr).filter(|vma| !vma.is_special()).cloned().ok_or(Errno::EFAULT)
    }

    /// Unmaps what the new length leaves of the old one.
    fn cut_tail(
        &mut self,
        context: &mut dyn Context,
        request: Move,
        gone: &mut Vec<Vma>,
    ) -> Result<(), Errno> {
        let Move { addr, old_len, new_len, .. } = request;
        if new_len == old_len {
            return Ok(());
        }
        let end = addr.checked_add(old_len).filter(|&end| end <= END).ok_or(Errno::EINVAL)?;
        self.unmap(context, addr + new_len, end, gone)
    }

    /// LINUX: `check_prep_vma`.
    fn check_remap(&self, vma: &Vma, request: Move, limits: &MemoryLimits) -> Result<(), Errno> {
        let Move { addr, old_len, new_len, .. } = request;
        if old_len == 0 && !vma.is_shared() {
            return Err(Errno::EINVAL);
        }
        if old_len.min(new_len) > vma.end - addr {
            return Err(Errno::EFAULT);
        }
        if new_len <= old_len {
            return Ok(());
        }
        if let Backing::File { offset, .. } | Backing::Memory { offset, .. } = &vma.backing {
            let into = (addr - vma.start).saturating_add(new_len);
            if offset.checked_add(into).is_none_or(|end| i64::try_from(end).is_err()) {
                return Err(Errno::EINVAL);
            }
        }
        let growth = new_len - old_len;
        if vma.flags.contains(VmaFlags::LOCKED) && !self.may_lock(growth, limits) {
            return Err(Errno::EAGAIN);
        }
        if self.may_expand(growth, vma.is_data(), limits) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    fn grow_in_place(&mut self, context: &mut dyn Context, vma: &Vma, request: Move) -> Result<bool, Errno> {
        let Move { addr, old_len, new_len, .. } = request;
        let (old_end, new_end) = (addr + old_len, addr.checked_add(new_len).ok_or(Errno::ENOMEM)?);
        if old_len == 0 || old_end != vma.end || new_end > END || !self.tree.is_free(old_end, new_end) {
            return Ok(false);
        }
        let call = MemoryCall::Remap { addr, old_len, new_len, new_addr: addr, keep_old: false };
        if host::call(context, call).is_err() {
            // The host may have split what is one mapping here; moving works wherever it can.
            return Ok(false);
        }
        let mut grown = vma.clone();
        grown.end = new_end;
        // It may reach beyond the end of its file now.
        grown.flags.remove(VmaFlags::IMAGE);
        populate_more(context, &grown, old_end);
        self.tree.remove(vma.start, vma.end);
        self.tree.insert(grown);
        self.note_peak();
        Ok(true)
    }

    fn move_to(
        &mut self,
        context: &mut dyn Context,
        vma: &Vma,
        request: Move,
        target: u64,
    ) -> Result<(), Errno> {
        let Move { addr, old_len, new_len, flags, .. } = request;
        let keep_old = flags & MREMAP_DONTUNMAP != 0;
        host::call(context, MemoryCall::Remap { addr, old_len, new_len, new_addr: target, keep_old })?;
        let mut moved = vma.clipped(addr, vma.end);
        (moved.start, moved.end) = (target, target + new_len);
        moved.flags.remove(VmaFlags::IMAGE);
        if keep_old {
            // LINUX: `dontunmap_complete`: all of it, not only what was moved.
            self.tree.update(vma.start, vma.end, |vma| vma.flags.remove(VmaFlags::LOCKS));
        } else if old_len > 0 {
            self.tree.remove(addr, addr + old_len);
        }
        debug_assert!(moved.max_prot.contains(moved.prot & Prot::all()));
        populate_more(context, &moved, target + old_len);
        self.tree.insert(moved);
        self.note_peak();
        Ok(())
    }
}

/// Brings in what a locked mapping has grown by, from `from` on. LINUX: whether that works is nobody's business.
fn populate_more(context: &mut dyn Context, vma: &Vma, from: u64) {
    if vma.flags.contains(VmaFlags::LOCKED) && from < vma.end {
        let _ = populate(context, vma, from, vma.end);
    }
}
