//! Runs small pieces of guest code on a real platform, without a kernel above it: what any platform must do.
//!
//! Key items: [`on_platform`], which makes tests of all of it for one platform, and [`guest`] for tests of a platform's own.

use std::sync::Arc;
use std::time::Duration;

use linux_abi::{Errno, Registers};

use crate::api::{AddressSpace, Context, Exit, MemoryCall, Platform, Template, ThreadCall};
use crate::death::Death;

/// Where a guest's code lies.
pub const CODE: u64 = 0x40_0000;
/// Where its data lies, one page.
pub const DATA: u64 = 0x50_0000;
/// `L: mov eax, 1000; syscall; jmp L`
pub const LOOP: &[u8] = &[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7];

/// Tests of one platform: all functions of this file.
macro_rules! on_platform {
    ($platform:expr) => {
        crate::guest_tests::on_platform! { $platform;
            a_call_arrives_with_its_arguments_and_its_result_goes_back
            a_wild_read_is_a_fault_with_its_address
            a_loop_is_interrupted_and_goes_on
            a_fork_copies_memory_and_a_thread_shares_it
            a_killed_stub_is_seen_by_the_thread_that_waits_for_it
            extended_state_survives_calls_and_forks
            a_file_is_mapped_by_a_descriptor_that_the_stub_does_not_keep
            an_interrupt_before_the_guest_runs_is_not_lost
            a_futex_wait_on_order_ends_by_waking_and_by_death
            a_fork_beside_a_mapping_copies_no_descriptor
            a_child_that_its_parent_denies_is_ended
            a_death_by_the_host_has_a_reason_and_one_by_order_has_none
            a_futex_wait_of_a_trapped_thread_does_not_sleep_where_no_interrupt_reaches
            a_thread_runs_on_another_thread_of_ours_than_the_one_that_made_it
            a_kill_by_the_host_is_told_from_one_of_ours
            flags_and_the_thread_pointer_survive_orders
            memory_of_a_killed_stub_is_not_given_out_while_it_still_dies
        }
    };
    ($platform:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                crate::guest_tests::$name(&*$platform);
            }
        )*
    };
}
pub(crate) use on_platform;

/// A guest with a page of code and a page of data.
pub struct Guest {
    pub space: Arc<dyn AddressSpace>,
    pub context: Box<dyn Context>,
    pub regs: Registers,
    _template: Arc<dyn Template>,
}

/// Loads `code` into a new guest.
pub fn guest(platform: &dyn Platform, code: &[u8]) -> Guest {
    guest_of(&platform.new_template().expect("template"), code)
}

/// Loads `code` into a new guest from a template.
fn guest_of(template: &Arc<dyn Template>, code: &[u8]) -> Guest {
    let template = Arc::clone(template);
    let (space, mut context) = template.spawn().expect("spawn");
    let map = |addr, prot| MemoryCall::MapAnonymous { addr, len: 0x1000, prot, extra_flags: 0 };
    assert_eq!(context.memory(map(CODE, 3)), Ok(CODE));
    assert_eq!(context.memory(map(DATA, 3)), Ok(DATA));
    assert_eq!(space.write(CODE, code), code.len());
    assert_eq!(context.memory(MemoryCall::Protect { addr: CODE, len: 0x1000, prot: 5 }), Ok(0));
    let regs = Registers { rip: CODE, rsp: DATA + 0x1000, ..Registers::default() };
    Guest { space, context, regs, _template: template }
}

pub fn a_call_arrives_with_its_arguments_and_its_result_goes_back(platform: &dyn Platform) {
    // mov eax, 1000; mov edi, 7; syscall; mov rbx, rax; mov eax, 1001; syscall
    let mut g = guest(
        platform,
        &[0xb8, 0xe8, 3, 0, 0, 0xbf, 7, 0, 0, 0, 0x0f, 5, 0x48, 0x89, 0xc3, 0xb8, 0xe9, 3, 0, 0, 0x0f, 5],
    );
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rdi, g.regs.rip), (1000, 7, CODE + 12));
    g.regs.rax = 42;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.orig_rax, g.regs.rbx), (1001, 42));
}

pub fn a_wild_read_is_a_fault_with_its_address(platform: &dyn Platform) {
    // mov rax, [0x123456]
    let mut g = guest(platform, &[0x48, 0x8b, 0x04, 0x25, 0x56, 0x34, 0x12, 0]);
    let Exit::Fault(fault) = g.context.run(&mut g.regs) else { panic!("no fault") };
    assert_eq!((fault.signo, fault.addr, fault.trapno), (libc::SIGSEGV, 0x12_3456, 14));
    assert_eq!(g.regs.rip, CODE);
}

