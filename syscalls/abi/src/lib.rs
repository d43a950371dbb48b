//! The Linux system call ABI as plain data: numbers, constants, structures, typed guest addresses.
//!
//! Bottom of the crate graph: no behaviour, no host, no unsafe. One module per header family; a structure that
//! crosses into guest memory derives zerocopy's traits and carries the man page or kernel file in its comment.

#![forbid(unsafe_code)]

pub mod elf;
pub mod errno;
pub mod fs;
pub mod ipc;
pub mod misc;
pub mod mm;
pub mod net;
pub mod nr;
pub mod poll;
pub mod regs;
pub mod signal;
pub mod task;
pub mod time;
pub mod tty;
pub mod user;

pub use errno::Errno;
pub use regs::Registers;
pub use user::{PAGE_SIZE, TASK_SIZE, UserCStr, UserPtr};
