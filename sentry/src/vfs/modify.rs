//! Changing what is in a file: the one way that every change goes, whatever call it comes from.
//!
//! Key types: [`Writing`], [`Place`]. `write(2)` and its kin, `sendfile`, `splice`, `copy_file_range`, `truncate`, `fallocate`
//! and `O_TRUNC` share what Linux does for each of them: `RLIMIT_FSIZE` with SIGXFSZ (`generic_write_check_limits`,
//! `inode_newsize_ok`), set-ID bits and file capabilities that go (`file_remove_privs`), and the event for those who watch.
//! `tests/tidy` sees to it that nobody else calls the operations of [`super::FileOps`] that change content.

use std::cell::Cell;
use std::sync::Arc;

use linux_abi::fs::falloc;
use linux_abi::signal::{SIGXFSZ, SigInfo};

use super::open_flags::O_APPEND;
use super::walk::Caller;
use super::{Access, Location, Op, OpenFile, SetAttr, SharedPosition, Whence, WriteAccess, mode};
use crate::Errno;
use crate::fs::inotify;
use crate::io::{Limited, Source};
use crate::task::signal::Sender;
use crate::task::{Capability, INFINITY, Resource, Task};

/// Most bytes of one transfer. LINUX: `MAX_RW_COUNT`.
const TRANSFER_MAX: u64 = 0x7fff_f000;

/// Where in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At its position, which moves.
    Position,
    /// At this offset.
    At(u64),
}

impl Place {
    /// An offset as the guest gives it.
    ///
    /// # Errors
    /// EINVAL for a negative one.
    pub fn at(offset: i64) -> Result<Self, Errno> {
        u64::try_from(offset).map(Self::At).map_err(|_| Errno::EINVAL)
    }
}

/// A change of a file's content by one call: begun before its first byte, dropped after its last.
pub struct Writing<'a> {
    file: &'a OpenFile,
    op: Op<'a>,
    /// `RLIMIT_FSIZE`.
    limit: u64,
    /// Set-ID bits that stay.
    kept_bits: Option<u32>,
    has_written: Cell<bool>,
    has_met_limit: Cell<bool>,
}

impl OpenFile {
    /// Begins to write. LOCK: none may be held that the gofer's answer waits for.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin_write<'a>(&'a self, op: &Op<'a>, place: Place) -> Result<Writing<'a>, Errno> {
        let (mut limit, mut kept_bits) = (INFINITY, None);
        if self.ops.has_content() {
            limit = op.task.process.limit(Resource::Fsize).soft;
        }
        // LINUX: nothing is taken away for a write that is beyond the limit.
        if self.ops.has_content() && (limit == INFINITY || self.start_of_write(op, place)? < limit) {
            let privileges = drop_privileges(op.task, &self.location)?;
            kept_bits = privileges.kept;
            if privileges.are_fewer {
                inotify::notify_at(&op.task.kernel, &self.location, inotify::mask::ATTRIB);
            }
        }
        let (has_written, has_met_limit) = (Cell::new(false), Cell::new(false));
        Ok(Writing { file: self, op: *op, limit, kept_bits, has_written, has_met_limit })
    }

    fn start_of_write(&self, op: &Op<'_>, place: Place) -> Result<u64, Errno> {
        match place {
            _ if op.flags & O_APPEND != 0 => self.ops.size(),
            Place::Position => self.position_now(),
            Place::At(offset) => Ok(offset),
        }
    }

    /// How much of `len` bytes can be written at `offset` for `RLIMIT_FSIZE`. LINUX: `generic_write_check_limits`.
    ///
    /// # Errors
    /// EFBIG, with SIGXFSZ.
    pub fn within_limit(&self, task: &Arc<Task>, offset: u64, len: usize) -> Result<usize, Errno> {
        let limit = task.process.limit(Resource::Fsize).soft;
        if limit == INFINITY || !self.ops.has_content() {
            return Ok(len);
        }
        if offset >= limit {
            task.send(SigInfo::kernel(SIGXFSZ), Sender::Kernel);
            return Err(Errno::EFBIG);
        }
        Ok(len.min(usize::try_from(limit - offset).unwrap_or(usize::MAX)))
    }

    /// `ftruncate(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn truncate(&self, task: &Arc<Task>, len: u64) -> Result<(), Errno> {
        if task.process.limit(Resource::Fsize).soft != INFINITY && len > self.ops.size()? {
            check_size(task, len)?;
        }
        let privileges = drop_privileges(task, &self.location)?;
        self.ops.truncate(len)?;
        changed(task, &self.location, privileges.kept, privileges.events());
        Ok(())
    }

    /// `fallocate(2)`; the arguments have been checked. A long stretch is allocated by pieces, so that the caller can be ended.
    ///
    /// # Errors
    /// As the man page; EINTR for a caller that is to end.
    pub fn allocate(&self, task: &Arc<Task>, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        /// Bytes allocated at a time.
        const STEP: u64 = 64 << 20;
        let is_limited =
            mode & falloc::KEEP_SIZE == 0 || (mode & falloc::PUNCH_HOLE == 0 && self.ops.limits_kept_size());
        if is_limited && offset + len > self.ops.size()? {
            check_size(task, offset + len)?;
        }
        self.ops.check_room(mode, offset, len)?;
        let privileges = drop_privileges(task, &self.location)?;
        if privileges.are_fewer {
            inotify::notify_at(&task.kernel, &self.location, inotify::mask::ATTRIB);
        }
        let step = if mode & falloc::PUNCH_HOLE == 0 { STEP } else { len };
        let mut done = 0;
        while done < len {
            if task.is_killed() {
                return Err(Errno::EINTR);
            }
            let piece = step.min(len - done);
            self.ops.allocate(mode, offset + done, piece)?;
            done += piece;
        }
        changed(task, &self.location, privileges.kept, inotify::mask::MODIFY);
        Ok(())
    }

    /// `MADV_REMOVE`: takes pages out through a mapping that may be written to. As a store through it, it is told to nobody.
    ///
    /// # Errors
    /// As `fallocate(2)`.
    pub fn remove_mapped(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.ops.allocate(falloc::KEEP_SIZE | falloc::PUNCH_HOLE, offset, len)
    }
}

