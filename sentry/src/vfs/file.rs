//! What can an open file do?
//!
//! Key types: [`FileOps`] (implemented by every kind of file), [`OpenFile`] (an open file description: operations,
//! status flags, position), [`Op`] (who asks). **Files never block**: they answer EAGAIN and offer a wait queue;
//! the system call layer waits (see `Current::block_on_file`).

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use platform::MapSource;

use super::notice::{self, FileOwner, Notice};
use super::{Fd, FdTable, Location, Locks, WriteAccess};
use crate::Errno;
use crate::account::{self, Charge};
use crate::fs::epoll::Watchers;
use crate::fs::inotify::{self, mask};
use crate::io::{Sink, Source};
use crate::kernel::Kernel;
use crate::mm::Gate;
use crate::sync::{Events, WaitQueue};
use crate::task::{Credentials, Current, Task};

/// Who performs an operation on a file, and how.
#[derive(Clone, Copy)]
pub struct Op<'a> {
    /// The task on whose behalf it happens.
    pub task: &'a Arc<Task>,
    /// The open file's status flags (`O_*`).
    pub flags: u32,
}

/// A file's pages as the host can map them.
#[derive(Debug, Clone)]
pub struct Pages {
    /// The host file to map.
    pub source: MapSource,
    /// Offset in the host file of the offset asked for, in bytes.
    pub offset: u64,
}

/// How a mapping of a file is backed.
#[derive(Debug, Clone)]
pub enum Mappable {
    /// By a host file.
    Pages(Pages),
    /// By anonymous memory (`/dev/zero`).
    Anonymous,
}

/// Where `lseek(2)` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// `SEEK_SET`.
    Start,
    /// `SEEK_CUR`.
    Current,
    /// `SEEK_END`.
    End,
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

impl Whence {
    /// `SEEK_*`.
    #[must_use]
    pub fn to_raw(self) -> u32 {
        match self {
            Self::Start => 0,
            Self::Current => 1,
            Self::End => 2,
            Self::Data => 3,
            Self::Hole => 4,
        }
    }
}

/// Transfers at a position that the host keeps, because others share it.
pub trait SharedPosition {
    /// `lseek(2)`.
    ///
    /// # Errors
    /// As the man page.
    fn seek(&self, whence: Whence, offset: i64) -> Result<u64, Errno>;

    /// `read(2)`.
    ///
    /// # Errors
    /// As the man page.
    fn read(&self, sink: &mut dyn Sink) -> Result<usize, Errno>;

    /// `write(2)`. Called by [`super::Writing`] alone.
    ///
    /// # Errors
    /// As the man page.
    fn write(&self, source: &mut dyn Source) -> Result<usize, Errno>;
}

/// A directory entry on its way to `getdents64(2)`.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Name, without slashes.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// `DT_*`.
    pub kind: u8,
    /// Where to go on after this entry.
    pub next: u64,
}

