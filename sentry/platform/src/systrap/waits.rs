//! Where does a guest thread wait for a futex, and what is known of a wait that was interrupted?
//!
//! Parts of [`SystrapContext`]. All waits that the host serves for the guest are made by the stub's one `syscall` for them: from rewritten
//! sites they come there, and from others by the signal handler, for the filter lets no wait through that the guest's own code makes. So
//! a thread that an interrupt has brought out of a wait is known by where it stopped; what it was asked for is in its registers still, and
//! the kernel decides as for its own waits whether the call is made again.

use std::sync::atomic::Ordering;

use linux_abi::{Errno, Registers, nr};

use super::context::{Running, SystrapContext};
use super::frame::Entry;
use crate::api::Exit;
use crate::stub::arena::Window;
use crate::stub::blob::Blob;
use crate::stub::filter::is_futex_wait;
use crate::stub::layout::{RW, order, ro, rw};
use crate::sys;

impl SystrapContext {
    /// How long a futex wait has lasted, by the guest thread's own claim.
    pub(super) fn waited_ns(&self) -> u64 {
        let began = self.slot.as_ref().map_or(0, |slot| slot.window.get64(RW + rw::WAIT_BEGAN));
        let cycles = sys::cycles().saturating_sub(began);
        cycles.saturating_mul(1000) / self.space.shared().cycles_per_us
    }

    /// Where a futex wait that has trapped goes on, its site having been seen: the host may have it, or else it comes again without
    /// the signal frame, in which no interrupt would reach it.
    pub(super) fn entry_of_wait(&self, regs: &Registers, exit: Exit) -> Option<u64> {
        let has_trapped = exit == Exit::Syscall && self.entry != Entry::Page && self.hot_call.is_none();
        // The rest of a wait is a wait as well, which the kernel orders.
        let is_rest = regs.orig_rax == nr::RESTART_SYSCALL;
        if !has_trapped || !is_rest && !is_futex_wait(regs.orig_rax, regs.rsi) {
            return None;
        }
        // Without the stub's %gs it cannot go on to the guest from there.
        let is_native = !is_rest && self.space.shared().options.native_futex && regs.gs_base == 0;
        Some(if is_native { Blob::get().futex } else { Blob::get().slow })
    }

    pub(super) fn sees_wait(&self, regs: &Registers) -> bool {
        self.space.shared().options.native_futex && is_futex_wait(regs.orig_rax, regs.rsi)
    }

    /// Has a futex wait that has trapped go on at `entry`, with the stub's `%gs`.
    pub(super) fn wait_by(&mut self, entry: u64, regs: &mut Registers) -> Exit {
        let gs_base = std::mem::replace(&mut regs.gs_base, 0);
        regs.rcx = regs.rip;
        regs.rip = entry;
        let exit = self.run_once(Running::No, regs);
        if gs_base != 0 {
            // No code of the guest's has run.
            regs.gs_base = gs_base;
        }
        exit
    }

    /// The thread may sleep in there for long, and must come out for an interrupt, whenever that comes: the stub looks for one before it
    /// sleeps, and its signal handler takes one that comes after the look.
    pub(super) fn futex_wait(&mut self, mut args: [u64; 6], deadline_ns: Option<u64>) -> Result<u64, Errno> {
        if let (Some(deadline_ns), Some(slot)) = (deadline_ns, &self.slot) {
            args[3] = slot.addr + ro::LIMIT;
            put_limit(&slot.window, deadline_ns);
        }
        self.handle.in_guest.store(true, Ordering::SeqCst);
        let result = loop {
            if self.handle.wanted.load(Ordering::SeqCst) {
                break Err(Errno::EINTR);
            }
            let result = self.write_call(nr::FUTEX, args).and_then(|()| self.order(order::WAIT));
            match result.and_then(|()| self.result()) {
                // A signal that was on its way when an earlier run ended.
                Err(Errno::EINTR) if !self.handle.wanted.load(Ordering::SeqCst) => {}
                result => break result,
            }
        };
        self.handle.in_guest.store(false, Ordering::SeqCst);
        result
    }
}

/// Writes the time limit of an ordered wait where only the sentry writes.
pub fn put_limit(window: &Window, deadline_ns: u64) {
    const NS_PER_SECOND: u64 = 1_000_000_000;
    window.set64(ro::LIMIT, deadline_ns / NS_PER_SECOND);
    window.set64(ro::LIMIT + 8, deadline_ns % NS_PER_SECOND);
}

/// It has been waiting for a futex, natively: no other call that the stub lets through can be interrupted.
pub(super) fn ended_wait(regs: &Registers) -> bool {
    regs.rip == Blob::get().native_after
        && regs.rax == Errno::EINTR.to_return()
        && is_futex_wait(nr::FUTEX, regs.rsi)
}
