//! The system calls of Linux: the table, argument decoding, and one handler per call.
//!
//! Handlers are thin: decode, find the object, call it. The objects live in the `sentry` crate.
//! Rooms follow the man pages: [`fs`](self), `mm`, `task`, `signal`, `net`, `time`, `ipc`, `sync` (futex, poll, epoll,
//! eventfd...), `misc`.

#![forbid(unsafe_code)]

mod args;
mod fs;
mod ipc;
mod misc;
mod mm;
mod net;
pub mod page;
mod signal;
mod sync;
pub mod table;
mod task;
mod time;
