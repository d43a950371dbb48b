//! The policies: one list per kind of process, and what they have in common.
//!
//! Every rule has its door and its reason; `tests/tidy` refuses one without.

mod common;
mod gofer;
mod options;
mod sentry;

pub use gofer::{Gofer, gofer};
pub use sentry::{Platform, sentry};

use crate::bpf::{Cond, Test};

/// No bit but these may be set in an argument of 64 bits.
fn only_bits(arg: u8, allowed: u64) -> Cond {
    Cond::long(arg, Test::Masked { mask: !allowed, value: 0 })
}

/// No bit but these may be set in an `int` argument.
fn only_int_bits(arg: u8, allowed: i32) -> Cond {
    Cond::int(arg, Test::Masked { mask: u64::from(!allowed.cast_unsigned()), value: 0 })
}

/// Flags of `sendmsg`: what is sent is copied, so that no page of a file or of a guest travels in the host's network stack.
fn sends_copies() -> Cond {
    Cond::int(2, Test::Masked { mask: u64::from(libc::MSG_ZEROCOPY.cast_unsigned()), value: 0 })
}

/// An `int` argument is one of these.
fn one_of(arg: u8, values: &[i32]) -> Cond {
    Cond::int(arg, Test::In(values.iter().map(|value| value.cast_unsigned()).collect()))
}

/// An `int` argument is exactly this.
fn is(arg: u8, value: i32) -> Cond {
    Cond::int(arg, Test::Eq(u64::from(value.cast_unsigned())))
}

#[cfg(test)]
#[path = "../policy_test.rs"]
mod tests;
