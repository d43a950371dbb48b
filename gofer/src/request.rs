//! How a request's bytes become values that have been checked, and what can be wrong with them.
//!
//! Key types: [`Fault`], [`Name`], [`Reply`]. Two kinds of wrong: *malformed* (no correct client sends it; the gofer ends) and
//! an errno (a guest can bring a correct client to ask for it).

use std::os::fd::OwnedFd;

use gofer_protocol::{Errno, wire};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Why a request is not done.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The peer is broken or hostile.
    Malformed(&'static str),
    /// Told to the peer.
    Errno(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Errno(errno.into())
    }
}

/// What an operation returns.
pub(crate) type Outcome<T = Reply> = Result<T, Fault>;

/// An answer without its header.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) body: Vec<u8>,
    pub(crate) fd: Option<OwnedFd>,
}

impl Reply {
    /// Nothing but success.
    pub(crate) fn done() -> Outcome {
        Ok(Self::default())
    }

    /// One value.
    pub(crate) fn value<T: IntoBytes + Immutable>(value: &T) -> Self {
        Self { body: value.as_bytes().to_vec(), fd: None }
    }

    /// A descriptor to donate as well.
    pub(crate) fn with(self, fd: OwnedFd) -> Self {
        Self { fd: Some(fd), ..self }
    }
}

/// A request that has a fixed part only.
pub(crate) fn whole<T: FromBytes + KnownLayout + Immutable>(body: &[u8]) -> Outcome<T> {
    T::read_from_bytes(body).map_err(|_| Fault::Malformed("wrong length"))
}

/// The fixed part, and what follows.
pub(crate) fn head<T: FromBytes + KnownLayout + Immutable>(body: &[u8]) -> Outcome<(T, &[u8])> {
    T::read_from_prefix(body).map_err(|_| Fault::Malformed("too short"))
}

/// Two parts, of which the first has this length.
pub(crate) fn split(tail: &[u8], first: u32) -> Outcome<(&[u8], &[u8])> {
    let first = usize::try_from(first).ok();
    first.and_then(|first| tail.split_at_checked(first)).ok_or(Fault::Malformed("a length past the end"))
}

/// One component of a path, which can lead neither out of its directory nor through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// `EINVAL` or `ENAMETOOLONG` if it is none.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        if bytes.len() > wire::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let special = matches!(bytes, b"" | b"." | b"..");
        if special || bytes.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Errno::EINVAL);
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_component_is_a_name() {
        for name in [&b"a"[..], b"...", b".hidden", b"with space", b"\xff\xfe", &[b'x'; wire::NAME_MAX]] {
            assert_eq!(Name::new(name).map(Name::bytes), Ok(name));
        }
    }

    #[test]
    fn what_could_leave_the_directory_is_no_name() {
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"../a", b"a/", b"a\0", b"\0"] {
            assert_eq!(Name::new(name), Err(Errno::EINVAL), "{name:?}");
        }
        assert_eq!(Name::new(&[b'x'; wire::NAME_MAX + 1]), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn a_length_past_the_end_is_malformed() {
        assert!(matches!(split(b"abc", 4), Err(Fault::Malformed(_))));
        assert!(matches!(split(b"abc", u32::MAX), Err(Fault::Malformed(_))));
        assert!(matches!(split(b"abc", 3), Ok((b"abc", b""))));
    }
}
