//! `AF_NETLINK`, protocol `NETLINK_ROUTE`: what programs ask of links, addresses and routes. LINUX: `netlink(7)`.
//!
//! Key type: [`NetlinkSocket`]: requests are answered at once (`route.rs`), the answers wait in its queue. Nothing is ever
//! changed and nothing happens that could be told to groups.

pub(crate) mod message;
pub(super) mod route;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use linux_abi::UserPtr;
use linux_abi::net::{family::AF_NETLINK, ioctl, kind, msg, option as so};
use zerocopy::{FromBytes, IntoBytes};

use super::options::{Common, Own};
use super::{Kind, Outgoing, Patience, Place, Received, Shutdown, Socket, lock};
use crate::Errno;
use crate::account::Charge;
use crate::io::{Sink, Source};
use crate::sync::{Events, WaitQueue};
use crate::task::{Current, Task};
use crate::vfs::{FileOps, Op, OpenFile};

const NETLINK_ROUTE: i32 = 0;
/// Longest request, EMSGSIZE above.
const REQUEST_MAX: usize = 64 << 10;
/// What an answer costs besides its bytes.
const ANSWER_OVERHEAD: usize = 64;
/// Most bytes of answers that wait, ENOBUFS above.
const QUEUE_MAX: usize = 4 << 20;
/// `NETLINK_ADD_MEMBERSHIP`.
const ADD_MEMBERSHIP: i32 = 1;
/// `NETLINK_DROP_MEMBERSHIP`.
const DROP_MEMBERSHIP: i32 = 2;
/// Kept and told back: `NETLINK_PKTINFO`, `BROADCAST_ERROR`, `NO_ENOBUFS`, `CAP_ACK`, `EXT_ACK`. No message comes to a group, none is
/// lost, and an acknowledgement with its request and without more words is right for all.
const SWITCHES: [i32; 5] = [3, 4, 5, 10, 11];
/// `NETLINK_LIST_MEMBERSHIPS`.
const LIST_MEMBERSHIPS: i32 = 9;
/// `NETLINK_GET_STRICT_CHK`.
const STRICT_CHECK: i32 = 12;

/// Which of [`SWITCHES`] that option is.
fn switch(name: i32) -> Result<usize, Errno> {
    SWITCHES.iter().position(|&known| known == name).ok_or(Errno::ENOPROTOOPT)
}

/// A socket to the kernel.
pub struct NetlinkSocket {
    kind: Kind,
    common: Common,
    queue: WaitQueue,
    /// LOCK: leaf but for guest memory.
    state: Mutex<State>,
    _place: Place,
}

#[derive(Default)]
struct State {
    /// 0: not bound.
    port: u32,
    groups: u32,
    /// Which of [`SWITCHES`] are on, as bits.
    switches: u32,
    answers: VecDeque<Vec<u8>>,
    bytes: usize,
    /// For the answers.
    charge: Charge,
    is_strict: bool,
    own: Own,
}

