//! What happens when a time comes? One thread and one heap for all timers of the sandbox.
//!
//! Key types: [`Timers`], [`Expire`], [`Armed`]. Times are nanoseconds on the host's monotonic clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use platform::host::clock::{Clock, now_ns};

/// Is called when its time has come.
pub trait Expire: Send + Sync {
    /// Called on the timer thread, with no lock held; must not block. Answers when it wants to be called again.
    fn expire(&self, now_ns: u64) -> Option<u64>;
}

/// The timers of a sandbox.
#[derive(Default)]
pub struct Timers {
    /// LOCK: leaf.
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    next_key: u64,
    /// Entries whose key is not in `receivers` with the same deadline have been cancelled or moved.
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    receivers: HashMap<u64, (u64, Weak<dyn Expire>)>,
}

/// A timer that has been set; dropping it cancels it.
pub struct Armed {
    timers: Weak<Timers>,
    key: u64,
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(timers) = self.timers.upgrade() {
            timers.lock().receivers.remove(&self.key);
        }
    }
}

impl Timers {
    /// Starts the timer thread.
    ///
    /// # Errors
    /// When the host has no more threads.
    pub fn start() -> std::io::Result<Arc<Self>> {
        let timers = Arc::new(Self::default());
        let theirs = Arc::clone(&timers);
        std::thread::Builder::new()
            .name("timers".into())
            .stack_size(256 << 10)
            .spawn(move || theirs.run())?;
        Ok(timers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `receiver` at `deadline_ns`, as long as it lives and the answer is kept.
    #[must_use]
    pub fn arm(self: &Arc<Self>, deadline_ns: u64, receiver: Weak<dyn Expire>) -> Armed {
        let mut queue = self.lock();
        queue.next_key += 1;
        let key = queue.next_key;
        queue.receivers.insert(key, (deadline_ns, receiver));
        let is_first = queue.heap.peek().is_none_or(|Reverse((first, _))| deadline_ns < *first);
        queue.heap.push(Reverse((deadline_ns, key)));
        queue.sweep();
        drop(queue);
        if is_first {
            self.changed.notify_one();
        }
        Armed { timers: Arc::downgrade(self), key }
    }

    fn run(&self) {
        loop {
            let mut queue = self.lock();
            let (deadline, receiver, key) = loop {
                let now = now_ns(Clock::Monotonic);
                match queue.next_due(now) {
                    Ok(due) => break due,
                    Err(None) => {
                        queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    }
                    Err(Some(wait_ns)) => {
                        let timeout = Duration::from_nanos(wait_ns);
                        let waited = self.changed.wait_timeout(queue, timeout);
                        queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
            };
            drop(queue);
            let next = receiver.upgrade().and_then(|receiver| receiver.expire(now_ns(Clock::Monotonic)));
            self.lock().after(key, deadline, next, receiver);
        }
    }
}

impl Queue {
    /// The first timer that is due, else how long to wait for one.
    fn next_due(&mut self, now: u64) -> Result<(u64, Weak<dyn Expire>, u64), Option<u64>> {
        while let Some(&Reverse((deadline, key))) = self.heap.peek() {
            let Some((_, receiver)) = self.receivers.get(&key).filter(|(at, _)| *at == deadline) else {
                self.heap.pop();
                continue;
            };
            if deadline > now {
                return Err(Some(deadline - now));
            }
            let receiver = Weak::clone(receiver);
            self.heap.pop();
            return Ok((deadline, receiver, key));
        }
        Err(None)
    }

    /// A timer has been served.
    fn after(&mut self, key: u64, deadline: u64, next: Option<u64>, receiver: Weak<dyn Expire>) {
        let is_same = self.receivers.get(&key).is_some_and(|(at, _)| *at == deadline);
        if !is_same {
            return;
        }
        match next {
            None => drop(self.receivers.remove(&key)),
            Some(next) => {
                self.receivers.insert(key, (next, receiver));
                self.heap.push(Reverse((next, key)));
            }
        }
    }

    /// Forgets cancelled entries when they are most of the heap, so that arming in a loop does not let it grow.
    fn sweep(&mut self) {
        if self.heap.len() > 64 && self.heap.len() > 2 * self.receivers.len() {
            let receivers = &self.receivers;
            self.heap
                .retain(|Reverse((deadline, key))| receivers.get(key).is_some_and(|(at, _)| at == deadline));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Count(AtomicU32);
    impl Expire for Count {
        fn expire(&self, now_ns: u64) -> Option<u64> {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            (n < 2).then_some(now_ns + 1)
        }
    }

    fn wait_for(count: &Count, wanted: u32) -> bool {
        (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            count.0.load(Ordering::SeqCst) == wanted
        })
    }

    #[test]
    fn a_timer_repeats_as_long_as_it_wants() {
        let timers = Timers::start().expect("a thread");
        let count = Arc::new(Count(AtomicU32::new(0)));
        let receiver: Arc<dyn Expire> = count.clone();
        let _armed = timers.arm(now_ns(Clock::Monotonic), Arc::downgrade(&receiver));
        assert!(wait_for(&count, 3));
    }

    #[test]
    fn a_cancelled_timer_does_not_expire() {
        let timers = Timers::start().expect("a thread");
        let count = Arc::new(Count(AtomicU32::new(0)));
        let receiver: Arc<dyn Expire> = count.clone();
        drop(timers.arm(now_ns(Clock::Monotonic) + 20_000_000, Arc::downgrade(&receiver)));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn arming_and_cancelling_in_a_loop_does_not_grow_the_heap() {
        let timers = Arc::new(Timers::default());
        let receiver: Arc<dyn Expire> = Arc::new(Count(AtomicU32::new(0)));
        for n in 0..10_000 {
            drop(timers.arm(u64::MAX - n, Arc::downgrade(&receiver)));
        }
        assert!(timers.lock().heap.len() <= 130);
    }
}
