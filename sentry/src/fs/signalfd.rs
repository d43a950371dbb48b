//! `signalfd(2)`: pending signals as a file.
//!
//! Key type: [`SignalFd`]. A read takes signals of the reader; readiness is that of the process that made it (Linux asks
//! the one that polls, which differs only after handing the descriptor to a child).

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linux_abi::signal::code;
use zerocopy::{Immutable, IntoBytes};

use super::anon;
use crate::Errno;
use crate::io::Sink;
use crate::sync::{Events, WaitQueue};
use crate::task::signal::{SigInfo, SigSet, Signal};
use crate::task::{Process, Task};
use crate::vfs::{FileOps, Op, OpenFile};

const O_RDWR: u32 = 2;

/// Signals as a file.
pub struct SignalFd {
    process: Arc<Process>,
    mask: AtomicU64,
}

/// `struct signalfd_siginfo`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
struct Record {
    signo: u32,
    errno: i32,
    code: i32,
    pid: u32,
    uid: u32,
    fd: i32,
    tid: u32,
    band: u32,
    overrun: u32,
    trapno: u32,
    status: i32,
    int: i32,
    ptr: u64,
    utime: u64,
    stime: u64,
    addr: u64,
    rest: [u64; 6],
}

const RECORD: usize = size_of::<Record>();

/// Makes one; `flags`: `O_NONBLOCK`.
#[must_use]
pub fn new(task: &Arc<Task>, mask: SigSet, flags: u32) -> Arc<OpenFile> {
    let ops = SignalFd { process: Arc::clone(&task.process), mask: AtomicU64::new(mask.0) };
    anon::open(task, "signalfd", Arc::new(ops), flags | O_RDWR)
}

/// The instance behind an open file, if it is one.
#[must_use]
pub fn instance_of(file: &OpenFile) -> Option<&SignalFd> {
    file.ops.as_any().downcast_ref::<SignalFd>()
}

impl SignalFd {
    fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Ordering::Acquire))
    }

    /// Replaces the set of signals.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(mask.0, Ordering::Release);
        self.process.signal_events.wake(Events::READABLE);
    }
}

impl Record {
    /// LINUX: `signalfd_copyinfo`.
    fn new(info: &SigInfo) -> Self {
        let low = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or(0);
        let mut record =
            Self { signo: info.signo.cast_unsigned(), errno: info.errno, code: info.code, ..Self::default() };
        let is_from = |signal: Signal| info.signo == signal.number() && info.code > 0;
        if info.code == code::SI_TIMER {
            record.tid = info.pid().cast_unsigned();
            record.overrun = info.uid();
            record.ptr = info.value();
            record.int = low(info.value()).cast_signed();
        } else if is_from(Signal::CHLD) {
            record.pid = info.pid().cast_unsigned();
            record.uid = info.uid();
            record.status = info.status();
            record.utime = info.fields[2];
            record.stime = info.fields[3];
        } else if is_from(Signal::IO) && info.code != code::SI_KERNEL {
            record.band = low(info.fields[0]);
            record.fd = low(info.fields[1]).cast_signed();
        } else if info.code > 0 && info.code != code::SI_KERNEL {
            record.addr = info.addr();
        } else {
            record.pid = info.pid().cast_unsigned();
            record.uid = info.uid();
            record.ptr = info.value();
            record.int = low(info.value()).cast_signed();
        }
        record
    }
}

impl FileOps for SignalFd {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        if sink.remaining() < RECORD {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while sink.remaining() >= RECORD {
            let Some(info) = op.task.take_signal(self.mask()) else { break };
            match sink.write(Record::new(&info).as_bytes()) {
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
                Ok(n) => done += n,
            }
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn readiness(&self) -> Events {
        let threads = self.process.threads();
        let is_pending =
            threads.iter().any(|thread| !thread.pending_signals().intersection(self.mask()).is_empty());
        if is_pending { Events::READABLE } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.process.signal_events)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.mask().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_128_bytes_and_tells_the_sender() {
        assert_eq!(RECORD, 128);
        let record = Record::new(&SigInfo::from_process(10, code::SI_USER, 42, 1000));
        assert_eq!((record.signo, record.pid, record.uid), (10, 42, 1000));
        let record = Record::new(&SigInfo::child(code::CLD_EXITED, 7, 0, 3, 11, 12));
        assert_eq!((record.pid, record.status, record.utime, record.stime), (7, 3, 11, 12));
    }
}