impl Writing<'_> {
    /// Writes what the source has; at the end of a file that is open with `O_APPEND`.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn write(&self, source: &mut dyn Source, place: Place) -> Result<usize, Errno> {
        let written = if self.file.ops.is_seekable() {
            self.write_at_place(source, place)
        } else {
            self.file.ops.write(&self.op, source, 0)
        };
        match written {
            Ok(n) if n > 0 => self.has_written.set(true),
            Err(Errno::EFBIG) if self.limit != INFINITY => self.has_met_limit.set(true),
            _ => {}
        }
        written
    }

    fn write_at_place(&self, source: &mut dyn Source, place: Place) -> Result<usize, Errno> {
        if let (Place::Position, Some(shared)) = (place, self.file.ops.shared_position()) {
            return self.write_at_shared(shared, source);
        }
        // LINUX: only what moves the position holds it (`f_pos_lock`): positioned writes run side by side.
        let mut position = match place {
            Place::Position => Some(self.file.lock_position()),
            Place::At(_) => None,
        };
        let (n, end) = if self.op.flags & O_APPEND != 0 && self.file.ops.has_content() {
            self.file.ops.append(&self.op, source, self.limit)?
        } else {
            let offset = match (place, &position) {
                (Place::At(offset), _) => offset,
                (Place::Position, position) => position.as_ref().map_or(0, |position| **position),
            };
            let n = self.write_within_limit(source, offset)?;
            (n, offset + n as u64)
        };
        if let Some(position) = &mut position {
            **position = end;
        }
        Ok(n)
    }

    fn write_at_shared(&self, shared: &dyn SharedPosition, source: &mut dyn Source) -> Result<usize, Errno> {
        if self.op.flags & O_APPEND != 0 {
            shared.seek(Whence::End, 0)?;
        }
        if self.limit == INFINITY || source.remaining() == 0 {
            return shared.write(source);
        }
        let room = self.limit.checked_sub(shared.seek(Whence::Current, 0)?);
        let room = room.filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
        shared.write(&mut Limited::new(source, room))
    }

    fn write_within_limit(&self, source: &mut dyn Source, offset: u64) -> Result<usize, Errno> {
        if offset > i64::MAX.cast_unsigned() - TRANSFER_MAX {
            return Err(Errno::EFBIG);
        }
        if self.limit == INFINITY || source.remaining() == 0 {
            return self.file.ops.write(&self.op, source, offset);
        }
        let room = self.limit.checked_sub(offset).filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
        self.file.ops.write(&self.op, &mut Limited::new(source, room), offset)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if self.has_written.get() {
            changed(self.op.task, &self.file.location, self.kept_bits, inotify::mask::MODIFY);
        }
        if self.has_met_limit.get() {
            self.op.task.send(SigInfo::kernel(SIGXFSZ), Sender::Kernel);
        }
    }
}

