//! Does memory that the kernel has freed go back to the host? After many objects have gone, and when they have had a
//! moment to go, a thread of its own asks the allocator to give back every page that nothing is on.
//!
//! Key type: [`Trim`]. Without it the heap stays as large as it has ever been: the allocator gives back only what is free
//! at its upper end, and some object that lives longer is always above the hole that a burst has left.
//! PERF: a count for each descriptor closed and each name removed, and a comparison for each charge of an account, which asks for it when it
//! has fallen by megabytes (queues of System V and the like have neither); nobody waits, and nothing wakes while nothing ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use platform::host::machine::trim_heaps;

/// So many ends are worth a look.
const BATCH: u64 = 256;
/// At most one look in this time.
const REST: Duration = Duration::from_secs(1);

/// Gives free memory back.
#[derive(Debug, Default)]
pub struct Trim {
    ended: AtomicU64,
    /// Somebody found that there is something to do. LOCK: leaf.
    is_due: Mutex<bool>,
    due: Condvar,
}

impl Trim {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the host has no more threads.
    pub fn start() -> std::io::Result<Arc<Self>> {
        let trim = Arc::new(Self::default());
        let theirs = Arc::clone(&trim);
        std::thread::Builder::new().name("trim".into()).stack_size(64 << 10).spawn(move || theirs.run())?;
        Ok(trim)
    }

    /// An object has ended.
    pub fn ended(&self) {
        if self.ended.fetch_add(1, Ordering::Relaxed) % BATCH == BATCH - 1 {
            self.many_ended();
        }
    }

    /// Something has ended that many objects were in.
    pub fn many_ended(&self) {
        *self.is_due.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.due.notify_one();
    }

    /// It has something to do.
    #[cfg(test)]
    pub(crate) fn is_due(&self) -> bool {
        *self.is_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut is_due = self.is_due.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_due {
                is_due = self.due.wait(is_due).unwrap_or_else(PoisonError::into_inner);
            }
            drop(is_due);
            std::thread::sleep(REST);
            *self.is_due.lock().unwrap_or_else(PoisonError::into_inner) = false;
            trim_heaps();
        }
    }
}
