//! POSIX message queues (`mq_overview(7)`): named queues of messages with priorities, opened as files.
//!
//! Key types: [`PosixQueues`] (all names), [`PosixQueue`], [`QueueFile`]. LINUX: `ipc/mqueue.c`. There is no file system of
//! them to be mounted, and `SIGEV_THREAD` needs none of ours.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linux_abi::signal::SigInfo;

use super::table::Caller;
use crate::Errno;
use crate::account::{self, Charge, Counted, Kind};
use crate::io::Sink;
use crate::sync::{Events, WaitQueue};
use crate::task::signal::Sender;
use crate::task::{Capability, Process, UserCharge, UserCounts};
use crate::vfs::{FileOps, Op};

/// Most queues of a container. LINUX: `queues_max`, ENOSPC above.
const QUEUES_MAX: usize = 256;
/// Messages of a queue without and with `CAP_SYS_RESOURCE`. LINUX: `msg_max`, `HARD_MSGMAX`.
const MESSAGES_MAX: [i64; 2] = [10, 65536];
/// Bytes of a message without and with `CAP_SYS_RESOURCE`. LINUX: `msgsize_max`, `HARD_MSGSIZEMAX`.
const SIZE_MAX: [i64; 2] = [8192, 1 << 20];
/// Priorities are below. LINUX: `MQ_PRIO_MAX`.
pub const PRIORITIES: u32 = 32768;
/// Longest name. LINUX: ENAMETOOLONG above.
const NAME_MAX: usize = 255;
/// `si_code` of notifications.
const SI_MESGQ: i32 = -3;
const O_ACCMODE: u32 = 3;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;

/// All queues that have a name.
#[derive(Default)]
pub struct PosixQueues {
    by_name: Mutex<HashMap<Vec<u8>, Arc<PosixQueue>>>,
    users: Arc<UserCounts>,
}

/// A queue.
pub struct PosixQueue {
    /// Most messages.
    pub max_messages: i64,
    /// Longest message in bytes.
    pub max_size: i64,
    mode: u32,
    uid: u32,
    gid: u32,
    state: Mutex<State>,
    /// Woken when a message comes (readable) or goes (writable).
    pub changed: WaitQueue,
    _charge: (UserCharge, Counted, Charge),
}

#[derive(Default)]
struct State {
    /// By priority, highest first, then by age.
    messages: BTreeMap<(Reverse<u32>, u64), (Vec<u8>, Charge)>,
    next: u64,
    bytes: u64,
    /// Tasks that wait for a message.
    receivers: usize,
    notification: Option<Notification>,
}

/// Who is to be told of the first message.
struct Notification {
    process: Weak<Process>,
    /// Signal and its value; `None`: `SIGEV_NONE`.
    signal: Option<(i32, u64)>,
}

/// A queue's wanted or present size: `struct mq_attr` without flags.
#[derive(Debug, Clone, Copy)]
pub struct QueueSize {
    /// Most messages.
    pub max_messages: i64,
    /// Longest message in bytes.
    pub max_size: i64,
}

impl QueueSize {
    /// What a queue counts for. LINUX: `mqueue_get_inode`, with the sizes of its own structures.
    fn bytes(self) -> u64 {
        const MESSAGE: u64 = 48;
        const NODE: u64 = 48;
        let messages = self.max_messages.unsigned_abs();
        let nodes = messages.min(u64::from(PRIORITIES));
        messages * (self.max_size.unsigned_abs() + MESSAGE) + nodes * NODE
    }
}

/// An open queue.
pub struct QueueFile(pub Arc<PosixQueue>);

