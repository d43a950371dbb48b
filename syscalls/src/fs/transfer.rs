//! From file to file without the guest's memory: `sendfile`, `copy_file_range`.

use std::sync::Arc;

use linux_abi::{Errno, UserPtr};
use sentry::fs::inotify;
use sentry::fs::pipe;
use sentry::io::VecSink;
use sentry::sync::Events;
use sentry::task::Current;
use sentry::vfs::open_flags::O_APPEND;
use sentry::vfs::{Access, Fd, Op, OpenFile, Place, Writing};

use super::rw::{readable, writable, write_failed};

/// Bytes moved at a time.
const STEP: usize = 128 << 10;
/// Most bytes of one call.
const TRANSFER_MAX: usize = 0x7fff_f000;

/// Where one side's bytes are: at the file's position, or at an offset that the guest keeps.
pub(super) struct Offset {
    ptr: Option<UserPtr<i64>>,
    pub(super) at: u64,
}

impl Offset {
    /// Reads the guest's offset, or takes the file's position.
    pub(super) fn read(current: &Current, file: &OpenFile, ptr: UserPtr<i64>) -> Result<Self, Errno> {
        if !ptr.is_null() && !file.ops.is_seekable() {
            return Err(Errno::ESPIPE);
        }
        Self::read_unchecked(current, file, ptr)
    }

    /// The same for a file that may turn out to have no positions.
    fn read_unchecked(current: &Current, file: &OpenFile, ptr: UserPtr<i64>) -> Result<Self, Errno> {
        match ptr.non_null() {
            None => Ok(Self { ptr: None, at: file.position_now()? }),
            Some(ptr) => {
                let at = u64::try_from(current.read_object(ptr)?).map_err(|_| Errno::EINVAL)?;
                Ok(Self { ptr: Some(ptr), at })
            }
        }
    }

