//! How a call site is rewritten while threads may run it, and how a thread that was stopped in rewritten code leaves it.
//!
//! The steps of [`SystrapContext`]; what a site and a trampoline look like is [`super::site`]'s. All that is written is written by the
//! guest's own thread, in one order of several steps:
//!
//! - While it is the only one, that is all: no other thread runs the code, and this one goes through `mprotect`, which ends by flushing what the
//!   processor knew of the page with a serialising instruction, before it can.
//! - With more threads, a breakpoint is the first byte until the rest is in place, with a serialising barrier on every processor
//!   between the steps. A thread that hits the breakpoint comes in with SIGTRAP, waits for the lock, and tries again.

use std::sync::Arc;

use linux_abi::{Errno, Registers, nr};

use super::context::SystrapContext;
use super::entries;
use super::patch::{self, PAGE, Room};
use super::site::{self, CALL, Site, Trampoline, long};
use crate::api::{AddressSpace, CallSite, MemoryCall};
use crate::stub::blob::Blob;
use crate::stub::layout::{RW, order, ro, rw};

/// Protections of code while it is written: of a page that others may be running, and of one that nobody runs yet.
const RWX: u64 = 7;
const RX: u64 = 5;

/// A little program for the stub: calls of the host, and copies out of the order page.
struct Steps {
    list: Vec<[u64; 4]>,
    data: Vec<u8>,
    /// Address, in the stub, of the place for data.
    data_at: u64,
}

impl Steps {
    /// A copy, as the stub knows it.
    const COPY: u64 = u64::MAX;
    /// Where data lies, from the start of the list.
    const DATA: u64 = 0x400;
    /// Most steps.
    const MAX: usize = 32;

    const fn new(slot: u64) -> Self {
        Self { list: Vec::new(), data: Vec::new(), data_at: slot + ro::WRITE_DATA + Self::DATA }
    }

    fn call(&mut self, number: u64, args: [u64; 3]) {
        self.list.push([number, args[0], args[1], args[2]]);
    }

    fn copy(&mut self, to: u64, bytes: &[u8]) {
        let from = self.data_at + long(self.data.len());
        self.list.push([Self::COPY, to, from, long(bytes.len())]);
        self.data.extend(bytes);
    }

    fn protect(&mut self, (start, end): (u64, u64), prot: u64) {
        self.call(nr::MPROTECT, [start, end - start, prot]);
    }

    /// Replaces code that others may be running: a breakpoint stands there until the rest is in place.
    fn replace(&mut self, at: u64, code: &[u8]) {
        self.copy(at, &[0xcc]);
        self.barrier();
        self.copy(at + 1, &code[1..]);
        self.barrier();
        self.copy(at, &code[..1]);
        self.barrier();
    }

    /// Every processor that runs this address space takes notice of what was written.
    fn barrier(&mut self) {
        /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE`; the first stub has registered for it.
        const SYNC_CORE: u64 = 1 << 5;
        self.call(nr::MEMBARRIER, [SYNC_CORE, 0, 0]);
    }
}

impl SystrapContext {
    /// A thread that was stopped between its call site and the host goes back to the place that means the same, or, if the host has
    /// served it already, on behind it.
    pub(super) fn leave_stub_code(&self, regs: &mut Registers, signo: i32) {
        let blob = Blob::get();
        let at = regs.rip;
        if (blob.rollback_begin..blob.native_end).contains(&at) {
            let claimed = self.slot.as_ref().map_or(0, |slot| slot.window.get64(RW + rw::NATIVE_RET));
            entries::leave(regs, claimed);
        } else if signo != libc::SIGSYS
            // Trampolines make no calls, so a call needs no look at them.
            && let Some(origin) = self.space.patches().origin_of(at)
        {
            regs.rip = origin;
        }
    }

    /// The breakpoint was ours, put there while the site was rewritten, which it is by now.
    pub(super) fn was_being_patched(&self, start: u64) -> bool {
        let is_site = self.space.patches().jumps_from(start);
        let mut byte = [0];
        is_site && self.space.read(start, &mut byte) == 1 && byte != [0xcc]
    }

    /// Looks for a site and writes a trampoline and then the jump to it. EAGAIN: perhaps another time.
    pub(super) fn rewrite(
        &mut self,
        code: &CallSite<'_>,
        reserve: &mut dyn FnMut() -> Option<u64>,
    ) -> Result<(), Errno> {
        let space = Arc::clone(&self.space);
        let mut patches = space.patches();
        let from = code.call.saturating_sub(site::WINDOW).max(code.mapping.0);
        let end = code.call + CALL;
        if end > code.mapping.1 || from >= code.call {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; usize::try_from(end - from).map_err(|_| Errno::EINVAL)?];
        if space.read(from, &mut bytes) != bytes.len() {
            return Err(Errno::EFAULT);
        }
        let window = bytes.strip_suffix(&[0x0f, 0x05]).ok_or(Errno::EINVAL)?;
        let site = site::find(window, code.call, code.regs).ok_or(Errno::EAGAIN)?;
        let entry = patch::entry(site.number, space.shared().options);
        // As long wherever it is.
        let len = long(site.trampoline(site.start, entry).ok_or(Errno::EINVAL)?.code.len());
        let at = match patches.room(code.call, len)? {
            Room::Here(at) => at,
            Room::NewPage => {
                let page = reserve().ok_or(Errno::ENOMEM)?;
                self.call(nr::MMAP, [page, PAGE, RX, 0x32, u64::MAX, 0])?;
                patches.add_page(page);
                page
            }
        };
        let trampoline = site.trampoline(at, entry).ok_or(Errno::EINVAL)?;
        let jumps = site.jumps(at).ok_or(Errno::EINVAL)?;
        // Entered first: a thread that hits the breakpoint must find it.
        patches.add(&site, (at, len), trampoline.origins.clone());
        self.write_site(&site, (at, &trampoline), &jumps, code.prot)
    }

    fn write_site(
        &mut self,
        site: &Site,
        (at, trampoline): (u64, &Trampoline),
        jumps: &[(u64, Vec<u8>)],
        prot: u32,
    ) -> Result<(), Errno> {
        let page_of = |addr: u64| addr & !(PAGE - 1);
        let mut steps = Steps::new(self.slot.as_ref().ok_or(Errno::ESRCH)?.addr);
        let room = (page_of(at), page_of(at) + PAGE);
        steps.protect(room, RWX);
        steps.copy(at, &trampoline.code);
        steps.protect(room, RX);
        let (first, last) = site.written();
        let place = (page_of(first), page_of(last) + PAGE);
        steps.protect(place, RWX);
        for (at, jump) in jumps {
            if self.space.has_one_thread() {
                steps.copy(*at, jump);
            } else {
                steps.replace(*at, jump);
            }
        }
        steps.protect(place, u64::from(prot));
        self.run_steps(&steps)
    }

    /// Has the stub make the steps.
    fn run_steps(&mut self, steps: &Steps) -> Result<(), Errno> {
        let window = &self.slot.as_ref().ok_or(Errno::ESRCH)?.window;
        let room = ro::WRITE_DATA_END - ro::WRITE_DATA - Steps::DATA;
        assert!(steps.list.len() <= Steps::MAX && long(steps.data.len()) <= room, "steps are few and short");
        for (offset, word) in (ro::WRITE_DATA..).step_by(8).zip(steps.list.iter().flatten()) {
            window.set64(offset, *word);
        }
        window.write(ro::WRITE_DATA + Steps::DATA, &steps.data);
        window.set64(ro::STEPS, long(steps.list.len()));
        self.order(order::STEPS)?;
        self.result().map(drop)
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
