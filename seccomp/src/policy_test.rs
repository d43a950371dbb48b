//! Is every rule right where it should be and wrong where it should be, and does nothing else pass?

use super::{Gofer, Platform, gofer, sentry};
use crate::Unexpected;
use crate::bpf::{Action, Cond, Field, SeccompData, Test, Width, evaluate};
use crate::rule::{Door, Policy, Rule};

/// The widest that the sentry's door may stand, on either platform: fewer than sixty. It may only come down.
const SENTRY_CALLS_MAX: usize = 59;

/// Where a gofer's descriptor of its `/proc/self/fd` is, in these tests.
const PROC_FDS: i32 = 5;

fn policies() -> [Policy; 4] {
    let gofers = [false, true].map(|host_sockets| gofer(Gofer { proc_fds: PROC_FDS, host_sockets }));
    let [gofer, with_sockets] = gofers;
    [sentry(Platform::Systrap), sentry(Platform::Ptrace), gofer, with_sockets]
}

/// Values on both sides of what a condition asks.
fn candidates(cond: &Cond) -> Vec<u64> {
    let mut values = match &cond.test {
        Test::Eq(v) | Test::Ne(v) | Test::Lt(v) | Test::Le(v) | Test::Gt(v) | Test::Ge(v) => {
            vec![*v, v.wrapping_add(1), v.wrapping_sub(1)]
        }
        Test::Masked { mask, value } => {
            let bits = (0..64).map(|bit| 1_u64 << bit).filter(|bit| mask & bit != 0);
            bits.map(|bit| value ^ bit).chain([*value, *value | !mask]).collect()
        }
        Test::In(set) => set.iter().map(|v| u64::from(*v)).chain([0xdead, u64::from(u32::MAX)]).collect(),
    };
    if cond.width == Width::Int {
        values.retain(|value| u32::try_from(*value).is_ok());
    }
    values
}

fn index(cond: &Cond) -> usize {
    match cond.field {
        Field::Arg(index) => usize::from(index),
        Field::Ip => panic!("no policy of ours looks at the instruction pointer"),
    }
}

/// Arguments that satisfy every condition of the list.
fn satisfying(nr: u32, conditions: &[Cond]) -> SeccompData {
    let mut data = SeccompData::x86_64(nr, [0; 6]);
    for cond in conditions {
        let same_argument: Vec<_> = conditions.iter().filter(|c| c.field == cond.field).collect();
        let works = |value: &u64| {
            let mut trial = data;
            trial.args[index(cond)] = *value;
            same_argument.iter().all(|c| c.holds(&trial))
        };
        let value = candidates(cond).into_iter().find(works).expect("a rule can be satisfied");
        data.args[index(cond)] = value;
    }
    data
}

#[test]
fn every_rule_lets_the_right_call_through() {
    for policy in policies() {
        let filter = policy.compile(Unexpected::Kill);
        for rule in &policy.rules {
            let empty = vec![Vec::new()];
            let alternatives = if rule.when.is_empty() { &empty } else { &rule.when };
            for conditions in alternatives {
                let data = satisfying(rule.nr, conditions);
                assert_eq!(evaluate(&filter, &data), rule.action, "{}: {} {data:?}", policy.name, rule.name);
            }
        }
    }
}

