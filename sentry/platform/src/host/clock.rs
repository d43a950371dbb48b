//! Which time is it? The host's clocks, in nanoseconds.

use rustix::time::ClockId;

/// A clock of the host, `clock_gettime(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Wall clock.
    Realtime,
    /// Since boot, without suspend.
    Monotonic,
    /// The same, not adjusted in its speed.
    MonotonicRaw,
    /// The wall clock at the last tick.
    RealtimeCoarse,
    /// The monotonic one at the last tick.
    MonotonicCoarse,
    /// International atomic time.
    Tai,
    /// Since boot, with suspend.
    Boottime,
    /// CPU time of the sentry thread that asks.
    SentryThread,
}

/// The calling thread's number, for [`thread_cpu_ns`].
#[must_use]
pub fn own_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// CPU time of a thread of the sentry's, in nanoseconds; 0 once it has ended.
#[must_use]
pub fn thread_cpu_ns(thread: i32) -> u64 {
    crate::sys::own_thread_cpu_ns(thread)
}

/// Nanoseconds on that clock.
#[must_use]
pub fn now_ns(clock: Clock) -> u64 {
    let id = match clock {
        Clock::Realtime => ClockId::Realtime,
        Clock::Monotonic => ClockId::Monotonic,
        Clock::MonotonicRaw => ClockId::MonotonicRaw,
        Clock::RealtimeCoarse => ClockId::RealtimeCoarse,
        Clock::MonotonicCoarse => ClockId::MonotonicCoarse,
        Clock::Tai => return crate::sys::tai_ns(),
        Clock::Boottime => ClockId::Boottime,
        Clock::SentryThread => ClockId::ThreadCPUTime,
    };
    let time = rustix::time::clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
