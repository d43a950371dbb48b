//! `socket`, `socketpair`, `bind`, `connect`, `listen`, `accept`, `accept4`, `shutdown`, `getsockname`, `getpeername`.

use linux_abi::net::kind::{SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_TYPE_MASK};
use linux_abi::{Errno, UserPtr};
use sentry::net::options::Direction;
use sentry::net::{Patience, Shutdown, deadline, new_pair, new_socket, open};
use sentry::sync::Events;
use sentry::task::Current;
use sentry::vfs::Fd;

use super::guest::{read_address, write_address};
use super::io::interrupted;
use super::{file_of, socket as socket_of};
use crate::sync::install;

/// Type and `O_*` flags.
fn kind_and_flags(kind: u32) -> Result<(u32, u32), Errno> {
    let flags = kind & !SOCK_TYPE_MASK;
    if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((kind & SOCK_TYPE_MASK, flags))
}

/// `socket(2)`: <https://man7.org/linux/man-pages/man2/socket.2.html>
pub(crate) fn socket(current: &mut Current, domain: i32, kind: u32, protocol: i32) -> Result<Fd, Errno> {
    let (kind, flags) = kind_and_flags(kind)?;
    let ops = new_socket(current.task(), domain, kind, protocol)?;
    let file = open(current.task(), ops, flags & SOCK_NONBLOCK);
    install(current, file, flags)
}

/// `socketpair(2)`: <https://man7.org/linux/man-pages/man2/socketpair.2.html>
pub(crate) fn socketpair(
    current: &mut Current,
    domain: i32,
    kind: u32,
    protocol: i32,
    pair: UserPtr<[i32; 2]>,
) -> Result<(), Errno> {
    let (kind, flags) = kind_and_flags(kind)?;
    let ends = new_pair(current.task(), domain, kind, protocol)?;
    let [one, other] = ends.map(|ops| open(current.task(), ops, flags & SOCK_NONBLOCK));
    let first = install(current, one, flags)?;
    let second = install(current, other, flags).inspect_err(|_| drop(current.files().remove(first)))?;
    current.write_object(pair, &[first.0, second.0]).inspect_err(|_| {
        drop(current.files().remove(first));
        drop(current.files().remove(second));
    })
}

/// `bind(2)`: <https://man7.org/linux/man-pages/man2/bind.2.html>
pub(crate) fn bind(current: &mut Current, fd: Fd, addr: UserPtr<u8>, len: i32) -> Result<(), Errno> {
    let file = file_of(current, fd)?;
    let address = read_address(current, addr, len)?;
    socket_of(&file)?.bind(current.task(), &address)
}

/// `listen(2)`: <https://man7.org/linux/man-pages/man2/listen.2.html>
pub(crate) fn listen(current: &mut Current, fd: Fd, backlog: i32) -> Result<(), Errno> {
    let file = file_of(current, fd)?;
    socket_of(&file)?.listen(current.task(), backlog)
}

/// `connect(2)`: <https://man7.org/linux/man-pages/man2/connect.2.html>
pub(crate) fn connect(current: &mut Current, fd: Fd, addr: UserPtr<u8>, len: i32) -> Result<(), Errno> {
    let file = file_of(current, fd)?;
    let address = read_address(current, addr, len)?;
    let socket = socket_of(&file)?;
    let deadline = deadline(socket, Direction::Send);
    let patience = if file.is_nonblocking() { Patience::None } else { Patience::Until(deadline) };
    socket.connect(current, &address, patience).map_err(|errno| interrupted(errno, deadline))
}

/// `accept(2)`: <https://man7.org/linux/man-pages/man2/accept.2.html>
pub(crate) fn accept(
    current: &mut Current,
    fd: Fd,
    addr: UserPtr<u8>,
    len: UserPtr<i32>,
) -> Result<Fd, Errno> {
    accept4(current, fd, addr, len, 0)
}

/// `accept4(2)`: <https://man7.org/linux/man-pages/man2/accept.2.html>
pub(crate) fn accept4(
    current: &mut Current,
    fd: Fd,
    addr: UserPtr<u8>,
    len: UserPtr<i32>,
    flags: u32,
) -> Result<Fd, Errno> {
    if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = file_of(current, fd)?;
    let socket = socket_of(&file)?;
    let deadline = deadline(socket, Direction::Receive);
    let accepted = current
        .block_on_file(&file, Events::READABLE, false, deadline, |current| socket.accept(current.task()))
        .map_err(|errno| interrupted(errno, deadline))?;
    let connection = open(current.task(), accepted.ops, flags & SOCK_NONBLOCK);
    // LINUX: an address that cannot be written costs the connection.
    if !addr.is_null() {
        write_address(current, &accepted.address, addr, len)?;
    }
    install(current, connection, flags)
}

/// `shutdown(2)`: <https://man7.org/linux/man-pages/man2/shutdown.2.html>
pub(crate) fn shutdown(current: &mut Current, fd: Fd, how: i32) -> Result<(), Errno> {
    let file = file_of(current, fd)?;
    let how = match how {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        2 => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    socket_of(&file)?.shutdown(how)
}

/// `getsockname(2)`: <https://man7.org/linux/man-pages/man2/getsockname.2.html>
pub(crate) fn getsockname(
    current: &mut Current,
    fd: Fd,
    addr: UserPtr<u8>,
    len: UserPtr<i32>,
) -> Result<(), Errno> {
    let name = socket_of(&*file_of(current, fd)?)?.local_name()?;
    write_address(current, &name, addr, len)
}

/// `getpeername(2)`: <https://man7.org/linux/man-pages/man2/getpeername.2.html>
pub(crate) fn getpeername(
    current: &mut Current,
    fd: Fd,
    addr: UserPtr<u8>,
    len: UserPtr<i32>,
) -> Result<(), Errno> {
    let name = socket_of(&*file_of(current, fd)?)?.peer_name()?;
    write_address(current, &name, addr, len)
}
