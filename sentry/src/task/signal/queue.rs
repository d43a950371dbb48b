//! Which signals wait to be delivered? One queue per task and one per process.
//!
//! Key type: [`Pending`].

use std::collections::VecDeque;

use linux_abi::signal::{SigInfo, code};

use super::{SigSet, Signal};
use crate::account::{self, Charge};
use crate::task::UserCharge;

/// Pending signals in the order in which they came.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    /// INVARIANT: every signal in the queue is in `set`. A signal in `set` without an entry came when the queue was full.
    queue: VecDeque<(SigInfo, (UserCharge, Charge))>,
}

/// What became of a signal that was put into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It waits.
    Yes,
    /// The same signal waits already, and it is not a real-time one.
    Already,
    /// The queue is full; a real-time signal with a value is refused, others wait without details.
    Full,
}

impl Pending {
    /// The signals that wait.
    #[must_use]
    pub const fn set(&self) -> SigSet {
        self.set
    }

    /// Nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Puts a signal in; `charge` takes what an entry costs its user, `None` at the limit (`RLIMIT_SIGPENDING`).
    pub fn push(
        &mut self,
        signal: Signal,
        info: SigInfo,
        charge: impl FnOnce() -> Option<UserCharge>,
    ) -> Queued {
        if !signal.is_realtime() && self.set.contains(signal) {
            return Queued::Already;
        }
        // LINUX: __send_signal_locked: what the kernel and kill(2) send is never lost, only its details are.
        // Of its user, and of the account of who sends it.
        let charge = charge().zip(account::charge_for::<(SigInfo, UserCharge)>(0).ok());
        if charge.is_none()
            && signal.is_realtime()
            && info.code != code::SI_USER
            && info.code != code::SI_KERNEL
        {
            return Queued::Full;
        }
        self.set = self.set.with(signal);
        self.queue.extend(charge.map(|charge| (info, charge)));
        Queued::Yes
    }

    /// Takes the first deliverable signal out of those that `mask` does not hold back.
    pub fn pop(&mut self, mask: SigSet) -> Option<SigInfo> {
        let signal = self.set.difference(mask).first()?;
        Some(self.take(signal))
    }

    fn take(&mut self, signal: Signal) -> SigInfo {
        let number = signal.number();
        let at = self.queue.iter().position(|(info, _)| info.signo == number);
        let info = at.and_then(|at| self.queue.remove(at)).map(|(info, _)| info);
        if !self.queue.iter().any(|(info, _)| info.signo == number) {
            self.set = self.set.without(signal);
        }
        info.unwrap_or_else(|| SigInfo { signo: number, ..SigInfo::default() })
    }

    /// Takes out and forgets all that `set` names.
    pub fn remove(&mut self, set: SigSet) {
        if self.set.intersection(set).is_empty() {
            return;
        }
        self.queue.retain(|(info, _)| Signal::new(info.signo).is_ok_and(|signal| !set.contains(signal)));
        self.set = self.set.difference(set);
    }

    /// Changes an entry that waits (overruns of a timer); `false`: there is none that `matches`.
    pub fn update(&mut self, matches: impl Fn(&SigInfo) -> bool, change: impl FnOnce(&mut SigInfo)) -> bool {
        match self.queue.iter_mut().map(|(info, _)| info).find(|info| matches(info)) {
            None => false,
            Some(info) => {
                change(info);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rt(value: u64) -> SigInfo {
        SigInfo::with_value(40, linux_abi::signal::code::SI_QUEUE, 1, 0, value)
    }

    fn room() -> Option<UserCharge> {
        std::sync::Arc::<crate::task::UserCounts>::default().take(0, 1, 1)
    }

    fn signal(number: i32) -> Signal {
        Signal::new(number).expect("in range")
    }

    #[test]
    fn a_standard_signal_waits_once() {
        let mut pending = Pending::default();
        let info = SigInfo::from_process(10, 0, 7, 0);
        assert_eq!(pending.push(signal(10), info, room), Queued::Yes);
        assert_eq!(pending.push(signal(10), SigInfo::from_process(10, 0, 8, 0), room), Queued::Already);
        assert_eq!(pending.pop(SigSet::EMPTY).map(|info| info.pid()), Some(7));
        assert_eq!(pending.pop(SigSet::EMPTY), None);
    }

    #[test]
    fn realtime_signals_queue_in_order() {
        let mut pending = Pending::default();
        for value in 1..=3 {
            assert_eq!(pending.push(signal(40), rt(value), room), Queued::Yes);
        }
        let values: Vec<_> =
            std::iter::from_fn(|| pending.pop(SigSet::EMPTY)).map(|info| info.value()).collect();
        assert_eq!(values, [1, 2, 3]);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_blocked_signal_stays() {
        let mut pending = Pending::default();
        pending.push(signal(15), SigInfo::kernel(15), room);
        assert_eq!(pending.pop(SigSet::of(Signal::TERM)), None);
        assert!(pending.pop(SigSet::EMPTY).is_some());
    }

    #[test]
    fn a_full_queue_refuses_values_but_keeps_standard_signals() {
        let mut pending = Pending::default();
        assert_eq!(pending.push(signal(40), rt(1), || None), Queued::Full);
        assert_eq!(pending.push(signal(15), SigInfo::kernel(15), || None), Queued::Yes);
        let info = pending.pop(SigSet::EMPTY);
        assert_eq!(info.map(|info| (info.signo, info.code)), Some((15, 0)));
    }

    #[test]
    fn removed_signals_are_gone() {
        let mut pending = Pending::default();
        pending.push(Signal::TSTP, SigInfo::kernel(20), room);
        pending.push(Signal::TERM, SigInfo::kernel(15), room);
        pending.remove(SigSet::STOPPING);
        assert_eq!(pending.set(), SigSet::of(Signal::TERM));
    }
}
