//! Sockets: `AF_UNIX` of our own, IP through sockets of the host in the sandbox's network namespace, netlink.
//!
//! Key types: [`Socket`] (an endpoint behind a file), [`Outgoing`] and [`Received`] (one message), [`Namespace`] (what
//! all sockets of the sandbox share). As all files, sockets never block but in [`Socket::connect`], which is told
//! how long it may.

pub mod control;
#[cfg(test)]
mod hostile_test;
pub mod inet;
pub mod interfaces;
pub mod netlink;
pub mod options;
pub mod unix;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linux_abi::net::{family, kind};

use self::control::{Cmsg, ControlOut};
use self::options::{Common, Direction};
use crate::Errno;
use crate::account::{self, Counted};
use crate::descriptors::{Charge, Use};
use crate::io::{Sink, Source};
use crate::task::{Capability, Current, Task};
use crate::vfs::{FileOps, Op, OpenFile, mode};

/// Longest address that any call takes. LINUX: `sizeof(struct sockaddr_storage)`, EINVAL above.
pub const ADDRESS_MAX: usize = 128;
/// Most sockets of a container, ENFILE above.
const SOCKETS_MAX: usize = 1 << 18;
/// What a socket costs.
const SOCKET_BYTES: usize = 1024;
/// What one of the host's costs there without any data.
const HOST_SOCKET_BYTES: usize = 4096;

/// `SOCK_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in socket(2)")]
pub enum Kind {
    Stream,
    Datagram,
    SeqPacket,
    Raw,
}

impl Kind {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Stream => kind::SOCK_STREAM,
            Self::Datagram => kind::SOCK_DGRAM,
            Self::SeqPacket => kind::SOCK_SEQPACKET,
            Self::Raw => kind::SOCK_RAW,
        }
    }

    /// `None`: none of ours.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            kind::SOCK_STREAM => Some(Self::Stream),
            kind::SOCK_DGRAM => Some(Self::Datagram),
            kind::SOCK_SEQPACKET => Some(Self::SeqPacket),
            kind::SOCK_RAW => Some(Self::Raw),
            _ => None,
        }
    }
}

/// Which halves `shutdown(2)` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in shutdown(2)")]
pub enum Shutdown {
    Read,
    Write,
    Both,
}

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// Until then, on the monotonic clock; for ever if `None`.
    Until(Option<u64>),
}

/// A message on its way out.
pub struct Outgoing<'a> {
    /// Its bytes.
    pub source: &'a mut dyn Source,
    /// Where to; the peer if `None`.
    pub address: Option<&'a [u8]>,
    /// What goes with it.
    pub control: &'a [Cmsg],
    /// `MSG_*`.
    pub flags: u32,
}

/// A message that has come in.
#[derive(Default)]
pub struct Received {
    /// What the call answers: bytes put into the sink, or (by `MSG_TRUNC`) the message's real length.
    pub len: usize,
    /// `MSG_*` to report.
    pub flags: u32,
    /// Whom it is from; the empty address if it has no name. `None`: this kind of socket does not say.
    pub address: Option<Vec<u8>>,
    /// What came with it.
    pub control: Vec<ControlOut>,
    /// A stream has come to something that must not be read together with what follows.
    pub is_boundary: bool,
}

/// A connection that has been accepted.
pub struct Accepted {
    /// The new socket.
    pub ops: Arc<dyn FileOps>,
    /// The peer's address.
    pub address: Vec<u8>,
}

/// An endpoint. Addresses are those of the ABI, at most [`ADDRESS_MAX`] bytes long.
pub trait Socket: Send + Sync {
    /// `AF_*`.
    fn family(&self) -> u16;

    /// `SOCK_*`.
    fn kind(&self) -> Kind;

    /// What sockets of all families have: timeouts and the like.
    fn common(&self) -> &Common;

    /// `bind(2)`.
    ///
    /// # Errors
    /// As the man page.
    fn bind(&self, task: &Arc<Task>, address: &[u8]) -> Result<(), Errno>;

