//! Stub processes: which are there, and which have ended.
//!
//! Key types: [`Process`] (one stub), [`Registry`] (all of a sandbox, with the thread that reaps them).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use libc::pid_t;
use rustix::event::epoll;

use super::agent::mark_in;
use super::orphans::Doubts;
use crate::api::{DeathNotice, PlatformError};
use crate::death::Death;
use crate::sys;

/// A stub: a child process of the sentry.
pub struct Process {
    /// Process id in the sentry's pid namespace.
    pub pid: pid_t,
    pidfd: OwnedFd,
    /// What stands in its agent's order page at `agent::MARK`.
    pub(super) mark: u64,
    ended: AtomicBool,
    /// It is about to be reaped, or has been: from then on its number may be another's. LOCK: leaf.
    is_reaped: RwLock<bool>,
    /// We asked for its end.
    killed: AtomicBool,
    /// Signal that ended it; 0: none.
    signal: AtomicI32,
    /// What was seen of it for which it was given up.
    blame: OnceLock<Death>,
    /// Largest resident size in bytes, known once it has been reaped.
    peak: Arc<AtomicU64>,
    /// Sentry threads that wait for threads of this stub, by thread id: kicked when it ends. LOCK: leaf.
    waiters: Mutex<Vec<pid_t>>,
    /// LOCK: leaf.
    grave: Mutex<Grave>,
    /// Tasks that use it and may be waiting for something else when it ends. LOCK: leaf.
    notices: Mutex<Vec<Weak<dyn DeathNotice>>>,
    /// Forks of it that nobody knows the child of. LOCK: leaf.
    doubts: Mutex<Doubts>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({})", self.pid)
    }
}

/// What a stub may still use until it is really gone.
#[derive(Default)]
struct Grave {
    is_closed: bool,
    kept: Vec<Box<dyn Send>>,
}

impl std::fmt::Debug for Grave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} things kept", self.kept.len())
    }
}

impl Process {
    fn new(pid: pid_t, pidfd: OwnedFd, mark: u64) -> Arc<Self> {
        Arc::new(Self {
            pid,
            pidfd,
            mark,
            ended: AtomicBool::new(false),
            is_reaped: RwLock::new(false),
            killed: AtomicBool::new(false),
            signal: AtomicI32::new(0),
            blame: OnceLock::new(),
            peak: Arc::default(),
            waiters: Mutex::default(),
            grave: Mutex::default(),
            notices: Mutex::default(),
            doubts: Mutex::default(),
        })
    }

