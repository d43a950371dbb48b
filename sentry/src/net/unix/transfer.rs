//! How do messages go through `AF_UNIX` sockets? LINUX: `unix_stream_sendmsg`, `unix_dgram_sendmsg` and their counterparts.

use std::sync::Arc;

use linux_abi::net::msg;

use super::name::{Name, address_of, find};
use super::queue::{Identity, Packet, bury};
use super::rights::{Rights, take_control};
use super::{Phase, SHUT_READ, SHUT_WRITE, State, UnixSocket};
use crate::Errno;
use crate::io::Sink;
use crate::net::control::ControlOut;
use crate::net::{Kind, Outgoing, Received, lock};
use crate::sync::Events;
use crate::task::Task;
use crate::vfs::Op;

/// Most bytes of one packet of a stream, and of what is copied at a time. LINUX: `SKB_MAX_ALLOC` and fragments: 32 to 64 KiB.
const CHUNK_MAX: usize = 64 << 10;
/// Datagrams that may wait at a socket that is not connected to their sender. LINUX: `net.unix.max_dgram_qlen`, which
/// distributions raise to this.
const DATAGRAMS_MAX: usize = 512;
/// What a datagram may not take of the send buffer. LINUX: `unix_dgram_sendmsg`.
const DATAGRAM_RESERVE: usize = 32;
const O_NONBLOCK: u32 = 0o4000;

impl UnixSocket {
    /// `sendmsg(2)`.
    pub(super) fn send(&self, op: &Op<'_>, message: &mut Outgoing<'_>) -> Result<usize, Errno> {
        let (rights, identity) = take_control(op.task, message.control)?;
        if message.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let (name, is_shut, passes) = {
            let state = lock(&self.state);
            (state.name.clone(), state.shutdown & SHUT_WRITE != 0, state.own.passes_credentials)
        };
        match self.kind {
            Kind::Stream => self.send_stream(message, (name, is_shut), rights, identity),
            _ => {
                if passes && name.is_none() {
                    self.bind_auto()?;
                }
                let name = lock(&self.state).name.clone();
                self.send_datagram(op.task, message, (name, is_shut), rights, identity)
            }
        }
    }

