//! `mprotect(2)` and `mseal(2)`: what does a range allow from now on?

use linux_abi::mm::{PROT_GROWSDOWN, PROT_GROWSUP, PROT_SEM, Prot};
use platform::{Context, MemoryCall};

use super::host;
use super::layout;
use super::lock::populate;
use super::vma::{VmaFlags, is_data};
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
        let Some((end, prot, grows)) = checked(addr, len, prot)? else { return Ok(()) };
        let mut inner = self.lock_to_change();
        let first = inner.tree.overlapping(addr, end).next().ok_or(Errno::ENOMEM)?;
        let start = if grows == PROT_GROWSDOWN {
            if !first.flags.intersects(VmaFlags::STACKS) {
                return Err(Errno::EINVAL);
            }
            first.start
        } else if first.start > addr {
            return Err(Errno::ENOMEM);
        } else if grows == PROT_GROWSUP {
            return Err(Errno::EINVAL);
        } else {
            addr
        };
        inner.protect(context, start, end, prot, limits)
    }

    /// `pkey_mprotect(2)` with a key that does not exist.
    ///
    /// # Errors
    /// EINVAL, unless something else is wrong before the key is looked at.
    pub fn mprotect_without_key(&self, addr: u64, len: u64, prot: u32) -> Result<(), Errno> {
        checked(addr, len, prot)?.map_or(Ok(()), |_| Err(Errno::EINVAL))
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

/// Checks what can be checked without the layout, in the order of `do_mprotect_pkey`: the end, the protection, and which way it reaches beyond
/// the range. `None`: there is nothing to do.
fn checked(addr: u64, len: u64, prot: u32) -> Result<Option<(u64, Prot, u32)>, Errno> {
    let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    if grows == PROT_GROWSDOWN | PROT_GROWSUP || !layout::is_aligned(addr) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(None);
    }
    let len = layout::page_up(len).ok_or(Errno::ENOMEM)?;
    let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
    let prot = prot & !grows;
    if prot & !(Prot::all().bits() | PROT_SEM) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Some((end, Prot::from_bits_truncate(prot), grows)))
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
        self.reserve(self.tree.cuts(start, end))?;
        let mut at = start;
        while at < end {
            let vma = self.tree.find(at).ok_or(Errno::ENOMEM)?;
            let stop = vma.end.min(end);
            if vma.is_special() || !vma.max_prot.contains(prot) {
                return Err(Errno::EACCES);
            }
            if vma.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            if vma.prot != prot {
                // LINUX: `mprotect_fixup`: only what counts newly can be too much.
                let (was_data, len) = (vma.is_data(), stop - at);
                let becomes =
                    prot.contains(Prot::WRITE) && !self.may_expand(len, is_data(prot, vma.flags), limits);
                if becomes && self.may_expand(len, was_data, limits) {
                    return Err(Errno::ENOMEM);
                }
                let host_prot = vma.host_prot(prot).bits();
                host::call(context, MemoryCall::Protect { addr: at, len: stop - at, prot: host_prot })?;
                let was_locked_for_reading = vma.flags.contains(VmaFlags::LOCKED)
                    && !vma.is_shared()
                    && !vma.prot.contains(Prot::WRITE);
                self.tree.update(at, stop, |vma| vma.prot = prot);
                // LINUX: `mprotect_fixup`: what is locked and can be written to now comes in at once.
                if was_locked_for_reading
                    && prot.contains(Prot::WRITE)
                    && let Some(vma) = self.tree.find(at)
                {
                    let _ = populate(context, vma, at, stop);
                }
            }
            at = stop;
        }
        Ok(())
    }
}
