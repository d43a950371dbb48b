//! How does a sentry thread sleep? Until another thread wakes it, or until host descriptors are ready, whichever is first.
//!
//! Key types: [`Parker`], [`HostPoll`] (a host descriptor to sleep on); [`super::epoll`] sleeps here, too. What happens on the host wakes exactly the
//! thread that waits for it: no thread of ours stands in between.
//!
//! ```text
//!          ┌── park ───────────────> PARKED ──┐
//!   AWAKE ─┤                                  ├─ unpark: wake by futex, or by signal ──> WOKEN ──> AWAKE
//!     │    └── sleep on the host ──> IN_HOST ─┘                                            ^
//!     └── unpark ──────────────────────────────────────────────────────────────────────────┘ (no sleep at all)
//! ```
//! The signal is blocked but for the sleep in the host, so one that is sent on the way into it ends it at once.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::sys;

const AWAKE: u32 = 0;
const WOKEN: u32 = 1;
const PARKED: u32 = 2;
const IN_HOST: u32 = 3;

/// What one sentry thread sleeps on; may be woken any number of times by anyone.
#[derive(Debug, Default)]
pub struct Parker {
    state: AtomicU32,
    /// LOCK: leaf.
    thread: Mutex<Option<Thread>>,
    process: AtomicI32,
    tid: AtomicI32,
    /// Signals that the thread blocks otherwise, bit n for signal n + 1.
    mask: AtomicU64,
}

/// A host descriptor and what one wants to know of it: `struct pollfd`.
#[derive(Debug)]
#[repr(transparent)]
pub struct HostPoll<'a> {
    raw: libc::pollfd,
    fd: PhantomData<BorrowedFd<'a>>,
}

impl<'a> HostPoll<'a> {
    /// `events`: `POLL*` bits; those above 16 bits mean nothing to the host.
    #[must_use]
    pub fn new(fd: BorrowedFd<'a>, events: u32) -> Self {
        let [low, high, ..] = events.to_ne_bytes();
        let events = i16::from_ne_bytes([low, high]);
        Self { raw: libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }, fd: PhantomData }
    }

    /// What the host has answered.
    #[must_use]
    pub fn ready(&self) -> u32 {
        u32::from(self.raw.revents.cast_unsigned())
    }
}

/// Asks what the descriptors are ready for now; answers how many are.
pub fn poll_now(fds: &mut [HostPoll<'_>]) -> usize {
    if fds.is_empty() { 0 } else { sys::poll_masked(fds, Some(Duration::ZERO), None) }
}

impl Parker {
    /// Makes the calling thread the one that sleeps here.
    pub fn adopt(&self) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        self.process.store(sys::getpid(), Ordering::Relaxed);
        self.tid.store(sys::gettid(), Ordering::Relaxed);
        self.mask.store(sys::block_wake(), Ordering::Relaxed);
    }

    /// Sleeps until woken or until `timeout` is over; returns at once if woken since the last sleep.
    pub fn park(&self, timeout: Option<Duration>) {
        if self.enter(PARKED) {
            match timeout {
                Some(timeout) => std::thread::park_timeout(timeout),
                None => std::thread::park(),
            }
        }
        self.leave();
    }

    /// As [`Parker::park`], and until one of the descriptors is ready; answers how many are, 0 also if it has not looked.
    pub fn park_on(&self, fds: &mut [HostPoll<'_>], timeout: Option<Duration>) -> usize {
        let ready = if self.enter(IN_HOST) { sys::poll_masked(fds, timeout, self.sleep_mask()) } else { 0 };
        self.leave();
        ready
    }

    /// As [`Parker::park`], and until the epoll instance `epoll` has events, of which at most `max` are put into `events`.
    pub(super) fn park_in(
        &self,
        epoll: BorrowedFd<'_>,
        events: &mut Vec<libc::epoll_event>,
        max: usize,
        timeout: Option<Duration>,
    ) {
        if self.enter(IN_HOST) {
            sys::epoll_wait(epoll, events, max, timeout, self.sleep_mask());
        }
        self.leave();
    }

    /// Wakes the sleeper, or lets its next sleep end at once.
    pub fn unpark(&self) {
        match self.state.swap(WOKEN, Ordering::AcqRel) {
            PARKED => {
                let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(thread) = thread {
                    thread.unpark();
                }
            }
            IN_HOST => {
                // Should it have woken by itself and ended since, nobody is there to be called.
                let _ = sys::tgkill(
                    self.process.load(Ordering::Relaxed),
                    self.tid.load(Ordering::Relaxed),
                    sys::WAKE,
                );
            }
            _ => {}
        }
    }

    /// It sleeps, and nobody has woken it yet.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), PARKED | IN_HOST)
    }

    fn sleep_mask(&self) -> Option<u64> {
        Some(self.mask.load(Ordering::Relaxed))
    }

    fn enter(&self, place: u32) -> bool {
        self.state.compare_exchange(AWAKE, place, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// A swap, so that what the waker did before it is seen.
    fn leave(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    const IN: u32 = 1;

    fn adopted() -> Arc<Parker> {
        sys::install_wake();
        let parker = Arc::new(Parker::default());
        parker.adopt();
        parker
    }

    #[test]
    fn a_wake_up_before_the_sleep_ends_it_at_once() {
        let parker = adopted();
        let (end, _other) = rustix::pipe::pipe().unwrap();
        parker.unpark();
        parker.park(None);
        parker.unpark();
        assert_eq!(parker.park_on(&mut [HostPoll::new(end.as_fd(), IN)], None), 0);
    }

    #[test]
    fn a_descriptor_that_is_ready_ends_the_sleep() {
        let parker = adopted();
        let (end, other) = rustix::pipe::pipe().unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            rustix::io::write(&other, b"x").unwrap();
            other
        });
        let mut fds = [HostPoll::new(end.as_fd(), IN)];
        assert_eq!(parker.park_on(&mut fds, None), 1);
        assert_eq!(fds[0].ready(), IN);
        drop(writer.join().unwrap());
    }

    #[test]
    fn another_thread_ends_a_sleep_in_the_host_however_often() {
        let parker = adopted();
        let (end, _other) = rustix::pipe::pipe().unwrap();
        let theirs = Arc::clone(&parker);
        let rounds = 2000;
        let (told, hear) = std::sync::mpsc::sync_channel(0);
        let waker = std::thread::spawn(move || {
            for _ in 0..rounds {
                theirs.unpark();
                hear.recv().unwrap();
            }
        });
        for _ in 0..rounds {
            parker.park_on(&mut [HostPoll::new(end.as_fd(), IN)], None);
            told.send(()).unwrap();
        }
        waker.join().unwrap();
    }

    #[test]
    fn a_sleep_in_the_host_ends_at_its_time() {
        let parker = adopted();
        let (end, _other) = rustix::pipe::pipe().unwrap();
        let begun = Instant::now();
        assert_eq!(parker.park_on(&mut [HostPoll::new(end.as_fd(), IN)], Some(Duration::from_millis(3))), 0);
        assert!(begun.elapsed() >= Duration::from_millis(3));
    }
}
