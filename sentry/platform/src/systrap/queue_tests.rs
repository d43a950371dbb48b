//! `epoll_ctl` from a rewritten site on the real platform: what does not come to the kernel, what does, and where a stopped thread goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux_abi::{Registers, nr};

use super::entries::leave;
use super::queue::{license, take};
use super::rewrite_tests::rewrite;
use super::tests::platform;
use crate::api::{EpollLicence, Exit, QueuedCall};
use crate::guest_tests::{CODE, DATA, Guest, guest};
use crate::stub::arena::Arena;
use crate::stub::blob::Blob;
use crate::stub::layout::{RW, queue, ro, rw};

const ADD: u64 = 1;
const DEL: u64 = 2;
const MOD: u64 = 3;

/// L: mov eax, 233; syscall; mov rbx, rax; mov eax, 1000; syscall; jmp L
const CALLER: [u8; 19] =
    [0xb8, 233, 0, 0, 0, 0x0f, 5, 0x48, 0x89, 0xc3, 0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xed];

/// A guest that may queue calls for descriptors 40 and 1023 of instance 5, stopped behind its other call.
fn licensed() -> Guest {
    let mut g = guest(&*platform(), &CALLER);
    assert_eq!(g.space.write(DATA, &[1, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]), 12);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.orig_rax, nr::EPOLL_CTL);
    rewrite(&mut g, CODE + 5);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.orig_rax, 1000);
    let mut fds = [0; 16];
    (fds[0], fds[15]) = (1 << 40, 1 << 63);
    assert!(g.context.license(Some(&EpollLicence { epfd: 5, fds })));
    g
}

/// Makes the call; `true`: it was answered in the stub.
fn is_queued(g: &mut Guest, epfd: u64, operation: u64, fd: u64, event: u64) -> bool {
    (g.regs.rdi, g.regs.rsi, g.regs.rdx, g.regs.r10, g.regs.rbx) = (epfd, operation, fd, event, 9);
    let kept = Registers { rip: 0, rcx: 0, r11: 0, rax: 0, rbx: 0, orig_rax: 0, rflags: 0, ..g.regs };
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let now = Registers { rip: 0, rcx: 0, r11: 0, rax: 0, rbx: 0, orig_rax: 0, rflags: 0, ..g.regs };
    assert_eq!(now, kept);
    let is_queued = g.regs.orig_rax == 1000;
    if is_queued {
        assert_eq!((g.regs.rbx, g.regs.rip), (0, CODE + 17));
    } else {
        assert_eq!((g.regs.orig_rax, g.regs.rip), (nr::EPOLL_CTL, CODE + 7));
        g.regs.rax = 123;
        assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
        assert_eq!((g.regs.orig_rax, g.regs.rbx), (1000, 123));
    }
    is_queued
}

fn taken(g: &mut Guest) -> Vec<QueuedCall> {
    let mut calls = Vec::new();
    g.context.take_queued(&mut calls);
    calls
}

#[test]
fn what_is_certain_is_queued_in_order_and_the_rest_comes_to_the_kernel() {
    let mut g = licensed();
    assert!(is_queued(&mut g, 5, MOD, 40, DATA));
    assert!(is_queued(&mut g, 5, DEL, 1023, 0x10));
    let event = QueuedCall {
        operation: 3,
        fd: 40,
        events: 1,
        data: u64::from_le_bytes([8, 7, 6, 5, 4, 3, 2, 1]),
        addr: DATA,
    };
    let calls = taken(&mut g);
    assert_eq!(calls[0], event);
    assert_eq!((calls[1].operation, calls[1].fd, calls[1].addr, calls.len()), (2, 1023, 0x10, 2));
    assert_eq!(taken(&mut g), []);
    // Another instance, a descriptor that is not registered or is none, no operation.
    for (epfd, operation, fd) in
        [(6, MOD, 40), (5, MOD, 41), (5, DEL, 8), (5, MOD, 1024), (5, MOD, 1 << 31), (5, 0, 40), (5, 4, 40)]
    {
        assert!(!is_queued(&mut g, epfd, operation, fd, DATA), "{epfd} {operation} {fd}");
    }
    // As the queue goes on, so does what is certain.
    assert!(!is_queued(&mut g, 5, ADD, 40, DATA));
    assert!(is_queued(&mut g, 5, DEL, 40, DATA));
    assert!(!is_queued(&mut g, 5, MOD, 40, DATA) && !is_queued(&mut g, 5, DEL, 40, DATA));
    assert!(is_queued(&mut g, 5, ADD, 40, DATA) && is_queued(&mut g, 5, MOD, 40, DATA));
    assert!(!is_queued(&mut g, 5, ADD, 40, DATA));
    assert_eq!(taken(&mut g).iter().map(|call| call.operation).collect::<Vec<_>>(), [2, 1, 3]);
    // Without a licence nothing is.
    assert!(g.context.license(None));
    assert!(!is_queued(&mut g, 5, MOD, 40, DATA));
}

