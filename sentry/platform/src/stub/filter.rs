//! What may a stub ask of the host? Two seccomp programs: one for every thread, one more for guest threads.
//!
//! Key functions: [`agent`] (inherited by all threads of all stubs) and [`guest`] (stacked on top, with a listener).
//!
//! Guest code can jump to any instruction of the stub, so every call that [`guest`] lets through must be harmless
//! with arguments of the guest's choice, wherever it comes from. The instruction pointer is looked at only so that a *well-behaved* guest's
//! calls reach the sentry; it is no boundary. See `docs/THREAT-MODEL.md`, "guest to host".

use libc::sock_filter;
use linux_abi::mm::madv;
use linux_abi::nr;
use seccomp::bpf::{Action, Cond, Program, Test};

use super::layout::{CALL_MAX, GUARD_START, NOTIFY_NR, STUB_BASE, STUB_END};

/// What guest threads may do natively besides memory calls; see `control::Tuning`.
#[derive(Debug, Clone, Copy)]
pub struct Natives {
    /// Those futex calls that [`is_host_futex`] names; waits only from the stub's code, where the platform knows an interrupted one again.
    pub futex: bool,
    /// `sched_yield` and reading clocks.
    pub clock: bool,
}

/// `CLOCK_PROCESS_CPUTIME_ID`.
pub const PROCESS_CLOCK: u64 = 2;
/// `CLOCK_THREAD_CPUTIME_ID`.
pub const THREAD_CLOCK: u64 = 3;
/// Third argument, which the host does not look at, of a `clock_gettime` on the sentry's order. A guest that passes it learns what
/// its own host thread has used.
pub const ORDERED: u64 = 0x7276_6973_6f72;

fn number(number: u64) -> u32 {
    u32::try_from(number).expect("call numbers are small")
}

/// The filter of the agent, inherited by every thread. What it lets through is what agents and stub code use.
#[must_use]
pub fn agent() -> Vec<sock_filter> {
    agent_with(&[])
}

/// The same for stubs under a tracer, whose threads fetch descriptors to be mapped out of a socket. Safe to allow: guest code
/// runs under `PTRACE_SYSEMU` only, so no call of its own reaches the host, and the only sockets are our own.
#[must_use]
pub fn traced_agent() -> Vec<sock_filter> {
    agent_with(&[nr::RECVMSG])
}

fn agent_with(more: &[u64]) -> Vec<sock_filter> {
    let calls = [
        nr::MMAP,
        nr::MUNMAP,
        nr::MPROTECT,
        nr::MREMAP,
        nr::MADVISE,
        nr::MSYNC,
        nr::MINCORE,
        nr::CLONE,
        nr::FUTEX,
        nr::SECCOMP,
        nr::RT_SIGRETURN,
        nr::RT_SIGPROCMASK,
        nr::SIGALTSTACK,
        nr::CLOSE,
        nr::EXIT,
        nr::EXIT_GROUP,
        nr::RSEQ,
        nr::MEMBARRIER,
        nr::SCHED_YIELD,
        nr::CLOCK_GETTIME,
        nr::GETTIMEOFDAY,
        nr::TIME,
        nr::GETCPU,
        nr::CLOCK_GETRES,
        nr::GETRUSAGE,
        NOTIFY_NR,
        nr::RESTART_SYSCALL,
    ];
    let mut program = Program::new(Action::Trap(0)).foreign(Action::Trap(0));
    for call in calls.iter().chain(more) {
        let conditions: &[Cond] = match *call {
            nr::FUTEX => &[futexes(&HOST_FUTEXES)],
            nr::MADVISE => &[advices()],
            nr::MREMAP => &[remap_flags()],
            _ => &[],
        };
        program = program.rule(number(*call), conditions, Action::Allow);
    }
    program.compile()
}

