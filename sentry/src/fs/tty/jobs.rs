//! Job control: whose terminal is it, and who may use it now? LINUX: drivers/tty/tty_jobctrl.c.

use std::sync::{Arc, Weak};

use super::Tty;
use crate::Errno;
use crate::task::signal::{Sender, SigInfo, Signal};
use crate::task::{Capability, ControllingTerminal, Process, ProcessGroup, Session, Task};

/// The group of a task, which each living one has.
fn group_of(task: &Task) -> Result<Arc<ProcessGroup>, Errno> {
    task.process.process_group().ok_or(Errno::ESRCH)
}

impl Tty {
    /// The session that it controls.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.lock().session.as_ref().and_then(Weak::upgrade)
    }

    /// It is the task's controlling terminal.
    pub(super) fn controls(&self, task: &Task) -> bool {
        let Ok(group) = group_of(task) else { return false };
        self.session().is_some_and(|session| Arc::ptr_eq(&session, &group.session))
    }

    /// Sends a signal to the foreground group.
    pub(super) fn signal_foreground(&self, signal: Signal) {
        if let Some(group) = self.session().and_then(|session| session.foreground()) {
            group.signal(&self.kernel.tasks, signal);
        }
    }

    /// A read: only the foreground group may. LINUX: `job_control` in n_tty.c.
    pub(super) fn check_read(&self, task: &Arc<Task>) -> Result<(), Errno> {
        let Some(group) = self.background_group(task) else { return Ok(()) };
        let signal = Signal::TTIN;
        let is_deaf = task.blocked().contains(signal) || task.process.actions().ignores(signal);
        if is_deaf || self.kernel.tasks.is_orphaned(&group) {
            return Err(Errno::EIO);
        }
        group.signal(&self.kernel.tasks, signal);
        Err(Errno::ERESTARTSYS)
    }

    /// A write: others may too, unless `TOSTOP` is set.
    pub(super) fn check_write(&self, task: &Arc<Task>) -> Result<(), Errno> {
        let tostop = self.lock().discipline.termios().lflag & linux_abi::tty::lflag::TOSTOP != 0;
        if tostop { self.check_change(task) } else { Ok(()) }
    }

    /// A change of settings. LINUX: `tty_check_change`.
    pub(super) fn check_change(&self, task: &Arc<Task>) -> Result<(), Errno> {
        let Some(group) = self.background_group(task) else { return Ok(()) };
        let signal = Signal::TTOU;
        if task.blocked().contains(signal) || task.process.actions().ignores(signal) {
            return Ok(());
        }
        if self.kernel.tasks.is_orphaned(&group) {
            return Err(Errno::EIO);
        }
        group.signal(&self.kernel.tasks, signal);
        Err(Errno::ERESTARTSYS)
    }

    /// The task's group, if this is its terminal and another group is in the foreground.
    fn background_group(&self, task: &Task) -> Option<Arc<ProcessGroup>> {
        let group = group_of(task).ok()?;
        if !self.controls(task) {
            return None;
        }
        let foreground = group.session.foreground()?;
        (!Arc::ptr_eq(&foreground, &group)).then_some(group)
    }

    /// Makes it the controlling terminal of a session leader; `steal`: `TIOCSCTTY` with 1.
    ///
    /// # Errors
    /// EPERM for those who lead no session, have a terminal, or if another session has this one.
    pub(super) fn acquire(&self, task: &Task, steal: bool) -> Result<(), Errno> {
        let group = group_of(task)?;
        let leads = group.session.sid == task.process.pid;
        if leads && self.controls(task) {
            return Ok(());
        }
        if !leads || group.session.terminal().is_some() {
            return Err(Errno::EPERM);
        }
        if let Some(other) = self.session() {
            if !(steal && task.credentials().has(Capability::SysAdmin)) {
                return Err(Errno::EPERM);
            }
            other.set_terminal(None, None);
        }
        self.acquire_for(&task.process)
    }

    /// As [`Tty::acquire`] for a session leader that the kernel itself has made.
    pub(super) fn acquire_for(&self, process: &Process) -> Result<(), Errno> {
        let group = process.process_group().ok_or(Errno::ESRCH)?;
        let session = &group.session;
        let me = self.me.upgrade().ok_or(Errno::EIO)?;
        self.lock().session = Some(Arc::downgrade(session));
        session.set_terminal(Some(me), Some(Arc::clone(&group)));
        Ok(())
    }

    /// `open(2)` without `O_NOCTTY`: it becomes the controlling terminal where it can.
    pub(super) fn acquire_if_free(&self, task: &Task) {
        if self.session().is_none() {
            // Being refused is the usual case: most processes lead no session or have a terminal.
            let _ = self.acquire(task, false);
        }
    }

    /// `TIOCNOTTY`. LINUX: `disassociate_ctty`; one that does not lead its session keeps the terminal here.
    pub(super) fn release(&self, task: &Task) -> Result<(), Errno> {
        if !self.controls(task) {
            return Err(Errno::ENOTTY);
        }
        let group = group_of(task)?;
        if group.session.sid != task.process.pid {
            return Ok(());
        }
        self.signal_foreground(Signal::HUP);
        self.signal_foreground(Signal::CONT);
        self.lock().session = None;
        group.session.set_terminal(None, None);
        Ok(())
    }

    /// The master is closed: the session's leader hears of it and loses its terminal. LINUX: `tty_signal_session_leader`.
    pub(super) fn hang_up_session(&self) {
        let Some(session) = self.session() else { return };
        self.lock().session = None;
        let leads = |process: &Arc<Process>| {
            let group = process.process_group();
            process.pid == session.sid && group.is_some_and(|group| Arc::ptr_eq(&group.session, &session))
        };
        if let Some(leader) = self.kernel.tasks.all().into_iter().find(leads) {
            for signal in [Signal::HUP, Signal::CONT] {
                leader.send(SigInfo::kernel(signal.number()), Sender::Kernel);
            }
        }
        session.set_terminal(None, None);
    }
}

impl ControllingTerminal for Tty {
    fn leader_exited(&self) {
        self.lock().session = None;
    }

    fn device(&self) -> u64 {
        self.rdev()
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// The controlling terminal of a task (`/dev/tty`).
pub(super) fn terminal_of(task: &Task) -> Option<Arc<Tty>> {
    let terminal = group_of(task).ok()?.session.terminal()?;
    terminal.as_any().downcast_ref::<Tty>()?.me.upgrade()
}
