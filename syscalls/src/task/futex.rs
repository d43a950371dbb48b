//! `futex`: what the stub did not let through, and what becomes of a wait that a signal has interrupted.

use linux_abi::time::Timespec;
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use platform::{ThreadCall, is_host_futex};
use sentry::task::{Current, PiWait};

const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;
const WAIT: u32 = 0;
const WAIT_BITSET: u32 = 9;

/// `futex(2)`: <https://man7.org/linux/man-pages/man2/futex.2.html>
///
/// Comes here only if the stub did not let it through; the host kernel does the work on the guest's own memory.
pub(crate) fn futex(
    current: &mut Current,
    addr: u64,
    op: u32,
    value: u64,
    timeout: u64,
    addr2: u64,
    value3: u64,
) -> Result<u64, Errno> {
    const LOCK_PI: u32 = 6;
    const UNLOCK_PI: u32 = 7;
    const TRYLOCK_PI: u32 = 8;
    const LOCK_PI2: u32 = 13;
    match op & !(PRIVATE | CLOCK_REALTIME) {
        LOCK_PI | UNLOCK_PI | TRYLOCK_PI if op & CLOCK_REALTIME != 0 => Err(Errno::ENOSYS),
        LOCK_PI => lock_inheriting(current, addr, timeout, Clock::Realtime),
        LOCK_PI2 if op & CLOCK_REALTIME != 0 => lock_inheriting(current, addr, timeout, Clock::Realtime),
        LOCK_PI2 => lock_inheriting(current, addr, timeout, Clock::Monotonic),
        TRYLOCK_PI => current.lock_inheriting(addr, PiWait::No).map(|()| 0),
        UNLOCK_PI => current.unlock_inheriting(addr).map(|()| 0),
        _ if is_host_futex(op) => on_host(current, [addr, u64::from(op), value, timeout, addr2, value3]),
        // LINUX: `do_futex`, for a flag that the operation does not have as well.
        _ => Err(Errno::ENOSYS),
    }
}

fn on_host(current: &mut Current, args: [u64; 6]) -> Result<u64, Errno> {
    let began = now_ns(Clock::Monotonic);
    match ask_host(current, args, None) {
        Err(Errno::EINTR) => Err(interrupted(current, args, now_ns(Clock::Monotonic).saturating_sub(began))),
        result => result,
    }
}

/// The words may be in pages that nobody has touched yet, and which the guest may not fill by itself.
fn ask_host(current: &mut Current, args: [u64; 6], deadline_ns: Option<u64>) -> Result<u64, Errno> {
    let call = ThreadCall::Futex { args, deadline_ns };
    let result = current.context_mut().thread_call(call);
    if result != Err(Errno::EFAULT) {
        return result;
    }
    let [addr, _, _, _, addr2, _] = args;
    let (mm, context) = current.mm_and_context();
    let is_new = [addr, addr2].map(|addr| mm.brings_in(context, addr));
    if is_new.contains(&true) { context.thread_call(call) } else { result }
}

/// A wait that the host served was interrupted; its arguments are in the registers.
pub(crate) fn wait_interrupted(current: &mut Current, waited_ns: u64) -> Errno {
    let args = current.regs.args();
    interrupted(current, args, waited_ns)
}

/// What an interrupted wait answers. LINUX: `futex_wait`: without a limit it is made again after a handler with SA_RESTART; with one it
/// never is, but goes on for what is left if no handler has run.
fn interrupted(current: &mut Current, args: [u64; 6], waited_ns: u64) -> Errno {
    let [addr, op, value, timeout, ..] = args;
    let Some(limit) = UserPtr::<Timespec>::new(timeout).non_null() else { return Errno::ERESTARTSYS };
    // An `int`.
    let op = op as u32;
    if op & !(PRIVATE | CLOCK_REALTIME) == WAIT {
        let Some(ns) = current.read_object(limit).ok().and_then(|limit| limit.to_ns().ok()) else {
            return Errno::EINTR;
        };
        let left = ns.saturating_sub(waited_ns);
        let deadline_ns = now_ns(Clock::Monotonic).saturating_add(left);
        let args = [addr, u64::from(WAIT_BITSET | op & PRIVATE), value, 0, 0, u64::from(u32::MAX)];
        current.set_restart(Box::new(move |current| wait_until(current, args, deadline_ns)));
    } else {
        // When it ends is a moment, the same for all who ask.
        current.set_restart(Box::new(move |current| on_host(current, args)));
    }
    Errno::ERESTART_RESTARTBLOCK
}

fn wait_until(current: &mut Current, args: [u64; 6], deadline_ns: u64) -> Result<u64, Errno> {
    match ask_host(current, args, Some(deadline_ns)) {
        Err(Errno::EINTR) => {
            current.set_restart(Box::new(move |current| wait_until(current, args, deadline_ns)));
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        result => result,
    }
}

/// `FUTEX_LOCK_PI` and `FUTEX_LOCK_PI2`: the time is when to give up, on `clock`.
fn lock_inheriting(current: &mut Current, addr: u64, timeout: u64, clock: Clock) -> Result<u64, Errno> {
    const NS_PER_SECOND: u64 = 1_000_000_000;
    let mut deadline = None;
    if let Some(time) = UserPtr::<[i64; 2]>::new(timeout).non_null() {
        let [seconds, nanos] = current.read_object(time)?;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u64::try_from(nanos)) else {
            return Err(Errno::EINVAL);
        };
        if nanos >= NS_PER_SECOND {
            return Err(Errno::EINVAL);
        }
        let end = seconds.saturating_mul(NS_PER_SECOND).saturating_add(nanos);
        let left = end.saturating_sub(now_ns(clock));
        deadline = Some(now_ns(Clock::Monotonic).saturating_add(left));
    }
    current.lock_inheriting(addr, PiWait::Until(deadline)).map(|()| 0)
}
