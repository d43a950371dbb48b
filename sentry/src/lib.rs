//! The kernel core: a user-space Linux kernel that serves the tasks of one sandbox.
//!
//! It reaches nothing outside itself but through three doors: the `platform` crate (guest code, host descriptors,
//! clocks), the `gofer-protocol` crate (paths) and the `control` crate (the shim). It never names a system call
//! number: the `syscalls` crate hands it a [`task::SyscallAbi`].
//!
//! Rooms: [`kernel`] the sandbox as a whole; [`task`] threads, processes, signals; [`mm`] guest memory;
//! [`vfs`] paths, mounts, open files; [`fs`] the file systems and file-like objects; [`net`] sockets;
//! [`sync`] waiting; [`time`] clocks and timers; [`ipc`] System V and POSIX IPC; [`container`] the shim's view.
//!
//! LOCK order, outermost first (a lock further down may be taken while one above is held, never the reverse):
//! ```text
//! process.exec_update (who a process is and which memory it has)
//! kernel.tasks (the process tree)
//!   └ process.inner
//!       └ task.inner, process.signals
//!           └ a tmpfs: file content > turn (which pages guests may fill)
//!           └ mm.inner
//!               └ vfs: mount table > dentry > inode > open file position > fd table
//!                   └ wait queues, parkers (leaf)
//! ```
//! Nobody waits, calls the gofer or runs guest code while holding a lock, unless the lock's own comment says so.

#![forbid(unsafe_code)]

pub mod account;
pub mod container;
pub mod descriptors;
pub mod fs;
pub mod io;
pub mod ipc;
pub mod kernel;
pub mod kernel_log;
pub mod load;
pub mod machine;
pub mod mm;
pub mod net;
pub mod sync;
pub mod sysctls;
pub mod task;
#[cfg(test)]
mod testing;
pub mod time;
pub mod trim;
pub mod vfs;

pub use linux_abi::Errno;
