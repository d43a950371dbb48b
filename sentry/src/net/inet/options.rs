//! Which options of the host's sockets may a guest read and set? A list; all others are ENOPROTOOPT.
//!
//! Left out is what reaches beyond the socket itself (marks, devices, filters, transparent proxies); the sentry's own seccomp
//! policy lists the same options.

use std::os::fd::OwnedFd;

use linux_abi::net::{Ucred, option as so};
use platform::host::socket as host;
use zerocopy::IntoBytes;

use crate::Errno;
use crate::task::{Capability, Task};

/// Options of `SOL_SOCKET` that may be read and set.
const SOCKET: &[i32] = &[
    so::SO_REUSEADDR,
    so::SO_REUSEPORT,
    so::SO_KEEPALIVE,
    so::SO_LINGER,
    so::SO_BROADCAST,
    so::SO_OOBINLINE,
    so::SO_DONTROUTE,
    so::SO_SNDBUF,
    so::SO_RCVBUF,
    so::SO_RCVLOWAT,
    so::SO_PRIORITY,
    so::SO_TIMESTAMP,
    so::SO_TIMESTAMPNS,
    so::SO_NO_CHECK,
];
/// Options of `SOL_SOCKET` that may be read.
const SOCKET_READ: &[i32] =
    &[so::SO_ERROR, so::SO_TYPE, so::SO_ACCEPTCONN, so::SO_DOMAIN, so::SO_PROTOCOL, so::SO_SNDLOWAT];
const TCP: &[i32] = &[
    so::TCP_NODELAY,
    so::TCP_MAXSEG,
    so::TCP_CORK,
    so::TCP_KEEPIDLE,
    so::TCP_KEEPINTVL,
    so::TCP_KEEPCNT,
    so::TCP_SYNCNT,
    so::TCP_LINGER2,
    so::TCP_DEFER_ACCEPT,
    so::TCP_WINDOW_CLAMP,
    so::TCP_QUICKACK,
    so::TCP_CONGESTION,
    so::TCP_USER_TIMEOUT,
    so::TCP_FASTOPEN,
    so::TCP_NOTSENT_LOWAT,
];
const TCP_READ: &[i32] = &[so::TCP_INFO];
const IP: &[i32] = &[
    so::IP_TOS,
    so::IP_TTL,
    so::IP_PKTINFO,
    so::IP_RECVERR,
    so::IP_RECVTTL,
    so::IP_RECVTOS,
    so::IP_RECVORIGDSTADDR,
    so::IP_MTU_DISCOVER,
    so::IP_BIND_ADDRESS_NO_PORT,
    so::IP_MULTICAST_IF,
    so::IP_MULTICAST_TTL,
    so::IP_MULTICAST_LOOP,
    so::IP_ADD_MEMBERSHIP,
    so::IP_DROP_MEMBERSHIP,
];
const IP_READ: &[i32] = &[so::IP_OPTIONS];
const IPV6: &[i32] = &[
    so::IPV6_V6ONLY,
    so::IPV6_UNICAST_HOPS,
    so::IPV6_RECVPKTINFO,
    so::IPV6_RECVERR,
    so::IPV6_RECVHOPLIMIT,
    so::IPV6_TCLASS,
    so::IPV6_RECVTCLASS,
    so::IPV6_MTU_DISCOVER,
    so::IPV6_DONTFRAG,
    so::IPV6_MULTICAST_IF,
    so::IPV6_MULTICAST_HOPS,
    so::IPV6_MULTICAST_LOOP,
    so::IPV6_ADD_MEMBERSHIP,
    so::IPV6_DROP_MEMBERSHIP,
];

/// Options that may be set, and those that may be read besides.
fn lists(level: i32) -> (&'static [i32], &'static [i32]) {
    match level {
        so::SOL_SOCKET => (SOCKET, SOCKET_READ),
        so::SOL_TCP => (TCP, TCP_READ),
        so::SOL_IP => (IP, IP_READ),
        so::SOL_IPV6 => (IPV6, &[]),
        _ => (&[], &[]),
    }
}

/// `getsockopt(2)`.
///
/// # Errors
/// ENOPROTOOPT; the host's.
pub fn get(fd: &OwnedFd, _: &Task, level: i32, name: i32, room: usize) -> Result<Vec<u8>, Errno> {
    let (both, read) = lists(level);
    match (level, name) {
        _ if both.contains(&name) || read.contains(&name) => host::get_option(fd, level, name, room),
        (so::SOL_SOCKET, so::SO_PEERCRED) => {
            Ok(Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX }.as_bytes().to_vec())
        }
        // Bound to none, ever.
        (so::SOL_SOCKET, so::SO_BINDTODEVICE) => Ok(Vec::new()),
        (so::SOL_SOCKET, so::SO_DEBUG | so::SO_MARK) => Ok(0i32.as_bytes().to_vec()),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// `setsockopt(2)`.
///
/// # Errors
/// ENOPROTOOPT; EPERM; the host's.
pub fn set(fd: &OwnedFd, task: &Task, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let is_admin = task.credentials().has(Capability::NetAdmin);
    match (level, name) {
        _ if lists(level).0.contains(&name) => host::set_option(fd, level, name, value),
        // LINUX: beyond the limit for the administrator; here the host's limit holds for all.
        (so::SOL_SOCKET, so::SO_SNDBUFFORCE) if is_admin => host::set_option(fd, level, so::SO_SNDBUF, value),
        (so::SOL_SOCKET, so::SO_RCVBUFFORCE) if is_admin => host::set_option(fd, level, so::SO_RCVBUF, value),
        (so::SOL_SOCKET, so::SO_SNDBUFFORCE | so::SO_RCVBUFFORCE | so::SO_MARK) => Err(Errno::EPERM),
        (so::SOL_SOCKET, so::SO_BINDTODEVICE) if super::super::options::names_no_device(value) => Ok(()),
        _ => Err(Errno::ENOPROTOOPT),
    }
}
