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

/// Brings the pages of a mapping in.
fn populate(context: &mut dyn Context, vma: &Vma, from: u64, to: u64) -> Result<(), Errno> {
    let advice = if vma.prot.contains(Prot::WRITE) && !vma.is_shared() {
        madv::POPULATE_WRITE
    } else if vma.prot.contains(Prot::READ) {
        madv::POPULATE_READ
    } else {
        return Ok(());
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
    /// EPERM if nothing may be locked; ENOMEM above the limit or if not all of it is mapped.
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
        let (start, end) = spread(addr, len)?;
        let mut inner = self.lock_to_change();
        let fresh: u64 = inner
            .tree
            .overlapping(start, end)
            .filter(|vma| !vma.flags.contains(VmaFlags::LOCKED) && !vma.is_special())
            .map(|vma| vma.clipped(start, end).len())
            .sum();
        if inner.tree.totals().locked.saturating_add(fresh) > limits.locked {
            return Err(Errno::ENOMEM);
        }
        if start == end {
            return Ok(());
        }
        if !inner.tree.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        let pieces = inner.tree.cuts(start, end);
        inner.reserve(pieces)?;
        inner.tree.update(start, end, |vma| vma.flags |= VmaFlags::LOCKED);
        if fault == Fault::Now {
            for vma in inner.tree.overlapping(start, end).filter(|vma| !vma.is_special()) {
                populate(context, vma, vma.start.max(start), vma.end.min(end))?;
            }
        }
        Ok(())
    }

    /// `munlock(2)`.
    ///
    /// # Errors
    /// ENOMEM if not all of it is mapped.
    pub fn munlock(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let (start, end) = spread(addr, len)?;
        if start == end {
            return Ok(());
        }
        let mut inner = self.lock_to_change();
        if !inner.tree.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        let pieces = inner.tree.cuts(start, end);
        inner.reserve(pieces)?;
        inner.tree.update(start, end, |vma| vma.flags.remove(VmaFlags::LOCKED));
        Ok(())
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
        if now && inner.tree.totals().size > limits.locked {
            return Err(Errno::ENOMEM);
        }
        inner.lock_future = future;
        if !now {
            return Ok(());
        }
        inner.tree.update(0, u64::MAX, |vma| vma.flags |= VmaFlags::LOCKED);
        if fault == Fault::Now {
            for vma in inner.tree.iter().filter(|vma| !vma.is_special()) {
                // LINUX: mlockall(2) ignores what cannot be brought in.
                let _ = populate(context, vma, vma.start, vma.end);
            }
        }
        Ok(())
    }

    /// `munlockall(2)`.
    pub fn munlockall(&self) {
        let mut inner = self.lock_to_change();
        inner.lock_future = false;
        inner.tree.update(0, u64::MAX, |vma| vma.flags.remove(VmaFlags::LOCKED));
    }
}

/// The pages that a range touches.
fn spread(addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    let start = super::layout::page_down(addr);
    let end = addr.checked_add(len).and_then(super::layout::page_up).ok_or(Errno::EINVAL)?;
    if end > super::layout::END { Err(Errno::ENOMEM) } else { Ok((start, end)) }
}
