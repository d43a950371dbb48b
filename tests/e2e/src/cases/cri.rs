//! Do pods work as a kubelet drives them: sandbox, containers, exec, logs, figures, limits, stop?

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::command::{Answer, run, wait_until};
use crate::cri::{Pod, number, text};
use crate::processes::{self, Role};
use crate::world::World;

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let parts = [Role::Shim, Role::Sentry, Role::Gofer, Role::Stub];
    let killed = parts.map(|role| Case {
        name: format!("cri: kill -9 of the {} leaves a pod that can be removed", role.word()),
        demo: false,
        needs_ours: true,
        run: Rc::new(move |w| crash(w, role)),
    });
    let mut cases = vec![
        Case::new("cri: two containers share the pod's network and not their files", shares),
        Case::new("cri: exec in a container gives output, errors and status", exec),
        Case::new("cri: an exec is ended at its time limit", exec_limit),
        Case::new("cri: logs arrive line by line", logs),
        Case::new("cri: each container has figures of its own", figures),
        Case::new("cri: a memory limit ends one container (OOMKilled) and not the other", oom),
        Case::new("cri: limits change while it runs", update),
        Case::new("cri: a container is stopped with grace, by force, and started again", stop),
        Case::new("cri: a command that is not there is the container's failure only", missing),
        Case::new("cri: an exec with a terminal, as kubectl exec -it", terminal),
        Case::new(
            "cri: a debugging container sees its target's processes, as kubectl debug --target",
            target,
        ),
        Case::new("cri: a port is forwarded, as kubectl port-forward", port_forward),
        Case::new("cri: containerd is killed and started again, and the pod lives", restart),
    ];
    cases.push(Case {
        // With others only the mount itself is.
        needs_ours: true,
        ..Case::new("cri: a read-only mount is read-only with what is mounted below it", recursive)
    });
    cases.extend(killed);
    cases
}

/// Runs `body` on a pod and removes that whatever happens.
fn with_pod(w: &World, body: impl FnOnce(&Pod<'_>) -> Result<()>) -> Result<()> {
    let pod = Pod::run(w)?;
    let outcome = body(&pod);
    let removed = pod.remove();
    outcome.and(removed)
}

const SLEEP: [&str; 2] = ["sleep", "1000"];

fn shares(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let serve = "mkdir /www; echo from the pod > /www/page; exec httpd -f -p 8080 -h /www";
        pod.start("server", &["sh", "-c", serve], json!({}))?;
        let other = pod.start("other", &SLEEP, json!({}))?;
        wait_until("the neighbour is served", Duration::from_secs(10), || {
            let answer = pod.exec(&other, "wget -q -O - http://127.0.0.1:8080/page; ls -d /www", 5)?;
            Ok(text(&answer, "/stdout") == "from the pod\n")
        })?;
        let url = format!("http://{}:8080/page", pod.ip);
        let fetched = w.outside(&["busybox", "wget", "-q", "-O", "-", &url])?;
        fetched.ok()?.prints("from the pod").map(drop)
    })
}

fn exec(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let id = pod.start("c", &SLEEP, json!({}))?;
        let answer =
            pod.exec(&id, "hostname; echo $COLOUR; ps | grep -c [s]leep; echo err >&2; exit 7", 10)?;
        ensure!(text(&answer, "/stdout") == "the-pod\nblue\n1\n", "{answer}");
        ensure!(text(&answer, "/stderr") == "err\n" && number(&answer, "/exit_code") == 7, "{answer}");
        Ok(())
    })
}

fn exec_limit(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let id = pod.start("c", &SLEEP, json!({}))?;
        let error = pod.exec(&id, "exec sleep 777", 1).err().context("the limit is not kept")?;
        ensure!(error.to_string().contains("DEADLINE_EXCEEDED"), "{error:#}");
        wait_until("the process has gone", Duration::from_secs(10), || {
            Ok(number(&pod.exec(&id, "ps | grep '[s]leep 777'", 10)?, "/exit_code") == 1)
        })
    })
}

fn logs(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let script = "echo first; echo second >&2; sleep 0.3; printf unfinished";
        let id = pod.start("c", &["sh", "-c", script], json!({}))?;
        pod.ended(&id)?;
        // LINUX has nothing to say here; the format is the kubelet's: time, stream, F for full or P for part, text.
        let mut log = String::new();
        let complete = wait_until("the log is complete", Duration::from_secs(5), || {
            log = std::fs::read_to_string(pod.logs.join("c.log"))?;
            let has = |end: &str| log.lines().any(|line| line.ends_with(end));
            Ok(has(" stdout F first") && has(" stderr F second") && has(" stdout P unfinished"))
        });
        complete.context(log)
    })
}

