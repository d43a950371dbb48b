//! What a thread library asks for: thread ids, segments, futexes, restartable sequences.

use linux_abi::{Errno, TASK_SIZE, UserPtr};
use platform::ThreadCall;
use platform::host::clock::{Clock, now_ns};
use sentry::task::{AccessMode, Current, PiWait, RseqArea};

/// Length of `struct robust_list_head`.
const ROBUST_HEAD_LEN: usize = 24;
const RSEQ_FLAG_UNREGISTER: u32 = 1;

/// `set_tid_address(2)`: <https://man7.org/linux/man-pages/man2/set_tid_address.2.html>
pub(crate) fn set_tid_address(current: &mut Current, addr: u64) -> Result<i32, Errno> {
    current.leaving().clear_child_tid = addr;
    Ok(current.task().tid())
}

/// `set_robust_list(2)`: <https://man7.org/linux/man-pages/man2/set_robust_list.2.html>
pub(crate) fn set_robust_list(current: &mut Current, head: u64, len: usize) -> Result<(), Errno> {
    if len != ROBUST_HEAD_LEN {
        return Err(Errno::EINVAL);
    }
    current.set_robust_list(head);
    Ok(())
}

/// `get_robust_list(2)`: <https://man7.org/linux/man-pages/man2/get_robust_list.2.html>
pub(crate) fn get_robust_list(
    current: &mut Current,
    tid: i32,
    head: UserPtr<u64>,
    len: UserPtr<u64>,
) -> Result<(), Errno> {
    let task = super::task_by_id(current, tid)?;
    task.inspect(current.task(), AccessMode::Calls, |_| Ok(()))?;
    if task.tid() != current.task().tid() {
        // Each thread keeps its own.
        return Err(Errno::ENOSYS);
    }
    let list = current.robust_list();
    current.write_object(len, &(ROBUST_HEAD_LEN as u64))?;
    current.write_object(head, &list)
}

/// `rseq(2)`: <https://www.kernel.org/doc/html/latest/userspace-api/rseq.html>, no page on man7.org
pub(crate) fn rseq(
    current: &mut Current,
    addr: u64,
    len: u32,
    flags: u32,
    signature: u32,
) -> Result<(), Errno> {
    current.context_mut().thread_call_on_return(ThreadCall::Rseq { addr, len, flags, signature })?;
    let area = (flags & RSEQ_FLAG_UNREGISTER == 0).then_some(RseqArea { addr, len, signature });
    current.set_rseq(area);
    Ok(())
}

/// `arch_prctl(2)`: <https://man7.org/linux/man-pages/man2/arch_prctl.2.html>
pub(crate) fn arch_prctl(current: &mut Current, code: i32, addr: u64) -> Result<u64, Errno> {
    const SET_GS: i32 = 0x1001;
    const SET_FS: i32 = 0x1002;
    const GET_FS: i32 = 0x1003;
    const GET_GS: i32 = 0x1004;
    const GET_CPUID: i32 = 0x1011;
    const SET_CPUID: i32 = 0x1012;
    match code {
        SET_GS | SET_FS if addr >= TASK_SIZE => Err(Errno::EPERM),
        SET_GS => {
            current.regs.gs_base = addr;
            Ok(0)
        }
        SET_FS => {
            current.regs.fs_base = addr;
            Ok(0)
        }
        GET_FS => current.write_object(UserPtr::new(addr), &current.regs.fs_base.clone()).map(|()| 0),
        GET_GS => current.write_object(UserPtr::new(addr), &current.regs.gs_base.clone()).map(|()| 0),
        GET_CPUID => Ok(1),
        SET_CPUID => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}

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
    const COMMAND: u32 = 0x7f;
    const WAIT: u32 = 0;
    const WAKE: u32 = 1;
    const REQUEUE: u32 = 3;
    const CMP_REQUEUE: u32 = 4;
    const WAKE_OP: u32 = 5;
    const LOCK_PI: u32 = 6;
    const UNLOCK_PI: u32 = 7;
    const TRYLOCK_PI: u32 = 8;
    const LOCK_PI2: u32 = 13;
    const CLOCK_REALTIME: u32 = 256;
    const WAIT_BITSET: u32 = 9;
    const WAKE_BITSET: u32 = 10;
    match op & COMMAND {
        LOCK_PI | UNLOCK_PI | TRYLOCK_PI if op & CLOCK_REALTIME != 0 => return Err(Errno::ENOSYS),
        LOCK_PI => return lock_inheriting(current, addr, timeout, Clock::Realtime),
        LOCK_PI2 if op & CLOCK_REALTIME != 0 => {
            return lock_inheriting(current, addr, timeout, Clock::Realtime);
        }
        LOCK_PI2 => return lock_inheriting(current, addr, timeout, Clock::Monotonic),
        TRYLOCK_PI => return current.lock_inheriting(addr, PiWait::No).map(|()| 0),
        UNLOCK_PI => return current.unlock_inheriting(addr).map(|()| 0),
        _ => {}
    }
    let waits = matches!(op & COMMAND, WAIT | WAIT_BITSET);
    if !waits && !matches!(op & COMMAND, WAKE | REQUEUE | CMP_REQUEUE | WAKE_OP | WAKE_BITSET) {
        return Err(Errno::ENOSYS);
    }
    let args = [addr, u64::from(op), value, timeout, addr2, value3];
    match current.context_mut().thread_call(ThreadCall::Futex { args }) {
        // LINUX: a wait without a deadline is restarted after a handler with SA_RESTART.
        Err(Errno::EINTR) if waits && timeout == 0 => Err(Errno::ERESTARTSYS),
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

/// `membarrier(2)`: <https://man7.org/linux/man-pages/man2/membarrier.2.html>
pub(crate) fn membarrier(current: &mut Current, command: u32, flags: u32, cpu: u32) -> Result<u64, Errno> {
    current.context_mut().thread_call(ThreadCall::Membarrier { command, flags, cpu })
}

/// `getcpu(2)`: <https://man7.org/linux/man-pages/man2/getcpu.2.html>
pub(crate) fn getcpu(current: &mut Current, cpu: UserPtr<u32>, node: UserPtr<u32>) -> Result<(), Errno> {
    let last = current.context().last_cpu();
    if let Some(cpu) = cpu.non_null() {
        current.write_object(cpu, &last)?;
    }
    match node.non_null() {
        Some(node) => current.write_object(node, &0),
        None => Ok(()),
    }
}

/// `seccomp(2)`: <https://man7.org/linux/man-pages/man2/seccomp.2.html>
///
/// Guests' own filters are not served yet: programs that can do without them see a kernel built without.
pub(crate) fn seccomp(_: &mut Current, _operation: u32, _flags: u32, _args: u64) -> Result<(), Errno> {
    Err(Errno::EINVAL)
}
