//! Epoll instances over files whose readiness the test sets.

use super::*;
use crate::vfs::{Dentry, Inode, Location, Mount, Stat};

#[derive(Default)]
struct Switch {
    state: AtomicU32,
    queue: WaitQueue,
}

impl Switch {
    fn set(&self, events: Events) {
        self.state.store(events.bits(), Ordering::Release);
        self.queue.wake(events);
    }
}

impl FileOps for Switch {
    fn readiness(&self) -> Events {
        Events::from_bits_truncate(self.state.load(Ordering::Acquire))
    }
    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Node;
impl Inode for Node {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat::default())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
struct NoFs;
impl crate::vfs::FileSystem for NoFs {
    fn name(&self) -> &'static str {
        "none"
    }
    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(Node)
    }
    fn stat_fs(&self) -> Result<crate::vfs::StatFs, Errno> {
        Ok(crate::vfs::StatFs::default())
    }
}

fn instance() -> Arc<Epoll> {
    let share = crate::descriptors::Descriptors::new(2048).share("test");
    Epoll::new(Poller::start().expect("the host has epoll"), share)
}

fn open(ops: Arc<dyn FileOps>) -> Arc<OpenFile> {
    let root = Dentry::root(Arc::new(Node), None, None);
    let mount = Mount::new(Arc::new(NoFs), Arc::clone(&root), 0, b"none");
    OpenFile::new(ops, Location { mount, dentry: root }, 2)
}

fn watched(epoll: &Epoll, events: u32) -> (Arc<Switch>, Arc<OpenFile>) {
    let switch = Arc::new(Switch::default());
    let file = open(Arc::clone(&switch) as Arc<dyn FileOps>);
    epoll.add(Fd(3), &file, Interest { events, data: 7 }).unwrap();
    (switch, file)
}

const IN: u32 = Events::IN.bits();

#[test]
fn level_triggered_reports_as_long_as_it_is_ready() {
    let epoll = instance();
    let (switch, _file) = watched(&epoll, IN);
    assert!(epoll.collect(8).is_empty());
    switch.set(Events::IN);
    assert_eq!(epoll.collect(8), [Interest { events: IN, data: 7 }]);
    assert_eq!(epoll.collect(8).len(), 1);
    switch.set(Events::empty());
    assert!(epoll.collect(8).is_empty());
}

#[test]
fn edge_triggered_reports_once_a_change() {
    let epoll = instance();
    let (switch, _file) = watched(&epoll, IN | EDGE);
    switch.set(Events::IN);
    assert_eq!(epoll.collect(8).len(), 1);
    assert!(epoll.collect(8).is_empty());
    switch.set(Events::IN);
    assert_eq!(epoll.collect(8).len(), 1);
}

#[test]
fn a_oneshot_is_silent_until_modified() {
    let epoll = instance();
    let (switch, file) = watched(&epoll, IN | ONESHOT);
    switch.set(Events::IN);
    assert_eq!(epoll.collect(8).len(), 1);
    switch.set(Events::IN | Events::HUP);
    assert!(epoll.collect(8).is_empty());
    epoll.modify(Fd(3), &file, Interest { events: IN | ONESHOT, data: 9 }).unwrap();
    assert_eq!(epoll.collect(8)[0].data, 9);
}

#[test]
fn what_is_ready_at_registration_is_reported() {
    let epoll = instance();
    let switch = Arc::new(Switch::default());
    switch.set(Events::IN);
    let file = open(Arc::clone(&switch) as Arc<dyn FileOps>);
    epoll.add(Fd(3), &file, Interest { events: IN | EDGE, data: 1 }).unwrap();
    assert_eq!(epoll.collect(8).len(), 1);
}

#[test]
fn hang_up_is_reported_unasked() {
    let epoll = instance();
    let (switch, _file) = watched(&epoll, 0);
    switch.set(Events::HUP);
    assert_eq!(epoll.collect(8)[0].events, Events::HUP.bits());
}

#[test]
fn the_last_close_removes_a_file() {
    let epoll = instance();
    let (switch, file) = watched(&epoll, IN);
    switch.set(Events::IN);
    drop(file);
    assert!(epoll.collect(8).is_empty());
    assert!(lock(&epoll.items).is_empty());
    assert!(switch.queue.is_empty());
}

#[test]
fn the_end_of_an_instance_leaves_no_registration() {
    let epoll = instance();
    let (switch, _file) = watched(&epoll, IN);
    drop(Instance(epoll));
    assert!(switch.queue.is_empty());
}

#[test]
fn registering_twice_and_removing_twice_fail() {
    let epoll = instance();
    let (_switch, file) = watched(&epoll, IN);
    let interest = Interest { events: IN, data: 0 };
    assert_eq!(epoll.add(Fd(3), &file, interest), Err(Errno::EEXIST));
    assert_eq!(epoll.add(Fd(4), &file, interest), Ok(()));
    assert_eq!(epoll.remove(Fd(3), &file), Ok(()));
    assert_eq!(epoll.remove(Fd(3), &file), Err(Errno::ENOENT));
    assert_eq!(epoll.modify(Fd(3), &file, interest), Err(Errno::ENOENT));
}

