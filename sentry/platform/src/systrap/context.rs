//! A guest thread of the systrap platform, as its sentry thread runs it.
//!
//! Key type: [`SystrapContext`]. Here is how it runs, and its extended state; beside it [`super::orders`] (what it does on order),
//! [`super::rewrite`] (call sites), [`super::handle`] (how others interrupt it).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use linux_abi::{Errno, Registers, TASK_SIZE, nr};

use super::along::Along;
use super::berth::{self, Berth};
use super::extended;
use super::frame::{self, Entry};
use super::gs::Beyond;
use super::handle::Handle;
use super::handover::{Dead, Handover};
use super::heat;
use super::queue;
use super::site;
use super::space::{Slot, Space};
use super::waits::ended_wait;
use crate::api::{
    AddressSpace, CallSite, Context, EpollLicence, Exit, Fault, Identity, Interrupter, MemoryCall,
    PlatformError, QueuedCall, RseqArea, Service, ThreadCall, Unserved,
};
use crate::bulk::{BulkIn, BulkOut};
use crate::death::Death;
use crate::stub::filter::{ORDERED, THREAD_CLOCK};
use crate::stub::layout::{
    GUARD_START, PASSED_FD, RW, STUB_BASE, STUB_END, XSAVE, XSAVE_SIZE, flag, kind, order, ro, rw,
};
use crate::sys;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// One guest thread.
pub struct SystrapContext {
    pub(super) space: Arc<Space>,
    /// `None` once the thread has been told to end.
    pub(super) slot: Option<Slot>,
    pub(super) handover: Handover,
    pub(super) handle: Arc<Handle>,
    pub(super) entry: Entry,
    /// The thread pointer that the guest thread has now; another value is loaded on the way back.
    fs_base: u64,
    /// What `%gs` of the guest thread holds now. It is the hand-over page's address, which the guest is told as 0, or the guest's own.
    pub(super) gs_base: u64,
    /// Where the guest goes on, and with which `%gs` of its own, once it has come by the stub's gate.
    pub(super) beyond: Option<Beyond>,
    along: Along,
    pub(super) dead: bool,
    /// The call that has just trapped, if its site has trapped often.
    pub(super) hot_call: Option<u64>,
    /// The sentry thread that is kicked if the stub ends; 0: none yet.
    waiter: i32,
    /// Extended state lies in the page and is loaded when the guest goes on.
    loads: bool,
    /// Extended state was saved to the page on the way in.
    is_saved: bool,
    /// A call of the host that is made when the guest goes on.
    last_call: Option<(u64, [u64; 6])>,
    /// The host thread has what a new one has not, which nobody could take from it: it must end with its task.
    pub(super) is_marked: bool,
    /// The host knows a restartable-sequences area of the guest's.
    pub(super) has_rseq: bool,
    /// Where it rested, until it is started.
    pub(super) berth: Option<Arc<Berth>>,
    pub(super) running: Running,
    has_run: bool,
}

/// What the next [`Context::run`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    /// The guest thread waits for it.
    No,
    /// It was started before, and may post a request at any time.
    Yes,
    /// It has posted one.
    Posted,
}

impl From<Dead> for Errno {
    fn from(_: Dead) -> Self {
        Self::ESRCH
    }
}

impl SystrapContext {
    /// Adopts a new thread: waits for its first request and takes its listener out of the stub.
    ///
    /// # Errors
    /// When it died or misbehaved.
    pub fn new(
        space: Arc<Space>,
        slot: Slot,
        handover: Handover,
        listener: i32,
    ) -> Result<Self, PlatformError> {
        let options = space.shared().options;
        let along = Along::new(&slot.window, options.stub_copy);
        let mask = options.keeps_thread_state().then(|| Arc::clone(&slot.window));
        let own_gs = slot.addr + RW;
        let mut context = Self {
            handle: Arc::new(Handle::new(Arc::downgrade(&space), mask)),
            space,
            slot: Some(slot),
            handover,
            entry: Entry::Page,
            fs_base: u64::MAX,
            gs_base: own_gs,
            beyond: None,
            along,
            dead: false,
            hot_call: None,
            waiter: 0,
            loads: false,
            is_saved: false,
            last_call: None,
            is_marked: false,
            has_rseq: false,
            berth: None,
            running: Running::No,
            has_run: false,
        };
        context.forget_own_state();
        context.space.thread_begins();
        context.start(listener).map_err(|_| PlatformError::Stub("died at birth"))?;
        Ok(context)
    }

