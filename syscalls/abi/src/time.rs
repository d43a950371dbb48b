//! Times as they lie in guest memory.
//!
//! Key types: [`Timespec`], [`Timeval`], [`Itimerspec`], [`Itimerval`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Errno;

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;
/// Clock ticks a second, as `times(2)` and `/proc` count (`USER_HZ`).
pub const USER_HZ: u64 = 100;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: i64,
}

impl Timespec {
    /// From nanoseconds.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NS_PER_S).cast_signed(), nsec: (ns % NS_PER_S).cast_signed() }
    }

    /// In nanoseconds, saturating.
    ///
    /// # Errors
    /// EINVAL if it is negative or its nanoseconds are out of range.
    pub fn to_ns(self) -> Result<u64, Errno> {
        let sec = u64::try_from(self.sec).map_err(|_| Errno::EINVAL)?;
        let nsec = u64::try_from(self.nsec).map_err(|_| Errno::EINVAL)?;
        if nsec >= NS_PER_S {
            return Err(Errno::EINVAL);
        }
        // LINUX: KTIME_MAX is i64::MAX nanoseconds.
        Ok(sec.saturating_mul(NS_PER_S).saturating_add(nsec).min(i64::MAX.cast_unsigned()))
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub sec: i64,
    /// Microseconds.
    pub usec: i64,
}

impl Timeval {
    /// From nanoseconds; the rest below a microsecond is dropped.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NS_PER_S).cast_signed(), usec: (ns % NS_PER_S / 1000).cast_signed() }
    }

    /// In nanoseconds, saturating.
    ///
    /// # Errors
    /// EINVAL if it is negative or its microseconds are out of range.
    pub fn to_ns(self) -> Result<u64, Errno> {
        let nsec = self.usec.checked_mul(1000).ok_or(Errno::EINVAL)?;
        Timespec { sec: self.sec, nsec }.to_ns()
    }
}

/// `struct itimerspec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct Itimerspec {
    /// Period; zero: once.
    pub interval: Timespec,
    /// First expiry; zero: off.
    pub value: Timespec,
}

/// `struct itimerval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
pub struct Itimerval {
    /// Period; zero: once.
    pub interval: Timeval,
    /// First expiry; zero: off.
    pub value: Timeval,
}

/// `struct tms`, in ticks of [`USER_HZ`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in times(2)")]
pub struct Tms {
    pub utime: u64,
    pub stime: u64,
    pub cutime: u64,
    pub cstime: u64,
}

/// `CLOCK_*`.
#[expect(missing_docs, reason = "named as in clock_gettime(2)")]
pub mod clock {
    pub const REALTIME: i32 = 0;
    pub const MONOTONIC: i32 = 1;
    pub const PROCESS_CPUTIME_ID: i32 = 2;
    pub const THREAD_CPUTIME_ID: i32 = 3;
    pub const MONOTONIC_RAW: i32 = 4;
    pub const REALTIME_COARSE: i32 = 5;
    pub const MONOTONIC_COARSE: i32 = 6;
    pub const BOOTTIME: i32 = 7;
    pub const REALTIME_ALARM: i32 = 8;
    pub const BOOTTIME_ALARM: i32 = 9;
    pub const TAI: i32 = 11;
}

/// `TIMER_ABSTIME`.
pub const TIMER_ABSTIME: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_nanoseconds_are_invalid() {
        assert_eq!(Timespec { sec: 1, nsec: 1_000_000_000 }.to_ns(), Err(Errno::EINVAL));
        assert_eq!(Timespec { sec: -1, nsec: 0 }.to_ns(), Err(Errno::EINVAL));
        assert_eq!(Timespec { sec: 2, nsec: 5 }.to_ns(), Ok(2_000_000_005));
    }

    #[test]
    fn huge_times_saturate() {
        assert_eq!(Timespec { sec: i64::MAX, nsec: 0 }.to_ns(), Ok(i64::MAX.cast_unsigned()));
    }
}
