//! `exit`, `exit_group`, `wait4`, `waitid`.

use std::sync::Arc;

use linux_abi::task::{Rusage, wait as option};
use linux_abi::time::Timeval;
use linux_abi::{Errno, UserPtr};
use sentry::sync::Events;
use sentry::task::{ChildEvent, Current, ExitStatus, Outcome, WaitEnd, WaitFor};
use sentry::vfs::Fd;

const SIGCHLD: i32 = 17;

/// `_exit(2)`: <https://man7.org/linux/man-pages/man2/_exit.2.html>
pub(crate) fn exit(current: &mut Current, status: i32) -> Outcome {
    current.leaving().exit_code = low_byte(status);
    Outcome::Exit
}

/// `exit_group(2)`: <https://man7.org/linux/man-pages/man2/exit_group.2.html>
pub(crate) fn exit_group(current: &mut Current, status: i32) -> Outcome {
    current.process().exit_group(ExitStatus::Code(low_byte(status)));
    exit(current, status)
}

fn low_byte(status: i32) -> u8 {
    status.to_le_bytes()[0]
}

/// User and system time as `struct rusage`.
pub(super) fn rusage((user_ns, system_ns): (u64, u64)) -> Rusage {
    Rusage { utime: Timeval::from_ns(user_ns), stime: Timeval::from_ns(system_ns), ..Rusage::default() }
}

/// What a child has used. A moment may pass until the host has told its size.
fn child_rusage(event: &ChildEvent) -> Rusage {
    let maxrss = i64::try_from(event.peaks.clone().bytes_soon() >> 10).unwrap_or(i64::MAX);
    Rusage { maxrss, ..rusage(event.cpu_ns) }
}

/// `wait4(2)`: <https://man7.org/linux/man-pages/man2/wait4.2.html>
pub(crate) fn wait4(
    current: &mut Current,
    pid: i32,
    status: UserPtr<i32>,
    options: u32,
    usage: UserPtr<Rusage>,
) -> Result<i32, Errno> {
    const KNOWN: u32 = option::WNOHANG
        | option::WUNTRACED
        | option::WCONTINUED
        | option::WNOTHREAD
        | option::WCLONE
        | option::WALL;
    if options & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        _ if pid < -1 => WaitFor::Group(-pid),
        -1 => WaitFor::Any,
        0 => WaitFor::Group(own_group(current)?),
        _ => WaitFor::Pid(pid),
    };
    let Some(event) = wait_for(current, &which, options | option::WEXITED)? else { return Ok(0) };
    if let Some(status) = status.non_null() {
        current.write_object(status, &event.wait_status)?;
    }
    if let Some(usage) = usage.non_null() {
        current.write_object(usage, &child_rusage(&event))?;
    }
    Ok(event.pid)
}

/// `waitid(2)`: <https://man7.org/linux/man-pages/man2/waitid.2.html>
pub(crate) fn waitid(
    current: &mut Current,
    kind: i32,
    id: i32,
    info: UserPtr<[i32; 7]>,
    options: u32,
    usage: UserPtr<Rusage>,
) -> Result<(), Errno> {
    const EVENTS: u32 = option::WEXITED | option::WSTOPPED | option::WCONTINUED;
    const KNOWN: u32 =
        EVENTS | option::WNOHANG | option::WNOWAIT | option::WNOTHREAD | option::WCLONE | option::WALL;
    if options & !KNOWN != 0 || options & EVENTS == 0 {
        return Err(Errno::EINVAL);
    }
    let mut nonblocking = false;
    let which = match kind {
        option::P_ALL => WaitFor::Any,
        option::P_PID if id > 0 => WaitFor::Pid(id),
        option::P_PGID if id > 0 => WaitFor::Group(id),
        option::P_PGID if id == 0 => WaitFor::Group(own_group(current)?),
        option::P_PIDFD if id >= 0 => {
            let file = current.files().get(Fd(id))?;
            nonblocking = file.is_nonblocking() && options & option::WNOHANG == 0;
            WaitFor::Pid(sentry::task::pidfd::process_of(&file)?.pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let options = if nonblocking { options | option::WNOHANG } else { options };
    let event = wait_for(current, &which, options)?;
    if event.is_none() && nonblocking {
        return Err(Errno::EAGAIN);
    }
    if let (Some(usage), Some(event)) = (usage.non_null(), &event) {
        current.write_object(usage, &child_rusage(event))?;
    }
    let Some(info) = info.non_null() else { return Ok(()) };
    let words = event.map_or([0; 7], |event| {
        [SIGCHLD, 0, event.code, 0, event.pid, event.uid.cast_signed(), event.status]
    });
    current.write_object(info, &words)
}

fn own_group(current: &Current) -> Result<i32, Errno> {
    current.process().process_group().map(|group| group.pgid).ok_or(Errno::ESRCH)
}

fn wait_for(current: &mut Current, which: &WaitFor, options: u32) -> Result<Option<ChildEvent>, Errno> {
    let task = Arc::clone(current.task());
    let process = Arc::clone(current.process());
    let kernel = Arc::clone(current.kernel());
    let end = current.wait(&[(&process.child_events, Events::READABLE)], None, |_| {
        match kernel.tasks.wait(&task, which, options) {
            Ok(None) if options & option::WNOHANG == 0 => None,
            result => Some(result),
        }
    });
    match end {
        Ok(result) => result,
        Err(WaitEnd::Interrupted | WaitEnd::TimedOut) => Err(Errno::ERESTARTSYS),
    }
}
