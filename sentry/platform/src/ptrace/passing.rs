//! How a descriptor gets into a stub to be mapped there: by a socket that all stubs have inherited.
//!
//! Key type: [`Passing`]. One descriptor is on its way at a time, in the whole sandbox: all stubs have the same end of the socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux_abi::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType,
};

use crate::stub::arena::Window;
use crate::stub::layout::{ARENA_FD, RW, SOCKET_FD};

/// Where the parts of the message lie in the hand-over page.
mod offset {
    /// `struct msghdr`.
    pub const HEADER: u64 = 0x200;
    /// `struct iovec`.
    pub const PIECE: u64 = 0x240;
    /// One control message with one descriptor: 16 bytes of header, the number, padding.
    pub const CONTROL: u64 = 0x250;
    /// The one byte of the message.
    pub const BYTE: u64 = 0x268;
    /// Bytes of all that.
    pub const LEN: u64 = 0x70;
}
/// Bytes of the control message.
const CONTROL_LEN: u64 = 24;
/// Highest number that a passed descriptor can have: stubs keep none but two.
const NUMBER_MAX: u32 = 64;

/// The socket.
#[derive(Debug)]
pub struct Passing {
    ours: OwnedFd,
    /// The end that stubs have: to take back what a stub did not take.
    theirs: OwnedFd,
}

impl Passing {
    /// A new socket.
    ///
    /// # Errors
    /// The host's.
    pub fn new() -> std::io::Result<Self> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok(Self { ours, theirs })
    }

    /// The end that stubs inherit.
    #[must_use]
    pub fn theirs(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// Sends a descriptor to whichever stub receives next.
    ///
    /// # Errors
    /// The host's errno.
    pub fn send(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let files = [file];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&self.ours, &[IoSlice::new(&[0])], &mut control, flags)
            .map(drop)
            .map_err(|error| Errno::new(error.raw_os_error()))
    }

    /// Takes back what was sent and not received.
    pub fn drain(&self) {
        let mut byte = [0_u8; 1];
        // Without room for them the descriptors are closed. Nothing there: EAGAIN.
        let mut take = || {
            let mut nothing = RecvAncillaryBuffer::new(&mut []);
            let mut pieces = [IoSliceMut::new(&mut byte)];
            rustix::net::recvmsg(&self.theirs, &mut pieces, &mut nothing, RecvFlags::DONTWAIT)
        };
        while take().is_ok_and(|received| received.bytes > 0) {}
    }
}

/// Writes into the hand-over page what `recvmsg` needs, and answers its arguments. `slot` is the page's address in the stub.
pub fn prepare_receive(window: &Window, slot: u64) -> [u64; 6] {
    /// `MSG_DONTWAIT | MSG_CMSG_CLOEXEC`.
    const FLAGS: u64 = 0x40 | 0x4000_0000;
    let page = slot + RW;
    window.zero(RW + offset::HEADER, offset::LEN);
    let header = RW + offset::HEADER;
    window.set64(header + 16, page + offset::PIECE);
    window.set64(header + 24, 1);
    window.set64(header + 32, page + offset::CONTROL);
    window.set64(header + 40, CONTROL_LEN);
    window.set64(RW + offset::PIECE, page + offset::BYTE);
    window.set64(RW + offset::PIECE + 8, 1);
    window.set32(RW + offset::CONTROL + 16, u32::MAX);
    [SOCKET_FD, page + offset::HEADER, FLAGS, 0, 0, 0]
}

/// The number of the descriptor that the stub has received. Other guest threads may have changed it: then it is none of the stub's own
/// two, and the worst they get is a mapping of nothing, or of a file that they were given before.
pub fn received(window: &Window) -> Option<u64> {
    let number = window.get32(RW + offset::CONTROL + 16);
    let reserved = [ARENA_FD, SOCKET_FD];
    (number <= NUMBER_MAX && !reserved.contains(&u64::from(number))).then_some(u64::from(number))
}
