//! Which calls can be made while `epoll_ctl` is answered before it is made (decision 0012)?
//!
//! Those that never take a descriptor from their process, never give one to another process, and make no task. What is missing here costs
//! time only; what should not be here would let others see an instance as it was.

use linux_abi::nr;

/// See `SyscallAbi::leaves_descriptors`.
pub(crate) fn leaves_descriptors(number: u64) -> bool {
    transfers(number) || waits(number) || networks(number) || asks(number) || memory(number)
}

fn transfers(number: u64) -> bool {
    matches!(
        number,
        nr::READ
            | nr::WRITE
            | nr::READV
            | nr::WRITEV
            | nr::PREAD64
            | nr::PWRITE64
            | nr::PREADV
            | nr::PWRITEV
            | nr::LSEEK
            | nr::FSYNC
            | nr::FDATASYNC
            | nr::SENDTO
            | nr::RECVFROM
            | nr::SENDFILE
            | nr::SPLICE
            | nr::GETRANDOM
    )
}

fn waits(number: u64) -> bool {
    matches!(
        number,
        nr::EPOLL_CTL
            | nr::EPOLL_WAIT
            | nr::EPOLL_PWAIT
            | nr::EPOLL_PWAIT2
            | nr::POLL
            | nr::PPOLL
            | nr::SELECT
            | nr::PSELECT6
            | nr::NANOSLEEP
            | nr::CLOCK_NANOSLEEP
            | nr::SCHED_YIELD
            | nr::FUTEX
            | nr::PAUSE
            | nr::TIMERFD_SETTIME
            | nr::RT_SIGPROCMASK
            | nr::RT_SIGACTION
            | nr::RT_SIGRETURN
    )
}

fn networks(number: u64) -> bool {
    matches!(
        number,
        nr::SOCKET
            | nr::CONNECT
            | nr::ACCEPT
            | nr::ACCEPT4
            | nr::SETSOCKOPT
            | nr::GETSOCKOPT
            | nr::GETSOCKNAME
            | nr::GETPEERNAME
            | nr::SHUTDOWN
    )
}

fn asks(number: u64) -> bool {
    matches!(
        number,
        nr::OPEN
            | nr::OPENAT
            | nr::STAT
            | nr::FSTAT
            | nr::LSTAT
            | nr::NEWFSTATAT
            | nr::GETPID
            | nr::GETTID
            | nr::CLOCK_GETTIME
            | nr::GETTIMEOFDAY
            | nr::TIME
            | nr::TIMES
            | nr::GETRUSAGE
            | nr::UNAME
    )
}

fn memory(number: u64) -> bool {
    matches!(number, nr::BRK | nr::MMAP | nr::MUNMAP | nr::MPROTECT | nr::MADVISE | nr::MREMAP)
}
