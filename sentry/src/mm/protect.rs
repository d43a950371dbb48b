//! `mprotect(2)` and `mseal(2)`: what does a range allow from now on?

use linux_abi::mm::{PROT_GROWSDOWN, PROT_GROWSUP, PROT_SEM, Prot};
use platform::{Context, MemoryCall};

use super::host;
use super::layout::{self, END};
use super::vma::VmaFlags;
use super::{MemoryLimits, MemoryManager};
use crate::Errno;

impl MemoryManager {
    /// `mprotect(2)`.
    ///
    /// # Errors
    /// As `mprotect(2)`. As on Linux, what comes before the mapping that refuses has been changed.
    pub fn mprotect(
        &self,
        context: &mut dyn Context,
        addr: u64,
        len: u64,
        prot: u32,
        limits: &MemoryLimits,
    ) -> Result<(), Errno> {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !layout::is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let len = layout::page_up(len).ok_or(Errno::ENOMEM)?;
        let end = addr.checked_add(len).filter(|&end| end <= END).ok_or(Errno::ENOMEM)?;
        let prot = prot & !grows;
        if prot & !(Prot::all().bits() | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        let prot = Prot::from_bits_truncate(prot);
        let mut inner = self.lock_to_change();
        let start = if grows == PROT_GROWSDOWN {
            let vma = inner.tree.overlapping(addr, end).next().ok_or(Errno::ENOMEM)?;
            if !vma.flags.contains(VmaFlags::STACK) {
                return Err(Errno::EINVAL);
            }
            vma.start
        } else if grows == PROT_GROWSUP {
            return Err(Errno::EINVAL);
        } else {
            addr
        };
        inner.protect(context, start, end, prot, limits)
    }

    /// `mseal(2)`.
    ///
    /// # Errors
    /// EINVAL; ENOMEM if not all of it is mapped.
    pub fn mseal(&self, addr: u64, len: u64, flags: u64) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let (start, end) = super::checked_range(addr, len, Errno::EINVAL, Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        let mut inner = self.lock_to_change();
        if !inner.tree.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        let pieces = inner.tree.cuts(start, end);
        inner.reserve(pieces)?;
        inner.tree.update(start, end, |vma| vma.flags |= VmaFlags::SEALED);
        Ok(())
    }
}

impl super::Inner {
    fn protect(
        &mut self,
        context: &mut dyn Context,
        start: u64,
        end: u64,
        prot: Prot,
        limits: &MemoryLimits,
    ) -> Result<(), Errno> {
        if self.tree.has_sealed(start, end) {
            return Err(Errno::EPERM);
        }
        self.reserve(self.tree.cuts(start, end))?;
        let mut at = start;
        while at < end {
            let vma = self.tree.find(at).ok_or(Errno::ENOMEM)?;
            let stop = vma.end.min(end);
            if vma.is_special() || !vma.max_prot.contains(prot) {
                return Err(Errno::EACCES);
            }
            if vma.prot != prot {
                let becomes_data = prot.contains(Prot::WRITE) && !vma.is_data() && !vma.is_shared();
                if becomes_data && self.tree.totals().data.saturating_add(stop - at) > limits.data {
                    return Err(Errno::ENOMEM);
                }
                host::call(context, MemoryCall::Protect { addr: at, len: stop - at, prot: prot.bits() })?;
                self.tree.update(at, stop, |vma| vma.prot = prot);
            }
            at = stop;
        }
        Ok(())
    }
}
