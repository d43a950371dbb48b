//! `/proc/PID` and `/proc/PID/task/TID`: what is in a process's directory, and who may look?
//!
//! Key types: [`Subject`] (whose directory it is), [`ProcessDirectory`]. Texts come from `status` and `mounts`.

use std::any::Any;
use std::sync::Arc;

use super::super::pseudo::{Attributes, Directory, DirectoryNode, Kind, Link, Name, Text, count, number};
use super::{more, mounts, parse_id, status};
use crate::Errno;
use crate::io::{Sink, Source};
use crate::task::{Capability, Process, Task};
use crate::vfs::{Fd, FileOps, Inode, LinkTarget, Location, Op, OpenFile, Stat, mode};

/// Whose directory it is: a process, or one of its threads.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) process: Arc<Process>,
    thread: Option<Arc<Task>>,
    /// It is `/proc/PID/task/TID`, where figures are the thread's alone.
    is_thread: bool,
}

impl Subject {
    pub(super) fn process(process: Arc<Process>) -> Self {
        Self { process, thread: None, is_thread: false }
    }

    /// `/proc/TID`, which is not listed: the process as the thread shows it. LINUX: `proc_pid_lookup` takes any thread.
    pub(super) fn by_thread(thread: Arc<Task>) -> Self {
        Self { process: Arc::clone(&thread.process), thread: Some(thread), is_thread: false }
    }

    /// The thread that the texts are about.
    ///
    /// # Errors
    /// ESRCH if the last one has ended.
    pub(super) fn task(&self) -> Result<Arc<Task>, Errno> {
        self.thread.clone().or_else(|| self.process.any_thread()).ok_or(Errno::ESRCH)
    }

    /// It is the directory of one thread.
    pub(super) fn is_thread(&self) -> bool {
        self.is_thread
    }

    /// It is about a process whose first thread has ended while others live on.
    pub(super) fn has_lost_leader(&self) -> bool {
        self.thread.is_none() && self.process.any_thread().is_some_and(|task| task.tid() != self.process.pid)
    }

    /// The number in its path.
    pub(super) fn id(&self) -> i32 {
        self.thread.as_ref().map_or(self.process.pid, |thread| thread.tid())
    }

