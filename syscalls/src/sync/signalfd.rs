//! `signalfd`, `signalfd4`.

use linux_abi::poll::{O_CLOEXEC, O_NONBLOCK};
use linux_abi::{Errno, UserPtr};
use sentry::fs::signalfd;
use sentry::task::Current;
use sentry::task::signal::SigSet;
use sentry::vfs::Fd;

/// `signalfd(2)`: <https://man7.org/linux/man-pages/man2/signalfd.2.html>
pub(crate) fn signalfd(current: &mut Current, fd: Fd, mask: UserPtr<u64>, size: usize) -> Result<Fd, Errno> {
    signalfd4(current, fd, mask, size, 0)
}

/// `signalfd4(2)`: <https://man7.org/linux/man-pages/man2/signalfd.2.html>
pub(crate) fn signalfd4(
    current: &mut Current,
    fd: Fd,
    mask: UserPtr<u64>,
    size: usize,
    flags: u32,
) -> Result<Fd, Errno> {
    if size != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    let mask = SigSet::blockable(current.read_object(mask)?);
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if fd.0 == -1 {
        let file = signalfd::new(current.task(), mask, flags & O_NONBLOCK);
        return super::install(current, file, flags);
    }
    let file = current.files().get(fd)?;
    signalfd::instance_of(&file).ok_or(Errno::EINVAL)?.set_mask(mask);
    Ok(fd)
}
