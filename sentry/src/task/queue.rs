//! When may a guest thread be told that `epoll_ctl` has succeeded before it is made? When nobody else could tell (decision 0012).
//!
//! Key type: [`Queue`], one per running task. It licenses one instance at a time, the one that the task keeps calling: one of
//! which this task's descriptor is the only reference, in a table that is this task's alone. Calls that are not known to leave
//! descriptors as they are end the licence, and the queue is emptied before any call is served.

use std::sync::{Arc, Weak};

use linux_abi::nr;
use linux_abi::poll::EPOLL_CTL_DEL;
use platform::{EpollLicence, QueuedCall};

use super::{Current, Outcome, SyscallAbi};
use crate::fs::epoll::{self, Epoll};
use crate::vfs::{Fd, FdTable, OpenFile};

/// Calls in a row for the same instance before it is licensed.
const STREAK: u32 = 8;
/// The same at most, after licences that did not pay.
const STREAK_MAX: u32 = 1 << 14;
/// A licence under which so many calls were queued was worth its while.
const WORTH: u32 = 64;

/// A licence that the platform has been told of.
struct Licence {
    terms: EpollLicence,
    instance: Weak<OpenFile>,
    table: Weak<FdTable>,
    used: u32,
}

/// What a task's queue of calls is about.
pub(super) struct Queue {
    licence: Option<Licence>,
    /// The instance called last, and how often in a row.
    candidate: (i32, u32),
    /// How often it must be.
    streak: u32,
    /// Calls that have been taken; empty between uses.
    calls: Vec<QueuedCall>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { licence: None, candidate: (-1, 0), streak: STREAK, calls: Vec::new() }
    }
}

impl Current {
    /// After guest code has run: makes the calls that the guest takes for made.
    pub(super) fn make_queued(&mut self, abi: &dyn SyscallAbi) {
        let Some(licence) = &mut self.queue.licence else { return };
        let mut calls = std::mem::take(&mut self.queue.calls);
        self.context.take_queued(&mut calls);
        if !calls.is_empty() {
            licence.used = licence.used.saturating_add(u32::try_from(calls.len()).unwrap_or(u32::MAX));
            if let (Some(instance), Some(table)) = (licence.instance.upgrade(), licence.table.upgrade())
                && let Some(epoll) = epoll::instance_of(&instance)
            {
                epoll.make(&table, &calls);
            }
            self.follow(&calls);
            if self.kernel().config.strace {
                self.trace_queued(abi, &calls);
            }
            calls.clear();
        }
        self.queue.calls = calls;
    }

    /// What is no longer registered must not be taken for it.
    fn follow(&mut self, calls: &[QueuedCall]) {
        let Some(licence) = &mut self.queue.licence else { return };
        let before = licence.terms;
        for call in calls {
            let Some((word, mask)) = epoll::bit(Fd(call.fd)) else { continue };
            if call.operation == EPOLL_CTL_DEL.cast_unsigned() {
                licence.terms.fds[word] &= !mask;
            } else {
                licence.terms.fds[word] |= mask & before.fds[word];
            }
        }
        if licence.terms != before {
            self.context.license(Some(&licence.terms));
        }
    }

    fn trace_queued(&self, abi: &dyn SyscallAbi, calls: &[QueuedCall]) {
        let Some(licence) = &self.queue.licence else { return };
        let wide = |number: i32| u64::from(number.cast_unsigned());
        for call in calls {
            let args = [wide(licence.terms.epfd), call.operation.into(), wide(call.fd), call.addr, 0, 0];
            super::run::trace(self, abi, (nr::EPOLL_CTL, args), Outcome::Return(0));
        }
    }

    /// After a call, and before guest code runs again: is the licence still good? `is_harmless`: the call has left descriptors as they were.
    pub(super) fn review_licence(&mut self, is_harmless: impl FnOnce() -> bool) {
        let Some(licence) = &self.queue.licence else { return };
        // Other processes can have got the instance without this one's doing (`pidfd_getfd`).
        let is_alone = licence.instance.strong_count() == 1 && licence.table.strong_count() == 1;
        if !is_alone || !is_harmless() {
            self.end_licence();
        }
    }

    fn end_licence(&mut self) {
        if let Some(licence) = self.queue.licence.take() {
            self.context.license(None);
            let streak = if licence.used < WORTH { self.queue.streak * 2 } else { STREAK };
            self.queue.streak = streak.min(STREAK_MAX);
            self.queue.candidate = (-1, 0);
        }
    }

    /// `epoll_ctl` came to the kernel and has succeeded: `fd` is or is not registered now.
    pub fn learn_epoll(&mut self, epfd: Fd, instance: &Arc<OpenFile>, fd: Fd, file: &OpenFile) {
        if !self.kernel().config.tuning.epoll_queue {
            return;
        }
        let Some(epoll) = epoll::instance_of(instance) else { return };
        if epoll::instance_of(file).is_some() {
            // Someone watches an instance from now on, perhaps the licensed one.
            self.end_licence();
            return;
        }
        match &mut self.queue.licence {
            Some(licence) if licence.terms.epfd == epfd.0 => {
                let Some((word, mask)) = epoll::bit(fd) else { return };
                let is_certain = epoll.is_certain(fd, file);
                let fds = &mut licence.terms.fds[word];
                let new = if is_certain { *fds | mask } else { *fds & !mask };
                if std::mem::replace(fds, new) != new {
                    self.context.license(Some(&licence.terms));
                }
            }
            _ => self.consider(epfd, instance, epoll),
        }
    }

    /// The instance is called again: is it worth a licence, and may it have one?
    fn consider(&mut self, epfd: Fd, instance: &Arc<OpenFile>, epoll: &Epoll) {
        let (candidate, seen) = self.queue.candidate;
        let seen = if candidate == epfd.0 { seen + 1 } else { 1 };
        self.queue.candidate = (epfd.0, seen);
        if seen < self.queue.streak {
            return;
        }
        self.end_licence();
        self.queue.candidate = (-1, 0);
        let table = self.files();
        // Ours here, and the caller's and the table's.
        let is_alone = Arc::strong_count(instance) == 2 && Arc::strong_count(&table) == 2;
        let terms = epoll.certain().filter(|_| is_alone).map(|fds| EpollLicence { epfd: epfd.0, fds });
        match terms {
            Some(terms) if self.context.license(Some(&terms)) => {
                let (instance, table) = (Arc::downgrade(instance), Arc::downgrade(&table));
                self.queue.licence = Some(Licence { terms, instance, table, used: 0 });
            }
            _ => self.queue.streak = (self.queue.streak * 2).min(STREAK_MAX),
        }
    }
}