fn figures(w: &World) -> Result<()> {
    const MEBIBYTE: u64 = 1 << 20;
    with_pod(w, |pod| {
        let grown = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); while true; do :; done";
        let busy = pod.start("busy", &["sh", "-c", grown], json!({}))?;
        let idle = pod.start("idle", &SLEEP, json!({}))?;
        let mut last = Value::Null;
        let figures = |id: &str| -> Result<(u64, u64, Value)> {
            let stats = pod.about("ContainerStats", id, json!({}))?["stats"].take();
            let time = number(&stats, "/cpu/usage_core_nano_seconds/value");
            Ok((time, number(&stats, "/memory/working_set_bytes/value"), stats))
        };
        let told = wait_until("the figures differ", Duration::from_secs(15), || {
            let ((busy_time, busy_size, _), (idle_time, idle_size, stats)) =
                (figures(&busy)?, figures(&idle)?);
            last = json!({"busy": [busy_time, busy_size], "idle": [idle_time, idle_size], "raw": stats});
            Ok(idle_time > 0
                && idle_size > 0
                && busy_time > idle_time
                && busy_size > idle_size.saturating_add(10 * MEBIBYTE))
        });
        told.context(last)
    })
}

fn oom(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let other = pod.start("other", &SLEEP, json!({"memory_limit_in_bytes": 64 << 20}))?;
        let script = "sleep 0.5; x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done";
        let id = pod.start("c", &["sh", "-c", script], json!({"memory_limit_in_bytes": 64 << 20}))?;
        let mut status = pod.ended(&id)?;
        // The reason follows from an event of its own.
        let told = wait_until("the reason is told", Duration::from_secs(5), || {
            status = pod.status(&id)?;
            Ok(text(&status, "/reason") == "OOMKilled")
        });
        told.with_context(|| format!("{status}"))?;
        ensure!(number(&status, "/exit_code") == 137, "{status}");
        ensure!(number(&pod.exec(&other, "true", 10)?, "/exit_code") == 0, "the other one has ended");
        Ok(())
    })
}

fn update(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let id = pod.start("c", &SLEEP, json!({"memory_limit_in_bytes": 128 << 20, "cpu_shares": 512}))?;
        let limit = || pod.cgroup_file(&id, &["memory.limit_in_bytes", "memory.max"]);
        ensure!(limit().as_deref() == Some("134217728"), "the limit is {:?}", limit());
        let resources = json!({"linux": {"memory_limit_in_bytes": 256 << 20}});
        pod.about("UpdateContainerResources", &id, resources)?;
        ensure!(limit().as_deref() == Some("268435456"), "the limit is {:?}", limit());
        Ok(())
    })
}

fn stop(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let script = "trap 'exit 9' TERM; echo ready; while true; do sleep 0.1; done";
        let polite = pod.start("polite", &["sh", "-c", script], json!({}))?;
        wait_until("the handler is set", Duration::from_secs(10), || {
            Ok(std::fs::read_to_string(pod.logs.join("polite.log"))?.contains("ready"))
        })?;
        pod.about("StopContainer", &polite, json!({"timeout": 20}))?;
        let status = pod.status(&polite)?;
        ensure!(number(&status, "/exit_code") == 9, "{status}");
        // The first process of a pid namespace does not see a SIGTERM that it has no handler for.
        let deaf = pod.start("deaf", &SLEEP, json!({}))?;
        pod.about("StopContainer", &deaf, json!({"timeout": 1}))?;
        let status = pod.status(&deaf)?;
        ensure!(number(&status, "/exit_code") == 137, "{status}");
        pod.about("RemoveContainer", &deaf, json!({}))?;
        let again = pod.start("deaf", &SLEEP, json!({}))?;
        ensure!(number(&pod.exec(&again, "true", 10)?, "/exit_code") == 0, "the second does not run");
        Ok(())
    })
}

fn missing(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let error = pod.start("bad", &["/no/such/program"], json!({})).err().context("it starts")?;
        let message = format!("{error:#}").to_lowercase();
        ensure!(message.contains("no such file") || message.contains("not found"), "{message}");
        let good = pod.start("good", &SLEEP, json!({}))?;
        ensure!(number(&pod.exec(&good, "true", 10)?, "/exit_code") == 0, "the other does not run");
        Ok(())
    })
}

/// Sends a text to containerd's streaming server and waits for what should come back.
fn stream(w: &World, url: &str, query: &str, sent: &str, expected: &str) -> Result<()> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/cri/stream.py");
    w.outside(&["python3", program, url, query, sent, expected])?.ok()?.prints("found").map(drop)
}

fn terminal(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let id = pod.start("c", &SLEEP, json!({}))?;
        let command = ["sh", "-c", "test -t 0 && read line && echo \"read: $line\""];
        let request = json!({"cmd": command, "tty": true, "stdin": true, "stdout": true});
        let answer = pod.about("Exec", &id, request)?;
        stream(w, text(&answer, "/url"), "", "hello\\n", "read: hello")
    })
}

