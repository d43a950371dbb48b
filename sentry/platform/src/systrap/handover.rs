//! How a guest thread and its sentry thread meet, as fast as the machine allows.
//!
//! Key type: [`Handover`]. One state word in the hand-over page, and a seccomp listener of the guest thread's own:
//!
//! ```text
//!                 guest posts, mode SAME            sentry: RECV ... write answer, state = RESPONSE, SEND
//!   GUEST ──────────────────────────────> ASLEEP ────────────────────────────────────┐
//!     ^ │ guest posts, mode CROSS           ^ guest's spin ends, then NOTIFY         │
//!     │ └───────────────────────────────> REQUEST ── sentry: compare and swap ──┐    │
//!     │                                                                         v    v
//!     └──────────────── guest takes the answer ───────────────────────────── RESPONSE
//! ```
//!
//! In mode SAME the guest thread goes to sleep in a notification at once: the synchronous wake-up keeps both threads on one
//! processor. In mode CROSS both spin, each on a processor of its own. The mode is the sentry's to set; a guest that was told CROSS
//! and finds nobody spinning ends its spin in a notification all the same, so no wake-up can be lost whatever the order.
//! The guest may write any of this: the worst it gets is a stuck or confused thread of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shared;
use super::strays::Strays;
use crate::death::Death;
use crate::stub::arena::Window;
use crate::stub::layout::{NOTIFY_NR, RW, ro, rw, state};
use crate::stub::process::Process;
use crate::sys::{self, Notification, Reply};

/// Quick requests in a row before spinning begins.
const STREAK: u32 = 8;
/// A request counts as quick if it comes this soon after the answer, in microseconds.
const QUICK_US: u64 = 24;
/// How long the sentry spins for the next request.
const SPIN_US: u64 = 30;
/// The same for the first request after spinning has begun.
const FIRST_SPIN_US: u64 = 120;
/// After a spin in vain no spinning for `COOL_DOWN << failures` requests.
const COOL_DOWN: u32 = 16;
/// The same for a new thread, and for its parent.
const BIRTH_COOL_DOWN: u32 = 32;
/// With more bytes a call than this, both threads stay on one processor, whose cache the bytes then never leave. PERF: a call
/// without bytes costs 0.6 us on two processors and 3 us on one, a KiB 0.2 us and 0.08 us: the same at 14 KiB.
const LARGE: u64 = 16 << 10;
/// With fewer than this they may part again.
const SMALL: u64 = 8 << 10;
/// So many bytes one call counts for at most: a single large one among small ones changes nothing.
const MOVED_MAX: u64 = 64 << 10;
/// The mean is over about so many calls.
const MEAN_OF: u64 = 8;
/// Requests between looks whether the processor is wanted.
const LOOK_EVERY: u32 = 16;
/// Limit of `failures` and `crowded`.
const FAILURES_MAX: u32 = 7;

/// Between looks at a thread that is dying.
const LOOK: Duration = Duration::from_micros(200);
/// So many looks, two seconds, a stub may take from the end of its threads to its own: it frees its memory in between.
const LAST_LOOKS: u32 = 10_000;

/// The stub has ended, or cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead;

/// The sentry's side of a hand-over page.
pub struct Handover {
    shared: Arc<Shared>,
    process: Arc<Process>,
    listener: Arc<OwnedFd>,
    /// The notification in which the guest thread sleeps.
    pub(super) asleep: Option<u64>,
    /// Host thread id, as the kernel tells with a notification.
    tid: i32,
    /// Among the sandbox's guest threads.
    place: usize,
    crossing: bool,
    /// Requests until the next look whether the processor is wanted.
    look_in: u32,
    /// How often it was, of late.
    crowded: u32,
    streak: u32,
    cool_down: u32,
    failures: u32,
    answered_at: u64,
    spin_us: u64,
    /// Cycles of spinning that nobody has asked for yet.
    watched: u64,
    /// Bytes of arguments and results a call, the mean of the last ones.
    mean_moved: u64,
}

