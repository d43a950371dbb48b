//! Containers as the control socket sees them: create, start, exec, signal, delete, and what is told unasked.
//!
//! Key types: [`Sandbox`] (all containers; answers requests), [`EventSink`] (gets the events, in order), [`Hooks`] (what
//! other rooms provide: file trees and terminals).
//!
//! ```text
//! Create ──> created ── Start ──> running ── init ends ──> stopped ── Delete ──> gone
//!               └── Signal(KILL) ───────────────────────────^
//! ```

mod launch;
mod relay;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::{ContainerConfig, Event, Failure, FailureKind, GuestProcess, ProcessConfig, Reply, Request};
use platform::host::file::duplicate;

use self::launch::{Prepared, launch, prepare};
use self::relay::Relay;
use crate::account::{self, Account};
use crate::kernel::Kernel;
use crate::task::signal::{Sender, SigInfo, Signal};
use crate::task::{ExitStatus, ExitWatch, Notices, Origin, PidNamespace, Process};
use crate::vfs::{MountNamespace, OpenFile};
use crate::{Errno, sync::WaitQueue};

/// How long a deletion waits for killed processes to go.
const DELETE_WAIT: Duration = Duration::from_secs(10);

/// Gets what happens in the sandbox, in order.
pub trait EventSink: Send + Sync {
    /// Must not wait for anything in the kernel.
    fn event(&self, event: Event);
}

/// The master side of a terminal, as its relay uses it.
pub trait TerminalMaster: Send + Sync {
    /// What the guest has printed.
    ///
    /// # Errors
    /// EAGAIN if there is nothing; EIO once no process has the terminal open.
    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno>;

    /// What the user has typed.
    ///
    /// # Errors
    /// EAGAIN if the terminal takes no more now.
    fn write(&self, bytes: &[u8]) -> Result<usize, Errno>;

    /// Woken when one of them may go on.
    fn wait_queue(&self) -> &WaitQueue;

    /// Sets the window's size.
    fn resize(&self, columns: u16, rows: u16);
}

/// A new terminal: its master, and its slave side opened for reading and writing.
pub type NewTerminal = (Arc<dyn TerminalMaster>, Arc<OpenFile>);

/// What other rooms provide.
pub trait Hooks: Send + Sync {
    /// Builds a container's file tree from its mounts and its gofer; `pids` is whose processes its `/proc` shows.
    ///
    /// # Errors
    /// One line for a person.
    fn build_root(
        &self,
        kernel: &Arc<Kernel>,
        config: &ContainerConfig,
        gofer: OwnedFd,
        pids: &Arc<PidNamespace>,
    ) -> Result<Arc<MountNamespace>, String>;

    /// Makes a terminal in the container's `/dev/pts` and makes it the controlling one of `process`, a session leader.
    ///
    /// # Errors
    /// One line for a person.
    fn new_terminal(
        &self,
        process: &Arc<Process>,
        mounts: &Arc<MountNamespace>,
    ) -> Result<NewTerminal, String>;
}

/// All containers of a sandbox.
pub struct Sandbox {
    kernel: Arc<Kernel>,
    hooks: Box<dyn Hooks>,
    events: Arc<dyn EventSink>,
    /// LOCK: taken alone.
    containers: Mutex<HashMap<String, Arc<Container>>>,
    /// The namespace of the first container, for those that share one.
    shared_pids: Mutex<Option<Arc<PidNamespace>>>,
}

/// A container.
pub(crate) struct Container {
    pub(crate) config: ContainerConfig,
    pub(crate) origin: Arc<Origin>,
    pub(crate) pids: Arc<PidNamespace>,
    pub(crate) mounts: Arc<MountNamespace>,
    pub(crate) account: Arc<Account>,
    /// LOCK: taken alone.
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Processes that the shim started, by exec id.
    started: HashMap<Option<String>, Started>,
}

enum Phase {
    Created(Box<Prepared>),
    Running,
    Stopped,
}

struct Started {
    process: Arc<Process>,
    relay: Option<Arc<Relay>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fail<T>(kind: FailureKind, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { kind, message: message.into() })
}

/// Tells the shim of the end of a process that it started.
struct Watch {
    container: Arc<Container>,
    exec: Option<String>,
    events: Arc<dyn EventSink>,
}

