//! Rewrites call sites of small pieces of guest code on the real platform: called, jumped into, stopped in, forked, shared by threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linux_abi::Registers;

use super::tests::platform;
use crate::api::{CallSite, Context, Exit, Platform};
use crate::guest_tests::{CODE, DATA, Guest, guest};

/// Where trampolines go.
const ROOM: u64 = CODE + 0x20_0000;

/// Rewrites the site of the call at `call`, which `g` has just made.
pub(super) fn rewrite(g: &mut Guest, call: u64) {
    let code = CallSite { call, mapping: (CODE, CODE + 0x1000), prot: 5, regs: &g.regs };
    g.context.patch(&code, &mut || Some(ROOM));
}

fn first_byte(g: &Guest, at: u64) -> u8 {
    let mut byte = [0];
    assert_eq!(g.space.read(at, &mut byte), 1);
    byte[0]
}

fn run_to_call(g: &mut Guest) -> u64 {
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    g.regs.orig_rax
}

#[test]
fn a_rewritten_site_still_calls_and_its_syscall_can_still_be_jumped_to() {
    // L: mov eax, 1000; syscall; jmp L      and at +16: mov eax, 1001; jmp to the syscall
    let mut code = vec![0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7];
    code.resize(16, 0x90);
    code.extend([0xb8, 0xe9, 3, 0, 0, 0xeb, 0xee]);
    let mut g = guest(&*platform(), &code);
    let traps = (1..100).find(|_| run_to_call(&mut g) == 1000 && g.context.call_site() == Some(CODE + 5));
    assert!(traps.is_some_and(|traps| traps > 1), "hot after {traps:?} traps");
    rewrite(&mut g, CODE + 5);
    let mut seen = [0; 7];
    assert_eq!(g.space.read(CODE, &mut seen), 7);
    assert_eq!((seen[0], &seen[5..]), (0xe9, &[0x0f, 0x05][..]));
    g.regs.rbx = 5;
    for _ in 0..3 {
        assert_eq!(run_to_call(&mut g), 1000);
        assert_eq!((g.regs.rip, g.regs.rcx, g.regs.rbx), (CODE + 7, CODE + 7, 5));
        assert_eq!(g.context.call_site(), None);
    }
    g.regs.rip = CODE + 16;
    assert_eq!(run_to_call(&mut g), 1001);
    assert_eq!(g.regs.rip, CODE + 7);
    // A fork has the rewritten site and its trampoline.
    let (_space, mut child) = g.context.fork().expect("fork");
    let mut regs = Registers { rip: CODE, ..g.regs };
    assert_eq!(child.run(&mut regs), Exit::Syscall);
    assert_eq!(regs.orig_rax, 1000);
}

#[test]
fn identity_calls_of_rewritten_sites_do_not_come_to_the_kernel() {
    // L: mov eax, 39; syscall; mov rbx, rax; mov eax, 1000; syscall; jmp L
    let code = [0xb8, 39, 0, 0, 0, 0x0f, 5, 0x48, 0x89, 0xc3, 0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xed];
    let mut g = guest(&*platform(), &code);
    g.context.set_identity(Some(crate::api::Identity { pid: 77, ..Default::default() }));
    assert_eq!(run_to_call(&mut g), 39);
    rewrite(&mut g, CODE + 5);
    g.regs.rax = 1;
    assert_eq!(run_to_call(&mut g), 1000);
    assert_eq!(g.regs.rbx, 1);
    assert_eq!(run_to_call(&mut g), 1000);
    assert_eq!(g.regs.rbx, 77);
}

/// L: cmp byte [rip + 18], 0; je away; xor eax, eax; syscall; jmp L; nop; away: mov eax, 1000; syscall; jmp L; flag: 1
const TESTED: [u8; 26] = [
    0x80, 0x3d, 18, 0, 0, 0, 1, 0x75, 6, 0x31, 0xc0, 0x0f, 5, 0xeb, 0xf1, 0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb,
    0xe8, 0x90, 1,
];

#[test]
fn a_site_with_a_test_and_a_jump_does_both() {
    let mut g = guest(&*platform(), &TESTED);
    assert_eq!(run_to_call(&mut g), 0);
    rewrite(&mut g, CODE + 11);
    assert_eq!(first_byte(&g, CODE), 0xe9);
    for _ in 0..3 {
        assert_eq!(run_to_call(&mut g), 0);
        assert_eq!(g.regs.rip, CODE + 13);
    }
    // In the middle: xor, and the call itself.
    g.regs.rip = CODE + 9;
    assert_eq!((run_to_call(&mut g), g.regs.rip), (0, CODE + 13));
    g.regs.rip = CODE + 11;
    g.regs.rax = 1234;
    assert_eq!((run_to_call(&mut g), g.regs.rip), (1234, CODE + 13));
    // The other way of the jump.
    let mut flip = Registers { rip: CODE, ..g.regs };
    let protect = |prot| crate::api::MemoryCall::Protect { addr: CODE, len: 0x1000, prot };
    assert_eq!(g.context.memory(protect(7)), Ok(0));
    assert_eq!(g.space.write(CODE + 25, &[2]), 1);
    assert_eq!(g.context.memory(protect(5)), Ok(0));
    assert_eq!(g.context.run(&mut flip), Exit::Syscall);
    assert_eq!((flip.orig_rax, flip.rip), (1000, CODE + 22));
}