    /// `connect(2)`.
    ///
    /// # Errors
    /// As the man page; ERESTARTSYS if a signal came first.
    fn connect(&self, current: &mut Current, address: &[u8], patience: Patience) -> Result<(), Errno>;

    /// `listen(2)`.
    ///
    /// # Errors
    /// EOPNOTSUPP by default.
    fn listen(&self, _task: &Arc<Task>, _backlog: i32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// `accept(2)`.
    ///
    /// # Errors
    /// EAGAIN; EOPNOTSUPP by default.
    fn accept(&self, _task: &Arc<Task>) -> Result<Accepted, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sends a message, or as much of a stream as there is room for. Nothing is taken from the source with EAGAIN.
    ///
    /// # Errors
    /// As `sendmsg(2)`.
    fn send(&self, op: &Op<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno>;

    /// Receives a message, or what there is of a stream.
    ///
    /// # Errors
    /// As `recvmsg(2)`.
    fn receive(&self, op: &Op<'_>, sink: &mut dyn Sink, flags: u32) -> Result<Received, Errno>;

    /// How many bytes of a stream a call waits for (`SO_RCVLOWAT`).
    fn receive_low(&self) -> usize {
        1
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// ENOTCONN.
    fn shutdown(&self, how: Shutdown) -> Result<(), Errno>;

    /// `getsockopt(2)`: the value, which the caller cuts to what the guest has room for (`room` bytes).
    ///
    /// # Errors
    /// ENOPROTOOPT.
    fn get_option(&self, task: &Arc<Task>, level: i32, name: i32, room: usize) -> Result<Vec<u8>, Errno>;

    /// `setsockopt(2)`.
    ///
    /// # Errors
    /// ENOPROTOOPT; EINVAL for values that are too short.
    fn set_option(&self, task: &Arc<Task>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno>;

    /// `getsockname(2)`.
    ///
    /// # Errors
    /// The host's.
    fn local_name(&self) -> Result<Vec<u8>, Errno>;

    /// `getpeername(2)`.
    ///
    /// # Errors
    /// ENOTCONN.
    fn peer_name(&self) -> Result<Vec<u8>, Errno>;
}

/// What all sockets of the sandbox share: there is one network namespace.
#[derive(Default)]
pub struct Namespace {
    /// LOCK: leaf.
    pub(crate) abstract_names: Mutex<HashMap<Vec<u8>, Weak<unix::UnixSocket>>>,
    /// All `AF_UNIX` sockets, for `/proc/net/unix` and to find those that hold only each other. LOCK: leaf.
    pub(crate) unix_sockets: Mutex<Vec<Weak<unix::UnixSocket>>>,
    /// All sockets of the host, for `/proc/net`. LOCK: leaf.
    inet_sockets: Mutex<Vec<Weak<inet::InetSocket>>>,
    /// Files on their way between sockets.
    pub(crate) in_flight: Arc<unix::InFlight>,
    /// What the network looks like.
    pub interfaces: interfaces::Interfaces,
    /// Processes that have had a netlink socket bound to their own id. LOCK: leaf.
    netlink_ports: Mutex<HashSet<u64>>,
    count: Arc<AtomicUsize>,
}

/// Most processes whose use of netlink is remembered.
const NETLINK_PORTS_MAX: usize = 1 << 16;

/// A place among the sandbox's sockets, and for one of the host's among its container's descriptors.
pub(crate) struct Place {
    count: Arc<AtomicUsize>,
    charge: Option<Charge>,
    _counted: Counted,
    /// Of its container's account.
    _memory: account::Charge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Namespace {
    /// Without sockets.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// As the host tells; to be called before the sentry's seccomp filter is on.
    #[must_use]
    pub fn learn() -> Arc<Self> {
        Arc::new(Self { interfaces: interfaces::Interfaces::learn(), ..Self::default() })
    }

    /// The process has not bound a netlink socket to its id before.
    pub(crate) fn take_netlink_port(&self, process: u64) -> bool {
        let mut ports = lock(&self.netlink_ports);
        ports.len() < NETLINK_PORTS_MAX && ports.insert(process)
    }

    /// `/proc/net/unix`.
    #[must_use]
    pub fn proc_unix(&self) -> String {
        let sockets: Vec<_> = lock(&self.unix_sockets).iter().filter_map(Weak::upgrade).collect();
        let mut text = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
        text.extend(sockets.iter().map(|socket| socket.proc_line()));
        text
    }

    /// How many sockets there are.
    pub(crate) fn socket_count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn enter_inet(&self, socket: &Arc<inet::InetSocket>) {
        enter(&mut lock(&self.inet_sockets), socket);
    }

    /// ENFILE when there are too many sockets.
    pub(crate) fn place(&self) -> Result<Place, Errno> {
        self.place_of(SOCKET_BYTES)
    }

    fn place_of(&self, bytes: usize) -> Result<Place, Errno> {
        let counted = account::take_one(account::Kind::Socket, SOCKETS_MAX).ok_or(Errno::ENFILE)?;
        let memory = account::charge(bytes).map_err(|_| Errno::ENOBUFS)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Place { count: Arc::clone(&self.count), charge: None, _counted: counted, _memory: memory })
    }

    /// The same for a socket of the host; ENFILE also when the container has its share of descriptors.
    pub(crate) fn host_place(&self, task: &Task) -> Result<Place, Errno> {
        let charge = task.kernel.descriptors.share(&task.process.container).take(Use::Object)?;
        let mut place = self.place_of(SOCKET_BYTES + HOST_SOCKET_BYTES)?;
        place.charge = Some(charge);
        Ok(place)
    }
}

/// Remembers a socket; dead entries go when the list would have to grow.
fn enter<T>(all: &mut Vec<Weak<T>>, socket: &Arc<T>) {
    if all.len() == all.capacity() {
        all.retain(|there| there.strong_count() > 0);
    }
    all.push(Arc::downgrade(socket));
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an open file of a socket; `flags`: `O_NONBLOCK`.
#[must_use]
pub fn open(task: &Arc<Task>, ops: Arc<dyn FileOps>, flags: u32) -> Arc<OpenFile> {
    const O_RDWR: u32 = 2;
    let credentials = task.credentials();
    let node_mode = mode::S_IFSOCK | 0o777;
    let location = task.kernel.vfs.anonymous("socket", node_mode, credentials.fsuid, credentials.fsgid);
    if let (Some(socket), Ok(stat)) = (ops.as_socket(), location.inode().stat()) {
        socket.common().set_node(stat.ino, credentials.fsuid);
    }
    OpenFile::new(ops, location, flags | O_RDWR)
}

/// `socket(2)`: a new endpoint.
///
/// # Errors
/// As the man page.
pub fn new_socket(
    task: &Arc<Task>,
    family: i32,
    kind: u32,
    protocol: i32,
) -> Result<Arc<dyn FileOps>, Errno> {
    let family = u16::try_from(family).ok().filter(|&it| it < family::AF_MAX).ok_or(Errno::EAFNOSUPPORT)?;
    if kind >= kind::SOCK_MAX {
        return Err(Errno::EINVAL);
    }
    match family {
        family::AF_UNIX => unix::new(task, kind, protocol),
        family::AF_INET | family::AF_INET6 => inet::new(task, family, kind, protocol),
        family::AF_NETLINK => netlink::new(task, kind, protocol),
        family::AF_PACKET if !task.credentials().has(Capability::NetRaw) => Err(Errno::EPERM),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// `socketpair(2)`: two endpoints, connected.
///
/// # Errors
/// As the man page.
pub fn new_pair(
    task: &Arc<Task>,
    family: i32,
    kind: u32,
    protocol: i32,
) -> Result<[Arc<dyn FileOps>; 2], Errno> {
    if family == i32::from(family::AF_UNIX) {
        if kind >= kind::SOCK_MAX {
            return Err(Errno::EINVAL);
        }
        return unix::new_pair(task, kind, protocol);
    }
    new_socket(task, family, kind, protocol)?;
    Err(Errno::EOPNOTSUPP)
}

/// When a call that begins now has to be over, by the socket's own timeout.
#[must_use]
pub fn deadline(socket: &dyn Socket, direction: Direction) -> Option<u64> {
    socket.common().deadline(direction)
}
