//! What does the kernel keep on behalf of a container, and how much may that be?
//!
//! Key types: [`Account`] (one container's bytes and tasks), [`Charge`] (bytes of it, given back when dropped), [`Accounts`] (all
//! of a sandbox). Whoever makes something grow is charged, as Linux charges the memory cgroup of `current`: the thread that serves
//! a task is in its container's account ([`enter`]), and [`charge`] takes from that. Threads of the kernel's own are in none.
//!
//! The limit is the container's limit of memory. What a container keeps here and what its processes hold are counted by two: this
//! account, and the host's cgroup.
//!
//! LIMIT: everything that a guest can make grow holds a [`Charge`], or its bytes are counted by its file system's part of the account.
//! `docs/THREAT-MODEL.md` has the list.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::Errno;
use crate::trim::Trim;

/// What the allocator and the table that holds it add to an object, in bytes.
const OVERHEAD: usize = 32;
/// The size of a step as a power of two. An account that falls by two of them asks for a trim; not by one, which may be up and down.
const STEP_SHIFT: u32 = 21;
const STEPS_FALLEN: u64 = 2;
/// What a task costs besides its guest memory: stacks of its two threads in the host's kernel and in the sentry, tables of both.
pub const TASK_BYTES: usize = 48 << 10;

/// What the kernel keeps for one container.
#[derive(Debug)]
pub struct Account {
    /// `u64::MAX`: none.
    limit: AtomicU64,
    used: AtomicU64,
    tasks_limit: AtomicU64,
    tasks: AtomicU64,
    counts: [AtomicU64; KINDS],
    /// Most steps of [`STEP_SHIFT`] that were held since memory was given back to the host.
    peak: AtomicU64,
    trim: Option<Arc<Trim>>,
}

/// Bytes of an account, given back when dropped. The default is nobody's.
#[derive(Debug, Default)]
pub struct Charge {
    account: Option<Arc<Account>>,
    bytes: u64,
}

/// What a container has a number of, besides bytes and tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Instances of inotify.
    InotifyInstance,
    /// Their watches.
    InotifyWatch,
    /// System V shared memory segments.
    Segment,
    /// System V semaphore sets.
    SemaphoreSet,
    /// System V message queues.
    MessageQueue,
    /// POSIX message queues.
    PosixQueue,
    /// Sockets.
    Socket,
}

/// How many kinds there are.
const KINDS: usize = Kind::Socket as usize + 1;

/// One of a kind, given back when dropped. The default is nobody's.
#[derive(Debug, Default)]
pub struct Counted(Option<(Arc<Account>, Kind)>);

/// A task of a container.
#[derive(Debug)]
pub struct TaskCharge {
    account: Arc<Account>,
    _memory: Charge,
}

/// The accounts of a sandbox.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Those in use, by container. LOCK: leaf.
    accounts: Mutex<HashMap<String, Weak<Account>>>,
    /// Who is told that much has been given back. `None` only in tests.
    trim: Option<Arc<Trim>>,
}

thread_local! {
    /// Whom this thread works for.
    static CURRENT: RefCell<Option<Arc<Account>>> = const { RefCell::new(None) };
}

/// From now on the calling thread works for that container.
pub fn enter(account: &Arc<Account>) {
    CURRENT.set(Some(Arc::clone(account)));
}

