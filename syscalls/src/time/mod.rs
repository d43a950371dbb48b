//! Clocks, sleeps and timers.

pub(crate) mod clocks;
pub(crate) mod sleep;
pub(crate) mod timers;
