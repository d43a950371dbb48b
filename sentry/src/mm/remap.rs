//! `mremap(2)`: a mapping grows, shrinks or moves.

use linux_abi::mm::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, Prot};
use platform::{Context, MemoryCall};

use super::host;
use super::layout::{self, END, MIN_ADDR, PAGE};
use super::vma::{Backing, Vma, VmaFlags};
use super::{Inner, MemoryLimits, MemoryManager};
use crate::Errno;

/// The arguments of `mremap(2)`.
#[derive(Debug, Clone, Copy)]
struct Move {
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
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new_addr: u64,
        limits: &MemoryLimits,
    ) -> Result<u64, Errno> {
        let request = checked(addr, old_len, new_len, flags, new_addr)?;
        let mut inner = self.lock_to_change();
        let mut gone = Vec::new();
        let result = inner.remap(context, request, limits, &mut gone);
        drop(inner);
        // LOCK: files are let go of outside the lock.
        drop(gone);
        result
    }
}

/// Checks what can be checked without the layout, in Linux's order.
fn checked(addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<Move, Errno> {
    if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 && flags & MREMAP_MAYMOVE == 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MREMAP_DONTUNMAP != 0 && old_len != new_len {
        return Err(Errno::EINVAL);
    }
    if !layout::is_aligned(addr) {
        return Err(Errno::EINVAL);
    }
    let old_len = layout::page_up(old_len).ok_or(Errno::EINVAL)?;
    let new_len = layout::page_up(new_len).filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
    if flags & MREMAP_FIXED != 0 {
        let end = new_addr.checked_add(new_len);
        let overlaps = |end: u64| addr.saturating_add(old_len) > new_addr && end > addr;
        if !layout::is_aligned(new_addr) || end.is_none_or(|end| end > END || overlaps(end)) {
            return Err(Errno::EINVAL);
        }
        if new_addr < MIN_ADDR {
            return Err(Errno::EPERM);
        }
    }
    if addr.checked_add(old_len).is_none_or(|end| end > END) {
        return Err(Errno::EFAULT);
    }
    Ok(Move { addr, old_len, new_len, flags, new_addr })
}

impl Inner {
    fn remap(
        &mut self,
        context: &mut dyn Context,
        mut request: Move,
        limits: &MemoryLimits,
        gone: &mut Vec<Vma>,
    ) -> Result<u64, Errno> {
        let vma = self.tree.find(request.addr).cloned().ok_or(Errno::EFAULT)?;
        if vma.is_special() {
            return Err(Errno::EFAULT);
        }
        if self.tree.has_sealed(request.addr, request.addr + request.old_len.max(PAGE)) {
            return Err(Errno::EPERM);
        }
        // LINUX: a move may cut at both places.
        self.reserve(5)?;
        let fixed = request.flags & MREMAP_FIXED != 0;
        if fixed {
            let end = request.new_addr + request.new_len;
            if self.tree.has_special(request.new_addr, end) {
                return Err(Errno::ENOMEM);
            }
            self.unmap(context, request.new_addr, end, gone)?;
        }
        if request.old_len > request.new_len {
            let tail = request.addr + request.new_len;
            self.unmap(context, tail, request.addr + request.old_len, gone)?;
            request.old_len = request.new_len;
        }
        if request.old_len == request.new_len && !fixed && request.flags & MREMAP_DONTUNMAP == 0 {
            return Ok(request.addr);
        }
        self.check_remap(&vma, request, limits)?;
        if !fixed && request.flags & MREMAP_DONTUNMAP == 0 && self.grow_in_place(context, &vma, request)? {
            return Ok(request.addr);
        }
        if request.flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let target = if fixed {
            request.new_addr
        } else {
            self.tree.place(request.new_len, MIN_ADDR, PAGE).ok_or(Errno::ENOMEM)?
        };
        self.move_to(context, &vma, request, target)?;
        Ok(target)
    }

    /// LINUX: `vma_to_resize`.
    fn check_remap(&self, vma: &Vma, request: Move, limits: &MemoryLimits) -> Result<(), Errno> {
        if request.old_len == 0 && !vma.is_shared() {
            return Err(Errno::EINVAL);
        }
        if request.addr + request.old_len > vma.end {
            return Err(Errno::EFAULT);
        }
        if let Backing::File { offset, .. } | Backing::Memory { offset, .. } = &vma.backing {
            let into = (request.addr - vma.start).saturating_add(request.new_len);
            if offset.checked_add(into).is_none_or(|end| i64::try_from(end).is_err()) {
                return Err(Errno::EINVAL);
            }
        }
        let keeps = request.flags & MREMAP_DONTUNMAP != 0;
        let growth = if keeps { request.new_len } else { request.new_len - request.old_len };
        if vma.flags.contains(VmaFlags::LOCKED)
            && self.tree.totals().locked.saturating_add(growth) > limits.locked
        {
            return Err(Errno::EAGAIN);
        }
        self.check_limits(growth, vma.is_data(), limits)
    }

    fn grow_in_place(&mut self, context: &mut dyn Context, vma: &Vma, request: Move) -> Result<bool, Errno> {
        let Move { addr, old_len, new_len, .. } = request;
        let (old_end, new_end) = (addr + old_len, addr.checked_add(new_len).ok_or(Errno::ENOMEM)?);
        if old_len == 0 || old_end != vma.end || new_end > END || !self.tree.is_roomy(old_end, new_end) {
            return Ok(false);
        }
        let call = MemoryCall::Remap { addr, old_len, new_len, new_addr: addr, keep_old: false };
        if host::call(context, call).is_err() {
            // The host may have split what is one mapping here; moving works wherever it can.
            return Ok(false);
        }
        let mut tail = vma.clone();
        (tail.start, tail.end) = (vma.start, new_end);
        // It may reach beyond the end of its file now.
        tail.flags.remove(VmaFlags::IMAGE);
        self.tree.remove(vma.start, vma.end);
        self.tree.insert(tail);
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
            self.tree.update(addr, addr + old_len, |vma| vma.flags.remove(VmaFlags::LOCKED));
        } else if old_len > 0 {
            self.tree.remove(addr, addr + old_len);
        }
        debug_assert!(moved.max_prot.contains(moved.prot & Prot::all()));
        self.tree.insert(moved);
        self.note_peak();
        Ok(())
    }
}
