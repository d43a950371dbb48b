//! `mlock(2)` and its family: counted against the limit here, and populated by the host.
//!
//! The pages are not pinned on the host: a stub has no right to, and what swaps is the host's business.

use linux_abi::mm::{Prot, madv};
use platform::{Context, MemoryCall};

use super::host;
use super::vma::{Vma, VmaFlags};
use super::{MemoryLimits, MemoryManager};
use crate::Errno;

/// When are locked pages brought in?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Now.
    Now,
    /// As they are touched (`MLOCK_ONFAULT`).
    OnTouch,
}

impl Fault {
    /// What of [`VmaFlags::LOCKS`] is set.
    const fn flags(self) -> VmaFlags {
        match self {
            Self::Now => VmaFlags::LOCKED,
            Self::OnTouch => VmaFlags::LOCKS,
        }
    }
}

/// Brings the pages of a locked mapping in. LINUX: `populate_vma_page_range`.
pub(super) fn populate(context: &mut dyn Context, vma: &Vma, from: u64, to: u64) -> Result<(), Errno> {
    // Of the stack, Linux would have what has been used, which is there.
    if vma.flags.intersects(VmaFlags::LOCKED_ON_FAULT | VmaFlags::STACK) {
        return Ok(());
    }
    let advice = if vma.prot.contains(Prot::WRITE) && !vma.is_shared() {
        madv::POPULATE_WRITE
    } else if vma.prot.is_empty() {
        return Err(Errno::ENOMEM);
    } else {
        madv::POPULATE_READ
    };
    match host::call(context, MemoryCall::Advise { addr: from, len: to - from, advice }) {
        // LINUX: `__mlock_posix_error_return`.
        Err(Errno::EFAULT) => Err(Errno::ENOMEM),
        Err(Errno::ENOMEM) => Err(Errno::EAGAIN),
        // EINVAL: a host without that advice; locking is best effort then.
        _ => Ok(()),
    }
}

impl MemoryManager {
    /// `mlock(2)`, `mlock2(2)`.
    ///
    /// # Errors
    /// EPERM if nothing may be locked; ENOMEM above the limit or if not all of it is mapped: what lies before the hole is locked then.
    pub fn mlock(
        &self,
        context: &mut dyn Context,
        addr: u64,
        len: u64,
        fault: Fault,
        limits: &MemoryLimits,
    ) -> Result<(), Errno> {
        if limits.locked == 0 {
            return Err(Errno::EPERM);
        }
        let (start, len) = spread(addr, len);
        let mut inner = self.lock_to_change();
        let end = start.saturating_add(len);
        let locked: u64 = inner
            .tree
            .overlapping(start, end)
            .filter(|vma| vma.flags.contains(VmaFlags::LOCKED))
            .map(|vma| vma.clipped(start, end).len())
            .sum();
        // LINUX: `do_mlock`: what is not mapped counts, too.
        if !inner.may_lock(len.saturating_sub(locked), limits) {
            return Err(Errno::ENOMEM);
        }
        inner.set_locks(start, len, fault.flags())?;
        if start == end {
            return Ok(());
        }
        for vma in inner.tree.overlapping(start, end).filter(|vma| is_populated(vma)) {
            populate(context, vma, vma.start.max(start), vma.end.min(end))?;
        }
        drop(inner);
        if fault == Fault::Now {
            self.bring_in(context, start, end).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    /// `munlock(2)`.
    ///
    /// # Errors
    /// ENOMEM if not all of it is mapped: what lies before the hole is unlocked then.
    pub fn munlock(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let (start, len) = spread(addr, len);
        self.lock_to_change().set_locks(start, len, VmaFlags::empty())
    }

    /// `mlockall(2)`.
    ///
    /// # Errors
    /// EPERM if nothing may be locked; ENOMEM above the limit.
    pub fn mlockall(
        &self,
        context: &mut dyn Context,
        now: bool,
        future: bool,
        fault: Fault,
        limits: &MemoryLimits,
    ) -> Result<(), Errno> {
        if limits.locked == 0 {
            return Err(Errno::EPERM);
        }
        let mut inner = self.lock_to_change();
        let totals = inner.tree.totals();
        if now && totals.size - totals.set_aside > limits.locked {
            return Err(Errno::ENOMEM);
        }
        inner.lock_future = if future { fault.flags() } else { VmaFlags::empty() };
        if !now {
            return Ok(());
        }
        inner.tree.update(0, u64::MAX, |vma| vma.flags = (vma.flags - VmaFlags::LOCKS) | fault.flags());
        for vma in inner.tree.iter().filter(|vma| is_populated(vma)) {
            // LINUX: mlockall(2) ignores what cannot be brought in.
            let _ = populate(context, vma, vma.start, vma.end);
        }
        drop(inner);
        if fault == Fault::Now {
            let _ = self.bring_in(context, 0, super::layout::END);
        }
        Ok(())
    }

    /// `munlockall(2)`.
    pub fn munlockall(&self) {
        let mut inner = self.lock_to_change();
        inner.lock_future = VmaFlags::empty();
        inner.tree.update(0, u64::MAX, |vma| vma.flags.remove(VmaFlags::LOCKS));
    }
}

impl super::Inner {
    /// Up to the first hole. LINUX: `apply_vma_lock_flags`.
    fn set_locks(&mut self, start: u64, len: u64, locks: VmaFlags) -> Result<(), Errno> {
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        let stop = self.tree.covered_to(start, end);
        if stop > start {
            let pieces = self.tree.cuts(start, stop);
            self.reserve(pieces)?;
            self.tree.update(start, stop, |vma| vma.flags = (vma.flags - VmaFlags::LOCKS) | locks);
        }
        if stop < end { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

/// Its pages are brought in by the host; those behind a closed gate are let through one by one.
fn is_populated(vma: &Vma) -> bool {
    !vma.is_special() && vma.closed_gate().is_none()
}

/// The pages that a range touches: where they start, and how many bytes they are. LINUX: too long a range wraps around to a short one.
fn spread(addr: u64, len: u64) -> (u64, u64) {
    let start = super::layout::page_down(addr);
    (start, super::layout::page_up(len.wrapping_add(addr - start)).unwrap_or(0))
}
