//! What are the standard streams that a container was given, as nodes and as files?
//!
//! Key types: [`StdioInode`] (what `/proc/self/fd/1` and `/dev/stdout` lead to), [`StdioFile`]. A regular file of the host is one
//! for the guest: with a size, and at the position of the host's open file, which others share (`(echo a; rvisor ...) > log`).
//! Opened again by its name it has a position of its own. Everything else (pipes, terminals, `/dev/null`) is a [`Stream`],
//! and stays the same stream however often it is opened: the sentry has only the end that it was given, so that a
//! pipe's other end is out of reach (EACCES).

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use platform::MapSource;
use platform::host::file;
use platform::host::poller::Poller;

use super::host_file;
use super::host_stream::Stream;
use crate::Errno;
use crate::io::{Limited, Sink, Source};
use crate::kernel::Kernel;
use crate::task::Task;
use crate::vfs::open_flags::{O_ACCMODE, O_APPEND, O_LARGEFILE, O_RDONLY, O_RDWR, O_WRONLY};
use crate::vfs::{
    AnonymousInode, FileOps, Inode, Location, Mappable, Op, OpenFile, Pages, SetAttr, SharedPosition, Stat,
    Whence, makedev, mode,
};

/// The node of a standard stream.
pub struct StdioInode {
    me: Weak<Self>,
    /// Number, owner and permission bits: the host's are in its own numbers.
    node: Arc<AnonymousInode>,
    kind: Kind,
    /// Access mode, `O_APPEND` and `O_LARGEFILE` of the host's open file.
    host_flags: u32,
    /// LOCK: held across a write at the end and the question where that is.
    appends: Mutex<()>,
}

enum Kind {
    File(MapSource),
    /// With the device's number.
    Stream(Arc<Stream>, u64),
}

/// Makes an open file of a descriptor that a container's process is given. `flags`: the access mode, for what is no file.
///
/// # Errors
/// The host's.
pub fn open(
    kernel: &Kernel,
    fd: OwnedFd,
    flags: u32,
    (uid, gid): (u32, u32),
) -> Result<Arc<OpenFile>, Errno> {
    let inode = StdioInode::new(fd, &kernel.poller, (uid, gid))?;
    let location = kernel.vfs.labelled(&inode.label(), Arc::clone(&inode) as Arc<dyn Inode>);
    Ok(match &inode.kind {
        Kind::Stream(stream, _) => {
            OpenFile::new(Arc::clone(stream) as Arc<dyn FileOps>, location, flags & O_ACCMODE)
        }
        Kind::File(_) => {
            let ops = Arc::new(StdioFile { inode: Arc::clone(&inode), position: Position::Hosts });
            OpenFile::new(ops, location, inode.host_flags)
        }
    })
}

impl StdioInode {
    fn new(fd: OwnedFd, poller: &Arc<Poller>, (uid, gid): (u32, u32)) -> Result<Arc<Self>, Errno> {
        let stat = file::stat(&fd)?;
        let host_flags = file::flags(&fd)? & (O_ACCMODE | O_APPEND | O_LARGEFILE);
        let node = AnonymousInode::new(stat.st_mode & mode::S_IFMT | 0o600, uid, gid);
        let kind = match stat.st_mode & mode::S_IFMT {
            mode::S_IFREG => Kind::File(Arc::new(fd)),
            mode::S_IFCHR => {
                let (major, minor) = file::device(&stat);
                Kind::Stream(Stream::new(fd, poller)?, makedev(major, minor))
            }
            _ => Kind::Stream(Stream::new(fd, poller)?, 0),
        };
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            node,
            kind,
            host_flags,
            appends: Mutex::default(),
        }))
    }

    /// What `/proc/self/fd` shows.
    fn label(&self) -> Vec<u8> {
        let ino = self.node.ino();
        let label = match (self.node.stat().map_or(0, |stat| stat.kind()), &self.kind) {
            (mode::S_IFIFO, _) => format!("pipe:[{ino}]"),
            (mode::S_IFSOCK, _) => format!("socket:[{ino}]"),
            (_, Kind::Stream(_, rdev)) if *rdev == makedev(1, 3) => "/dev/null".to_owned(),
            _ => format!("/host:[{ino}]"),
        };
        label.into_bytes()
    }

    fn file(&self) -> Result<&MapSource, Errno> {
        match &self.kind {
            Kind::File(file) => Ok(file),
            Kind::Stream(..) => Err(Errno::EINVAL),
        }
    }
}

