//! Interprocess communication: System V's shared memory, semaphores and message queues (`sysvipc(7)`), and POSIX message
//! queues (`mq_overview(7)`).
//!
//! Key type: [`Namespace`], shared by all containers of a pod. Nothing here waits: operations say that they would have to,
//! and offer a queue.
//!
//! LOCK: each table and each object has a leaf lock of its own, table before object; an object's drop may lock its table.

mod message;
mod posix;
mod semaphore;
mod shared_memory;
mod table;
#[cfg(test)]
mod tests;

pub use message::{MSGMAX, MSGMNB, MSGMNI, Message, Messages, Queue, Selector};
pub use posix::{PRIORITIES, PosixQueue, PosixQueues, QueueFile, QueueSize};
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
    /// POSIX message queues.
    pub posix: PosixQueues,
}

impl Namespace {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shared_memory: SharedMemory::new(),
            semaphores: Semaphores::default(),
            messages: Messages::default(),
            posix: PosixQueues::default(),
        })
    }
}

/// Names a process to [`Semaphores`].
#[must_use]
pub fn undo_owner(process: &Process) -> UndoOwner {
    process.key
}

/// Seconds since 1970, as the structures have them.
fn now_seconds() -> i64 {
    i64::try_from(now_ns(Clock::Realtime) / 1_000_000_000).unwrap_or(i64::MAX)
}
