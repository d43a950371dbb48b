//! Do `AF_UNIX` sockets behave as `unix(7)` says?

use std::sync::Arc;

use linux_abi::net::{kind, msg, option as so};
use zerocopy::IntoBytes;

use super::{UnixEnd, UnixSocket};
use crate::Errno;
use crate::io::VecSink;
use crate::net::control::{Cmsg, ControlOut};
use crate::net::{Outgoing, Received, Shutdown, Socket, new_pair, new_socket, open};
use crate::sync::Events;
use crate::task::Task;
use crate::testing::{become_user, task};
use crate::vfs::{Fd, FileOps, Op, OpenFile};

const UNIX: i32 = 1;

fn pair(task: &Arc<Task>, kind: u32) -> [Arc<dyn FileOps>; 2] {
    new_pair(task, UNIX, kind, 0).expect("a pair")
}

fn bound(task: &Arc<Task>, kind: u32, address: &[u8]) -> Arc<dyn FileOps> {
    let ops = new_socket(task, UNIX, kind, 0).expect("a socket");
    socket(&ops).bind(task, address).expect("a name");
    ops
}

fn socket(ops: &Arc<dyn FileOps>) -> &dyn Socket {
    ops.as_socket().expect("a socket")
}

fn unix(ops: &Arc<dyn FileOps>) -> &Arc<UnixSocket> {
    &ops.as_any().downcast_ref::<UnixEnd>().expect("ours").0
}

fn op(task: &Arc<Task>) -> Op<'_> {
    Op { task, flags: 0 }
}

fn send_with(
    task: &Arc<Task>,
    ops: &Arc<dyn FileOps>,
    bytes: &[u8],
    control: &[Cmsg],
) -> Result<usize, Errno> {
    let mut source = bytes;
    socket(ops).send(&op(task), &mut Outgoing { source: &mut source, address: None, control, flags: 0 })
}

fn send(task: &Arc<Task>, ops: &Arc<dyn FileOps>, bytes: &[u8]) -> Result<usize, Errno> {
    send_with(task, ops, bytes, &[])
}

fn send_to(task: &Arc<Task>, ops: &Arc<dyn FileOps>, bytes: &[u8], to: &[u8]) -> Result<usize, Errno> {
    let mut source = bytes;
    let mut message = Outgoing { source: &mut source, address: Some(to), control: &[], flags: 0 };
    socket(ops).send(&op(task), &mut message)
}

fn receive(
    task: &Arc<Task>,
    ops: &Arc<dyn FileOps>,
    room: usize,
    flags: u32,
) -> Result<(Vec<u8>, Received), Errno> {
    let mut sink = VecSink::new(room);
    let received = socket(ops).receive(&op(task), &mut sink, flags)?;
    Ok((sink.bytes, received))
}

fn bytes(task: &Arc<Task>, ops: &Arc<dyn FileOps>, room: usize) -> Result<Vec<u8>, Errno> {
    receive(task, ops, room, 0).map(|(bytes, _)| bytes)
}

fn address(path: &str) -> Vec<u8> {
    [&1u16.to_ne_bytes()[..], path.as_bytes()].concat()
}

/// A message that passes these descriptors.
fn rights(fds: &[i32]) -> Vec<Cmsg> {
    vec![Cmsg { level: so::SOL_SOCKET, kind: so::SCM_RIGHTS, data: fds.as_bytes().to_vec() }]
}

fn enter(task: &Arc<Task>, file: Arc<OpenFile>) -> i32 {
    task.files().add(file, false, 0, 1024).expect("a number").0
}

#[test]
fn a_stream_glues_and_a_datagram_does_not() {
    let task = task();
    for (kind, first) in
        [(kind::SOCK_STREAM, &b"abcd"[..]), (kind::SOCK_DGRAM, b"ab"), (kind::SOCK_SEQPACKET, b"ab")]
    {
        let [one, other] = pair(&task, kind);
        assert_eq!((send(&task, &one, b"ab"), send(&task, &one, b"cd")), (Ok(2), Ok(2)));
        assert_eq!(bytes(&task, &other, 9).unwrap(), first);
    }
}

