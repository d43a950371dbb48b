//! The timers of a process: `setitimer(2)` and `timer_create(2)`.
//!
//! Key types: [`ProcessTimers`], [`PosixTimer`], [`IntervalTimer`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use linux_abi::signal::SigInfo;
use linux_abi::signal::code::SI_TIMER;
use platform::host::clock::{Clock, now_ns};

use super::cpu_limit::CpuLimit;
use super::{Armed, Expire};
use crate::Errno;
use crate::account::{self, Charge};
use crate::task::signal::{Sender, Signal};
use crate::task::{Process, Resource, Task, UserCharge};

/// What a timer costs in the tables of its process and of the timer service.
const TIMER_TABLES: usize = 128;
/// How often CPU-time timers look at the clock while the process uses no CPU time, at most.
const CPU_POLL_NS: u64 = 4_000_000;

/// The timers of a process.
#[derive(Default)]
pub struct ProcessTimers {
    /// LOCK: leaf, but for the timer heap.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_id: i32,
    posix: BTreeMap<i32, Arc<PosixTimer>>,
    intervals: [Option<Arc<IntervalTimer>>; 3],
    cpu_limit: Option<CpuLimit>,
}

/// Which clock a timer runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerClock {
    /// Wall or monotonic time; deadlines are kept as monotonic ones.
    Elapsed,
    /// CPU time of the process, user and system.
    ProcessCpu,
    /// User CPU time of the process (`ITIMER_VIRTUAL`).
    ProcessUser,
}

impl TimerClock {
    /// Its time now, for `process`.
    #[must_use]
    pub fn now(self, process: &Process) -> u64 {
        match self {
            Self::Elapsed => now_ns(Clock::Monotonic),
            Self::ProcessCpu => {
                let (user, system) = process.cpu_ns();
                user.saturating_add(system)
            }
            Self::ProcessUser => process.cpu_ns().0,
        }
    }

    /// The monotonic time at which to look again for a deadline of this clock.
    pub(super) fn look_at(self, process: &Process, deadline: u64, now: u64) -> u64 {
        match self {
            Self::Elapsed => deadline,
            // CPU time runs at most as fast as all threads together.
            _ => {
                let threads = process.threads().len().max(1) as u64;
                // A limit that a guest has chosen may be the end of time.
                now.saturating_add((deadline.saturating_sub(self.now(process)) / threads).max(CPU_POLL_NS))
            }
        }
    }
}

/// When a timer expires next, on its own clock; 0: it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setting {
    /// Deadline.
    pub deadline: u64,
    /// Period; 0: once.
    pub interval: u64,
}

impl Setting {
    /// Time left and period, as the guest is told.
    #[must_use]
    pub fn left(&self, now: u64) -> (u64, u64) {
        match self.deadline {
            0 => (0, self.interval),
            // LINUX: an armed timer never shows zero.
            deadline => (deadline.saturating_sub(now).max(1), self.interval),
        }
    }

    /// Moves on past `now`; answers how many periods have passed, at least 1.
    pub fn advance(&mut self, now: u64) -> u64 {
        if self.interval == 0 {
            self.deadline = 0;
            return 1;
        }
        let periods = (now.saturating_sub(self.deadline) / self.interval).saturating_add(1);
        self.deadline = self.deadline.saturating_add(periods.saturating_mul(self.interval));
        periods
    }
}

struct State {
    setting: Setting,
    armed: Option<Armed>,
}

/// One of the three timers of `setitimer(2)`.
pub struct IntervalTimer {
    process: Weak<Process>,
    clock: TimerClock,
    signal: Signal,
    state: Mutex<State>,
}

/// A timer of `timer_create(2)`.
pub struct PosixTimer {
    /// Its id.
    pub id: i32,
    process: Weak<Process>,
    /// `SIGEV_THREAD_ID`.
    target: Option<Weak<Task>>,
    /// `None`: `SIGEV_NONE`.
    signal: Option<Signal>,
    value: u64,
    /// Its clock.
    pub clock: TimerClock,
    /// The clock that absolute times are on, unless it counts CPU time.
    pub host: Option<Clock>,
    last_overrun: AtomicI32,
    state: Mutex<State>,
    _charge: (UserCharge, Charge),
}

/// What a new POSIX timer does.
pub struct NewPosixTimer {
    /// Thread that gets the signal.
    pub target: Option<Weak<Task>>,
    /// Signal; `None`: none.
    pub signal: Option<Signal>,
    /// `sigev_value`; `None`: its own id.
    pub value: Option<u64>,
    /// Clock.
    pub clock: TimerClock,
    /// The clock that absolute times are on, unless it counts CPU time.
    pub host: Option<Clock>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    const OFF: Self = Self { setting: Setting { deadline: 0, interval: 0 }, armed: None };

