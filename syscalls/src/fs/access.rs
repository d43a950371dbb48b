//! `access` and its relatives.

use linux_abi::fs::{AT_EACCESS, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW};
use linux_abi::{Errno, UserCStr};
use sentry::task::{Credentials, Current};
use sentry::vfs::permission::{Want, check_writable_mount, ms};
use sentry::vfs::{Caller, Fd, mode};

use super::{CWD, lookup, read_path, start};

/// `access(2)`: <https://man7.org/linux/man-pages/man2/access.2.html>
pub(crate) fn access(current: &mut Current, path: UserCStr, want: u32) -> Result<(), Errno> {
    faccessat2(current, CWD, path, want, 0)
}

/// `faccessat(2)`: <https://man7.org/linux/man-pages/man2/faccessat.2.html>
pub(crate) fn faccessat(current: &mut Current, dir: Fd, path: UserCStr, want: u32) -> Result<(), Errno> {
    faccessat2(current, dir, path, want, 0)
}

/// `faccessat2(2)`: <https://man7.org/linux/man-pages/man2/faccessat2.2.html>
pub(crate) fn faccessat2(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    want: u32,
    flags: u32,
) -> Result<(), Errno> {
    let want = Want::from_bits(want).ok_or(Errno::EINVAL)?;
    if flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let lookup = lookup(flags);
    let path = read_path(current, path, lookup)?;
    let start = start(current, dir, &path)?;
    let caller = if flags & AT_EACCESS == 0 {
        Caller::with_credentials(current.task(), with_real_ids(&current.credentials()))
    } else {
        Caller::of(current.task())
    };
    let found = caller.find(&start, &path, lookup)?;
    if want.is_empty() {
        return Ok(());
    }
    let is_regular = found.access.is_regular();
    if want.contains(Want::EXEC) && is_regular && found.location.mount.flags() & ms::NOEXEC != 0 {
        return Err(Errno::EACCES);
    }
    caller.check(&found.location, &found.access, want)?;
    let is_special =
        matches!(found.access.kind(), mode::S_IFCHR | mode::S_IFBLK | mode::S_IFIFO | mode::S_IFSOCK);
    if want.contains(Want::WRITE) && !is_special { check_writable_mount(&found.location) } else { Ok(()) }
}

/// LINUX: `access_override_creds`: real ids, and capabilities only for root.
fn with_real_ids(credentials: &Credentials) -> Credentials {
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    let mut real = credentials.clone();
    (real.fsuid, real.fsgid) = (real.uid, real.gid);
    if real.securebits & NO_SETUID_FIXUP == 0 {
        real.effective = if real.uid == 0 { real.permitted } else { 0 };
    }
    real
}
