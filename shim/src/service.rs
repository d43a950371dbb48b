//! How do containerd's requests become calls on the pod?
//!
//! Key type: [`Service`]. Each request is handled by a task of its own and only awaited here: ttrpc drops a handler
//! when its caller gives up, and a half-made container would be left behind. Every method is written, because the
//! generated default answers NOT_FOUND, which containerd takes for "the container has gone".

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status, UpdateTaskRequest,
    WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::Task as TaskService;
use sandbox::fields::{self, Part};
use sandbox::{plan, spec};
use serde::de::DeserializeOwned;
use ttrpc::Code;
use ttrpc::r#async::TtrpcContext;

use crate::events::timestamp;
use crate::exits::Exit;
use crate::failure::{Failure, Outcome};
use crate::io::Stdio;
use crate::metrics;
use crate::pod::Pod;
use crate::process::Phase;
use crate::task::{Task, Which};

/// The Task service of one pod.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Pod>);

/// Runs the work to its end even if nobody waits for it any more.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Outcome<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    let outcome = tokio::spawn(work).await.expect("a panic ends the process");
    outcome.map_err(Into::into)
}

fn exited_at(
    exit: Option<Exit>,
) -> MessageField<containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp> {
    MessageField::from_option(exit.map(|exit| timestamp(exit.at)))
}

