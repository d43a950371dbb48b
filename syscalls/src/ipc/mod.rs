//! Interprocess communication: System V's `shm`, `sem`, `msg`, and POSIX `mqueue`.

pub(crate) mod mqueue;
pub(crate) mod msg;
pub(crate) mod sem;
pub(crate) mod shm;

use std::sync::Arc;

use linux_abi::Errno;
use sentry::ipc::{Caller, Namespace};
use sentry::task::{Credentials, Current};

/// The objects that the running task sees.
fn namespace(current: &Current) -> Arc<Namespace> {
    Arc::clone(&current.kernel().ipc)
}

/// The running task as the objects know it.
struct Me {
    credentials: Arc<Credentials>,
    pid: i32,
}

impl Me {
    fn of(current: &Current) -> Self {
        Self { credentials: current.credentials(), pid: current.process().pid }
    }

    fn caller(&self) -> Caller<'_> {
        Caller { credentials: &self.credentials, pid: self.pid }
    }
}

/// A size or count for a structure's field.
fn int(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// An index or id in the result register.
fn index(n: usize) -> Result<u64, Errno> {
    Ok(n as u64)
}
