//! How does `start` answer: with the address of a server for this container?
//!
//! Key function: [`start`]. A pod's containers share a server, found by the annotation that groups them. The
//! server is this program again, with the bound socket as its stdin. No runtime is set up here: it is on the path
//! of every pod's start. containerd 2.3 asks in protobuf and gets API version 3; older ones get the bare address,
//! which means version 2. Nothing but the answer may be written: containerd reads stderr too.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sandbox::plan;
use seccomp::jail::{Jail, Namespaces, Privileges, Root};
use sha2::{Digest, Sha256};

use crate::flags::Flags;

/// Where containerd's shims have their sockets.
const SOCKET_DIRECTORY: &str = "/run/containerd/s";
/// LINUX: unix(7): 108 bytes with the final zero.
const SOCKET_PATH_MAX: usize = 106;
/// More than this on stdin is not ours.
const PARAMS_MAX: u64 = 4 << 20;
/// What the server may know of our environment.
const KEPT: [&str; 5] = ["PATH", "TTRPC_ADDRESS", "RVISOR_SENTRY", "RVISOR_GOFER", "RUST_BACKTRACE"];

/// Finds or starts the server and prints its address.
pub(crate) fn start(flags: &Flags) -> anyhow::Result<()> {
    let params = read_params(&flags.id, io::stdin().lock())?;
    let bundle = std::env::current_dir().context("bundle")?;
    let spec = plan::read_spec(&bundle)?;
    let group = plan::group(&flags.id, &spec);
    plan::check_id(&group)?;
    let directory = params.as_ref().and_then(|p| p.socket_dir.clone()).unwrap_or_default();
    let directory = if directory.is_empty() { SOCKET_DIRECTORY.to_owned() } else { directory };
    let socket = socket_path(Path::new(&directory), &flags.address, &flags.namespace, &group)?;
    if !is_served(&socket) {
        make_directory(&socket)?;
        serve_in_background(flags, &group, &params, &socket)?;
    }
    let address = format!("unix://{}", socket.display());
    write_address(&bundle, &address)?;
    answer(&address, params.is_some())
}

/// The 2.3 protocol's parameters, if that is what stdin holds. Before, it holds the runtime's options, or nothing;
/// what tells them apart is that the parameters start with our id.
fn read_params(id: &str, stdin: impl Read) -> anyhow::Result<Option<BootstrapParams>> {
    let mut bytes = Vec::new();
    stdin.take(PARAMS_MAX).read_to_end(&mut bytes).context("stdin")?;
    let params = BootstrapParams::parse_from_bytes(&bytes).ok();
    Ok(params.filter(|params| !bytes.is_empty() && params.instance_id == id))
}

/// One address for each containerd, namespace and group.
fn socket_path(directory: &Path, address: &str, namespace: &str, group: &str) -> anyhow::Result<PathBuf> {
    let digest = Sha256::digest(format!("{address}/{namespace}/{group}"));
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join(name);
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        bail!("socket directory {} is too long", directory.display());
    }
    Ok(path)
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).context("socket directory")
}

