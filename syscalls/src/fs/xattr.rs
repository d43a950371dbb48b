//! Extended attributes, `xattr(7)`.

use linux_abi::{Errno, UserCStr, UserPtr};
use sentry::task::Current;
use sentry::vfs::{Caller, Fd, Location, Lookup};

use super::{CWD, find};

/// Longest name, with its zero byte. LINUX: `XATTR_NAME_MAX`, ERANGE above.
const NAME_MAX: usize = 256;
/// Longest value. LINUX: `XATTR_SIZE_MAX`, E2BIG above.
const VALUE_MAX: usize = 65_536;
/// Longest list. LINUX: `XATTR_LIST_MAX`.
const LIST_MAX: usize = 65_536;

fn read_name(current: &Current, name: UserCStr) -> Result<Vec<u8>, Errno> {
    let name = current.read_cstr(name, NAME_MAX, Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

fn place(current: &Current, path: UserCStr, lookup: Lookup) -> Result<Location, Errno> {
    Ok(find(current, CWD, path, lookup)?.location)
}

fn open_place(current: &Current, fd: Fd) -> Result<Location, Errno> {
    Ok(current.files().get(fd)?.location.clone())
}

fn set(
    current: &Current,
    location: &Location,
    name: UserCStr,
    value: UserPtr<u8>,
    len: usize,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(current, name)?;
    if len > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; len];
    current.read_user(value.addr(), &mut bytes)?;
    Caller::of(current.task()).set_xattr(location, &name, &bytes, flags)
}

/// Gives bytes out, or with no room at all, their number.
fn answer(current: &mut Current, buf: UserPtr<u8>, len: usize, bytes: &[u8]) -> Result<usize, Errno> {
    if len == 0 {
        return Ok(bytes.len());
    }
    if bytes.len() > len {
        return Err(Errno::ERANGE);
    }
    current.write_user(buf.addr(), bytes)?;
    Ok(bytes.len())
}

fn get(
    current: &mut Current,
    location: &Location,
    name: UserCStr,
    buf: UserPtr<u8>,
    len: usize,
) -> Result<usize, Errno> {
    let name = read_name(current, name)?;
    let value = Caller::of(current.task()).get_xattr(location, &name)?;
    answer(current, buf, len, &value)
}

fn list(current: &mut Current, location: &Location, buf: UserPtr<u8>, len: usize) -> Result<usize, Errno> {
    let names = match Caller::of(current.task()).list_xattr(location) {
        // LINUX: a file system without attributes has an empty list.
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        names => names?,
    };
    let mut bytes = Vec::new();
    for name in names {
        bytes.extend_from_slice(&name);
        bytes.push(0);
    }
    if bytes.len() > LIST_MAX {
        return Err(Errno::E2BIG);
    }
    answer(current, buf, len, &bytes)
}

/// `setxattr(2)`: <https://man7.org/linux/man-pages/man2/setxattr.2.html>
pub(crate) fn setxattr(
    current: &mut Current,
    path: UserCStr,
    name: UserCStr,
    value: UserPtr<u8>,
    len: usize,
    flags: u32,
) -> Result<(), Errno> {
    let location = place(current, path, Lookup::FOLLOW)?;
    set(current, &location, name, value, len, flags)
}

/// `lsetxattr(2)`: <https://man7.org/linux/man-pages/man2/lsetxattr.2.html>
pub(crate) fn lsetxattr(
    current: &mut Current,
    path: UserCStr,
    name: UserCStr,
    value: UserPtr<u8>,
    len: usize,
    flags: u32,
) -> Result<(), Errno> {
    let location = place(current, path, Lookup::empty())?;
    set(current, &location, name, value, len, flags)
}

/// `fsetxattr(2)`: <https://man7.org/linux/man-pages/man2/fsetxattr.2.html>
pub(crate) fn fsetxattr(
    current: &mut Current,
    fd: Fd,
    name: UserCStr,
    value: UserPtr<u8>,
    len: usize,
    flags: u32,
) -> Result<(), Errno> {
    let location = open_place(current, fd)?;
    set(current, &location, name, value, len, flags)
}

/// `getxattr(2)`: <https://man7.org/linux/man-pages/man2/getxattr.2.html>
pub(crate) fn getxattr(
    current: &mut Current,
    path: UserCStr,
    name: UserCStr,
    buf: UserPtr<u8>,
    len: usize,
) -> Result<usize, Errno> {
    let location = place(current, path, Lookup::FOLLOW)?;
    get(current, &location, name, buf, len)
}

/// `lgetxattr(2)`: <https://man7.org/linux/man-pages/man2/lgetxattr.2.html>
pub(crate) fn lgetxattr(
    current: &mut Current,
    path: UserCStr,
    name: UserCStr,
    buf: UserPtr<u8>,
    len: usize,
) -> Result<usize, Errno> {
    let location = place(current, path, Lookup::empty())?;
    get(current, &location, name, buf, len)
}

/// `fgetxattr(2)`: <https://man7.org/linux/man-pages/man2/fgetxattr.2.html>
pub(crate) fn fgetxattr(
    current: &mut Current,
    fd: Fd,
    name: UserCStr,
    buf: UserPtr<u8>,
    len: usize,
) -> Result<usize, Errno> {
    let location = open_place(current, fd)?;
    get(current, &location, name, buf, len)
}

/// `listxattr(2)`: <https://man7.org/linux/man-pages/man2/listxattr.2.html>
pub(crate) fn listxattr(
    current: &mut Current,
    path: UserCStr,
    buf: UserPtr<u8>,
    len: usize,
) -> Result<usize, Errno> {
    let location = place(current, path, Lookup::FOLLOW)?;
    list(current, &location, buf, len)
}

/// `llistxattr(2)`: <https://man7.org/linux/man-pages/man2/llistxattr.2.html>
pub(crate) fn llistxattr(
    current: &mut Current,
    path: UserCStr,
    buf: UserPtr<u8>,
    len: usize,
) -> Result<usize, Errno> {
    let location = place(current, path, Lookup::empty())?;
    list(current, &location, buf, len)
}

/// `flistxattr(2)`: <https://man7.org/linux/man-pages/man2/flistxattr.2.html>
pub(crate) fn flistxattr(
    current: &mut Current,
    fd: Fd,
    buf: UserPtr<u8>,
    len: usize,
) -> Result<usize, Errno> {
    let location = open_place(current, fd)?;
    list(current, &location, buf, len)
}

/// `removexattr(2)`: <https://man7.org/linux/man-pages/man2/removexattr.2.html>
pub(crate) fn removexattr(current: &mut Current, path: UserCStr, name: UserCStr) -> Result<(), Errno> {
    let location = place(current, path, Lookup::FOLLOW)?;
    let name = read_name(current, name)?;
    Caller::of(current.task()).remove_xattr(&location, &name)
}

/// `lremovexattr(2)`: <https://man7.org/linux/man-pages/man2/lremovexattr.2.html>
pub(crate) fn lremovexattr(current: &mut Current, path: UserCStr, name: UserCStr) -> Result<(), Errno> {
    let location = place(current, path, Lookup::empty())?;
    let name = read_name(current, name)?;
    Caller::of(current.task()).remove_xattr(&location, &name)
}

/// `fremovexattr(2)`: <https://man7.org/linux/man-pages/man2/fremovexattr.2.html>
pub(crate) fn fremovexattr(current: &mut Current, fd: Fd, name: UserCStr) -> Result<(), Errno> {
    let location = open_place(current, fd)?;
    let name = read_name(current, name)?;
    Caller::of(current.task()).remove_xattr(&location, &name)
}
