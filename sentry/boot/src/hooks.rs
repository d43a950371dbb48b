//! Which rooms of the kernel does a container use? The file systems it may mount, and how its tree and terminals are made.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use control::ContainerConfig;
use sentry::container::{Hooks, NewTerminal};
use sentry::kernel::Kernel;
use sentry::task::{PidNamespace, Process};
use sentry::vfs::MountNamespace;

/// Tells the kernel of its file systems and devices.
pub fn register(kernel: &Arc<Kernel>) {
    sentry::fs::register(kernel);
}

/// The kernel's own rooms.
pub struct Rooms;

impl Hooks for Rooms {
    fn build_root(
        &self,
        kernel: &Arc<Kernel>,
        config: &ContainerConfig,
        gofer: OwnedFd,
        pids: &Arc<PidNamespace>,
    ) -> Result<Arc<MountNamespace>, String> {
        sentry::vfs::container::build(kernel, gofer, config, pids).map_err(|error| error.to_string())
    }

    fn new_terminal(
        &self,
        process: &Arc<Process>,
        mounts: &Arc<MountNamespace>,
    ) -> Result<NewTerminal, String> {
        sentry::fs::tty::devpts::new_terminal(process, mounts)
    }
}