    /// LINUX: `ptrace_may_access` with `PTRACE_MODE_READ_FSCREDS`.
    fn check_access(&self, reader: &Arc<Task>) -> Result<(), Errno> {
        if reader.process.key == self.process.key {
            return Ok(());
        }
        let ours = reader.credentials();
        if ours.has(Capability::SysPtrace) {
            return Ok(());
        }
        let Ok(task) = self.task() else { return Err(Errno::ESRCH) };
        let theirs = task.credentials();
        let same_user = [theirs.euid, theirs.suid, theirs.uid].iter().all(|&uid| uid == ours.fsuid);
        let same_group = [theirs.egid, theirs.sgid, theirs.gid].iter().all(|&gid| gid == ours.fsgid);
        let covered = theirs.permitted & !ours.permitted == 0;
        if same_user && same_group && covered && self.process.dumpable() == 1 {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn attributes(&self, dev: u64, permissions: u32, position: u64) -> Attributes {
        let id = u64::try_from(self.id()).unwrap_or(0);
        let ino = 0x2000_0000 + (id << 12) + (u64::from(self.is_thread()) << 11) + position;
        let attributes = Attributes::with_ino(dev, permissions, ino);
        match self.task() {
            Ok(task) if self.process.dumpable() == 1 => {
                let credentials = task.credentials();
                attributes.owned_by(credentials.euid, credentials.egid)
            }
            _ => attributes,
        }
    }
}

/// How a file of text is made.
type Maker = fn(&Subject, &Arc<Task>) -> Result<Vec<u8>, Errno>;
/// What becomes of text that is written.
type Taker = fn(&Subject, &Arc<Task>, &[u8]) -> Result<(), Errno>;
/// Where a link leads.
type Target = fn(&Subject, &Arc<Task>) -> Result<LinkTarget, Errno>;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    All,
    /// Those who might trace the process.
    Tracers,
}

enum What {
    File(Readers, Maker),
    Writable(Readers, Maker, Taker),
    Link(Target),
    Descriptors,
    DescriptorInfo,
    Threads,
    Namespaces,
    Network,
    Memory,
    Attributes,
}

impl What {
    fn kind(&self) -> Kind {
        match self {
            Self::File(..) | Self::Writable(..) | Self::Memory => Kind::File,
            Self::Link(_) => Kind::Link,
            _ => Kind::Directory,
        }
    }
}

use Readers::{All, Tracers};

/// Names in alphabetical order; see also [`OF_PROCESSES`] and [`OF_THREADS`].
const ENTRIES: &[(&str, u32, What)] = &[
    ("attr", 0o555, What::Attributes),
    ("autogroup", 0o644, What::File(All, more::autogroup)),
    ("auxv", 0o400, What::File(Tracers, status::auxv)),
    ("cgroup", 0o444, What::File(All, |_, _| Ok(b"0::/\n".to_vec()))),
    ("children", 0o444, What::File(All, more::children)),
    ("cmdline", 0o444, What::File(All, status::cmdline)),
    ("comm", 0o644, What::Writable(All, status::comm, status::set_comm)),
    ("coredump_filter", 0o644, What::File(All, |_, _| Ok(b"00000033\n".to_vec()))),
    ("cpuset", 0o444, What::File(All, |_, _| Ok(b"/\n".to_vec()))),
    ("cwd", 0o777, What::Link(|subject, _| Ok(LinkTarget::Jump(subject.task()?.fs().cwd())))),
    ("environ", 0o400, What::File(Tracers, status::environ)),
    ("exe", 0o777, What::Link(exe)),
    ("fd", 0o500, What::Descriptors),
    ("fdinfo", 0o555, What::DescriptorInfo),
    ("gid_map", 0o644, What::File(All, |_, _| Ok(IDENTITY_MAP.to_vec()))),
    ("io", 0o400, What::File(Tracers, status::io)),
    ("limits", 0o444, What::File(All, status::limits)),
    ("loginuid", 0o644, What::Writable(All, status::login_uid, status::set_login_uid)),
    ("maps", 0o444, What::File(Tracers, status::maps)),
    ("mem", 0o600, What::Memory),
    ("mountinfo", 0o444, What::File(All, mounts::mountinfo)),
    ("mounts", 0o444, What::File(All, mounts::mounts)),
    ("mountstats", 0o400, What::File(All, mounts::mountstats)),
    ("net", 0o555, What::Network),
    ("ns", 0o511, What::Namespaces),
    ("numa_maps", 0o444, What::File(Tracers, more::numa_maps)),
    ("oom_adj", 0o644, What::File(All, |_, _| Ok(b"0\n".to_vec()))),
    ("oom_score", 0o444, What::File(All, status::oom_score)),
    ("oom_score_adj", 0o644, What::Writable(All, status::oom_score_adj, status::set_oom_score_adj)),
    ("personality", 0o400, What::File(Tracers, status::personality)),
    ("projid_map", 0o644, What::File(All, |_, _| Ok(IDENTITY_MAP.to_vec()))),
    ("root", 0o777, What::Link(|subject, _| Ok(LinkTarget::Jump(subject.task()?.fs().root())))),
    ("sched", 0o644, What::File(All, more::sched)),
    ("schedstat", 0o444, What::File(All, status::schedstat)),
    ("sessionid", 0o444, What::File(All, status::session_id)),
    ("setgroups", 0o644, What::File(All, |_, _| Ok(b"allow\n".to_vec()))),
    ("smaps", 0o444, What::File(Tracers, status::smaps)),
    ("smaps_rollup", 0o444, What::File(Tracers, status::smaps_rollup)),
    ("stack", 0o400, What::File(Tracers, |_, _| Ok(Vec::new()))),
    ("stat", 0o444, What::File(All, status::stat)),
    ("statm", 0o444, What::File(All, status::statm)),
    ("status", 0o444, What::File(All, status::status)),
    ("syscall", 0o400, What::File(Tracers, more::syscall)),
    ("task", 0o555, What::Threads),
    ("timers", 0o444, What::File(Tracers, more::timers)),
    ("timerslack_ns", 0o666, What::File(All, |_, _| Ok(b"50000\n".to_vec()))),
    ("uid_map", 0o644, What::File(All, |_, _| Ok(IDENTITY_MAP.to_vec()))),
    ("wchan", 0o444, What::File(All, |_, _| Ok(b"0".to_vec()))),
];

/// What a thread's directory does not have, and what only a thread's has.
const OF_PROCESSES: &[&str] =
    &["autogroup", "coredump_filter", "mountstats", "task", "timers", "timerslack_ns"];
const OF_THREADS: &[&str] = &["children"];

const IDENTITY_MAP: &[u8] = b"         0          0 4294967295\n";

fn exe(subject: &Subject, reader: &Arc<Task>) -> Result<LinkTarget, Errno> {
    subject.check_access(reader)?;
    subject.process.exe().map(LinkTarget::Jump).ok_or(Errno::ENOENT)
}

/// The process whose `/proc/PID` an open file is. LINUX: `tgid_pidfd_to_pid`; a thread's directory is none.
#[must_use]
pub fn process_of(file: &OpenFile) -> Option<Arc<Process>> {
    let node = file.location.inode();
    let node = node.as_any().downcast_ref::<DirectoryNode<ProcessDirectory>>()?;
    let subject = &node.directory().subject;
    (!subject.is_thread()).then(|| Arc::clone(&subject.process))
}

/// The directory of a process or thread.
pub(super) struct ProcessDirectory {
    dev: u64,
    subject: Subject,
}

impl ProcessDirectory {
    pub(super) fn node(dev: u64, subject: Subject) -> Arc<dyn Inode> {
        DirectoryNode::new(subject.attributes(dev, 0o555, 0), Self { dev, subject })
    }

