//! How guest code runs, and the doors to the host.
//!
//! This crate is the only one besides the jail that may be unsafe. [`api`] holds the traits that the kernel
//! depends on, [`bulk`] bytes shared with the guest, [`death`] what killed a guest, [`fake`] a platform for unit tests, [`host`] the safe doors to host files, sockets, memory files, clocks and pollers.

pub mod api;
pub mod bulk;
pub mod death;
pub mod fake;
#[cfg(test)]
mod guest_tests;
pub mod host;
pub mod ptrace;
pub mod select;
pub mod stub;
mod sys;
pub mod systrap;

pub use api::*;
pub use bulk::{BulkIn, BulkOut};
pub use death::Death;