    fn start(&mut self, listener: i32) -> Result<(), Errno> {
        self.attend();
        self.wait_for(kind::START)?;
        self.handle.process.store(self.space.process().pid, Ordering::Release);
        self.handle.thread.store(self.handover.tid(), Ordering::Release);
        self.call(nr::CLOSE, [u64::from(listener.cast_unsigned()), 0, 0, 0, 0, 0]).map(drop)
    }

    /// Makes it a thread that has not run yet: nothing of its last task is left for the next, and old interrupters are void.
    pub(super) fn renew(&mut self) {
        let tid = self.handover.tid();
        let used_ns = self.own_clock_ns();
        self.handle = Arc::new(Handle::again(&self.handle, &self.space, tid, used_ns));
        self.forget_own_state();
        self.fs_base = u64::MAX;
        self.along.forget();
        if let Some(slot) = &self.slot {
            queue::license(&slot.window, None);
            self.along.send(&slot.window);
            if self.along.is_large() {
                self.along.trim(&slot.window);
            }
        }
        self.hot_call = None;
        self.loads = false;
        self.is_saved = false;
        self.last_call = None;
        self.running = Running::No;
    }

    /// What the guest thread keeps by itself is a new thread's from now on.
    fn forget_own_state(&self) {
        if let Some(slot) = &self.slot {
            slot.window.set64(RW + rw::ROBUST_LIST, 0);
            slot.window.set64(RW + rw::RSEQ_ADDR, 0);
        }
        self.handle.set_signals_wait(false);
    }

    /// The host may know a restartable-sequences area of the guest's.
    pub(super) fn has_rseq(&self) -> bool {
        self.has_rseq || self.rseq().is_some()
    }

    /// CPU time of the host thread, as it reads it itself: a claim, about itself.
    fn own_clock_ns(&mut self) -> u64 {
        // Otherwise its filter does not let it ask.
        let is_free = self.berth.is_none() && self.running == Running::No && !self.loads;
        if !self.space.shared().options.native_clock || !is_free {
            return self.handle.host_cpu_ns();
        }
        let Some(addr) = self.slot.as_ref().map(|slot| slot.addr + XSAVE) else { return 0 };
        if self.call(nr::CLOCK_GETTIME, [THREAD_CLOCK, addr, ORDERED, 0, 0, 0]).is_err() {
            return 0;
        }
        let Some(slot) = &self.slot else { return 0 };
        let (seconds, nanoseconds) = (slot.window.get64(XSAVE), slot.window.get64(XSAVE + 8));
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    }

    /// The calling thread is the one that waits for this guest thread from now on: it is kicked if the stub ends.
    pub(super) fn attend(&mut self) {
        let me = sys::gettid();
        if self.waiter != me {
            let process = self.space.process();
            if self.waiter != 0 {
                process.remove_waiter(self.waiter);
            }
            process.add_waiter(me);
            self.waiter = me;
        }
    }

    fn wait_for(&mut self, expected: u32) -> Result<(), Dead> {
        let slot = self.slot.as_ref().ok_or(Dead)?;
        self.handover.wait(&slot.window)?;
        let kind = slot.window.get32(RW + rw::KIND);
        if kind != expected {
            self.space.process().blame(Death::Request(kind));
            return Err(Dead);
        }
        Ok(())
    }

    /// Fills `regs` and says what the guest wants, after a request has come in.
    fn exit_of(&mut self, regs: &mut Registers) -> Exit {
        let Some(slot) = &self.slot else { return Exit::Died };
        let window = &slot.window;
        match window.get32(RW + rw::KIND) {
            kind::SYSCALL => {
                self.entry = Entry::Page;
                frame::get(window, self.entry, regs);
                regs.r11 = regs.rflags;
                self.is_saved = self.space.shared().options.stub_copy && saves_extended(regs.orig_rax);
                Exit::Syscall
            }
            kind::TRAP => {
                let claimed = window.get64(RW + rw::FRAME);
                let Some(offset) = frame::frame_offset(claimed, slot.addr) else {
                    return self.give_up(Death::Frame);
                };
                self.entry = Entry::Frame(offset);
                frame::get(window, self.entry, regs);
                self.gs_base = regs.gs_base;
                if regs.gs_base == slot.addr + RW {
                    regs.gs_base = 0;
                }
                self.trap_exit(offset, regs)
            }
            kind::INTERRUPTED => {
                self.entry = Entry::Page;
                frame::get(window, self.entry, regs);
                regs.orig_rax = u64::MAX;
                Exit::Interrupted
            }
            kind => self.give_up(Death::Request(kind)),
        }
    }

