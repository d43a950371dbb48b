//! A guest with a `%gs` of its own, on the real platform: at rewritten sites, through forks, clones and interrupts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux_abi::{Errno, Registers};

use super::rewrite_tests::rewrite;
use super::tests::platform;
use crate::api::{Exit, Identity, ThreadCall};
use crate::guest_tests::{CODE, DATA, Guest, guest};

/// L: mov eax, 1000; syscall; mov rbx, gs:[0]; jmp L
const LOOK: [u8; 18] = [0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0x65, 0x48, 0x8b, 0x1c, 0x25, 0, 0, 0, 0, 0xeb, 0xee];
/// L: rdgsbase rbx; mov eax, 39; syscall; wrgsbase rbp; jmp L
const SET: [u8; 19] =
    [0xf3, 0x48, 0x0f, 0xae, 0xcb, 0xb8, 39, 0, 0, 0, 0x0f, 5, 0xf3, 0x48, 0x0f, 0xae, 0xdd, 0xeb, 0xed];

fn run_to_call(g: &mut Guest) {
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
}

fn looking() -> Guest {
    let mut g = guest(&*platform(), &LOOK);
    assert_eq!(g.space.write(DATA, &0x1234_5678_u64.to_le_bytes()), 8);
    run_to_call(&mut g);
    g
}

#[test]
fn a_base_that_the_kernel_sets_is_the_guests_from_then_on() {
    for is_rewritten in [false, true] {
        let mut g = looking();
        if is_rewritten {
            rewrite(&mut g, CODE + 5);
            run_to_call(&mut g);
        }
        assert_eq!(g.regs.gs_base, 0);
        g.regs.gs_base = DATA;
        for _ in 0..3 {
            g.regs.rbx = 0;
            run_to_call(&mut g);
            assert_eq!((g.regs.rbx, g.regs.gs_base, g.regs.rip), (0x1234_5678, DATA, CODE + 7));
        }
        // And not any more.
        g.regs.gs_base = 0;
        for _ in 0..3 {
            run_to_call(&mut g);
            assert_ne!(g.regs.rbx, 0x1234_5678);
            assert_eq!((g.regs.gs_base, g.regs.rip), (0, CODE + 7));
        }
    }
}

#[test]
fn a_base_that_the_guest_sets_by_itself_is_seen_at_its_next_call() {
    for base in [DATA, 0, 0x7fff_ffff_f000, !0 << 47, 1] {
        let mut g = guest(&*platform(), &SET);
        g.context.set_identity(Some(Identity { pid: 77, ..Identity::default() }));
        g.regs.rbp = base;
        run_to_call(&mut g);
        rewrite(&mut g, CODE + 10);
        for _ in 0..3 {
            run_to_call(&mut g);
            assert_eq!((g.regs.orig_rax, g.regs.gs_base, g.regs.rip), (39, base, CODE + 12));
            // What was zero is the stub's again after a call.
            assert!(g.regs.rbx == base, "{:#x}", g.regs.rbx);
            g.regs.rax = 5;
            if base == 0 {
                break;
            }
        }
    }
}

#[test]
fn children_and_threads_begin_with_the_base_of_their_maker() {
    let mut g = looking();
    g.regs.gs_base = DATA;
    run_to_call(&mut g);
    let mut regs = Registers { rbx: 0, ..g.regs };
    let (_space, mut child) = g.context.fork().expect("fork");
    assert_eq!((child.run(&mut regs), regs.rbx, regs.gs_base), (Exit::Syscall, 0x1234_5678, DATA));
    let mut regs = Registers { rbx: 0, gs_base: DATA + 8, ..g.regs };
    let mut thread = g.context.clone_thread().expect("thread");
    assert_eq!(g.space.write(DATA + 8, &7_u64.to_le_bytes()), 8);
    assert_eq!((thread.run(&mut regs), regs.rbx, regs.gs_base), (Exit::Syscall, 7, DATA + 8));
}

#[test]
fn a_thread_with_a_base_of_its_own_waits_and_is_interrupted_as_any() {
    let mut g = looking();
    g.regs.gs_base = DATA;
    run_to_call(&mut g);
    // mov eax, 202; syscall
    let wait = [0xb8, 202, 0, 0, 0, 0x0f, 5];
    let protect = |prot| crate::api::MemoryCall::Protect { addr: CODE, len: 0x1000, prot };
    assert_eq!(g.context.memory(protect(7)), Ok(0));
    assert_eq!(g.space.write(CODE + 0x100, &wait), 7);
    assert_eq!(g.context.memory(protect(5)), Ok(0));
    for round in 0..20 {
        g.regs = Registers { rip: CODE + 0x100, rdi: DATA + 16, ..g.regs };
        (g.regs.rsi, g.regs.rdx, g.regs.r10) = (0, 0, 0);
        // It comes in as a call of the page's, from which it can wait deep in the host. An interrupt of before may be on its way still.
        while g.context.run(&mut g.regs) == Exit::Interrupted {}
        assert_eq!((g.regs.orig_rax, g.regs.gs_base, g.regs.rip), (202, DATA, CODE + 0x107));
        let interrupter = g.context.interrupter();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(300));
            interrupter.interrupt();
        });
        let args = [DATA + 16, 0, 0, 0, 0, 0];
        let end = g.context.thread_call(ThreadCall::Futex { args, deadline_ns: None });
        thread.join().expect("interrupter");
        if end == Err(Errno::ERESTARTNOINTR) {
            // Its site was to be looked at first.
            assert_eq!((round, g.context.call_site()), (0, Some(CODE + 0x105)));
            rewrite(&mut g, CODE + 0x105);
            assert_eq!(g.context.run(&mut g.regs), Exit::Interrupted);
            continue;
        }
        assert_eq!(end, Err(Errno::EINTR));
        assert_eq!(g.context.run(&mut g.regs), Exit::Interrupted);
        assert_eq!((g.regs.gs_base, g.regs.rip), (DATA, CODE + 0x107));
    }
}

#[test]
fn interrupts_on_the_way_to_the_gate_lose_neither_base_nor_place() {
    let mut g = looking();
    rewrite(&mut g, CODE + 5);
    let interrupter = g.context.interrupter();
    let over = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&over);
    let thread = std::thread::spawn(move || {
        while !theirs.load(Ordering::Relaxed) {
            interrupter.interrupt();
            std::hint::spin_loop();
        }
    });
    let mut calls = 0;
    for round in 0..20_000 {
        let wanted = g.regs.gs_base;
        match g.context.run(&mut g.regs) {
            Exit::Syscall => {
                calls += 1;
                assert_eq!(g.regs.rip, CODE + 7);
                // Back and forth, and in between for some time as it is.
                g.regs.gs_base = if round % 8 < 5 { DATA } else { 0 };
            }
            Exit::Interrupted => {
                assert_eq!(g.regs.gs_base, wanted);
                assert!([0, 5, 7, 16].contains(&g.regs.rip.wrapping_sub(CODE)), "{:#x}", g.regs.rip);
            }
            other => panic!("{other:?} at {:#x}", g.regs.rip),
        }
    }
    over.store(true, Ordering::Relaxed);
    thread.join().expect("interrupter");
    assert!(calls > 100, "{calls}");
}
