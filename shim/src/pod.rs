//! What happens to a pod's containers, and in which order does containerd hear of it?
//!
//! Key types: [`Pod`] (one per server) and [`Running`] (its sandbox). Methods are called by `service`, each from a
//! task of its own that nobody cancels. What blocks is handed to blocking threads. How processes begin is in `start`, how
//! they end in `exits`.
//!
//! LOCK: `sandbox` and `tasks` are never held across an await.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskIO, TaskPaused, TaskResumed,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use control::ProcessConfig;
use sandbox::Sandbox;
use sandbox::cgroup::{Cgroup, Stats};
use sandbox::client::Notice;
use sandbox::spec::Resources;
use sandbox::{hooks, rootfs};
use tokio::sync::{Notify, mpsc};
use ttrpc::Code;

use crate::create;
use crate::events::{Publisher, timestamp};
use crate::exits::Exit;
use crate::failure::{Failure, Outcome};
use crate::guard::Link;
use crate::io::{Hold, Stdio};
use crate::log::Tail;
use crate::process::{Phase, Process};
use crate::record::Record;
use crate::task::{Exec, Task, Which};

/// How long a killed process may stay before its sandbox is taken for stuck.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long a gofer or sentry may take to be gone.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(2);
/// Between looks whether one that is being undone has gone.
const LOOK: Duration = Duration::from_millis(5);
/// How long a server without containers waits for the next request: longer than containerd's own limits.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);
pub(crate) const SIGKILL: i32 = 9;

/// A pod's sandbox.
#[derive(Debug)]
pub(crate) struct Running {
    /// Which of the pod's sandboxes this is: a notice of an earlier one must not be taken for its own.
    pub(crate) generation: u64,
    pub(crate) sandbox: Sandbox,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) tail: Tail,
    /// Namespaces that were made for the pod by its engine.
    pub(crate) joins: Vec<(String, PathBuf)>,
    /// Of the pod's first container.
    pub(crate) annotations: Vec<(String, String)>,
}

/// Everything of one server.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    /// Bundle of the first container.
    pub(crate) bundle: PathBuf,
    /// Who cleans up if this process is killed.
    pub(crate) link: Arc<Link>,
    /// What the sentry tells, on its way to [`Pod::hear`].
    pub(crate) notices: mpsc::UnboundedSender<(u64, Notice)>,
    pub(crate) generations: AtomicU64,
    pub(crate) events: Publisher,
    sandbox: Mutex<Option<Arc<Running>>>,
    /// `None` while it is being made.
    tasks: Mutex<HashMap<String, Option<Arc<Task>>>>,
    /// Containers that are no tasks any more and not undone yet. Goes up under the lock of `tasks`.
    leaving: AtomicUsize,
    shutdown_asked: AtomicBool,
    /// The server may end.
    pub(crate) end: Notify,
}

/// Runs what blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("a panic ends the process")
}

impl Pod {
    pub(crate) fn start(namespace: &str, bundle: PathBuf, link: Link, events: Publisher) -> Arc<Self> {
        let (notices, mut heard) = mpsc::unbounded_channel();
        let pod = Arc::new(Self {
            namespace: namespace.to_owned(),
            bundle,
            link: Arc::new(link),
            notices,
            generations: AtomicU64::new(0),
            events,
            sandbox: Mutex::default(),
            tasks: Mutex::default(),
            leaving: AtomicUsize::new(0),
            shutdown_asked: AtomicBool::new(false),
            end: Notify::new(),
        });
        let listener = Arc::clone(&pod);
        tokio::spawn(async move {
            while let Some((generation, notice)) = heard.recv().await {
                listener.hear(generation, notice).await;
            }
        });
        pod
    }

