//! A gofer over a temporary directory, for the tests: start it, talk to it, see how it ends.

// Each test binary uses a part of this.
#![allow(dead_code, reason = "shared by several test binaries")]

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use control::{Channel, GoferConfig, GoferMount, GoferReply, IdsMapped};
use gofer_protocol::{Client, Node, Ownership};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Nobody in particular.
pub const OWNER: Ownership = Ownership { uid: 1234, gid: 5678 };

/// A running gofer, killed when dropped.
pub struct Gofer {
    /// Connected to it.
    pub client: Client,
    /// Holds `root` (mount 0), `vol` (mount 1), `ro` (mount 2), `file` (mount 3, a single file), `outside` (no mount).
    pub dir: tempfile::TempDir,
    child: Child,
}

impl Gofer {
    /// A gofer over fresh directories; `change` may adapt the configuration and the directories.
    pub fn start_with(change: impl FnOnce(&mut GoferConfig, &Path)) -> Self {
        let (dir, mut config) = fixture();
        change(&mut config, dir.path());
        let (socket, theirs) = pair(SocketType::SEQPACKET);
        let (child, reply) = launch(&config, theirs);
        assert_eq!(reply, GoferReply::Ready);
        Self { client: Client::new(socket), dir, child }
    }

    /// A gofer over fresh directories.
    pub fn start() -> Self {
        Self::start_with(|_, _| {})
    }

    /// The root of the root file system.
    pub fn root(&self) -> Node {
        self.client.attach(0).expect("mount 0").0
    }

    /// A path of the host's, below the temporary directory.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Waits for it to end by itself; returns what it logged.
    pub fn ended(mut self) -> (ExitStatus, String) {
        wait(&mut self.child)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the connection and waits for the end.
    pub fn close(self) -> (ExitStatus, String) {
        let Self { client, dir, child } = &self;
        let _ = (dir, child);
        // The client cannot be moved out of a type with a destructor: shut its socket instead.
        client.with_descriptors(|fd| {
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
        });
        self.ended()
    }
}

impl Drop for Gofer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fresh directories and a configuration for them.
pub fn fixture() -> (tempfile::TempDir, GoferConfig) {
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in ["root", "vol", "ro", "outside"] {
        std::fs::create_dir(dir.path().join(name)).expect("mkdir");
    }
    std::fs::write(dir.path().join("file"), b"single").expect("write");
    std::fs::write(dir.path().join("ro/data"), b"fixed").expect("write");
    std::fs::write(dir.path().join("outside/secret"), b"secret").expect("write");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let config = GoferConfig {
        root: at("root"),
        mounts: vec![
            GoferMount { source: at("vol"), allow_host_sockets: true, ..GoferMount::default() },
            GoferMount { source: at("ro"), readonly: true, ..GoferMount::default() },
            GoferMount { source: at("file"), ..GoferMount::default() },
        ],
        ..GoferConfig::default()
    };
    (dir, config)
}

/// Starts the program and sends the configuration; its answer.
pub fn launch(config: &GoferConfig, socket: OwnedFd) -> (Child, GoferReply) {
    let (ours, theirs) = pair(SocketType::STREAM);
    let child = Command::new(env!("CARGO_BIN_EXE_rvisor-gofer"))
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the gofer starts");
    let control = Channel::new(ours);
    control.send(config, &[socket.as_fd()]).expect("the gofer listens");
    let reply = answer(&control, child.id());
    (child, reply)
}

/// What it says once it has its ids.
fn answer(control: &Channel, pid: u32) -> GoferReply {
    loop {
        let (reply, fds) = control.receive::<GoferReply>().expect("the gofer answers");
        assert!(fds.is_empty());
        if reply != GoferReply::MapIds {
            return reply;
        }
        for name in ["gid_map", "uid_map"] {
            std::fs::write(format!("/proc/{pid}/{name}"), "0 0 4294967295\n").expect("as root");
        }
        control.send(&IdsMapped, &[]).expect("the gofer listens");
    }
}

/// Waits for the end; how it ended and what it logged.
pub fn wait(child: &mut Child) -> (ExitStatus, String) {
    let mut log = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut log).expect("UTF-8");
    (child.wait().expect("it ends"), log)
}

/// A connected pair of sockets.
pub fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("socketpair")
}