    /// Forks of it that nobody knows the child of.
    pub fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the host process.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Holds the largest resident size in bytes once it has been reaped; 0 until then.
    #[must_use]
    pub fn peak(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.peak)
    }

    /// Does `work` with its number, which is its own for so long; `None` once it may be another's.
    pub fn by_number<T>(&self, work: impl FnOnce(pid_t) -> T) -> Option<T> {
        let is_reaped = self.is_reaped.read().unwrap_or_else(PoisonError::into_inner);
        (!*is_reaped).then(|| work(self.pid))
    }

    /// Its number is free from now on, for whoever asks by it.
    fn give_up_number(&self) {
        *self.is_reaped.write().unwrap_or_else(PoisonError::into_inner) = true;
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

    /// It is given up for this, unless it has ended or was to end before.
    pub fn blame(&self, why: Death) {
        if !self.has_ended() && !self.killed.load(Ordering::Acquire) {
            // The first reason is the one: others follow from it.
            let _ = self.blame.set(why);
        }
    }

    /// Kills it for this.
    pub fn condemn(&self, why: Death) {
        self.blame(why);
        self.kill();
    }

    /// Why it was given up or has ended, if nobody had asked for that.
    #[must_use]
    pub fn death(&self) -> Option<Death> {
        let by_host = || {
            if !self.has_ended() || self.killed.load(Ordering::Acquire) {
                return None;
            }
            Some(match self.signal.load(Ordering::Acquire) {
                0 => Death::Ended,
                signal => Death::Signal(signal),
            })
        };
        self.blame.get().copied().or_else(by_host)
    }

    /// Kills it.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        // It may have ended on its own: then there is nothing to kill.
        let _ = sys::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    /// It has ended, or a thread of it has been killed, which ends all of it.
    pub fn set_ended(&self, signal: Option<libc::c_int>) {
        if let Some(signal) = signal {
            self.signal.store(signal, Ordering::Release);
        }
        self.ended.store(true, Ordering::Release);
    }

    /// Keeps `thing`, memory that the stub may write to or sleep on, until the stub has been reaped. A killed one still
    /// runs for a moment, and would take a wake-up that is meant for the next user of the same memory.
    pub fn keep(&self, thing: impl Send + 'static) {
        let mut grave = self.grave.lock().unwrap_or_else(PoisonError::into_inner);
        if !grave.is_closed {
            grave.kept.push(Box::new(thing));
        }
    }

    fn release_kept(&self) {
        let kept = {
            let mut grave = self.grave.lock().unwrap_or_else(PoisonError::into_inner);
            grave.is_closed = true;
            std::mem::take(&mut grave.kept)
        };
        drop(kept);
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

    /// `notice` is told when it has ended; at once, if it has.
    pub fn on_death(&self, notice: Weak<dyn DeathNotice>) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.retain(|notice| notice.strong_count() > 0);
        notices.push(notice);
        drop(notices);
        if self.has_ended() {
            self.tell();
        }
    }

    fn tell(&self) {
        let notices = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
        for notice in notices.iter().filter_map(Weak::upgrade) {
            notice.address_space_died();
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

/// Waits until the process has the agent's page with this mark mapped: it does that as one of its first acts.
fn await_mark(pid: pid_t, pidfd: BorrowedFd<'_>, mark: u64) -> Result<(), PlatformError> {
    /// Looks without a pause, and then with one: 5 s.
    const QUICK_LOOKS: u32 = 30;
    const LOOKS: u32 = 50_000;
    for look in 0..LOOKS {
        if mark_in(pid) == Some(mark) {
            return Ok(());
        }
        if look < QUICK_LOOKS {
            std::hint::spin_loop();
        } else if sys::pidfd_has_ended(pidfd) {
            let _ = sys::wait_process(pid);
            let source = io::Error::from_raw_os_error(libc::ESRCH);
            return Err(PlatformError::Host { what: "new stub", source });
        } else {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Err(PlatformError::Stub("claims a process id that is not its child's"))
}

/// All stubs of a sandbox.
#[derive(Debug)]
pub struct Registry {
    /// Tells which stubs have ended. Each is waited for by its number: tracees of other threads are theirs to wait for.
    ends: OwnedFd,
    /// LOCK: leaf.
    by_pid: Mutex<HashMap<pid_t, Arc<Process>>>,
    /// Number of the stub that was entered last.
    newest: AtomicI32,
    /// Ended stubs that are still waited for. LOCK: leaf but for `Process::waiters`.
    to_kick: Mutex<Vec<Arc<Process>>>,
    /// There is somebody to kick.
    kicks: Condvar,
}

impl Registry {
    /// An empty one; nothing is reaped yet.
    ///
    /// # Errors
    /// When the host refuses a descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            ends: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            by_pid: Mutex::default(),
            newest: AtomicI32::new(0),
            to_kick: Mutex::default(),
            kicks: Condvar::new(),
        })
    }

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

    /// As [`Registry::enter`], for a child of `parent`, which dies if it lies.
    ///
    /// # Errors
    /// As [`Registry::enter`].
    pub fn enter_child(
        &self,
        parent: &Process,
        claimed: u64,
        mark: u64,
    ) -> Result<Arc<Process>, PlatformError> {
        let entered = self.enter(claimed, mark);
        if let Err(PlatformError::Stub(lie)) = entered {
            parent.condemn(Death::Child(lie));
        }
        entered
    }

    fn by_pid(&self) -> MutexGuard<'_, HashMap<pid_t, Arc<Process>>> {
        self.by_pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a newborn stub by the process id that its parent claims, and by the mark of the agent that was ordered for it: many are
    /// born at a time, and a hostile parent could claim another's.
    ///
    /// # Errors
    /// When that is no process, one that is known already, or one with another agent: somebody lies.
    pub fn enter(&self, claimed: u64, mark: u64) -> Result<Arc<Process>, PlatformError> {
        let pid =
            pid_t::try_from(claimed).map_err(|_| PlatformError::Stub("claims an impossible process id"))?;
        if pid <= 1 || pid == sys::getpid() {
            return Err(PlatformError::Stub("claims an impossible process id"));
        }
        let host = |source| PlatformError::Host { what: "new stub", source };
        let pidfd = sys::pidfd_open(pid).map_err(host)?;
        let known = PlatformError::Stub("claims the process id of another stub");
        if self.by_pid().contains_key(&pid) {
            return Err(known);
        }
        await_mark(pid, pidfd.as_fd(), mark)?;
        self.insert(Process::new(pid, pidfd, mark)).map_err(host)?.ok_or(known)
    }

    /// Watches over it, unless its number is known; then `None`.
    fn insert(&self, process: Arc<Process>) -> io::Result<Option<Arc<Process>>> {
        let mut by_pid = self.by_pid();
        if by_pid.contains_key(&process.pid) {
            return Ok(None);
        }
        let key = epoll::EventData::new_u64(u64::from(process.pid.cast_unsigned()));
        epoll::add(&self.ends, &process.pidfd, key, epoll::EventFlags::IN)?;
        by_pid.insert(process.pid, Arc::clone(&process));
        self.newest.store(process.pid, Ordering::Release);
        Ok(Some(process))
    }

    /// Whether a stub has this number.
    pub(super) fn is_known(&self, pid: pid_t) -> bool {
        self.by_pid().contains_key(&pid)
    }

    /// Number of the stub that was entered last.
    #[must_use]
    pub fn newest(&self) -> pid_t {
        self.newest.load(Ordering::Acquire)
    }

    /// Kills a stub that nobody knows, and keeps `things` until it has been reaped.
    pub(super) fn end_unknown(&self, pid: pid_t, pidfd: OwnedFd, things: impl Send + 'static) {
        let process = Process::new(pid, pidfd, 0);
        process.kill();
        process.keep(things);
        if self.insert(Arc::clone(&process)).is_err() {
            // Nobody will say when it is gone: then for ever.
            std::mem::forget(process);
        }
    }

    fn reap(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.ends, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // It does not happen; if it did, a busy loop would be worse than a slow one.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            for event in &events {
                let pid = event.data.u64();
                if let Ok(pid) = pid_t::try_from(pid) {
                    self.end(pid);
                }
            }
        }
    }

    /// A stub has ended: forgets it, then reaps it, so that its number is not given out again while it is known.
    fn end(&self, pid: pid_t) {
        let Some(process) = self.by_pid().remove(&pid) else { return };
        // The descriptor is in the set: `enter` has put it there.
        let _ = epoll::delete(&self.ends, &process.pidfd);
        process.give_up_number();
        let end = sys::wait_process(pid).unwrap_or_default();
        process.peak.store(end.peak_bytes, Ordering::Release);
        process.set_ended(end.signal);
        self.end_orphans(&process);
        process.release_kept();
        process.tell();
        if process.kick_waiters() {
            self.to_kick.lock().unwrap_or_else(PoisonError::into_inner).push(process);
            self.kicks.notify_all();
        }
    }

    /// A kick that comes just before a wait begins is lost, so waiters of ended stubs are kicked until they are gone.
    fn kick(&self) {
        const PAUSE: Duration = Duration::from_millis(5);
        let mut to_kick = self.to_kick.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            to_kick.retain(|process| process.kick_waiters());
            to_kick = if to_kick.is_empty() {
                self.kicks.wait(to_kick).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.kicks.wait_timeout(to_kick, PAUSE);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}