    pub(crate) fn sandbox(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tasks(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Task>>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn running(&self) -> Outcome<Arc<Running>> {
        self.sandbox().clone().ok_or_else(|| Failure::not_found("the sandbox does not run"))
    }

    /// The container with that id.
    pub(crate) fn task(&self, id: &str) -> Outcome<Arc<Task>> {
        let found = self.tasks().get(id).cloned().flatten();
        found.ok_or_else(|| Failure::not_found(format!("container {id} not created")))
    }

    /// The container whose process is meant by `/proc/PID/ns/...`.
    pub(crate) fn task_of(&self, path: &Path) -> Option<Arc<Task>> {
        let pid: u32 = path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()?;
        self.tasks().values().flatten().find(|task| task.pid() == pid).cloned()
    }

    /// One process of a container.
    pub(crate) fn process(&self, id: &str, exec: &str) -> Outcome<Which> {
        self.task(id)?.process(exec)
    }

    /// Makes a container.
    pub(crate) async fn create(self: &Arc<Self>, request: CreateTaskRequest) -> Outcome<u32> {
        self.link.asked();
        sandbox::plan::check_id(&request.id)?;
        {
            let mut tasks = self.tasks();
            if tasks.contains_key(&request.id) {
                return Err(Failure::new(
                    Code::ALREADY_EXISTS,
                    format!("container {} exists already", request.id),
                ));
            }
            tasks.insert(request.id.clone(), None);
        }
        let (pod, id) = (Arc::clone(self), request.id.clone());
        let (request, made) = blocking(move || {
            let made = create::create(&pod, &request);
            (request, made)
        })
        .await;
        let task = match made {
            Ok(task) => task,
            Err(failure) => {
                tracing::error!(container = id, "create: {}", failure.message);
                self.tasks().remove(&id);
                self.end_if_asked();
                return Err(failure);
            }
        };
        let pid = task.pid();
        self.events.publish(topics::TASK_CREATE_EVENT_TOPIC, &create_event(&request, pid));
        self.tasks().insert(id, Some(Arc::clone(&task)));
        self.watch_gofer(&task);
        Ok(pid)
    }

    /// Notes a process that is to be started in a container.
    pub(crate) fn exec(&self, task: &Task, id: &str, config: ProcessConfig, stdio: Stdio) -> Outcome<()> {
        sandbox::plan::check_id(id)?;
        if task.init.exit().is_some() {
            return Err(Failure::precondition("the container has stopped"));
        }
        if task.paused.load(Ordering::Relaxed) {
            return Err(Failure::precondition("the container is paused"));
        }
        let mut execs = task.execs.lock().unwrap_or_else(PoisonError::into_inner);
        if execs.contains_key(id) {
            return Err(Failure::new(Code::ALREADY_EXISTS, format!("process {id} exists already")));
        }
        let process = Process::new(stdio, Hold::default());
        execs.insert(id.to_owned(), Arc::new(Exec { process, config }));
        let (container_id, exec_id) = (task.id.clone(), id.to_owned());
        let event = TaskExecAdded { container_id, exec_id, ..TaskExecAdded::default() };
        self.events.publish(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &event);
        Ok(())
    }

    /// Sends a signal. A SIGKILL never hangs: a sentry that does not react is ended itself.
    pub(crate) async fn kill(self: &Arc<Self>, which: &Which, signal: i32, all: bool) -> Outcome<()> {
        let task = Arc::clone(which.task());
        match which.process().phase() {
            Phase::Exited(_) if !all => return Err(Failure::not_found("process already finished")),
            // With `all` there may still be something left of the container; its end is Delete's work.
            Phase::Exited(_) => return Ok(()),
            Phase::Created | Phase::Starting(_) if which.exec().is_some() => {
                return Err(Failure::precondition("process not created"));
            }
            Phase::Created | Phase::Starting(_) | Phase::Running => {}
        }
        let running = self.running()?;
        let (container, exec) = (task.id.clone(), which.exec().map(str::to_owned));
        let killed = Arc::clone(&task);
        let result = blocking(move || {
            if signal == SIGKILL {
                killed.thaw(exec.is_none());
            }
            running.sandbox.signal(&container, exec.as_deref(), signal, all)
        })
        .await;
        match result {
            Err(error) if signal == SIGKILL && which.process().exit().is_none() => {
                tracing::warn!(container = task.id, %error, "the sentry does not kill; the host does");
                self.kill_from_outside(&task);
            }
            Err(error) => return Err(error.into()),
            Ok(()) => {}
        }
        if signal == SIGKILL {
            self.insist(which.clone());
        }
        Ok(())
    }

    fn kill_from_outside(&self, task: &Task) {
        match (&task.cgroup, self.running()) {
            (Some(cgroup), _) if !task.cgroup_shared => cgroup.kill(),
            (_, Ok(running)) => running.sandbox.sentry.kill(),
            _ => {}
        }
    }

    /// Looks after a while whether a killed process has ended.
    fn insist(self: &Arc<Self>, which: Which) {
        let pod = Arc::clone(self);
        tokio::spawn(async move {
            if tokio::time::timeout(KILL_LIMIT, which.process().wait()).await.is_ok() {
                return;
            }
            if let Ok(running) = pod.running() {
                tracing::error!(
                    container = which.task().id,
                    "a killed process does not end; the sandbox is ended"
                );
                running.sandbox.sentry.kill();
            }
        });
    }

    /// Forgets a process; for the first one, takes the container away.
    pub(crate) async fn delete(self: &Arc<Self>, which: Which) -> Outcome<(u32, Option<Exit>)> {
        let task = Arc::clone(which.task());
        let exit = match which.process().phase() {
            Phase::Starting(_) | Phase::Running => {
                return Err(Failure::precondition("cannot delete a running process"));
            }
            Phase::Created => None,
            Phase::Exited(exit) => Some(exit),
        };
        let pid = task.pid();
        if let Which::Exec(_, id, _) = &which {
            task.execs.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
            return Ok((pid, exit));
        }
        if task.ending.swap(true, Ordering::Relaxed) {
            return Err(Failure::not_found(format!("container {} is being deleted", task.id)));
        }
        let (pod, deleted) = (Arc::clone(self), Arc::clone(&task));
        blocking(move || pod.take_away(&deleted)).await;
        // One never started has ended now, for those who wait for it.
        task.init.exited(exit.unwrap_or(Exit { status: 0, at: SystemTime::now() }));
        let event = TaskDelete {
            container_id: task.id.clone(),
            pid,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: MessageField::from_option(exit.map(|exit| timestamp(exit.at))),
            ..TaskDelete::default()
        };
        self.events.publish(topics::TASK_DELETE_EVENT_TOPIC, &event);
        self.end_if_asked();
        Ok((pid, exit))
    }

    /// Undoes what `create` made. Blocks.
    fn take_away(&self, task: &Task) {
        if let Ok(running) = self.running() {
            let _ = running.sandbox.delete(&task.id);
        }
        task.container.gofer.kill();
        let _ = task.container.gofer.wait(Some(END_LIMIT));
        let last = {
            let mut tasks = self.tasks();
            tasks.remove(&task.id);
            self.leaving.fetch_add(1, Ordering::AcqRel);
            tasks.is_empty()
        };
        if last {
            self.end_sandbox();
        }
        if let Some(cgroup) = task.cgroup.as_ref().filter(|_| last || !task.cgroup_shared) {
            cgroup.kill();
            if let Err(error) = cgroup.remove() {
                tracing::warn!(container = task.id, %error, "cgroup left behind");
            }
        }
        rootfs::unmount(&task.bundle);
        if let Err(error) = hooks::run("poststop", &task.hooks.poststop, &task.state_as("stopped")) {
            tracing::warn!(container = task.id, "{error}");
        }
        if last || !task.cgroup_shared {
            self.link.forget(&task.bundle);
        } else {
            // The sandbox goes on in its cgroup: the guard still has that to remove.
            Record::remove(&task.bundle);
        }
        if let Some(mut first) = Record::load(&self.bundle) {
            first.members.retain(|member| *member != task.bundle);
            let _ = first.store(&self.bundle);
        }
        self.leaving.fetch_sub(1, Ordering::AcqRel);
    }

    /// Ends the sentry and removes its cgroup. Blocks.
    pub(crate) fn end_sandbox(&self) {
        let Some(running) = self.sandbox().take() else { return };
        running.sandbox.shutdown();
        if let Some(cgroup) = &running.cgroup {
            cgroup.kill();
            if let Err(error) = cgroup.remove() {
                tracing::warn!(%error, "cgroup of the sandbox left behind");
            }
        }
    }

    /// Stops a container's processes, or lets them go on.
    pub(crate) async fn pause(&self, task: Arc<Task>, paused: bool) -> Outcome<()> {
        let container_id = task.id.clone();
        blocking(move || task.pause(paused)).await?;
        if paused {
            let event = TaskPaused { container_id, ..TaskPaused::default() };
            self.events.publish(topics::TASK_PAUSED_EVENT_TOPIC, &event);
        } else {
            let event = TaskResumed { container_id, ..TaskResumed::default() };
            self.events.publish(topics::TASK_RESUMED_EVENT_TOPIC, &event);
        }
        Ok(())
    }

    /// Changes a container's limits.
    pub(crate) async fn update(&self, task: Arc<Task>, mut resources: Resources) -> Outcome<()> {
        let Some(cgroup) = task.cgroup.clone() else {
            return Err(Failure::precondition("the container has no cgroup"));
        };
        if task.cgroup_shared
            && let Some(cpu) = &mut resources.cpu
        {
            cpu.shares = None;
        }
        let (memory, tasks) = {
            let mut limits = task.limits.lock().unwrap_or_else(PoisonError::into_inner);
            limits.0 = resources.memory_limit().unwrap_or(limits.0);
            limits.1 = resources.tasks_limit().unwrap_or(limits.1);
            *limits
        };
        let running = self.running()?;
        blocking(move || -> Outcome<()> {
            cgroup.apply(&resources)?;
            Ok(running.sandbox.limit(&task.id, memory, tasks)?)
        })
        .await
    }

    /// What a container has used.
    pub(crate) async fn stats(&self, task: Arc<Task>) -> Outcome<(Stats, bool)> {
        let Some(cgroup) = task.cgroup.clone() else {
            return Err(Failure::not_found("the container has no cgroup"));
        };
        let (is_v2, running) = (cgroup.is_v2(), self.running());
        let stats = blocking(move || -> std::io::Result<Stats> {
            let mut stats = cgroup.stats()?;
            // One that has ended has nothing in the kernel any more.
            if let Ok((memory, tasks)) = running.and_then(|it| Ok(it.sandbox.usage(&task.id)?)) {
                stats.pids.current = tasks;
                if !cgroup.holds_kernel() {
                    stats.memory.usage = stats.memory.usage.saturating_add(memory);
                }
            }
            Ok(stats)
        });
        Ok((stats.await?, is_v2))
    }

    /// Sets the size of a terminal.
    pub(crate) async fn resize(&self, which: Which, columns: u16, rows: u16) -> Outcome<()> {
        if !which.process().stdio.terminal || which.process().phase() != Phase::Running {
            return Ok(());
        }
        let running = self.running()?;
        blocking(move || running.sandbox.resize(&which.task().id, which.exec(), columns, rows)).await?;
        Ok(())
    }

    /// containerd needs us no longer: ends the server once no container is left, or at once.
    pub(crate) fn shutdown(self: &Arc<Self>, now: bool) {
        self.shutdown_asked.store(true, Ordering::Relaxed);
        if now {
            self.end.notify_one();
        }
        self.end_if_asked();
    }

    /// A server without containers ends when it has been asked to, or some time later: a containerd that stopped between
    /// the last Delete and its Shutdown never asks.
    fn end_if_asked(self: &Arc<Self>) {
        if !self.is_empty() {
            return;
        }
        if self.shutdown_asked.load(Ordering::Relaxed) {
            return self.end.notify_one();
        }
        let pod = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(EMPTY_LIMIT).await;
            if pod.is_empty() {
                tracing::warn!("no container is left and nobody asks for the end");
                pod.end.notify_one();
            }
        });
    }

