//! What containerd relies on, tried through the shim's own binary and socket with a fake sentry behind it.
//!
//! Each test is skipped for other users than root: namespaces and cgroups are root's.

#![allow(missing_docs, reason = "a test")]

mod containerd;

use containerd::{LIMIT, Pod, cgroup_directories, code, context, eventually, possible, processes_with};
use containerd_shim_protos::api::*;
use containerd_shim_protos::events::task::{TaskDelete, TaskExit};
use containerd_shim_protos::protobuf::{EnumOrUnknown, Message};
use ttrpc::Code;

#[tokio::test]
async fn a_container_runs_from_create_to_delete_and_its_events_are_in_order() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["exit", "42"]).await;
    let id = pod.id.clone();
    assert_eq!(pod.state(&id, "").await.expect("there").status, EnumOrUnknown::new(Status::CREATED));
    // Wait is asked before Start, as CRI does.
    let (status, started) = tokio::join!(pod.wait(&id, ""), pod.start(&id, ""));
    assert_eq!(status.expect("waited"), 42);
    assert!(started.expect("started") > 0);
    let state = pod.state(&id, "").await.expect("there");
    assert_eq!((state.status, state.exit_status), (EnumOrUnknown::new(Status::STOPPED), 42));
    assert!(state.exited_at.is_some());
    assert_eq!(pod.wait(&id, "").await.expect("waited again"), 42);
    assert_eq!(code(pod.kill(&id, "", 15).await), Code::NOT_FOUND);
    assert_eq!(pod.delete(&id, "").await.expect("deleted"), 42);
    assert_eq!(code(pod.delete(&id, "").await), Code::NOT_FOUND);
    pod.shutdown().await;
    assert_eq!(pod.topics(), ["create", "start", "exit", "delete"]);
    assert_eq!(pod.events::<TaskExit>("exit")[0].id, id);
    assert_eq!(pod.events::<TaskDelete>("delete")[0].exit_status, 42);
    pod.nothing_is_left(&id).await;
}

#[tokio::test]
async fn processes_in_a_container_are_told_before_its_own_end() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    pod.start(&id, "").await.expect("started");
    assert_eq!(code(pod.start(&id, "").await), Code::FAILED_PRECONDITION);
    pod.exec(&id, "e1", &["exit", "7"], "").await.expect("noted");
    assert_eq!(code(pod.exec(&id, "e1", &["exit", "7"], "").await), Code::ALREADY_EXISTS);
    assert_eq!(code(pod.kill(&id, "e1", 9).await), Code::FAILED_PRECONDITION);
    pod.start(&id, "e1").await.expect("started");
    assert_eq!(pod.wait(&id, "e1").await.expect("waited"), 7);
    assert_eq!(pod.delete(&id, "e1").await.expect("deleted"), 7);
    assert_eq!(code(pod.state(&id, "e1").await), Code::NOT_FOUND);
    // This one is still there when the container's first process is killed.
    pod.exec(&id, "e2", &["sleep"], "").await.expect("noted");
    pod.start(&id, "e2").await.expect("started");
    assert_eq!(code(pod.delete(&id, "").await), Code::FAILED_PRECONDITION);
    pod.kill(&id, "", 9).await.expect("killed");
    assert_eq!(pod.wait(&id, "").await.expect("waited"), 137);
    assert_eq!(pod.wait(&id, "e2").await.expect("waited"), 137);
    assert_eq!(code(pod.exec(&id, "e3", &["sleep"], "").await), Code::FAILED_PRECONDITION);
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
    let expected = [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "exec-added",
        "exec-started",
        "exit",
        "exit",
        "delete",
    ];
    assert_eq!(pod.topics(), expected);
    let exits: Vec<_> = pod.events::<TaskExit>("exit").into_iter().map(|exit| exit.id).collect();
    assert_eq!(exits, ["e1".to_owned(), "e2".to_owned(), id]);
}

#[tokio::test]
async fn a_container_that_was_never_started_can_be_deleted_and_killed() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    assert_eq!(pod.delete(&id, "").await.expect("deleted"), 0);
    pod.create(&id).await.expect("created again");
    pod.kill(&id, "", 9).await.expect("killed");
    assert_eq!(pod.wait(&id, "").await.expect("waited"), 137);
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
    pod.nothing_is_left(&id).await;
}

