//! Which host calls each of our processes may make, how the kernel is told, and how a process enters its jail.
//!
//! Key types: [`Policy`] and [`Rule`] (the lists, in [`policy`]), [`install`], [`bpf::Program`] (the assembler
//! below) and [`jail::Jail`] (starting a process with little left to it). What a guest may do is not decided
//! here: the stub's own filter is made in `platform` with the same assembler.

// Only `jail` may allow it again, with its reason.
#![deny(unsafe_code)]

pub mod bpf;
pub mod compile;
#[allow(unsafe_code, reason = "entering the jail is raw system calls between clone and exec")]
pub mod jail;
pub mod policy;
pub mod rule;

pub use compile::{InstallError, Unexpected, install};
pub use rule::{Door, Policy, Rule};
