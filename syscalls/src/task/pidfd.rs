//! Processes as descriptors.

use std::sync::Arc;

use linux_abi::signal::{SigInfo, code};
use linux_abi::{Errno, UserPtr};
use sentry::fs::{epoll, proc};
use sentry::task::signal::{Sender, Signal, may_signal};
use sentry::task::{AccessMode, Current, Resource, pidfd};
use sentry::vfs::Fd;

const O_NONBLOCK: u32 = 0o4000;

/// `pidfd_open(2)`: <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>
pub(crate) fn pidfd_open(current: &mut Current, pid: i32, flags: u32) -> Result<Fd, Errno> {
    if flags & !O_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let namespace = &current.process().namespace;
    let Some(process) = namespace.process(pid) else {
        // A thread that is not a leader.
        return Err(if namespace.task(pid).is_some() { Errno::EINVAL } else { Errno::ESRCH });
    };
    pidfd::open(current, &process, flags)
}

/// `pidfd_send_signal(2)`: <https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html>
pub(crate) fn pidfd_send_signal(
    current: &mut Current,
    fd: Fd,
    signal: i32,
    info: UserPtr<SigInfo>,
    flags: u32,
) -> Result<(), Errno> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = current.files().get(fd)?;
    let process = pidfd::process_of(&file).or_else(|errno| proc::process_of(&file).ok_or(errno))?;
    let own = current.process();
    let info = match info.non_null() {
        None => SigInfo::from_process(signal, code::SI_USER, own.pid, current.credentials().uid),
        Some(info) => {
            let info = current.read_object(info)?;
            if info.signo != signal {
                return Err(Errno::EINVAL);
            }
            if process.key != own.key && (info.code >= 0 || info.code == code::SI_TKILL) {
                return Err(Errno::EPERM);
            }
            info
        }
    };
    let signal = if signal == 0 { None } else { Some(Signal::new(signal)?) };
    if process.is_zombie() {
        return Err(Errno::ESRCH);
    }
    if !may_signal(current.task(), &process, signal) {
        return Err(Errno::EPERM);
    }
    if signal.is_some() && !process.send(info, Sender::Guest) { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// `pidfd_getfd(2)`: <https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html>
pub(crate) fn pidfd_getfd(current: &mut Current, pidfd: Fd, target: Fd, flags: u32) -> Result<Fd, Errno> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let process = pidfd::process_of(&*current.files().get_any(pidfd)?)?;
    let (file, thread) = process.inspect(current.task(), AccessMode::Calls, |thread| {
        Ok((thread.files().get_any(target)?, Arc::clone(thread)))
    })?;
    if epoll::instance_of(&file).is_some() {
        // It may still have calls to make for which nobody else was to wait.
        thread.interrupt();
    }
    current.files().add(file, true, 0, current.process().limit(Resource::Nofile).soft)
}
