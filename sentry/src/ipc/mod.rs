//! System V interprocess communication: shared memory, semaphores, message queues (`sysvipc(7)`).
//!
//! Key type: [`Namespace`], shared by all containers of a pod. Nothing here waits: operations say that they would have to,
//! and offer a queue.
//!
//! LOCK: each table and each object has a leaf lock of its own, table before object; an object's drop may lock its table.

mod message;
mod semaphore;
mod shared_memory;
mod table;
#[cfg(test)]
mod tests;

pub use message::{MSGMAX, MSGMNB, MSGMNI, Message, Messages, Queue, Selector};
pub use semaphore::{Attempt, SEMMNI, SEMMNS, SEMMSL, SEMOPM, SEMVMX, SemaphoreSet, Semaphores, UndoOwner};
pub use shared_memory::{SHMALL, SHMMAX, SHMMNI, Segment, SharedMemory};
pub use table::{Caller, Permissions, Table};

use std::sync::Arc;

use platform::host::clock::{Clock, now_ns};

use crate::task::Process;

/// All System V objects that see each other.
pub struct Namespace {
    /// Shared memory segments.
    pub shared_memory: Arc<SharedMemory>,
    /// Semaphore sets.
    pub semaphores: Semaphores,
    /// Message queues.
    pub messages: Messages,
}

impl Namespace {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shared_memory: SharedMemory::new(),
            semaphores: Semaphores::default(),
            messages: Messages::default(),
        })
    }
}

/// Names a process to [`Semaphores`]: its address, since it lives until its exit has undone what it did.
#[must_use]
pub fn undo_owner(process: &Arc<Process>) -> UndoOwner {
    Arc::as_ptr(process) as usize as u64
}

/// Seconds since 1970, as the structures have them.
fn now_seconds() -> i64 {
    i64::try_from(now_ns(Clock::Realtime) / 1_000_000_000).unwrap_or(i64::MAX)
}
