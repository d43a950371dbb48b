//! `mmap`, `munmap`, `mprotect`, `mremap`, `brk`, `mseal`, `remap_file_pages`.

use linux_abi::mm::MAP_ANONYMOUS;
use linux_abi::{Errno, PAGE_SIZE};
use sentry::mm::{MapRequest, MapTarget};
use sentry::task::{Current, Outcome};
use sentry::vfs::Fd;

use super::limits;

/// `mmap(2)`: <https://man7.org/linux/man-pages/man2/mmap.2.html>
pub(crate) fn mmap(
    current: &mut Current,
    addr: u64,
    len: u64,
    prot: u32,
    flags: u32,
    fd: Fd,
    offset: u64,
) -> Result<u64, Errno> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let target = if flags & MAP_ANONYMOUS != 0 {
        MapTarget::Anonymous
    } else {
        MapTarget::File { file: current.files().get(fd)?, offset }
    };
    let limits = limits(current);
    let task = std::sync::Arc::clone(current.task());
    let (mm, context) = current.mm_and_context();
    mm.mmap(context, &task, MapRequest { addr, len, prot, flags, target }, &limits)
}

/// `munmap(2)`: <https://man7.org/linux/man-pages/man2/munmap.2.html>
pub(crate) fn munmap(current: &mut Current, addr: u64, len: u64) -> Result<(), Errno> {
    let (mm, context) = current.mm_and_context();
    mm.munmap(context, addr, len)
}

/// `mprotect(2)`: <https://man7.org/linux/man-pages/man2/mprotect.2.html>
pub(crate) fn mprotect(current: &mut Current, addr: u64, len: u64, prot: u32) -> Result<(), Errno> {
    let limits = limits(current);
    let (mm, context) = current.mm_and_context();
    mm.mprotect(context, addr, len, prot, &limits)
}

/// `pkey_mprotect(2)`: <https://man7.org/linux/man-pages/man2/pkey_mprotect.2.html>
///
/// As on a processor without protection keys: only key -1 exists.
pub(crate) fn pkey_mprotect(
    current: &mut Current,
    addr: u64,
    len: u64,
    prot: u32,
    pkey: i32,
) -> Result<(), Errno> {
    if pkey != -1 {
        return current.mm().mprotect_without_key(addr, len, prot);
    }
    mprotect(current, addr, len, prot)
}

/// `mremap(2)`: <https://man7.org/linux/man-pages/man2/mremap.2.html>
pub(crate) fn mremap(
    current: &mut Current,
    addr: u64,
    old_len: u64,
    new_len: u64,
    flags: u64,
    new_addr: u64,
) -> Result<u64, Errno> {
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let limits = limits(current);
    let task = std::sync::Arc::clone(current.task());
    let (mm, context) = current.mm_and_context();
    mm.mremap(context, &task, addr, old_len, new_len, flags, new_addr, &limits)
}

/// `brk(2)`: <https://man7.org/linux/man-pages/man2/brk.2.html>
pub(crate) fn brk(current: &mut Current, addr: u64) -> Outcome {
    let limits = limits(current);
    let (mm, context) = current.mm_and_context();
    Outcome::Return(mm.brk(context, addr, &limits))
}

/// `mseal(2)`: <https://man7.org/linux/man-pages/man2/mseal.2.html>
pub(crate) fn mseal(current: &mut Current, addr: u64, len: u64, flags: u64) -> Result<(), Errno> {
    current.mm().mseal(addr, len, flags)
}
