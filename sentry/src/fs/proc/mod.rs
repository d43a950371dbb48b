//! `/proc`.

pub mod figures;
