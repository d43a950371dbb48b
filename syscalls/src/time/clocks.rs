//! Reading clocks; setting them is refused.

use std::sync::Arc;

use linux_abi::time::{Timespec, Timeval, Tms, USER_HZ, clock};
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::task::{Current, Task};

/// Nanoseconds in a tick of `times(2)`.
const TICK_NS: u64 = 1_000_000_000 / USER_HZ;
/// Resolution of the coarse clocks.
const COARSE_NS: u64 = 4_000_000;

/// A clock that a guest can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestClock {
    /// One of the host's.
    Host(Clock),
    /// CPU time of a process: user only, or user and system.
    Process { pid: i32, user_only: bool },
    /// CPU time of a thread.
    Thread { tid: i32 },
}

impl GuestClock {
    /// From the guest's number.
    ///
    /// # Errors
    /// EINVAL.
    pub(super) fn from_id(id: i32) -> Result<Self, Errno> {
        if id < 0 {
            return Self::dynamic(id);
        }
        match id {
            clock::REALTIME | clock::REALTIME_ALARM => Ok(Self::Host(Clock::Realtime)),
            // What the vDSO tells: a time between would go back.
            clock::REALTIME_COARSE => Ok(Self::Host(Clock::RealtimeCoarse)),
            clock::MONOTONIC_COARSE => Ok(Self::Host(Clock::MonotonicCoarse)),
            clock::TAI => Ok(Self::Host(Clock::Tai)),
            clock::MONOTONIC => Ok(Self::Host(Clock::Monotonic)),
            clock::MONOTONIC_RAW => Ok(Self::Host(Clock::MonotonicRaw)),
            clock::BOOTTIME | clock::BOOTTIME_ALARM => Ok(Self::Host(Clock::Boottime)),
            clock::PROCESS_CPUTIME_ID => Ok(Self::Process { pid: 0, user_only: false }),
            clock::THREAD_CPUTIME_ID => Ok(Self::Thread { tid: 0 }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `clock_getcpuclockid(3)`, `pthread_getcpuclockid(3)`: the inverted id, shifted, and what is meant in the low bits.
    fn dynamic(id: i32) -> Result<Self, Errno> {
        const PER_THREAD: i32 = 4;
        let pid = !(id >> 3);
        match id & 3 {
            // Descriptors of clock devices, of which there are none.
            3 => Err(Errno::EINVAL),
            kind if id & PER_THREAD == 0 => Ok(Self::Process { pid, user_only: kind == 1 }),
            _ => Ok(Self::Thread { tid: pid }),
        }
    }

    /// Its time now, in nanoseconds.
    ///
    /// # Errors
    /// EINVAL if there is no such process.
    pub(super) fn now(self, current: &Current) -> Result<u64, Errno> {
        let own = current.process();
        match self {
            Self::Host(clock) => Ok(now_ns(clock)),
            Self::Thread { tid } if tid == 0 || tid == current.task().tid() => Ok(of_thread(current.task())),
            Self::Thread { tid } => {
                let task = own.namespace.task(tid).ok_or(Errno::EINVAL)?;
                if Arc::ptr_eq(&task.process, own) { Ok(of_thread(&task)) } else { Err(Errno::EINVAL) }
            }
            Self::Process { pid, user_only } => {
                let other = if pid == 0 {
                    Arc::clone(own)
                } else {
                    own.namespace.process(pid).ok_or(Errno::EINVAL)?
                };
                let (user, system) = other.cpu_ns();
                Ok(if user_only { user } else { user.saturating_add(system) })
            }
        }
    }
}

/// What a thread has used, with the kernel's part, as the clock of its process counts it.
fn of_thread(task: &Task) -> u64 {
    task.cpu_ns().saturating_add(task.system_ns())
}

/// `clock_gettime(2)`: <https://man7.org/linux/man-pages/man2/clock_gettime.2.html>
pub(crate) fn clock_gettime(current: &mut Current, id: i32, time: UserPtr<Timespec>) -> Result<(), Errno> {
    let now = GuestClock::from_id(id)?.now(current)?;
    current.write_object(time, &Timespec::from_ns(now))
}

/// `clock_getres(2)`: <https://man7.org/linux/man-pages/man2/clock_getres.2.html>
pub(crate) fn clock_getres(
    current: &mut Current,
    id: i32,
    resolution: UserPtr<Timespec>,
) -> Result<(), Errno> {
    GuestClock::from_id(id)?;
    let ns = if matches!(id, clock::REALTIME_COARSE | clock::MONOTONIC_COARSE) { COARSE_NS } else { 1 };
    match resolution.non_null() {
        Some(resolution) => current.write_object(resolution, &Timespec::from_ns(ns)),
        None => Ok(()),
    }
}

/// `clock_settime(2)`: <https://man7.org/linux/man-pages/man2/clock_settime.2.html>
pub(crate) fn clock_settime(current: &mut Current, id: i32, time: UserPtr<Timespec>) -> Result<(), Errno> {
    if !matches!(GuestClock::from_id(id)?, GuestClock::Host(Clock::Realtime)) {
        return Err(Errno::EINVAL);
    }
    current.read_object(time)?.to_ns()?;
    Err(Errno::EPERM)
}

/// `gettimeofday(2)`: <https://man7.org/linux/man-pages/man2/gettimeofday.2.html>
pub(crate) fn gettimeofday(
    current: &mut Current,
    time: UserPtr<Timeval>,
    zone: UserPtr<[i32; 2]>,
) -> Result<(), Errno> {
    if let Some(time) = time.non_null() {
        current.write_object(time, &Timeval::from_ns(now_ns(Clock::Realtime)))?;
    }
    match zone.non_null() {
        Some(zone) => current.write_object(zone, &[0, 0]),
        None => Ok(()),
    }
}

/// `time(2)`: <https://man7.org/linux/man-pages/man2/time.2.html>
pub(crate) fn time(current: &mut Current, time: UserPtr<i64>) -> Result<i64, Errno> {
    let now = Timespec::from_ns(now_ns(Clock::Realtime)).sec;
    if let Some(time) = time.non_null() {
        current.write_object(time, &now)?;
    }
    Ok(now)
}

/// `times(2)`: <https://man7.org/linux/man-pages/man2/times.2.html>
pub(crate) fn times(current: &mut Current, buf: UserPtr<Tms>) -> Result<u64, Errno> {
    if let Some(buf) = buf.non_null() {
        let (utime, stime) = current.process().cpu_ns();
        let (cutime, cstime) = current.kernel().tasks.children_cpu_ns(current.process());
        let tms = Tms {
            utime: utime / TICK_NS,
            stime: stime / TICK_NS,
            cutime: cutime / TICK_NS,
            cstime: cstime / TICK_NS,
        };
        current.write_object(buf, &tms)?;
    }
    Ok(now_ns(Clock::Monotonic) / TICK_NS)
}

/// Length of `struct timex`.
const TIMEX_LEN: usize = 208;

/// `adjtimex(2)`: <https://man7.org/linux/man-pages/man2/adjtimex.2.html>
pub(crate) fn adjtimex(current: &mut Current, buf: UserPtr<u8>) -> Result<i32, Errno> {
    /// The clock is not synchronised by the guest. LINUX: `TIME_ERROR`, with `STA_UNSYNC`.
    const TIME_ERROR: i32 = 5;
    const STA_UNSYNC: i32 = 0x40;
    let modes = current.read_object(buf.cast::<u32>())?;
    if modes != 0 {
        return Err(Errno::EPERM);
    }
    let mut timex = [0_u8; TIMEX_LEN];
    let now = Timeval::from_ns(now_ns(Clock::Realtime));
    let mut put = |at: usize, bytes: &[u8]| timex[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &0_i64.to_ne_bytes());
    put(40, &STA_UNSYNC.to_ne_bytes());
    put(72, &now.sec.to_ne_bytes());
    put(80, &now.usec.to_ne_bytes());
    put(88, &10_000_i64.to_ne_bytes());
    current.write_user(buf.addr(), &timex)?;
    Ok(TIME_ERROR)
}

/// `clock_adjtime(2)`: <https://man7.org/linux/man-pages/man2/clock_adjtime.2.html>
pub(crate) fn clock_adjtime(current: &mut Current, id: i32, buf: UserPtr<u8>) -> Result<i32, Errno> {
    match GuestClock::from_id(id)? {
        GuestClock::Host(Clock::Realtime) => adjtimex(current, buf),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_clocks_of_others_carry_their_id() {
        // MAKE_PROCESS_CPUCLOCK(7, CPUCLOCK_SCHED).
        let id = (!7 << 3) | 2;
        assert_eq!(GuestClock::from_id(id), Ok(GuestClock::Process { pid: 7, user_only: false }));
        let id = (!9 << 3) | 4 | 2;
        assert_eq!(GuestClock::from_id(id), Ok(GuestClock::Thread { tid: 9 }));
        assert_eq!(GuestClock::from_id(10), Err(Errno::EINVAL));
    }
}
