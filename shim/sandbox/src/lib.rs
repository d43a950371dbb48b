//! What is common to the shim and the command line: from a bundle to a running sandbox, and back to nothing.
//!
//! Key types, in the order of use: [`plan::Plan`] (decided by a pure function), [`spawn::Launcher`] (starts sentry
//! and gofer), [`client::Client`] (talks to the sentry), [`cgroup::Cgroup`], and [`Sandbox`] and [`Container`],
//! which put them together. All of it blocks; none of it knows containerd.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod client;
pub mod fields;
pub mod hardening;
pub mod hooks;
pub mod ids;
pub mod plan;
pub mod rootfs;
pub mod spawn;
pub mod spec;

mod asked;
mod sandbox;

pub use asked::mount_option_names;
pub use hardening::Hardening;
pub use sandbox::{BootOptions, Container, Error, Sandbox};
