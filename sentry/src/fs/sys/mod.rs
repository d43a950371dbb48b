//! `/sys`, `/sys/fs/cgroup` and `/dev/mqueue`: file systems that tell little and change nothing.
//!
//! [`register`] adds the kinds `sysfs` (its processors are in `processors`), `cgroup2`, `cgroup` and `mqueue`. Limits shown by the cgroup view are the sandbox's.

pub(super) mod processors;

use std::sync::Arc;

use super::pseudo::{Attributes, DirectoryNode, Fixed, Tree};
use crate::Errno;
use crate::kernel::Kernel;
use crate::vfs::{FileSystem, FileSystemType, Inode, MountRequest, StatFs};

/// A file system made of one tree that never changes.
struct StaticFs {
    name: &'static str,
    magic: u64,
    root: Arc<DirectoryNode<Fixed>>,
}

impl FileSystem for StaticFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::clone(&self.root) as Arc<dyn Inode>
    }

    fn stat_fs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { magic: self.magic, block_size: 4096, name_max: 255, ..StatFs::default() })
    }
}

/// A kind of static file system.
struct StaticType {
    name: &'static str,
    magic: u64,
    permissions: u32,
    fill: fn(&mut Tree, &Kernel),
}

impl FileSystemType for StaticType {
    fn name(&self) -> &'static str {
        self.name
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>, Errno> {
        let dev = request.kernel.vfs.new_device();
        let mut tree = Tree::new(dev);
        (self.fill)(&mut tree, request.kernel);
        let root = DirectoryNode::new(Attributes::with_ino(dev, self.permissions, 1), tree.finish());
        Ok(Arc::new(StaticFs { name: self.name, magic: self.magic, root }))
    }
}

/// Adds the kinds of file systems of this file.
pub(super) fn register(kernel: &Kernel) {
    // LINUX: include/uapi/linux/magic.h.
    let kinds = [
        StaticType { name: "sysfs", magic: 0x6265_6572, permissions: 0o555, fill: sysfs },
        StaticType { name: "cgroup2", magic: 0x6367_7270, permissions: 0o555, fill: cgroup },
        StaticType { name: "cgroup", magic: 0x6367_7270, permissions: 0o555, fill: cgroup },
        StaticType { name: "mqueue", magic: 0x1980_0202, permissions: 0o1777, fill: |_, _| {} },
    ];
    for kind in kinds {
        kernel.vfs.add_type(Arc::new(kind));
    }
}

fn sysfs(tree: &mut Tree, kernel: &Kernel) {
    processors::fill(tree, kernel);
    tree.text("kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    tree.text("kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n");
    tree.text("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n");
    tree.text(
        "kernel/mm/transparent_hugepage/shmem_enabled",
        "always within_size advise [never] deny force\n",
    );
    for dir in [
        "block",
        "bus",
        "class/net",
        "class/block",
        "class/tty",
        "dev/block",
        "dev/char",
        "devices/virtual/net",
        "firmware",
        "fs/cgroup",
        "kernel/debug",
        "kernel/security",
        "kernel/mm/hugepages",
        "module",
        "power",
    ] {
        tree.dir(dir);
    }
}

/// LINUX: Documentation/admin-guide/cgroup-v2.rst.
fn cgroup(tree: &mut Tree, kernel: &Kernel) {
    let memory = match kernel.config.memory_bytes {
        0 => "max".to_owned(),
        bytes => bytes.to_string(),
    };
    let cpu = match kernel.config.cpus {
        0 => "max 100000".to_owned(),
        cpus => format!("{} 100000", u64::from(cpus) * 100_000),
    };
    let tasks = match kernel.config.max_tasks {
        0 => "max".to_owned(),
        tasks => tasks.to_string(),
    };
    for (name, value) in [
        ("cgroup.controllers", "cpu memory pids"),
        ("cgroup.subtree_control", ""),
        ("cgroup.type", "domain"),
        ("cgroup.events", "populated 1\nfrozen 0"),
        ("memory.max", &memory),
        ("memory.high", "max"),
        ("memory.min", "0"),
        ("memory.low", "0"),
        ("memory.swap.max", "0"),
        ("memory.swap.current", "0"),
        ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0"),
        ("cpu.max", &cpu),
        ("cpu.weight", "100"),
        ("pids.max", &tasks),
    ] {
        tree.text(name, format!("{value}\n"));
    }
    tree.file("memory.current", |task| {
        Ok(format!("{}\n", super::proc::figures::resident(&task.kernel)).into_bytes())
    });
    tree.file("pids.current", |task| {
        Ok(format!("{}\n", super::proc::figures::task_count(&task.kernel)).into_bytes())
    });
    tree.file("cpu.stat", |task| {
        let (user, system) = super::proc::figures::cpu_ns(&task.kernel);
        let [user, system] = [user, system].map(|ns| ns / 1000);
        Ok(format!(
            "usage_usec {}\nuser_usec {user}\nsystem_usec {system}\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
            user + system
        )
        .into_bytes())
    });
    tree.file("cgroup.procs", |task| {
        let mut pids: Vec<i32> =
            task.process.namespace.processes().iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        Ok(pids.iter().map(|pid| format!("{pid}\n")).collect::<String>().into_bytes())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_mounts_and_lists() {
        let task = crate::testing::task();
        register(&task.kernel);
        for kind in ["sysfs", "cgroup2", "cgroup", "mqueue"] {
            let request = MountRequest {
                kernel: &task.kernel,
                pid_namespace: &task.process.namespace,
                descriptors: &task.kernel.descriptors.share("test"),
                source: b"none",
                options: "",
                uid: 0,
                gid: 0,
            };
            let file_system = task.kernel.vfs.file_system_type(kind).unwrap().mount(&request).unwrap();
            let mut count = 0;
            let root = file_system.root();
            root.read_dir(&task, 0, &mut |_| {
                count += 1;
                true
            })
            .unwrap();
            assert_eq!(count == 0, kind == "mqueue", "{kind}: {count}");
        }
    }
}
