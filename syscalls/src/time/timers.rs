//! `alarm`, `getitimer`, `setitimer`, and the POSIX timers.

use std::sync::Arc;

use linux_abi::signal::{SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD_ID, SigEvent};
use linux_abi::time::{Itimerspec, Itimerval, TIMER_ABSTIME, Timespec, Timeval, clock};
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::task::Current;
use sentry::task::signal::Signal;
use sentry::time::{NewPosixTimer, PosixTimer, Setting, TimerClock};

use super::clocks::GuestClock;

const NS_PER_S: u64 = 1_000_000_000;
const ITIMER_REAL: usize = 0;

/// `alarm(2)`: <https://man7.org/linux/man-pages/man2/alarm.2.html>
pub(crate) fn alarm(current: &mut Current, seconds: u32) -> Result<u64, Errno> {
    let process = Arc::clone(current.process());
    let now = now_ns(Clock::Monotonic);
    let deadline = if seconds == 0 { 0 } else { now + u64::from(seconds) * NS_PER_S };
    let old = process.timers.set_interval(&process, ITIMER_REAL, Setting { deadline, interval: 0 })?;
    // LINUX: rounded to the nearest second, but never down to "none".
    let (left, _) = old.left(now);
    Ok(if left == 0 { 0 } else { ((left + NS_PER_S / 2) / NS_PER_S).max(1) })
}

fn as_itimerval((left, interval): (u64, u64)) -> Itimerval {
    Itimerval { interval: Timeval::from_ns(interval), value: Timeval::from_ns(left.next_multiple_of(1000)) }
}

/// What an interval timer shows now.
fn interval(current: &Current, which: usize) -> Result<Itimerval, Errno> {
    if which > 2 {
        return Err(Errno::EINVAL);
    }
    let process = current.process();
    let shown = process.timers.interval(which).map(|(setting, clock)| setting.left(clock.now(process)));
    Ok(as_itimerval(shown.unwrap_or((0, 0))))
}

/// `getitimer(2)`: <https://man7.org/linux/man-pages/man2/getitimer.2.html>
pub(crate) fn getitimer(current: &mut Current, which: usize, value: UserPtr<Itimerval>) -> Result<(), Errno> {
    let shown = interval(current, which)?;
    current.write_object(value, &shown)
}

/// `setitimer(2)`: <https://man7.org/linux/man-pages/man2/setitimer.2.html>
pub(crate) fn setitimer(
    current: &mut Current,
    which: usize,
    new: UserPtr<Itimerval>,
    old: UserPtr<Itimerval>,
) -> Result<(), Errno> {
    // LINUX: a null pointer stands for zeros.
    let new = new.non_null().map(|new| current.read_object(new)).transpose()?.unwrap_or_default();
    let (value, period) = (microseconds(new.value)?, microseconds(new.interval)?);
    let before = interval(current, which)?;
    let process = Arc::clone(current.process());
    let clock = match which {
        ITIMER_REAL => TimerClock::Elapsed,
        1 => TimerClock::ProcessUser,
        _ => TimerClock::ProcessCpu,
    };
    let deadline = if value == 0 { 0 } else { clock.now(&process).saturating_add(value) };
    process.timers.set_interval(&process, which, Setting { deadline, interval: period })?;
    match old.non_null() {
        Some(old) => current.write_object(old, &before),
        None => Ok(()),
    }
}

fn microseconds(time: Timeval) -> Result<u64, Errno> {
    if time.usec >= 1_000_000 { Err(Errno::EINVAL) } else { time.to_ns() }
}

