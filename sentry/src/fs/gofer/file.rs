//! An open regular file of the container: reads, writes and mappings go straight to the host's descriptor.
//!
//! Key type: [`GoferFile`].

use std::any::Any;
use std::sync::Arc;

use linux_abi::fs::falloc;
use platform::MapSource;
use platform::host::file;

use super::failures::Told;
use super::{Donated, GoferInode};
use crate::Errno;
use crate::fs::host_file;
use crate::io::{Limited, Sink, Source};
use crate::task::Task;
use crate::vfs::open_flags::{O_ACCMODE, O_APPEND, O_DSYNC, O_NOATIME, O_RDONLY, O_RDWR, O_SYNC, O_WRONLY};
use crate::vfs::{FileOps, Mappable, Op, Pages, Whence};

/// Whether a write goes to the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Appends {
    Yes,
    No,
}

/// An open file.
pub struct GoferFile {
    inode: Arc<GoferInode>,
    /// Open for reading at least; for writing too if this file is.
    file: Arc<Donated>,
    /// Whether that descriptor writes at the end.
    is_appending: bool,
    /// Which errors of writing back it knows.
    told: Told,
}

impl GoferFile {
    pub(super) fn new(inode: Arc<GoferInode>, file: Arc<Donated>, is_appending: bool) -> Self {
        let told = file.failures.told();
        Self { inode, file, is_appending, told }
    }

    /// The host's descriptor that does or does not write at the end: `fcntl(F_SETFL)` may have changed its mind since the open,
    /// and `pwritev2(2)` may ask for it once.
    fn file_that(&self, appends: Appends) -> Result<Arc<Donated>, Errno> {
        match (appends, self.is_appending) {
            (Appends::Yes, false) => self.inode.file(O_RDWR | O_APPEND),
            (Appends::No, true) => self.inode.file(O_RDWR),
            _ => Ok(Arc::clone(&self.file)),
        }
    }

    /// With `O_NOATIME`: the host's descriptor for reading that is no access. The host may refuse one for a file that is another's;
    /// then it is read as without.
    fn quiet_file(&self, op: &Op<'_>) -> Option<Arc<Donated>> {
        if op.flags & O_NOATIME == 0 { None } else { self.inode.file(O_RDONLY | O_NOATIME).ok() }
    }

    fn sync_written(&self, op: &Op<'_>) -> Result<(), Errno> {
        if op.flags & O_DSYNC == 0 {
            return Ok(());
        }
        self.sync(op.flags & O_SYNC != O_SYNC)
    }

    /// The host's descriptor, for transfers that the stub makes.
    #[must_use]
    pub fn host_file(&self) -> &MapSource {
        &self.file.source
    }
}

impl FileOps for GoferFile {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        if let Some(quiet) = self.quiet_file(op) {
            return host_file::read_at(&*quiet, sink, offset);
        }
        let read = host_file::read_at(&*self.file, sink, offset);
        self.inode.has_been_read();
        read
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, offset: u64) -> Result<usize, Errno> {
        let file = self.file_that(Appends::No)?;
        let written = {
            let _changing = self.inode.changing();
            let wanted = source.remaining() as u64;
            self.inode.counting(&file, Some(offset), wanted, |may| {
                host_file::write_at(&*file, source, offset, usize::try_from(may).unwrap_or(usize::MAX))
            })?
        };
        op.task.io.has_stored(written);
        self.sync_written(op)?;
        Ok(written)
    }

    fn append(&self, op: &Op<'_>, source: &mut dyn Source, limit: u64) -> Result<(usize, u64), Errno> {
        let file = self.file_that(Appends::Yes)?;
        let written = {
            let _changing = self.inode.changing();
            let wanted = source.remaining() as u64;
            self.inode.counting(&file, None, wanted, |may| {
                // The host's descriptor is shared, and so is its position.
                let _one_at_a_time = self.inode.memory().is_none().then(|| self.inode.lock_appends());
                if limit == u64::MAX && may == u64::MAX {
                    return host_file::append(&*file, source);
                }
                let (end, _) = file::size_and_blocks(&*file)?;
                let room = limit.checked_sub(end).filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
                host_file::append(&*file, &mut Limited::new(source, room.min(may)))
            })?
        };
        op.task.io.has_stored(written.0);
        self.sync_written(op)?;
        Ok(written)
    }

    fn has_content(&self) -> bool {
        true
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(file::size_and_blocks(&*self.file)?.0)
    }

    fn seek_sparse(&self, whence: Whence, offset: u64) -> Result<u64, Errno> {
        if whence == Whence::Data {
            file::seek_data(&*self.file, offset)
        } else {
            file::seek_hole(&*self.file, offset)
        }
    }

    fn map(&self, op: &Op<'_>, offset: u64, _len: u64, writable: bool) -> Result<Mappable, Errno> {
        let access = op.flags & O_ACCMODE;
        if access == O_WRONLY || (writable && access != O_RDWR) {
            return Err(Errno::EACCES);
        }
        let source = if writable {
            self.inode.mapped_writable();
            Arc::clone(&self.file.source)
        } else if let Some(quiet) = self.quiet_file(op) {
            return Ok(Mappable::Pages(Pages { source: Arc::clone(&quiet.source), offset }));
        } else if access == O_RDONLY {
            Arc::clone(&self.file.source)
        } else {
            // What the guest may not write must not be given away for writing.
            Arc::clone(&self.inode.file(O_RDONLY)?.source)
        };
        // The host moves the access time when it maps the file. Behind what has told the attributes anew.
        self.inode.has_been_read();
        Ok(Mappable::Pages(Pages { source, offset }))
    }

    fn truncate(&self, len: u64) -> Result<(), Errno> {
        let _changing = self.inode.changing();
        self.inode.counting(&self.file, None, 0, |_| file::truncate(&*self.file, len))
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let _changing = self.inode.changing();
        let wanted = if mode & falloc::PUNCH_HOLE == 0 { len } else { 0 };
        self.inode.counting(&self.file, Some(offset), wanted, |may| {
            if may < wanted { Err(Errno::ENOSPC) } else { file::allocate(&*self.file, mode, offset, len) }
        })
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.synced(file::sync(&*self.file, data_only))
    }

    fn synced(&self, outcome: Result<(), Errno>) -> Result<(), Errno> {
        self.file.failures.answer(&self.told, outcome)
    }

    fn closing(&self, _: &Arc<Task>) -> Result<(), Errno> {
        if self.file.is_one_files_own { file::flush(&*self.file) } else { Ok(()) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