    fn trap_exit(&self, offset: u64, regs: &mut Registers) -> Exit {
        let Some(slot) = &self.slot else { return Exit::Died };
        let trap = frame::trap(&slot.window, offset);
        let signo = i32::try_from(slot.window.get64(RW + rw::SIGNO)).unwrap_or(0);
        let has_waited = signo == libc::SIGURG && ended_wait(regs);
        self.leave_stub_code(regs, signo);
        if has_waited {
            (regs.orig_rax, regs.rax) = (nr::FUTEX, nr::FUTEX);
            return Exit::WaitInterrupted { waited_ns: self.waited_ns() };
        }
        if signo == libc::SIGTRAP && self.was_being_patched(regs.rip.wrapping_sub(1)) {
            regs.rip = regs.rip.wrapping_sub(1);
            return Exit::Interrupted;
        }
        match signo {
            libc::SIGSYS => {
                // A number of another ABI must not be taken for one of ours.
                let number =
                    if trap.arch == AUDIT_ARCH_X86_64 { u64::from(trap.syscall) } else { u64::MAX >> 1 };
                regs.orig_rax = number;
                regs.rax = number;
                regs.rcx = regs.rip;
                regs.r11 = regs.rflags;
                Exit::Syscall
            }
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP => {
                Exit::Fault(Fault {
                    signo,
                    code: trap.code,
                    addr: trap.addr,
                    trapno: trap.trapno,
                    error_code: trap.error_code,
                })
            }
            _ => Exit::Interrupted,
        }
    }

    fn give_up(&mut self, why: Death) -> Exit {
        self.dead = true;
        self.space.process().condemn(why);
        Exit::Died
    }

    pub(super) fn put_registers(&mut self, regs: &Registers) {
        let mut regs = *regs;
        let gs = self.put_gs(&mut regs);
        let Some(slot) = &self.slot else { return };
        frame::put(&slot.window, self.entry, &regs);
        let changed = regs.fs_base != self.fs_base && regs.fs_base < TASK_SIZE;
        let extended = if self.loads && self.entry == Entry::Page { flag::EXTENDED } else { 0 };
        let call = if self.last_call.is_some() { flag::CALL } else { 0 };
        if let Some((number, args)) = self.last_call {
            // It is there as long as the thread is.
            let _ = self.write_call(number, args);
        }
        slot.window.set32(ro::FLAGS, call | extended | gs | if changed { flag::FS_BASE } else { 0 });
        if changed {
            slot.window.set64(ro::FS_BASE, regs.fs_base);
        }
        self.along.send(&slot.window);
        slot.window.set32(ro::ORDER, order::RESUME);
    }

    /// Waits for the first request of a guest thread that was started on another sentry thread.
    fn join(&mut self, running: Running) -> Result<(), Dead> {
        let slot = self.slot.as_ref().ok_or(Dead)?;
        let waited = if running == Running::Posted { Ok(()) } else { self.handover.wait(&slot.window) };
        self.handle.in_guest.store(false, Ordering::SeqCst);
        let watched_ns = self.handover.take_watched_ns();
        self.handle.watched_ns.fetch_add(watched_ns, Ordering::Relaxed);
        waited
    }

    /// Lets the guest run once, until the next request.
    fn resume(&mut self, regs: &Registers) -> Result<(), Dead> {
        self.put_registers(regs);
        let slot = self.slot.as_ref().ok_or(Dead)?;
        self.handover.moved(&slot.window, self.along.take_moved());
        self.handover.answer(&slot.window)?;
        self.handle.in_guest.store(true, Ordering::SeqCst);
        if self.handle.wanted.load(Ordering::SeqCst) {
            self.handle.signal();
        }
        let waited = self.handover.wait(&slot.window);
        self.handle.in_guest.store(false, Ordering::SeqCst);
        let watched_ns = self.handover.take_watched_ns();
        self.handle.watched_ns.fetch_add(watched_ns, Ordering::Relaxed);
        waited
    }