#[test]
fn a_fault_in_a_trampoline_is_one_of_the_original() {
    // L: mov rax, [rsp + 8]; syscall; jmp L
    let mut g = guest(&*platform(), &[0x48, 0x8b, 0x44, 0x24, 8, 0x0f, 5, 0xeb, 0xf7]);
    g.regs.rsp = DATA;
    assert_eq!(g.space.write(DATA + 8, &1000_u64.to_le_bytes()), 8);
    assert_eq!(run_to_call(&mut g), 1000);
    rewrite(&mut g, CODE + 5);
    assert_eq!(first_byte(&g, CODE), 0xe9);
    g.regs.rsp = 0x10_0000;
    let Exit::Fault(fault) = g.context.run(&mut g.regs) else { panic!("no fault") };
    assert_eq!((fault.signo, fault.addr, g.regs.rip), (libc::SIGSEGV, 0x10_0008, CODE));
    g.regs.rsp = DATA;
    assert_eq!(run_to_call(&mut g), 1000);
    // A futex call whose number only the moment knows goes to the host: EAGAIN from there, and no exit of its own.
    assert_eq!(g.space.write(DATA + 8, &202_u64.to_le_bytes()), 8);
    let mut regs = Registers { rip: CODE, rdi: DATA, rsi: 0, rdx: 1, ..g.regs };
    let interrupter = g.context.interrupter();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        interrupter.interrupt();
    });
    assert_eq!(g.context.run(&mut regs), Exit::Interrupted);
    thread.join().expect("interrupter");
    assert!((CODE..CODE + 9).contains(&regs.rip), "{:#x}", regs.rip);
}

/// L: mov edi, DATA; xor esi, esi; mov edx, ebx; xor r10d, r10d; mov eax, 202; syscall; mov rbp, rax; mov eax, 1000; syscall; jmp L
const WAITING: [u8; 31] = [
    0xbf, 0, 0, 0x50, 0, 0x31, 0xf6, 0x89, 0xda, 0x45, 0x31, 0xd2, 0xb8, 202, 0, 0, 0, 0x0f, 5, 0x48, 0x89,
    0xc5, 0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xe1,
];

#[test]
fn futex_waits_are_seen_until_their_site_is_rewritten_and_answered_by_the_host_throughout() {
    let mut g = guest(&*platform(), &WAITING);
    g.regs.rbx = 1;
    // The word is 0, so waiting for 1 is EAGAIN. When the site is hot its call comes in, and is answered here.
    let mut seen = 0;
    for _ in 0..40 {
        if run_to_call(&mut g) == 202 {
            seen += 1;
            if g.context.call_site() == Some(CODE + 17) {
                rewrite(&mut g, CODE + 17);
            }
            g.regs.rax = (-11_i64).cast_unsigned();
            assert_eq!(run_to_call(&mut g), 1000);
        }
        assert_eq!(g.regs.rbp.cast_signed(), -11);
    }
    assert_eq!((seen, first_byte(&g, CODE + 12)), (1, 0xe9));
    // One that waits in vain is interrupted, behind the call, which the kernel is told of, or before it.
    g.regs.rbx = 0;
    let mut waited = 0;
    for _ in 0..20 {
        // On a busy machine the interrupt may come before it runs.
        g.regs.rip = CODE;
        let interrupter = g.context.interrupter();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(300));
            interrupter.interrupt();
        });
        match g.context.run(&mut g.regs) {
            Exit::WaitInterrupted { .. } => {
                let found = (g.regs.rip, g.regs.orig_rax, g.regs.rdi, g.regs.rsi);
                assert_eq!(found, (CODE + 19, 202, DATA, 0));
                waited += 1;
            }
            Exit::Interrupted => {
                assert!(matches!(g.regs.rip.wrapping_sub(CODE), 0..=17), "{:#x}", g.regs.rip);
            }
            other => panic!("{other:?}"),
        }
        thread.join().expect("interrupter");
    }
    assert!(waited > 0);
    g.regs.rip = CODE;
    // A word that cannot be read is looked at by the kernel: its page may be one that the guest may not fill by itself.
    g.regs.rbx = 1;
    let unmap = crate::api::MemoryCall::Unmap { addr: DATA, len: 0x1000 };
    assert_eq!(g.context.memory(unmap), Ok(0));
    assert_eq!(run_to_call(&mut g), 202);
    g.regs.rax = (-14_i64).cast_unsigned();
    assert_eq!(run_to_call(&mut g), 1000);
    assert_eq!(g.regs.rbp.cast_signed(), -14);
}

