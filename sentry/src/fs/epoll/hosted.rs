//! How does an epoll instance watch files that the host keeps? By an instance of the host's, made when the first one is added.
//!
//! Key types: [`Hosted`] (what an instance has of it), [`Place`] (a file in it). The waiting thread sleeps in the host's instance, so that a packet
//! wakes it and nobody else. Only who watches the *instance* (another instance, poll) is told through its wait queue,
//! by the poller's thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use platform::host::epoll::{Found, HostEpoll};
use platform::host::file;
use platform::host::poller::{Poller, Ready, Watch, readiness};

use super::{Epoll, Interest, WAKEUP};
use crate::Errno;
use crate::descriptors::{Charge, Share};
use crate::sync::Events;

/// The host's part of an instance.
pub(super) struct Hosted {
    host: OnceLock<(HostEpoll, Charge)>,
    /// Who pays for its descriptors: the container that made the instance.
    share: Arc<Share>,
    poller: Arc<Poller>,
    /// Somebody watches the instance.
    is_watched: AtomicBool,
    /// `None` if the host refused.
    watch: OnceLock<Option<Watch>>,
    turn: AtomicBool,
}

/// A file in the host's instance: its own descriptor, or another one if that is there already (`dup(2)` in the guest).
pub(super) struct Place(Option<(OwnedFd, Charge)>);

impl Place {
    fn fd<'a>(&'a self, own: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.0.as_ref().map_or(own, |(other, _)| other.as_fd())
    }
}

impl From<Found> for Interest {
    fn from((events, data): Found) -> Self {
        Self { events, data }
    }
}

impl Hosted {
    pub(super) fn new(poller: Arc<Poller>, share: Arc<Share>) -> Self {
        Self {
            host: OnceLock::new(),
            share,
            poller,
            is_watched: AtomicBool::new(false),
            watch: OnceLock::new(),
            turn: AtomicBool::new(false),
        }
    }

    /// The host's instance, if there is one.
    pub(super) fn get(&self) -> Option<&HostEpoll> {
        self.host.get().map(|(host, _)| host)
    }

    /// True every other time: whose turn is it to be heard first?
    pub(super) fn is_listed_first(&self) -> bool {
        self.turn.fetch_xor(true, Ordering::Relaxed)
    }

    pub(super) fn is_ready(&self) -> bool {
        let ready = self.get().map_or(0, readiness);
        Events::from_bits_truncate(u32::from(ready)).contains(Events::IN)
    }

    pub(super) fn modify(&self, place: &Place, own: BorrowedFd<'_>, interest: Interest) -> Result<(), Errno> {
        let host = self.get().ok_or(Errno::ENOENT)?;
        host.modify(place.fd(own), interest.events & !WAKEUP, interest.data)
    }

    /// `own`: the file's descriptor.
    pub(super) fn remove(&self, place: &Place, own: Option<BorrowedFd<'_>>) {
        if let (Some(host), Some(own)) = (self.get(), own) {
            // It is there, or gone with its descriptor.
            let _ = host.delete(place.fd(own));
        }
    }
}

impl Epoll {
    /// Has the host watch a file. The caller holds `items`.
    pub(super) fn add_hosted(&self, fd: BorrowedFd<'_>, interest: Interest) -> Result<Place, Errno> {
        let host = self.host()?;
        let (events, data) = (interest.events & !WAKEUP, interest.data);
        match host.add(fd, events, data) {
            Ok(()) => Ok(Place(None)),
            Err(Errno::EEXIST) => {
                let charge = self.hosted.share.take().map_err(no_room)?;
                let other = file::duplicate(fd).map_err(no_room)?;
                host.add(&other, events, data)?;
                Ok(Place(Some((other, charge))))
            }
            Err(errno) => Err(errno),
        }
    }

    /// The host's instance, a new one if need be. LOCK: `items`, so that nobody else makes one.
    fn host(&self) -> Result<&HostEpoll, Errno> {
        if self.hosted.get().is_none() {
            let charge = self.hosted.share.take().map_err(no_room)?;
            let new = HostEpoll::new().map_err(no_room)?;
            let _ = self.hosted.host.set((new, charge));
            if self.hosted.is_watched.load(Ordering::SeqCst) {
                self.start_watch();
            }
            // Those who sleep for the queue alone are to sleep in the host from now on.
            self.queue.wake(Events::all());
        }
        self.hosted.get().ok_or(Errno::ENOMEM)
    }

    /// From now on the wait queue hears of the host's files, too.
    pub(super) fn watch_hosted(&self) {
        self.hosted.is_watched.store(true, Ordering::SeqCst);
        if self.hosted.get().is_some() {
            self.start_watch();
        }
    }

    fn start_watch(&self) {
        let start = || {
            let receiver: Arc<dyn Ready> = self.me.upgrade()?;
            self.hosted.poller.watch(self.hosted.get()?, &receiver).ok()
        };
        self.hosted.watch.get_or_init(start);
    }
}

/// It is the container that has no more descriptors of the host. LINUX: that error is none of `epoll_ctl`'s, but this one is.
fn no_room(errno: Errno) -> Errno {
    if matches!(errno, Errno::EMFILE | Errno::ENFILE) { Errno::ENOMEM } else { errno }
}

impl Ready for Epoll {
    fn ready(&self, _: u32) {
        self.queue.wake(Events::READABLE);
    }
}
