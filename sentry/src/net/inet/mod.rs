//! `AF_INET` and `AF_INET6`: sockets of the host, in the sandbox's own network namespace.
//!
//! Key type: [`InetSocket`]. The host keeps all state; what is decided here is which sockets, options and control messages a
//! guest may have, and how long it waits. LINUX: `ip(7)`, `ipv6(7)`, `tcp(7)`, `udp(7)`.

mod options;
pub mod table;

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux_abi::UserPtr;
use linux_abi::net::{family, ioctl, kind, msg, option as so};
use platform::host::poller;
use platform::host::socket as host;

use super::control::{self, Cmsg, ControlOut};
use super::options::Common;
use super::{Accepted, Kind, Outgoing, Patience, Place, Received, Shutdown, Socket};
use crate::Errno;
use crate::fs::host_file::copy_buffer;
use crate::io::{Sink, Source};
use crate::kernel::Kernel;
use crate::sync::Events;
use crate::task::{Capability, Current, Task, WaitEnd};
use crate::vfs::{FileOps, Op, OpenFile};

/// No datagram is longer.
const DATAGRAM_MAX: usize = 65_535;
/// Bytes of a stream that are sent or received at a time.
const STEP: usize = 128 << 10;
const PROTOCOL_ICMP: i32 = 1;
const PROTOCOL_TCP: i32 = 6;
const PROTOCOL_UDP: i32 = 17;
const PROTOCOL_ICMPV6: i32 = 58;
/// What the host may be asked for when sending.
const SEND_FLAGS: u32 = msg::OOB | msg::DONTROUTE | msg::CONFIRM | msg::MORE | msg::EOR | msg::FASTOPEN;
/// What the host may be asked for when receiving.
const RECEIVE_FLAGS: u32 = msg::OOB | msg::PEEK | msg::TRUNC | msg::ERRQUEUE;

/// A socket of the host.
pub struct InetSocket {
    fd: OwnedFd,
    family: u16,
    kind: Kind,
    common: Common,
    /// A datagram socket that has been shut down for reading: the host still lets nobody read without waiting, but wakes who waits.
    is_deaf: AtomicBool,
    _place: Place,
}

