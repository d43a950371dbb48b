//! Scheduling: what guests ask for is kept and told; the host schedules. Affinity reaches the host.

use std::sync::Arc;

use linux_abi::time::Timespec;
use linux_abi::{Errno, UserPtr};
use sentry::task::{Capability, Current, Process, Resource, Scheduling, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::task_by_id;

/// Words of the largest CPU mask that is looked at.
const MASK_WORDS: usize = 16;
const SCHED_RR: u32 = 2;
const SCHED_DEADLINE: u32 = 6;
const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;
/// `sched_rr_get_interval(2)` for `SCHED_RR`.
const RR_INTERVAL_NS: u64 = 100_000_000;

/// `sched_yield(2)`: <https://man7.org/linux/man-pages/man2/sched_yield.2.html>. The guest's thread has given way by making the call.
#[expect(clippy::unnecessary_wraps, reason = "the form of all handlers")]
pub(crate) fn sched_yield(_: &mut Current) -> Result<(), Errno> {
    Ok(())
}

/// All CPUs that guests see.
fn all_cpus(current: &Current) -> Vec<u64> {
    let cpus = current.kernel().machine.cpus.clamp(1, MASK_WORDS * 64);
    (0..cpus.div_ceil(64)).map(|word| u64::MAX >> (64 - (cpus - word * 64).min(64))).collect()
}

/// `sched_getaffinity(2)`: <https://man7.org/linux/man-pages/man2/sched_getaffinity.2.html>
pub(crate) fn sched_getaffinity(
    current: &mut Current,
    tid: i32,
    len: usize,
    mask: UserPtr<u8>,
) -> Result<usize, Errno> {
    let all = all_cpus(current);
    if len.saturating_mul(8) < current.kernel().machine.cpus || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let words = task_by_id(current, tid)?.scheduling().affinity.unwrap_or(all);
    let len = len.min(words.len() * 8);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).take(len).collect();
    current.write_user(mask.addr(), &bytes)?;
    Ok(len)
}

/// `sched_setaffinity(2)`: <https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html>
pub(crate) fn sched_setaffinity(
    current: &mut Current,
    tid: i32,
    len: usize,
    mask: UserPtr<u8>,
) -> Result<(), Errno> {
    let mut bytes = vec![0; len.min(MASK_WORDS * 8)];
    current.read_user(mask.addr(), &mut bytes)?;
    bytes.resize(MASK_WORDS * 8, 0);
    let task = task_by_id(current, tid)?;
    check_owner(current, &task)?;
    check_capabilities(current, &task)?;
    let wanted = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
    let words: Vec<u64> =
        all_cpus(current).into_iter().zip(wanted).map(|(all, wanted)| all & wanted).collect();
    if words.iter().all(|&word| word == 0) {
        return Err(Errno::EINVAL);
    }
    if !Arc::ptr_eq(&task, current.task()) {
        task.rebind(words);
        return Ok(());
    }
    current.context_mut().set_affinity(&words)?;
    task.change_scheduling(|scheduling| scheduling.affinity = Some(words));
    Ok(())
}

/// LINUX: `check_same_owner`, or `CAP_SYS_NICE`.
fn check_owner(current: &Current, task: &Arc<Task>) -> Result<(), Errno> {
    let own = current.credentials();
    let theirs = task.credentials();
    let same = own.euid == theirs.euid || own.euid == theirs.uid;
    if same || own.has(Capability::SysNice) { Ok(()) } else { Err(Errno::EPERM) }
}

