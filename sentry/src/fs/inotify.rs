//! `inotify(7)`: what happens to files, as a file.
//!
//! Key types: [`Registry`] (all watches of the sandbox, by node), [`Instance`] (one descriptor's watches and events).
//! [`notify`] and [`notify_at`] are called by whoever changes or uses files; they cost one load while nobody watches.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::anon;
use crate::Errno;
use crate::account::{Account, Charge, Counted, Kind};
use crate::io::Sink;
use crate::kernel::Kernel;
use crate::sync::{Events, WaitQueue};
use crate::task::{Current, Task};
use crate::vfs::open_flags::O_PATH;
use crate::vfs::{FileOps, Inode, Location, Op, OpenFile, SetAttr, Tree};

/// Most instances of a container. LINUX: `fs.inotify.max_user_instances`, EMFILE above.
const INSTANCES_MAX: u64 = 128;
/// Most watches of a container. LINUX: `fs.inotify.max_user_watches`, ENOSPC above.
const WATCHES_MAX: u64 = 65536;
/// What a watch costs in the tables of its instance and of its node.
const WATCH_TABLES: usize = 160;
/// Most events that wait in one instance. LINUX: `fs.inotify.max_queued_events`, `IN_Q_OVERFLOW` above.
const QUEUE_MAX: usize = 16384;
const FIONREAD: u32 = 0x541b;
const HEADER: usize = 16;

/// Event and watch bits.
#[expect(missing_docs, reason = "named as in inotify(7)")]
pub mod mask {
    pub const ACCESS: u32 = 0x1;
    pub const MODIFY: u32 = 0x2;
    pub const ATTRIB: u32 = 0x4;
    pub const CLOSE_WRITE: u32 = 0x8;
    pub const CLOSE_NOWRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    pub const ALL_EVENTS: u32 = 0xfff;
    /// Beside `OPEN`, of a program that is to run; not told, but such an event is another than an open. LINUX: `FS_OPEN_EXEC`.
    pub const OPEN_EXEC: u32 = 0x1000;
    pub const UNMOUNT: u32 = 0x2000;
    pub const Q_OVERFLOW: u32 = 0x4000;
    pub const IGNORED: u32 = 0x8000;
    pub const ONLYDIR: u32 = 0x0100_0000;
    pub const DONT_FOLLOW: u32 = 0x0200_0000;
    pub const EXCL_UNLINK: u32 = 0x0400_0000;
    pub const MASK_CREATE: u32 = 0x1000_0000;
    pub const MASK_ADD: u32 = 0x2000_0000;
    pub const ISDIR: u32 = 0x4000_0000;
    pub const ONESHOT: u32 = 0x8000_0000;
    /// All that may be asked for. LINUX: `ALL_INOTIFY_BITS`.
    pub const VALID: u32 = 0xf700_efff;
}

/// By what an event comes about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Somebody uses the file.
    Use,
    /// Somebody sets its attributes.
    Attributes,
}

/// A node, whatever objects stand for it: device and inode number.
type Key = (u64, u64);

/// All watches of the sandbox.
#[derive(Default)]
pub struct Registry {
    count: AtomicUsize,
    next_cookie: AtomicU32,
    /// LOCK: before an instance's.
    watches: Mutex<HashMap<Key, Vec<Arc<Watch>>>>,
}

struct Watch {
    number: i32,
    instance: Weak<Instance>,
    mask: AtomicU32,
    key: Key,
    is_dir: bool,
    /// The file system that the node was found on.
    tree: Option<Weak<Tree>>,
    _charge: (Counted, Charge),
}

/// One descriptor's watches and events.
pub struct Instance {
    me: Weak<Instance>,
    kernel: Arc<Kernel>,
    /// Who watches is charged for what others do. LINUX: `fsnotify_group.memcg`.
    account: Arc<Account>,
    inner: Mutex<Inner>,
    queue: WaitQueue,
    _charge: (Counted, Charge),
}

#[derive(Default)]
struct Inner {
    last_number: i32,
    by_number: HashMap<i32, Arc<Watch>>,
    by_key: HashMap<Key, Arc<Watch>>,
    events: VecDeque<Event>,
    /// Of the events, in their order; the last one's may be missing: it says that there was no room.
    charges: VecDeque<Charge>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    number: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Inner {
    fn remove(&mut self, watch: &Watch) -> bool {
        self.by_key.remove(&watch.key);
        self.by_number.remove(&watch.number).is_some()
    }
}

impl Event {
    /// It would tell nothing new behind `last`. LINUX: `event_compare`, for which a cookie makes no difference.
    fn repeats(&self, last: &Self) -> bool {
        last.mask & mask::IGNORED == 0
            && (self.number, self.mask, &self.name) == (last.number, last.mask, &last.name)
    }