    /// What was to be done on the guest's way back could not be: its call fails after all.
    fn late_failure(&mut self) -> Option<Errno> {
        let slot = self.slot.as_ref()?;
        match slot.window.get32(RW + rw::KIND) {
            kind::COPY_FAULT => {
                self.last_call = None;
                Some(Errno::EFAULT)
            }
            kind::DONE if self.last_call.take().is_some() => {
                Some(self.result().err().unwrap_or(Errno::EINVAL))
            }
            _ => None,
        }
    }

    /// Lets the guest run until it wants something.
    pub(super) fn run_once(&mut self, running: Running, regs: &mut Registers) -> Exit {
        let mut waited = if running == Running::No { self.resume(regs) } else { self.join(running) };
        let exit = loop {
            while waited.is_ok()
                && let Some(errno) = self.late_failure()
            {
                regs.rax = errno.to_return();
                waited = self.resume(regs);
            }
            self.last_call = None;
            self.is_saved = false;
            if waited.is_err() {
                self.dead = true;
                return Exit::Died;
            }
            self.loads = false;
            let exit = self.exit_of(regs);
            self.fs_base = regs.fs_base;
            if !self.has_come_to_gate(regs, exit) {
                break exit;
            }
            waited = self.resume(regs);
        };
        match &self.slot {
            Some(slot) if exit == Exit::Syscall => self.along.take(&slot.window),
            _ => self.along.forget(),
        }
        exit
    }

    /// After a trapped call: its address, if its site has trapped so often that it is worth rewriting.
    fn hot_call(&self, regs: &Registers, exit: Exit) -> Option<u64> {
        let has_trapped = exit == Exit::Syscall && self.entry != Entry::Page;
        // Its number is no site's own.
        let is_rest = regs.orig_rax == nr::RESTART_SYSCALL;
        if !has_trapped || is_rest || !self.space.shared().options.patch {
            return None;
        }
        let call = regs.rip.checked_sub(site::CALL)?;
        // Only some of the waits are seen here: each stands for several.
        let weight = if self.sees_wait(regs) { heat::HOT } else { 1 };
        let is_hot = (0..weight).fold(false, |is_hot, _| self.space.heat().trapped(call) || is_hot);
        (is_hot && self.space.patches().is_candidate(call)).then_some(call)
    }

    fn copy_extended_to(&mut self, child: &mut Self) -> Result<(), Errno> {
        let mut image = Vec::new();
        self.save_extended(&mut image)?;
        child.load_extended(Some(&image))
    }
}

/// The stub saves the extended state before it posts this call: the way by which its number says so.
fn saves_extended(number: u64) -> bool {
    matches!(number, nr::CLONE | nr::CLONE3 | nr::FORK | nr::VFORK)
}

/// The whole range may be the guest's.
fn is_guest_range(addr: u64, len: u64) -> bool {
    addr.checked_add(len).is_some_and(|end| end <= GUARD_START || (addr >= STUB_END && end <= TASK_SIZE))
}

impl Context for SystrapContext {
    fn run(&mut self, regs: &mut Registers) -> Exit {
        if self.dead {
            return Exit::Died;
        }
        let running = std::mem::replace(&mut self.running, Running::No);
        if running == Running::No && self.handle.wanted.swap(false, Ordering::SeqCst) {
            return Exit::Interrupted;
        }
        self.attend();
        if !std::mem::replace(&mut self.has_run, true) {
            // A thread begins with the processors of its maker, which may just have left one to a guest thread.
            let _ = sys::set_affinity(0, &self.space.shared().cpus);
        }
        let mut exit = self.run_once(running, regs);
        loop {
            self.hot_call = self.hot_call(regs, exit);
            let Some(entry) = self.entry_of_wait(regs, exit) else { break };
            // What the entry does with it is what a rewritten site would have done.
            exit = self.wait_by(entry, regs);
        }
        if matches!(exit, Exit::Interrupted | Exit::WaitInterrupted { .. }) {
            self.handle.wanted.store(false, Ordering::SeqCst);
        }
        exit
    }

