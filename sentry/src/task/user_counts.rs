//! How much of something does each user hold that is limited for the user as a whole: waiting signals, message queues?
//!
//! Key types: [`UserCounts`], [`UserCharge`] (what one holder has taken; dropped, it is given back). LINUX: `struct ucounts`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Amounts by user.
#[derive(Debug, Default)]
pub struct UserCounts {
    /// LOCK: leaf.
    held: Mutex<HashMap<u32, u64>>,
}

/// What was taken for a user.
#[derive(Debug)]
pub struct UserCharge {
    counts: Arc<UserCounts>,
    uid: u32,
    amount: u64,
}

impl UserCounts {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `amount` for a user, unless the user would then have more than `limit`.
    #[must_use]
    pub fn take(self: &Arc<Self>, uid: u32, amount: u64, limit: u64) -> Option<UserCharge> {
        let mut held = self.lock();
        let sum = held.get(&uid).copied().unwrap_or(0).checked_add(amount).filter(|sum| *sum <= limit)?;
        held.insert(uid, sum);
        Some(UserCharge { counts: Arc::clone(self), uid, amount })
    }

    /// What a user holds.
    #[must_use]
    pub fn held(&self, uid: u32) -> u64 {
        self.lock().get(&uid).copied().unwrap_or(0)
    }
}

impl Drop for UserCharge {
    fn drop(&mut self) {
        let mut held = self.counts.lock();
        if let Some(sum) = held.get_mut(&self.uid) {
            *sum = sum.saturating_sub(self.amount);
            if *sum == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_limit_is_for_all_that_the_user_holds() {
        let counts = Arc::<UserCounts>::default();
        let first = counts.take(7, 3, 5);
        assert!(first.is_some() && counts.take(7, 3, 5).is_none());
        assert!(counts.take(8, 3, 5).is_some());
        let exact = counts.take(7, 2, 5);
        assert_eq!((exact.is_some(), counts.held(7)), (true, 5));
        drop(first);
        assert_eq!(counts.held(7), 2);
        drop(exact);
        assert!(counts.lock().is_empty());
    }
}
