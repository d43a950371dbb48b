//! Clocks, timers and sleeping.
