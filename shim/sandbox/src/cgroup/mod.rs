//! Which cgroup is a container's, and what can be done with it, whatever the host's cgroup version?
//!
//! Key types: [`CgroupPath`] (where, as the config names it), [`Tree`] (the host's hierarchies) and [`Cgroup`]
//! (one container's directories). The files of each version are in `v1` and `v2`; figures in `stats`. Nothing
//! here needs systemd: a `slice:prefix:name` path is mapped to the directory that systemd would use. Device
//! rules are not applied: guests have no host devices to open.
//!
//! A container of a pod has one directory, in which its processes are. One without a pod brings its kernel along, and its
//! limits have to hold for both together:
//! ```text
//! PATH             the limits, as the config names them; no processes
//! ├── container    its processes: what is paused, killed and listed; memory is limited here too
//! └── sandbox      sentry and gofer
//! ```
//! Whoever reads the figures of PATH (containerd, the kubelet, a person) so reads those of container and kernel.

mod stats;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::spec::Resources;
pub use stats::{Cpu, Memory, Pids, Stats, Throttling};

/// Where the processes of a container without a pod are, below its cgroup.
const CONTAINER: &str = "container";
/// Where its sentry and gofer are.
const SANDBOX: &str = "sandbox";
/// What sentry and gofer may have besides what they keep on behalf of the guests, in bytes: a container without a pod can use all
/// the memory that it was promised.
const SANDBOX_MEMORY: i64 = 16 << 20;

/// Tasks of the host for each of a guest: its thread in the stub and the one beside it in the sentry, the stub's agent, and a pair
/// that rests. The sentry counts the guest's own tasks and keeps the limit that was asked for; the host's is only behind it.
const HOST_TASKS: i64 = 4;
/// Besides those of guests: the template, and the sentry's and the gofer's own threads.
const HOST_TASKS_BESIDES: i64 = 64;

/// Where a cgroup is, below each hierarchy's root. Never absolute, never climbs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath(PathBuf);

impl CgroupPath {
    /// Reads `linux.cgroupsPath`: a path, or systemd's `slice:prefix:name`.
    ///
    /// # Errors
    /// The reason, if it names nothing below the root.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let path = match parts[..] {
            [_] => text.trim_matches('/').to_owned(),
            [slice, prefix, name] => systemd_path(slice, prefix, name)?,
            _ => return Err(format!("{text:?} is neither a path nor slice:prefix:name")),
        };
        let climbs = path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if climbs || path.contains('\0') {
            return Err(format!("{text:?} does not name a cgroup below the root"));
        }
        Ok(Self(PathBuf::from(path)))
    }

    /// A directory in it.
    fn below(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// What a container without a pod has there, in the order in which it is to be removed.
    #[must_use]
    pub fn of_a_container_alone(&self) -> [Self; 3] {
        [self.below(CONTAINER), self.below(SANDBOX), self.clone()]
    }

    /// The path itself.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

/// LINUX: systemd.slice(5): `a-b.slice` lies in `a.slice`.
fn systemd_path(slice: &str, prefix: &str, name: &str) -> Result<String, String> {
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").ok_or_else(|| format!("{slice:?} does not end in .slice"))?;
    let mut path = String::new();
    if stem != "-" {
        let mut have = String::new();
        for part in stem.split('-') {
            if part.is_empty() {
                return Err(format!("{slice:?} has an empty part"));
            }
            if !have.is_empty() {
                have.push('-');
            }
            have.push_str(part);
            path.push_str(&format!("{have}.slice/"));
        }
    }
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, _) => format!("{prefix}-{name}.scope"),
    };
    Ok(path + &unit)
}

/// The host's cgroup hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// One hierarchy per group of controllers.
    V1(Vec<Hierarchy>),
    /// One for all.
    V2(PathBuf),
}

/// A version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers: `cpu`, `memory`, `name=systemd`, ...
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub root: PathBuf,
}

