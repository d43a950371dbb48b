//! Terminals: pseudo-terminal pairs with a line discipline, `pty(7)`.
//!
//! Key types: [`Tty`] (what both sides share), [`Master`], [`Slave`] (open files of it), [`discipline::Discipline`] (what
//! happens to the bytes). Rooms: `jobs` (controlling terminals, who may read), `control` (ioctls), [`devpts`] (where
//! slaves have names).
//!
//! LOCK: `Tty::inner` is a leaf but for guest memory. Signals are sent, queues woken and sessions changed without it.

mod control;
pub mod devpts;
pub mod discipline;
mod jobs;

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linux_abi::tty::{Winsize, cc, lflag};
use platform::host::clock::{Clock, now_ns};

use self::devpts::DevPts;
use self::discipline::{Discipline, Keystroke};
use crate::Errno;
use crate::container::TerminalMaster;
use crate::io::{Sink, Source};
use crate::kernel::Kernel;
use crate::sync::{Events, WaitQueue};
use crate::task::signal::Signal;
use crate::task::{Current, Session};
use crate::time::{Armed, Expire};
use crate::vfs::{FileOps, Location, Op, OpenFile, makedev};

/// Major number of pseudo-terminal slaves.
pub const PTS_MAJOR: u32 = 136;
/// Bytes copied at a time.
const STEP: usize = 4096;
const O_NONBLOCK: u32 = 0o4000;

/// Packet mode's control bytes, `TIOCPKT_*`.
mod packet {
    pub(super) const FLUSH_READ: u8 = 1;
    pub(super) const FLUSH_WRITE: u8 = 2;
    pub(super) const STOP: u8 = 4;
    pub(super) const START: u8 = 8;
}

/// A terminal: what master and slave share.
pub struct Tty {
    me: Weak<Tty>,
    kernel: Arc<Kernel>,
    index: u32,
    home: Weak<DevPts>,
    inner: Mutex<Inner>,
    /// Those who use the slave.
    slave_queue: WaitQueue,
    /// Those who use the master.
    master_queue: WaitQueue,
}

#[derive(Default)]
struct Inner {
    discipline: Discipline,
    window: Winsize,
    slaves: u32,
    /// The slave has been opened at least once; only then its absence is a hang-up.
    had_slave: bool,
    /// The master is closed: the slave is dead for ever.
    hung_up: bool,
    /// `TIOCSPTLCK`.
    is_locked: bool,
    /// `TIOCEXCL`: nobody else opens it but the administrator.
    is_exclusive: bool,
    is_master_exclusive: bool,
    /// `TIOCPKT`.
    packet_mode: bool,
    packet_events: u8,
    /// The session that it controls.
    session: Option<Weak<Session>>,
    /// Where the slave's name is, as long as the master is open.
    slave_place: Option<Location>,
    /// A read with a time limit waits.
    pending_read: Option<PendingRead>,
}

/// A read in raw mode whose time (`VTIME`) is running.
struct PendingRead {
    tid: i32,
    deadline_ns: u64,
    available: usize,
    _armed: Armed,
}

