//! Which of two things happened first?
//!
//! Key type: [`Moment`]. PERF: who has only to know the order need not read a clock, which every walk of a path would pay for.

use std::sync::atomic::{AtomicU64, Ordering};

static LAST: AtomicU64 = AtomicU64::new(0);

/// A point in the order of what happens in the sandbox; says nothing about time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The last that has been marked: what is marked from now on is later.
    #[must_use]
    pub fn last() -> Self {
        Self(LAST.load(Ordering::Acquire))
    }

    /// Marks one, later than all before it.
    #[must_use]
    pub fn mark() -> Self {
        Self(LAST.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn what_is_marked_after_a_look_is_later() {
        let before = Moment::mark();
        let look = Moment::last();
        assert!(before <= look && Moment::mark() > look);
    }
}
