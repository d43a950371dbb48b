//! System V objects without tasks: keys, rights, limits, and what each kind does.

use std::sync::Arc;

use linux_abi::Errno;
use linux_abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_NOWAIT, MSG_EXCEPT, MSG_NOERROR, SEM_UNDO, SHM_DEST, SemBuf};
use linux_abi::mm::Prot;
use platform::fake::FakeSpace;

use super::{Attempt, Caller, Message, Namespace, Queue, Selector};
use crate::account::{self, Accounts};
use crate::mm::{MemoryLimits, MemoryManager};
use crate::task::Credentials;

fn user(uid: u32) -> Credentials {
    Credentials { uid, euid: uid, fsuid: uid, gid: uid, egid: uid, fsgid: uid, ..Credentials::default() }
}

fn by(credentials: &Credentials) -> Caller<'_> {
    Caller { credentials, pid: 7 }
}

#[test]
fn keys_lead_to_objects_as_flags_say() {
    let (ipc, me) = (Namespace::new(), user(5));
    let get = |key, flags| ipc.semaphores.get(&by(&me), key, 1, flags);
    assert_eq!(get(42, 0o600), Err(Errno::ENOENT));
    let id = get(42, IPC_CREAT | 0o600).expect("made");
    assert_eq!(get(42, 0o600), Ok(id));
    assert_eq!(get(42, IPC_CREAT | IPC_EXCL), Err(Errno::EEXIST));
    assert_ne!(get(0, 0o600), get(0, 0o600), "private ones are new each time");
    ipc.semaphores.remove(&by(&me), id).expect("mine");
    assert_eq!(ipc.semaphores.find(id).err(), Some(Errno::EINVAL));
    let next = get(42, IPC_CREAT | 0o600).expect("made again");
    assert_ne!(next, id, "an id is not used again at once");
    assert_eq!(ipc.semaphores.find(id).err(), Some(Errno::EIDRM));
}

#[test]
fn rights_follow_owner_group_and_others() {
    let (ipc, me, other) = (Namespace::new(), user(5), user(6));
    let id = ipc.semaphores.get(&by(&me), 1, 1, IPC_CREAT | 0o640).expect("made");
    let set = ipc.semaphores.find(id).expect("there");
    let mut friend = user(7);
    friend.groups.push(5);
    assert_eq!(set.check(&by(&me), 0o6), Ok(()));
    assert_eq!(set.check(&by(&friend), 0o4), Ok(()));
    assert_eq!(set.check(&by(&friend), 0o2), Err(Errno::EACCES));
    assert_eq!(set.check(&by(&other), 0o4), Err(Errno::EACCES));
    assert_eq!(ipc.semaphores.remove(&by(&other), id), Err(Errno::EPERM));
    let root = Credentials { effective: u64::MAX, ..user(0) };
    assert_eq!(set.check(&by(&root), 0o6), Ok(()));
}

fn op(num: u16, op: i16, flags: i16) -> SemBuf {
    SemBuf { num, op, flags }
}

#[test]
fn semaphores_change_all_at_once_or_not_at_all() {
    let (ipc, me) = (Namespace::new(), user(5));
    let id = ipc.semaphores.get(&by(&me), 0, 2, 0o600).expect("made");
    let set = ipc.semaphores.find(id).expect("there");
    let attempt = |ops: &[SemBuf]| set.attempt(&by(&me), 1, ops);
    assert_eq!(attempt(&[op(0, 2, 0), op(1, -1, 0)]), Ok(Attempt::MustWait(1, false)));
    assert_eq!(set.values(), [0, 0]);
    assert_eq!(attempt(&[op(0, 2, 0), op(0, -1, 0)]), Ok(Attempt::Done));
    assert_eq!(set.values(), [1, 0]);
    assert_eq!(attempt(&[op(0, 0, 0)]), Ok(Attempt::MustWait(0, true)));
    let nowait = i16::try_from(IPC_NOWAIT).expect("small");
    assert_eq!(attempt(&[op(0, -2, nowait)]), Err(Errno::EAGAIN));
    assert_eq!(attempt(&[op(2, 1, 0)]), Err(Errno::EFBIG));
    assert_eq!(attempt(&[op(0, i16::MAX, 0)]), Err(Errno::ERANGE));
}

#[test]
fn what_a_process_did_is_undone_at_its_exit() {
    let (ipc, me) = (Namespace::new(), user(5));
    let id = ipc.semaphores.get(&by(&me), 0, 1, 0o600).expect("made");
    let set = ipc.semaphores.find(id).expect("there");
    set.set_value(&by(&me), 0, 10).expect("in range");
    assert_eq!(set.attempt(&by(&me), 1, &[op(0, -3, SEM_UNDO)]), Ok(Attempt::Done));
    assert_eq!(set.attempt(&by(&me), 1, &[op(0, -1, SEM_UNDO)]), Ok(Attempt::Done));
    assert_eq!(set.attempt(&by(&me), 2, &[op(0, 1, 0)]), Ok(Attempt::Done));
    assert_eq!(set.values(), [7]);
    ipc.semaphores.process_exited(2, 8);
    assert_eq!(set.values(), [7]);
    ipc.semaphores.process_exited(1, 7);
    assert_eq!(set.values(), [11]);
    ipc.semaphores.process_exited(1, 7);
    assert_eq!(set.values(), [11], "only once");
}

