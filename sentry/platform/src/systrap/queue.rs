//! `epoll_ctl` answered in the stub: what may be answered, and what has been.
//!
//! The order page says for which instance and descriptors, and the hand-over page holds the calls; the stub's part is its entry
//! `rvisor_stub_epoll_ctl`. A thread interrupted in there goes back to its `syscall`, or on behind it once the call counts
//! (see [`super::entries`]).
//! Who may be licensed, and what becomes of the calls, is the kernel's to decide.

use super::site::long;
use crate::api::{EpollLicence, QueuedCall};
use crate::stub::arena::Window;
use crate::stub::layout::{RW, queue, ro, rw};

/// Gives a licence or takes it back. The guest thread is stopped, and its queue has been taken.
pub(super) fn license(window: &Window, licence: Option<&EpollLicence>) {
    let Some(licence) = licence else {
        window.set32(ro::QUEUE_ROOM, 0);
        return;
    };
    window.set32(RW + rw::QUEUE_LEN, 0);
    window.set32(ro::QUEUE_EPFD, licence.epfd.cast_unsigned());
    for (offset, word) in (ro::QUEUE_FDS..).step_by(8).zip(licence.fds) {
        window.set64(offset, word);
    }
    window.set32(ro::QUEUE_ROOM, u32::try_from(queue::ROOM).expect("small"));
}

/// Takes the calls out. The guest thread is stopped.
pub(super) fn take(window: &Window, calls: &mut Vec<QueuedCall>) {
    let claimed = window.get32(RW + rw::QUEUE_LEN);
    if claimed == 0 {
        return;
    }
    window.set32(RW + rw::QUEUE_LEN, 0);
    for n in 0..u64::from(claimed).min(queue::ROOM) {
        let at = RW + rw::QUEUE + (n << queue::SHIFT);
        let (low, high) = (window.get32(at + queue::EVENT + 4), window.get32(at + queue::EVENT + 8));
        calls.push(QueuedCall {
            operation: window.get32(at + queue::OPERATION),
            fd: window.get32(at + queue::FD).cast_signed(),
            events: window.get32(at + queue::EVENT),
            data: u64::from(low) | u64::from(high) << 32,
            addr: window.get64(at + queue::ADDR),
        });
    }
}

const _: () = assert!(
    rw::QUEUE + (queue::ROOM << queue::SHIFT) <= rw::QUEUE_LEN && queue::FDS == long(EpollLicence::FDS),
    "the queue fits its place, and a licence its bits"
);
