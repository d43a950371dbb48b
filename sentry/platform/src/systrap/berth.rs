//! Where do guest threads whose task has ended wait for another, so that a new thread costs one wake-up?
//!
//! Key type: [`Berth`]: a guest thread asleep in its notification, and its sentry thread asleep in receiving it.
//!
//! ```text
//! rest:  RESTING ── Berth::take ──> TAKEN ── start ──> STARTED ── the guest thread's first request ──> its sentry thread serves it
//!           │                        └── exit ──> RETIRED ── the sentry thread ends the guest thread ──> GONE
//!           └── nobody came for LINGER, or the stub has ended ──> GONE
//! ```
//! Whoever starts it wakes the guest thread only; the sentry thread wakes when the guest needs it, on the same processor. Until
//! then it takes the guest thread's notifications: one that was interrupted (freezer, stray signal) asks again.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use linux_abi::Registers;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::Shared;
use super::context::{Running, SystrapContext};
use super::space::{Slot, Space};
use super::strays::Strays;
use crate::api::{Context, Service, Unserved};
use crate::death::Death;
use crate::stub::layout::{RW, order, ro, rw, state};
use crate::stub::process::Process;
use crate::sys::{self, Notification, Reply};

/// Most that rest in one address space.
const BERTHS_MAX: usize = 8;
/// Most that rest in a sandbox: about 80 KiB each, and a descriptor of those that the sentry keeps for itself.
const BERTHS_ALL_MAX: usize = 64;
/// How long one rests before it is given up.
const LINGER: Duration = Duration::from_secs(2);

/// A resting guest thread and its sentry thread.
pub struct Berth {
    /// The stub's process id.
    pid: i32,
    /// LOCK: never held with the list of berths.
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    /// The notification in which a taken guest thread asked again.
    again: Option<u64>,
}

enum State {
    Resting(SystrapContext),
    Taken,
    Started(SystrapContext, Service),
    Retired(Slot, Arc<Space>),
    Gone,
}

/// What a resting sentry thread is woken by.
enum Event {
    Notified(Notification),
    Ended,
    Idle,
}

impl Berth {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A guest thread that rests in `space`: the last that came, whose memory is warmest.
    pub(super) fn take(space: &Space) -> Option<SystrapContext> {
        loop {
            let berth = {
                let mut berths = lock(space.shared());
                let index = berths.iter().rposition(|berth| berth.pid == space.process().pid)?;
                berths.remove(index)
            };
            match berth.occupy() {
                Some(context) if std::ptr::eq(Arc::as_ptr(&context.space), space) => return Some(context),
                // Of a stub that has ended, whose number another has by now.
                Some(mut stale) => stale.exit(),
                None => {}
            }
        }
    }

    /// Takes the guest thread out, which is then to be started or to exit.
    fn occupy(self: &Arc<Self>) -> Option<SystrapContext> {
        let mut inner = self.lock();
        match std::mem::replace(&mut inner.state, State::Taken) {
            State::Resting(mut context) => {
                context.berth = Some(Arc::clone(self));
                Some(context)
            }
            other => {
                inner.state = other;
                None
            }
        }
    }

    /// Ends a taken guest thread: its own sentry thread does, which has to wake up for that.
    pub(super) fn retire(&self, context: &mut SystrapContext) {
        let Some(slot) = context.slot.take() else { return };
        context.dead = true;
        let mut inner = self.lock();
        if matches!(inner.state, State::Gone) {
            context.space.process().keep(slot);
            return;
        }
        // An order that does nothing: the guest thread posts again, and its sentry thread wakes.
        slot.window.set32(ro::WRITES, 0);
        slot.window.set32(ro::ORDER, order::FLUSH);
        context.handover.let_go(&slot.window, inner.again.take());
        inner.state = State::Retired(slot, Arc::clone(&context.space));
    }

