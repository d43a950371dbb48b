//! The sandbox as a whole: what all its containers share.
//!
//! Key type: [`Kernel`].

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use control::BootConfig;
use platform::Platform;
use platform::host::poller::Poller;

use crate::account::Accounts;
use crate::descriptors::Descriptors;
use crate::machine::Machine;
use crate::task::{PiLocks, ProcessTree, SyscallAbi};
use crate::time::Timers;
use crate::vfs::System;

/// One sandbox.
pub struct Kernel {
    /// How it was booted.
    pub config: BootConfig,
    /// How guest code runs.
    pub platform: Arc<dyn Platform>,
    /// The system call table.
    pub abi: Arc<dyn SyscallAbi>,
    /// File system types, device drivers, the place of nameless files.
    pub vfs: Arc<System>,
    /// What guests believe about their machine.
    pub machine: Machine,
    /// What it keeps for each container.
    pub accounts: Accounts,
    /// Who holds how many descriptors of the host.
    pub descriptors: Descriptors,
    /// Readiness of host descriptors.
    pub poller: Arc<Poller>,
    /// Its processes.
    pub tasks: ProcessTree,
    /// Who waits for priority-inheriting futexes.
    pub pi_locks: Arc<PiLocks>,
    /// System V objects.
    pub ipc: Arc<crate::ipc::Namespace>,
    /// What sockets share.
    pub net: Arc<crate::net::Namespace>,
    /// What happens when a time comes.
    pub timers: Arc<Timers>,
    /// What gives free memory back to the host.
    pub trim: Arc<crate::trim::Trim>,
    /// How much of the processors its processes have wanted of late.
    pub load: crate::load::Load,
    /// The next login's number.
    pub logins: AtomicU32,
}