#[test]
fn a_full_queue_and_an_event_of_no_use_come_to_the_kernel() {
    let mut g = licensed();
    for _ in 0..queue::ROOM {
        assert!(is_queued(&mut g, 5, MOD, 40, DATA));
    }
    assert!(!is_queued(&mut g, 5, MOD, 40, DATA));
    assert_eq!(taken(&mut g).len() as u64, queue::ROOM);
    // Not there; not there from its ninth byte on; no address at all; EPOLLEXCLUSIVE.
    assert!(!is_queued(&mut g, 5, MOD, 40, 0x1000));
    assert!(!is_queued(&mut g, 5, MOD, 40, DATA + 0x1000 - 8));
    assert!(!is_queued(&mut g, 5, MOD, 40, 1 << 63));
    assert_eq!(g.space.write(DATA, &[0, 0, 0, 0x10]), 4);
    assert!(!is_queued(&mut g, 5, MOD, 40, DATA));
    assert_eq!(taken(&mut g), []);
}

#[test]
fn a_forked_child_has_neither_licence_nor_calls() {
    let mut g = licensed();
    assert!(is_queued(&mut g, 5, MOD, 40, DATA));
    let (_space, mut child) = g.context.fork().expect("fork");
    let mut calls = Vec::new();
    child.take_queued(&mut calls);
    assert_eq!(calls, []);
    let mut regs = g.regs;
    assert_eq!((child.run(&mut regs), regs.orig_rax), (Exit::Syscall, nr::EPOLL_CTL));
    assert_eq!(taken(&mut g).len(), 1);
}

#[test]
fn a_thread_stopped_on_the_way_goes_back_until_its_call_counts_and_on_from_there() {
    let blob = Blob::get();
    assert!(blob.futex < blob.epoll_ctl && blob.epoll_ctl < blob.epoll_made);
    assert!(blob.epoll_made < blob.epoll_slow && blob.epoll_slow < blob.native);
    for at in blob.epoll_ctl..blob.native {
        let mut regs = Registers { rip: at, rcx: 0x1007, rax: 99, ..Registers::default() };
        let (claimed, rcx) = match at - blob.epoll_ctl {
            22 => (1, 0x1005),
            0..=24 => (1, 0x1007),
            _ => (0x1007, 1),
        };
        regs.rcx = rcx;
        leave(&mut regs, claimed);
        let is_made = at >= blob.epoll_made && at < blob.epoll_slow;
        let (rip, rax) = if is_made { (0x1007, 0) } else { (0x1005, nr::EPOLL_CTL) };
        assert_eq!((regs.rip, regs.rax), (rip, rax), "{}", at - blob.epoll_ctl);
    }
}

