//! `nanosleep`, `clock_nanosleep`.

use linux_abi::time::{TIMER_ABSTIME, Timespec, clock};
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::task::{Current, WaitEnd};

use super::clocks::GuestClock;

/// `nanosleep(2)`: <https://man7.org/linux/man-pages/man2/nanosleep.2.html>
pub(crate) fn nanosleep(
    current: &mut Current,
    request: UserPtr<Timespec>,
    remain: UserPtr<Timespec>,
) -> Result<u64, Errno> {
    let ns = current.read_object(request)?.to_ns()?;
    sleep_until(current, now_ns(Clock::Monotonic).saturating_add(ns), remain)
}

/// `clock_nanosleep(2)`: <https://man7.org/linux/man-pages/man2/clock_nanosleep.2.html>
pub(crate) fn clock_nanosleep(
    current: &mut Current,
    id: i32,
    flags: i32,
    request: UserPtr<Timespec>,
    remain: UserPtr<Timespec>,
) -> Result<u64, Errno> {
    let host = match GuestClock::from_id(id)? {
        GuestClock::Host(host)
            if !matches!(id, clock::MONOTONIC_RAW | clock::REALTIME_COARSE | clock::MONOTONIC_COARSE) =>
        {
            host
        }
        // LINUX: its clocks have no nsleep operation.
        GuestClock::Thread { .. } => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let ns = current.read_object(request)?.to_ns()?;
    let now = now_ns(Clock::Monotonic);
    if flags & TIMER_ABSTIME == 0 {
        return sleep_until(current, now.saturating_add(ns), remain);
    }
    let deadline = now.saturating_add(ns.saturating_sub(now_ns(host)));
    match current.wait(&[], Some(deadline), |_| None::<()>) {
        Err(WaitEnd::Interrupted) => Err(Errno::ERESTARTNOHAND),
        _ => Ok(0),
    }
}

/// Sleeps until a monotonic time; interrupted, it tells what is left and goes on after `restart_syscall`.
fn sleep_until(current: &mut Current, deadline: u64, remain: UserPtr<Timespec>) -> Result<u64, Errno> {
    match current.wait(&[], Some(deadline), |_| None::<()>) {
        Ok(()) | Err(WaitEnd::TimedOut) => return Ok(0),
        Err(WaitEnd::Interrupted) => {}
    }
    let left = deadline.saturating_sub(now_ns(Clock::Monotonic));
    if left == 0 {
        return Ok(0);
    }
    if let Some(remain) = remain.non_null() {
        current.write_object(remain, &Timespec::from_ns(left))?;
    }
    current.set_restart(Box::new(move |current| sleep_until(current, deadline, remain)));
    Err(Errno::ERESTART_RESTARTBLOCK)
}
