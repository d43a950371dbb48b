//! Stub processes: which are there, and which have ended.
//!
//! Key types: [`Process`] (one stub), [`Registry`] (all of a sandbox, with the thread that reaps them).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use libc::pid_t;

use crate::api::PlatformError;
use crate::sys;

/// A stub: a child process of the sentry.
#[derive(Debug)]
pub struct Process {
    /// Process id in the sentry's pid namespace.
    pub pid: pid_t,
    pidfd: OwnedFd,
    ended: AtomicBool,
    /// We asked for its end.
    killed: AtomicBool,
    /// Signal that ended it; 0: none.
    signal: AtomicI32,
    /// Sentry threads that wait for threads of this stub, by thread id: kicked when it ends. LOCK: leaf.
    waiters: Mutex<Vec<pid_t>>,
}

impl Process {
    /// Names the host process.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// It runs no more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// It was killed, and not by us.
    #[must_use]
    pub fn killed_by_host(&self) -> bool {
        self.has_ended()
            && !self.killed.load(Ordering::Acquire)
            && self.signal.load(Ordering::Acquire) == libc::SIGKILL
    }

    /// Kills it.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        // It may have ended on its own: then there is nothing to kill.
        let _ = sys::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    /// This sentry thread will wait for a thread of this stub.
    pub fn add_waiter(&self, me: pid_t) {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).push(me);
    }

    /// It will not any more.
    pub fn remove_waiter(&self, me: pid_t) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = waiters.iter().position(|&waiter| waiter == me) {
            waiters.swap_remove(index);
        }
    }

    /// Calls all waiters out of their waits; they then see that it has ended.
    fn kick_waiters(&self) -> bool {
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for &waiter in waiters.iter() {
            let _ = sys::tgkill(sys::getpid(), waiter, sys::KICK);
        }
        !waiters.is_empty()
    }
}

/// All stubs of a sandbox.
#[derive(Debug, Default)]
pub struct Registry {
    /// LOCK: held while a stub is forked, so that an unknown child of ours can only be that one.
    births: Mutex<()>,
    /// LOCK: after `births`.
    by_pid: Mutex<HashMap<pid_t, Arc<Process>>>,
    /// There are children to wait for.
    born: Condvar,
}

impl Registry {
    /// Starts the thread that reaps.
    ///
    /// # Errors
    /// When the host refuses a thread.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let registry = Arc::clone(self);
        std::thread::Builder::new()
            .name("reaper".into())
            .stack_size(64 << 10)
            .spawn(move || registry.reap())?;
        let registry = Arc::clone(self);
        std::thread::Builder::new()
            .name("kicker".into())
            .stack_size(64 << 10)
            .spawn(move || registry.kick())?;
        Ok(())
    }

    /// No other stub is born while the guard is held.
    pub fn birth(&self) -> std::sync::MutexGuard<'_, ()> {
        self.births.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a newborn stub by the process id that its parent claims. The caller holds the [`Registry::birth`] guard.
    ///
    /// # Errors
    /// When that is no process, or one that is known already: somebody lies.
    pub fn enter(&self, pid: u64) -> Result<Arc<Process>, PlatformError> {
        let pid = pid_t::try_from(pid).map_err(|_| PlatformError::Stub("claims an impossible process id"))?;
        if pid <= 1 || pid == sys::getpid() {
            return Err(PlatformError::Stub("claims an impossible process id"));
        }
        let pidfd =
            sys::pidfd_open(pid).map_err(|source| PlatformError::Host { what: "new stub", source })?;
        let process = Arc::new(Process {
            pid,
            pidfd,
            ended: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            signal: AtomicI32::new(0),
            waiters: Mutex::default(),
        });
        let mut by_pid = self.by_pid.lock().unwrap_or_else(PoisonError::into_inner);
        if by_pid.contains_key(&pid) {
            return Err(PlatformError::Stub("claims the process id of another stub"));
        }
        by_pid.insert(pid, Arc::clone(&process));
        self.born.notify_all();
        Ok(process)
    }

    fn reap(&self) {
        loop {
            match sys::wait_any() {
                Ok(ended) => self.end(ended),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(_) => {
                    let by_pid = self.by_pid.lock().unwrap_or_else(PoisonError::into_inner);
                    // No children at all: sleep until one is entered.
                    drop(self.born.wait_timeout(by_pid, std::time::Duration::from_secs(1)));
                }
            }
        }
    }

    fn end(&self, ended: sys::Ended) {
        // A stub that dies right after its birth is entered by the thread that holds the guard, first.
        let process = {
            let early = self.by_pid.lock().unwrap_or_else(PoisonError::into_inner).remove(&ended.pid);
            early.or_else(|| {
                let _birth = self.birth();
                self.by_pid.lock().unwrap_or_else(PoisonError::into_inner).remove(&ended.pid)
            })
        };
        if let Some(process) = process {
            process.signal.store(ended.signal.unwrap_or(0), Ordering::Release);
            process.ended.store(true, Ordering::Release);
            if process.kick_waiters() {
                self.by_pid.lock().unwrap_or_else(PoisonError::into_inner).insert(-ended.pid, process);
                self.born.notify_all();
            }
        }
    }

    /// A kick that comes just before a wait begins is lost, so waiters of ended stubs are kicked until they are gone.
    fn kick(&self) {
        let mut by_pid = self.by_pid.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            by_pid.retain(|&pid, process| pid > 0 || process.kick_waiters());
            let pause = if by_pid.keys().any(|&pid| pid < 0) { 5 } else { 60_000 };
            let pause = std::time::Duration::from_millis(pause);
            by_pid =
                self.born.wait_timeout(by_pid, pause).map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
    }
}
