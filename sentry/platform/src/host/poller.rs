//! Tells when host descriptors become ready: one thread, one epoll instance, edge-triggered.
//!
//! Key types: [`Poller`], [`Watch`]. The kernel registers a descriptor once with a [`Ready`] receiver, which is called on
//! the poller's thread each time readiness may have changed and must only mark and wake. It then asks
//! [`readiness`] for the truth.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use linux_abi::Errno;
use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags};

use super::errno;

/// Is told that a host descriptor's readiness may have changed.
pub trait Ready: Send + Sync {
    /// `events`: the `EPOLL*` bits that the host reported.
    fn ready(&self, events: u32);
}

/// The poller; shared, lives as long as the sentry.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    /// LOCK: taken alone, never while a receiver runs.
    receivers: Mutex<Receivers>,
}

#[derive(Default)]
struct Receivers {
    next: u64,
    by_key: HashMap<u64, Weak<dyn Ready>>,
}

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} receivers", self.by_key.len())
    }
}

/// A registration; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    poller: Arc<Poller>,
    key: u64,
    fd: OwnedFd,
}

impl Poller {
    /// Starts the poller's thread.
    ///
    /// # Errors
    /// When the host refuses an epoll instance or a thread.
    pub fn start() -> std::io::Result<Arc<Self>> {
        crate::sys::install_wake();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let poller = Arc::new(Self { epoll, receivers: Mutex::default() });
        let theirs = Arc::clone(&poller);
        std::thread::Builder::new().name("poller".into()).stack_size(64 << 10).spawn(move || theirs.run())?;
        Ok(poller)
    }

    /// Watches a descriptor for everything, edge-triggered. Regular files are refused with EPERM: they are always ready.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn watch(self: &Arc<Self>, fd: impl AsFd, receiver: &Arc<dyn Ready>) -> Result<Watch, Errno> {
        let fd = super::file::duplicate(fd)?;
        let key = {
            let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
            receivers.next += 1;
            let key = receivers.next;
            receivers.by_key.insert(key, Arc::downgrade(receiver));
            key
        };
        let events = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::PRI
            | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(key), events) {
            self.receivers.lock().unwrap_or_else(PoisonError::into_inner).by_key.remove(&key);
            return Err(errno(error));
        }
        Ok(Watch { poller: Arc::clone(self), key, fd })
    }

    fn run(&self) {
        let mut buffer = Vec::with_capacity(64);
        loop {
            buffer.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut buffer), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &buffer {
                let (key, flags) = ({ event.data }.u64(), { event.flags }.bits());
                let receiver = {
                    let receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
                    receivers.by_key.get(&key).and_then(Weak::upgrade)
                };
                if let Some(receiver) = receiver {
                    receiver.ready(flags);
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The descriptor is ours and registered: nothing can fail but the whole epoll instance being gone.
        let _ = epoll::delete(&self.poller.epoll, &self.fd);
        self.poller.receivers.lock().unwrap_or_else(PoisonError::into_inner).by_key.remove(&self.key);
    }
}

/// What a host descriptor is ready for right now, as `poll(2)` bits.
#[must_use]
pub fn readiness(fd: impl AsFd) -> u16 {
    let mut fds = [PollFd::new(&fd, PollFlags::IN | PollFlags::OUT | PollFlags::PRI | PollFlags::RDHUP)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&zero)) {
        Ok(_) => fds[0].revents().bits(),
        Err(_) => PollFlags::ERR.bits(),
    }
}
