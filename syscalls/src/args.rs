//! From registers to typed arguments, and from results to outcomes: a handler's own signature does the decoding.
//!
//! Key types: [`FromArg`] (one register -> one type), [`IntoOutcome`], [`Handler`] (any function whose arguments are).

use linux_abi::{Errno, UserPtr};
use sentry::task::{Current, Outcome};
use sentry::vfs::Fd;

/// One register's worth of argument.
pub trait FromArg: Sized {
    /// Decodes.
    ///
    /// # Errors
    /// The errno that the call answers for such a value.
    fn from_arg(raw: u64) -> Result<Self, Errno>;
}

macro_rules! from_register {
    ($($kind:ty),*) => {$(
        impl FromArg for $kind {
            fn from_arg(raw: u64) -> Result<Self, Errno> {
                Ok(raw as $kind)
            }
        }
    )*};
}
from_register!(i32, u32, i64, usize);

impl FromArg for u64 {
    fn from_arg(raw: u64) -> Result<Self, Errno> {
        Ok(raw)
    }
}

impl FromArg for Fd {
    fn from_arg(raw: u64) -> Result<Self, Errno> {
        i32::from_arg(raw).map(Fd)
    }
}

impl<T> FromArg for UserPtr<T> {
    fn from_arg(raw: u64) -> Result<Self, Errno> {
        Ok(Self::new(raw))
    }
}

/// What a handler may answer.
pub trait IntoOutcome {
    /// As an outcome.
    fn into_outcome(self) -> Outcome;
}

/// A successful result that fits the result register.
pub trait IntoReturn {
    /// The register's value.
    fn into_return(self) -> u64;
}

impl IntoReturn for () {
    fn into_return(self) -> u64 {
        0
    }
}
impl IntoReturn for u64 {
    fn into_return(self) -> u64 {
        self
    }
}
impl IntoReturn for u32 {
    fn into_return(self) -> u64 {
        u64::from(self)
    }
}
impl IntoReturn for usize {
    fn into_return(self) -> u64 {
        self as u64
    }
}
impl IntoReturn for i32 {
    fn into_return(self) -> u64 {
        i64::from(self).cast_unsigned()
    }
}
impl IntoReturn for i64 {
    fn into_return(self) -> u64 {
        self.cast_unsigned()
    }
}
impl IntoReturn for Fd {
    fn into_return(self) -> u64 {
        self.0.into_return()
    }
}

impl<T: IntoReturn> IntoOutcome for Result<T, Errno> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => Outcome::Return(value.into_return()),
            Err(errno) => Outcome::Error(errno),
        }
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

/// A function that can stand in the table: `fn(&mut Current, A, B, ...) -> R`.
pub trait Handler<Args> {
    /// Decodes the arguments and calls it.
    fn handle(&self, current: &mut Current, args: [u64; 6]) -> Outcome;
}

macro_rules! handler {
    ($($arg:ident $index:tt),*) => {
        impl<F, R, $($arg),*> Handler<($($arg,)*)> for F
        where
            F: Fn(&mut Current, $($arg),*) -> R,
            R: IntoOutcome,
            $($arg: FromArg,)*
        {
            fn handle(&self, current: &mut Current, _args: [u64; 6]) -> Outcome {
                $(
                    #[allow(non_snake_case, reason = "the type parameter's name serves as the variable's")]
                    let $arg = match $arg::from_arg(_args[$index]) {
                        Ok(value) => value,
                        Err(errno) => return Outcome::Error(errno),
                    };
                )*
                self(current, $($arg),*).into_outcome()
            }
        }
    };
}
handler!();
handler!(A 0);
handler!(A 0, B 1);
handler!(A 0, B 1, C 2);
handler!(A 0, B 1, C 2, D 3);
handler!(A 0, B 1, C 2, D 3, E 4);
handler!(A 0, B 1, C 2, D 3, E 4, G 5);
