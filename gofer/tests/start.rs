//! How a gofer starts, what it is shut into, and how it ends.

mod common;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};

use common::{Gofer, OWNER, fixture, launch, pair, wait};
use control::{GoferMount, GoferOverlay, GoferReply};
use gofer_protocol::wire::{Header, Op, VERSION};
use gofer_protocol::{Channel, Descriptors, Errno};
use rustix::net::SocketType;

#[test]
fn it_ends_quietly_when_the_sentry_goes() {
    let (status, log) = Gofer::start().close();
    assert!(status.success());
    assert_eq!(log, "");
}

#[test]
fn it_ends_although_further_channels_are_open() {
    let (_dir, config) = fixture();
    let (socket, theirs) = pair(SocketType::SEQPACKET);
    let (mut child, reply) = launch(&config, theirs);
    assert_eq!(reply, GoferReply::Ready);
    let mut first = Channel::new(socket);
    let request = Header { version: VERSION, op: Op::OpenChannel.raw(), status: 0, id: 1 };
    first.send(request, &[], None).expect("send");
    let further = first.receive(Descriptors::Accept).expect("an answer").fd.expect("a channel");
    drop(first);
    let (status, log) = wait(&mut child);
    assert_eq!((status.code(), log.as_str()), (Some(0), ""));
    drop(further);
}

#[test]
fn it_leaves_no_mounts_behind() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let (dir, mut config) = fixture();
    config.overlay = Some(GoferOverlay::default());
    let mine =
        |text: &str| text.contains(dir.path().to_str().expect("UTF-8")) || text.contains("rvisor-upper");
    let (socket, theirs) = pair(SocketType::SEQPACKET);
    let (mut child, reply) = launch(&config, theirs);
    assert_eq!(reply, GoferReply::Ready);
    assert!(!mine(&mounts()), "its mounts are in a namespace of its own");
    drop(socket);
    wait(&mut child);
    assert!(!mine(&mounts()));
}

#[test]
fn it_stands_in_a_tree_of_its_mounts_and_keeps_few_privileges() {
    let gofer = Gofer::start();
    gofer.client.attach(0).expect("mount 0");
    let proc = format!("/proc/{}", gofer.pid());
    let mut names: Vec<_> = std::fs::read_dir(format!("{proc}/root"))
        .expect("readable")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["m", "root"]);
    let mountinfo = std::fs::read_to_string(format!("{proc}/mountinfo")).expect("readable");
    let mut points: Vec<_> =
        mountinfo.lines().map(|line| line.split(' ').nth(4).expect("mount point")).collect();
    points.sort_unstable();
    assert_eq!(points, ["/", "/m/1", "/m/2", "/m/3", "/root"]);
    assert!(mountinfo.lines().all(|line| line.contains("nosuid") && line.contains("nodev")), "{mountinfo}");

    let status = std::fs::read_to_string(format!("{proc}/status")).expect("readable");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a field");
        line[name.len()..].trim().to_owned()
    };
    assert_eq!((field("CapEff:"), field("CapPrm:"), field("CapBnd:")), (kept(), kept(), kept()));
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
}

/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID are bits 0 to 4, SETGID and SETUID 6 and 7; of these, what the tests have
/// themselves.
fn kept() -> String {
    let held = rustix::thread::capabilities(None).expect("capget").permitted.bits();
    format!("{:016x}", held & 0b1101_1111)
}

#[test]
fn mounts_below_a_source_come_along_if_asked() {
    // In a mount namespace of this thread's own, which the gofer starts in, too.
    #[expect(deprecated, reason = "the other form is unsafe, because of a flag that is not used here")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).expect("as root");
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("as root");
    let gofer = Gofer::start_with(|config, dir| {
        std::fs::create_dir(dir.join("vol/below")).expect("mkdir");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("test", dir.join("vol/below"), "tmpfs", flags, None).expect("as root");
        std::fs::write(dir.join("vol/below/inside"), b"").expect("write");
        config.mounts.push(GoferMount { recursive: false, ..config.mounts[0].clone() });
    });
    let client = &gofer.client;
    let find = |mount| client.walk_many(client.attach(mount).expect("attach").0, &[b"below", b"inside"]);
    let with = find(1).expect("walk");
    assert_eq!((with.nodes.len(), with.stopped), (2, None));
    let without = find(4).expect("walk");
    assert_eq!((without.nodes.len(), without.stopped), (1, Some(Errno::ENOENT)));
    assert_ne!(with.nodes[0].1.dev, without.nodes[0].1.dev);
    rustix::mount::unmount(gofer.path("vol/below"), rustix::mount::UnmountFlags::DETACH).expect("as root");
}

