//! A signal mask that holds while a call waits: `ppoll`, `pselect6`, `epoll_pwait`.

use linux_abi::{Errno, UserPtr};
use sentry::task::Current;
use sentry::task::signal::SigSet;

/// Performs `call` with the guest's mask, if it gave one. A signal that ends the call is delivered under that mask.
pub(super) fn with_mask<T>(
    current: &mut Current,
    mask: UserPtr<u64>,
    size: u64,
    call: impl FnOnce(&mut Current) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let Some(mask) = mask.non_null() else { return call(current) };
    if size != size_of::<u64>() as u64 {
        return Err(Errno::EINVAL);
    }
    let mask = SigSet::blockable(current.read_object(mask)?);
    current.set_temporary_mask(mask);
    let result = call(current);
    let errno = result.as_ref().err().copied();
    current.restore_mask_unless(errno == Some(Errno::EINTR) || errno.is_some_and(Errno::is_restart));
    result
}
