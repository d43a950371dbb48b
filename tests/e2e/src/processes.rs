//! Which host processes belong to a container, and which part each of them plays.
//!
//! Key types: [`Process`], [`Role`]. Read from /proc; a process that ends meanwhile is simply not there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// The parts of a sandbox that can be killed from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// containerd's shim.
    Shim,
    /// The kernel of the sandbox.
    Sentry,
    /// The broker of the container's files.
    Gofer,
    /// The pristine stub from which others are forked.
    Template,
    /// The host process of a guest process.
    Stub,
    /// Who cleans up after the shim.
    Guard,
}

impl Role {
    /// All but the guard, whose death ends nothing.
    pub const ALL: [Self; 5] = [Self::Shim, Self::Sentry, Self::Gofer, Self::Template, Self::Stub];

    /// The word in a case's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Shim => "shim",
            Self::Sentry => "sentry",
            Self::Gofer => "gofer",
            Self::Template => "template",
            Self::Stub => "stub",
            Self::Guard => "guard",
        }
    }
}

/// A host process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name, as in /proc/PID/comm.
    pub name: String,
    /// Its command line, arguments separated by spaces.
    pub line: String,
}

impl Process {
    /// Sends SIGKILL.
    ///
    /// # Errors
    /// When it has gone already.
    pub fn kill(&self) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("pid 0")?;
        kill_process(pid, Signal::KILL).with_context(|| format!("kill {} ({})", self.pid, self.name))
    }

    /// How many descriptors it has, and KiB of memory of its own.
    ///
    /// # Errors
    /// When it has gone.
    pub fn figures(&self) -> Result<(usize, u64)> {
        let directory = Path::new("/proc").join(self.pid.to_string());
        let descriptors = std::fs::read_dir(directory.join("fd")).with_context(|| self.name.clone())?.count();
        let rollup = std::fs::read_to_string(directory.join("smaps_rollup"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Ok((descriptors, kib.context("no Private_Dirty")?))
    }
}

fn read(pid: i32) -> Option<Process> {
    let directory = Path::new("/proc").join(pid.to_string());
    let stat = std::fs::read_to_string(directory.join("stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let mut fields = tail.split_whitespace();
    // A zombie runs nothing and holds nothing.
    if fields.next()? == "Z" {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let name = head.split_once('(')?.1.to_owned();
    let line = std::fs::read(directory.join("cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
    Some(Process { pid, parent, name, line })
}

/// Every process of the host, by number.
#[must_use]
pub fn all() -> BTreeMap<i32, Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

/// The process with that number, unless it is gone or a zombie.
#[must_use]
pub fn of_pid(pid: u32) -> Option<Process> {
    read(pid.try_into().ok()?)
}

/// Number, cgroups and command line of every process.
#[must_use]
pub fn all_with_cgroups() -> Vec<(i32, String, String)> {
    let own = i32::try_from(std::process::id()).expect("pids are small");
    let others = all().into_values().filter(|process| process.pid != own);
    others
        .map(|process| {
            let cgroups =
                std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap_or_default();
            (process.pid, cgroups, format!("{} ({})", process.line, process.name))
        })
        .collect()
}

/// The shim of container `id` and everything below it.
#[must_use]
pub fn of_container(id: &str) -> Vec<Process> {
    let everything = all();
    let is_shim =
        |p: &&Process| p.line.contains("containerd-shim") && p.line.split(' ').any(|word| word == id);
    let mut members: BTreeSet<i32> = everything.values().filter(is_shim).map(|p| p.pid).collect();
    loop {
        let below = everything.values().filter(|p| members.contains(&p.parent)).map(|p| p.pid);
        let grown: BTreeSet<i32> = members.iter().copied().chain(below).collect();
        if grown.len() == members.len() {
            return members.iter().map(|pid| everything[pid].clone()).collect();
        }
        members = grown;
    }
}

/// The process of container `id` that plays `role`, if there is one now.
#[must_use]
pub fn find(id: &str, role: Role) -> Option<Process> {
    let members = of_container(id);
    let named = |text: &str| members.iter().find(|p| p.line.contains(text)).cloned();
    // Stubs are forked from the sentry and may carry its name; the sentry itself is not below one of that name.
    let sentry = || {
        let named: Vec<_> = members.iter().filter(|p| p.line.contains("rvisor-sentry")).collect();
        named.iter().find(|p| named.iter().all(|other| other.pid != p.parent)).map(|p| (*p).clone())
    };
    let below_sentry = || {
        let sentry = sentry()?;
        let mut children: Vec<_> = members.iter().filter(|p| p.parent == sentry.pid).cloned().collect();
        children.sort_by_key(|p| p.pid);
        Some(children)
    };
    match role {
        // Not the guard of its socket's name.
        Role::Shim => members
            .iter()
            .find(|p| p.line.contains("containerd-shim") && !p.line.ends_with(" guard"))
            .cloned(),
        Role::Guard => {
            // It is nobody's child.
            let names = |p: &&Process| p.line.ends_with(" guard") && p.line.split(' ').any(|word| word == id);
            all().values().find(names).cloned()
        }
        Role::Sentry => sentry(),
        Role::Gofer => named("rvisor-gofer"),
        // The sentry's first stub, from which templates are forked; the container's template; then the stubs that run
        // guest code.
        Role::Template => below_sentry()?.into_iter().nth(1),
        Role::Stub => below_sentry()?.into_iter().nth(2),
    }
}
