//! Through pipes: `splice`, `tee`, `vmsplice`.

use std::sync::Arc;

use linux_abi::{Errno, UserPtr};
use sentry::fs::pipe::{self, End};
use sentry::io::VecSink;
use sentry::net::Kind;
use sentry::sync::Events;
use sentry::task::{Current, Iovec};
use sentry::vfs::open_flags::{O_APPEND, O_NONBLOCK};
use sentry::vfs::{Fd, OpenFile, Place};

use super::rw::{Memory, read_into, readable, writable, write_failed, write_from};
use super::transfer::{Offset, given, taken};

/// `SPLICE_F_NONBLOCK`.
const NONBLOCK: u32 = 2;
/// Bytes moved at a time: what a pipe holds at most.
const STEP: usize = 64 << 10;

fn check_flags(flags: u32) -> Result<bool, Errno> {
    if flags & !15 == 0 { Ok(flags & NONBLOCK != 0) } else { Err(Errno::EINVAL) }
}

/// `splice(2)`: <https://man7.org/linux/man-pages/man2/splice.2.html>
pub(crate) fn splice(
    current: &mut Current,
    input: Fd,
    input_offset: UserPtr<i64>,
    output: Fd,
    output_offset: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let nonblocking = check_flags(flags)?;
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (readable(current, input)?, writable(current, output)?);
    let len = len.min(STEP);
    // LINUX: do_splice: a pipe that does not wait makes a call that does not.
    let is_pipe = |file: &OpenFile| pipe::end_of(file).is_some();
    let nonblocking =
        nonblocking || [&input, &output].iter().any(|file| is_pipe(file) && file.is_nonblocking());
    let result = match (pipe::end_of(&input), pipe::end_of(&output)) {
        (Some(_), Some(_)) if !input_offset.is_null() || !output_offset.is_null() => Err(Errno::ESPIPE),
        (Some(_), Some(_)) => between_pipes(current, &input, &output, len, nonblocking, true),
        (Some(_), None) if !input_offset.is_null() => Err(Errno::ESPIPE),
        (Some(from), None) => {
            // Before anybody waits for the pipe.
            if output.flags() & O_APPEND != 0 || !output.ops.takes_splice() {
                return Err(Errno::EINVAL);
            }
            let mut to = Offset::read(current, &output, output_offset)?;
            let n = out_of_pipe(current, (&input, from), (&output, to.at), len, nonblocking)?;
            to.at += n as u64;
            to.store(current, &output)?;
            Ok(n)
        }
        (None, Some(_)) if !output_offset.is_null() => Err(Errno::ESPIPE),
        (None, Some(to)) => {
            let mut from = Offset::read(current, &input, input_offset)?;
            let n = into_pipe(current, (&input, from.at), (&output, to), len, nonblocking)?;
            from.at += n as u64;
            from.store(current, &input)?;
            Ok(n)
        }
        (None, None) => Err(Errno::EINVAL),
    };
    let n = result.inspect_err(|&errno| write_failed(current, errno))?;
    // LINUX: `do_splice` tells in this order. Writing has told for itself.
    if is_pipe(&output) {
        given(current, &output, n);
    }
    taken(current, &input, n);
    Ok(n)
}

/// Waits for whichever of the two pipes is not ready.
fn between_pipes(
    current: &mut Current,
    input: &Arc<OpenFile>,
    output: &Arc<OpenFile>,
    len: usize,
    nonblocking: bool,
    consume: bool,
) -> Result<usize, Errno> {
    let (Some(from), Some(to)) = (pipe::end_of(input), pipe::end_of(output)) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(from.pipe(), to.pipe()) {
        return Err(Errno::EINVAL);
    }
    loop {
        match from.copy_to(to, len, consume) {
            Err(Errno::EAGAIN) if !nonblocking => {}
            result => return result,
        }
        let (file, interest) =
            if from.awaits_bytes() { (input, Events::READABLE) } else { (output, Events::WRITABLE) };
        wait_ready(current, file, interest)?;
    }
}

fn wait_ready(current: &mut Current, file: &Arc<OpenFile>, interest: Events) -> Result<(), Errno> {
    let wanted = interest | Events::ALWAYS;
    current.block_on_file(file, interest, false, None, |_| {
        if file.ops.readiness().intersects(wanted) { Ok(()) } else { Err(Errno::EAGAIN) }
    })
}

