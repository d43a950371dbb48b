//! `AF_UNIX` sockets, `unix(7)`: streams, datagrams and sequenced packets between tasks of the sandbox.
//!
//! Key types: [`UnixSocket`] (an endpoint), [`UnixEnd`] (the file in front of it, whose end releases the endpoint).
//! Files: names (`name.rs`), connections (`connect.rs`), messages (`transfer.rs`, `queue.rs`), files in messages (`rights.rs`).
//!
//! LOCK: never two sockets' states at once, and nothing is dropped under one that could be the last of a socket.

mod connect;
mod name;
mod queue;
mod rights;
#[cfg(test)]
mod tests;
mod transfer;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use linux_abi::UserPtr;
use linux_abi::net::{family::AF_UNIX, ioctl, kind, option as so};
use zerocopy::IntoBytes;

#[cfg(test)]
pub(super) use self::name::Address;
use self::name::Name;
use self::queue::{Account, Identity, Packet, bury};
pub use self::rights::InFlight;
use super::options::{Common, Own};
use super::{Accepted, Kind, Namespace, Outgoing, Patience, Place, Received, Shutdown, Socket, lock};
use crate::Errno;
use crate::io::{Sink, Source};
use crate::sync::{Events, WaitQueue};
use crate::task::{Current, Task};
use crate::vfs::{FileOps, Op, OpenFile};

/// `PF_UNIX` is the only protocol besides the default.
const PROTOCOL: i32 = 1;
/// The receiving half is shut down.
const SHUT_READ: u8 = 1;
/// The sending half is shut down.
const SHUT_WRITE: u8 = 2;
/// Both.
const SHUT_BOTH: u8 = 3;

/// An endpoint.
pub struct UnixSocket {
    me: Weak<Self>,
    kind: Kind,
    namespace: Arc<Namespace>,
    /// What it has sent; its queue is the socket's.
    account: Arc<Account>,
    common: Common,
    /// Those who wait to be queued at this listener.
    room: WaitQueue,
    state: Mutex<State>,
    _place: Place,
}

enum Phase {
    Idle,
    /// A thread is connecting it.
    Connecting,
    Listening {
        backlog: usize,
        pending: VecDeque<Arc<UnixSocket>>,
    },
    /// To a peer, which for datagrams need not be connected back.
    Connected(Arc<UnixSocket>),
}

struct State {
    phase: Phase,
    name: Option<Arc<Name>>,
    packets: VecDeque<Packet>,
    /// Bytes in `packets`.
    bytes: usize,
    /// `SHUT_*`.
    shutdown: u8,
    /// `SO_ERROR`.
    error: Option<Errno>,
    /// Who is at the other end; of a listener: who listens.
    peer_identity: Option<Identity>,
    own: Own,
    /// Senders of datagrams to be woken when there is room.
    waiting: Vec<Weak<Account>>,
    /// In a listener's queue.
    is_pending: bool,
    is_dead: bool,
}

/// A socket as an open file.
pub struct UnixEnd(Arc<UnixSocket>);

impl Drop for UnixEnd {
    fn drop(&mut self) {
        self.0.release();
        rights::collect_if_needed(&self.0.namespace);
    }
}

