//! How long may a wait last? Timeouts of `poll`, `select` and `epoll_wait` as deadlines.
//!
//! Key type: [`Deadline`].

use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::task::Current;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// `struct timespec` or `struct timeval` as two words.
pub(super) type TimeWords = UserPtr<[i64; 2]>;

/// What the second word of a time counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// `timespec`: nanoseconds.
    Nano,
    /// `timeval`: microseconds, which may be a second or more. LINUX: `kern_select`.
    Micro,
}

/// When a wait ends at the latest, on the monotonic clock; `None`: never.
#[derive(Clone, Copy)]
pub(super) struct Deadline(pub(super) Option<u64>);

impl Deadline {
    /// From milliseconds; negative is for ever.
    pub(super) fn from_millis(millis: i32) -> Self {
        Self(u64::try_from(millis).ok().map(|millis| now().saturating_add(millis * 1_000_000)))
    }

    /// From guest memory; the null pointer is for ever.
    pub(super) fn read(current: &Current, time: TimeWords, unit: Unit) -> Result<Self, Errno> {
        let Some(time) = time.non_null() else { return Ok(Self(None)) };
        let [seconds, fraction] = current.read_object(time)?;
        let (Ok(seconds), Ok(fraction)) = (u64::try_from(seconds), u64::try_from(fraction)) else {
            return Err(Errno::EINVAL);
        };
        let nanos = match unit {
            Unit::Nano if fraction >= NS_PER_SECOND => return Err(Errno::EINVAL),
            Unit::Nano => fraction,
            Unit::Micro => fraction.saturating_mul(1000),
        };
        Ok(Self(Some(now().saturating_add(seconds.saturating_mul(NS_PER_SECOND)).saturating_add(nanos))))
    }

    /// There is no time left.
    pub(super) fn has_passed(self) -> bool {
        self.0.is_some_and(|deadline| deadline <= now())
    }

    /// Tells the guest what is left of the time. A failure is ignored, as Linux does.
    pub(super) fn write_rest(self, current: &mut Current, time: TimeWords, unit: Unit) {
        let (Some(deadline), Some(time)) = (self.0, time.non_null()) else { return };
        let left = deadline.saturating_sub(now());
        let seconds = i64::try_from(left / NS_PER_SECOND).unwrap_or(i64::MAX);
        let nanos = i64::try_from(left % NS_PER_SECOND).unwrap_or(0);
        let fraction = if unit == Unit::Nano { nanos } else { nanos / 1000 };
        let _ = current.write_object(time, &[seconds, fraction]);
    }
}

fn now() -> u64 {
    now_ns(Clock::Monotonic)
}
