//! `/proc/PID` and `/proc/PID/task/TID`: what is in a process's directory, and who may look?
//!
//! Key types: [`Subject`] (whose directory it is), [`ProcessDirectory`]. Texts come from `status` and `mounts`.

use std::any::Any;
use std::sync::{Arc, Weak};

use super::super::pseudo::{
    Attributes, Directory, DirectoryNode, Kind, Link, Name, Text, count, number, open_text, set_text_attr,
};
use super::mounts::path_for;
use super::{more, mounts, parse_id, status};
use crate::Errno;
use crate::io::{Sink, Source};
use crate::mm::MemoryManager;
use crate::task::{AccessMode, Capability, Credentials, Process, Task};
use crate::vfs::open_flags::{O_ACCMODE, O_RDONLY};
use crate::vfs::permission::{self, Want};
use crate::vfs::{Access, Fd, FileOps, Inode, LinkTarget, Location, Op, OpenFile, SetAttr, Stat, mode};

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

    /// Its process has been waited for. LINUX: `get_proc_task`.
    fn is_gone(&self) -> bool {
        let there = self.process.namespace.process(self.process.pid);
        there.is_none_or(|there| there.key != self.process.key)
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

    /// Lets `reader` take something of the process that not everybody may have, if it may.
    ///
    /// # Errors
    /// EACCES; ESRCH.
    pub(super) fn inspect<T>(
        &self,
        reader: &Arc<Task>,
        take: impl FnOnce(&Arc<Task>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.task()?.inspect(reader, AccessMode::Files, |task| Ok(take(task))).map_err(|_| Errno::EACCES)?
    }

    /// As [`Subject::inspect`], for entries with a gate.
    fn pass<T>(
        &self,
        gate: Gate,
        reader: &Arc<Task>,
        take: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let denied = |errno| if errno == Errno::EACCES { Errno::EPERM } else { errno };
        match gate {
            Gate::All | Gate::AdminWrites | Gate::Openers => take(),
            Gate::Admin if reader.credentials().has(Capability::SysAdmin) => take(),
            Gate::Admin => Err(Errno::EACCES),
            Gate::Lookers => self.inspect(reader, |_| take()),
            Gate::Tracers => self.inspect(reader, |_| take()).map_err(denied),
            Gate::Nice if Arc::ptr_eq(&self.task()?, reader) => take(),
            Gate::Nice if reader.credentials().has(Capability::SysNice) => take(),
            Gate::Nice => Err(Errno::EPERM),
        }
    }

    /// The memory as it is now, for a file that is being opened: exec gives the process another, and the file stays with this
    /// one as long as anybody runs in it. LINUX: `proc_mem_open`.
    fn open_memory(&self, reader: &Arc<Task>) -> Result<Weak<MemoryManager>, Errno> {
        let mm = self.inspect(reader, |task| Ok(task.mm()));
        match mm {
            // LINUX: what has ended has no memory, but its files can be opened.
            Ok(None) | Err(Errno::ESRCH) => Ok(Weak::new()),
            Ok(Some(mm)) => Ok(Arc::downgrade(&mm)),
            Err(errno) => Err(errno),
        }
    }

    /// The memory, whoever asks.
    fn any_memory(&self) -> Weak<MemoryManager> {
        self.task().ok().and_then(|task| task.mm()).map_or_else(Weak::new, |mm| Arc::downgrade(&mm))
    }

    fn attributes(&self, dev: u64, permissions: u32, position: u64) -> Attributes {
        let id = u64::try_from(self.id()).unwrap_or(0);
        let ino = 0x2000_0000 + (id << 12) + (u64::from(self.is_thread()) << 11) + position;
        self.owned(Attributes::with_ino(dev, permissions, ino))
    }

    /// With whoever owns it now. LINUX: `task_dump_owner`: what others must not look into belongs to root, but for directories
    /// that all may read, by which tools tell whose a process is.
    fn owned(&self, attributes: Attributes) -> Attributes {
        match self.task() {
            Ok(task) if attributes.permissions == 0o555 || self.process.dumpable() == 1 => {
                let credentials = task.credentials();
                attributes.owned_by(credentials.euid, credentials.egid)
            }
            _ => attributes.owned_by(0, 0),
        }
    }
}

/// Files that tell what they told when the process has gone: what they are about was held when they were opened. Reading another is ESRCH
/// then.
const OUTLIVES: [&str; 6] = ["auxv", "environ", "gid_map", "projid_map", "setgroups", "uid_map"];

/// How a file of text is made.
type Maker = fn(&Subject, &Arc<Task>) -> Result<Vec<u8>, Errno>;
/// How a text about memory is made.
type MemoryMaker = fn(&MemoryManager, &Arc<Task>) -> Vec<u8>;
/// What becomes of text that is written.
type Taker = fn(&Subject, &Arc<Task>, &[u8]) -> Result<(), Errno>;
/// Where a link leads.
type Target = fn(&Subject, &Arc<Task>) -> Result<LinkTarget, Errno>;

/// Who gets what an entry tells, besides what its permission bits say. Every entry of the table has one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Everybody.
    All,
    /// Those who may look into the process, else EACCES. LINUX: `PTRACE_MODE_READ_FSCREDS`.
    Lookers,
    /// The same, when they open it.
    Openers,
    /// The same as lookers, else EPERM. LINUX: `lock_trace`.
    Tracers,
    /// The thread itself, and those who may change the priority of others, else EPERM.
    Nice,
    /// Those with `CAP_SYS_ADMIN`, else EACCES.
    Admin,
    /// Everybody, but for opening it to write, which needs `CAP_SYS_ADMIN`, else EACCES.
    AdminWrites,
}

