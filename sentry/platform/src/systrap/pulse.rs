//! Who else has work now? What decides whether a processor is free for spinning.
//!
//! Key type: [`Pulses`]: when each guest thread of the sandbox last asked for something. A thread in a long wait, or one that only
//! computes, asks for nothing; the former needs no processor, and of the latter the host's scheduler takes care.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Threads beyond these share places: then fewer may be seen, and one more may spin.
const PLACES: usize = 64;
/// Who asked within this time, in microseconds, has work.
const RECENT_US: u64 = 500;

/// On a cache line of its own: written at each request.
#[repr(align(64))]
#[derive(Default)]
struct Place(AtomicU64);

/// When guest threads last asked for something.
pub struct Pulses {
    places: [Place; PLACES],
    next: AtomicUsize,
    recent: u64,
}

impl Pulses {
    /// Nobody yet.
    pub fn new(cycles_per_us: u64) -> Self {
        Self {
            places: std::array::from_fn(|_| Place::default()),
            next: AtomicUsize::new(0),
            recent: RECENT_US * cycles_per_us,
        }
    }

    /// A place for one more thread.
    pub fn enter(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % PLACES
    }

    /// A thread asks at the time `now`, in cycles.
    pub fn beat(&self, place: usize, now: u64) {
        self.places[place].0.store(now, Ordering::Relaxed);
    }

    /// How many threads but the one at `place` have work at the time `now`.
    pub fn others(&self, place: usize, now: u64) -> usize {
        let used = self.next.load(Ordering::Relaxed).min(PLACES);
        let is_recent = |at: &u64| *at != 0 && now.saturating_sub(*at) < self.recent;
        let beats = self.places[..used].iter().enumerate().filter(|(other, _)| *other != place);
        beats.map(|(_, at)| at.0.load(Ordering::Relaxed)).filter(is_recent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_asked_lately_have_work() {
        let pulses = Pulses::new(1000);
        let (a, b) = (pulses.enter(), pulses.enter());
        assert_eq!(pulses.others(a, 1), 0);
        pulses.beat(a, 1_000);
        pulses.beat(b, 1_500);
        assert_eq!((pulses.others(a, 2_000), pulses.others(b, 2_000)), (1, 1));
        // Their clocks may differ a little.
        assert_eq!(pulses.others(a, 1_400), 1);
        assert_eq!(pulses.others(a, 1_500 + RECENT_US * 1000), 0);
    }

    #[test]
    fn more_threads_than_places_are_no_harm() {
        let pulses = Pulses::new(1000);
        (0..3 * PLACES).for_each(|_| pulses.beat(pulses.enter(), 1_000));
        assert_eq!(pulses.others(0, 2_000), PLACES - 1);
    }
}
