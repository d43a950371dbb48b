//! Which socket options the sentry may read and set on the host's sockets.
//!
//! Left out on purpose: whatever reaches beyond the socket itself (`SO_BINDTODEVICE`, `SO_MARK`,
//! `SO_ATTACH_FILTER`, `IP_TRANSPARENT`, `TCP_REPAIR`, `TCP_ULP`, netfilter's own options).

/// Options of `SOL_SOCKET` that may be set.
pub(super) const SOCKET: [i32; 14] = [
    libc::SO_REUSEADDR,
    libc::SO_REUSEPORT,
    libc::SO_KEEPALIVE,
    libc::SO_LINGER,
    libc::SO_BROADCAST,
    libc::SO_OOBINLINE,
    libc::SO_DONTROUTE,
    libc::SO_SNDBUF,
    libc::SO_RCVBUF,
    libc::SO_RCVLOWAT,
    libc::SO_PRIORITY,
    libc::SO_TIMESTAMP,
    libc::SO_TIMESTAMPNS,
    libc::SO_NO_CHECK,
];

/// Options of `SOL_SOCKET` that may only be read.
pub(super) const SOCKET_READ: [i32; 6] = [
    libc::SO_ERROR,
    libc::SO_TYPE,
    libc::SO_ACCEPTCONN,
    libc::SO_DOMAIN,
    libc::SO_PROTOCOL,
    libc::SO_SNDLOWAT,
];

/// Options of `IPPROTO_TCP`.
pub(super) const TCP: [i32; 15] = [
    libc::TCP_NODELAY,
    libc::TCP_MAXSEG,
    libc::TCP_CORK,
    libc::TCP_KEEPIDLE,
    libc::TCP_KEEPINTVL,
    libc::TCP_KEEPCNT,
    libc::TCP_SYNCNT,
    libc::TCP_LINGER2,
    libc::TCP_DEFER_ACCEPT,
    libc::TCP_WINDOW_CLAMP,
    libc::TCP_QUICKACK,
    libc::TCP_CONGESTION,
    libc::TCP_USER_TIMEOUT,
    libc::TCP_FASTOPEN,
    libc::TCP_NOTSENT_LOWAT,
];

/// Options of `IPPROTO_TCP` that may only be read.
pub(super) const TCP_READ: [i32; 1] = [libc::TCP_INFO];

/// Options of `IPPROTO_IP`.
pub(super) const IP: [i32; 14] = [
    libc::IP_TOS,
    libc::IP_TTL,
    libc::IP_PKTINFO,
    libc::IP_RECVERR,
    libc::IP_RECVTTL,
    libc::IP_RECVTOS,
    libc::IP_RECVORIGDSTADDR,
    libc::IP_MTU_DISCOVER,
    libc::IP_BIND_ADDRESS_NO_PORT,
    libc::IP_MULTICAST_IF,
    libc::IP_MULTICAST_TTL,
    libc::IP_MULTICAST_LOOP,
    libc::IP_ADD_MEMBERSHIP,
    libc::IP_DROP_MEMBERSHIP,
];

/// Options of `IPPROTO_IP` that may only be read: those of a connection are the peer's, and servers ask for them.
pub(super) const IP_READ: [i32; 1] = [libc::IP_OPTIONS];

/// Options of `IPPROTO_IPV6`.
pub(super) const IPV6: [i32; 14] = [
    libc::IPV6_V6ONLY,
    libc::IPV6_UNICAST_HOPS,
    libc::IPV6_RECVPKTINFO,
    libc::IPV6_RECVERR,
    libc::IPV6_RECVHOPLIMIT,
    libc::IPV6_TCLASS,
    libc::IPV6_RECVTCLASS,
    libc::IPV6_MTU_DISCOVER,
    libc::IPV6_DONTFRAG,
    libc::IPV6_MULTICAST_IF,
    libc::IPV6_MULTICAST_HOPS,
    libc::IPV6_MULTICAST_LOOP,
    libc::IPV6_ADD_MEMBERSHIP,
    libc::IPV6_DROP_MEMBERSHIP,
];
