//! How does the first stub come to be? By one fork of the sentry, while it is still single-threaded.
//!
//! Key function: [`fork_first`]. The child maps the stub's code and its agent's pages, sets its signal handlers, and jumps into the
//! stub's code, which unmaps all that was the sentry's but the host's vDSO, and enters its filter. Every other stub is forked from it,
//! or from one of its descendants.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, sock_filter};

use super::agent::Agent;
use super::arena::Arena;
use super::blob::Blob;
use super::filter::{self, Natives};
use super::layout::{AGENT_RO, AGENT_RW, ARENA_FD, CODE_MAX, SOCKET_FD, STUB_BASE, STUB_END};
use crate::api::PlatformError;

/// Pages looked at on each side of the vDSO image for what belongs to it (its data, and the rest of its code).
const VDSO_SPAN_MAX: u64 = 16;

/// Where the filters lie in a stub: behind the code, readable, not writable.
#[derive(Debug, Clone, Copy)]
pub struct Filters {
    /// Address and number of instructions of the guest threads' filter.
    pub guest: (u64, u16),
    /// The same of the agent's.
    pub agent: (u64, u16),
}

/// The first stub.
#[derive(Debug)]
pub struct First {
    /// Its process id.
    pub pid: i32,
    /// Its agent.
    pub agent: Agent,
    /// Filters for threads to come.
    pub filters: Filters,
    /// Address of the host's vDSO image, 0 if there is none.
    pub vdso: u64,
}

fn host(what: &'static str) -> impl Fn(io::Error) -> PlatformError {
    move |source| PlatformError::Host { what, source }
}

fn filter_bytes(program: &[sock_filter]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_le_bytes());
        bytes.push(instruction.jt);
        bytes.push(instruction.jf);
        bytes.extend_from_slice(&instruction.k.to_le_bytes());
    }
    bytes
}

/// What holds guest threads back.
#[derive(Debug, Clone, Copy)]
pub enum Wall<'a> {
    /// A filter of their own.
    Filter(Natives),
    /// A tracer; files to be mapped come through this socket.
    Tracer(BorrowedFd<'a>),
}

/// Code and filters as they are to lie at [`STUB_BASE`].
fn image(wall: Wall<'_>) -> (Vec<u8>, Filters) {
    let mut bytes = Blob::get().bytes.clone();
    let mut put = |program: &[sock_filter]| {
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let at = STUB_BASE + bytes.len() as u64;
        bytes.extend_from_slice(&filter_bytes(program));
        (at, u16::try_from(program.len()).expect("the compiler limits programs"))
    };
    let (guest, agent) = match wall {
        Wall::Filter(natives) => (put(&filter::guest(natives)), put(&filter::agent())),
        Wall::Tracer(_) => ((0, 0), put(&filter::traced_agent())),
    };
    assert!(bytes.len() as u64 <= CODE_MAX, "code and filters fit");
    (bytes, Filters { guest, agent })
}

/// The page at `addr` is mapped.
fn is_mapped(addr: u64) -> bool {
    let mut answer = 0_u8;
    // SAFETY: mincore looks at the page tables only; the answer for one page is one byte.
    unsafe { libc::mincore(addr as *mut c_void, 4096, &raw mut answer) == 0 }
}

/// The mapped pages around the vDSO image: its code, and the data pages that the kernel puts before it.
fn vdso_range() -> (u64, u64, u64) {
    // SAFETY: reads the auxiliary vector.
    let image = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    if image == 0 {
        return (0, 0, 0);
    }
    let (mut start, mut end) = (image, image);
    while image - start < VDSO_SPAN_MAX * 4096 && is_mapped(start - 4096) {
        start -= 4096;
    }
    while end - image < VDSO_SPAN_MAX * 4096 && is_mapped(end) {
        end += 4096;
    }
    (image, start, end)
}

/// What the child needs, all made before the fork: it may not allocate.
struct Plan {
    code: Vec<u8>,
    arena: c_int,
    socket: Option<c_int>,
    ro_offset: i64,
    rw_offset: i64,
    entry: u64,
}