impl Tty {
    fn new(kernel: &Arc<Kernel>, index: u32, home: &Weak<DevPts>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kernel: Arc::clone(kernel),
            index,
            home: home.clone(),
            inner: Mutex::new(Inner { is_locked: true, ..Inner::default() }),
            slave_queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number in `/dev/pts`.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// `makedev(major, minor)` of the slave.
    #[must_use]
    pub fn rdev(&self) -> u64 {
        makedev(PTS_MAJOR, self.index)
    }

    /// Opens the slave side.
    ///
    /// # Errors
    /// EIO while it is locked or after the master was closed.
    pub fn open_slave(self: &Arc<Self>) -> Result<Arc<Slave>, Errno> {
        let mut inner = self.lock();
        if inner.is_locked || inner.hung_up {
            return Err(Errno::EIO);
        }
        inner.slaves += 1;
        inner.had_slave = true;
        drop(inner);
        Ok(Arc::new(Slave(Arc::clone(self))))
    }

    /// `unlockpt(3)`.
    fn set_locked(&self, is_locked: bool) {
        self.lock().is_locked = is_locked;
    }

    /// Typed bytes; as many as there is room for. EAGAIN if there is none.
    fn type_in(&self, source: &mut dyn Source) -> Result<usize, Errno> {
        let mut done = 0;
        while source.remaining() > 0 && !(done > 0 && source.is_cancelled()) {
            let mut keystrokes = Vec::new();
            let mut inner = self.lock();
            let room = inner.discipline.input_room().min(STEP);
            if room == 0 {
                break;
            }
            let mut piece = vec![0; room.min(source.remaining())];
            let n = match source.read(&mut piece) {
                Ok(n) => n,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            };
            keystrokes.extend(piece[..n].iter().filter_map(|&byte| inner.discipline.input(byte)));
            drop(inner);
            done += n;
            self.deliver(&keystrokes);
            self.slave_queue.wake(Events::READABLE | Events::WRITABLE);
            self.master_queue.wake(Events::READABLE);
            if n == 0 {
                break;
            }
        }
        if done == 0 && source.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn deliver(&self, keystrokes: &[Keystroke]) {
        for keystroke in keystrokes {
            self.signal_foreground(match keystroke {
                Keystroke::Interrupt => Signal::INT,
                Keystroke::Quit => Signal::QUIT,
                Keystroke::Suspend => Signal::TSTP,
            });
        }
    }

    /// What the master reads: printed bytes, in packet mode with a control byte in front.
    fn take_output(&self, n: usize) -> Result<Vec<u8>, Errno> {
        let mut inner = self.lock();
        if inner.packet_mode && inner.packet_events != 0 {
            return Ok(vec![std::mem::take(&mut inner.packet_events)]);
        }
        if inner.discipline.output_len() == 0 {
            let is_gone = inner.had_slave && inner.slaves == 0;
            return Err(if is_gone { Errno::EIO } else { Errno::EAGAIN });
        }
        let bytes = if inner.packet_mode {
            [vec![0], inner.discipline.take_output(n.saturating_sub(1))].concat()
        } else {
            inner.discipline.take_output(n)
        };
        drop(inner);
        self.slave_queue.wake(Events::WRITABLE);
        Ok(bytes)
    }

    /// What a program reads. `None`: it has to wait.
    fn take_input(&self, op: &Op<'_>, n: usize) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let termios = inner.discipline.termios();
        let (vmin, vtime) = (usize::from(termios.cc[cc::VMIN]), u64::from(termios.cc[cc::VTIME]));
        if termios.lflag & lflag::ICANON != 0 || vtime == 0 {
            let minimum = if op.flags & O_NONBLOCK == 0 || vmin == 0 { vmin.min(n) } else { 1 };
            return inner.discipline.read(n, minimum);
        }
        let available = inner.discipline.readable_len();
        let (now, tid) = (now_ns(Clock::Monotonic), op.task.tid());
        let pending = inner.pending_read.take().filter(|pending| pending.tid == tid);
        let is_over = pending
            .as_ref()
            .is_some_and(|pending| pending.deadline_ns <= now && pending.available == available);
        // Without a minimum any byte will do, and the time counts from the call on; with one, it counts between bytes.
        let is_enough = if vmin == 0 { available > 0 } else { available >= vmin.min(n) };
        if is_enough || is_over || (op.flags & O_NONBLOCK != 0 && available > 0) {
            return inner.discipline.read(n, 0);
        }
        let goes_on = pending.filter(|pending| pending.available == available && pending.deadline_ns > now);
        if goes_on.is_some() {
            inner.pending_read = goes_on;
        } else if (vmin == 0 || available > 0) && op.flags & O_NONBLOCK == 0 {
            let deadline_ns = now.saturating_add(vtime * 100_000_000);
            let me: Weak<dyn Expire> = self.me.clone() as Weak<dyn Expire>;
            let armed = self.kernel.timers.arm(deadline_ns, me);
            inner.pending_read = Some(PendingRead { tid, deadline_ns, available, _armed: armed });
        }
        None
    }

    /// Sets the window's size and tells the foreground group if it has changed.
    fn set_window(&self, window: Winsize) {
        let old = std::mem::replace(&mut self.lock().window, window);
        if old != window {
            self.signal_foreground(Signal::WINCH);
        }
    }

    fn wake_all(&self) {
        self.slave_queue.wake(Events::all());
        self.master_queue.wake(Events::all());
    }

    /// The master is closed.
    fn hang_up(&self) {
        let mut inner = self.lock();
        inner.hung_up = true;
        let place = inner.slave_place.take();
        let pending = inner.pending_read.take();
        inner.discipline.flush_output();
        drop(inner);
        drop((place, pending));
        if let Some(home) = self.home.upgrade() {
            home.forget(self.index);
        }
        self.hang_up_session();
        self.wake_all();
    }
}

impl Expire for Tty {
    fn expire(&self, _: u64) -> Option<u64> {
        self.slave_queue.wake(Events::READABLE);
        None
    }
}

/// The master side as an open file.
pub struct Master(Arc<Tty>);

impl Master {
    /// The terminal.
    #[must_use]
    pub fn tty(&self) -> &Arc<Tty> {
        &self.0
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

impl FileOps for Master {
    fn takes_splice(&self) -> bool {
        true
    }

    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        let n = sink.remaining().min(STEP);
        if n == 0 { Ok(0) } else { sink.write(&self.0.take_output(n)?) }
    }

    fn write(&self, _: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        self.0.type_in(source)
    }

    fn readiness(&self) -> Events {
        let inner = self.0.lock();
        let mut events = Events::empty();
        events.set(Events::READABLE, inner.discipline.output_len() > 0);
        events.set(Events::READABLE | Events::PRI, inner.packet_mode && inner.packet_events != 0);
        if inner.discipline.output_len() > 0 {
            events |= Events::READABLE;
        }
        events.set(Events::WRITABLE, inner.discipline.input_room() > 0);
        events.set(Events::HUP, inner.had_slave && inner.slaves == 0);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.master_queue)
    }

    fn ioctl(
        &self,
        current: &mut Current,
        file: &Arc<OpenFile>,
        command: u32,
        arg: u64,
    ) -> Result<u64, Errno> {
        control::master(&self.0, current, file, command, arg)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn fdinfo(&self) -> String {
        format!("tty-index:\t{}\n", self.0.index)
    }
}

impl TerminalMaster for Master {
    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        let bytes = self.0.take_output(buf.len())?;
        let n = bytes.len().min(buf.len());
        buf[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.0.type_in(&mut &bytes[..])
    }

    fn wait_queue(&self) -> &WaitQueue {
        &self.0.master_queue
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.0.set_window(Winsize { rows, columns, ..Winsize::default() });
    }
}

/// The slave side as an open file.
pub struct Slave(Arc<Tty>);

impl Slave {
    /// The terminal.
    #[must_use]
    pub fn tty(&self) -> &Arc<Tty> {
        &self.0
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.slaves -= 1;
        let is_last = inner.slaves == 0;
        drop(inner);
        if is_last {
            self.0.master_queue.wake(Events::READABLE | Events::HUP);
        }
    }
}

impl FileOps for Slave {
    fn takes_splice(&self) -> bool {
        true
    }

    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        if self.0.lock().hung_up {
            return Ok(0);
        }
        self.0.check_read(op.task)?;
        let n = sink.remaining().min(STEP);
        if n == 0 {
            return Ok(0);
        }
        let bytes = self.0.take_input(op, n).ok_or(Errno::EAGAIN)?;
        self.0.master_queue.wake(Events::WRITABLE);
        if bytes.is_empty() { Ok(0) } else { sink.write(&bytes) }
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        self.0.check_write(op.task)?;
        let mut done = 0;
        while source.remaining() > 0 {
            let mut inner = self.0.lock();
            if inner.hung_up {
                return Err(Errno::EIO);
            }
            let room = inner.discipline.output_room().min(STEP);
            if room == 0 {
                break;
            }
            let mut piece = vec![0; room.min(source.remaining())];
            match source.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => {
                    inner.discipline.write(&piece[..n]);
                    done += n;
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        self.0.master_queue.wake(Events::READABLE);
        if done == 0 && source.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn readiness(&self) -> Events {
        let inner = self.0.lock();
        if inner.hung_up {
            return Events::READABLE | Events::WRITABLE | Events::ERR | Events::HUP;
        }
        let termios = inner.discipline.termios();
        let minimum = if termios.cc[cc::VTIME] == 0 { usize::from(termios.cc[cc::VMIN]).max(1) } else { 1 };
        let mut events = Events::empty();
        events.set(Events::READABLE, inner.discipline.is_readable(minimum));
        events.set(Events::WRITABLE, inner.discipline.output_room() > 0);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.slave_queue)
    }

    fn ioctl(&self, current: &mut Current, _: &Arc<OpenFile>, command: u32, arg: u64) -> Result<u64, Errno> {
        if self.0.lock().hung_up {
            return Err(Errno::EIO);
        }
        control::slave(&self.0, current, command, arg)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
