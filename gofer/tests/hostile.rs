//! A peer that does not keep to the protocol: one clear line in the log, and the gofer is gone.

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;

use common::{fixture, launch, pair, wait};
use control::GoferReply;
use gofer_protocol::wire::{self, HEADER, Header, MESSAGE_MAX, Op, VERSION};
use gofer_protocol::{Channel, Descriptors};
use rustix::net::SocketType;
use zerocopy::{FromBytes, IntoBytes};

struct Raw {
    socket: OwnedFd,
    child: Child,
    _dir: tempfile::TempDir,
}

fn start() -> Raw {
    let (dir, config) = fixture();
    let (socket, theirs) = pair(SocketType::SEQPACKET);
    let (child, reply) = launch(&config, theirs);
    assert_eq!(reply, GoferReply::Ready);
    Raw { socket, child, _dir: dir }
}

fn header(op: u16) -> Header {
    Header { version: VERSION, op, status: 0, id: 1 }
}

impl Raw {
    fn send(&self, bytes: &[u8]) {
        rustix::net::send(&self.socket, bytes, rustix::net::SendFlags::NOSIGNAL).expect("send");
    }

    fn request(&self, op: Op, body: &[u8]) -> (Header, Vec<u8>) {
        self.send(&[header(op as u16).as_bytes(), body].concat());
        let mut channel = Channel::new(self.socket.try_clone().expect("dup"));
        let record = channel.receive(Descriptors::Accept).expect("an answer");
        (record.header, record.body.to_vec())
    }

    /// It ends with a failure and exactly one line that holds `words`.
    fn ends_with(mut self, words: &str) {
        let (status, log) = wait(&mut self.child);
        assert_eq!(status.code(), Some(1), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains(words), "{log:?} has no {words:?}");
    }
}

#[test]
fn a_record_shorter_than_a_header_ends_it() {
    let raw = start();
    raw.send(&[0; HEADER - 1]);
    raw.ends_with("wrong length");
}

#[test]
fn a_record_longer_than_allowed_ends_it() {
    let raw = start();
    raw.send(&[0; MESSAGE_MAX + 1]);
    raw.ends_with("wrong length");
}

#[test]
fn another_version_ends_it() {
    let raw = start();
    raw.send(Header { version: VERSION + 1, ..header(1) }.as_bytes());
    raw.ends_with("version 2 is not 1");
}

#[test]
fn a_request_with_a_status_ends_it() {
    let raw = start();
    raw.send(Header { status: 5, ..header(1) }.as_bytes());
    raw.ends_with("it has a status");
}

#[test]
fn an_operation_that_does_not_exist_ends_it() {
    for op in [0, 27, u16::MAX] {
        let raw = start();
        raw.send(header(op).as_bytes());
        raw.ends_with(&format!("no operation has number {op}"));
    }
}

#[test]
fn a_body_of_a_wrong_length_ends_it_whatever_the_operation() {
    for op in Op::ALL {
        // Operations without a body get one; the others get too little of theirs.
        let raw = start();
        raw.send(&[header(*op as u16).as_bytes(), &[1, 2, 3]].concat());
        raw.ends_with(&format!("malformed request {op:?}"));
    }
}

#[test]
fn inner_lengths_past_the_end_end_it() {
    let rename =
        wire::Rename { old_dir: 1, new_dir: 1, flags: 0, old_length: u32::MAX, by: wire::ANYBODY, pad: 0 };
    let xattr = wire::SetXattr { node: 1, flags: 0, name_length: 100 };
    let symlink = wire::Make { dir: 1, mode: 9, uid: 0, gid: 0, rdev: 0 };
    let walk = wire::Walk { dir: 1, count: 1 };
    let cases: [(Op, Vec<u8>); 4] = [
        (Op::Rename, [rename.as_bytes(), b"ab"].concat()),
        (Op::SetXattr, [xattr.as_bytes(), b"user.x"].concat()),
        (Op::Symlink, [symlink.as_bytes(), b"name"].concat()),
        (Op::Walk, [walk.as_bytes(), &[9, 0, b'a']].concat()),
    ];
    for (op, body) in cases {
        let raw = start();
        raw.send(&[header(op as u16).as_bytes(), &body].concat());
        raw.ends_with("a length past the end");
    }
}

