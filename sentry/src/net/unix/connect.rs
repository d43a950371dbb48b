//! How do `AF_UNIX` sockets get connected? LINUX: `unix_stream_connect`, `unix_dgram_connect`, `unix_accept`.

use std::collections::VecDeque;
use std::sync::Arc;

use linux_abi::net::family::AF_UNSPEC;

use super::name::{Name, address_of, find};
use super::queue::Identity;
use super::{Phase, SHUT_READ, UnixSocket};
use crate::Errno;
use crate::net::{Kind, Patience, lock};
use crate::sync::Events;
use crate::task::{Current, Task, WaitEnd};

/// Most connections that wait to be accepted. LINUX: `net.core.somaxconn`.
const BACKLOG_MAX: u32 = 4096;

impl UnixSocket {
    /// `listen(2)`.
    pub(super) fn listen(&self, task: &Arc<Task>, backlog: i32) -> Result<(), Errno> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let limit = usize::try_from(backlog.cast_unsigned().min(BACKLOG_MAX)).unwrap_or(0);
        let mut state = lock(&self.state);
        if state.name.is_none() {
            return Err(Errno::EINVAL);
        }
        match &mut state.phase {
            Phase::Idle => {
                state.phase = Phase::Listening { backlog: limit, pending: VecDeque::new() };
            }
            Phase::Listening { backlog, .. } => *backlog = limit,
            _ => return Err(Errno::EINVAL),
        }
        state.peer_identity = Some(Identity::effective(task));
        drop(state);
        self.room.wake(Events::WRITABLE);
        Ok(())
    }

    /// `accept(2)`.
    pub(super) fn accept(&self) -> Result<Arc<Self>, Errno> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let accepted = {
            let mut state = lock(&self.state);
            let is_shut = state.shutdown & SHUT_READ != 0;
            let Phase::Listening { pending, .. } = &mut state.phase else { return Err(Errno::EINVAL) };
            match pending.pop_front() {
                Some(socket) => socket,
                None => return Err(if is_shut { Errno::EINVAL } else { Errno::EAGAIN }),
            }
        };
        lock(&accepted.state).is_pending = false;
        self.room.wake(Events::WRITABLE);
        Ok(accepted)
    }

    /// `connect(2)`.
    pub(super) fn connect(
        &self,
        current: &mut Current,
        address: &[u8],
        patience: Patience,
    ) -> Result<(), Errno> {
        if lock(&self.state).own.passes_credentials && lock(&self.state).name.is_none() {
            self.bind_auto()?;
        }
        if self.kind == Kind::Datagram {
            return self.connect_datagram(current.task(), address);
        }
        loop {
            let listener = find(current.task(), address, self.kind)?;
            match (self.try_connect(current.task(), &listener), patience) {
                (Err(Errno::EAGAIN), Patience::Until(deadline)) => {
                    let end = current.wait(&[(&listener.room, Events::WRITABLE)], deadline, |_| {
                        listener.has_place().then_some(())
                    });
                    match end {
                        Ok(()) => {}
                        Err(WaitEnd::Interrupted) => return Err(Errno::ERESTARTSYS),
                        Err(WaitEnd::TimedOut) => return Err(Errno::EAGAIN),
                    }
                }
                (result, _) => return result,
            }
        }
    }

    /// A connection can be queued, or has become impossible.
    fn has_place(&self) -> bool {
        let state = lock(&self.state);
        match &state.phase {
            Phase::Listening { backlog, pending } => {
                pending.len() <= *backlog || state.shutdown & SHUT_READ != 0
            }
            _ => true,
        }
    }

    /// Connects, or says EAGAIN for a full queue.
    pub(super) fn try_connect(&self, task: &Arc<Task>, listener: &Arc<Self>) -> Result<(), Errno> {
        {
            let mut state = lock(&self.state);
            match state.phase {
                Phase::Idle if !state.is_dead => state.phase = Phase::Connecting,
                Phase::Connected(_) => return Err(Errno::EISCONN),
                Phase::Connecting => return Err(Errno::EALREADY),
                _ => return Err(Errno::EINVAL),
            }
        }
        let result = self.queue_at(task, listener);
        let mut state = lock(&self.state);
        match result {
            Ok((server, identity)) => {
                state.phase = Phase::Connected(server);
                state.peer_identity = identity;
            }
            Err(errno) => {
                state.phase = Phase::Idle;
                return Err(errno);
            }
        }
        drop(state);
        self.wake_all();
        listener.account.queue.wake_one(Events::READABLE);
        Ok(())
    }

    /// Makes the server's end and queues it at the listener.
    fn queue_at(
        &self,
        task: &Arc<Task>,
        listener: &Arc<Self>,
    ) -> Result<(Arc<Self>, Option<Identity>), Errno> {
        let me = self.me.upgrade().ok_or(Errno::ECONNREFUSED)?;
        let server = Self::new(&self.namespace, self.kind)?;
        {
            let mut state = lock(&server.state);
            state.phase = Phase::Connected(me);
            state.peer_identity = Some(Identity::effective(task));
            state.is_pending = true;
        }
        let mut state = lock(&listener.state);
        if state.shutdown & SHUT_READ != 0 || state.is_dead {
            return Err(Errno::ECONNREFUSED);
        }
        let name: Option<Arc<Name>> = state.name.clone();
        let identity = state.peer_identity.clone();
        let Phase::Listening { backlog, pending } = &mut state.phase else {
            return Err(Errno::ECONNREFUSED);
        };
        if pending.len() > *backlog {
            return Err(Errno::EAGAIN);
        }
        // LOCK: the new socket is known to nobody else yet.
        lock(&server.state).name = name;
        pending.push_back(Arc::clone(&server));
        Ok((server, identity))
    }

    pub(super) fn connect_datagram(&self, task: &Arc<Task>, address: &[u8]) -> Result<(), Errno> {
        let family = address.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
        let phase = if family == Some(AF_UNSPEC) {
            Phase::Idle
        } else {
            let peer = find(task, address, self.kind)?;
            if !self.may_send_to(&peer) {
                return Err(Errno::EPERM);
            }
            Phase::Connected(peer)
        };
        let old = std::mem::replace(&mut lock(&self.state).phase, phase);
        drop(old);
        self.wake_all();
        Ok(())
    }

    /// LINUX: `unix_may_send`: a connected socket hears only its peer.
    pub(super) fn may_send_to(&self, other: &Self) -> bool {
        match &lock(&other.state).phase {
            Phase::Connected(peer) => std::ptr::eq(Arc::as_ptr(peer), self),
            _ => true,
        }
    }

    /// `getpeername(2)`.
    pub(super) fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        let name = lock(&peer.state).name.clone();
        Ok(address_of(name.as_ref()))
    }
}
