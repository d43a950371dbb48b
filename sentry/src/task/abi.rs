//! How a system call reaches its handler, and what it may answer.
//!
//! Key types: [`SyscallAbi`], [`Outcome`].

use super::Current;
use crate::Errno;

/// What a system call comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This value goes into the result register.
    Return(u64),
    /// An error; restart codes are turned into EINTR or a restart when signals are delivered.
    Error(Errno),
    /// The handler has set all registers itself (`rt_sigreturn`, `execve`).
    KeepRegs,
    /// The task has ended.
    Exit,
}

/// The system call table, seen from the kernel.
pub trait SyscallAbi: Send + Sync {
    /// Performs call `number` for the running task.
    fn call(&self, current: &mut Current, number: u64, args: [u64; 6]) -> Outcome;

    /// What call `number`, whose arguments are in the registers, answers to a signal that came while the host served it for `waited_ns`: a
    /// restart code, or EINTR.
    fn wait_interrupted(&self, current: &mut Current, number: u64, waited_ns: u64) -> Errno;

    /// The call never takes a descriptor from its process, gives one to another process, or makes a task.
    fn leaves_descriptors(&self, number: u64) -> bool;

    /// Its name, for logs.
    fn name(&self, number: u64) -> Option<&'static str>;
}
