//! How do bytes move between a host file and a guest's buffers? By positioned reads and writes, straight from and to memory that
//! the guest's stub copies (up to some KiB), or else through one buffer that each sentry thread keeps.
//!
//! Key functions: [`read_at`], [`write_at`], [`copy_buffer`].

use std::cell::RefCell;
use std::os::fd::AsFd;

use platform::host::file;

use crate::Errno;
use crate::io::{Sink, Source};

/// Most bytes moved at a time. PERF: larger ones leave the second-level cache and win nothing.
const BUFFER_MAX: usize = 256 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer of at least `wanted` bytes (at most [`BUFFER_MAX`]); its content is stale.
pub fn copy_buffer<T>(wanted: usize, body: impl FnOnce(&mut [u8]) -> T) -> T {
    let wanted = wanted.min(BUFFER_MAX);
    // Taken out, so that a nested use allocates one of its own.
    let mut buffer = BUFFER.with(RefCell::take);
    if buffer.len() < wanted {
        buffer.resize(wanted.next_power_of_two(), 0);
    }
    let result = body(&mut buffer[..wanted]);
    BUFFER.with(|place| place.replace(buffer));
    result
}

/// Reads from the host file at `offset` until the sink is full or the file ends.
///
/// # Errors
/// The host's, or the sink's, if nothing was read.
pub fn read_at(fd: impl AsFd, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
    let wanted = sink.remaining();
    if let Some(mut room) = sink.room(wanted) {
        let got = room.read_at(&fd, offset)?;
        return sink.filled(got);
    }
    copy_buffer(sink.remaining(), |buffer| {
        let mut done = 0;
        while sink.remaining() > 0 && !(done > 0 && sink.is_cancelled()) {
            let want = sink.remaining().min(buffer.len());
            let copied = file::read_at(&fd, &mut buffer[..want], offset.saturating_add(done as u64))
                .and_then(|got| if got == 0 { Ok((0, 0)) } else { Ok((got, sink.write(&buffer[..got])?)) });
            match copied {
                Ok((got, put)) => {
                    done += put;
                    if got < want || put < got {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    })
}

/// Writes at most `limit` bytes to the host file at `offset` until the source is empty or the file takes no more.
///
/// # Errors
/// The host's, or the source's, if nothing was written.
pub fn write_at(fd: impl AsFd, source: &mut dyn Source, offset: u64, limit: usize) -> Result<usize, Errno> {
    if let Some(bytes) = source.peek(limit) {
        let written = bytes.write_at(&fd, offset)?;
        source.skip(written)?;
        return Ok(written);
    }
    write_by(source, limit, |bytes, done| file::write_at(&fd, bytes, offset.saturating_add(done as u64)))
}

/// Writes at the end of a host file that is open with `O_APPEND`; answers how much, and where it ended. Nobody else may use the
/// descriptor meanwhile: that its position is there is the host's answer.
///
/// # Errors
/// As [`write_at`].
pub fn append(fd: impl AsFd, source: &mut dyn Source) -> Result<(usize, u64), Errno> {
    let written = write_here(&fd, source)?;
    Ok((written, file::position(&fd)?))
}

/// Writes at the host's own position.
///
/// # Errors
/// As [`write_at`].
pub fn write_here(fd: impl AsFd, source: &mut dyn Source) -> Result<usize, Errno> {
    if let Some(bytes) = source.peek(usize::MAX) {
        let written = bytes.write(&fd)?;
        source.skip(written)?;
        return Ok(written);
    }
    write_by(source, usize::MAX, |bytes, _| file::write(&fd, bytes))
}

/// Reads at the host's own position. What the sink does not take after all is given back.
///
/// # Errors
/// As [`read_at`].
pub fn read_here(fd: impl AsFd, sink: &mut dyn Sink) -> Result<usize, Errno> {
    let from = file::position(&fd)?;
    let end = from.saturating_add(sink.remaining() as u64);
    let read = read_at(&fd, sink, from)?;
    let to = i64::try_from(from.saturating_add(read as u64).min(end)).map_err(|_| Errno::EOVERFLOW)?;
    file::seek(&fd, 0, to)?;
    Ok(read)
}

/// `put`: writes bytes; it is also told how many have been written before.
fn write_by(
    source: &mut dyn Source,
    limit: usize,
    mut put: impl FnMut(&[u8], usize) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    copy_buffer(source.remaining().min(limit), |buffer| {
        let mut done = 0;
        while source.remaining() > 0 && done < limit && !(done > 0 && source.is_cancelled()) {
            let want = source.remaining().min(buffer.len()).min(limit - done);
            let copied =
                source.read(&mut buffer[..want]).and_then(|got| Ok((got, put(&buffer[..got], done)?)));
            match copied {
                Ok((got, put)) => {
                    done += put;
                    if put < got || got < want {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    })
}
