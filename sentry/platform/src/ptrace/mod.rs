//! The `ptrace` platform: guest threads run under `PTRACE_SYSEMU`, every call is a stop. Slow, simple, for hosts without what systrap needs.
//!
//! Key types: [`Ptrace`] (the platform), and in the rooms: [`space`] (address spaces and templates), [`context`] (a guest thread),
//! [`handle`] (its interrupts), [`tracee`] (the host's calls), [`passing`] (descriptors on their way into stubs), [`registers`].

pub mod context;
pub mod handle;
pub mod passing;
pub mod registers;
pub mod space;
pub mod tracee;

use std::sync::{Arc, Mutex};

use crate::api::{Platform, PlatformError, Template};
use crate::stub::arena::Arena;
use crate::stub::process::Registry;
use crate::stub::template::{First, Wall, fork_first};
use crate::systrap::extended;
use passing::Passing;
use space::{Space, SpaceTemplate};
use tracee::Tracee;

/// What all stubs of a sandbox have in common.
pub struct Shared {
    /// Shared memory.
    pub arena: Arc<Arena>,
    /// Processes.
    pub registry: Arc<Registry>,
    /// Address of the host's vDSO image in every stub.
    pub vdso: u64,
    /// Bytes of an XSAVE image with all enabled components.
    pub xsave_size: usize,
    /// LOCK: held while a descriptor is passed and mapped: all stubs have the same socket.
    pub passing: Mutex<Passing>,
}

/// The platform.
pub struct Ptrace {
    first: Arc<Space>,
}

/// The first stub has been forked; threads have not been started.
pub struct Prepared {
    arena: Arc<Arena>,
    first: First,
    passing: Passing,
}

/// First step, while the sentry is single-threaded: forks the first stub, and looks whether the host lets us trace it.
///
/// # Errors
/// When the host refuses.
pub fn prepare() -> Result<Prepared, PlatformError> {
    let host = |what| move |source| PlatformError::Host { what, source };
    let arena = Arena::new().map_err(host("shared memory for stubs"))?;
    let passing = Passing::new().map_err(host("socket for stubs"))?;
    let first = fork_first(&arena, Wall::Tracer(passing.theirs()))?;
    try_tracing(&first).map_err(host("trace a stub"))?;
    Ok(Prepared { arena, first, passing })
}

/// Traces the first stub's agent for a moment.
fn try_tracing(first: &First) -> std::io::Result<()> {
    let tracee = Tracee::new(first.pid, first.pid);
    tracee.seize()?;
    let gone = |_| std::io::Error::from_raw_os_error(libc::ESRCH);
    tracee.stop().map_err(gone)?;
    tracee.wait().map_err(gone)?;
    tracee.detach().map_err(gone)
}

impl Prepared {
    /// Second step: starts the platform's threads.
    ///
    /// # Errors
    /// When the first stub has died, or the host refuses threads.
    pub fn start(self) -> Result<Ptrace, PlatformError> {
        let threads = |source| PlatformError::Host { what: "platform threads", source };
        let registry = Arc::new(Registry::new().map_err(threads)?);
        let process = registry.enter(u64::from(self.first.pid.cast_unsigned()), self.first.agent.mark())?;
        registry.start().map_err(threads)?;
        let shared = Arc::new(Shared {
            arena: self.arena,
            registry,
            vdso: self.first.vdso,
            xsave_size: extended::xsave_size(),
            passing: Mutex::new(self.passing),
        });
        Ok(Ptrace { first: Space::new(shared, process, self.first.agent) })
    }
}

impl Platform for Ptrace {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn new_template(&self) -> Result<Arc<dyn Template>, PlatformError> {
        Ok(Arc::new(SpaceTemplate::new(self.first.fork_pristine()?)))
    }
}

impl Drop for Ptrace {
    fn drop(&mut self) {
        self.first.process().kill();
    }
}

#[cfg(test)]
mod tests;
