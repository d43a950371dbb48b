//! What every process of ours may do: run threads, lock, allocate, take signals, read clocks, end.
//!
//! None of it names a file, a socket or another process, and nothing here makes memory executable.

use super::{is, one_of, only_bits, only_int_bits};
use crate::bpf::{Cond, Test};
use crate::rule::{Door, Rule};

/// `CLONE_*` bits that the C library's `pthread_create` always sets; a process (no `CLONE_THREAD`) lacks them.
const THREAD: u64 = 0x0000_0100 | 0x0000_0200 | 0x0000_0400 | 0x0000_0800 | 0x0001_0000;
/// `CLONE_NEW*`, `CLONE_PTRACE`, `CLONE_VFORK`, `CLONE_PARENT`, `CLONE_INTO_CGROUP`: never with a thread.
const NEVER: u64 = 0x7e02_0000 | 0x2000 | 0x4000 | 0x8000 | 0x80 | 0x2_0000_0000;

/// Threads, locks, signals, clocks, the end.
pub(super) fn runtime() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Runtime, why);
    vec![
        rule(libc::SYS_futex, "futex", "locks and thread joins; the priority and requeue forms are left out")
            .when([futex_operation()]),
        rule(
            libc::SYS_clone,
            "clone",
            "start a thread of this process; a new process or namespace is not one",
        )
        .when([Cond::long(0, Test::Masked { mask: THREAD | NEVER, value: THREAD })]),
        rule(
            libc::SYS_clone3,
            "clone3",
            "its flags lie in memory, out of a filter's sight: the C library falls back to clone",
        )
        .refuse(libc::ENOSYS),
        rule(
            libc::SYS_set_robust_list,
            "set_robust_list",
            "the C library, at the start of each thread; it does not look at the answer, and we share no robust locks",
        )
        .refuse(libc::ENOSYS),
        rule(libc::SYS_rseq, "rseq", "the C library, at the start of each thread"),
        rule(
            libc::SYS_sigaltstack,
            "sigaltstack",
            "the standard library's message about a stack that overflowed; without it the thread dies with none",
        )
        .refuse(libc::ENOSYS),
        rule(
            libc::SYS_rt_sigprocmask,
            "rt_sigprocmask",
            "around thread creation and for signalfd-free signal handling",
        ),
        rule(libc::SYS_rt_sigaction, "rt_sigaction", "handlers of our own process only"),
        rule(libc::SYS_rt_sigreturn, "rt_sigreturn", "the way out of a signal handler"),
        rule(
            libc::SYS_restart_syscall,
            "restart_syscall",
            "the kernel's own way back into an interrupted sleep",
        ),
        rule(
            libc::SYS_sched_yield,
            "sched_yield",
            "channels of the standard library spin with it for a moment before they sleep, and can do without",
        )
        .refuse(libc::ENOSYS),
        rule(
            libc::SYS_sched_getaffinity,
            "sched_getaffinity",
            "how many processors there are: asked before the filter, and guessed by the C library after it",
        )
        .refuse(libc::EPERM),
        rule(libc::SYS_gettid, "gettid", "name this thread to others of ours; tells nothing secret"),
        rule(libc::SYS_getpid, "getpid", "abort(3) and pidfds of our own threads"),
        rule(libc::SYS_prctl, "prctl", "name a thread, for the operator's tools")
            .when([is(0, libc::PR_SET_NAME)]),
        rule(libc::SYS_getrandom, "getrandom", "seeds of hash maps, and randomness that guests ask for")
            .when([only_int_bits(2, 7)]),
        rule(libc::SYS_clock_gettime, "clock_gettime", "clocks, where the vDSO cannot answer"),
        rule(libc::SYS_exit, "exit", "end of a thread"),
        rule(libc::SYS_exit_group, "exit_group", "end of the process"),
    ]
}

/// The allocator's calls and mappings of descriptors that we hold; never executable.
pub(super) fn memory() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Memory, why);
    let readable = u64::try_from(libc::PROT_READ | libc::PROT_WRITE).expect("bits");
    let kinds = libc::MAP_SHARED_VALIDATE
        | libc::MAP_PRIVATE
        | libc::MAP_FIXED
        | libc::MAP_ANONYMOUS
        | libc::MAP_NORESERVE
        | libc::MAP_POPULATE
        | libc::MAP_STACK
        | libc::MAP_FIXED_NOREPLACE;
    vec![
        rule(
            libc::SYS_mmap,
            "mmap",
            "the allocator, thread stacks, shared pages with stubs; never executable",
        )
        .when([only_bits(2, readable), only_bits(3, u64::try_from(kinds).expect("bits"))]),
        rule(libc::SYS_munmap, "munmap", "give back what mmap gave"),
        rule(libc::SYS_mprotect, "mprotect", "guard pages and heap growth; never executable")
            .when([only_bits(2, readable)]),
        rule(
            libc::SYS_mremap,
            "mremap",
            "the allocator tries it for large blocks, and copies them where it fails",
        )
        .refuse(libc::ENOMEM),
        rule(libc::SYS_madvise, "madvise", "give pages back, keep pages out of dumps").when([one_of(
            2,
            &[
                libc::MADV_NORMAL,
                libc::MADV_WILLNEED,
                libc::MADV_DONTNEED,
                libc::MADV_FREE,
                libc::MADV_DONTFORK,
                libc::MADV_HUGEPAGE,
                libc::MADV_NOHUGEPAGE,
                libc::MADV_DONTDUMP,
            ],
        )]),
        rule(libc::SYS_brk, "brk", "the allocator's oldest way to grow"),
    ]
}

fn futex_operation() -> Cond {
    let plain = [libc::FUTEX_WAIT, libc::FUTEX_WAKE, libc::FUTEX_WAIT_BITSET, libc::FUTEX_WAKE_BITSET];
    // pthread_join waits on a word that the kernel clears, so not privately.
    let realtime = libc::FUTEX_CLOCK_REALTIME;
    let flags = [0, libc::FUTEX_PRIVATE_FLAG, realtime, libc::FUTEX_PRIVATE_FLAG | realtime];
    let all: Vec<i32> = plain.iter().flat_map(|op| flags.map(|flag| op | flag)).collect();
    one_of(1, &all)
}
