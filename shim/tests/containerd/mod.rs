//! A stand-in for containerd: runs the shim's binary, speaks ttrpc to it and collects its events.
//!
//! Key type: [`Pod`]. The sentry and the gofer behind the shim are the fakes of `examples/fake_sandbox.rs`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use containerd_shim_protos::api::*;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::{Message, MessageField, well_known_types::any::Any};
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, Events, TaskClient, create_events};
use ttrpc::r#async::{Server, TtrpcContext};
use ttrpc::context::Context;

/// How long anything may take before it counts as hanging.
pub const LIMIT: Duration = Duration::from_secs(20);

/// One event: its topic and the ids in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub topic: String,
    pub event: Any,
}

/// Collects events.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Heard>>>);

#[async_trait]
impl Events for Collector {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope;
        assert_eq!(envelope.namespace, "test");
        let heard =
            Heard { topic: envelope.topic.clone(), event: envelope.event.clone().unwrap_or_default() };
        self.0.lock().expect("whole").push(heard);
        Ok(Empty::default())
    }
}

/// A pod's worth of bundles and the shim that serves them.
pub struct Pod {
    pub directory: tempfile::TempDir,
    pub client: Option<TaskClient>,
    pub address: String,
    pub id: String,
    collector: Collector,
    _events: Server,
}

/// True if the tests can run: namespaces and cgroups are root's.
pub fn possible() -> bool {
    rustix::process::geteuid().is_root()
}

fn fake(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let examples = own.parent().and_then(Path::parent).expect("target").join("examples");
    let path = examples.join(name);
    assert!(path.exists(), "{} is built by cargo test", path.display());
    path
}

