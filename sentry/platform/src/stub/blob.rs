//! The stub's code as bytes, and where its entry points are.
//!
//! Key type: [`Blob`]. The code is assembled into our own read-only data (`stub.S`) and copied into stubs.

use std::sync::OnceLock;

use super::layout::{self, STUB_BASE, agent, flag, kind, order, place, queue, ro, rw, state};

/// Upper half of every address in the stub region.
const STUB_HIGH: u32 = (STUB_BASE >> 32) as u32;
const _: () = assert!(STUB_BASE.trailing_zeros() >= 32 && layout::STUB_END - STUB_BASE == 1 << 32);

std::arch::global_asm!(
    include_str!("stub.S"),
    A_SEQ = const agent::SEQ,
    A_OP = const agent::OP,
    A_CALL_NR = const agent::CALL_NR,
    A_CALL_ARGS = const agent::CALL_ARGS,
    A_SLOT = const agent::SLOT,
    A_RO_OFFSET = const agent::RO_OFFSET,
    A_RW_OFFSET = const agent::RW_OFFSET,
    A_MAP = const agent::MAP,
    A_CLONE_FLAGS = const agent::CLONE_FLAGS,
    A_AGENT_RO_OFFSET = const agent::AGENT_RO_OFFSET,
    A_AGENT_RW_OFFSET = const agent::AGENT_RW_OFFSET,
    A_DONE = const agent::DONE,
    A_RESULT = const agent::RESULT,
    OP_THREAD = const agent::OP_THREAD,
    OP_FORK = const agent::OP_FORK,
    ARENA_FD = const layout::ARENA_FD,
    PASSED_FD = const layout::PASSED_FD,
    NOTIFY_NR = const layout::NOTIFY_NR,
    RW = const layout::RW,
    RW_SIZE = const layout::RW_SIZE,
    SIGNAL_STACK = const layout::SIGNAL_STACK,
    SLOTS_BASE = const layout::SLOTS_BASE,
    SLOTS_SPAN = const layout::SLOTS_MAX * layout::SLOT_SIZE,
    SLOT_SIZE = const layout::SLOT_SIZE,
    XSAVE = const layout::XSAVE - layout::RW,
    SELF = const rw::SELF,
    STATE = const rw::STATE,
    KIND = const rw::KIND,
    READY = const rw::READY,
    TID_WORD = const rw::TID_WORD,
    RESULT = const rw::RESULT,
    FRAME = const rw::FRAME,
    SIGNO = const rw::SIGNO,
    NATIVE_RET = const rw::NATIVE_RET,
    NATIVE_NR = const rw::NATIVE_NR,
    FUTEX_ROUNDS = const (ro::FUTEX_ROUNDS.cast_signed() - layout::RW.cast_signed()),
    RO_FUTEX_NATIVE = const ro::FUTEX_NATIVE,
    FUTEX_SEEN = const rw::FUTEX_SEEN,
    WAIT_BEGAN = const rw::WAIT_BEGAN,
    STUB_HIGH = const STUB_HIGH,
    STUB_HIGH_SWAPPED = const STUB_HIGH.swap_bytes(),
    SIGNALS_WAIT = const (ro::SIGNALS_WAIT.cast_signed() - layout::RW.cast_signed()),
    BLOCKED = const rw::BLOCKED,
    BLOCKABLE = const layout::BLOCKABLE,
    ROBUST_LIST = const rw::ROBUST_LIST,
    RSEQ_ADDR = const rw::RSEQ_ADDR,
    RSEQ_LEN = const rw::RSEQ_LEN,
    RSEQ_SIGNATURE = const rw::RSEQ_SIGNATURE,
    FUTEX_UNSEEN = const layout::FUTEX_UNSEEN,
    FUTEX_SKIP = const rw::FUTEX_SKIP,
    FUTEX_FAILURES = const rw::FUTEX_FAILURES,
    FUTEX_FAILURES_MAX = const layout::FUTEX_FAILURES_MAX,
    QUEUE_LEN = const rw::QUEUE_LEN,
    QUEUE_FDS = const (ro::QUEUE_FDS.cast_signed() - layout::RW.cast_signed()),
    QUEUE_EPFD = const (ro::QUEUE_EPFD.cast_signed() - layout::RW.cast_signed()),
    QUEUE_ROOM = const (ro::QUEUE_ROOM.cast_signed() - layout::RW.cast_signed()),
    QUEUE_SHIFT = const queue::SHIFT,
    QUEUE_SIZE = const 1 << queue::SHIFT,
    QUEUE_FDS_MAX = const queue::FDS,
    QUEUE_OPERATION = const rw::QUEUE + queue::OPERATION,
    QUEUE_FD = const rw::QUEUE + queue::FD,
    QUEUE_EVENT = const rw::QUEUE + queue::EVENT,
    QUEUE_ADDR = const rw::QUEUE + queue::ADDR,
    REGS = const rw::REGS,
    PREFETCH_LEN = const rw::PREFETCH_LEN,
    PREFETCH_ADDR = const rw::PREFETCH_ADDR,
    PREFETCH_DATA = const rw::PREFETCH_DATA,
    PREFETCH_PATH = const layout::PREFETCH_PATH,
    PREFETCH_MAX = const layout::PREFETCH_MAX,
    PREFETCH_IOVECS = const layout::PREFETCH_IOVECS,
    PREFETCH_POLLS = const layout::PREFETCH_POLLS,
    PREFETCH_PLACE = const rw::PREFETCH_PLACE,
    GATHER_PLACE = const rw::GATHER_PLACE,
    GATHER_LEN = const rw::GATHER_LEN,
    GATHER_DATA = const rw::GATHER_DATA,
    PLACE_BULK = const place::BULK,
    PLACE_TOO_LONG = const place::TOO_LONG,
    BULK = const layout::BULK - layout::RW,
    IN_BULK_BIT = const layout::IN_BULK_BIT,
    PENDING = const rw::PENDING,
    CPU = const rw::CPU,
    IDENTITY = const (ro::IDENTITY.cast_signed() - layout::RW.cast_signed()),
    RO_ORDER = const ro::ORDER,
    RO_MODE = const ro::MODE,
    RO_SPIN = const ro::SPIN,
    RO_FLAGS = const ro::FLAGS,
    FLAG_FS_BASE = const flag::FS_BASE,
    FLAG_GS_BASE = const flag::GS_BASE,
    FLAG_EXTENDED = const flag::EXTENDED,
    FLAG_CALL = const flag::CALL,
    PREFETCH_EXTENDED = const layout::PREFETCH_EXTENDED,
    RO_CALL_NR = const ro::CALL_NR,
    RO_CALL_ARGS = const ro::CALL_ARGS,
    RO_FS_BASE = const ro::FS_BASE,
    RO_GS_BASE = const ro::GS_BASE,
    RO_SIGSET = const ro::SIGSET,
    RO_SIGALTSTACK = const ro::SIGALTSTACK,
    RO_FPROG = const ro::FPROG,
    RO_PREFETCH = const ro::PREFETCH,
    RO_WRITES = const ro::WRITES,
    RO_WRITE_DATA = const ro::WRITE_DATA,
    RO_START_FLAGS = const ro::START_FLAGS,
    RO_STEPS = const ro::STEPS,
    RO_BULK_LIMIT = const ro::BULK_LIMIT,
    REQUEST = const state::REQUEST,
    REQUEST_ASLEEP = const state::REQUEST_ASLEEP,
    RESPONSE = const state::RESPONSE,
    GUEST = const state::GUEST,
    KIND_START = const kind::START,
    KIND_SYSCALL = const kind::SYSCALL,
    KIND_TRAP = const kind::TRAP,
    KIND_DONE = const kind::DONE,
    KIND_INTERRUPTED = const kind::INTERRUPTED,
    KIND_COPY_FAULT = const kind::COPY_FAULT,
    ORDER_RESUME = const order::RESUME,
    ORDER_CALL = const order::CALL,
    ORDER_WAIT = const order::WAIT,
    ORDER_CALL_AND_CLOSE = const order::CALL_AND_CLOSE,
    ORDER_FLUSH = const order::FLUSH,
    ORDER_STEPS = const order::STEPS,
    ORDER_SAVE = const order::SAVE_EXTENDED,
    SIGURG = const libc::SIGURG,
    SIGSYS = const libc::SIGSYS,
);

