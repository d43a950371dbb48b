//! What does the shim know of one container?
//!
//! Key types: [`Task`] and [`Exec`]. What happens to them is in `pod`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use control::ProcessConfig;
use sandbox::cgroup::Cgroup;
use sandbox::hooks::State;
use sandbox::spec::Hooks;

use crate::failure::{Failure, Outcome};
use crate::process::Process;

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
    pub(crate) hooks: Hooks,
    pub(crate) state: State,
    pub(crate) execs: Mutex<HashMap<String, Arc<Exec>>>,
    pub(crate) paused: AtomicBool,
    /// From now on the gofer may end without anybody being told.
    pub(crate) ending: AtomicBool,
    /// Processes killed for want of memory that containerd has heard of.
    pub(crate) oom_told: AtomicU64,
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
