//! Does `rvisor` alone, without containerd, run commands and bundles, and fail in one line?

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Case;
use crate::command::{Answer, quietly, run};
use crate::world::World;

/// The cases of this file; all are about our own program.
pub fn cases() -> Vec<Case> {
    let ours = |case: Case| Case { needs_ours: true, ..case };
    vec![
        ours(Case::demo("cli: do echo", |w| sandbox(w, &[], &["echo", "hi"])?.ok()?.prints("hi").map(drop))),
        ours(Case::new("cli: do on the ptrace platform", |w| {
            sandbox(w, &["--platform", "ptrace"], &["sh", "-c", "echo $((6*7))"])?
                .ok()?
                .prints("42")
                .map(drop)
        })),
        ours(Case::new("cli: do passes the exit status on", |w| {
            sandbox(w, &[], &["sh", "-c", "exit 42"])?.status_is(42).map(drop)
        })),
        ours(Case::new("cli: do of a missing program is 127", |w| {
            one_line(sandbox(w, &[], &["/no/such"])?, 127)
        })),
        ours(Case::new("cli: do of a file that cannot be executed is 126", |w| {
            one_line(sandbox(w, &[], &["/etc/passwd"])?, 126)
        })),
        ours(Case::new("cli: do ends by the signals that end a command", signals)),
        ours(Case::new("cli: do reads standard input", stdin)),
        ours(Case::new("cli: do with a terminal", terminal)),
        ours(Case::new("cli: do leaves the directory as it was", copy_on_write)),
        ours(Case::new("cli: do of a pipeline of everyday tools", everyday)),
        ours(Case::demo("cli: the kernel that answers is ours", our_kernel)),
        ours(Case::new("cli: strace names the calls", strace)),
        ours(Case::new("cli: every fast path can be switched off", tuning)),
        ours(Case::new("cli: run of a bundle", |w| {
            let config = configuration(w, json!(["sh", "-c", "echo from a bundle; exit 3"]))?;
            bundle(w, &config.to_string())?.status_is(3)?.prints("from a bundle").map(drop)
        })),
        ours(Case::new("cli: run of a bundle without configuration", |w| one_line(bundle(w, "")?, 1))),
        ours(Case::new("cli: run of a configuration that is not JSON", |w| {
            one_line(bundle(w, "{\"process\": ")?, 1)
        })),
        ours(Case::new("cli: run of a configuration without a process", |w| one_line(bundle(w, "{}")?, 1))),
        ours(Case::new("cli: the table of system calls is printed", |w| {
            program(w, &["syscalls"])?.ok()?.mentions("| 0 | `read` |").map(drop)
        })),
    ]
}

fn program(w: &World, arguments: &[&str]) -> Result<Answer> {
    let directory = w.options.bin_dir.as_ref().context("--bin-dir says where rvisor is")?;
    let rvisor = directory.join("rvisor").display().to_string();
    run(&[&[rvisor.as_str()], arguments].concat(), None, 60)
}

/// The busybox tree as root, so that a case does not depend on the machine.
fn do_switches(w: &World) -> Result<Vec<String>> {
    let root = w.rootfs()?.display().to_string();
    Ok(["do", "--no-tty", "--root", &root].map(str::to_owned).to_vec())
}

/// How a sandbox is made: the program and its first arguments.
pub(super) fn do_arguments(w: &World) -> Result<Vec<String>> {
    let directory = w.options.bin_dir.as_ref().context("--bin-dir says where rvisor is")?;
    let rvisor = directory.join("rvisor").display().to_string();
    Ok([vec![rvisor], do_switches(w)?].concat())
}

fn sandbox(w: &World, switches: &[&str], command: &[&str]) -> Result<Answer> {
    let first = do_switches(w)?;
    let mut arguments: Vec<&str> = first.iter().map(String::as_str).collect();
    arguments.extend_from_slice(switches);
    arguments.push("--");
    arguments.extend_from_slice(command);
    program(w, &arguments)
}

/// Ctrl-C and termination reach a command without handlers, alone or under a shell.
fn signals(w: &World) -> Result<()> {
    let rvisor = w.options.bin_dir.as_ref().context("--bin-dir says where rvisor is")?.join("rvisor");
    let rvisor = rvisor.display().to_string();
    let first = do_switches(w)?;
    for (signal, status) in [("INT", 128 + 2), ("TERM", 128 + 15)] {
        for command in [&["sleep", "50"][..], &["sh", "-c", "sleep 50; echo survived"]] {
            let mut arguments = vec!["timeout", "--preserve-status", "-k", "20", "-s", signal, "2", &rvisor];
            arguments.extend(first.iter().map(String::as_str));
            arguments.push("--");
            arguments.extend_from_slice(command);
            run(&arguments, None, 40)?.status_is(status)?.prints("")?;
        }
    }
    Ok(())
}

