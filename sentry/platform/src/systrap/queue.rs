//! `epoll_ctl` answered in the stub: what may be answered, and what has been.
//!
//! The order page says for which instance and descriptors, and the hand-over page holds the calls; the stub's part is its entry
//! `rvisor_stub_epoll_ctl`. A thread interrupted in there goes back to its `syscall`, or on behind it once the call counts: [`leave`].
//! Who may be licensed, and what becomes of the calls, is the kernel's to decide.

use linux_abi::{Registers, nr};

use super::site::CALL;
use crate::api::{EpollLicence, QueuedCall};
use crate::stub::arena::Window;
use crate::stub::blob::Blob;
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

/// A thread that was stopped at `at` goes back to its `syscall`, or on behind it if its call counts. `claimed`: where its page says that it
/// came from. `false`: it was not in the stub's entry for `epoll_ctl`.
pub(super) fn leave(at: u64, regs: &mut Registers, claimed: u64) -> bool {
    let blob = Blob::get();
    if !(blob.epoll_ctl..blob.native).contains(&at) {
        return false;
    }
    if (blob.epoll_made..blob.epoll_slow).contains(&at) {
        (regs.rip, regs.rcx, regs.rax) = (claimed, claimed, 0);
    } else {
        // The first instruction puts the address into the page.
        let back = if at == blob.epoll_ctl { regs.rcx } else { claimed };
        (regs.rip, regs.rax) = (back.wrapping_sub(CALL), nr::EPOLL_CTL);
    }
    true
}

const _: () = assert!(
    rw::QUEUE + (queue::ROOM << queue::SHIFT) <= rw::QUEUE_LEN && queue::FDS == 64 * 16,
    "the queue fits its place, and a licence its bits"
);