/// What an entry is.
#[derive(Clone, Copy)]
enum What {
    /// Text; the gate is asked at each read.
    File(Maker),
    /// The same, and it can be written.
    Writable(Maker, Taker),
    /// Text about the memory that the process had when the file was opened, at which the gate is asked.
    OfMemory(MemoryMaker),
    /// The memory itself, likewise.
    Memory,
    /// A link; the gate is asked of who reads or follows it.
    Link(Target),
    /// `fd` and `fdinfo`: the gate is asked of who looks behind the names.
    Descriptors,
    DescriptorInfo,
    Namespaces,
    Threads,
    Network,
    Attributes,
}

impl What {
    fn kind(&self) -> Kind {
        match self {
            Self::File(..) | Self::Writable(..) | Self::OfMemory(..) | Self::Memory => Kind::File,
            Self::Link(_) => Kind::Link,
            _ => Kind::Directory,
        }
    }
}

use Gate::{Admin, AdminWrites, All, Lookers, Nice, Openers, Tracers};

/// A file of the directory: name, permission bits, gate, content.
type Entry = (&'static str, u32, Gate, What);

/// Names in alphabetical order; see also [`OF_PROCESSES`] and [`OF_THREADS`].
const ENTRIES: &[Entry] = &[
    ("attr", 0o555, All, What::Attributes),
    ("autogroup", 0o644, All, What::File(more::autogroup)),
    ("auxv", 0o400, Lookers, What::OfMemory(|mm, _| mm.auxv())),
    ("cgroup", 0o444, All, What::File(|_, _| Ok(b"0::/\n".to_vec()))),
    ("children", 0o444, All, What::File(more::children)),
    ("cmdline", 0o444, All, What::File(status::cmdline)),
    ("comm", 0o644, All, What::Writable(status::comm, status::set_comm)),
    ("coredump_filter", 0o644, All, What::File(|_, _| Ok(b"00000033\n".to_vec()))),
    ("cpuset", 0o444, All, What::File(|_, _| Ok(b"/\n".to_vec()))),
    ("cwd", 0o777, Lookers, What::Link(|subject, _| Ok(LinkTarget::Jump(subject.task()?.fs().cwd())))),
    ("environ", 0o400, Lookers, What::OfMemory(status::environ)),
    ("exe", 0o777, Lookers, What::Link(exe)),
    ("fd", 0o500, Lookers, What::Descriptors),
    ("fdinfo", 0o555, Lookers, What::DescriptorInfo),
    ("gid_map", 0o644, All, What::File(|_, _| Ok(IDENTITY_MAP.to_vec()))),
    ("io", 0o400, Lookers, What::File(status::io)),
    ("limits", 0o444, All, What::File(status::limits)),
    ("loginuid", 0o644, All, What::Writable(status::login_uid, status::set_login_uid)),
    ("maps", 0o444, Lookers, What::OfMemory(|mm, reader| mm.maps(&path_for(reader)))),
    ("mem", 0o600, Lookers, What::Memory),
    ("mountinfo", 0o444, All, What::File(mounts::mountinfo)),
    ("mounts", 0o444, All, What::File(mounts::mounts)),
    ("mountstats", 0o400, All, What::File(mounts::mountstats)),
    ("net", 0o555, All, What::Network),
    ("ns", 0o511, Lookers, What::Namespaces),
    ("numa_maps", 0o444, Lookers, What::OfMemory(more::numa_maps)),
    ("oom_adj", 0o644, All, What::File(|_, _| Ok(b"0\n".to_vec()))),
    ("oom_score", 0o444, All, What::File(status::oom_score)),
    ("oom_score_adj", 0o644, All, What::Writable(status::oom_score_adj, status::set_oom_score_adj)),
    ("personality", 0o400, Tracers, What::File(status::personality)),
    ("projid_map", 0o644, All, What::File(|_, _| Ok(IDENTITY_MAP.to_vec()))),
    ("root", 0o777, Lookers, What::Link(|subject, _| Ok(LinkTarget::Jump(subject.task()?.fs().root())))),
    ("sched", 0o644, All, What::File(more::sched)),
    ("schedstat", 0o444, All, What::File(status::schedstat)),
    ("sessionid", 0o444, All, What::File(status::session_id)),
    ("setgroups", 0o644, AdminWrites, What::File(|_, _| Ok(b"allow\n".to_vec()))),
    ("smaps", 0o444, Lookers, What::OfMemory(|mm, reader| mm.smaps(&path_for(reader)))),
    ("smaps_rollup", 0o444, Lookers, What::OfMemory(|mm, _| mm.smaps_rollup().into_bytes())),
    ("stack", 0o400, Admin, What::File(|_, _| Ok(Vec::new()))),
    ("stat", 0o444, All, What::File(status::stat)),
    ("statm", 0o444, All, What::File(status::statm)),
    ("status", 0o444, All, What::File(status::status)),
    ("syscall", 0o400, Tracers, What::File(more::syscall)),
    ("task", 0o555, All, What::Threads),
    ("timers", 0o444, Openers, What::File(more::timers)),
    ("timerslack_ns", 0o666, Nice, What::Writable(status::timer_slack, status::set_timer_slack)),
    ("uid_map", 0o644, All, What::File(|_, _| Ok(IDENTITY_MAP.to_vec()))),
    ("wchan", 0o444, All, What::File(|_, _| Ok(b"0".to_vec()))),
];

/// What a thread's directory does not have, and what only a thread's has.
const OF_PROCESSES: &[&str] =
    &["autogroup", "coredump_filter", "mountstats", "task", "timers", "timerslack_ns"];
const OF_THREADS: &[&str] = &["children"];

const IDENTITY_MAP: &[u8] = b"         0          0 4294967295\n";

fn exe(subject: &Subject, _: &Arc<Task>) -> Result<LinkTarget, Errno> {
    subject.process.exe().map(LinkTarget::Jump).ok_or(Errno::ENOENT)
}

/// LINUX: `perfmon_capable`.
fn is_observer(task: &Arc<Task>) -> bool {
    let credentials = task.credentials();
    credentials.has(Capability::Perfmon) || credentials.has(Capability::SysAdmin)
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

    fn make(&self, position: u64, entry: &'static Entry) -> Arc<dyn Inode> {
        let (_, permissions, gate, ref what) = *entry;
        let attributes = self.subject.attributes(self.dev, permissions, position);
        let (dev, subject) = (self.dev, self.subject.clone());
        match what {
            What::Link(target) => {
                Link::new(attributes, move |reader| subject.pass(gate, reader, || target(&subject, reader)))
            }
            What::Descriptors => DirectoryNode::new(attributes, Descriptors { dev, subject, info: false }),
            What::DescriptorInfo => DirectoryNode::new(attributes, Descriptors { dev, subject, info: true }),
            What::Threads => DirectoryNode::new(attributes, Threads { dev, subject }),
            What::Namespaces => DirectoryNode::new(attributes, Namespaces { dev, subject }),
            What::Network => DirectoryNode::new(attributes, super::net::NetDirectory { dev }),
            What::File(..) | What::Writable(..) | What::OfMemory(..) | What::Memory => {
                Arc::new(ProcessFile { attributes, subject, entry })
            }
            What::Attributes => DirectoryNode::new(attributes, SecurityAttributes { dev, subject }),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u64, &'static Entry)> {
        let is_thread = self.subject.is_thread();
        let is_here =
            move |name| if is_thread { !OF_PROCESSES.contains(&name) } else { !OF_THREADS.contains(&name) };
        (1..).zip(ENTRIES).filter(move |(_, entry)| is_here(entry.0))
    }
}

impl Directory for ProcessDirectory {
    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = self.entries().find(|(_, entry)| entry.0.as_bytes() == name);
        let (position, entry) = found.ok_or(Errno::ENOENT)?;
        Ok(self.make(position, entry))
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        let entries = self.entries();
        Ok(entries
            .map(|(position, (name, _, _, what))| Name { name: (*name).into(), kind: what.kind(), position })
            .collect())
    }

    /// LINUX: `pid_entry_nlink`.
    fn subdirectories(&self) -> u32 {
        count(self.entries().filter(|(_, entry)| entry.3.kind() == Kind::Directory))
    }
}

/// `attr`: there is no security module that would answer.
struct SecurityAttributes {
    dev: u64,
    subject: Subject,
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
        let found = ATTRIBUTES.iter().zip(1..).find(|((known, _), _)| known.as_bytes() == name);
        let ((_, permissions), position) = found.ok_or(Errno::ENOENT)?;
        let refuse = |_: &Arc<Task>| Err(Errno::EINVAL);
        let attributes = self.subject.attributes(self.dev, *permissions, (1 << 42) + position);
        Ok(Text::writable(attributes, refuse, |_, _| Err(Errno::EINVAL)))
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
    /// LINUX: `proc_fd_permission`, `proc_fdinfo_permission`.
    fn permission(
        &self,
        task: &Arc<Task>,
        credentials: &Credentials,
        access: &Access,
        want: Want,
    ) -> Result<(), Errno> {
        if self.info {
            self.subject.inspect(task, |_| Ok(()))?;
        } else if Arc::ptr_eq(&task.process, &self.subject.process) {
            return Ok(());
        }
        permission::check(credentials, access, want)
    }

    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let fd = Fd(parse_id(name).ok_or(Errno::ENOENT)?);
        let file = self.subject.task()?.files().get_any(fd).map_err(|_| Errno::ENOENT)?;
        let subject = self.subject.clone();
        let position = (1 << 40) + (u64::from(self.info) << 32) + Self::position(fd);
        if self.info {
            let attributes = self.subject.attributes(self.dev, 0o444, position);
            return Ok(Text::new(attributes, move |reader| {
                let find = |task: &Arc<Task>| task.files().descriptor(fd).map_err(|_| Errno::ENOENT);
                Ok(status::fdinfo(&subject.inspect(reader, find)?))
            }));
        }
        let readable = if file.is_readable() { 0o500 } else { 0 };
        let writable = if file.is_writable() { 0o300 } else { 0 };
        let attributes = self.subject.attributes(self.dev, readable | writable, position);
        Ok(Link::new(attributes, move |reader| {
            let file = subject.inspect(reader, |task| task.files().get_any(fd).map_err(|_| Errno::ENOENT))?;
            Ok(LinkTarget::Jump(file.location.clone()))
        }))
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
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
            let id = subject.inspect(reader, |task| {
                Ok(match (*shared, *kind) {
                    (Some(id), _) => id,
                    (None, "pid") => task.process.namespace.id,
                    (None, "uts") => task.uts().id,
                    (None, _) => task.fs().namespace().id,
                })
            })?;
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

/// A file whose content depends on who opens it and when.
struct ProcessFile {
    attributes: Attributes,
    subject: Subject,
    entry: &'static Entry,
}

impl Inode for ProcessFile {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.subject.owned(self.attributes).stat(mode::S_IFREG, 1))
    }

    fn permission(
        &self,
        task: &Arc<Task>,
        credentials: &Credentials,
        access: &Access,
        want: Want,
    ) -> Result<(), Errno> {
        // LINUX: `proc_tid_comm_permission`: threads name each other.
        let is_comm = self.entry.0 == "comm" && self.subject.is_thread();
        if is_comm && Arc::ptr_eq(&task.process, &self.subject.process) && !want.contains(Want::EXEC) {
            return Ok(());
        }
        permission::check(credentials, access, want)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        set_text_attr(change)
    }

    fn open(&self, task: &Arc<Task>, _: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        let (_, _, gate, what) = *self.entry;
        let writes = flags & O_ACCMODE != O_RDONLY;
        if gate == AdminWrites && writes && !task.credentials().has(Capability::SysAdmin) {
            return Err(Errno::EACCES);
        }
        if gate == Openers {
            self.subject.inspect(task, |_| Ok(()))?;
        }
        let subject = self.subject.clone();
        let ends = !OUTLIVES.contains(&self.entry.0);
        let texts = |maker: Maker| {
            let subject = subject.clone();
            move |reader: &Arc<Task>| {
                if ends && subject.is_gone() {
                    return Err(Errno::ESRCH);
                }
                subject.pass(gate, reader, || maker(&subject, reader))
            }
        };
        match what {
            What::File(maker) => Ok(open_text(Arc::new(texts(maker)), None)),
            What::Writable(maker, taker) => {
                let read = texts(maker);
                let write = move |writer: &Arc<Task>, bytes: &[u8]| {
                    subject.pass(gate, writer, || taker(&subject, writer, bytes))
                };
                Ok(open_text(Arc::new(read), Some(Arc::new(write))))
            }
            What::OfMemory(maker) => {
                let memory = match subject.open_memory(task) {
                    // LINUX: `may_access_mm`: who may measure everybody may know where things lie.
                    Err(Errno::EACCES) if is_observer(task) => subject.any_memory(),
                    memory => memory?,
                };
                let read = move |reader: &Arc<Task>| {
                    if ends && subject.is_gone() {
                        return Err(Errno::ESRCH);
                    }
                    Ok(memory.upgrade().map(|mm| maker(&mm, reader)).unwrap_or_default())
                };
                Ok(open_text(Arc::new(read), None))
            }
            What::Memory => Ok(Arc::new(MemoryFile { memory: subject.open_memory(task)? })),
            _ => Err(Errno::ENXIO),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `mem`: the process's memory by address, as long as anybody runs in it.
struct MemoryFile {
    memory: Weak<MemoryManager>,
}

/// Bytes of memory copied at a time.
const MEMORY_STEP: usize = 64 << 10;

impl FileOps for MemoryFile {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.memory.upgrade() else { return Ok(0) };
        let mut piece = vec![0; sink.remaining().min(MEMORY_STEP)];
        match mm.read(offset, &mut piece) {
            0 if !piece.is_empty() => Err(Errno::EIO),
            n => sink.write(&piece[..n]),
        }
    }

    fn write(&self, _: &Op<'_>, source: &mut dyn Source, offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.memory.upgrade() else { return Ok(0) };
        let piece = source.read_to_vec(MEMORY_STEP)?;
        match mm.write(offset, &piece) {
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