impl Handover {
    /// Takes over a guest thread that is about to post its first request.
    #[must_use]
    pub fn new(shared: Arc<Shared>, process: Arc<Process>, listener: OwnedFd) -> Self {
        // EINVAL before Linux 6.6: then wake-ups are not synchronous, and all still works.
        let _ = sys::notification_synchronous(listener.as_fd(), true);
        let place = shared.pulses.enter();
        Self {
            shared,
            process,
            listener: Arc::new(listener),
            asleep: None,
            tid: 0,
            place,
            crossing: false,
            look_in: 0,
            crowded: 0,
            streak: 0,
            cool_down: 0,
            failures: 0,
            answered_at: 0,
            spin_us: SPIN_US,
            watched: 0,
            mean_moved: 0,
        }
    }

    /// Host thread id of the guest thread; 0 before the first request.
    #[must_use]
    pub const fn tid(&self) -> i32 {
        self.tid
    }

    /// The listener, for notifications that stand for a call to be allowed.
    #[must_use]
    pub const fn listener(&self) -> &Arc<OwnedFd> {
        &self.listener
    }

    /// Receives one notification, whatever it is.
    ///
    /// # Errors
    /// [`Dead`].
    pub fn receive(&self) -> Result<Notification, Dead> {
        loop {
            if self.process.has_ended() {
                return Err(Dead);
            }
            match sys::notification_receive(self.listener.as_fd()) {
                Ok(notification) => return Ok(notification),
                Err(error) => self.pause_after(&error)?,
            }
        }
    }

    fn pause_after(&self, error: &io::Error) -> Result<(), Dead> {
        match error.raw_os_error() {
            Some(libc::EINTR) => Ok(()),
            // The thread died while it asked, or has gone.
            Some(libc::ENOENT) if sys::notification_is_over(self.listener.as_fd()) => Err(self.bury()),
            Some(libc::ENOENT) => {
                std::thread::sleep(LOOK);
                Ok(())
            }
            errno => Err(self.refused(errno)),
        }
    }

    fn given_up(&self, why: Death) -> Dead {
        self.process.blame(why);
        Dead
    }

    /// The host does not do with the listener what it always does.
    fn refused(&self, errno: Option<i32>) -> Dead {
        self.given_up(Death::Listener(errno.unwrap_or(0)))
    }

    /// The thread has gone, and nobody ordered it to. Its process dies and is reaped in a moment, or else only the thread went: guest
    /// code can jump to the stub's own `exit`. No request will come then, so the stub is killed.
    fn bury(&self) -> Dead {
        for _ in 0..LAST_LOOKS {
            if self.process.has_ended() {
                return Dead;
            }
            std::thread::sleep(LOOK);
        }
        self.process.condemn(Death::Left);
        Dead
    }

    /// Sleeps until the guest thread has posted a request and sleeps.
    ///
    /// A thread that is interrupted in its notification (by the freezer of its cgroup, or by our own signal) asks again. If its answer is in the page
    /// by then, that is all it wants to know.
    fn sleep(&mut self, window: &Window) -> Result<(), Dead> {
        let mut strays = Strays::default();
        loop {
            let notification = self.receive()?;
            if self.accept(window, &notification) {
                return Ok(());
            }
            strays.add().map_err(|why| self.given_up(why))?;
        }
    }

    /// Looks at a notification: the guest thread has posted a request and sleeps in it, or else it is answered here.
    pub(super) fn accept(&mut self, window: &Window, notification: &Notification) -> bool {
        if notification.nr != i32::try_from(NOTIFY_NR).expect("small") {
            // A call that nobody ordered.
            let refused = Reply::Error(libc::EPERM);
            let _ = sys::notification_answer(self.listener.as_fd(), notification.id, refused);
            return false;
        }
        self.tid = notification.pid.cast_signed();
        if window.get32(RW + rw::STATE) == state::RESPONSE {
            let _ = sys::notification_answer(self.listener.as_fd(), notification.id, Reply::Value(0));
            return false;
        }
        self.asleep = Some(notification.id);
        true
    }

    /// Its processor is wanted: by a thread that begins, or because this one may be short. No spinning for some requests.
    pub(super) fn cool_down(&mut self, window: &Window) {
        self.rest(window);
        self.cool_down = self.cool_down.max(BIRTH_COOL_DOWN);
    }

    /// Has the guest thread sleep in a notification after its request, if it spins.
    ///
    /// # Errors
    /// [`Dead`].
    pub(super) fn settle(&mut self, window: &Window) -> Result<(), Dead> {
        self.rest(window);
        if self.asleep.is_none() { self.sleep(window) } else { Ok(()) }
    }

