//! Is the truth told, and is nothing left, when a part of a sandbox is killed at any time of its life?
//!
//! Each case kills one part (shim, sentry, gofer, template, stub) in one phase (create, running, exec, delete).
//! What must hold afterwards: containerd does not say RUNNING for something dead, everything can be removed,
//! and no process of the container is left. The whole run's leak check covers mounts, cgroups and sockets.

use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Case;
use crate::command::wait_until;
use crate::leaks::Snapshot;
use crate::processes::{self, Role};
use crate::world::{BUSYBOX, Container, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Create,
    Running,
    Exec,
    Delete,
}

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (phase, word) in [
        (Phase::Create, "create"),
        (Phase::Running, "running"),
        (Phase::Exec, "exec"),
        (Phase::Delete, "delete"),
    ] {
        for role in Role::ALL {
            cases.push(Case {
                name: format!("crash: kill -9 of the {} at {word}", role.word()),
                demo: false,
                needs_ours: role != Role::Shim,
                run: Rc::new(move |w| crash(w, role, phase)),
            });
        }
    }
    cases.push(Case {
        name: "crash: what a killed shim had goes without containerd".to_owned(),
        demo: false,
        needs_ours: true,
        run: Rc::new(alone),
    });
    cases
}

/// containerd may have removed the bundle already when the shim is killed, and then it runs no `delete`: nobody but the
/// shim's guard is left to clean up. The mount is containerd's.
fn alone(w: &World) -> Result<()> {
    let container = w.container();
    let before = Snapshot::take(&container.id, true);
    let rest = || {
        let now = Snapshot::take(&container.id, true).since(&before);
        now.into_iter().filter(|line| !line.starts_with("mount ")).collect::<Vec<_>>()
    };
    container.start(&["sleep", "1000"])?;
    ensure!(!rest().is_empty(), "nothing of the container is seen");
    let cleaned = w.while_containerd_is_stopped(|| {
        kill(&container, Role::Shim, Duration::from_secs(3))?;
        wait_until("its processes, cgroups and socket have gone", Duration::from_secs(10), || {
            Ok(rest().is_empty())
        })
        .with_context(|| format!("left: {:?}", rest()))
    });
    container.clean();
    cleaned
}

fn crash(w: &World, role: Role, phase: Phase) -> Result<()> {
    let container = w.container();
    let outcome = match phase {
        Phase::Create => at_create(w, &container, role),
        Phase::Running => at_running(&container, role),
        Phase::Exec => at_exec(w, &container, role),
        Phase::Delete => at_delete(w, &container, role),
    };
    container.clean();
    outcome?;
    let state = container.state()?;
    ensure!(state == "NONE", "still {state} after removal");
    nothing_runs(&container)
}

fn nothing_runs(container: &Container<'_>) -> Result<()> {
    let gone =
        wait_until("its processes have gone", Duration::from_secs(10), || Ok(left(container).is_empty()));
    gone.with_context(|| format!("left: {:?}", left(container)))
}

/// Processes in the container's cgroup or below its shim.
fn left(container: &Container<'_>) -> Vec<(i32, String)> {
    let marked = processes::all_with_cgroups().into_iter();
    let in_cgroup =
        marked.filter(|(_, cgroups, _)| cgroups.split(['/', '\n']).any(|part| part == container.id));
    let below = processes::of_container(&container.id).into_iter().map(|p| (p.pid, p.line));
    in_cgroup.map(|(pid, _, line)| (pid, line)).chain(below).collect()
}

/// Waits for the part to appear and kills it.
fn kill(container: &Container<'_>, role: Role, limit: Duration) -> Result<()> {
    let begun = Instant::now();
    loop {
        // One that has gone in between (a shim's `start` lives for milliseconds) has not been killed.
        if processes::find(&container.id, role).is_some_and(|process| process.kill().is_ok()) {
            return Ok(());
        }
        ensure!(begun.elapsed() < limit, "no {} ever appeared", role.word());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn background(w: &World, arguments: &[&str]) -> Result<Child> {
    let line = w.ctr_line();
    let mut words = line.split(' ');
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "40"]).args(words.by_ref()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// A client that was waiting must get an answer by itself, whichever it is.
fn answered(mut client: Child) -> Result<()> {
    let answer =
        wait_until("the client gets an answer", Duration::from_secs(30), || Ok(client.try_wait()?.is_some()));
    if answer.is_err() {
        let _ = client.kill();
        let _ = client.wait();
    }
    answer
}

fn at_create(w: &World, container: &Container<'_>, role: Role) -> Result<()> {
    let cgroup = format!("/{}/{}", w.mark, container.id);
    let runtime = &w.options.runtime;
    let argv = ["run", "--runtime", runtime, "--cgroup", &cgroup, BUSYBOX, &container.id, "sleep", "1000"];
    let mut client = background(w, &argv)?;
    let killed = kill(container, role, Duration::from_secs(10));
    let killed = killed.and_then(|()| kill_again(container, role, &mut client));
    answered(client)?;
    killed
}

/// What was killed may have done its work just before: of a shim's `start` a dying process was left, of a template the
/// container's first process. Then the container runs, and what serves it is killed.
fn kill_again(container: &Container<'_>, role: Role, client: &mut Child) -> Result<()> {
    let role = if role == Role::Template { Role::Sentry } else { role };
    wait_until("the client gets an answer", Duration::from_secs(30), || {
        let ended = client.try_wait()?.is_some();
        // containerd may refuse to list while it notices the death.
        if !ended && container.state().is_ok_and(|state| state == "RUNNING") {
            let part = processes::find(&container.id, role);
            // It may be ending already.
            let _ = part.map(|part| part.kill());
        }
        Ok(ended)
    })
}

fn at_running(container: &Container<'_>, role: Role) -> Result<()> {
    container.start(&["sleep", "1000"])?;
    kill(container, role, Duration::from_secs(3))?;
    told(container, role)
}

fn at_exec(w: &World, container: &Container<'_>, role: Role) -> Result<()> {
    container.start(&["sleep", "1000"])?;
    let client = background(w, &["tasks", "exec", "--exec-id", "e", &container.id, "sleep", "1000"])?;
    std::thread::sleep(Duration::from_millis(300));
    let killed = kill(container, role, Duration::from_secs(3));
    let told = killed.and_then(|()| told(container, role));
    // The exec of a container that goes on after the death of another stub goes on as well: end it.
    let _ = w.ctr_with(&["tasks", "kill", "-s", "SIGKILL", &container.id], None, 20);
    answered(client)?;
    told
}

fn at_delete(w: &World, container: &Container<'_>, role: Role) -> Result<()> {
    container.start(&["sleep", "1000"])?;
    let part = processes::find(&container.id, role).with_context(|| format!("no {}", role.word()))?;
    let client = background(w, &["tasks", "rm", "-f", &container.id])?;
    std::thread::sleep(Duration::from_millis(20));
    // It may have gone by then: that is the other half of the race.
    let _ = part.kill();
    answered(client)
}

/// containerd must come to know that the container has ended. The loss of the template alone ends nothing.
fn told(container: &Container<'_>, role: Role) -> Result<()> {
    if role == Role::Template {
        std::thread::sleep(Duration::from_millis(500));
        let state = container.state()?;
        ensure!(["RUNNING", "STOPPED"].contains(&state.as_str()), "state {state}");
        return Ok(());
    }
    container.wait_for(&["STOPPED", "NONE"]).map(drop)
}
