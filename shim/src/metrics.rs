//! How does containerd want a cgroup's figures?
//!
//! Key function: [`message`]. Version 1 hosts get `io.containerd.cgroups.v1.Metrics`, version 2 hosts
//! `io.containerd.cgroups.v2.Metrics`; any other type makes the kubelet's whole list fail.

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::{Message, MessageField, well_known_types::any::Any};
use sandbox::cgroup::Stats;

/// Nanoseconds in a microsecond, in which version 2 counts.
const NS_PER_US: u64 = 1000;

/// The figures as containerd's message.
pub(crate) fn message(stats: &Stats, is_v2: bool) -> anyhow::Result<Any> {
    let (type_url, value) = if is_v2 {
        ("io.containerd.cgroups.v2.Metrics", version_2(stats).write_to_bytes()?)
    } else {
        ("io.containerd.cgroups.v1.Metrics", version_1(stats).write_to_bytes()?)
    };
    Ok(Any { type_url: type_url.to_owned(), value, ..Any::default() })
}

fn version_1(stats: &Stats) -> v1::Metrics {
    let throttling = &stats.cpu.throttling;
    v1::Metrics {
        pids: MessageField::some(v1::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
            ..Default::default()
        }),
        cpu: MessageField::some(v1::CPUStat {
            usage: MessageField::some(v1::CPUUsage {
                total: stats.cpu.total_ns,
                kernel: stats.cpu.system_ns,
                user: stats.cpu.user_ns,
                ..Default::default()
            }),
            throttling: MessageField::some(v1::Throttle {
                periods: throttling.periods,
                throttled_periods: throttling.throttled_periods,
                throttled_time: throttling.throttled_ns,
                ..Default::default()
            }),
            ..Default::default()
        }),
        memory: MessageField::some(memory_1(stats)),
        memory_oom_control: MessageField::some(v1::MemoryOomControl {
            oom_kill: stats.oom_kills,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn memory_1(stats: &Stats) -> v1::MemoryStat {
    let memory = &stats.memory;
    let get = |key: &str| memory.stat.get(key).copied().unwrap_or(0);
    v1::MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry(memory.limit, memory.usage, memory.max_usage, memory.failures),
        swap: entry(memory.swap_limit, memory.swap_usage, 0, 0),
        ..Default::default()
    }
}

fn entry(limit: u64, usage: u64, max: u64, failcnt: u64) -> MessageField<v1::MemoryEntry> {
    MessageField::some(v1::MemoryEntry { limit, usage, max, failcnt, ..Default::default() })
}

fn version_2(stats: &Stats) -> v2::Metrics {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let event = |key: &str| memory.events.get(key).copied().unwrap_or(0);
    v2::Metrics {
        pids: MessageField::some(v2::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
            ..Default::default()
        }),
        cpu: MessageField::some(v2::CPUStat {
            usage_usec: cpu.total_ns / NS_PER_US,
            user_usec: cpu.user_ns / NS_PER_US,
            system_usec: cpu.system_ns / NS_PER_US,
            nr_periods: cpu.throttling.periods,
            nr_throttled: cpu.throttling.throttled_periods,
            throttled_usec: cpu.throttling.throttled_ns / NS_PER_US,
            ..Default::default()
        }),
        memory: MessageField::some(memory_2(stats)),
        memory_events: MessageField::some(v2::MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: stats.oom_kills,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn memory_2(stats: &Stats) -> v2::MemoryStat {
    let memory = &stats.memory;
    let get = |key: &str| memory.stat.get(key).copied().unwrap_or(0);
    v2::MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        usage: memory.usage,
        usage_limit: memory.limit,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::cgroup::{Cpu, Memory, Pids};

    fn stats() -> Stats {
        Stats {
            cpu: Cpu { total_ns: 5000, user_ns: 3000, ..Cpu::default() },
            memory: Memory {
                usage: 100,
                limit: 200,
                stat: [("total_rss".to_owned(), 40), ("inactive_file".to_owned(), 7)].into(),
                ..Memory::default()
            },
            pids: Pids { current: 2, limit: 0 },
            oom_kills: 1,
        }
    }

    #[test]
    fn version_one_figures_survive_the_wire() {
        let any = message(&stats(), false).expect("encodes");
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let back = v1::Metrics::parse_from_bytes(&any.value).expect("decodes");
        assert_eq!((back.cpu.usage.total, back.memory.usage.usage, back.memory.total_rss), (5000, 100, 40));
        assert_eq!((back.memory_oom_control.oom_kill, back.pids.current), (1, 2));
    }

    #[test]
    fn version_two_figures_are_in_microseconds() {
        let any = message(&stats(), true).expect("encodes");
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let back = v2::Metrics::parse_from_bytes(&any.value).expect("decodes");
        assert_eq!((back.cpu.usage_usec, back.memory.usage_limit, back.memory.inactive_file), (5, 200, 7));
        assert_eq!(back.memory_events.oom_kill, 1);
    }
}