impl Tree {
    /// Finds the host's hierarchies in the mount table.
    ///
    /// # Errors
    /// The table cannot be read, or holds no cgroup mount.
    pub fn detect() -> io::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Self::from_mountinfo(&table)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted"))
    }

    /// LINUX: proc(5), mountinfo: the type, source and superblock options stand behind a lone `-`.
    fn from_mountinfo(table: &str) -> Option<Self> {
        const KNOWN: [&str; 9] =
            ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"];
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2 = None;
        for line in table.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let Some(place) = front.split(' ').nth(4) else { continue };
            let mut back = back.split(' ');
            let (kind, options) = (back.next(), back.nth(1).unwrap_or(""));
            match kind {
                Some("cgroup2") if v2.is_none() => v2 = Some(PathBuf::from(place)),
                Some("cgroup") => {
                    let known = |o: &&str| KNOWN.contains(o) || *o == "name=systemd";
                    let controllers: Vec<String> =
                        options.split(',').filter(known).map(str::to_owned).collect();
                    if !controllers.is_empty() && v1.iter().all(|h| h.controllers != controllers) {
                        v1.push(Hierarchy { controllers, root: PathBuf::from(place) });
                    }
                }
                _ => {}
            }
        }
        // In the hybrid layout the controllers that matter are in version 1.
        let useful = v1.iter().any(|h| h.controllers.iter().any(|c| c != "name=systemd"));
        if useful { Some(Self::V1(v1)) } else { v2.map(Self::V2) }
    }

    /// Makes the cgroup and applies its limits.
    ///
    /// # Errors
    /// The directories cannot be made or a limit is refused; what was made is removed again.
    pub fn create(&self, path: &CgroupPath, resources: &Resources) -> io::Result<Cgroup> {
        let cgroup = self.open(path);
        if let Err(error) = self.make(path).and_then(|()| cgroup.apply(resources)) {
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    /// Makes the cgroups of a container without a pod, with its limits on the whole: the container's, and the sandbox's,
    /// which is to be removed first.
    ///
    /// # Errors
    /// As for [`Tree::create`].
    pub fn create_alone(&self, path: &CgroupPath, resources: &Resources) -> io::Result<(Cgroup, Cgroup)> {
        let container = Cgroup { processes: path.below(CONTAINER), ..self.open(path) };
        let sandbox = self.open(&path.below(SANDBOX));
        let made = self.make(&container.processes).and_then(|()| self.make(&sandbox.path));
        if let Err(error) = made.and_then(|()| container.apply(resources)) {
            let _ = sandbox.remove();
            let _ = container.remove();
            return Err(error);
        }
        Ok((container, sandbox))
    }

    fn make(&self, path: &CgroupPath) -> io::Result<()> {
        match self {
            Self::V1(hierarchies) => v1::make(hierarchies, path),
            Self::V2(root) => v2::make(root, path),
        }
    }

    /// The cgroup at that place, whether it exists or not.
    #[must_use]
    pub fn open(&self, path: &CgroupPath) -> Cgroup {
        Cgroup { tree: self.clone(), path: path.clone(), processes: path.clone() }
    }
}

/// One container's cgroup.
#[derive(Debug, Clone)]
pub struct Cgroup {
    tree: Tree,
    /// Where its limits and figures are.
    path: CgroupPath,
    /// Where its processes are: the same, or below.
    processes: CgroupPath,
}

/// How long a cgroup may stay busy with processes that are ending. Two of them fit into the five seconds that containerd
/// gives to cleaning up.
const REMOVE_LIMIT: Duration = Duration::from_secs(2);
/// Between looks at a busy one.
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

impl Cgroup {
    /// Its path below the hierarchies' roots.
    #[must_use]
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// True for cgroup version 2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        matches!(self.tree, Tree::V2(_))
    }

    fn directories(&self, path: &CgroupPath) -> Vec<PathBuf> {
        match &self.tree {
            Tree::V1(hierarchies) => hierarchies.iter().map(|h| h.root.join(&path.0)).collect(),
            Tree::V2(root) => vec![root.join(&path.0)],
        }
    }

    /// Its processes are in a directory below, beside those of their kernel.
    fn is_alone(&self) -> bool {
        self.processes != self.path
    }

    /// Moves a process with all its threads in.
    ///
    /// # Errors
    /// The process has gone, or a hierarchy refuses.
    pub fn put(&self, pid: i32) -> io::Result<()> {
        for directory in self.directories(&self.processes) {
            write(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Applies limits; those not named stay as they are.
    ///
    /// # Errors
    /// The first limit that the host refuses, with its file's name.
    pub fn apply(&self, resources: &Resources) -> io::Result<()> {
        if !self.is_alone() {
            return self.apply_at(&self.path, &in_host_tasks(resources));
        }
        self.make_room_for_processors(resources)?;
        self.apply_at(&self.path, &in_host_tasks(&with_sandbox(resources)))?;
        let limit = resources.memory.as_ref().and_then(|memory| memory.limit).filter(|limit| *limit != 0);
        if let (Tree::V1(hierarchies), Some(limit)) = (&self.tree, limit) {
            v1::limit_sockets(hierarchies, &self.path.below(SANDBOX), limit)?;
        }
        let memory = Resources { memory: resources.memory.clone(), ..Resources::default() };
        self.apply_at(&self.processes, &memory)
    }

    fn apply_at(&self, path: &CgroupPath, resources: &Resources) -> io::Result<()> {
        match &self.tree {
            Tree::V1(hierarchies) => v1::apply(hierarchies, path, resources),
            Tree::V2(root) => v2::apply(&root.join(&path.0), resources),
        }
    }

    /// LINUX: cpusets.rst: in version 1 a directory's processors are always among its parent's, so those of the parent have to be
    /// the old and the new ones while the children change. In version 2 children follow by themselves.
    fn make_room_for_processors(&self, resources: &Resources) -> io::Result<()> {
        let Tree::V1(hierarchies) = &self.tree else { return Ok(()) };
        let Some(cpu) = &resources.cpu else { return Ok(()) };
        let sandbox = self.path.below(SANDBOX);
        for (file, new) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
            if !new.is_empty() {
                v1::widen(hierarchies, &self.path, &[&self.processes, &sandbox], file, new)?;
            }
        }
        Ok(())
    }

    /// What the kernel keeps for the container is in its figures.
    #[must_use]
    pub fn holds_kernel(&self) -> bool {
        self.is_alone()
    }

    /// What it has used.
    ///
    /// # Errors
    /// The cgroup has gone.
    pub fn stats(&self) -> io::Result<Stats> {
        match &self.tree {
            Tree::V1(hierarchies) => v1::stats(hierarchies, &self.path, &self.processes),
            Tree::V2(root) => v2::stats(&root.join(&self.path.0), &root.join(&self.processes.0)),
        }
    }

    /// How many of its processes the host has killed for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        match &self.tree {
            Tree::V1(hierarchies) => v1::oom_kills(hierarchies, &self.path),
            Tree::V2(root) => v2::oom_kills(&root.join(&self.path.0)),
        }
    }

    /// Stops or continues every process in it; returns when they have stopped.
    ///
    /// # Errors
    /// The host refuses, or they do not stop in time.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        match &self.tree {
            Tree::V1(hierarchies) => v1::freeze(hierarchies, &self.processes, frozen),
            Tree::V2(root) => v2::freeze(&root.join(&self.processes.0), frozen),
        }
    }

    /// The processes in it, as this process sees their ids.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        // Every hierarchy holds the same processes; the first that answers will do.
        self.directories(&self.processes).iter().find_map(|d| read_pids(d)).unwrap_or_default()
    }

    /// Kills every process in it, thawing them first if need be.
    pub fn kill(&self) {
        if let Tree::V2(root) = &self.tree
            && write(&root.join(&self.processes.0).join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        let _ = self.freeze(false);
        for pid in self.pids() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Removes it, waiting a little for processes that are still ending. One that is gone already is fine.
    ///
    /// # Errors
    /// It stays busy.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        let deadline = Instant::now() + REMOVE_LIMIT;
        let below = if self.is_alone() { self.directories(&self.processes) } else { Vec::new() };
        for directory in below.into_iter().chain(self.directories(&self.path)) {
            if let Err(error) = remove_directory(&directory, deadline) {
                result = Err(named(&directory, error));
            }
        }
        result
    }
}