/// `truncate(2)` and `O_TRUNC`, of a file that need not be open; the caller may write to it. `mtime_ns`: it is changed then, even
/// if it is as long as before.
///
/// # Errors
/// EFBIG, with SIGXFSZ; the file system's.
pub(super) fn truncate_at(
    caller: &Caller<'_>,
    location: &Location,
    len: u64,
    mtime_ns: Option<i64>,
) -> Result<(), Errno> {
    let inode = location.inode();
    let task = caller.task;
    let _write_access = WriteAccess::take(inode)?;
    if task.process.limit(Resource::Fsize).soft != INFINITY && len > inode.stat()?.size {
        check_size(task, len)?;
    }
    inode.drop_capabilities()?;
    let access = inode.access()?;
    let mode = mode_without_privileges(caller, &access);
    let kept_bits = mode.unwrap_or(access.mode & 0o7777);
    inode.set_attr(&SetAttr { size: Some(len), mode, mtime_ns, ..SetAttr::default() })?;
    let privileges =
        Privileges { kept: (kept_bits & 0o6000 != 0).then_some(kept_bits), are_fewer: mode.is_some() };
    changed(task, location, privileges.kept, privileges.events());
    Ok(())
}

/// `RLIMIT_FSIZE` for a file that grows to `len` bytes. LINUX: `inode_newsize_ok`.
fn check_size(task: &Arc<Task>, len: u64) -> Result<(), Errno> {
    if len <= task.process.limit(Resource::Fsize).soft {
        return Ok(());
    }
    task.send(SigInfo::kernel(SIGXFSZ), Sender::Kernel);
    Err(Errno::EFBIG)
}

/// What a change of content leaves of the set-ID bits.
#[derive(Default)]
struct Privileges {
    /// All permission bits, if such a bit stays.
    kept: Option<u32>,
    /// One has gone.
    are_fewer: bool,
}

impl Privileges {
    /// What those are told who watch a file whose size is set. LINUX: one `notify_change` does both, which is one event.
    fn events(&self) -> u32 {
        inotify::mask::MODIFY | if self.are_fewer { inotify::mask::ATTRIB } else { 0 }
    }
}

/// The content changes: file capabilities go, set-ID bits unless the writer may keep them. LINUX: `file_remove_privs`.
fn drop_privileges(task: &Arc<Task>, location: &Location) -> Result<Privileges, Errno> {
    let inode = location.inode();
    inode.drop_capabilities()?;
    // PERF: nobody is asked for an owner unless there is such a bit.
    if inode.mode()? & 0o6000 == 0 {
        return Ok(Privileges::default());
    }
    let access = inode.access()?;
    let mode = mode_without_privileges(&Caller::of(task), &access);
    if let Some(mode) = mode {
        inode.set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    }
    let kept = mode.unwrap_or(access.mode & 0o7777);
    Ok(Privileges { kept: (kept & 0o6000 != 0).then_some(kept), are_fewer: mode.is_some() })
}

/// The permission bits that are left when this caller changes the content; `None`: they stay.
/// LINUX: `setattr_should_drop_suidgid`.
fn mode_without_privileges(caller: &Caller<'_>, access: &Access) -> Option<u32> {
    if access.mode & 0o6000 == 0 || !access.is_regular() || caller.has(Capability::Fsetid) {
        return None;
    }
    let mut bits = access.mode & 0o7777 & !mode::S_ISUID;
    if bits & 0o010 != 0 || !caller.credentials.in_group(access.gid) {
        bits &= !mode::S_ISGID;
    }
    (bits != access.mode & 0o7777).then_some(bits)
}

/// The content has changed.
fn changed(task: &Arc<Task>, location: &Location, kept_bits: Option<u32>, events: u32) {
    if let Some(bits) = kept_bits {
        location.inode().keep_set_id(bits);
    }
    inotify::notify_at(&task.kernel, location, events);
}