/// The account of the container that the calling thread works for.
#[must_use]
pub fn current() -> Option<Arc<Account>> {
    // A thread that is ending has none.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Charges whom the calling thread works for.
///
/// # Errors
/// ENOMEM at the container's limit.
pub fn charge(bytes: usize) -> Result<Charge, Errno> {
    match current() {
        Some(account) => account.charge(bytes),
        None => Ok(Charge::default()),
    }
}

/// Charges for an object of that type and `more` bytes that hang from it.
///
/// # Errors
/// ENOMEM.
pub fn charge_for<T>(more: usize) -> Result<Charge, Errno> {
    charge(size_of::<T>() + more + OVERHEAD)
}

/// Charges whom the calling thread works for, limit or not: what cannot be refused is at least seen by what comes next.
#[must_use]
pub fn count(bytes: usize) -> Charge {
    let account = current();
    if let Some(account) = &account {
        account.add(bytes as u64);
    }
    Charge { bytes: if account.is_some() { bytes as u64 } else { 0 }, account }
}

/// One more of a kind for whom the calling thread works for; `None` if that container has `limit` already.
#[must_use]
pub fn take_one(kind: Kind, limit: usize) -> Option<Counted> {
    match current() {
        Some(account) => account.take_one(kind, limit as u64),
        None => Some(Counted::default()),
    }
}

/// The container that the calling thread works for has nothing left.
#[must_use]
pub fn is_full() -> bool {
    CURRENT
        .try_with(|current| current.borrow().as_ref().is_some_and(|account| account.free() == 0))
        .unwrap_or(false)
}

impl Account {
    fn new(trim: Option<Arc<Trim>>) -> Arc<Self> {
        let (limit, tasks_limit) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            tasks_limit,
            tasks: AtomicU64::new(0),
            counts: Default::default(),
            peak: AtomicU64::new(0),
            trim,
        })
    }

    /// Sets its limits, in bytes and tasks; 0 is none. What is there already stays.
    pub fn set_limits(&self, memory: u64, tasks: u64) {
        let limit = |value| if value == 0 { u64::MAX } else { value };
        self.limit.store(limit(memory), Ordering::Relaxed);
        self.tasks_limit.store(limit(tasks), Ordering::Relaxed);
    }

    /// Its limit in bytes; `u64::MAX` if it has none.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that it may still take.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.limit().saturating_sub(self.used())
    }

    /// Its tasks.
    #[must_use]
    pub fn tasks(&self) -> u64 {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Most tasks that it may have; `u64::MAX`: any number.
    #[must_use]
    pub fn tasks_limit(&self) -> u64 {
        self.tasks_limit.load(Ordering::Relaxed)
    }

    /// Takes bytes, limit or not.
    pub fn add(&self, bytes: u64) {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.note_growth(before, bytes);
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        let (was, is) = (before >> STEP_SHIFT, before.saturating_sub(bytes) >> STEP_SHIFT);
        if was != is && self.peak.load(Ordering::Relaxed) >= is + STEPS_FALLEN {
            self.peak.store(is, Ordering::Relaxed);
            if let Some(trim) = &self.trim {
                trim.many_ended();
            }
        }
    }

    fn note_growth(&self, before: u64, bytes: u64) {
        let (was, is) = (before >> STEP_SHIFT, before.saturating_add(bytes) >> STEP_SHIFT);
        if was != is {
            self.peak.fetch_max(is, Ordering::Relaxed);
        }
    }

    fn take(&self, bytes: u64) -> Result<(), Errno> {
        // Counted before it is looked at: many threads together pass the limit by nothing.
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit() {
            self.give(bytes);
            return Err(Errno::ENOMEM);
        }
        self.note_growth(before, bytes);
        Ok(())
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// ENOMEM at the limit.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Errno> {
        self.take(bytes as u64)?;
        Ok(Charge { account: Some(Arc::clone(self)), bytes: bytes as u64 })
    }

    /// One more of a kind; `None` if there are `limit` already.
    #[must_use]
    pub fn take_one(self: &Arc<Self>, kind: Kind, limit: u64) -> Option<Counted> {
        let before = self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        // Given back by its drop if it is one too many.
        let counted = Counted(Some((Arc::clone(self), kind)));
        (before < limit).then_some(counted)
    }

    /// One task more.
    ///
    /// # Errors
    /// EAGAIN at the limit, as the pids cgroup has it; ENOMEM.
    pub fn charge_task(self: &Arc<Self>) -> Result<TaskCharge, Errno> {
        let memory = self.charge(TASK_BYTES)?;
        let task = self.count_task(memory);
        if self.tasks() > self.tasks_limit() { Err(Errno::EAGAIN) } else { Ok(task) }
    }

    /// One task more, limits or not: one that the operator starts.
    pub fn add_task(self: &Arc<Self>) -> TaskCharge {
        self.add(TASK_BYTES as u64);
        self.count_task(Charge { account: Some(Arc::clone(self)), bytes: TASK_BYTES as u64 })
    }

    fn count_task(self: &Arc<Self>, memory: Charge) -> TaskCharge {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        TaskCharge { account: Arc::clone(self), _memory: memory }
    }
}

