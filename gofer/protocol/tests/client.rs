//! What the client makes of a gofer's answers, right and wrong. The gofer here is a thread that says what it is told to.

use std::os::fd::{AsFd, OwnedFd};

use gofer_protocol::wire::{Header, Limits, NodeStat, Op, VERSION, Walked};
use gofer_protocol::{Channel, Client, Descriptors, Errno, Node, SetAttr, SetTime, Stat, Time, wire};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use zerocopy::{FromBytes, IntoBytes};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socketpair")
}

/// A client whose requests (one channel, in turn) are answered by `answer`: header and body in, header and body out.
fn client(answer: impl Fn(Header, &[u8]) -> (Header, Vec<u8>) + Send + 'static) -> Client {
    let (ours, theirs) = pair();
    std::thread::spawn(move || {
        let mut control = Channel::new(theirs);
        let open = control.receive(Descriptors::Refuse).expect("a request").header;
        assert_eq!(open.op, Op::OpenChannel as u16);
        let (serving, given) = pair();
        control.send(open, &[], Some(given.as_fd())).expect("the client waits");
        drop(given);
        let mut channel = Channel::new(serving);
        while let Ok(record) = channel.receive(Descriptors::Refuse) {
            let (header, body) = answer(record.header, record.body);
            if channel.send(header, &[&body], None).is_err() {
                break;
            }
        }
    });
    Client::new(ours)
}

#[test]
fn a_good_answer_is_returned_and_the_channel_used_again() {
    let client = client(|header, _| (header, Limits { mounts: 3, nodes_max: 9 }.as_bytes().to_vec()));
    for _ in 0..3 {
        assert_eq!(client.limits(), Ok(Limits { mounts: 3, nodes_max: 9 }));
    }
    assert_eq!(client.channels(), 1);
}

#[test]
fn a_status_is_the_errno_and_the_client_lives() {
    let client = client(|header, _| (Header { status: 2, ..header }, Vec::new()));
    assert_eq!(client.stat(Node(1)).err(), Some(Errno::ENOENT));
    assert_eq!(client.walk(Node(1), b"a").err(), Some(Errno::ENOENT));
    assert!(client.is_alive());
}

#[test]
fn a_status_that_is_no_errno_is_eio() {
    for status in [4096, 1 << 20] {
        let client = client(move |header, _| (Header { status, ..header }, Vec::new()));
        assert_eq!(client.stat(Node(1)).err(), Some(Errno::EIO));
    }
}

#[test]
fn an_answer_to_something_else_ends_the_connection() {
    type Change = fn(Header) -> Header;
    let changes: [Change; 4] = [
        |header| Header { id: header.id + 1, ..header },
        |header| Header { op: Op::Walk as u16, ..header },
        |header| Header { version: VERSION + 1, ..header },
        |header| Header { status: u32::MAX, ..header },
    ];
    for change in changes {
        let client = client(move |header, _| (change(header), Stat::default().as_bytes().to_vec()));
        assert_eq!(client.stat(Node(1)).err(), Some(Errno::EIO));
        assert!(!client.is_alive());
        assert_eq!(client.stat(Node(1)).err(), Some(Errno::EIO));
    }
}

#[test]
fn a_body_of_a_wrong_length_is_eio() {
    for length in [0, 1, size_of::<Stat>() - 1, size_of::<Stat>() + 1, 5000] {
        let client = client(move |header, _| (header, vec![0; length]));
        assert_eq!(client.stat(Node(1)).err(), Some(Errno::EIO));
        assert_eq!(client.attach(0).err(), Some(Errno::EIO));
    }
}

#[test]
fn a_missing_descriptor_is_eio() {
    let client = client(|header, _| {
        let body =
            if header.op == Op::Open as u16 { Stat::default().as_bytes().to_vec() } else { Vec::new() };
        (header, body)
    });
    assert_eq!(client.open(Node(1), 0).err(), Some(Errno::EIO));
    assert_eq!(client.connect(Node(1), 1).err(), Some(Errno::EIO));
}

#[test]
fn a_walk_with_more_or_fewer_nodes_than_it_says_is_eio() {
    let entry = NodeStat { node: 7, stat: Stat::default() };
    for (count, sent) in [(1, 0), (0, 1), (2, 1), (3, 3)] {
        let client = client(move |header, _| {
            let head = Walked { count, stopped: 0 };
            (header, [head.as_bytes(), vec![entry; sent].as_bytes()].concat())
        });
        assert_eq!(client.walk_many(Node(1), &[b"a", b"b"]).err(), Some(Errno::EIO), "{count} {sent}");
    }
}

#[test]
fn a_directory_page_with_a_length_past_its_end_is_eio() {
    let head = wire::DirEntryHead { ino: 1, cookie: 1, kind: 8, length: 9 };
    let cases = [[head.as_bytes(), b"short"].concat(), head.as_bytes()[1..].to_vec()];
    for body in cases {
        let client = client(move |header, _| (header, body.clone()));
        assert_eq!(client.read_dir(Node(1), 0).err(), Some(Errno::EIO));
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_sent() {
    let client = client(|header, _| (header, Vec::new()));
    assert_eq!(client.unlink(Node(1), &vec![b'x'; 70_000], false, None).err(), Some(Errno::EINVAL));
    assert_eq!(client.set_xattr(Node(1), b"user.x", &vec![0; 70_000], 0).err(), Some(Errno::E2BIG));
    assert!(client.is_alive());
    assert_eq!(client.unlink(Node(1), b"x", false, None), Ok(()));
}

#[test]
fn attributes_that_are_not_given_are_not_marked() {
    let client = client(|header, body| {
        let request = wire::SetAttrRequest::read_from_bytes(body).expect("whole");
        // What arrived comes back in the fields of a stat.
        let stat = Stat {
            ino: request.valid.into(),
            mode: request.mode,
            size: request.size,
            mtime: Time { sec: request.mtime, nsec: request.mtime_nsec },
            ..Stat::default()
        };
        (header, stat.as_bytes().to_vec())
    });
    let marked = |attr| client.set_attr(Node(1), attr).map(|stat| stat.ino);
    assert_eq!(marked(SetAttr::default()), Ok(0));
    assert_eq!(marked(SetAttr { uid: Some(0), ..SetAttr::default() }), Ok(u64::from(wire::ATTR_UID)));
    assert_eq!(marked(SetAttr { atime: Some(SetTime::Now), ..SetAttr::default() }), Ok(64));
    let at = Time { sec: -1, nsec: 5 };
    let attr = SetAttr {
        mode: Some(0o755),
        gid: Some(1),
        size: Some(9),
        mtime: Some(SetTime::At(at)),
        ..SetAttr::default()
    };
    let stat = client.set_attr(Node(1), attr).expect("answered");
    assert_eq!((stat.ino, stat.mode, stat.size, stat.mtime), (1 + 4 + 8 + 32, 0o755, 9, at));
}

#[test]
fn a_gofer_that_is_gone_is_eio() {
    let (ours, theirs) = pair();
    drop(theirs);
    let client = Client::new(ours);
    client.close(Node(1));
    client.flush_closes();
    assert_eq!(client.limits().err(), Some(Errno::EIO));
    assert!(!client.is_alive());
}

#[test]
fn operations_have_the_numbers_of_the_table() {
    assert_eq!(Op::ALL.len(), 26);
    for (index, op) in Op::ALL.iter().enumerate() {
        assert_eq!(*op as usize, index + 1);
        assert_eq!(Op::from_raw(*op as u16), Some(*op));
    }
    assert_eq!(Op::from_raw(0), None);
    assert_eq!(Op::from_raw(27), None);
}
