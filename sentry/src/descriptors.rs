//! Whose descriptors of the host does the sentry hold? They are few, and one container must not take them all.
//!
//! Key types: [`Descriptors`] (one sandbox's), [`Share`] (one container's part), [`Charge`] (one descriptor), [`Use`] (what for). Charged are
//! sockets of the host, memory files, files that the gofer donated, and what tasks cost: a descriptor for each thread and each process.
//!
//! A container may take another one as long as it holds less than two or three times what is still free. One container alone can thus
//! have three quarters of all; and however many are greedy, something is free for the next. Within a container, what a program makes as many
//! of as it likes leaves something for its neighbours' files and tasks: those do not fail for a reason that Linux does not have.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::Errno;

/// Kept back for the sentry itself: control and gofer sockets, timers, standard streams, System V segments.
/// Half of all where there are few.
const RESERVED: usize = 1024;

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A socket, memory, an instance of the host's epoll: two thirds of all.
    Object,
    /// A thread or a process: five sevenths.
    Task,
    /// A file that was opened by its name: three quarters.
    File,
}

impl Use {
    /// How many times half of what is free a container may hold.
    const fn greed(self) -> usize {
        match self {
            Self::Object => 4,
            Self::Task => 5,
            Self::File => 6,
        }
    }
}

/// The host's descriptors, as a sandbox has them.
#[derive(Debug)]
pub struct Descriptors {
    pool: Arc<Pool>,
    /// Shares that are in use, by container. LOCK: leaf.
    shares: Mutex<HashMap<String, Weak<Share>>>,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    used: AtomicUsize,
}

/// A container's part.
#[derive(Debug)]
pub struct Share {
    pool: Arc<Pool>,
    used: AtomicUsize,
}

/// One descriptor, given back when dropped.
#[derive(Debug)]
pub struct Charge(Arc<Share>);

impl Descriptors {
    /// Of a process that may have `limit` descriptors.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let limit = limit - RESERVED.min(limit / 2);
        Self { pool: Arc::new(Pool { limit, used: AtomicUsize::new(0) }), shares: Mutex::default() }
    }

    /// The part of a container.
    #[must_use]
    pub fn share(&self, container: &str) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(container).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share { pool: Arc::clone(&self.pool), used: AtomicUsize::new(0) });
        shares.insert(container.to_owned(), Arc::downgrade(&share));
        share
    }
}

impl Share {
    /// One more.
    ///
    /// # Errors
    /// ENFILE if the container has its part, as for the system's limit of open files.
    pub fn take(self: &Arc<Self>, purpose: Use) -> Result<Charge, Errno> {
        // Counted before it is looked at: one that is too many is given back by `drop`.
        let charge = Charge(Arc::clone(self));
        let mine = self.used.fetch_add(1, Ordering::Relaxed);
        let all = self.pool.used.fetch_add(1, Ordering::Relaxed);
        let free = self.pool.limit.saturating_sub(all);
        if mine < free.saturating_mul(purpose.greed()) / 2 { Ok(charge) } else { Err(Errno::ENFILE) }
    }

    /// How many it holds.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
        self.0.pool.used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(share: &Arc<Share>, purpose: Use) -> Vec<Charge> {
        std::iter::from_fn(|| share.take(purpose).ok()).collect()
    }

    #[test]
    fn a_greedy_container_leaves_a_quarter_and_the_next_a_part_of_that() {
        let descriptors = Descriptors::new(2048);
        let first = take_all(&descriptors.share("a"), Use::File);
        assert_eq!(first.len(), 768);
        let second = take_all(&descriptors.share("b"), Use::File);
        assert_eq!(second.len(), 192);
        assert!(descriptors.share("c").take(Use::Object).is_ok());
    }

    #[test]
    fn a_greedy_program_leaves_its_neighbours_files_and_tasks() {
        let descriptors = Descriptors::new(2048);
        let share = descriptors.share("a");
        let _sockets = take_all(&share, Use::Object);
        assert_eq!(share.used(), 683);
        let _tasks = take_all(&share, Use::Task);
        assert_eq!(share.used(), 732);
        let files = take_all(&share, Use::File);
        assert_eq!((files.len(), share.used()), (36, 768));
        assert_eq!(share.take(Use::Object).err(), Some(Errno::ENFILE));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let descriptors = Descriptors::new(512);
        let share = descriptors.share("a");
        let taken = take_all(&share, Use::File);
        assert_eq!((taken.len(), share.used()), (192, 192));
        assert_eq!(share.take(Use::File).err(), Some(Errno::ENFILE));
        drop(taken);
        assert_eq!(share.used(), 0);
        assert!(share.take(Use::Object).is_ok());
    }

    #[test]
    fn a_share_lives_as_long_as_somebody_holds_one_of_its_descriptors() {
        let descriptors = Descriptors::new(4096);
        let charge = descriptors.share("a").take(Use::Object).expect("room");
        assert_eq!(descriptors.share("a").used(), 1);
        drop(charge);
        assert_eq!(descriptors.share("a").used(), 0);
    }
}
