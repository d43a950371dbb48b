//! Tasks: birth, death, programs, ids, limits, scheduling.

pub(crate) mod capabilities;
pub(crate) mod clone;
pub(crate) mod exec;
pub(crate) mod exit;
pub(crate) mod futex;
pub(crate) mod groups;
pub(crate) mod ids;
pub(crate) mod limits;
pub(crate) mod pidfd;
pub(crate) mod prctl;
pub(crate) mod scheduling;
pub(crate) mod thread;
pub(crate) mod vm_access;

use std::sync::Arc;

use linux_abi::Errno;
use sentry::task::{Current, Process, Task};

/// The process with that id, or the caller's own for 0.
fn process_by_id(current: &Current, pid: i32) -> Result<Arc<Process>, Errno> {
    match pid {
        0 => Ok(Arc::clone(current.process())),
        _ => current.process().namespace.process(pid).ok_or(Errno::ESRCH),
    }
}

/// The task with that id, or the caller itself for 0.
fn task_by_id(current: &Current, tid: i32) -> Result<Arc<Task>, Errno> {
    match tid {
        0 => Ok(Arc::clone(current.task())),
        _ => current.process().namespace.task(tid).ok_or(Errno::ESRCH),
    }
}
