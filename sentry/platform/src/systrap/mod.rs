//! The `systrap` platform: guest code runs in stubs under seccomp; calls reach the sentry through rewritten call sites or `SIGSYS`.
//!
//! Key types: [`Systrap`] (the platform), and in the rooms: [`space`] (address spaces and templates), [`context`] (a guest thread),
//! [`along`] (arguments and results that the stub copies), [`handover`] (how the two threads meet), [`frame`] (registers in
//! pages and signal frames), [`patch`] (rewritten call sites).

mod along;
mod berth;
pub mod context;
pub mod decode;
mod entries;
pub mod extended;
pub mod frame;
mod gs;
pub mod handle;
pub mod handover;
pub mod heat;
mod orders;
pub mod patch;
mod pulse;
mod queue;
mod rewrite;
pub mod site;
pub mod space;
mod strays;
pub mod waits;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use crate::api::{Platform, PlatformError, Template};
use crate::stub::arena::Arena;
use crate::stub::filter::Natives;
use crate::stub::process::Registry;
use crate::stub::template::{First, Wall, fork_first};
use crate::sys;
use space::{Space, SpaceTemplate};

/// Which fast paths are on; see `control::Tuning`, from which the boot binary fills it.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "named as in control::Tuning")]
pub struct Options {
    pub patch: bool,
    pub identity: bool,
    pub native_futex: bool,
    pub futex_spin: bool,
    pub native_clock: bool,
    pub spin: bool,
    pub stub_copy: bool,
    pub epoll_queue: bool,
    pub thread_state: bool,
}

impl Options {
    /// Guest threads keep their signal mask and the like: only rewritten sites come to where they do.
    const fn keeps_thread_state(self) -> bool {
        self.patch && self.thread_state
    }
}

/// How many processors a mask names.
fn processors(mask: &[u64]) -> usize {
    mask.iter().map(|word| word.count_ones() as usize).sum::<usize>().max(1)
}

/// What all stubs of a sandbox have in common.
pub struct Shared {
    /// Shared memory.
    pub arena: Arc<Arena>,
    /// Processes.
    pub registry: Arc<Registry>,
    /// Filters for guest threads.
    pub filters: crate::stub::template::Filters,
    /// Address of the host's vDSO image in every stub.
    pub vdso: u64,
    /// Fast paths.
    pub options: Options,
    /// Futex waits watch their word for a while first: it pays where another processor may change it meanwhile.
    pub watches_futexes: bool,
    /// Processors that the sentry may use, as a mask.
    pub cpus: Vec<u64>,
    /// How many they are.
    pub cpu_count: usize,
    /// Guest threads that rest, with their sentry threads. LOCK: leaf.
    pub berths: Mutex<Vec<Arc<berth::Berth>>>,
    /// Guest threads that spin now, each with a processor of its own for its sentry thread.
    pub spinning: AtomicUsize,
    /// When guest threads last asked for something.
    pub pulses: pulse::Pulses,
    /// Spin rounds of a guest thread: about 20 us.
    pub spin_rounds: u32,
    /// Cycles of a microsecond.
    pub cycles_per_us: u64,
    /// Bytes of an XSAVE image with all enabled components.
    pub xsave_size: usize,
}

/// The platform.
pub struct Systrap {
    first: Arc<Space>,
}

/// The first stub has been forked; threads have not been started.
pub struct Prepared {
    arena: Arc<Arena>,
    first: First,
    options: Options,
    watches_futexes: bool,
}

/// Looks whether the host can run this platform.
///
/// # Errors
/// The feature that is missing.
pub fn probe() -> Result<(), PlatformError> {
    // SAFETY: reads the auxiliary vector.
    let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    if hwcap2 & 2 == 0 {
        return Err(PlatformError::Missing("FSGSBASE instructions"));
    }
    let sizes: [u16; 3] = [0; 3];
    // SAFETY: the kernel writes three 16-bit sizes.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, 3, 0, sizes.as_ptr()) };
    if answer != 0 {
        return Err(PlatformError::Missing("seccomp user notification"));
    }
    Ok(())
}

/// First step, while the sentry is single-threaded: forks the first stub.
///
/// # Errors
/// When the host lacks a feature or refuses.
pub fn prepare(options: Options) -> Result<Prepared, PlatformError> {
    probe()?;
    let arena =
        Arena::new().map_err(|source| PlatformError::Host { what: "shared memory for stubs", source })?;
    let watches_futexes =
        options.patch && options.native_futex && options.futex_spin && processors(&sys::affinity()) > 1;
    let natives = Natives { futex: options.native_futex, clock: options.native_clock };
    let first = fork_first(&arena, Wall::Filter(natives))?;
    Ok(Prepared { arena, first, options, watches_futexes })
}

impl Prepared {
    /// Second step: starts the platform's threads.
    ///
    /// # Errors
    /// When the first stub has died, or the host refuses threads.
    pub fn start(self) -> Result<Systrap, PlatformError> {
        sys::install_kick();
        let threads = |source| PlatformError::Host { what: "platform threads", source };
        let registry = Arc::new(Registry::new().map_err(threads)?);
        let process = registry.enter(u64::from(self.first.pid.cast_unsigned()), self.first.agent.mark())?;
        registry.start().map_err(threads)?;
        let cpus = sys::affinity();
        let cpu_count = processors(&cpus);
        let (cycles_per_us, spin_rounds) = calibrate();
        let shared = Arc::new(Shared {
            arena: self.arena,
            registry,
            filters: self.first.filters,
            vdso: self.first.vdso,
            options: self.options,
            watches_futexes: self.watches_futexes,
            cpus,
            cpu_count,
            berths: Mutex::default(),
            spinning: AtomicUsize::new(0),
            pulses: pulse::Pulses::new(cycles_per_us),
            spin_rounds,
            cycles_per_us,
            xsave_size: extended::xsave_size(),
        });
        Ok(Systrap { first: Space::new(shared, process, self.first.agent) })
    }
}

/// Cycles of a microsecond, and rounds of the guest's spin loop in 20 of them.
fn calibrate() -> (u64, u32) {
    const ROUNDS: u64 = 2000;
    let (time, cycles) = (std::time::Instant::now(), sys::cycles());
    let mut pauses = 0;
    while time.elapsed().as_micros() < 300 {
        for _ in 0..ROUNDS {
            std::hint::spin_loop();
        }
        pauses += ROUNDS;
    }
    let ns = u64::try_from(time.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
    let cycles_per_us = ((sys::cycles() - cycles) * 1000 / ns).max(1);
    let rounds = pauses * 20_000 / ns;
    (cycles_per_us, u32::try_from(rounds).unwrap_or(1000).max(100))
}

impl Platform for Systrap {
    fn name(&self) -> &'static str {
        "systrap"
    }

    fn new_template(&self) -> Result<Arc<dyn Template>, PlatformError> {
        Ok(Arc::new(SpaceTemplate::new(self.first.fork_pristine()?)))
    }
}

impl Drop for Systrap {
    fn drop(&mut self) {
        self.first.process().kill();
    }
}

#[cfg(test)]
mod gs_tests;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod tests;
