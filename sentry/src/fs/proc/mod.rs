//! `/proc`, as `proc(5)` describes it: processes and the machine as text.
//!
//! Key types: [`ProcType`] (what `mount(2)` calls), `Root` (the mount's root directory). Rooms: [`figures`] (numbers of the
//! whole sandbox), `process` (directories of processes), `status` (their texts), `mounts`, `system` (the machine),
//! `sysctl` (`/proc/sys`).

pub mod figures;
mod more;
mod mounts;
mod net;
mod process;
mod status;
mod sysctl;
mod system;

use std::sync::Arc;

pub use self::process::process_of;
use self::process::{ProcessDirectory, Subject};
pub(in crate::fs) use self::system::cpu_list;
use super::pseudo::{Attributes, Directory, DirectoryNode, Fixed, Kind, Link, Name, Tree, count};
use crate::Errno;
use crate::task::{PidNamespace, Task};
use crate::vfs::{FileSystem, FileSystemType, Inode, LinkTarget, MountRequest, StatFs};

/// LINUX: `PROC_SUPER_MAGIC`.
const MAGIC: u64 = 0x9fa0;
/// Positions of process directories come after all fixed names.
const PROCESS_BASE: u64 = 0x1_0000;

/// The kind of file system.
pub struct ProcType;

impl FileSystemType for ProcType {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>, Errno> {
        let dev = request.kernel.vfs.new_device();
        let mut tree = Tree::new(dev);
        system::fill(&mut tree);
        sysctl::fill(&mut tree, &request.kernel.machine.sysctls);
        let root = Root { fixed: tree.finish(), namespace: Arc::clone(request.pid_namespace), dev };
        Ok(Arc::new(ProcFs { root: DirectoryNode::new(Attributes::with_ino(dev, 0o555, 1), root) }))
    }
}

struct ProcFs {
    root: Arc<DirectoryNode<Root>>,
}

impl FileSystem for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::clone(&self.root) as Arc<dyn Inode>
    }

    fn stat_fs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { magic: MAGIC, block_size: 4096, name_max: 255, ..StatFs::default() })
    }
}

struct Root {
    fixed: Fixed,
    namespace: Arc<PidNamespace>,
    dev: u64,
}

impl Root {
    fn link(&self, ino: u64, target: fn(&Task) -> String) -> Arc<dyn Inode> {
        let namespace = Arc::clone(&self.namespace);
        Link::new(Attributes::with_ino(self.dev, 0o777, ino), move |task| {
            if !Arc::ptr_eq(&task.process.namespace, &namespace) {
                return Err(Errno::ENOENT);
            }
            Ok(LinkTarget::Path(target(task).into_bytes()))
        })
    }
}

impl Directory for Root {
    fn child(&self, task: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        match name {
            b"self" => return Ok(self.link(2, |task| task.process.pid.to_string())),
            b"thread-self" => {
                return Ok(self.link(3, |task| format!("{}/task/{}", task.process.pid, task.tid())));
            }
            _ => {}
        }
        if let Ok(node) = self.fixed.child(task, name) {
            return Ok(node);
        }
        let number = parse_id(name).ok_or(Errno::ENOENT)?;
        let process = self.namespace.process(number).map(Subject::process);
        let subject = process.or_else(|| self.namespace.task(number).map(Subject::by_thread));
        Ok(ProcessDirectory::node(self.dev, subject.ok_or(Errno::ENOENT)?))
    }

    /// LINUX: `proc_root_getattr`.
    fn subdirectories(&self) -> u32 {
        self.fixed.subdirectories().saturating_add(count(self.namespace.processes().iter()))
    }

    fn names(&self, task: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        let mut names = self.fixed.names(task)?;
        let next = names.len() as u64 + 1;
        for (name, position) in [("self", next), ("thread-self", next + 1)] {
            names.push(Name { name: name.into(), kind: Kind::Link, position });
        }
        let mut pids: Vec<i32> = self.namespace.processes().iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        names.extend(pids.into_iter().map(|pid| Name {
            name: pid.to_string().into_bytes(),
            kind: Kind::Directory,
            position: PROCESS_BASE + u64::try_from(pid).unwrap_or(0),
        }));
        Ok(names)
    }
}

/// A decimal number without leading zeros, as names of processes and descriptors are.
fn parse_id(name: &[u8]) -> Option<i32> {
    if name.first() == Some(&b'0') && name.len() > 1 || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