unsafe extern "C" {
    static rvisor_stub_start: u8;
    static rvisor_stub_end: u8;
    static rvisor_stub_agent: u8;
    static rvisor_stub_park: u8;
    static rvisor_stub_rollback_begin: u8;
    static rvisor_stub_getpid: u8;
    static rvisor_stub_gettid: u8;
    static rvisor_stub_getppid: u8;
    static rvisor_stub_getuid: u8;
    static rvisor_stub_geteuid: u8;
    static rvisor_stub_getgid: u8;
    static rvisor_stub_getegid: u8;
    static rvisor_stub_sigmask: u8;
    static rvisor_stub_sigmask_done: u8;
    static rvisor_stub_robust_list: u8;
    static rvisor_stub_robust_list_done: u8;
    static rvisor_stub_rseq: u8;
    static rvisor_stub_rseq_after: u8;
    static rvisor_stub_state_slow: u8;
    static rvisor_stub_any: u8;
    static rvisor_stub_futex: u8;
    static rvisor_stub_futex_clock: u8;
    static rvisor_stub_futex_clock_end: u8;
    static rvisor_stub_gate: u8;
    static rvisor_stub_epoll_ctl: u8;
    static rvisor_stub_epoll_made: u8;
    static rvisor_stub_epoll_slow: u8;
    static rvisor_stub_native: u8;
    static rvisor_stub_native_syscall: u8;
    static rvisor_stub_native_after: u8;
    static rvisor_stub_native_end: u8;
    static rvisor_stub_slow: u8;
    static rvisor_stub_signal: u8;
    static rvisor_stub_restorer: u8;
    static rvisor_stub_template: u8;
    static rvisor_stub_prefetch_table: u8;
    static rvisor_stub_rdpid: u8;
}