    fn make(&self, position: u64, permissions: u32, what: &'static What) -> Arc<dyn Inode> {
        let attributes = self.subject.attributes(self.dev, permissions, position);
        let (dev, subject) = (self.dev, self.subject.clone());
        let checked = |subject: &Subject, reader: &Arc<Task>, readers: Readers| {
            if readers == Tracers { subject.check_access(reader) } else { Ok(()) }
        };
        match what {
            What::File(readers, maker) => Text::new(attributes, move |reader| {
                checked(&subject, reader, *readers)?;
                maker(&subject, reader)
            }),
            What::Writable(readers, maker, taker) => {
                let theirs = subject.clone();
                let read = move |reader: &Arc<Task>| {
                    checked(&subject, reader, *readers)?;
                    maker(&subject, reader)
                };
                Text::writable(attributes, read, move |writer, bytes| taker(&theirs, writer, bytes))
            }
            What::Link(target) => Link::new(attributes, move |reader| target(&subject, reader)),
            What::Descriptors => DirectoryNode::new(attributes, Descriptors { dev, subject, info: false }),
            What::DescriptorInfo => DirectoryNode::new(attributes, Descriptors { dev, subject, info: true }),
            What::Threads => DirectoryNode::new(attributes, Threads { dev, subject }),
            What::Namespaces => DirectoryNode::new(attributes, Namespaces { dev, subject }),
            What::Network => DirectoryNode::new(attributes, super::net::NetDirectory { dev }),
            What::Attributes => DirectoryNode::new(attributes, SecurityAttributes { dev }),
            What::Memory => Arc::new(MemoryNode { attributes, subject }),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u64, &'static (&'static str, u32, What))> {
        let is_thread = self.subject.is_thread();
        let is_here =
            move |name| if is_thread { !OF_PROCESSES.contains(&name) } else { !OF_THREADS.contains(&name) };
        (1..).zip(ENTRIES).filter(move |(_, entry)| is_here(entry.0))
    }
}

impl Directory for ProcessDirectory {
    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = self.entries().find(|(_, entry)| entry.0.as_bytes() == name);
        let (position, (_, permissions, what)) = found.ok_or(Errno::ENOENT)?;
        Ok(self.make(position, *permissions, what))
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        let entries = self.entries();
        Ok(entries
            .map(|(position, (name, _, what))| Name { name: (*name).into(), kind: what.kind(), position })
            .collect())
    }

