//! Do wrong programs, wrong configurations and escapes fail with one clear line and leave nothing?

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::command::Answer;
use crate::processes;
use crate::world::{BUSYBOX, World};

/// Longest error message that still counts as a clear line, in characters.
const CLEAR: usize = 1000;

/// What a message may say when a program is not there, whichever runtime speaks.
const MISSING: &[&str] = &["no such file", "not found"];
/// When it must not be executed.
const FORBIDDEN: &[&str] = &["permission denied", "is a directory"];
/// When it is for another processor.
const FOREIGN: &[&str] = &["exec format error", "architecture"];

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("bad: a missing program", |w| refused(w, &["/no/such/program"], MISSING)),
        Case::new("bad: a name that is not on the path", |w| refused(w, &["no-such-program"], MISSING)),
        Case::new("bad: a directory as program", |w| refused(w, &["/etc"], FORBIDDEN)),
        Case::new("bad: a file without execute permission", |w| refused(w, &["/bad/plain"], FORBIDDEN)),
        Case::new("bad: an ELF file for another architecture", |w| refused(w, &["/bad/arm64"], FOREIGN)),
        Case::new("bad: a truncated ELF file", |w| refused_or_killed(w, &["/bad/truncated"])),
        Case::new("bad: a script whose interpreter is missing", |w| refused(w, &["/bad/script"], MISSING)),
        Case::new("bad: a symbolic link does not lead out", |w| {
            contained(w, "cat /bad/absolute /bad/relative")
        }),
        Case::new("bad: .. does not lead out", dot_dot),
        Case::new("bad: a configuration without arguments", |w| configuration(w, "/process/args", json!([]))),
        Case::new("bad: a configuration with a relative working directory", |w| {
            configuration(w, "/process/cwd", json!("relative"))
        }),
        Case::new("bad: a configuration with a root that is not there", |w| {
            configuration(w, "/root/path", json!("/no/such/root"))
        }),
    ]
}

/// Makes the directory of wrong things once, and gives the switch that mounts it at /bad.
fn bad_directory(w: &World) -> Result<String> {
    let directory = w.dir.path().join("bad");
    let secret = w.dir.path().join("secret");
    if !directory.exists() {
        std::fs::create_dir(&directory)?;
        std::fs::write(&secret, "host secret\n")?;
        let elf = std::fs::read("/bin/busybox")?;
        let mut foreign = elf.clone();
        foreign[18] = 183; // EM_AARCH64
        program(&directory.join("arm64"), &foreign, 0o755)?;
        program(&directory.join("truncated"), &elf[..200], 0o755)?;
        program(&directory.join("plain"), &elf, 0o644)?;
        program(&directory.join("script"), b"#!/no/such/interpreter\n", 0o755)?;
        std::os::unix::fs::symlink(&secret, directory.join("absolute"))?;
        let up = "../".repeat(40);
        std::os::unix::fs::symlink(format!("{up}{}", secret.display()), directory.join("relative"))?;
    }
    Ok(format!("type=bind,src={},dst=/bad,options=rbind:ro", directory.display()))
}

fn program(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn run_bad(w: &World, command: &[&str]) -> Result<Answer> {
    let mount = bad_directory(w)?;
    let container = w.container();
    let answer = container.run(&["--rm", "--mount", &mount], BUSYBOX, command)?;
    container.clean();
    crate::command::wait_until("its processes have gone", std::time::Duration::from_secs(8), || {
        Ok(processes::of_container(&container.id).is_empty())
    })?;
    Ok(answer)
}

fn refused(w: &World, command: &[&str], words: &[&str]) -> Result<()> {
    // Else a runtime that starts nothing would pass.
    run_bad(w, &["true"])?.ok()?;
    let answer = run_bad(w, command)?.failed()?;
    let message = answer.stderr.trim().to_lowercase();
    ensure!(message.len() < CLEAR, "no clear message: {answer}");
    ensure!(
        words.iter().any(|word| message.contains(word)),
        "does not say why ({}): {answer}",
        words.join(" or ")
    );
    Ok(())
}

/// A file cut within its program headers fails at exec or dies at its first instruction, as on Linux.
fn refused_or_killed(w: &World, command: &[&str]) -> Result<()> {
    run_bad(w, &["true"])?.ok()?;
    let answer = run_bad(w, command)?;
    ensure!(answer.status != 0 && answer.status != 137, "should have failed: {answer}");
    Ok(())
}

fn contained(w: &World, script: &str) -> Result<()> {
    let answer = run_bad(w, &["sh", "-c", &format!("echo ran; {script}")])?.mentions("ran")?;
    ensure!(!answer.stdout.contains("secret"), "the host's file was read: {answer}");
    ensure!(answer.status == 1, "cat should have failed: {answer}");
    Ok(())
}

fn dot_dot(w: &World) -> Result<()> {
    bad_directory(w)?;
    let secret = w.dir.path().join("secret");
    let up = "../".repeat(40);
    contained(
        w,
        &format!("cd /bad; cat /{up}{} {up}{} /proc/self/root/{up}{0}", secret.display(), secret.display()),
    )
}

/// Runs with a configuration in which one value is wrong; with a right one in its place it must run.
fn configuration(w: &World, pointer: &str, value: Value) -> Result<()> {
    configured(w, "/hostname", json!("right"))?.ok()?;
    let message = configured(w, pointer, value)?.failed()?.stderr;
    ensure!(!message.trim().is_empty() && message.len() < CLEAR, "no clear message: {message}");
    Ok(())
}

fn configured(w: &World, pointer: &str, value: Value) -> Result<Answer> {
    let rootfs = w.options.cache.join("rootfs/busybox");
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "env": ["PATH=/bin"]},
        "hostname": "guest",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "root": {"path": rootfs.display().to_string()},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]},
    });
    let container = w.container();
    if let Some(linux) = config.pointer_mut("/linux") {
        linux["cgroupsPath"] = json!(format!("/{}/{}", w.mark, container.id));
    }
    let place = config.pointer_mut(pointer);
    *place.ok_or_else(|| anyhow::anyhow!("no {pointer} in the configuration"))? = value;
    let path = w.dir.path().join(format!("{}.json", container.id));
    std::fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    let path = path.display().to_string();
    let argv = ["run", "--rm", "--runtime", &w.options.runtime, "--config", &path, &container.id];
    let answer = w.ctr(&argv)?;
    container.clean();
    Ok(answer)
}
