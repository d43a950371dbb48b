//! How does every place get the same share of a busy machine? By one cgroup around all of them.
//!
//! Key type: [`Share`]. runc puts its containers into a cgroup of their own, which weighs as much as everything else on
//! the machine together; without this, other work would slow every place but that one. Only where the version 1
//! `cpu` hierarchy is mounted; elsewhere it does nothing.

use std::path::PathBuf;

const HIERARCHY: &str = "/sys/fs/cgroup/cpu";

/// This process and its children stand in their own cgroup until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    own: PathBuf,
    before: PathBuf,
}

impl Share {
    /// Makes the cgroup and enters it; `None` where that cannot be done.
    pub(crate) fn enter() -> Option<Self> {
        let hierarchy = PathBuf::from(HIERARCHY);
        let lines = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let line = lines
            .lines()
            .find(|line| line.split(':').nth(1).is_some_and(|s| s.split(',').any(|c| c == "cpu")))?;
        let before = hierarchy.join(line.splitn(3, ':').nth(2)?.trim_start_matches('/'));
        let own = hierarchy.join(format!("rvisor-bench-{}", std::process::id()));
        std::fs::create_dir_all(&own).ok()?;
        let share = Self { own, before };
        std::fs::write(share.own.join("cgroup.procs"), std::process::id().to_string()).ok()?;
        Some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Best effort: an empty cgroup that stays costs nothing.
        let _ = std::fs::write(self.before.join("cgroup.procs"), std::process::id().to_string());
        // runc leaves the parents of its cgroups in every hierarchy.
        let name = self.own.file_name().map(PathBuf::from).unwrap_or_default();
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let parent = hierarchy.path().join(&name);
            let _ = std::fs::remove_dir(parent.join("runc"));
            let _ = std::fs::remove_dir(parent);
        }
    }
}
