//! System V IPC: constants and structures of `shmctl(2)`, `semctl(2)`, `msgctl(2)` and `sysvipc(7)`.
//!
//! Source: `include/uapi/linux/{ipc,shm,sem,msg}.h`, `arch/x86/include/uapi/asm/sembuf.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A key that always makes a new object.
pub const IPC_PRIVATE: i32 = 0;
/// Make it if it is not there.
pub const IPC_CREAT: u32 = 0o1000;
/// EEXIST if it is there.
pub const IPC_EXCL: u32 = 0o2000;
/// EAGAIN instead of waiting.
pub const IPC_NOWAIT: u32 = 0o4000;
/// Remove.
pub const IPC_RMID: u32 = 0;
/// Set owner and mode.
pub const IPC_SET: u32 = 1;
/// Get the structure.
pub const IPC_STAT: u32 = 2;
/// Get limits.
pub const IPC_INFO: u32 = 3;

/// Attach read-only.
pub const SHM_RDONLY: u32 = 0o10000;
/// Round the address down.
pub const SHM_RND: u32 = 0o20000;
/// Replace what is mapped there.
pub const SHM_REMAP: u32 = 0o40000;
/// Attach executable.
pub const SHM_EXEC: u32 = 0o100_000;
/// Huge pages.
pub const SHM_HUGETLB: u32 = 0o4000;
/// Marked for destruction with the last detach.
pub const SHM_DEST: u32 = 0o1000;
/// Locked in memory.
pub const SHM_LOCKED: u32 = 0o2000;
/// Lock in memory.
pub const SHM_LOCK: u32 = 11;
/// Unlock.
pub const SHM_UNLOCK: u32 = 12;
/// As `IPC_STAT`, by index.
pub const SHM_STAT: u32 = 13;
/// Usage of all segments.
pub const SHM_INFO: u32 = 14;
/// As `SHM_STAT` without permission check.
pub const SHM_STAT_ANY: u32 = 15;

/// Undo at exit.
pub const SEM_UNDO: i16 = 0x1000;
/// Pid of the last operation.
pub const GETPID: u32 = 11;
/// Value.
pub const GETVAL: u32 = 12;
/// All values.
pub const GETALL: u32 = 13;
/// How many wait for an increase.
pub const GETNCNT: u32 = 14;
/// How many wait for zero.
pub const GETZCNT: u32 = 15;
/// Set a value.
pub const SETVAL: u32 = 16;
/// Set all values.
pub const SETALL: u32 = 17;
/// As `IPC_STAT`, by index.
pub const SEM_STAT: u32 = 18;
/// Usage of all sets.
pub const SEM_INFO: u32 = 19;
/// As `SEM_STAT` without permission check.
pub const SEM_STAT_ANY: u32 = 20;

/// Cut a message that is too long.
pub const MSG_NOERROR: u32 = 0o10000;
/// Any type but this.
pub const MSG_EXCEPT: u32 = 0o20000;
/// Copy the message of this index.
pub const MSG_COPY: u32 = 0o40000;
/// As `IPC_STAT`, by index.
pub const MSG_STAT: u32 = 11;
/// Usage of all queues.
pub const MSG_INFO: u32 = 12;
/// As `MSG_STAT` without permission check.
pub const MSG_STAT_ANY: u32 = 13;

/// `struct ipc64_perm`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in sysvipc(7)")]
pub struct IpcPerm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pub pad: [u16; 3],
    pub unused: [u64; 2],
}

/// `struct shmid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in shmctl(2)")]
pub struct ShmidDs {
    pub perm: IpcPerm,
    pub segsz: u64,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub cpid: i32,
    pub lpid: i32,
    pub nattch: u64,
    pub unused: [u64; 2],
}

/// `struct shminfo64`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in shmctl(2)")]
pub struct ShmLimits {
    pub shmmax: u64,
    pub shmmin: u64,
    pub shmmni: u64,
    pub shmseg: u64,
    pub shmall: u64,
    pub unused: [u64; 4],
}

/// `struct shm_info`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in shmctl(2)")]
pub struct ShmUsage {
    pub used_ids: i32,
    pub pad: i32,
    pub shm_tot: u64,
    pub shm_rss: u64,
    pub shm_swp: u64,
    pub swap_attempts: u64,
    pub swap_successes: u64,
}

/// `struct semid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in semctl(2)")]
pub struct SemidDs {
    pub perm: IpcPerm,
    pub otime: i64,
    pub unused1: u64,
    pub ctime: i64,
    pub unused2: u64,
    pub nsems: u64,
    pub unused3: [u64; 2],
}

/// `struct seminfo`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in semctl(2)")]
pub struct SemInfo {
    pub semmap: i32,
    pub semmni: i32,
    pub semmns: i32,
    pub semmnu: i32,
    pub semmsl: i32,
    pub semopm: i32,
    pub semume: i32,
    pub semusz: i32,
    pub semvmx: i32,
    pub semaem: i32,
}

/// `struct sembuf`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SemBuf {
    /// Which of the set.
    pub num: u16,
    /// Added; 0 waits for zero.
    pub op: i16,
    /// `IPC_NOWAIT`, `SEM_UNDO`.
    pub flags: i16,
}

/// `struct msqid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in msgctl(2)")]
pub struct MsqidDs {
    pub perm: IpcPerm,
    pub stime: i64,
    pub rtime: i64,
    pub ctime: i64,
    pub cbytes: u64,
    pub qnum: u64,
    pub qbytes: u64,
    pub lspid: i32,
    pub lrpid: i32,
    pub unused: [u64; 2],
}

/// `struct msginfo`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in msgctl(2)")]
pub struct MsgInfo {
    pub msgpool: i32,
    pub msgmap: i32,
    pub msgmax: i32,
    pub msgmnb: i32,
    pub msgmni: i32,
    pub msgssz: i32,
    pub msgtql: i32,
    pub msgseg: u16,
    pub pad: u16,
}

/// `struct mq_attr`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in mq_getattr(3)")]
pub struct MqAttr {
    pub flags: i64,
    pub maxmsg: i64,
    pub msgsize: i64,
    pub curmsgs: i64,
    pub reserved: [i64; 4],
}

/// Tell by a signal.
pub const SIGEV_SIGNAL: i32 = 0;
/// Do not tell, but keep others from being told.
pub const SIGEV_NONE: i32 = 1;

/// `struct sigevent`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigEvent {
    /// Passed along.
    pub value: u64,
    /// Signal number.
    pub signo: i32,
    /// `SIGEV_*`.
    pub notify: i32,
    /// The union.
    pub fields: [u64; 6],
}
