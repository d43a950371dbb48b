//! As whom did a process log in? `/proc/PID/loginuid` and `sessionid`, which PAM writes and reads.
//!
//! Key type: [`Login`]. LINUX: kernel/auditsc.c; there each thread has its own, here each process. Nothing is audited.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Capability, Process, Task};
use crate::Errno;

/// Nobody has logged in.
const UNSET: u32 = u32::MAX;

/// A login, which children inherit.
#[derive(Debug)]
pub struct Login {
    uid: AtomicU32,
    session: AtomicU32,
}

impl Default for Login {
    fn default() -> Self {
        Self { uid: AtomicU32::new(UNSET), session: AtomicU32::new(UNSET) }
    }
}

impl Login {
    /// Who; `u32::MAX` if nobody.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid.load(Ordering::Relaxed)
    }

    /// Which of all logins; `u32::MAX` if none.
    #[must_use]
    pub fn session(&self) -> u32 {
        self.session.load(Ordering::Relaxed)
    }

    /// Becomes what a parent's is.
    pub(super) fn inherit(&self, parent: &Self) {
        self.uid.store(parent.uid(), Ordering::Relaxed);
        self.session.store(parent.session(), Ordering::Relaxed);
    }
}

impl Process {
    /// Sets the login; `uid` is `u32::MAX` for nobody. LINUX: `audit_set_loginuid`.
    ///
    /// # Errors
    /// EPERM for another process's login, and for one that is set already, without the capability.
    pub fn set_login(&self, writer: &Arc<Task>, uid: u32) -> Result<(), Errno> {
        let is_set = self.login.uid() != UNSET;
        let is_own = writer.process.pid == self.pid;
        if !is_own || is_set && !writer.credentials().has(Capability::AuditControl) {
            return Err(Errno::EPERM);
        }
        let session = if uid == UNSET { UNSET } else { self.kernel.logins.fetch_add(1, Ordering::Relaxed) };
        self.login.uid.store(uid, Ordering::Relaxed);
        self.login.session.store(session, Ordering::Relaxed);
        Ok(())
    }
}
