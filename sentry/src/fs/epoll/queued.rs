//! Calls of `epoll_ctl` whose success was certain, made later (decision 0012): for which descriptors is it, and what do they come to?

use std::sync::atomic::Ordering;

use linux_abi::poll::EPOLL_CTL_DEL;
use platform::{EpollLicence, QueuedCall};

use super::{EXCLUSIVE, Epoll, Interest, instance_of, lock};
use crate::vfs::{Fd, FdTable, OpenFile};

/// Most items that are gone through for a licence.
const ITEMS_MAX: usize = 1024;

impl Epoll {
    /// A bit for each descriptor of which `EPOLL_CTL_DEL` and `EPOLL_CTL_MOD` succeed whatever the event; `None`: others could tell when a
    /// call is made, or there are too many.
    #[must_use]
    pub fn certain(&self) -> Option<[u64; 16]> {
        let is_watched = lock(&self.parents).iter().any(|parent| parent.strong_count() > 0);
        let items = lock(&self.items);
        if is_watched || items.len() > ITEMS_MAX {
            return None;
        }
        let mut fds = [0; 16];
        let mut files = Vec::new();
        for item in items.values() {
            let Some(place) = bit(item.key.0) else { continue };
            let Some(file) = item.file.upgrade() else { continue };
            if item.events.load(Ordering::Acquire) & EXCLUSIVE == 0 && instance_of(&file).is_none() {
                fds[place.0] |= place.1;
            }
            files.push(file);
        }
        drop(items);
        // What is dropped here may be the last reference: not under the lock.
        drop(files);
        Some(fds)
    }

    /// As [`Epoll::certain`], for one descriptor.
    #[must_use]
    pub fn is_certain(&self, fd: Fd, file: &OpenFile) -> bool {
        let items = lock(&self.items);
        let item = items.get(&(fd, file.id));
        item.is_some_and(|item| item.events.load(Ordering::Acquire) & EXCLUSIVE == 0)
    }

    /// Makes the calls. A later one for the same descriptor stands for those before it: a file that is taken out and put in again is as
    /// one that was modified. What cannot be done only a hostile guest has asked for.
    pub fn make(&self, table: &FdTable, calls: &[QueuedCall]) {
        for (index, call) in calls.iter().enumerate() {
            if calls[index + 1..].iter().any(|later| later.fd == call.fd) {
                continue;
            }
            let fd = Fd(call.fd);
            let Ok(file) = table.get(fd) else { continue };
            let _ = if call.operation == EPOLL_CTL_DEL.cast_unsigned() {
                self.remove(fd, &file)
            } else {
                self.modify(fd, &file, Interest { events: call.events, data: call.data })
            };
        }
    }
}

/// Where a descriptor's bit stands: word and mask.
#[must_use]
pub fn bit(fd: Fd) -> Option<(usize, u64)> {
    let number = usize::try_from(fd.0).ok().filter(|number| *number < EpollLicence::FDS)?;
    Some((number / 64, 1 << (number % 64)))
}