#[tokio::test]
async fn input_and_output_go_through_the_named_pipes() {
    if !possible() {
        return;
    }
    let mut pod = Pod::new().await;
    let id = pod.id.clone();
    pod.write_bundle(&id, &["cat"], serde_json::Value::Null);
    pod.start_shim(&id).await;
    let fifo = |name: &str| {
        let path = pod.directory.path().join(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("made");
        path
    };
    let (stdin, stdout) = (fifo("stdin"), fifo("stdout"));
    let request = CreateTaskRequest {
        id: id.clone(),
        bundle: pod.bundle(&id).display().to_string(),
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        ..Default::default()
    };
    let reader = tokio::task::spawn_blocking({
        let stdout = stdout.clone();
        move || std::fs::read_to_string(stdout).expect("read to the end")
    });
    pod.client().create(context(), &request).await.expect("created");
    pod.start(&id, "").await.expect("started");
    tokio::task::spawn_blocking(move || std::fs::write(stdin, "hello").expect("written"))
        .await
        .expect("joined");
    let request = CloseIORequest { id: id.clone(), stdin: true, ..Default::default() };
    pod.client().close_io(context(), &request).await.expect("closed");
    assert_eq!(pod.wait(&id, "").await.expect("waited"), 0);
    let text = tokio::time::timeout(LIMIT, reader).await.expect("the output ends").expect("joined");
    assert_eq!(text, "hello");
    let state = pod.state(&id, "").await.expect("there");
    assert_eq!(state.stdout, stdout.display().to_string());
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
}

fn fifo(pod: &Pod, name: &str) -> std::path::PathBuf {
    let path = pod.directory.path().join(name);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("made");
    path
}

#[tokio::test]
async fn what_ends_at_once_is_read_to_its_end_however_late_its_reader_comes() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    pod.start(&id, "").await.expect("started");
    let stdout = fifo(&pod, "stdout");
    pod.exec(&id, "e", &["echo", "all of it"], &stdout.display().to_string()).await.expect("noted");
    // As containerd's client: its end is opened in the background, which may be long after the request.
    let reader = tokio::task::spawn_blocking(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        std::fs::read_to_string(stdout).expect("read to the end")
    });
    pod.start(&id, "e").await.expect("started");
    assert_eq!(pod.wait(&id, "e").await.expect("waited"), 0);
    let text = tokio::time::timeout(LIMIT, reader).await.expect("the output ends").expect("joined");
    assert_eq!(text, "all of it");
    pod.kill(&id, "", 9).await.expect("killed");
    pod.wait(&id, "").await.expect("waited");
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
}

#[tokio::test]
async fn a_start_that_takes_its_time_delays_nobody_and_is_told_before_its_exit() {
    if !possible() {
        return;
    }
    let mut pod = Pod::new().await;
    let (sandbox, member) = (pod.id.clone(), format!("{}-m", pod.id));
    let annotations = |kind: &str| serde_json::json!({"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": sandbox});
    pod.write_bundle(&sandbox, &["sleep"], annotations("sandbox"));
    pod.write_bundle(&member, &["exit", "3"], annotations("container"));
    let go = pod.directory.path().join("go");
    let script = format!("until test -e {}; do sleep 0.01; done", go.display());
    pod.change_bundle(&member, |config| {
        config["hooks"] =
            serde_json::json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    pod.start_shim(&sandbox).await;
    for id in [&sandbox, &member] {
        pod.create(id).await.expect("created");
    }
    pod.start(&sandbox, "").await.expect("started");
    // The member has ended, and its hook has not.
    let others = async {
        pod.exec(&sandbox, "e", &["exit", "7"], "").await.expect("noted");
        pod.start(&sandbox, "e").await.expect("started");
        let status = pod.wait(&sandbox, "e").await;
        std::fs::write(&go, "").expect("written");
        status.expect("told while the member starts")
    };
    let (started, waited, status) = tokio::join!(pod.start(&member, ""), pod.wait(&member, ""), others);
    assert!(started.expect("started") > 0);
    assert_eq!((waited.expect("waited"), status), (3, 7));
    for id in [&member, &sandbox] {
        let _ = pod.kill(id, "", 9).await;
        pod.wait(id, "").await.expect("waited");
        pod.delete(id, "").await.expect("deleted");
    }
    pod.shutdown().await;
    let of_member: Vec<_> = pod.heard_of(&member);
    assert_eq!(of_member, ["create", "start", "exit", "delete"]);
}

#[tokio::test]
async fn a_guard_that_is_killed_has_a_successor_that_knows_what_it_knew() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    pod.start(&id, "").await.expect("started");
    let first = pod.guard().expect("a guard");
    rustix::process::kill_process(first, rustix::process::Signal::KILL).expect("killed");
    eventually("another guard", || pod.guard().is_some_and(|guard| guard != first)).await;
    let request = ConnectRequest { id: id.clone(), ..Default::default() };
    let shim = pod.client().connect(context(), &request).await.expect("connected").shim_pid;
    let shim = rustix::process::Pid::from_raw(shim.cast_signed()).expect("a pid");
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("killed");
    // Nobody runs `delete`.
    let socket = std::path::PathBuf::from(pod.address.trim_start_matches("unix://"));
    eventually("the guard has removed the socket", || !socket.exists()).await;
    eventually("the guard has removed the cgroups", || cgroup_directories(&pod.cgroup(&id)).is_empty()).await;
    eventually("the guard has gone", || pod.guard().is_none()).await;
}

#[tokio::test]
async fn a_crashed_sentry_ends_its_containers_with_a_true_status() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["crash"]).await;
    let id = pod.id.clone();
    let _ = pod.start(&id, "").await;
    assert_eq!(pod.wait(&id, "").await.expect("waited"), 255);
    assert_eq!(code(pod.kill(&id, "", 9).await), Code::NOT_FOUND);
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
    assert_eq!(pod.topics().last().map(String::as_str), Some("delete"));
    pod.nothing_is_left(&id).await;
}

