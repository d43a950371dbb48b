//! What is measured at a place: the C program's operations, start to finish of `true`, redis, and memory when idle.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::figures::Figures;
use crate::place::{BENCH, Place};

/// How long an idle sandbox is left alone before its memory is counted.
const SETTLE: Duration = Duration::from_millis(1500);
/// Server and client in one sandbox; prints one line per operation.
const REDIS: &str =
    "redis-server --save '' --appendonly no --port 6399 --daemonize yes --logfile /tmp/log > /dev/null
for i in $(seq 200); do redis-cli -p 6399 ping 2>/dev/null | grep -q PONG && break; sleep 0.05; done
redis-benchmark -p 6399 --csv -n 20000 -t set,get
redis-cli -p 6399 shutdown nosave > /dev/null 2>&1; true";

/// A measurement: at a place, restricted to some operations (all if none), into the figures.
pub(crate) type Subject = fn(&Place, &[String], &mut Figures) -> Result<()>;

/// All of them, in order.
pub(crate) const SUBJECTS: [Subject; 4] = [inside, run_of_true, redis, idle_memory];

fn wanted(operations: &[String], name: &str) -> bool {
    operations.is_empty() || operations.iter().any(|operation| operation == name)
}

fn inside(place: &Place, operations: &[String], figures: &mut Figures) -> Result<()> {
    let mut argv = vec![BENCH];
    argv.extend(operations.iter().map(String::as_str));
    let output = place.run(&argv)?;
    for line in output.lines() {
        let (name, value) = line.split_once(' ').with_context(|| format!("not a figure: {line}"))?;
        figures.add(name, "ns", place.name, value.parse()?);
    }
    Ok(())
}

fn run_of_true(place: &Place, operations: &[String], figures: &mut Figures) -> Result<()> {
    if wanted(operations, "run-true") {
        for _ in 0..3 {
            let begun = Instant::now();
            place.run(&["/bin/true"])?;
            figures.add("run-true", "us", place.name, begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(())
}

fn redis(place: &Place, operations: &[String], figures: &mut Figures) -> Result<()> {
    if !wanted(operations, "redis") {
        return Ok(());
    }
    let output = place.run(&["/bin/sh", "-c", REDIS])?;
    for line in output.lines() {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
        let [operation @ ("SET" | "GET"), rate, ..] = fields[..] else { continue };
        let rate: f64 = rate.parse().with_context(|| format!("not a rate: {line}"))?;
        ensure!(rate > 0.0, "redis answered nothing");
        let name = format!("redis-{}", operation.to_lowercase());
        figures.add(&name, "ns/request", place.name, 1e9 / rate);
    }
    Ok(())
}

/// Memory of every process that a sleeping sandbox consists of, shared pages in proportion.
fn idle_memory(place: &Place, operations: &[String], figures: &mut Figures) -> Result<()> {
    if !wanted(operations, "idle-memory") {
        return Ok(());
    }
    let mut child = place.command(&["/bin/sleep", "1000"])?.spawn().context("start an idle sandbox")?;
    std::thread::sleep(SETTLE);
    let counted =
        if child.try_wait()?.is_some() { Err(anyhow::anyhow!("the sleeper ended")) } else { count(&child) };
    let family = descendants(&child);
    // The sleeper first, so that the rest can clean up after it; then whatever is still there.
    let sleepers = family.iter().filter(|(_, name)| name.as_str() == "sleep").map(|(pid, _)| *pid);
    sleepers
        .chain(family.keys().copied().filter(|pid| i64::from(*pid) != i64::from(child.id())))
        .for_each(kill);
    std::thread::sleep(Duration::from_millis(300));
    if child.try_wait()?.is_none() {
        child.kill()?;
    }
    child.wait()?;
    for (name, kib) in counted? {
        figures.add(&name, "KiB", place.name, kib);
    }
    Ok(())
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have gone with its parent.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn count(child: &Child) -> Result<BTreeMap<String, f64>> {
    let mut sums = BTreeMap::new();
    for (pid, name) in descendants(child) {
        let Ok(rollup) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let line = rollup.lines().find(|line| line.starts_with("Pss:"));
        let kib: f64 = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("0").parse()?;
        *sums.entry("idle-pss-total".to_owned()).or_insert(0.0) += kib;
        *sums.entry(format!("idle-pss: {name}")).or_insert(0.0) += kib;
    }
    ensure!(!sums.is_empty(), "no process to be counted");
    Ok(sums)
}

/// Number and program name of a process and all below it.
fn descendants(child: &Child) -> BTreeMap<i32, String> {
    let mut parents = BTreeMap::new();
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let parent = tail.split_whitespace().nth(1).and_then(|field| field.parse::<i32>().ok()).unwrap_or(0);
        parents.insert(pid, parent);
        names.insert(pid, head.split_once('(').map_or(String::new(), |(_, name)| name.to_owned()));
    }
    let mut family = BTreeSet::from([i32::try_from(child.id()).unwrap_or(0)]);
    loop {
        let below = parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid);
        let grown: BTreeSet<i32> = family.iter().copied().chain(below).collect();
        if grown.len() == family.len() {
            return family.into_iter().filter_map(|pid| Some((pid, names.get(&pid)?.clone()))).collect();
        }
        family = grown;
    }
}