/// Operations of an open file. The defaults are those of a file that cannot do the thing.
pub trait FileOps: Send + Sync + Any {
    /// Reads at `offset` (ignored by streams). 0 is end of file; EAGAIN if it would have to wait.
    ///
    /// # Errors
    /// As `read(2)`; EINVAL by default.
    fn read(&self, _op: &Op<'_>, _sink: &mut dyn Sink, _offset: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes at `offset` (ignored by streams), whatever `O_APPEND` says. Called by [`super::Writing`] alone.
    ///
    /// # Errors
    /// As `write(2)`; EINVAL by default.
    fn write(&self, _op: &Op<'_>, _source: &mut dyn Source, _offset: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// It is a regular file with bytes of its own: [`FileOps::append`], `RLIMIT_FSIZE`, set-ID bits and capabilities concern it.
    fn has_content(&self) -> bool {
        false
    }

    /// Writes at the end of what [has content](FileOps::has_content), but not beyond `limit`; answers how much, and where it ended.
    ///
    /// # Errors
    /// As `write(2)`; EFBIG if the end is at the limit.
    fn append(&self, _op: &Op<'_>, _source: &mut dyn Source, _limit: u64) -> Result<(usize, u64), Errno> {
        Err(Errno::EINVAL)
    }

    /// Its position, if the host keeps it; [`OpenFile::position`] is then not used.
    fn shared_position(&self) -> Option<&dyn SharedPosition> {
        None
    }

    /// Bytes can be spliced into it. LINUX: it has a `splice_write`.
    fn takes_splice(&self) -> bool {
        self.has_content() || self.as_socket().is_some()
    }

    /// May `open(2)` return? Asked after opening without `O_NONBLOCK`; EAGAIN: not yet, wait for the queue
    /// (a fifo that waits for its other end).
    ///
    /// # Errors
    /// EAGAIN as said.
    fn open_ready(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// What it is ready for now. Regular files are always ready.
    fn readiness(&self) -> Events {
        Events::READABLE | Events::WRITABLE
    }

    /// Woken when readiness may have changed; `None`: always ready, or the host tells.
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Which of the events that its queue is woken for can concern this file: both ends of a pipe have one queue.
    fn concerns(&self) -> Events {
        Events::all()
    }

    /// The host's descriptor that is ready when the file is, for what the host keeps: one sleeps on it in the host.
    fn host_descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Is not always ready; what is cannot be put into epoll.
    fn can_wait(&self) -> bool {
        self.host_descriptor().is_some() || self.wait_queue().is_some()
    }

    /// Has a position: `lseek`, `pread`, `pwrite` work. Else they answer ESPIPE.
    fn is_seekable(&self) -> bool {
        false
    }

    /// Has no place to be at: `lseek` answers 0 whatever is asked. LINUX: `null_lseek`, `noop_llseek`.
    fn stays_at_zero(&self) -> bool {
        false
    }

    /// Current size in bytes, for `SEEK_END` and `O_APPEND`.
    ///
    /// # Errors
    /// The host's.
    fn size(&self) -> Result<u64, Errno> {
        Ok(0)
    }

    /// `SEEK_DATA` and `SEEK_HOLE`; by default all is data up to the size.
    ///
    /// # Errors
    /// ENXIO past the end.
    fn seek_sparse(&self, whence: Whence, offset: u64) -> Result<u64, Errno> {
        let size = self.size()?;
        match whence {
            _ if offset >= size => Err(Errno::ENXIO),
            Whence::Hole => Ok(size),
            _ => Ok(offset),
        }
    }

    /// `ioctl(2)`; the generic ones (FIONBIO, FIOCLEX...) are handled before.
    ///
    /// # Errors
    /// ENOTTY by default.
    fn ioctl(
        &self,
        _current: &mut Current,
        _file: &Arc<OpenFile>,
        _command: u32,
        _arg: u64,
    ) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }

    /// What a mapping of `len` bytes from `offset` is backed by. `writable`: shared and writable.
    ///
    /// # Errors
    /// ENODEV by default; EACCES if not open for it.
    fn map(&self, _op: &Op<'_>, _offset: u64, _len: u64, _writable: bool) -> Result<Mappable, Errno> {
        Err(Errno::ENODEV)
    }

    /// What guests must pass before they fill holes of it, where it is mapped.
    fn gate(&self) -> Option<Arc<Gate>> {
        None
    }

    /// It must hear of pages that are taken out of it through a mapping.
    fn counts_pages(&self) -> bool {
        false
    }

    /// Calls `emit` for each entry from `cookie` on until it returns `false`. Includes `.` and `..`.
    ///
    /// # Errors
    /// ENOTDIR by default.
    fn read_dir(
        &self,
        _op: &Op<'_>,
        _cookie: u64,
        _emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// `ftruncate(2)`. Called by [`OpenFile::truncate`] alone.
    ///
    /// # Errors
    /// EINVAL by default.
    fn truncate(&self, _len: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// `RLIMIT_FSIZE` holds for `fallocate(2)`, though the size stays. LINUX: `shmem_fallocate`.
    fn limits_kept_size(&self) -> bool {
        false
    }

    /// Is there room for all that `fallocate(2)` is asked for, which is then allocated by pieces?
    ///
    /// # Errors
    /// ENOSPC, where the file system is the sentry's own.
    fn check_room(&self, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Ok(())
    }

    /// `fallocate(2)`. Called by [`OpenFile::allocate`] alone.
    ///
    /// # Errors
    /// EOPNOTSUPP by default.
    fn allocate(&self, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// `fsync(2)`, `fdatasync(2)`.
    ///
    /// # Errors
    /// EINVAL by default.
    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// The host has answered this to `msync(2)` of a mapping of the file: what is the caller to be told?
    ///
    /// # Errors
    /// As `fsync(2)`.
    fn synced(&self, outcome: Result<(), Errno>) -> Result<(), Errno> {
        outcome
    }

    /// The status flags were changed by `fcntl(F_SETFL)`.
    fn flags_changed(&self, _flags: u32) {}

    /// A descriptor of this open file is being closed (`close(2)`, also at exit); not necessarily the last. LINUX: `flush`.
    ///
    /// # Errors
    /// The file system's, where it sends away only now what has been written. The descriptor is closed all the same.
    fn closing(&self, _task: &Arc<Task>) -> Result<(), Errno> {
        Ok(())
    }

    /// The socket, if it is one.
    fn as_socket(&self) -> Option<&dyn crate::net::Socket> {
        None
    }

    /// For those who know the concrete type (pipes in `splice`, epoll in `epoll_ctl`, ...).
    fn as_any(&self) -> &dyn Any;

    /// Extra lines of `/proc/PID/fdinfo/N`.
    fn fdinfo(&self) -> String {
        String::new()
    }
}

/// An open file description.
pub struct OpenFile {
    /// What it can do.
    pub ops: Arc<dyn FileOps>,
    /// Where it was opened: always known; anonymous files have a location on a private mount.
    pub location: Location,
    /// `O_*` status flags and access mode.
    flags: AtomicU32,
    /// Position in bytes; held across a read or write at the position, as Linux does for regular files.
    pub position: Mutex<u64>,
    /// Distinguishes open file descriptions (locks, epoll).
    pub id: u64,
    /// The epoll instances that watch it.
    pub watchers: Watchers,
    /// Set once a lock was taken that belongs to the open file.
    locks: OnceLock<Arc<Locks>>,
    /// Who opened it, if that was by a path.
    opener: Option<Opener>,
    /// LOCK: leaf.
    owner: Mutex<FileOwner>,
    /// While `O_ASYNC` is set. LOCK: before the file's wait queue.
    notices: Mutex<Option<notice::Source>>,
    _charge: Charge,
}

/// By whom and how a file was opened.
pub struct Opener {
    /// Those who watch the file are told there when it is closed.
    pub kernel: Weak<Kernel>,
    /// LINUX: `f_cred`.
    pub credentials: Arc<Credentials>,
    /// Held by what may write.
    pub write_access: Option<WriteAccess>,
}

/// What an open file costs besides: its operations, and often a node and a name of its own.
const BEHIND_A_FILE: usize = 512;

impl Drop for OpenFile {
    fn drop(&mut self) {
        // LINUX: `__fput`, with the last user, who need not be a descriptor: a call under way, a mapping, a message.
        if let Some(kernel) = self.opener.as_ref().and_then(|opener| opener.kernel.upgrade()) {
            let event = if self.is_writable() { mask::CLOSE_WRITE } else { mask::CLOSE_NOWRITE };
            inotify::notify_file(&kernel, self, event);
        }
        self.watchers.release(self.ops.as_ref());
        self.stop_notices();
        if let Some(locks) = self.locks.get() {
            locks.release_file(self.location.inode(), self.id);
        }
    }
}

impl OpenFile {
    /// Opens.
    #[must_use]
    pub fn new(ops: Arc<dyn FileOps>, location: Location, flags: u32) -> Arc<Self> {
        Self::with_opener(ops, location, flags, None)
    }

    /// Opens by a path.
    #[must_use]
    pub fn opened(ops: Arc<dyn FileOps>, location: Location, flags: u32, opener: Opener) -> Arc<Self> {
        Self::with_opener(ops, location, flags, Some(opener))
    }

    fn with_opener(
        ops: Arc<dyn FileOps>,
        location: Location,
        flags: u32,
        opener: Option<Opener>,
    ) -> Arc<Self> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            ops,
            location,
            flags: AtomicU32::new(flags),
            position: Mutex::new(0),
            id,
            watchers: Watchers::default(),
            locks: OnceLock::new(),
            opener,
            owner: Mutex::default(),
            notices: Mutex::default(),
            _charge: account::count(size_of::<Self>() + BEHIND_A_FILE),
        })
    }

    /// Who is told of its events.
    #[must_use]
    pub fn owner(&self) -> FileOwner {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `F_SETOWN`, `F_SETSIG`.
    pub fn set_owner(&self, owner: FileOwner) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = owner;
    }

    /// `O_ASYNC`, set by way of `fd`; answers whether the owner is told from now on: files that are always ready have nothing to tell.
    pub fn set_async(self: &Arc<Self>, task: &Task, fd: Fd, wanted: bool) -> bool {
        self.stop_notices();
        let source = if wanted { Notice::start(self, task, fd.0) } else { None };
        let is_on = source.is_some();
        *self.notices.lock().unwrap_or_else(PoisonError::into_inner) = source;
        is_on
    }

    fn stop_notices(&self) {
        let source = self.notices.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(source) = source {
            notice::stop(source, self.ops.as_ref());
        }
    }

    /// The position, for the time of a transfer.
    pub fn lock_position(&self) -> MutexGuard<'_, u64> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next transfer at the position is.
    ///
    /// # Errors
    /// The host's, which keeps it for some.
    pub fn position_now(&self) -> Result<u64, Errno> {
        match self.ops.shared_position() {
            Some(position) => position.seek(Whence::Current, 0),
            None => Ok(*self.lock_position()),
        }
    }

    /// Moves the position.
    ///
    /// # Errors
    /// The host's.
    pub fn move_position(&self, to: u64) -> Result<(), Errno> {
        match self.ops.shared_position() {
            Some(position) => {
                let to = i64::try_from(to).map_err(|_| Errno::EOVERFLOW)?;
                position.seek(Whence::Start, to).map(drop)
            }
            None => {
                *self.lock_position() = to;
                Ok(())
            }
        }
    }

    /// A descriptor of `table` for this open file has been closed.
    ///
    /// # Errors
    /// What became of its data, which `close(2)` alone tells.
    pub fn close(self: &Arc<Self>, task: &Arc<Task>, table: &FdTable) -> Result<(), Errno> {
        let outcome = self.ops.closing(task);
        task.kernel.trim.ended();
        task.kernel.vfs.locks.release_process(self.location.inode(), table.id());
        outcome
    }

    /// Whether it was opened with these very credentials. LINUX: `f_cred == current_cred()`.
    #[must_use]
    pub fn is_opened_by(&self, credentials: &Arc<Credentials>) -> bool {
        self.opener.as_ref().is_some_and(|opener| Arc::ptr_eq(&opener.credentials, credentials))
    }

    /// A lock has been taken through this open file: it goes with it.
    pub(super) fn remember_locks(&self, locks: &Arc<Locks>) {
        let _ = self.locks.set(Arc::clone(locks));
    }

    /// Access mode and status flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Replaces the status flags that may change (`O_APPEND`, `O_NONBLOCK`, `O_DIRECT`, `O_NOATIME`, `O_ASYNC`).
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Relaxed);
        self.ops.flags_changed(flags);
    }

    /// Opened for reading.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.flags() & O_PATH == 0 && self.flags() & O_ACCMODE != 1
    }

    /// Opened for writing.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.flags() & O_PATH == 0 && matches!(self.flags() & O_ACCMODE, 1 | 2)
    }

    /// Opened with `O_NONBLOCK`.
    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & O_NONBLOCK != 0
    }

    /// The operation context for `task`.
    #[must_use]
    pub fn op<'a>(&self, task: &'a Arc<Task>) -> Op<'a> {
        Op { task, flags: self.flags() }
    }
}

const O_ACCMODE: u32 = 3;
const O_NONBLOCK: u32 = 0o4000;
const O_PATH: u32 = 0o10_000_000;
