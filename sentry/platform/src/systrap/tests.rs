//! Runs small pieces of guest code on the real platform, without a kernel above it.

use std::sync::{Arc, Mutex, OnceLock};

use super::{Options, prepare};
use crate::api::{Exit, MemoryCall};
use crate::guest_tests::{CODE, DATA, Guest, guest, on_platform};
use linux_abi::Registers;

const ALL: Options = Options {
    patch: true,
    identity: true,
    native_futex: true,
    native_clock: true,
    spin: true,
    stub_copy: true,
};

/// One platform for the whole test process: the first stub must be forked early, and by one thread at a time.
fn platform() -> Arc<super::Systrap> {
    static PLATFORM: OnceLock<Mutex<Arc<super::Systrap>>> = OnceLock::new();
    let platform =
        PLATFORM.get_or_init(|| Mutex::new(Arc::new(prepare(ALL).expect("prepare").start().expect("start"))));
    Arc::clone(&platform.lock().expect("no panic under the lock"))
}

on_platform!(platform());

#[test]
fn small_results_are_copied_by_the_stub() {
    // L: mov eax, 1000; syscall; jmp L
    let mut g = guest(&*platform(), &[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert!(g.context.defer_write(DATA + 8, b"hello"));
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let mut back = [0; 5];
    assert_eq!(g.space.read(DATA + 8, &mut back), 5);
    assert_eq!(&back, b"hello");
    // One that cannot be written turns the call into EFAULT.
    assert!(g.context.defer_write(0x1000, b"x"));
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.orig_rax, 1000);
}

#[test]
fn a_rewritten_site_still_calls_and_its_syscall_can_still_be_jumped_to() {
    // L: mov eax, 1000; syscall; jmp L      and at +16: mov eax, 1001; jmp to the syscall
    let mut code = vec![0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7];
    code.resize(16, 0x90);
    code.extend([0xb8, 0xe9, 3, 0, 0, 0xeb, 0xee]);
    let mut g = guest(&*platform(), &code);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.context.call_site(), Some(CODE));
    g.context.patch(CODE, 5, &mut || Some(CODE + 0x10_0000));
    let mut seen = [0; 7];
    assert_eq!(g.space.read(CODE, &mut seen), 7);
    assert_eq!((seen[0], &seen[5..]), (0xe9, &[0x0f, 0x05][..]));
    g.regs.rbx = 5;
    for _ in 0..3 {
        assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
        assert_eq!((g.regs.orig_rax, g.regs.rip, g.regs.rcx, g.regs.rbx), (1000, CODE + 7, CODE + 7, 5));
        assert_eq!(g.context.call_site(), None);
    }
    g.regs.rip = CODE + 16;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rip), (1001, CODE + 7));
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
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.orig_rax, 39);
    g.context.patch(CODE, 5, &mut || Some(CODE + 0x10_0000));
    g.regs.rax = 1;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rbx), (1000, 1));
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rbx), (1000, 77));
}

/// Prints what calls cost; run by hand: `cargo test -p platform --release -- --ignored --nocapture costs`.
#[test]
#[ignore = "measures, checks nothing"]
#[expect(clippy::print_stdout, reason = "its figures are for whoever runs it")]
fn costs() {
    const ROUNDS: u32 = 200_000;
    let time = |name: &str, g: &mut Guest| {
        for _ in 0..1000 {
            g.context.run(&mut g.regs);
        }
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
        }
        println!("{name}: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
    };
    let mut g = guest(&*platform(), &[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    time("trapped call", &mut g);
    g.context.patch(CODE, 5, &mut || Some(CODE + 0x10_0000));
    time("rewritten call", &mut g);
    let start = std::time::Instant::now();
    for _ in 0..2000 {
        let _ = g.context.fork().expect("fork");
    }
    println!("fork and kill: {} us", start.elapsed().as_micros() / 2000);
    let start = std::time::Instant::now();
    for _ in 0..2000 {
        let _ = g.context.clone_thread().expect("thread");
    }
    println!("thread and exit: {} us", start.elapsed().as_micros() / 2000);
    let start = std::time::Instant::now();
    for _ in 0..20_000 {
        let call = MemoryCall::Advise { addr: DATA, len: 0x1000, advice: 4 };
        g.context.memory(call).expect("madvise");
    }
    println!("memory call: {} ns", start.elapsed().as_nanos() / 20_000);
}
