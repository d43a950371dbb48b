//! How do addresses and control messages get in and out of guest memory? LINUX: `move_addr_to_kernel`, `put_cmsg`.

use linux_abi::net::option as so;
use linux_abi::{Errno, UserPtr};
use sentry::net::ADDRESS_MAX;
use sentry::net::control::{CONTROL_MAX, Cmsg, ControlOut, Encoder, decode};
use sentry::task::Current;
use zerocopy::IntoBytes;

use crate::sync::install;

/// Reads an address.
///
/// # Errors
/// EINVAL for a bad length; EFAULT.
pub(super) fn read_address(current: &Current, addr: UserPtr<u8>, len: i32) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut address = vec![0; len];
    current.read_user(addr.addr(), &mut address)?;
    Ok(address)
}

/// Writes as much of an address as there is room for, and its real length.
///
/// # Errors
/// EINVAL for a negative length; EFAULT.
pub(super) fn write_address(
    current: &mut Current,
    address: &[u8],
    addr: UserPtr<u8>,
    len: UserPtr<i32>,
) -> Result<(), Errno> {
    let room = usize::try_from(current.read_object(len)?).map_err(|_| Errno::EINVAL)?;
    current.write_user(addr.addr(), &address[..address.len().min(room)])?;
    current.write_object(len, &i32::try_from(address.len()).unwrap_or(0))
}

/// Reads a control buffer.
///
/// # Errors
/// ENOBUFS for one that is too long; EINVAL; EFAULT.
pub(super) fn read_control(current: &Current, addr: u64, len: u64) -> Result<Vec<Cmsg>, Errno> {
    let len = usize::try_from(len).ok().filter(|&len| len <= CONTROL_MAX).ok_or(Errno::ENOBUFS)?;
    let mut bytes = vec![0; len];
    current.read_user(addr, &mut bytes)?;
    decode(&bytes)
}

/// Lays control messages out for the guest; files get descriptors, as many as there is room for. LINUX: `scm_detach_fds`.
pub(super) fn encode_control(
    current: &Current,
    control: Vec<ControlOut>,
    room: u64,
    cloexec: u32,
) -> Encoder {
    let mut encoder = Encoder::new(usize::try_from(room).unwrap_or(0).min(CONTROL_MAX));
    for message in control {
        match message {
            ControlOut::Credentials(ucred) => {
                encoder.put(so::SOL_SOCKET, so::SCM_CREDENTIALS, ucred.as_bytes());
            }
            ControlOut::Plain(message) => encoder.put(message.level, message.kind, &message.data),
            ControlOut::Rights(files) => {
                let mut numbers = Vec::new();
                for file in files {
                    if encoder.data_room() / 4 <= numbers.len() {
                        encoder.is_truncated = true;
                        break;
                    }
                    let Ok(fd) = install(current, file, cloexec) else {
                        encoder.is_truncated = true;
                        break;
                    };
                    numbers.push(fd.0);
                }
                if !numbers.is_empty() {
                    encoder.put(so::SOL_SOCKET, so::SCM_RIGHTS, numbers.as_bytes());
                }
            }
        }
    }
    encoder
}
