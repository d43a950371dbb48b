//! How often may a guest thread ask for what nobody has ordered? Now and then it must: who is interrupted asks again.
//!
//! Key type: [`Strays`], for one wait of its sentry thread.

use crate::death::Death;

/// So many from one wait, and the stub counts as hostile.
const STRAYS_MAX: u32 = 64;

/// Notifications that were no request. Quiet times are none: a thread may compute, or sleep in the host, for as long as it likes.
#[derive(Debug, Default)]
pub(super) struct Strays(u32);

impl Strays {
    /// One more.
    ///
    /// # Errors
    /// It was one too many.
    pub(super) const fn add(&mut self) -> Result<(), Death> {
        self.0 += 1;
        if self.0 < STRAYS_MAX { Ok(()) } else { Err(Death::Strays(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_told_with_its_number() {
        let mut strays = Strays::default();
        let allowed = (0..1000).take_while(|_| strays.add().is_ok()).count();
        assert_eq!(allowed, 63);
        assert_eq!(Strays(63).add(), Err(Death::Strays(64)));
    }
}
