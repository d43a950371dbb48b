//! What the sentry may ask of the host: fewer than sixty calls, none that opens a name, makes memory
//! executable, or starts a process.
//!
//! A call that is only refused, with an errno that the C library can live with, is none of them.
//! Organised by door, so that taking a door away takes its calls away.

use super::{common, is, one_of, only_int_bits, options, sends_copies};
use crate::bpf::{Cond, Test};
use crate::rule::{Door, Policy, Rule};

/// How guest code runs; the second needs `ptrace` and its waits on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Stubs under a seccomp filter of their own.
    Systrap,
    /// Stubs under ptrace.
    Ptrace,
}

/// `_IOWR('!', 0, struct seccomp_notif)` and its family, as the kernel's header defines them.
const NOTIF_RECV: i32 = 0xc050_2100_u32.cast_signed();
const NOTIF_SEND: i32 = 0xc018_2101_u32.cast_signed();
const NOTIF_ID_VALID: i32 = 0x4008_2102;
const NOTIF_ADDFD: i32 = 0x4018_2103;
const NOTIF_SET_FLAGS: i32 = 0x4008_2104;
/// `SIOCINQ` and `SIOCOUTQ` under their terminal names, `SIOCATMARK`; `TCGETS` and `TIOCGWINSZ` ask a terminal about itself.
const QUEUE_AND_TERMINAL: [i32; 5] = [0x541b, 0x5411, 0x8905, 0x5401, 0x5413];

/// The sentry's policy.
#[must_use]
pub fn sentry(platform: Platform) -> Policy {
    let mut rules = common::runtime();
    rules.extend(common::memory());
    rules.extend(files());
    rules.extend(network());
    rules.extend(waiting());
    rules.extend(stubs());
    rules.extend(match platform {
        Platform::Systrap => systrap(),
        Platform::Ptrace => ptrace(),
    });
    let name = match platform {
        Platform::Systrap => "sentry (systrap)",
        Platform::Ptrace => "sentry (ptrace)",
    };
    Policy { name, rules }
}

/// Descriptors that the gofer or the shim opened and handed in. No call here takes a path.
fn files() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Files, why);
    vec![
        rule(libc::SYS_read, "read", "donated files, the container's standard input"),
        rule(libc::SYS_write, "write", "donated files, the container's output, the log"),
        rule(libc::SYS_pread64, "pread64", "donated files at an offset"),
        rule(libc::SYS_pwrite64, "pwrite64", "donated files at an offset"),
        rule(libc::SYS_close, "close", "descriptors of ours"),
        rule(libc::SYS_fstat, "fstat", "size and times of a donated file"),
        rule(libc::SYS_ftruncate, "ftruncate", "size of a donated file or a memfd"),
        rule(libc::SYS_fallocate, "fallocate", "space and holes in a donated file or a memfd").when([
            only_int_bits(
                1,
                libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE,
            ),
        ]),
        rule(
            libc::SYS_lseek,
            "lseek",
            "data and holes; the position of a standard stream that is a file, and where an append has ended",
        )
        .when([one_of(
            2,
            &[libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END, libc::SEEK_DATA, libc::SEEK_HOLE],
        )]),
        rule(libc::SYS_fsync, "fsync", "durability that a guest asks for"),
        rule(libc::SYS_fdatasync, "fdatasync", "durability that a guest asks for"),
        rule(libc::SYS_fcntl, "fcntl", "duplicate, non-blocking mode, seals; no owner, no lease, no signal")
            .when([one_of(1, &FCNTL)]),
        rule(
            libc::SYS_openat,
            "openat",
            "the allocator asks for the host's overcommit policy when it shrinks; nothing can be opened",
        )
        .refuse(libc::ENOENT),
        rule(libc::SYS_memfd_create, "memfd_create", "memory that guests share"),
        rule(
            libc::SYS_ioctl,
            "ioctl",
            "the fill of a queue, a terminal's size; nothing that changes a terminal",
        )
        .when([one_of(1, &QUEUE_AND_TERMINAL)]),
    ]
}

const FCNTL: [i32; 9] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
];

