//! `getsockopt`, `setsockopt`.

use linux_abi::{Errno, UserPtr};
use sentry::task::Current;
use sentry::vfs::Fd;

use super::{file_of, socket};

/// No option that is served is longer.
const VALUE_MAX: usize = 4096;

/// `getsockopt(2)`: <https://man7.org/linux/man-pages/man2/getsockopt.2.html>
pub(crate) fn getsockopt(
    current: &mut Current,
    fd: Fd,
    level: i32,
    name: i32,
    value: UserPtr<u8>,
    len: UserPtr<i32>,
) -> Result<(), Errno> {
    let file = file_of(current, fd)?;
    let room = usize::try_from(current.read_object(len)?).map_err(|_| Errno::EINVAL)?;
    let mut answer = socket(&file)?.get_option(current.task(), level, name, room.min(VALUE_MAX))?;
    answer.truncate(room);
    current.write_user(value.addr(), &answer)?;
    current.write_object(len, &i32::try_from(answer.len()).unwrap_or(0))
}

/// `setsockopt(2)`: <https://man7.org/linux/man-pages/man2/getsockopt.2.html>
pub(crate) fn setsockopt(
    current: &mut Current,
    fd: Fd,
    level: i32,
    name: i32,
    value: UserPtr<u8>,
    len: i32,
) -> Result<(), Errno> {
    let file = file_of(current, fd)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    let mut bytes = vec![0; len.min(VALUE_MAX)];
    current.read_user(value.addr(), &mut bytes)?;
    socket(&file)?.set_option(current.task(), level, name, &bytes)
}
