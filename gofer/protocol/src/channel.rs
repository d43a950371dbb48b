//! One SEQPACKET socket: sending and receiving one record, with or without a descriptor.
//!
//! Key type: [`Channel`], used by both ends. It knows records and sizes, not operations.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno as HostErrno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::wire::{HEADER, Header, MESSAGE_MAX};

/// Why a record could not be sent or received. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side has gone.
    #[error("closed by the other side")]
    Closed,
    /// Longer than [`MESSAGE_MAX`], or shorter than a header.
    #[error("record of a wrong length")]
    Length,
    /// The host refused.
    #[error("gofer socket")]
    Host(#[source] std::io::Error),
}

impl From<HostErrno> for ChannelError {
    fn from(errno: HostErrno) -> Self {
        match errno {
            HostErrno::PIPE | HostErrno::CONNRESET | HostErrno::NOTCONN => Self::Closed,
            HostErrno::MSGSIZE => Self::Length,
            other => Self::Host(other.into()),
        }
    }
}

/// A received record: its header; the rest is in the channel's buffer.
#[derive(Debug)]
pub struct Record<'a> {
    /// The header, unchecked.
    pub header: Header,
    /// What follows it.
    pub body: &'a [u8],
    /// A descriptor, if one came along and was wanted.
    pub fd: Option<OwnedFd>,
    /// One came along that the kernel could not give us: this process has no room for it.
    pub is_fd_lost: bool,
}

/// May a record bring a descriptor? The gofer accepts none from the sentry: the kernel then drops them unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptors {
    /// Take one.
    Accept,
    /// Let the kernel discard them.
    Refuse,
}

/// A connected SEQPACKET socket and its receive buffer.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Channel {
    /// Takes a connected `SOCK_SEQPACKET` Unix socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; MESSAGE_MAX] }
    }

    /// Sends one record made of `parts`, with at most one descriptor.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn send(
        &self,
        header: Header,
        parts: &[&[u8]],
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), ChannelError> {
        let length = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
        if length > MESSAGE_MAX {
            return Err(ChannelError::Length);
        }
        let slices: Vec<IoSlice<'_>> =
            std::iter::once(header.as_bytes()).chain(parts.iter().copied()).map(IoSlice::new).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let donated: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !donated.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&donated)), "room for one descriptor");
        }
        loop {
            match rustix::net::sendmsg(&self.socket, &slices, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()), // SEQPACKET: all or nothing
                Err(HostErrno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits for one record.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn receive(&mut self, descriptors: Descriptors) -> Result<Record<'_>, ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let control = match descriptors {
            Descriptors::Accept => &mut space[..],
            Descriptors::Refuse => &mut [],
        };
        let mut ancillary = RecvAncillaryBuffer::new(control);
        let message = loop {
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message,
                Err(HostErrno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let mut fd = None;
        for rights in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut received) = rights {
                fd = received.next().or(fd);
            }
        }
        if message.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::Length);
        }
        let is_fd_lost =
            descriptors == Descriptors::Accept && fd.is_none() && message.flags.contains(ReturnFlags::CTRUNC);
        let (header, body) =
            Header::read_from_prefix(&self.buffer[..message.bytes]).map_err(|_| ChannelError::Length)?;
        Ok(Record { header, body, fd, is_fd_lost })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
