//! System V message queues (`msgsnd(2)`, `msgrcv(2)`).
//!
//! Key types: [`Messages`] (all queues), [`Queue`], [`Selector`]. LINUX: `ipc/msg.c`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux_abi::ipc::{MSG_COPY, MSG_EXCEPT, MSG_NOERROR, MsqidDs};

use super::now_seconds;
use super::table::{Caller, INDEX_MAX, Permissions, Table};
use crate::Errno;
use crate::account::{self, Charge, Counted, Kind};
use crate::sync::{Events, WaitQueue};
use crate::task::Capability;

/// Most queues of a container. LINUX: `MSGMNI`, ENOSPC above.
pub const MSGMNI: usize = 32000;
/// Longest message in bytes. LINUX: EINVAL above.
pub const MSGMAX: usize = 8192;
/// Bytes that a new queue holds.
pub const MSGMNB: u64 = 16384;
/// Bytes that a queue may be made to hold, whoever asks; EPERM above.
const QUEUE_BYTES_MAX: u64 = 1 << 20;

/// All queues.
pub struct Messages {
    table: Mutex<Table<Queue>>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// Its text.
    pub text: Vec<u8>,
}

/// A queue.
pub struct Queue {
    state: Mutex<State>,
    /// Woken when a message comes (readable) or goes (writable), or the queue goes.
    pub changed: WaitQueue,
    _charge: (Counted, Charge),
}

struct State {
    permissions: Permissions,
    messages: VecDeque<Message>,
    /// Of the messages, in their order.
    charges: VecDeque<Charge>,
    bytes: u64,
    max_bytes: u64,
    stime: i64,
    rtime: i64,
    ctime: i64,
    lspid: i32,
    lrpid: i32,
    removed: bool,
}

/// Which message is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Selector {
    /// 0: the first; above: the first of this type; below: the first of the lowest type up to its negative.
    pub kind: i64,
    /// `MSG_NOERROR`, `MSG_EXCEPT`, `MSG_COPY`.
    pub flags: u32,
    /// Room for its text in bytes.
    pub room: usize,
}

