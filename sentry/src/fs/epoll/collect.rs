//! Which files of an instance are ready, and how does a thread sleep until some are?

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{EDGE, Epoll, Interest, ONESHOT, instance_of, lock};
use crate::sync::{Events, Parker};

impl Epoll {
    /// Up to `max` ready files.
    #[must_use]
    pub fn collect(&self, max: usize) -> Vec<Interest> {
        self.list_nested();
        let Some(host) = self.hosted.get() else { return self.collect_listed(max) };
        // Neither may keep the other from being heard.
        let listed_first = self.hosted.is_listed_first();
        let mut found = if listed_first { self.collect_listed(max) } else { Vec::new() };
        found.extend(host.collect(max - found.len()).into_iter().map(Interest::from));
        if !listed_first && found.len() < max {
            found.extend(self.collect_listed(max - found.len()));
        }
        found
    }

    /// What an instance has the host watch is told late to those that watch the instance: a thread of the sentry hears of it. A wait
    /// asks for itself, or it would find nothing where Linux finds something at once. An edge is left to that thread.
    fn list_nested(&self) {
        if !self.has_nested.load(Ordering::Acquire) {
            return;
        }
        let items: Vec<_> = lock(&self.items).values().cloned().collect();
        for item in items {
            let is_asked_for = item.events.load(Ordering::Acquire) & EDGE == 0;
            if is_asked_for
                && !item.is_listed.load(Ordering::Acquire)
                && let Some(file) = item.file.upgrade()
                && instance_of(&file).is_some()
            {
                item.list_if_ready(&file);
            }
        }
    }

    /// Sleeps until something may be ready; answers what the host has told meanwhile, which is at most `max` files.
    #[must_use]
    pub fn sleep(&self, parker: &Parker, max: usize, timeout: Option<Duration>) -> Vec<Interest> {
        match self.hosted.get() {
            Some(host) => host.sleep(parker, max, timeout).into_iter().map(Interest::from).collect(),
            None => {
                parker.park(timeout);
                Vec::new()
            }
        }
    }

    /// Up to `max` ready files of those that are not the host's.
    #[must_use]
    pub fn collect_listed(&self, max: usize) -> Vec<Interest> {
        let mut found = Vec::new();
        let mut again = Vec::new();
        let mut rounds = lock(&self.ready).len();
        if rounds == 0 {
            return found;
        }
        while found.len() < max && rounds > 0 {
            rounds -= 1;
            let Some(item) = lock(&self.ready).pop_front() else { break };
            item.is_listed.store(false, Ordering::Release);
            let Some(events) = item.take_ready() else { continue };
            found.push(Interest { events: events.bits(), data: item.data.load(Ordering::Acquire) });
            if item.events.load(Ordering::Acquire) & (EDGE | ONESHOT) == 0 {
                again.push(item);
            }
        }
        let mut ready = lock(&self.ready);
        for item in again {
            if !item.is_listed.swap(true, Ordering::AcqRel) {
                ready.push_back(item);
            }
        }
        found
    }

    /// What one thread has left over is the next one's; called by a waiter that no longer waits.
    pub fn pass_on(&self) {
        let is_empty = lock(&self.ready).is_empty();
        if !is_empty {
            self.queue.wake_one(Events::READABLE);
        }
    }
}
