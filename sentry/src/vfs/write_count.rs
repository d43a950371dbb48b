//! Who has a regular file open for writing, and which running programs forbid it? LINUX: `i_writecount`.
//!
//! Key types: [`WriteCount`] (in the node), [`WriteAccess`] (a writer), [`DenyWrite`] (a program that runs). One excludes the other
//! with ETXTBSY. A program's interpreter and libraries are not protected, as on Linux.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::Inode;
use crate::Errno;

/// Writers, or programs that run, as a negative number.
#[derive(Debug, Default)]
pub struct WriteCount(AtomicI32);

impl WriteCount {
    fn add(&self, step: i32) -> Result<(), Errno> {
        let add = |count: i32| (count.signum() != -step.signum()).then(|| count.checked_add(step)).flatten();
        let added = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        added.map(|_| ()).map_err(|_| Errno::ETXTBSY)
    }

    fn sub(&self, step: i32) {
        self.0.fetch_sub(step, Ordering::AcqRel);
    }
}

/// A right to write that is held: no program can be started from the file meanwhile.
pub struct WriteAccess(Arc<dyn Inode>);

impl WriteAccess {
    /// LINUX: `get_write_access`.
    ///
    /// # Errors
    /// ETXTBSY if a program runs from the file.
    pub fn take(inode: &Arc<dyn Inode>) -> Result<Self, Errno> {
        inode.write_count().map_or(Ok(()), |count| count.add(1))?;
        Ok(Self(Arc::clone(inode)))
    }
}

impl Drop for WriteAccess {
    fn drop(&mut self) {
        if let Some(count) = self.0.write_count() {
            count.sub(1);
        }
    }
}

/// A program runs from the file: nobody can open it for writing meanwhile.
pub struct DenyWrite(Arc<dyn Inode>);

impl DenyWrite {
    /// LINUX: `deny_write_access`.
    ///
    /// # Errors
    /// ETXTBSY if somebody has it open for writing.
    pub fn take(inode: &Arc<dyn Inode>) -> Result<Self, Errno> {
        inode.write_count().map_or(Ok(()), |count| count.add(-1))?;
        Ok(Self(Arc::clone(inode)))
    }
}

impl Drop for DenyWrite {
    fn drop(&mut self) {
        if let Some(count) = self.0.write_count() {
            count.sub(-1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_and_running_programs_exclude_each_other() {
        let count = WriteCount::default();
        assert_eq!((count.add(1), count.add(1)), (Ok(()), Ok(())));
        assert_eq!(count.add(-1), Err(Errno::ETXTBSY));
        count.sub(1);
        count.sub(1);
        assert_eq!((count.add(-1), count.add(-1)), (Ok(()), Ok(())));
        assert_eq!(count.add(1), Err(Errno::ETXTBSY));
        count.sub(-1);
        count.sub(-1);
        assert_eq!(count.add(1), Ok(()));
    }
}
