//! Where can a command run: natively, in our sandbox, under runc, under runsc? All over the same root directory.
//!
//! Key type: [`Place`]. "Natively" means a chroot in fresh mount, process and network namespaces, so that the same
//! program and libraries run; it adds nothing to what a process does later.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// The bench program in the root.
pub(crate) const BENCH: &str = "/usr/local/bin/rvisor-bench";

/// Runs `$2...` in a chroot of `$1`; what it mounts vanishes with its namespace.
const NATIVE: &str = r#"root=$1; shift
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount -t tmpfs tmpfs "$root/tmp" && ip link set lo up
exec chroot "$root" "$@""#;

/// A way to run a command.
#[derive(Debug)]
pub(crate) struct Place {
    /// The column's name.
    pub(crate) name: &'static str,
    /// What stands before the command.
    prefix: Vec<String>,
    /// A bundle to write the command into, for runtimes that take no command line.
    bundle: Option<std::path::PathBuf>,
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// Every place, whether it works here or not.
pub(crate) fn all(root: &Path, bin_dir: &Path, cache: &Path, scratch: &Path) -> Result<Vec<Place>> {
    let root = root.canonicalize()?.display().to_string();
    let rvisor = bin_dir.join("rvisor").display().to_string();
    let ours = |name, platform| Place {
        name,
        prefix: words(&[&rvisor, "do", "--no-tty", "--platform", platform, "--root", &root, "--"]),
        bundle: None,
    };
    let bundle = scratch.join("bundle");
    std::fs::create_dir_all(&bundle)?;
    std::fs::write(bundle.join("config.json"), configuration(&root).to_string())?;
    let runc_root = scratch.join("runc").display().to_string();
    let id = format!("rvisor-bench-{}", std::process::id());
    let packaged = cache.join("runsc/usr/bin/runsc");
    let runsc = if packaged.exists() { packaged.display().to_string() } else { "runsc".to_owned() };
    let runsc_root = format!("--root={}", scratch.join("runsc").display());
    let chroot = format!("-root={root}");
    Ok(vec![
        Place {
            name: "native",
            prefix: words(&[
                "unshare",
                "-m",
                "-p",
                "-f",
                "-n",
                "--kill-child",
                "sh",
                "-c",
                NATIVE,
                "sh",
                &root,
            ]),
            bundle: None,
        },
        ours("rvisor-systrap", "systrap"),
        ours("rvisor-ptrace", "ptrace"),
        Place {
            name: "runc",
            prefix: words(&[
                "runc",
                "--root",
                &runc_root,
                "run",
                "--bundle",
                &bundle.display().to_string(),
                &id,
            ]),
            bundle: Some(bundle),
        },
        Place {
            name: "runsc",
            prefix: words(&[
                &runsc,
                "--network=none",
                "--platform=systrap",
                "--ignore-cgroups",
                &runsc_root,
                "do",
                &chroot,
            ]),
            bundle: None,
        },
    ])
}

fn configuration(root: &str) -> serde_json::Value {
    let namespaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "root": {"path": root},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {"namespaces": namespaces, "cgroupsPath": format!("/rvisor-bench-{}/runc", std::process::id())},
    })
}

impl Place {
    /// The command to start; nothing is on its standard input, its output is collected.
    pub(crate) fn command(&self, argv: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.prefix[0]);
        command.args(&self.prefix[1..]);
        match &self.bundle {
            None => {
                command.args(argv);
            }
            Some(bundle) => {
                let path = bundle.join("config.json");
                let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
                config["process"]["args"] = json!(argv);
                std::fs::write(&path, config.to_string())?;
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs a command to its end, for at most two minutes, and gives its output.
    pub(crate) fn run(&self, argv: &[&str]) -> Result<String> {
        let inner = self.command(argv)?;
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "120"]).arg(inner.get_program()).args(inner.get_args());
        let output = command.stdin(Stdio::null()).output().context("start timeout")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or_default();
        ensure!(output.status.success(), "{} ends with {}: {said}", argv.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether it works here at all.
    pub(crate) fn try_out(&self) -> Result<()> {
        let said = self.run(&["/bin/echo", "works"])?;
        ensure!(said.trim() == "works", "echo printed {said:?}");
        Ok(())
    }
}