    /// LINUX: `pid_entry_nlink`.
    fn subdirectories(&self) -> u32 {
        count(self.entries().filter(|(_, entry)| entry.2.kind() == Kind::Directory))
    }
}

/// `attr`: there is no security module that would answer.
struct SecurityAttributes {
    dev: u64,
}

const ATTRIBUTES: [(&str, u32); 6] = [
    ("current", 0o666),
    ("exec", 0o666),
    ("fscreate", 0o666),
    ("keycreate", 0o666),
    ("prev", 0o444),
    ("sockcreate", 0o666),
];

impl Directory for SecurityAttributes {
    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = ATTRIBUTES.iter().find(|(known, _)| known.as_bytes() == name);
        let (_, permissions) = found.ok_or(Errno::ENOENT)?;
        let refuse = |_: &Arc<Task>| Err(Errno::EINVAL);
        Ok(Text::writable(Attributes::new(self.dev, *permissions), refuse, |_, _| Err(Errno::EINVAL)))
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        Ok(number(ATTRIBUTES.iter().map(|(name, _)| (name.as_bytes().to_vec(), Kind::File))))
    }
}

/// `fd` and `fdinfo`.
struct Descriptors {
    dev: u64,
    subject: Subject,
    info: bool,
}

impl Descriptors {
    fn position(fd: Fd) -> u64 {
        u64::try_from(fd.0).unwrap_or(0) + 1
    }
}

impl Directory for Descriptors {
    fn child(&self, task: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.subject.check_access(task)?;
        let fd = Fd(parse_id(name).ok_or(Errno::ENOENT)?);
        let file = self.subject.task()?.files().get_any(fd).map_err(|_| Errno::ENOENT)?;
        let subject = self.subject.clone();
        let position = (1 << 40) + (u64::from(self.info) << 32) + Self::position(fd);
        if self.info {
            let attributes = self.subject.attributes(self.dev, 0o444, position);
            return Ok(Text::new(attributes, move |_| status::fdinfo(&subject, fd)));
        }
        let readable = if file.is_readable() { 0o500 } else { 0 };
        let writable = if file.is_writable() { 0o300 } else { 0 };
        let attributes = self.subject.attributes(self.dev, readable | writable, position);
        Ok(Link::new(attributes, move |reader| {
            subject.check_access(reader)?;
            let file = subject.task()?.files().get_any(fd).map_err(|_| Errno::ENOENT)?;
            Ok(LinkTarget::Jump(file.location.clone()))
        }))
    }

    fn names(&self, task: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        self.subject.check_access(task)?;
        let kind = if self.info { Kind::File } else { Kind::Link };
        let numbers = self.subject.task()?.files().numbers();
        let name = |fd: Fd| Name { name: fd.0.to_string().into(), kind, position: Self::position(fd) };
        Ok(numbers.into_iter().map(name).collect())
    }

    /// LINUX: `proc_fd_getattr`, since 6.2; not for `fdinfo`.
    fn size(&self) -> u64 {
        let files = self.subject.task().ok().filter(|_| !self.info).map(|task| task.files());
        files.map_or(0, |files| files.numbers().len() as u64)
    }
}

/// `task`.
struct Threads {
    dev: u64,
    subject: Subject,
}

impl Directory for Threads {
    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let tid = parse_id(name).ok_or(Errno::ENOENT)?;
        let process = &self.subject.process;
        let thread = process.threads().into_iter().find(|thread| thread.tid() == tid).ok_or(Errno::ENOENT)?;
        let subject = Subject { process: Arc::clone(process), thread: Some(thread), is_thread: true };
        Ok(ProcessDirectory::node(self.dev, subject))
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        let threads = self.subject.process.threads();
        if threads.is_empty() {
            return Err(Errno::ENOENT);
        }
        let name = |thread: Arc<Task>| Name {
            name: thread.tid().to_string().into(),
            kind: Kind::Directory,
            position: u64::try_from(thread.tid()).unwrap_or(0),
        };
        let mut names: Vec<Name> = threads.into_iter().map(name).collect();
        names.sort_by_key(|name| name.position);
        Ok(names)
    }

    /// LINUX: `proc_task_getattr`.
    fn subdirectories(&self) -> u32 {
        count(self.subject.process.threads().iter())
    }
}

