//! Host calls that no well-kept library offers safely: thin wrappers, each with its reason.
//!
//! Everything here answers the host's errno; nothing decides anything.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_int, c_long, pid_t};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::host::parker::HostPoll;

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `struct seccomp_notif` with its `struct seccomp_data`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Notification {
    pub id: u64,
    pub pid: u32,
    pub flags: u32,
    pub nr: i32,
    pub arch: u32,
    pub ip: u64,
    pub args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Answer {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    srcfd: u32,
    newfd: u32,
    newfd_flags: u32,
}

const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_ADDFD: u64 = 0x4018_2103;
const NOTIF_SET_FLAGS: u64 = 0x4008_2104;

/// `SECCOMP_IOCTL_NOTIF_RECV`: waits for a notification.
///
/// # Errors
/// EINTR; ENOENT when the thread that asked has died meanwhile.
pub fn notification_receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut notification = Notification::default();
    // SAFETY: the structure has the size and layout that the request's number encodes, and is zeroed.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut notification) };
    check(c_long::from(result)).map(|_| notification)
}

/// What `ppoll(2)` says about a descriptor now.
fn look(fd: BorrowedFd<'_>) -> PollFlags {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).map_or(PollFlags::empty(), |_| fds[0].revents())
}

/// No thread is left that could ask this listener anything.
#[must_use]
pub fn notification_is_over(listener: BorrowedFd<'_>) -> bool {
    look(listener).contains(PollFlags::HUP)
}

/// The process that this pidfd names has ended.
#[must_use]
pub fn pidfd_has_ended(pidfd: BorrowedFd<'_>) -> bool {
    look(pidfd).contains(PollFlags::IN)
}

/// How a notification is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The call returns this.
    Value(i64),
    /// The call fails with this errno.
    Error(i32),
    /// The host executes the call. Only for scalar arguments that have been checked.
    Continue,
}

