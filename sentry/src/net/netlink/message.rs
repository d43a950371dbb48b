//! How are netlink messages and their attributes laid out? LINUX: `netlink(7)`, `rtnetlink(7)`.
//!
//! Key types: [`Message`] (one of them), [`Builder`] (datagrams of several). Pure: bytes in, bytes out.

use linux_abi::net::NlMsgHdr;
use zerocopy::{FromBytes, IntoBytes};

/// Size of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// Bytes of one datagram of replies: what every program has room for.
const DATAGRAM: usize = 4000;

pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_MULTI: u16 = 2;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;

/// A message: its header and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// `struct nlmsghdr`.
    pub header: NlMsgHdr,
    /// The rest.
    pub body: &'a [u8],
}

/// Takes a datagram apart; ends at the first message that is not whole. LINUX: `netlink_rcv_skb`.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = NlMsgHdr::read_from_prefix(bytes).ok()?;
        let len = usize::try_from(header.len).ok().filter(|&len| len >= HEADER)?;
        let body = bytes.get(HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { header, body })
    })
}

/// Attributes (`struct rtattr`): type without its flag bits, and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let ([len, kind], _) = <[u16; 2]>::read_from_prefix(bytes).ok()?;
        let value = bytes.get(4..usize::from(len))?;
        bytes = bytes.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// The value of the first attribute of that type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(there, _)| *there == kind).map(|(_, value)| value)
}

/// Appends an attribute.
pub fn put_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(4);
    body.extend_from_slice([len, kind].as_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Puts replies to one request into datagrams.
pub struct Builder {
    request: NlMsgHdr,
    /// The port of who asked.
    port: u32,
    datagrams: Vec<Vec<u8>>,
}

impl Builder {
    pub fn new(request: NlMsgHdr, port: u32) -> Self {
        Self { request, port, datagrams: Vec::new() }
    }

    /// Adds a message.
    pub fn put(&mut self, kind: u16, flags: u16, body: &[u8]) {
        let len = HEADER + body.len();
        let header = NlMsgHdr {
            len: u32::try_from(len).unwrap_or(u32::MAX),
            kind,
            flags,
            seq: self.request.seq,
            pid: self.port,
        };
        if self.datagrams.last().is_none_or(|last| last.len() + len > DATAGRAM) {
            self.datagrams.push(Vec::new());
        }
        if let Some(last) = self.datagrams.last_mut() {
            last.extend_from_slice(header.as_bytes());
            last.extend_from_slice(body);
            last.resize(last.len().next_multiple_of(4), 0);
        }
    }

    /// Says how a request ended; `error` is 0 or an errno. LINUX: `netlink_ack`.
    pub fn put_error(&mut self, error: i32, body: &[u8]) {
        let mut content = (-error).as_bytes().to_vec();
        content.extend_from_slice(self.request.as_bytes());
        if error != 0 {
            content.extend_from_slice(body);
        }
        self.put(NLMSG_ERROR, 0, &content);
    }

    /// The end of a dump. LINUX: netlink_dump: in a datagram of its own, so that who reads with too little room still sees it.
    pub fn put_done(&mut self) {
        self.datagrams.push(Vec::new());
        self.put(NLMSG_DONE, NLM_F_MULTI, 0i32.as_bytes());
    }

    pub fn finish(self) -> Vec<Vec<u8>> {
        self.datagrams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_never_panic_and_always_end() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000_usize {
            let mut bytes = Vec::new();
            for _ in 0..round % 12 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(
                    &(if state & 1 == 0 { state } else { state & 0x1f_001f }).to_ne_bytes(),
                );
            }
            bytes.truncate(bytes.len().saturating_sub(round % 7));
            assert!(messages(&bytes).count() <= bytes.len() / HEADER);
            assert!(attributes(&bytes).count() <= bytes.len() / 4);
        }
    }

    #[test]
    fn attributes_come_back() {
        let mut body = Vec::new();
        put_attribute(&mut body, 3, b"lo\0");
        put_attribute(&mut body, 4, &65_536u32.to_ne_bytes());
        assert_eq!(attribute(&body, 3), Some(&b"lo\0"[..]));
        assert_eq!(attribute(&body, 4), Some(&65_536u32.to_ne_bytes()[..]));
        assert_eq!(attribute(&body, 5), None);
    }

    #[test]
    fn replies_are_split_into_datagrams() {
        let request = NlMsgHdr { len: 16, kind: 18, flags: 0x301, seq: 7, pid: 0 };
        let mut builder = Builder::new(request, 42);
        for _ in 0..10 {
            builder.put(16, NLM_F_MULTI, &[0; 1000]);
        }
        builder.put_done();
        let datagrams = builder.finish();
        assert!(datagrams.len() > 2 && datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM));
        let all: Vec<_> = datagrams.iter().flat_map(|datagram| messages(datagram)).collect();
        assert!(all.len() == 11 && all.iter().all(|it| it.header.seq == 7 && it.header.pid == 42));
        assert_eq!(all[10].header.kind, NLMSG_DONE);
    }
}
