//! Does a container under a real containerd behave? Named cases, run through `ctr` as an operator would.
//!
//! Key types: [`world::World`] (a private containerd with its images), [`cases::Case`] (a named behaviour)
//! and [`leaks::Snapshot`] (what a run may not leave behind). The runtime is a parameter: `runc` proves the
//! harness, ours has to give the same answers. Cases that need our own processes say so.

#![forbid(unsafe_code)]

pub mod cases;
pub mod command;
pub mod cri;
pub mod leaks;
pub mod options;
pub mod processes;
pub mod world;
