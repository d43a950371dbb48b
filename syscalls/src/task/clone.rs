//! `fork`, `vfork`, `clone`, `clone3`, `unshare`, `setns`.

use linux_abi::task::{CloneArgs, clone as flag};
use linux_abi::{Errno, PAGE_SIZE, TASK_SIZE, UserPtr};
use sentry::ipc::undo_owner;
use sentry::task::{Capability, CloneRequest, Current, exit_signal};
use sentry::vfs::Fd;

const SIGCHLD: i32 = 17;
/// Length of the first version of `struct clone_args`. LINUX: `CLONE_ARGS_SIZE_VER0`.
const CLONE_ARGS_MIN: usize = 64;

/// `fork(2)`: <https://man7.org/linux/man-pages/man2/fork.2.html>
pub(crate) fn fork(current: &mut Current) -> Result<i32, Errno> {
    current.clone_task(&CloneRequest { exit_signal: SIGCHLD, ..CloneRequest::default() })
}

/// `vfork(2)`: <https://man7.org/linux/man-pages/man2/vfork.2.html>
pub(crate) fn vfork(current: &mut Current) -> Result<i32, Errno> {
    let flags = flag::VFORK | flag::VM;
    current.clone_task(&CloneRequest { flags, exit_signal: SIGCHLD, ..CloneRequest::default() })
}

/// `clone(2)`: <https://man7.org/linux/man-pages/man2/clone.2.html>
pub(crate) fn clone(
    current: &mut Current,
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
) -> Result<i32, Errno> {
    let low = flags & 0xffff_ffff;
    let request = CloneRequest {
        // LINUX: NEWTIME shares its bit with the signal here, and cannot be asked for.
        flags: low & !flag::CSIGNAL,
        exit_signal: exit_signal(low & flag::CSIGNAL)?,
        stack,
        tls,
        parent_tid,
        child_tid,
        pidfd: parent_tid,
    };
    if request.flags & (flag::PIDFD | flag::PARENT_SETTID) == flag::PIDFD | flag::PARENT_SETTID {
        return Err(Errno::EINVAL);
    }
    current.clone_task(&request)
}

/// `clone3(2)`: <https://man7.org/linux/man-pages/man2/clone3.2.html>
pub(crate) fn clone3(current: &mut Current, args: UserPtr<CloneArgs>, size: usize) -> Result<i32, Errno> {
    let args = read_args(current, args, size)?;
    let unknown = flag::DETACHED | (flag::CSIGNAL & !flag::NEWTIME);
    let highest = flag::INTO_CGROUP;
    let wrong_stack = (args.stack == 0) != (args.stack_size == 0);
    if args.flags & unknown != 0 || args.flags >= highest << 1 || wrong_stack {
        return Err(Errno::EINVAL);
    }
    if args.flags & (flag::THREAD | flag::PARENT) != 0 && args.exit_signal != 0 {
        return Err(Errno::EINVAL);
    }
    let Some(stack) = args.stack.checked_add(args.stack_size).filter(|&end| end <= TASK_SIZE) else {
        return Err(Errno::EINVAL);
    };
    // Choosing ids needs a capability over the namespace that guests do not get; there are no guest cgroups to enter.
    if args.set_tid_size != 0 || args.flags & (flag::INTO_CGROUP | flag::NEWTIME) != 0 {
        return Err(Errno::EPERM);
    }
    current.clone_task(&CloneRequest {
        flags: args.flags,
        exit_signal: exit_signal(args.exit_signal)?,
        stack,
        tls: args.tls,
        parent_tid: args.parent_tid,
        child_tid: args.child_tid,
        pidfd: args.pidfd,
    })
}

/// LINUX: `copy_struct_from_user`: shorter is filled with zeros, longer must be zeros beyond what is known.
fn read_args(current: &Current, args: UserPtr<CloneArgs>, size: usize) -> Result<CloneArgs, Errno> {
    if size as u64 > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < CLONE_ARGS_MIN {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; size];
    current.read_user(args.addr(), &mut bytes)?;
    if bytes.iter().skip(size_of::<CloneArgs>()).any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    bytes.resize(size_of::<CloneArgs>(), 0);
    zerocopy::FromBytes::read_from_bytes(&bytes[..]).map_err(|_| Errno::EINVAL)
}

/// `unshare(2)`: <https://man7.org/linux/man-pages/man2/unshare.2.html>
pub(crate) fn unshare(current: &mut Current, flags: u64) -> Result<(), Errno> {
    const ALONE: u64 = flag::THREAD | flag::SIGHAND | flag::VM;
    const KNOWN: u64 = ALONE | flag::FS | flag::FILES | flag::SYSVSEM | flag::NEW_NAMESPACES | flag::NEWTIME;
    if flags & !KNOWN != 0 || (flags & ALONE != 0 && current.process().threads().len() > 1) {
        return Err(Errno::EINVAL);
    }
    const SERVED: u64 = flag::NEWNS | flag::NEWUTS;
    let is_allowed = flags & SERVED == 0 || current.credentials().has(Capability::SysAdmin);
    if flags & ((flag::NEW_NAMESPACES & !SERVED) | flag::NEWTIME) != 0 || !is_allowed {
        return Err(Errno::EPERM);
    }
    // What a single thread unshares is nobody's afterwards: it is undone now. LINUX: `exit_sem`.
    if flags & flag::SYSVSEM != 0 {
        if current.process().threads().len() > 1 {
            return Err(Errno::EINVAL);
        }
        let process = current.process();
        process.kernel.ipc.semaphores.process_exited(undo_owner(process), process.pid);
    }
    if flags & flag::NEWUTS != 0 {
        current.task().copy_uts(&current.task().uts());
    }
    if flags & flag::NEWNS != 0 {
        let fs = current.fs();
        current.task().set_fs(fs.namespace().copy(&fs));
    } else if flags & flag::FS != 0 {
        current.task().set_fs(current.fs().copy());
    }
    if flags & flag::FILES != 0 {
        current.unshare_files();
    }
    Ok(())
}

/// `setns(2)`: <https://man7.org/linux/man-pages/man2/setns.2.html>
pub(crate) fn setns(current: &mut Current, fd: Fd, _kind: u32) -> Result<(), Errno> {
    current.files().get(fd)?;
    Err(Errno::EPERM)
}