/// Forks the first stub. The caller is single-threaded and not yet under a filter.
///
/// # Errors
/// When the host refuses.
pub fn fork_first(arena: &std::sync::Arc<Arena>, wall: Wall<'_>) -> Result<First, PlatformError> {
    let (code, filters) = image(wall);
    let window = arena.allocate().ok_or(PlatformError::Limit("arena"))?;
    let agent = Agent::new(window);
    let (ro, rw) = agent.offsets();
    let (vdso, vdso_start, vdso_end) = vdso_range();
    write_list(&agent, &filters, vdso_start, vdso_end);
    let plan = Plan {
        code,
        arena: arena.fd().as_raw_fd(),
        socket: match wall {
            Wall::Filter(_) => None,
            Wall::Tracer(socket) => Some(socket.as_raw_fd()),
        },
        ro_offset: i64::try_from(ro).expect("small"),
        rw_offset: i64::try_from(rw).expect("small"),
        entry: Blob::get().template,
    };
    // SAFETY: single-threaded, so the child may run ordinary code; it runs `be_stub` and never comes back.
    match unsafe { libc::fork() } {
        -1 => Err(host("fork the first stub")(io::Error::last_os_error())),
        0 => be_stub(&plan),
        pid => Ok(First { pid, agent, filters, vdso }),
    }
}

/// Writes what is to be unmapped, and the agent's filter, to the answer page: the child reads it before any guest runs.
fn write_list(agent: &Agent, filters: &Filters, vdso_start: u64, vdso_end: u64) {
    const TOP: u64 = linux_abi::TASK_SIZE;
    let mut ranges = vec![(0, STUB_BASE)];
    if vdso_start == 0 {
        ranges.push((STUB_END, TOP - STUB_END));
    } else {
        ranges.push((STUB_END, vdso_start - STUB_END));
        ranges.push((vdso_end, TOP - vdso_end));
    }
    ranges.push((0, 0));
    let window = agent.window();
    let mut at = 0x1000 + 0x100;
    for (start, len) in ranges {
        window.set64(at, start);
        window.set64(at + 8, len);
        at += 16;
    }
    window.set64(at, u64::from(filters.agent.1));
    window.set64(at + 8, filters.agent.0);
}

/// In the child: turns into the first stub. Any failure ends it; the sentry sees that.
fn be_stub(plan: &Plan) -> ! {
    let done = prepare(plan);
    if done.is_some() {
        // SAFETY: the code at `entry` has been mapped by `prepare`; it never returns here, and nothing of ours is used any more.
        unsafe {
            std::arch::asm!(
                "jmp {entry}",
                entry = in(reg) plan.entry,
                in("r12") AGENT_RO,
                in("r13") AGENT_RW,
                in("rsi") AGENT_RW + 0x100,
                options(noreturn)
            );
        }
    }
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(1) }
}

fn prepare(plan: &Plan) -> Option<()> {
    map_pages(plan)?;
    set_handlers()?;
    keep_descriptors(plan)?;
    // SAFETY: plain numbers in.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
        return None;
    }
    // SAFETY: plain numbers in. Signals stay blocked in agents; guest threads unblock their own.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives across both calls.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
    // Guests' initial rseq area would be ours otherwise: glibc has registered one for this thread.
    unregister_rseq();
    // Rewriting code needs it later. All stubs inherit it; with more threads it would take the host milliseconds.
    // A host without it refuses then, too, and nothing is rewritten while several threads run.
    // SAFETY: plain numbers in.
    unsafe {
        libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)
    };
    Some(())
}

