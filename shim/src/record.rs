//! What must be known on disk, so that a pod can be cleaned up when its server has been killed?
//!
//! Key type: [`Record`], a small file in each container's bundle, and [`clean`], which undoes what it names. The
//! pod's first container also lists the bundles of the others. Processes are named by pid and start time, so that a
//! reused pid is left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};
use sandbox::cgroup::{CgroupPath, Tree};
use sandbox::rootfs;
use serde::{Deserialize, Serialize};

/// Name of the file in the bundle.
const NAME: &str = "rvisor.json";

/// What one container has on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// Its cgroups, and the sandbox's if it is the pod's first.
    pub(crate) cgroups: Vec<String>,
    /// Its gofer, and the sentry if it is the pod's first.
    pub(crate) processes: Vec<Process>,
    /// The other containers of the pod, for the first.
    pub(crate) members: Vec<PathBuf>,
}

/// A process that was ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
}

impl Process {
    /// A living process.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)? })
    }

    fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            return;
        };
        // The pidfd pins whatever has the number now; is it still the one that was ours?
        if start_time(self.pid) == Some(self.start_time) {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
}

/// LINUX: proc(5): the 22nd field of stat, counted from behind the name, which may hold anything.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Record {
    /// The record of a bundle, if it has one.
    pub(crate) fn load(bundle: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(bundle.join(NAME)).ok()?).ok()
    }

    /// Where it is kept, for messages.
    pub(crate) fn place(bundle: &Path) -> String {
        bundle.join(NAME).display().to_string()
    }

    /// Writes it, whole or not at all.
    pub(crate) fn store(&self, bundle: &Path) -> io::Result<()> {
        let temporary = bundle.join(format!(".{NAME}"));
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(temporary, bundle.join(NAME))
    }

    /// Kills the processes and removes the cgroups with whatever is in them.
    pub(crate) fn undo(&self) {
        for process in &self.processes {
            process.kill();
        }
        let Ok(tree) = Tree::detect() else { return };
        for path in self.cgroups.iter().filter_map(|path| CgroupPath::parse(path).ok()) {
            let cgroup = tree.open(&path);
            cgroup.kill();
            let _ = cgroup.remove();
        }
    }

    /// Forgets it: the container has been deleted in good order.
    pub(crate) fn remove(bundle: &Path) {
        let _ = fs::remove_file(bundle.join(NAME));
    }
}

/// Undoes what a bundle's record names, and those of its pod's other containers.
pub(crate) fn clean(bundle: &Path) {
    let record = Record::load(bundle).unwrap_or_default();
    for member in &record.members {
        if member != bundle {
            clean(member);
        }
    }
    record.undo();
    rootfs::unmount(bundle);
    Record::remove(bundle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_gone_when_removed() {
        let bundle = tempfile::tempdir().expect("a directory");
        let record = Record {
            cgroups: vec!["/a/b".to_owned()],
            processes: Process::of(1).into_iter().collect(),
            members: vec!["/x".into()],
        };
        record.store(bundle.path()).expect("written");
        assert_eq!(Record::load(bundle.path()), Some(record));
        Record::remove(bundle.path());
        assert_eq!(Record::load(bundle.path()), None);
    }

    #[test]
    fn cleaning_kills_our_process_but_not_one_that_took_its_number() {
        let sleeper = || std::process::Command::new("sleep").arg("100").spawn().expect("started");
        let bundle = tempfile::tempdir().expect("a directory");
        let (mut ours, mut other) = (sleeper(), sleeper());
        let named = |child: &std::process::Child| {
            Process::of(i32::try_from(child.id()).expect("a pid")).expect("alive")
        };
        let stranger = Process { start_time: 1, ..named(&other) };
        Record { processes: vec![named(&ours), stranger], ..Record::default() }
            .store(bundle.path())
            .expect("written");
        clean(bundle.path());
        assert!(!ours.wait().expect("ended").success());
        assert!(other.try_wait().expect("looked").is_none());
        other.kill().expect("killed");
        other.wait().expect("ended");
    }
}
