//! Internet sockets in the sandbox's own network namespace, and what interfaces it has.
//!
//! All sockets are non-blocking and closed on exec. Addresses, option values and control messages are the ABI's bytes:
//! the kernel has the same ABI as its guests, so nothing is gained by taking them apart here. SIGPIPE is never raised.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use linux_abi::Errno;
use rustix::net::SocketFlags;

use super::errno;
use crate::bulk::{BulkIn, BulkOut};

/// Longest address.
const ADDRESS_MAX: usize = size_of::<libc::sockaddr_storage>();
/// Room for control messages that come in.
const CONTROL_ROOM: usize = 512;
/// LINUX: asm-generic/sockios.h.
const SIOCATMARK: libc::Ioctl = 0x8905;

fn last_error() -> Errno {
    Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

fn length(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last_error())
}

/// Lengths of addresses and options are small.
fn short(len: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(len).unwrap_or(libc::socklen_t::MAX)
}

/// `socket(2)`.
///
/// # Errors
/// The host's.
pub fn new(family: u16, kind: u32, protocol: i32) -> Result<OwnedFd, Errno> {
    let kind = kind.cast_signed() | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(i32::from(family), kind, protocol) };
    check(fd)?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bind(2)`.
///
/// # Errors
/// The host's.
pub fn bind(fd: impl AsFd, address: &[u8]) -> Result<(), Errno> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the host reads `address.len()` bytes and trusts none of them.
    check(unsafe { libc::bind(fd, address.as_ptr().cast(), short(address.len())) })
}

/// `connect(2)`.
///
/// # Errors
/// The host's.
pub fn connect(fd: impl AsFd, address: &[u8]) -> Result<(), Errno> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: as in `bind`.
    check(unsafe { libc::connect(fd, address.as_ptr().cast(), short(address.len())) })
}

/// `listen(2)`.
///
/// # Errors
/// The host's.
pub fn listen(fd: impl AsFd, backlog: i32) -> Result<(), Errno> {
    rustix::net::listen(fd, backlog).map_err(errno)
}

/// `accept4(2)`; the peer's address is [`peer_name`]'s.
///
/// # Errors
/// The host's.
pub fn accept(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).map_err(errno)
}

/// `shutdown(2)`; `how` is 0, 1 or 2.
///
/// # Errors
/// The host's.
pub fn shutdown(fd: impl AsFd, how: u8) -> Result<(), Errno> {
    let how = match how {
        0 => rustix::net::Shutdown::Read,
        1 => rustix::net::Shutdown::Write,
        _ => rustix::net::Shutdown::Both,
    };
    rustix::net::shutdown(fd, how).map_err(errno)
}

type NameCall = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(fd: impl AsFd, call: NameCall) -> Result<Vec<u8>, Errno> {
    let mut address = vec![0; ADDRESS_MAX];
    let mut len = short(ADDRESS_MAX);
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the host writes at most `len` bytes.
    check(unsafe { call(fd, address.as_mut_ptr().cast(), &raw mut len) })?;
    address.truncate(usize::try_from(len).unwrap_or(0));
    Ok(address)
}

/// `getsockname(2)`.
///
/// # Errors
/// The host's.
pub fn local_name(fd: impl AsFd) -> Result<Vec<u8>, Errno> {
    name(fd, libc::getsockname)
}

/// `getpeername(2)`.
///
/// # Errors
/// The host's.
pub fn peer_name(fd: impl AsFd) -> Result<Vec<u8>, Errno> {
    name(fd, libc::getpeername)
}

/// `getsockopt(2)` of at most `room` bytes. The caller allows only options it knows.
///
/// # Errors
/// The host's.
pub fn get_option(fd: impl AsFd, level: i32, name: i32, room: usize) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; room];
    let mut len = short(room);
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the host writes at most `len` bytes.
    check(unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len) })?;
    value.truncate(usize::try_from(len).unwrap_or(0));
    Ok(value)
}

/// `setsockopt(2)`. The caller allows only options it knows.
///
/// # Errors
/// The host's.
pub fn set_option(fd: impl AsFd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the host reads `value.len()` bytes; no allowed option holds an address.
    check(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), short(value.len())) })
}

fn header(bytes: *mut u8, len: usize, piece: &mut libc::iovec) -> libc::msghdr {
    *piece = libc::iovec { iov_base: bytes.cast(), iov_len: len };
    // SAFETY: a header of zeros is valid and empty.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = piece;
    header.msg_iovlen = 1;
    header
}

/// `sendmsg(2)` of one buffer; `control` is a well-formed control buffer without descriptors.
///
/// # Errors
/// The host's.
pub fn send(
    fd: impl AsFd,
    bytes: &[u8],
    address: Option<&[u8]>,
    control: &[u8],
    flags: u32,
) -> Result<usize, Errno> {
    send_raw(fd, (bytes.as_ptr(), bytes.len()), address, control, flags)
}

/// As [`send`], of bytes that the guest may be writing to.
///
/// # Errors
/// The host's.
pub fn send_bulk(
    fd: impl AsFd,
    bytes: &BulkIn<'_>,
    address: Option<&[u8]>,
    control: &[u8],
    flags: u32,
) -> Result<usize, Errno> {
    send_raw(fd, bytes.raw(), address, control, flags)
}

/// `bytes` is readable as long as the caller says.
fn send_raw(
    fd: impl AsFd,
    bytes: (*const u8, usize),
    address: Option<&[u8]>,
    control: &[u8],
    flags: u32,
) -> Result<usize, Errno> {
    let mut piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut header = header(bytes.0.cast_mut(), bytes.1, &mut piece);
    if let Some(address) = address {
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = short(address.len());
    }
    if !control.is_empty() {
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len();
    }
    let flags = flags.cast_signed() | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the host only reads what the header points to, all of which outlives the call.
    length(unsafe { libc::sendmsg(fd.as_fd().as_raw_fd(), &raw const header, flags) })
}

/// What [`receive`] found.
#[derive(Debug, Default)]
pub struct Message {
    /// Bytes, or with `MSG_TRUNC` asked for, the real length of the datagram.
    pub len: usize,
    /// Whom it is from; empty for streams.
    pub address: Vec<u8>,
    /// A control buffer.
    pub control: Vec<u8>,
    /// `MSG_*`.
    pub flags: u32,
}

/// `recvmsg(2)` into one buffer.
///
/// # Errors
/// The host's.
pub fn receive(fd: impl AsFd, bytes: &mut [u8], flags: u32) -> Result<Message, Errno> {
    receive_raw(fd, (bytes.as_mut_ptr(), bytes.len()), flags)
}

/// As [`receive`], into room that the guest may be writing to.
///
/// # Errors
/// The host's.
pub fn receive_bulk(fd: impl AsFd, room: &mut BulkOut<'_>, flags: u32) -> Result<Message, Errno> {
    receive_raw(fd, room.raw(), flags)
}

/// `room` is writable as long as the caller says.
fn receive_raw(fd: impl AsFd, room: (*mut u8, usize), flags: u32) -> Result<Message, Errno> {
    let mut address = [0u8; ADDRESS_MAX];
    let mut control = [0u64; CONTROL_ROOM / 8];
    let mut piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut header = header(room.0, room.1, &mut piece);
    header.msg_name = address.as_mut_ptr().cast();
    header.msg_namelen = short(ADDRESS_MAX);
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_ROOM;
    let flags = flags.cast_signed() | libc::MSG_DONTWAIT;
    // SAFETY: the host writes no more than the lengths in the header say, into buffers that outlive the call.
    let len = length(unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut header, flags) })?;
    let address_len = usize::try_from(header.msg_namelen).unwrap_or(0).min(ADDRESS_MAX);
    let control_len = header.msg_controllen.min(CONTROL_ROOM);
    let control_bytes = || control.iter().flat_map(|word| word.to_ne_bytes()).take(control_len).collect();
    Ok(Message {
        len,
        address: address[..address_len].to_vec(),
        control: if control_len == 0 { Vec::new() } else { control_bytes() },
        flags: header.msg_flags.cast_unsigned(),
    })
}

/// `SIOCINQ`: bytes that wait to be received.
///
/// # Errors
/// The host's.
pub fn unread(fd: impl AsFd) -> Result<u64, Errno> {
    rustix::io::ioctl_fionread(fd).map_err(errno)
}

/// `SIOCOUTQ`: bytes that wait to be sent.
///
/// # Errors
/// The host's.
pub fn unsent(fd: impl AsFd) -> Result<u64, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: the host writes one `int`.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) })?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// `SIOCATMARK`: whether urgent data comes next.
///
/// # Errors
/// The host's.
pub fn is_at_mark(fd: impl AsFd) -> Result<bool, Errno> {
    let mut answer: libc::c_int = 0;
    // SAFETY: the host writes one `int`.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), SIOCATMARK, &raw mut answer) })?;
    Ok(answer != 0)
}

/// Routing messages of the namespace: a dump of `kind` (`RTM_GETLINK`...). Only before the seccomp filter is on, which forbids
/// netlink sockets.
///
/// # Errors
/// The host's; EIO if the dump does not end.
pub fn route_dump(kind: u16) -> Result<Vec<u8>, Errno> {
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    const DATAGRAMS_MAX: usize = 1024;
    let family = u16::try_from(libc::AF_NETLINK).map_err(|_| Errno::EINVAL)?;
    let fd = new(family, libc::SOCK_RAW.cast_unsigned(), libc::NETLINK_ROUTE)?;
    // `struct nlmsghdr` and an empty `struct ifinfomsg`, which is the longest of the three requests' heads.
    let mut request = vec![0; 32];
    request[..4].copy_from_slice(&32u32.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    send(&fd, &request, None, &[], 0)?;
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..DATAGRAMS_MAX {
        // The host answers a request before `send` returns, and goes on with each `receive`.
        let message = receive(&fd, &mut buffer, 0)?;
        let bytes = buffer.get(..message.len).unwrap_or_default();
        all.extend_from_slice(bytes);
        // The end may come in a datagram of its own or behind other messages.
        let kinds = message_kinds(bytes);
        if kinds.is_empty() || kinds.contains(&NLMSG_ERROR) {
            return Err(Errno::EIO);
        }
        if kinds.contains(&NLMSG_DONE) {
            return Ok(all);
        }
    }
    Err(Errno::EIO)
}

/// The types of the netlink messages in a datagram of the host's.
fn message_kinds(mut bytes: &[u8]) -> Vec<u16> {
    let mut kinds = Vec::new();
    while let Some(&[a, b, c, d, low, high]) = bytes.first_chunk::<6>() {
        kinds.push(u16::from_ne_bytes([low, high]));
        let len = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX).max(16);
        bytes = len.checked_next_multiple_of(4).and_then(|len| bytes.get(len..)).unwrap_or_default();
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_to_oneself_comes_back_with_its_sender() {
        let fd = new(2, 2, 0).unwrap();
        let mut address = [0; 16];
        address[0] = 2;
        address[4..8].copy_from_slice(&[127, 0, 0, 1]);
        bind(&fd, &address).unwrap();
        let name = local_name(&fd).unwrap();
        assert_eq!(receive(&fd, &mut [0; 8], 0).unwrap_err(), Errno::EAGAIN);
        assert_eq!(send(&fd, b"hello", Some(&name), &[], 0), Ok(5));
        let mut bytes = [0; 8];
        let message = receive(&fd, &mut bytes, 0).unwrap();
        assert_eq!((message.len, &bytes[..5], message.address), (5, &b"hello"[..], name));
        assert_eq!(get_option(&fd, libc::SOL_SOCKET, libc::SO_TYPE, 4), Ok(2i32.to_ne_bytes().to_vec()));
        assert_eq!(peer_name(&fd), Err(Errno::ENOTCONN));
    }
}
