//! Process ids, process groups, sessions.

use std::sync::Arc;

use linux_abi::Errno;
use sentry::task::{Current, ProcessGroup, Session};

use super::process_by_id;

/// `getpid(2)`: <https://man7.org/linux/man-pages/man2/getpid.2.html>
pub(crate) fn getpid(current: &mut Current) -> Result<i32, Errno> {
    Ok(current.process().pid)
}

/// `getppid(2)`: <https://man7.org/linux/man-pages/man2/getppid.2.html>
pub(crate) fn getppid(current: &mut Current) -> Result<i32, Errno> {
    Ok(current.process().parent_pid())
}

/// `gettid(2)`: <https://man7.org/linux/man-pages/man2/gettid.2.html>
pub(crate) fn gettid(current: &mut Current) -> Result<i32, Errno> {
    Ok(current.task().tid())
}

/// `setpgid(2)`: <https://man7.org/linux/man-pages/man2/setpgid.2.html>
pub(crate) fn setpgid(current: &mut Current, pid: i32, pgid: i32) -> Result<(), Errno> {
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let target = process_by_id(current, pid)?;
    let me = current.process();
    let tree = &current.kernel().tasks;
    let own = me.process_group().ok_or(Errno::ESRCH)?;
    let theirs = target.process_group().ok_or(Errno::ESRCH)?;
    if target.key != me.key {
        if tree.parent(&target).is_none_or(|parent| parent.key != me.key) {
            return Err(Errno::ESRCH);
        }
        if !Arc::ptr_eq(&theirs.session, &own.session) {
            return Err(Errno::EPERM);
        }
        if tree.did_exec(&target) {
            return Err(Errno::EACCES);
        }
    }
    if theirs.session.sid == target.pid {
        return Err(Errno::EPERM);
    }
    let pgid = if pgid == 0 { target.pid } else { pgid };
    let group = match me.namespace.group(pgid) {
        Some(group) if Arc::ptr_eq(&group.session, &own.session) => group,
        None if pgid == target.pid => {
            let group = ProcessGroup::new(pgid, Arc::clone(&theirs.session));
            me.namespace.enter_group(&group);
            group
        }
        _ => return Err(Errno::EPERM),
    };
    tree.set_group(&target, group);
    Ok(())
}

/// `getpgid(2)`: <https://man7.org/linux/man-pages/man2/getpgid.2.html>
pub(crate) fn getpgid(current: &mut Current, pid: i32) -> Result<i32, Errno> {
    let process = process_by_id(current, pid)?;
    process.process_group().map(|group| group.pgid).ok_or(Errno::ESRCH)
}

/// `getpgrp(2)`: <https://man7.org/linux/man-pages/man2/getpgrp.2.html>
pub(crate) fn getpgrp(current: &mut Current) -> Result<i32, Errno> {
    getpgid(current, 0)
}

/// `getsid(2)`: <https://man7.org/linux/man-pages/man2/getsid.2.html>
pub(crate) fn getsid(current: &mut Current, pid: i32) -> Result<i32, Errno> {
    let process = process_by_id(current, pid)?;
    process.process_group().map(|group| group.session.sid).ok_or(Errno::ESRCH)
}

/// `setsid(2)`: <https://man7.org/linux/man-pages/man2/setsid.2.html>
pub(crate) fn setsid(current: &mut Current) -> Result<i32, Errno> {
    let process = current.process();
    if process.namespace.group(process.pid).is_some() {
        return Err(Errno::EPERM);
    }
    let session = Session::new(process.pid);
    let group = ProcessGroup::new(process.pid, Arc::clone(&session));
    process.namespace.enter_session(&session);
    process.namespace.enter_group(&group);
    current.kernel().tasks.set_group(process, group);
    Ok(process.pid)
}
