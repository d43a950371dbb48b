//! Terminal requests: `ioctl_tty(2)`.

use std::sync::Arc;

use linux_abi::UserPtr;
use linux_abi::tty::{Termio, Termios, Termios2, Winsize, cc, ioctl};

use super::{Slave, Tty, packet};
use crate::Errno;
use crate::sync::Events;
use crate::task::signal::Signal;
use crate::task::{Current, Resource};
use crate::vfs::OpenFile;

/// `B38400`, as both speeds.
const SPEED: u32 = 38400;
const O_CLOEXEC: u32 = 0o2_000_000;

/// What `TCFLSH` empties.
#[derive(Clone, Copy)]
struct Flush {
    input: bool,
    output: bool,
}

impl Flush {
    fn from_guest(arg: u64) -> Result<Self, Errno> {
        match arg {
            0 => Ok(Self { input: true, output: false }),
            1 => Ok(Self { input: false, output: true }),
            2 => Ok(Self { input: true, output: true }),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Requests on the master side.
pub(super) fn master(
    tty: &Arc<Tty>,
    current: &mut Current,
    file: &Arc<OpenFile>,
    command: u32,
    arg: u64,
) -> Result<u64, Errno> {
    let word = UserPtr::<i32>::new(arg);
    match command {
        ioctl::TIOCGPTN => write(current, arg, &tty.index),
        ioctl::TIOCSPTLCK => {
            tty.set_locked(current.read_object(word)? != 0);
            Ok(0)
        }
        ioctl::TIOCGPTLCK => {
            let is_locked = i32::from(tty.lock().is_locked);
            write(current, arg, &is_locked)
        }
        ioctl::TIOCGPTPEER => open_peer(tty, current, file, arg),
        ioctl::TIOCPKT => {
            let on = current.read_object(word)? != 0;
            let mut inner = tty.lock();
            inner.packet_mode = on;
            inner.packet_events = 0;
            Ok(0)
        }
        ioctl::TIOCGPKT => {
            let on = i32::from(tty.lock().packet_mode);
            write(current, arg, &on)
        }
        ioctl::TIOCSIG => {
            let signal = i32::try_from(arg).map_err(|_| Errno::EINVAL).and_then(Signal::new)?;
            if !matches!(signal, Signal::INT | Signal::QUIT | Signal::TSTP) {
                return Err(Errno::EINVAL);
            }
            tty.signal_foreground(signal);
            Ok(0)
        }
        ioctl::FIONREAD => {
            let waiting = i32::try_from(tty.lock().discipline.output_len()).unwrap_or(i32::MAX);
            write(current, arg, &waiting)
        }
        ioctl::TIOCOUTQ => write(current, arg, &0i32),
        ioctl::TCFLSH => {
            // What one side reads the other has written.
            let Flush { input, output } = Flush::from_guest(arg)?;
            flush(tty, Flush { input: output, output: input });
            Ok(0)
        }
        ioctl::TIOCGPGRP => {
            let group = tty.session().and_then(|session| session.foreground());
            write(current, arg, &group.map_or(0, |group| group.pgid))
        }
        ioctl::TIOCGSID => {
            let sid = tty.session().map(|session| session.sid).ok_or(Errno::ENOTTY)?;
            write(current, arg, &sid)
        }
        ioctl::TIOCSCTTY | ioctl::TIOCNOTTY | ioctl::TIOCSPGRP => Err(Errno::ENOTTY),
        // It has no name by which anybody else could open it.
        ioctl::TIOCEXCL | ioctl::TIOCNXCL => {
            tty.lock().is_master_exclusive = command == ioctl::TIOCEXCL;
            Ok(0)
        }
        ioctl::TIOCGEXCL => {
            let is_exclusive = tty.lock().is_master_exclusive;
            write(current, arg, &i32::from(is_exclusive))
        }
        _ => common(tty, current, command, arg),
    }
}

/// Requests on the slave side.
pub(super) fn slave(tty: &Arc<Tty>, current: &mut Current, command: u32, arg: u64) -> Result<u64, Errno> {
    match command {
        ioctl::FIONREAD => {
            let waiting = i32::try_from(tty.lock().discipline.readable_len()).unwrap_or(i32::MAX);
            write(current, arg, &waiting)
        }
        ioctl::TIOCOUTQ => {
            let waiting = i32::try_from(tty.lock().discipline.output_len()).unwrap_or(i32::MAX);
            write(current, arg, &waiting)
        }
        ioctl::TCFLSH => {
            tty.check_change(current.task())?;
            flush(tty, Flush::from_guest(arg)?);
            Ok(0)
        }
        ioctl::TIOCSCTTY => tty.acquire(current.task(), arg == 1).map(|()| 0),
        ioctl::TIOCNOTTY => tty.release(current.task()).map(|()| 0),
        ioctl::TIOCGPGRP => {
            check_controls(tty, current)?;
            let group = tty.session().and_then(|session| session.foreground());
            write(current, arg, &group.map_or(0, |group| group.pgid))
        }
        ioctl::TIOCSPGRP => set_foreground(tty, current, arg),
        ioctl::TIOCEXCL | ioctl::TIOCNXCL => {
            tty.lock().is_exclusive = command == ioctl::TIOCEXCL;
            Ok(0)
        }
        ioctl::TIOCGEXCL => {
            let is_exclusive = tty.lock().is_exclusive;
            write(current, arg, &i32::from(is_exclusive))
        }
        ioctl::TIOCGSID => {
            check_controls(tty, current)?;
            let sid = tty.session().map(|session| session.sid).ok_or(Errno::ENOTTY)?;
            write(current, arg, &sid)
        }
        _ => common(tty, current, command, arg),
    }
}

/// Requests that mean the same on both sides.
fn common(tty: &Arc<Tty>, current: &mut Current, command: u32, arg: u64) -> Result<u64, Errno> {
    match command {
        ioctl::TCGETS => {
            let termios = *tty.lock().discipline.termios();
            write(current, arg, &termios)
        }
        ioctl::TCGETS2 => {
            let termios = *tty.lock().discipline.termios();
            write(current, arg, &Termios2 { termios, ispeed: SPEED, ospeed: SPEED })
        }
        ioctl::TCGETA => {
            let termios = *tty.lock().discipline.termios();
            write(current, arg, &Termio::from(termios))
        }
        // Output is the master's as soon as it is written: there is nothing to wait for.
        ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => {
            let termios = current.read_object(UserPtr::<Termios>::new(arg))?;
            set_termios(tty, current, termios, command == ioctl::TCSETSF)
        }
        ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2 => {
            let Termios2 { termios, .. } = current.read_object(UserPtr::<Termios2>::new(arg))?;
            set_termios(tty, current, termios, command == ioctl::TCSETSF2)
        }
        ioctl::TCSETA | ioctl::TCSETAW | ioctl::TCSETAF => {
            let termio = current.read_object(UserPtr::<Termio>::new(arg))?;
            let termios = termio.over(*tty.lock().discipline.termios());
            set_termios(tty, current, termios, command == ioctl::TCSETAF)
        }
        ioctl::TIOCGWINSZ => {
            let window = tty.lock().window;
            write(current, arg, &window)
        }
        ioctl::TIOCSWINSZ => {
            let window = current.read_object(UserPtr::<Winsize>::new(arg))?;
            tty.set_window(window);
            Ok(0)
        }
        ioctl::TCXONC => {
            tty.check_change(current.task())?;
            flow(tty, arg)
        }
        ioctl::TCSBRK | ioctl::TCSBRKP => tty.check_change(current.task()).map(|()| 0),
        ioctl::TIOCGETD => write(current, arg, &0i32),
        // LINUX: as with `dev.tty.legacy_tiocsti` = 0: nobody types for somebody else.
        ioctl::TIOCSTI => Err(Errno::EIO),
        _ => Err(Errno::ENOTTY),
    }
}

fn write<T: zerocopy::IntoBytes + zerocopy::Immutable>(
    current: &mut Current,
    arg: u64,
    object: &T,
) -> Result<u64, Errno> {
    current.write_object(UserPtr::new(arg), object).map(|()| 0)
}

fn check_controls(tty: &Tty, current: &Current) -> Result<(), Errno> {
    if tty.controls(current.task()) { Ok(()) } else { Err(Errno::ENOTTY) }
}

fn set_termios(tty: &Arc<Tty>, current: &Current, termios: Termios, flush_input: bool) -> Result<u64, Errno> {
    tty.check_change(current.task())?;
    let mut inner = tty.lock();
    if flush_input {
        inner.discipline.flush_input();
    }
    inner.discipline.set_termios(termios);
    drop(inner);
    tty.wake_all();
    Ok(0)
}

fn flush(tty: &Tty, what: Flush) {
    let mut inner = tty.lock();
    if what.input {
        inner.discipline.flush_input();
        inner.packet_events |= packet::FLUSH_READ;
    }
    if what.output {
        inner.discipline.flush_output();
        inner.packet_events |= packet::FLUSH_WRITE;
    }
    drop(inner);
    tty.wake_all();
}

/// `TCXONC`.
fn flow(tty: &Tty, action: u64) -> Result<u64, Errno> {
    let mut inner = tty.lock();
    match action {
        0 => {
            inner.discipline.set_stopped(true);
            inner.packet_events = inner.packet_events & !packet::START | packet::STOP;
        }
        1 => {
            inner.discipline.set_stopped(false);
            inner.packet_events = inner.packet_events & !packet::STOP | packet::START;
        }
        2 | 3 => {
            let index = if action == 2 { cc::VSTOP } else { cc::VSTART };
            let byte = inner.discipline.termios().cc[index];
            if byte != 0 {
                inner.discipline.write(&[byte]);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    drop(inner);
    tty.wake_all();
    Ok(0)
}

/// `tcsetpgrp(3)`.
fn set_foreground(tty: &Arc<Tty>, current: &mut Current, arg: u64) -> Result<u64, Errno> {
    tty.check_change(current.task())?;
    check_controls(tty, current)?;
    let pgid: i32 = current.read_object(UserPtr::new(arg))?;
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let group = current.process().namespace.group(pgid).ok_or(Errno::ESRCH)?;
    let ours = current.process().process_group().ok_or(Errno::ESRCH)?;
    if !Arc::ptr_eq(&group.session, &ours.session) {
        return Err(Errno::EPERM);
    }
    ours.session.set_foreground(Some(group));
    tty.slave_queue.wake(Events::READABLE);
    Ok(0)
}

/// `TIOCGPTPEER`: opens the slave whatever is mounted where its name is.
fn open_peer(tty: &Arc<Tty>, current: &mut Current, file: &Arc<OpenFile>, flags: u64) -> Result<u64, Errno> {
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let slave: Arc<Slave> = tty.open_slave()?;
    let place = tty.lock().slave_place.clone().unwrap_or_else(|| file.location.clone());
    let opened = OpenFile::new(slave, place, flags & !O_CLOEXEC);
    let limit = current.process().limit(Resource::Nofile).soft;
    let fd = current.files().add(opened, flags & O_CLOEXEC != 0, 0, limit)?;
    Ok(u64::try_from(fd.0).unwrap_or(0))
}