#[test]
fn a_walk_whose_count_is_a_lie_ends_it() {
    for count in [0, 2, u64::MAX] {
        let raw = start();
        let walk = wire::Walk { dir: 1, count };
        raw.send(&[header(Op::Walk as u16).as_bytes(), walk.as_bytes(), &[1, 0, b'a']].concat());
        raw.ends_with("the number of names");
    }
}

#[test]
fn a_malformed_request_on_a_further_channel_ends_it_as_well() {
    let raw = start();
    raw.send(header(Op::OpenChannel as u16).as_bytes());
    let mut channel = Channel::new(raw.socket.try_clone().expect("dup"));
    let further = channel.receive(Descriptors::Accept).expect("an answer").fd.expect("a channel");
    rustix::net::send(&further, &[0; 4], rustix::net::SendFlags::NOSIGNAL).expect("send");
    raw.ends_with("wrong length");
}

#[test]
fn channels_are_limited() {
    let raw = start();
    let mut kept = Vec::new();
    let mut channel = Channel::new(raw.socket.try_clone().expect("dup"));
    for _ in 0..wire::CHANNELS_MAX {
        raw.send(header(Op::OpenChannel as u16).as_bytes());
        kept.push(channel.receive(Descriptors::Accept).expect("an answer").fd.expect("a channel"));
    }
    raw.send(header(Op::OpenChannel as u16).as_bytes());
    let record = channel.receive(Descriptors::Accept).expect("an answer");
    assert_eq!((record.header.status, record.fd.is_some()), (24, false), "EMFILE");
}

#[test]
fn descriptors_sent_along_are_not_taken() {
    let raw = start();
    let channel = Channel::new(raw.socket.try_clone().expect("dup"));
    // After a first answer, so that it has closed what it only needed to start.
    let (_, _) = raw.request(Op::Hello, &[]);
    let before = descriptors(&raw);
    for _ in 0..3 {
        channel.send(header(Op::Hello as u16), &[], Some(std::io::stdin().as_fd())).expect("send");
        let mut answers = Channel::new(raw.socket.try_clone().expect("dup"));
        let record = answers.receive(Descriptors::Accept).expect("an answer");
        assert_eq!(record.header.status, 0);
    }
    assert_eq!(descriptors(&raw), before);
}

fn descriptors(raw: &Raw) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", raw.child.id())).expect("it lives").count()
}

#[test]
fn an_answer_repeats_the_id_and_the_operation() {
    let raw = start();
    let attach = wire::Attach { mount: 9, reserved: 7 };
    let (header, body) = raw.request(Op::Attach, attach.as_bytes());
    assert_eq!((header.op, header.id, header.status, body.len()), (Op::Attach as u16, 1, 2, 0));
    let (header, body) = raw.request(Op::Hello, &[]);
    assert_eq!(header.status, 0);
    assert_eq!(wire::Limits::read_from_bytes(&body).expect("limits").mounts, 4);
}

#[test]
fn random_records_end_it_or_are_answered_but_change_nothing_outside() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let raw = start();
    let mut channel = Channel::new(raw.socket.try_clone().expect("dup"));
    let (_, root) = raw.request(Op::Attach, wire::Attach { mount: 0, reserved: 0 }.as_bytes());
    let root = u64::read_from_prefix(&root).expect("a node").0;
    // Well-formed operations with handles that exist and random values elsewhere.
    for _ in 0..2000 {
        let op = Op::ALL[usize::try_from(random() % 24).expect("small")];
        if matches!(op, Op::Close | Op::OpenChannel) {
            continue;
        }
        let mut body: Vec<u8> = root.to_ne_bytes().to_vec();
        (0..random() % 12).for_each(|_| body.extend_from_slice(&(random() % 5).to_ne_bytes()));
        let bytes = [header(op as u16).as_bytes(), &body].concat();
        if rustix::net::send(&raw.socket, &bytes, rustix::net::SendFlags::NOSIGNAL).is_err() {
            break;
        }
        if channel.receive(Descriptors::Accept).is_err() {
            break;
        }
    }
    let outside = raw._dir.path();
    assert_eq!(std::fs::read(outside.join("outside/secret")).expect("it is there"), b"secret");
    assert_eq!(std::fs::read(outside.join("ro/data")).expect("it is there"), b"fixed");
    assert_eq!(std::fs::read_dir(outside).expect("readable").count(), 5);
}
