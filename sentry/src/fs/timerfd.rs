//! `timerfd_create(2)`: expirations as a file.
//!
//! Key types: [`TimerFd`], [`Base`]. Deadlines are kept on the monotonic clock; a real-time deadline is translated when it
//! is set, since the host's clock is not set under us.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linux_abi::time::{Itimerspec, Timespec, clock};
use platform::host::clock::{Clock, now_ns};

use super::anon;
use crate::Errno;
use crate::io::Sink;
use crate::sync::{Events, WaitQueue};
use crate::task::Task;
use crate::time::{Armed, Expire, Timers};
use crate::vfs::{FileOps, Op, OpenFile};

const O_RDWR: u32 = 2;

/// Which clock a timer counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base(i32);

impl Base {
    /// From `CLOCK_*`. Alarm clocks need `CAP_WAKE_ALARM`, which containers have not.
    ///
    /// # Errors
    /// EINVAL; EPERM for alarm clocks.
    pub fn from_clock(id: i32) -> Result<Self, Errno> {
        match id {
            clock::REALTIME | clock::MONOTONIC | clock::BOOTTIME => Ok(Self(id)),
            clock::REALTIME_ALARM | clock::BOOTTIME_ALARM => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        }
    }

    fn now(self) -> u64 {
        now_ns(match self.0 {
            clock::REALTIME => Clock::Realtime,
            clock::BOOTTIME => Clock::Boottime,
            _ => Clock::Monotonic,
        })
    }
}

/// The timer.
pub struct TimerFd {
    me: Weak<TimerFd>,
    base: Base,
    timers: Arc<Timers>,
    /// LOCK: before the timer service's.
    inner: Mutex<Inner>,
    queue: WaitQueue,
}

#[derive(Default)]
struct Inner {
    /// The next expiration on the monotonic clock.
    next_ns: Option<u64>,
    interval_ns: u64,
    /// Expirations that nobody has read.
    ticks: u64,
    /// As it was set, for `/proc/PID/fdinfo`.
    flags: u32,
    armed: Option<Armed>,
}

/// Makes one; `flags`: `O_NONBLOCK`.
#[must_use]
pub fn new(task: &Arc<Task>, base: Base, flags: u32) -> Arc<OpenFile> {
    anon::open(task, "timerfd", TimerFd::new(base, &task.kernel.timers), flags | O_RDWR)
}

/// The timer behind an open file, if it is one.
#[must_use]
pub fn timer_of(file: &OpenFile) -> Option<&TimerFd> {
    file.ops.as_any().downcast_ref::<TimerFd>()
}

impl TimerFd {
    fn new(base: Base, timers: &Arc<Timers>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            base,
            timers: Arc::clone(timers),
            inner: Mutex::default(),
            queue: WaitQueue::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `timerfd_settime(2)`; answers the old setting. `absolute`: `TFD_TIMER_ABSTIME`.
    ///
    /// # Errors
    /// EINVAL for times out of range.
    pub fn set(&self, setting: Itimerspec, absolute: bool, flags: u32) -> Result<Itimerspec, Errno> {
        let (value, interval_ns) = (setting.value.to_ns()?, setting.interval.to_ns()?);
        let now = now_ns(Clock::Monotonic);
        let delay = if absolute { value.saturating_sub(self.base.now()) } else { value };
        let next_ns = (value != 0).then(|| now.saturating_add(delay));
        let mut inner = self.lock();
        let old = inner.setting(now);
        *inner = Inner { next_ns, interval_ns, ticks: 0, flags, armed: None };
        if let Some(next_ns) = next_ns {
            let me: Weak<dyn Expire> = self.me.clone() as Weak<dyn Expire>;
            inner.armed = Some(self.timers.arm(next_ns, me));
        }
        Ok(old)
    }

    /// `timerfd_gettime(2)`.
    #[must_use]
    pub fn get(&self) -> Itimerspec {
        self.lock().setting(now_ns(Clock::Monotonic))
    }
}

impl Inner {
    fn setting(&self, now: u64) -> Itimerspec {
        // A timer that is due but not yet counted has one nanosecond left, since 0 means disarmed.
        let left = self.next_ns.map_or(0, |next| next.saturating_sub(now).max(1));
        Itimerspec { interval: Timespec::from_ns(self.interval_ns), value: Timespec::from_ns(left) }
    }

    /// Counts what has expired by `now`; answers the next deadline.
    fn tick(&mut self, now: u64) -> Option<u64> {
        let next = self.next_ns?;
        if now < next {
            return Some(next);
        }
        let more = (now - next).checked_div(self.interval_ns);
        self.ticks = self.ticks.saturating_add(1 + more.unwrap_or(0));
        self.next_ns = more.map(|more| next.saturating_add((more + 1).saturating_mul(self.interval_ns)));
        self.next_ns
    }
}

impl Expire for TimerFd {
    fn expire(&self, now_ns: u64) -> Option<u64> {
        let next = self.lock().tick(now_ns);
        self.queue.wake(Events::READABLE);
        next
    }
}

impl FileOps for TimerFd {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let ticks = std::mem::take(&mut self.lock().ticks);
        if ticks == 0 { Err(Errno::EAGAIN) } else { sink.write(&ticks.to_ne_bytes()) }
    }

    fn readiness(&self) -> Events {
        if self.lock().ticks > 0 { Events::READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn fdinfo(&self) -> String {
        let (ticks, flags) = {
            let inner = self.lock();
            (inner.ticks, inner.flags)
        };
        let setting = self.get();
        let pair = |time: Timespec| format!("({}, {})", time.sec, time.nsec);
        format!(
            "clockid: {}\nticks: {ticks}\nsettime flags: 0{flags:o}\nit_value: {}\nit_interval: {}\n",
            self.base.0,
            pair(setting.value),
            pair(setting.interval)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_timer_ticks_once() {
        let mut inner = Inner { next_ns: Some(100), ..Inner::default() };
        assert_eq!(inner.tick(99), Some(100));
        assert_eq!((inner.tick(100), inner.ticks), (None, 1));
        assert_eq!((inner.tick(200), inner.ticks), (None, 1));
    }

    #[test]
    fn an_interval_counts_what_was_missed() {
        let mut inner = Inner { next_ns: Some(100), interval_ns: 10, ..Inner::default() };
        assert_eq!((inner.tick(125), inner.ticks), (Some(130), 3));
        assert_eq!(inner.setting(128).value, Timespec::from_ns(2));
    }

    #[test]
    fn a_timer_that_was_set_becomes_readable() {
        let timers = Timers::start().unwrap();
        let timer = TimerFd::new(Base(clock::MONOTONIC), &timers);
        let soon = Itimerspec { interval: Timespec::default(), value: Timespec::from_ns(1_000_000) };
        timer.set(soon, false, 0).unwrap();
        for _ in 0..1000 {
            if timer.readiness() == Events::READABLE {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        panic!("the timer did not fire within two seconds");
    }
}
