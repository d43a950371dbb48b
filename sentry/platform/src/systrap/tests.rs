//! Runs small pieces of guest code on the real platform, without a kernel above it.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::{Options, prepare, rewrite_tests};
use crate::api::{Context, Exit, MemoryCall, Service, ThreadCall, serve};
use crate::death::Death;
use crate::guest_tests::{CODE, DATA, Guest, LOOP, guest, on_platform};
use crate::stub::layout::{RW, SLOTS_BASE, rw};
use linux_abi::{Errno, Registers};

const ALL: Options = Options {
    patch: true,
    identity: true,
    native_futex: true,
    futex_spin: true,
    thread_state: true,
    native_clock: true,
    spin: true,
    stub_copy: true,
    epoll_queue: true,
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

#[test]
fn a_request_of_an_unknown_kind_ends_the_stub_and_is_named() {
    // L: mov dword ptr [rbx], 77; jmp L: writes the kind of its sibling's requests.
    let mut g = guest(&*platform(), &[0xc7, 0x03, 77, 0, 0, 0, 0xeb, 0xf8]);
    let mut sibling = g.context.clone_thread().expect("thread");
    let interrupter = sibling.interrupter();
    let regs = Registers { rbx: SLOTS_BASE + RW + rw::KIND, ..g.regs };
    let thread = std::thread::spawn(move || {
        let mut regs = regs;
        while sibling.run(&mut regs) != Exit::Died {}
    });
    let protect = MemoryCall::Protect { addr: DATA, len: 0x1000, prot: 3 };
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while g.context.memory(protect).is_ok() && std::time::Instant::now() < until {}
    assert_eq!(g.space.death(), Some(Death::Answer(77)));
    interrupter.interrupt();
    thread.join().expect("sibling");
}

#[test]
fn a_futex_wait_on_order_ends_by_an_interrupt_whenever_it_comes() {
    const ROUNDS: u32 = 4000;
    let g = guest(&*platform(), LOOP);
    let (mut context, mut regs) = (g.context, g.regs);
    let interrupter = context.interrupter();
    let (begin, begun) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        for round in begun {
            // From before the order to the sleep in the host.
            for _ in 0..round % 500 * 10 {
                std::hint::spin_loop();
            }
            interrupter.interrupt();
        }
    });
    let (done, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            begin.send(round).expect("the interrupter lives");
            let end =
                context.thread_call(ThreadCall::Futex { args: [DATA, 0, 0, 0, 0, 0], deadline_ns: None });
            assert_eq!(end, Err(Errno::EINTR));
            assert_eq!(context.run(&mut regs), Exit::Interrupted);
        }
        done.send(()).expect("the test waits");
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("no interrupt is lost");
    waiter.join().expect("waiter");
    thread.join().expect("interrupter");
}

#[test]
fn every_stub_may_use_the_barrier_without_asking_for_it() {
    // Asking in a process with two threads takes the host 7 to 15 ms.
    const SYNC_CORE: u32 = 1 << 5;
    let barrier = ThreadCall::Membarrier { command: SYNC_CORE, flags: 0, cpu: 0 };
    let mut g = guest(&*platform(), LOOP);
    assert_eq!(g.context.thread_call(barrier), Ok(0));
    let (_space, mut child) = g.context.fork().expect("fork");
    assert_eq!(child.thread_call(barrier), Ok(0));
}

#[test]
fn a_thread_that_rested_is_started_again_with_its_sentry_thread() {
    let mut g = guest(&*platform(), LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let (done, seen) = std::sync::mpsc::channel();
    let service = |number: u64, regs: Registers| -> Service {
        let done = done.clone();
        Box::new(move |mut context: Box<dyn Context>| {
            let mut regs = regs;
            let before = regs.rdi;
            assert_eq!(context.run(&mut regs), Exit::Syscall);
            assert_eq!((regs.orig_rax, regs.rdi), (1000, before));
            let me = std::thread::current().id();
            done.send((number, me)).expect("the test waits");
            Some(context)
        })
    };
    let mut servers = Vec::new();
    for number in 0..50 {
        let context = g.context.clone_thread().expect("thread");
        let regs = Registers { rdi: number, ..g.regs };
        let service = service(number, regs);
        let unserved =
            if context.is_rested() { context.start(&regs, service).err() } else { Some((context, service)) };
        if let Some(unserved) = unserved {
            std::thread::spawn(move || serve(unserved));
        }
        let (seen, server) = seen.recv_timeout(Duration::from_secs(10)).expect("it ran");
        assert_eq!(seen, number);
        if !servers.contains(&server) {
            servers.push(server);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(servers.len() < 25, "{} sentry threads for 50 guest threads", servers.len());
    // One that is taken and not started ends, and takes nobody with it.
    drop(g.context.clone_thread().expect("thread"));
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    // All that rest are seen to end with the stub: nobody waits for them.
    g.space.kill();
}

#[test]
fn a_call_left_for_the_way_back_is_made_and_its_failure_told() {
    let mut g = guest(&*platform(), LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.space.write(DATA, b"x"), 1);
    let advise = |addr| MemoryCall::Advise { addr, len: 0x1000, advice: 4 };
    assert_eq!(g.context.memory_on_return(advise(DATA)), Ok(()));
    g.regs.rax = 0;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let mut seen = [9];
    assert_eq!((g.space.read(DATA, &mut seen), seen), (1, [0]));
    // Nothing is mapped there: ENOMEM goes to the guest, which ignores it, and on it goes.
    assert_eq!(g.context.memory_on_return(advise(0x10_0000)), Ok(()));
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.context.memory_on_return(advise(0x10_0000)), Ok(()));
    assert_eq!(g.context.finish_call(), Err(Errno::ENOMEM));
    assert_eq!(g.context.finish_call(), Ok(()));
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