    fn send_stream(
        &self,
        message: &mut Outgoing<'_>,
        (name, is_shut): (Option<Arc<Name>>, bool),
        mut rights: Option<Rights>,
        identity: Identity,
    ) -> Result<usize, Errno> {
        let peer = self.peer();
        if message.address.is_some() {
            return Err(if peer.is_some() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = peer.ok_or(Errno::ENOTCONN)?;
        if is_shut {
            return Err(Errno::EPIPE);
        }
        let mut sent = 0;
        while message.source.remaining() > 0 {
            let result = self.send_chunk(&peer, message, name.as_ref(), &mut rights, &identity);
            match result {
                Ok(n) => sent += n,
                Err(_) if sent > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(sent)
    }

    fn send_chunk(
        &self,
        peer: &Arc<Self>,
        message: &mut Outgoing<'_>,
        name: Option<&Arc<Name>>,
        rights: &mut Option<Rights>,
        identity: &Identity,
    ) -> Result<usize, Errno> {
        if !peer.takes_more() {
            return Err(Errno::EPIPE);
        }
        if !self.account.has_room() {
            return Err(Errno::EAGAIN);
        }
        // LINUX: two packets fit into the send buffer.
        let limit = (self.account.limit() / 2).saturating_sub(64).clamp(1, CHUNK_MAX);
        let data = message.source.read_to_vec(limit)?;
        let len = data.len();
        let packet = Packet::new(&self.account, data, name.cloned(), identity.clone(), rights.take())?;
        peer.push(packet)?;
        Ok(len)
    }

    fn takes_more(&self) -> bool {
        let state = lock(&self.state);
        !state.is_dead && state.shutdown & SHUT_READ == 0
    }

    /// Queues a packet; EPIPE if nobody will read it.
    fn push(&self, packet: Packet) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        if state.is_dead || state.shutdown & SHUT_READ != 0 {
            drop(state);
            bury([packet]);
            return Err(Errno::EPIPE);
        }
        state.bytes += packet.bytes().len();
        state.packets.push_back(packet);
        drop(state);
        self.account.queue.wake(Events::READABLE);
        Ok(())
    }

    fn send_datagram(
        &self,
        task: &Arc<Task>,
        message: &mut Outgoing<'_>,
        (name, is_shut): (Option<Arc<Name>>, bool),
        rights: Option<Rights>,
        identity: Identity,
    ) -> Result<usize, Errno> {
        // LINUX: unix_seqpacket_sendmsg: what has gone wrong is told first.
        if self.kind == Kind::SeqPacket
            && let Some(errno) = lock(&self.state).error.take()
        {
            return Err(errno);
        }
        // LINUX: sock_alloc_send_pskb comes before the peer is looked for.
        let is_too_long = message.source.remaining() > self.account.limit().saturating_sub(DATAGRAM_RESERVE);
        if is_shut && !is_too_long {
            return Err(Errno::EPIPE);
        }
        let target = match message.address.filter(|_| self.kind == Kind::Datagram) {
            Some(address) => find(task, address, self.kind)?,
            None => self.peer().ok_or(Errno::ENOTCONN)?,
        };
        if is_too_long {
            return Err(Errno::EMSGSIZE);
        }
        if lock(&target.state).is_dead {
            return Err(self.lose_peer(&target));
        }
        if !self.may_send_to(&target) {
            return Err(Errno::EPERM);
        }
        if !target.takes_more() {
            return Err(Errno::EPIPE);
        }
        if !self.account.has_room() || self.is_full(&target) {
            return Err(Errno::EAGAIN);
        }
        let len = message.source.remaining();
        let data = message.source.read_to_vec(len)?;
        if data.len() < len {
            return Err(Errno::EFAULT);
        }
        let packet = Packet::new(&self.account, data, name, identity, rights)?;
        target.push(packet)?;
        Ok(len)
    }

    /// The peer has been closed.
    fn lose_peer(&self, peer: &Arc<Self>) -> Errno {
        if self.kind == Kind::SeqPacket {
            return Errno::EPIPE;
        }
        let mut state = lock(&self.state);
        let is_peer = matches!(&state.phase, Phase::Connected(there) if Arc::ptr_eq(there, peer));
        let old = is_peer.then(|| std::mem::replace(&mut state.phase, Phase::Idle));
        drop(state);
        if old.is_some() {
            // LINUX: unix_dgram_disconnected: what it has sent goes with it.
            bury(self.take_packets());
        }
        Errno::ECONNREFUSED
    }

    /// No more datagrams fit into the target's queue; we are told when there is room again.
    fn is_full(&self, target: &Arc<Self>) -> bool {
        if std::ptr::eq(Arc::as_ptr(target), self) || target.is_peer_of(self) && self.is_peer_of(target) {
            return false;
        }
        let mut state = lock(&target.state);
        if state.packets.len() <= DATAGRAMS_MAX {
            return false;
        }
        let me = Arc::downgrade(&self.account);
        state.waiting.retain(|there| there.strong_count() > 0);
        if !state.waiting.iter().any(|there| there.ptr_eq(&me)) {
            state.waiting.push(me);
        }
        true
    }

    /// A connected datagram socket whose peer takes no more is not writable. LINUX: `unix_dgram_poll`.
    pub(super) fn is_peer_full(&self) -> bool {
        self.kind == Kind::Datagram && self.peer().is_some_and(|peer| self.is_full(&peer))
    }

    /// `recvmsg(2)`. Guest memory is written under the lock, so that a fault loses nothing.
    pub(super) fn receive(&self, op: &Op<'_>, sink: &mut dyn Sink, flags: u32) -> Result<Received, Errno> {
        if flags & msg::ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        let mut done = Vec::new();
        let result = match self.kind {
            Kind::Stream => self.receive_stream(op, sink, flags, &mut done),
            _ => self.receive_datagram(op, sink, flags, &mut done),
        };
        bury(done);
        self.wake_senders();
        result
    }

    fn receive_stream(
        &self,
        op: &Op<'_>,
        sink: &mut dyn Sink,
        flags: u32,
        done: &mut Vec<Packet>,
    ) -> Result<Received, Errno> {
        let mut state = lock(&self.state);
        if flags & msg::OOB != 0 || !matches!(state.phase, Phase::Connected(_)) {
            return Err(Errno::EINVAL);
        }
        let is_peek = flags & msg::PEEK != 0;
        let mut received = Received { address: Some(address_of(None)), ..Received::default() };
        let mut sender: Option<Identity> = None;
        let mut at = 0;
        let passes = state.own.passes_credentials;
        while let Some(packet) = state.packets.get_mut(at) {
            match &sender {
                None => received.address = Some(address_of(packet.from.as_ref())),
                // LINUX: what different tasks sent is not glued together where credentials are passed.
                Some(first) if passes && *first != packet.identity => {
                    received.is_boundary = true;
                    break;
                }
                Some(_) if sink.remaining() == 0 => break,
                Some(_) => {}
            }
            let copied = match put(sink, packet.bytes()) {
                Ok(n) => n,
                Err(errno) if sender.is_none() => return Err(errno),
                Err(_) => break,
            };
            sender.get_or_insert_with(|| packet.identity.clone());
            received.len += copied;
            let is_whole = copied == packet.bytes().len();
            let has_rights = take_rights(packet, is_peek, &mut received);
            if is_peek {
                at += 1;
            } else {
                packet.advance(copied);
                state.bytes = state.bytes.saturating_sub(copied);
                if is_whole {
                    done.extend(state.packets.pop_front());
                }
            }
            if has_rights || !is_whole {
                received.is_boundary = has_rights;
                break;
            }
        }
        let Some(sender) = sender else { return self.receive_nothing(&mut state, op, flags, received) };
        if passes {
            received.control.insert(0, ControlOut::Credentials(sender.seen_by(op.task)));
        }
        Ok(received)
    }

    fn receive_datagram(
        &self,
        op: &Op<'_>,
        sink: &mut dyn Sink,
        flags: u32,
        done: &mut Vec<Packet>,
    ) -> Result<Received, Errno> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = lock(&self.state);
        if self.kind == Kind::SeqPacket && !matches!(state.phase, Phase::Connected(_)) {
            return Err(Errno::ENOTCONN);
        }
        // LINUX: __skb_try_recv_datagram: an error comes before what waits.
        if let Some(errno) = state.error.take() {
            return Err(errno);
        }
        let (passes, timestamp) = (state.own.passes_credentials, state.own.timestamp);
        let is_peek = flags & msg::PEEK != 0;
        let mut received = Received { address: Some(address_of(None)), ..Received::default() };
        let Some(packet) = state.packets.front_mut() else {
            return self.receive_nothing(&mut state, op, flags, received);
        };
        let len = packet.bytes().len();
        let room = sink.remaining().min(len);
        let copied = put(sink, packet.bytes());
        received.address = Some(address_of(packet.from.as_ref()));
        received.len = if flags & msg::TRUNC != 0 { len } else { room };
        received.flags = if room < len { msg::TRUNC } else { 0 };
        if passes {
            received.control.push(ControlOut::Credentials(packet.identity.seen_by(op.task)));
        }
        take_rights(packet, is_peek, &mut received);
        received.control.extend(timestamp.map(|timestamp| ControlOut::Plain(timestamp.message())));
        if !is_peek {
            state.bytes = state.bytes.saturating_sub(len);
            done.extend(state.packets.pop_front());
        }
        // LINUX: a datagram that could not be copied is lost.
        if copied? < room { Err(Errno::EFAULT) } else { Ok(received) }
    }

    fn receive_nothing(
        &self,
        state: &mut State,
        op: &Op<'_>,
        flags: u32,
        mut received: Received,
    ) -> Result<Received, Errno> {
        if let Some(errno) = state.error.take() {
            return Err(errno);
        }
        let is_nonblocking = op.flags & O_NONBLOCK != 0 || flags & msg::DONTWAIT != 0;
        let is_shut = state.shutdown & SHUT_READ != 0;
        if is_shut && !(self.kind == Kind::Datagram && is_nonblocking) {
            received.is_boundary = true;
            return Ok(received);
        }
        Err(Errno::EAGAIN)
    }
}

/// Puts bytes; none at all never faults.
fn put(sink: &mut dyn Sink, bytes: &[u8]) -> Result<usize, Errno> {
    let room = sink.remaining().min(bytes.len());
    if room == 0 { Ok(0) } else { sink.write(&bytes[..room]) }
}

/// Hands the packet's files over; a peek gives them and keeps them.
fn take_rights(packet: &mut Packet, is_peek: bool, received: &mut Received) -> bool {
    let Some(rights) = &packet.rights else { return false };
    received.control.push(ControlOut::Rights(rights.files()));
    if !is_peek {
        packet.rights = None;
    }
    true
}
