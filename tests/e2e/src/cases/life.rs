//! Does a running container obey: exec, terminals, signals, pause, metrics, removal?

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use crate::command::{run, wait_until};
use crate::world::{BUSYBOX, Container, World};

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("life: detached runs on", |w| with_sleeper(w, |c| c.wait_for(&["RUNNING"]).map(drop))),
        Case::demo("life: exec", |w| {
            with_sleeper(w, |c| c.exec("e", &["sh", "-c", "echo $((6*7))"])?.ok()?.prints("42").map(drop))
        }),
        Case::new("life: exec's exit status", |w| {
            with_sleeper(w, |c| c.exec("e", &["sh", "-c", "exit 7"])?.status_is(7).map(drop))
        }),
        Case::new("life: exec sees init's files and processes", exec_shares),
        Case::new("life: ten execs one after another", exec_ten),
        Case::new("life: exec of a missing program fails and harms nothing", exec_missing),
        Case::demo("life: exec with a terminal", exec_terminal),
        Case::new("life: run with a terminal", run_terminal),
        Case::new("life: SIGTERM reaches a handler", sigterm),
        Case::demo("life: SIGKILL ends it with 137", sigkill),
        Case::new("life: kill of an unknown container fails", |w| {
            w.ctr(&["tasks", "kill", "no-such-container"])?.failed().map(drop)
        }),
        Case::demo("life: metrics show memory and time", metrics),
        Case::new("life: processes are listed", |w| with_sleeper(w, processes)),
        Case::new("life: pause stops it and resume lets it go on", pause),
        Case::new("life: two containers side by side", two),
        Case::new("life: an id can be used again", again),
        Case::new("life: containerd is killed and started again, and the container lives", restart),
        Case::new("life: a memory limit ends the process that breaks it", memory_limit),
    ]
}