impl Inode for StdioInode {
    fn stat(&self) -> Result<Stat, Errno> {
        let mut stat = self.node.stat()?;
        match &self.kind {
            Kind::Stream(_, rdev) => stat.rdev = *rdev,
            Kind::File(file) => {
                let host = file::stat(&**file)?;
                let ns = |seconds: i64, nanoseconds: u64| {
                    seconds.saturating_mul(1_000_000_000).saturating_add_unsigned(nanoseconds)
                };
                stat.size = u64::try_from(host.st_size).unwrap_or(0);
                stat.blocks = u64::try_from(host.st_blocks).unwrap_or(0);
                stat.nlink = u32::try_from(host.st_nlink).unwrap_or(u32::MAX);
                stat.atime_ns = ns(host.st_atime, host.st_atime_nsec);
                stat.mtime_ns = ns(host.st_mtime, host.st_mtime_nsec);
                stat.ctime_ns = ns(host.st_ctime, host.st_ctime_nsec);
            }
        }
        Ok(stat)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        if let Some(size) = change.size {
            file::truncate(&**self.file()?, size)?;
        }
        self.node.set_attr(&SetAttr { size: None, ..*change })
    }

    /// LINUX: a fresh open of what the link leads to; a pipe's would be another open file of the same pipe.
    fn open(&self, _: &Arc<Task>, _: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        match (flags & O_ACCMODE, self.host_flags & O_ACCMODE) {
            (O_RDONLY, O_WRONLY) | (O_WRONLY, O_RDONLY) => return Err(Errno::EACCES),
            _ => {}
        }
        match &self.kind {
            Kind::Stream(stream, _) => Ok(Arc::clone(stream) as Arc<dyn FileOps>),
            Kind::File(_) => {
                let inode = self.me.upgrade().ok_or(Errno::ESTALE)?;
                Ok(Arc::new(StdioFile { inode, position: Position::Own }))
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whose position an open file has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    /// The host's open file's.
    Hosts,
    /// Its own.
    Own,
}

/// A regular file of the host.
struct StdioFile {
    inode: Arc<StdioInode>,
    position: Position,
}

impl SharedPosition for StdioFile {
    fn seek(&self, whence: Whence, offset: i64) -> Result<u64, Errno> {
        file::seek(&**self.inode.file()?, whence.to_raw(), offset)
    }

    fn read(&self, sink: &mut dyn Sink) -> Result<usize, Errno> {
        host_file::read_here(&**self.inode.file()?, sink)
    }

    fn write(&self, source: &mut dyn Source) -> Result<usize, Errno> {
        host_file::write_here(&**self.inode.file()?, source)
    }
}

impl FileOps for StdioFile {
    fn read(&self, _: &Op<'_>, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        host_file::read_at(&**self.inode.file()?, sink, offset)
    }

    fn write(&self, _: &Op<'_>, source: &mut dyn Source, offset: u64) -> Result<usize, Errno> {
        host_file::write_at(&**self.inode.file()?, source, offset, usize::MAX)
    }

    fn append(&self, _: &Op<'_>, source: &mut dyn Source, limit: u64) -> Result<(usize, u64), Errno> {
        let _one_at_a_time = self.inode.appends.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.size()?;
        let room = limit.checked_sub(end).filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
        let n = self.write_end(&mut Limited::new(source, room), end)?;
        Ok((n, end + n as u64))
    }

    fn has_content(&self) -> bool {
        true
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn shared_position(&self) -> Option<&dyn SharedPosition> {
        (self.position == Position::Hosts).then_some(self as &dyn SharedPosition)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(file::size_and_blocks(&**self.inode.file()?)?.0)
    }

    fn seek_sparse(&self, whence: Whence, offset: u64) -> Result<u64, Errno> {
        let from = i64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let file = &**self.inode.file()?;
        let before = file::position(file)?;
        let found = file::seek(file, whence.to_raw(), from);
        // The host's position is others' too.
        file::seek(file, Whence::Start.to_raw(), i64::try_from(before).unwrap_or(0))?;
        found
    }

    fn map(&self, op: &Op<'_>, offset: u64, _: u64, writable: bool) -> Result<Mappable, Errno> {
        let host = self.inode.host_flags & O_ACCMODE;
        if op.flags & O_ACCMODE == O_WRONLY || writable && op.flags & O_ACCMODE != O_RDWR {
            return Err(Errno::EACCES);
        }
        // What the guest may not write must not be given away for writing.
        if !writable && host != O_RDONLY {
            return Err(Errno::ENODEV);
        }
        Ok(Mappable::Pages(Pages { source: Arc::clone(self.inode.file()?), offset }))
    }

    fn truncate(&self, len: u64) -> Result<(), Errno> {
        file::truncate(&**self.inode.file()?, len)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        file::allocate(&**self.inode.file()?, mode, offset, len)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        file::sync(&**self.inode.file()?, data_only)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl StdioFile {
    fn write_end(&self, source: &mut dyn Source, end: u64) -> Result<usize, Errno> {
        let file = &**self.inode.file()?;
        if self.position == Position::Hosts {
            file::seek(file, Whence::Start.to_raw(), i64::try_from(end).map_err(|_| Errno::EFBIG)?)?;
            return host_file::write_here(file, source);
        }
        host_file::write_at(file, source, end, usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::VecSink;
    use crate::vfs::Place;

    /// A file of the host's with some bytes in it, its position behind them; and a descriptor for what the host sees.
    fn redirected(task: &Arc<Task>, content: &[u8]) -> (Arc<OpenFile>, OwnedFd) {
        let host = file::new_memory_file("redirected").unwrap();
        assert_eq!(file::write(&host, content), Ok(content.len()));
        let given = file::duplicate(&host).unwrap();
        (open(&task.kernel, given, O_WRONLY, (0, 0)).unwrap(), host)
    }

    fn write(task: &Arc<Task>, file: &OpenFile, bytes: &[u8]) -> usize {
        let op = file.op(task);
        file.begin_write(&op, Place::Position).unwrap().write(&mut &*bytes, Place::Position).unwrap()
    }

    #[test]
    fn a_redirected_file_goes_on_where_the_host_is_and_leaves_it_where_it_stopped() {
        let task = crate::testing::task();
        let (file, host) = redirected(&task, b"first\n");
        assert!(file.location.inode().access().unwrap().is_regular());
        assert_eq!(file.position_now(), Ok(6));
        assert_eq!(write(&task, &file, b"second\n"), 7);
        assert_eq!((file::position(&host), file.location.inode().stat().unwrap().size), (Ok(13), 13));
        assert_eq!(file::write(&host, b"third\n"), Ok(6));
        assert_eq!(file.position_now(), Ok(19));
        file.move_position(2).unwrap();
        assert_eq!(file::position(&host), Ok(2));
    }

    #[test]
    fn opened_again_it_has_a_position_of_its_own() {
        let task = crate::testing::task();
        let (file, host) = redirected(&task, b"0123456789");
        let ops = file.location.inode().open(&task, &file.location, O_RDWR).unwrap();
        let again = OpenFile::new(ops, file.location.clone(), O_RDWR);
        assert_eq!(again.position_now(), Ok(0));
        assert_eq!(write(&task, &again, b"abc"), 3);
        assert_eq!((again.position_now(), file::position(&host)), (Ok(3), Ok(10)));
        let mut sink = VecSink::new(100);
        assert_eq!(again.ops.read(&again.op(&task), &mut sink, 0), Ok(10));
        assert_eq!(sink.bytes, b"abc3456789");
        again.set_flags(O_RDWR | O_APPEND);
        assert_eq!(write(&task, &again, b"end"), 3);
        assert_eq!((again.position_now(), file::position(&host)), (Ok(13), Ok(10)));
    }
}