#[test]
fn every_condition_stops_the_wrong_call() {
    for policy in policies() {
        let filter = policy.compile(Unexpected::Kill);
        let mut tried = 0;
        for rule in &policy.rules {
            for conditions in &rule.when {
                for cond in conditions {
                    let right = satisfying(rule.nr, conditions);
                    let wrong = candidates(cond).into_iter().map(|value| {
                        let mut data = right;
                        data.args[index(cond)] = value;
                        data
                    });
                    let wrong: Vec<_> = wrong.filter(|data| !rule.applies(data)).collect();
                    assert!(!wrong.is_empty(), "{}: {cond:?} of {} forbids nothing", policy.name, rule.name);
                    for data in wrong {
                        assert_eq!(evaluate(&filter, &data), Action::KillProcess, "{} {data:?}", rule.name);
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 50, "{}: only {tried} wrong calls were tried", policy.name);
    }
}

#[test]
fn calls_without_a_rule_end_the_process() {
    for policy in policies() {
        let filter = policy.compile(Unexpected::Kill);
        for nr in (0..600).filter(|nr| policy.rules.iter().all(|rule| rule.nr != *nr)) {
            let answer = evaluate(&filter, &SeccompData::x86_64(nr, [0; 6]));
            assert_eq!(answer, Action::KillProcess, "{}: call {nr}", policy.name);
        }
    }
}

#[test]
fn compiled_filters_agree_with_the_rules_on_random_calls() {
    // A fixed linear congruential sequence: the same trials in every run.
    let mut state: u64 = 0x1234_5678_9abc_def1;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) & ((1 << (state >> 59)) - 1)
    };
    for policy in policies() {
        let filter = policy.compile(Unexpected::Kill);
        for _ in 0..200_000 {
            let nr = u32::try_from(next() % 460).expect("small");
            let data = SeccompData::x86_64(nr, std::array::from_fn(|_| next()));
            let expected = policy.rules.iter().find(|rule| rule.applies(&data)).map(|rule| rule.action);
            assert_eq!(evaluate(&filter, &data), expected.unwrap_or(Action::KillProcess), "{data:?}");
        }
    }
}

#[test]
fn the_sentry_has_a_narrow_door() {
    for platform in [Platform::Systrap, Platform::Ptrace] {
        let calls = sentry(platform).calls();
        assert!(calls <= SENTRY_CALLS_MAX, "{platform:?}: {calls}");
    }
    for name in
        ["open", "openat", "openat2", "execve", "execveat", "fork", "vfork", "unshare", "setns", "mount"]
    {
        for platform in [Platform::Systrap, Platform::Ptrace] {
            // A rule that only refuses, with an errno instead of death, opens nothing.
            let allowed = |rule: &Rule| rule.name == name && !matches!(rule.action, Action::Errno(_));
            assert!(!sentry(platform).rules.iter().any(allowed), "the sentry may not {name}");
        }
    }
}

/// Kinds of calls by which pages of files have been written that nobody may write, and protocols below sockets by which kernels have been
/// taken over. No optimisation is worth one: see `docs/THREAT-MODEL.md`, "Bugs of the host's kernel".
#[test]
fn no_process_moves_file_pages_or_reaches_rare_protocols() {
    let calls = [
        libc::SYS_splice,
        libc::SYS_vmsplice,
        libc::SYS_tee,
        libc::SYS_sendfile,
        libc::SYS_copy_file_range,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_mbind,
        libc::SYS_remap_file_pages,
        libc::SYS_futex_waitv,
    ];
    let families = [
        libc::AF_ALG,
        libc::AF_NETLINK,
        libc::AF_PACKET,
        libc::AF_RXRPC,
        libc::AF_KEY,
        libc::AF_VSOCK,
        libc::AF_TIPC,
    ];
    // LINUX: `linux/in.h`, `linux/in6.h`, `linux/tcp.h`.
    let (ip_xfrm_policy, ipv6_xfrm_policy, tcp_zerocopy_receive) = (17, 35, 35);
    for policy in policies() {
        for nr in calls {
            for args in [[0; 6], [1; 6]] {
                assert_eq!(answer(&policy, nr, args), Action::KillProcess, "{}: {nr}", policy.name);
            }
        }
        for family in families {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
                let args = [family, kind, 0, 0, 0, 0].map(|arg| u64::from(arg.cast_unsigned()));
                assert_eq!(
                    answer(&policy, libc::SYS_socket, args),
                    Action::KillProcess,
                    "{}: {family}",
                    policy.name
                );
            }
        }
        // Upper-layer protocols (TLS), TCP repair, transforms (xfrm), filters, zero copy.
        let options = [
            (libc::IPPROTO_TCP, libc::TCP_ULP),
            (libc::IPPROTO_TCP, libc::TCP_REPAIR),
            (libc::IPPROTO_TCP, tcp_zerocopy_receive),
            (libc::IPPROTO_IP, ip_xfrm_policy),
            (libc::IPPROTO_IPV6, ipv6_xfrm_policy),
            (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
            (libc::SOL_SOCKET, libc::SO_ZEROCOPY),
            (libc::SOL_UDP, libc::UDP_ENCAP),
        ];
        for (level, option) in options {
            let args = [3, level, option, 0, 4, 0].map(|arg| u64::from(arg.cast_unsigned()));
            assert_eq!(
                answer(&policy, libc::SYS_setsockopt, args),
                Action::KillProcess,
                "{}: {level} {option}",
                policy.name
            );
        }
    }
}

#[test]
fn nothing_is_sent_without_copying() {
    let zero_copy = u64::from(libc::MSG_ZEROCOPY.cast_unsigned());
    for policy in policies() {
        assert_eq!(answer(&policy, libc::SYS_sendmsg, [3, 0, 0x4040, 0, 0, 0]), Action::Allow);
        for (nr, args) in [
            (libc::SYS_sendmsg, [3, 0, zero_copy | 0x40, 0, 0, 0]),
            (libc::SYS_sendto, [3, 0, 1, zero_copy, 0, 0]),
            (libc::SYS_sendmmsg, [3, 0, 1, zero_copy, 0, 0]),
        ] {
            assert_eq!(answer(&policy, nr, args), Action::KillProcess, "{}: {nr}", policy.name);
        }
    }
}

#[test]
fn only_the_ptrace_platform_may_ptrace() {
    let has = |platform| sentry(platform).rules.iter().any(|rule| rule.name == "ptrace");
    assert!(has(Platform::Ptrace));
    assert!(!has(Platform::Systrap));
}

#[test]
fn the_gofer_has_no_network_and_no_stubs() {
    for policy in policies().iter().filter(|policy| policy.name == "gofer") {
        assert!(policy.rules.iter().all(|rule| !matches!(rule.door, Door::Network | Door::Stubs)));
    }
}

#[test]
fn a_gofer_connects_to_nothing_unless_a_mount_allows_it() {
    let [_, _, gofer, with_sockets] = policies();
    let unix = [u64::from(libc::AF_UNIX.cast_unsigned()), 1, 0, 0, 0, 0];
    for nr in [libc::SYS_socket, libc::SYS_connect] {
        assert_eq!(answer(&gofer, nr, unix), Action::KillProcess);
        assert_eq!(answer(&with_sockets, nr, unix), Action::Allow);
    }
}

#[test]
fn a_gofer_reopens_what_it_holds_and_opens_no_other_path() {
    let [_, _, gofer, _] = policies();
    let at = |dir: i32| [u64::from(dir.cast_unsigned()), 0, 0, 0, 0, 0];
    assert_eq!(answer(&gofer, libc::SYS_openat, at(PROC_FDS)), Action::Allow);
    let by_path =
        [u64::from(libc::AT_FDCWD.cast_unsigned()), 0, u64::from(libc::O_CLOEXEC.cast_unsigned()), 0, 0, 0];
    let enoent = Action::Errno(u16::try_from(libc::ENOENT).expect("small"));
    assert_eq!(answer(&gofer, libc::SYS_openat, by_path), enoent, "the C library's own look at the host");
    for dir in [libc::AT_FDCWD, PROC_FDS + 1, 0] {
        assert_eq!(answer(&gofer, libc::SYS_openat, at(dir)), Action::KillProcess);
    }
    for nr in
        [libc::SYS_open, libc::SYS_setuid, libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups]
    {
        assert_eq!(answer(&gofer, nr, [0; 6]), Action::KillProcess);
    }
}

fn answer(policy: &Policy, nr: libc::c_long, args: [u64; 6]) -> Action {
    let nr = u32::try_from(nr).expect("call number");
    evaluate(&policy.compile(Unexpected::Kill), &SeccompData::x86_64(nr, args))
}

#[test]
fn nothing_becomes_executable() {
    for policy in policies() {
        let anonymous = 0x22;
        assert_eq!(answer(&policy, libc::SYS_mmap, [0, 4096, 3, anonymous, u64::MAX, 0]), Action::Allow);
        assert_eq!(
            answer(&policy, libc::SYS_mmap, [0, 4096, 7, anonymous, u64::MAX, 0]),
            Action::KillProcess
        );
        assert_eq!(answer(&policy, libc::SYS_mprotect, [4096, 4096, 1, 0, 0, 0]), Action::Allow);
        assert_eq!(answer(&policy, libc::SYS_mprotect, [4096, 4096, 5, 0, 0, 0]), Action::KillProcess);
    }
}

#[test]
fn threads_start_and_processes_do_not() {
    let pthread_create = 0x3d_0f00;
    for policy in policies() {
        assert_eq!(answer(&policy, libc::SYS_clone, [pthread_create, 0, 0, 0, 0, 0]), Action::Allow);
        for flags in [17, 0x4111, pthread_create | 0x1000_0000, pthread_create & !0x1_0000] {
            assert_eq!(
                answer(&policy, libc::SYS_clone, [flags, 0, 0, 0, 0, 0]),
                Action::KillProcess,
                "{flags:#x}"
            );
        }
        let enosys = Action::Errno(u16::try_from(libc::ENOSYS).expect("small"));
        assert_eq!(answer(&policy, libc::SYS_clone3, [0; 6]), enosys);
    }
}

#[test]
fn sockets_are_internet_streams_and_datagrams() {
    let policy = sentry(Platform::Systrap);
    let socket = |family: i32, kind: i32, protocol: i32| {
        let args = [family, kind, protocol, 0, 0, 0].map(|arg| u64::from(arg.cast_unsigned()));
        answer(&policy, libc::SYS_socket, args)
    };
    assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0), Action::Allow);
    assert_eq!(
        socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, libc::IPPROTO_UDP),
        Action::Allow
    );
    for (family, kind, protocol) in [
        (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        (libc::AF_INET, libc::SOCK_STREAM, 132), // SCTP
        (libc::AF_PACKET, libc::SOCK_RAW, 0),
        (libc::AF_NETLINK, libc::SOCK_RAW, 0),
        (libc::AF_UNIX, libc::SOCK_STREAM, 0),
        (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    ] {
        assert_eq!(socket(family, kind, protocol), Action::KillProcess, "{family} {kind} {protocol}");
    }
}

#[test]
fn terminals_cannot_be_typed_into_and_files_have_no_owner_signal() {
    let policy = sentry(Platform::Systrap);
    assert_eq!(answer(&policy, libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0]), Action::KillProcess); // TIOCSTI
    assert_eq!(answer(&policy, libc::SYS_fcntl, [0, 8, 0, 0, 0, 0]), Action::KillProcess); // F_SETOWN
    assert_eq!(answer(&policy, libc::SYS_setsockopt, [3, 1, 36, 0, 4, 0]), Action::KillProcess); // SO_MARK
    assert_eq!(answer(&policy, libc::SYS_setsockopt, [3, 1, 25, 0, 4, 0]), Action::KillProcess); // SO_BINDTODEVICE
}