/// Internet sockets only: no raw, packet, netlink, vsock or host Unix sockets.
fn network() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Network, why);
    let families = || one_of(0, &[libc::AF_INET, libc::AF_INET6]);
    let kind = |kind: i32| {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        Cond::int(
            1,
            Test::Masked { mask: u64::from(!flags.cast_unsigned()), value: u64::from(kind.cast_unsigned()) },
        )
    };
    let set = |level, names: &[i32]| [is(1, level), one_of(2, names)];
    let get = |level, names: &[i32], more: &[i32]| [is(1, level), one_of(2, &[names, more].concat())];
    vec![
        rule(
            libc::SYS_socket,
            "socket",
            "TCP and UDP in the pod's own network namespace, and its ping sockets",
        )
        .when([families(), kind(libc::SOCK_STREAM), one_of(2, &[0, libc::IPPROTO_TCP])])
        .when([
            families(),
            kind(libc::SOCK_DGRAM),
            one_of(2, &[0, libc::IPPROTO_UDP, libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6]),
        ]),
        rule(libc::SYS_bind, "bind", "an address that a guest asks for"),
        rule(libc::SYS_listen, "listen", "a guest's server"),
        rule(libc::SYS_accept4, "accept4", "a guest's server")
            .when([only_int_bits(3, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)]),
        rule(libc::SYS_connect, "connect", "a guest's client; the sentry has no Unix socket to connect"),
        rule(libc::SYS_shutdown, "shutdown", "half-closed connections of a guest"),
        rule(libc::SYS_getsockname, "getsockname", "the port that the host chose"),
        rule(libc::SYS_getpeername, "getpeername", "who is at the other end"),
        rule(libc::SYS_setsockopt, "setsockopt", "options of one socket, by name")
            .when(set(libc::SOL_SOCKET, &options::SOCKET))
            .when(set(libc::IPPROTO_TCP, &options::TCP))
            .when(set(libc::IPPROTO_IP, &options::IP))
            .when(set(libc::IPPROTO_IPV6, &options::IPV6)),
        rule(libc::SYS_getsockopt, "getsockopt", "the same, and what can only be read")
            .when(get(libc::SOL_SOCKET, &options::SOCKET, &options::SOCKET_READ))
            .when(get(libc::IPPROTO_TCP, &options::TCP, &options::TCP_READ))
            .when(get(libc::IPPROTO_IP, &options::IP, &options::IP_READ))
            .when(get(libc::IPPROTO_IPV6, &options::IPV6, &[])),
        rule(libc::SYS_sendmsg, "sendmsg", "datagrams and streams; requests to the gofer with descriptors")
            .when([sends_copies()]),
        rule(libc::SYS_recvmsg, "recvmsg", "datagrams and streams; the gofer's and the shim's messages"),
    ]
}

/// Sleep until one of our descriptors is ready.
fn waiting() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Waiting, why);
    vec![
        rule(libc::SYS_clock_nanosleep, "clock_nanosleep", "let a thread of ours wait for a time"),
        rule(
            libc::SYS_ppoll,
            "ppoll",
            "sleep until a guest's sockets are ready, or another thread calls by signal",
        ),
        rule(libc::SYS_epoll_create1, "epoll_create1", "the sockets that a guest's own instance watches"),
        rule(libc::SYS_epoll_ctl, "epoll_ctl", "the sockets that a guest's own instance watches"),
        rule(
            libc::SYS_epoll_pwait,
            "epoll_pwait",
            "sleep until those are ready; the thread that watches streams",
        ),
    ]
}

/// The processes that run guest code, which are our children and hold nothing.
fn stubs() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Stubs, why);
    vec![
        rule(
            libc::SYS_process_vm_readv,
            "process_vm_readv",
            "large copies out of guest memory; reaches our stubs only, no others are in our pid namespace",
        )
        .when([Cond::long(5, Test::Eq(0))]),
        rule(libc::SYS_process_vm_writev, "process_vm_writev", "large copies into guest memory, likewise")
            .when([Cond::long(5, Test::Eq(0))]),
        rule(
            libc::SYS_move_pages,
            "move_pages",
            "which pages of a stub are in memory; without a list of nodes it moves none",
        )
        .when([Cond::long(3, Test::Eq(0)), is(5, 0)]),
        rule(
            libc::SYS_tgkill,
            "tgkill",
            "interrupt one guest thread; call a thread of ours out of its sleep; abort(3)",
        ),
        rule(libc::SYS_wait4, "wait4", "reap stubs"),
        rule(libc::SYS_pidfd_open, "pidfd_open", "a stub, so that its number cannot come to mean another"),
        rule(libc::SYS_pidfd_send_signal, "pidfd_send_signal", "kill a stub"),
        rule(
            libc::SYS_sched_setaffinity,
            "sched_setaffinity",
            "keep a sentry thread beside its guest thread",
        ),
    ]
}

/// What the systrap platform needs on top.
fn systrap() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Stubs, why);
    vec![
        rule(libc::SYS_pidfd_getfd, "pidfd_getfd", "take the listener that a stub's thread installed"),
        rule(libc::SYS_ioctl, "ioctl", "seccomp notifications of stubs")
            .when([one_of(1, &[NOTIF_RECV, NOTIF_SEND, NOTIF_ID_VALID, NOTIF_ADDFD, NOTIF_SET_FLAGS])]),
    ]
}

/// What the ptrace platform needs on top.
fn ptrace() -> Vec<Rule> {
    vec![Rule::new(
        libc::SYS_ptrace,
        "ptrace",
        Door::Stubs,
        "run a stub from call to call; no other process is in our pid namespace",
    )]
}
