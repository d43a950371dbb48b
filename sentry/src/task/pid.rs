//! Which task or process does a number name?
//!
//! Key type: [`PidNamespace`], one per container unless the pod shares one.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Process, ProcessGroup, Session, Task};
use crate::Errno;

/// Ids are below this. LINUX: `PID_MAX_LIMIT` on 64-bit.
pub const PID_MAX: i32 = 4 << 20;
/// After a wrap, allocation begins here. LINUX: `RESERVED_PIDS`.
const RESERVED: i32 = 300;

/// A space of process ids.
pub struct PidNamespace {
    /// Inode number in `/proc/PID/ns/pid`.
    pub id: u32,
    /// LOCK: leaf.
    numbers: Mutex<Numbers>,
}

#[derive(Default)]
struct Numbers {
    last: i32,
    reserved: HashSet<i32>,
    tasks: HashMap<i32, Arc<Task>>,
    processes: HashMap<i32, Arc<Process>>,
    groups: HashMap<i32, Weak<ProcessGroup>>,
    sessions: HashMap<i32, Weak<Session>>,
}

impl Numbers {
    fn is_used(&self, number: i32) -> bool {
        self.reserved.contains(&number)
            || self.tasks.contains_key(&number)
            || self.processes.contains_key(&number)
            || self.groups.get(&number).is_some_and(|group| group.strong_count() > 0)
            || self.sessions.get(&number).is_some_and(|session| session.strong_count() > 0)
    }
}

impl Default for PidNamespace {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0xf000_0000);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), numbers: Mutex::default() }
    }
}

impl PidNamespace {
    /// An empty one; the first number given out is 1.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a number aside until [`PidNamespace::enter_task`] or [`PidNamespace::release`].
    ///
    /// # Errors
    /// EAGAIN if all are taken.
    pub fn allocate(&self) -> Result<i32, Errno> {
        let mut numbers = self.lock();
        let mut number = numbers.last;
        for _ in 0..PID_MAX {
            number = if number + 1 >= PID_MAX { RESERVED } else { number + 1 };
            if !numbers.is_used(number) {
                numbers.last = number;
                numbers.reserved.insert(number);
                return Ok(number);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Gives back a number that was set aside.
    pub fn release(&self, number: i32) {
        self.lock().reserved.remove(&number);
    }

    /// The task can be found by its number, and its process too if it is the first thread.
    pub fn enter_task(&self, task: &Arc<Task>) {
        let mut numbers = self.lock();
        let tid = task.tid();
        numbers.reserved.remove(&tid);
        numbers.tasks.insert(tid, Arc::clone(task));
        if tid == task.process.pid {
            numbers.processes.insert(tid, Arc::clone(&task.process));
        }
    }

    /// The task has ended.
    pub fn leave_task(&self, tid: i32) {
        self.lock().tasks.remove(&tid);
    }

    /// Exec by a thread that was not the leader: it takes the leader's number.
    pub fn rename_task(&self, task: &Arc<Task>, old: i32, new: i32) {
        let mut numbers = self.lock();
        numbers.tasks.remove(&old);
        numbers.tasks.insert(new, Arc::clone(task));
    }

    /// The process has been waited for.
    pub fn leave_process(&self, pid: i32) {
        self.lock().processes.remove(&pid);
    }

    /// A new group can be found.
    pub fn enter_group(&self, group: &Arc<ProcessGroup>) {
        let mut numbers = self.lock();
        numbers.groups.retain(|_, group| group.strong_count() > 0);
        numbers.groups.insert(group.pgid, Arc::downgrade(group));
    }

    /// A new session can be found.
    pub fn enter_session(&self, session: &Arc<Session>) {
        let mut numbers = self.lock();
        numbers.sessions.retain(|_, session| session.strong_count() > 0);
        numbers.sessions.insert(session.sid, Arc::downgrade(session));
    }

    /// The task with that number.
    #[must_use]
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.lock().tasks.get(&tid).cloned()
    }

    /// The process with that number, zombies included.
    #[must_use]
    pub fn process(&self, pid: i32) -> Option<Arc<Process>> {
        self.lock().processes.get(&pid).cloned()
    }

    /// The group with that number, if it has members.
    #[must_use]
    pub fn group(&self, pgid: i32) -> Option<Arc<ProcessGroup>> {
        self.lock().groups.get(&pgid).and_then(Weak::upgrade)
    }

    /// All processes, zombies included, by ascending number.
    #[must_use]
    pub fn processes(&self) -> Vec<Arc<Process>> {
        let mut all: Vec<_> = self.lock().processes.values().cloned().collect();
        all.sort_unstable_by_key(|process| process.pid);
        all
    }

    /// How many tasks there are.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.lock().tasks.len()
    }

    /// The process that adopts orphans.
    #[must_use]
    pub fn init(&self) -> Option<Arc<Process>> {
        self.process(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_one_and_numbers_are_not_reused_at_once() {
        let namespace = PidNamespace::new();
        assert_eq!(namespace.allocate(), Ok(1));
        assert_eq!(namespace.allocate(), Ok(2));
        namespace.release(2);
        assert_eq!(namespace.allocate(), Ok(3));
    }

    #[test]
    fn allocation_wraps_past_reserved_numbers() {
        let namespace = PidNamespace::new();
        namespace.lock().last = PID_MAX - 1;
        assert_eq!(namespace.allocate(), Ok(RESERVED));
    }

    #[test]
    fn a_living_group_keeps_its_number() {
        let namespace = PidNamespace::new();
        let group = ProcessGroup::new(1, Session::new(1));
        namespace.enter_group(&group);
        assert_eq!(namespace.allocate(), Ok(2));
        assert!(namespace.group(1).is_some());
        drop(group);
        assert!(namespace.group(1).is_none());
    }
}