fn kind_of(kind: u32, protocol: i32) -> Result<Kind, Errno> {
    if protocol != 0 && protocol != PROTOCOL {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        kind::SOCK_STREAM => Ok(Kind::Stream),
        // LINUX: raw is taken for datagrams.
        kind::SOCK_DGRAM | kind::SOCK_RAW => Ok(Kind::Datagram),
        kind::SOCK_SEQPACKET => Ok(Kind::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// `socket(2)`.
///
/// # Errors
/// EPROTONOSUPPORT; ESOCKTNOSUPPORT; ENFILE.
pub fn new(task: &Arc<Task>, kind: u32, protocol: i32) -> Result<Arc<dyn FileOps>, Errno> {
    let socket = UnixSocket::new(&task.kernel.net, kind_of(kind, protocol)?)?;
    rights::collect_if_needed(&task.kernel.net);
    Ok(Arc::new(UnixEnd(socket)))
}

/// `socketpair(2)`.
///
/// # Errors
/// As [`new`].
pub fn new_pair(task: &Arc<Task>, kind: u32, protocol: i32) -> Result<[Arc<dyn FileOps>; 2], Errno> {
    let kind = kind_of(kind, protocol)?;
    let one = UnixSocket::new(&task.kernel.net, kind)?;
    let other = UnixSocket::new(&task.kernel.net, kind)?;
    for (socket, peer) in [(&one, &other), (&other, &one)] {
        let mut state = lock(&socket.state);
        state.phase = Phase::Connected(Arc::clone(peer));
        state.peer_identity = Some(Identity::effective(task));
    }
    Ok([Arc::new(UnixEnd(one)), Arc::new(UnixEnd(other))])
}

impl UnixSocket {
    fn new(namespace: &Arc<Namespace>, kind: Kind) -> Result<Arc<Self>, Errno> {
        let place = namespace.place()?;
        let state = State {
            phase: Phase::Idle,
            name: None,
            packets: VecDeque::new(),
            bytes: 0,
            shutdown: 0,
            error: None,
            peer_identity: None,
            own: Own::default(),
            waiting: Vec::new(),
            is_pending: false,
            is_dead: false,
        };
        let socket = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kind,
            namespace: Arc::clone(namespace),
            account: Arc::default(),
            common: Common::default(),
            room: WaitQueue::new(),
            state: Mutex::new(state),
            _place: place,
        });
        super::enter(&mut lock(&namespace.unix_sockets), &socket);
        Ok(socket)
    }

    fn is_connection_based(&self) -> bool {
        self.kind != Kind::Datagram
    }

    fn peer(&self) -> Option<Arc<Self>> {
        match &lock(&self.state).phase {
            Phase::Connected(peer) => Some(Arc::clone(peer)),
            _ => None,
        }
    }

    fn is_peer_of(&self, other: &Self) -> bool {
        matches!(&lock(&other.state).phase, Phase::Connected(peer) if std::ptr::eq(Arc::as_ptr(peer), self))
    }

    /// Connections not yet accepted.
    fn pending(&self) -> Vec<Arc<Self>> {
        match &lock(&self.state).phase {
            Phase::Listening { pending, .. } => pending.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Files in the queue.
    fn queued_files(&self) -> Vec<Arc<OpenFile>> {
        let state = lock(&self.state);
        state
            .packets
            .iter()
            .filter_map(|packet| packet.rights.as_ref())
            .flat_map(rights::Rights::files)
            .collect()
    }

    fn take_packets(&self) -> VecDeque<Packet> {
        let mut state = lock(&self.state);
        state.bytes = 0;
        std::mem::take(&mut state.packets)
    }

    /// The last descriptor is gone. LINUX: `unix_release_sock`.
    fn release(&self) {
        let (phase, packets, name, is_pending) = {
            let mut state = lock(&self.state);
            if std::mem::replace(&mut state.is_dead, true) {
                return;
            }
            state.shutdown = SHUT_BOTH;
            let phase = std::mem::replace(&mut state.phase, Phase::Idle);
            (phase, std::mem::take(&mut state.packets), state.name.clone(), state.is_pending)
        };
        if let Some(name) = name {
            self.forget(&name);
        }
        match phase {
            Phase::Connected(peer) if self.is_connection_based() => {
                let has_unread = !packets.is_empty() || is_pending;
                let mut state = lock(&peer.state);
                state.shutdown = SHUT_BOTH;
                if has_unread {
                    state.error = Some(Errno::ECONNRESET);
                }
                drop(state);
                peer.wake_all();
            }
            Phase::Listening { pending, .. } => pending.iter().for_each(|pending| pending.release()),
            _ => {}
        }
        bury(packets);
        self.wake_senders();
        self.wake_all();
        self.room.wake(Events::all());
    }

    fn wake_all(&self) {
        self.account.queue.wake(Events::all());
    }

    /// Tells those who wait for room in this queue.
    fn wake_senders(&self) {
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        for account in waiting.iter().filter_map(Weak::upgrade) {
            account.queue.wake(Events::WRITABLE);
        }
    }

    /// `shutdown(2)`. LINUX: `unix_shutdown`.
    fn shutdown(&self, how: Shutdown) {
        let (mine, theirs) = match how {
            Shutdown::Read => (SHUT_READ, SHUT_WRITE),
            Shutdown::Write => (SHUT_WRITE, SHUT_READ),
            Shutdown::Both => (SHUT_BOTH, SHUT_BOTH),
        };
        lock(&self.state).shutdown |= mine;
        if let Some(peer) = self.peer().filter(|_| self.is_connection_based()) {
            lock(&peer.state).shutdown |= theirs;
            peer.wake_all();
        }
        self.wake_senders();
        self.wake_all();
        self.room.wake(Events::all());
    }

    /// LINUX: `unix_poll`, `unix_dgram_poll`.
    fn readiness(&self) -> Events {
        let mut events = Events::empty();
        let state = lock(&self.state);
        events.set(Events::ERR, state.error.is_some());
        events.set(Events::HUP, state.shutdown == SHUT_BOTH);
        if state.shutdown & SHUT_READ != 0 {
            events |= Events::RDHUP | Events::READABLE;
        }
        let (is_idle, is_listening) = match &state.phase {
            Phase::Idle | Phase::Connecting => (true, false),
            Phase::Listening { pending, .. } => {
                events.set(Events::READABLE, events.contains(Events::READABLE) || !pending.is_empty());
                (false, true)
            }
            Phase::Connected(_) => (false, false),
        };
        if !state.packets.is_empty() {
            events |= Events::READABLE;
        }
        if is_idle && self.is_connection_based() {
            events |= Events::HUP;
        }
        drop(state);
        if !is_listening && self.account.is_writable() && !self.is_peer_full() {
            events |= Events::WRITABLE | Events::WRBAND;
        }
        events
    }

    /// `SIOCINQ`.
    fn readable_bytes(&self) -> Result<usize, Errno> {
        let state = lock(&self.state);
        match (&state.phase, self.kind) {
            (Phase::Listening { .. }, _) => Err(Errno::EINVAL),
            (_, Kind::Datagram) => Ok(state.packets.front().map_or(0, |packet| packet.bytes().len())),
            _ => Ok(state.bytes),
        }
    }

    fn get_option(&self, socket: &dyn Socket, task: &Task, name: i32) -> Result<Vec<u8>, Errno> {
        let mut state = lock(&self.state);
        match name {
            so::SO_ERROR => Ok(state.error.take().map_or(0, Errno::raw).as_bytes().to_vec()),
            so::SO_ACCEPTCONN => {
                Ok(i32::from(matches!(state.phase, Phase::Listening { .. })).as_bytes().to_vec())
            }
            so::SO_PEERCRED => {
                let nobody = linux_abi::net::Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
                let peer = state.peer_identity.as_ref();
                Ok(peer.map_or(nobody, |peer| peer.seen_by(task)).as_bytes().to_vec())
            }
            so::SO_PEERGROUPS => {
                Ok(state.peer_identity.as_ref().ok_or(Errno::ENODATA)?.groups.as_bytes().to_vec())
            }
            _ => state.own.get(socket, name),
        }
    }

    /// One line of `/proc/net/unix`.
    #[must_use]
    pub fn proc_line(&self) -> String {
        let state = lock(&self.state);
        let (flags, phase) = match state.phase {
            Phase::Idle => (0, 1),
            Phase::Connecting => (0, 2),
            Phase::Listening { .. } => (0x1_0000, 1),
            Phase::Connected(_) => (0, 3),
        };
        let name = state.name.as_ref().map_or_else(String::new, |name| format!(" {}", name.display()));
        let (kind, (_, node)) = (self.kind.number(), self.common.node());
        format!("0000000000000000: 00000002 00000000 {flags:08X} {kind:04X} {phase:02X} {node:>5}{name}\n")
    }
}

impl FileOps for UnixEnd {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        Socket::receive(self, op, sink, 0).map(|received| received.len)
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        Socket::send(self, op, &mut Outgoing { source, address: None, control: &[], flags: 0 })
    }

    fn readiness(&self) -> Events {
        self.0.readiness()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.account.queue)
    }

    fn ioctl(&self, current: &mut Current, _: &Arc<OpenFile>, command: u32, arg: u64) -> Result<u64, Errno> {
        let count = match command {
            ioctl::FIONREAD => self.0.readable_bytes()?,
            ioctl::SIOCOUTQ => self.0.account.outstanding(),
            ioctl::SIOCATMARK => 0,
            _ => return super::interfaces::ioctl(current, command, arg),
        };
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        current.write_object(UserPtr::new(arg), &count).map(|()| 0)
    }

    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Socket for UnixEnd {
    fn family(&self) -> u16 {
        AF_UNIX
    }

    fn kind(&self) -> Kind {
        self.0.kind
    }

    fn common(&self) -> &Common {
        &self.0.common
    }

    fn bind(&self, task: &Arc<Task>, address: &[u8]) -> Result<(), Errno> {
        self.0.bind(task, address)
    }

    fn connect(&self, current: &mut Current, address: &[u8], patience: Patience) -> Result<(), Errno> {
        self.0.connect(current, address, patience)
    }

    fn listen(&self, task: &Arc<Task>, backlog: i32) -> Result<(), Errno> {
        self.0.listen(task, backlog)
    }

    fn accept(&self, _: &Arc<Task>) -> Result<Accepted, Errno> {
        let socket = self.0.accept()?;
        let peer = socket.peer_name().unwrap_or_else(|_| name::address_of(None));
        Ok(Accepted { ops: Arc::new(UnixEnd(socket)), address: peer })
    }

    fn send(&self, op: &Op<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        self.0.send(op, message)
    }

    fn receive(&self, op: &Op<'_>, sink: &mut dyn Sink, flags: u32) -> Result<Received, Errno> {
        self.0.receive(op, sink, flags)
    }

    fn receive_low(&self) -> usize {
        usize::try_from(lock(&self.0.state).own.receive_low).unwrap_or(1)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        self.0.shutdown(how);
        Ok(())
    }

    fn get_option(&self, task: &Arc<Task>, level: i32, name: i32, _: usize) -> Result<Vec<u8>, Errno> {
        if level != so::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.0.common.get(level, name) {
            Some(value) => Ok(value),
            None => self.0.get_option(self, task, name),
        }
    }

    fn set_option(&self, task: &Arc<Task>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if level != so::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(result) = self.0.common.set(level, name, value) {
            return result;
        }
        let limit = {
            let mut state = lock(&self.0.state);
            state.own.set(task, name, value)?;
            state.own.send_buffer
        };
        self.0.account.set_limit(limit);
        Ok(())
    }

    fn local_name(&self) -> Result<Vec<u8>, Errno> {
        Ok(name::address_of(lock(&self.0.state).name.as_ref()))
    }

    fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        self.0.peer_name()
    }
}
