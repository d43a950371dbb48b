//! What a thread library asks for: thread ids, segments, futexes, restartable sequences.

use linux_abi::{Errno, TASK_SIZE, UserPtr};
use platform::ThreadCall;
use sentry::task::{Current, RseqArea};

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
    current.leaving().robust_list = head;
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
    if task.tid() != current.task().tid() {
        return Err(Errno::EPERM);
    }
    let list = current.leaving().robust_list;
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
    const WAIT_BITSET: u32 = 9;
    const WAKE_BITSET: u32 = 10;
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