#[async_trait]
impl TaskService for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let pod = Arc::clone(&self.0);
        let pid = detached(async move { pod.create(request).await }).await?;
        Ok(CreateTaskResponse { pid, ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let pod = Arc::clone(&self.0);
        let pid = detached(async move {
            let which = pod.process(&request.id, &request.exec_id)?;
            pod.start_process(which).await
        })
        .await?;
        Ok(StartResponse { pid, ..Default::default() })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let which = self.0.process(&request.id, &request.exec_id)?;
        Ok(state(&which))
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let which = self.0.process(&request.id, &request.exec_id)?;
        let exit = which.process().wait().await;
        Ok(WaitResponse { exit_status: exit.status, exited_at: exited_at(Some(exit)), ..Default::default() })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let pod = Arc::clone(&self.0);
        let (pid, exit) = detached(async move {
            let which = pod.process(&request.id, &request.exec_id)?;
            pod.delete(which).await
        })
        .await?;
        Ok(DeleteResponse {
            pid,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exited_at(exit),
            ..Default::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let task = self.0.task(&request.id)?;
        let shared = task.cgroup_shared;
        let in_cgroup = task.cgroup.as_ref().filter(|_| !shared).map(sandbox::cgroup::Cgroup::pids);
        let mut pids: Vec<u32> =
            in_cgroup.unwrap_or_default().into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect();
        // Never empty while the container is there: containerd would take it for leaked after a restart.
        if !pids.contains(&task.pid()) {
            pids.insert(0, task.pid());
        }
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, ..Default::default() }).collect();
        Ok(PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        let pod = Arc::clone(&self.0);
        detached(async move { pod.pause(pod.task(&request.id)?, true).await }).await?;
        Ok(Empty::default())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        let pod = Arc::clone(&self.0);
        detached(async move { pod.pause(pod.task(&request.id)?, false).await }).await?;
        Ok(Empty::default())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        Err(Failure::new(Code::UNIMPLEMENTED, "checkpoints are not supported").into())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        /// LINUX: `SIGRTMAX`.
        const SIGNAL_MAX: u32 = 64;
        let pod = Arc::clone(&self.0);
        detached(async move {
            if !(1..=SIGNAL_MAX).contains(&request.signal) {
                return Err(Failure::invalid(format!("signal {} does not exist", request.signal)));
            }
            let which = pod.process(&request.id, &request.exec_id)?;
            pod.kill(&which, request.signal.cast_signed(), request.all).await
        })
        .await?;
        Ok(Empty::default())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        exec(&self.0, &request)?;
        Ok(Empty::default())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let pod = Arc::clone(&self.0);
        detached(async move {
            let which = pod.process(&request.id, &request.exec_id)?;
            let size = |n| u16::try_from(n).unwrap_or(u16::MAX);
            pod.resize(which, size(request.width), size(request.height)).await
        })
        .await?;
        Ok(Empty::default())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        let which = self.0.process(&request.id, &request.exec_id)?;
        if request.stdin {
            which.process().close_stdin();
        }
        Ok(Empty::default())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let pod = Arc::clone(&self.0);
        detached(async move {
            let task = pod.task(&request.id)?;
            let Some(any) = request.resources.as_ref() else { return Ok(()) };
            let resources: spec::Resources = asked(&task, Part::Resources, &any.value)?;
            if task.cgroup.as_ref().is_some_and(sandbox::cgroup::Cgroup::is_v2) {
                task.note(fields::missing_on_v2(&resources));
            }
            let why = "annotations do not change";
            for (key, value) in &request.annotations {
                task.note(vec![fields::note(&format!("annotations.{key}"), &serde_json::json!(value), why)]);
            }
            pod.update(task, resources).await
        })
        .await?;
        Ok(Empty::default())
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let pod = Arc::clone(&self.0);
        let any = detached(async move {
            let (stats, is_v2) = pod.stats(pod.task(&request.id)?).await?;
            Ok(metrics::message(&stats, is_v2)?)
        })
        .await?;
        Ok(StatsResponse { stats: MessageField::some(any), ..Default::default() })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let task_pid = self.0.task(&request.id).map_or(0, |task| task.pid());
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.0.shutdown(request.now);
        Ok(Empty::default())
    }
}

/// Reads what is asked of a container, refuses what is refused and notes what is not done.
fn asked<T: DeserializeOwned>(task: &Task, part: Part, bytes: &[u8]) -> Outcome<T> {
    let name = part.name();
    let wrong = |error: serde_json::Error| Failure::invalid(format!("{name}: {error}"));
    let written = serde_json::from_slice(bytes).map_err(wrong)?;
    let notes = fields::review(part, &written).map_err(|why| Failure::invalid(format!("{name}: {why}")))?;
    let read = serde_json::from_value(written).map_err(wrong)?;
    task.note(notes);
    Ok(read)
}

fn exec(pod: &Pod, request: &ExecProcessRequest) -> Outcome<()> {
    let task = pod.task(&request.id)?;
    let process: spec::Process = match request.spec.as_ref() {
        Some(any) => asked(&task, Part::Process, &any.value)?,
        None => return Err(Failure::invalid("process is missing")),
    };
    let mut notes = Vec::new();
    let mut config = plan::process_config(&process, &mut notes)?;
    task.note(notes);
    config.terminal = request.terminal;
    let stdio = Stdio {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    pod.exec(&task, &request.exec_id, config, stdio)
}

fn state(which: &Which) -> StateResponse {
    let (task, process) = (which.task(), which.process());
    let paused = task.paused.load(std::sync::atomic::Ordering::Relaxed);
    let status = match process.phase() {
        Phase::Created | Phase::Starting(_) => Status::CREATED,
        Phase::Running if paused => Status::PAUSED,
        Phase::Running => Status::RUNNING,
        Phase::Exited(_) => Status::STOPPED,
    };
    let not_started =
        which.exec().is_some() && matches!(process.phase(), Phase::Created | Phase::Starting(_));
    StateResponse {
        id: task.id.clone(),
        bundle: task.bundle.display().to_string(),
        pid: if not_started { 0 } else { task.pid() },
        status: status.into(),
        stdin: process.stdio.stdin.clone(),
        stdout: process.stdio.stdout.clone(),
        stderr: process.stdio.stderr.clone(),
        terminal: process.stdio.terminal,
        exit_status: process.exit().map_or(0, |exit| exit.status),
        exited_at: exited_at(process.exit()),
        exec_id: which.exec().unwrap_or_default().to_owned(),
        ..Default::default()
    }
}