    /// Ends all that rest in the sandbox: the host has no more threads to give.
    pub(super) fn drain(shared: &Shared) -> bool {
        let berths = std::mem::take(&mut *lock(shared));
        let mut contexts: Vec<_> = berths.iter().filter_map(Self::occupy).collect();
        contexts.iter_mut().for_each(Context::exit);
        !contexts.is_empty()
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Vec<Arc<Berth>>> {
    shared.berths.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`Context::start`].
pub(super) fn start(mut context: SystrapContext, regs: &Registers, service: Service) -> Result<(), Unserved> {
    let Some(berth) = context.berth.take() else { return Err((Box::new(context), service)) };
    context.put_registers(regs);
    let mut inner = berth.lock();
    if matches!(inner.state, State::Gone) {
        context.dead = true;
        return Err((Box::new(context), service));
    }
    // Pairs with `Handle::interrupt`, as in `run`.
    context.handle.in_guest.store(true, Ordering::SeqCst);
    context.running = Running::Yes;
    let handle = Arc::clone(&context.handle);
    if let Some(slot) = &context.slot {
        context.handover.let_go(&slot.window, inner.again.take());
    }
    inner.state = State::Started(context, service);
    drop(inner);
    if handle.wanted.load(Ordering::SeqCst) {
        handle.signal();
    }
    Ok(())
}

/// As [`Context::rest`].
pub(super) fn rest(mut context: SystrapContext) -> Option<Unserved> {
    let space = Arc::clone(&context.space);
    let may = !context.dead && !context.is_marked && !context.has_rseq() && has_room(&space);
    let window = context.slot.as_ref().map(|slot| &slot.window).filter(|_| may);
    if window.is_none_or(|window| context.handover.settle(window).is_err()) {
        context.exit();
        return None;
    }
    context.attend();
    context.renew();
    let listener = Arc::clone(context.handover.listener());
    let inner = Inner { state: State::Resting(context), again: None };
    let berth = Arc::new(Berth { pid: space.process().pid, inner: Mutex::new(inner) });
    lock(space.shared()).push(Arc::clone(&berth));
    let process = Arc::clone(space.process());
    drop(space);
    let mut strays = Strays::default();
    loop {
        let event = wait(&process, &listener);
        let done = match &event {
            Event::Notified(notification) => notified(&berth, notification, &listener),
            Event::Ended => ended(&berth),
            Event::Idle => given_up(&berth),
        };
        if let Done::Yes(next) = done {
            return next;
        }
        if let Err(why) = take_note(&mut strays, &event) {
            process.condemn(why);
            return match ended(&berth) {
                Done::Yes(next) => next,
                Done::No => None,
            };
        }
    }
}

/// Counts what the guest thread has done out of turn; that it was quiet is nothing of the kind.
const fn take_note(strays: &mut Strays, event: &Event) -> Result<(), Death> {
    match event {
        Event::Notified(_) => strays.add(),
        Event::Ended | Event::Idle => Ok(()),
    }
}

fn has_room(space: &Space) -> bool {
    let berths = lock(space.shared());
    let pid = space.process().pid;
    berths.len() < BERTHS_ALL_MAX && berths.iter().filter(|berth| berth.pid == pid).count() < BERTHS_MAX
}

/// Waits for the guest thread's next notification, no longer than [`LINGER`].
fn wait(process: &Process, listener: &OwnedFd) -> Event {
    let until = Instant::now() + LINGER;
    loop {
        if process.has_ended() {
            return Event::Ended;
        }
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(0) => return Event::Idle,
            Ok(_) if !fds[0].revents().contains(PollFlags::IN) => return Event::Ended,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return Event::Ended,
        }
        match sys::notification_receive(listener.as_fd()) {
            Ok(notification) => return Event::Notified(notification),
            // It was interrupted meanwhile and will ask again, or it is dying.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT)) => {}
            Err(_) => return Event::Ended,
        }
    }
}

/// Whether the sentry thread's rest is over, and with what.
enum Done {
    Yes(Option<Unserved>),
    No,
}

fn notified(berth: &Berth, notification: &Notification, listener: &OwnedFd) -> Done {
    let mut inner = berth.lock();
    match std::mem::replace(&mut inner.state, State::Gone) {
        State::Resting(mut context) => {
            // It was interrupted, and asks again.
            if let Some(slot) = &context.slot {
                context.handover.accept(&slot.window, notification);
            }
            inner.state = State::Resting(context);
            Done::No
        }
        State::Taken => {
            inner.again = Some(notification.id);
            inner.state = State::Taken;
            Done::No
        }
        State::Started(mut context, service) => {
            let posted =
                context.slot.as_ref().is_some_and(|slot| context.handover.accept(&slot.window, notification));
            if posted {
                context.running = Running::Posted;
            }
            Done::Yes(Some((Box::new(context), service)))
        }
        State::Retired(slot, space) => {
            slot.window.set32(ro::ORDER, order::EXIT);
            slot.window.set32(RW + rw::STATE, state::RESPONSE);
            let _ = sys::notification_answer(listener.as_fd(), notification.id, Reply::Value(0));
            space.thread_ends();
            space.return_slot(slot);
            Done::Yes(None)
        }
        State::Gone => Done::Yes(None),
    }
}

/// The stub has ended.
fn ended(berth: &Arc<Berth>) -> Done {
    let state = std::mem::replace(&mut berth.lock().state, State::Gone);
    Done::Yes(match state {
        State::Resting(context) => {
            lock(context.space.shared()).retain(|other| !Arc::ptr_eq(other, berth));
            end_dead(context);
            None
        }
        State::Started(context, service) => Some((Box::new(context), service)),
        State::Retired(slot, space) => {
            space.process().keep(slot);
            None
        }
        State::Taken | State::Gone => None,
    })
}

fn end_dead(mut context: SystrapContext) {
    context.dead = true;
}

/// Nobody came.
fn given_up(berth: &Arc<Berth>) -> Done {
    let mut inner = berth.lock();
    match std::mem::replace(&mut inner.state, State::Gone) {
        State::Resting(mut context) => {
            drop(inner);
            lock(context.space.shared()).retain(|other| !Arc::ptr_eq(other, berth));
            context.exit();
            Done::Yes(None)
        }
        other => {
            inner.state = other;
            Done::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_thread_is_not_hostile_however_long_it_is_quiet() {
        let mut strays = Strays::default();
        // Five hours, between notifications that any thread may send.
        for _ in 0..9 {
            assert!((0..1000).all(|_| take_note(&mut strays, &Event::Idle).is_ok()));
            assert_eq!(take_note(&mut strays, &Event::Notified(Notification::default())), Ok(()));
        }
        let noisy = (0..1000).map(|_| take_note(&mut strays, &Event::Notified(Notification::default())));
        assert!(noisy.last().is_some_and(|last| last.is_err()));
    }
}
