//! What a run may not leave on the host: mounts, cgroups, network namespaces, processes, sockets.
//!
//! Key type: [`Snapshot`]. Only things that can be told to be this run's are looked at (they carry its mark in
//! their path, or stand in its cgroup), so that other work on the machine does not disturb.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Where containerd's client library puts shim sockets, whatever containerd's own directories are.
const SHIM_SOCKETS: &str = "/run/containerd/s";

/// Things on the host that carry a run's mark, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks for everything with `mark` in it, and for dead shim sockets if `sockets` (runc's shim leaves its own
    /// when it is killed).
    #[must_use]
    pub fn take(mark: &str, sockets: bool) -> Self {
        let mut found = BTreeSet::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if point.contains(mark) {
                found.insert(format!("mount {point}"));
            }
        }
        for name in names(Path::new("/run/netns")) {
            if name.contains(mark) {
                found.insert(format!("network namespace {name}"));
            }
        }
        walk_cgroups(Path::new("/sys/fs/cgroup"), 4, mark, &mut found);
        for (pid, cgroup, line) in crate::processes::all_with_cgroups() {
            if cgroup.contains(mark) || line.contains(mark) {
                found.insert(format!("process {pid} {line}"));
            }
        }
        for name in names(Path::new(SHIM_SOCKETS)).into_iter().filter(|_| sockets) {
            let path = Path::new(SHIM_SOCKETS).join(&name);
            // Live sockets belong to whoever listens; a dead one is litter.
            if !is_listened_to(&path) {
                found.insert(format!("dead socket {}", path.display()));
            }
        }
        Self(found)
    }

    /// What is here and was not there.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Whether someone listens there; asked without waiting, for a listener that never accepts has a full queue some day.
fn is_listened_to(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else { return true };
    let Ok(address) = SocketAddrUnix::new(path) else { return true };
    matches!(connect(&socket, &address), Ok(()) | Err(rustix::io::Errno::AGAIN))
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn walk_cgroups(directory: &Path, depth: usize, mark: &str, found: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if path.to_string_lossy().contains(mark) {
            found.insert(format!("cgroup {}", path.display()));
        }
        if depth > 0 {
            walk_cgroups(&path, depth - 1, mark, found);
        }
    }
}
