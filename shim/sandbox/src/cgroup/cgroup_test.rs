//! Both versions on a fake tree: plain directories in which the kernel's files are ordinary files.

use super::*;
use crate::spec;

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text).expect("a path")
}

#[test]
fn plain_paths_are_relative_to_the_root() {
    assert_eq!(path("/kubepods/pod1/c1").as_path(), Path::new("kubepods/pod1/c1"));
    assert_eq!(path("default/c1/").as_path(), Path::new("default/c1"));
}

#[test]
fn systemd_names_become_the_directories_of_the_slices() {
    let p = path("kubepods-besteffort-pod12_3.slice:cri-containerd:abc");
    let expected =
        "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod12_3.slice/cri-containerd-abc.scope";
    assert_eq!(p.as_path(), Path::new(expected));
    assert_eq!(path(":docker:x").as_path(), Path::new("system.slice/docker-x.scope"));
    assert_eq!(path("-.slice::x").as_path(), Path::new("x.scope"));
}

#[test]
fn paths_that_climb_or_name_the_root_are_refused() {
    for text in ["/", "", "/a/../b", "..", "a//b", "a:b", "x:y:z", "a--b.slice:p:n", "/a/./b"] {
        assert!(CgroupPath::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_container_alone_has_two_directories_below_its_own_and_they_go_first() {
    let of = |text: &str| path(text).of_a_container_alone().map(|p| p.as_path().display().to_string());
    assert_eq!(of("/default/c1"), ["default/c1/container", "default/c1/sandbox", "default/c1"]);
    assert_eq!(of(":p:x")[1], "system.slice/p-x.scope/sandbox");
}

const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

#[test]
fn a_hybrid_host_is_version_one() {
    let Some(Tree::V1(hierarchies)) = Tree::from_mountinfo(HYBRID) else { panic!("not version 1") };
    let roots: Vec<_> = hierarchies.iter().map(|h| h.controllers.join(",")).collect();
    assert_eq!(roots, ["name=systemd", "cpu,cpuacct", "memory"]);
}

#[test]
fn a_unified_host_is_version_two() {
    let table = "31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    assert_eq!(Tree::from_mountinfo(table), Some(Tree::V2("/sys/fs/cgroup".into())));
    assert_eq!(Tree::from_mountinfo("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), None);
}

fn limits() -> spec::Resources {
    spec::Resources {
        memory: Some(spec::Memory { limit: Some(1000), swap: Some(1500), ..Default::default() }),
        cpu: Some(spec::Cpu {
            shares: Some(1024),
            quota: Some(50_000),
            period: Some(100_000),
            ..Default::default()
        }),
        pids: Some(spec::Pids { limit: 7 }),
        ..Default::default()
    }
}

fn fake_v1(root: &Path) -> Tree {
    let hierarchy = |names: &[&str]| {
        let directory = root.join(names.join(","));
        fs::create_dir_all(&directory).expect("a directory");
        Hierarchy { controllers: names.iter().map(|n| (*n).to_owned()).collect(), root: directory }
    };
    Tree::V1(vec![
        hierarchy(&["cpu", "cpuacct"]),
        hierarchy(&["memory"]),
        hierarchy(&["pids"]),
        hierarchy(&["freezer"]),
    ])
}

fn read(file: PathBuf) -> String {
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn version_one_limits_go_to_their_hierarchies() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path();
    let group = root.join("memory/p/c");
    fs::create_dir_all(&group).expect("a directory");
    fs::write(group.join("memory.memsw.limit_in_bytes"), "9").expect("writable");
    let cgroup = fake_v1(root).create(&path("/p/c"), &limits()).expect("made");
    assert_eq!(read(root.join("cpu,cpuacct/p/c/cpu.shares")), "1024");
    assert_eq!(read(root.join("cpu,cpuacct/p/c/cpu.cfs_quota_us")), "50000");
    assert_eq!(read(group.join("memory.limit_in_bytes")), "1000");
    assert_eq!(read(group.join("memory.memsw.limit_in_bytes")), "1500");
    assert_eq!(read(root.join("pids/p/c/pids.max")), (7 * HOST_TASKS + HOST_TASKS_BESIDES).to_string());
    cgroup.put(42).expect("written");
    assert_eq!(read(root.join("freezer/p/c/cgroup.procs")), "42");
    assert_eq!(cgroup.pids(), [42]);
    assert_eq!(cgroup.stats().expect("there").pids.limit, 7, "as it was asked for");
}

#[test]
fn limits_of_a_container_alone_hold_for_its_kernel_too_in_version_one() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path();
    let (container, sandbox) = fake_v1(root).create_alone(&path("/p/c"), &limits()).expect("made");
    assert_eq!(read(root.join("cpu,cpuacct/p/c/cpu.cfs_quota_us")), "50000");
    assert!(!root.join("cpu,cpuacct/p/c/container/cpu.cfs_quota_us").exists());
    assert_eq!(read(root.join("memory/p/c/memory.limit_in_bytes")), (1000 + SANDBOX_MEMORY).to_string());
    assert_eq!(read(root.join("memory/p/c/container/memory.limit_in_bytes")), "1000");
    assert!(!root.join("memory/p/c/sandbox/memory.limit_in_bytes").exists());
    container.put(42).expect("written");
    sandbox.put(43).expect("written");
    assert_eq!(read(root.join("freezer/p/c/container/cgroup.procs")), "42");
    assert_eq!(read(root.join("freezer/p/c/sandbox/cgroup.procs")), "43");
    assert!(!root.join("memory/p/c/cgroup.procs").exists());
    assert_eq!(container.pids(), [42]);
    let file = root.join("freezer/p/c/container/freezer.state");
    container.freeze(true).expect("frozen");
    assert_eq!(read(file), "FROZEN");
    // Figures are those of both, the limit is the container's; kills are counted where they were.
    let put = |file: &str, text: &str| fs::write(root.join(file), text).expect("writable");
    put("memory/p/c/memory.usage_in_bytes", "77\n");
    put("memory/p/c/memory.oom_control", "oom_kill 0\n");
    put("memory/p/c/container/memory.oom_control", "oom_kill 2\n");
    put("memory/p/c/sandbox/memory.oom_control", "oom_kill 1\n");
    let stats = container.stats().expect("there");
    assert_eq!((stats.memory.usage, stats.memory.limit, stats.oom_kills), (77, 1000, 3));
}

#[test]
fn processors_of_a_container_alone_change_from_the_bottom_up() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path();
    fs::write(root.join("cpuset.cpus"), "0-7\n").expect("writable");
    fs::write(root.join("cpuset.mems"), "0\n").expect("writable");
    let hierarchy = Hierarchy { controllers: vec!["cpuset".to_owned()], root: root.to_path_buf() };
    let on = |cpus: &str| spec::Resources {
        cpu: Some(spec::Cpu { cpus: cpus.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let (container, _) = Tree::V1(vec![hierarchy]).create_alone(&path("/c"), &on("0-1")).expect("made");
    container.apply(&on("2")).expect("moved");
    for directory in ["c", "c/container", "c/sandbox"] {
        assert_eq!(read(root.join(directory).join("cpuset.cpus")), "2", "{directory}");
    }
}

#[test]
fn version_one_figures_are_read_from_their_hierarchies() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path();
    let cgroup = fake_v1(root).create(&path("/c"), &spec::Resources::default()).expect("made");
    let put = |file: &str, text: &str| fs::write(root.join(file), text).expect("writable");
    put("cpu,cpuacct/c/cpuacct.usage", "123456\n");
    put("cpu,cpuacct/c/cpuacct.stat", "user 3\nsystem 4\n");
    put("cpu,cpuacct/c/cpu.stat", "nr_periods 5\nnr_throttled 6\nthrottled_time 7\n");
    put("memory/c/memory.usage_in_bytes", "4096\n");
    put("memory/c/memory.stat", "total_rss 11\ntotal_inactive_file 12\n");
    put("memory/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    put("pids/c/pids.current", "3\n");
    put("pids/c/pids.max", "max\n");
    let stats = cgroup.stats().expect("there");
    assert_eq!(
        (stats.cpu.total_ns, stats.cpu.user_ns, stats.cpu.system_ns),
        (123_456, 30_000_000, 40_000_000)
    );
    assert_eq!(stats.cpu.throttling.throttled_periods, 6);
    assert_eq!((stats.memory.usage, stats.memory.stat["total_rss"]), (4096, 11));
    assert_eq!((stats.pids.current, stats.pids.limit, stats.oom_kills), (3, 0, 2));
}

#[test]
fn version_two_limits_are_translated() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path();
    fs::write(root.join("cgroup.controllers"), "cpu memory pids\n").expect("writable");
    let group = root.join("p/c");
    fs::create_dir_all(&group).expect("a directory");
    fs::write(group.join("memory.swap.max"), "max").expect("writable");
    let tree = Tree::V2(root.to_path_buf());
    let cgroup = tree.create(&path("/p/c"), &limits()).expect("made");
    assert_eq!(read(root.join("cgroup.subtree_control")), "+pids");
    assert_eq!(read(group.join("cpu.weight")), "39");
    assert_eq!(read(group.join("cpu.max")), "50000 100000");
    assert_eq!(read(group.join("memory.max")), "1000");
    assert_eq!(read(group.join("memory.swap.max")), "500");
    assert_eq!(read(group.join("pids.max")), (7 * HOST_TASKS + HOST_TASKS_BESIDES).to_string());
    let none = spec::Resources {
        memory: Some(spec::Memory { limit: Some(-1), ..Default::default() }),
        ..Default::default()
    };
    cgroup.apply(&none).expect("written");
    assert_eq!(read(group.join("memory.max")), "max");
    assert_eq!(read(group.join("pids.max")), (7 * HOST_TASKS + HOST_TASKS_BESIDES).to_string());
}

#[test]
fn limits_of_a_container_alone_hold_for_its_kernel_too_in_version_two() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path();
    let (container, sandbox) =
        Tree::V2(root.to_path_buf()).create_alone(&path("/c"), &limits()).expect("made");
    assert_eq!(read(root.join("c/memory.max")), (1000 + SANDBOX_MEMORY).to_string());
    assert_eq!(read(root.join("c/container/memory.max")), "1000");
    assert_eq!(read(root.join("c/cpu.max")), "50000 100000");
    assert!(!root.join("c/container/cpu.max").exists() && !root.join("c/sandbox/memory.max").exists());
    container.put(42).expect("written");
    sandbox.put(43).expect("written");
    // LINUX: cgroup-v2.rst: a directory with controllers for its children has no processes of its own.
    assert!(!root.join("c/cgroup.procs").exists());
    container.kill();
    assert_eq!(read(root.join("c/container/cgroup.kill")), "1");
    let put = |file: &str, text: &str| fs::write(root.join(file), text).expect("writable");
    put("c/memory.current", "77\n");
    put("c/memory.events", "oom_kill 2\n");
    let stats = container.stats().expect("there");
    assert_eq!((stats.memory.usage, stats.memory.limit, stats.oom_kills), (77, 1000, 2));
    let none = spec::Resources {
        memory: Some(spec::Memory { limit: Some(-1), ..Default::default() }),
        ..Default::default()
    };
    container.apply(&none).expect("written");
    assert_eq!(
        (read(root.join("c/memory.max")), read(root.join("c/container/memory.max"))),
        ("max".into(), "max".into())
    );
}

#[test]
fn version_two_figures_are_in_nanoseconds_and_bytes() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path();
    let cgroup = Tree::V2(root.to_path_buf()).create(&path("/c"), &spec::Resources::default()).expect("made");
    let put = |file: &str, text: &str| fs::write(root.join("c").join(file), text).expect("writable");
    put("cpu.stat", "usage_usec 10\nuser_usec 4\nsystem_usec 6\nnr_throttled 1\nthrottled_usec 2\n");
    put("memory.current", "8192\n");
    put("memory.max", "max\n");
    put("memory.events", "low 0\nmax 3\noom 1\noom_kill 1\n");
    let stats = cgroup.stats().expect("there");
    assert_eq!((stats.cpu.total_ns, stats.cpu.throttling.throttled_ns), (10_000, 2000));
    assert_eq!((stats.memory.usage, stats.memory.limit, stats.memory.failures), (8192, u64::MAX, 3));
    assert_eq!(stats.oom_kills, 1);
}

#[test]
fn unified_entries_cannot_leave_the_directory() {
    let temporary = tempfile::tempdir().expect("a directory");
    let cgroup = Tree::V2(temporary.path().to_path_buf()).open(&path("/c"));
    fs::create_dir(temporary.path().join("c")).expect("a directory");
    let unified = [("../cgroup.procs".to_owned(), "1".to_owned())].into();
    let error = cgroup.apply(&spec::Resources { unified, ..Default::default() }).expect_err("climbs");
    assert!(error.to_string().contains("not a cgroup file"), "{error}");
}

#[test]
fn figures_of_a_cgroup_that_is_gone_are_an_error() {
    let temporary = tempfile::tempdir().expect("a directory");
    assert!(Tree::V2(temporary.path().to_path_buf()).open(&path("/c")).stats().is_err());
    assert!(fake_v1(temporary.path()).open(&path("/c")).stats().is_err());
    assert!(fake_v1(temporary.path()).open(&path("/c")).remove().is_ok());
}
