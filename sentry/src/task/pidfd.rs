//! A descriptor that stands for a process (`pidfd_open(2)`, `CLONE_PIDFD`).
//!
//! Key type: [`PidFd`]. It becomes readable when the process has ended.

use std::any::Any;
use std::sync::Arc;

use linux_abi::{Errno, UserPtr};

use super::{Current, Process, Resource};
use crate::sync::{Events, WaitQueue};
use crate::vfs::{Fd, FileOps, OpenFile};

const O_RDWR: u32 = 2;

/// A process as an open file.
pub struct PidFd {
    /// The process.
    pub process: Arc<Process>,
}

impl FileOps for PidFd {
    fn readiness(&self) -> Events {
        if self.process.is_zombie() { Events::READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.process.exit_events)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn fdinfo(&self) -> String {
        let pid = if self.process.is_zombie() { -1 } else { self.process.pid };
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }
}

/// The process that a descriptor stands for.
///
/// # Errors
/// EBADF if it does not stand for one.
pub fn process_of(file: &OpenFile) -> Result<Arc<Process>, Errno> {
    let pidfd = file.ops.as_any().downcast_ref::<PidFd>().ok_or(Errno::EBADF)?;
    Ok(Arc::clone(&pidfd.process))
}

/// Opens a descriptor for `process`; `flags` are `O_NONBLOCK` or 0.
///
/// # Errors
/// EMFILE.
pub fn open(current: &Current, process: &Arc<Process>, flags: u32) -> Result<Fd, Errno> {
    let credentials = current.credentials();
    let location = current.kernel().vfs.anonymous("pidfd", 0o600, credentials.fsuid, credentials.fsgid);
    let file = OpenFile::new(Arc::new(PidFd { process: Arc::clone(process) }), location, O_RDWR | flags);
    current.files().add(file, true, 0, current.process().limit(Resource::Nofile).soft)
}

/// `CLONE_PIDFD`: opens a descriptor and tells the guest its number at `addr`.
///
/// # Errors
/// EMFILE, EFAULT.
pub(super) fn install(current: &mut Current, process: &Arc<Process>, addr: u64) -> Result<Fd, Errno> {
    let fd = open(current, process, 0)?;
    if let Err(errno) = current.write_object(UserPtr::new(addr), &fd.0) {
        let _ = current.files().remove(fd);
        return Err(errno);
    }
    Ok(fd)
}
