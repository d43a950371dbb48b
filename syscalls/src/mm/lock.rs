//! `mlock`, `mlock2`, `munlock`, `mlockall`, `munlockall`.

use linux_abi::Errno;
use linux_abi::mm::{MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT};
use sentry::mm::LockFault;
use sentry::task::Current;

use super::limits;

fn lock(current: &mut Current, addr: u64, len: u64, fault: LockFault) -> Result<(), Errno> {
    let limits = limits(current);
    let (mm, context) = current.mm_and_context();
    mm.mlock(context, addr, len, fault, &limits)
}

/// `mlock(2)`: <https://man7.org/linux/man-pages/man2/mlock.2.html>
pub(crate) fn mlock(current: &mut Current, addr: u64, len: u64) -> Result<(), Errno> {
    lock(current, addr, len, LockFault::Now)
}

/// `mlock2(2)`: <https://man7.org/linux/man-pages/man2/mlock2.2.html>
pub(crate) fn mlock2(current: &mut Current, addr: u64, len: u64, flags: u32) -> Result<(), Errno> {
    match flags {
        0 => lock(current, addr, len, LockFault::Now),
        MLOCK_ONFAULT => lock(current, addr, len, LockFault::OnTouch),
        _ => Err(Errno::EINVAL),
    }
}

/// `munlock(2)`: <https://man7.org/linux/man-pages/man2/munlock.2.html>
pub(crate) fn munlock(current: &mut Current, addr: u64, len: u64) -> Result<(), Errno> {
    current.mm().munlock(addr, len)
}

/// `mlockall(2)`: <https://man7.org/linux/man-pages/man2/mlockall.2.html>
pub(crate) fn mlockall(current: &mut Current, flags: u32) -> Result<(), Errno> {
    if flags == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let fault = if flags & MCL_ONFAULT != 0 { LockFault::OnTouch } else { LockFault::Now };
    let limits = limits(current);
    let (mm, context) = current.mm_and_context();
    mm.mlockall(context, flags & MCL_CURRENT != 0, flags & MCL_FUTURE != 0, fault, &limits)
}

/// `munlockall(2)`: <https://man7.org/linux/man-pages/man2/munlockall.2.html>
pub(crate) fn munlockall(current: &mut Current) -> Result<(), Errno> {
    current.mm().munlockall();
    Ok(())
}
