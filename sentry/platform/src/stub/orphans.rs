//! What becomes of a child that its parent denies?
//!
//! What an agent answers to an order to fork stands where guests can write. If it names no child, or a false one, or the stub ends
//! before it answers, there may be a child all the same, at work for whoever has its windows next. So the windows
//! stay taken until the parent has been reaped, when no more can be born. Then the child is looked for among the
//! process ids of that time, known by the mark that its agent's page has, and ended; its windows are kept until it is gone.
//!
//! Key types: [`Windows`] that a child was given, [`Doubts`] of a parent. Key function: [`newborn`].

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::agent::{self, Agent};
use super::arena::{Arena, Window};
use super::process::{Process, Registry};
use crate::api::PlatformError;
use crate::sys;

/// Most forks of one process that are in doubt.
const DOUBTS_MAX: usize = 256;
/// LINUX: `PID_MAX_LIMIT`.
const PID_MAX: i32 = 1 << 22;
/// Between looks at one that may be a sibling on its way into the registry.
const LOOK: Duration = Duration::from_millis(1);
/// So many looks, if it has its parent's pages still.
const LOOKS: u32 = 100;

/// What a child is given: its agent's pages and its first thread's.
#[derive(Debug, Clone)]
pub struct Windows {
    agent: Arc<Window>,
    thread: Option<Arc<Window>>,
}

impl Windows {
    /// Of a child with this agent and the pages of its first thread.
    #[must_use]
    pub fn new(agent: &Agent, thread: Option<&Arc<Window>>) -> Self {
        Self { agent: agent.kept_window(), thread: thread.map(Arc::clone) }
    }
}

/// The agent and the first thread's pages for a child of `parent`. Those of a fork in doubt are used again: such a child can do no
/// more to its sibling than to itself.
///
/// # Errors
/// When all windows are taken, or too many forks of `parent` are in doubt.
pub fn newborn(parent: &Process, arena: &Arc<Arena>) -> Result<(Agent, Arc<Window>), PlatformError> {
    let spare = {
        let mut doubts = parent.doubts();
        if doubts.all.len() >= DOUBTS_MAX {
            return Err(PlatformError::Limit("forks of a process that failed"));
        }
        doubts.spare.take()
    };
    match spare {
        Some((agent, thread)) => {
            thread.clear_thread();
            Ok((Agent::with(agent), thread))
        }
        None => Ok((Agent::allocate(arena)?, arena.allocate_thread()?)),
    }
}

/// The forks of a parent that may have made a child which nobody knows.
#[derive(Debug, Default)]
pub struct Doubts {
    all: Vec<Doubt>,
    /// Windows that no known child has, an agent's and a thread's.
    spare: Option<(Arc<Window>, Arc<Window>)>,
    /// The parent has been reaped.
    is_closed: bool,
}

#[derive(Debug)]
struct Doubt {
    /// A process id from before the fork.
    since: i32,
    mark: u64,
    windows: Windows,
}

impl Doubts {
    fn add(&mut self, since: i32, windows: Windows) {
        let mark = agent::mark_of(&windows.agent);
        self.spare = windows.thread.clone().map(|thread| (Arc::clone(&windows.agent), thread));
        if self.all.iter().all(|doubt| doubt.mark != mark) {
            self.all.push(Doubt { since, mark, windows });
        }
    }
}

/// `since..=now`, also if the numbers have begun anew in between.
fn between(since: i32, now: i32) -> impl Iterator<Item = i32> {
    let (last, anew) = if since <= now { (now, 0) } else { (PID_MAX, now) };
    (since..=last).chain(1..=anew)
}

impl Registry {
    /// A fork of `parent` has failed, it seems; `since` is a process id from before it.
    pub fn doubt(&self, parent: &Process, since: i32, windows: Windows) {
        let is_closed = {
            let mut doubts = parent.doubts();
            doubts.add(since, windows);
            doubts.is_closed
        };
        if is_closed {
            self.end_orphans(parent);
        }
    }

    /// Ends the children of a stub that has been reaped which are in doubt.
    pub(super) fn end_orphans(&self, parent: &Process) {
        let Doubts { all: doubts, .. } =
            std::mem::replace(&mut *parent.doubts(), Doubts { is_closed: true, ..Doubts::default() });
        let Some(since) = doubts.first().map(|doubt| doubt.since) else { return };
        // Numbers go up, and a new thread has the newest.
        let now = std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(sys::gettid)
            .map(std::thread::JoinHandle::join);
        // Without an answer all are looked at.
        let now = now.ok().and_then(Result::ok).unwrap_or(PID_MAX);
        for pid in between(since, now).filter(|pid| *pid > 1 && *pid != sys::getpid()) {
            let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
            if self.is_known(pid) {
                continue;
            }
            if sys::pidfd_has_ended(pidfd.as_fd()) {
                let _ = sys::wait_process(pid);
            } else if self.is_orphan(pid, parent, &doubts) {
                let kept: Vec<_> = doubts.iter().map(|doubt| doubt.windows.clone()).collect();
                self.end_unknown(pid, pidfd, kept);
            }
        }
    }

    /// Whether this process, which nobody knows, is a child of `parent`. Should it be on its way into the registry, it is not.
    fn is_orphan(&self, pid: i32, parent: &Process, doubts: &[Doubt]) -> bool {
        for _ in 0..LOOKS {
            match agent::mark_in(pid) {
                Some(mark) if mark == parent.mark => {}
                Some(mark) if doubts.iter().any(|doubt| doubt.mark == mark) => {
                    std::thread::sleep(LOOK);
                    return !self.is_known(pid);
                }
                _ => return false,
            }
            std::thread::sleep(LOOK);
            if self.is_known(pid) {
                return false;
            }
        }
        // Frozen before its first act.
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_begin_anew_are_all_looked_at() {
        assert_eq!(between(5, 8).collect::<Vec<_>>(), [5, 6, 7, 8]);
        assert_eq!(between(8, 8).collect::<Vec<_>>(), [8]);
        assert_eq!(between(PID_MAX - 1, 2).collect::<Vec<_>>(), [PID_MAX - 1, PID_MAX, 1, 2]);
    }
}