#[tokio::test]
async fn a_killed_shim_takes_everything_with_it_and_delete_cleans_up() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    let sentry = pod.start(&id, "").await.expect("started");
    assert!(!cgroup_directories(&pod.cgroup(&id)).is_empty(), "the container has a cgroup");
    let request = ConnectRequest { id: id.clone(), ..Default::default() };
    let connected = pod.client().connect(context(), &request).await.expect("connected");
    assert_eq!(connected.task_pid, sentry);
    let shim = rustix::process::Pid::from_raw(connected.shim_pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("killed");
    eventually("the sentry has gone", || {
        !std::path::Path::new(&format!("/proc/{sentry}/exe")).exists()
            || std::fs::read_link(format!("/proc/{sentry}/exe")).is_err()
    })
    .await;
    assert_eq!(pod.delete_shim(&id).exit_status, 137);
    pod.nothing_is_left(&id).await;
    assert!(processes_with(&pod.directory.path().display().to_string()).is_empty());
    // A second time there is nothing to do, and that is fine.
    assert_eq!(pod.delete_shim(&id).exit_status, 137);
}

#[tokio::test]
async fn failures_have_the_code_that_containerd_acts_on() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    assert_eq!(code(pod.create(&id).await), Code::ALREADY_EXISTS);
    assert_eq!(code(pod.state("nobody", "").await), Code::NOT_FOUND);
    assert_eq!(code(pod.kill(&id, "", 99).await), Code::INVALID_ARGUMENT);
    let request = CheckpointTaskRequest { id: id.clone(), ..Default::default() };
    assert_eq!(code(pod.client().checkpoint(context(), &request).await), Code::UNIMPLEMENTED);
    let request = PauseRequest { id: id.clone(), ..Default::default() };
    assert_eq!(code(pod.client().pause(context(), &request).await), Code::FAILED_PRECONDITION);
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
}

#[tokio::test]
async fn a_bundle_that_cannot_run_is_refused_in_one_line_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let mut pod = Pod::new().await;
    let id = pod.id.clone();
    pod.write_bundle(&id, &["missing"], serde_json::Value::Null);
    pod.start_shim(&id).await;
    let refuse = |result: ttrpc::Result<u32>, expected: &str| {
        let text = result.expect_err("refused").to_string();
        assert!(text.contains(expected) && !text.contains('\n'), "{text}");
    };
    refuse(pod.create(&id).await, "missing: no such file or directory");
    pod.nothing_is_left(&id).await;
    pod.write_bundle(&id, &[], serde_json::Value::Null);
    refuse(pod.create(&id).await, "process.args is empty");
    std::fs::write(pod.bundle(&id).join("config.json"), "{").expect("written");
    refuse(pod.create(&id).await, "is not a container configuration");
    pod.write_bundle(&id, &["exit", "0"], serde_json::Value::Null);
    std::fs::remove_dir(pod.bundle(&id).join("rootfs")).expect("removed");
    refuse(pod.create(&id).await, "is not a directory");
    pod.nothing_is_left(&id).await;
    pod.shutdown().await;
}

