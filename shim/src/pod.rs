//! What happens to a pod's containers, and in which order does containerd hear of it?
//!
//! Key types: [`Pod`] (one per server) and [`Running`] (its sandbox). Methods are called by `service`, each from a
//! task of its own that nobody cancels. What blocks is handed to blocking threads.
//!
//! LOCK: `gate` is held from before a start (or an exit) is looked at until its event is queued, so that the start of a
//! process is always told before its exit. `sandbox` and `tasks` are never held across an await.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use control::{Event, ProcessConfig};
use sandbox::Sandbox;
use sandbox::cgroup::{Cgroup, Stats};
use sandbox::client::{CallError, Notice};
use sandbox::spec::Resources;
use sandbox::{hooks, rootfs};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};
use ttrpc::Code;

use crate::create;
use crate::events::{Publisher, timestamp};
use crate::failure::{Failure, Outcome};
use crate::guard::Link;
use crate::io::{self, Hold, Stdio};
use crate::log::Tail;
use crate::process::{Exit, Phase, Process};
use crate::record::Record;
use crate::task::{Exec, Task, Which};

/// 128 + SIGKILL.
const KILLED: u32 = 137;
/// What a container gets that could not be started, as containerd's CRI has it.
const NOT_STARTED: u32 = 128;
/// What a container gets whose sandbox died of something else.
const SANDBOX_DIED: u32 = 255;
/// How long a killed process may stay before its sandbox is taken for stuck.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long a gofer or sentry may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Between looks whether one that is being undone has gone.
const LOOK: Duration = Duration::from_millis(5);
/// How long a server without containers waits for the next request: longer than containerd's own limits.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// A pod's sandbox.
#[derive(Debug)]
pub(crate) struct Running {
    /// Which of the pod's sandboxes this is: a notice of an earlier one must not be taken for its own.
    pub(crate) generation: u64,
    pub(crate) sandbox: Sandbox,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) tail: Tail,
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
    events: Publisher,
    sandbox: Mutex<Option<Arc<Running>>>,
    /// `None` while it is being made.
    tasks: Mutex<HashMap<String, Option<Arc<Task>>>>,
    /// Containers that are no tasks any more and not undone yet. Goes up under the lock of `tasks`.
    leaving: AtomicUsize,
    gate: tokio::sync::Mutex<()>,
    shutdown_asked: AtomicBool,
    /// The server may end.
    pub(crate) end: Notify,
}

