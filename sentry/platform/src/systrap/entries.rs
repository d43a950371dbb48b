//! Where does a thread go that was stopped in the stub's entries for rewritten sites? Back to its `syscall`, or on behind it if the call has
//! been answered. Key function: [`leave`].

use std::ops::Range;

use linux_abi::{Registers, nr};

use super::site::CALL;
use crate::stub::blob::Blob;

/// An entry whose first instruction puts where the thread came from into its page.
struct Entry {
    code: Range<u64>,
    /// Here the call has been answered.
    answered: Range<u64>,
    /// The answer, where the registers do not hold it yet.
    answer: Option<u64>,
    /// The call's number, where the entry uses its register.
    number: Option<u64>,
}

/// All of them. Their slow ways lie in what follows: the call has not been answered there.
fn entries(blob: &Blob) -> [Entry; 6] {
    let entry = |code: Range<u64>, answered| Entry { code, answered, answer: None, number: None };
    let epoll_ctl = entry(blob.epoll_ctl..blob.native, blob.epoll_made..blob.epoll_slow);
    [
        Entry {
            answer: Some(0),
            ..entry(blob.sigmask..blob.robust_list, blob.sigmask_done..blob.robust_list)
        },
        entry(blob.robust_list..blob.rseq, blob.robust_list_done..blob.rseq),
        entry(blob.rseq..blob.any, blob.rseq_after..blob.state_slow),
        entry(blob.futex..blob.epoll_ctl, 0..0),
        Entry { answer: Some(0), number: Some(nr::EPOLL_CTL), ..epoll_ctl },
        entry(blob.native..blob.native_end, blob.native_after..blob.native_end),
    ]
}

/// The thread that was stopped at `regs.rip` leaves the stub. `claimed`: where its page says that it came from.
pub(super) fn leave(regs: &mut Registers, claimed: u64) {
    let (at, blob) = (regs.rip, Blob::get());
    let Some(entry) = entries(blob).into_iter().find(|entry| entry.code.contains(&at)) else {
        regs.rip = way_out(at, regs);
        return;
    };
    if entry.answered.contains(&at) {
        // As `syscall` leaves them.
        (regs.rip, regs.rcx) = (claimed, claimed);
        regs.rax = entry.answer.unwrap_or(regs.rax);
    } else {
        let came_from = if at == entry.code.start { regs.rcx } else { claimed };
        regs.rip = came_from.wrapping_sub(CALL);
        regs.rax = entry.number.unwrap_or(regs.rax);
    }
}

/// Where it goes from the entries that do without the page.
fn way_out(at: u64, regs: &Registers) -> u64 {
    let blob = Blob::get();
    if at >= blob.any {
        // Its first instruction keeps the address in r11; the others need rcx.
        return if at == blob.any { regs.rcx } else { regs.r11 }.wrapping_sub(CALL);
    }
    // An identity call: its first instruction answers it.
    let is_unanswered = blob.identity.iter().any(|(_, entry)| *entry == at);
    if is_unanswered { regs.rcx.wrapping_sub(CALL) } else { regs.rcx }
}
