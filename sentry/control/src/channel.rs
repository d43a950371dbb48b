//! How control messages travel: JSON frames with a length in front, over a Unix stream socket, descriptors attached.
//!
//! A frame is a 4-byte little-endian length and that many bytes of JSON. Descriptors ride on the frame's
//! first byte, so they are received together with the length. Blocking; one reader and any number of
//! writers (a lock makes frames whole). Limits: [`FRAME_MAX`] bytes, [`FDS_MAX`] descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest frame, in bytes. A config with megabytes of environment still fits.
pub const FRAME_MAX: usize = 16 << 20;
/// Most descriptors on one frame.
pub const FDS_MAX: usize = 8;

/// What can go wrong on a control socket.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side has gone.
    #[error("control socket closed by the other side")]
    Closed,
    /// The host refused.
    #[error("control socket")]
    Io(#[from] std::io::Error),
    /// Not one of our messages.
    #[error("malformed control message")]
    Malformed(#[from] serde_json::Error),
    /// Over the limit.
    #[error("control message of {0} bytes is over the limit")]
    TooLong(usize),
    /// Likewise.
    #[error("control message with more than {FDS_MAX} descriptors")]
    TooManyDescriptors,
}

/// One end of a control socket.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    /// LOCK: held while one frame is written.
    writing: Mutex<()>,
}

impl Channel {
    /// Takes a connected stream socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, writing: Mutex::new(()) }
    }

    /// Sends one message with descriptors.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] if the peer has gone, [`ChannelError::TooLong`], or the host's error.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let body = serde_json::to_vec(message)?;
        if body.len() > FRAME_MAX {
            return Err(ChannelError::TooLong(body.len()));
        }
        let mut frame = u32::try_from(body.len()).expect("FRAME_MAX fits").to_le_bytes().to_vec();
        frame.extend_from_slice(&body);

        let guard = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)), "at most FDS_MAX descriptors");
        }
        let mut sent = 0;
        while sent < frame.len() {
            let slice = [IoSlice::new(&frame[sent..])];
            match rustix::net::sendmsg(&self.socket, &slice, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(n) => sent += n,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => {
                    return Err(ChannelError::Closed);
                }
                Err(e) => return Err(ChannelError::Io(e.into())),
            }
            ancillary.clear();
        }
        drop(guard);
        Ok(())
    }

    /// Receives one message and its descriptors; blocks until one is there.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] at end of file, or as for [`Channel::send`].
    pub fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        let mut fds = Vec::new();
        let mut head = [0; 4];
        self.fill(&mut head, &mut fds)?;
        let length = u32::from_le_bytes(head) as usize;
        if length > FRAME_MAX {
            return Err(ChannelError::TooLong(length));
        }
        let mut body = vec![0; length];
        self.fill(&mut body, &mut fds)?;
        Ok((serde_json::from_slice(&body)?, fds))
    }

    fn fill(&self, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), ChannelError> {
        let mut done = 0;
        while done < buffer.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut slice = [IoSliceMut::new(&mut buffer[done..])];
            let n =
                match rustix::net::recvmsg(&self.socket, &mut slice, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
                {
                    Ok(message) => message.bytes,
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(rustix::io::Errno::CONNRESET) => 0,
                    Err(e) => return Err(ChannelError::Io(e.into())),
                };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                    if fds.len() > FDS_MAX {
                        return Err(ChannelError::TooManyDescriptors);
                    }
                }
            }
            if n == 0 {
                return Err(ChannelError::Closed);
            }
            done += n;
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
