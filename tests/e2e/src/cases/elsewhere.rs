//! Does what other runtimes have been exploited by hold here? One case for each kind of fault that was published of runc, containerd,
//! gVisor and Kata in 2025 and 2026 and that can be asked of a container; `docs/guides/exploited-elsewhere.md` has the verdicts.
//!
//! Each makes a hostile image or a hostile configuration beside a file of the host, and looks at that file and its folder afterwards.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Case;
use super::bad::changed;
use crate::command::Answer;
use crate::processes::{Role, find};
use crate::world::{BUSYBOX, World};

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let ours = |case: Case| Case { needs_ours: true, ..case };
    let mut cases = vec![
        Case::new("elsewhere: an image's own /dev/null does not show through a masked path", masked),
        Case::new("elsewhere: a bind's target that is a link stays inside", bound),
        Case::new("elsewhere: a working directory among descriptors does not lead out", working_directory),
        Case::new("elsewhere: no descriptor of the host's leaks into a container", leaked),
        // These, and the link in place of /dev below, Debian's runc of 2022 fails.
        ours(Case::new("elsewhere: user and group files of any size hinder nobody", huge_files)),
        ours(Case::new("elsewhere: annotations neither start nor write anything", annotations)),
        ours(Case::new("elsewhere: what is read-only is held read-only", read_only)),
    ];
    for name in ["dev", "proc", "sys", "etc"] {
        cases.push(Case {
            needs_ours: name == "dev",
            run: std::rc::Rc::new(move |w| linked(w, name)),
            ..Case::new(
                &format!("elsewhere: an image whose /{name} is a link writes nothing on the host"),
                masked,
            )
        });
    }
    cases
}

/// What a hostile image tries to reach.
struct Host {
    rootfs: PathBuf,
    outside: PathBuf,
}

impl Host {
    /// A copy of the small image, and a folder with a secret.
    fn new(w: &World, name: &str) -> Result<Self> {
        let host = Self {
            rootfs: w.dir.path().join(format!("image-{name}")),
            outside: w.dir.path().join(format!("out-{name}")),
        };
        w.copy_rootfs(&host.rootfs)?;
        std::fs::create_dir_all(&host.outside)?;
        std::fs::write(host.outside.join("secret"), "the host's secret\n")?;
        Ok(host)
    }

    /// Puts a link into the image, in place of what is there.
    fn link(&self, name: &str, target: &Path) -> Result<()> {
        let path = self.rootfs.join(name);
        if path.symlink_metadata().is_ok_and(|stat| stat.is_dir()) {
            std::fs::remove_dir_all(&path)?;
        } else if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path)?;
        }
        Ok(symlink(target, path)?)
    }

    fn run(&self, w: &World, script: &str, change: impl FnOnce(&mut Value)) -> Result<Answer> {
        let root = self.rootfs.display().to_string();
        changed(w, |config| {
            config["root"]["path"] = json!(root);
            config["process"]["args"] = json!(["/bin/busybox", "sh", "-c", script]);
            change(config);
        })
    }

    /// The host is as it was, and nothing of it was told. Whether the container ran is the runtime's to choose.
    fn unharmed(&self, answer: &Answer) -> Result<()> {
        ensure!(!answer.stdout.contains("the host's secret"), "it read the host's file: {answer}");
        let left: Vec<_> =
            std::fs::read_dir(&self.outside)?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        ensure!(left == ["secret"], "something was made on the host: {left:?}");
        ensure!(
            std::fs::read(self.outside.join("secret"))? == b"the host's secret\n",
            "the host's file was written"
        );
        Ok(())
    }
}

/// What containerd asks for in every container.
fn usual_mounts(config: &mut Value) {
    config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ]);
    config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys", "/sys/firmware"]);
    config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/sysrq-trigger"]);
}

/// runc CVE-2026-41579 (/dev), CVE-2025-52881 (writes that end in procfs), and their kin.
fn linked(w: &World, name: &str) -> Result<()> {
    let host = Host::new(w, name)?;
    host.link(name, &host.outside)?;
    let file = w.dir.path().join("resolv");
    std::fs::write(&file, "nameserver 127.0.0.1\n")?;
    let script = format!(
        "cat /{name}/secret; echo x > /{name}/secret; echo x > /{name}/made; mkdir /{name}/dir; true"
    );
    let answer = host.run(w, &script, |config| {
        usual_mounts(config);
        if name == "etc"
            && let Some(mounts) = config["mounts"].as_array_mut()
        {
            mounts.push(json!({"destination": "/etc/resolv.conf", "type": "bind", "source": file.display().to_string(), "options": ["rbind", "ro"]}));
        }
    })?;
    host.unharmed(&answer)
}

/// runc CVE-2025-31133: a masked path is covered by whatever the image calls /dev/null.
fn masked(w: &World) -> Result<()> {
    let host = Host::new(w, "masked")?;
    std::fs::create_dir_all(host.rootfs.join("dev"))?;
    host.link("dev/null", &host.outside.join("secret"))?;
    std::fs::write(host.rootfs.join("hidden"), "what is hidden\n")?;
    let answer = host.run(w, "cat /hidden; echo x > /hidden; cat /dev/null", |config| {
        config["linux"]["maskedPaths"] = json!(["/hidden", "/proc/kcore"]);
    })?;
    ensure!(!answer.stdout.contains("what is hidden"), "a masked file was read: {answer}");
    host.unharmed(&answer)
}

