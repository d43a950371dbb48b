//! Runs small pieces of guest code on the real platform, without a kernel above it.

use std::sync::{Arc, Mutex, OnceLock};

use super::{Options, prepare};
use crate::api::{AddressSpace, Context, Exit, MemoryCall, Platform, Template};
use linux_abi::Registers;

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;

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

struct Guest {
    space: Arc<dyn AddressSpace>,
    context: Box<dyn Context>,
    regs: Registers,
    _template: Arc<dyn Template>,
}

fn guest(code: &[u8]) -> Guest {
    let template = platform().new_template().expect("template");
    let (space, mut context) = template.spawn().expect("spawn");
    let map = |addr, prot| MemoryCall::MapAnonymous { addr, len: 0x1000, prot, extra_flags: 0 };
    assert_eq!(context.memory(map(CODE, 3)), Ok(CODE));
    assert_eq!(context.memory(map(DATA, 3)), Ok(DATA));
    assert_eq!(space.write(CODE, code), code.len());
    assert_eq!(context.memory(MemoryCall::Protect { addr: CODE, len: 0x1000, prot: 5 }), Ok(0));
    let regs = Registers { rip: CODE, rsp: DATA + 0x1000, ..Registers::default() };
    Guest { space, context, regs, _template: template }
}

#[test]
fn a_call_arrives_with_its_arguments_and_its_result_goes_back() {
    // mov eax, 1000; mov edi, 7; syscall; mov rbx, rax; mov eax, 1001; syscall
    let mut g = guest(&[
        0xb8, 0xe8, 3, 0, 0, 0xbf, 7, 0, 0, 0, 0x0f, 5, 0x48, 0x89, 0xc3, 0xb8, 0xe9, 3, 0, 0, 0x0f, 5,
    ]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rdi, g.regs.rip), (1000, 7, CODE + 12));
    g.regs.rax = 42;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rbx), (1001, 42));
}

#[test]
fn a_wild_read_is_a_fault_with_its_address() {
    // mov rax, [0x123456]
    let mut g = guest(&[0x48, 0x8b, 0x04, 0x25, 0x56, 0x34, 0x12, 0]);
    let Exit::Fault(fault) = g.context.run(&mut g.regs) else { panic!("no fault") };
    assert_eq!((fault.signo, fault.addr, fault.trapno), (libc::SIGSEGV, 0x12_3456, 14));
    assert_eq!(g.regs.rip, CODE);
}

#[test]
fn a_loop_is_interrupted_and_goes_on() {
    // inc rbx; jmp -5
    let mut g = guest(&[0x48, 0xff, 0xc3, 0xeb, 0xfb]);
    let interrupter = g.context.interrupter();
    for _ in 0..3 {
        let theirs = Arc::clone(&interrupter);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            theirs.interrupt();
        });
        let before = g.regs.rbx;
        assert_eq!(g.context.run(&mut g.regs), Exit::Interrupted);
        thread.join().expect("interrupter");
        assert!(g.regs.rbx >= before);
    }
    assert!(g.regs.rbx > 0);
}

#[test]
fn small_results_are_copied_by_the_stub() {
    // L: mov eax, 1000; syscall; jmp L
    let mut g = guest(&[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
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
fn a_fork_copies_memory_and_a_thread_shares_it() {
    let mut g = guest(&[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.space.write(DATA, b"parent"), 6);
    let (child_space, mut child) = g.context.fork().expect("fork");
    assert_eq!(child_space.write(DATA, b"child!"), 6);
    let mut regs = g.regs;
    assert_eq!(child.run(&mut regs), Exit::Syscall);
    let mut seen = [0; 6];
    assert_eq!(g.space.read(DATA, &mut seen), 6);
    assert_eq!(&seen, b"parent");
    let mut thread = g.context.clone_thread().expect("thread");
    let mut regs = g.regs;
    regs.rdi = 77;
    assert_eq!(thread.run(&mut regs), Exit::Syscall);
    assert_eq!(regs.rdi, 77);
    thread.exit();
    // The slot is used again.
    let mut thread = g.context.clone_thread().expect("second thread");
    let mut regs = g.regs;
    assert_eq!(thread.run(&mut regs), Exit::Syscall);
}

#[test]
fn a_killed_stub_is_seen_by_the_thread_that_waits_for_it() {
    let mut g = guest(&[0xeb, 0xfe]); // jmp to itself
    let space = Arc::clone(&g.space);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        space.kill();
    });
    assert_eq!(g.context.run(&mut g.regs), Exit::Died);
    thread.join().expect("killer");
    assert!(!g.space.killed_by_host());
}

#[test]
fn extended_state_survives_calls_and_forks() {
    // movq xmm5, rbx; L: mov eax, 1000; syscall; movq rbx, xmm5; jmp L
    let code = [
        0x66, 0x48, 0x0f, 0x6e, 0xeb, 0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0x66, 0x48, 0x0f, 0x7e, 0xeb, 0xeb, 0xf2,
    ];
    let mut g = guest(&code);
    g.regs.rbx = 0x1122_3344_5566_7788;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    g.regs.rbx = 0;
    let (_space, mut child) = g.context.fork().expect("fork");
    let mut regs = g.regs;
    assert_eq!(child.run(&mut regs), Exit::Syscall);
    assert_eq!(regs.rbx, 0x1122_3344_5566_7788);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.rbx, 0x1122_3344_5566_7788);
}

#[test]
fn a_file_is_mapped_by_a_descriptor_that_the_stub_does_not_keep() {
    let mut g = guest(&[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let file = crate::host::file::new_memory_file("test").expect("memfd");
    crate::host::file::write_at(&file, b"contents", 0).expect("write");
    let call = MemoryCall::MapFile {
        addr: 0x60_0000,
        len: 0x1000,
        prot: 1,
        shared: true,
        file: std::os::fd::AsFd::as_fd(&file),
        offset: 0,
    };
    assert_eq!(g.context.memory(call), Ok(0x60_0000));
    let mut seen = [0; 8];
    assert_eq!(g.space.read(0x60_0000, &mut seen), 8);
    assert_eq!(&seen, b"contents");
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
}

#[test]
fn a_rewritten_site_still_calls_and_its_syscall_can_still_be_jumped_to() {
    // L: mov eax, 1000; syscall; jmp L      and at +16: mov eax, 1001; jmp to the syscall
    let mut code = vec![0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7];
    code.resize(16, 0x90);
    code.extend([0xb8, 0xe9, 3, 0, 0, 0xeb, 0xee]);
    let mut g = guest(&code);
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
    let mut g = guest(&code);
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
    let mut g = guest(&[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
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
