//! Version 2: which files? LINUX: Documentation/admin-guide/cgroup-v2.rst.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::stats::{Cpu, Memory, Pids, Stats, Throttling};
use super::{CgroupPath, read_number, read_table, write};
use crate::spec::Resources;

/// How long frozen processes may take to stop, in steps of [`FREEZE_STEP`].
const FREEZE_STEPS: u32 = 500;
const FREEZE_STEP: Duration = Duration::from_millis(4);
const NS_PER_US: u64 = 1000;
/// The controllers that our limits and figures need.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// Makes the directories and switches on what controllers the host has, from the root down.
pub(super) fn make(root: &Path, path: &CgroupPath) -> io::Result<()> {
    let mut directory = root.to_path_buf();
    for part in path.as_path().components() {
        let available = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
        for controller in CONTROLLERS.iter().filter(|c| available.split_whitespace().any(|a| a == **c)) {
            // A domain with processes of its own cannot; the limit that misses the controller will say so.
            let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        directory.push(part);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(super::named(&directory, e)),
        }
    }
    Ok(())
}

/// Version 1 shares (2 to 262144) as a version 2 weight (1 to 10000), as runc and the kubelet map them.
fn weight(shares: u64) -> u64 {
    const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
    let shares = shares.clamp(*SHARES.start(), *SHARES.end());
    1 + (shares - SHARES.start()) * 9999 / (SHARES.end() - SHARES.start())
}

/// -1 is written `max`.
fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

pub(super) fn apply(directory: &Path, resources: &Resources) -> io::Result<()> {
    let set = |file: &str, value: &str| write(&directory.join(file), value);
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
            set("cpu.weight", &weight(shares).to_string())?;
        }
        let (quota, period) = (cpu.quota.filter(|q| *q != 0), cpu.period.filter(|p| *p != 0));
        match (quota, period) {
            (Some(quota), Some(period)) => set("cpu.max", &format!("{} {period}", limit(quota)))?,
            (Some(quota), None) => set("cpu.max", &limit(quota))?,
            (None, Some(period)) => {
                let now = fs::read_to_string(directory.join("cpu.max")).unwrap_or_default();
                set("cpu.max", &format!("{} {period}", now.split(' ').next().unwrap_or("max")))?;
            }
            (None, None) => {}
        }
        if !cpu.cpus.is_empty() {
            set("cpuset.cpus", &cpu.cpus)?;
        }
        if !cpu.mems.is_empty() {
            set("cpuset.mems", &cpu.mems)?;
        }
    }
    if let Some(memory) = &resources.memory {
        // Swap first when it grows together with the limit costs nothing here: the two are independent files.
        if let Some(swap) = swap_limit(memory.limit.unwrap_or(0), memory.swap.unwrap_or(0))? {
            let file = directory.join("memory.swap.max");
            if file.exists() {
                write(&file, &swap)?;
            }
        }
        if let Some(value) = memory.limit.filter(|l| *l != 0) {
            set("memory.max", &limit(value))?;
        }
        if let Some(value) = memory.reservation.filter(|r| *r != 0) {
            set("memory.low", &limit(value))?;
        }
    }
    if let Some(pids) = resources.pids.as_ref().filter(|p| p.limit != 0) {
        set("pids.max", &limit(pids.limit))?;
    }
    for (file, value) in &resources.unified {
        if file.contains('/') || !file.contains('.') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{file:?} is not a cgroup file"),
            ));
        }
        set(file, value)?;
    }
    Ok(())
}

/// The config counts memory and swap together, version 2 swap alone.
fn swap_limit(memory: i64, both: i64) -> io::Result<Option<String>> {
    match (memory, both) {
        (-1, 0) | (_, -1) => Ok(Some("max".to_owned())),
        (_, 0) => Ok(None),
        (memory, both) if memory > 0 && both >= memory => Ok(Some((both - memory).to_string())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "memory.swap is below memory.limit")),
    }
}

/// `max` is the highest number.
fn read_limit(file: &Path) -> u64 {
    match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().unwrap_or(u64::MAX),
        Err(_) => u64::MAX,
    }
}

/// Figures are those of `directory`; the limit of memory is the one of its `processes`, for which it was made.
pub(super) fn stats(directory: &Path, processes: &Path) -> io::Result<Stats> {
    if !directory.exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the cgroup has gone"));
    }
    let number = |file: &str| read_number(&directory.join(file)).unwrap_or(0);
    let cpu = read_table(&directory.join("cpu.stat"));
    let time = |key: &str| cpu.get(key).copied().unwrap_or(0);
    let events = read_table(&directory.join("memory.events"));
    let failures = events.get("max").copied().unwrap_or(0);
    let pids_limit = read_limit(&directory.join("pids.max"));
    Ok(Stats {
        cpu: Cpu {
            total_ns: time("usage_usec") * NS_PER_US,
            user_ns: time("user_usec") * NS_PER_US,
            system_ns: time("system_usec") * NS_PER_US,
            throttling: Throttling {
                periods: time("nr_periods"),
                throttled_periods: time("nr_throttled"),
                throttled_ns: time("throttled_usec") * NS_PER_US,
            },
        },
        memory: Memory {
            usage: number("memory.current"),
            max_usage: number("memory.peak"),
            limit: read_limit(&processes.join("memory.max")),
            failures,
            swap_usage: number("memory.swap.current"),
            swap_limit: read_limit(&processes.join("memory.swap.max")),
            stat: read_table(&directory.join("memory.stat")),
            events,
        },
        pids: Pids {
            current: number("pids.current"),
            limit: if pids_limit == u64::MAX { 0 } else { super::in_guest_tasks(pids_limit) },
        },
        oom_kills: oom_kills(directory),
    })
}

pub(super) fn oom_kills(directory: &Path) -> u64 {
    read_table(&directory.join("memory.events")).get("oom_kill").copied().unwrap_or(0)
}

pub(super) fn freeze(directory: &Path, frozen: bool) -> io::Result<()> {
    write(&directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    for _ in 0..FREEZE_STEPS {
        let events = read_table(&directory.join("cgroup.events"));
        if events.get("frozen").copied().unwrap_or(0) == u64::from(frozen) {
            return Ok(());
        }
        std::thread::sleep(FREEZE_STEP);
    }
    if frozen {
        write(&directory.join("cgroup.freeze"), "0")?;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the container's processes do not stop"))
}
