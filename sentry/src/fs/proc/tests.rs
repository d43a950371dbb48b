//! What a process finds in `/proc`.

use super::*;
use crate::io::VecSink;
use crate::vfs::Op;

fn mounted() -> (Arc<Task>, Arc<dyn Inode>) {
    let task = crate::testing::task();
    task.process.lock_group().threads.push(Arc::clone(&task));
    task.process.namespace.enter_task(&task);
    let file_system = ProcType
        .mount(&MountRequest {
            kernel: &task.kernel,
            pid_namespace: &task.process.namespace,
            descriptors: &task.kernel.descriptors.share("test"),
            source: b"proc",
            options: "",
            uid: 0,
            gid: 0,
        })
        .unwrap();
    (task, file_system.root())
}

fn find(task: &Arc<Task>, root: &Arc<dyn Inode>, path: &str) -> Arc<dyn Inode> {
    path.split('/').fold(Arc::clone(root), |at, name| at.lookup(task, name.as_bytes()).unwrap())
}

fn read(task: &Arc<Task>, root: &Arc<dyn Inode>, path: &str) -> String {
    let file = find(task, root, path).open(task, &task.fs().root(), 0).unwrap();
    let mut sink = VecSink::new(1 << 20);
    file.read(&Op { task, flags: 0 }, &mut sink, 0).unwrap();
    String::from_utf8(sink.bytes).unwrap()
}

#[test]
fn self_leads_to_the_reader() {
    let (task, root) = mounted();
    let Ok(LinkTarget::Path(path)) = find(&task, &root, "self").read_link(&task) else {
        panic!("not a path");
    };
    assert_eq!(path, b"1");
}

#[test]
fn status_tells_ids_and_limits_tell_limits() {
    let (task, root) = mounted();
    task.set_name(b"probe");
    let status = read(&task, &root, "1/status");
    assert!(status.starts_with("Name:\tprobe\nUmask:\t0022\nState:\tR (running)\nTgid:\t1\n"), "{status}");
    assert!(status.contains("\nVmRSS:\t"), "{status}");
    assert!(read(&task, &root, "1/limits").contains("Max open files            1024"), "limits");
}

#[test]
fn stat_has_52_fields() {
    let (task, root) = mounted();
    let stat = read(&task, &root, "1/stat");
    let rest = stat.rsplit_once(") ").unwrap().1;
    assert_eq!(rest.split_whitespace().count(), 50, "{stat}");
    assert_eq!(read(&task, &root, "1/task/1/comm"), read(&task, &root, "1/comm"));
}

#[test]
fn the_machine_tells_of_itself() {
    let (task, root) = mounted();
    assert!(read(&task, &root, "meminfo").starts_with("MemTotal:"));
    assert!(read(&task, &root, "cpuinfo").starts_with("processor\t: 0\nvendor_id\t: "));
    assert!(read(&task, &root, "stat").starts_with("cpu  "));
    assert!(read(&task, &root, "sys/kernel/osrelease").contains("rvisor"));
    assert_eq!(read(&task, &root, "sys/kernel/hostname"), "rvisor\n");
    assert!(read(&task, &root, "1/mounts").starts_with("tmpfs / tmpfs rw"));
    assert!(read(&task, &root, "1/mountinfo").contains(" / / rw - tmpfs tmpfs rw"));
}

#[test]
fn every_text_can_be_read() {
    let (task, root) = mounted();
    fn walk(task: &Arc<Task>, dir: &Arc<dyn Inode>, path: &str, count: &mut usize) {
        let mut names = Vec::new();
        dir.read_dir(task, 0, &mut |entry| {
            names.push((entry.name.to_vec(), entry.kind));
            true
        })
        .unwrap();
        for (name, kind) in names {
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            let node = dir.lookup(task, &name).unwrap_or_else(|errno| panic!("{path}: {errno:?}"));
            match kind {
                4 => walk(task, &node, &path, count),
                // Security modules would answer for those.
                8 if path.contains("/attr/") => {}
                8 if !path.ends_with("/mem") => {
                    let file = node.open(task, &task.fs().root(), 0).unwrap();
                    let mut sink = VecSink::new(1 << 20);
                    file.read(&Op { task, flags: 0 }, &mut sink, 0)
                        .unwrap_or_else(|errno| panic!("{path}: {errno:?}"));
                    *count += 1;
                }
                _ => {}
            }
        }
    }
    let mut count = 0;
    walk(&task, &root, "", &mut count);
    assert!(count > 150, "{count}");
}

#[test]
fn a_stranger_may_not_look_into_a_process() {
    let (task, root) = mounted();
    let other = crate::testing::task();
    crate::testing::become_user(&other, 1000);
    let open = |name: &str| find(&task, &root, name).open(&other, &other.fs().root(), 0);
    for name in ["1/environ", "1/auxv", "1/maps", "1/smaps", "1/mem", "1/task/1/mem"] {
        assert_eq!(open(name).err(), Some(Errno::EACCES), "{name}");
    }
    for (name, errno) in [("1/io", Errno::EACCES), ("1/personality", Errno::EPERM)] {
        let result = open(name).unwrap().read(&Op { task: &other, flags: 0 }, &mut VecSink::new(10), 0);
        assert_eq!(result, Err(errno), "{name}");
    }
    for name in ["1/cwd", "1/root", "1/exe", "1/ns/mnt", "1/task/1/cwd"] {
        assert_eq!(find(&task, &root, name).read_link(&other).err(), Some(Errno::EACCES), "{name}");
    }
}
