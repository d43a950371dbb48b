//! What does containerd know of one process: the container's first, or one started by `Exec`?
//!
//! Key types: [`Process`] and [`Phase`]:
//!
//! ```text
//! Created ── start ──> Running ── exit ──> Exited
//!    └───────────── kill, sandbox gone ───────┘
//! ```
//!
//! Whoever waits watches the phase, before the start as well as after the exit.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::io::{Hold, Stdio};

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Running,
    Exited(Exit),
}

/// How and when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) stdio: Stdio,
    phase: watch::Sender<Phase>,
    hold: Mutex<Hold>,
}

impl Process {
    pub(crate) fn new(stdio: Stdio, hold: Hold) -> Self {
        Self { stdio, phase: watch::Sender::new(Phase::Created), hold: Mutex::new(hold) }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Its end, if it has come.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.phase() {
            Phase::Exited(exit) => Some(exit),
            Phase::Created | Phase::Running => None,
        }
    }

    /// It runs now.
    pub(crate) fn started(&self) {
        self.phase.send_replace(Phase::Running);
    }

    /// It has ended; false if that was known. Lets its streams go first, so that readers see the end of them.
    pub(crate) fn exited(&self, exit: Exit) -> bool {
        if self.exit().is_some() {
            return false;
        }
        self.keep(Hold::default());
        self.phase.send_replace(Phase::Exited(exit));
        true
    }

    /// Replaces what is held of its streams.
    pub(crate) fn keep(&self, hold: Hold) {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = hold;
    }

    pub(crate) fn close_stdin(&self) {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).close_stdin();
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self) -> Exit {
        let mut phases = self.phase.subscribe();
        loop {
            if let Phase::Exited(exit) = *phases.borrow_and_update() {
                return exit;
            }
            if phases.changed().await.is_err() {
                // INVARIANT: `self` owns the sender, so it cannot have gone.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const EXIT: Exit = Exit { status: 7, at: SystemTime::UNIX_EPOCH };

    #[tokio::test]
    async fn waiting_before_the_start_and_after_the_exit_gives_the_same() {
        let process = Arc::new(Process::new(Stdio::default(), Hold::default()));
        let early = tokio::spawn({
            let process = Arc::clone(&process);
            async move { process.wait().await }
        });
        tokio::task::yield_now().await;
        process.started();
        assert_eq!(process.phase(), Phase::Running);
        assert!(process.exited(EXIT));
        assert_eq!(early.await.expect("joined"), EXIT);
        assert_eq!(process.wait().await, EXIT);
    }

    #[test]
    fn only_the_first_exit_counts() {
        let process = Process::new(Stdio::default(), Hold::default());
        assert!(process.exited(EXIT));
        assert!(!process.exited(Exit { status: 9, ..EXIT }));
        assert_eq!(process.exit(), Some(EXIT));
    }
}