#[test]
fn an_overlay_takes_the_changes_and_leaves_the_files_alone() {
    let gofer = Gofer::start_with(|config, dir| {
        config.overlay = Some(GoferOverlay { directory: None, memory_limit: "16m".to_owned() });
        std::fs::write(dir.join("root/a"), b"below").expect("write");
        std::fs::create_dir(dir.join("root/d")).expect("mkdir");
    });
    let (client, root) = (&gofer.client, gofer.root());
    assert_eq!(client.stat(root).map(|stat| stat.mode & 0o7777), Ok(0o755));
    let (file, _) = client.walk(root, b"a").expect("it is there");
    let opened = std::fs::File::from(client.open(file, 2).expect("open").fd);
    opened.write_all_at(b"ABOVE", 0).expect("write");
    client.create(root, b"new", 0o644, OWNER, 2).expect("create");
    client.unlink(root, b"d", true, None).expect("rmdir");
    let names: Vec<_> = client.read_dir(root, 0).expect("page").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    assert_eq!(std::fs::read(gofer.path("root/a")).expect("read"), b"below");
    assert!(gofer.path("root/d").is_dir());
    assert!(!gofer.path("root/new").exists());
}

#[test]
fn an_overlay_may_keep_its_changes_in_a_directory() {
    let gofer = Gofer::start_with(|config, dir| {
        // The upper directory may not itself be on an overlay: a tmpfs of the host's will do.
        let upper = dir.join("vol").to_str().expect("UTF-8").to_owned();
        config.overlay = Some(GoferOverlay { directory: Some(upper), memory_limit: String::new() });
        config.mounts.clear();
    });
    gofer.client.create(gofer.root(), b"kept", 0o644, OWNER, 2).expect("create");
    assert_eq!(std::fs::metadata(gofer.path("vol/upper/kept")).expect("it is there").uid(), 1234);
    assert!(!gofer.path("root/kept").exists());
}

#[test]
fn an_overlay_over_the_hosts_root_shows_it_and_changes_nothing() {
    let name = format!("rvisor-gofer-test-{}", std::process::id());
    let gofer = Gofer::start_with(|config, _| {
        config.root = "/".to_owned();
        config.mounts.clear();
        config.overlay = Some(GoferOverlay::default());
    });
    let (client, root) = (&gofer.client, gofer.root());
    let walked = client.walk_many(root, &[b"etc", b"passwd"]).expect("walk");
    assert_eq!(walked.stopped, None);
    assert_eq!(walked.nodes[1].1.size, std::fs::metadata("/etc/passwd").expect("it is there").len());
    let (proc, _) = client.walk(root, b"proc").expect("a directory");
    assert_eq!(client.walk(proc, b"1").err(), Some(Errno::ENOENT), "the host's procfs is not part of it");
    client.create(root, name.as_bytes(), 0o644, OWNER, 2).expect("create");
    assert!(!std::path::Path::new("/").join(&name).exists());
}

#[test]
fn a_configuration_that_cannot_be_served_is_one_line_and_an_end() {
    type Change = fn(&mut control::GoferConfig);
    let cases: [(Change, &str); 6] = [
        (|config| config.root.push_str("/missing"), "cannot open mount source"),
        (|config| config.root = "relative".to_owned(), "is not an absolute path"),
        (|config| config.root = config.mounts[2].source.clone(), "is not a directory"),
        (|config| config.mounts[0].source.push_str("/missing"), "cannot open mount source"),
        (|config| config.root.push('\0'), "cannot open mount source"),
        (
            |config| config.overlay = Some(GoferOverlay { directory: None, memory_limit: "1,mode=0".into() }),
            "is not a size",
        ),
    ];
    for (change, words) in cases {
        let (_dir, mut config) = fixture();
        change(&mut config);
        let (_socket, theirs) = pair(SocketType::SEQPACKET);
        let (mut child, reply) = launch(&config, theirs);
        let GoferReply::Failed(line) = reply else { panic!("{words}: it is ready") };
        assert!(line.contains(words) && line.lines().count() == 1, "{line}");
        let (status, log) = wait(&mut child);
        assert_eq!((status.code(), log.lines().count()), (Some(1), 1), "{log}");
    }
}

#[test]
fn a_socket_of_a_wrong_type_is_refused() {
    let (_dir, config) = fixture();
    let (_socket, theirs) = pair(SocketType::STREAM);
    let (mut child, reply) = launch(&config, theirs);
    let GoferReply::Failed(line) = reply else { panic!("it is ready") };
    assert!(line.contains("not of type SEQPACKET"), "{line}");
    assert_eq!(wait(&mut child).0.code(), Some(1));
}

#[test]
fn started_by_hand_it_says_who_should_start_it() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_rvisor-gofer")).stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(log.contains("is started by rvisor") && log.lines().count() == 1, "{log}");
}
