//! `pipe`, `pipe2`.

use linux_abi::poll::{O_CLOEXEC, O_DIRECT, O_NONBLOCK};
use linux_abi::{Errno, UserPtr};
use sentry::fs::pipe;
use sentry::task::Current;

/// `pipe(2)`: <https://man7.org/linux/man-pages/man2/pipe.2.html>
pub(crate) fn pipe(current: &mut Current, fds: UserPtr<[i32; 2]>) -> Result<(), Errno> {
    pipe2(current, fds, 0)
}

/// `pipe2(2)`: <https://man7.org/linux/man-pages/man2/pipe2.2.html>
pub(crate) fn pipe2(current: &mut Current, fds: UserPtr<[i32; 2]>, flags: u32) -> Result<(), Errno> {
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let (reader, writer) = pipe::new_pair(current.task(), flags);
    let read_fd = super::install(current, reader, flags)?;
    let write_fd = super::install(current, writer, flags);
    let result = write_fd.and_then(|write_fd| {
        let written = current.write_object(fds, &[read_fd.0, write_fd.0]);
        written.inspect_err(|_| drop(current.files().remove(write_fd)))
    });
    // Nobody else has seen the number: nothing is lost if another thread has closed it already.
    result.inspect_err(|_| drop(current.files().remove(read_fd)))
}