/// `socket(2)`.
///
/// # Errors
/// ESOCKTNOSUPPORT; EPROTONOSUPPORT; ENFILE.
pub fn new(task: &Arc<Task>, kind: u32, protocol: i32) -> Result<Arc<dyn FileOps>, Errno> {
    if kind != kind::SOCK_RAW && kind != kind::SOCK_DGRAM {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if protocol != NETLINK_ROUTE {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = Kind::from_number(kind).ok_or(Errno::ESOCKTNOSUPPORT)?;
    Ok(Arc::new(NetlinkSocket {
        kind,
        common: Common::default(),
        queue: WaitQueue::new(),
        state: Mutex::default(),
        _place: task.kernel.net.place()?,
    }))
}

/// `struct sockaddr_nl`: port and groups.
fn parse(address: &[u8]) -> Result<(u32, u32), Errno> {
    let ([family, _], rest) = <[u16; 2]>::read_from_prefix(address).map_err(|_| Errno::EINVAL)?;
    let ([port, groups], _) = <[u32; 2]>::read_from_prefix(rest).map_err(|_| Errno::EINVAL)?;
    if family == AF_NETLINK { Ok((port, groups)) } else { Err(Errno::EINVAL) }
}

fn address(port: u32, groups: u32) -> Vec<u8> {
    [[AF_NETLINK, 0].as_bytes(), [port, groups].as_bytes()].concat()
}

impl NetlinkSocket {
    /// The port, chosen now if there is none.
    fn port(&self, task: &Task) -> u32 {
        /// Ports of processes' second sockets. LINUX: `netlink_autobind` goes downwards from -4097.
        static NEXT: AtomicU32 = AtomicU32::new(0xffff_0000);
        let mut state = lock(&self.state);
        if state.port == 0 {
            let pid = u32::try_from(task.process.pid).unwrap_or(0);
            let is_first = task.kernel.net.take_netlink_port(task.process.key);
            state.port = if is_first && pid != 0 { pid } else { NEXT.fetch_sub(1, Ordering::Relaxed) };
        }
        state.port
    }

    fn answer(&self, task: &Task, request: &[u8]) -> Result<(), Errno> {
        let port = self.port(task);
        let is_strict = lock(&self.state).is_strict;
        for message in message::messages(request) {
            let mut answers = route::answer(&task.kernel.net.interfaces, &message, port, is_strict);
            // They may wait for long, and are paid for by their length.
            answers.iter_mut().for_each(Vec::shrink_to_fit);
            let mut state = lock(&self.state);
            let bytes: usize = answers.iter().map(Vec::len).sum();
            if state.bytes + bytes > QUEUE_MAX {
                return Err(Errno::ENOBUFS);
            }
            let waiting = state.bytes + bytes;
            let overhead = (state.answers.len() + answers.len()) * ANSWER_OVERHEAD;
            state.charge.resize(waiting + overhead).map_err(|_| Errno::ENOBUFS)?;
            state.bytes = waiting;
            state.answers.extend(answers);
        }
        self.queue.wake(Events::READABLE);
        Ok(())
    }
}

impl FileOps for NetlinkSocket {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        Socket::receive(self, op, sink, 0).map(|received| received.len)
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        Socket::send(self, op, &mut Outgoing { source, address: None, control: &[], flags: 0 })
    }

    fn readiness(&self) -> Events {
        let mut events = Events::WRITABLE;
        events.set(Events::READABLE, !lock(&self.state).answers.is_empty());
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ioctl(&self, current: &mut Current, _: &Arc<OpenFile>, command: u32, arg: u64) -> Result<u64, Errno> {
        if command != ioctl::FIONREAD {
            return super::interfaces::ioctl(current, command, arg);
        }
        let next = lock(&self.state).answers.front().map_or(0, Vec::len);
        let count = i32::try_from(next).unwrap_or(i32::MAX);
        current.write_object(UserPtr::new(arg), &count).map(|()| 0)
    }

    fn as_socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Socket for NetlinkSocket {
    fn family(&self) -> u16 {
        AF_NETLINK
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &Arc<Task>, address: &[u8]) -> Result<(), Errno> {
        let (port, groups) = parse(address)?;
        {
            let mut state = lock(&self.state);
            if state.port != 0 && port != 0 && port != state.port {
                return Err(Errno::EINVAL);
            }
            state.groups = groups;
            if port != 0 {
                state.port = port;
            }
        }
        self.port(task);
        Ok(())
    }

    fn connect(&self, current: &mut Current, address: &[u8], _: Patience) -> Result<(), Errno> {
        // LINUX: only the administrator may talk to anybody but the kernel, and nobody is there.
        match parse(address)? {
            (0, 0) => {
                self.port(current.task());
                Ok(())
            }
            _ => Err(Errno::EPERM),
        }
    }

    fn send(&self, op: &Op<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        if message.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(address) = message.address
            && parse(address)? != (0, 0)
        {
            return Err(Errno::EPERM);
        }
        let len = message.source.remaining();
        if len > REQUEST_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let request = message.source.read_to_vec(len)?;
        if request.len() < len {
            return Err(Errno::EFAULT);
        }
        self.answer(op.task, &request)?;
        Ok(len)
    }

    fn receive(&self, _: &Op<'_>, sink: &mut dyn Sink, flags: u32) -> Result<Received, Errno> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = lock(&self.state);
        let answer = state.answers.front().filter(|_| flags & msg::ERRQUEUE == 0).ok_or(Errno::EAGAIN)?;
        let len = answer.len();
        let room = sink.remaining().min(len);
        if room > 0 && sink.write(&answer[..room])? < room {
            return Err(Errno::EFAULT);
        }
        if flags & msg::PEEK == 0 {
            state.answers.pop_front();
            let waiting = state.bytes + state.answers.len() * ANSWER_OVERHEAD;
            state.charge.set(waiting);
            state.bytes = state.bytes.saturating_sub(len);
        }
        Ok(Received {
            len: if flags & msg::TRUNC != 0 { len } else { room },
            flags: if room < len { msg::TRUNC } else { 0 },
            address: Some(address(0, 0)),
            ..Received::default()
        })
    }

    fn shutdown(&self, _: Shutdown) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn get_option(&self, _: &Arc<Task>, level: i32, name: i32, _: usize) -> Result<Vec<u8>, Errno> {
        if let Some(value) = self.common.get(level, name) {
            return Ok(value);
        }
        match (level, name) {
            (so::SOL_SOCKET, so::SO_ERROR | so::SO_ACCEPTCONN) => Ok(0i32.as_bytes().to_vec()),
            (so::SOL_SOCKET, _) => lock(&self.state).own.get(self, name),
            (so::SOL_NETLINK, LIST_MEMBERSHIPS) => Ok(lock(&self.state).groups.as_bytes().to_vec()),
            (so::SOL_NETLINK, STRICT_CHECK) => Ok(i32::from(lock(&self.state).is_strict).as_bytes().to_vec()),
            (so::SOL_NETLINK, _) => {
                let bit = switch(name)?;
                Ok((lock(&self.state).switches >> bit & 1).as_bytes().to_vec())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_option(&self, task: &Arc<Task>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if let Some(result) = self.common.set(level, name, value) {
            return result;
        }
        match (level, name) {
            (so::SOL_SOCKET, _) => lock(&self.state).own.set(task, name, value),
            (so::SOL_NETLINK, STRICT_CHECK) => {
                lock(&self.state).is_strict = super::options::int(value)? != 0;
                Ok(())
            }
            (so::SOL_NETLINK, ADD_MEMBERSHIP | DROP_MEMBERSHIP) => {
                let group = u32::try_from(super::options::int(value)?).map_err(|_| Errno::EINVAL)?;
                let bit = group.checked_sub(1).and_then(|bit| 1u32.checked_shl(bit)).ok_or(Errno::EINVAL)?;
                let mut state = lock(&self.state);
                state.groups = if name == ADD_MEMBERSHIP { state.groups | bit } else { state.groups & !bit };
                Ok(())
            }
            (so::SOL_NETLINK, _) => {
                let bit = switch(name)?;
                let mut state = lock(&self.state);
                state.switches =
                    state.switches & !(1 << bit) | u32::from(super::options::int(value)? != 0) << bit;
                Ok(())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn local_name(&self) -> Result<Vec<u8>, Errno> {
        let state = lock(&self.state);
        Ok(address(state.port, state.groups))
    }

    fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        Ok(address(0, 0))
    }
}
