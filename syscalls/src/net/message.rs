//! `sendto`, `recvfrom`, `sendmsg`, `recvmsg`, `sendmmsg`, `recvmmsg`.

use std::sync::Arc;

use linux_abi::net::kind::SOCK_CLOEXEC;
use linux_abi::net::{MMsgHdr, MsgHdr, msg};
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::net::ADDRESS_MAX;
use sentry::task::{Current, IOV_MAX, Iovec};
use sentry::vfs::{Fd, OpenFile};

use super::file_of;
use super::guest::{encode_control, read_address, read_control, write_address};
use super::io::{Message, one_piece, receive, send};

/// Most messages of one call. LINUX: `UIO_MAXIOV`; more are not looked at.
const MESSAGES_MAX: u32 = 1024;
/// Flags that only the kernel sets. LINUX: `MSG_INTERNAL_SENDMSG_FLAGS`.
const INTERNAL: u32 = 0x0800_0000 | 0x8_0000 | 0x10_0000;

/// `sendto(2)`: <https://man7.org/linux/man-pages/man2/send.2.html>
pub(crate) fn sendto(
    current: &mut Current,
    fd: Fd,
    buf: UserPtr<u8>,
    len: usize,
    flags: u32,
    addr: UserPtr<u8>,
    addr_len: i32,
) -> Result<usize, Errno> {
    let pieces = one_piece(buf, len)?;
    let file = file_of(current, fd)?;
    let address = match addr.non_null() {
        Some(addr) => Some(read_address(current, addr, addr_len)?),
        None => None,
    };
    send(current, &file, Message { pieces, address, control: Vec::new(), flags: flags & !INTERNAL })
}

/// `recvfrom(2)`: <https://man7.org/linux/man-pages/man2/recv.2.html>
pub(crate) fn recvfrom(
    current: &mut Current,
    fd: Fd,
    buf: UserPtr<u8>,
    len: usize,
    flags: u32,
    addr: UserPtr<u8>,
    addr_len: UserPtr<i32>,
) -> Result<usize, Errno> {
    let pieces = one_piece(buf, len)?;
    let file = file_of(current, fd)?;
    let received = receive(current, &file, pieces, flags)?;
    if let Some(addr) = addr.non_null() {
        // LINUX: a socket that does not say whom it is from says that the address is empty.
        write_address(current, received.address.as_deref().unwrap_or_default(), addr, addr_len)?;
    }
    Ok(received.len)
}

fn read_pieces(current: &Current, header: &MsgHdr) -> Result<Vec<Iovec>, Errno> {
    let count = usize::try_from(header.iov_len).ok().filter(|&count| count <= IOV_MAX);
    current.read_iovecs(UserPtr::new(header.iov), count.ok_or(Errno::EMSGSIZE)?)
}

/// `sendmsg(2)`: <https://man7.org/linux/man-pages/man2/send.2.html>
pub(crate) fn sendmsg(
    current: &mut Current,
    fd: Fd,
    message: UserPtr<MsgHdr>,
    flags: u32,
) -> Result<usize, Errno> {
    let file = file_of(current, fd)?;
    let header = current.read_object(message)?;
    send_header(current, &file, &header, flags)
}

fn send_header(
    current: &mut Current,
    file: &Arc<OpenFile>,
    header: &MsgHdr,
    flags: u32,
) -> Result<usize, Errno> {
    let address = if header.name == 0 || header.name_len == 0 {
        None
    } else {
        // LINUX: __copy_msghdr cuts what is too long.
        let len = header.name_len.min(i32::try_from(ADDRESS_MAX).unwrap_or(0));
        Some(read_address(current, UserPtr::new(header.name), len)?)
    };
    let pieces = read_pieces(current, header)?;
    let control = if header.control_len == 0 {
        Vec::new()
    } else {
        read_control(current, header.control, header.control_len)?
    };
    send(current, file, Message { pieces, address, control, flags: flags & !INTERNAL })
}

/// `recvmsg(2)`: <https://man7.org/linux/man-pages/man2/recv.2.html>
pub(crate) fn recvmsg(
    current: &mut Current,
    fd: Fd,
    message: UserPtr<MsgHdr>,
    flags: u32,
) -> Result<usize, Errno> {
    let file = file_of(current, fd)?;
    receive_header(current, &file, message, flags)
}