/// What [`nr::MADVISE`] may advise. Not in the list: what merges pages, which tells by its time what others have in theirs (MERGEABLE);
/// what breaks pages for all (HWPOISON, SOFT_OFFLINE); what rebuilds page tables at once (COLLAPSE); and whatever is new.
const ADVICES: [u32; 18] = [
    madv::NORMAL,
    madv::RANDOM,
    madv::SEQUENTIAL,
    madv::WILLNEED,
    madv::DONTNEED,
    madv::FREE,
    madv::REMOVE,
    madv::DONTFORK,
    madv::DOFORK,
    madv::HUGEPAGE,
    madv::NOHUGEPAGE,
    madv::WIPEONFORK,
    madv::KEEPONFORK,
    madv::COLD,
    madv::PAGEOUT,
    madv::POPULATE_READ,
    madv::POPULATE_WRITE,
    madv::DONTNEED_LOCKED,
];

fn advices() -> Cond {
    Cond::int(2, Test::In(ADVICES.to_vec()))
}

/// The host hears of this advice if a guest gives it.
#[must_use]
pub fn is_host_advice(advice: u32) -> bool {
    ADVICES.contains(&advice)
}

/// What the sentry orders: in place, or `MREMAP_MAYMOVE | MREMAP_FIXED`, also with `MREMAP_DONTUNMAP`. The host never chooses a place.
fn remap_flags() -> Cond {
    Cond::long(3, Test::In(vec![0, 3, 7]))
}

/// `addr..addr + len` cannot touch the stub region: it starts outside the guarded range and is no longer than the guard.
fn guest_range(addr: u8, len: u8) -> [Vec<Cond>; 2] {
    let short = Cond::long(len, Test::Le(CALL_MAX));
    let below = Cond::long(addr, Test::Lt(GUARD_START));
    let above = Cond::long(addr, Test::Ge(STUB_END));
    [vec![below, short.clone()], vec![above, short]]
}

fn from_stub() -> [Cond; 2] {
    [Cond::ip(Test::Ge(STUB_BASE)), Cond::ip(Test::Lt(STUB_END))]
}

/// Adds `call` with each of `ranges`, only from the stub's code.
fn memory_rule(mut program: Program, call: u64, ranges: &[Vec<Cond>], more: &[Cond]) -> Program {
    for range in ranges {
        let conditions: Vec<Cond> =
            from_stub().into_iter().chain(range.iter().cloned()).chain(more.iter().cloned()).collect();
        program = program.rule(number(call), &conditions, Action::Allow);
    }
    program
}