impl ExitWatch for Watch {
    fn exited(&self, _: &Arc<Process>, status: ExitStatus, killed_by_host: bool) {
        if self.exec.is_none() {
            self.container.kill_all();
        }
        let started = {
            let mut state = lock(&self.container.state);
            if self.exec.is_none() {
                state.phase = Phase::Stopped;
            }
            state.started.remove(&self.exec)
        };
        // All that was printed must have been passed on before the end is told.
        if let Some(relay) = started.and_then(|started| started.relay) {
            relay.finish();
        }
        let by_host = killed_by_host || self.container.origin.killed_by_host.load(Ordering::Acquire);
        self.events.event(Event::Exited {
            container: self.container.config.container.clone(),
            exec: self.exec.clone(),
            status: status.shell_status(),
            killed_by_host: by_host,
        });
    }
}

impl Container {
    fn processes(&self) -> Vec<Arc<Process>> {
        let mut all = self.pids.processes();
        all.retain(|process| process.container == self.config.container && !process.is_zombie());
        all
    }

    fn kill_all(&self) {
        for process in self.processes() {
            process.begin_exit(ExitStatus::Signal { signo: Signal::KILL.number() });
        }
    }
}

impl Sandbox {
    /// A sandbox without containers.
    #[must_use]
    pub fn new(kernel: Arc<Kernel>, hooks: Box<dyn Hooks>, events: Arc<dyn EventSink>) -> Arc<Self> {
        let containers = Mutex::default();
        Arc::new(Self { kernel, hooks, events, containers, shared_pids: Mutex::default() })
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// Answers one request; `fds` are the descriptors that came with it, in order. The second part goes with the reply.
    pub fn handle(&self, request: Request, fds: Vec<OwnedFd>) -> (Result<Reply, Failure>, Option<OwnedFd>) {
        let reply = match request {
            Request::Create(config) => return self.create_with_pidfd(*config, fds),
            Request::Boot(_) => fail(FailureKind::FailedPrecondition, "already booted"),
            Request::Start { container } => self.start(&container),
            Request::Limit { container, memory, tasks } => self.limit(&container, memory, tasks),
            Request::Usage { container } => self.usage(&container),
            Request::Exec { container, exec, process } => self.exec(&container, exec, &process, fds),
            Request::Signal { container, exec, signal, all } => self.signal(&container, exec, signal, all),
            Request::Resize { container, exec, columns, rows } => {
                self.resize(&container, &exec, columns, rows)
            }
            Request::Pids { container } => self.pids(&container),
            Request::Delete { container } => self.delete(&container),
            Request::Shutdown => self.shutdown(),
            Request::Status => Ok(Reply::Status(self.status())),
        };
        (reply, None)
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, Failure> {
        match lock(&self.containers).get(id) {
            Some(container) => Ok(Arc::clone(container)),
            None => fail(FailureKind::NotFound, format!("no container {id}")),
        }
    }

    fn create_with_pidfd(
        &self,
        config: ContainerConfig,
        fds: Vec<OwnedFd>,
    ) -> (Result<Reply, Failure>, Option<OwnedFd>) {
        match self.create(config, fds) {
            Ok((pid, pidfd)) => (Ok(Reply::Created { pid }), Some(pidfd)),
            Err(failure) => (Err(failure), None),
        }
    }

    fn create(&self, config: ContainerConfig, fds: Vec<OwnedFd>) -> Result<(i32, OwnedFd), Failure> {
        let id = config.container.clone();
        if lock(&self.containers).contains_key(&id) {
            return fail(FailureKind::AlreadyExists, format!("container {id} exists"));
        }
        let mut fds = fds.into_iter();
        let gofer = fds.next();
        let stdio: Vec<OwnedFd> = fds.collect();
        let Some(gofer) = gofer else {
            return fail(FailureKind::InvalidArgument, "create came without the gofer's socket");
        };
        let internal = |message: String| Failure { kind: FailureKind::Internal, message };
        let account = self.kernel.accounts.of(&id);
        account.set_limits(config.memory_limit, config.tasks_limit);
        // This thread does nothing else: the container's own file systems are charged to it.
        account::enter(&account);
        let pids = self.namespace(&config)?;
        for (name, value) in &config.sysctls {
            self.kernel.machine.sysctls.set(name, value);
        }
        let mounts = self.hooks.build_root(&self.kernel, &config, gofer, &pids).map_err(internal)?;
        let template = self.kernel.platform.new_template().map_err(|error| internal(chain(&error)))?;
        let pidfd = duplicate(template.pidfd()).map_err(|errno| internal(format!("template: {errno}")))?;
        let notices = Notices::new(id.clone(), Arc::clone(&self.events));
        let origin = Arc::new(Origin { template, killed_by_host: false.into(), notices });
        let state = Mutex::new(State { phase: Phase::Stopped, started: HashMap::new() });
        let container = Arc::new(Container { config, origin, pids, mounts, account, state });
        let ContainerConfig { process, hostname, domainname, .. } = &container.config;
        let uts = self.kernel.machine.uts(&id);
        if !hostname.is_empty() {
            uts.set_hostname(hostname.as_bytes());
        }
        if !domainname.is_empty() {
            uts.set_domainname(domainname.as_bytes());
        }
        let prepared = match prepare(&self.kernel, &container, process, stdio, self.hooks.as_ref()) {
            Ok(prepared) => prepared,
            Err(failure) => {
                container.origin.template.kill();
                self.kernel.machine.forget_container(&id);
                return Err(failure);
            }
        };
        let pid = prepared.pid();
        lock(&container.state).phase = Phase::Created(Box::new(prepared));
        lock(&self.containers).insert(id, container);
        Ok((pid, pidfd))
    }

    fn namespace(&self, config: &ContainerConfig) -> Result<Arc<PidNamespace>, Failure> {
        if let Some(id) = &config.pid_namespace_of {
            let target = self.container(id)?;
            // LINUX: pid_namespaces(7), nothing starts in one whose first process has ended.
            if matches!(lock(&target.state).phase, Phase::Stopped) {
                return fail(FailureKind::FailedPrecondition, format!("container {id} is not running"));
            }
            return Ok(Arc::clone(&target.pids));
        }
        let mut shared = lock(&self.shared_pids);
        Ok(match shared.as_ref() {
            Some(namespace) if config.share_pid_namespace => Arc::clone(namespace),
            Some(_) => PidNamespace::new(),
            None => Arc::clone(shared.insert(PidNamespace::new())),
        })
    }

    fn start(&self, id: &str) -> Result<Reply, Failure> {
        let container = self.container(id)?;
        let prepared = {
            let mut state = lock(&container.state);
            match std::mem::replace(&mut state.phase, Phase::Running) {
                Phase::Created(prepared) => *prepared,
                other => {
                    state.phase = other;
                    return fail(
                        FailureKind::FailedPrecondition,
                        format!("container {id} is not in state created"),
                    );
                }
            }
        };
        match self.run(&container, None, prepared) {
            Ok(_) => Ok(Reply::Ok),
            Err(failure) => {
                lock(&container.state).phase = Phase::Stopped;
                Err(failure)
            }
        }
    }

    /// Loads and starts a prepared process.
    fn run(
        &self,
        container: &Arc<Container>,
        exec: Option<String>,
        prepared: Prepared,
    ) -> Result<i32, Failure> {
        let process = Arc::clone(prepared.process());
        let relay = prepared.relay();
        process.set_watch(Arc::new(Watch {
            container: Arc::clone(container),
            exec: exec.clone(),
            events: Arc::clone(&self.events),
        }));
        // Entered before it runs: it may end at once.
        let started = Started { process: Arc::clone(&process), relay };
        lock(&container.state).started.insert(exec.clone(), started);
        if let Err(failure) = launch(prepared) {
            lock(&container.state).started.remove(&exec);
            return Err(failure);
        }
        Ok(process.pid)
    }

    fn exec(
        &self,
        id: &str,
        exec: String,
        config: &ProcessConfig,
        fds: Vec<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let container = self.container(id)?;
        {
            let state = lock(&container.state);
            if !matches!(state.phase, Phase::Running) {
                return fail(FailureKind::FailedPrecondition, format!("container {id} is not running"));
            }
            if state.started.contains_key(&Some(exec.clone())) {
                return fail(FailureKind::AlreadyExists, format!("process {exec} exists"));
            }
        }
        account::enter(&container.account);
        let prepared = prepare(&self.kernel, &container, config, fds, self.hooks.as_ref())?;
        let pid = self.run(&container, Some(exec), prepared)?;
        Ok(Reply::Started { pid })
    }

    fn signal(&self, id: &str, exec: Option<String>, signal: i32, all: bool) -> Result<Reply, Failure> {
        let container = self.container(id)?;
        let Ok(signal) = Signal::new(signal) else {
            return fail(FailureKind::InvalidArgument, format!("no signal {signal}"));
        };
        let is_deadly = matches!(signal, Signal::KILL | Signal::TERM | Signal::INT | Signal::QUIT);
        let created = {
            let mut state = lock(&container.state);
            let created = matches!(state.phase, Phase::Created(_));
            (created && is_deadly).then(|| std::mem::replace(&mut state.phase, Phase::Stopped))
        };
        if let Some(phase) = created {
            // It never ran: its end is told as if the signal had taken it.
            drop(phase);
            self.events.event(Event::Exited {
                container: id.into(),
                exec: None,
                status: 128 + signal.number(),
                killed_by_host: false,
            });
            return Ok(Reply::Ok);
        }
        let targets = if all {
            container.processes()
        } else {
            let state = lock(&container.state);
            state.started.get(&exec).map(|started| Arc::clone(&started.process)).into_iter().collect()
        };
        if targets.is_empty() {
            return fail(FailureKind::NotFound, "process already finished");
        }
        for process in targets {
            process.send(SigInfo::from_process(signal.number(), 0, 0, 0), Sender::Kernel);
        }
        Ok(Reply::Ok)
    }

    fn limit(&self, id: &str, memory: u64, tasks: u64) -> Result<Reply, Failure> {
        self.container(id)?.account.set_limits(memory, tasks);
        Ok(Reply::Ok)
    }

    fn usage(&self, id: &str) -> Result<Reply, Failure> {
        let account = &self.container(id)?.account;
        Ok(Reply::Usage { memory: account.used(), tasks: account.tasks() })
    }

    fn resize(&self, id: &str, exec: &Option<String>, columns: u16, rows: u16) -> Result<Reply, Failure> {
        let container = self.container(id)?;
        let state = lock(&container.state);
        let relay = match (&state.phase, exec) {
            (Phase::Created(prepared), None) => prepared.relay(),
            _ => match state.started.get(exec) {
                None => return fail(FailureKind::NotFound, "process already finished"),
                Some(started) => started.relay.clone(),
            },
        };
        drop(state);
        if let Some(relay) = relay {
            relay.resize(columns, rows);
        }
        Ok(Reply::Ok)
    }

    fn pids(&self, id: &str) -> Result<Reply, Failure> {
        let container = self.container(id)?;
        let processes = container.processes();
        let state = lock(&container.state);
        let mut pids: Vec<GuestProcess> = Vec::with_capacity(processes.len());
        for process in processes {
            let started = state.started.iter().find(|(_, started)| started.process.key == process.key);
            pids.push(GuestProcess { pid: process.pid, exec: started.and_then(|(exec, _)| exec.clone()) });
        }
        if let Phase::Created(prepared) = &state.phase {
            pids.push(GuestProcess { pid: prepared.pid(), exec: None });
        }
        Ok(Reply::Pids(pids))
    }

    fn delete(&self, id: &str) -> Result<Reply, Failure> {
        let container = self.container(id)?;
        let end = Instant::now() + DELETE_WAIT;
        loop {
            container.kill_all();
            if container.processes().is_empty() {
                break;
            }
            if Instant::now() > end {
                return fail(FailureKind::Internal, format!("processes of container {id} do not end"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        lock(&self.containers).remove(id);
        lock(&container.state).phase = Phase::Stopped;
        container.origin.template.kill();
        self.kernel.machine.forget_container(id);
        Ok(Reply::Ok)
    }

    /// Kills everything; the caller then ends the sentry.
    fn shutdown(&self) -> Result<Reply, Failure> {
        let containers: Vec<_> = lock(&self.containers).drain().map(|(_, container)| container).collect();
        for container in containers {
            container.kill_all();
            container.origin.template.kill();
        }
        Ok(Reply::Ok)
    }

    fn status(&self) -> Vec<(String, u64)> {
        let tasks = self.kernel.tasks.task_count() as u64;
        let processes = self.kernel.tasks.all().len() as u64;
        let containers = lock(&self.containers).len() as u64;
        vec![("containers".into(), containers), ("processes".into(), processes), ("tasks".into(), tasks)]
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