    fn memory(&mut self, call: MemoryCall<'_>) -> Result<u64, Errno> {
        const FIXED: u64 = 0x10;
        self.forget_patches(call);
        match call {
            MemoryCall::MapAnonymous { addr, len, prot, extra_flags } => {
                let flags = u64::from(extra_flags) | FIXED | 0x22;
                self.call(nr::MMAP, [addr, len, u64::from(prot), flags, u64::MAX, 0])
            }
            MemoryCall::MapFile { addr, len, prot, shared, file, offset } => {
                let flags = FIXED | if shared { 1 } else { 2 };
                self.map_file([addr, len, u64::from(prot), flags, PASSED_FD, offset], file)
            }
            MemoryCall::Unmap { addr, len } => self.call(nr::MUNMAP, [addr, len, 0, 0, 0, 0]),
            MemoryCall::Protect { addr, len, prot } => {
                self.call(nr::MPROTECT, [addr, len, u64::from(prot), 0, 0, 0])
            }
            MemoryCall::Remap { addr, old_len, new_len, new_addr, keep_old } => {
                let moved = if new_addr == addr { 0 } else { 3 };
                let flags = moved | if keep_old { 4 } else { 0 };
                self.call(nr::MREMAP, [addr, old_len, new_len, flags, new_addr, 0])
            }
            MemoryCall::Advise { addr, len, advice } => {
                self.call(nr::MADVISE, [addr, len, u64::from(advice), 0, 0, 0])
            }
            MemoryCall::Sync { addr, len, flags } => {
                self.call(nr::MSYNC, [addr, len, u64::from(flags), 0, 0, 0])
            }
            MemoryCall::Incore { addr, len, vec } => self.call(nr::MINCORE, [addr, len, vec, 0, 0, 0]),
        }
    }

    fn memory_on_return(&mut self, call: MemoryCall<'_>) -> Result<(), Errno> {
        match call {
            MemoryCall::Advise { addr, len, advice } if self.last_call.is_none() => {
                self.last_call = Some((nr::MADVISE, [addr, len, u64::from(advice), 0, 0, 0]));
                Ok(())
            }
            call => self.memory(call).map(drop),
        }
    }

    fn thread_call_on_return(&mut self, call: ThreadCall) -> Result<(), Errno> {
        match call {
            ThreadCall::Rseq { addr, len, flags: 0, signature } if self.last_call.is_none() => {
                self.has_rseq = true;
                self.last_call = Some((nr::RSEQ, [addr, u64::from(len), 0, u64::from(signature), 0, 0]));
                Ok(())
            }
            call => self.thread_call(call).map(drop),
        }
    }

    fn finish_call(&mut self) -> Result<(), Errno> {
        match self.last_call.take() {
            Some((number, args)) => self.call(number, args).map(drop),
            None => Ok(()),
        }
    }

    fn thread_call(&mut self, call: ThreadCall) -> Result<u64, Errno> {
        self.order_thread_call(call)
    }

    fn clone_thread(&mut self) -> Result<Box<dyn Context>, PlatformError> {
        if let Some(slot) = &self.slot {
            self.handover.cool_down(&slot.window);
        }
        let mut child = match Berth::take(&self.space) {
            Some(rested) => rested,
            None => self.space.new_thread()?,
        };
        if let Some(slot) = &child.slot {
            child.handover.cool_down(&slot.window);
        }
        self.copy_extended_to(&mut child).map_err(|_| PlatformError::Stub("died while it was cloning"))?;
        Ok(Box::new(child))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn Context>), PlatformError> {
        self.flush_writes().map_err(|_| PlatformError::Stub("died while it was cloning"))?;
        let (space, mut child) = self.space.fork_with_thread()?;
        self.copy_extended_to(&mut child).map_err(|_| PlatformError::Stub("died while it was cloning"))?;
        Ok((space, Box::new(child)))
    }

    fn keeps_own_state(&self) -> bool {
        self.space.shared().options.keeps_thread_state()
    }

    fn robust_list(&self) -> u64 {
        self.slot.as_ref().map_or(0, |slot| slot.window.get64(RW + rw::ROBUST_LIST))
    }

    fn set_robust_list(&mut self, head: u64) {
        if let Some(slot) = &self.slot {
            slot.window.set64(RW + rw::ROBUST_LIST, head);
        }
    }

