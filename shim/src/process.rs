//! What does containerd know of one process: the container's first, or one started by `Exec`?
//!
//! Key types: [`Process`] and [`Phase`]:
//!
//! ```text
//! Created ── start asked ──> Starting ── done ──> Running ── exit ──> Exited
//!    │  ^────── failed ─────────┘                                       ^
//!    └───────────────────── kill, sandbox gone ─────────────────────────┘
//! ```
//!
//! An exit that is heard of while the start has not been told yet is put off until it has been, so that containerd
//! hears of both in their order; nothing else waits for that. Whoever waits watches the phase, before the start as well
//! as after the exit.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::exits::Exit;
use crate::io::{Hold, Stdio};

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    /// Being started; with its end, if that has come already.
    Starting(Option<Exit>),
    Running,
    Exited(Exit),
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
            Phase::Created | Phase::Starting(_) | Phase::Running => None,
        }
    }

    /// Its start has been asked for; false if it cannot be started (any more).
    pub(crate) fn begin(&self) -> bool {
        self.phase.send_if_modified(|phase| {
            let is_new = *phase == Phase::Created;
            if is_new {
                *phase = Phase::Starting(None);
            }
            is_new
        })
    }

    /// It runs now: `tell` says so. Returns its end, if that came while it was being started: still to be told.
    pub(crate) fn started(&self, tell: impl FnOnce()) -> Option<Exit> {
        let mut early = None;
        self.phase.send_modify(|phase| {
            tell();
            if let Phase::Starting(exit) = *phase {
                early = exit;
            }
            *phase = Phase::Running;
        });
        early
    }

    /// It could not be started. Returns its end, if that was told meanwhile.
    pub(crate) fn not_started(&self) -> Option<Exit> {
        let mut early = None;
        self.phase.send_modify(|phase| {
            if let Phase::Starting(exit) = *phase {
                early = exit;
                *phase = Phase::Created;
            }
        });
        early
    }

    /// Puts its end off if it is being started; false if it is not.
    pub(crate) fn put_off(&self, exit: Exit) -> bool {
        let mut is_starting = false;
        self.phase.send_if_modified(|phase| {
            if let Phase::Starting(early) = phase {
                early.get_or_insert(exit);
                is_starting = true;
            }
            false
        });
        is_starting
    }

    /// It has ended; false if that was known, or has to be told later. Lets its streams go first, so that readers see
    /// the end of them.
    pub(crate) fn exited(&self, exit: Exit) -> bool {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Exited(_) => false,
            Phase::Starting(early) => {
                early.get_or_insert(exit);
                false
            }
            Phase::Created | Phase::Running => {
                self.keep(Hold::default());
                *phase = Phase::Exited(exit);
                true
            }
        })
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
    use std::time::SystemTime;

    const EXIT: Exit = Exit { status: 7, at: SystemTime::UNIX_EPOCH };

    #[tokio::test]
    async fn waiting_before_the_start_and_after_the_exit_gives_the_same() {
        let process = Arc::new(Process::new(Stdio::default(), Hold::default()));
        let early = tokio::spawn({
            let process = Arc::clone(&process);
            async move { process.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(process.begin());
        assert_eq!(process.started(|| {}), None);
        assert_eq!(process.phase(), Phase::Running);
        assert!(process.exited(EXIT));
        assert_eq!(early.await.expect("joined"), EXIT);
        assert_eq!(process.wait().await, EXIT);
    }

    #[test]
    fn an_end_that_comes_during_the_start_is_told_after_it() {
        let process = Process::new(Stdio::default(), Hold::default());
        assert!(process.begin() && !process.begin(), "one start only");
        assert!(process.put_off(EXIT));
        assert!(!process.exited(Exit { status: 9, ..EXIT }), "not told yet");
        assert_eq!(process.exit(), None);
        let mut told = 0;
        let early = process.started(|| told += 1).expect("the first end");
        assert_eq!((early, told, process.phase()), (EXIT, 1, Phase::Running));
        assert!(!process.put_off(EXIT) && process.exited(early));
        assert!(!process.begin(), "it has ended");
    }

    #[test]
    fn one_that_could_not_be_started_is_as_it_was_before() {
        let process = Process::new(Stdio::default(), Hold::default());
        assert!(process.begin());
        assert_eq!((process.not_started(), process.phase()), (None, Phase::Created));
        assert!(process.begin() && process.put_off(EXIT));
        assert_eq!(process.not_started(), Some(EXIT));
        assert!(process.exited(EXIT));
    }

    #[test]
    fn only_the_first_exit_counts() {
        let process = Process::new(Stdio::default(), Hold::default());
        assert!(process.exited(EXIT));
        assert!(!process.exited(Exit { status: 9, ..EXIT }));
        assert_eq!(process.exit(), Some(EXIT));
    }
}
