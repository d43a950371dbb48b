//! Address spaces and templates: stubs and what is forked from them.
//!
//! Key types: [`Space`], [`SpaceTemplate`], [`Slot`].

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use linux_abi::Errno;

use super::Shared;
use super::berth::Berth;
use super::context::SystrapContext;
use super::handover::Handover;
use super::heat::Heat;
use super::patch::Patches;
use crate::api::{AddressSpace, Context, DeathNotice, MemoryCall, PlatformError, Template};
use crate::death::Death;
use crate::stub::agent::{Agent, ask, order_memory};
use crate::stub::arena::Window;
use crate::stub::layout::{
    FUTEX_UNSEEN, RW, SIGNAL_STACK, SIGNAL_STACK_SIZE, SLOT_SIZE, SLOTS_BASE, SLOTS_MAX, ro, rw,
};
use crate::stub::orphans::{self, Windows};
use crate::stub::process::Process;
use crate::sys;

/// Seccomp flags of a guest thread's filter: a listener. Waits in it can be interrupted, or the freezer of cgroup v1 would
/// never finish.
const FILTER_FLAGS: u32 = 8;
/// Longest wait for a new thread's first steps, in looks of 20 ms.
const LOOKS_MAX: u32 = 3000;
/// How often a thread is asked for again after resting ones have been told to end, and how long they are given.
const DRAIN_TRIES: u32 = 3;
const DRAIN_PAUSE: Duration = Duration::from_millis(2);

