//! Runs small pieces of guest code on the real platform, without a kernel above it.

use std::sync::{Arc, Mutex, OnceLock};

use super::{Options, prepare, rewrite_tests};
use crate::api::{Exit, MemoryCall};
use crate::guest_tests::{CODE, DATA, Guest, guest, on_platform};

const ALL: Options = Options {
    patch: true,
    identity: true,
    native_futex: true,
    native_clock: true,
    spin: true,
    stub_copy: true,
};

/// One platform for the whole test process: the first stub must be forked early, and by one thread at a time.
pub(super) fn platform() -> Arc<super::Systrap> {
    static PLATFORM: OnceLock<Mutex<Arc<super::Systrap>>> = OnceLock::new();
    let platform =
        PLATFORM.get_or_init(|| Mutex::new(Arc::new(prepare(ALL).expect("prepare").start().expect("start"))));
    Arc::clone(&platform.lock().expect("no panic under the lock"))
}

#[path = "along_tests.rs"]
mod along;

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
    let begun = std::time::Instant::now();
    rewrite_tests::rewrite(&mut g, CODE + 5);
    println!("first rewrite: {} ns", begun.elapsed().as_nanos());
    time("rewritten call", &mut g);
    rewrite_tests::time_rewrites(&*platform());
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