#[test]
fn a_short_read_of_a_datagram_loses_the_rest_and_says_so() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_DGRAM);
    send(&task, &one, b"second").unwrap();
    let (bytes, received) = receive(&task, &other, 3, msg::TRUNC).unwrap();
    assert_eq!((&bytes[..], received.len, received.flags), (&b"sec"[..], 6, msg::TRUNC));
    assert_eq!(receive(&task, &other, 3, 0).err(), Some(Errno::EAGAIN));
}

#[test]
fn a_peek_leaves_everything() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_STREAM);
    send(&task, &one, b"ab").unwrap();
    send(&task, &one, b"cd").unwrap();
    assert_eq!(receive(&task, &other, 3, msg::PEEK).unwrap().0, b"abc");
    assert_eq!(bytes(&task, &other, 9).unwrap(), b"abcd");
}

#[test]
fn the_end_of_a_peer_is_the_end_of_its_stream() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_STREAM);
    send(&task, &one, b"last").unwrap();
    drop(one);
    assert!(other.readiness().contains(Events::HUP | Events::RDHUP | Events::IN));
    assert_eq!(bytes(&task, &other, 9).unwrap(), b"last");
    assert_eq!(bytes(&task, &other, 9).unwrap(), b"");
    assert_eq!(send(&task, &other, b"x"), Err(Errno::EPIPE));
}

#[test]
fn closing_with_unread_bytes_resets_once() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_STREAM);
    send(&task, &one, b"unread").unwrap();
    drop(other);
    assert!(one.readiness().contains(Events::ERR));
    assert_eq!(bytes(&task, &one, 1), Err(Errno::ECONNRESET));
    assert_eq!(bytes(&task, &one, 1).unwrap(), b"");
}

#[test]
fn half_a_shutdown_ends_one_direction() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_STREAM);
    socket(&one).shutdown(Shutdown::Write).unwrap();
    assert_eq!(bytes(&task, &other, 1).unwrap(), b"");
    assert_eq!(other.readiness() & (Events::RDHUP | Events::HUP), Events::RDHUP);
    assert_eq!(send(&task, &one, b"x"), Err(Errno::EPIPE));
    assert_eq!(send(&task, &other, b"back"), Ok(4));
    assert_eq!(bytes(&task, &one, 9).unwrap(), b"back");
}

#[test]
fn a_full_send_buffer_would_wait_and_takes_nothing() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_STREAM);
    let block = vec![7; 1 << 20];
    let sent = send(&task, &one, &block).unwrap();
    assert!((100_000..=400_000).contains(&sent), "{sent}");
    assert!(!one.readiness().contains(Events::OUT));
    let mut source = &block[..];
    let mut message = Outgoing { source: &mut source, address: None, control: &[], flags: 0 };
    assert_eq!(socket(&one).send(&op(&task), &mut message), Err(Errno::EAGAIN));
    assert_eq!(source.len(), block.len());
    assert_eq!(bytes(&task, &other, 1 << 20).unwrap().len(), sent);
    assert!(one.readiness().contains(Events::OUT));
}

#[test]
fn names_lead_to_listeners_and_only_to_them() {
    let task = task();
    let client = new_socket(&task, UNIX, kind::SOCK_STREAM, 0).unwrap();
    for name in ["\0abstract", "path"] {
        let connect = |kind: &Arc<dyn FileOps>| {
            let there = super::name::find(&task, &address(name), unix(kind).kind)?;
            unix(kind).try_connect(&task, &there)
        };
        let missing = if name == "path" { Errno::ENOENT } else { Errno::ECONNREFUSED };
        assert_eq!(connect(&client), Err(missing));
        let listener = bound(&task, kind::SOCK_STREAM, &address(name));
        assert_eq!(connect(&client), Err(Errno::ECONNREFUSED));
        socket(&listener).listen(&task, 0).unwrap();
        let datagram = new_socket(&task, UNIX, kind::SOCK_DGRAM, 0).unwrap();
        assert_eq!(connect(&datagram), Err(Errno::EPROTOTYPE));
        let client = new_socket(&task, UNIX, kind::SOCK_STREAM, 0).unwrap();
        assert_eq!(connect(&client), Ok(()));
        assert_eq!(connect(&client), Err(Errno::EISCONN));
        // One connection more than the backlog may wait.
        let late = new_socket(&task, UNIX, kind::SOCK_STREAM, 0).unwrap();
        assert_eq!(connect(&late), Err(Errno::EAGAIN));
        assert!(listener.readiness().contains(Events::IN));
        let server = socket(&listener).accept(&task).unwrap();
        assert_eq!(socket(&listener).accept(&task).err(), Some(Errno::EAGAIN));
        assert_eq!(server.address, address(""));
        assert_eq!(send(&task, &client, b"hello"), Ok(5));
        assert_eq!(bytes(&task, &server.ops, 9).unwrap(), b"hello");
        let expected = if name == "path" { "path\0" } else { name };
        assert_eq!(socket(&client).peer_name().unwrap(), address(expected));
        let again = new_socket(&task, UNIX, kind::SOCK_STREAM, 0).unwrap();
        assert_eq!(socket(&again).bind(&task, &address(name)), Err(Errno::EADDRINUSE));
    }
}

