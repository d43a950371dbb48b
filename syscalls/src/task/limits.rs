//! Resource limits and usage.

use std::sync::Arc;

use linux_abi::task::{Rlimit64, Rusage};
use linux_abi::{Errno, UserPtr};
use sentry::task::{Capability, Current, Process, Resource};

use super::exit::rusage;
use super::process_by_id;

/// `getrlimit(2)`: <https://man7.org/linux/man-pages/man2/getrlimit.2.html>
pub(crate) fn getrlimit(current: &mut Current, resource: u32, limit: UserPtr<Rlimit64>) -> Result<(), Errno> {
    let value = current.process().limit(Resource::from_number(resource)?);
    current.write_object(limit, &value)
}

/// `setrlimit(2)`: <https://man7.org/linux/man-pages/man2/setrlimit.2.html>
pub(crate) fn setrlimit(current: &mut Current, resource: u32, limit: UserPtr<Rlimit64>) -> Result<(), Errno> {
    let new = current.read_object(limit)?;
    let resource = Resource::from_number(resource)?;
    change(current, &Arc::clone(current.process()), resource, new)
}

/// Changes a limit, and sees to it that it is kept from now on.
fn change(
    current: &mut Current,
    target: &Arc<Process>,
    resource: Resource,
    new: Rlimit64,
) -> Result<(), Errno> {
    let privileged = current.credentials().has(Capability::SysResource);
    target.change_limits(|limits| limits.change(resource, new, privileged))?;
    match resource {
        Resource::Cpu => target.timers.watch_cpu_limit(target),
        Resource::Stack if target.key == current.process().key => {
            let (mm, context) = current.mm_and_context();
            mm.raise_stack_limit(context, new.soft);
        }
        _ => {}
    }
    Ok(())
}

/// LINUX: `check_prlimit_permission`.
fn may_change(current: &Current, target: &Arc<Process>) -> bool {
    if target.key == current.process().key {
        return true;
    }
    let own = current.credentials();
    let matches = target.any_thread().is_some_and(|thread| {
        let theirs = thread.credentials();
        [theirs.uid, theirs.euid, theirs.suid].iter().all(|&uid| uid == own.uid)
            && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|&gid| gid == own.gid)
    });
    matches || own.has(Capability::SysResource)
}

/// `prlimit(2)`: <https://man7.org/linux/man-pages/man2/prlimit.2.html>
pub(crate) fn prlimit64(
    current: &mut Current,
    pid: i32,
    resource: u32,
    new: UserPtr<Rlimit64>,
    old: UserPtr<Rlimit64>,
) -> Result<(), Errno> {
    let resource = Resource::from_number(resource)?;
    let new = new.non_null().map(|new| current.read_object(new)).transpose()?;
    let target = process_by_id(current, pid)?;
    if !may_change(current, &target) {
        return Err(Errno::EPERM);
    }
    let before = target.limit(resource);
    if let Some(new) = new {
        change(current, &target, resource, new)?;
    }
    match old.non_null() {
        Some(old) => current.write_object(old, &before),
        None => Ok(()),
    }
}

fn switches(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `getrusage(2)`: <https://man7.org/linux/man-pages/man2/getrusage.2.html>
pub(crate) fn getrusage(current: &mut Current, who: i32, usage: UserPtr<Rusage>) -> Result<(), Errno> {
    const SELF: i32 = 0;
    const CHILDREN: i32 = -1;
    const THREAD: i32 = 1;
    let own_ns = if who == THREAD { current.context_mut().cpu_time_ns() } else { 0 };
    let process = current.process();
    let mut answer = match who {
        SELF => Rusage { nvcsw: switches(process.voluntary_switches()), ..rusage(process.cpu_ns()) },
        CHILDREN => rusage(current.kernel().tasks.children_cpu_ns(process)),
        THREAD => {
            let task = current.task();
            Rusage { nvcsw: switches(task.voluntary_switches()), ..rusage((own_ns, task.system_ns())) }
        }
        _ => return Err(Errno::EINVAL),
    };
    let peak = match who {
        CHILDREN => current.kernel().tasks.children_peaks(process).bytes(),
        _ => process.peak_resident(),
    };
    answer.maxrss = i64::try_from(peak >> 10).unwrap_or(i64::MAX);
    current.write_object(usage, &answer)
}
