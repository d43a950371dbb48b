//! What do others ask of the layout? May this be written, is that code, where is room for a trampoline?
//!
//! Key type: [`WritableCache`], since the first question stands in the way of every small result.

use std::sync::TryLockError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use linux_abi::Registers;
use linux_abi::mm::{MAP_PRIVATE, Prot};
use platform::{CallSite, Context};

use super::layout::{self, END, MIN_ADDR};
use super::map::{Placement, anonymous};
use super::vma::{Backing, Vma, VmaFlags};
use super::{MemoryLimits, MemoryManager};
use crate::Errno;

/// How many mappings are remembered: stack, heap, and two more.
const REMEMBERED: usize = 4;

/// A few mappings that are known to be writable, readable without a lock.
///
/// Each is guarded by a version that is odd while it is being replaced. Only holders of `mm.inner` replace.
#[derive(Default)]
pub(super) struct WritableCache {
    entries: [CacheEntry; REMEMBERED],
    next: AtomicUsize,
}

#[derive(Default)]
struct CacheEntry {
    version: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

impl CacheEntry {
    fn contains(&self, start: u64, end: u64) -> bool {
        let version = self.version.load(Ordering::SeqCst);
        let inside = self.start.load(Ordering::SeqCst) <= start && end <= self.end.load(Ordering::SeqCst);
        inside && version.is_multiple_of(2) && version == self.version.load(Ordering::SeqCst)
    }

    fn set(&self, start: u64, end: u64) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
        self.end.store(end, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

impl WritableCache {
    fn contains(&self, start: u64, end: u64) -> bool {
        self.entries.iter().any(|entry| entry.contains(start, end))
    }

    fn remember(&self, start: u64, end: u64) {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % REMEMBERED;
        self.entries[next].set(start, end);
    }

    pub(super) fn clear(&self) {
        for entry in &self.entries {
            if entry.end.load(Ordering::SeqCst) != 0 {
                entry.set(0, 0);
            }
        }
    }
}

/// How far from a call site its trampoline may lie.
const REACH: u64 = (1 << 31) - (1 << 24);

impl super::Inner {
    /// Sets aside `len` bytes at most `within` bytes from `addr` for the platform. The guest neither sees nor can replace
    /// them, and nothing is mapped there: the platform does that itself.
    pub(super) fn reserve_near(&mut self, addr: u64, within: u64, len: u64) -> Option<u64> {
        let len = layout::page_up(len)?;
        let low = layout::page_up(addr.saturating_sub(within))?.max(MIN_ADDR);
        let high = layout::page_down(addr.checked_add(within)?).min(END);
        // Above first: below a program lies what it may want for itself at fixed addresses.
        let above = self.tree.gap_above(len, layout::page_up(addr)?.clamp(low, high), high);
        let place = above.or_else(|| self.tree.gap_below(len, low, high))?;
        let prot = Prot::READ | Prot::EXEC;
        self.tree.insert(super::special(place, place + len, "[trampoline]", prot, VmaFlags::HIDDEN));
        Some(place)
    }
}

/// A place in something that several address spaces may map, each where it likes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SharedPlace {
    /// In a file: device, inode, offset.
    File(u64, u64, u64),
    /// In a memory file of its own: id, offset.
    Memory(u64, u64),
}

impl MemoryManager {
    /// What others see the byte at `addr` in; `None` if it is this address space's own.
    ///
    /// # Errors
    /// EFAULT if nothing is mapped there.
    pub fn shared_place(&self, addr: u64) -> Result<Option<SharedPlace>, Errno> {
        let vma = self.lock().tree.find(addr).cloned().ok_or(Errno::EFAULT)?;
        if !vma.is_shared() {
            return Ok(None);
        }
        let inside = addr - vma.start;
        match &vma.backing {
            Backing::File { file: Some(file), offset } => {
                let stat = file.location.inode().stat()?;
                Ok(Some(SharedPlace::File(stat.dev, stat.ino, offset.wrapping_add(inside))))
            }
            Backing::Memory { id, offset, .. } => {
                Ok(Some(SharedPlace::Memory(*id, offset.wrapping_add(inside))))
            }
            _ => Ok(None),
        }
    }