impl FileOps for QueueFile {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        let text = format!("QSIZE:{:<10} NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n", self.0.lock().bytes);
        let rest = usize::try_from(offset).ok().and_then(|offset| text.as_bytes().get(offset..));
        sink.write(rest.unwrap_or_default())
    }

    fn readiness(&self) -> Events {
        let state = self.0.lock();
        let mut events = Events::empty();
        events.set(Events::READABLE, !state.messages.is_empty());
        events.set(Events::WRITABLE, (state.messages.len() as u64) < self.0.max_messages.unsigned_abs());
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl PosixQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, caller: &Caller<'_>, flags: u32) -> Result<(), Errno> {
        let who = caller.credentials;
        let wanted = match flags & O_ACCMODE {
            0 => 0o4,
            1 => 0o2,
            2 => 0o6,
            _ => return Err(Errno::EINVAL),
        };
        let granted = if who.fsuid == self.uid {
            self.mode >> 6
        } else if who.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted != 0 && !who.has(Capability::DacOverride) { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().messages.len()
    }

    /// No message is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a message; the caller has checked its size and priority.
    ///
    /// # Errors
    /// EAGAIN if the queue is full; ENOMEM at the container's limit.
    pub fn send(&self, caller: &Caller<'_>, priority: u32, text: &[u8]) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.messages.len() as u64 >= self.max_messages.unsigned_abs() {
            return Err(Errno::EAGAIN);
        }
        let charge = account::charge_for::<(u64, Vec<u8>)>(text.len())?;
        let number = state.next;
        state.next += 1;
        state.bytes += text.len() as u64;
        state.messages.insert((Reverse(priority), number), (text.to_vec(), charge));
        let first = state.messages.len() == 1 && state.receivers == 0;
        let told = if first { state.notification.take() } else { None };
        drop(state);
        self.changed.wake(Events::READABLE);
        if let Some(Notification { process, signal: Some((signo, value)) }) = told
            && let Some(process) = process.upgrade()
        {
            let info = SigInfo::with_value(signo, SI_MESGQ, caller.pid, caller.credentials.uid, value);
            process.send(info, Sender::Kernel);
        }
        Ok(())
    }

    /// Takes the oldest message of the highest priority.
    ///
    /// # Errors
    /// EAGAIN if there is none.
    pub fn receive(&self) -> Result<(u32, Vec<u8>), Errno> {
        let mut state = self.lock();
        let ((Reverse(priority), _), (text, _)) = state.messages.pop_first().ok_or(Errno::EAGAIN)?;
        state.bytes -= text.len() as u64;
        drop(state);
        self.changed.wake(Events::WRITABLE);
        Ok((priority, text))
    }

    /// A task begins (`true`) or ends waiting for a message: nobody is notified as long as one waits.
    pub fn count_receiver(&self, waits: bool) {
        let receivers = &mut self.lock().receivers;
        *receivers = if waits { *receivers + 1 } else { receivers.saturating_sub(1) };
    }

    /// `mq_notify(2)`: `signal` is the number and value, `None` for `SIGEV_NONE`.
    ///
    /// # Errors
    /// EBUSY if somebody else is to be told.
    pub fn notify(&self, process: &Arc<Process>, signal: Option<(i32, u64)>) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.notification.as_ref().is_some_and(|there| there.process.strong_count() > 0) {
            return Err(Errno::EBUSY);
        }
        state.notification = Some(Notification { process: Arc::downgrade(process), signal });
        Ok(())
    }

    /// `mq_notify(2)` with no event: the process is not to be told any more.
    pub fn stop_notifying(&self, process: &Arc<Process>) {
        let mut state = self.lock();
        let mine = |there: &Notification| std::ptr::eq(there.process.as_ptr(), Arc::as_ptr(process));
        if state.notification.as_ref().is_some_and(mine) {
            state.notification = None;
        }
    }
}

impl PosixQueues {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<PosixQueue>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `mq_open(2)`; `mode` has been masked, `limit` is the caller's `RLIMIT_MSGQUEUE`, for all queues of its user.
    ///
    /// # Errors
    /// As `mq_open(2)`.
    pub fn open(
        &self,
        caller: &Caller<'_>,
        name: &[u8],
        flags: u32,
        mode: u32,
        size: Option<QueueSize>,
        limit: u64,
    ) -> Result<Arc<PosixQueue>, Errno> {
        check_name(name)?;
        let mut queues = self.lock();
        if let Some(queue) = queues.get(name) {
            if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL {
                return Err(Errno::EEXIST);
            }
            queue.check(caller, flags)?;
            return Ok(Arc::clone(queue));
        }
        if flags & O_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        let privileged = usize::from(caller.credentials.has(Capability::SysResource));
        let size = size.unwrap_or(QueueSize { max_messages: MESSAGES_MAX[0], max_size: SIZE_MAX[0] });
        let fits = |value: i64, limit: i64| (1..=limit).contains(&value);
        if !fits(size.max_messages, MESSAGES_MAX[privileged]) || !fits(size.max_size, SIZE_MAX[privileged]) {
            return Err(Errno::EINVAL);
        }
        let counted = account::take_one(Kind::PosixQueue, QUEUES_MAX).ok_or(Errno::ENOSPC)?;
        let user = self.users.take(caller.credentials.uid, size.bytes(), limit).ok_or(Errno::EMFILE)?;
        let charge = (user, counted, account::charge_for::<PosixQueue>(name.len())?);
        let queue = Arc::new(PosixQueue {
            max_messages: size.max_messages,
            max_size: size.max_size,
            mode: mode & 0o777,
            uid: caller.credentials.fsuid,
            gid: caller.credentials.fsgid,
            state: Mutex::default(),
            changed: WaitQueue::new(),
            _charge: charge,
        });
        queues.insert(name.to_vec(), Arc::clone(&queue));
        Ok(queue)
    }

    /// `mq_unlink(2)`: those who have it open keep it.
    ///
    /// # Errors
    /// ENOENT; EPERM if it is another's: their directory is sticky.
    pub fn unlink(&self, caller: &Caller<'_>, name: &[u8]) -> Result<(), Errno> {
        check_name(name)?;
        let mut queues = self.lock();
        let queue = queues.get(name).ok_or(Errno::ENOENT)?;
        if caller.credentials.fsuid != queue.uid && !caller.credentials.has(Capability::Fowner) {
            return Err(Errno::EPERM);
        }
        queues.remove(name);
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" => Err(Errno::ENOENT),
        _ if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ if name.contains(&b'/') || name == b"." || name == b".." => Err(Errno::EACCES),
        _ => Ok(()),
    }
}
