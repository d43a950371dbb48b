//! `rt_sigsuspend`, `pause`, `rt_sigtimedwait`, `restart_syscall`.

use linux_abi::time::Timespec;
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::task::Current;
use sentry::task::signal::{SigInfo, SigSet};

use super::check_size;

/// `rt_sigsuspend(2)`: <https://man7.org/linux/man-pages/man2/rt_sigsuspend.2.html>
pub(crate) fn rt_sigsuspend(current: &mut Current, mask: UserPtr<u64>, size: usize) -> Result<(), Errno> {
    check_size(size)?;
    let mask = current.read_object(mask)?;
    current.set_temporary_mask(SigSet::blockable(mask));
    pause(current)
}

/// `pause(2)`: <https://man7.org/linux/man-pages/man2/pause.2.html>
pub(crate) fn pause(current: &mut Current) -> Result<(), Errno> {
    match current.wait(&[], None, |_| None::<()>) {
        Ok(()) | Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}

/// `rt_sigtimedwait(2)`: <https://man7.org/linux/man-pages/man2/rt_sigtimedwait.2.html>
pub(crate) fn rt_sigtimedwait(
    current: &mut Current,
    set: UserPtr<u64>,
    info: UserPtr<SigInfo>,
    timeout: UserPtr<Timespec>,
    size: usize,
) -> Result<i32, Errno> {
    check_size(size)?;
    let set = SigSet(current.read_object(set)?);
    let deadline = match timeout.non_null() {
        None => None,
        Some(timeout) => Some(match current.read_object(timeout)?.to_ns()? {
            0 => 0,
            ns => now_ns(Clock::Monotonic).saturating_add(ns),
        }),
    };
    let taken = current.wait_for_signal(set, deadline)?;
    if let Some(info) = info.non_null() {
        current.write_object(info, &taken)?;
    }
    Ok(taken.signo)
}

/// `restart_syscall(2)`: <https://man7.org/linux/man-pages/man2/restart_syscall.2.html>
pub(crate) fn restart_syscall(current: &mut Current) -> Result<u64, Errno> {
    current.restart_syscall()
}
