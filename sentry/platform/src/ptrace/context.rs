//! A guest thread under a tracer, as its sentry thread runs it.
//!
//! Key type: [`PtraceContext`]. The host lets only one thread of ours do anything to a traced thread, and kills the stub when that one
//! ends. But a context is made, and its program loaded, by another thread than the one that will run it:
//!
//! ```text
//!   PARKED ── any use before the first `run`: seize, stop, work, detach ──> PARKED      asleep in the stub's code, untraced
//!     │ first `run`: seize, stop
//!     v
//!   HELD ── `run`: to the next call; orders: one stepped call ──> HELD ── `exit` ──> gone
//! ```
//!
//! Guest code runs under `PTRACE_SYSEMU` only: no call of its own reaches the host, whatever its filter. An order is one step over
//! the `syscall` instruction in the stub's code. A step cannot be turned into anything else by the guest: if the host moves the thread
//! elsewhere (restartable sequences), one instruction runs with the order's own registers, and then the stub is killed.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use libc::user_regs_struct;
use linux_abi::{Errno, Registers, nr};

use super::handle::Handle;
use super::passing;
use super::registers;
use super::space::{Slot, Space};
use super::tracee::{Gone, Resume, Stop, Tracee};
use crate::api::{
    AddressSpace, Context, Exit, Fault, Identity, Interrupter, MemoryCall, PlatformError, Service,
    ThreadCall, Unserved, futex_or,
};
use crate::death::Death;
use crate::stub::blob::Blob;
use crate::stub::filter::is_futex_wait;
use crate::stub::layout::ro;
use crate::sys;
use crate::systrap::extended;
use crate::systrap::waits::put_limit;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Bytes of a `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// Whose tracee the guest thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tracer {
    /// Nobody's: it sleeps in the stub's code.
    Nobody,
    /// That thread's of ours, until either ends.
    Thread(i32),
}

/// May the guest's interrupter end an order early?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruptible {
    No,
    Yes,
}

/// One guest thread.
pub struct PtraceContext {
    space: Arc<Space>,
    /// `None` once the thread has ended.
    slot: Option<Slot>,
    tracee: Tracee,
    tracer: Tracer,
    has_run: bool,
    /// Selectors of a 64-bit process, and what else the guest cannot choose; as at the first stop.
    segments: user_regs_struct,
    handle: Arc<Handle>,
    /// Processors that the guest thread was last restricted to.
    affinity: Mutex<Vec<u64>>,
    dead: bool,
}

impl PtraceContext {
    /// Adopts a thread that is parked, or about to.
    #[must_use]
    pub fn new(space: Arc<Space>, slot: Slot, tracee: Tracee) -> Self {
        Self {
            handle: Arc::new(Handle::new(tracee, Arc::downgrade(&space))),
            space,
            slot: Some(slot),
            tracee,
            tracer: Tracer::Nobody,
            has_run: false,
            // SAFETY: all fields are plain numbers.
            segments: unsafe { std::mem::zeroed() },
            affinity: Mutex::default(),
            dead: false,
        }
    }

    /// Makes the calling thread the tracer, if nobody is.
    fn hold(&mut self) -> Result<(), Gone> {
        let me = sys::gettid();
        match self.tracer {
            Tracer::Thread(tracer) if tracer == me => return Ok(()),
            // Our own mistake, or its tracer has ended and the stub with it: nothing can be done with the thread.
            Tracer::Thread(_) => return Err(self.give_up(Death::Orphaned)),
            Tracer::Nobody => {}
        }
        if self.tracee.seize().is_err() {
            return Err(self.give_up(Death::Untraced));
        }
        self.tracer = Tracer::Thread(me);
        if !self.tracee.exists() {
            return Err(self.give_up(Death::Left));
        }
        self.tracee.stop()?;
        self.tracee.wait()?;
        self.segments = self.tracee.registers()?;
        Ok(())
    }

    /// Sends the thread to sleep in the stub's code, without a tracer.
    fn park(&mut self) -> Result<(), Gone> {
        let slot = self.slot.as_ref().map_or(0, |slot| slot.addr);
        self.tracee.set_registers(&registers::park(Blob::get().park, slot, &self.segments))?;
        self.tracee.detach()?;
        self.tracer = Tracer::Nobody;
        Ok(())
    }

    /// Does `work` on the stopped thread; parks it again if it has never run.
    fn held<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Gone>) -> Result<T, Errno> {
        if self.dead {
            return Err(Errno::ESRCH);
        }
        let result = self.hold().and_then(|()| work(self)).and_then(|value| {
            if !self.has_run {
                self.park()?;
            }
            Ok(value)
        });
        result.map_err(|gone| {
            self.note_end(gone);
            Errno::ESRCH
        })
    }

    /// The thread was killed, so all of its process was.
    fn note_end(&mut self, gone: Gone) {
        self.dead = true;
        self.space.process().set_ended(gone.signal);
    }

    /// Kills the stub: it does what only a hostile one does.
    fn give_up(&self, why: Death) -> Gone {
        self.space.process().condemn(why);
        match self.tracer {
            Tracer::Thread(tracer) if tracer == sys::gettid() => self.tracee.bury(),
            _ => Gone { signal: Some(libc::SIGKILL) },
        }
    }

    /// Has the stopped thread make a call of the host; answers what `rax` holds after it. EFAULT, with nothing done, if the host does
    /// not let the thread get that far: it raises SIGSEGV on every way out of the kernel where a guest has unmapped its restartable
    /// sequences' area, whose thread would be stepped for ever. LINUX: `rseq_handle_notify_resume`.
    fn call(&self, number: u64, args: [u64; 6], interruptible: Interruptible) -> Result<u64, Gone> {
        let at = Blob::get().native_syscall;
        let interrupted = || interruptible == Interruptible::Yes && self.handle.is_wanted();
        self.tracee.set_registers(&registers::call(number, args, at, &self.segments))?;
        loop {
            if interrupted() {
                return Ok(Errno::EINTR.to_return());
            }
            self.tracee.resume(Resume::OneStep)?;
            let stop = self.tracee.wait()?;
            let regs = self.tracee.registers()?;
            if regs.rip == at {
                if stop == Stop::Signal(libc::SIGSEGV) {
                    return Ok(Errno::EFAULT.to_return());
                }
                // Not yet, or to be done again: a signal came first.
                continue;
            }
            if regs.rip != at + SYSCALL_LEN {
                return Err(self.give_up(Death::Strayed));
            }
            if !is_restart(regs.rax) {
                return Ok(regs.rax);
            }
        }
    }

    fn order(&mut self, number: u64, args: [u64; 6]) -> Result<u64, Errno> {
        self.held(|this| this.call(number, args, Interruptible::No)).and_then(as_result)
    }

    /// Has the stub map a file: the descriptor is passed for this one call and closed by the stub.
    fn map_file(&mut self, mut args: [u64; 6], file: BorrowedFd<'_>) -> Result<u64, Errno> {
        let space = Arc::clone(&self.space);
        let _ours = space.passing();
        let shared = space.shared();
        let passing = shared.passing.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = self.slot.as_ref().ok_or(Errno::ESRCH)?;
        let receive = passing::prepare_receive(&slot.window, slot.addr);
        passing.send(file)?;
        let result = self.held(|this| {
            if this.call(nr::RECVMSG, receive, Interruptible::No)? != 1 {
                return Ok(Errno::ENOMEM.to_return());
            }
            let number = this.slot.as_ref().and_then(|slot| passing::received(&slot.window));
            let Some(number) = number else {
                return Err(this.give_up(Death::Passing));
            };
            args[4] = number;
            let mapped = this.call(nr::MMAP, args, Interruptible::No)?;
            this.call(nr::CLOSE, [number, 0, 0, 0, 0, 0], Interruptible::No)?;
            Ok(mapped)
        });
        passing.drain();
        result.and_then(as_result)
    }

    /// Lets the guest run until something needs the kernel.
    fn run_guest(&mut self, regs: &mut Registers) -> Result<Exit, Gone> {
        self.hold()?;
        self.has_run = true;
        self.tracee.set_registers(&registers::put(regs, &self.segments))?;
        loop {
            self.tracee.resume(Resume::ToCall)?;
            let exit = match self.tracee.wait()? {
                Stop::Call => Some(Exit::Syscall),
                Stop::Signal(libc::SIGURG) => self.handle.take_wanted().then_some(Exit::Interrupted),
                Stop::Signal(signal) => self.fault(signal)?,
                Stop::Asked => None,
            };
            let Some(exit) = exit else { continue };
            let now = self.tracee.registers()?;
            registers::get(&now, regs);
            if exit == Exit::Syscall {
                self.call_number(regs);
            } else {
                regs.orig_rax = u64::MAX;
            }
            return Ok(match exit {
                Exit::Fault(fault) => {
                    let is_readable = self.space.read(fault.addr, &mut [0]) == 1;
                    Exit::Fault(with_trap(fault, regs.rip, is_readable))
                }
                other => other,
            });
        }
    }

    /// The call's number where the kernel looks for it; one of another ABI must not be taken for one of ours.
    fn call_number(&self, regs: &mut Registers) {
        let is_ours = self.tracee.call_arch().is_none_or(|arch| arch == AUDIT_ARCH_X86_64);
        let number = if is_ours { regs.orig_rax & u64::from(u32::MAX) } else { u64::MAX >> 1 };
        regs.orig_rax = number;
        regs.rax = number;
        regs.rcx = regs.rip;
        regs.r11 = regs.rflags;
    }

    /// What a signal means, if the host raised it for something that the guest did.
    fn fault(&self, signo: i32) -> Result<Option<Exit>, Gone> {
        let synchronous = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];
        if !synchronous.contains(&signo) {
            return Ok(None);
        }
        let info = self.tracee.signal_info()?;
        let fault = Fault { signo, code: info.code, addr: info.addr, trapno: 0, error_code: 0 };
        Ok((info.code > 0).then_some(Exit::Fault(fault)))
    }

    /// Our own guest thread, which is stopped, has not been killed.
    fn is_alive(&self) -> bool {
        match self.tracer {
            Tracer::Thread(tracer) if tracer == sys::gettid() => match self.tracee.look() {
                Ok(()) => true,
                Err(gone) => {
                    self.space.process().set_ended(gone.signal);
                    false
                }
            },
            _ => true,
        }
    }

    fn copy_extended_to(&mut self, child: &mut Self) -> Result<(), PlatformError> {
        let copied = self.held(|this| this.tracee.extended()).and_then(|image| child.set_whole(image));
        copied.map_err(|_| PlatformError::Stub("died while it was cloning"))
    }

    /// Loads an image as long as the host's.
    fn set_whole(&mut self, mut image: Vec<u8>) -> Result<(), Errno> {
        self.held(|this| match this.tracee.set_extended(&mut image) {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(this.tracee.bury()),
            Err(_) => Ok(Err(Errno::EINVAL)),
        })?
    }

    /// Steps the thread to its end. `Err`: it came to no end of its own.
    fn end_thread(&mut self) -> Result<(), Gone> {
        let at = Blob::get().native_syscall;
        self.hold()?;
        self.tracee.set_registers(&registers::call(nr::EXIT, [0; 6], at, &self.segments))?;
        loop {
            self.tracee.resume(Resume::OneStep)?;
            match self.tracee.wait() {
                Err(Gone { signal: None }) => return Ok(()),
                Err(gone) => return Err(gone),
                // As in `call`: it never gets to its end.
                Ok(Stop::Signal(libc::SIGSEGV)) => return Err(self.give_up(Death::Strayed)),
                Ok(_) => {}
            }
            if self.tracee.registers()?.rip != at {
                return Err(self.give_up(Death::Strayed));
            }
        }
    }
}

/// `-ERESTARTSYS`, `-ERESTARTNOINTR`, `-ERESTARTNOHAND`, `-ERESTART_RESTARTBLOCK`: the host is about to make the call again.
fn is_restart(rax: u64) -> bool {
    matches!(rax.cast_signed(), -514..=-512 | -516)
}

fn as_result(rax: u64) -> Result<u64, Errno> {
    match rax.cast_signed() {
        error @ -4095..=-1 => Err(Errno::new(i32::try_from(-error).unwrap_or(libc::EINVAL))),
        _ => Ok(rax),
    }
}

/// Adds what the host does not tell a tracer, as far as it can be concluded: trap number and error code.
fn with_trap(mut fault: Fault, rip: u64, is_readable: bool) -> Fault {
    /// `si_code` of faults that are not about a page.
    const SI_KERNEL: i32 = 0x80;
    const SEGV_ACCERR: i32 = 2;
    const PAGE_FAULT: u64 = 14;
    const PROTECTION: u64 = 1;
    const WRITE: u64 = 2;
    const USER: u64 = 4;
    const FETCH: u64 = 16;
    fault.trapno = match fault.signo {
        libc::SIGSEGV if fault.code == SI_KERNEL => 13,
        libc::SIGSEGV | libc::SIGBUS => PAGE_FAULT,
        libc::SIGILL => 6,
        libc::SIGFPE => 0,
        _ if fault.code == SI_KERNEL => 3,
        _ => 1,
    };
    if fault.trapno == PAGE_FAULT {
        fault.error_code = USER;
        if fault.code == SEGV_ACCERR {
            fault.error_code |= PROTECTION;
        }
        if fault.addr == rip {
            fault.error_code |= FETCH;
        } else if fault.code == SEGV_ACCERR && is_readable {
            // What may be read was written to.
            fault.error_code |= WRITE;
        }
    }
    fault
}

impl Context for PtraceContext {
    fn run(&mut self, regs: &mut Registers) -> Exit {
        if self.dead {
            return Exit::Died;
        }
        let exit = if self.handle.enter() { Ok(Exit::Interrupted) } else { self.run_guest(regs) };
        self.handle.leave();
        exit.unwrap_or_else(|gone| {
            self.note_end(gone);
            Exit::Died
        })
    }

    fn memory(&mut self, call: MemoryCall<'_>) -> Result<u64, Errno> {
        match call {
            MemoryCall::MapFile { addr, len, prot, shared, file, offset } => {
                let flags = 0x10 | if shared { 1 } else { 2 };
                self.map_file([addr, len, u64::from(prot), flags, 0, offset], file)
            }
            other => {
                let (number, args) = memory_call(&other).ok_or(Errno::EINVAL)?;
                self.order(number, args)
            }
        }
    }

    fn thread_call(&mut self, call: ThreadCall) -> Result<u64, Errno> {
        match call {
            ThreadCall::Rseq { addr, len, flags, signature } => {
                self.order(nr::RSEQ, [addr, u64::from(len), u64::from(flags), u64::from(signature), 0, 0])
            }
            ThreadCall::FutexWake { addr, count, private } => {
                let operation = if private { 1 | 128 } else { 1 };
                self.order(nr::FUTEX, [addr, operation, u64::from(count), 0, 0, 0])
            }
            ThreadCall::FutexOr { addr, bit } => self.order(nr::FUTEX, futex_or(addr, bit)).map(|_| 0),
            ThreadCall::Membarrier { command, flags, cpu } => {
                self.order(nr::MEMBARRIER, [u64::from(command), u64::from(flags), u64::from(cpu), 0, 0, 0])
            }
            ThreadCall::Futex { args, .. } if !is_futex_wait(nr::FUTEX, args[1]) => {
                self.order(nr::FUTEX, args)
            }
            ThreadCall::Futex { mut args, deadline_ns } => {
                if let (Some(deadline_ns), Some(slot)) = (deadline_ns, &self.slot) {
                    args[3] = slot.addr + ro::LIMIT;
                    put_limit(&slot.window, deadline_ns);
                }
                // The thread may sleep in there for long, and must come out for a signal.
                let handle = Arc::clone(&self.handle);
                handle.enter_order();
                let result = self.held(|this| this.call(nr::FUTEX, args, Interruptible::Yes));
                handle.leave();
                result.and_then(as_result)
            }
        }
    }

    fn clone_thread(&mut self) -> Result<Box<dyn Context>, PlatformError> {
        let mut child = self.space.new_thread(|| self.is_alive())?;
        self.copy_extended_to(&mut child)?;
        Ok(Box::new(child))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn Context>), PlatformError> {
        let (space, mut child) = self.space.fork_with_thread(|| self.is_alive())?;
        self.copy_extended_to(&mut child)?;
        Ok((space, Box::new(child)))
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        Arc::clone(&self.handle) as Arc<dyn Interrupter>
    }

    /// Every call comes to the kernel.
    fn set_identity(&mut self, _: Option<Identity>) {}

    fn save_extended(&mut self, image: &mut Vec<u8>) -> Result<(), Errno> {
        let whole = self.held(|this| this.tracee.extended())?;
        *image = extended::sanitise(&whole, self.space.shared().xsave_size).ok_or(Errno::ESRCH)?;
        Ok(())
    }

    fn load_extended(&mut self, image: Option<&[u8]>) -> Result<(), Errno> {
        /// x87 and SSE are in the image: their initial state holds values that are not zero.
        const LEGACY: u8 = 3;
        let size = self.space.shared().xsave_size;
        let mut clean = match image {
            None => extended::initial(size),
            Some(image) => extended::sanitise(image, size).ok_or(Errno::EINVAL)?,
        };
        if image.is_none() {
            clean[512] = LEGACY;
        }
        let whole = self.held(|this| this.tracee.extended())?.len();
        clean.resize(whole, 0);
        self.set_whole(clean)
    }

    /// The host does not tell a tracer. The tracer's own is likely the same; one outside the mask would be a lie.
    fn last_cpu(&self) -> u32 {
        let cpu = sys::current_cpu();
        let mask = self.affinity.lock().unwrap_or_else(PoisonError::into_inner);
        let allows = |cpu: u32| mask.get(cpu as usize / 64).is_some_and(|word| word >> (cpu % 64) & 1 != 0);
        if mask.is_empty() || allows(cpu) {
            return cpu;
        }
        let count = u32::try_from(mask.len() * 64).unwrap_or(0);
        (0..count).find(|&cpu| allows(cpu)).unwrap_or(cpu)
    }

    fn set_affinity(&mut self, mask: &[u64]) -> Result<(), Errno> {
        sys::set_affinity(self.tracee.thread(), mask)
            .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EINVAL)))?;
        *self.affinity.lock().unwrap_or_else(PoisonError::into_inner) = mask.to_vec();
        Ok(())
    }

    fn exit(&mut self) {
        if self.dead {
            return;
        }
        let ended = self.end_thread();
        match ended {
            Ok(()) => {
                if let Some(slot) = self.slot.take() {
                    self.space.return_slot(slot);
                }
            }
            Err(gone) => self.note_end(gone),
        }
        self.dead = true;
    }

    fn start(self: Box<Self>, _: &Registers, service: Service) -> Result<(), Unserved> {
        Err((self, service))
    }

    fn rest(mut self: Box<Self>) -> Option<Unserved> {
        self.exit();
        None
    }
}

/// Number and arguments of a memory call that needs no descriptor.
fn memory_call(call: &MemoryCall<'_>) -> Option<(u64, [u64; 6])> {
    /// `MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE`.
    const PRIVATE: u64 = 0x32;
    Some(match *call {
        MemoryCall::MapFile { .. } => return None,
        MemoryCall::MapAnonymous { addr, len, prot, extra_flags } => {
            (nr::MMAP, [addr, len, u64::from(prot), u64::from(extra_flags) | PRIVATE, u64::MAX, 0])
        }
        MemoryCall::Unmap { addr, len } => (nr::MUNMAP, [addr, len, 0, 0, 0, 0]),
        MemoryCall::Protect { addr, len, prot } => (nr::MPROTECT, [addr, len, u64::from(prot), 0, 0, 0]),
        MemoryCall::Remap { addr, old_len, new_len, new_addr, keep_old } => {
            // `MREMAP_MAYMOVE | MREMAP_FIXED`, and `MREMAP_DONTUNMAP`.
            let moved = if new_addr == addr { 0 } else { 3 };
            let flags = moved | if keep_old { 4 } else { 0 };
            (nr::MREMAP, [addr, old_len, new_len, flags, new_addr, 0])
        }
        MemoryCall::Advise { addr, len, advice } => (nr::MADVISE, [addr, len, u64::from(advice), 0, 0, 0]),
        MemoryCall::Sync { addr, len, flags } => (nr::MSYNC, [addr, len, u64::from(flags), 0, 0, 0]),
        MemoryCall::Incore { addr, len, vec } => (nr::MINCORE, [addr, len, vec, 0, 0, 0]),
    })
}

impl Drop for PtraceContext {
    fn drop(&mut self) {
        self.exit();
        if let Some(slot) = self.slot.take() {
            self.space.process().keep(slot);
        }
    }
}
