//! How does `start` answer: with the address of a server for this container?
//!
//! Key function: [`start`]. A pod's containers share a server, found by the annotation that groups them. The
//! server is this program again, with the bound socket as its stdin; what happens when either is killed is `guard`'s
//! matter. No runtime is set up here: it is on the path of every pod's start. containerd 2.3 asks in protobuf and gets API version 3; older ones get the bare address,
//! which means version 2. Nothing but the answer may be written: containerd reads stderr too.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, bail};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use rustix::pipe::{PipeFlags, pipe_with};
use sandbox::plan;
use seccomp::jail::{Jail, Namespaces, Privileges, Root, Speculation};

use crate::flags::Flags;
use crate::guard::{self, Guard};
use crate::socket;

/// Where containerd's shims have their sockets.
const SOCKET_DIRECTORY: &str = "/run/containerd/s";
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
    let path = socket::path(Path::new(&directory), &flags.address, &flags.namespace, &group)?;
    let server = match socket::is_served(&path) {
        true => None,
        false => Some(serve_in_background(flags, &group, &params, &path)?),
    };
    let address = format!("unix://{}", path.display());
    write_address(&bundle, &address)?;
    answer(&address, params.is_some())?;
    if let Some(server) = server {
        guard::answered(server);
    }
    Ok(())
}

/// The 2.3 protocol's parameters, if that is what stdin holds. Before, it holds the runtime's options, or nothing;
/// what tells them apart is that the parameters start with our id.
fn read_params(id: &str, stdin: impl Read) -> anyhow::Result<Option<BootstrapParams>> {
    let mut bytes = Vec::new();
    stdin.take(PARAMS_MAX).read_to_end(&mut bytes).context("stdin")?;
    let params = BootstrapParams::parse_from_bytes(&bytes).ok();
    Ok(params.filter(|params| !bytes.is_empty() && params.instance_id == id))
}

/// Starts this program again as the server, in a session of its own, with no descriptors but the socket.
///
/// The server waits ready and the name has its guard before the socket gets it, so that at no time killing this process
/// or the server leaves a name behind that nobody serves. Returns the pipe on which the server waits for word from us.
fn serve_in_background(
    flags: &Flags,
    group: &str,
    params: &Option<BootstrapParams>,
    path: &Path,
) -> anyhow::Result<OwnedFd> {
    let guard = Guard::post(path, group)?;
    let socket = socket::new()?;
    let (word, starter) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
    let program = File::open("/proc/self/exe").context("own program")?;
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
        fds: vec![socket.as_fd(), guard.pipe.as_fd(), word.as_fd()],
        namespaces: Namespaces::NONE,
        root: Root::Inherited,
        privileges: Privileges::Inherited,
        die_with_parent: false,
        speculation: Speculation::Host,
    };
    let held = jail.prepare().context("start the server")?;
    be_killed_before_containerd(held.pid());
    socket::bind(&socket, path)?;
    let released = held.release().context("start the server");
    // From now on only the server holds the socket; if it has been killed meanwhile, nobody does.
    drop(socket);
    match released {
        Ok(_) if socket::is_served(path) => Ok(starter),
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
    let (temporary, file) = (bundle.join(".address"), bundle.join("address"));
    fs::write(&temporary, address)
        .and_then(|()| fs::rename(&temporary, &file))
        .with_context(|| format!("write {}", file.display()))
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
}