/// The limits as the host has to keep them: for tasks of its own.
fn in_host_tasks(resources: &Resources) -> Resources {
    let mut host = resources.clone();
    let scaled = |limit: i64| limit.saturating_mul(HOST_TASKS).saturating_add(HOST_TASKS_BESIDES);
    if let Some(pids) = &mut host.pids
        && pids.limit > 0
    {
        pids.limit = scaled(pids.limit);
    }
    if let Some(limit) = host.unified.get_mut("pids.max")
        && let Ok(number) = limit.trim().parse()
    {
        *limit = scaled(number).to_string();
    }
    host
}

/// A limit of tasks as it was asked for.
fn in_guest_tasks(host: u64) -> u64 {
    host.saturating_sub(HOST_TASKS_BESIDES.unsigned_abs()) / HOST_TASKS.unsigned_abs()
}

/// The limits of a container and its kernel together.
fn with_sandbox(resources: &Resources) -> Resources {
    let mut both = resources.clone();
    if let Some(memory) = &mut both.memory {
        for limit in [&mut memory.limit, &mut memory.swap, &mut memory.reservation] {
            *limit = limit.map(|bytes| if bytes > 0 { bytes.saturating_add(SANDBOX_MEMORY) } else { bytes });
        }
    }
    both
}

fn remove_directory(directory: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        match fs::remove_dir(directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(REMOVE_PAUSE);
            }
            other => return other,
        }
    }
}

/// Processes listed in a cgroup directory. Those of a foreign pid namespace show as 0 and are not ours.
fn read_pids(directory: &Path) -> Option<Vec<i32>> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).ok()?;
    Some(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Writes a cgroup file; an error says which.
fn write(file: &Path, value: &str) -> io::Result<()> {
    fs::write(file, value).map_err(|error| named(file, error))
}

fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Files of `key value` lines.
fn read_table(file: &Path) -> std::collections::HashMap<String, u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
#[path = "cgroup_test.rs"]
mod tests;