/// CVE-2025-52565's kind: the target of a bind is a link in the image, for a file and a directory.
fn bound(w: &World) -> Result<()> {
    let host = Host::new(w, "bound")?;
    host.link("file", &host.outside.join("secret"))?;
    host.link("folder", &host.outside)?;
    let source = w.dir.path().join("bound-source");
    std::fs::create_dir_all(&source)?;
    std::fs::write(source.join("given"), "given\n")?;
    let answer = host.run(w, "cat /file /folder/given /folder/new/given; echo x > /folder/new/made; true", |config| {
        config["mounts"] = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/file", "type": "bind", "source": source.join("given").display().to_string(), "options": ["bind"]},
            {"destination": "/folder", "type": "bind", "source": source.display().to_string(), "options": ["rbind"]},
            {"destination": "/folder/new", "type": "bind", "source": source.display().to_string(), "options": ["rbind"]},
        ]);
    })?;
    host.unharmed(&answer)
}

/// runc CVE-2024-21626: a descriptor of the host's that is still open when the working directory is entered.
fn working_directory(w: &World) -> Result<()> {
    let host = Host::new(w, "cwd")?;
    let up = "../".repeat(30);
    let secret = host.outside.join("secret").display().to_string();
    for fd in 3..=20 {
        let answer = host.run(
            w,
            &format!("cat {up}{secret} ./{secret} /proc/self/cwd/{up}{secret}; true"),
            |config| {
                config["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
            },
        )?;
        host.unharmed(&answer)?;
    }
    Ok(())
}

fn leaked(w: &World) -> Result<()> {
    // The shell's own three, and the directory that ls reads.
    w.run(BUSYBOX, &["ls", "/proc/self/fd"])?.ok()?.prints("0\n1\n2\n3").map(drop)
}

/// containerd CVE-2026-47262: files of the image that somebody on the host reads whole.
fn huge_files(w: &World) -> Result<()> {
    const HUGE: u64 = 1 << 36;
    let host = Host::new(w, "huge")?;
    std::fs::create_dir_all(host.rootfs.join("etc"))?;
    for name in ["passwd", "group", "hosts", "resolv.conf", "nsswitch.conf", "ld.so.preload"] {
        std::fs::File::create(host.rootfs.join("etc").join(name))?.set_len(HUGE)?;
    }
    host.run(w, "echo runs", |_| ())?.ok()?.prints("runs").map(drop)
}

/// containerd CVE-2026-53488 (a label becomes a log program), -53492, Kata GHSA-rr59-xxvx-96qr (an annotation becomes an argument).
fn annotations(w: &World) -> Result<()> {
    let host = Host::new(w, "notes")?;
    let made = host.outside.join("made").display().to_string();
    let noted = |all: Value| host.run(w, "hostname", |config| config["annotations"] = all);
    let mut foreign = json!({
        "io.katacontainers.config.hypervisor.virtio_fs_extra_args": "[\"-o\", \"source=/\"]",
        "cdi.k8s.io/evil": "vendor.com/device=all",
    });
    let addresses = [
        "io.containerd.log.uri",
        "containerd.io/log-uri",
        "io.containerd.runc.v2.log",
        "org.opencontainers.image.ref.name",
    ];
    for key in addresses {
        foreign[key] = json!(format!("binary:///bin/touch?{made}="));
    }
    let answer = noted(foreign)?.ok()?.prints("guest")?;
    host.unharmed(&answer)?;
    // Ours that there are not, or not with such a value.
    for key in
        ["sentry", "gofer", "debug-log", "log-level", "sandbox-ids", "core-scheduling", "tuning", "platform"]
    {
        let answer = noted(json!({format!("dev.rvisor.{key}"): made}))?.failed()?;
        host.unharmed(&answer)?;
    }
    Ok(())
}

/// Kata GHSA-wwj6-vghv-5p64: the guest could write what it had been given read-only, below its kernel. Nobody of the sandbox has more
/// than a reader's descriptor.
fn read_only(w: &World) -> Result<()> {
    let container = w.container();
    let outcome = container
        .run(&["-d", "--read-only"], BUSYBOX, &["sleep", "1000"])
        .and_then(Answer::ok)
        .and_then(|_| {
            let sentry = find(&container.id, Role::Sentry).map_or(0, |sentry| sentry.pid);
            let mut seen = 0;
            for entry in std::fs::read_dir(format!("/proc/{sentry}/fd"))? {
                let entry = entry?;
                if !std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with("/root/")) {
                    continue;
                }
                let fd = entry.file_name().to_string_lossy().into_owned();
                let info = std::fs::read_to_string(format!("/proc/{sentry}/fdinfo/{fd}"))?;
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("1").trim();
                // LINUX: O_ACCMODE: 0 is for reading.
                ensure!(
                    u32::from_str_radix(flags, 8)? & 3 == 0,
                    "descriptor {fd} of the image may write: {info}"
                );
                seen += 1;
            }
            ensure!(seen > 0, "the sentry holds no file of the image");
            container.exec("write", &["sh", "-c", "echo x > /bin/x"])?.failed().map(drop)
        });
    container.clean();
    outcome
}