/// Puts the arena, and the socket if there is one, at their numbers, and closes all others.
fn keep_descriptors(plan: &Plan) -> Option<()> {
    /// Above all numbers that are given out below.
    const ASIDE: c_int = 16;
    let arena = c_int::try_from(ARENA_FD).ok()?;
    // SAFETY: descriptors of the child only, here and below.
    let socket = plan.socket.map(|socket| unsafe { libc::fcntl(socket, libc::F_DUPFD, ASIDE) });
    put_at(plan.arena, arena)?;
    let mut last = arena;
    if let Some(socket) = socket {
        last = c_int::try_from(SOCKET_FD).ok()?;
        put_at(socket, last)?;
    }
    for low in 0..arena {
        // SAFETY: as above.
        unsafe { libc::close(low) };
    }
    // SAFETY: plain numbers in.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, last + 1, u32::MAX, 0) };
    (closed >= 0).then_some(())
}

fn put_at(fd: c_int, number: c_int) -> Option<()> {
    // SAFETY: descriptors of the child only.
    if fd != number && unsafe { libc::dup2(fd, number) } < 0 {
        return None;
    }
    // SAFETY: as above.
    (unsafe { libc::fcntl(number, libc::F_SETFD, 0) } >= 0).then_some(())
}

fn unregister_rseq() {
    unsafe extern "C" {
        static __rseq_offset: isize;
        static __rseq_size: u32;
    }
    // SAFETY: constants of the C library.
    let (offset, size) = unsafe { (__rseq_offset, __rseq_size) };
    let thread: *const u8;
    // SAFETY: the thread pointer's first word is its own address on x86-64.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly)) };
    let area = thread.wrapping_offset(offset);
    for len in [size.max(32), 32] {
        // SAFETY: the kernel refuses what does not match the registration.
        let result = unsafe { libc::syscall(libc::SYS_rseq, area, len, 1, 0x5305_3053) };
        if result == 0 {
            return;
        }
    }
}

fn map_pages(plan: &Plan) -> Option<()> {
    let fixed = libc::MAP_FIXED_NOREPLACE;
    let code = STUB_BASE as *mut c_void;
    let room = usize::try_from(CODE_MAX).ok()?;
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping at a place where nothing is.
    let mapped =
        unsafe { libc::mmap(code, room, rw, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed, -1, 0) };
    if mapped != code {
        return None;
    }
    // SAFETY: just mapped, and large enough: `image` has checked.
    unsafe { std::ptr::copy_nonoverlapping(plan.code.as_ptr(), code.cast::<u8>(), plan.code.len()) };
    // SAFETY: our own fresh mapping.
    if unsafe { libc::mprotect(code, room, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
        return None;
    }
    for (addr, prot, offset) in [(AGENT_RO, libc::PROT_READ, plan.ro_offset), (AGENT_RW, rw, plan.rw_offset)]
    {
        let addr = addr as *mut c_void;
        // SAFETY: a fresh mapping at a place where nothing is.
        let mapped = unsafe { libc::mmap(addr, 4096, prot, libc::MAP_SHARED | fixed, plan.arena, offset) };
        if mapped != addr {
            return None;
        }
    }
    Some(())
}

/// `struct kernel_sigaction` of x86-64: the C library's own would put its own restorer in.
#[repr(C)]
struct KernelSigaction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

fn set_handlers() -> Option<()> {
    const SA_RESTORER: u64 = 0x0400_0000;
    let blob = Blob::get();
    let flags =
        u64::from((libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER).cast_unsigned()) | SA_RESTORER;
    let mask = 1_u64 << (libc::SIGURG - 1);
    let signals =
        [libc::SIGSYS, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGURG];
    for signal in signals {
        let action = KernelSigaction { handler: blob.signal, flags, restorer: blob.restorer, mask };
        let none = std::ptr::null_mut::<KernelSigaction>();
        // SAFETY: the structure is the kernel's; the handler is only run by guest threads, long after the jump.
        if unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, none, 8) } != 0 {
            return None;
        }
    }
    // Everything else of the sentry's dispositions must not be inherited.
    let default = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    for signal in 1..=64 {
        if !signals.contains(&signal) && signal != libc::SIGKILL && signal != libc::SIGSTOP {
            let none = std::ptr::null_mut::<KernelSigaction>();
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, 8) };
        }
    }
    Some(())
}
