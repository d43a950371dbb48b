//! What does the shim know of one container?
//!
//! Key types: [`Task`] and [`Exec`]. What happens to them is in `pod`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use control::ProcessConfig;
use sandbox::cgroup::Cgroup;
use sandbox::fields::Note;
use sandbox::hooks::State;
use sandbox::spec::Hooks;

use crate::failure::{Failure, Outcome};
use crate::log;
use crate::process::{Phase, Process};

/// Most notes on one container that are written down.
const NOTED_MAX: usize = 64;

/// One container.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) init: Process,
    pub(crate) container: sandbox::Container,
    pub(crate) cgroup: Option<Cgroup>,
    /// The cgroup is the sentry's as well, so not everything in it is this container's.
    pub(crate) cgroup_shared: bool,
    /// Bytes of memory and tasks that it may have; 0 for no limit.
    pub(crate) limits: Mutex<(u64, u64)>,
    pub(crate) hooks: Hooks,
    pub(crate) state: State,
    /// What of its processes' and updates' wishes has been noted as not done.
    pub(crate) noted: Mutex<HashSet<Note>>,
    pub(crate) execs: Mutex<HashMap<String, Arc<Exec>>>,
    /// Whether its processes are stopped, for who only looks.
    pub(crate) paused: AtomicBool,
    /// LOCK: taken alone; held while its processes are stopped or let go on.
    pub(crate) freezer: Mutex<Freezer>,
    /// From now on the gofer may end without anybody being told.
    pub(crate) ending: AtomicBool,
    /// Processes killed for want of memory that containerd has heard of.
    pub(crate) oom_told: AtomicU64,
}

/// What a pause has to know of a kill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Freezer {
    #[default]
    Free,
    /// It is to die, and must not be stopped on the way.
    Killed,
}

/// A process started by `Exec`.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) process: Process,
    pub(crate) config: ProcessConfig,
}

/// The first process of a container, or one that was started in it.
#[derive(Debug, Clone)]
pub(crate) enum Which {
    Init(Arc<Task>),
    Exec(Arc<Task>, String, Arc<Exec>),
}

impl Task {
    /// The process with that exec id; the first one for an empty id.
    pub(crate) fn process(self: &Arc<Self>, exec: &str) -> Outcome<Which> {
        if exec.is_empty() {
            return Ok(Which::Init(Arc::clone(self)));
        }
        let execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        match execs.get(exec) {
            Some(found) => Ok(Which::Exec(Arc::clone(self), exec.to_owned(), Arc::clone(found))),
            None => Err(Failure::not_found(format!("process {exec} does not exist in task {}", self.id))),
        }
    }

    /// Writes down what is not done, each only once: probes ask the same every few seconds.
    pub(crate) fn note(&self, notes: Vec<Note>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes {
            if noted.len() < NOTED_MAX && !noted.contains(&note) {
                log::note(&self.id, &note);
                noted.insert(note);
            }
        }
    }

    /// Stops its processes, or lets them go on. Blocks.
    pub(crate) fn pause(&self, paused: bool) -> Outcome<()> {
        let freezer = self.freezer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_running = self.init.phase() == Phase::Running && *freezer == Freezer::Free;
        if !is_running || self.paused.load(Ordering::Relaxed) == paused {
            let wanted = if paused { "running" } else { "paused" };
            return Err(Failure::precondition(format!("the container is not {wanted}")));
        }
        let Some(cgroup) = self.cgroup.as_ref().filter(|_| !self.cgroup_shared) else {
            return Err(Failure::precondition("the container has no cgroup of its own"));
        };
        cgroup.freeze(paused)?;
        self.paused.store(paused, Ordering::Relaxed);
        if paused && self.init.exit().is_some() {
            self.paused.store(false, Ordering::Relaxed);
            cgroup.freeze(false)?;
        }
        Ok(())
    }

    /// Lets its processes go on if they are stopped, so that they can end; for good if all of them are to.
    pub(crate) fn thaw(&self, for_good: bool) {
        let mut freezer = self.freezer.lock().unwrap_or_else(PoisonError::into_inner);
        if for_good {
            *freezer = Freezer::Killed;
        }
        if self.paused.swap(false, Ordering::Relaxed)
            && let Some(cgroup) = &self.cgroup
        {
            let _ = cgroup.freeze(false);
        }
    }

    /// The pid that containerd is told: that of the container's template on the host, which lives as long as the
    /// container and is in its cgroup and its pod's network.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.container.pid).unwrap_or(0)
    }

    /// Processes killed for want of memory since this was last asked.
    pub(crate) fn new_oom_kills(&self) -> bool {
        let now = self.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        self.oom_told.swap(now, Ordering::Relaxed) < now
    }

    pub(crate) fn all_execs(&self) -> Vec<(String, Arc<Exec>)> {
        let execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs.iter().map(|(id, exec)| (id.clone(), Arc::clone(exec))).collect()
    }
}

impl Which {
    pub(crate) fn process(&self) -> &Process {
        match self {
            Self::Init(task) => &task.init,
            Self::Exec(_, _, exec) => &exec.process,
        }
    }

    pub(crate) fn task(&self) -> &Arc<Task> {
        match self {
            Self::Init(task) | Self::Exec(task, _, _) => task,
        }
    }

    /// The exec id, as the sentry is told it.
    pub(crate) fn exec(&self) -> Option<&str> {
        match self {
            Self::Init(_) => None,
            Self::Exec(_, id, _) => Some(id),
        }
    }
}