pub fn a_loop_is_interrupted_and_goes_on(platform: &dyn Platform) {
    // inc rbx; jmp -5
    let mut g = guest(platform, &[0x48, 0xff, 0xc3, 0xeb, 0xfb]);
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

pub fn a_fork_copies_memory_and_a_thread_shares_it(platform: &dyn Platform) {
    let mut g = guest(platform, &[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
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

pub fn a_killed_stub_is_seen_by_the_thread_that_waits_for_it(platform: &dyn Platform) {
    let mut g = guest(platform, &[0xeb, 0xfe]); // jmp to itself
    let space = Arc::clone(&g.space);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        space.kill();
    });
    assert_eq!(g.context.run(&mut g.regs), Exit::Died);
    thread.join().expect("killer");
    assert!(!g.space.killed_by_host());
}

pub fn extended_state_survives_calls_and_forks(platform: &dyn Platform) {
    // movq xmm5, rbx; L: mov eax, 1000; syscall; movq rbx, xmm5; jmp L
    let code = [
        0x66, 0x48, 0x0f, 0x6e, 0xeb, 0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0x66, 0x48, 0x0f, 0x7e, 0xeb, 0xeb, 0xf2,
    ];
    let mut g = guest(platform, &code);
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

pub fn a_file_is_mapped_by_a_descriptor_that_the_stub_does_not_keep(platform: &dyn Platform) {
    let mut g = guest(platform, &[0xb8, 0xe8, 3, 0, 0, 0x0f, 5, 0xeb, 0xf7]);
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

pub fn an_interrupt_before_the_guest_runs_is_not_lost(platform: &dyn Platform) {
    let mut g = guest(platform, LOOP);
    g.context.interrupter().interrupt();
    assert_eq!(g.context.run(&mut g.regs), Exit::Interrupted);
    assert_eq!(g.regs.rip, CODE);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    // One that comes while the kernel serves a call ends the next run, and the call is not lost.
    g.context.interrupter().interrupt();
    assert_eq!(g.context.run(&mut g.regs), Exit::Interrupted);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
}

pub fn a_futex_wait_on_order_ends_by_waking_and_by_death(platform: &dyn Platform) {
    let mut g = guest(platform, LOOP);
    let wait = ThreadCall::Futex { args: [DATA, 0, 0, 0, 0, 0], deadline_ns: None };
    let changed = ThreadCall::Futex { args: [DATA, 0, 1, 0, 0, 0], deadline_ns: None };
    assert_eq!(g.context.thread_call(changed), Err(Errno::EAGAIN));

    let mut waker = g.context.clone_thread().expect("thread");
    let thread = std::thread::spawn(move || {
        let wake = ThreadCall::FutexWake { addr: DATA, count: 1, private: false };
        while waker.thread_call(wake) == Ok(0) {
            std::thread::sleep(Duration::from_millis(1));
        }
        waker.exit();
    });
    assert_eq!(g.context.thread_call(wait), Ok(0));
    thread.join().expect("waker");

    let space = Arc::clone(&g.space);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        space.kill();
    });
    assert_eq!(g.context.thread_call(wait), Err(Errno::ESRCH));
    thread.join().expect("killer");
    assert_eq!(g.context.run(&mut g.regs), Exit::Died);
}

pub fn a_fork_beside_a_mapping_copies_no_descriptor(platform: &dyn Platform) {
    const NAME: &str = "passed-to-a-stub";
    let mut g = guest(platform, LOOP);
    let file = crate::host::file::new_memory_file(NAME).expect("memory file");
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stop, mut mapper) = (Arc::clone(&is_over), g.context.clone_thread().expect("thread"));
    let thread = std::thread::spawn(move || {
        use std::os::fd::AsFd as _;
        let mut rounds = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let (addr, file) = (0x70_0000, file.as_fd());
            let map = MemoryCall::MapFile { addr, len: 0x1000, prot: 1, shared: true, file, offset: 0 };
            assert_eq!(mapper.memory(map), Ok(addr));
            rounds += 1;
        }
        mapper.exit();
        rounds
    });
    let children: Vec<_> = (0..100).map(|_| g.context.fork().expect("fork")).collect();
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(thread.join().expect("mapper") > 10);
    let me = std::process::id().to_string();
    let processes =
        std::fs::read_dir("/proc").expect("proc").flatten().filter(|entry| entry.file_name() != *me);
    let files =
        processes.filter_map(|entry| std::fs::read_dir(entry.path().join("fd")).ok()).flatten().flatten();
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    assert_eq!(targets.filter(|target| target.to_string_lossy().contains(NAME)).count(), 0);
    drop(children);
}

pub fn a_child_that_its_parent_denies_is_ended(platform: &dyn Platform) {
    use crate::stub::layout::{AGENT_RW, agent};
    let template = platform.new_template().expect("template");
    let before = children();
    // L: mov dword ptr [rbx], 1; jmp L: gives the agent's answers a process id that cannot be.
    let mut g = guest_of(&template, &[0xc7, 0x03, 1, 0, 0, 0, 0xeb, 0xf8]);
    let mut liar = g.context.clone_thread().expect("thread");
    let regs = Registers { rbx: AGENT_RW + agent::RESULT, ..g.regs };
    let thread = std::thread::spawn(move || {
        let mut regs = regs;
        while liar.run(&mut regs) != Exit::Died {}
    });
    let mut forks = Vec::new();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let error = loop {
        assert!(std::time::Instant::now() < until, "never believed");
        match g.context.fork() {
            Ok(fork) => forks.push(fork),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, crate::api::PlatformError::Stub(_)), "{error}");
    g.space.kill();
    thread.join().expect("liar");
    drop((forks, g));
    wait_for_reaper(|| children() == before);
}