impl Charge {
    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it larger or smaller; the first to charge something pays for all of it.
    ///
    /// # Errors
    /// ENOMEM at the limit; it stays as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Errno> {
        if self.account.is_none() {
            *self = charge(bytes)?;
        } else if let Some(account) = &self.account {
            let bytes = bytes as u64;
            if bytes > self.bytes {
                account.take(bytes - self.bytes)?;
            } else {
                account.give(self.bytes - bytes);
            }
            self.bytes = bytes;
        }
        Ok(())
    }

    /// As [`Charge::resize`], limit or not.
    pub fn set(&mut self, bytes: usize) {
        if self.account.is_none() {
            *self = count(bytes);
        } else if let Some(account) = &self.account {
            account.add(bytes as u64);
            account.give(self.bytes);
            self.bytes = bytes as u64;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.give(self.bytes);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((account, kind)) = &self.0 {
            account.counts[*kind as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for TaskCharge {
    fn drop(&mut self) {
        self.account.tasks.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Accounts {
    /// None; `trim` is told when much of what one holds has gone.
    #[must_use]
    pub fn new(trim: &Arc<Trim>) -> Self {
        Self { accounts: Mutex::default(), trim: Some(Arc::clone(trim)) }
    }

    /// The account of a container; it lives as long as somebody holds it.
    #[must_use]
    pub fn of(&self, container: &str) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(container).and_then(Weak::upgrade) {
            return account;
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = Account::new(self.trim.clone());
        accounts.insert(container.to_owned(), Arc::downgrade(&account));
        account
    }
}

/// Works for an account until it is dropped.
#[cfg(test)]
pub(crate) struct Working(Option<Arc<Account>>);

/// As [`enter`], for a while: tests share their thread.
#[cfg(test)]
pub(crate) fn work_for(account: &Arc<Account>) -> Working {
    Working(CURRENT.replace(Some(Arc::clone(account))))
}

#[cfg(test)]
impl Drop for Working {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(bytes: u64) -> Arc<Account> {
        let account = Account::new(None);
        account.set_limits(bytes, 2);
        account
    }

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let account = limited(100);
        let charge = account.charge(60).expect("room");
        assert_eq!(account.charge(41).err(), Some(Errno::ENOMEM));
        assert_eq!((account.used(), account.free()), (60, 40));
        drop(charge);
        assert_eq!(account.used(), 0);
        assert!(account.charge(100).is_ok());
    }

    #[test]
    fn a_charge_grows_up_to_the_limit_and_stays_as_it_was_above() {
        let account = limited(100);
        let mut charge = account.charge(10).expect("room");
        charge.resize(100).expect("room");
        assert_eq!(charge.resize(101), Err(Errno::ENOMEM));
        assert_eq!((charge.bytes(), account.used()), (100, 100));
        charge.resize(0).expect("less");
        assert_eq!(account.used(), 0);
        charge.set(150);
        assert_eq!((account.used(), account.free()), (150, 0));
    }

    #[test]
    fn much_that_is_given_back_in_small_pieces_is_worth_a_trim() {
        const STEP: usize = 1 << STEP_SHIFT;
        let trim = Arc::default();
        let account = Accounts::new(&trim).of("a");
        let mut pieces: Vec<_> = (0..4 * STEP / 4096).map(|_| account.charge(4096).expect("room")).collect();
        for _ in 0..100 {
            // Up and down over the border of a step.
            drop(account.charge(8192).expect("room"));
        }
        pieces.truncate(7 * STEP / 2 / 4096);
        assert!(!trim.is_due());
        pieces.clear();
        assert!(trim.is_due());
    }

    #[test]
    fn who_has_entered_an_account_charges_it_and_others_charge_nobody() {
        let account = limited(100);
        let theirs = Arc::clone(&account);
        let kept = std::thread::spawn(move || {
            enter(&theirs);
            assert_eq!(charge(101).err(), Some(Errno::ENOMEM));
            (charge(40).expect("room"), count(200))
        });
        let kept = kept.join().expect("no panic");
        assert_eq!(account.used(), 240);
        std::thread::spawn(|| charge(1 << 40).map(drop)).join().expect("no panic").expect("nobody's");
        drop(kept);
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn each_container_has_so_many_of_a_kind() {
        let (one, other) = (limited(1), limited(1));
        let held = [one.take_one(Kind::Segment, 2), one.take_one(Kind::Segment, 2)];
        assert!(held.iter().all(Option::is_some));
        assert!(one.take_one(Kind::Segment, 2).is_none());
        assert!(one.take_one(Kind::PosixQueue, 1).is_some() && other.take_one(Kind::Segment, 2).is_some());
        drop(held);
        assert!(one.take_one(Kind::Segment, 1).is_some());
    }

    #[test]
    fn a_limit_that_falls_below_what_is_held_takes_nothing_away() {
        let account = limited(100);
        let held = account.charge(100).expect("room");
        account.set_limits(50, 0);
        assert_eq!((account.used(), account.free()), (100, 0));
        assert!(account.charge(1).is_err());
        drop(held);
        assert!(account.charge(50).is_ok());
        account.set_limits(0, 0);
        assert!(account.charge(1 << 40).is_ok());
    }

    #[test]
    fn tasks_are_counted_and_those_of_the_operator_are_not_refused() {
        let account = limited(1 << 30);
        let first = account.add_task();
        let second = account.charge_task().expect("the second of two");
        assert_eq!(account.charge_task().err(), Some(Errno::EAGAIN));
        assert_eq!((account.tasks(), account.used()), (2, 2 * TASK_BYTES as u64));
        let third = account.add_task();
        drop((first, second, third));
        assert_eq!((account.tasks(), account.used()), (0, 0));
    }

    #[test]
    fn an_account_lives_as_long_as_something_is_charged_to_it() {
        let accounts = Accounts::default();
        let charge = accounts.of("a").charge(7).expect("room");
        assert_eq!((accounts.of("a").used(), accounts.of("b").used()), (7, 0));
        drop(charge);
        assert_eq!(accounts.of("a").used(), 0);
    }
}
