//! `madvise`, `process_madvise`, `msync`, `mincore`.

use linux_abi::Errno;
use sentry::task::Current;

/// `madvise(2)`: <https://man7.org/linux/man-pages/man2/madvise.2.html>
pub(crate) fn madvise(current: &mut Current, addr: u64, len: u64, advice: u32) -> Result<(), Errno> {
    let (mm, context) = current.mm_and_context();
    mm.madvise(context, addr, len, advice)
}

/// `msync(2)`: <https://man7.org/linux/man-pages/man2/msync.2.html>
pub(crate) fn msync(current: &mut Current, addr: u64, len: u64, flags: u32) -> Result<(), Errno> {
    let (mm, context) = current.mm_and_context();
    mm.msync(context, addr, len, flags)
}

/// `mincore(2)`: <https://man7.org/linux/man-pages/man2/mincore.2.html>
pub(crate) fn mincore(current: &mut Current, addr: u64, len: u64, vec: u64) -> Result<(), Errno> {
    let (mm, context) = current.mm_and_context();
    mm.mincore(context, addr, len, vec)
}