    /// `struct inotify_event`, its name padded with zeros to a multiple of the header.
    fn to_bytes(&self) -> Vec<u8> {
        let len = if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEADER) };
        let mut bytes = Vec::with_capacity(HEADER + len);
        bytes.extend_from_slice(&self.number.to_ne_bytes());
        bytes.extend_from_slice(&(self.mask & !mask::OPEN_EXEC).to_ne_bytes());
        bytes.extend_from_slice(&self.cookie.to_ne_bytes());
        bytes.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_ne_bytes());
        bytes.extend_from_slice(&self.name);
        bytes.resize(HEADER + len, 0);
        bytes
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something has happened to `inode`; `name`: to this entry of it, a directory. `cookie` joins the two halves of a rename.
pub fn notify(kernel: &Kernel, inode: &Arc<dyn Inode>, events: u32, name: Option<&[u8]>, cookie: u32) {
    let registry = &kernel.vfs.inotify;
    if registry.is_idle() {
        return;
    }
    let Ok(stat) = inode.stat() else { return };
    let event = Event { number: 0, mask: events, cookie, name: name.unwrap_or_default().to_vec() };
    registry.tell((stat.dev, stat.ino), &event, 0);
}

/// Something has happened to what is at `location`: tells those who watch it, and those who watch its directory.
pub fn notify_at(kernel: &Kernel, location: &Location, events: u32) {
    kernel.vfs.inotify.happened_at(location, events, By::Use);
}

/// Attributes of what is at `location` have been changed by one call, which is one event. LINUX: `fsnotify_change`.
pub fn notify_change(kernel: &Kernel, location: &Location, change: &SetAttr) {
    let SetAttr { mode, uid, gid, size, atime_ns, mtime_ns } = change;
    let is_attribute = mode.is_some() || uid.is_some() || gid.is_some();
    let times = match (atime_ns.is_some(), mtime_ns.is_some()) {
        (true, true) => mask::ATTRIB,
        (true, false) => mask::ACCESS,
        (false, true) => mask::MODIFY,
        (false, false) => 0,
    };
    let events =
        times | if is_attribute { mask::ATTRIB } else { 0 } | if size.is_some() { mask::MODIFY } else { 0 };
    if events != 0 {
        kernel.vfs.inotify.happened_at(location, events, By::Attributes);
    }
}

/// Something has been done with an open file. LINUX: `fsnotify_file`: not with one that is only a path.
pub fn notify_file(kernel: &Kernel, file: &OpenFile, events: u32) {
    if file.flags() & O_PATH == 0 {
        kernel.vfs.inotify.happened_at(&file.location, events, By::Use);
    }
}

