//! `timerfd_create`, `timerfd_settime`, `timerfd_gettime`.

use linux_abi::poll::{O_CLOEXEC, O_NONBLOCK};
use linux_abi::time::Itimerspec;
use linux_abi::{Errno, UserPtr};
use sentry::fs::timerfd::{self, Base};
use sentry::task::Current;
use sentry::vfs::Fd;

/// `TFD_TIMER_ABSTIME`.
const ABSTIME: u32 = 1;
/// `TFD_TIMER_CANCEL_ON_SET`: the clock is never set, so nothing is ever cancelled.
const CANCEL_ON_SET: u32 = 2;

/// `timerfd_create(2)`: <https://man7.org/linux/man-pages/man2/timerfd_create.2.html>
pub(crate) fn timerfd_create(current: &mut Current, clock: i32, flags: u32) -> Result<Fd, Errno> {
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = timerfd::new(current.task(), Base::from_clock(clock)?, flags & O_NONBLOCK);
    super::install(current, file, flags)
}

/// `timerfd_settime(2)`: <https://man7.org/linux/man-pages/man2/timerfd_create.2.html>
pub(crate) fn timerfd_settime(
    current: &mut Current,
    fd: Fd,
    flags: u32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> Result<(), Errno> {
    let setting = current.read_object(new)?;
    if flags & !(ABSTIME | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = current.files().get(fd)?;
    let timer = timerfd::timer_of(&file).ok_or(Errno::EINVAL)?;
    let before = timer.set(setting, flags & ABSTIME != 0, flags)?;
    match old.non_null() {
        None => Ok(()),
        Some(old) => current.write_object(old, &before),
    }
}

/// `timerfd_gettime(2)`: <https://man7.org/linux/man-pages/man2/timerfd_create.2.html>
pub(crate) fn timerfd_gettime(
    current: &mut Current,
    fd: Fd,
    setting: UserPtr<Itimerspec>,
) -> Result<(), Errno> {
    let file = current.files().get(fd)?;
    let now = timerfd::timer_of(&file).ok_or(Errno::EINVAL)?.get();
    current.write_object(setting, &now)
}