/// Runs what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
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
            gate: tokio::sync::Mutex::default(),
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

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Task>>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Outcome<Arc<Running>> {
        self.sandbox().clone().ok_or_else(|| Failure::not_found("the sandbox does not run"))
    }

    /// The container with that id.
    pub(crate) fn task(&self, id: &str) -> Outcome<Arc<Task>> {
        let found = self.tasks().get(id).cloned().flatten();
        found.ok_or_else(|| Failure::not_found(format!("container {id} not created")))
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

    /// Ends the container whose files have gone.
    fn watch_gofer(self: &Arc<Self>, task: &Arc<Task>) {
        let Ok(watch) = task.container.gofer.watch().and_then(AsyncFd::new) else { return };
        let (pod, task) = (Arc::clone(self), Arc::clone(task));
        tokio::spawn(async move {
            if watch.readable().await.is_err()
                || task.ending.load(Ordering::Relaxed)
                || task.init.exit().is_some()
            {
                return;
            }
            let watched = Arc::clone(&task);
            let how = blocking(move || watched.container.gofer.wait(Some(END_LIMIT))).await;
            // When the sentry goes, its gofers follow; that is told elsewhere.
            tokio::time::sleep(Duration::from_millis(50)).await;
            if task.init.exit().is_some() || task.ending.load(Ordering::Relaxed) {
                return;
            }
            tracing::error!(container = task.id, how, "the gofer has ended; the container is killed");
            let _ = pod.kill(&Which::Init(task), SIGKILL, true).await;
        });
    }

    /// Starts a process.
    pub(crate) async fn start_process(self: &Arc<Self>, which: Which) -> Outcome<u32> {
        let gate = self.gate.lock().await;
        let (task, process) = (Arc::clone(which.task()), which.process());
        match process.phase() {
            Phase::Created => {}
            Phase::Running => return Err(Failure::precondition("cannot start a running process")),
            Phase::Exited(_) => return Err(Failure::precondition("cannot start a stopped process")),
        }
        let running = self.running()?;
        let pid = task.pid();
        match &which {
            Which::Init(_) => {
                let started = Arc::clone(&task);
                if let Err(error) = blocking(move || start_init(&running, &started)).await {
                    // Else whoever kills and waits before deleting it would wait for something that never ran. Of a sentry that has
                    // gone all its containers are told, with what it ended of.
                    if !matches!(error, StartError::Sentry(sandbox::Error::Call(CallError::Gone))) {
                        self.has_exited(&which, NOT_STARTED);
                    }
                    return Err(error.into());
                }
                process.started();
                let event = TaskStart { container_id: task.id.clone(), pid, ..TaskStart::default() };
                self.events.publish(topics::TASK_START_EVENT_TOPIC, &event);
            }
            Which::Exec(_, id, exec) => {
                if task.init.exit().is_some() {
                    return Err(Failure::precondition("the container has stopped"));
                }
                let (exec, namespace) = (Arc::clone(exec), self.namespace.clone());
                let (container, exec_id) = (task.id.clone(), id.clone());
                blocking(move || start_exec(&running, &container, &exec_id, &exec, &namespace)).await?;
                process.started();
                let (container_id, exec_id) = (task.id.clone(), id.clone());
                let event = TaskExecStarted { container_id, exec_id, pid, ..TaskExecStarted::default() };
                self.events.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
            }
        }
        drop(gate);
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
            Phase::Created if which.exec().is_some() => {
                return Err(Failure::precondition("process not created"));
            }
            Phase::Created | Phase::Running => {}
        }
        let running = self.running()?;
        let (container, exec) = (task.id.clone(), which.exec().map(str::to_owned));
        let killed = Arc::clone(&task);
        let result = blocking(move || {
            if signal == SIGKILL
                && killed.paused.swap(false, Ordering::Relaxed)
                && let Some(cgroup) = &killed.cgroup
            {
                let _ = cgroup.freeze(false);
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
            Phase::Running => return Err(Failure::precondition("cannot delete a running process")),
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
        if task.init.phase() != Phase::Running || task.paused.load(Ordering::Relaxed) == paused {
            let wanted = if paused { "running" } else { "paused" };
            return Err(Failure::precondition(format!("the container is not {wanted}")));
        }
        let Some(cgroup) = task.cgroup.clone().filter(|_| !task.cgroup_shared) else {
            return Err(Failure::precondition("the container has no cgroup of its own"));
        };
        blocking(move || cgroup.freeze(paused)).await?;
        task.paused.store(paused, Ordering::Relaxed);
        let container_id = task.id.clone();
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
        blocking(move || cgroup.apply(&resources)).await?;
        Ok(())
    }

    /// What a container has used.
    pub(crate) async fn stats(&self, task: Arc<Task>) -> Outcome<(Stats, bool)> {
        let Some(cgroup) = task.cgroup.clone() else {
            return Err(Failure::not_found("the container has no cgroup"));
        };
        let is_v2 = cgroup.is_v2();
        Ok((blocking(move || cgroup.stats()).await?, is_v2))
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

    /// Takes note of what the sentry tells.
    async fn hear(self: &Arc<Self>, generation: u64, notice: Notice) {
        let _gate = self.gate.lock().await;
        let Some(running) = self.sandbox().clone().filter(|running| running.generation == generation) else {
            return;
        };
        match notice {
            Notice::Event(Event::Exited { container, exec, status, killed_by_host }) => {
                let Ok(which) = self.process(&container, exec.as_deref().unwrap_or("")) else { return };
                if killed_by_host {
                    tracing::warn!(container, "a process of the container was killed by the host");
                }
                let status = u32::try_from(status).unwrap_or(SANDBOX_DIED);
                self.has_exited(&which, status);
            }
            Notice::Event(Event::Warning(text)) => tracing::warn!("{text}"),
            Notice::Gone(why) => self.sandbox_is_gone(running, why).await,
        }
    }

    /// All that follows from an exit, events included.
    fn has_exited(&self, which: &Which, status: u32) {
        let (task, at) = (which.task(), SystemTime::now());
        if task.new_oom_kills() {
            let event = TaskOOM { container_id: task.id.clone(), ..TaskOOM::default() };
            self.events.publish(topics::TASK_OOM_EVENT_TOPIC, &event);
        }
        if matches!(which, Which::Init(_)) {
            // The rest of a pid namespace dies with its first process; containerd hears of that one last.
            for (id, exec) in task.all_execs() {
                if exec.process.phase() == Phase::Running {
                    self.tell_exit(&Which::Exec(Arc::clone(task), id, exec), Exit { status: KILLED, at });
                }
            }
            if task.paused.swap(false, Ordering::Relaxed)
                && let Some(cgroup) = &task.cgroup
            {
                let _ = cgroup.freeze(false);
            }
        }
        self.tell_exit(which, Exit { status, at });
    }

    fn tell_exit(&self, which: &Which, exit: Exit) {
        if !which.process().exited(exit) {
            return;
        }
        let container_id = which.task().id.clone();
        let event = TaskExit {
            id: which.exec().map_or_else(|| container_id.clone(), str::to_owned),
            container_id,
            pid: which.task().pid(),
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..TaskExit::default()
        };
        self.events.publish(topics::TASK_EXIT_EVENT_TOPIC, &event);
    }

    /// Every container has ended with its kernel.
    async fn sandbox_is_gone(&self, running: Arc<Running>, why: Option<String>) {
        let watched = Arc::clone(&running);
        let how = blocking(move || {
            let how = watched.sandbox.sentry.wait(Some(END_LIMIT));
            // One that has only closed its socket is of no use either.
            watched.sandbox.sentry.kill();
            how
        })
        .await;
        let how = how.or(why).unwrap_or_else(|| "closed its socket".to_owned());
        let status = if how.ends_with("signal 9") { KILLED } else { SANDBOX_DIED };
        let tasks: Vec<_> = self.tasks().values().flatten().cloned().collect();
        if tasks.iter().any(|task| task.init.exit().is_none() && !task.ending.load(Ordering::Relaxed)) {
            let last = running.tail.last();
            tracing::error!(how, last, "the sentry has ended; every container of the pod has ended with it");
        }
        for task in tasks {
            if task.init.exit().is_none() {
                self.has_exited(&Which::Init(task), status);
            }
        }
    }
}

impl Task {
    /// The state as a hook reads it.
    fn state_as(&self, status: &'static str) -> hooks::State {
        hooks::State { status, ..self.state.clone() }
    }
}

/// Why a first process was not released.
enum StartError {
    Hook(Failure),
    Sentry(sandbox::Error),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Hook(failure) => failure,
            StartError::Sentry(error) => error.into(),
        }
    }
}

/// Releases the first process, with the hooks around it. Blocks.
fn start_init(running: &Running, task: &Task) -> Result<(), StartError> {
    hooks::run("startContainer", &task.hooks.start_container, &task.state_as("created"))
        .map_err(|error| StartError::Hook(error.into()))?;
    running.sandbox.start(&task.id).map_err(StartError::Sentry)?;
    // The specification: a failing poststart hook is a warning.
    if let Err(error) = hooks::run("poststart", &task.hooks.poststart, &task.state_as("running")) {
        tracing::warn!(container = task.id, "{error}");
    }
    Ok(())
}

/// Opens the streams and starts the process. Blocks.
fn start_exec(running: &Running, container: &str, id: &str, exec: &Exec, namespace: &str) -> Outcome<()> {
    use std::os::fd::AsFd;
    let opened = io::open(&exec.process.stdio, container, namespace)?;
    let [stdin, stdout, stderr] = &opened.guest;
    let fds = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    running.sandbox.exec(container, id, exec.config.clone(), fds)?;
    exec.process.keep(opened.hold);
    Ok(())
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