    /// As [`Handover::answer`] to a guest thread that sleeps, without looking what became of it: it wakes, or asks again
    /// and is then told by whoever receives that.
    pub(super) fn let_go(&mut self, window: &Window, again: Option<u64>) {
        window.word(RW + rw::STATE).store(state::RESPONSE, Ordering::Release);
        for id in self.asleep.take().into_iter().chain(again) {
            let _ = sys::notification_answer(self.listener.as_fd(), id, Reply::Value(0));
        }
        self.answered_at = sys::cycles();
    }

    /// Waits for the next request.
    ///
    /// # Errors
    /// [`Dead`].
    pub fn wait(&mut self, window: &Window) -> Result<(), Dead> {
        if self.crossing {
            let begin = sys::cycles();
            let came = self.spin(window)?;
            self.watched += sys::cycles().wrapping_sub(begin);
            if !came {
                self.sleep(window)?;
            }
        } else {
            self.sleep(window)?;
        }
        self.consider(window);
        Ok(())
    }

    /// For how long it has spun since this was asked last, in nanoseconds.
    pub(super) fn take_watched_ns(&mut self) -> u64 {
        std::mem::take(&mut self.watched) * 1000 / self.shared.cycles_per_us.max(1)
    }

    /// Spins for a request; `false`: it must be slept for.
    fn spin(&mut self, window: &Window) -> Result<bool, Dead> {
        let word = window.word(RW + rw::STATE);
        let end = sys::cycles() + self.spin_us * self.shared.cycles_per_us;
        loop {
            for _ in 0..32 {
                match word.load(Ordering::Acquire) {
                    state::REQUEST => {
                        self.spin_us = SPIN_US;
                        self.failures = 0;
                        return Ok(true);
                    }
                    state::REQUEST_ASLEEP => return Ok(false),
                    _ => std::hint::spin_loop(),
                }
            }
            if self.process.has_ended() {
                return Err(Dead);
            }
            if sys::cycles() > end {
                self.failures = (self.failures + 1).min(FAILURES_MAX);
                self.cool_down = COOL_DOWN << self.failures;
                self.stop_crossing(window);
                return Ok(false);
            }
        }
    }

    /// The call that is about to be answered moved so many bytes. Many of them go from one processor's cache to the other's slower than
    /// two threads take turns on one.
    pub(super) fn moved(&mut self, window: &Window, bytes: u64) {
        self.mean_moved = mean_with(self.mean_moved, bytes);
        if self.mean_moved > LARGE {
            self.streak = 0;
            self.stop_crossing(window);
        }
    }

    /// After a request: is spinning worth while from now on?
    fn consider(&mut self, window: &Window) {
        let now = sys::cycles();
        self.shared.pulses.beat(self.place, now);
        if self.crossing {
            self.look_in = self.look_in.saturating_sub(1);
            if self.look_in == 0 {
                self.look_in = LOOK_EVERY;
                if self.is_crowded(now) {
                    self.make_room(window);
                } else {
                    self.crowded = self.crowded.saturating_sub(1);
                }
            }
            return;
        }
        if !self.shared.options.spin || self.shared.cpu_count < 2 {
            return;
        }
        if self.cool_down > 0 {
            self.cool_down -= 1;
            return;
        }
        let gap = now.wrapping_sub(self.answered_at);
        let is_quick = gap < QUICK_US * self.shared.cycles_per_us && self.mean_moved < SMALL;
        self.streak = if is_quick { self.streak + 1 } else { 0 };
        if self.streak >= STREAK {
            self.streak = 0;
            if self.is_crowded(now) {
                self.make_room(window);
            } else {
                self.start_crossing(window);
            }
        }
    }

    /// Whether threads with work want all processors, this one taking two: a thread needs one, and one that spins another.
    fn is_crowded(&self, now: u64) -> bool {
        let spinning = self.shared.spinning.load(Ordering::Relaxed) - usize::from(self.crossing);
        self.shared.pulses.others(self.place, now) + spinning + 2 > self.shared.cpu_count
    }

    /// No spinning for long, and the longer the more often this was so.
    fn make_room(&mut self, window: &Window) {
        self.crowded = (self.crowded + 1).min(FAILURES_MAX);
        self.cool_down = COOL_DOWN << self.crowded;
        self.stop_crossing(window);
    }

