//! How long does a call on a socket wait, and what does it do about a message that goes in parts?
//!
//! Key functions: [`send`], [`receive`]; [`read`] and [`write`] are what `read(2)`, `write(2)` and theirs do with a socket.

use std::sync::Arc;

use linux_abi::net::msg;
use linux_abi::signal::SigInfo;
use linux_abi::{Errno, TASK_SIZE, UserPtr};
use sentry::net::control::Cmsg;
use sentry::net::options::Direction;
use sentry::net::{Kind, Outgoing, Received, deadline};
use sentry::sync::Events;
use sentry::task::signal::{Sender, Signal};
use sentry::task::{Current, Iovec, RW_MAX};
use sentry::vfs::OpenFile;

use super::socket;

/// A message of the guest's.
pub(super) struct Message {
    /// Where its bytes are.
    pub(super) pieces: Vec<Iovec>,
    /// Where it goes.
    pub(super) address: Option<Vec<u8>>,
    /// What goes with it.
    pub(super) control: Vec<Cmsg>,
    /// `MSG_*`.
    pub(super) flags: u32,
}

/// A buffer of the guest's as the only piece.
///
/// # Errors
/// EFAULT if it is not in user space at all.
pub(crate) fn one_piece(buf: UserPtr<u8>, len: usize) -> Result<Vec<Iovec>, Errno> {
    let len = (len as u64).min(RW_MAX);
    if buf.addr().checked_add(len).is_none_or(|end| end > TASK_SIZE) {
        return Err(Errno::EFAULT);
    }
    Ok(vec![Iovec { base: buf.addr(), len }])
}

/// What is left after `n` bytes.
fn advance(pieces: &mut Vec<Iovec>, mut n: usize) {
    pieces.retain_mut(|piece| {
        let step = piece.len.min(n as u64);
        piece.base = piece.base.wrapping_add(step);
        piece.len -= step;
        n -= usize::try_from(step).unwrap_or(n);
        piece.len > 0
    });
}

fn length(pieces: &[Iovec]) -> usize {
    usize::try_from(pieces.iter().map(|piece| piece.len).sum::<u64>()).unwrap_or(usize::MAX)
}

/// LINUX: `sock_intr_errno`: a call with a time limit is not begun again.
pub(super) fn interrupted(errno: Errno, deadline: Option<u64>) -> Errno {
    if errno == Errno::ERESTARTSYS && deadline.is_some() { Errno::EINTR } else { errno }
}

/// Sends all of a message, waiting for room; a stream may have to stop in between.
pub(super) fn send(current: &mut Current, file: &Arc<OpenFile>, message: Message) -> Result<usize, Errno> {
    let endpoint = socket(file)?;
    let is_stream = endpoint.kind() == Kind::Stream;
    let deadline = deadline(endpoint, Direction::Send);
    let Message { pieces: mut rest, address, control, flags } = message;
    let total = length(&rest);
    let mut done = 0;
    let nonblocking = flags & msg::DONTWAIT != 0;
    let result = current.block_on_file(file, Events::WRITABLE, nonblocking, deadline, |current| {
        let task = Arc::clone(current.task());
        loop {
            let mut reader = current.user_reader_of(rest.clone());
            let mut outgoing = Outgoing {
                source: &mut reader,
                address: address.as_deref(),
                control: if done == 0 { &control } else { &[] },
                flags,
            };
            let n = endpoint.send(&file.op(&task), &mut outgoing)?;
            done += n;
            if !is_stream || done >= total || n == 0 {
                return Ok(());
            }
            advance(&mut rest, n);
        }
    });
    match result {
        _ if done > 0 => Ok(done),
        Ok(()) => Ok(0),
        Err(Errno::EPIPE) if is_stream && flags & msg::NOSIGNAL == 0 => {
            current.task().send(SigInfo::kernel(Signal::PIPE.number()), Sender::Kernel);
            Err(Errno::EPIPE)
        }
        Err(errno) => Err(interrupted(errno, deadline)),
    }
}

/// Receives a message, waiting for one; of a stream as much as it asks for (`SO_RCVLOWAT`), with `MSG_WAITALL` all of it.
pub(super) fn receive(
    current: &mut Current,
    file: &Arc<OpenFile>,
    pieces: Vec<Iovec>,
    flags: u32,
) -> Result<Received, Errno> {
    let endpoint = socket(file)?;
    let deadline = deadline(endpoint, Direction::Receive);
    let total = length(&pieces);
    // LINUX: sock_rcvlowat.
    let wanted = match endpoint.kind() {
        Kind::Stream if flags & msg::WAITALL != 0 => total,
        Kind::Stream => endpoint.receive_low().min(total),
        _ => 0,
    };
    let mut rest = pieces;
    let mut whole: Option<Received> = None;
    let nonblocking = flags & (msg::DONTWAIT | msg::ERRQUEUE) != 0;
    let result = current.block_on_file(file, Events::READABLE, nonblocking, deadline, |current| {
        let task = Arc::clone(current.task());
        loop {
            let mut writer = current.user_writer_of(rest.clone());
            let part = endpoint.receive(&file.op(&task), &mut writer, flags)?;
            let n = part.len;
            let is_end = n == 0 || part.is_boundary;
            let sofar = whole.get_or_insert_default();
            sofar.len = if flags & msg::PEEK == 0 { sofar.len + n } else { n };
            sofar.flags |= part.flags;
            sofar.control.extend(part.control);
            if sofar.address.is_none() {
                sofar.address = part.address;
            }
            if is_end || sofar.len >= wanted {
                return Ok(());
            }
            if flags & msg::PEEK != 0 {
                // What has been seen is still there: only more of it is news.
                let is_over = file.ops.readiness().intersects(Events::RDHUP | Events::HUP | Events::ERR);
                return if is_over { Ok(()) } else { Err(Errno::EAGAIN) };
            }
            advance(&mut rest, n);
        }
    });
    match (whole, result) {
        (Some(received), _) => Ok(received),
        (None, Ok(())) => Ok(Received::default()),
        (None, Err(errno)) => Err(interrupted(errno, deadline)),
    }
}

/// `read(2)` and theirs on a socket.
pub(crate) fn read(
    current: &mut Current,
    file: &Arc<OpenFile>,
    pieces: Vec<Iovec>,
    flags: u32,
) -> Result<usize, Errno> {
    if length(&pieces) == 0 {
        return Ok(0);
    }
    receive(current, file, pieces, flags).map(|received| received.len)
}

/// `write(2)` and theirs on a socket.
pub(crate) fn write(
    current: &mut Current,
    file: &Arc<OpenFile>,
    pieces: Vec<Iovec>,
    flags: u32,
) -> Result<usize, Errno> {
    send(current, file, Message { pieces, address: None, control: Vec::new(), flags })
}