    /// Replaces the setting and arms the heap.
    fn set(
        &mut self,
        process: &Process,
        clock: TimerClock,
        setting: Setting,
        receiver: Weak<dyn Expire>,
    ) -> Setting {
        self.armed = None;
        if setting.deadline != 0 {
            let at = clock.look_at(process, setting.deadline, now_ns(Clock::Monotonic));
            self.armed = Some(process.kernel.timers.arm(at, receiver));
        }
        std::mem::replace(&mut self.setting, setting)
    }

    /// Expired periods (0: not yet), and when to look again.
    fn look(&mut self, process: &Process, clock: TimerClock, now_mono: u64) -> (u64, Option<u64>) {
        if self.setting.deadline == 0 {
            return (0, None);
        }
        let now = clock.now(process);
        let periods = if now >= self.setting.deadline { self.setting.advance(now) } else { 0 };
        let next =
            (self.setting.deadline != 0).then(|| clock.look_at(process, self.setting.deadline, now_mono));
        (periods, next)
    }
}

impl Expire for IntervalTimer {
    fn expire(&self, now_ns: u64) -> Option<u64> {
        let process = self.process.upgrade().filter(|process| !process.is_zombie())?;
        let (periods, next) = lock(&self.state).look(&process, self.clock, now_ns);
        if periods > 0 {
            process.send(SigInfo::kernel(self.signal.number()), Sender::Kernel);
        }
        next
    }
}

impl Expire for PosixTimer {
    fn expire(&self, now_ns: u64) -> Option<u64> {
        let process = self.process.upgrade().filter(|process| !process.is_zombie())?;
        let (periods, next) = lock(&self.state).look(&process, self.clock, now_ns);
        if periods > 0
            && let Some(signal) = self.signal
        {
            self.notify(&process, signal, periods);
        }
        next
    }
}

impl PosixTimer {
    /// Sends the signal, or counts an overrun if the last one still waits.
    fn notify(&self, process: &Arc<Process>, signal: Signal, periods: u64) {
        let id = self.id;
        let more = i32::try_from(periods).unwrap_or(i32::MAX);
        let target = self.target.as_ref().map(Weak::upgrade);
        let waits =
            |info: &SigInfo| info.code == SI_TIMER && info.signo == signal.number() && info.pid() == id;
        let merge = |info: &mut SigInfo| {
            let overrun = info.uid().cast_signed().saturating_add(more);
            *info = SigInfo::timer(signal.number(), id, overrun, info.value());
            self.last_overrun.store(overrun, Ordering::Relaxed);
        };
        let merged = match &target {
            Some(Some(task)) => task.update_pending(waits, merge),
            Some(None) => return,
            None => process.update_pending(waits, merge),
        };
        if merged {
            return;
        }
        self.last_overrun.store(more - 1, Ordering::Relaxed);
        let info = SigInfo::timer(signal.number(), id, more - 1, self.value);
        match target {
            Some(Some(task)) => task.send(info, Sender::Kernel),
            _ => process.send(info, Sender::Kernel),
        };
    }

    /// Replaces the setting; answers the old one.
    ///
    /// # Errors
    /// ESRCH if the process is gone.
    pub fn set(self: &Arc<Self>, setting: Setting) -> Result<Setting, Errno> {
        let process = self.process.upgrade().ok_or(Errno::ESRCH)?;
        let receiver: Weak<dyn Expire> = Arc::downgrade(self) as Weak<dyn Expire>;
        Ok(lock(&self.state).set(&process, self.clock, setting, receiver))
    }

    /// As `/proc/PID/timers` shows it. LINUX: `show_timer`.
    #[must_use]
    pub fn proc_text(&self, pid: i32) -> String {
        let target = self.target.as_ref().map(|task| task.upgrade().map_or(0, |task| task.tid()));
        let clock = match (self.host, self.clock) {
            (Some(Clock::Realtime), _) => 0,
            (Some(Clock::Boottime), _) => 7,
            (Some(Clock::Tai), _) => 11,
            (Some(_), _) => 1,
            (None, TimerClock::ProcessUser) => -7,
            (None, _) => 2,
        };
        format!(
            "ID: {}\nsignal: {}/{:016x}\nnotify: {}/{}.{}\nClockID: {clock}\n",
            self.id,
            self.signal.map_or(0, Signal::number),
            self.value,
            if self.signal.is_some() { "signal" } else { "none" },
            if target.is_some() { "tid" } else { "pid" },
            target.unwrap_or(pid),
        )
    }

    /// How many expirations the last signal stands for besides its own.
    #[must_use]
    pub fn last_overrun(&self) -> i32 {
        self.last_overrun.load(Ordering::Relaxed)
    }

    /// The setting.
    #[must_use]
    pub fn setting(&self) -> Setting {
        lock(&self.state).setting
    }
}