fn fill(queue: &Queue, me: &Credentials) {
    for (kind, text) in [(3, "c"), (1, "a"), (2, "b"), (1, "aa")] {
        let message = Message { kind, text: text.as_bytes().to_vec() };
        assert_eq!(queue.send(&by(me), &message), Ok(true));
    }
}

#[test]
fn messages_are_chosen_by_type() {
    let (ipc, me) = (Namespace::new(), user(5));
    let take = |kind, flags| {
        let id = ipc.messages.get(&by(&me), 0, 0o600).expect("made");
        let queue = ipc.messages.find(id).expect("there");
        fill(&queue, &me);
        let selector = Selector { kind, flags, room: 10 };
        let message = queue.receive(&by(&me), selector).expect("fits").expect("there is one");
        ipc.messages.remove(&by(&me), id).expect("mine");
        String::from_utf8(message.text).expect("text")
    };
    assert_eq!(take(0, 0), "c");
    assert_eq!(take(1, 0), "a");
    assert_eq!(take(3, MSG_EXCEPT), "a");
    assert_eq!(take(-2, 0), "a");
    assert_eq!(take(i64::MIN, 0), "a");
}

#[test]
fn a_long_message_is_cut_only_if_wanted() {
    let (ipc, me) = (Namespace::new(), user(5));
    let id = ipc.messages.get(&by(&me), 0, 0o600).expect("made");
    let queue = ipc.messages.find(id).expect("there");
    queue.send(&by(&me), &Message { kind: 1, text: b"long".to_vec() }).expect("room");
    let select = |flags| Selector { kind: 0, flags, room: 2 };
    assert_eq!(queue.receive(&by(&me), select(0)), Err(Errno::E2BIG));
    let message = queue.receive(&by(&me), select(MSG_NOERROR)).expect("fits");
    assert_eq!(message.map(|message| message.text), Some(b"lo".to_vec()));
    assert_eq!(queue.stat().cbytes, 0);
    assert_eq!(queue.receive(&by(&me), select(0)), Ok(None));
}

#[test]
fn a_full_queue_says_so() {
    let (ipc, me) = (Namespace::new(), user(5));
    let id = ipc.messages.get(&by(&me), 0, 0o600).expect("made");
    let queue = ipc.messages.find(id).expect("there");
    let message = Message { kind: 1, text: vec![0; 8192] };
    assert_eq!(queue.send(&by(&me), &message), Ok(true));
    assert_eq!(queue.send(&by(&me), &message), Ok(true));
    assert_eq!(queue.send(&by(&me), &message), Ok(false));
    ipc.messages.remove(&by(&me), id).expect("mine");
    assert_eq!(queue.send(&by(&me), &message), Err(Errno::EIDRM));
}

fn share() -> Arc<crate::descriptors::Share> {
    crate::descriptors::Descriptors::new(1 << 20).share("test")
}

#[test]
fn messages_semaphores_and_segments_are_the_accounts() {
    let (ipc, me) = (Namespace::new(), user(5));
    let account = Accounts::default().of("test");
    account.set_limits(50_000, 0);
    let _working = account::work_for(&account);
    let id = ipc.messages.get(&by(&me), 0, 0o600).expect("made");
    let queue = ipc.messages.find(id).expect("there");
    let message = Message { kind: 1, text: vec![0; 8000] };
    queue.send(&by(&me), &message).expect("room");
    assert!(account.used() >= 8000);
    let sets: Vec<_> = (0..10).map(|_| ipc.semaphores.get(&by(&me), 0, 500, 0o600)).collect();
    assert_eq!(sets.last(), Some(&Err(Errno::ENOMEM)));
    assert_eq!(queue.send(&by(&me), &message), Err(Errno::ENOMEM));
    for id in sets.into_iter().flatten() {
        ipc.semaphores.remove(&by(&me), id).expect("mine");
    }
    ipc.messages.remove(&by(&me), id).expect("mine");
    drop(queue);
    assert_eq!(account.used(), 0);
    let descriptors = crate::descriptors::Descriptors::new(0);
    let share = descriptors.share("test");
    let segment = |_| ipc.shared_memory.get(&by(&me), &share, 0, 1, 0o600).err();
    assert_eq!((0..1000).find_map(segment), Some(Errno::ENFILE), "a segment is a descriptor of the host");
}