#[test]
fn a_listener_that_ends_resets_those_who_wait() {
    let task = task();
    let listener = bound(&task, kind::SOCK_STREAM, &address("\0l"));
    socket(&listener).listen(&task, 5).unwrap();
    let client = new_socket(&task, UNIX, kind::SOCK_STREAM, 0).unwrap();
    unix(&client).try_connect(&task, unix(&listener)).unwrap();
    drop(listener);
    assert_eq!(bytes(&task, &client, 1), Err(Errno::ECONNRESET));
    let next = bound(&task, kind::SOCK_STREAM, &address("\0l"));
    drop(next);
}

#[test]
fn connecting_by_path_needs_write_permission() {
    let task = task();
    let listener = bound(&task, kind::SOCK_STREAM, &address("sock"));
    socket(&listener).listen(&task, 5).unwrap();
    become_user(&task, 1000);
    let found = super::name::find(&task, &address("sock"), unix(&listener).kind);
    assert_eq!(found.err(), Some(Errno::EACCES));
}

#[test]
fn addresses_are_checked() {
    let task = task();
    let one = new_socket(&task, UNIX, kind::SOCK_STREAM, 0).unwrap();
    for bad in [&[][..], &[1], &[2, 0, b'x'], &[1; 200]] {
        assert_eq!(socket(&one).bind(&task, bad), Err(Errno::EINVAL));
    }
    assert_eq!(socket(&one).bind(&task, &address("")), Ok(()));
    assert_eq!(socket(&one).local_name().unwrap().len(), 8);
}

#[test]
fn a_connected_datagram_socket_hears_only_its_peer() {
    let task = task();
    let one = bound(&task, kind::SOCK_DGRAM, &address("\0one"));
    let other = bound(&task, kind::SOCK_DGRAM, &address("\0other"));
    let stranger = new_socket(&task, UNIX, kind::SOCK_DGRAM, 0).unwrap();
    unix(&one).connect_datagram(&task, &address("\0other")).unwrap();
    assert_eq!(send_to(&task, &stranger, b"no", &address("\0one")), Err(Errno::EPERM));
    assert_eq!(send_to(&task, &other, b"yes", &address("\0one")), Ok(3));
    let (bytes, received) = receive(&task, &one, 9, 0).unwrap();
    assert_eq!((bytes, received.address), (b"yes".to_vec(), Some(address("\0other"))));
    drop(other);
    assert_eq!(send(&task, &one, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(send(&task, &one, b"x"), Err(Errno::ENOTCONN));
}

#[test]
fn datagrams_wait_for_room_at_the_receiver() {
    let task = task();
    let receiver = bound(&task, kind::SOCK_DGRAM, &address("\0r"));
    let sender = new_socket(&task, UNIX, kind::SOCK_DGRAM, 0).unwrap();
    let big = 600_000i32;
    let mut sent = 0;
    for round in 0..4 {
        let sender = if round == 0 {
            Arc::clone(&sender)
        } else {
            new_socket(&task, UNIX, kind::SOCK_DGRAM, 0).unwrap()
        };
        socket(&sender).set_option(&task, so::SOL_SOCKET, so::SO_SNDBUF, big.as_bytes()).unwrap();
        while send_to(&task, &sender, b"x", &address("\0r")).is_ok() {
            sent += 1;
        }
    }
    assert_eq!(sent, 513);
    unix(&sender).connect_datagram(&task, &address("\0r")).unwrap();
    assert!(!sender.readiness().contains(Events::OUT));
    bytes(&task, &receiver, 1).unwrap();
    assert_eq!(send(&task, &sender, b"x"), Ok(1));
}

#[test]
fn files_are_passed_and_counted() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_STREAM);
    assert_eq!(send_with(&task, &one, b"x", &rights(&[250])), Err(Errno::EBADF));
    assert_eq!(send_with(&task, &one, b"x", &rights(&[0; 254])), Err(Errno::EINVAL));
    let file = open(&task, pair(&task, kind::SOCK_STREAM)[0].clone(), 0);
    let number = enter(&task, Arc::clone(&file));
    send(&task, &one, b"before").unwrap();
    send_with(&task, &one, b"with", &rights(&[number, number])).unwrap();
    send(&task, &one, b"after").unwrap();
    let (bytes, received) = receive(&task, &other, 99, 0).unwrap();
    assert_eq!(bytes, b"beforewith");
    let [ControlOut::Rights(files)] = &received.control[..] else { panic!("no files") };
    assert!(files.len() == 2 && files.iter().all(|got| Arc::ptr_eq(got, &file)));
}

