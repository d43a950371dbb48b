//! `eventfd`, `eventfd2`.

use linux_abi::Errno;
use linux_abi::poll::{EFD_SEMAPHORE, O_CLOEXEC, O_NONBLOCK};
use sentry::fs::eventfd::{self, ReadMode};
use sentry::task::Current;
use sentry::vfs::Fd;

/// `eventfd(2)`: <https://man7.org/linux/man-pages/man2/eventfd.2.html>
pub(crate) fn eventfd(current: &mut Current, initial: u32) -> Result<Fd, Errno> {
    eventfd2(current, initial, 0)
}

/// `eventfd2(2)`: <https://man7.org/linux/man-pages/man2/eventfd.2.html>
pub(crate) fn eventfd2(current: &mut Current, initial: u32, flags: u32) -> Result<Fd, Errno> {
    if flags & !(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let mode = if flags & EFD_SEMAPHORE == 0 { ReadMode::All } else { ReadMode::One };
    let file = eventfd::new(current.task(), initial, mode, flags & O_NONBLOCK);
    super::install(current, file, flags)
}