/// The stub's code, ready to be copied to [`STUB_BASE`], and addresses in a stub.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named as the labels of stub.S")]
pub struct Blob {
    pub bytes: Vec<u8>,
    pub agent: u64,
    pub park: u64,
    pub template: u64,
    pub signal: u64,
    pub restorer: u64,
    pub slow: u64,
    pub sigmask: u64,
    pub sigmask_done: u64,
    pub robust_list: u64,
    pub robust_list_done: u64,
    pub rseq: u64,
    pub rseq_after: u64,
    pub state_slow: u64,
    pub any: u64,
    pub futex: u64,
    pub futex_clock: u64,
    pub futex_clock_end: u64,
    pub gate: u64,
    pub epoll_ctl: u64,
    pub epoll_made: u64,
    pub epoll_slow: u64,
    pub native: u64,
    pub native_syscall: u64,
    pub native_after: u64,
    pub native_end: u64,
    pub rollback_begin: u64,
    /// Entries of identity calls: call number and address.
    pub identity: [(u64, u64); 7],
    /// End of the code proper; filters are put behind it.
    pub code_end: u64,
}

/// Address in a stub of a label, given the label's address in our own image.
fn in_stub(label: *const u8) -> u64 {
    STUB_BASE + (label as u64 - (&raw const rvisor_stub_start) as u64)
}