/// Interrupts `g` again and again while it runs; answers where it was found.
fn storm(g: &mut Guest, rounds: u32) -> Vec<u64> {
    let interrupter = g.context.interrupter();
    let over = Arc::new(AtomicBool::new(false));
    let thread = {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                interrupter.interrupt();
                std::hint::spin_loop();
            }
        })
    };
    let mut found = Vec::new();
    for _ in 0..rounds {
        match g.context.run(&mut g.regs) {
            Exit::Interrupted => found.push(g.regs.rip),
            // It was put back to before the call, which then came in by the signal.
            Exit::Syscall => g.regs.rax = 77,
            other => panic!("{other:?} at {:#x}", g.regs.rip),
        }
    }
    over.store(true, Ordering::Relaxed);
    thread.join().expect("interrupter");
    found
}

#[test]
fn a_thread_interrupted_in_rewritten_code_is_found_at_original_addresses_only() {
    // L: mov eax, 39; syscall; cmp eax, 77; jne bad; inc rbx; jmp L; bad: ud2
    let code =
        [0xb8, 39, 0, 0, 0, 0x0f, 5, 0x83, 0xf8, 77, 0x75, 5, 0x48, 0xff, 0xc3, 0xeb, 0xef, 0x0f, 0x0b];
    let mut g = guest(&*platform(), &code);
    g.context.set_identity(Some(crate::api::Identity { pid: 77, ..Default::default() }));
    assert_eq!(run_to_call(&mut g), 39);
    g.regs.rax = 77;
    rewrite(&mut g, CODE + 5);
    let found = storm(&mut g, 3000);
    assert!(found.iter().all(|rip| (CODE..CODE + 17).contains(rip)), "{found:x?}");
    assert!(g.regs.rbx > 0);
}

#[test]
fn a_site_is_rewritten_while_other_threads_run_it() {
    // L: mov eax, 1000; syscall; mov edx, 7; inc rbx; mov eax, 39; syscall; cmp eax, 77; jne bad; jmp L; bad: ud2
    let code = [
        0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xba, 7, 0, 0, 0, 0x48, 0xff, 0xc3, 0xb8, 39, 0, 0, 0, 0x0f, 5, 0x83,
        0xf8, 77, 0x75, 2, 0xeb, 0xe3, 0x0f, 0x0b,
    ];
    for _ in 0..20 {
        let mut g = guest(&*platform(), &code);
        let identity = Some(crate::api::Identity { pid: 77, ..Default::default() });
        g.context.set_identity(identity);
        assert_eq!(run_to_call(&mut g), 1000);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let mut context = g.context.clone_thread().expect("thread");
                context.set_identity(identity);
                let mut regs = g.regs;
                std::thread::spawn(move || count_calls(context.as_mut(), &mut regs))
            })
            .collect();
        for _ in 0..20 {
            assert!(matches!(run_to_call(&mut g), 39 | 1000));
            if g.regs.orig_rax == 39 {
                g.regs.rax = 77;
            }
        }
        while run_to_call(&mut g) != 1000 {
            g.regs.rax = 77;
        }
        rewrite(&mut g, CODE + 5);
        assert_eq!(run_to_call(&mut g), 39);
        rewrite(&mut g, CODE + 20);
        g.regs.rax = 77;
        for _ in 0..20 {
            assert_eq!(run_to_call(&mut g), 1000);
        }
        assert_eq!((first_byte(&g, CODE), first_byte(&g, CODE + 15)), (0xe9, 0xe9));
        for thread in threads {
            thread.join().expect("a guest thread");
        }
    }
}

/// Serves a thread of the test above for a while.
fn count_calls(context: &mut dyn Context, regs: &mut Registers) {
    for _ in 0..400 {
        match context.run(regs) {
            Exit::Syscall if regs.orig_rax == 39 => regs.rax = 77,
            Exit::Syscall => assert_eq!(regs.orig_rax, 1000),
            // It met the breakpoint.
            Exit::Interrupted => {}
            other => panic!("{other:?} at {:#x}", regs.rip),
        }
    }
    context.exit();
}

/// Prints what a rewrite costs, alone and beside another thread.
#[expect(clippy::print_stdout, reason = "its figures are for whoever runs it")]
pub(super) fn time_rewrites(platform: &dyn Platform) {
    const SITES: usize = 40;
    for threads in [1, 2] {
        // SITES times: mov eax, 1000; syscall
        let code = [0xb8, 0xe8, 3, 0, 0, 0x0f, 5].repeat(SITES);
        let mut g = guest(platform, &code);
        let other = (threads == 2).then(|| g.context.clone_thread().expect("thread"));
        let mut total = std::time::Duration::ZERO;
        for _ in 0..SITES {
            assert_eq!(run_to_call(&mut g), 1000);
            let call = g.regs.rip - 2;
            let begun = std::time::Instant::now();
            rewrite(&mut g, call);
            total += begun.elapsed();
        }
        println!("rewrite with {threads} threads: {} ns", total.as_nanos() / SITES as u128);
        drop(other);
    }
}
