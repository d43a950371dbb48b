//! How does a process begin: a container's first, or one that `Exec` has noted?
//!
//! Methods of [`Pod`]. What takes its time, hooks and the opening of streams among it, holds up nobody else; that a start is
//! told before its exit is the matter of `process`.

use std::os::fd::AsFd;
use std::sync::Arc;

use containerd_shim_protos::events::task::{TaskExecStarted, TaskStart};
use containerd_shim_protos::topics;
use sandbox::client::CallError;
use sandbox::hooks;

use crate::exits::{Exit, NOT_STARTED};
use crate::failure::{Asked, Failure, Outcome};
use crate::io;
use crate::pod::{Pod, Running, blocking};
use crate::process::Phase;
use crate::task::{Exec, Task, Which};

/// Why a process was not started.
enum StartError {
    Shim(Failure),
    Sentry(sandbox::Error),
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Shim(failure)
    }
}

impl StartError {
    fn into_failure(self, asked: Asked) -> Failure {
        match self {
            Self::Shim(failure) => failure,
            Self::Sentry(error) => Failure::of_process(asked, error),
        }
    }

    fn is_sentry_gone(&self) -> bool {
        matches!(self, Self::Sentry(sandbox::Error::Call(CallError::Gone)))
    }
}

impl Pod {
    /// Starts a process.
    pub(crate) async fn start_process(self: &Arc<Self>, which: Which) -> Outcome<u32> {
        let process = which.process();
        if !process.begin() {
            return Err(Failure::precondition(match process.phase() {
                Phase::Exited(_) => "cannot start a stopped process",
                Phase::Created | Phase::Starting(_) | Phase::Running => "cannot start a running process",
            }));
        }
        let started = match &which {
            Which::Init(task) => self.start_first(task).await.map_err(|error| (error, Asked::Create)),
            Which::Exec(task, id, exec) => {
                self.start_exec(task, id, exec).await.map_err(|error| (error, Asked::Exec))
            }
        };
        if let Err((error, asked)) = started {
            // Else whoever kills and waits before deleting it would wait for something that never ran. Of a sentry that has
            // gone all its containers are told, with what it ended of.
            let never_ran = which.exec().is_none() && !error.is_sentry_gone();
            let ended = process.not_started().or_else(|| never_ran.then(|| Exit::now(NOT_STARTED)));
            if let Some(exit) = ended {
                self.has_exited(&which, exit);
            }
            return Err(error.into_failure(asked));
        }
        if let Some(exit) = process.started(|| self.tell_start(&which)) {
            self.has_exited(&which, exit);
        }
        Ok(which.task().pid())
    }

    fn tell_start(&self, which: &Which) {
        let (container_id, pid) = (which.task().id.clone(), which.task().pid());
        match which.exec() {
            None => {
                let event = TaskStart { container_id, pid, ..TaskStart::default() };
                self.events.publish(topics::TASK_START_EVENT_TOPIC, &event);
            }
            Some(id) => {
                let exec_id = id.to_owned();
                let event = TaskExecStarted { container_id, exec_id, pid, ..TaskExecStarted::default() };
                self.events.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
            }
        }
    }

    async fn start_first(&self, task: &Arc<Task>) -> Result<(), StartError> {
        let (running, task) = (self.running()?, Arc::clone(task));
        blocking(move || start_first(&running, &task)).await
    }

    async fn start_exec(&self, task: &Arc<Task>, id: &str, exec: &Arc<Exec>) -> Result<(), StartError> {
        if task.init.exit().is_some() {
            return Err(Failure::precondition("the container has stopped").into());
        }
        let (running, exec, namespace) = (self.running()?, Arc::clone(exec), self.namespace.clone());
        let (container, id) = (task.id.clone(), id.to_owned());
        blocking(move || start_exec(&running, &container, &id, &exec, &namespace)).await
    }
}

/// Releases the first process, with the hooks around it. Blocks.
fn start_first(running: &Running, task: &Task) -> Result<(), StartError> {
    hooks::run("startContainer", &task.hooks.start_container, &task.state_as("created"))
        .map_err(|error| StartError::Shim(error.into()))?;
    running.sandbox.start(&task.id).map_err(StartError::Sentry)?;
    // The specification: a failing poststart hook is a warning.
    if let Err(error) = hooks::run("poststart", &task.hooks.poststart, &task.state_as("running")) {
        tracing::warn!(container = task.id, "{error}");
    }
    Ok(())
}

/// Opens the streams and starts the process. Blocks.
fn start_exec(
    running: &Running,
    container: &str,
    id: &str,
    exec: &Exec,
    namespace: &str,
) -> Result<(), StartError> {
    let opened = io::open(&exec.process.stdio, container, namespace).map_err(Failure::from)?;
    let [stdin, stdout, stderr] = &opened.guest;
    let fds = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    // Before it runs: it may end at once.
    exec.process.keep(opened.hold);
    running.sandbox.exec(container, id, exec.config.clone(), fds).map(drop).map_err(|error| {
        exec.process.keep(io::Hold::default());
        StartError::Sentry(error)
    })
}