    /// No container is left, and none is being undone.
    fn is_empty(&self) -> bool {
        // Under the lock: what leaves is counted before it is seen to have gone.
        let tasks = self.tasks();
        tasks.is_empty() && self.leaving.load(Ordering::Acquire) == 0
    }

    /// Takes everything away before the server ends. Blocks.
    pub(crate) fn end_all(&self) {
        let tasks: Vec<_> = self.tasks().values().flatten().cloned().collect();
        for task in tasks {
            task.ending.store(true, Ordering::Relaxed);
            self.take_away(&task);
        }
        let begun = Instant::now();
        while !self.is_empty() && begun.elapsed() < END_LIMIT {
            std::thread::sleep(LOOK);
        }
        self.end_sandbox();
    }

    /// Waits until all events have been sent.
    pub(crate) async fn flush(&self) {
        self.events.flush().await;
    }
}

impl Task {
    /// The state as a hook reads it.
    pub(crate) fn state_as(&self, status: &'static str) -> hooks::State {
        hooks::State { status, ..self.state.clone() }
    }
}

fn create_event(request: &CreateTaskRequest, pid: u32) -> TaskCreate {
    TaskCreate {
        container_id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        io: MessageField::some(TaskIO {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
            ..TaskIO::default()
        }),
        checkpoint: request.checkpoint.clone(),
        pid,
        ..TaskCreate::default()
    }
}
