//! Clocks and timers.
//!
//! Key types: [`Timers`] (one heap and thread for the sandbox), [`ProcessTimers`] (`setitimer`, `timer_create`).

mod cpu_limit;
mod process_timers;
mod timers;

pub use process_timers::{IntervalTimer, NewPosixTimer, PosixTimer, ProcessTimers, Setting, TimerClock};
pub use timers::{Armed, Expire, Timers};