    /// Puts it back where it came from.
    pub(super) fn store(&self, current: &mut Current, file: &OpenFile) -> Result<(), Errno> {
        match self.ptr {
            Some(ptr) => {
                let at = i64::try_from(self.at).map_err(|_| Errno::EOVERFLOW)?;
                current.write_object(ptr, &at)
            }
            None => {
                if file.ops.is_seekable() {
                    file.move_position(self.at)
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// Moves up to `len` bytes; waits for the file that is written, as it says.
pub(super) fn copy(
    current: &mut Current,
    (input, from): (&Arc<OpenFile>, &mut Offset),
    (output, to): (&Arc<OpenFile>, &mut Offset),
    len: usize,
) -> Result<usize, Errno> {
    let task = Arc::clone(current.task());
    let op = output.op(&task);
    // One for the whole call, begun with the first bytes: those who watch are told once, and nothing changes for nothing.
    let mut writing = None;
    let mut done = 0;
    while done < len && !(done > 0 && task.is_killed()) {
        let step = STEP.min(len - done);
        match copy_step(current, (input, from.at), (output, to.at), (&op, &mut writing), step) {
            Ok((got, put)) => {
                done += put;
                from.at += put as u64;
                to.at += put as u64;
                if put == 0 || put < got {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => {
                write_failed(current, errno);
                return Err(errno);
            }
        }
    }
    let is_same = Arc::ptr_eq(input.location.inode(), output.location.inode());
    if (done > 0 && is_same) || (len == 0 && input.ops.has_content()) {
        // LINUX: `splice_direct_to_actor`: it has been read after the last write, too, and for nothing, as its access time shows.
        let _ = input.ops.read(&input.op(&task), &mut VecSink::new(1), from.at.saturating_sub(1));
    }
    taken(current, input, done);
    drop(writing);
    task.io.has_read(done);
    task.io.has_written(done);
    Ok(done)
}

/// Bytes have been read from a file, to go to another: tells those who watch. Writing tells for itself.
pub(super) fn taken(current: &Current, input: &OpenFile, bytes: usize) {
    if bytes > 0 {
        inotify::notify_at(&current.task().kernel, &input.location, inotify::mask::ACCESS);
    }
}

/// Bytes have been put into a file, maybe not by writing: tells those who watch.
pub(super) fn given(current: &Current, output: &OpenFile, bytes: usize) {
    if bytes > 0 {
        inotify::notify_at(&current.task().kernel, &output.location, inotify::mask::MODIFY);
    }
}

fn copy_step<'a>(
    current: &mut Current,
    (input, from): (&Arc<OpenFile>, u64),
    (output, to): (&'a Arc<OpenFile>, u64),
    (op, writing): (&Op<'a>, &mut Option<Writing<'a>>),
    len: usize,
) -> Result<(usize, usize), Errno> {
    let mut sink = VecSink::new(len);
    let got = input.ops.read(&input.op(op.task), &mut sink, from)?;
    if got == 0 {
        return Ok((0, 0));
    }
    let bytes = sink.bytes;
    let writing = match writing {
        Some(writing) => writing,
        None => writing.insert(output.begin_write(op, Place::At(to))?),
    };
    let put = current.block_on_file(output, Events::WRITABLE, false, None, |_| {
        writing.write(&mut bytes.as_slice(), Place::At(to))
    })?;
    Ok((got, put))
}

/// `sendfile(2)`: <https://man7.org/linux/man-pages/man2/sendfile.2.html>
pub(crate) fn sendfile(
    current: &mut Current,
    out: Fd,
    input: Fd,
    offset: UserPtr<i64>,
    count: usize,
) -> Result<usize, Errno> {
    let input = readable(current, input)?;
    let mut from = Offset::read(current, &input, offset)?;
    let output = writable(current, out)?;
    // LINUX: `do_sendfile`: a pipe has no end to append at.
    let appends = output.flags() & O_APPEND != 0 && pipe::end_of(&output).is_none();
    if !input.ops.is_seekable() || appends || !output.ops.takes_splice() {
        return Err(Errno::EINVAL);
    }
    let mut to = Offset::read(current, &output, UserPtr::new(0))?;
    let done = copy(current, (&input, &mut from), (&output, &mut to), count.min(TRANSFER_MAX))?;
    from.store(current, &input)?;
    to.store(current, &output)?;
    Ok(done)
}

/// `copy_file_range(2)`: <https://man7.org/linux/man-pages/man2/copy_file_range.2.html>
pub(crate) fn copy_file_range(
    current: &mut Current,
    input: Fd,
    input_offset: UserPtr<i64>,
    output: Fd,
    output_offset: UserPtr<i64>,
    len: usize,
    // The sixth register but one.
    flags: u32,
) -> Result<usize, Errno> {
    let (input, output) = (current.files().get(input)?, current.files().get(output)?);
    let mut from = Offset::read_unchecked(current, &input, input_offset)?;
    let mut to = Offset::read_unchecked(current, &output, output_offset)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let len = checked_length(current, (&input, from.at), (&output, to.at), len)?;
    if len == 0 {
        return Ok(0);
    }
    let done = copy(current, (&input, &mut from), (&output, &mut to), len)?;
    from.store(current, &input)?;
    to.store(current, &output)?;
    Ok(done)
}

/// How much of `len` bytes can be copied between two files. LINUX: `generic_copy_file_checks`, in its order.
fn checked_length(
    current: &Current,
    (input, from): (&OpenFile, u64),
    (output, to): (&OpenFile, u64),
    len: usize,
) -> Result<usize, Errno> {
    let nodes = [input.location.inode().access()?, output.location.inode().access()?];
    if nodes.iter().any(Access::is_dir) {
        return Err(Errno::EISDIR);
    }
    if !nodes.iter().all(Access::is_regular) {
        return Err(Errno::EINVAL);
    }
    if !input.is_readable() || !output.is_writable() || output.flags() & O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    // Not between file systems, since 5.19.
    if nodes[0].dev != nodes[1].dev {
        return Err(Errno::EXDEV);
    }
    if from.checked_add(len as u64).is_none() || to.checked_add(len as u64).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    let there = input.ops.size()?.saturating_sub(from);
    let len = len.min(TRANSFER_MAX).min(usize::try_from(there).unwrap_or(usize::MAX));
    // Also if there is nothing to copy.
    let len = output.within_limit(current.task(), to, len)?;
    // By number: a volume that is mounted twice has two objects for the same file.
    let is_same = nodes[0].ino == nodes[1].ino;
    if is_same && from < to.saturating_add(len as u64) && to < from.saturating_add(len as u64) {
        return Err(Errno::EINVAL);
    }
    Ok(len)
}
