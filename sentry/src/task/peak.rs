//! What was the largest resident size of memory that is gone, of a process that did exec, or of a child that has ended?
//!
//! Key type: [`Peaks`]. The host tells when it has reaped the process that was the memory, which is after the guest has let go of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The largest of several resident sizes, some of which are not known yet.
#[derive(Debug, Clone, Default)]
pub struct Peaks {
    known: u64,
    /// 0 until the host has told. Bounded: those that are known go with the next one that comes.
    awaited: Vec<Arc<AtomicU64>>,
}

/// Most sizes that are awaited at once; the oldest are given up.
const AWAITED_MAX: usize = 64;

impl Peaks {
    fn settle(&mut self) {
        let known = &mut self.known;
        self.awaited.retain(|cell| {
            let bytes = cell.load(Ordering::Acquire);
            *known = (*known).max(bytes);
            bytes == 0
        });
        let excess = self.awaited.len().saturating_sub(AWAITED_MAX);
        self.awaited.drain(..excess);
    }

    /// One more, that will be known.
    pub fn add(&mut self, peak: Arc<AtomicU64>) {
        self.awaited.push(peak);
        self.settle();
    }

    /// All of another's.
    pub fn merge(&mut self, other: &Self) {
        self.known = self.known.max(other.known);
        self.awaited.extend(other.awaited.iter().cloned());
        self.settle();
    }

    /// The largest that is known, in bytes.
    #[must_use]
    pub fn bytes(&mut self) -> u64 {
        self.settle();
        self.known
    }

    /// The same, when the host has had a moment to reap what has just ended.
    #[must_use]
    pub fn bytes_soon(&mut self) -> u64 {
        const PAUSE: Duration = Duration::from_micros(100);
        const PAUSES: u32 = 200;
        for _ in 0..PAUSES {
            self.settle();
            if self.awaited.is_empty() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_counts_once_it_is_known() {
        let cell = Arc::new(AtomicU64::new(0));
        let mut peaks = Peaks::default();
        peaks.add(Arc::clone(&cell));
        peaks.add(Arc::new(AtomicU64::new(7)));
        assert_eq!(peaks.bytes(), 7);
        let mut parent = Peaks::default();
        parent.merge(&peaks);
        cell.store(9, Ordering::Release);
        assert_eq!((peaks.bytes_soon(), parent.bytes()), (9, 9));
    }

    #[test]
    fn what_is_awaited_is_bounded() {
        let mut peaks = Peaks::default();
        for _ in 0..1000 {
            peaks.add(Arc::default());
        }
        assert_eq!(peaks.awaited.len(), AWAITED_MAX);
    }
}
