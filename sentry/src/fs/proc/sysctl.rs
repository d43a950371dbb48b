//! `/proc/sys`: what the sandbox's kernel can be told, and mostly what it tells.
//!
//! Values that change nothing here are kept, so that programs read back what they wrote. Those that would need the host's
//! leave are read-only. What the container's configuration has set is told in place of the value here, and where there is
//! none.

use std::sync::Arc;

use super::super::pseudo::{Attributes, Kind, Text, Tree};
use crate::Errno;
use crate::machine::{RELEASE, VERSION, random_uuid};
use crate::sysctls::Sysctls;
use crate::task::{Capability, PID_MAX, Task};

/// Longest value that is kept.
const VALUE_MAX: usize = 256;

/// Values that only tell.
const FIXED: &[(&str, &str)] = &[
    ("kernel/ostype", "Linux"),
    ("kernel/cap_last_cap", "40"),
    ("kernel/ngroups_max", "65536"),
    ("kernel/overflowuid", "65534"),
    ("kernel/overflowgid", "65534"),
    ("kernel/random/entropy_avail", "256"),
    ("kernel/random/poolsize", "256"),
    ("kernel/seccomp/actions_avail", "kill_process kill_thread trap errno user_notif trace log allow"),
    ("kernel/arch", "x86_64"),
    ("kernel/tainted", "0"),
    ("kernel/panic", "0"),
    ("kernel/core_pattern", "core"),
    ("kernel/core_uses_pid", "0"),
    ("kernel/randomize_va_space", "2"),
    ("kernel/perf_event_paranoid", "4"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "0"),
    ("kernel/unprivileged_bpf_disabled", "2"),
    ("kernel/modules_disabled", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/pty/max", "4096"),
    ("kernel/pty/nr", "0"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/yama/ptrace_scope", "0"),
    ("fs/file-max", "9223372036854775807"),
    ("fs/nr_open", "1048576"),
    ("fs/pipe-max-size", "1048576"),
    ("fs/pipe-user-pages-soft", "16384"),
    ("fs/pipe-user-pages-hard", "0"),
    ("fs/aio-max-nr", "65536"),
    ("fs/aio-nr", "0"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "2"),
    ("fs/suid_dumpable", "0"),
    ("fs/overflowuid", "65534"),
    ("fs/overflowgid", "65534"),
    ("fs/lease-break-time", "45"),
    ("fs/epoll/max_user_watches", "131072"),
    ("fs/inotify/max_user_instances", "128"),
    ("fs/inotify/max_user_watches", "65536"),
    ("fs/inotify/max_queued_events", "16384"),
    ("fs/mqueue/queues_max", "256"),
    ("fs/mqueue/msg_max", "10"),
    ("fs/mqueue/msgsize_max", "8192"),
    ("fs/mqueue/msg_default", "10"),
    ("fs/mqueue/msgsize_default", "8192"),
    ("vm/max_map_count", "65530"),
    ("vm/mmap_min_addr", "65536"),
    ("vm/nr_hugepages", "0"),
    ("vm/overcommit_kbytes", "0"),
    ("net/ipv4/ip_local_reserved_ports", ""),
    ("net/core/rmem_max", "212992"),
    ("net/core/wmem_max", "212992"),
    ("net/core/rmem_default", "212992"),
    ("net/core/wmem_default", "212992"),
    ("net/core/optmem_max", "20480"),
    ("net/core/netdev_max_backlog", "1000"),
    ("net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
    ("net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
    ("net/ipv4/tcp_mem", "19353\t25804\t38706"),
    ("net/ipv4/tcp_congestion_control", "cubic"),
    ("net/ipv4/tcp_available_congestion_control", "reno cubic"),
    ("net/ipv4/tcp_allowed_congestion_control", "reno cubic"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/lo/disable_ipv6", "0"),
];

/// Values that root of a container may write, and that are kept; `Sysctls` has those that have an effect.
const KEPT: &[(&str, &str)] = &[
    ("kernel/shmmax", "18446744073692774399"),
    ("kernel/shmall", "18446744073692774399"),
    ("kernel/shmmni", "4096"),
    ("kernel/shm_rmid_forced", "0"),
    ("kernel/sem", "32000\t1024000000\t500\t32000"),
    ("kernel/msgmax", "8192"),
    ("kernel/msgmnb", "16384"),
    ("kernel/msgmni", "32000"),
    ("kernel/sched_child_runs_first", "0"),
    ("kernel/sched_autogroup_enabled", "0"),
    ("kernel/numa_balancing", "0"),
    ("vm/overcommit_memory", "0"),
    ("vm/overcommit_ratio", "50"),
    ("vm/swappiness", "60"),
    ("vm/dirty_ratio", "20"),
    ("vm/dirty_background_ratio", "10"),
    ("vm/drop_caches", "0"),
    ("vm/min_free_kbytes", "67584"),
    ("vm/vfs_cache_pressure", "100"),
    ("vm/panic_on_oom", "0"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/ip_local_port_range", "32768\t60999"),
    ("net/ipv4/ip_unprivileged_port_start", "1024"),
    ("net/ipv4/ping_group_range", "0\t2147483647"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/tcp_fin_timeout", "60"),
    ("net/ipv4/tcp_keepalive_time", "7200"),
    ("net/ipv4/tcp_keepalive_intvl", "75"),
    ("net/ipv4/tcp_keepalive_probes", "9"),
    ("net/ipv4/tcp_max_syn_backlog", "512"),
    ("net/ipv4/tcp_tw_reuse", "2"),
    ("net/ipv4/tcp_sack", "1"),
    ("net/ipv4/tcp_timestamps", "1"),
    ("net/ipv4/tcp_window_scaling", "1"),
    ("net/ipv4/tcp_fastopen", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/forwarding", "0"),
    ("net/ipv6/bindv6only", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
];

/// Values that have files of their own below.
const OWN: [&str; 1] = ["kernel/domainname"];

pub(super) fn fill(tree: &mut Tree, set: &Sysctls) {
    for (path, value) in FIXED {
        let value = set.get(path).unwrap_or_else(|| (*value).to_owned());
        tree.text(&format!("sys/{path}"), format!("{value}\n"));
    }
    for (path, value) in KEPT {
        kept(tree, path, value);
    }
    let is_new =
        |path: &str| !OWN.contains(&path) && FIXED.iter().chain(KEPT).all(|(known, _)| *known != path);
    for path in set.paths().into_iter().filter(|path| is_new(path)) {
        let value = set.get(&path).unwrap_or_default();
        tree.text(&format!("sys/{path}"), format!("{value}\n"));
    }
    tree.text("sys/kernel/osrelease", format!("{RELEASE}\n"));
    tree.text("sys/kernel/version", format!("{VERSION}\n"));
    tree.text("sys/kernel/pid_max", format!("{PID_MAX}\n"));
    tree.text("sys/kernel/threads-max", "65536\n");
    tree.file("sys/kernel/random/uuid", |_| Ok(format!("{}\n", random_uuid()).into_bytes()));
    tree.file("sys/kernel/random/boot_id", |task: &Arc<Task>| {
        Ok(format!("{}\n", task.kernel.machine.boot_id).into_bytes())
    });
    tree.file("sys/fs/file-nr", |task: &Arc<Task>| {
        let open: usize = task
            .kernel
            .tasks
            .all()
            .iter()
            .filter_map(|process| process.any_thread())
            .map(|task| task.files().numbers().len())
            .sum();
        Ok(format!("{open}\t0\t9223372036854775807\n").into_bytes())
    });
    host_name(tree, "hostname", |task| task.uts().hostname(), |task, name| task.uts().set_hostname(name));
    host_name(
        tree,
        "domainname",
        |task| task.uts().domainname(),
        |task, name| task.uts().set_domainname(name),
    );
}

fn attributes(permissions: u32) -> Attributes {
    Attributes::new(0, permissions)
}

/// The value is kept for all who ask.
fn kept(tree: &mut Tree, path: &'static str, value: &'static str) {
    let read = move |task: &Arc<Task>| {
        let set = task.kernel.machine.sysctls.get(path);
        Ok([set.as_deref().unwrap_or(value).as_bytes(), b"\n"].concat())
    };
    let write = move |task: &Arc<Task>, bytes: &[u8]| {
        let bytes = bytes.trim_ascii();
        let is_numbers = bytes.iter().all(|byte| byte.is_ascii_digit() || b" \t-".contains(byte));
        if bytes.is_empty() || bytes.len() > VALUE_MAX || !is_numbers {
            return Err(Errno::EINVAL);
        }
        task.kernel.machine.sysctls.set(path, &String::from_utf8_lossy(bytes));
        Ok(())
    };
    tree.put(&format!("sys/{path}"), Kind::File, Text::writable(attributes(0o644), read, write));
}

fn host_name(tree: &mut Tree, name: &str, get: fn(&Arc<Task>) -> Vec<u8>, set: fn(&Arc<Task>, &[u8])) {
    let read = move |task: &Arc<Task>| Ok([&get(task)[..], b"\n"].concat());
    let write = move |task: &Arc<Task>, bytes: &[u8]| {
        if !task.credentials().has(Capability::SysAdmin) {
            return Err(Errno::EPERM);
        }
        let line = bytes.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
        set(task, &line[..line.len().min(linux_abi::misc::UTS_FIELD - 1)]);
        Ok(())
    };
    tree.put(&format!("sys/kernel/{name}"), Kind::File, Text::writable(attributes(0o644), read, write));
}
