//! Job control: which processes belong together, and which terminal is theirs (`credentials(7)`, `setsid(2)`)?
//!
//! Key types: [`ProcessGroup`], [`Session`], [`ControllingTerminal`].

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// A terminal, as a session sees it.
pub trait ControllingTerminal: Send + Sync + Any {
    /// The session's leader has gone: hang up.
    fn leader_exited(&self);

    /// `makedev(major, minor)`, for `/proc/PID/stat`.
    fn device(&self) -> u64;

    /// For the terminal's own room.
    fn as_any(&self) -> &dyn Any;
}

/// Process groups with a common terminal.
pub struct Session {
    /// Its id: the leader's pid.
    pub sid: i32,
    /// LOCK: leaf.
    terminal: Mutex<Terminal>,
}

#[derive(Default)]
struct Terminal {
    device: Option<Arc<dyn ControllingTerminal>>,
    foreground: Option<Arc<ProcessGroup>>,
}

/// Processes that get terminal signals together.
pub struct ProcessGroup {
    /// Its id: the pid of the process that made it.
    pub pgid: i32,
    /// The session it is in.
    pub session: Arc<Session>,
}

impl Session {
    /// A session without a terminal.
    #[must_use]
    pub fn new(sid: i32) -> Arc<Self> {
        Arc::new(Self { sid, terminal: Mutex::default() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Terminal> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its controlling terminal.
    #[must_use]
    pub fn terminal(&self) -> Option<Arc<dyn ControllingTerminal>> {
        self.lock().device.clone()
    }

    /// Gives it a terminal, or takes it away; answers the old one. The foreground group goes with it.
    pub fn set_terminal(
        &self,
        device: Option<Arc<dyn ControllingTerminal>>,
        foreground: Option<Arc<ProcessGroup>>,
    ) -> Option<Arc<dyn ControllingTerminal>> {
        std::mem::replace(&mut *self.lock(), Terminal { device, foreground }).device
    }

    /// The group that reads from the terminal and gets its signals.
    #[must_use]
    pub fn foreground(&self) -> Option<Arc<ProcessGroup>> {
        self.lock().foreground.clone()
    }

    /// `tcsetpgrp(3)`.
    pub fn set_foreground(&self, group: Option<Arc<ProcessGroup>>) {
        self.lock().foreground = group;
    }
}

impl ProcessGroup {
    /// A group in `session`.
    #[must_use]
    pub fn new(pgid: i32, session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self { pgid, session })
    }
}
