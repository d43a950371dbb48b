//! Looking into other processes: `process_vm_readv`, `process_vm_writev`.

use linux_abi::{Errno, UserPtr};
use sentry::io::{Sink, Source};
use sentry::task::{AccessMode, Current, Iovec};

use super::task_by_id;

/// Most bytes copied at a time.
const CHUNK: usize = 256 << 10;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the other process.
    Read,
    /// To it.
    Write,
}

/// `process_vm_readv(2)`: <https://man7.org/linux/man-pages/man2/process_vm_readv.2.html>
pub(crate) fn process_vm_readv(
    current: &mut Current,
    pid: i32,
    local: UserPtr<Iovec>,
    local_count: usize,
    remote: UserPtr<Iovec>,
    remote_count: usize,
    flags: u64,
) -> Result<usize, Errno> {
    transfer(current, pid, (local, local_count), (remote, remote_count), flags, Way::Read)
}

/// `process_vm_writev(2)`: <https://man7.org/linux/man-pages/man2/process_vm_writev.2.html>
pub(crate) fn process_vm_writev(
    current: &mut Current,
    pid: i32,
    local: UserPtr<Iovec>,
    local_count: usize,
    remote: UserPtr<Iovec>,
    remote_count: usize,
    flags: u64,
) -> Result<usize, Errno> {
    transfer(current, pid, (local, local_count), (remote, remote_count), flags, Way::Write)
}

fn transfer(
    current: &mut Current,
    pid: i32,
    local: (UserPtr<Iovec>, usize),
    remote: (UserPtr<Iovec>, usize),
    flags: u64,
    way: Way,
) -> Result<usize, Errno> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let local = current.read_iovecs(local.0, local.1)?;
    let remote = current.read_iovecs(remote.0, remote.1)?;
    if pid <= 0 {
        // Elsewhere 0 means the caller.
        return Err(Errno::ESRCH);
    }
    let target = task_by_id(current, pid)?;
    let mm = target.inspect(current.task(), AccessMode::Calls, |target| target.mm().ok_or(Errno::ESRCH))?;
    let mut left: u64 = local.iter().map(|piece| piece.len).sum();
    let wanted = left.min(remote.iter().map(|piece| piece.len).sum());
    let mut done = 0;
    let mut buffer = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
    match way {
        Way::Read => {
            let mut sink = current.user_writer_of(local);
            'all: for piece in remote {
                let mut at = 0;
                while at < piece.len && left > 0 {
                    let want = chunk(piece.len - at, left, buffer.len());
                    let got = mm.read(piece.base.wrapping_add(at), &mut buffer[..want]);
                    let put = if got == 0 { 0 } else { sink.write(&buffer[..got]).unwrap_or(0) };
                    done += put;
                    left -= put as u64;
                    at += put as u64;
                    if put < want {
                        break 'all;
                    }
                }
            }
        }
        Way::Write => {
            let mut source = current.user_reader_of(local);
            'all: for piece in remote {
                let mut at = 0;
                while at < piece.len && left > 0 {
                    let want = chunk(piece.len - at, left, buffer.len());
                    let got = source.read(&mut buffer[..want]).unwrap_or(0);
                    let put = mm.write(piece.base.wrapping_add(at), &buffer[..got]);
                    done += put;
                    left -= put as u64;
                    at += put as u64;
                    if put < want {
                        break 'all;
                    }
                }
            }
        }
    }
    if done == 0 && wanted > 0 { Err(Errno::EFAULT) } else { Ok(done) }
}

fn chunk(piece_left: u64, left: u64, room: usize) -> usize {
    usize::try_from(piece_left.min(left)).unwrap_or(room).min(room)
}