#[test]
fn a_segment_lives_until_its_last_mapping_goes() {
    let (ipc, me) = (Namespace::new(), user(5));
    let all = &ipc.shared_memory;
    let id = all.get(&by(&me), &share(), 9, 5000, IPC_CREAT | 0o600).expect("made");
    assert_eq!(all.get(&by(&me), &share(), 9, 6000, 0), Err(Errno::EINVAL), "larger than it is");
    assert_eq!(all.get(&by(&user(6)), &share(), 9, 0, 0o400), Err(Errno::EACCES));

    let (space, mut context) = FakeSpace::with_context();
    let mm = MemoryManager::new(Arc::clone(&space) as Arc<dyn platform::AddressSpace>);
    let mut attach = |mm: &MemoryManager, addr| {
        let prot = Prot::READ | Prot::WRITE;
        let segment = all.attach(&by(&me), id, prot, 0).expect("allowed");
        mm.attach(&mut context, addr, false, prot, segment, &MemoryLimits::default())
    };
    let (one, two) = (attach(&mm, 0).expect("room"), attach(&mm, 0).expect("room"));
    assert_eq!(attach(&mm, one), Err(Errno::EINVAL), "something is there");
    let segment = all.lock().get(id).expect("there");
    assert_eq!(segment.stat().nattch, 2);

    let guest = Arc::clone(mm.space());
    assert_eq!(guest.write(one, b"shared"), 6);
    let mut buf = [0; 6];
    assert_eq!(guest.read(two, &mut buf), 6);
    assert_eq!(&buf, b"shared");

    all.remove(&by(&me), id).expect("mine");
    assert_ne!(segment.stat().perm.mode & SHM_DEST, 0);
    assert_eq!(all.get(&by(&me), &share(), 9, 0, 0), Err(Errno::ENOENT), "its key is free");
    let (child, _) = mm.fork(&mut context).expect("the fake forks");
    assert_eq!(segment.stat().nattch, 4);
    drop(child);
    assert_eq!(mm.detach(&mut context, one + 4096), Err(Errno::EINVAL));
    assert_eq!(mm.detach(&mut context, one), Ok(id));
    assert!(all.lock().get(id).is_ok());
    assert_eq!(mm.detach(&mut context, two), Ok(id));
    assert_eq!(all.lock().get(id).err(), Some(Errno::EINVAL));
}

#[test]
fn posix_messages_come_by_priority_then_age() {
    let (ipc, me) = (Namespace::new(), user(5));
    let open = |flags, size| ipc.posix.open(&by(&me), b"queue", flags, 0o600, size, u64::MAX);
    assert_eq!(open(2, None).err(), Some(Errno::ENOENT));
    let size = super::QueueSize { max_messages: 3, max_size: 4 };
    let queue = open(0o102, Some(size)).expect("made");
    assert_eq!(open(0o302, None).err(), Some(Errno::EEXIST));
    assert_eq!(ipc.posix.open(&by(&user(6)), b"queue", 0, 0, None, u64::MAX).err(), Some(Errno::EACCES));
    for (priority, text) in [(1, b"a"), (7, b"b"), (1, b"c")] {
        assert_eq!(queue.send(&by(&me), priority, text), Ok(()));
    }
    assert_eq!(queue.send(&by(&me), 0, b"d"), Err(Errno::EAGAIN));
    let order: Vec<_> = std::iter::from_fn(|| queue.receive().ok()).collect();
    assert_eq!(order, [(7, b"b".to_vec()), (1, b"a".to_vec()), (1, b"c".to_vec())]);
    assert_eq!(ipc.posix.unlink(&by(&user(6)), b"queue"), Err(Errno::EPERM));
    assert_eq!(ipc.posix.unlink(&by(&me), b"queue"), Ok(()));
    assert_eq!(ipc.posix.unlink(&by(&me), b"queue"), Err(Errno::ENOENT));
}

#[test]
fn posix_queues_are_limited() {
    let _working = account::work_for(&Accounts::default().of("test"));
    let (ipc, me) = (Namespace::new(), user(5));
    let open = |name: &[u8], max_messages, max_size| {
        let size = super::QueueSize { max_messages, max_size };
        ipc.posix.open(&by(&me), name, 0o102, 0o600, Some(size), u64::MAX).err()
    };
    assert_eq!(open(b"many", 11, 1), Some(Errno::EINVAL));
    assert_eq!(open(b"long", 1, 8193), Some(Errno::EINVAL));
    assert_eq!(open(b"none", 0, 1), Some(Errno::EINVAL));
    assert_eq!(open(b"a/b", 1, 1), Some(Errno::EACCES));
    assert_eq!(open(&[b'x'; 256], 1, 1), Some(Errno::ENAMETOOLONG));
    let first = (0..300).find_map(|n: i32| open(n.to_string().as_bytes(), 1, 1));
    assert_eq!(first, Some(Errno::ENOSPC));
}