impl Selector {
    /// Index of the message it means.
    fn find(&self, messages: &VecDeque<Message>) -> Option<usize> {
        if self.flags & MSG_COPY != 0 {
            return usize::try_from(self.kind).ok().filter(|&index| index < messages.len());
        }
        match self.kind {
            0 => (!messages.is_empty()).then_some(0),
            kind if kind > 0 && self.flags & MSG_EXCEPT != 0 => {
                messages.iter().position(|message| message.kind != kind)
            }
            kind if kind > 0 => messages.iter().position(|message| message.kind == kind),
            kind => {
                let highest = kind.checked_neg().unwrap_or(i64::MAX);
                let fitting = messages.iter().enumerate().filter(|(_, message)| message.kind <= highest);
                fitting.min_by_key(|(index, message)| (message.kind, *index)).map(|(index, _)| index)
            }
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; `false`: there is no room now.
    ///
    /// # Errors
    /// EIDRM, EACCES; ENOMEM at the container's limit.
    pub fn send(&self, caller: &Caller<'_>, message: &Message) -> Result<bool, Errno> {
        let mut state = self.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        state.permissions.check(caller, 0o2)?;
        let bytes = state.bytes + message.text.len() as u64;
        if bytes > state.max_bytes || state.messages.len() as u64 + 1 > state.max_bytes {
            return Ok(false);
        }
        let charge = account::charge_for::<Message>(message.text.len())?;
        state.bytes = bytes;
        state.messages.push_back(message.clone());
        state.charges.push_back(charge);
        (state.lspid, state.stime) = (caller.pid, now_seconds());
        drop(state);
        self.changed.wake(Events::READABLE);
        Ok(true)
    }

    /// Takes (or copies) a message; `None`: none fits now.
    ///
    /// # Errors
    /// EIDRM, EACCES; E2BIG if it is longer than the room and may not be cut.
    pub fn receive(&self, caller: &Caller<'_>, selector: Selector) -> Result<Option<Message>, Errno> {
        let mut state = self.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        state.permissions.check(caller, 0o4)?;
        let Some(index) = selector.find(&state.messages) else { return Ok(None) };
        let Some(message) = state.messages.get(index) else { return Ok(None) };
        if message.text.len() > selector.room && selector.flags & MSG_NOERROR == 0 {
            return Err(Errno::E2BIG);
        }
        let taken = if selector.flags & MSG_COPY != 0 {
            Some(message.clone())
        } else {
            let taken = state.messages.remove(index);
            state.charges.remove(index);
            let len = taken.as_ref().map_or(0, |message| message.text.len() as u64);
            state.bytes -= len;
            (state.lrpid, state.rtime) = (caller.pid, now_seconds());
            taken
        };
        drop(state);
        self.changed.wake(Events::WRITABLE);
        Ok(taken.map(|mut message| {
            message.text.truncate(selector.room);
            message
        }))
    }

    /// May `caller` do that?
    ///
    /// # Errors
    /// EACCES.
    pub fn check(&self, caller: &Caller<'_>, wanted: u32) -> Result<(), Errno> {
        self.lock().permissions.check(caller, wanted)
    }

    /// `IPC_STAT`.
    #[must_use]
    pub fn stat(&self) -> MsqidDs {
        let state = self.lock();
        MsqidDs {
            perm: state.permissions.0,
            stime: state.stime,
            rtime: state.rtime,
            ctime: state.ctime,
            cbytes: state.bytes,
            qnum: state.messages.len() as u64,
            qbytes: state.max_bytes,
            lspid: state.lspid,
            lrpid: state.lrpid,
            unused: [0; 2],
        }
    }

    /// `IPC_SET`.
    ///
    /// # Errors
    /// EPERM.
    pub fn set(&self, caller: &Caller<'_>, new: &MsqidDs) -> Result<(), Errno> {
        let mut state = self.lock();
        state.permissions.check_owner(caller)?;
        let privileged = caller.credentials.has(Capability::SysResource);
        if (new.qbytes > MSGMNB && !privileged) || new.qbytes > QUEUE_BYTES_MAX {
            return Err(Errno::EPERM);
        }
        state.permissions.update(&new.perm);
        (state.max_bytes, state.ctime) = (new.qbytes, now_seconds());
        drop(state);
        self.changed.wake(Events::WRITABLE);
        Ok(())
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self { table: Mutex::new(Table::new(INDEX_MAX)) }
    }
}

impl Messages {
    /// The table, for those who list it.
    pub fn lock(&self) -> MutexGuard<'_, Table<Queue>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `msgget(2)`.
    ///
    /// # Errors
    /// As `msgget(2)`.
    pub fn get(&self, caller: &Caller<'_>, key: i32, flags: u32) -> Result<i32, Errno> {
        let check = |queue: &Queue| queue.check(caller, flags);
        self.lock().obtain(key, flags, check, |id| {
            let state = State {
                permissions: Permissions::new(key, id, flags, caller),
                messages: VecDeque::new(),
                charges: VecDeque::new(),
                bytes: 0,
                max_bytes: MSGMNB,
                stime: 0,
                rtime: 0,
                ctime: now_seconds(),
                lspid: 0,
                lrpid: 0,
                removed: false,
            };
            let counted = account::take_one(Kind::MessageQueue, MSGMNI).ok_or(Errno::ENOSPC)?;
            let charge = (counted, account::charge_for::<Queue>(0)?);
            Ok(Queue { state: Mutex::new(state), changed: WaitQueue::new(), _charge: charge })
        })
    }

    /// By id.
    ///
    /// # Errors
    /// EINVAL, EIDRM.
    pub fn find(&self, id: i32) -> Result<Arc<Queue>, Errno> {
        self.lock().get(id)
    }

    /// `IPC_RMID`: those who wait get EIDRM.
    ///
    /// # Errors
    /// EINVAL, EIDRM, EPERM.
    pub fn remove(&self, caller: &Caller<'_>, id: i32) -> Result<(), Errno> {
        let mut table = self.lock();
        let queue = table.get(id)?;
        {
            let mut state = queue.lock();
            state.permissions.check_owner(caller)?;
            state.removed = true;
            state.messages.clear();
            state.charges.clear();
        }
        table.remove(id);
        drop(table);
        queue.changed.wake(Events::READABLE | Events::WRITABLE | Events::HUP);
        Ok(())
    }
}
