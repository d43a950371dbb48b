//! An open regular file of a tmpfs.
//!
//! Key type: [`TmpFile`].

use std::any::Any;
use std::sync::Arc;

use super::TmpInode;
use super::content::Content;
use crate::Errno;
use crate::io::{Sink, Source};
use crate::mm::Gate;
use crate::vfs::open_flags::{O_ACCMODE, O_NOATIME, O_RDWR, O_WRONLY};
use crate::vfs::permission::ms;
use crate::vfs::{FileOps, Mappable, Mount, Op, Pages, Whence};

/// An open file.
pub struct TmpFile {
    inode: Arc<TmpInode>,
    mount: Arc<Mount>,
}

impl TmpFile {
    pub(super) fn new(inode: Arc<TmpInode>, mount: Arc<Mount>) -> Self {
        Self { inode, mount }
    }

    fn content(&self) -> Result<&Content, Errno> {
        self.inode.content().ok_or(Errno::EINVAL)
    }

    /// LINUX: `file_accessed`.
    fn accessed(&self, op: &Op<'_>) {
        if op.flags & O_NOATIME == 0 && self.mount.flags() & ms::NOATIME == 0 {
            self.inode.touch_access();
        }
    }

    /// `F_GET_SEALS`.
    ///
    /// # Errors
    /// EINVAL if the file cannot be sealed.
    pub fn seals(&self) -> Result<u32, Errno> {
        Ok(self.content()?.seals())
    }

    /// `F_ADD_SEALS`.
    ///
    /// # Errors
    /// As the man page.
    pub fn add_seals(&self, seals: u32) -> Result<(), Errno> {
        self.content()?.add_seals(seals)
    }
}

impl FileOps for TmpFile {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        // LINUX: at the end of the file, too, and if nothing was asked for (`shmem_file_read_iter`).
        let n = self.content()?.read(sink, offset)?;
        self.accessed(op);
        Ok(n)
    }

    fn write(&self, _: &Op<'_>, source: &mut dyn Source, offset: u64) -> Result<usize, Errno> {
        let (n, _) = self.content()?.write(source, Some(offset), u64::MAX)?;
        if n > 0 {
            self.inode.touch();
        }
        Ok(n)
    }

    fn append(&self, _: &Op<'_>, source: &mut dyn Source, limit: u64) -> Result<(usize, u64), Errno> {
        let (n, end) = self.content()?.write(source, None, limit)?;
        if n > 0 {
            self.inode.touch();
        }
        Ok((n, end))
    }

    fn has_content(&self) -> bool {
        true
    }

    fn limits_kept_size(&self) -> bool {
        true
    }

    fn check_room(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        self.content()?.check_room(mode, offset, len)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.content()?.size_and_blocks().0)
    }

    fn seek_sparse(&self, whence: Whence, offset: u64) -> Result<u64, Errno> {
        self.content()?.seek_sparse(whence == Whence::Data, offset)
    }

    fn map(&self, op: &Op<'_>, offset: u64, _len: u64, writable: bool) -> Result<Mappable, Errno> {
        if op.flags & O_ACCMODE == O_WRONLY || (writable && op.flags & O_ACCMODE != O_RDWR) {
            return Err(Errno::EACCES);
        }
        let source = self.content()?.map(writable)?;
        self.accessed(op);
        Ok(Mappable::Pages(Pages { source, offset }))
    }

    fn gate(&self) -> Option<Arc<Gate>> {
        self.inode.content()?.gate()
    }

    fn counts_pages(&self) -> bool {
        true
    }

    fn truncate(&self, len: u64) -> Result<(), Errno> {
        self.content()?.truncate(len)?;
        self.inode.touch();
        Ok(())
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        self.content()?.allocate(mode, offset, len)?;
        self.inode.touch();
        Ok(())
    }

    fn sync(&self, _: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
