//! `rvisor do`: which container stands behind a command that is just to be run in a sandbox?
//!
//! Root file system: a copy-on-write view of `--root`; changes live in memory and vanish. Environment: the
//! caller's. Network: an empty namespace with `lo`, or the host's.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use control::{
    Capabilities, ContainerConfig, GoferConfig, GoferMount, GoferOverlay, Mount, ProcessConfig, Rlimit,
};
use rustix::process::Resource;
use sandbox::plan::{CAPABILITIES, NetworkPlan};

use crate::{Failure, SandboxArgs, foreground, terminal};

/// The sandbox's host name.
const HOSTNAME: &str = "rvisor";

/// Options of `rvisor do`.
#[derive(Debug, Args)]
pub(crate) struct DoArgs {
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Give the command a terminal (the default if stdin and stdout are one)
    #[arg(short = 't', long = "tty", conflicts_with = "no_tty")]
    tty: bool,
    /// Give it none
    #[arg(long)]
    no_tty: bool,
    /// Directory that becomes /; it is not changed
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Let changes through to the directory
    #[arg(long)]
    write_through: bool,
    /// Working directory in the sandbox (default: the current one with --root /, otherwise /)
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// none (only lo) or host
    #[arg(long, value_name = "NETWORK", default_value = "none", value_parser = ["none", "host"])]
    network: String,
    /// Set a variable
    #[arg(short = 'e', long = "env", value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Mount a host directory or file: HOST:GUEST[:ro]
    #[arg(short = 'v', long = "volume", value_name = "HOST:GUEST[:ro]")]
    volumes: Vec<String>,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs it.
pub(crate) fn run(args: DoArgs) -> Result<u8, Failure> {
    let id = format!("do-{}", std::process::id());
    let tty = !args.no_tty && (args.tty || terminal::is_interactive());
    let root = args.root.canonicalize().with_context(|| format!("--root {}", args.root.display()))?;
    let mut gofer = GoferConfig {
        root: root.to_string_lossy().into_owned(),
        overlay: (!args.write_through).then(GoferOverlay::default),
        ..GoferConfig::default()
    };
    let mut mounts = default_mounts();
    for volume in &args.volumes {
        let (source, mount) = parse_volume(volume, gofer.mounts.len())?;
        gofer.mounts.push(source);
        mounts.push(mount);
    }
    let container = ContainerConfig {
        container: id.clone(),
        process: process(&args, tty, &root)?,
        hostname: HOSTNAME.to_owned(),
        mounts,
        init_obeys_signals: true,
        ..ContainerConfig::default()
    };
    let job = foreground::Job {
        boot: args.sandbox.boot_config(&id, HOSTNAME),
        container,
        gofer,
        sysctls: Vec::new(),
        network: if args.network == "host" { NetworkPlan::Host } else { NetworkPlan::New },
        cgroup: None,
        sandbox_cgroup: None,
    };
    foreground::run(job, &args.sandbox)
}

fn process(args: &DoArgs, tty: bool, root: &Path) -> anyhow::Result<ProcessConfig> {
    let cwd = match &args.cwd {
        Some(cwd) if cwd.is_absolute() => cwd.clone(),
        Some(cwd) => bail!("--cwd {} is not an absolute path", cwd.display()),
        None if root == Path::new("/") => std::env::current_dir().unwrap_or_else(|_| "/".into()),
        None => PathBuf::from("/"),
    };
    let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
    let mut env: Vec<String> =
        std::env::vars_os().map(|(key, value)| format!("{}={}", text(key), text(value))).collect();
    for pair in &args.env {
        let Some((key, _)) = pair.split_once('=') else { bail!("-e {pair}: not KEY=VALUE") };
        let assigns = format!("{key}=");
        env.retain(|old| !old.starts_with(&assigns));
        env.push(pair.clone());
    }
    let uid = rustix::process::geteuid().as_raw();
    let all = if uid == 0 { (1 << CAPABILITIES.len()) - 1 } else { 0 };
    Ok(ProcessConfig {
        args: args.command.clone(),
        env,
        cwd: cwd.to_string_lossy().into_owned(),
        uid,
        gid: rustix::process::getegid().as_raw(),
        umask: None,
        terminal: tty,
        console_size: if tty { terminal::size() } else { (0, 0) },
        capabilities: Capabilities { bounding: all, effective: all, permitted: all, ..Default::default() },
        rlimits: vec![limit("RLIMIT_NOFILE", Resource::Nofile), limit("RLIMIT_STACK", Resource::Stack)],
        ..ProcessConfig::default()
    })
}

/// The caller's own limit.
fn limit(name: &str, resource: Resource) -> Rlimit {
    let own = rustix::process::getrlimit(resource);
    Rlimit {
        kind: name.to_owned(),
        soft: own.current.unwrap_or(u64::MAX),
        hard: own.maximum.unwrap_or(u64::MAX),
    }
}

/// What every container has, as containerd's default config mounts it.
pub(crate) fn default_mounts() -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        gofer_mount: 0,
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    };
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "devtmpfs", &["nosuid", "mode=755"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "mode=0620", "ptmxmode=0666", "gid=5"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ]
}

/// `HOST:GUEST[:ro]`; `before` volumes have been given already.
fn parse_volume(text: &str, before: usize) -> anyhow::Result<(GoferMount, Mount)> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, guest, readonly) = match parts[..] {
        [host, guest] | [host, guest, "rw"] => (host, guest, false),
        [host, guest, "ro"] => (host, guest, true),
        _ => bail!("-v {text}: not HOST:GUEST[:ro]"),
    };
    if !guest.starts_with('/') {
        bail!("-v {text}: {guest} is not an absolute path");
    }
    let source = Path::new(host).canonicalize().with_context(|| format!("-v {text}"))?;
    let source = source.to_string_lossy().into_owned();
    Ok((
        GoferMount { source, readonly, recursive: true, allow_host_sockets: false },
        Mount {
            destination: guest.to_owned(),
            kind: "bind".to_owned(),
            gofer_mount: u32::try_from(before + 1).context("too many volumes")?,
            options: vec![if readonly { "ro" } else { "rw" }.to_owned()],
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_numbered_from_one() {
        let (source, mount) = parse_volume("/etc:/x:ro", 0).expect("a volume");
        assert_eq!((source.source.as_str(), source.readonly), ("/etc", true));
        assert_eq!((mount.destination.as_str(), mount.gofer_mount), ("/x", 1));
        assert_eq!(parse_volume("/etc:/x", 4).expect("a volume").1.gofer_mount, 5);
    }

    #[test]
    fn bad_volumes_are_refused() {
        for text in ["/etc", "/etc:x", "/nowhere-at-all:/x", "/etc:/x:rx"] {
            assert!(parse_volume(text, 0).is_err(), "{text}");
        }
    }
}