/// `ns`: links that tell which namespaces are the same. What is opened behind them can be looked at, not entered.
struct Namespaces {
    dev: u64,
    subject: Subject,
}

/// LINUX: `PROC_*_INIT_INO`; those that all guests share.
const NAMESPACES: [(&str, Option<u32>); 8] = [
    ("cgroup", Some(0xeffffffb)),
    ("ipc", Some(0xefffffff)),
    ("mnt", None),
    ("net", Some(0xeffffff8)),
    ("pid", None),
    ("time", Some(0xeffffffa)),
    ("user", Some(0xeffffffd)),
    ("uts", None),
];

impl Directory for Namespaces {
    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let entry = NAMESPACES.iter().zip(1..).find(|((known, _), _)| known.as_bytes() == name);
        let ((kind, shared), position) = entry.ok_or(Errno::ENOENT)?;
        let attributes = self.subject.attributes(self.dev, 0o777, (1 << 41) + position);
        let subject = self.subject.clone();
        Ok(Link::new(attributes, move |reader| {
            subject.check_access(reader)?;
            let id = match (*shared, *kind) {
                (Some(id), _) => id,
                (None, "pid") => subject.process.namespace.id,
                (None, "uts") => subject.task()?.uts().id,
                (None, _) => subject.task()?.fs().namespace().id,
            };
            let label = format!("{kind}:[{id}]");
            let node = Arc::new(NamespaceNode { id });
            Ok(LinkTarget::Jump(reader.kernel.vfs.labelled(label.as_bytes(), node)))
        }))
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        Ok(number(NAMESPACES.iter().map(|(name, _)| (name.as_bytes().to_vec(), Kind::Link))))
    }
}

/// A namespace as a file: its number is all there is. LINUX: fs/nsfs.c.
struct NamespaceNode {
    id: u32,
}

/// `st_dev` of namespaces.
const NAMESPACE_DEVICE: u64 = 4;

impl Inode for NamespaceNode {
    fn stat(&self) -> Result<Stat, Errno> {
        let (dev, ino) = (NAMESPACE_DEVICE, u64::from(self.id));
        Ok(Stat { dev, ino, mode: mode::S_IFREG | 0o444, nlink: 1, ..Stat::default() })
    }

    fn open(&self, _: &Arc<Task>, _: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        const O_ACCMODE: u32 = 3;
        if flags & O_ACCMODE == 0 { Ok(Arc::new(NamespaceFile)) } else { Err(Errno::EPERM) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct NamespaceFile;

impl FileOps for NamespaceFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `mem`: the process's memory by address.
struct MemoryNode {
    attributes: Attributes,
    subject: Subject,
}

impl Inode for MemoryNode {
    fn stat(&self) -> Result<Stat, Errno> {
        let Attributes { dev, ino, permissions, uid, gid, .. } = self.attributes;
        Ok(Stat { dev, ino, mode: mode::S_IFREG | permissions, nlink: 1, uid, gid, ..Stat::default() })
    }

    fn open(&self, task: &Arc<Task>, _: &Location, _: u32) -> Result<Arc<dyn FileOps>, Errno> {
        self.subject.check_access(task)?;
        Ok(Arc::new(MemoryFile { subject: self.subject.clone() }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct MemoryFile {
    subject: Subject,
}

/// Bytes of memory copied at a time.
const MEMORY_STEP: usize = 64 << 10;

impl FileOps for MemoryFile {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.subject.process.mm() else { return Ok(0) };
        let mut piece = vec![0; sink.remaining().min(MEMORY_STEP)];
        match mm.space().read(offset, &mut piece) {
            0 if !piece.is_empty() => Err(Errno::EIO),
            n => sink.write(&piece[..n]),
        }
    }

    fn write(&self, _: &Op<'_>, source: &mut dyn Source, offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.subject.process.mm() else { return Ok(0) };
        let piece = source.read_to_vec(MEMORY_STEP)?;
        match mm.space().write(offset, &piece) {
            0 if !piece.is_empty() => Err(Errno::EIO),
            n => Ok(n),
        }
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
