//! Where everything lies in a stub, and in the pages it shares with the sentry.
//!
//! ```text
//! STUB_BASE  +0            code and constants         read + execute, private
//!            +CODE_MAX     (nothing)
//!            AGENT_RO      the agent's orders          the guest can only read
//!            AGENT_RW      the agent's answers
//!            SLOTS_BASE    one slot of SLOT_SIZE a guest thread:
//!                            +0        orders          the guest can only read       (`ro` below)
//!                            +0x1000   hand-over page  %gs of the guest thread, until that sets its own   (`rw` below)
//!                            +0x2000   the stub's own stack
//!                            +0x3000   signal stack
//!                            +0x8000   XSAVE area
//!                            +0x10000  the bulk window: larger arguments and results
//! ```
//! Everything in a slot but its first page can be written by any guest thread of the same address space.
//!
//! Why there: sanitizers want fixed places, for shadow or to keep everybody else out, and between them they want nearly all that a
//! process has. This is what all of them leave to the program:
//!
//! ```text
//!        0 ..      7fff8000   (0000 .. 0080 but for AddressSanitizer)   programs that lie where they say, MAP_32BIT, small heaps
//!     5500 .. 5680 00000000   programs that can lie anywhere: Linux puts them at 5555 55554000 and up to 1 TiB above
//!     7e80 .. 7fff ffffffff   libraries and stacks: Linux goes down from the end, by 1 TiB and more
//! ```
//!
//! So: at the start of the middle one, below where programs go. Go's arenas (00c0 and, if refused, 01c0, .. 55c0, ..), Java's heaps
//! and what V8 reserves are elsewhere or go elsewhere.

/// Start of the stub region; nothing of the guest may lie in `GUARD_START..STUB_END`.
pub const STUB_BASE: u64 = GUARD_START + CALL_MAX;
/// End of the stub region.
pub const STUB_END: u64 = STUB_BASE + (1 << 32);
/// The filter knows ranges by start and length: so nothing of the guest may *start* here either.
pub const GUARD_START: u64 = 0x5500_0000_0000;
/// Longest range of one memory call, and length of the guard: what starts below the guard ends below the stub.
pub const CALL_MAX: u64 = 1 << 38;
/// Room for code.
pub const CODE_MAX: u64 = 0x8000;
/// The agent's orders.
pub const AGENT_RO: u64 = STUB_BASE + 0x10_0000;
/// The agent's answers.
pub const AGENT_RW: u64 = STUB_BASE + 0x10_1000;
/// First slot.
pub const SLOTS_BASE: u64 = STUB_BASE + 0x1000_0000;
/// Bytes a slot; slots lie at multiples of it.
pub const SLOT_SIZE: u64 = 0x2_0000;
/// Most guest threads of one address space.
pub const SLOTS_MAX: u64 = 8192;
/// From a slot to its hand-over page.
pub const RW: u64 = 0x1000;
/// Mapped, writable part of a slot, in bytes.
pub const RW_SIZE: u64 = SLOT_SIZE - RW;
/// From a slot to its signal stack.
pub const SIGNAL_STACK: u64 = 0x3000;
/// Bytes of the signal stack.
pub const SIGNAL_STACK_SIZE: u64 = 0x5000;
/// From a slot to its XSAVE area.
pub const XSAVE: u64 = 0x8000;
/// Bytes of the XSAVE area: all of AMX fits.
pub const XSAVE_SIZE: u64 = 0x3000;

/// From a slot to its bulk window.
pub const BULK: u64 = 0x1_0000;
/// Bytes of the bulk window. What is longer is copied by the sentry.
pub const BULK_SIZE: u64 = 0x1_0000;

/// Descriptor of the arena in every stub.
pub const ARENA_FD: u64 = 3;
/// Descriptor, in stubs under a tracer, of the socket through which files to be mapped come.
pub const SOCKET_FD: u64 = 4;
/// Descriptor number at which a file to be mapped is passed.
pub const PASSED_FD: u64 = 10;
/// The call number by which a stub thread wakes its sentry thread and sleeps: no real call has it.
pub const NOTIFY_NR: u64 = 0x7fff;

