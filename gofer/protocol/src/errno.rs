//! The error number that the gofer answers with.
//!
//! Key type: [`Errno`], a positive Linux error number. It converts into `linux_abi::Errno`, which is for the
//! sentry's own use; this one comes from the host's errors, too.

use std::fmt;

/// A positive Linux error number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// From a raw positive number; anything else becomes `EIO`, because it can only come from a broken peer.
    #[must_use]
    pub const fn new(raw: i32) -> Self {
        if raw > 0 && raw < 4096 { Self(raw) } else { Self::EIO }
    }

    /// The positive number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

macro_rules! consts {
    ($($name:ident = $raw:literal),* $(,)?) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub const $name: Self = Self($raw);
            )*
        }
    };
}

consts! {
    EPERM = 1, ENOENT = 2, EIO = 5, ENXIO = 6, E2BIG = 7, EBADF = 9, ENOMEM = 12, EACCES = 13, EEXIST = 17, EXDEV = 18,
    ENODEV = 19, ENOTDIR = 20, EISDIR = 21, EINVAL = 22, ENFILE = 23, EMFILE = 24, EROFS = 30, ERANGE = 34,
    ENAMETOOLONG = 36, ENOSYS = 38, ENOTEMPTY = 39, ELOOP = 40, ENODATA = 61, EPROTO = 71, EOPNOTSUPP = 95,
    ECONNREFUSED = 111, ESTALE = 116,
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({})", self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for linux_abi::Errno {
    fn from(errno: Errno) -> Self {
        Self::new(errno.0)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(host: rustix::io::Errno) -> Self {
        Self::new(host.raw_os_error())
    }
}
