//! Waiting for things and telling of them: pipes, event descriptors, poll, select, epoll.

pub(crate) mod epoll;
pub(crate) mod event;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod select;
mod timeout;

use std::sync::Arc;

use linux_abi::Errno;
use linux_abi::poll::O_CLOEXEC;
use sentry::task::Current;
use sentry::vfs::{Fd, OpenFile};

/// Enters a new file at the lowest free number; `flags` may hold `O_CLOEXEC`.
pub(crate) fn install(current: &Current, file: Arc<OpenFile>, flags: u32) -> Result<Fd, Errno> {
    const NOFILE: u64 = 1 << 20;
    current.files().add(file, flags & O_CLOEXEC != 0, 0, NOFILE)
}