/// `socket(2)`.
///
/// # Errors
/// EPERM for raw sockets; ESOCKTNOSUPPORT; EPROTONOSUPPORT; the host's.
pub fn new(task: &Arc<Task>, family: u16, kind: u32, protocol: i32) -> Result<Arc<dyn FileOps>, Errno> {
    let icmp = if family == family::AF_INET { PROTOCOL_ICMP } else { PROTOCOL_ICMPV6 };
    let is_known = match kind {
        kind::SOCK_STREAM => [0, PROTOCOL_TCP].contains(&protocol),
        kind::SOCK_DGRAM => [0, PROTOCOL_UDP, icmp].contains(&protocol),
        kind::SOCK_RAW => return Err(Errno::EPERM),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    if !is_known {
        return Err(Errno::EPROTONOSUPPORT);
    }
    if protocol == icmp {
        let who = task.credentials();
        let groups = who.groups.iter().copied().chain([who.egid]);
        if !task.kernel.machine.sysctls.may_ping(groups) {
            return Err(Errno::EACCES);
        }
    }
    let place = task.kernel.net.host_place(task)?;
    let fd = host::new(family, kind, protocol).map_err(descriptor_error)?;
    let kind = Kind::from_number(kind).ok_or(Errno::ESOCKTNOSUPPORT)?;
    Ok(InetSocket::wrap(&task.kernel, fd, family, kind, place))
}

/// It is the sandbox that has run out of the host's descriptors, not the guest's process.
fn descriptor_error(errno: Errno) -> Errno {
    if errno == Errno::EMFILE { Errno::ENFILE } else { errno }
}

impl InetSocket {
    fn wrap(kernel: &Kernel, fd: OwnedFd, family: u16, kind: Kind, place: Place) -> Arc<Self> {
        let socket = Arc::new(Self {
            fd,
            family,
            kind,
            common: Common::default(),
            is_deaf: AtomicBool::new(false),
            _place: place,
        });
        kernel.net.enter_inet(&socket);
        socket
    }

    /// LINUX: `inet_stream_connect`: waits until the host has an outcome.
    fn wait_connected(&self, current: &mut Current, deadline: Option<u64>) -> Result<(), Errno> {
        let end = current.wait_on_host(self.fd.as_fd(), Events::OUT, deadline, |_| {
            self.readiness().intersects(Events::OUT | Events::ERR | Events::HUP).then_some(())
        });
        match end {
            Ok(()) => {}
            Err(WaitEnd::Interrupted) => return Err(Errno::ERESTARTSYS),
            Err(WaitEnd::TimedOut) => return Err(Errno::EINPROGRESS),
        }
        let value = host::get_option(&self.fd, so::SOL_SOCKET, so::SO_ERROR, 4)?;
        match super::options::int(&value)? {
            0 => Ok(()),
            error => Err(Errno::new(error)),
        }
    }

    /// As [`Self::receive_into`], straight into the sink's own room, if it has some.
    fn receive_room(
        &self,
        sink: &mut dyn Sink,
        wanted: usize,
        flags: u32,
    ) -> Result<Option<host::Message>, Errno> {
        if flags & msg::TRUNC != 0 {
            return Ok(None);
        }
        let Some(mut room) = sink.room(wanted) else { return Ok(None) };
        let message = host::receive_bulk(&self.fd, &mut room, flags & RECEIVE_FLAGS)?;
        sink.filled(message.len)?;
        Ok(Some(message))
    }

    /// Bytes and all from the host; `into` gets what the guest is to have.
    fn receive_into(
        &self,
        buffer: &mut [u8],
        sink: &mut dyn Sink,
        flags: u32,
    ) -> Result<host::Message, Errno> {
        let message = host::receive(&self.fd, buffer, flags & RECEIVE_FLAGS)?;
        // LINUX: tcp(7), a stream received with MSG_TRUNC is thrown away.
        let is_discarded = self.kind == Kind::Stream && flags & msg::TRUNC != 0;
        let there = message.len.min(buffer.len());
        if !is_discarded && there > 0 && sink.write(&buffer[..there])? < there {
            return Err(Errno::EFAULT);
        }
        Ok(message)
    }

    fn check_port(&self, task: &Task, address: &[u8]) -> Result<(), Errno> {
        let port = address.get(2..4).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
        let is_low = port != 0 && u32::from(port) < task.kernel.machine.sysctls.unprivileged_port_start();
        if is_low && !task.credentials().has(Capability::NetBindService) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }
}

/// The call may wait.
fn would_wait(op: &Op<'_>, flags: u32) -> bool {
    const O_NONBLOCK: u32 = 0o4000;
    op.flags & O_NONBLOCK == 0 && flags & (msg::DONTWAIT | msg::ERRQUEUE) == 0
}

/// The control messages that go with what a guest sends. LINUX: `ip_cmsg_send`, `ip6_datagram_send_ctl`, `udp_cmsg_send`.
fn allowed_control(messages: &[Cmsg]) -> Result<Vec<u8>, Errno> {
    let mut kept = Vec::new();
    for message in messages {
        match (message.level, message.kind) {
            // LINUX: __sock_cmsg_send, they mean nothing here.
            (so::SOL_SOCKET, so::SCM_RIGHTS | so::SCM_CREDENTIALS) => {}
            (so::SOL_IP, so::IP_PKTINFO | so::IP_TTL | so::IP_TOS)
            | (so::SOL_IPV6, so::IPV6_PKTINFO | so::IPV6_HOPLIMIT | so::IPV6_TCLASS) => {
                kept.push(message.clone());
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(control::encode(&kept))
}

impl FileOps for InetSocket {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        Socket::receive(self, op, sink, 0).map(|received| received.len)
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        Socket::send(self, op, &mut Outgoing { source, address: None, control: &[], flags: 0 })
    }

    fn readiness(&self) -> Events {
        Events::from_bits_truncate(u32::from(poller::readiness(&self.fd)))
    }

    fn host_descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn ioctl(&self, current: &mut Current, _: &Arc<OpenFile>, command: u32, arg: u64) -> Result<u64, Errno> {
        let count = match command {
            ioctl::FIONREAD => host::unread(&self.fd)?,
            ioctl::SIOCOUTQ => host::unsent(&self.fd)?,
            ioctl::SIOCATMARK => u64::from(host::is_at_mark(&self.fd)?),
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

impl Socket for InetSocket {
    fn family(&self) -> u16 {
        self.family
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &Arc<Task>, address: &[u8]) -> Result<(), Errno> {
        self.check_port(task, address)?;
        host::bind(&self.fd, address)
    }

    fn connect(&self, current: &mut Current, address: &[u8], patience: Patience) -> Result<(), Errno> {
        match (host::connect(&self.fd, address), patience) {
            (Err(Errno::EINPROGRESS | Errno::EALREADY), Patience::Until(deadline)) => {
                self.wait_connected(current, deadline)
            }
            (result, _) => result,
        }
    }

    fn listen(&self, _: &Arc<Task>, backlog: i32) -> Result<(), Errno> {
        host::listen(&self.fd, backlog)
    }

    fn accept(&self, task: &Arc<Task>) -> Result<Accepted, Errno> {
        let place = task.kernel.net.host_place(task)?;
        let fd = host::accept(&self.fd).map_err(descriptor_error)?;
        // LINUX: inet_accept, a connection that is gone by now.
        let address = host::peer_name(&fd).map_err(|_| Errno::ECONNABORTED)?;
        let ops = Self::wrap(&task.kernel, fd, self.family, self.kind, place);
        Ok(Accepted { ops, address })
    }

    fn send(&self, _: &Op<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let len = message.source.remaining();
        let is_stream = self.kind == Kind::Stream;
        if !is_stream && len > DATAGRAM_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let control = allowed_control(message.control)?;
        let flags = message.flags & SEND_FLAGS;
        if let Some(bytes) = message.source.peek(len.min(STEP)) {
            let sent = host::send_bulk(&self.fd, &bytes, message.address, &control, flags)?;
            return message.source.skip(sent).map(|()| sent);
        }
        copy_buffer(len.min(STEP), |buffer| {
            let got = if buffer.is_empty() { 0 } else { message.source.read(buffer)? };
            if got < buffer.len() && !is_stream {
                return Err(Errno::EFAULT);
            }
            host::send(&self.fd, &buffer[..got], message.address, &control, flags)
        })
    }

    fn receive(&self, op: &Op<'_>, sink: &mut dyn Sink, flags: u32) -> Result<Received, Errno> {
        let wanted = sink.remaining().min(STEP);
        let received = match self.receive_room(sink, wanted, flags) {
            Ok(None) => copy_buffer(wanted, |buffer| self.receive_into(buffer, sink, flags)),
            received => received.map(Option::unwrap_or_default),
        };
        let message = match received {
            // LINUX: __skb_wait_for_more_packets: who would wait learns that nothing comes any more.
            Err(Errno::EAGAIN) if self.is_deaf.load(Ordering::Acquire) && would_wait(op, flags) => {
                return Ok(Received::default());
            }
            received => received?,
        };
        let control = control::decode(&message.control).unwrap_or_default();
        Ok(Received {
            len: message.len,
            flags: message.flags & (msg::TRUNC | msg::CTRUNC | msg::OOB | msg::ERRQUEUE | msg::EOR),
            address: (!message.address.is_empty()).then_some(message.address),
            control: control.into_iter().map(ControlOut::Plain).collect(),
            is_boundary: false,
        })
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        if self.kind == Kind::Datagram && how != Shutdown::Write {
            self.is_deaf.store(true, Ordering::Release);
        }
        host::shutdown(&self.fd, how as u8)
    }

    fn get_option(&self, task: &Arc<Task>, level: i32, name: i32, room: usize) -> Result<Vec<u8>, Errno> {
        match self.common.get(level, name) {
            Some(value) => Ok(value),
            None if (level, name) == (so::SOL_SOCKET, so::SO_PASSCRED) => {
                Ok(i32::from(self.common.passes_credentials()).to_ne_bytes().to_vec())
            }
            None => options::get(&self.fd, task, level, name, room),
        }
    }

    fn set_option(&self, task: &Arc<Task>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        match self.common.set(level, name, value) {
            Some(result) => result,
            None if (level, name) == (so::SOL_SOCKET, so::SO_PASSCRED) => {
                self.common.set_passes_credentials(value)
            }
            None => options::set(&self.fd, task, level, name, value),
        }
    }

    fn local_name(&self) -> Result<Vec<u8>, Errno> {
        host::local_name(&self.fd)
    }

    fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        host::peer_name(&self.fd)
    }
}
