//! Whose is `%gs`? The stub's, until the guest gives it a base of its own (`ARCH_SET_GS`, or `wrgsbase`, which nobody is told of).
//!
//! Parts of [`SystrapContext`]; key type: [`Beyond`]. With a base of its own a guest thread's rewritten call sites make their calls by the
//! original `syscall` (`own_gs` in stub.S): the signal's handler finds the slot by its stack, and the frame keeps `%gs` out of the way back.

use linux_abi::Registers;

use super::context::SystrapContext;
use super::frame::Entry;
use crate::api::{Exit, Fault};
use crate::stub::blob::Blob;
use crate::stub::layout::{RW, flag, ro};

/// Where a thread at the gate goes on, and with which `%gs`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beyond {
    rip: u64,
    gs_base: u64,
}

impl SystrapContext {
    /// What is done to `%gs` on the way back. From the page a thread goes on by a jump through `%gs`: so if that is to be the guest's,
    /// it goes to the stub's gate first, whose signal puts its registers into a frame, and goes on from there.
    pub(super) fn put_gs(&mut self, regs: &mut Registers) -> u32 {
        let Some(slot) = &self.slot else { return 0 };
        let own = slot.addr + RW;
        let wanted = if regs.gs_base == 0 || !is_canonical(regs.gs_base) { own } else { regs.gs_base };
        self.beyond = None;
        match self.entry {
            Entry::Page if wanted != own => {
                self.beyond = Some(Beyond { rip: regs.rip, gs_base: regs.gs_base });
                regs.rip = Blob::get().gate;
                0
            }
            Entry::Frame(_) if wanted != self.gs_base => {
                slot.window.set64(ro::GS_BASE, wanted);
                flag::GS_BASE
            }
            _ => 0,
        }
    }

    /// A thread that has come to the gate is told as one that goes on beyond. `true`: there it goes now, and has not stopped for anything else.
    pub(super) fn has_come_to_gate(&mut self, regs: &mut Registers, exit: Exit) -> bool {
        if regs.rip != Blob::get().gate {
            return false;
        }
        let Some(beyond) = self.beyond.take() else { return false };
        (regs.rip, regs.gs_base) = (beyond.rip, beyond.gs_base);
        matches!(exit, Exit::Fault(Fault { signo: libc::SIGILL, .. }))
    }
}

/// The processor takes it for a base.
const fn is_canonical(addr: u64) -> bool {
    const UNUSED: u32 = 16;
    addr.cast_signed() << UNUSED >> UNUSED == addr.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_one_that_the_processor_takes() {
        assert!([0, 1, (1 << 47) - 1, u64::MAX, !0 << 47].into_iter().all(is_canonical));
        assert!(![1 << 47, 1 << 48, 1 << 63, (!0 << 47) - 1].into_iter().any(is_canonical));
    }
}