impl Registry {
    /// A number that joins the two halves of a rename.
    pub fn next_cookie(&self) -> u32 {
        self.next_cookie.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Nobody watches anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Tells those who watch what is at `location`, and those who watch its directory.
    pub(crate) fn happened_at(&self, location: &Location, events: u32, by: By) {
        if self.is_idle() {
            return;
        }
        let Ok(stat) = location.inode().stat() else { return };
        let mask = if stat.is_dir() { events | mask::ISDIR } else { events };
        // LINUX: `__fsnotify_parent`: who may only list a directory is not told what goes through its fifos and devices.
        let is_special = !stat.is_regular() && !stat.is_dir() && !stat.is_symlink();
        let is_secret = is_special && by == By::Use && events & (mask::ACCESS | mask::MODIFY) != 0;
        if !is_secret
            && let Some(parent) = location.dentry.parent()
            && let Ok(stat) = parent.inode().stat()
        {
            let event = Event { number: 0, mask, cookie: 0, name: location.dentry.name() };
            let unwanted = if location.dentry.is_deleted() { mask::EXCL_UNLINK } else { 0 };
            self.tell((stat.dev, stat.ino), &event, unwanted);
        }
        self.tell((stat.dev, stat.ino), &Event { number: 0, mask, cookie: 0, name: Vec::new() }, 0);
    }

    /// Tells those who watch a node, but for watches with one of the bits `unwanted`.
    fn tell(&self, key: Key, event: &Event, unwanted: u32) {
        let watches = lock(&self.watches).get(&key).cloned().unwrap_or_default();
        for watch in watches {
            let Some(instance) = watch.instance.upgrade() else { continue };
            let wanted = watch.mask.load(Ordering::Acquire);
            if wanted & event.mask & mask::ALL_EVENTS == 0 || wanted & unwanted != 0 {
                continue;
            }
            instance.push(Event { number: watch.number, ..event.clone() });
            if wanted & mask::ONESHOT != 0 {
                instance.end(&watch);
            }
        }
    }

    /// The last user of an entry that had lost its name has gone. LINUX: `fsnotify_inoderemove` in `dentry_unlink_inode`,
    /// if it was the node's last name.
    pub(crate) fn entry_has_gone(&self, inode: &Arc<dyn Inode>) {
        let Ok(stat) = inode.stat() else { return };
        if stat.nlink > 0 && !stat.is_dir() {
            return;
        }
        let key = (stat.dev, stat.ino);
        self.tell(key, &Event { number: 0, mask: mask::DELETE_SELF, cookie: 0, name: Vec::new() }, 0);
        let watches = lock(&self.watches).get(&key).cloned().unwrap_or_default();
        for watch in watches {
            if let Some(instance) = watch.instance.upgrade() {
                instance.end(&watch);
            }
        }
    }

    /// A file system is mounted nowhere any more. LINUX: `fsnotify_unmount_inodes`.
    pub(crate) fn unmounted(&self, tree: &Arc<Tree>) {
        let is_on = |watch: &&Arc<Watch>| {
            watch.tree.as_ref().is_some_and(|there| there.as_ptr() == Arc::as_ptr(tree))
        };
        let watches: Vec<_> = lock(&self.watches).values().flatten().filter(is_on).cloned().collect();
        for watch in watches {
            let Some(instance) = watch.instance.upgrade() else { continue };
            let mask = if watch.is_dir { mask::UNMOUNT | mask::ISDIR } else { mask::UNMOUNT };
            instance.push(Event { number: watch.number, mask, cookie: 0, name: Vec::new() });
            instance.end(&watch);
        }
    }

    fn enter(&self, watch: &Arc<Watch>) {
        self.count.fetch_add(1, Ordering::AcqRel);
        lock(&self.watches).entry(watch.key).or_default().push(Arc::clone(watch));
    }

    fn leave(&self, watch: &Arc<Watch>) {
        let mut watches = lock(&self.watches);
        let Some(there) = watches.get_mut(&watch.key) else { return };
        let before = there.len();
        there.retain(|other| !Arc::ptr_eq(other, watch));
        self.count.fetch_sub(before - there.len(), Ordering::AcqRel);
        if there.is_empty() {
            watches.remove(&watch.key);
        }
    }
}

/// `inotify_init1(2)`; `flags`: `O_NONBLOCK`.
///
/// # Errors
/// EMFILE.
pub fn new(task: &Arc<Task>, flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let instance = Instance::new(&task.kernel, &task.process.account)?;
    Ok(anon::open(task, "inotify", Arc::new(InstanceFile(instance)), flags))
}

/// The instance behind an open file, if it is one.
#[must_use]
pub fn instance_of(file: &OpenFile) -> Option<&Arc<Instance>> {
    file.ops.as_any().downcast_ref::<InstanceFile>().map(|file| &file.0)
}

impl Instance {
    fn new(kernel: &Arc<Kernel>, account: &Arc<Account>) -> Result<Arc<Self>, Errno> {
        let counted = account.take_one(Kind::InotifyInstance, INSTANCES_MAX).ok_or(Errno::EMFILE)?;
        let charge = (counted, account.charge(size_of::<Self>())?);
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kernel: Arc::clone(kernel),
            account: Arc::clone(account),
            _charge: charge,
            inner: Mutex::default(),
            queue: WaitQueue::new(),
        }))
    }

    /// `inotify_add_watch(2)` on a node; answers the watch's number.
    ///
    /// # Errors
    /// EEXIST with `IN_MASK_CREATE`; ENOSPC.
    pub fn add(&self, location: &Location, wanted: u32) -> Result<i32, Errno> {
        let stat = location.inode().stat()?;
        let key = (stat.dev, stat.ino);
        let kept = wanted & (mask::ALL_EVENTS | mask::ONESHOT | mask::EXCL_UNLINK);
        let mut inner = lock(&self.inner);
        if let Some(there) = inner.by_key.get(&key) {
            if wanted & mask::MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            let old = if wanted & mask::MASK_ADD == 0 { 0 } else { there.mask.load(Ordering::Acquire) };
            there.mask.store(old | kept, Ordering::Release);
            return Ok(there.number);
        }
        let counted = self.account.take_one(Kind::InotifyWatch, WATCHES_MAX).ok_or(Errno::ENOSPC)?;
        let charge = (counted, self.account.charge(size_of::<Watch>() + WATCH_TABLES)?);
        inner.last_number = inner.last_number.checked_add(1).ok_or(Errno::ENOSPC)?;
        let number = inner.last_number;
        let tree = location.dentry.tree().map(Arc::downgrade);
        let watch = Arc::new(Watch {
            number,
            instance: self.me.clone(),
            mask: AtomicU32::new(kept),
            key,
            is_dir: stat.is_dir(),
            tree,
            _charge: charge,
        });
        inner.by_number.insert(number, Arc::clone(&watch));
        inner.by_key.insert(key, Arc::clone(&watch));
        drop(inner);
        self.kernel.vfs.inotify.enter(&watch);
        Ok(number)
    }

    /// `inotify_rm_watch(2)`.
    ///
    /// # Errors
    /// EINVAL for no such watch.
    pub fn remove(&self, number: i32) -> Result<(), Errno> {
        let watch = lock(&self.inner).by_number.get(&number).cloned().ok_or(Errno::EINVAL)?;
        self.end(&watch);
        Ok(())
    }

    /// Ends a watch and says so.
    fn end(&self, watch: &Arc<Watch>) {
        self.kernel.vfs.inotify.leave(watch);
        if lock(&self.inner).remove(watch) {
            self.push(Event { number: watch.number, mask: mask::IGNORED, cookie: 0, name: Vec::new() });
        }
    }

    fn push(&self, event: Event) {
        let mut inner = lock(&self.inner);
        if inner.events.back().is_some_and(|last| event.repeats(last)) {
            return;
        }
        let charge = self.account.charge(size_of::<(Event, Charge)>() * 2 + event.name.len());
        let (Ok(charge), true) = (charge, inner.events.len() < QUEUE_MAX) else {
            // LINUX: without memory for an event the queue has overflowed, too.
            let overflow = Event { number: -1, mask: mask::Q_OVERFLOW, cookie: 0, name: Vec::new() };
            if inner.events.back() != Some(&overflow) {
                inner.events.push_back(overflow);
                inner.charges.push_back(Charge::default());
            }
            return;
        };
        inner.events.push_back(event);
        inner.charges.push_back(charge);
        drop(inner);
        self.queue.wake(Events::READABLE);
    }
}