/// One clear line on standard error and this status.
fn one_line(answer: Answer, status: i32) -> Result<()> {
    let answer = answer.status_is(status)?;
    let lines = answer.stderr.trim().lines().count();
    ensure!(lines == 1, "{lines} lines of complaint in place of one: {answer}");
    Ok(())
}

fn stdin(w: &World) -> Result<()> {
    let directory = w.options.bin_dir.as_ref().context("--bin-dir says where rvisor is")?;
    let rvisor = directory.join("rvisor").display().to_string();
    let arguments = do_switches(w)?;
    let mut argv = vec![rvisor.as_str()];
    argv.extend(arguments.iter().map(String::as_str));
    argv.extend(["--", "sort"]);
    run(&argv, Some("b\na\nc\n"), 60)?.ok()?.prints("a\nb\nc").map(drop)
}

fn terminal(w: &World) -> Result<()> {
    let directory = w.options.bin_dir.as_ref().context("--bin-dir says where rvisor is")?;
    let root = w.rootfs()?;
    let rvisor = directory.join("rvisor");
    let inside = "test -t 0 && test -t 1 && echo has a terminal; exit 5";
    let line = format!("{} do -t --root {} -- sh -c '{inside}'", rvisor.display(), root.display());
    run(&["script", "-qefc", &line, "/dev/null"], None, 30)?
        .status_is(5)?
        .mentions("has a terminal")
        .map(drop)
}

fn copy_on_write(w: &World) -> Result<()> {
    let script = "echo changed > /etc/passwd && rm -r /root && touch /new && cat /etc/passwd";
    sandbox(w, &[], &["sh", "-c", script])?.ok()?.prints("changed")?;
    let root = w.rootfs()?;
    let passwd = std::fs::read_to_string(root.join("etc/passwd"))?;
    ensure!(passwd.starts_with("root:"), "the host's file was changed");
    ensure!(root.join("root").is_dir() && !root.join("new").exists(), "the host's directory was changed");
    Ok(())
}

fn everyday(w: &World) -> Result<()> {
    let script = "seq 1 200 | awk '{s += $1} END {print s}'; find / -xdev -name passwd | head -n1; echo abc | gzip | gunzip; \
        (sleep 0.1; echo late) & wait; printf 'b\\na\\n' | sort | tr -d '\\n'; echo; date +%Y | grep -c 20";
    sandbox(w, &[], &["sh", "-c", script])?.ok()?.prints("20100\n/etc/passwd\nabc\nlate\nab\n1").map(drop)
}

fn our_kernel(w: &World) -> Result<()> {
    let answer = sandbox(w, &[], &["dmesg"])?.ok()?;
    let host = quietly(|| run(&["dmesg"], None, 10))?.stdout;
    ensure!(!answer.stdout.trim().is_empty() && answer.stdout != host, "no kernel log of ours: {answer}");
    Ok(())
}

fn strace(w: &World) -> Result<()> {
    let answer = sandbox(w, &["--strace"], &["sh", "-c", "/bin/echo hi; exit 0"])?.ok()?.prints("hi")?;
    ensure!(answer.stderr.contains("write") && answer.stderr.contains("execve"), "no calls: {answer}");
    Ok(())
}

fn tuning(w: &World) -> Result<()> {
    let off = "no-patch,no-identity,no-native-futex,no-futex-spin,no-native-clock,no-spin,no-stub-copy,no-epoll-queue";
    for list in off.split(',').chain([off]) {
        let script = "i=0; while [ $i -lt 20 ]; do true | cat; i=$((i+1)); done; sleep 0.01; echo $$ $i";
        sandbox(w, &["--tuning", list], &["sh", "-c", script])?
            .ok()?
            .prints("1 20")
            .with_context(|| list.to_owned())?;
    }
    Ok(())
}

fn configuration(w: &World, command: serde_json::Value) -> Result<serde_json::Value> {
    let rootfs = w.rootfs()?.display().to_string();
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": command, "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": rootfs, "readonly": true},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
    }))
}

/// `rvisor run` of a bundle with this configuration; with none if it is empty.
fn bundle(w: &World, configuration: &str) -> Result<Answer> {
    let directory = tempfile::tempdir_in(w.dir.path())?;
    if !configuration.is_empty() {
        std::fs::write(directory.path().join("config.json"), configuration)?;
    }
    program(w, &["run", &directory.path().display().to_string()])
}