/// Signals that can be blocked: all but SIGKILL and SIGSTOP.
pub const BLOCKABLE: i64 = !(1 << 8 | 1 << 18);

/// Of a thread's futex waits that trap, the sentry sees one in this and one, a power of two together.
pub const FUTEX_UNSEEN: u32 = 15;
/// A spin in vain before a futex wait costs the thread the next `2^n` ones, `n` growing up to this.
pub const FUTEX_FAILURES_MAX: u32 = 10;

/// Offsets in the order page of a guest thread.
pub mod ro {
    #![expect(missing_docs, reason = "named as the fields are used in the stub's code")]
    pub const ORDER: u64 = 0x00;
    pub const MODE: u64 = 0x04;
    pub const SPIN: u64 = 0x08;
    pub const FLAGS: u64 = 0x0c;
    pub const CALL_NR: u64 = 0x10;
    pub const CALL_ARGS: u64 = 0x18;
    pub const FS_BASE: u64 = 0x48;
    pub const IDENTITY: u64 = 0x50;
    pub const SIGSET: u64 = 0x70;
    pub const SIGALTSTACK: u64 = 0x78;
    pub const FPROG: u64 = 0x90;
    pub const PREFETCH: u64 = 0xa0;
    pub const WRITES: u64 = 0xa4;
    pub const START_FLAGS: u64 = 0xa8;
    pub const STEPS: u64 = 0xd0;
    pub const BULK_LIMIT: u64 = 0xac;
    pub const FUTEX_ROUNDS: u64 = 0xd8;
    /// Futex waits are the host's: one that has trapped goes where a rewritten site would have gone.
    pub const FUTEX_NATIVE: u64 = 0xe0;
    pub const GS_BASE: u64 = 0xe8;
    /// `struct timespec`: the time limit of a futex wait that is made on order.
    pub const LIMIT: u64 = 0xf0;
    /// A signal waits for the thread or its process, blocked or not.
    pub const SIGNALS_WAIT: u64 = 0xdc;
    pub const WRITE_DATA: u64 = 0x100;
    pub const WRITE_DATA_END: u64 = 0xf00;
    /// A bit for each descriptor that may be queued.
    pub const QUEUE_FDS: u64 = 0xf00;
    pub const QUEUE_EPFD: u64 = 0xf80;
    /// How many calls the queue may hold; 0: it must not be used.
    pub const QUEUE_ROOM: u64 = 0xf84;
}

/// Offsets in the hand-over page.
pub mod rw {
    #![expect(missing_docs, reason = "named as the fields are used in the stub's code")]
    pub const STATE: u64 = 0x00;
    pub const KIND: u64 = 0x04;
    pub const READY: u64 = 0x08;
    pub const TID_WORD: u64 = 0x0c;
    pub const SELF: u64 = 0x10;
    pub const FUTEX_SKIP: u64 = 0x18;
    pub const FUTEX_FAILURES: u64 = 0x1c;
    pub const RESULT: u64 = 0x20;
    pub const FRAME: u64 = 0x28;
    pub const SIGNO: u64 = 0x30;
    pub const NATIVE_RET: u64 = 0x38;
    pub const REGS: u64 = 0x40;
    pub const PREFETCH_LEN: u64 = 0xe8;
    pub const PREFETCH_ADDR: u64 = 0xf0;
    pub const PENDING: u64 = 0xf8;
    pub const CPU: u64 = 0xfc;
    pub const PREFETCH_PLACE: u64 = 0x100;
    pub const GATHER_PLACE: u64 = 0x104;
    pub const GATHER_LEN: u64 = 0x108;
    pub const FUTEX_SEEN: u64 = 0x110;
    /// The mask of blocked signals.
    pub const BLOCKED: u64 = 0x118;
    pub const ROBUST_LIST: u64 = 0x120;
    /// What the host was told of restartable sequences; address 0: nothing.
    pub const RSEQ_ADDR: u64 = 0x128;
    pub const RSEQ_LEN: u64 = 0x130;
    pub const RSEQ_SIGNATURE: u64 = 0x134;
    /// Cycle counter when the last futex wait began whose limit is a length of time.
    pub const WAIT_BEGAN: u64 = 0x138;
    /// Number of the last call that the host was to serve.
    pub const NATIVE_NR: u64 = 0x140;
    pub const PREFETCH_DATA: u64 = 0x200;
    pub const GATHER_DATA: u64 = 0x600;
    pub const QUEUE: u64 = 0xe00;
    pub const QUEUE_LEN: u64 = 0xf80;
}