fn receive_header(
    current: &mut Current,
    file: &Arc<OpenFile>,
    message: UserPtr<MsgHdr>,
    flags: u32,
) -> Result<usize, Errno> {
    let mut header = current.read_object(message)?;
    let name_room = if header.name == 0 { 0 } else { header.name_len };
    let name_room = usize::try_from(name_room).map_err(|_| Errno::EINVAL)?;
    let pieces = read_pieces(current, &header)?;
    let received = receive(current, file, pieces, flags)?;
    if header.name != 0 {
        let address = received.address.as_deref().unwrap_or_default();
        current.write_user(header.name, &address[..address.len().min(name_room)])?;
        header.name_len = i32::try_from(address.len()).unwrap_or(0);
    }
    let cloexec = if flags & msg::CMSG_CLOEXEC != 0 { SOCK_CLOEXEC } else { 0 };
    let room = if header.control == 0 { 0 } else { header.control_len };
    let control = encode_control(current, received.control, room, cloexec);
    current.write_user(header.control, &control.bytes)?;
    header.control_len = control.bytes.len() as u64;
    header.flags = received.flags | flags & msg::CMSG_CLOEXEC;
    header.flags |= if control.is_truncated { msg::CTRUNC } else { 0 };
    current.write_object(message, &header)?;
    Ok(received.len)
}

/// `sendmmsg(2)`: <https://man7.org/linux/man-pages/man2/sendmmsg.2.html>
pub(crate) fn sendmmsg(
    current: &mut Current,
    fd: Fd,
    messages: UserPtr<MMsgHdr>,
    count: u32,
    flags: u32,
) -> Result<usize, Errno> {
    let file = file_of(current, fd)?;
    let mut done = 0;
    for index in 0..count.min(MESSAGES_MAX) as usize {
        let place = messages.element(index);
        let sent = current
            .read_object(place)
            .and_then(|message| Ok((message, send_header(current, &file, &message.hdr, flags)?)))
            .and_then(|(mut message, n)| {
                message.len = u32::try_from(n).unwrap_or(u32::MAX);
                current.write_object(place, &message)
            });
        match sent {
            Ok(()) => done += 1,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// `recvmmsg(2)`: <https://man7.org/linux/man-pages/man2/recvmmsg.2.html>
pub(crate) fn recvmmsg(
    current: &mut Current,
    fd: Fd,
    messages: UserPtr<MMsgHdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<[i64; 2]>,
) -> Result<usize, Errno> {
    let end = read_end(current, timeout)?;
    let file = file_of(current, fd)?;
    let mut flags = flags;
    let mut done = 0;
    for index in 0..count.min(MESSAGES_MAX) as usize {
        let place = messages.element(index);
        let header = place.cast::<MsgHdr>();
        let received = receive_header(current, &file, header, flags & !msg::WAITFORONE).and_then(|n| {
            let len = UserPtr::new(place.addr().wrapping_add(size_of::<MsgHdr>() as u64));
            current.write_object(len, &u32::try_from(n).unwrap_or(u32::MAX))
        });
        match received {
            Ok(()) => done += 1,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
        if flags & msg::WAITFORONE != 0 {
            flags |= msg::DONTWAIT;
        }
        // LINUX: the time is looked at between messages only.
        if end.is_some_and(|end| now_ns(Clock::Monotonic) >= end) {
            break;
        }
    }
    write_rest(current, timeout, end);
    Ok(done)
}

/// When a `timespec` from now will be.
fn read_end(current: &Current, timeout: UserPtr<[i64; 2]>) -> Result<Option<u64>, Errno> {
    let Some(timeout) = timeout.non_null() else { return Ok(None) };
    let [seconds, nanos] = current.read_object(timeout)?;
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let nanos = u64::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000).ok_or(Errno::EINVAL)?;
    let length = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Ok(Some(now_ns(Clock::Monotonic).saturating_add(length)))
}

fn write_rest(current: &mut Current, timeout: UserPtr<[i64; 2]>, end: Option<u64>) {
    let Some(end) = end else { return };
    let left = end.saturating_sub(now_ns(Clock::Monotonic));
    let words = [left / 1_000_000_000, left % 1_000_000_000].map(u64::cast_signed);
    // LINUX: a fault here does not undo what has been received.
    let _ = current.write_object(timeout, &words);
}
