//! An open directory, of whatever file system: its entries, with `.` and `..` put in front.
//!
//! Key type: [`DirectoryFile`].

use std::any::Any;

use super::{DirEntry, FileOps, Location, Op};
use crate::Errno;

/// LINUX: `DT_DIR`.
const DT_DIR: u8 = 4;
/// Cookies of `.` and `..` come first; the file system's own are moved up by this much.
const DOTS: u64 = 2;

/// An open directory.
pub struct DirectoryFile {
    location: Location,
}

impl DirectoryFile {
    /// The directory at a place.
    #[must_use]
    pub fn new(location: Location) -> Self {
        Self { location }
    }

    fn dots(&self) -> Result<[DirEntry<'static>; 2], Errno> {
        let ino = self.location.inode().stat()?.ino;
        let above = match self.location.dentry.parent() {
            Some(parent) => parent.inode().stat()?.ino,
            None => ino,
        };
        Ok([
            DirEntry { name: b".", ino, kind: DT_DIR, next: 1 },
            DirEntry { name: b"..", ino: above, kind: DT_DIR, next: DOTS },
        ])
    }
}

impl FileOps for DirectoryFile {
    fn read(&self, _: &Op<'_>, _: &mut dyn crate::io::Sink, _: u64) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn read_dir(
        &self,
        op: &Op<'_>,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        if self.location.dentry.is_deleted() {
            return Err(Errno::ENOENT);
        }
        if cookie < DOTS {
            for entry in self.dots()?.into_iter().filter(|entry| entry.next > cookie) {
                if !emit(entry) {
                    return Ok(());
                }
            }
        }
        self.location.inode().read_dir(op.task, cookie.saturating_sub(DOTS), &mut |mut entry| {
            entry.next = entry.next.saturating_add(DOTS);
            emit(entry)
        })
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.location.inode().sync(data_only)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
