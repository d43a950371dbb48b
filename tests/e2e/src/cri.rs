//! How do the cases speak as a kubelet does: pods and containers through containerd's CRI socket?
//!
//! Key types: [`Cri`] (the connection) and [`Pod`] (a sandbox on the world's bridge, removed with all its containers when
//! dropped). The wire is `cri/client.py`'s matter: one line of JSON each way.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::command::wait_until;
use crate::world::{BUSYBOX, World};

/// The runtime handler under test, as in a RuntimeClass.
pub const HANDLER: &str = "undertest";
/// The image of a pod's sandbox container.
pub const PAUSE: &str = "localhost/pause:1";

/// A connection to containerd's CRI.
#[derive(Debug)]
pub struct Cri {
    client: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Cri {
    /// Starts the client.
    ///
    /// # Errors
    /// When it cannot be started, or CRI is not ready in 20 seconds.
    pub fn connect(socket: &str) -> Result<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("cri/client.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(program).arg(socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = command.spawn().context("start the CRI client")?;
        let pipes = client.stdin.take().zip(client.stdout.take()).context("no pipes")?;
        let cri = Self { client, pipes: RefCell::new((pipes.0, BufReader::new(pipes.1))) };
        cri.ready()?;
        Ok(cri)
    }

    /// Waits until containerd says that pods can be run.
    ///
    /// # Errors
    /// When it does not in 30 seconds.
    pub fn ready(&self) -> Result<()> {
        wait_until("CRI is ready", Duration::from_secs(30), || {
            let Ok(status) = self.call("Status", json!({})) else { return Ok(false) };
            let conditions = status.pointer("/status/conditions").and_then(Value::as_array);
            Ok(conditions.is_some_and(|all| all.iter().all(|c| c["status"] == json!(true))))
        })
    }

    /// Calls a method.
    ///
    /// # Errors
    /// What containerd answers, or that the client has ended.
    pub fn call(&self, method: &str, request: Value) -> Result<Value> {
        let mut pipes = self.pipes.borrow_mut();
        writeln!(pipes.0, "{method} {request}").context("the CRI client has ended")?;
        let mut line = String::new();
        pipes.1.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("the CRI client has ended")?;
        match answer.get("error") {
            Some(error) => bail!("{method}: {}", error.as_str().unwrap_or("?")),
            None => Ok(answer),
        }
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// A text field; empty when it is left out.
#[must_use]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// A number, of 32 or 64 bits; 0 when it is left out.
#[must_use]
pub fn number(value: &Value, pointer: &str) -> u64 {
    match value.pointer(pointer) {
        Some(Value::String(digits)) => digits.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    }
}

/// A running pod.
#[derive(Debug)]
pub struct Pod<'a> {
    /// Its id.
    pub id: String,
    /// Its address on the bridge.
    pub ip: String,
    /// Where its containers' logs are.
    pub logs: PathBuf,
    cri: &'a Cri,
    config: Value,
    cgroup: String,
}

impl<'a> Pod<'a> {
    /// Runs a pod without containers.
    ///
    /// # Errors
    /// When containerd says so, or it has no address.
    pub fn run(world: &'a World) -> Result<Self> {
        let cri = world.cri()?;
        let name = world.container().id.clone();
        let logs = world.dir.path().join(&name);
        std::fs::create_dir(&logs)?;
        let cgroup = format!("/{}/{name}", world.mark);
        let config = json!({
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "hostname": "the-pod",
            "log_directory": logs.display().to_string(),
            "linux": {"cgroup_parent": cgroup},
        });
        let request = json!({"config": config, "runtime_handler": HANDLER});
        let id = text(&cri.call("RunPodSandbox", request)?, "/pod_sandbox_id").to_owned();
        let mut pod = Self { id, ip: String::new(), logs, cri, config, cgroup };
        let status = cri.call("PodSandboxStatus", json!({"pod_sandbox_id": pod.id}))?;
        pod.ip = text(&status, "/status/network/ip").to_owned();
        ensure!(!pod.ip.is_empty(), "the pod has no address: {status}");
        Ok(pod)
    }

    /// Creates and starts a container of the busybox image; returns its id.
    ///
    /// # Errors
    /// When containerd says so.
    pub fn start(&self, name: &str, command: &[&str], resources: Value) -> Result<String> {
        self.start_in(name, command, resources, json!({"pid": "CONTAINER"}))
    }

    /// The same, with namespaces of its own choice.
    ///
    /// # Errors
    /// When containerd says so.
    pub fn start_in(
        &self,
        name: &str,
        command: &[&str],
        resources: Value,
        namespaces: Value,
    ) -> Result<String> {
        self.start_as(name, command, (resources, namespaces), json!([]))
    }

    /// The same as [`Pod::start`], with mounts of the host's files.
    ///
    /// # Errors
    /// When containerd says so.
    pub fn start_with(
        &self,
        name: &str,
        command: &[&str],
        resources: Value,
        mounts: Value,
    ) -> Result<String> {
        self.start_as(name, command, (resources, json!({"pid": "CONTAINER"})), mounts)
    }

    fn start_as(
        &self,
        name: &str,
        command: &[&str],
        (resources, namespaces): (Value, Value),
        mounts: Value,
    ) -> Result<String> {
        let config = json!({
            "metadata": {"name": name},
            "image": {"image": BUSYBOX},
            "command": command,
            "mounts": mounts,
            "envs": [{"key": "COLOUR", "value": "blue"}],
            "log_path": format!("{name}.log"),
            "linux": {"resources": resources, "security_context": {"namespace_options": namespaces}},
        });
        let request =
            json!({"pod_sandbox_id": self.id, "config": config, "sandbox_config": self.config.clone()});
        let id = text(&self.cri.call("CreateContainer", request)?, "/container_id").to_owned();
        self.cri.call("StartContainer", json!({"container_id": id}))?;
        Ok(id)
    }

    /// Its cgroup, below each hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> &str {
        self.cgroup.trim_start_matches('/')
    }

    /// Runs a shell script in a container.
    ///
    /// # Errors
    /// When containerd says so; the script's own failure is in the answer.
    pub fn exec(&self, container: &str, script: &str, timeout: u64) -> Result<Value> {
        let command = ["sh", "-c", script];
        self.cri.call("ExecSync", json!({"container_id": container, "cmd": command, "timeout": timeout}))
    }

    /// The status of a container.
    ///
    /// # Errors
    /// When containerd says so.
    pub fn status(&self, container: &str) -> Result<Value> {
        Ok(self.cri.call("ContainerStatus", json!({"container_id": container}))?["status"].take())
    }

    /// Waits until a container has ended; returns its status.
    ///
    /// # Errors
    /// When it does not in 20 seconds.
    pub fn ended(&self, container: &str) -> Result<Value> {
        let mut status = Value::Null;
        let ended = wait_until("the container ends", Duration::from_secs(20), || {
            status = self.status(container)?;
            Ok(status["state"] == "CONTAINER_EXITED")
        });
        ended.with_context(|| format!("{status}"))?;
        Ok(status)
    }

    /// Calls a method about one container.
    ///
    /// # Errors
    /// When containerd says so.
    pub fn about(&self, method: &str, container: &str, more: Value) -> Result<Value> {
        let mut request = json!({"container_id": container});
        if let (Some(request), Value::Object(more)) = (request.as_object_mut(), more) {
            request.extend(more);
        }
        self.cri.call(method, request)
    }

    /// Calls a method about the pod.
    ///
    /// # Errors
    /// When containerd says so.
    pub fn about_pod(&self, method: &str, more: Value) -> Result<Value> {
        let mut request = json!({"pod_sandbox_id": self.id});
        if let (Some(request), Value::Object(more)) = (request.as_object_mut(), more) {
            request.extend(more);
        }
        self.cri.call(method, request)
    }

    /// A file of a container's cgroup, in whichever hierarchy has it.
    #[must_use]
    pub fn cgroup_file(&self, container: &str, names: &[&str]) -> Option<String> {
        let below = format!("{}/{container}", self.cgroup.trim_start_matches('/'));
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].map(|root| Path::new(root).join(&below));
        let mut files = roots.iter().flat_map(|root| names.iter().map(move |name| root.join(name)));
        files.find_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
    }

    /// Stops and removes the pod with all that is in it, and its cgroup, which is the kubelet's to remove.
    ///
    /// # Errors
    /// When something is refused or stays.
    pub fn remove(&self) -> Result<()> {
        let id = json!({"pod_sandbox_id": self.id});
        self.cri.call("StopPodSandbox", id.clone())?;
        self.cri.call("RemovePodSandbox", id)?;
        let pods = self.cri.call("ListPodSandbox", json!({}))?;
        ensure!(!pods.to_string().contains(&self.id), "the pod is still listed: {pods}");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup")?.flatten() {
            let path = hierarchy.path().join(self.cgroup.trim_start_matches('/'));
            if path.exists() {
                std::fs::remove_dir(&path).with_context(|| format!("left in {}", path.display()))?;
            }
        }
        Ok(())
    }
}
