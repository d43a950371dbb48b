//! Sockets: the calls of `socket(2)` and its relatives.

mod guest;
pub(crate) mod io;
pub(crate) mod message;
pub(crate) mod option;
pub(crate) mod socket;

use std::sync::Arc;

use linux_abi::Errno;
use sentry::net::Socket;
use sentry::task::Current;
use sentry::vfs::{Fd, OpenFile};

/// The open file of a socket's descriptor.
fn file_of(current: &Current, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    let file = current.files().get(fd)?;
    if file.ops.as_socket().is_some() { Ok(file) } else { Err(Errno::ENOTSOCK) }
}

/// The socket of an open file from [`file_of`].
fn socket(file: &OpenFile) -> Result<&dyn Socket, Errno> {
    file.ops.as_socket().ok_or(Errno::ENOTSOCK)
}