    fn start_crossing(&mut self, window: &Window) {
        // Each pair needs two processors; more pairs than that would take turns at spinning in vain.
        let pairs = self.shared.cpu_count / 2;
        let taken = self
            .shared
            .spinning
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < pairs).then_some(n + 1));
        if taken.is_err() {
            return;
        }
        let guest_cpu = window.get32(RW + rw::CPU) & 0xfff;
        let mut mask = self.shared.cpus.clone();
        if let Some(word) = mask.get_mut(guest_cpu as usize / 64) {
            *word &= !(1 << (guest_cpu % 64));
        }
        if sys::set_affinity(0, &mask).is_err() {
            self.shared.spinning.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let _ = sys::notification_synchronous(self.listener.as_fd(), false);
        self.spin_us = FIRST_SPIN_US;
        self.look_in = LOOK_EVERY;
        self.crossing = true;
        window.set32(ro::MODE, 1);
    }

    fn stop_crossing(&mut self, window: &Window) {
        if !self.crossing {
            return;
        }
        window.set32(ro::MODE, 0);
        self.crossing = false;
        self.shared.spinning.fetch_sub(1, Ordering::AcqRel);
        // The mask is the one we started with.
        let _ = sys::set_affinity(0, &self.shared.cpus);
        let _ = sys::notification_synchronous(self.listener.as_fd(), true);
    }

    /// Tells the guest thread that its answer and its next order are in the page.
    ///
    /// # Errors
    /// [`Dead`].
    pub fn answer(&mut self, window: &Window) -> Result<(), Dead> {
        let word = window.word(RW + rw::STATE);
        if self.asleep.is_none() {
            let swapped =
                word.compare_exchange(state::REQUEST, state::RESPONSE, Ordering::AcqRel, Ordering::Acquire);
            if swapped.is_ok() {
                self.answered_at = sys::cycles();
                return Ok(());
            }
            // Its spin has ended meanwhile: it sleeps, or is about to.
            self.sleep(window)?;
        }
        word.store(state::RESPONSE, Ordering::Release);
        if let Some(id) = self.asleep.take() {
            match sys::notification_answer(self.listener.as_fd(), id, Reply::Value(0)) {
                Ok(()) => {}
                // It has died, or left the notification in some way of its own: the next wait tells.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(self.refused(error.raw_os_error())),
            }
        }
        self.answered_at = sys::cycles();
        Ok(())
    }

    /// The sentry thread is about to do something else for long: give the processor back.
    pub fn rest(&mut self, window: &Window) {
        if self.crossing {
            // The next answer comes after a sleep: to a guest thread that sleeps, on the same processor, it is ten times cheaper.
            self.failures = (self.failures + 1).min(FAILURES_MAX);
            self.cool_down = COOL_DOWN << self.failures;
            self.stop_crossing(window);
        }
        self.streak = 0;
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if self.crossing {
            self.shared.spinning.fetch_sub(1, Ordering::AcqRel);
            let _ = sys::set_affinity(0, &self.shared.cpus);
        }
    }
}

/// The mean after one more call.
fn mean_with(mean: u64, bytes: u64) -> u64 {
    mean - mean / MEAN_OF + bytes.min(MOVED_MAX) / MEAN_OF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(calls: impl IntoIterator<Item = u64>) -> u64 {
        calls.into_iter().fold(0, mean_with)
    }

    #[test]
    fn large_transfers_in_a_row_are_done_on_one_processor() {
        assert!(after([64 << 10; 3]) > LARGE);
        assert!(after([32 << 10; 8]) > LARGE);
        assert!(after([u64::MAX; 1000]) <= MOVED_MAX + MEAN_OF);
    }

    #[test]
    fn a_large_transfer_among_small_ones_changes_nothing() {
        let calls = (0..100).map(|call| if call % 10 == 0 { 1 << 30 } else { 4 << 10 });
        assert!(after(calls) < LARGE);
        assert!(after([4 << 10; 1000]) < SMALL);
    }

    #[test]
    fn after_large_transfers_the_threads_part_again() {
        let calls = std::iter::repeat_n(64 << 10, 1000).chain([0; 24]);
        assert!(after(calls) < SMALL);
    }
}