/// True if somebody listens there.
fn is_served(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Gives the socket its name, taking over one that nobody serves: left by a server that was killed.
fn bind(socket: &OwnedFd, path: &Path) -> anyhow::Result<()> {
    /// Connections that wait to be accepted.
    const BACKLOG: i32 = 128;
    let name = || format!("socket {}", path.display());
    let address = SocketAddrUnix::new(path).with_context(name)?;
    match rustix::net::bind(socket, &address) {
        Err(rustix::io::Errno::ADDRINUSE) if !is_served(path) => {
            fs::remove_file(path).context("remove an old socket")?;
            rustix::net::bind(socket, &address).with_context(name)?;
        }
        other => other.with_context(name)?,
    }
    rustix::net::listen(socket, BACKLOG).with_context(name)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("socket permissions")
}

/// Starts this program again as the server, in a session of its own, with no descriptors but the socket.
///
/// The server waits ready before the socket gets its name, so that there is next to no time in which killing this
/// process leaves a name behind that nobody serves.
fn serve_in_background(
    flags: &Flags,
    group: &str,
    params: &Option<BootstrapParams>,
    path: &Path,
) -> anyhow::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("socket")?;
    let program = File::open("/proc/self/exe").context("own program")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    let text = |s: &str| CString::new(s).context("a zero byte in the arguments");
    let mut args = vec![text("containerd-shim-rvisor-v2")?];
    for (name, value) in
        [("-namespace", &flags.namespace), ("-id", &group.to_owned()), ("-address", &flags.address)]
    {
        args.extend([text(name)?, text(value)?]);
    }
    if flags.debug || params.as_ref().is_some_and(|p| p.log_level.value() < 0) {
        args.push(text("-debug")?);
    }
    let mut env: Vec<(String, String)> =
        KEPT.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
    if let Some(address) = params.as_ref().map(|p| &p.containerd_ttrpc_address).filter(|a| !a.is_empty()) {
        env.retain(|(name, _)| name != "TTRPC_ADDRESS");
        env.push(("TTRPC_ADDRESS".to_owned(), address.clone()));
    }
    let jail = Jail {
        program: program.as_fd(),
        args,
        env: env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<_, _>>()?,
        fds: vec![socket.as_fd(), null.as_fd(), null.as_fd()],
        namespaces: Namespaces::NONE,
        root: Root::Inherited,
        privileges: Privileges::Inherited,
        die_with_parent: false,
    };
    let held = jail.prepare().context("start the server")?;
    be_killed_before_containerd(held.pid());
    bind(&socket, path)?;
    let released = held.release().context("start the server");
    // From now on only the server holds the socket; if it has been killed meanwhile, nobody does.
    drop(socket);
    match released {
        Ok(_) if is_served(path) => Ok(()),
        other => {
            let _ = fs::remove_file(path);
            other.and_then(|_| bail!("the server ended at once"))
        }
    }
}

/// One point above our own OOM score, which is containerd's. Best effort, as everywhere.
fn be_killed_before_containerd(pid: i32) {
    const SCORE_MAX: i32 = 1000;
    let own = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|s| s.trim().parse::<i32>().ok());
    if let Some(own) = own {
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), (own + 1).min(SCORE_MAX).to_string());
    }
}

/// containerd up to 1.7 finds the server again by this file after its own restart.
fn write_address(bundle: &Path, address: &str) -> anyhow::Result<()> {
    let temporary = bundle.join(".address");
    fs::write(&temporary, address).context("address file")?;
    fs::rename(&temporary, bundle.join("address")).context("address file")
}

fn answer(address: &str, protobuf: bool) -> anyhow::Result<()> {
    let bytes = if protobuf {
        let result = BootstrapResult {
            version: containerd_shim_protos::TASK_API_VERSION,
            address: address.to_owned(),
            protocol: "ttrpc".to_owned(),
            ..BootstrapResult::default()
        };
        result.write_to_bytes()?
    } else {
        address.as_bytes().to_vec()
    };
    io::stdout().write_all(&bytes).context("stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_new_protocol_are_told_from_options() {
        let params = BootstrapParams {
            instance_id: "c1".to_owned(),
            containerd_ttrpc_address: "/run/t".to_owned(),
            ..BootstrapParams::default()
        };
        let bytes = params.write_to_bytes().expect("encodes");
        assert_eq!(read_params("c1", bytes.as_slice()).expect("read"), Some(params));
        let any = b"\x0a\x19runtimeoptions.v1.Options\x12\x06\x12\x04/etc";
        assert_eq!(read_params("c1", any.as_slice()).expect("read"), None);
        assert_eq!(read_params("c1", io::empty()).expect("read"), None);
        assert_eq!(read_params("c1", b"\xff\xff\xff".as_slice()).expect("read"), None);
    }

    #[test]
    fn the_socket_is_named_for_containerd_namespace_and_group() {
        let path = |address, group| {
            socket_path(Path::new("/run/containerd/s"), address, "ns", group).expect("short")
        };
        assert_eq!(path("/a", "g"), path("/a", "g"));
        assert_ne!(path("/a", "g"), path("/b", "g"));
        assert_ne!(path("/a", "g"), path("/a", "h"));
        assert_eq!(path("/a", "g").file_name().expect("a name").len(), 64);
        assert!(socket_path(Path::new(&"/long".repeat(20)), "/a", "ns", "g").is_err());
    }

    #[test]
    fn a_socket_left_behind_is_taken_over_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let socket = || rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        let first = socket();
        bind(&first, &path).expect("binds");
        assert!(is_served(&path));
        assert!(bind(&socket(), &path).is_err());
        drop(first);
        assert!(!is_served(&path));
        bind(&socket(), &path).expect("takes it over");
    }
}
