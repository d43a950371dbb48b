//! What a thread library asks for: thread ids, segments, futexes, restartable sequences.

use linux_abi::{Errno, TASK_SIZE, UserPtr};
use platform::ThreadCall;
use sentry::task::{AccessMode, Current, RseqArea};

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
