//! How is the control buffer of `sendmsg(2)` and `recvmsg(2)` laid out? LINUX: `cmsg(3)`.
//!
//! Key types: [`Cmsg`] (one message as the guest wrote it), [`ControlOut`] (one for the guest), [`Encoder`].
//! Everything here is pure: bytes in, bytes out.

use std::sync::Arc;

use linux_abi::net::Ucred;
use zerocopy::{FromBytes, IntoBytes};

use crate::Errno;
use crate::vfs::OpenFile;

/// Size of `struct cmsghdr`.
pub const HEADER: usize = 16;
/// Longest control buffer. LINUX: `net.core.optmem_max`, ENOBUFS above.
pub const CONTROL_MAX: usize = 128 << 10;
/// Most control messages in one buffer, so that decoding stays cheap.
const MESSAGES_MAX: usize = 1024;

/// A control message of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmsg {
    /// `SOL_*`.
    pub level: i32,
    /// `SCM_*` and others.
    pub kind: i32,
    /// What it says.
    pub data: Vec<u8>,
}

/// A control message for the guest.
pub enum ControlOut {
    /// `SCM_RIGHTS`: files that get a descriptor.
    Rights(Vec<Arc<OpenFile>>),
    /// `SCM_CREDENTIALS`.
    Credentials(Ucred),
    /// Any other, as the host gave it.
    Plain(Cmsg),
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Takes a control buffer apart.
///
/// # Errors
/// EINVAL for a message that is shorter than its header or longer than the buffer; ENOBUFS for too many.
pub fn decode(bytes: &[u8]) -> Result<Vec<Cmsg>, Errno> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEADER {
        let word = |at: usize| i32::read_from_prefix(&rest[at..]).map_or(0, |(word, _)| word);
        let len = u64::read_from_prefix(rest).map_or(0, |(len, _)| len);
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        if len < HEADER || len > rest.len() {
            return Err(Errno::EINVAL);
        }
        if found.len() == MESSAGES_MAX {
            return Err(Errno::ENOBUFS);
        }
        found.push(Cmsg { level: word(8), kind: word(12), data: rest[HEADER..len].to_vec() });
        rest = rest.get(aligned(len)..).unwrap_or_default();
    }
    Ok(found)
}

/// Puts a control buffer together, of host messages: only trusted input.
#[must_use]
pub fn encode(messages: &[Cmsg]) -> Vec<u8> {
    let total = messages.iter().map(|message| aligned(HEADER + message.data.len())).sum();
    let mut encoder = Encoder::new(total);
    for message in messages {
        encoder.put(message.level, message.kind, &message.data);
    }
    encoder.bytes
}

/// A control buffer for the guest, of limited size.
pub struct Encoder {
    /// What is there so far.
    pub bytes: Vec<u8>,
    room: usize,
    /// Something did not fit (`MSG_CTRUNC`).
    pub is_truncated: bool,
}

impl Encoder {
    /// Room for `room` bytes.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), room, is_truncated: false }
    }

    /// How many bytes of data the next message may have.
    #[must_use]
    pub fn data_room(&self) -> usize {
        self.room.saturating_sub(self.bytes.len()).saturating_sub(HEADER)
    }

    /// Adds a message; what does not fit is cut. LINUX: `put_cmsg`.
    pub fn put(&mut self, level: i32, kind: i32, data: &[u8]) {
        if self.room.saturating_sub(self.bytes.len()) < HEADER {
            self.is_truncated = true;
            return;
        }
        let kept = data.len().min(self.data_room());
        self.is_truncated |= kept < data.len();
        self.bytes.extend_from_slice(((HEADER + kept) as u64).as_bytes());
        self.bytes.extend_from_slice(level.as_bytes());
        self.bytes.extend_from_slice(kind.as_bytes());
        self.bytes.extend_from_slice(&data[..kept]);
        let end = aligned(self.bytes.len()).min(self.room);
        self.bytes.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: i32, data: &[u8]) -> Cmsg {
        Cmsg { level: 1, kind, data: data.to_vec() }
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let messages = [message(1, b"four"), message(2, b"twelve bytes")];
        assert_eq!(decode(&encode(&messages)), Ok(messages.to_vec()));
    }

    #[test]
    fn a_length_below_the_header_or_beyond_the_buffer_is_invalid() {
        for len in [0u64, 15, 17, 1 << 40, u64::MAX] {
            let mut bytes = vec![0; 16];
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(decode(&bytes), Err(Errno::EINVAL), "{len}");
        }
        assert_eq!(decode(&[1; 15]), Ok(Vec::new()));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said() {
        let mut encoder = Encoder::new(HEADER + 6);
        encoder.put(1, 2, b"twelve bytes");
        assert!(encoder.is_truncated);
        assert_eq!(encoder.bytes.len(), HEADER + 6);
        encoder.put(1, 2, b"");
        assert_eq!(encoder.bytes.len(), HEADER + 6);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..round % 9 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&(if state & 3 == 0 { state } else { state & 0x3f }).to_ne_bytes());
            }
            bytes.truncate(bytes.len().saturating_sub(round % 5));
            let _ = decode(&bytes);
        }
    }
}