#[tokio::test]
async fn pausing_and_figures_come_from_the_containers_cgroup() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    pod.start(&id, "").await.expect("started");
    let pause = PauseRequest { id: id.clone(), ..Default::default() };
    pod.client().pause(context(), &pause).await.expect("paused");
    assert_eq!(pod.state(&id, "").await.expect("there").status, EnumOrUnknown::new(Status::PAUSED));
    assert_eq!(code(pod.client().pause(context(), &pause).await), Code::FAILED_PRECONDITION);
    let request = StatsRequest { id: id.clone(), ..Default::default() };
    let any = pod.client().stats(context(), &request).await.expect("figures").stats.unwrap_or_default();
    if any.type_url == "io.containerd.cgroups.v1.Metrics" {
        let metrics = containerd_shim_protos::cgroups::metrics::Metrics::parse_from_bytes(&any.value);
        assert!(metrics.expect("decodes").pids.current > 0);
    } else {
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
    }
    let pids = PidsRequest { id: id.clone(), ..Default::default() };
    assert!(!pod.client().pids(context(), &pids).await.expect("pids").processes.is_empty());
    let resume = ResumeRequest { id: id.clone(), ..Default::default() };
    pod.client().resume(context(), &resume).await.expect("resumed");
    pod.kill(&id, "", 9).await.expect("killed");
    pod.wait(&id, "").await.expect("waited");
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
    assert_eq!(pod.topics(), ["create", "start", "paused", "resumed", "exit", "delete"]);
}

#[tokio::test]
async fn a_pods_containers_share_one_shim_which_lives_until_the_last_has_gone() {
    if !possible() {
        return;
    }
    let mut pod = Pod::new().await;
    let (sandbox, member) = (pod.id.clone(), format!("{}-m", pod.id));
    let annotations = |kind: &str| serde_json::json!({"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": sandbox});
    pod.write_bundle(&sandbox, &["sleep"], annotations("sandbox"));
    pod.write_bundle(&member, &["exit", "3"], annotations("container"));
    let first = pod.start_shim(&sandbox).await;
    assert_eq!((first.version, first.protocol.as_str()), (3, "ttrpc"));
    assert_eq!(code(pod.create(&member).await), Code::FAILED_PRECONDITION);
    pod.create(&sandbox).await.expect("created");
    pod.start(&sandbox, "").await.expect("started");
    let second = pod.start_shim(&member).await;
    assert_eq!(first.address, second.address);
    pod.create(&member).await.expect("created");
    pod.start(&member, "").await.expect("started");
    assert_eq!(pod.wait(&member, "").await.expect("waited"), 3);
    // containerd asks once, when the sandbox goes; the member is still there then.
    pod.kill(&sandbox, "", 9).await.expect("killed");
    pod.wait(&sandbox, "").await.expect("waited");
    pod.delete(&sandbox, "").await.expect("deleted");
    let request = ShutdownRequest { id: sandbox.clone(), ..Default::default() };
    pod.client().shutdown(context(), &request).await.expect("granted");
    assert_eq!(pod.state(&member, "").await.expect("still served").exit_status, 3);
    pod.delete(&member, "").await.expect("deleted");
    eventually("the shim has gone", || {
        !std::path::Path::new(pod.address.trim_start_matches("unix://")).exists()
    })
    .await;
    pod.nothing_is_left(&sandbox).await;
    pod.nothing_is_left(&member).await;
}