impl Pod {
    /// Bundles under a fresh directory, events collected; no shim yet.
    pub async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().expect("a directory");
        let collector = Collector::default();
        let address = format!("unix://{}", directory.path().join("events.sock").display());
        let mut events = Server::new()
            .bind(&address)
            .expect("bound")
            .register_service(create_events(Arc::new(collector.clone())));
        events.start().await.expect("served");
        let id = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { directory, client: None, address: String::new(), id, collector, _events: events }
    }

    pub fn bundle(&self, id: &str) -> PathBuf {
        self.directory.path().join(id)
    }

    /// The cgroup of a container, below each hierarchy.
    pub fn cgroup(&self, id: &str) -> String {
        format!("rvisor-test-{}/{id}", self.id)
    }

    /// Writes a bundle whose program is `args`; `sandbox` makes it a member of that pod.
    pub fn write_bundle(&self, id: &str, args: &[&str], annotations: serde_json::Value) {
        let bundle = self.bundle(id);
        fs::create_dir_all(bundle.join("rootfs")).expect("made");
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": args, "env": [], "cwd": "/"},
            "root": {"path": "rootfs"},
            "annotations": annotations,
            "linux": {"cgroupsPath": format!("/{}", self.cgroup(id)), "namespaces": [{"type": "network"}, {"type": "pid"}]}
        });
        fs::write(bundle.join("config.json"), config.to_string()).expect("written");
    }

    /// Changes a bundle's configuration.
    pub fn change_bundle(&self, id: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.bundle(id).join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("written");
    }

    /// The guard of this pod's server.
    pub fn guard(&self) -> Option<rustix::process::Pid> {
        let socket = self.address.trim_start_matches("unix://");
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .find(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let mut words = line.split(|byte| *byte == 0);
                words.clone().any(|word| word == b"guard") && words.any(|word| word == socket.as_bytes())
            })
            .and_then(rustix::process::Pid::from_raw)
    }

    fn shim(&self, id: &str, action: &str, stdin: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_containerd-shim-rvisor-v2"))
            .args(["-namespace", "test", "-address", "/none", "-publish-binary", "/none", "-id", id, action])
            .current_dir(self.bundle(id))
            .env("RVISOR_SENTRY", fake("fake_sandbox"))
            .env("RVISOR_GOFER", fake("fake_sandbox"))
            .env("TTRPC_ADDRESS", self.directory.path().join("events.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the shim runs");
        child.stdin.take().expect("piped").write_all(stdin).expect("read");
        child.wait_with_output().expect("the shim ends")
    }

    /// `start` in the protocol of containerd 2.3; connects to what it answers.
    pub async fn start_shim(&mut self, id: &str) -> BootstrapResult {
        let params = BootstrapParams {
            instance_id: id.to_owned(),
            namespace: "test".to_owned(),
            socket_dir: Some(self.directory.path().join("s").display().to_string()),
            ..BootstrapParams::default()
        };
        let output = self.shim(id, "start", &params.write_to_bytes().expect("encodes"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.is_empty(), "start: {text}");
        let result = BootstrapResult::parse_from_bytes(&output.stdout).expect("a protobuf answer");
        self.address.clone_from(&result.address);
        let client = Client::connect(&result.address).await.expect("the shim serves");
        self.client = Some(TaskClient::new(client));
        result
    }

    /// `start` as older containerds do it.
    pub fn start_legacy(&self, id: &str) -> Output {
        self.shim(id, "start", b"")
    }

    /// `delete`.
    pub fn delete_shim(&self, id: &str) -> DeleteResponse {
        let output = self.shim(id, "delete", b"");
        assert!(output.status.success(), "delete: {}", String::from_utf8_lossy(&output.stderr));
        DeleteResponse::parse_from_bytes(&output.stdout).expect("a protobuf answer")
    }

    pub fn client(&self) -> &TaskClient {
        self.client.as_ref().expect("started")
    }

    /// A bundle, a shim and a created container.
    pub async fn with_container(args: &[&str]) -> Self {
        let mut pod = Self::new().await;
        let id = pod.id.clone();
        pod.write_bundle(&id, args, serde_json::Value::Null);
        pod.start_shim(&id).await;
        pod.create(&id).await.expect("created");
        pod
    }

    pub async fn create(&self, id: &str) -> ttrpc::Result<u32> {
        let request = CreateTaskRequest {
            id: id.to_owned(),
            bundle: self.bundle(id).display().to_string(),
            ..CreateTaskRequest::default()
        };
        self.client().create(context(), &request).await.map(|response| response.pid)
    }

    pub async fn start(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        let request = StartRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        self.client().start(context(), &request).await.map(|response| response.pid)
    }

    pub async fn wait(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        let request = WaitRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        self.client().wait(context(), &request).await.map(|response| response.exit_status)
    }

    pub async fn state(&self, id: &str, exec: &str) -> ttrpc::Result<StateResponse> {
        let request = StateRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        self.client().state(context(), &request).await
    }

    pub async fn kill(&self, id: &str, exec: &str, signal: u32) -> ttrpc::Result<()> {
        let (id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = KillRequest { id, exec_id, signal, ..Default::default() };
        self.client().kill(context(), &request).await.map(|_| ())
    }

    pub async fn delete(&self, id: &str, exec: &str) -> ttrpc::Result<u32> {
        let request = DeleteRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        self.client().delete(context(), &request).await.map(|response| response.exit_status)
    }

    pub async fn exec(&self, id: &str, exec: &str, args: &[&str], stdout: &str) -> ttrpc::Result<()> {
        let process = serde_json::json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}});
        let spec = Any { value: process.to_string().into_bytes(), ..Any::default() };
        let request = ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            stdout: stdout.to_owned(),
            spec: MessageField::some(spec),
            ..Default::default()
        };
        self.client().exec(context(), &request).await.map(|_| ())
    }

    /// Asks the shim to end and waits until its socket has gone.
    pub async fn shutdown(&self) {
        let request = ShutdownRequest { id: self.id.clone(), ..Default::default() };
        self.client().shutdown(context(), &request).await.expect("always granted");
        let socket = PathBuf::from(self.address.trim_start_matches("unix://"));
        eventually("the shim has gone", || !socket.exists()).await;
    }

    /// Topics heard so far, without the leading `/tasks/`.
    pub fn topics(&self) -> Vec<String> {
        let heard = self.collector.0.lock().expect("whole");
        heard.iter().map(|h| h.topic.trim_start_matches("/tasks/").to_owned()).collect()
    }

    /// Topics heard so far that name this container.
    pub fn heard_of(&self, id: &str) -> Vec<String> {
        let heard = self.collector.0.lock().expect("whole");
        let names = |h: &&Heard| h.event.value.windows(id.len()).any(|part| part == id.as_bytes());
        heard.iter().filter(names).map(|h| h.topic.trim_start_matches("/tasks/").to_owned()).collect()
    }

    /// The events of one topic.
    pub fn events<M: Message>(&self, topic: &str) -> Vec<M> {
        let heard = self.collector.0.lock().expect("whole");
        let found = heard.iter().filter(|h| h.topic == format!("/tasks/{topic}"));
        found.map(|h| M::parse_from_bytes(&h.event.value).expect("decodes")).collect()
    }

    /// Nothing of a container is left on the host: no cgroup, no record, no mount, no process.
    pub async fn nothing_is_left(&self, id: &str) {
        assert!(!self.bundle(id).join("rvisor.json").exists(), "the record is left");
        let own = self.directory.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        assert!(!mounts.contains(&own), "a mount is left");
        let left = cgroup_directories(&self.cgroup(id));
        assert!(left.is_empty(), "cgroups are left: {left:?}");
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Whatever a failed test left: the server is the only process with our directory as its socket's.
        for pid in processes_with(&self.directory.path().display().to_string()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for directory in cgroup_directories(&format!("rvisor-test-{}", self.id)) {
            for child in fs::read_dir(&directory).into_iter().flatten().flatten() {
                for below in ["container", "sandbox"] {
                    let _ = fs::remove_dir(child.path().join(below));
                }
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Where a cgroup exists.
pub fn cgroup_directories(name: &str) -> Vec<PathBuf> {
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    roots.chain(["/sys/fs/cgroup".into()]).map(|root| root.join(name)).filter(|path| path.is_dir()).collect()
}

/// Processes whose working directory is below `path`: the shim's servers.
pub fn processes_with(path: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != i32::try_from(std::process::id()).expect("a pid"))
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(path)))
        .collect()
}

pub fn context() -> Context {
    ttrpc::context::with_duration(LIMIT)
}

/// The code of a failed call.
pub fn code<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> ttrpc::Code {
    match result.expect_err("a failure") {
        ttrpc::Error::RpcStatus(status) => status.code.enum_value().expect("a known code"),
        other => panic!("not a status: {other}"),
    }
}

/// Waits for something to become true.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !check() {
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
