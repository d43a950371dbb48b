//! Which open file has still to be told that writing back has failed?
//!
//! Key type: [`Failures`]. The host tells such an error once to each of *its* open files, at `fsync(2)`, and one of its open files
//! stands for several of a guest's. LINUX: `errseq_t`: each open file remembers up to where it has been told.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Errno;

/// Bits of the last error's number; above them, how many errors there have been.
const ERRNO_BITS: u32 = 16;
const ERRNO_MASK: u64 = (1 << ERRNO_BITS) - 1;

/// The errors that the host has told to one of its open files.
#[derive(Default)]
pub(super) struct Failures(AtomicU64);

/// Up to where one of a guest's open files has been told.
pub(super) struct Told(AtomicU64);

impl Failures {
    /// For an open file of a guest that begins now: what others have been told before is not for it.
    pub(super) fn told(&self) -> Told {
        Told(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }

    /// What `told` has to hear after the host has answered this to somebody's `fsync(2)`.
    pub(super) fn answer(&self, told: &Told, outcome: Result<(), Errno>) -> Result<(), Errno> {
        match outcome {
            // Of this call alone.
            Err(Errno::EINTR) => return Err(Errno::EINTR),
            Err(errno) => self.add(errno),
            Ok(()) => {}
        }
        let now = self.0.load(Ordering::Acquire);
        // PERF: nothing is written as long as nothing fails.
        if told.0.load(Ordering::Acquire) == now || told.0.swap(now, Ordering::AcqRel) == now {
            return Ok(());
        }
        Err(Errno::new(i32::try_from(now & ERRNO_MASK).unwrap_or(i32::MAX)))
    }

    fn add(&self, errno: Errno) {
        let errno = u64::from(errno.raw().unsigned_abs()) & ERRNO_MASK;
        // It always succeeds: another number always follows.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| {
            Some(((before >> ERRNO_BITS).wrapping_add(1) << ERRNO_BITS) | errno)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_open_file_is_told_once() {
        let failures = Failures::default();
        let (first, second) = (failures.told(), failures.told());
        assert_eq!(failures.answer(&first, Ok(())), Ok(()));
        assert_eq!(failures.answer(&first, Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(failures.answer(&first, Ok(())), Ok(()));
        assert_eq!(failures.answer(&second, Ok(())), Err(Errno::EIO));
        assert_eq!(failures.answer(&second, Ok(())), Ok(()));
    }

    #[test]
    fn who_opens_after_an_error_is_not_told_of_it() {
        let failures = Failures::default();
        let first = failures.told();
        assert_eq!(failures.answer(&first, Err(Errno::ENOSPC)), Err(Errno::ENOSPC));
        let late = failures.told();
        assert_eq!(failures.answer(&late, Ok(())), Ok(()));
        assert_eq!(failures.answer(&late, Err(Errno::ENOSPC)), Err(Errno::ENOSPC));
        assert_eq!(failures.answer(&first, Ok(())), Err(Errno::ENOSPC));
    }

    #[test]
    fn an_interrupted_call_is_nobody_elses() {
        let failures = Failures::default();
        let (first, second) = (failures.told(), failures.told());
        assert_eq!(failures.answer(&first, Err(Errno::EINTR)), Err(Errno::EINTR));
        assert_eq!(failures.answer(&second, Ok(())), Ok(()));
    }
}