#[tokio::test]
async fn older_containerds_get_a_bare_address_and_version_two() {
    if !possible() {
        return;
    }
    let mut pod = Pod::new().await;
    let id = pod.id.clone();
    pod.write_bundle(&id, &["exit", "0"], serde_json::Value::Null);
    let output = pod.start_legacy(&id);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.starts_with("unix:///run/containerd/s/"), "{text}");
    assert_eq!(std::fs::read_to_string(pod.bundle(&id).join("address")).expect("written"), text);
    pod.address.clone_from(&text);
    let client = containerd_shim_protos::shim_async::Client::connect(&text).await.expect("served");
    let ask = |service: &str| ttrpc::Request {
        service: service.to_owned(),
        method: "Shutdown".to_owned(),
        payload: ShutdownRequest::default().write_to_bytes().expect("encodes"),
        ..Default::default()
    };
    assert!(client.request(ask("containerd.task.v9.Task")).await.is_err());
    client.request(ask("containerd.task.v2.Task")).await.expect("served under the old name");
    let socket = text.trim_start_matches("unix://").to_owned();
    eventually("the shim has gone", || !std::path::Path::new(&socket).exists()).await;
}

/// Pids in a container's record: the sentry, then the gofer.
fn recorded(pod: &Pod) -> Vec<rustix::process::Pid> {
    let record = std::fs::read(pod.bundle(&pod.id).join("rvisor.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    let pids = record["processes"].as_array().expect("a list").iter();
    let number = |p: &serde_json::Value| i32::try_from(p["pid"].as_i64().expect("a number")).expect("a pid");
    pids.map(|p| rustix::process::Pid::from_raw(number(p)).expect("not zero")).collect()
}

#[tokio::test]
async fn a_killed_sentry_ends_its_containers_as_killed() {
    if !possible() {
        return;
    }
    for started in [false, true] {
        let pod = Pod::with_container(&["sleep"]).await;
        let id = pod.id.clone();
        if started {
            pod.start(&id, "").await.expect("started");
        }
        rustix::process::kill_process(recorded(&pod)[0], rustix::process::Signal::KILL).expect("killed");
        assert_eq!(pod.wait(&id, "").await.expect("waited"), 137);
        pod.delete(&id, "").await.expect("deleted");
        pod.shutdown().await;
        pod.nothing_is_left(&id).await;
    }
}

#[tokio::test]
async fn a_killed_gofer_ends_its_container() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["deaf"]).await;
    let id = pod.id.clone();
    pod.start(&id, "").await.expect("started");
    pod.kill(&id, "", 15).await.expect("sent");
    assert_eq!(pod.state(&id, "").await.expect("there").status, EnumOrUnknown::new(Status::RUNNING));
    rustix::process::kill_process(recorded(&pod)[1], rustix::process::Signal::KILL).expect("killed");
    assert_eq!(pod.wait(&id, "").await.expect("waited"), 137);
    pod.delete(&id, "").await.expect("deleted");
    pod.shutdown().await;
    pod.nothing_is_left(&id).await;
}

#[tokio::test]
async fn a_terminated_shim_ends_in_good_order() {
    if !possible() {
        return;
    }
    let pod = Pod::with_container(&["sleep"]).await;
    let id = pod.id.clone();
    pod.start(&id, "").await.expect("started");
    let request = ConnectRequest { id: id.clone(), ..Default::default() };
    let shim = pod.client().connect(context(), &request).await.expect("connected").shim_pid;
    let shim = rustix::process::Pid::from_raw(shim.cast_signed()).expect("a pid");
    rustix::process::kill_process(shim, rustix::process::Signal::TERM).expect("sent");
    let socket = std::path::PathBuf::from(pod.address.trim_start_matches("unix://"));
    eventually("the shim has gone", || !socket.exists()).await;
    pod.nothing_is_left(&id).await;
}

#[tokio::test]
async fn a_shim_killed_while_it_creates_leaves_nothing_after_delete() {
    if !possible() {
        return;
    }
    // Killed at different moments of the same short time: before, in and after the making of cgroups and sentry.
    for delay_us in [0, 300, 1000, 2000, 4000, 8000] {
        let mut pod = Pod::new().await;
        let id = pod.id.clone();
        pod.write_bundle(&id, &["sleep"], serde_json::Value::Null);
        pod.start_shim(&id).await;
        let request = ConnectRequest { id: id.clone(), ..Default::default() };
        let shim = pod.client().connect(context(), &request).await.expect("connected").shim_pid;
        let shim = rustix::process::Pid::from_raw(shim.cast_signed()).expect("a pid");
        let killer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(delay_us));
            rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("killed");
        });
        // The client does not always notice that its server has gone.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), pod.create(&id)).await;
        killer.join().expect("killed");
        pod.delete_shim(&id);
        pod.nothing_is_left(&id).await;
    }
}
