//! What waits in a socket to be received, and who is charged for it?
//!
//! Key types: [`Packet`], [`Account`] (what a sender has under way), [`Identity`] (who sent).
//! As on Linux it is the sender that is charged: a receiver's queue is as long as its senders' accounts allow.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use linux_abi::net::Ucred;

use super::name::Name;
use super::rights::Rights;
use crate::Errno;
use crate::account;
use crate::net::options::BUFFER_DEFAULT;
use crate::sync::{Events, WaitQueue};
use crate::task::Task;

/// What a packet costs besides its bytes. LINUX: the `truesize` of an empty buffer.
const OVERHEAD: usize = 768;
/// What one socket has sent that has not been received, and the queue of those who wait for the socket.
pub struct Account {
    /// Woken for everything that happens to the socket.
    pub queue: WaitQueue,
    outstanding: AtomicUsize,
    limit: AtomicUsize,
}

impl Default for Account {
    fn default() -> Self {
        let limit = AtomicUsize::new(BUFFER_DEFAULT as usize);
        Self { queue: WaitQueue::new(), outstanding: AtomicUsize::new(0), limit }
    }
}

impl Account {
    /// `SO_SNDBUF`.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit as usize, Ordering::Relaxed);
        self.queue.wake(Events::WRITABLE);
    }

    /// `SO_SNDBUF`.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// `SIOCOUTQ`.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Acquire)
    }

    /// One more packet may be sent. LINUX: `sock_alloc_send_pskb`.
    pub fn has_room(&self) -> bool {
        self.outstanding() < self.limit()
    }

    /// As `poll(2)` tells. LINUX: `unix_writable`.
    pub fn is_writable(&self) -> bool {
        self.outstanding().saturating_mul(4) <= self.limit()
    }

    fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Errno> {
        let size = bytes + OVERHEAD;
        self.outstanding.fetch_add(size, Ordering::AcqRel);
        let mut charge = Charge { account: Arc::clone(self), size, memory: account::Charge::default() };
        charge.memory = account::charge(size).map_err(|_| Errno::ENOBUFS)?;
        Ok(charge)
    }
}

struct Charge {
    account: Arc<Account>,
    size: usize,
    /// Of the sender's container.
    memory: account::Charge,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.outstanding.fetch_sub(self.size, Ordering::AcqRel);
        self.account.queue.wake(Events::WRITABLE);
    }
}

/// Who a process is, as other processes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pid: i32,
    /// In which pid namespace.
    namespace: u32,
    uid: u32,
    gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Identity {
    /// With effective ids, as `SO_PEERCRED` tells them.
    pub fn effective(task: &Task) -> Self {
        let credentials = task.credentials();
        let process = &task.process;
        Self {
            pid: process.pid,
            namespace: process.namespace.id,
            uid: credentials.euid,
            gid: credentials.egid,
            groups: credentials.groups.clone(),
        }
    }

    /// With the ids given or the real ones, as messages carry them.
    pub fn of_sender(task: &Task, claimed: Option<Ucred>) -> Self {
        let credentials = task.credentials();
        let real = Ucred { pid: task.process.pid, uid: credentials.uid, gid: credentials.gid };
        let Ucred { pid, uid, gid } = claimed.unwrap_or(real);
        Self { pid, namespace: task.process.namespace.id, uid, gid, groups: Vec::new() }
    }

    /// As `task` may see it: pids of other namespaces are 0.
    pub fn seen_by(&self, task: &Task) -> Ucred {
        let is_near = task.process.namespace.id == self.namespace;
        Ucred { pid: if is_near { self.pid } else { 0 }, uid: self.uid, gid: self.gid }
    }
}

/// Bytes under way, and what goes with them.
pub struct Packet {
    data: Vec<u8>,
    start: usize,
    /// The sender's name.
    pub from: Option<Arc<Name>>,
    /// Who sent it.
    pub identity: Identity,
    /// Files that go with it; taken with the first byte.
    pub rights: Option<Rights>,
    _charge: Charge,
}

impl Packet {
    /// Charges the sender.
    ///
    /// # Errors
    /// ENOBUFS.
    pub fn new(
        account: &Arc<Account>,
        data: Vec<u8>,
        from: Option<Arc<Name>>,
        identity: Identity,
        rights: Option<Rights>,
    ) -> Result<Self, Errno> {
        let charge = account.charge(data.len())?;
        Ok(Self { data, start: 0, from, identity, rights, _charge: charge })
    }

    /// What has not been received yet.
    pub fn bytes(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }

    /// The first `n` bytes have been received.
    pub fn advance(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.data.len());
    }
}

thread_local! {
    /// Packets to be dropped by the innermost [`bury`] of the thread.
    static GRAVE: RefCell<Option<Vec<Packet>>> = const { RefCell::new(None) };
}

/// Drops packets one after the other: a packet may hold a socket that holds packets, a chain as long as a guest likes, so
/// that dropping them within each other would need a stack as deep. LOCK: none may be held.
pub fn bury(packets: impl IntoIterator<Item = Packet>) {
    let is_outermost = GRAVE.with_borrow_mut(|grave| {
        let is_outermost = grave.is_none();
        grave.get_or_insert_default().extend(packets);
        is_outermost
    });
    if !is_outermost {
        return;
    }
    while let Some(packet) = GRAVE.with_borrow_mut(|grave| grave.as_mut().and_then(Vec::pop)) {
        drop(packet);
    }
    GRAVE.set(None);
}