#[test]
fn nested_instances_pass_readiness_up() {
    let inner = instance();
    let outer = instance();
    let inner_file = open(Arc::new(Instance(Arc::clone(&inner))));
    outer.add(Fd(5), &inner_file, Interest { events: IN, data: 5 }).unwrap();
    let (switch, _file) = watched(&inner, IN);
    assert!(outer.collect(8).is_empty());
    switch.set(Events::IN);
    assert_eq!(outer.collect(8), [Interest { events: IN, data: 5 }]);
}

#[test]
fn loops_and_long_chains_are_refused() {
    let instances: Vec<_> = (0..7).map(|_| instance()).collect();
    let files: Vec<_> = instances.iter().map(|e| open(Arc::new(Instance(Arc::clone(e))))).collect();
    let interest = Interest { events: IN, data: 0 };
    assert_eq!(instances[0].add(Fd(0), &files[0], interest), Err(Errno::EINVAL));
    for n in 0..4 {
        assert_eq!(instances[n].add(Fd(0), &files[n + 1], interest), Ok(()), "{n}");
    }
    assert_eq!(instances[4].add(Fd(0), &files[5], interest), Err(Errno::ELOOP));
    assert_eq!(instances[4].add(Fd(0), &files[0], interest), Err(Errno::ELOOP));
    assert_eq!(instances[6].add(Fd(0), &files[0], interest), Err(Errno::ELOOP));
}

#[test]
fn exclusive_takes_plain_events_only() {
    let epoll = instance();
    let file = open(Arc::new(Switch::default()));
    let interest = |events| Interest { events, data: 0 };
    assert_eq!(epoll.add(Fd(3), &file, interest(IN | EXCLUSIVE | ONESHOT)), Err(Errno::EINVAL));
    assert_eq!(epoll.add(Fd(3), &file, interest(IN | EXCLUSIVE)), Ok(()));
    assert_eq!(epoll.modify(Fd(3), &file, interest(IN)), Err(Errno::EINVAL));
}

#[test]
fn a_full_answer_leaves_the_rest_for_the_next() {
    let epoll = instance();
    let all: Vec<_> = (0..4)
        .map(|n| {
            let switch = Arc::new(Switch::default());
            let file = open(Arc::clone(&switch) as Arc<dyn FileOps>);
            epoll.add(Fd(n), &file, Interest { events: IN, data: n as u64 }).unwrap();
            switch.set(Events::IN);
            (switch, file)
        })
        .collect();
    let mut seen: Vec<u64> = epoll.collect(2).iter().chain(&epoll.collect(2)).map(|i| i.data).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
    drop(all);
}

fn call(operation: u32, fd: i32, events: u32, data: u64) -> platform::QueuedCall {
    platform::QueuedCall { operation, fd, events, data, addr: 0 }
}

#[test]
fn calls_made_later_come_to_what_the_last_one_says() {
    let epoll = instance();
    let (switch, file) = watched(&epoll, Events::IN.bits() | ONESHOT);
    let table = crate::vfs::FdTable::new();
    table.replace(Fd(3), Arc::clone(&file), false, 10).unwrap();
    switch.set(Events::IN);
    assert_eq!(epoll.collect(9).len(), 1);
    assert!(epoll.collect(9).is_empty());
    // Taken out and put in again: armed again, with the new word.
    let readable = Events::IN.bits();
    epoll.make(&table, &[call(2, 3, 0, 0), call(1, 3, readable | ONESHOT, 8)]);
    assert_eq!(epoll.collect(9).iter().map(|found| found.data).collect::<Vec<_>>(), [8]);
    // Only the last one counts; what names nothing is dropped.
    let calls =
        [call(3, 3, readable, 9), call(3, 9, readable, 1), call(3, -1, readable, 1), call(2, 3, 0, 0)];
    epoll.make(&table, &calls);
    assert!(epoll.collect(9).is_empty());
    assert!(!epoll.is_certain(Fd(3), &file));
    // Never registered: what a hostile guest queues does not enter it.
    epoll.make(&table, &[call(1, 3, readable, 9)]);
    assert!(epoll.collect(9).is_empty() && !epoll.is_certain(Fd(3), &file));
}

#[test]
fn certain_is_what_is_registered_plainly_while_nobody_watches_the_instance() {
    let epoll = instance();
    let (_switch, file) = watched(&epoll, Events::IN.bits());
    let mut fds = [0; 16];
    fds[0] = 1 << 3;
    assert_eq!(epoll.certain(), Some(fds));
    assert!(epoll.is_certain(Fd(3), &file) && !epoll.is_certain(Fd(4), &file));
    let (_other, other) = watched(&instance(), Events::IN.bits());
    epoll.add(Fd(64), &other, Interest { events: Events::IN.bits() | EXCLUSIVE, data: 0 }).unwrap();
    epoll.add(Fd(1024), &other, Interest { events: Events::IN.bits(), data: 0 }).unwrap();
    assert_eq!(epoll.certain(), Some(fds));
    let outer = instance();
    let inner = open(Arc::new(Instance(Arc::clone(&epoll))));
    outer.add(Fd(5), &inner, Interest { events: Events::IN.bits(), data: 0 }).unwrap();
    assert_eq!((epoll.certain(), outer.certain()), (None, Some([0; 16])));
}
