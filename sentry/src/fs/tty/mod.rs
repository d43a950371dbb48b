//! Terminals.

pub mod discipline;
