//! Who may look into another process, and what do they get? LINUX: `ptrace_may_access`, `exec_update_lock`.
//!
//! Key types: [`AccessMode`], [`ExecUpdate`]. Memory, descriptors and private texts of another process are handed out by
//! [`Task::inspect`] alone: the question and the taking are one step, which no exec can come between.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::{Capability, Credentials, Process, Task};
use crate::Errno;

/// By which of the looking task's ids and capabilities it is judged. LINUX: `PTRACE_MODE_FSCREDS`, `PTRACE_MODE_REALCREDS`.
///
/// Linux also tells reading from attaching, for the sake of Yama; here `kernel.yama.ptrace_scope` is 0, so that both are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// File-system ids and effective capabilities: files of `/proc`.
    Files,
    /// Real ids and permitted capabilities: system calls that name a process.
    Calls,
}

/// Who a process is and which memory it has change together, under this lock. LINUX: `exec_update_lock`.
///
/// LOCK: `process.exec_update`; outside `process.inner` and all below it. Of two processes only in the order of their keys.
#[derive(Default)]
pub struct ExecUpdate(RwLock<()>);

impl ExecUpdate {
    /// Exec: nobody looks at the process until the guard is dropped.
    pub(super) fn begin(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is looked at in the question whether a process may be looked into.
struct Target<'a> {
    credentials: &'a Credentials,
    /// It runs nothing that the others must not see. What has no memory any more has nothing to hide.
    is_dumpable: bool,
}

/// LINUX: `__ptrace_may_access` with `cap_ptrace_access_check`.
fn may_access(ours: &Credentials, target: &Target<'_>, mode: AccessMode) -> bool {
    let theirs = target.credentials;
    let (uid, gid, capabilities) = match mode {
        AccessMode::Files => (ours.fsuid, ours.fsgid, ours.effective),
        AccessMode::Calls => (ours.uid, ours.gid, ours.permitted),
    };
    let is_same_user = [theirs.euid, theirs.suid, theirs.uid].iter().all(|&their| their == uid)
        && [theirs.egid, theirs.sgid, theirs.gid].iter().all(|&their| their == gid);
    let is_covered = theirs.permitted & !capabilities == 0;
    ours.has(Capability::SysPtrace) || is_same_user && target.is_dumpable && is_covered
}

impl Task {
    /// Asks whether `looker` may look into this task, and if so lets it `take` a handle to what it is after. `take` runs under
    /// a lock: it waits for nobody, neither the gofer nor the host.
    ///
    /// # Errors
    /// EPERM; what `take` answers.
    pub fn inspect<T>(
        self: &Arc<Self>,
        looker: &Arc<Task>,
        mode: AccessMode,
        take: impl FnOnce(&Arc<Task>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let _exec = self.process.exec_update.0.read().unwrap_or_else(PoisonError::into_inner);
        if self.admits(looker, mode) { take(self) } else { Err(Errno::EPERM) }
    }

    /// What [`Task::inspect`] asks, of a task whose `exec_update` lock is held, or for an answer that hands out nothing.
    fn admits(&self, looker: &Task, mode: AccessMode) -> bool {
        // LINUX: threads of one process have nothing to hide from each other.
        if Arc::ptr_eq(&self.process, &looker.process) {
            return true;
        }
        // Credentials before dumpable: who changes them clears dumpable first.
        let credentials = self.credentials();
        let is_dumpable = self.process.dumpable() == 1 || self.mm().is_none();
        let target = Target { credentials: &credentials, is_dumpable };
        may_access(&looker.credentials(), &target, mode)
    }
}

impl Process {
    /// As [`Task::inspect`] of any of its threads.
    ///
    /// # Errors
    /// ESRCH when the last one has ended; as [`Task::inspect`].
    pub fn inspect<T>(
        &self,
        looker: &Arc<Task>,
        mode: AccessMode,
        take: impl FnOnce(&Arc<Task>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.any_thread().ok_or(Errno::ESRCH)?.inspect(looker, mode, take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOWN: u64 = 1;
    const SYS_PTRACE: u64 = 1 << 19;

    fn user(uid: u32, permitted: u64) -> Credentials {
        Credentials {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid: uid,
            egid: uid,
            sgid: uid,
            fsgid: uid,
            permitted,
            effective: permitted,
            ..Credentials::default()
        }
    }

    fn may(ours: &Credentials, theirs: &Credentials, is_dumpable: bool) -> bool {
        let target = Target { credentials: theirs, is_dumpable };
        [AccessMode::Files, AccessMode::Calls].iter().all(|&mode| may_access(ours, &target, mode))
    }

    #[test]
    fn the_same_user_may_unless_it_is_hidden() {
        assert!(may(&user(1000, 0), &user(1000, 0), true));
        assert!(!may(&user(1000, 0), &user(1000, 0), false));
        assert!(!may(&user(1000, 0), &user(1001, 0), true));
        assert!(!may(&user(1000, 0), &user(0, 0), true));
        // Root without capabilities is one user more.
        assert!(!may(&user(0, 0), &user(1000, 0), true));
    }

    #[test]
    fn every_one_of_six_ids_counts() {
        let changes: [fn(&mut Credentials); 6] =
            [|c| c.uid = 0, |c| c.euid = 0, |c| c.suid = 0, |c| c.gid = 0, |c| c.egid = 0, |c| c.sgid = 0];
        for change in changes {
            let mut theirs = user(1000, 0);
            change(&mut theirs);
            assert!(!may(&user(1000, 0), &theirs, true));
        }
    }

    #[test]
    fn who_has_more_capabilities_is_not_looked_into() {
        assert!(!may(&user(1000, 0), &user(1000, CHOWN), true));
        assert!(may(&user(1000, CHOWN), &user(1000, CHOWN), true));
        assert!(may(&user(1000, SYS_PTRACE), &user(0, u64::MAX), false));
    }

    #[test]
    fn files_go_by_effective_capabilities_and_calls_by_permitted_ones() {
        let ours = Credentials { effective: 0, ..user(1000, CHOWN) };
        let theirs = user(1000, CHOWN);
        let target = Target { credentials: &theirs, is_dumpable: true };
        assert!(!may_access(&ours, &target, AccessMode::Files));
        assert!(may_access(&ours, &target, AccessMode::Calls));
    }
}