    fn rseq(&self) -> Option<RseqArea> {
        let window = &self.slot.as_ref()?.window;
        let addr = window.get64(RW + rw::RSEQ_ADDR);
        let (len, signature) = (window.get32(RW + rw::RSEQ_LEN), window.get32(RW + rw::RSEQ_SIGNATURE));
        (addr != 0).then_some(RseqArea { addr, len, signature })
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        Arc::clone(&self.handle) as Arc<dyn Interrupter>
    }

    fn set_identity(&mut self, identity: Option<Identity>) {
        let Some(slot) = &self.slot else { return };
        let id = identity.unwrap_or_default();
        let words = [id.pid, id.tid, id.ppid, id.uid, id.euid, id.gid, id.egid];
        for (offset, word) in (ro::IDENTITY..).step_by(4).zip(words) {
            slot.window.set32(offset, word);
        }
    }

    fn save_extended(&mut self, image: &mut Vec<u8>) -> Result<(), Errno> {
        let size = self.space.shared().xsave_size.min(usize::try_from(XSAVE_SIZE).expect("small"));
        image.clear();
        image.resize(size, 0);
        let at = match self.entry {
            Entry::Page => {
                let slot = self.slot.as_ref().ok_or(Errno::ESRCH)?;
                if !self.loads && !self.is_saved {
                    slot.window.zero(XSAVE + 512, 64);
                    self.order(order::SAVE_EXTENDED)?;
                }
                XSAVE
            }
            Entry::Frame(offset) => {
                let slot = self.slot.as_ref().ok_or(Errno::ESRCH)?;
                frame::extended_offset(&slot.window, offset, slot.addr, size).ok_or(Errno::ESRCH)?
            }
        };
        let slot = self.slot.as_ref().ok_or(Errno::ESRCH)?;
        slot.window.read(at, image);
        // Where nothing was saved the processor leaves what was there: the initial state, by the header's word.
        *image = extended::sanitise(image, size).ok_or(Errno::ESRCH)?;
        Ok(())
    }

    fn load_extended(&mut self, image: Option<&[u8]>) -> Result<(), Errno> {
        let size = self.space.shared().xsave_size.min(usize::try_from(XSAVE_SIZE).expect("small"));
        let clean = match image {
            None => extended::initial(size),
            Some(image) => extended::sanitise(image, size).ok_or(Errno::EINVAL)?,
        };
        let slot = self.slot.as_ref().ok_or(Errno::ESRCH)?;
        match self.entry {
            Entry::Page => {
                slot.window.write(XSAVE, &clean);
                self.loads = true;
                self.is_saved = false;
                Ok(())
            }
            Entry::Frame(offset) => {
                let at = frame::extended_offset(&slot.window, offset, slot.addr, size).ok_or(Errno::ESRCH)?;
                // The words that the host's own signal return looks at stay as it wrote them.
                slot.window.write(at, &clean[..464]);
                slot.window.write(at + 512, &clean[512..]);
                Ok(())
            }
        }
    }

    fn prefetched(&self, addr: u64, buf: &mut [u8]) -> bool {
        let (Some(slot), Some(at)) = (&self.slot, self.along.find(addr, buf.len() as u64)) else {
            return false;
        };
        slot.window.read(at, buf);
        true
    }

    fn prefetched_cstr(&self, addr: u64, max: usize) -> Option<Vec<u8>> {
        let (at, len) = self.along.find_rest(addr)?;
        let mut text = vec![0; usize::try_from(len).ok()?.min(max)];
        self.slot.as_ref()?.window.read(at, &mut text);
        let end = text.iter().position(|&byte| byte == 0)?;
        text.truncate(end);
        Some(text)
    }

