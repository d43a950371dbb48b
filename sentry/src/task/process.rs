//! Processes (thread groups) and the namespaces of their ids.
//!
//! Key types: [`Process`], [`PidNamespace`].

use std::sync::Arc;

use crate::kernel::Kernel;

/// A thread group.
pub struct Process {
    /// Thread group id in its pid namespace.
    pub pid: i32,
    /// The sandbox.
    pub kernel: Arc<Kernel>,
    /// Where its ids are numbers.
    pub namespace: Arc<PidNamespace>,
    /// The container it belongs to.
    pub container: String,
}

/// A space of process ids; one per container, unless the pod shares one.
pub struct PidNamespace {
    /// Inode number in `/proc/PID/ns/pid`.
    pub id: u32,
}
