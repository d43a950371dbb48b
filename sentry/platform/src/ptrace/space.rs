//! Address spaces and templates under a tracer: stubs and what is forked from them.
//!
//! Key types: [`Space`], [`SpaceTemplate`], [`Slot`]. As in systrap, but that a new thread parks instead of entering a filter.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use linux_abi::Errno;

use super::Shared;
use super::context::PtraceContext;
use super::tracee::Tracee;
use crate::api::{AddressSpace, Context, DeathNotice, MemoryCall, PlatformError, Template};
use crate::death::Death;
use crate::stub::agent::{Agent, ask, order_memory};
use crate::stub::arena::Window;
use crate::stub::layout::{RW, SLOT_SIZE, SLOTS_BASE, SLOTS_MAX, ro, rw};
use crate::stub::orphans::{self, Windows};
use crate::stub::process::Process;
use crate::sys;

/// Longest wait for a new thread's first steps, in looks of 20 ms.
const LOOKS_MAX: u32 = 3000;
/// `START_FLAGS` of a thread that will be traced.
const TRACED: u32 = u32::MAX;

/// A stub and all that the sentry has to do with it.
pub struct Space {
    shared: Arc<Shared>,
    process: Arc<Process>,
    /// LOCK: held while the agent works.
    agent: Mutex<Agent>,
    /// LOCK: leaf.
    slots: Mutex<Slots>,
    /// LOCK: held while the stub has a descriptor that is on its way to a mapping: a copy of it would keep that. Before the sandbox's own.
    passing: Mutex<()>,
}

#[derive(Default)]
struct Slots {
    next: u64,
    /// Slots whose thread has ended; their windows are still mapped in the stub.
    free: Vec<Slot>,
}

/// A guest thread's place in a stub, with its window.
#[derive(Debug)]
pub struct Slot {
    /// Address in the stub.
    pub addr: u64,
    /// Its memory.
    pub window: Arc<Window>,
    /// The window is mapped in the stub already.
    is_mapped: bool,
}

impl Space {
    /// A stub without guest threads.
    #[must_use]
    pub fn new(shared: Arc<Shared>, process: Arc<Process>, agent: Agent) -> Arc<Self> {
        Arc::new(Self {
            shared,
            process,
            agent: Mutex::new(agent),
            slots: Mutex::default(),
            passing: Mutex::default(),
        })
    }

    /// What all stubs share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The host process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a descriptor is passed and mapped.
    pub fn passing(&self) -> MutexGuard<'_, ()> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agent(&self) -> MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// CPU time of a thread of this stub in nanoseconds.
    #[must_use]
    pub fn thread_cpu_ns(&self, tid: i32) -> u64 {
        ask(&self.agent, |agent| agent.thread_cpu_ns(tid, || !self.process.has_ended()))
    }

    fn take_slot(&self) -> Result<Slot, PlatformError> {
        let mut slots = self.slots();
        if let Some(slot) = slots.free.pop() {
            slot.window.clear_thread();
            return Ok(slot);
        }
        if slots.next >= SLOTS_MAX {
            return Err(PlatformError::Limit("threads of one address space"));
        }
        let window = self.shared.arena.allocate_thread()?;
        let addr = SLOTS_BASE + slots.next * SLOT_SIZE;
        slots.next += 1;
        Ok(Slot { addr, window, is_mapped: false })
    }

    /// The thread of `slot` has ended.
    pub fn return_slot(&self, mut slot: Slot) {
        slot.is_mapped = true;
        self.slots().free.push(slot);
    }

    /// Waits for a new thread's first steps. `tid` is what its agent claims it to be.
    fn adopt(self: &Arc<Self>, slot: Slot, tid: u64) -> Result<PtraceContext, PlatformError> {
        let lie = PlatformError::Stub("claims an impossible thread id");
        let Ok(tid) = i32::try_from(tid) else { return Err(lie) };
        let tracee = Tracee::new(self.process.pid, tid);
        // The agent, which is the process's first thread, must never run guest code.
        if tid <= 0 || tid == self.process.pid || !tracee.exists() {
            return Err(lie);
        }
        let ready = slot.window.word(RW + rw::READY);
        let mut looks = 0;
        while ready.load(Ordering::Acquire) == 0 {
            looks += 1;
            if self.process.has_ended() || looks > LOOKS_MAX {
                return Err(PlatformError::Stub("new thread did not come up"));
            }
            sys::futex_wait(ready, 0, Duration::from_millis(20));
        }
        Ok(PtraceContext::new(Arc::clone(self), slot, tracee))
    }

    /// Another guest thread in this stub. `alive` tells whether the caller's own guest thread still is.
    ///
    /// # Errors
    /// When the host refuses or the stub misbehaves.
    pub fn new_thread(self: &Arc<Self>, alive: impl Fn() -> bool) -> Result<PtraceContext, PlatformError> {
        let slot = self.take_slot()?;
        slot.window.set32(ro::START_FLAGS, TRACED);
        let tid = {
            let mut agent = self.agent();
            agent.settle(|| alive() && !self.process.has_ended())?;
            agent.order_thread(slot.addr, (!slot.is_mapped).then_some(&slot.window));
            agent.wait(|| alive() && !self.process.has_ended())?
        };
        self.adopt(slot, tid)
    }

