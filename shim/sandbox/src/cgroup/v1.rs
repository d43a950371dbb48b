//! Version 1: which files in which hierarchy? LINUX: Documentation/admin-guide/cgroup-v1/.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::stats::{Cpu, Memory, Pids, Stats, Throttling};
use super::{CgroupPath, Hierarchy, read_number, read_table, write};
use crate::spec::Resources;

/// How long frozen processes may take to stop, in steps of [`FREEZE_STEP`].
const FREEZE_STEPS: u32 = 500;
const FREEZE_STEP: Duration = Duration::from_millis(4);
/// LINUX: `USER_HZ`.
const USER_HZ: u64 = 100;
const NS_PER_S: u64 = 1_000_000_000;

fn directory(hierarchies: &[Hierarchy], path: &CgroupPath, controller: &str) -> Option<PathBuf> {
    let hierarchy = hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == controller))?;
    Some(hierarchy.root.join(path.as_path()))
}

/// Makes the directories; in `cpuset` each new level takes over its parent's processors, or no process could enter.
pub(super) fn make(hierarchies: &[Hierarchy], path: &CgroupPath) -> io::Result<()> {
    for hierarchy in hierarchies {
        let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
        let mut directory = hierarchy.root.clone();
        for part in path.as_path().components() {
            let parent = directory.clone();
            directory.push(part);
            match fs::create_dir(&directory) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(super::named(&directory, e)),
            }
            if cpuset {
                inherit_cpuset(&parent, &directory)?;
            }
        }
    }
    Ok(())
}

fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let has = fs::read_to_string(child.join(file)).unwrap_or_default();
        if has.trim().is_empty() {
            let value = fs::read_to_string(parent.join(file)).unwrap_or_default();
            write(&child.join(file), value.trim())?;
        }
    }
    Ok(())
}

pub(super) fn apply(hierarchies: &[Hierarchy], path: &CgroupPath, resources: &Resources) -> io::Result<()> {
    let set = |controller: &str, file: &str, value: String| match directory(hierarchies, path, controller) {
        Some(directory) => write(&directory.join(file), &value),
        // A host without the controller cannot keep the limit; containerd's own runtime says so too.
        None => Err(io::Error::new(io::ErrorKind::Unsupported, format!("{file}: no {controller} hierarchy"))),
    };
    if let Some(file) = resources.unified.keys().next() {
        // As runc: these are files of the other version.
        let text = format!("unified {file}: the host has cgroup version 1");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
            set("cpu", "cpu.shares", shares.to_string())?;
        }
        if let Some(period) = cpu.period.filter(|p| *p != 0) {
            // With the old quota a new period may be out of proportion for a moment; the quota follows.
            let first = set("cpu", "cpu.cfs_period_us", period.to_string());
            if let Some(quota) = cpu.quota.filter(|q| *q != 0) {
                set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
            }
            first.or_else(|_| set("cpu", "cpu.cfs_period_us", period.to_string()))?;
        } else if let Some(quota) = cpu.quota.filter(|q| *q != 0) {
            set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
        }
        if !cpu.cpus.is_empty() {
            set("cpuset", "cpuset.cpus", cpu.cpus.clone())?;
        }
        if !cpu.mems.is_empty() {
            set("cpuset", "cpuset.mems", cpu.mems.clone())?;
        }
    }
    if let Some(pids) = resources.pids.as_ref().filter(|p| p.limit != 0) {
        let limit = if pids.limit < 0 { "max".to_owned() } else { pids.limit.to_string() };
        set("pids", "pids.max", limit)?;
    }
    match directory(hierarchies, path, "memory") {
        Some(directory) => apply_memory(&directory, resources),
        None if resources.memory.as_ref().is_some_and(|m| m.limit.is_some_and(|l| l > 0)) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "memory limit: no memory hierarchy"))
        }
        None => Ok(()),
    }
}

/// Limits the buffers of sockets, which version 2 counts as memory and version 1 apart, and only where the sockets are made.
pub(super) fn limit_sockets(hierarchies: &[Hierarchy], path: &CgroupPath, limit: i64) -> io::Result<()> {
    let file = directory(hierarchies, path, "memory").map(|it| it.join("memory.kmem.tcp.limit_in_bytes"));
    match file.filter(|file| file.exists()) {
        Some(file) => write(&file, &limit.to_string()),
        None => Ok(()),
    }
}