    /// All of `addr..addr + len` is mapped writable, as far as the layout knows. May answer `false` while another thread
    /// changes the layout: the caller then takes the slow way, which is always right.
    #[must_use]
    pub fn is_writable(&self, addr: u64, len: u64) -> bool {
        self.allows(&self.writable, addr, len, |_| true)
    }

    /// The same, and writing cannot fail: there is no file behind it that could be too short.
    #[must_use]
    pub fn is_plain(&self, addr: u64, len: u64) -> bool {
        self.allows(&self.plain, addr, len, Vma::is_always_there)
    }

    fn allows(&self, cache: &WritableCache, addr: u64, len: u64, more: fn(&Vma) -> bool) -> bool {
        let Some(end) = addr.checked_add(len) else { return false };
        if cache.contains(addr, end) {
            return true;
        }
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let allows = |vma: &Vma| {
            vma.prot.contains(Prot::WRITE) && !vma.is_special() && more(vma) && vma.closed_gate().is_none()
        };
        match inner.tree.find(addr) {
            Some(vma) if allows(vma) && end <= vma.end => {
                cache.remember(vma.start, vma.end);
                true
            }
            Some(_) => inner.tree.covers(addr, end) && inner.tree.overlapping(addr, end).all(allows),
            None => false,
        }
    }

    /// The executable mapping around `addr`.
    #[must_use]
    pub fn executable_range_containing(&self, addr: u64) -> Option<(u64, u64)> {
        let inner = self.lock();
        let vma = inner.tree.find(addr)?;
        (vma.prot.contains(Prot::EXEC) && !vma.is_special()).then_some((vma.start, vma.end))
    }

    /// Code at `addr` may be patched: private, executable, not writable by the guest.
    #[must_use]
    pub fn is_patchable(&self, addr: u64) -> bool {
        let inner = self.lock();
        inner.tree.find(addr).is_some_and(|vma| {
            vma.prot.contains(Prot::EXEC)
                && !vma.prot.contains(Prot::WRITE)
                && !vma.is_shared()
                && !vma.is_special()
                && !vma.flags.contains(VmaFlags::SEALED)
        })
    }

    /// Lets the platform rewrite the call site that the running task has just used, if it wants to and may.
    pub fn patch_call_site(&self, context: &mut dyn Context, regs: &Registers) {
        let Some(call) = context.call_site() else { return };
        if !self.is_patchable(call) {
            return;
        }
        let mut inner = self.lock_to_change();
        let Some(vma) = inner.tree.find(call) else { return };
        let code = CallSite { call, mapping: (vma.start, vma.end), prot: vma.prot.bits(), regs };
        context.patch(&code, &mut || inner.reserve_near(call, REACH, layout::PAGE));
    }

    /// The protection of the mapping around `addr`, and whether it is shared; `None`: nothing of the guest's is there.
    #[must_use]
    pub fn protection(&self, addr: u64) -> Option<(Prot, bool)> {
        let inner = self.lock();
        inner.tree.find(addr).filter(|vma| !vma.is_special()).map(|vma| (vma.prot, vma.is_shared()))
    }

    /// All of the range is mapped, special mappings included.
    #[must_use]
    pub fn is_mapped(&self, addr: u64, len: u64) -> bool {
        addr.checked_add(len).is_some_and(|end| self.lock().tree.covers(addr, end))
    }

    /// A place for a private anonymous page that the kernel itself needs in the guest (signal return code).
    ///
    /// # Errors
    /// ENOMEM; the host's.
    pub fn map_page(&self, context: &mut dyn Context, prot: Prot) -> Result<u64, crate::Errno> {
        let blueprint = anonymous(layout::PAGE, prot.bits(), MAP_PRIVATE)?;
        let unlimited = MemoryLimits { address_space: u64::MAX, data: u64::MAX, stack: 0, locked: u64::MAX };
        self.establish(context, Placement::Hint(0), blueprint, &unlimited)
    }

    /// System V segments attached, by id.
    #[must_use]
    pub fn attachments(&self) -> Vec<i32> {
        let inner = self.lock();
        let ids = inner.tree.iter().filter_map(|vma| match &vma.backing {
            Backing::Memory { attachment: Some(attachment), .. } => Some(attachment.id()),
            _ => None,
        });
        ids.collect()
    }
}