    fn fork_process(
        &self,
        child: &Agent,
        thread: Option<&Arc<Window>>,
        alive: impl Fn() -> bool,
    ) -> Result<Arc<Process>, PlatformError> {
        let registry = &self.shared.registry;
        let since = registry.newest();
        let doubt = |_: &PlatformError| registry.doubt(&self.process, since, Windows::new(child, thread));
        let pid = {
            let mut agent = self.agent();
            agent.settle(|| alive() && !self.process.has_ended())?;
            agent.order_fork(child);
            agent.wait(|| alive() && !self.process.has_ended()).inspect_err(doubt)?
        };
        registry.enter_child(&self.process, pid, child.mark()).inspect_err(doubt)
    }

    /// A copy of this stub without guest threads.
    ///
    /// # Errors
    /// When the host refuses or the stub misbehaves.
    pub fn fork_pristine(&self) -> Result<Arc<Self>, PlatformError> {
        let agent = Agent::allocate(&self.shared.arena)?;
        let process = self.fork_process(&agent, None, || true)?;
        Ok(Self::new(Arc::clone(&self.shared), process, agent))
    }

    /// A copy of this stub with one guest thread. `alive` as for [`Space::new_thread`].
    ///
    /// # Errors
    /// When the host refuses or the stub misbehaves.
    pub fn fork_with_thread(
        &self,
        alive: impl Fn() -> bool,
    ) -> Result<(Arc<Self>, PtraceContext), PlatformError> {
        let (mut agent, window) = orphans::newborn(&self.process, &self.shared.arena)?;
        let slot = Slot { addr: SLOTS_BASE, window, is_mapped: false };
        slot.window.set32(ro::START_FLAGS, TRACED);
        agent.prepare_thread(slot.addr, Some(&slot.window));
        let process = {
            let _passing = self.passing();
            self.fork_process(&agent, Some(&slot.window), alive)?
        };
        let space = Self::new(Arc::clone(&self.shared), process, agent);
        space.slots().next = 1;
        let tid = space.agent().wait(|| !space.process.has_ended());
        let context = tid.and_then(|tid| space.adopt(slot, tid)).inspect_err(|_| space.process.kill())?;
        Ok((space, context))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.process.kill();
        let slots = std::mem::take(self.slots.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.process
            .keep((self.agent.get_mut().unwrap_or_else(PoisonError::into_inner).kept_window(), slots));
    }
}

impl AddressSpace for Space {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.process.by_number(|pid| sys::read_process(pid, addr, buf)).unwrap_or(0)
    }

    fn write(&self, addr: u64, buf: &[u8]) -> usize {
        self.process.by_number(|pid| sys::write_process(pid, addr, buf)).unwrap_or(0)
    }

    fn kill(&self) {
        self.process.kill();
    }

    fn killed_by_host(&self) -> bool {
        self.process.killed_by_host()
    }

    fn death(&self) -> Option<Death> {
        self.process.death()
    }

    fn has_died(&self) -> bool {
        self.process.has_ended()
    }

    fn on_death(&self, notice: Weak<dyn DeathNotice>) {
        self.process().on_death(notice);
    }

    fn cpu_time_ns(&self) -> (u64, u64) {
        (self.process.by_number(sys::process_cpu_ns).unwrap_or(0), 0)
    }

    fn count_resident(&self, pages: &[u64]) -> usize {
        self.process.by_number(|pid| sys::count_resident(pid, pages)).unwrap_or(0)
    }

    fn peak_resident_bytes(&self) -> u64 {
        ask(&self.agent, |agent| agent.peak_resident_bytes(|| !self.process.has_ended()))
    }

    fn final_peak(&self) -> Arc<AtomicU64> {
        self.process.peak()
    }

    fn memory(&self, call: MemoryCall<'_>) -> Result<(), Errno> {
        order_memory(&self.agent, call, || !self.process.has_ended())
    }

    fn vdso(&self) -> u64 {
        self.shared.vdso
    }
}

/// The stub from which those of one container are forked.
pub struct SpaceTemplate {
    space: Arc<Space>,
}

impl SpaceTemplate {
    /// A template of its own process.
    #[must_use]
    pub const fn new(space: Arc<Space>) -> Self {
        Self { space }
    }
}

impl Template for SpaceTemplate {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.space.process.pidfd()
    }

    fn spawn(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn Context>), PlatformError> {
        let (space, mut context) = self.space.fork_with_thread(|| true)?;
        // Whatever the template's registers held is not the guest's business.
        context.load_extended(None).map_err(|_| PlatformError::Stub("died at birth"))?;
        Ok((space, Box::new(context)))
    }

    fn death(&self) -> Option<Death> {
        self.space.process.death()
    }

    fn kill(&self) {
        self.space.process.kill();
    }
}