impl ProcessTimers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Replaces one of the interval timers (0 real, 1 virtual, 2 prof); answers the old setting.
    ///
    /// # Errors
    /// EINVAL for any other.
    pub fn set_interval(
        &self,
        process: &Arc<Process>,
        which: usize,
        setting: Setting,
    ) -> Result<Setting, Errno> {
        let (clock, signal) = match which {
            0 => (TimerClock::Elapsed, Signal::ALRM),
            1 => (TimerClock::ProcessUser, Signal::VTALRM),
            2 => (TimerClock::ProcessCpu, Signal::PROF),
            _ => return Err(Errno::EINVAL),
        };
        let timer = {
            let mut inner = self.lock();
            let slot = inner.intervals.get_mut(which).ok_or(Errno::EINVAL)?;
            Arc::clone(slot.get_or_insert_with(|| {
                let process = Arc::downgrade(process);
                Arc::new(IntervalTimer { process, clock, signal, state: Mutex::new(State::OFF) })
            }))
        };
        let receiver: Weak<dyn Expire> = Arc::downgrade(&timer) as Weak<dyn Expire>;
        let old = lock(&timer.state).set(process, clock, setting, receiver);
        Ok(old)
    }

    /// The setting of an interval timer and its clock.
    #[must_use]
    pub fn interval(&self, which: usize) -> Option<(Setting, TimerClock)> {
        let timer = self.lock().intervals.get(which)?.clone()?;
        let setting = lock(&timer.state).setting;
        Some((setting, timer.clock))
    }

    /// Looks after `RLIMIT_CPU` as it is from now on. LINUX: `update_rlimit_cpu`.
    pub fn watch_cpu_limit(&self, process: &Arc<Process>) {
        let limit = CpuLimit::arm(process);
        let old = std::mem::replace(&mut self.lock().cpu_limit, limit);
        drop(old);
    }

    /// A new POSIX timer, off.
    ///
    /// # Errors
    /// EAGAIN at `RLIMIT_SIGPENDING` or the container's limit.
    pub fn create(&self, process: &Arc<Process>, new: NewPosixTimer) -> Result<i32, Errno> {
        // LINUX: sigqueue_alloc: each has a signal of its user's set aside.
        let limit = process.limit(Resource::Sigpending).soft;
        let user = process.kernel.tasks.waiting.take(process.real_uid(), 1, limit).ok_or(Errno::EAGAIN)?;
        let memory = account::charge_for::<PosixTimer>(TIMER_TABLES).map_err(|_| Errno::EAGAIN)?;
        let charge = (user, memory);
        let mut inner = self.lock();
        let mut id = inner.next_id;
        while inner.posix.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(0);
        }
        inner.next_id = id.checked_add(1).unwrap_or(0);
        let timer = PosixTimer {
            id,
            process: Arc::downgrade(process),
            target: new.target,
            signal: new.signal,
            value: new.value.unwrap_or(u64::from(id.cast_unsigned())),
            clock: new.clock,
            host: new.host,
            last_overrun: AtomicI32::new(0),
            state: Mutex::new(State::OFF),
            _charge: charge,
        };
        inner.posix.insert(id, Arc::new(timer));
        Ok(id)
    }

    /// The timer with that id.
    ///
    /// # Errors
    /// EINVAL.
    pub fn get(&self, id: i32) -> Result<Arc<PosixTimer>, Errno> {
        self.lock().posix.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// All timers, by id.
    #[must_use]
    pub fn posix(&self) -> Vec<Arc<PosixTimer>> {
        self.lock().posix.values().cloned().collect()
    }

    /// Deletes a timer.
    ///
    /// # Errors
    /// EINVAL.
    pub fn delete(&self, id: i32) -> Result<(), Errno> {
        let timer = self.lock().posix.remove(&id);
        timer.map(drop).ok_or(Errno::EINVAL)
    }

    /// Exec: POSIX timers go, interval timers stay.
    pub fn clear_posix(&self) {
        let gone = std::mem::take(&mut self.lock().posix);
        drop(gone);
    }

    /// The process has ended.
    pub fn clear(&self) {
        let gone = std::mem::take(&mut *self.lock());
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_periodic_timer_counts_missed_periods() {
        let mut setting = Setting { deadline: 100, interval: 10 };
        assert_eq!(setting.advance(100), 1);
        assert_eq!(setting.deadline, 110);
        assert_eq!(setting.advance(135), 3);
        assert_eq!(setting.deadline, 140);
    }

    #[test]
    fn a_single_timer_goes_off() {
        let mut setting = Setting { deadline: 100, interval: 0 };
        assert_eq!(setting.advance(1000), 1);
        assert_eq!(setting.left(1000), (0, 0));
    }

    #[test]
    fn an_overdue_timer_does_not_look_off() {
        assert_eq!(Setting { deadline: 100, interval: 7 }.left(200), (1, 7));
    }
}