/// Stubs of this process.
fn children() -> usize {
    let me = std::process::id().to_string();
    let parent_of = |stat: String| stat.rsplit_once(')')?.1.split_whitespace().nth(1).map(str::to_owned);
    let stats = std::fs::read_dir("/proc").expect("proc").flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(parent_of).filter(|parent| *parent == me).count()
}

pub fn a_death_by_the_host_has_a_reason_and_one_by_order_has_none(platform: &dyn Platform) {
    let mut g = guest(platform, LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.space.death(), None);
    rustix::process::kill_process(victim_of(&g), rustix::process::Signal::KILL).expect("kill");
    while g.context.run(&mut g.regs) != Exit::Died {}
    wait_for_reaper(|| g.space.death() == Some(Death::Signal(libc::SIGKILL)));

    let mut g = guest(platform, LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    g.space.kill();
    while g.context.run(&mut g.regs) != Exit::Died {}
    wait_for_reaper(|| g.space.has_died());
    assert_eq!(g.space.death(), None);
}

/// The thread that reaps may be a moment late.
fn wait_for_reaper(is_so: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while !is_so() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(is_so());
}

pub fn a_futex_wait_of_a_trapped_thread_does_not_sleep_where_no_interrupt_reaches(platform: &dyn Platform) {
    let mut g = guest(platform, LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let interrupter = g.context.interrupter();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        interrupter.interrupt();
    });
    let end = g.context.thread_call(ThreadCall::Futex { args: [DATA, 0, 0, 0, 0, 0], deadline_ns: None });
    assert!(matches!(end, Err(Errno::EINTR | Errno::ERESTARTNOINTR)), "{end:?}");
    thread.join().expect("interrupter");
}

pub fn a_thread_runs_on_another_thread_of_ours_than_the_one_that_made_it(platform: &dyn Platform) {
    let mut g = guest(platform, LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let mut context = g.context.clone_thread().expect("thread");
            let page = 0x70_0000 + n * 0x1000;
            let map = MemoryCall::MapAnonymous { addr: page, len: 0x1000, prot: 3, extra_flags: 0 };
            assert_eq!(context.memory(map), Ok(page));
            let mut regs = g.regs;
            std::thread::spawn(move || {
                for round in 0..50 {
                    regs.rdi = round;
                    assert_eq!(context.run(&mut regs), Exit::Syscall);
                    assert_eq!(regs.rdi, round);
                    let protect = MemoryCall::Protect { addr: page, len: 0x1000, prot: 1 };
                    assert_eq!(context.memory(protect), Ok(0));
                }
                context.exit();
            })
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    }
    for thread in threads {
        thread.join().expect("a guest thread");
    }
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
}

pub fn a_kill_by_the_host_is_told_from_one_of_ours(platform: &dyn Platform) {
    let mut g = guest(platform, LOOP);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    let victim = victim_of(&g);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        rustix::process::kill_process(victim, rustix::process::Signal::KILL).expect("kill");
    });
    while g.context.run(&mut g.regs) != Exit::Died {}
    thread.join().expect("killer");
    wait_for_reaper(|| g.space.killed_by_host());
}

/// The stub's host process: the youngest child of ours that has `g`'s data.
fn victim_of(g: &Guest) -> rustix::process::Pid {
    let mark = (std::process::id(), std::time::Instant::now());
    let mark = format!("{mark:?}");
    assert_eq!(g.space.write(DATA, mark.as_bytes()), mark.len());
    let has_mark = |&pid: &i32| {
        let mut seen = vec![0; mark.len()];
        crate::sys::read_process(pid, DATA, &mut seen) == seen.len() && seen == mark.as_bytes()
    };
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(has_mark).and_then(rustix::process::Pid::from_raw).expect("the stub")
}

pub fn flags_and_the_thread_pointer_survive_orders(platform: &dyn Platform) {
    let mut g = guest(platform, LOOP);
    g.regs.rflags = 0x202 | 1 | 0x400;
    g.regs.fs_base = DATA + 16;
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.rflags & 0x401, 0x401);
    let protect = MemoryCall::Protect { addr: DATA, len: 0x1000, prot: 3 };
    assert_eq!(g.context.memory(protect), Ok(0));
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!((g.regs.rflags & 0x401, g.regs.fs_base), (0x401, DATA + 16));
}

pub fn memory_of_a_killed_stub_is_not_given_out_while_it_still_dies(platform: &dyn Platform) {
    // One that dies takes the wake-up that is meant for the next: then this takes a minute and fails.
    for _ in 0..100 {
        let mut g = guest(platform, LOOP);
        assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    }
}