fn out_of_pipe(
    current: &mut Current,
    (input, from): (&Arc<OpenFile>, &End),
    (output, at): (&Arc<OpenFile>, u64),
    len: usize,
    nonblocking: bool,
) -> Result<usize, Errno> {
    let task = Arc::clone(current.task());
    let op = output.op(&task);
    // LOCK: what asks the gofer is done before the pipe's lock is taken.
    let writing = output.begin_write(&op, Place::At(at))?;
    loop {
        let moved = from.drain_with(len, |mut bytes| writing.write(&mut bytes, Place::At(at)));
        match moved {
            Err(Errno::EAGAIN) if !nonblocking => {}
            result => return result,
        }
        let (file, interest) =
            if from.available() == 0 { (input, Events::READABLE) } else { (output, Events::WRITABLE) };
        wait_ready(current, file, interest)?;
    }
}

fn into_pipe(
    current: &mut Current,
    (input, at): (&Arc<OpenFile>, u64),
    (output, to): (&Arc<OpenFile>, &End),
    len: usize,
    nonblocking: bool,
) -> Result<usize, Errno> {
    let task = Arc::clone(current.task());
    loop {
        // A pipe without readers is ready, too: writing to it says what is wrong.
        if output.ops.readiness().contains(Events::ERR) {
            return Err(Errno::EPIPE);
        }
        if to.room() > 0 {
            break;
        }
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        wait_ready(current, output, Events::WRITABLE)?;
    }
    // LINUX: copy_splice_read: sockets of messages are read as by read(2).
    let has_messages = input.ops.as_socket().is_some_and(|socket| socket.kind() != Kind::Stream);
    let nonblocking = nonblocking && !has_messages;
    let want = len.min(to.room());
    let bytes = current.block_on_file(input, Events::READABLE, nonblocking, None, |_| {
        let mut sink = VecSink::new(want);
        input.ops.read(&input.op(&task), &mut sink, at)?;
        Ok(sink.bytes)
    })?;
    // Others may have filled the pipe meanwhile: what has been read from a stream must not be lost.
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let n = current.block_on_file(output, Events::WRITABLE, false, None, |_| to.put_pages(rest))?;
        rest = rest.get(n..).unwrap_or_default();
    }
    Ok(bytes.len())
}

/// `tee(2)`: <https://man7.org/linux/man-pages/man2/tee.2.html>
pub(crate) fn tee(
    current: &mut Current,
    input: Fd,
    output: Fd,
    len: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let nonblocking = check_flags(flags)?;
    let (input, output) = (readable(current, input)?, writable(current, output)?);
    if len == 0 {
        return Ok(0);
    }
    let nonblocking = nonblocking || input.is_nonblocking() || output.is_nonblocking();
    let n = between_pipes(current, &input, &output, len, nonblocking, false)
        .inspect_err(|&errno| write_failed(current, errno))?;
    taken(current, &input, n);
    given(current, &output, n);
    Ok(n)
}

/// `vmsplice(2)`: <https://man7.org/linux/man-pages/man2/vmsplice.2.html>
pub(crate) fn vmsplice(
    current: &mut Current,
    fd: Fd,
    pieces: UserPtr<Iovec>,
    count: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let more_flags = if check_flags(flags)? { O_NONBLOCK } else { 0 };
    let file = current.files().get(fd)?;
    let end = pipe::end_of(&file).ok_or(Errno::EBADF)?;
    let is_writer = end.is_writer();
    let pieces = current.read_iovecs(pieces, count)?;
    if !is_writer {
        return read_into(current, &file, &Memory::Several(pieces), Place::Position, more_flags);
    }
    // LINUX: it waits for room once and takes what fits; what does not is the caller's to bring again.
    loop {
        let room = end.room().max(1);
        let memory = Memory::Several(cut(&pieces, room as u64));
        match write_from(current, &file, &memory, Place::Position, O_NONBLOCK) {
            Err(Errno::EAGAIN) if more_flags == 0 && !file.is_nonblocking() => {
                current.block_on_file(&file, Events::WRITABLE, false, None, |_| {
                    if end.room() > 0 || file.ops.readiness().contains(Events::ERR) {
                        Ok(())
                    } else {
                        Err(Errno::EAGAIN)
                    }
                })?;
            }
            result => return result,
        }
    }
}

/// The first `len` bytes of some pieces.
fn cut(pieces: &[Iovec], len: u64) -> Vec<Iovec> {
    let mut left = len;
    let taken = pieces.iter().map(|piece| {
        let len = piece.len.min(left);
        left -= len;
        Iovec { base: piece.base, len }
    });
    taken.collect()
}
