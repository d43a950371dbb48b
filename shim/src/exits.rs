//! How does containerd hear of what has ended: a process, a container's files, the whole sandbox?
//!
//! Methods of [`Pod`]; [`Exit`] is how and when a process has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use control::Event;
use sandbox::client::Notice;
use sandbox::spawn::Ended;
use tokio::io::unix::AsyncFd;

use crate::events::timestamp;
use crate::pod::{END_LIMIT, Pod, Running, SIGKILL, blocking};
use crate::process::Phase;
use crate::task::{Task, Which};

/// 128 + SIGKILL.
const KILLED: u32 = 137;
/// What a container gets that could not be started, as containerd's CRI has it.
pub(crate) const NOT_STARTED: u32 = 128;
/// What a container gets whose sandbox died of something else than SIGKILL.
const SANDBOX_DIED: u32 = 255;

/// How and when a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

impl Exit {
    /// It has ended just now.
    pub(crate) fn now(status: u32) -> Self {
        Self { status, at: SystemTime::now() }
    }
}

impl Pod {
    /// Takes note of what the sentry tells.
    pub(crate) async fn hear(self: &Arc<Self>, generation: u64, notice: Notice) {
        let Some(running) = self.sandbox().clone().filter(|running| running.generation == generation) else {
            return;
        };
        match notice {
            Notice::Event(Event::Exited { container, exec, status, killed_by_host }) => {
                let Ok(which) = self.process(&container, exec.as_deref().unwrap_or("")) else { return };
                if killed_by_host {
                    tracing::warn!(container, "a process of the container was killed by the host");
                }
                self.has_exited(&which, Exit::now(u32::try_from(status).unwrap_or(SANDBOX_DIED)));
            }
            Notice::Event(Event::Warning(text)) => tracing::warn!("{text}"),
            Notice::Gone(why) => self.sandbox_is_gone(running, why).await,
        }
    }

    /// All that follows from an exit, events included. Of a process that is being started it is put off until that has
    /// been told.
    pub(crate) fn has_exited(&self, which: &Which, exit: Exit) {
        if which.process().put_off(exit) {
            return;
        }
        let task = which.task();
        if task.new_oom_kills() {
            let event = TaskOOM { container_id: task.id.clone(), ..TaskOOM::default() };
            self.events.publish(topics::TASK_OOM_EVENT_TOPIC, &event);
        }
        if matches!(which, Which::Init(_)) {
            // The rest of a pid namespace dies with its first process; containerd hears of that one last.
            for (id, exec) in task.all_execs() {
                if matches!(exec.process.phase(), Phase::Running | Phase::Starting(_)) {
                    let which = Which::Exec(Arc::clone(task), id, exec);
                    self.tell_exit(&which, Exit { status: KILLED, ..exit });
                }
            }
            task.thaw(false);
        }
        self.tell_exit(which, exit);
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
        let ended = blocking(move || {
            let ended = watched.sandbox.sentry.wait(Some(END_LIMIT));
            // One that has only closed its socket is of no use either.
            watched.sandbox.sentry.kill();
            ended
        })
        .await;
        let status = if ended == Some(Ended::Signal(SIGKILL)) { KILLED } else { SANDBOX_DIED };
        let tasks: Vec<_> = self.tasks().values().flatten().cloned().collect();
        if tasks.iter().any(|task| task.init.exit().is_none() && !task.ending.load(Ordering::Relaxed)) {
            let how = ended.map(|ended| ended.to_string()).or(why);
            let how = how.unwrap_or_else(|| "closed its socket".to_owned());
            let last = running.tail.last();
            tracing::error!(how, last, "the sentry has ended; every container of the pod has ended with it");
        }
        for task in tasks {
            if task.init.exit().is_none() {
                self.has_exited(&Which::Init(task), Exit::now(status));
            }
        }
    }

    /// Ends the container whose files have gone.
    pub(crate) fn watch_gofer(self: &Arc<Self>, task: &Arc<Task>) {
        let Ok(watch) = task.container.gofer.watch().and_then(AsyncFd::new) else { return };
        let (pod, task) = (Arc::clone(self), Arc::clone(task));
        tokio::spawn(async move {
            if watch.readable().await.is_err() || is_over(&task) {
                return;
            }
            let (watched, running) = (Arc::clone(&task), pod.running());
            // Gofers follow their sentry: if that is what has ended, all containers are told of it elsewhere.
            let (how, is_gone) = blocking(move || {
                let how = watched.container.gofer.wait(Some(END_LIMIT));
                (how, running.map_or(true, |running| running.sandbox.is_gone()))
            })
            .await;
            if is_gone || is_over(&task) {
                return;
            }
            let how = how.unwrap_or(Ended::Unknown);
            tracing::error!(container = task.id, %how, "the gofer has ended; the container is killed");
            let _ = pod.kill(&Which::Init(task), SIGKILL, true).await;
        });
    }
}

/// Whether its end is known or asked for, so that nobody has to be told of more.
fn is_over(task: &Task) -> bool {
    task.ending.load(Ordering::Relaxed) || task.init.exit().is_some()
}
