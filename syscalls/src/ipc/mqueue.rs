//! `mq_open`, `mq_unlink`, `mq_timedsend`, `mq_timedreceive`, `mq_notify`, `mq_getsetattr`.

use std::sync::Arc;

use linux_abi::ipc::{MqAttr, SIGEV_NONE, SIGEV_SIGNAL, SigEvent};
use linux_abi::time::Timespec;
use linux_abi::user::UserCStr;
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::ipc::{PRIORITIES, PosixQueue, QueueFile, QueueSize};
use sentry::sync::Events;
use sentry::task::{Current, Resource};
use sentry::vfs::{Fd, OpenFile};

use super::{Me, namespace};

const O_CREAT: u32 = 0o100;
const O_NONBLOCK: u32 = 0o4000;
/// Access mode and `O_NONBLOCK`: what an open queue keeps.
const KEPT: u32 = 3 | O_NONBLOCK;

/// The open queue behind a descriptor.
fn queue_of(file: &OpenFile) -> Result<Arc<PosixQueue>, Errno> {
    let queue = file.ops.as_any().downcast_ref::<QueueFile>().ok_or(Errno::EBADF)?;
    Ok(Arc::clone(&queue.0))
}

/// An absolute time of the wall clock as a deadline of the monotonic one.
fn deadline(current: &Current, timeout: UserPtr<Timespec>) -> Result<Option<u64>, Errno> {
    let Some(timeout) = timeout.non_null() else { return Ok(None) };
    let wanted = current.read_object(timeout)?.to_ns()?;
    let left = wanted.saturating_sub(now_ns(Clock::Realtime));
    Ok(Some(now_ns(Clock::Monotonic).saturating_add(left)))
}

/// EAGAIN at the deadline is ETIMEDOUT here.
fn timed_out(file: &OpenFile, errno: Errno) -> Errno {
    if errno == Errno::EAGAIN && !file.is_nonblocking() { Errno::ETIMEDOUT } else { errno }
}

/// `mq_open(2)`: <https://man7.org/linux/man-pages/man3/mq_open.3.html>
pub(crate) fn mq_open(
    current: &mut Current,
    name: UserCStr,
    flags: u32,
    mode: u32,
    attr: UserPtr<MqAttr>,
) -> Result<Fd, Errno> {
    let size = match attr.non_null().filter(|_| flags & O_CREAT != 0) {
        None => None,
        Some(attr) => {
            let attr = current.read_object(attr)?;
            Some(QueueSize { max_messages: attr.maxmsg, max_size: attr.msgsize })
        }
    };
    let name = current.read_path(name)?;
    let mode = mode & !current.fs().umask();
    let me = Me::of(current);
    let limit = current.process().limit(Resource::Msgqueue).soft;
    let queue = namespace(current).posix.open(&me.caller(), &name, flags, mode, size, limit)?;
    let file = sentry::fs::anon::open(current.task(), "mqueue", Arc::new(QueueFile(queue)), flags & KEPT);
    crate::sync::install(current, file, flags)
}

/// `mq_unlink(2)`: <https://man7.org/linux/man-pages/man3/mq_unlink.3.html>
pub(crate) fn mq_unlink(current: &mut Current, name: UserCStr) -> Result<(), Errno> {
    let name = current.read_path(name)?;
    namespace(current).posix.unlink(&Me::of(current).caller(), &name)
}

/// `mq_timedsend(2)`: <https://man7.org/linux/man-pages/man3/mq_send.3.html>
pub(crate) fn mq_timedsend(
    current: &mut Current,
    fd: Fd,
    text: UserPtr<u8>,
    len: usize,
    priority: u32,
    timeout: UserPtr<Timespec>,
) -> Result<(), Errno> {
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline(current, timeout)?;
    let file = current.files().get(fd)?;
    let queue = queue_of(&file)?;
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    if i64::try_from(len).map_or(true, |len| len > queue.max_size) {
        return Err(Errno::EMSGSIZE);
    }
    let mut message = vec![0; len];
    current.read_user(text.addr(), &mut message)?;
    let me = Me::of(current);
    let sent = current.block_on_file(&file, Events::WRITABLE, false, deadline, |_| {
        queue.send(&me.caller(), priority, &message)
    });
    sent.map_err(|errno| timed_out(&file, errno))
}

/// `mq_timedreceive(2)`: <https://man7.org/linux/man-pages/man3/mq_receive.3.html>
pub(crate) fn mq_timedreceive(
    current: &mut Current,
    fd: Fd,
    text: UserPtr<u8>,
    len: usize,
    priority: UserPtr<u32>,
    timeout: UserPtr<Timespec>,
) -> Result<usize, Errno> {
    let deadline = deadline(current, timeout)?;
    let file = current.files().get(fd)?;
    let queue = queue_of(&file)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    if i64::try_from(len).is_ok_and(|len| len < queue.max_size) {
        return Err(Errno::EMSGSIZE);
    }
    queue.count_receiver(true);
    let received = current.block_on_file(&file, Events::READABLE, false, deadline, |_| queue.receive());
    queue.count_receiver(false);
    let (found, message) = received.map_err(|errno| timed_out(&file, errno))?;
    if !priority.is_null() {
        current.write_object(priority, &found)?;
    }
    current.write_user(text.addr(), &message)?;
    Ok(message.len())
}

/// `mq_notify(2)`: <https://man7.org/linux/man-pages/man3/mq_notify.3.html>
pub(crate) fn mq_notify(current: &mut Current, fd: Fd, event: UserPtr<SigEvent>) -> Result<(), Errno> {
    let event = match event.non_null() {
        None => None,
        Some(event) => Some(current.read_object(event)?),
    };
    let file = current.files().get(fd)?;
    let queue = queue_of(&file)?;
    let process = current.process();
    match event {
        None => {
            queue.stop_notifying(process);
            Ok(())
        }
        Some(SigEvent { notify: SIGEV_NONE, .. }) => queue.notify(process, None),
        Some(SigEvent { notify: SIGEV_SIGNAL, signo, value, .. }) if (1..=64).contains(&signo) => {
            queue.notify(process, Some((signo, value)))
        }
        Some(_) => Err(Errno::EINVAL),
    }
}

/// `mq_getsetattr(2)`: <https://man7.org/linux/man-pages/man2/mq_getsetattr.2.html>
pub(crate) fn mq_getsetattr(
    current: &mut Current,
    fd: Fd,
    new: UserPtr<MqAttr>,
    old: UserPtr<MqAttr>,
) -> Result<(), Errno> {
    let new = match new.non_null() {
        None => None,
        Some(new) => Some(current.read_object(new)?.flags),
    };
    if new.is_some_and(|flags| flags & !i64::from(O_NONBLOCK) != 0) {
        return Err(Errno::EINVAL);
    }
    let file = current.files().get(fd)?;
    let queue = queue_of(&file)?;
    let before = MqAttr {
        flags: i64::from(file.flags() & O_NONBLOCK),
        maxmsg: queue.max_messages,
        msgsize: queue.max_size,
        curmsgs: i64::try_from(queue.len()).unwrap_or(i64::MAX),
        reserved: [0; 4],
    };
    if let Some(flags) = new {
        let nonblock = if flags == 0 { 0 } else { O_NONBLOCK };
        file.set_flags(file.flags() & !O_NONBLOCK | nonblock);
    }
    if !old.is_null() {
        current.write_object(old, &before)?;
    }
    Ok(())
}
