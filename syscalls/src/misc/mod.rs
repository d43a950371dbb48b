//! Calls about the machine as a whole.

pub(crate) mod log;
pub(crate) mod names;
pub(crate) mod random;
pub(crate) mod system;