fn target(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let target = pod.start("target", &["sleep", "2000"], json!({}))?;
        let other = pod.start("other", &SLEEP, json!({}))?;
        let namespaces = json!({"pid": "TARGET", "target_id": target});
        let debugger = pod.start_in("debugger", &["sleep", "3000"], json!({}), namespaces)?;
        let seen = |id: &str| -> Result<String> {
            let listed = "ps | grep -o 'sleep [1-3]000' | sort | tr '\\n' ' '";
            Ok(text(&pod.exec(id, listed, 10)?, "/stdout").to_owned())
        };
        for id in [&debugger, &target] {
            ensure!(seen(id)? == "sleep 2000 sleep 3000 ", "{} sees {:?}", id, seen(id)?);
        }
        ensure!(seen(&other)? == "sleep 1000 ", "the other one sees {:?}", seen(&other)?);
        // What it shares are processes only.
        ensure!(number(&pod.exec(&debugger, "touch /mark", 10)?, "/exit_code") == 0, "cannot write");
        ensure!(number(&pod.exec(&target, "test -e /mark", 10)?, "/exit_code") == 1, "files are shared");
        Ok(())
    })
}

fn port_forward(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let serve = "mkdir /www; echo from the pod > /www/page; exec httpd -f -p 127.0.0.1:8080 -h /www";
        let id = pod.start("server", &["sh", "-c", serve], json!({}))?;
        wait_until("it serves", Duration::from_secs(10), || {
            let answer = pod.exec(&id, "wget -q -O - http://127.0.0.1:8080/page", 5)?;
            Ok(number(&answer, "/exit_code") == 0)
        })?;
        let answer = pod.about_pod("PortForward", json!({"port": [8080]}))?;
        stream(w, text(&answer, "/url"), "?port=8080", "GET /page HTTP/1.0\\r\\n\\r\\n", "from the pod")
    })
}

/// Without `recursive_read_only`: containerd 1 does not know it, and 2.1 ends with a fault when it is asked of another handler than runc.
fn recursive(w: &World) -> Result<()> {
    let volume = w.dir.path().join("recursive");
    let below = volume.join("below");
    std::fs::create_dir_all(&below)?;
    let target = below.display().to_string();
    run(&["mount", "-t", "tmpfs", "tmpfs", &target], None, 10)?.ok()?;
    let outcome = with_pod(w, |pod| {
        let mount = |kind: &str, readonly: bool| json!({"container_path": kind, "host_path": volume.display().to_string(), "readonly": readonly});
        let mounts = json!([mount("/ro", true), mount("/rw", false)]);
        let id = pod.start_with("c", &SLEEP, json!({}), mounts)?;
        let script =
            "touch /rw/a /rw/below/a && ls /ro/a /ro/below/a && ! touch /ro/b && ! touch /ro/below/b";
        let answer = pod.exec(&id, script, 10)?;
        ensure!(number(&answer, "/exit_code") == 0, "{answer}");
        Ok(())
    });
    let unmounted = run(&["umount", &target], None, 10).and_then(Answer::ok);
    outcome.and(unmounted.map(drop))
}

fn restart(w: &World) -> Result<()> {
    with_pod(w, |pod| {
        let id = pod.start("c", &["sh", "-c", "while true; do echo tick; sleep 0.1; done"], json!({}))?;
        w.restart_containerd()?;
        ensure!(text(&pod.status(&id)?, "/state") == "CONTAINER_RUNNING", "{}", pod.status(&id)?);
        ensure!(number(&pod.exec(&id, "true", 10)?, "/exit_code") == 0, "no exec");
        let lines =
            || Ok::<_, anyhow::Error>(std::fs::read_to_string(pod.logs.join("c.log"))?.lines().count());
        let before = lines()?;
        wait_until("the log goes on", Duration::from_secs(5), || Ok(lines()? > before))?;
        let other = pod.start("other", &SLEEP, json!({}))?;
        ensure!(number(&pod.exec(&other, "true", 10)?, "/exit_code") == 0, "no second container");
        Ok(())
    })
}

/// The containers must be told to have ended, the pod must be removable, and nothing may run afterwards.
fn crash(w: &World, role: Role) -> Result<()> {
    let pod = Pod::run(w)?;
    let tried = || -> Result<()> {
        let one = pod.start("one", &SLEEP, json!({}))?;
        let two = pod.start("two", &SLEEP, json!({}))?;
        let part = processes::find(&pod.id, role).with_context(|| format!("no {}", role.word()))?;
        part.kill()?;
        // A gofer or a stub is one container's, and the first one's is the pod's own.
        if matches!(role, Role::Shim | Role::Sentry) {
            pod.ended(&one)?;
            pod.ended(&two)?;
        }
        Ok(())
    };
    let outcome = tried();
    let removed = pod.remove();
    outcome?;
    removed?;
    wait_until("its processes have gone", Duration::from_secs(10), || {
        Ok(processes::of_container(&pod.id).is_empty())
    })
}
