//! What does the client make of a donated descriptor that its own process has no room for? Alone in its process: the limit is
//! everybody's.

use std::os::fd::{AsFd, OwnedFd};

use gofer_protocol::wire::{NodeStat, Op};
use gofer_protocol::{Channel, Client, Descriptors, Errno, Node, Ownership, Stat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zerocopy::IntoBytes;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socketpair")
}

/// Answers `Open` and `Create` with a descriptor, and `Close` not at all.
fn serve(theirs: OwnedFd, channel: (OwnedFd, OwnedFd), donated: &OwnedFd) {
    let mut control = Channel::new(theirs);
    let open = control.receive(Descriptors::Refuse).expect("a request").header;
    let (serving, given) = channel;
    control.send(open, &[], Some(given.as_fd())).expect("the client waits");
    drop(given);
    let mut channel = Channel::new(serving);
    while let Ok(record) = channel.receive(Descriptors::Refuse) {
        let header = record.header;
        let body = match Op::from_raw(header.op) {
            Some(Op::Open) => Stat::default().as_bytes().to_vec(),
            Some(Op::Create) => NodeStat { node: 7, stat: Stat::default() }.as_bytes().to_vec(),
            _ => continue,
        };
        channel.send(header, &[&body], Some(donated.as_fd())).expect("the client waits");
    }
}

#[test]
fn a_descriptor_without_room_is_enfile_and_the_client_lives() {
    let (ours, theirs) = pair();
    let (channel, donated) = (pair(), pair().0);
    std::thread::spawn(move || serve(theirs, channel, &donated));
    let client = Client::new(ours);
    let file = client.open(Node(1), 0).expect("there is room").fd;
    let before = getrlimit(Resource::Nofile);
    // New descriptors get the lowest free number, and all below this one are taken or not to be had.
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).expect("it may be lowered");
    let opened = client.open(Node(1), 0).err();
    let owner = Ownership { uid: 0, gid: 0 };
    let created = client.create(Node(1), b"new", 0o600, owner, 2).err();
    setrlimit(Resource::Nofile, before).expect("it may be raised again");
    assert_eq!((opened, created), (Some(Errno::ENFILE), Some(Errno::ENFILE)));
    assert!(client.is_alive());
    drop(file);
    assert!(client.open(Node(1), 0).is_ok());
}