/// The descriptor; its end ends all watches.
struct InstanceFile(Arc<Instance>);

impl Drop for InstanceFile {
    fn drop(&mut self) {
        lock(&self.0.inner).by_key.clear();
        let watches: Vec<_> = lock(&self.0.inner).by_number.drain().map(|(_, watch)| watch).collect();
        for watch in watches {
            self.0.kernel.vfs.inotify.leave(&watch);
        }
    }
}

impl FileOps for InstanceFile {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        let mut done = 0;
        let mut inner = lock(&self.0.inner);
        while let Some(event) = inner.events.front() {
            let bytes = event.to_bytes();
            if bytes.len() > sink.remaining() {
                return if done == 0 { Err(Errno::EINVAL) } else { Ok(done) };
            }
            match sink.write(&bytes) {
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => return Ok(done),
                Ok(n) => done += n,
            }
            inner.events.pop_front();
            inner.charges.pop_front();
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn readiness(&self) -> Events {
        if lock(&self.0.inner).events.is_empty() { Events::empty() } else { Events::READABLE }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn ioctl(&self, current: &mut Current, _: &Arc<OpenFile>, command: u32, arg: u64) -> Result<u64, Errno> {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let waiting: usize = lock(&self.0.inner).events.iter().map(|event| event.to_bytes().len()).sum();
        let waiting = i32::try_from(waiting).unwrap_or(i32::MAX);
        current.write_object(linux_abi::UserPtr::new(arg), &waiting).map(|()| 0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn fdinfo(&self) -> String {
        let line = |watch: &Arc<Watch>| {
            let (dev, ino) = watch.key;
            let mask = watch.mask.load(Ordering::Relaxed);
            format!("inotify wd:{:x} ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0\n", watch.number)
        };
        lock(&self.0.inner).by_number.values().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(task: &Arc<Task>) -> Arc<Instance> {
        Instance::new(&task.kernel, &task.process.account).unwrap()
    }

    #[test]
    fn a_container_has_its_own_number_of_instances_and_watches() {
        let task = crate::testing::task();
        let other = task.kernel.accounts.of("other");
        let all: Vec<_> = (0..INSTANCES_MAX).map(|_| instance(&task)).collect();
        let one_more = Instance::new(&task.kernel, &task.process.account);
        assert_eq!(one_more.err(), Some(Errno::EMFILE));
        assert!(Instance::new(&task.kernel, &other).is_ok());
        drop(all);
        assert!(Instance::new(&task.kernel, &task.process.account).is_ok());
    }

    #[test]
    fn events_without_room_in_the_account_are_an_overflow() {
        let task = crate::testing::task();
        let instance = instance(&task);
        task.process.account.set_limits(task.process.account.used() + 1000, 0);
        for number in 0..20 {
            instance.push(Event { number, mask: 1, cookie: 0, name: vec![b'x'; 200] });
        }
        let events = events(&instance);
        assert!((1..5).contains(&events.len()), "{events:?}");
        assert_eq!(events.last(), Some(&(-1, mask::Q_OVERFLOW, vec![])));
    }

    fn events(instance: &Arc<Instance>) -> Vec<(i32, u32, Vec<u8>)> {
        lock(&instance.inner).charges.clear();
        let events = lock(&instance.inner).events.drain(..).collect::<Vec<_>>();
        events.into_iter().map(|event| (event.number, event.mask, event.name)).collect()
    }

    #[test]
    fn a_watch_hears_what_it_asked_for() {
        let task = crate::testing::task();
        let root = task.fs().root();
        let inode = root.inode();
        let instance = instance(&task);
        let number = instance.add(&root, mask::CREATE | mask::DELETE).unwrap();
        notify(&task.kernel, inode, mask::CREATE, Some(b"a"), 0);
        notify(&task.kernel, inode, mask::OPEN, None, 0);
        notify(&task.kernel, inode, mask::CREATE, Some(b"a"), 0);
        notify(&task.kernel, inode, mask::DELETE, Some(b"a"), 0);
        let expected = [(number, mask::CREATE, b"a".to_vec()), (number, mask::DELETE, b"a".to_vec())];
        assert_eq!(events(&instance), expected);
    }

    #[test]
    fn a_oneshot_ends_itself_and_a_removed_watch_is_silent() {
        let task = crate::testing::task();
        let root = task.fs().root();
        let inode = root.inode();
        let instance = instance(&task);
        let number = instance.add(&root, mask::OPEN | mask::ONESHOT).unwrap();
        notify(&task.kernel, inode, mask::OPEN, None, 0);
        notify(&task.kernel, inode, mask::OPEN, None, 0);
        assert_eq!(events(&instance), [(number, mask::OPEN, vec![]), (number, mask::IGNORED, vec![])]);
        assert_eq!(instance.remove(number), Err(Errno::EINVAL));
        assert_eq!(task.kernel.vfs.inotify.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn the_end_of_an_instance_leaves_no_watch() {
        let task = crate::testing::task();
        let root = task.fs().root();
        let file = InstanceFile(instance(&task));
        file.0.add(&root, mask::ALL_EVENTS).unwrap();
        assert_eq!(file.0.add(&root, mask::ALL_EVENTS | mask::MASK_CREATE), Err(Errno::EEXIST));
        drop(file);
        assert!(lock(&task.kernel.vfs.inotify.watches).is_empty());
        assert_eq!(task.process.account.used(), 0);
    }

    #[test]
    fn names_are_padded_to_sixteen() {
        let event = Event { number: 1, mask: 2, cookie: 3, name: b"abc".to_vec() };
        assert_eq!(event.to_bytes().len(), 32);
        assert_eq!(Event { name: vec![b'x'; 16], ..event }.to_bytes().len(), 48);
    }

    #[test]
    fn a_full_queue_says_so_once() {
        let task = crate::testing::task();
        let instance = instance(&task);
        for number in 0..20_000 {
            instance.push(Event { number, mask: 1, cookie: 0, name: Vec::new() });
        }
        let events = events(&instance);
        assert_eq!(events.len(), QUEUE_MAX + 1);
        assert_eq!(events.last(), Some(&(-1, mask::Q_OVERFLOW, vec![])));
    }
}