/// LINUX: `cap_safe_nice`: who has fewer capabilities does not decide when others run.
fn check_capabilities(current: &Current, task: &Arc<Task>) -> Result<(), Errno> {
    let own = current.credentials();
    let covers = task.credentials().permitted & !own.permitted == 0;
    if covers || own.has(Capability::SysNice) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Those that `getpriority(2)`, `setpriority(2)` and the `ioprio` calls name.
fn named(current: &Current, which: u32, who: i32, kinds: [u32; 3]) -> Result<Vec<Arc<Task>>, Errno> {
    let namespace = &current.process().namespace;
    let threads = |processes: Vec<Arc<Process>>| {
        processes.iter().flat_map(|process| process.threads()).collect::<Vec<_>>()
    };
    let tasks = match which {
        _ if which == kinds[0] => vec![task_by_id(current, who)?],
        _ if which == kinds[1] => {
            let group = match who {
                0 => current.process().process_group(),
                _ => namespace.group(who),
            };
            threads(current.kernel().tasks.members(&group.ok_or(Errno::ESRCH)?))
        }
        _ if which == kinds[2] => {
            let uid = if who == 0 { current.credentials().uid } else { who.cast_unsigned() };
            let mut tasks = threads(namespace.processes());
            tasks.retain(|task| task.credentials().uid == uid);
            tasks
        }
        _ => return Err(Errno::EINVAL),
    };
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

const PRIO: [u32; 3] = [0, 1, 2];
const IOPRIO: [u32; 3] = [1, 2, 3];

/// `getpriority(2)`: <https://man7.org/linux/man-pages/man2/getpriority.2.html>
pub(crate) fn getpriority(current: &mut Current, which: u32, who: i32) -> Result<i32, Errno> {
    let tasks = named(current, which, who, PRIO)?;
    // LINUX: 1 to 40, the library turns it round.
    Ok(tasks.iter().map(|task| 20 - task.scheduling().nice).max().unwrap_or(20))
}

/// `setpriority(2)`: <https://man7.org/linux/man-pages/man2/setpriority.2.html>
pub(crate) fn setpriority(current: &mut Current, which: u32, who: i32, nice: i32) -> Result<(), Errno> {
    let nice = nice.clamp(-20, 19);
    let privileged = current.credentials().has(Capability::SysNice);
    let tasks = named(current, which, who, PRIO)?;
    let mut result = Ok(());
    for task in tasks {
        let limit = task.process.limit(Resource::Nice).soft;
        let allowed = privileged || u64::try_from(20 - nice).is_ok_and(|wanted| wanted <= limit);
        if check_owner(current, &task).is_err() {
            result = Err(Errno::EPERM);
        } else if nice < task.scheduling().nice && !allowed {
            result = Err(Errno::EACCES);
        } else if check_capabilities(current, &task).is_err() {
            result = Err(Errno::EPERM);
        } else {
            task.change_scheduling(|scheduling| scheduling.nice = nice);
        }
    }
    result
}

/// `ioprio_get(2)`: <https://man7.org/linux/man-pages/man2/ioprio_get.2.html>
pub(crate) fn ioprio_get(current: &mut Current, which: u32, who: i32) -> Result<u32, Errno> {
    let tasks = named(current, which, who, IOPRIO)?;
    Ok(tasks.first().map_or(0, |task| task.scheduling().io_priority))
}

/// `ioprio_set(2)`: <https://man7.org/linux/man-pages/man2/ioprio_set.2.html>
pub(crate) fn ioprio_set(current: &mut Current, which: u32, who: i32, priority: u32) -> Result<(), Errno> {
    const CLASS_SHIFT: u32 = 13;
    let level = priority & 7;
    match priority >> CLASS_SHIFT {
        0 if level != 0 => return Err(Errno::EINVAL),
        1 if !current.credentials().has(Capability::SysAdmin) => return Err(Errno::EPERM),
        0..=3 => {}
        _ => return Err(Errno::EINVAL),
    }
    for task in named(current, which, who, IOPRIO)? {
        check_owner(current, &task)?;
        check_capabilities(current, &task)?;
        task.change_scheduling(|scheduling| scheduling.io_priority = priority);
    }
    Ok(())
}

/// Lowest and highest priority of a policy.
fn priorities(policy: u32) -> Result<(u32, u32), Errno> {
    match policy {
        1 | 2 => Ok((1, 99)),
        0 | 3 | 5 | SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// `sched_get_priority_max(2)`: <https://man7.org/linux/man-pages/man2/sched_get_priority_max.2.html>
pub(crate) fn sched_get_priority_max(_: &mut Current, policy: u32) -> Result<u32, Errno> {
    priorities(policy).map(|(_, max)| max)
}

/// `sched_get_priority_min(2)`: <https://man7.org/linux/man-pages/man2/sched_get_priority_min.2.html>
pub(crate) fn sched_get_priority_min(_: &mut Current, policy: u32) -> Result<u32, Errno> {
    priorities(policy).map(|(min, _)| min)
}

/// `sched_getscheduler(2)`: <https://man7.org/linux/man-pages/man2/sched_getscheduler.2.html>
pub(crate) fn sched_getscheduler(current: &mut Current, tid: i32) -> Result<u32, Errno> {
    let scheduling = schedulable(current, tid)?.scheduling();
    Ok(scheduling.policy | if scheduling.resets_on_fork { SCHED_RESET_ON_FORK } else { 0 })
}

fn schedulable(current: &Current, tid: i32) -> Result<Arc<Task>, Errno> {
    if tid < 0 { Err(Errno::EINVAL) } else { task_by_id(current, tid) }
}

/// `sched_getparam(2)`: <https://man7.org/linux/man-pages/man2/sched_getparam.2.html>
pub(crate) fn sched_getparam(current: &mut Current, tid: i32, param: UserPtr<u32>) -> Result<(), Errno> {
    if param.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = schedulable(current, tid)?.scheduling().priority;
    current.write_object(param, &priority)
}

/// `sched_setscheduler(2)`: <https://man7.org/linux/man-pages/man2/sched_setscheduler.2.html>
pub(crate) fn sched_setscheduler(
    current: &mut Current,
    tid: i32,
    policy: u32,
    param: UserPtr<u32>,
) -> Result<(), Errno> {
    if param.is_null() || tid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = current.read_object(param)?;
    let task = task_by_id(current, tid)?;
    set_policy(current, &task, policy & !SCHED_RESET_ON_FORK, priority, policy & SCHED_RESET_ON_FORK != 0)
}

/// `sched_setparam(2)`: <https://man7.org/linux/man-pages/man2/sched_setparam.2.html>
pub(crate) fn sched_setparam(current: &mut Current, tid: i32, param: UserPtr<u32>) -> Result<(), Errno> {
    if param.is_null() || tid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = current.read_object(param)?;
    let task = task_by_id(current, tid)?;
    let Scheduling { policy, resets_on_fork, .. } = task.scheduling();
    set_policy(current, &task, policy, priority, resets_on_fork)
}

fn set_policy(
    current: &Current,
    task: &Arc<Task>,
    policy: u32,
    priority: u32,
    resets_on_fork: bool,
) -> Result<(), Errno> {
    let (min, max) = priorities(policy)?;
    // LINUX: a deadline takes parameters that only sched_setattr(2) has.
    if policy == SCHED_DEADLINE || priority < min || priority > max {
        return Err(Errno::EINVAL);
    }
    check_owner(current, task)?;
    check_capabilities(current, task)?;
    let limit = task.process.limit(Resource::Rtprio).soft;
    if u64::from(priority) > limit && !current.credentials().has(Capability::SysNice) {
        return Err(Errno::EPERM);
    }
    task.change_scheduling(|scheduling| {
        scheduling.policy = policy;
        scheduling.priority = priority;
        scheduling.resets_on_fork = resets_on_fork;
    });
    Ok(())
}

/// `sched_rr_get_interval(2)`: <https://man7.org/linux/man-pages/man2/sched_rr_get_interval.2.html>
pub(crate) fn sched_rr_get_interval(
    current: &mut Current,
    tid: i32,
    interval: UserPtr<Timespec>,
) -> Result<(), Errno> {
    let policy = schedulable(current, tid)?.scheduling().policy;
    let ns = if policy == SCHED_RR { RR_INTERVAL_NS } else { 0 };
    current.write_object(interval, &Timespec::from_ns(ns))
}

/// `struct sched_attr`, its first version.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// `sched_getattr(2)`: <https://man7.org/linux/man-pages/man2/sched_getattr.2.html>
pub(crate) fn sched_getattr(
    current: &mut Current,
    tid: i32,
    attr: UserPtr<SchedAttr>,
    size: u32,
    flags: u32,
) -> Result<(), Errno> {
    if attr.is_null() || tid < 0 || flags != 0 || (size as usize) < size_of::<SchedAttr>() || size > 4096 {
        return Err(Errno::EINVAL);
    }
    let scheduling = task_by_id(current, tid)?.scheduling();
    let answer = SchedAttr {
        size: u32::try_from(size_of::<SchedAttr>()).unwrap_or(0),
        policy: scheduling.policy,
        flags: u64::from(scheduling.resets_on_fork),
        nice: scheduling.nice,
        priority: scheduling.priority,
        ..SchedAttr::default()
    };
    current.write_object(attr, &answer)
}

/// `sched_setattr(2)`: <https://man7.org/linux/man-pages/man2/sched_setattr.2.html>
pub(crate) fn sched_setattr(
    current: &mut Current,
    tid: i32,
    attr: UserPtr<SchedAttr>,
    flags: u32,
) -> Result<(), Errno> {
    if attr.is_null() || tid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let attr = current.read_object(attr)?;
    if attr.size != 0 && (attr.size as usize) < size_of::<SchedAttr>() {
        return Err(Errno::E2BIG);
    }
    /// `SCHED_FLAG_RESET_ON_FORK`; clamps of the utilisation, for which this kernel is not made.
    const RESET: u64 = 1;
    const CLAMPS: u64 = 0x60;
    if attr.flags & CLAMPS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if attr.flags & !RESET != 0 {
        return Err(Errno::EINVAL);
    }
    let task = task_by_id(current, tid)?;
    set_policy(current, &task, attr.policy, attr.priority, attr.flags & RESET != 0)?;
    setpriority(current, PRIO[0], tid, attr.nice)
}

/// `personality(2)`: <https://man7.org/linux/man-pages/man2/personality.2.html>
pub(crate) fn personality(current: &mut Current, persona: u32) -> Result<u32, Errno> {
    /// What would change how the kernel behaves and does not here: `STICKY_TIMEOUTS`, `READ_IMPLIES_EXEC`, `ADDR_COMPAT_LAYOUT`,
    /// `MMAP_PAGE_ZERO`. Container engines refuse them as well, by their seccomp profile.
    const REFUSED: u32 = 0x400_0000 | 0x40_0000 | 0x20_0000 | 0x10_0000;
    let old = current.task().scheduling().personality;
    if persona != u32::MAX {
        if persona & REFUSED != 0 {
            return Err(Errno::EINVAL);
        }
        current.task().change_scheduling(|scheduling| scheduling.personality = persona);
    }
    Ok(old)
}
