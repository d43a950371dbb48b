//! An epoll instance of the host: what a guest's instance hands its host descriptors to.
//!
//! Key type: [`HostEpoll`]. Level and edge, one-shot and exclusive mean what they mean to the guest, since it is the
//! host that keeps the account; nothing is asked again after an event.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use linux_abi::Errno;
use rustix::event::PollFlags;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::errno;
use super::parker::Parker;
use crate::sys;

/// Most events taken at a time: those who want more come again.
const BATCH: usize = 256;
/// Shorter times are measured by `ppoll`, which knows of less than milliseconds.
const FINE: Duration = Duration::from_millis(4);

/// An instance.
///
/// INVARIANT: nobody else gets its descriptor (it is no [`AsFd`]), so that it cannot be added to another instance or to the poller's: an
/// instance of the host in another has been a way into the host's kernel more than once.
#[derive(Debug)]
pub struct HostEpoll(OwnedFd);

/// Ready: `EPOLL*` bits and the word that was given with the descriptor.
pub type Found = (u32, u64);

impl HostEpoll {
    /// `epoll_create1(2)`.
    ///
    /// # Errors
    /// The host's.
    pub fn new() -> Result<Self, Errno> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Self).map_err(errno)
    }

    /// `EPOLL_CTL_ADD`; `events` are the guest's own bits.
    ///
    /// # Errors
    /// EEXIST and the rest of the host's.
    pub fn add(&self, fd: impl AsFd, events: u32, data: u64) -> Result<(), Errno> {
        epoll::add(&self.0, fd, EventData::new_u64(data), EventFlags::from_bits_retain(events)).map_err(errno)
    }

    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// The host's.
    pub fn modify(&self, fd: impl AsFd, events: u32, data: u64) -> Result<(), Errno> {
        epoll::modify(&self.0, fd, EventData::new_u64(data), EventFlags::from_bits_retain(events))
            .map_err(errno)
    }

    /// `EPOLL_CTL_DEL`.
    ///
    /// # Errors
    /// The host's.
    pub fn delete(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.0, fd).map_err(errno)
    }

    /// Something is ready now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        super::poller::readiness(&self.0) & PollFlags::IN.bits() != 0
    }

    /// What is ready now, at most `max`.
    #[must_use]
    pub fn collect(&self, max: usize) -> Vec<Found> {
        let mut events = Vec::with_capacity(max.min(BATCH));
        if max > 0 {
            sys::epoll_wait(self.0.as_fd(), &mut events, max, Some(Duration::ZERO), None);
        }
        found(&events)
    }

    /// Sleeps at `parker` until something is ready, and takes at most `max` (at least 1) of it; nothing if woken, or at the end of the
    /// time.
    #[must_use]
    pub fn sleep(&self, parker: &Parker, max: usize, timeout: Option<Duration>) -> Vec<Found> {
        if timeout.is_some_and(|timeout| timeout < FINE) {
            let mut fds = [super::parker::HostPoll::new(self.0.as_fd(), EventFlags::IN.bits())];
            return if parker.park_on(&mut fds, timeout) > 0 { self.collect(max) } else { Vec::new() };
        }
        let mut events = Vec::with_capacity(max.min(BATCH));
        parker.park_in(self.0.as_fd(), &mut events, max, timeout);
        found(&events)
    }
}

fn found(events: &[libc::epoll_event]) -> Vec<Found> {
    events.iter().map(|event| (event.events, event.u64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_comes_with_its_word() {
        let epoll = HostEpoll::new().unwrap();
        let (end, other) = rustix::pipe::pipe().unwrap();
        epoll.add(&end, EventFlags::IN.bits(), u64::MAX - 1).unwrap();
        assert_eq!(epoll.add(&end, EventFlags::IN.bits(), 1), Err(Errno::EEXIST));
        assert_eq!(epoll.collect(8), []);
        rustix::io::write(&other, b"x").unwrap();
        assert_eq!(epoll.collect(8), [(EventFlags::IN.bits(), u64::MAX - 1)]);
        epoll.modify(&end, 0, 7).unwrap();
        assert_eq!(epoll.collect(8), []);
        epoll.delete(&end).unwrap();
        assert_eq!(epoll.delete(&end), Err(Errno::ENOENT));
    }
}