#[test]
fn a_thread_stopped_in_any_entry_goes_where_the_call_stands() {
    let blob = Blob::get();
    let left = |at: u64, claimed: u64| {
        let mut regs = Registers { rip: at, rcx: 0x1007, r11: 0x3007, rax: 99, ..Registers::default() };
        leave(&mut regs, claimed);
        (regs.rip, regs.rax)
    };
    for begin in [blob.sigmask, blob.robust_list, blob.rseq, blob.native] {
        assert_eq!((left(begin, 0x2007), left(begin + 24, 0x2007)), ((0x1005, 99), (0x1005, 99)));
        assert_eq!((left(begin + 22, 0x2007), left(begin + 25, 0x2007)), ((0x1007, 99), (0x2005, 99)));
    }
    for (answered, rax) in
        [(blob.sigmask_done, 0), (blob.robust_list_done, 99), (blob.rseq_after, 99), (blob.native_after, 99)]
    {
        assert_eq!((left(answered - 1, 0x2007), left(answered, 0x2007)), ((0x2005, 99), (0x2007, rax)));
    }
    assert_eq!(
        (left(blob.state_slow - 1, 0x2007), left(blob.state_slow, 0x2007)),
        ((0x2007, 99), (0x2005, 99))
    );
    assert_eq!((left(blob.any, 1), left(blob.any + 1, 1)), ((0x1005, 99), (0x3005, 99)));
    for (_, entry) in blob.identity {
        assert_eq!((left(entry, 1), left(entry + 24, 1)), ((0x1005, 99), (0x1005, 99)));
        assert_eq!((left(entry + 22, 1), left(entry + 25, 1)), ((0x1007, 99), (0x1007, 99)));
    }
}

#[test]
fn a_length_that_the_guest_made_up_is_no_more_than_there_can_be() {
    let window = Arena::new().expect("arena").allocate().expect("window");
    let licence = EpollLicence { epfd: 3, fds: [u64::MAX; 16] };
    window.set32(RW + rw::QUEUE_LEN, 7);
    license(&window, Some(&licence));
    let mut calls = Vec::new();
    take(&window, &mut calls);
    assert_eq!(calls, []);
    window.set32(RW + rw::QUEUE_LEN, u32::MAX);
    take(&window, &mut calls);
    assert_eq!((calls.len() as u64, window.get32(RW + rw::QUEUE_LEN)), (queue::ROOM, 0));
    license(&window, None);
    assert_eq!(window.get32(ro::QUEUE_ROOM), 0);
}

#[test]
fn a_call_that_is_interrupted_again_and_again_counts_once() {
    // L: mov eax, 233; syscall; inc rbx; jmp L
    let mut g = guest(&*platform(), &[0xb8, 233, 0, 0, 0, 0x0f, 5, 0x48, 0xff, 0xc3, 0xeb, 0xf4]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    rewrite(&mut g, CODE + 5);
    assert!(g.context.license(Some(&EpollLicence { epfd: 5, fds: [u64::MAX; 16] })));
    (g.regs.rdi, g.regs.rsi, g.regs.rdx, g.regs.r10) = (5, MOD, 40, DATA);
    let interrupter = g.context.interrupter();
    let over = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&over);
    let thread = std::thread::spawn(move || {
        while !theirs.load(Ordering::Relaxed) {
            interrupter.interrupt();
            std::hint::spin_loop();
        }
    });
    // The first one, which this test has answered.
    let (mut made, mut queued) = (1, 0);
    for _ in 0..20_000 {
        let exit = g.context.run(&mut g.regs);
        let calls = taken(&mut g).len() as u64;
        (made, queued) = (made + calls, queued + calls);
        let after_call = match exit {
            Exit::Syscall => {
                assert_eq!((g.regs.orig_rax, g.regs.rip), (nr::EPOLL_CTL, CODE + 7));
                g.regs.rax = 0;
                made += 1;
                1
            }
            Exit::Interrupted => {
                assert!([0, 5, 7, 10].contains(&g.regs.rip.wrapping_sub(CODE)), "{:#x}", g.regs.rip);
                u64::from(g.regs.rip == CODE + 7)
            }
            other => panic!("{other:?} at {:#x}", g.regs.rip),
        };
        assert_eq!(made, g.regs.rbx + after_call);
    }
    over.store(true, Ordering::Relaxed);
    thread.join().expect("interrupter");
    assert!(queued > 0);
}