/// `timer_create(2)`: <https://man7.org/linux/man-pages/man2/timer_create.2.html>
pub(crate) fn timer_create(
    current: &mut Current,
    id: i32,
    event: UserPtr<SigEvent>,
    timer: UserPtr<i32>,
) -> Result<(), Errno> {
    let (clock, host) = match GuestClock::from_id(id)? {
        // LINUX: k_clock.timer_create: these have none.
        GuestClock::Host(_)
            if matches!(id, clock::MONOTONIC_RAW | clock::REALTIME_COARSE | clock::MONOTONIC_COARSE) =>
        {
            return Err(Errno::EOPNOTSUPP);
        }
        GuestClock::Host(host) => (TimerClock::Elapsed, Some(host)),
        GuestClock::Process { pid, user_only } if pid == 0 || pid == current.process().pid => {
            (if user_only { TimerClock::ProcessUser } else { TimerClock::ProcessCpu }, None)
        }
        // A thread's clock is approximated by its process's.
        GuestClock::Thread { .. } => (TimerClock::ProcessCpu, None),
        GuestClock::Process { .. } => return Err(Errno::EINVAL),
    };
    let mut new = NewPosixTimer { target: None, signal: Some(Signal::ALRM), value: None, clock, host };
    if let Some(event) = event.non_null() {
        let event = current.read_object(event)?;
        new.value = Some(event.value);
        new.signal = match event.notify {
            SIGEV_NONE => None,
            SIGEV_SIGNAL | SIGEV_THREAD | SIGEV_THREAD_ID => Some(Signal::new(event.signo)?),
            _ => return Err(Errno::EINVAL),
        };
        if event.notify == SIGEV_THREAD_ID {
            let task = current.process().namespace.task(event.tid).ok_or(Errno::EINVAL)?;
            if !Arc::ptr_eq(&task.process, current.process()) {
                return Err(Errno::EINVAL);
            }
            new.target = Some(Arc::downgrade(&task));
        }
    }
    let process = Arc::clone(current.process());
    let id = process.timers.create(&process, new)?;
    current.write_object(timer, &id).inspect_err(|_| {
        let _ = process.timers.delete(id);
    })
}

fn posix(current: &Current, id: i32) -> Result<Arc<PosixTimer>, Errno> {
    current.process().timers.get(id)
}

fn shown(current: &Current, timer: &PosixTimer) -> Itimerspec {
    let (left, interval) = timer.setting().left(timer.clock.now(current.process()));
    Itimerspec { interval: Timespec::from_ns(interval), value: Timespec::from_ns(left) }
}

/// `timer_settime(2)`: <https://man7.org/linux/man-pages/man2/timer_settime.2.html>
pub(crate) fn timer_settime(
    current: &mut Current,
    id: i32,
    flags: i32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> Result<(), Errno> {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let new = current.read_object(new)?;
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let timer = posix(current, id)?;
    let before = shown(current, &timer);
    let now = timer.clock.now(current.process());
    let deadline = match value {
        0 => 0,
        value if flags & TIMER_ABSTIME == 0 => now.saturating_add(value),
        // A time of another clock is turned into a monotonic one once: later jumps of the wall clock do not count.
        value => match timer.host {
            Some(host) => now.saturating_add(value.saturating_sub(now_ns(host))).max(1),
            None => value,
        },
    };
    timer.set(Setting { deadline, interval })?;
    match old.non_null() {
        Some(old) => current.write_object(old, &before),
        None => Ok(()),
    }
}

/// `timer_gettime(2)`: <https://man7.org/linux/man-pages/man2/timer_gettime.2.html>
pub(crate) fn timer_gettime(current: &mut Current, id: i32, value: UserPtr<Itimerspec>) -> Result<(), Errno> {
    let timer = posix(current, id)?;
    let shown = shown(current, &timer);
    current.write_object(value, &shown)
}

/// `timer_getoverrun(2)`: <https://man7.org/linux/man-pages/man2/timer_getoverrun.2.html>
pub(crate) fn timer_getoverrun(current: &mut Current, id: i32) -> Result<i32, Errno> {
    Ok(posix(current, id)?.last_overrun())
}

/// `timer_delete(2)`: <https://man7.org/linux/man-pages/man2/timer_delete.2.html>
pub(crate) fn timer_delete(current: &mut Current, id: i32) -> Result<(), Errno> {
    current.process().timers.delete(id)
}