/// Calls of `epoll_ctl` that the stub has answered and the sentry has still to make.
pub mod queue {
    #![expect(missing_docs, reason = "offsets in a call, named as used in the stub's code")]
    /// Bytes a call, as a power of two.
    pub const SHIFT: u64 = 5;
    /// Most calls.
    pub const ROOM: u64 = 12;
    /// As many as have a bit.
    pub const FDS: u64 = 8 * (super::ro::QUEUE_EPFD - super::ro::QUEUE_FDS);
    pub const OPERATION: u64 = 0;
    pub const FD: u64 = 4;
    /// `struct epoll_event`.
    pub const EVENT: u64 = 8;
    /// Where the event was.
    pub const ADDR: u64 = 24;
}

/// Where the stub has put what rides along.
pub mod place {
    #![expect(missing_docs, reason = "short list, used by name")]
    pub const PAGE: u32 = 0;
    pub const BULK: u32 = 1;
    /// Nowhere: it is longer than `BULK_LIMIT`; how long, the length says.
    pub const TOO_LONG: u32 = 2;
}

/// In the length of a deferred write: its bytes lie in the bulk window, behind those of the ones before.
pub const IN_BULK: u64 = 1 << IN_BULK_BIT;
/// The bit's number.
pub const IN_BULK_BIT: u32 = 63;
/// Most bytes that ride along in the hand-over page.
pub const PREFETCH_MAX: u64 = 2048;
/// Most elements of an I/O vector that rides along.
pub const PREFETCH_IOVECS: u64 = 64;
/// Most elements of `poll`'s list that ride along.
pub const PREFETCH_POLLS: u64 = 64;
/// Longest path that rides along.
pub const PREFETCH_PATH: u64 = 512;

/// Offsets in the agent's order and answer pages.
pub mod agent {
    #![expect(missing_docs, reason = "named as the fields are used in the stub's code")]
    pub const SEQ: u64 = 0x00;
    pub const OP: u64 = 0x04;
    pub const CALL_NR: u64 = 0x08;
    pub const CALL_ARGS: u64 = 0x10;
    pub const SLOT: u64 = 0x40;
    pub const RO_OFFSET: u64 = 0x48;
    pub const RW_OFFSET: u64 = 0x50;
    pub const MAP: u64 = 0x58;
    pub const CLONE_FLAGS: u64 = 0x60;
    pub const AGENT_RO_OFFSET: u64 = 0x68;
    pub const AGENT_RW_OFFSET: u64 = 0x70;
    pub const MARK: u64 = 0x78;
    pub const DONE: u64 = 0x00;
    pub const RESULT: u64 = 0x08;

    pub const OP_CALL: u64 = 0;
    pub const OP_THREAD: u64 = 1;
    pub const OP_FORK: u64 = 2;
}

/// Hand-over states.
pub mod state {
    #![expect(missing_docs, reason = "drawn in systrap/handover.rs")]
    pub const GUEST: u32 = 0;
    pub const REQUEST: u32 = 1;
    pub const REQUEST_ASLEEP: u32 = 2;
    pub const RESPONSE: u32 = 3;
}

/// What a request is.
pub mod kind {
    #![expect(missing_docs, reason = "short list, used by name")]
    pub const START: u32 = 1;
    pub const SYSCALL: u32 = 2;
    pub const TRAP: u32 = 3;
    pub const DONE: u32 = 4;
    pub const INTERRUPTED: u32 = 5;
    pub const COPY_FAULT: u32 = 6;
}

/// What the stub is to do next.
pub mod order {
    #![expect(missing_docs, reason = "short list, used by name")]
    pub const RESUME: u32 = 0;
    pub const CALL: u32 = 1;
    pub const CALL_AND_CLOSE: u32 = 2;
    pub const SAVE_EXTENDED: u32 = 3;
    /// A call that an interrupt ends, also one that comes before it.
    pub const WAIT: u32 = 4;
    pub const EXIT: u32 = 5;
    pub const FLUSH: u32 = 6;
    pub const STEPS: u32 = 7;
}

