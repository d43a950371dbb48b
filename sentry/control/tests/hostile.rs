//! What if the other end of a control socket lies? Random and mutilated frames: each is refused or understood, none
//! makes the reader panic, wait for ever, or keep what it was not to get. The sequence is the same in every run.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use control::{Channel, ChannelError, FromSentry, ToSentry};

/// xorshift.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).expect("small")).expect("small")
    }
}

/// What a real message looks like, to be mutilated.
const MESSAGES: [&str; 4] = [
    r#"{"id":1,"request":"status"}"#,
    r#"{"id":18446744073709551615,"request":{"signal":{"container":"c","exec":null,"signal":9,"all":true}}}"#,
    r#"{"id":7,"request":{"start":{"container":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}}"#,
    r#"{"reply":{"id":3,"result":{"Err":{"kind":"internal","message":"m"}}}}"#,
];

fn body(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = MESSAGES[dice.below(MESSAGES.len())].as_bytes().to_vec();
    match dice.below(4) {
        0 => bytes = (0..dice.below(300)).map(|_| dice.next().to_le_bytes()[0]).collect(),
        // Deeper than any parser's stack.
        1 => bytes = vec![b"[{\"("[dice.below(3)]; 1 + dice.below(20_000)],
        _ => {
            for _ in 0..1 + dice.below(4) {
                let at = dice.below(bytes.len());
                bytes[at] = b"\0\"{}[],:9-e\xff\\u"[dice.below(14)];
            }
        }
    }
    bytes
}

/// Whatever is in the socket, read until it ends.
fn read_all(channel: &Channel, as_shim: bool) -> ChannelError {
    loop {
        let result = if as_shim {
            channel.receive::<FromSentry>().map(|(_, fds)| fds)
        } else {
            channel.receive::<ToSentry>().map(|(_, fds)| fds)
        };
        match result {
            Ok(fds) => assert!(fds.len() <= control::channel::FDS_MAX),
            // Framing is intact: the next message can be read.
            Err(ChannelError::Malformed(_)) => {}
            Err(error) => return error,
        }
    }
}

#[test]
fn mutilated_frames_are_refused() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..2000 {
        let (mut theirs, ours) = UnixStream::pair().expect("sockets");
        for _ in 0..dice.below(3) {
            let body = body(&mut dice);
            let mut length = u32::try_from(body.len()).expect("small");
            if dice.below(6) == 0 {
                length = u32::try_from(dice.next() >> 32).expect("32 bits");
            }
            theirs.write_all(&length.to_le_bytes()).expect("room");
            theirs.write_all(&body).expect("room");
        }
        drop(theirs);
        let error = read_all(&Channel::new(OwnedFd::from(ours)), round % 2 == 0);
        let expected = matches!(error, ChannelError::Closed | ChannelError::TooLong(_));
        assert!(expected, "{error:?}");
    }
}

#[test]
fn descriptors_on_every_byte_are_refused() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let (theirs, ours) = UnixStream::pair().expect("sockets");
    let file = std::fs::File::open("/dev/null").expect("/dev/null");
    let all = [file.as_fd(); 8];
    let body = br#"{"id":1,"request":"status"}   "#;
    let mut frame = u32::try_from(body.len()).expect("small").to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    for byte in frame.chunks(1) {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&all)));
        let slice = [std::io::IoSlice::new(byte)];
        rustix::net::sendmsg(&theirs, &slice, &mut ancillary, SendFlags::empty()).expect("room");
    }
    let error = Channel::new(OwnedFd::from(ours)).receive::<ToSentry>().map(drop).expect_err("too many");
    assert!(matches!(error, ChannelError::TooManyDescriptors), "{error:?}");
}
