//! Do wrong programs, wrong configurations and escapes fail with one clear line and leave nothing?

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::command::{Answer, run};
use crate::processes;
use crate::world::{BUSYBOX, Container, World};

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
    let ours = |case: Case| Case { needs_ours: true, ..case };
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
        Case::new("bad: a configuration with a zero byte in an argument", |w| {
            configuration(w, "/process/args", json!(["echo", "a\0b"]))
        }),
        Case::new("bad: a configuration with a capability that does not exist", |w| {
            // Passed over, as the specification asks for what is not known.
            let set = json!({"bounding": ["CAP_NO_SUCH"], "effective": [], "permitted": []});
            configured(
                w,
                "/process",
                json!({"args": ["true"], "cwd": "/", "env": ["PATH=/bin"],
                "user": {"uid": 0, "gid": 0}, "capabilities": set}),
            )?
            .ok()
            .map(drop)
        }),
        Case::new("bad: a configuration with too little address space for the program", too_small),
        Case::new("bad: a mount over a symbolic link stays inside", mount_over_link),
        ours(Case::new("bad: a cgroup path that climbs", |w| {
            configuration(w, "/linux/cgroupsPath", json!("/../../climbs"))
        })),
        ours(Case::new("bad: garbage on the shim's socket harms nothing", garbage)),
        ours(Case::new("bad: a shim refuses bundles and names that are none", no_bundle)),
        ours(Case::new("bad: what a full state directory hinders is named", full_state)),
        ours(Case::new("bad: sentry and gofer end in one line when nobody speaks to them", alone)),
    ]
}

/// From no room at all to enough, in pages: wherever it runs out, the message says where, and nothing stays.
fn full_state(w: &World) -> Result<()> {
    const PAGES: usize = 12;
    let state = w.dir.path().join("state/io.containerd.runtime.v2.task");
    std::fs::create_dir_all(&state)?;
    let place = state.display().to_string();
    let size = format!("size={}k", PAGES * 4);
    run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &place], None, 10)?.ok()?;
    let outcome = (0..=PAGES).try_fold(0, |refused, free| {
        let filler = state.join("filler");
        std::fs::write(&filler, vec![1; (PAGES - free) * 4096])?;
        let container = w.container();
        let answer = container.run(&["--rm"], BUSYBOX, &["true"]);
        cleaned(&container)?;
        let answer = answer?;
        let text = answer.stderr.to_lowercase();
        if answer.status != 0 {
            ensure!(text.contains("no space left") && text.contains('/'), "{free} pages free: {text}");
        }
        Ok(refused + usize::from(answer.status != 0))
    });
    run(&["umount", &place], None, 10)?.ok()?;
    let refused = outcome?;
    ensure!(refused > 0 && refused <= PAGES, "{refused} of {} were refused", PAGES + 1);
    Ok(())
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
    cleaned(&container)?;
    Ok(answer)
}

/// Removes a container and waits for the end of its processes.
fn cleaned(container: &Container<'_>) -> Result<()> {
    container.clean();
    crate::command::wait_until("its processes have gone", std::time::Duration::from_secs(8), || {
        Ok(processes::of_container(&container.id).is_empty())
    })
}

fn refused(w: &World, command: &[&str], words: &[&str]) -> Result<()> {
    // Else a runtime that starts nothing would pass.
    run_bad(w, &["true"])?.ok()?;
    // Whatever the reason, it is `ctr` that ends with 1; `rvisor do` gives 126 and 127 as a shell does.
    let answer = run_bad(w, command)?.status_is(1)?;
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
    let mut found = true;
    let answer = changed(w, |config| match config.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => found = false,
    });
    ensure!(found, "no {pointer} in the configuration");
    answer
}

/// Runs a configuration that is right but for one change.
pub(super) fn changed(w: &World, change: impl FnOnce(&mut Value)) -> Result<Answer> {
    let rootfs = w.rootfs()?;
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
    change(&mut config);
    let path = w.dir.path().join(format!("{}.json", container.id));
    std::fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    let path = path.display().to_string();
    let argv = ["run", "--rm", "--runtime", &w.options.runtime, "--config", &path, &container.id];
    let answer = w.ctr(&argv)?;
    container.clean();
    Ok(answer)
}

