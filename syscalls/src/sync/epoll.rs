//! `epoll_create`, `epoll_create1`, `epoll_ctl`, `epoll_wait`, `epoll_pwait`, `epoll_pwait2`.

use std::cell::Cell;
use std::sync::Arc;

use linux_abi::poll::{EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EpollEvent, O_CLOEXEC};
use linux_abi::{Errno, TASK_SIZE, UserPtr};
use sentry::fs::epoll::{self, Epoll, Interest};
use sentry::sync::Events;
use sentry::task::{Current, WaitEnd};
use sentry::vfs::Fd;
use zerocopy::IntoBytes;

use super::mask::with_mask;
use super::timeout::{Deadline, TimeWords, Unit};

/// LINUX: `EP_MAX_EVENTS`, EINVAL above.
const EVENTS_MAX: usize = i32::MAX as usize / size_of::<EpollEvent>();

/// `epoll_create(2)`: <https://man7.org/linux/man-pages/man2/epoll_create.2.html>
pub(crate) fn epoll_create(current: &mut Current, size: i32) -> Result<Fd, Errno> {
    if size <= 0 { Err(Errno::EINVAL) } else { epoll_create1(current, 0) }
}

/// `epoll_create1(2)`: <https://man7.org/linux/man-pages/man2/epoll_create.2.html>
pub(crate) fn epoll_create1(current: &mut Current, flags: u32) -> Result<Fd, Errno> {
    if flags & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = epoll::new(current.task());
    super::install(current, file, flags)
}

/// `epoll_ctl(2)`: <https://man7.org/linux/man-pages/man2/epoll_ctl.2.html>
pub(crate) fn epoll_ctl(
    current: &mut Current,
    epfd: Fd,
    operation: i32,
    fd: Fd,
    event: UserPtr<EpollEvent>,
) -> Result<(), Errno> {
    let event =
        if operation == EPOLL_CTL_DEL { EpollEvent::default() } else { current.read_object(event)? };
    let files = current.files();
    let instance = files.get(epfd)?;
    let file = files.get(fd)?;
    if !file.ops.can_wait() {
        return Err(Errno::EPERM);
    }
    let epoll = epoll::instance_of(&instance).ok_or(Errno::EINVAL)?;
    if Arc::ptr_eq(&instance, &file) {
        return Err(Errno::EINVAL);
    }
    let interest = Interest { events: event.events, data: event.data() };
    match operation {
        EPOLL_CTL_ADD => epoll.add(fd, &file, interest),
        EPOLL_CTL_DEL => epoll.remove(fd, &file),
        EPOLL_CTL_MOD => epoll.modify(fd, &file, interest),
        _ => Err(Errno::EINVAL),
    }?;
    drop(files);
    current.learn_epoll(epfd, &instance, fd, &file);
    Ok(())
}

/// `epoll_wait(2)`: <https://man7.org/linux/man-pages/man2/epoll_wait.2.html>
pub(crate) fn epoll_wait(
    current: &mut Current,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max_events: i32,
    timeout_ms: i32,
) -> Result<usize, Errno> {
    wait_until(current, epfd, events, max_events, Deadline::from_millis(timeout_ms))
}

/// `epoll_pwait(2)`: <https://man7.org/linux/man-pages/man2/epoll_wait.2.html>
pub(crate) fn epoll_pwait(
    current: &mut Current,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max_events: i32,
    timeout_ms: i32,
    mask: UserPtr<u64>,
    mask_size: u64,
) -> Result<usize, Errno> {
    with_mask(current, mask, mask_size, |current| {
        wait_until(current, epfd, events, max_events, Deadline::from_millis(timeout_ms))
    })
}

/// `epoll_pwait2(2)`: <https://man7.org/linux/man-pages/man2/epoll_wait.2.html>
pub(crate) fn epoll_pwait2(
    current: &mut Current,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max_events: i32,
    timeout: TimeWords,
    mask: UserPtr<u64>,
    mask_size: u64,
) -> Result<usize, Errno> {
    let deadline = Deadline::read(current, timeout, Unit::Nano)?;
    with_mask(current, mask, mask_size, |current| wait_until(current, epfd, events, max_events, deadline))
}

fn wait_until(
    current: &mut Current,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max_events: i32,
    deadline: Deadline,
) -> Result<usize, Errno> {
    let max = usize::try_from(max_events).map_err(|_| Errno::EINVAL)?;
    if max == 0 || max > EVENTS_MAX {
        return Err(Errno::EINVAL);
    }
    let end = events.addr().checked_add((max * size_of::<EpollEvent>()) as u64);
    if end.is_none_or(|end| end > TASK_SIZE) {
        return Err(Errno::EFAULT);
    }
    let file = current.files().get(epfd)?;
    let epoll = epoll::instance_of(&file).ok_or(Errno::EINVAL)?;
    let found = wait_for_events(current, epoll, max, deadline)?;
    let found: Vec<EpollEvent> =
        found.iter().map(|found| EpollEvent::new(found.events, found.data)).collect();
    current.write_user(events.addr(), found.as_bytes())?;
    Ok(found.len())
}

fn wait_for_events(
    current: &mut Current,
    epoll: &Epoll,
    max: usize,
    deadline: Deadline,
) -> Result<Vec<Interest>, Errno> {
    let found = epoll.collect(max);
    if !found.is_empty() {
        epoll.pass_on();
        return Ok(found);
    }
    let registration = epoll.queue().register_exclusive(Events::READABLE, current.task().parker.clone());
    // What the sleep itself has brought is looked at first: it will not come again.
    let brought = Cell::new(Vec::new());
    let end = current.wait_asleep(
        deadline.0,
        |_| {
            let mut found = brought.take();
            found.extend(epoll.collect_listed(max - found.len()));
            (!found.is_empty()).then_some(found)
        },
        |parker, timeout| brought.set(epoll.sleep(parker, max, timeout)),
    );
    epoll.queue().unregister(registration);
    epoll.pass_on();
    match end {
        Ok(found) => Ok(found),
        Err(WaitEnd::TimedOut) => Ok(Vec::new()),
        // LINUX: `ep_poll` looks for signals only while there is time to wait.
        Err(WaitEnd::Interrupted) if deadline.has_passed() => Ok(Vec::new()),
        Err(WaitEnd::Interrupted) => Err(Errno::EINTR),
    }
}
