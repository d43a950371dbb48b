//! How does an epoll instance watch files that the host keeps? By an instance of the host's, made when the first one is added.
//!
//! Key types: [`Hosted`] (what an instance has of it), [`Place`] (a file in it). The waiting thread sleeps in the host's instance, so that a packet
//! wakes it and nobody else. Only who watches the *instance* (another instance, poll) is told through its wait queue,
//! by the poller's thread, which watches each of the files, too. INVARIANT: no instance of the host is ever in another of the host: races between
//! the two ends of such a pair are what the host's epoll has been exploited by.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use platform::host::epoll::{Found, HostEpoll};
use platform::host::file;
use platform::host::poller::{Poller, Ready, Watch};

use super::{Epoll, Interest, Source, WAKEUP, lock};
use crate::Errno;
use crate::descriptors::{Charge, Share, Use};
use crate::sync::Events;

/// The host's part of an instance.
pub(super) struct Hosted {
    host: OnceLock<(HostEpoll, Charge)>,
    /// Who pays for its descriptors: the container that made the instance.
    share: Arc<Share>,
    poller: Arc<Poller>,
    /// Somebody watches the instance.
    is_watched: AtomicBool,
    turn: AtomicBool,
}

/// A file in the host's instance.
pub(super) struct Place {
    /// Its descriptor there if its own is there already (`dup(2)` in the guest).
    other: Option<(OwnedFd, Charge)>,
    /// While the instance is watched, its descriptor is, by the poller.
    /// LOCK: taken alone.
    watch: Mutex<Option<(Watch, Charge)>>,
}

impl Place {
    fn new(other: Option<(OwnedFd, Charge)>) -> Self {
        Self { other, watch: Mutex::default() }
    }

    fn fd<'a>(&'a self, own: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.other.as_ref().map_or(own, |(other, _)| other.as_fd())
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
        self.get().is_some_and(HostEpoll::is_ready)
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
            Ok(()) => Ok(Place::new(None)),
            Err(Errno::EEXIST) => {
                let charge = self.hosted.share.take(Use::Object).map_err(no_room)?;
                let other = file::duplicate(fd).map_err(no_room)?;
                host.add(&other, events, data)?;
                Ok(Place::new(Some((other, charge))))
            }
            Err(errno) => Err(errno),
        }
    }

    /// The host's instance, a new one if need be. LOCK: `items`, so that nobody else makes one.
    fn host(&self) -> Result<&HostEpoll, Errno> {
        if self.hosted.get().is_none() {
            let charge = self.hosted.share.take(Use::Object).map_err(no_room)?;
            let new = HostEpoll::new().map_err(no_room)?;
            let _ = self.hosted.host.set((new, charge));
            // Those who sleep for the queue alone are to sleep in the host from now on.
            self.queue.wake(Events::all());
        }
        self.hosted.get().ok_or(Errno::ENOMEM)
    }

    /// From now on the wait queue hears of the host's files, too.
    pub(super) fn watch_hosted(&self) {
        if self.hosted.is_watched.swap(true, Ordering::SeqCst) {
            return;
        }
        let items: Vec<_> = lock(&self.items).values().cloned().collect();
        for item in items {
            if let (Some(Source::Host(place)), Some(file)) = (&*lock(&item.source), item.file.upgrade())
                && let Some(own) = file.ops.host_descriptor()
            {
                self.watch_place(place, own);
            }
        }
    }

    /// The wait queue hears of this file if anybody watches the instance. Without a descriptor to spare it does not.
    pub(super) fn watch_place(&self, place: &Place, own: BorrowedFd<'_>) {
        if !self.hosted.is_watched.load(Ordering::SeqCst) {
            return;
        }
        let start = || {
            let receiver: Arc<dyn Ready> = self.me.upgrade()?;
            let charge = self.hosted.share.take(Use::Object).ok()?;
            Some((self.hosted.poller.watch(own, &receiver).ok()?, charge))
        };
        let mut watch = place.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_none() {
            *watch = start();
        }
    }

    /// The host has been asked for something else: what is ready may be so from now on.
    pub(super) fn interest_changed(&self) {
        if self.hosted.is_watched.load(Ordering::SeqCst) && self.hosted.is_ready() {
            self.queue.wake(Events::READABLE);
        }
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