/// Runs `body` beside a sleeping container and removes that whatever happens.
fn with_sleeper(w: &World, body: impl FnOnce(&Container<'_>) -> Result<()>) -> Result<()> {
    let container = w.container();
    let outcome = container.start(&["sleep", "1000"]).and_then(|()| body(&container));
    container.clean();
    outcome
}

fn exec_shares(w: &World) -> Result<()> {
    let container = w.container();
    let outcome = container.start(&["sh", "-c", "echo secret > /note; sleep 1000"]).and_then(|()| {
        wait_until("the note is there", Duration::from_secs(5), || {
            Ok(container.exec("wait", &["cat", "/note"])?.stdout == "secret\n")
        })?;
        container.exec("ps", &["ps"])?.ok()?.mentions("sleep 1000").map(drop)
    });
    container.clean();
    outcome
}

fn exec_ten(w: &World) -> Result<()> {
    with_sleeper(w, |c| {
        for n in 0..10 {
            c.exec(&format!("e{n}"), &["echo", &n.to_string()])?.ok()?.prints(&n.to_string())?;
        }
        Ok(())
    })
}

fn exec_missing(w: &World) -> Result<()> {
    with_sleeper(w, |c| {
        let told = "OCI runtime exec failed: exec failed: unable to start container process: exec:";
        c.exec("bad", &["/no/such/program"])?.status_is(1)?.says(told)?.says("no such file or directory")?;
        c.exec("bad", &["no-such-program"])?.status_is(1)?.says("executable file not found in $PATH")?;
        c.exec("good", &["echo", "alive"])?.ok()?.prints("alive").map(drop)
    })
}

/// `script` gives the command a terminal, as an operator's would.
fn in_terminal(line: &str) -> Result<crate::command::Answer> {
    run(&["script", "-qefc", line, "/dev/null"], None, 30)
}

fn exec_terminal(w: &World) -> Result<()> {
    with_sleeper(w, |c| {
        // ctr passes the size of its own terminal on, a moment after the start.
        let inside = "tty; for i in $(seq 50); do test \"$(stty size 2>&1)\" = \"40 100\" && break; sleep 0.1; done; \
            stty size; exit 3";
        let line = format!(
            "stty rows 40 cols 100; {} tasks exec -t --exec-id t {} sh -c '{inside}'",
            w.ctr_line(),
            c.id
        );
        in_terminal(&line)?.status_is(3)?.mentions("40 100").map(drop)
    })
}

fn run_terminal(w: &World) -> Result<()> {
    let container = w.container();
    let (line, runtime, mark) = (w.ctr_line(), &w.options.runtime, &w.mark);
    let inside = "test -t 0 && test -t 1 && echo has a terminal; exit 4";
    let id = &container.id;
    let line = format!(
        "{line} run --rm -t --cgroup /{mark}/{id} --runtime {runtime} {BUSYBOX} {id} sh -c '{inside}'"
    );
    in_terminal(&line)?.status_is(4)?.mentions("has a terminal").map(drop)
}

fn sigterm(w: &World) -> Result<()> {
    let container = w.container();
    let script = "trap 'exit 9' TERM; echo ready > /ready; while true; do sleep 0.1; done";
    let outcome = container.start(&["sh", "-c", script]).and_then(|()| {
        wait_until("the handler is set", Duration::from_secs(5), || {
            Ok(container.exec("wait", &["test", "-e", "/ready"])?.status == 0)
        })?;
        w.ctr(&["tasks", "kill", "-s", "SIGTERM", &container.id])?.ok()?;
        container.wait_for(&["STOPPED"])?;
        removed_with(w, &container, 9)
    });
    container.clean();
    outcome
}

/// Removes a stopped task; `ctr` tells its exit status in a warning.
fn removed_with(w: &World, container: &Container<'_>, status: i32) -> Result<()> {
    let answer = w.ctr(&["tasks", "rm", &container.id])?;
    let told = answer.stderr.contains(&format!("non-zero exit code {status}\"")) || answer.status == status;
    ensure!(told, "exit status {status} is not told: {answer}");
    Ok(())
}

fn sigkill(w: &World) -> Result<()> {
    with_sleeper(w, |c| {
        w.ctr(&["tasks", "kill", "-s", "SIGKILL", &c.id])?.ok()?;
        c.wait_for(&["STOPPED"])?;
        removed_with(w, c, 137)
    })
}

fn metrics(w: &World) -> Result<()> {
    with_sleeper(w, |c| {
        let answer = w.ctr(&["tasks", "metrics", &c.id])?.ok()?;
        let figure = |word: &str| {
            let line = answer.stdout.lines().find(|line| line.contains(word) && line.contains("usage"))?;
            line.split_whitespace().find_map(|field| field.parse::<u64>().ok())
        };
        let memory = figure("memory").unwrap_or(0);
        ensure!(memory > 0 && memory < 1 << 30, "memory in use is {memory}: {answer}");
        let time = figure("cpu").unwrap_or(0);
        ensure!(time > 0, "no processor time: {answer}");
        Ok(())
    })
}

fn processes(c: &Container<'_>) -> Result<()> {
    let list = c.processes()?;
    ensure!(list.stdout.lines().count() >= 2, "no process: {list}");
    Ok(())
}

fn pause(w: &World) -> Result<()> {
    let directory = w.dir.path().join("pulse");
    std::fs::create_dir_all(&directory)?;
    let beats =
        || Ok::<_, anyhow::Error>(std::fs::read_to_string(directory.join("beats")).unwrap_or_default().len());
    let container = w.container();
    let mount = format!("type=bind,src={},dst=/pulse,options=rbind:rw", directory.display());
    let script = "while true; do printf x >> /pulse/beats; sleep 0.05; done";
    let outcome =
        container.run(&["-d", "--mount", &mount], BUSYBOX, &["sh", "-c", script])?.ok().and_then(|_| {
            wait_until("it beats", Duration::from_secs(5), || Ok(beats()? > 2))?;
            w.ctr(&["tasks", "pause", &container.id])?.ok()?;
            container.wait_for(&["PAUSED"])?;
            std::thread::sleep(Duration::from_millis(200));
            let still = beats()?;
            std::thread::sleep(Duration::from_millis(500));
            ensure!(beats()? == still, "it goes on while paused");
            w.ctr(&["tasks", "resume", &container.id])?.ok()?;
            container.wait_for(&["RUNNING"])?;
            wait_until("it beats again", Duration::from_secs(5), || Ok(beats()? > still))
        });
    container.clean();
    outcome
}

fn two(w: &World) -> Result<()> {
    with_sleeper(w, |first| {
        with_sleeper(w, |second| {
            first.exec("e", &["sh", "-c", "echo mine > /x"])?.ok()?;
            second.exec("e", &["test", "-e", "/x"])?.status_is(1).map(drop)
        })?;
        first.exec("after", &["cat", "/x"])?.ok()?.prints("mine").map(drop)
    })
}

fn again(w: &World) -> Result<()> {
    let container = w.container();
    for _ in 0..3 {
        container.run(&["--rm"], BUSYBOX, &["echo", "again"])?.ok()?.prints("again")?;
    }
    Ok(())
}

fn restart(w: &World) -> Result<()> {
    with_sleeper(w, |c| {
        w.restart_containerd()?;
        c.wait_for(&["RUNNING"])?;
        c.exec("e", &["echo", "alive"])?.ok()?.prints("alive")?;
        w.ctr(&["tasks", "kill", "-s", "SIGKILL", &c.id])?.ok()?;
        c.wait_for(&["STOPPED"])?;
        removed_with(w, c, 137)
    })
}

fn memory_limit(w: &World) -> Result<()> {
    // The shell lives; its child grows until the limit and is killed.
    let script = "sh -c 'x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done'; echo child $?";
    let limit = (64 << 20).to_string();
    let container = w.container();
    let answer = container.run(&["--rm", "--memory-limit", &limit], BUSYBOX, &["sh", "-c", script])?;
    ensure!(answer.stdout.contains("child 137") || answer.status == 137, "not killed: {answer}");
    Ok(())
}
