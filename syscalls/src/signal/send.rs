//! `kill`, `tkill`, `tgkill`, `rt_sigqueueinfo`, `rt_tgsigqueueinfo`.

use std::sync::Arc;

use linux_abi::signal::{SigInfo, code};
use linux_abi::{Errno, UserPtr};
use sentry::task::signal::{self, Sender, Signal, may_signal};
use sentry::task::{Current, Task};

/// A signal number; 0 only asks whether one could be sent.
fn signal_or_none(number: i32) -> Result<Option<Signal>, Errno> {
    if number == 0 { Ok(None) } else { Signal::new(number).map(Some) }
}

fn own_info(current: &Current, number: i32, code: i32) -> SigInfo {
    SigInfo::from_process(number, code, current.process().pid, current.credentials().uid)
}

/// `kill(2)`: <https://man7.org/linux/man-pages/man2/kill.2.html>
pub(crate) fn kill(current: &mut Current, pid: i32, number: i32) -> Result<(), Errno> {
    let signal = signal_or_none(number)?;
    let info = own_info(current, number, code::SI_USER);
    signal::kill(current.task(), pid, signal, info)
}

/// `tkill(2)`: <https://man7.org/linux/man-pages/man2/tkill.2.html>
pub(crate) fn tkill(current: &mut Current, tid: i32, number: i32) -> Result<(), Errno> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    to_thread(current, None, tid, number, own_info(current, number, code::SI_TKILL))
}

/// `tgkill(2)`: <https://man7.org/linux/man-pages/man2/tgkill.2.html>
pub(crate) fn tgkill(current: &mut Current, tgid: i32, tid: i32, number: i32) -> Result<(), Errno> {
    if tid <= 0 || tgid <= 0 {
        return Err(Errno::EINVAL);
    }
    to_thread(current, Some(tgid), tid, number, own_info(current, number, code::SI_TKILL))
}

fn to_thread(
    current: &Current,
    tgid: Option<i32>,
    tid: i32,
    number: i32,
    info: SigInfo,
) -> Result<(), Errno> {
    let task = find(current, tgid, tid)?;
    let signal = signal_or_none(number)?;
    if !may_signal(current.task(), &task.process, signal) {
        return Err(Errno::EPERM);
    }
    if signal.is_some() && !task.send(info, Sender::Guest) { Err(Errno::EAGAIN) } else { Ok(()) }
}

fn find(current: &Current, tgid: Option<i32>, tid: i32) -> Result<Arc<Task>, Errno> {
    let task = current.process().namespace.task(tid).ok_or(Errno::ESRCH)?;
    match tgid {
        Some(tgid) if task.process.pid != tgid => Err(Errno::ESRCH),
        _ => Ok(task),
    }
}

/// Reads a `siginfo_t` that the guest made up; only to itself may it claim to be the kernel or `kill(2)`.
fn forged_info(
    current: &Current,
    info: UserPtr<SigInfo>,
    number: i32,
    to_self: bool,
) -> Result<SigInfo, Errno> {
    let mut info = current.read_object(info)?;
    info.signo = number;
    let claims = info.code >= 0 || info.code == code::SI_TKILL;
    if claims && !to_self { Err(Errno::EPERM) } else { Ok(info) }
}

/// `rt_sigqueueinfo(2)`: <https://man7.org/linux/man-pages/man2/rt_sigqueueinfo.2.html>
pub(crate) fn rt_sigqueueinfo(
    current: &mut Current,
    pid: i32,
    number: i32,
    info: UserPtr<SigInfo>,
) -> Result<(), Errno> {
    let info = forged_info(current, info, number, pid == current.process().pid)?;
    let signal = signal_or_none(number)?;
    let namespace = &current.process().namespace;
    // LINUX: any thread's id names its process here.
    let by_thread = || namespace.task(pid).map(|task| Arc::clone(&task.process));
    let target = namespace.process(pid).or_else(by_thread).ok_or(Errno::ESRCH)?;
    if !may_signal(current.task(), &target, signal) {
        return Err(Errno::EPERM);
    }
    if signal.is_some() && !target.send(info, Sender::Guest) { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// `rt_tgsigqueueinfo(2)`: <https://man7.org/linux/man-pages/man2/rt_tgsigqueueinfo.2.html>
pub(crate) fn rt_tgsigqueueinfo(
    current: &mut Current,
    tgid: i32,
    tid: i32,
    number: i32,
    info: UserPtr<SigInfo>,
) -> Result<(), Errno> {
    if tid <= 0 || tgid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = forged_info(current, info, number, tid == current.task().tid())?;
    to_thread(current, Some(tgid), tid, number, info)
}
