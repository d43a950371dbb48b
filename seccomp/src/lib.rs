//! Which host calls each of our processes may make, and how the kernel is told.
//!
//! Key types: [`bpf::Program`] (rules to BPF) and [`jail::Jail`] (starting a process with little left to it).
//! What a guest may do is not decided here: the stub's own filter is made in `platform` with the same assembler.

// Only `jail` may allow it again, with its reason.
#![deny(unsafe_code)]

pub mod bpf;
#[allow(unsafe_code, reason = "entering the jail is raw system calls between clone and exec")]
pub mod jail;
