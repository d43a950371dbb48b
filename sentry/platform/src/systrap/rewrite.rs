//! How a call site is rewritten while threads may run it, and how a thread that was stopped in rewritten code leaves it.
//!
//! The steps of [`SystrapContext`]; what a site and a trampoline look like is [`super::patch`]'s.

use std::sync::Arc;

use linux_abi::{Errno, Registers, nr};

use super::context::SystrapContext;
use super::patch::{self, Room};
use crate::api::{AddressSpace, MemoryCall};
use crate::stub::blob::Blob;
use crate::stub::layout::{RW, rw};

impl SystrapContext {
    /// A thread that was stopped between its call site and the host goes back to the site, or, if the host has
    /// served it already, on behind it.
    pub(super) fn leave_stub_code(&self, regs: &mut Registers) {
        let blob = Blob::get();
        if let Some(site) = self.space.patches().site_of(regs.rip) {
            regs.rip = site;
        } else if (blob.rollback_begin..blob.native_after).contains(&regs.rip) {
            regs.rip = regs.rcx.wrapping_sub(patch::SITE);
        } else if (blob.native_after..blob.native_end).contains(&regs.rip)
            && let Some(slot) = &self.slot
        {
            regs.rip = slot.window.get64(RW + rw::NATIVE_RET);
            regs.rcx = regs.rip;
        }
    }

    /// The breakpoint was ours, put there while the site was rewritten, which it is by now.
    pub(super) fn was_being_patched(&self, site: u64) -> bool {
        let is_site = self.space.patches().contains(site);
        let mut byte = [0];
        is_site && self.space.read(site, &mut byte) == 1 && byte != [0xcc]
    }

    /// Writes a trampoline and then the jump to it.
    pub(super) fn rewrite(
        &mut self,
        site: u64,
        prot: u32,
        reserve: &mut dyn FnMut() -> Option<u64>,
    ) -> Result<(), Errno> {
        let space = Arc::clone(&self.space);
        let mut patches = space.patches();
        let mut bytes = [0; patch::SITE as usize];
        if space.read(site, &mut bytes) != bytes.len() {
            return Err(Errno::EFAULT);
        }
        let number = patch::number_at(bytes).ok_or(Errno::EINVAL)?;
        let at = match patches.room(site)? {
            Room::Here(at) => at,
            Room::NewPage => {
                let page = reserve().ok_or(Errno::ENOMEM)?;
                self.call(nr::MMAP, [page, patch::PAGE, 5, 0x32, u64::MAX, 0])?;
                patches.add_page(page);
                page
            }
        };
        let entry = patch::entry(u64::from(number), space.shared().options);
        let code = patch::trampoline(site, at, number, entry).ok_or(Errno::EINVAL)?;
        self.write_code(at & !(patch::PAGE - 1), patch::PAGE, 5, |_| {
            (space.write(at, &code) == code.len()).then_some(())
        })?;
        let jump = patch::jump(site, at).ok_or(Errno::EINVAL)?;
        let start = site & !(patch::PAGE - 1);
        let end = (site + patch::SITE).next_multiple_of(patch::PAGE);
        // Entered first: a thread that hits the breakpoint must find it.
        patches.add(site, at);
        self.write_code(start, end - start, prot, |context| {
            context.replace_code(site, &[0xcc])?;
            context.replace_code(site + 1, &jump[1..])?;
            context.replace_code(site, &jump[..1])
        })
    }

    /// Makes code writable for a moment.
    pub(super) fn write_code(
        &mut self,
        start: u64,
        len: u64,
        prot: u32,
        write: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Result<(), Errno> {
        self.call(nr::MPROTECT, [start, len, 7, 0, 0, 0])?;
        let written = write(self);
        self.call(nr::MPROTECT, [start, len, u64::from(prot), 0, 0, 0])?;
        written.ok_or(Errno::EFAULT)
    }

    /// Writes code and has every processor that runs this address space take notice.
    pub(super) fn replace_code(&mut self, addr: u64, bytes: &[u8]) -> Option<()> {
        /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE` and its registration, which is idempotent.
        const SYNC_CORE: u64 = 1 << 5;
        const REGISTER: u64 = 1 << 6;
        if self.space.write(addr, bytes) != bytes.len() {
            return None;
        }
        if self.call(nr::MEMBARRIER, [SYNC_CORE, 0, 0, 0, 0, 0]).is_err() {
            self.call(nr::MEMBARRIER, [REGISTER, 0, 0, 0, 0, 0]).ok()?;
            self.call(nr::MEMBARRIER, [SYNC_CORE, 0, 0, 0, 0, 0]).ok()?;
        }
        Some(())
    }

    /// Sites in memory that becomes something else are sites no more.
    pub(super) fn forget_patches(&self, call: MemoryCall<'_>) {
        let range = match call {
            MemoryCall::MapAnonymous { addr, len, .. }
            | MemoryCall::MapFile { addr, len, .. }
            | MemoryCall::Unmap { addr, len } => Some((addr, len)),
            MemoryCall::Remap { addr, old_len, new_len, new_addr, .. } => {
                self.space.patches().forget(new_addr, new_addr.saturating_add(new_len));
                Some((addr, old_len))
            }
            _ => None,
        };
        if let Some((addr, len)) = range {
            self.space.patches().forget(addr, addr.saturating_add(len));
        }
    }
}