/// Fails when the program is started, after the container has been made.
fn too_small(w: &World) -> Result<()> {
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "env": ["PATH=/bin"],
        "rlimits": [{"type": "RLIMIT_AS", "hard": 4096, "soft": 4096}]});
    let begun = std::time::Instant::now();
    let answer = configured(w, "/process", process)?.failed()?;
    ensure!(begun.elapsed().as_secs() < 8, "waits for something that never ran: {answer}");
    Ok(())
}

/// An image's own links must not lead a mount out of it.
fn mount_over_link(w: &World) -> Result<()> {
    let rootfs = w.dir.path().join("linked");
    let outside = w.dir.path().join("outside");
    if !rootfs.exists() {
        w.copy_rootfs(&rootfs)?;
        std::os::unix::fs::symlink(&outside, rootfs.join("out"))?;
        std::fs::create_dir(&outside)?;
    }
    let mounts = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/out/deep", "type": "tmpfs", "source": "tmpfs"},
    ]);
    let root = rootfs.display().to_string();
    let command = ["sh", "-c", "echo inside > /out/deep/file && cat /out/deep/file"];
    let change = |config: &mut Value| {
        config["root"]["path"] = json!(root);
        config["mounts"] = mounts;
        config["process"]["args"] = json!(command);
    };
    changed(w, change)?.ok()?.prints("inside")?;
    ensure!(std::fs::read_dir(&outside)?.next().is_none(), "the mount point was made on the host");
    Ok(())
}

/// Frames of ttrpc that are none, each on a connection of its own: ten bytes of header (length, stream, type, flags), then
/// that many of data.
fn garbage(w: &World) -> Result<()> {
    let container = w.container();
    container.start(&["sleep", "1000"])?;
    let tried = || -> Result<()> {
        let state = w.dir.path().join("state/io.containerd.runtime.v2.task/default").join(&container.id);
        let address = std::fs::read_to_string(state.join("address"))?;
        let path = address.trim().strip_prefix("unix://").unwrap_or_default().to_owned();
        let frames: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[0xff; 64],
            b"\x7f\xff\xff\xff\0\0\0\x01\x01\0",
            b"\0\0\0\x08\0\0\0\x01\x01\0\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\0\0\0\0\0\0\x02\x09\x09",
            b"\0\0\0\x40\0\0\0\x01\x01\0half",
        ];
        for frame in frames {
            let mut socket = std::os::unix::net::UnixStream::connect(&path)?;
            socket.write_all(frame)?;
        }
        container.exec("e", &["echo", "alive"])?.ok()?.prints("alive").map(drop)
    };
    let outcome = tried();
    container.clean();
    outcome
}

fn program_of(w: &World, name: &str) -> Result<String> {
    let directory = w.options.bin_dir.as_ref().context("no --bin-dir")?;
    Ok(directory.join(name).display().to_string())
}

/// One line that says why, and a failure.
fn one_line(answer: &Answer) -> Result<()> {
    ensure!(answer.status != 0 && answer.status < 126, "should have failed by itself: {answer}");
    let lines = answer.stderr.trim().lines().count();
    ensure!(lines == 1 && answer.stderr.len() < CLEAR, "no clear line: {answer}");
    Ok(())
}

fn no_bundle(w: &World) -> Result<()> {
    let shim = program_of(w, "containerd-shim-rvisor-v2")?;
    let start = |id: &str| {
        let address = w.dir.path().join("c.sock").display().to_string();
        run(
            &["env", "-C", "/proc", &shim, "-namespace", "n", "-address", &address, "-id", id, "start"],
            None,
            20,
        )
    };
    one_line(&start("no-bundle")?)?;
    one_line(&start("../climbs")?)?;
    one_line(&start("")?)?;
    one_line(&run(&[&shim, "dance"], None, 20)?)
}

fn alone(w: &World) -> Result<()> {
    for name in ["rvisor-sentry", "rvisor-gofer"] {
        one_line(&run(&[&program_of(w, name)?], None, 20)?)?;
        // A socket on which nobody ever speaks ends when the other side does.
        let script = "import socket, subprocess, sys; a, b = socket.socketpair(); \
            p = subprocess.Popen(sys.argv[1:], stdin=b); b.close(); a.send(b'{\"junk\": [' * 9); a.close(); \
            sys.exit(p.wait(10))";
        one_line(&run(&["python3", "-c", script, &program_of(w, name)?], None, 20)?)?;
    }
    Ok(())
}