#[test]
fn a_user_has_only_so_many_files_under_way() {
    let task = task();
    become_user(&task, 1000);
    let [one, _other] = pair(&task, kind::SOCK_STREAM);
    let number = enter(&task, open(&task, pair(&task, kind::SOCK_DGRAM)[0].clone(), 0));
    let all = rights(&[number; 250]);
    let results: Vec<_> = (0..7).map(|_| send_with(&task, &one, b"x", &all)).collect();
    assert_eq!(results[0], Ok(1));
    assert_eq!(results[6], Err(Errno::ETOOMANYREFS));
}

#[test]
fn sockets_that_hold_only_each_other_are_found() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_STREAM);
    let weak = [Arc::downgrade(unix(&one)), Arc::downgrade(unix(&other))];
    let files = [one, other].map(|ops| open(&task, ops, 0));
    let numbers = files.clone().map(|file| enter(&task, file));
    send_with(&task, &files[0].ops, b"x", &rights(&numbers)).unwrap();
    send_with(&task, &files[1].ops, b"x", &rights(&numbers)).unwrap();
    drop(files);
    // Still open: a look for garbage takes nothing.
    drop(new_socket(&task, UNIX, kind::SOCK_STREAM, 0));
    for number in numbers {
        let file = task.files().remove(Fd(number)).unwrap();
        assert_eq!(bytes(&task, &file.ops, 0).err(), None);
        drop(file);
    }
    drop(new_socket(&task, UNIX, kind::SOCK_STREAM, 0));
    assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
}

#[test]
fn a_long_chain_of_sockets_in_queues_ends_without_deep_recursion() {
    let task = task();
    let mut inner: Option<i32> = None;
    for _ in 0..5000 {
        let [one, other] = pair(&task, kind::SOCK_DGRAM);
        if let Some(number) = inner {
            send_with(&task, &one, b"x", &rights(&[number])).unwrap();
            drop(task.files().remove(Fd(number)).unwrap());
        }
        inner = Some(enter(&task, open(&task, other, 0)));
    }
    drop(task.files().remove(Fd(inner.unwrap())).unwrap());
    drop(new_socket(&task, UNIX, kind::SOCK_STREAM, 0));
    assert_eq!(task.kernel.net.in_flight.total(), 0);
}

#[test]
fn credentials_go_with_messages_and_may_not_be_forged() {
    let task = task();
    let [one, other] = pair(&task, kind::SOCK_DGRAM);
    socket(&other).set_option(&task, so::SOL_SOCKET, so::SO_PASSCRED, 1i32.as_bytes()).unwrap();
    become_user(&task, 1000);
    let claim = |uid: u32| {
        let data = linux_abi::net::Ucred { pid: 1, uid, gid: 1000 }.as_bytes().to_vec();
        vec![Cmsg { level: so::SOL_SOCKET, kind: so::SCM_CREDENTIALS, data }]
    };
    assert_eq!(send_with(&task, &one, b"x", &claim(0)), Err(Errno::EPERM));
    assert_eq!(send_with(&task, &one, b"x", &claim(1000)), Ok(1));
    let (_, received) = receive(&task, &other, 9, 0).unwrap();
    let [ControlOut::Credentials(ucred)] = &received.control[..] else { panic!("no credentials") };
    assert_eq!((ucred.pid, ucred.uid, ucred.gid), (1, 1000, 1000));
}