impl Blob {
    /// The one blob of this sentry.
    #[must_use]
    pub fn get() -> &'static Self {
        static BLOB: OnceLock<Blob> = OnceLock::new();
        BLOB.get_or_init(Self::build)
    }

    fn build() -> Self {
        use linux_abi::nr;
        let start = &raw const rvisor_stub_start;
        let len = (&raw const rvisor_stub_end) as usize - start as usize;
        // SAFETY: the labels enclose one assembled, immutable section of our own image.
        let mut bytes = unsafe { std::slice::from_raw_parts(start, len) }.to_vec();
        let table = (in_stub(&raw const rvisor_stub_prefetch_table) - STUB_BASE) as usize;
        bytes[table..table + 512].copy_from_slice(&layout::prefetch_table());
        if !has_rdpid() {
            let at = (in_stub(&raw const rvisor_stub_rdpid) - STUB_BASE) as usize;
            bytes[at..at + 4].copy_from_slice(&[0x31, 0xc0, 0x66, 0x90]); // xor eax, eax; two-byte nop
        }
        Self {
            agent: in_stub(&raw const rvisor_stub_agent),
            park: in_stub(&raw const rvisor_stub_park),
            template: in_stub(&raw const rvisor_stub_template),
            signal: in_stub(&raw const rvisor_stub_signal),
            restorer: in_stub(&raw const rvisor_stub_restorer),
            slow: in_stub(&raw const rvisor_stub_slow),
            sigmask: in_stub(&raw const rvisor_stub_sigmask),
            sigmask_done: in_stub(&raw const rvisor_stub_sigmask_done),
            robust_list: in_stub(&raw const rvisor_stub_robust_list),
            robust_list_done: in_stub(&raw const rvisor_stub_robust_list_done),
            rseq: in_stub(&raw const rvisor_stub_rseq),
            rseq_after: in_stub(&raw const rvisor_stub_rseq_after),
            state_slow: in_stub(&raw const rvisor_stub_state_slow),
            any: in_stub(&raw const rvisor_stub_any),
            futex: in_stub(&raw const rvisor_stub_futex),
            futex_clock: in_stub(&raw const rvisor_stub_futex_clock),
            futex_clock_end: in_stub(&raw const rvisor_stub_futex_clock_end),
            gate: in_stub(&raw const rvisor_stub_gate),
            epoll_ctl: in_stub(&raw const rvisor_stub_epoll_ctl),
            epoll_made: in_stub(&raw const rvisor_stub_epoll_made),
            epoll_slow: in_stub(&raw const rvisor_stub_epoll_slow),
            native: in_stub(&raw const rvisor_stub_native),
            native_syscall: in_stub(&raw const rvisor_stub_native_syscall),
            native_after: in_stub(&raw const rvisor_stub_native_after),
            native_end: in_stub(&raw const rvisor_stub_native_end),
            rollback_begin: in_stub(&raw const rvisor_stub_rollback_begin),
            identity: [
                (nr::GETPID, in_stub(&raw const rvisor_stub_getpid)),
                (nr::GETTID, in_stub(&raw const rvisor_stub_gettid)),
                (nr::GETPPID, in_stub(&raw const rvisor_stub_getppid)),
                (nr::GETUID, in_stub(&raw const rvisor_stub_getuid)),
                (nr::GETEUID, in_stub(&raw const rvisor_stub_geteuid)),
                (nr::GETGID, in_stub(&raw const rvisor_stub_getgid)),
                (nr::GETEGID, in_stub(&raw const rvisor_stub_getegid)),
            ],
            code_end: STUB_BASE + len as u64,
            bytes,
        }
    }
}

/// CPUID leaf 7: RDPID.
fn has_rdpid() -> bool {
    std::arch::x86_64::__cpuid_count(7, 0).ecx & (1 << 22) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_fits_its_room_and_touches_no_vector_register() {
        let blob = Blob::get();
        assert!((blob.bytes.len() as u64) < layout::CODE_MAX / 2);
        assert_eq!(in_stub(&raw const rvisor_stub_start), STUB_BASE);
    }
}