/// A stub and all that the sentry has to do with it.
pub struct Space {
    shared: Arc<Shared>,
    process: Arc<Process>,
    /// LOCK: held while the agent works.
    agent: Mutex<Agent>,
    /// LOCK: leaf.
    slots: Mutex<Slots>,
    /// LOCK: held while a descriptor is passed and mapped: its number is the same for all threads, and a copy of the stub would keep it.
    passing: Mutex<()>,
    /// LOCK: held while a site is rewritten; orders of the one thread that rewrites are given under it.
    patches: Mutex<Patches>,
    heat: Heat,
    /// Guest threads that may run guest code.
    threads: AtomicU32,
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
        Self::with(shared, process, agent, <(Patches, Heat)>::default())
    }

    fn with(
        shared: Arc<Shared>,
        process: Arc<Process>,
        agent: Agent,
        (patches, heat): (Patches, Heat),
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            process,
            agent: Mutex::new(agent),
            slots: Mutex::default(),
            passing: Mutex::default(),
            patches: Mutex::new(patches),
            heat,
            threads: AtomicU32::new(0),
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

    /// Held while a descriptor is passed and mapped.
    pub fn passing(&self) -> MutexGuard<'_, ()> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been rewritten.
    pub fn patches(&self) -> MutexGuard<'_, Patches> {
        self.patches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often call sites have trapped.
    #[must_use]
    pub const fn heat(&self) -> &Heat {
        &self.heat
    }

    /// One guest thread at most may run guest code; as long as that one is asked, there will be no other.
    #[must_use]
    pub fn has_one_thread(&self) -> bool {
        self.threads.load(Ordering::SeqCst) <= 1
    }

    /// One more guest thread may run guest code.
    pub(super) fn thread_begins(&self) {
        self.threads.fetch_add(1, Ordering::SeqCst);
    }

    /// One that may not any more.
    pub(super) fn thread_ends(&self) {
        self.threads.fetch_sub(1, Ordering::SeqCst);
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// CPU time of a thread of this stub in nanoseconds.
    #[must_use]
    pub fn thread_cpu_ns(&self, tid: i32) -> u64 {
        ask(&self.agent, |agent| agent.thread_cpu_ns(tid, || !self.process.has_ended()))
    }

    fn take_slot(&self) -> Result<Slot, PlatformError> {
        let mut slots = self.slots();
        // The host clears the tid word when the thread is really gone.
        let gone = slots.free.iter().position(|slot| slot.window.get32(RW + rw::TID_WORD) == 0);
        if let Some(index) = gone {
            let slot = slots.free.swap_remove(index);
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

    /// A thread of `slot` has been told to end.
    pub fn return_slot(&self, mut slot: Slot) {
        slot.is_mapped = true;
        self.slots().free.push(slot);
    }

    /// Fills the order page for a thread's first steps.
    fn prepare_slot(&self, slot: &Slot) {
        let window = &slot.window;
        window.set64(ro::SIGALTSTACK, slot.addr + SIGNAL_STACK);
        window.set64(ro::SIGALTSTACK + 16, SIGNAL_STACK_SIZE);
        let (filter, len) = self.shared.filters.guest;
        window.set64(ro::FPROG, u64::from(len));
        window.set64(ro::FPROG + 8, filter);
        window.set32(ro::START_FLAGS, FILTER_FLAGS);
        window.set32(ro::SPIN, self.shared.spin_rounds);
        // The fourth is seen first.
        window.set32(RW + rw::FUTEX_SEEN, FUTEX_UNSEEN - 3);
        window.set32(ro::FUTEX_NATIVE, u32::from(self.shared.options.native_futex));
        window.set32(ro::FUTEX_ROUNDS, if self.shared.watches_futexes { self.shared.spin_rounds } else { 0 });
        window.set32(ro::PREFETCH, u32::from(self.shared.options.stub_copy));
        // Not zero, so that the slot is not taken for free before the host has cleared it.
        window.set32(RW + rw::TID_WORD, 1);
    }

    /// Waits for a new thread's first steps and takes over its listener.
    fn adopt(self: &Arc<Self>, slot: Slot) -> Result<SystrapContext, PlatformError> {
        let ready = slot.window.word(RW + rw::READY);
        let mut looks = 0;
        while ready.load(Ordering::Acquire) == 0 {
            looks += 1;
            if self.process.has_ended() || looks > LOOKS_MAX {
                return Err(PlatformError::Stub("new thread did not come up"));
            }
            sys::futex_wait(ready, 0, Duration::from_millis(20));
        }
        let number = slot.window.get64(RW + rw::RESULT).cast_signed();
        let number = i32::try_from(number).ok().filter(|&number| number >= 0);
        let number = number.ok_or(PlatformError::Stub("could not enter its filter"))?;
        let listener = sys::pidfd_getfd(self.process.pidfd(), number)
            .map_err(|source| PlatformError::Host { what: "take over a stub's listener", source })?;
        let handover = Handover::new(Arc::clone(&self.shared), Arc::clone(&self.process), listener);
        SystrapContext::new(Arc::clone(self), slot, handover, number)
    }

    /// Another guest thread in this stub.
    ///
    /// # Errors
    /// When the host refuses or the stub misbehaves.
    pub fn new_thread(self: &Arc<Self>) -> Result<SystrapContext, PlatformError> {
        let slot = self.take_slot()?;
        self.prepare_slot(&slot);
        let mut cloned = self.order_thread(&slot);
        for _ in 0..DRAIN_TRIES {
            let Err(PlatformError::Host { source, .. }) = &cloned else { break };
            if source.raw_os_error() != Some(libc::EAGAIN) || !Berth::drain(&self.shared) {
                break;
            }
            // The host's limits count threads that rest: they make room.
            std::thread::sleep(DRAIN_PAUSE);
            cloned = self.order_thread(&slot);
        }
        cloned?;
        self.adopt(slot)
    }

    fn order_thread(&self, slot: &Slot) -> Result<(), PlatformError> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        agent.settle(|| !self.process.has_ended())?;
        agent.order_thread(slot.addr, (!slot.is_mapped).then_some(&slot.window));
        agent.wait(|| !self.process.has_ended()).map(drop)
    }

    fn fork_process(
        &self,
        child: &Agent,
        thread: Option<&Arc<Window>>,
    ) -> Result<Arc<Process>, PlatformError> {
        let registry = &self.shared.registry;
        let since = registry.newest();
        let doubt = |_: &PlatformError| registry.doubt(&self.process, since, Windows::new(child, thread));
        let pid = {
            let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
            agent.settle(|| !self.process.has_ended())?;
            agent.order_fork(child);
            agent.wait(|| !self.process.has_ended()).inspect_err(doubt)?
        };
        registry.enter_child(&self.process, pid, child.mark()).inspect_err(doubt)
    }

    /// A copy of this stub without guest threads.
    ///
    /// # Errors
    /// When the host refuses or the stub misbehaves.
    pub fn fork_pristine(&self) -> Result<Arc<Self>, PlatformError> {
        let agent = Agent::allocate(&self.shared.arena)?;
        let process = self.fork_process(&agent, None)?;
        Ok(Self::new(Arc::clone(&self.shared), process, agent))
    }

    /// A copy of this stub with one guest thread.
    ///
    /// # Errors
    /// When the host refuses or the stub misbehaves.
    pub fn fork_with_thread(&self) -> Result<(Arc<Self>, SystrapContext), PlatformError> {
        let (mut agent, window) = orphans::newborn(&self.process, &self.shared.arena)?;
        let slot = Slot { addr: SLOTS_BASE, window, is_mapped: false };
        self.prepare_slot(&slot);
        agent.prepare_thread(slot.addr, Some(&slot.window));
        // Held, so that the copy has nothing half written.
        let patches = self.patches();
        let process = {
            // Held, so that the copy has no descriptor that is on its way to a mapping.
            let _passing = self.passing();
            self.fork_process(&agent, Some(&slot.window))?
        };
        let space = Self::with(Arc::clone(&self.shared), process, agent, (patches.clone(), self.heat.copy()));
        drop(patches);
        space.slots().next = 1;
        let context = space.adopt(slot).inspect_err(|_| space.process.kill())?;
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
        self.process.on_death(notice);
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
        let (space, mut context) = self.space.fork_with_thread()?;
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
