//! Waiting for things and telling of them: pipes, event descriptors, poll, select, epoll.

pub(crate) mod epoll;
pub(crate) mod event;
pub(crate) mod harmless;
pub(crate) mod inotify;
mod mask;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod select;
pub(crate) mod signalfd;
mod timeout;
pub(crate) mod timerfd;

use std::sync::Arc;

use linux_abi::Errno;
use linux_abi::poll::O_CLOEXEC;
use sentry::task::{Current, Resource};
use sentry::vfs::{Fd, OpenFile};

/// Enters a new file at the lowest free number; `flags` may hold `O_CLOEXEC`.
pub(crate) fn install(current: &Current, file: Arc<OpenFile>, flags: u32) -> Result<Fd, Errno> {
    let limit = current.process().limit(Resource::Nofile).soft;
    current.files().add(file, flags & O_CLOEXEC != 0, 0, limit)
}
