//! `poll`, `ppoll`.

use std::cell::RefCell;
use std::sync::Arc;

use linux_abi::poll::PollFd;
use linux_abi::{Errno, UserPtr};
use platform::host::parker::poll_now;
use sentry::sync::{Events, HostPoll, Wake};
use sentry::task::{Current, Resource, WaitEnd};
use sentry::vfs::{Fd, OpenFile};

use super::mask::with_mask;
use super::timeout::{Deadline, TimeWords, Unit};

/// A file and what one wants to know of it.
pub(super) struct Polled {
    /// `None`: the descriptor is not open.
    pub(super) file: Option<Arc<OpenFile>>,
    /// What is asked for, with what is always told.
    pub(super) interest: Events,
    /// The answer.
    pub(super) ready: Events,
}

/// `poll(2)`: <https://man7.org/linux/man-pages/man2/poll.2.html>
pub(crate) fn poll(
    current: &mut Current,
    fds: UserPtr<PollFd>,
    count: u32,
    timeout_ms: i32,
) -> Result<usize, Errno> {
    poll_or_restart(current, fds, count, Deadline::from_millis(timeout_ms))
}

/// Goes on with the same deadline after a stop, as Linux does by its restart block.
fn poll_or_restart(
    current: &mut Current,
    fds: UserPtr<PollFd>,
    count: u32,
    deadline: Deadline,
) -> Result<usize, Errno> {
    match poll_until(current, fds, count, deadline) {
        Err(Errno::ERESTARTNOHAND) => {
            let again = move |current: &mut Current| {
                poll_or_restart(current, fds, count, deadline).map(|ready| ready as u64)
            };
            current.set_restart(Box::new(again));
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        result => result,
    }
}

/// `ppoll(2)`: <https://man7.org/linux/man-pages/man2/ppoll.2.html>
pub(crate) fn ppoll(
    current: &mut Current,
    fds: UserPtr<PollFd>,
    count: u32,
    timeout: TimeWords,
    mask: UserPtr<u64>,
    mask_size: u64,
) -> Result<usize, Errno> {
    let deadline = Deadline::read(current, timeout, Unit::Nano)?;
    let result = with_mask(current, mask, mask_size, |current| poll_until(current, fds, count, deadline));
    deadline.write_rest(current, timeout, Unit::Nano);
    result
}

fn poll_until(
    current: &mut Current,
    fds: UserPtr<PollFd>,
    count: u32,
    deadline: Deadline,
) -> Result<usize, Errno> {
    if u64::from(count) > current.process().limit(Resource::Nofile).soft {
        return Err(Errno::EINVAL);
    }
    let mut fds_in = current.read_objects(fds, count as usize)?;
    let files = current.files();
    let mut polled: Vec<Polled> = fds_in
        .iter()
        .map(|entry| {
            let file = if entry.fd < 0 { None } else { files.get(Fd(entry.fd)).ok() };
            let interest = Events::from_bits_truncate(u32::from(entry.events)) | Events::ALWAYS;
            Polled { file, interest, ready: Events::empty() }
        })
        .collect();
    let bad = fds_in.iter().zip(&polled).filter(|(entry, polled)| entry.fd >= 0 && polled.file.is_none());
    let bad = bad.count();
    let ready = wait_for_any(current, &mut polled, if bad > 0 { Deadline(Some(0)) } else { deadline })?;
    for (entry, polled) in fds_in.iter_mut().zip(&polled) {
        let events = match &polled.file {
            _ if entry.fd < 0 => Events::empty(),
            None => Events::NVAL,
            Some(_) => polled.ready,
        };
        // All bits that may be set here are below 1 << 16.
        entry.revents = u16::try_from(events.bits() & 0xffff).unwrap_or(0);
    }
    current.write_user(fds.addr(), zerocopy::IntoBytes::as_bytes(&fds_in[..]))?;
    Ok(ready + bad)
}

/// Waits until one is ready; fills in all answers and tells how many are not empty. 0 at the deadline.
///
/// # Errors
/// ERESTARTNOHAND if a signal came first.
pub(super) fn wait_for_any(
    current: &mut Current,
    polled: &mut [Polled],
    deadline: Deadline,
) -> Result<usize, Errno> {
    let files: Vec<_> =
        polled.iter().filter_map(|p| Some((Arc::clone(p.file.as_ref()?), p.interest))).collect();
    let hosted =
        files.iter().filter_map(|(file, interest)| Some((file.ops.host_descriptor()?, interest.bits())));
    let hosted: Vec<_> = hosted.map(|(fd, events)| HostPoll::new(fd, events)).collect();
    let hosted = RefCell::new(hosted);
    poll_now(&mut hosted.borrow_mut());
    let ready = ask(polled, &hosted.borrow());
    if ready > 0 || deadline.0 == Some(0) {
        return Ok(ready);
    }
    let wake: Arc<dyn Wake> = Arc::clone(&current.task().parker) as Arc<dyn Wake>;
    let mut registrations = Vec::with_capacity(files.len());
    for (file, interest) in &files {
        if let (None, Some(queue)) = (file.ops.host_descriptor(), file.ops.wait_queue()) {
            registrations.push((queue, queue.register(*interest, Arc::clone(&wake))));
        }
    }
    let end = current.wait_asleep(
        deadline.0,
        |_| Some(ask(polled, &hosted.borrow())).filter(|&ready| ready > 0),
        |parker, timeout| match &mut *hosted.borrow_mut() {
            none if none.is_empty() => parker.park(timeout),
            fds => drop(parker.park_on(fds, timeout)),
        },
    );
    for (queue, registration) in registrations {
        queue.unregister(registration);
    }
    match end {
        Ok(ready) => Ok(ready),
        Err(WaitEnd::TimedOut) => Ok(0),
        Err(WaitEnd::Interrupted) => Err(Errno::ERESTARTNOHAND),
    }
}

/// Fills in all answers: the host's are in `hosted`, in order.
fn ask(polled: &mut [Polled], hosted: &[HostPoll<'_>]) -> usize {
    let mut hosted = hosted.iter();
    let mut ready = 0;
    for entry in polled {
        let Some(file) = &entry.file else { continue };
        let told = if file.ops.host_descriptor().is_some() {
            hosted.next().map_or(Events::empty(), |fd| Events::from_bits_truncate(fd.ready()))
        } else {
            file.ops.readiness()
        };
        entry.ready = told & entry.interest;
        ready += usize::from(!entry.ready.is_empty());
    }
    ready
}
