//! Where does a thread go that was stopped in the stub's entries for rewritten sites? Back to its `syscall`, or on behind it if the call has
//! been answered. Key function: [`leave`].

use std::ops::Range;

use linux_abi::{Registers, nr};

use super::site::CALL;
use crate::stub::blob::Blob;

/// Bytes at the start of each entry that look whose %gs is, and where among them the jump stands that leaves with `rcx` at the call.
/// `rcx` is where the thread came from until the next instruction is through, which puts it into the page.
const PROLOGUE: u64 = 24;
const PROLOGUE_LEAVES: u64 = 22;

/// An entry that puts where the thread came from into its page.
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
        Entry { number: Some(nr::FUTEX), ..entry(blob.futex..blob.epoll_ctl, 0..0) },
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
        regs.rip = call_before(entry.code.start, regs).unwrap_or(claimed.wrapping_sub(CALL));
        regs.rax = entry.number.unwrap_or(regs.rax);
        if (blob.futex_clock..blob.futex_clock_end).contains(&at) {
            // It reads the clock into the one, and keeps it in the other.
            regs.rdx = regs.r11;
        }
    }
}

/// Where it goes from the entries that do without the page.
fn way_out(at: u64, regs: &Registers) -> u64 {
    let blob = Blob::get();
    if at >= blob.any {
        // Its first instruction keeps the address in r11; the others need rcx.
        return if at == blob.any { regs.rcx } else { regs.r11 }.wrapping_sub(CALL);
    }
    // An identity call: its first instruction of its own answers it.
    blob.identity.iter().find_map(|(_, entry)| call_before(*entry, regs)).unwrap_or(regs.rcx)
}

/// Address of the call, if the thread is still in the first instructions of the entry at `start`.
fn call_before(start: u64, regs: &Registers) -> Option<u64> {
    match regs.rip.checked_sub(start)? {
        PROLOGUE_LEAVES => Some(regs.rcx),
        0..=PROLOGUE => Some(regs.rcx.wrapping_sub(CALL)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::layout::STUB_BASE;

    #[test]
    fn every_entry_begins_with_the_same_look() {
        let blob = Blob::get();
        let bytes = |entry: u64, len: u64| {
            let at = usize::try_from(entry - STUB_BASE).expect("small");
            blob.bytes[at..at + usize::try_from(len).expect("small")].to_vec()
        };
        let first = bytes(blob.native, PROLOGUE);
        assert_eq!((&first[..5], &first[22..]), (&[0xf3, 0x49, 0x0f, 0xae, 0xcb][..], &[0xff, 0xe1][..]));
        let identity = blob.identity.map(|(_, entry)| entry);
        let others = [blob.sigmask, blob.robust_list, blob.rseq, blob.futex, blob.epoll_ctl];
        for entry in identity.into_iter().chain(others) {
            assert_eq!(bytes(entry, PROLOGUE), first, "{entry:#x}");
        }
    }

    #[test]
    fn a_futex_wait_that_reads_the_clock_keeps_its_arguments() {
        let blob = Blob::get();
        for at in blob.futex_clock..blob.futex_clock_end {
            let mut regs = Registers { rip: at, rdx: 1, r11: 7, rax: 1, ..Registers::default() };
            leave(&mut regs, 0x1007);
            assert_eq!((regs.rip, regs.rax, regs.rdx), (0x1005, nr::FUTEX, 7));
        }
    }
}
