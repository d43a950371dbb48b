//! Which behaviours of Linux does a guest see? The C programs beside this file hold them, one named test each;
//! this crate builds the programs ([`Programs`]), runs them on the host or in a sandbox ([`Runner`]) and knows which
//! failures are expected ([`Expectations`]).
//!
//! A new behaviour is one `TEST(name) { ... }` in a file of its area's folder (see `harness.h`); nothing else has to be
//! told about it. It must pass on the host before it means anything.
#![forbid(unsafe_code)]

mod expectations;
mod faulty_fs;
mod options;
mod programs;
mod report;
mod rows;
mod runner;

pub use expectations::{Expectations, Judgement};
pub use faulty_fs::{FaultyFs, Writes};
pub use options::{Answer, List, Row};
pub use programs::{Program, Programs};
pub use report::conclude;
pub use rows::{Answers, Rows};
pub use runner::{Outcome, Place, Results, Runner, find_rvisor};
