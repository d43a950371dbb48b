//! What if a gofer lies? A server whose headers are right, so that the client reads on, and whose answers are random, too
//! short, too long, or counted wrongly: every call ends, with an errno or with values no larger than a message.
//! The sequence is the same in every run.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use gofer_protocol::wire::{HEADER, Header, MESSAGE_MAX, Op};
use gofer_protocol::{Channel, Client, Descriptors, Node, Ownership};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// xorshift.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("sockets")
}

/// Bytes of small and of wild numbers: lengths and counts that are nearly right upset more than noise.
fn body(dice: &mut Dice) -> Vec<u8> {
    let len = match dice.below(6) {
        0 => 0,
        1 => usize::try_from(dice.below(16)).expect("small"),
        2 => MESSAGE_MAX - HEADER,
        _ => usize::try_from(dice.below(600)).expect("small"),
    };
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let word = match dice.below(4) {
            0 => 0,
            1 => dice.below(4),
            2 => u64::MAX,
            _ => dice.next(),
        };
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Answers until the client goes. Asked for a channel, it makes one, and lies on that too.
fn lie(socket: OwnedFd, seed: u64) {
    let mut dice = Dice(seed);
    let mut channel = Channel::new(socket);
    while let Ok(record) = channel.receive(Descriptors::Refuse) {
        let request = record.header;
        if request.op == Op::Close.raw() {
            continue;
        }
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        let mut fd = (dice.below(2) == 0).then(|| OwnedFd::from(file));
        let mut status = 0;
        if request.op == Op::OpenChannel.raw() {
            let (theirs, ours) = pair();
            let seed = dice.next();
            thread::spawn(move || lie(ours, seed));
            fd = Some(theirs);
        } else if dice.below(8) == 0 {
            status = u32::try_from(dice.below(1 << 31)).expect("31 bits");
        }
        let header = Header { status, ..request };
        if channel.send(header, &[&body(&mut dice)], fd.as_ref().map(AsFd::as_fd)).is_err() {
            return;
        }
    }
}

#[test]
fn a_lying_gofer_gets_errors_and_nothing_else() {
    for seed in 1..=20 {
        let (theirs, ours) = pair();
        let server = thread::spawn(move || lie(theirs, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
        let client = Client::new(ours);
        let node = Node(1);
        let owner = Ownership { uid: 0, gid: 0 };
        for _ in 0..100 {
            let _ = client.limits();
            let _ = client.attach(0);
            let _ = client.walk(node, b"name");
            if let Ok(walked) = client.walk_many(node, &[b"a", b"b", b"c"]) {
                assert!(walked.nodes.len() <= 3);
            }
            let _ = client.stat(node);
            let _ = client.stat_fs(node);
            let _ = client.open(node, 0);
            let _ = client.create(node, b"name", 0o600, owner, 0);
            let _ = client.mkdir(node, b"name", 0o700, owner);
            let _ = client.link(node, node, b"name");
            let _ = client.connect(node, 1);
            for bytes in [client.read_link(node), client.get_xattr(node, b"user.x"), client.list_xattr(node)]
            {
                assert!(bytes.unwrap_or_default().len() <= MESSAGE_MAX);
            }
            if let Ok(entries) = client.read_dir(node, 0) {
                assert!(entries.iter().map(|entry| entry.name.len()).sum::<usize>() <= MESSAGE_MAX);
            }
        }
        drop(client);
        assert!(server.join().is_ok());
    }
}

#[test]
fn a_wrong_header_ends_the_connection() {
    for wrong in 0..4 {
        let (theirs, ours) = pair();
        let server = thread::spawn(move || {
            let mut channel = Channel::new(theirs);
            let Ok(record) = channel.receive(Descriptors::Refuse) else { return };
            let right = record.header;
            let header = [
                Header { id: right.id + 1, ..right },
                Header { op: right.op ^ 1, ..right },
                Header { version: right.version + 1, ..right },
                Header { status: u32::MAX, ..right },
            ][wrong];
            let _ = channel.send(header, &[], None);
        });
        let client = Client::new(ours);
        assert!(client.stat(Node(1)).is_err());
        assert!(!client.is_alive(), "{wrong}");
        assert!(server.join().is_ok());
    }
}
