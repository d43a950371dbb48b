//! The ptrace platform on the host: what any platform must do, and what only this one does.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use linux_abi::Errno;

use super::prepare;
use crate::api::{Exit, MemoryCall, ThreadCall};
use crate::guest_tests::{CODE, DATA, LOOP, guest, on_platform};

/// One platform for the whole test process: the first stub must be forked early, and by one thread at a time.
fn platform() -> Arc<super::Ptrace> {
    static PLATFORM: OnceLock<Mutex<Arc<super::Ptrace>>> = OnceLock::new();
    let platform =
        PLATFORM.get_or_init(|| Mutex::new(Arc::new(prepare().expect("prepare").start().expect("start"))));
    Arc::clone(&platform.lock().expect("no panic under the lock"))
}

on_platform!(platform());

#[test]
fn a_call_of_another_abi_is_not_taken_for_one_of_ours() {
    // mov eax, 20; int 0x80
    let mut g = guest(&*platform(), &[0xb8, 20, 0, 0, 0, 0xcd, 0x80]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rip), (u64::MAX >> 1, CODE + 7));
}

#[test]
fn a_guest_steps_itself_and_hits_its_breakpoints() {
    // nop; int3
    let mut g = guest(&*platform(), &[0x90, 0xcc]);
    g.regs.rflags = 0x302;
    let Exit::Fault(step) = g.context.run(&mut g.regs) else { panic!("no step") };
    assert_eq!((step.signo, g.regs.rip), (libc::SIGTRAP, CODE + 1));
    g.regs.rflags &= !0x100;
    let Exit::Fault(breakpoint) = g.context.run(&mut g.regs) else { panic!("no breakpoint") };
    assert_eq!((breakpoint.signo, breakpoint.trapno, g.regs.rip), (libc::SIGTRAP, 3, CODE + 2));
}

#[test]
fn calls_of_the_stub_reach_the_kernel_too() {
    // mov rax, rbx; jmp rax: guest code that jumps to the stub's own `syscall` instruction is served by the kernel, not by the host.
    let mut g = guest(&*platform(), &[0x48, 0x89, 0xd8, 0xff, 0xe0]);
    g.regs.rbx = crate::stub::blob::Blob::get().native_syscall;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.rip, g.regs.rbx + 2);
}

#[test]
fn a_futex_wait_on_order_ends_by_an_interrupt() {
    let mut g = guest(&*platform(), LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let wait = ThreadCall::Futex { args: [DATA, 0, 0, 0, 0, 0], deadline_ns: None };
    let interrupter = g.context.interrupter();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        interrupter.interrupt();
    });
    assert_eq!(g.context.thread_call(wait), Err(Errno::EINTR));
    thread.join().expect("interrupter");
    // It sticks until a run has answered it.
    assert_eq!(g.context.run(&mut g.regs), Exit::Interrupted);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
}

#[test]
fn a_write_to_what_may_only_be_read_is_told_from_a_read() {
    // mov [DATA], eax; the error code of it on the processor is 7: user, write, protection.
    let mut g = guest(&*platform(), &[0x89, 0x04, 0x25, 0, 0, 0x50, 0]);
    let protect = MemoryCall::Protect { addr: DATA, len: 0x1000, prot: 1 };
    assert_eq!(g.context.memory(protect), Ok(0));
    let Exit::Fault(fault) = g.context.run(&mut g.regs) else { panic!("no fault") };
    assert_eq!((fault.signo, fault.addr, fault.error_code), (libc::SIGSEGV, DATA, 7));
}