/// The filter of guest threads. Its listener is the sentry thread's.
#[must_use]
pub fn guest(natives: Natives) -> Vec<sock_filter> {
    let mut program = Program::new(Action::Trap(0)).foreign(Action::Trap(0)).first(number(NOTIFY_NR));
    program = program.rule(number(NOTIFY_NR), &[], Action::UserNotif);

    // Anonymous private memory at a fixed place of the guest's own: as harmless as touching it.
    // Nothing that grows by itself: what grows, the sentry grows at the fault.
    let plain = u64::from((libc::MAP_NORESERVE | libc::MAP_STACK | libc::MAP_POPULATE).cast_unsigned());
    let fixed = u64::from((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED).cast_unsigned());
    let anonymous = [Cond::long(3, Test::Masked { mask: !plain, value: fixed }), protections()];
    program = memory_rule(program, nr::MMAP, &guest_range(0, 1), &anonymous);
    // Anything else that the stub maps, the sentry looks at: it alone can pass the descriptor.
    program = program.rule(number(nr::MMAP), &from_stub(), Action::UserNotif);
    program = memory_rule(program, nr::MUNMAP, &guest_range(0, 1), &[]);
    program = memory_rule(program, nr::MPROTECT, &guest_range(0, 1), &[protections()]);
    program = memory_rule(program, nr::MADVISE, &guest_range(0, 1), &[advices()]);
    program = memory_rule(program, nr::MSYNC, &guest_range(0, 1), &[]);
    program = memory_rule(program, nr::MINCORE, &guest_range(0, 1), &[]);
    let both: Vec<Vec<Cond>> = guest_range(0, 1)
        .into_iter()
        .flat_map(|old| guest_range(4, 2).map(|new| old.iter().cloned().chain(new).collect::<Vec<_>>()))
        .collect();
    program = memory_rule(program, nr::MREMAP, &both, &[remap_flags()]);

    // `restart_syscall` is the host's own way on with a wait that a stop or the freezer has interrupted.
    for call in [nr::RT_SIGRETURN, nr::EXIT, nr::RSEQ, nr::MEMBARRIER, nr::SIGALTSTACK, nr::RESTART_SYSCALL] {
        program = program.rule(number(call), &from_stub(), Action::Allow);
    }
    // Descriptor 3, the arena, stays; it is of no use to guest threads, whose `mmap` of files asks the sentry.
    let not_the_arena = [Cond::int(0, Test::Ne(super::layout::ARENA_FD))];
    let close: Vec<Cond> = from_stub().into_iter().chain(not_the_arena).collect();
    program = program.rule(number(nr::CLOSE), &close, Action::Allow);

    // From stub code: the stub's own waking, waits, and orders. From guest code, if tuned so, what never waits.
    let from_here: Vec<Cond> = from_stub().into_iter().chain([futexes(&HOST_FUTEXES)]).collect();
    program = program.rule(number(nr::FUTEX), &from_here, Action::Allow);
    if natives.futex {
        program = program.rule(number(nr::FUTEX), &[futexes(&PROMPT_FUTEXES)], Action::Allow);
    }
    if natives.clock {
        for call in [nr::SCHED_YIELD, nr::GETTIMEOFDAY, nr::TIME] {
            program = program.rule(number(call), &[], Action::Allow);
        }
        // CPU-time clocks of other processes are negative numbers that name host ids: those go to the sentry.
        let own_clock = [Cond::int(0, Test::Le(11))];
        // A host thread may have been other guest threads before, and the kernel's part is used by the sentry: what thread and
        // process have used is ours to tell.
        let process_clock = [Cond::int(0, Test::Eq(PROCESS_CLOCK))];
        program = program.rule(number(nr::CLOCK_GETTIME), &process_clock, Action::Trap(0));
        let thread_clock = [Cond::int(0, Test::Eq(THREAD_CLOCK)), Cond::long(2, Test::Ne(ORDERED))];
        program = program.rule(number(nr::CLOCK_GETTIME), &thread_clock, Action::Trap(0));
        program = program.rule(number(nr::CLOCK_GETTIME), &own_clock, Action::Allow);
        program = program.rule(number(nr::CLOCK_GETRES), &own_clock, Action::Allow);
    }
    program.compile()
}

/// FUTEX_PRIVATE_FLAG.
const PRIVATE: u32 = 128;
/// FUTEX_CLOCK_REALTIME.
const REALTIME: u32 = 256;
/// FUTEX_WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAKE_BITSET: they never wait.
const PROMPT_FUTEXES: [u32; 5] = [1, 3, 4, 5, 10];
/// FUTEX_WAIT and FUTEX_WAIT_BITSET; the latter also with FUTEX_CLOCK_REALTIME.
const WAITS: [u32; 3] = [0, 9, 9 | REALTIME];
/// All futex operations that the host may be asked for, each with and without FUTEX_PRIVATE_FLAG. Not in the list: all that inherit
/// priorities (the word holds guest thread ids, which the host does not know), and whatever is new.
const HOST_FUTEXES: [u32; 8] = [0, 1, 3, 4, 5, 9, 10, 9 | REALTIME];

fn futexes(operations: &[u32]) -> Cond {
    let both = operations.iter().flat_map(|&operation| [operation, operation | PRIVATE]);
    Cond::int(1, Test::In(both.collect()))
}

/// The host may be asked for this futex operation.
#[must_use]
pub fn is_host_futex(operation: u32) -> bool {
    HOST_FUTEXES.contains(&(operation & !PRIVATE))
}

/// The call is a futex wait that the host may be asked for.
#[must_use]
pub fn is_futex_wait(call: u64, operation: u64) -> bool {
    /// Only the low half counts: an `int`.
    const LOW: u64 = 0xffff_ffff;
    call == nr::FUTEX && WAITS.iter().any(|wait| operation & LOW & !u64::from(PRIVATE) == u64::from(*wait))
}

/// `PROT_READ | PROT_WRITE | PROT_EXEC` at most.
fn protections() -> Cond {
    Cond::long(2, Test::Le(7))
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