/// `SECCOMP_IOCTL_NOTIF_SEND`.
///
/// # Errors
/// ENOENT when the thread has died or was interrupted.
pub fn notification_answer(listener: BorrowedFd<'_>, id: u64, reply: Reply) -> io::Result<()> {
    let answer = match reply {
        Reply::Value(val) => Answer { id, val, ..Answer::default() },
        Reply::Error(errno) => Answer { id, error: -errno, ..Answer::default() },
        Reply::Continue => Answer { id, flags: 1, ..Answer::default() },
    };
    // SAFETY: as for receiving; the kernel only reads it.
    uninterrupted(|| unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const answer) })
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD` with `SETFD`: puts `file` at `number` in the asking process.
///
/// # Errors
/// As `dup2(2)` there; ENOENT when the thread has died.
pub fn notification_pass(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    number: u32,
) -> io::Result<()> {
    let srcfd = u32::try_from(file.as_raw_fd()).expect("descriptors are not negative");
    let request = AddFd { id, flags: 1, srcfd, newfd: number, newfd_flags: 0 };
    // SAFETY: as for receiving; the kernel only reads it.
    uninterrupted(|| unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD, &raw const request) })
}

/// Makes a call on a listener until no signal comes between. LINUX: `seccomp_notify_send` and `seccomp_notify_addfd` answer EINTR to a thread
/// with a signal that had to wait for the filter's lock; nothing has been done then.
fn uninterrupted(mut call: impl FnMut() -> i32) -> io::Result<()> {
    loop {
        match check(c_long::from(call())) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result.map(drop),
        }
    }
}

/// `SECCOMP_IOCTL_NOTIF_SET_FLAGS`: synchronous wake-up on or off.
///
/// # Errors
/// EINVAL before Linux 6.6: harmless, the hand-over is slower.
pub fn notification_synchronous(listener: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: the argument is a plain number.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, u64::from(on)) };
    check(c_long::from(result)).map(drop)
}

/// `futex(2)` wait on a shared word; returns at any wake-up, spurious ones and time-outs included.
pub fn futex_wait(word: &std::sync::atomic::AtomicU32, expected: u32, timeout: std::time::Duration) {
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY: the word and the time live across the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout) };
}

/// `futex(2)` wake on a shared word.
pub fn futex_wake(word: &std::sync::atomic::AtomicU32, count: c_int) {
    // SAFETY: the word lives across the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// `pidfd_open(2)`.
///
/// # Errors
/// ESRCH.
pub fn pidfd_open(pid: pid_t) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers in.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a fresh descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("a descriptor")) })
}

/// `pidfd_getfd(2)`: a copy of another process's descriptor.
///
/// # Errors
/// EBADF, EPERM, ESRCH.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers in.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: a fresh descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("a descriptor")) })
}

/// `pidfd_send_signal(2)`.
///
/// # Errors
/// ESRCH.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no siginfo is passed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// `tgkill(2)`.
///
/// # Errors
/// ESRCH.
pub fn tgkill(process: pid_t, thread: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: plain numbers in.
    check(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) }).map(drop)
}

/// Thread id of the caller, asked once a thread.
#[must_use]
pub fn gettid() -> pid_t {
    thread_local! {
        // SAFETY: no arguments.
        static TID: pid_t = unsafe { libc::gettid() };
    }
    TID.with(|tid| *tid)
}

/// Process id of the caller.
#[must_use]
pub fn getpid() -> pid_t {
    // SAFETY: no arguments.
    unsafe { libc::getpid() }
}

/// `process_vm_readv(2)` of one piece; answers how many bytes were read before the first fault.
#[must_use]
pub fn read_process(pid: pid_t, addr: u64, buf: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let remote = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: buf.len() };
    // SAFETY: the kernel writes into `buf` only; the remote address is checked by the kernel against that process.
    let n = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(n).unwrap_or(0)
}

/// `process_vm_writev(2)` of one piece; answers how many bytes were written before the first fault.
#[must_use]
pub fn write_process(pid: pid_t, addr: u64, buf: &[u8]) -> usize {
    let local = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    let remote = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: buf.len() };
    // SAFETY: the kernel only reads `buf`; the remote address is checked by the kernel against that process.
    let n = unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(n).unwrap_or(0)
}

/// How many of these pages of another process are mapped to memory: `move_pages(2)` without nodes, which moves nothing.
/// LINUX: `do_pages_stat` of `mm/migrate.c`; the page of zeros does not count, as it does not in `VmRSS`.
#[must_use]
pub fn count_resident(pid: pid_t, pages: &[u64]) -> usize {
    const STEP: usize = 512;
    let mut status = [0; STEP];
    let mut count = 0;
    for piece in pages.chunks(STEP) {
        let none = std::ptr::null::<c_int>();
        // SAFETY: as many answers as questions fit into `status`; the addresses are only looked up in that process.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                pid,
                piece.len(),
                piece.as_ptr(),
                none,
                status.as_mut_ptr(),
                0,
            )
        };
        if result != 0 {
            return count;
        }
        count += status[..piece.len()].iter().filter(|&&node: &&c_int| node >= 0).count();
    }
    count
}

/// `sched_setaffinity(2)` with a raw mask.
///
/// # Errors
/// EINVAL for a mask without a usable processor; ESRCH.
pub fn set_affinity(thread: pid_t, mask: &[u64]) -> io::Result<()> {
    // SAFETY: the length matches the slice.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, size_of_val(mask), mask.as_ptr()) })
        .map(drop)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct End {
    /// The signal that killed it, if one did.
    pub signal: Option<c_int>,
    /// Its largest resident size in bytes.
    pub peak_bytes: u64,
}

/// `wait4(2)` for a child that has ended.
///
/// # Errors
/// ECHILD when it is no child of ours.
pub fn wait_process(pid: pid_t) -> io::Result<End> {
    loop {
        let mut status = 0;
        // SAFETY: an all-zero structure is a valid one.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both live across the call.
        let result = unsafe { libc::wait4(pid, &raw mut status, libc::__WALL, &raw mut usage) };
        match check(c_long::from(result)) {
            Ok(_) => {
                let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
                let peak_bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10;
                return Ok(End { signal, peak_bytes });
            }
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// CPU time clock of another process, `clock_getcpuclockid(3)`: nanoseconds of user and system time together.
#[must_use]
pub fn process_cpu_ns(pid: pid_t) -> u64 {
    clock_ns((!pid << 3) | 2)
}

/// The number of the CPU time clock of a thread, which only threads of the same process may read.
#[must_use]
pub const fn thread_clock(tid: pid_t) -> libc::clockid_t {
    (!tid << 3) | 6
}

/// CPU time of a thread of this process; 0 once it has ended.
#[must_use]
pub fn own_thread_cpu_ns(tid: pid_t) -> u64 {
    clock_ns(thread_clock(tid))
}

/// International atomic time.
#[must_use]
pub fn tai_ns() -> u64 {
    clock_ns(libc::CLOCK_TAI)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives across the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return 0;
    }
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Signal by which a sentry thread is called out of a wait for its stub.
pub const KICK: c_int = libc::SIGUSR2;

/// Signal by which a sentry thread is called out of a sleep in the host; blocked at any other time.
pub const WAKE: c_int = libc::SIGUSR1;

/// Makes [`KICK`] interrupt calls and do nothing else.
pub fn install_kick() {
    install_nothing(KICK);
}

/// Makes [`WAKE`] interrupt calls and do nothing else.
pub fn install_wake() {
    install_nothing(WAKE);
}

fn install_nothing(signal: c_int) {
    extern "C" fn nothing(_: c_int) {}
    let handler: extern "C" fn(c_int) = nothing;
    // SAFETY: an all-zero action is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // SAFETY: the handler does nothing, so it is safe at any time.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

/// Blocks [`WAKE`] for the calling thread; answers the mask without it, as [`poll_masked`] and [`epoll_wait`] take it.
pub fn block_wake() -> u64 {
    let wake = 1_u64 << (WAKE - 1);
    let mut old = 0_u64;
    // SAFETY: both masks are as long as is said, and live across the call.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const wake,
            &raw mut old,
            size_of_val(&wake),
        )
    };
    old & !wake
}

/// `ppoll(2)`, with `mask` as the thread's signal mask meanwhile; how many are ready, 0 if it was interrupted.
pub fn poll_masked(fds: &mut [HostPoll<'_>], timeout: Option<Duration>, mask: Option<u64>) -> usize {
    let mut timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    let timeout = timeout.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let mask = mask.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a `HostPoll` is a `struct pollfd`; time and mask are null or live across the call.
    let ready = unsafe {
        libc::syscall(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), timeout, mask, size_of::<u64>())
    };
    usize::try_from(ready).unwrap_or(0)
}

/// `epoll_pwait(2)`: up to `max` of them, as many as there is room for, replace what is in `events`; none if it was interrupted.
/// The time is rounded up to milliseconds.
pub fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut Vec<libc::epoll_event>,
    max: usize,
    timeout: Option<Duration>,
    mask: Option<u64>,
) {
    let timeout = timeout
        .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    let mask = mask.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    events.clear();
    let room = c_int::try_from(events.capacity().min(max)).unwrap_or(c_int::MAX);
    // SAFETY: there is room for so many events; the mask is null or lives across the call.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            room,
            timeout,
            mask,
            size_of::<u64>(),
        )
    };
    let count = usize::try_from(count).unwrap_or(0).min(events.capacity());
    // SAFETY: the host has written so many.
    unsafe { events.set_len(count) };
}

/// Cycle counter.
#[must_use]
pub fn cycles() -> u64 {
    // SAFETY: RDTSC is always allowed to user code under Linux unless prctl forbids it, which we do not.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Processors that the calling thread may use, as a mask.
#[must_use]
pub fn affinity() -> Vec<u64> {
    let mut mask = vec![0_u64; 128];
    // SAFETY: the length matches the buffer.
    let n = unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(mask.as_slice()), mask.as_mut_ptr())
    };
    mask.truncate(usize::try_from(n).unwrap_or(8) / 8);
    mask
}

/// Number of the processor that this runs on.
#[must_use]
pub fn current_cpu() -> u32 {
    // SAFETY: no arguments.
    u32::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails with these errnos, one after the other, then succeeds; answers how often it was made too.
    fn made(errnos: &[c_int]) -> (io::Result<()>, usize) {
        let mut count = 0;
        let result = uninterrupted(|| {
            count += 1;
            let Some(&errno) = errnos.get(count - 1) else { return 0 };
            // SAFETY: no arguments.
            let place = unsafe { libc::__errno_location() };
            // SAFETY: the calling thread's own errno.
            unsafe { *place = errno };
            -1
        });
        (result, count)
    }

    #[test]
    fn a_call_on_a_listener_is_made_until_no_signal_comes_between() {
        let (result, count) = made(&[libc::EINTR; 5]);
        assert!(result.is_ok());
        assert_eq!(count, 6);
    }

    #[test]
    fn any_other_failure_of_a_call_on_a_listener_is_told() {
        let (result, count) = made(&[libc::EINTR, libc::ENOENT, libc::EINTR]);
        assert_eq!(result.expect_err("it fails").raw_os_error(), Some(libc::ENOENT));
        assert_eq!(count, 2);
    }
}
