//! From file to file without the guest's memory: `sendfile`, `copy_file_range`.

use std::sync::Arc;

use linux_abi::{Errno, UserPtr};
use sentry::fs::inotify;
use sentry::io::VecSink;
use sentry::sync::Events;
use sentry::task::Current;
use sentry::vfs::open_flags::O_APPEND;
use sentry::vfs::{Fd, OpenFile, Place};

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
        match ptr.non_null() {
            None => Ok(Self { ptr: None, at: file.position_now()? }),
            Some(ptr) => {
                if !file.ops.is_seekable() {
                    return Err(Errno::ESPIPE);
                }
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
    let mut done = 0;
    while done < len && !(done > 0 && current.task().is_killed()) {
        let step = copy_step(current, (input, from.at), (output, to.at), STEP.min(len - done));
        match step {
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
    let io = &current.task().io;
    io.has_read(done);
    io.has_written(done);
    Ok(done)
}

/// Bytes have been read from a file, to go to another: tells those who watch. Writing tells for itself.
pub(super) fn taken(current: &Current, input: &OpenFile, bytes: usize) {
    if bytes > 0 {
        inotify::notify_at(&current.task().kernel, &input.location, inotify::mask::ACCESS);
    }
}

fn copy_step(
    current: &mut Current,
    (input, from): (&Arc<OpenFile>, u64),
    (output, to): (&Arc<OpenFile>, u64),
    len: usize,
) -> Result<(usize, usize), Errno> {
    let task = Arc::clone(current.task());
    let mut sink = VecSink::new(len);
    let got = input.ops.read(&input.op(&task), &mut sink, from)?;
    if got == 0 {
        return Ok((0, 0));
    }
    taken(current, input, got);
    let bytes = sink.bytes;
    let op = output.op(&task);
    let writing = output.begin_write(&op)?;
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
    if !input.ops.is_seekable() || output.flags() & O_APPEND != 0 || !output.ops.takes_splice() {
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
    let input = readable(current, input)?;
    let output = writable(current, output)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut devices = [0; 2];
    for (file, device) in [&input, &output].into_iter().zip(&mut devices) {
        let stat = file.location.inode().access()?;
        *device = stat.dev;
        if stat.is_dir() {
            return Err(Errno::EISDIR);
        }
        if !stat.is_regular() {
            return Err(Errno::EINVAL);
        }
    }
    if output.flags() & O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    // LINUX: `generic_copy_file_checks`: not between file systems, since 5.19.
    if devices[0] != devices[1] {
        return Err(Errno::EXDEV);
    }
    let mut from = Offset::read(current, &input, input_offset)?;
    let mut to = Offset::read(current, &output, output_offset)?;
    // LINUX: `generic_copy_file_checks` cuts the length at the end of what is read before it looks for an overlap.
    let there = input.ops.size()?.saturating_sub(from.at);
    let len = len.min(TRANSFER_MAX).min(usize::try_from(there).unwrap_or(usize::MAX));
    let is_same = Arc::ptr_eq(input.location.inode(), output.location.inode());
    if is_same && from.at < to.at.saturating_add(len as u64) && to.at < from.at.saturating_add(len as u64) {
        return Err(Errno::EINVAL);
    }
    let done = copy(current, (&input, &mut from), (&output, &mut to), len)?;
    from.store(current, &input)?;
    to.store(current, &output)?;
    Ok(done)
}