/// The limit of memory must never be above the limit of memory and swap, so growing starts with the latter.
fn apply_memory(directory: &Path, resources: &Resources) -> io::Result<()> {
    let Some(memory) = &resources.memory else { return Ok(()) };
    let limit = memory.limit.filter(|l| *l != 0);
    // No limit of memory means none of both, unless said otherwise.
    let swap = memory.swap.filter(|s| *s != 0).or_else(|| limit.filter(|l| *l == -1));
    let swap_file = directory.join("memory.memsw.limit_in_bytes");
    let set_limit = |value: Option<i64>| match value {
        Some(value) => write(&directory.join("memory.limit_in_bytes"), &value.to_string()),
        None => Ok(()),
    };
    let set_swap = |value: Option<i64>| match value {
        Some(value) if swap_file.exists() => write(&swap_file, &value.to_string()),
        // Without swap accounting there is nothing to limit.
        _ => Ok(()),
    };
    let now = read_number(&directory.join("memory.limit_in_bytes")).unwrap_or(u64::MAX);
    let grows = swap.is_some_and(|s| s == -1 || s.unsigned_abs() > now);
    if grows {
        set_swap(swap)?;
        set_limit(limit)?;
    } else {
        set_limit(limit)?;
        set_swap(swap)?;
    }
    if let Some(value) = memory.reservation.filter(|r| *r != 0) {
        write(&directory.join("memory.soft_limit_in_bytes"), &value.to_string())?;
    }
    if let Some(value) = memory.swappiness {
        write(&directory.join("memory.swappiness"), &value.to_string())?;
    }
    if memory.disable_oom_killer == Some(true) {
        write(&directory.join("memory.oom_control"), "1")?;
    }
    Ok(())
}

/// Gives the parent the old and the new processors, then the children the new ones; the caller then gives the parent those alone.
pub(super) fn widen(
    hierarchies: &[Hierarchy],
    parent: &CgroupPath,
    children: &[&CgroupPath],
    file: &str,
    new: &str,
) -> io::Result<()> {
    let Some(parent) = directory(hierarchies, parent, "cpuset") else { return Ok(()) };
    let old = fs::read_to_string(parent.join(file)).unwrap_or_default();
    write(&parent.join(file), format!("{},{new}", old.trim()).trim_start_matches(','))?;
    for child in children.iter().filter_map(|child| directory(hierarchies, child, "cpuset")) {
        write(&child.join(file), new)?;
    }
    Ok(())
}

/// Figures are those of `path`; the limit of memory is the one of its `processes`, for which it was made.
pub(super) fn stats(
    hierarchies: &[Hierarchy],
    path: &CgroupPath,
    processes: &CgroupPath,
) -> io::Result<Stats> {
    let at = |controller: &str| directory(hierarchies, path, controller).unwrap_or_default();
    let number = |directory: &Path, file: &str| read_number(&directory.join(file)).unwrap_or(0);
    let (account, cpu, memory, pids) = (at("cpuacct"), at("cpu"), at("memory"), at("pids"));
    let limited = directory(hierarchies, processes, "memory").unwrap_or_default();
    if ![&account, &cpu, &memory, &pids].iter().any(|d| d.exists()) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the cgroup has gone"));
    }
    let ticks = read_table(&account.join("cpuacct.stat"));
    let nanoseconds = |key: &str| ticks.get(key).copied().unwrap_or(0) * (NS_PER_S / USER_HZ);
    let throttle = read_table(&cpu.join("cpu.stat"));
    let throttled = |key: &str| throttle.get(key).copied().unwrap_or(0);
    Ok(Stats {
        cpu: Cpu {
            total_ns: number(&account, "cpuacct.usage"),
            user_ns: nanoseconds("user"),
            system_ns: nanoseconds("system"),
            throttling: Throttling {
                periods: throttled("nr_periods"),
                throttled_periods: throttled("nr_throttled"),
                throttled_ns: throttled("throttled_time"),
            },
        },
        memory: Memory {
            usage: number(&memory, "memory.usage_in_bytes"),
            max_usage: number(&memory, "memory.max_usage_in_bytes"),
            limit: number(&limited, "memory.limit_in_bytes"),
            failures: number(&memory, "memory.failcnt"),
            swap_usage: number(&memory, "memory.memsw.usage_in_bytes"),
            swap_limit: number(&limited, "memory.memsw.limit_in_bytes"),
            stat: read_table(&memory.join("memory.stat")),
            events: std::collections::HashMap::new(),
        },
        pids: Pids {
            current: number(&pids, "pids.current"),
            limit: super::in_guest_tasks(number(&pids, "pids.max")),
        },
        oom_kills: oom_kills(hierarchies, path),
    })
}

/// Version 1 counts a kill where the process was, and not further up.
pub(super) fn oom_kills(hierarchies: &[Hierarchy], path: &CgroupPath) -> u64 {
    let Some(directory) = directory(hierarchies, path, "memory") else { return 0 };
    let kills = |directory: &Path| {
        read_table(&directory.join("memory.oom_control")).get("oom_kill").copied().unwrap_or(0)
    };
    let below = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    kills(&directory) + below.filter(|path| path.is_dir()).map(|path| kills(&path)).sum::<u64>()
}

pub(super) fn freeze(hierarchies: &[Hierarchy], path: &CgroupPath, frozen: bool) -> io::Result<()> {
    let Some(directory) = directory(hierarchies, path, "freezer") else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "no freezer hierarchy"));
    };
    let (file, wanted) = (directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
    for _ in 0..FREEZE_STEPS {
        // Written again each time: a task that forked meanwhile may have got away.
        write(&file, wanted)?;
        if fs::read_to_string(&file)?.trim() == wanted {
            return Ok(());
        }
        std::thread::sleep(FREEZE_STEP);
    }
    if frozen {
        write(&file, "THAWED")?;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the container's processes do not stop"))
}
