//! `/dev/null`, `zero`, `full`, `random`, `urandom`, `kmsg`: the memory devices, `mem(4)`, `null(4)`, `random(4)`.
//!
//! Key types: [`Memory`] (the driver), [`Device`].

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use platform::host::file;

use crate::Errno;
use crate::io::{Sink, Source};
use crate::task::Task;
use crate::vfs::{DeviceDriver, FileOps, Location, Mappable, Op, minor};

/// Major number of memory devices.
pub(super) const MAJOR: u32 = 1;
/// Bytes made at a time.
const STEP: usize = 64 << 10;

/// The driver.
pub(super) struct Memory;

/// Which device.
#[derive(Debug)]
enum Device {
    Null,
    Zero,
    Full,
    Random,
    /// The next line to be read.
    KernelLog(AtomicU64),
}

impl DeviceDriver for Memory {
    fn open(&self, _: &Arc<Task>, _: &Location, rdev: u64, _: u32) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(Arc::new(match minor(rdev) {
            3 => Device::Null,
            5 => Device::Zero,
            7 => Device::Full,
            8 | 9 => Device::Random,
            11 => Device::KernelLog(AtomicU64::new(0)),
            _ => return Err(Errno::ENXIO),
        }))
    }
}

/// Fills a sink by pieces; stops early for a signal.
fn fill(op: &Op<'_>, sink: &mut dyn Sink, mut make: impl FnMut(&mut [u8])) -> Result<usize, Errno> {
    let mut piece = vec![0; STEP.min(sink.remaining())];
    let mut done = 0;
    while sink.remaining() > 0 && !(done > 0 && op.task.is_interrupted()) {
        let n = sink.remaining().min(STEP);
        make(&mut piece[..n]);
        match sink.write(&piece[..n]) {
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
            Ok(written) => done += written,
        }
    }
    Ok(done)
}

fn read_log(op: &Op<'_>, next: &AtomicU64, sink: &mut dyn Sink) -> Result<usize, Errno> {
    let line = op.task.kernel.machine.log.line_from(next.load(Ordering::Acquire)).ok_or(Errno::EAGAIN)?;
    let text = format!("{},{},{},-;{}\n", line.level, line.sequence, line.time_us, line.text);
    if text.len() > sink.remaining() {
        return Err(Errno::EINVAL);
    }
    next.store(line.sequence + 1, Ordering::Release);
    sink.write(text.as_bytes())
}

impl FileOps for Device {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, _: u64) -> Result<usize, Errno> {
        match self {
            Self::Null => Ok(0),
            Self::Zero | Self::Full => fill(op, sink, |_| {}),
            Self::Random => fill(op, sink, file::random),
            Self::KernelLog(next) => read_log(op, next, sink),
        }
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        const LOG_LINE_MAX: usize = 1024;
        match self {
            // Nothing is even read of it: LINUX `write_null` does not look at the buffer, either.
            Self::Null | Self::Zero | Self::Random => Ok(source.remaining()),
            Self::Full => Err(Errno::ENOSPC),
            Self::KernelLog(_) => {
                let len = source.remaining();
                let bytes = source.read_to_vec(LOG_LINE_MAX)?;
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                op.task.kernel.machine.log.push(6, text);
                Ok(len)
            }
        }
    }

    fn takes_splice(&self) -> bool {
        true
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stays_at_zero(&self) -> bool {
        !matches!(self, Self::KernelLog(_))
    }

    fn map(&self, _: &Op<'_>, _: u64, _: u64, _: bool) -> Result<Mappable, Errno> {
        match self {
            Self::Zero => Ok(Mappable::Anonymous),
            _ => Err(Errno::ENODEV),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::VecSink;
    use crate::vfs::makedev;

    fn device(minor: u32) -> (Arc<Task>, Arc<dyn FileOps>) {
        let task = crate::testing::task();
        let file = Memory.open(&task, &task.fs().root(), makedev(1, minor), 2).unwrap();
        (task, file)
    }

    fn read(task: &Arc<Task>, file: &Arc<dyn FileOps>, n: usize) -> Vec<u8> {
        let mut sink = VecSink::new(n);
        file.read(&Op { task, flags: 0 }, &mut sink, 0).unwrap();
        sink.bytes
    }

    #[test]
    fn null_is_empty_and_takes_everything() {
        let (task, null) = device(3);
        assert_eq!(read(&task, &null, 10), b"");
        assert_eq!(null.write(&Op { task: &task, flags: 0 }, &mut &b"abc"[..], 0), Ok(3));
    }

    #[test]
    fn zero_gives_zeros_and_full_takes_nothing() {
        let (task, zero) = device(5);
        assert_eq!(read(&task, &zero, 100_000), vec![0; 100_000]);
        let (task, full) = device(7);
        assert_eq!(full.write(&Op { task: &task, flags: 0 }, &mut &b"abc"[..], 0), Err(Errno::ENOSPC));
    }

    #[test]
    fn random_differs() {
        let (task, random) = device(9);
        assert_ne!(read(&task, &random, 32), read(&task, &random, 32));
    }

    #[test]
    fn the_log_is_read_line_by_line() {
        let (task, log) = device(11);
        let first = String::from_utf8(read(&task, &log, 1000)).unwrap();
        assert!(first.starts_with("6,0,") && first.contains(",-;Linux version"), "{first}");
        assert!(read(&task, &log, 1000).starts_with(b"6,1,"));
    }
}