/// What is done before a thread resumes, besides loading its registers.
pub mod flag {
    #![expect(missing_docs, reason = "short list, used by name")]
    pub const FS_BASE: u32 = 1;
    pub const EXTENDED: u32 = 2;
    /// A call is made first; unless it answers 0 the thread posts [`super::kind::DONE`] instead of resuming.
    pub const CALL: u32 = 4;
    /// Only for a thread that goes on by a signal return.
    pub const GS_BASE: u32 = 8;
}

/// Way of a call before which the extended state is saved: the calls that copy it.
pub const PREFETCH_EXTENDED: u8 = 8;

/// Ways in which a small argument rides along, by call number.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a table, one line a call")]
pub const fn prefetch_table() -> [u8; 512] {
    use linux_abi::nr;
    let mut table = [0; 512];
    /// A string at argument 0.
    const PATH0: u8 = 1;
    /// A string at argument 1.
    const PATH1: u8 = 2;
    /// A buffer at argument 1, as long as argument 2 says.
    const BUFFER1: u8 = 3;
    /// An I/O vector at argument 1 with argument 2 elements.
    const IOVEC1: u8 = 4;
    /// 32 bytes at argument 0.
    const STRUCT0: u8 = 5;
    /// 32 bytes at argument 1.
    const STRUCT1: u8 = 6;
    /// As `IOVEC1`, and all that the elements name.
    const GATHER1: u8 = 7;
    /// 32 bytes at argument 3.
    const STRUCT3: u8 = 9;
    /// As many `struct pollfd` at argument 0 as argument 1 says.
    const POLLS0: u8 = 10;
    let lists: [(u8, &[u64]); 10] = [
        (
            PATH0,
            &[
                nr::OPEN,
                nr::STAT,
                nr::LSTAT,
                nr::ACCESS,
                nr::EXECVE,
                nr::TRUNCATE,
                nr::CHDIR,
                nr::RENAME,
                nr::MKDIR,
                nr::RMDIR,
                nr::CREAT,
                nr::LINK,
                nr::UNLINK,
                nr::SYMLINK,
                nr::READLINK,
                nr::CHMOD,
                nr::CHOWN,
                nr::LCHOWN,
                nr::STATFS,
                nr::GETXATTR,
                nr::LGETXATTR,
                nr::LISTXATTR,
                nr::MEMFD_CREATE,
            ],
        ),
        (
            PATH1,
            &[
                nr::OPENAT,
                nr::MKDIRAT,
                nr::MKNODAT,
                nr::FCHOWNAT,
                nr::NEWFSTATAT,
                nr::UNLINKAT,
                nr::RENAMEAT,
                nr::LINKAT,
                nr::READLINKAT,
                nr::FCHMODAT,
                nr::FACCESSAT,
                nr::UTIMENSAT,
                nr::EXECVEAT,
                nr::RENAMEAT2,
                nr::STATX,
                nr::OPENAT2,
                nr::FACCESSAT2,
                nr::INOTIFY_ADD_WATCH,
            ],
        ),
        (BUFFER1, &[nr::WRITE, nr::PWRITE64, nr::SENDTO, nr::CONNECT, nr::BIND]),
        (PREFETCH_EXTENDED, &[nr::CLONE, nr::CLONE3, nr::FORK, nr::VFORK]),
        (IOVEC1, &[nr::READV, nr::PREADV, nr::PREADV2]),
        (GATHER1, &[nr::WRITEV, nr::PWRITEV, nr::PWRITEV2]),
        (STRUCT0, &[nr::NANOSLEEP]),
        (STRUCT3, &[nr::EPOLL_CTL]),
        (POLLS0, &[nr::POLL, nr::PPOLL]),
        (STRUCT1, &[nr::RT_SIGACTION, nr::RT_SIGPROCMASK, nr::SETRLIMIT]),
    ];
    let mut list = 0;
    while list < lists.len() {
        let (how, numbers) = lists[list];
        let mut n = 0;
        while n < numbers.len() {
            table[numbers[n] as usize] = how;
            n += 1;
        }
        list += 1;
    }
    table
}
