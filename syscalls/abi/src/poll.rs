//! `poll(2)`, `select(2)`, `epoll(7)`, `eventfd(2)`: structures and constants.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct pollfd`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in poll(2)")]
pub struct PollFd {
    pub fd: i32,
    pub events: u16,
    pub revents: u16,
}

/// `struct epoll_event`: packed on x86-64, so its `u64` is given as two halves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EpollEvent {
    /// `EPOLL*` bits.
    pub events: u32,
    data: [u32; 2],
}

impl EpollEvent {
    /// From its parts.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
    pub const fn new(events: u32, data: u64) -> Self {
        Self { events, data: [data as u32, (data >> 32) as u32] }
    }

    /// The guest's own word.
    #[must_use]
    pub const fn data(&self) -> u64 {
        self.data[0] as u64 | (self.data[1] as u64) << 32
    }
}

/// The sixth argument of `pselect6(2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigsetArgument {
    /// Guest address of the signal set; 0: none.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// `EPOLL_CTL_ADD`.
pub const EPOLL_CTL_ADD: i32 = 1;
/// `EPOLL_CTL_DEL`.
pub const EPOLL_CTL_DEL: i32 = 2;
/// `EPOLL_CTL_MOD`.
pub const EPOLL_CTL_MOD: i32 = 3;
/// `EPOLL_CLOEXEC`, `EFD_CLOEXEC`, `SFD_CLOEXEC`...: all are `O_CLOEXEC`.
pub const O_CLOEXEC: u32 = 0o2_000_000;
/// `EFD_NONBLOCK`...: all are `O_NONBLOCK`.
pub const O_NONBLOCK: u32 = 0o4000;
/// `O_DIRECT`, for `pipe2(2)`.
pub const O_DIRECT: u32 = 0o40_000;
/// `EFD_SEMAPHORE`.
pub const EFD_SEMAPHORE: u32 = 1;
