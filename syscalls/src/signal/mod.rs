//! Signals: actions and masks, sending, waiting and coming back from handlers.

pub(crate) mod action;
pub(crate) mod send;
pub(crate) mod wait;

use linux_abi::Errno;

/// Length of the kernel's signal sets; EINVAL for any other.
fn check_size(size: usize) -> Result<(), Errno> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}