    fn bulk_in(&self, pieces: &mut dyn Iterator<Item = (u64, u64)>) -> Option<BulkIn<'_>> {
        let mut pieces = pieces.filter(|(_, len)| *len > 0);
        let (addr, first) = pieces.next()?;
        let start = self.along.find(addr, first)?;
        let mut len = first;
        for (addr, more) in pieces {
            if self.along.find(addr, more)? != start + len {
                return None;
            }
            len += more;
        }
        Some(self.slot.as_ref()?.window.bulk_in(start, len))
    }

    fn bulk_out(&mut self, len: u64, pieces: u64) -> Option<BulkOut<'_>> {
        let slot = self.slot.as_ref()?;
        let at = self.along.reserve(&slot.window, len, pieces)?;
        Some(slot.window.bulk_out(at, len))
    }

    fn commit_out(&mut self, addr: u64, len: u64) -> bool {
        match &self.slot {
            Some(slot) if is_guest_range(addr, len) => self.along.commit(&slot.window, addr, len),
            _ => false,
        }
    }

    fn defer_write(&mut self, addr: u64, bytes: &[u8]) -> bool {
        match &self.slot {
            Some(slot) if is_guest_range(addr, bytes.len() as u64) => {
                self.along.defer(&slot.window, addr, bytes)
            }
            _ => false,
        }
    }

    fn flush_writes(&mut self) -> Result<(), Errno> {
        if !self.along.has_results() {
            return Ok(());
        }
        if let Some(slot) = &self.slot {
            self.along.send(&slot.window);
        }
        self.order(order::FLUSH)
    }

    fn license(&mut self, licence: Option<&EpollLicence>) -> bool {
        let Some(slot) = self.slot.as_ref().filter(|_| self.space.shared().options.epoll_queue) else {
            return false;
        };
        queue::license(&slot.window, licence);
        true
    }

    fn take_queued(&mut self, calls: &mut Vec<QueuedCall>) {
        if let Some(slot) = &self.slot {
            queue::take(&slot.window, calls);
        }
    }

    fn holds_memory(&self) -> bool {
        self.along.is_dirty()
    }

    fn trim(&mut self) {
        // Results that wait in there must not be lost; if they cannot be written, the next order says so again.
        let _ = self.flush_writes();
        if let Some(slot) = &self.slot {
            self.along.trim(&slot.window);
        }
    }

    fn before_sleep(&mut self) {
        if let Some(slot) = &self.slot {
            self.handover.rest(&slot.window);
        }
    }

    fn last_cpu(&self) -> u32 {
        self.slot.as_ref().map_or(0, |slot| slot.window.get32(RW + rw::CPU) & 0xfff)
    }

    fn set_affinity(&mut self, mask: &[u64]) -> Result<(), Errno> {
        self.is_marked = true;
        sys::set_affinity(self.handover.tid(), mask)
            .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EINVAL)))
    }

    fn call_site(&self) -> Option<u64> {
        self.hot_call
    }

    fn about_code(&self, addr: u64) -> String {
        self.space.patches().describe(addr)
    }

    fn patch(&mut self, code: &CallSite<'_>, reserve: &mut dyn FnMut() -> Option<u64>) {
        match self.rewrite(code, reserve) {
            // Other registers next time may agree with the code.
            Ok(()) | Err(Errno::EAGAIN) => {}
            // The host forbids it, once and for all.
            Err(Errno::EACCES | Errno::EPERM) => self.space.patches().switch_off(),
            Err(_) => self.space.patches().refuse(code.call),
        }
    }

    fn cpu_time_ns(&mut self) -> u64 {
        self.own_clock_ns().saturating_sub(self.handle.cpu_base_ns.load(Ordering::Relaxed))
    }

    fn exit(&mut self) {
        if let Some(berth) = self.berth.take() {
            berth.retire(self);
        }
        let told = self.post(order::EXIT);
        if let Some(slot) = self.slot.take() {
            self.space.thread_ends();
            self.handover.rest(&slot.window);
            if self.along.is_large() {
                self.along.trim(&slot.window);
            }
            match told {
                Ok(()) => self.space.return_slot(slot),
                Err(_) => self.space.process().keep(slot),
            }
        }
        self.dead = true;
    }

    fn is_rested(&self) -> bool {
        self.berth.is_some()
    }

    fn start(self: Box<Self>, regs: &Registers, service: Service) -> Result<(), Unserved> {
        berth::start(*self, regs, service)
    }

    fn rest(self: Box<Self>) -> Option<Unserved> {
        berth::rest(*self)
    }
}

impl Drop for SystrapContext {
    fn drop(&mut self) {
        if !self.dead {
            self.exit();
        }
        if let Some(slot) = self.slot.take() {
            self.space.thread_ends();
            self.space.process().keep(slot);
        }
        if self.waiter != 0 {
            self.space.process().remove_waiter(self.waiter);
        }
    }
}

const _: () = assert!(STUB_BASE > GUARD_START && STUB_END > STUB_BASE);
