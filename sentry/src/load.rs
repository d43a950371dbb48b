//! How much of the processors have the sandbox's processes wanted of late (`/proc/loadavg`, `sysinfo(2)`)?
//!
//! Key type: [`Load`]. LINUX counts tasks that run or want to every five seconds; here nobody wakes up for that: whoever asks gets what was
//! used since somebody asked last, decayed by the same rule. So tasks that wait for a processor are not in it.

use std::sync::{Mutex, PoisonError};

use platform::host::clock::{Clock, now_ns};

/// The averages do not change more often. LINUX: `LOAD_FREQ`.
const PERIOD_NS: u64 = 5_000_000_000;
/// What the three averages are over, in seconds.
const SPANS: [f64; 3] = [60.0, 300.0, 900.0];

/// The load averages of a sandbox.
#[derive(Debug)]
pub struct Load {
    /// LOCK: leaf.
    last: Mutex<Sample>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sample {
    at_ns: u64,
    cpu_ns: u64,
    averages: [f64; 3],
}

impl Default for Load {
    fn default() -> Self {
        let at_ns = now_ns(Clock::Monotonic);
        Self { last: Mutex::new(Sample { at_ns, ..Sample::default() }) }
    }
}

impl Load {
    /// Over one, five and fifteen minutes; `used`: user and system time of all processes so far, in nanoseconds.
    #[must_use]
    pub fn averages(&self, used: (u64, u64)) -> [f64; 3] {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.after(now_ns(Clock::Monotonic), used.0.saturating_add(used.1));
        last.averages
    }
}

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    fn after(self, now_ns: u64, cpu_ns: u64) -> Self {
        let passed = now_ns.saturating_sub(self.at_ns);
        if passed < PERIOD_NS {
            return self;
        }
        let wanted = cpu_ns.saturating_sub(self.cpu_ns) as f64 / passed as f64;
        let seconds = passed as f64 / 1e9;
        let mut averages = self.averages;
        for (average, span) in averages.iter_mut().zip(SPANS) {
            let kept = (-seconds / span).exp();
            *average = *average * kept + wanted * (1.0 - kept);
        }
        Self { at_ns: now_ns, cpu_ns, averages }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn two_busy_processors_are_a_load_of_two_in_the_end() {
        let sample = Sample::default().after(3600 * SECOND, 7200 * SECOND);
        assert!((1.99..=2.0).contains(&sample.averages[0]), "{sample:?}");
        assert!(sample.averages[2] < sample.averages[0]);
    }

    #[test]
    fn what_is_asked_twice_within_five_seconds_stays() {
        let first = Sample::default().after(10 * SECOND, 10 * SECOND);
        assert_eq!(first.after(12 * SECOND, 12 * SECOND), first);
    }

    #[test]
    fn load_goes_when_nothing_runs() {
        let busy = Sample::default().after(60 * SECOND, 60 * SECOND);
        let idle = busy.after(660 * SECOND, 60 * SECOND);
        assert!(busy.averages[0] > 0.6 && idle.averages[0] < 0.01, "{idle:?}");
    }
}
