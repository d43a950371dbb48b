//! THE table: every system call that is served, its handler, and how far it goes.
//!
//! Key types: [`Row`], [`Support`], [`Table`] (what the kernel calls). Rows may stand in any order; a number listed twice
//! fails the build. `docs/SYSCALLS.md` is printed from here by `rvisor syscalls`.

use linux_abi::{Errno, nr};
use sentry::task::{Current, Outcome, SyscallAbi};

use crate::args::Handler;

/// How much of a call is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// All that the man page says.
    Full,
    /// With gaps: what is missing or different.
    Partial(&'static str),
    /// Refused on purpose, always with this errno: why.
    Refused(Errno, &'static str),
}

/// One system call.
pub struct Row {
    /// Number on x86-64.
    pub number: u64,
    /// Name as in its man page.
    pub name: &'static str,
    /// How much of it is there.
    pub support: Support,
    handler: fn(&mut Current, [u64; 6]) -> Outcome,
}

const LIMIT: usize = nr::LIMIT as usize;

/// Index of rows by number, checked at compile time.
const fn index(rows: &[Row]) -> [Option<u16>; LIMIT] {
    let mut index = [None; LIMIT];
    let mut row = 0;
    while row < rows.len() {
        let number = rows[row].number as usize;
        assert!(number < LIMIT, "a number in the table is beyond nr::LIMIT");
        assert!(index[number].is_none(), "a system call is listed twice in the table");
        index[number] = Some(row as u16);
        row += 1;
    }
    index
}

/// Stands in rows whose call is refused on purpose.
fn refused(_: &mut Current) -> Result<u64, Errno> {
    Err(Errno::ENOSYS)
}

macro_rules! table {
    ($($name:ident => $handler:expr, $support:expr;)*) => {
        static ROWS: &[Row] = &[$(
            Row {
                number: number::$name,
                name: stringify!($name),
                support: $support,
                handler: |current, args| Handler::handle(&$handler, current, args),
            },
        )*];
    };
}

/// Numbers by lower-case name, for the macro.
#[expect(non_upper_case_globals, reason = "named as the calls are")]
mod number {
    include!(concat!(env!("OUT_DIR"), "/numbers.rs"));
}

use Support::{Full, Partial, Refused};

table! {
    // One row a line, `name => room::handler, support;`
    uname => crate::misc::names::uname, Full;
    // Files.
    read => crate::fs::rw::read, Full;
    write => crate::fs::rw::write, Full;
    open => crate::fs::open::open, Full;
    close => crate::fs::open::close, Full;
    stat => crate::fs::stat::stat, Full;
    fstat => crate::fs::stat::fstat, Full;
    lstat => crate::fs::stat::lstat, Full;
    lseek => crate::fs::rw::lseek, Full;
    ioctl => crate::fs::fd::ioctl, Full;
    pread64 => crate::fs::rw::pread64, Full;
    pwrite64 => crate::fs::rw::pwrite64, Full;
    readv => crate::fs::vector::readv, Full;
    writev => crate::fs::vector::writev, Full;
    access => crate::fs::access::access, Full;
    dup => crate::fs::fd::dup, Full;
    dup2 => crate::fs::fd::dup2, Full;
    sendfile => crate::fs::transfer::sendfile, Full;
    fcntl => crate::fs::fcntl::fcntl, Partial("no SIGIO, no leases");
    flock => crate::fs::lock::flock, Full;
    fsync => crate::fs::storage::fsync, Full;
    fdatasync => crate::fs::storage::fdatasync, Full;
    truncate => crate::fs::attr::truncate, Full;
    ftruncate => crate::fs::attr::ftruncate, Full;
    getdents => crate::fs::dirs::getdents, Full;
    getcwd => crate::fs::dirs::getcwd, Full;
    chdir => crate::fs::dirs::chdir, Full;
    fchdir => crate::fs::dirs::fchdir, Full;
    rename => crate::fs::names::rename, Full;
    mkdir => crate::fs::dirs::mkdir, Full;
    rmdir => crate::fs::dirs::rmdir, Full;
    creat => crate::fs::open::creat, Full;
    link => crate::fs::names::link, Full;
    unlink => crate::fs::names::unlink, Full;
    symlink => crate::fs::names::symlink, Full;
    readlink => crate::fs::names::readlink, Full;
    chmod => crate::fs::attr::chmod, Full;
    fchmod => crate::fs::attr::fchmod, Full;
    chown => crate::fs::attr::chown, Full;
    fchown => crate::fs::attr::fchown, Full;
    lchown => crate::fs::attr::lchown, Full;
    umask => crate::fs::attr::umask, Full;
    utime => crate::fs::attr::utime, Full;
    mknod => crate::fs::names::mknod, Full;
    statfs => crate::fs::stat::statfs, Full;
    fstatfs => crate::fs::stat::fstatfs, Full;
    pivot_root => crate::fs::mount::pivot_root, Full;
    chroot => crate::fs::dirs::chroot, Full;
    sync => crate::fs::storage::sync, Full;
    mount => crate::fs::mount::mount, Partial("no propagation between mounts");
    umount2 => crate::fs::mount::umount2, Full;
    readahead => crate::fs::storage::readahead, Partial("accepted; the host reads ahead by itself");
    setxattr => crate::fs::xattr::setxattr, Full;
    lsetxattr => crate::fs::xattr::lsetxattr, Full;
    fsetxattr => crate::fs::xattr::fsetxattr, Full;
    getxattr => crate::fs::xattr::getxattr, Full;
    lgetxattr => crate::fs::xattr::lgetxattr, Full;
    fgetxattr => crate::fs::xattr::fgetxattr, Full;
    listxattr => crate::fs::xattr::listxattr, Full;
    llistxattr => crate::fs::xattr::llistxattr, Full;
    flistxattr => crate::fs::xattr::flistxattr, Full;
    removexattr => crate::fs::xattr::removexattr, Full;
    lremovexattr => crate::fs::xattr::lremovexattr, Full;
    fremovexattr => crate::fs::xattr::fremovexattr, Full;
    getdents64 => crate::fs::dirs::getdents64, Full;
    fadvise64 => crate::fs::storage::fadvise64, Partial("accepted; the host decides what it caches");
    utimes => crate::fs::attr::utimes, Full;
    openat => crate::fs::open::openat, Full;
    mkdirat => crate::fs::dirs::mkdirat, Full;
    mknodat => crate::fs::names::mknodat, Full;
    fchownat => crate::fs::attr::fchownat, Full;
    futimesat => crate::fs::attr::futimesat, Full;
    newfstatat => crate::fs::stat::newfstatat, Full;
    unlinkat => crate::fs::names::unlinkat, Full;
    renameat => crate::fs::names::renameat, Full;
    linkat => crate::fs::names::linkat, Full;
    symlinkat => crate::fs::names::symlinkat, Full;
    readlinkat => crate::fs::names::readlinkat, Full;
    fchmodat => crate::fs::attr::fchmodat, Full;
    faccessat => crate::fs::access::faccessat, Full;
    splice => crate::fs::splice::splice, Full;
    tee => crate::fs::splice::tee, Full;
    sync_file_range => crate::fs::storage::sync_file_range, Partial("whole file, data only");
    vmsplice => crate::fs::splice::vmsplice, Partial("bytes are copied");
    utimensat => crate::fs::attr::utimensat, Full;
    fallocate => crate::fs::attr::fallocate, Partial("no collapsing, inserting or unsharing of ranges");
    dup3 => crate::fs::fd::dup3, Full;
    preadv => crate::fs::vector::preadv, Full;
    pwritev => crate::fs::vector::pwritev, Full;
    syncfs => crate::fs::storage::syncfs, Full;
    renameat2 => crate::fs::names::renameat2, Partial("no whiteouts");
    memfd_create => crate::fs::open::memfd_create, Partial("no huge pages");
    copy_file_range => crate::fs::transfer::copy_file_range, Full;
    preadv2 => crate::fs::vector::preadv2, Partial("RWF_NOWAIT reads regular files all the same");
    pwritev2 => crate::fs::vector::pwritev2, Partial("RWF_NOWAIT writes regular files all the same");
    statx => crate::fs::stat::statx, Full;
    close_range => crate::fs::open::close_range, Full;
    openat2 => crate::fs::open::openat2, Partial("RESOLVE_CACHED always answers EAGAIN");
    faccessat2 => crate::fs::access::faccessat2, Full;
    fchmodat2 => crate::fs::attr::fchmodat2, Full;

    // Pipes, event descriptors, poll, select, epoll.
    poll => crate::sync::poll::poll, Full;
    pipe => crate::sync::pipe::pipe, Full;
    select => crate::sync::select::select, Full;
    epoll_create => crate::sync::epoll::epoll_create, Full;
    epoll_wait => crate::sync::epoll::epoll_wait, Full;
    epoll_ctl => crate::sync::epoll::epoll_ctl, Full;
    pselect6 => crate::sync::select::pselect6, Full;
    ppoll => crate::sync::poll::ppoll, Full;
    epoll_pwait => crate::sync::epoll::epoll_pwait, Full;
    eventfd => crate::sync::event::eventfd, Full;
    eventfd2 => crate::sync::event::eventfd2, Full;
    epoll_create1 => crate::sync::epoll::epoll_create1, Full;
    pipe2 => crate::sync::pipe::pipe2, Full;
    epoll_pwait2 => crate::sync::epoll::epoll_pwait2, Full;

    // System V interprocess communication.
    shmget => crate::ipc::shm::shmget, Partial("no huge pages; one namespace for the sandbox");
    shmat => crate::ipc::shm::shmat, Full;
    shmctl => crate::ipc::shm::shmctl, Full;
    semget => crate::ipc::sem::semget, Partial("one namespace for the sandbox");
    semop => crate::ipc::sem::semop, Full;
    semctl => crate::ipc::sem::semctl, Full;
    shmdt => crate::ipc::shm::shmdt, Full;
    msgget => crate::ipc::msg::msgget, Partial("one namespace for the sandbox");
    msgsnd => crate::ipc::msg::msgsnd, Full;
    msgrcv => crate::ipc::msg::msgrcv, Full;
    msgctl => crate::ipc::msg::msgctl, Full;
    semtimedop => crate::ipc::sem::semtimedop, Full;
    mq_open => crate::ipc::mqueue::mq_open, Partial("no mqueue file system; one namespace for the sandbox");
    mq_unlink => crate::ipc::mqueue::mq_unlink, Full;
    mq_timedsend => crate::ipc::mqueue::mq_timedsend, Full;
    mq_timedreceive => crate::ipc::mqueue::mq_timedreceive, Full;
    mq_notify => crate::ipc::mqueue::mq_notify, Partial("no SIGEV_THREAD");
    mq_getsetattr => crate::ipc::mqueue::mq_getsetattr, Full;
    // Memory.
    mmap => crate::mm::map::mmap, Partial("MAP_GROWSDOWN grows at the program's own touch only; no hugetlb pages; no MAP_SYNC");
    mprotect => crate::mm::map::mprotect, Full;
    munmap => crate::mm::map::munmap, Full;
    brk => crate::mm::map::brk, Full;
    mremap => crate::mm::map::mremap, Full;
    msync => crate::mm::advise::msync, Full;
    mincore => crate::mm::advise::mincore, Full;
    madvise => crate::mm::advise::madvise, Partial("no page merging, no hardware poison, no guard regions");
    mlock => crate::mm::lock::mlock, Partial("counted and populated, not pinned on the host");
    munlock => crate::mm::lock::munlock, Full;
    mlockall => crate::mm::lock::mlockall, Partial("counted and populated, not pinned on the host");
    munlockall => crate::mm::lock::munlockall, Full;
    remap_file_pages => refused, Refused(Errno::ENOSYS, "obsolete; programs fall back to mmap");
    mbind => crate::mm::numa::mbind, Partial("one memory node");
    set_mempolicy => crate::mm::numa::set_mempolicy, Partial("one memory node; the policy is not kept");
    get_mempolicy => crate::mm::numa::get_mempolicy, Partial("one memory node; always the default policy");
    migrate_pages => crate::mm::numa::migrate_pages, Partial("one memory node: nothing to move");
    mlock2 => crate::mm::lock::mlock2, Partial("counted and populated, not pinned on the host");
    pkey_mprotect => crate::mm::map::pkey_mprotect, Partial("no protection keys: key -1 only");
    pkey_alloc => refused, Refused(Errno::ENOSPC, "no protection keys");
    pkey_free => refused, Refused(Errno::EINVAL, "no protection keys");
    mseal => crate::mm::map::mseal, Full;
    signalfd => crate::sync::signalfd::signalfd, Full;
    timerfd_create => crate::sync::timerfd::timerfd_create, Partial("alarm clocks are refused");
    timerfd_settime => crate::sync::timerfd::timerfd_settime, Full;
    timerfd_gettime => crate::sync::timerfd::timerfd_gettime, Full;
    signalfd4 => crate::sync::signalfd::signalfd4, Partial("readiness is that of the process that made it");

    // Sockets.
    socket => crate::net::socket::socket, Partial("AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (route)");
    connect => crate::net::socket::connect, Full;
    accept => crate::net::socket::accept, Full;
    sendto => crate::net::message::sendto, Full;
    recvfrom => crate::net::message::recvfrom, Full;
    sendmsg => crate::net::message::sendmsg, Full;
    recvmsg => crate::net::message::recvmsg, Full;
    shutdown => crate::net::socket::shutdown, Full;
    bind => crate::net::socket::bind, Full;
    listen => crate::net::socket::listen, Full;
    getsockname => crate::net::socket::getsockname, Full;
    getpeername => crate::net::socket::getpeername, Full;
    socketpair => crate::net::socket::socketpair, Full;
    setsockopt => crate::net::option::setsockopt, Partial("the usual options; others are ENOPROTOOPT");
    getsockopt => crate::net::option::getsockopt, Partial("the usual options; others are ENOPROTOOPT");
    accept4 => crate::net::socket::accept4, Full;
    recvmmsg => crate::net::message::recvmmsg, Full;
    sendmmsg => crate::net::message::sendmmsg, Full;
    inotify_init => crate::sync::inotify::inotify_init, Full;
    inotify_add_watch => crate::sync::inotify::inotify_add_watch, Partial("only changes made in the sandbox are seen");
    inotify_rm_watch => crate::sync::inotify::inotify_rm_watch, Full;
    inotify_init1 => crate::sync::inotify::inotify_init1, Full;

    // The machine as a whole.
    sysinfo => crate::misc::system::sysinfo, Full;
    syslog => crate::misc::log::syslog, Partial("reading an empty log does not wait");
    reboot => crate::misc::system::reboot, Partial("always refused");
    sethostname => crate::misc::names::sethostname, Full;
    setdomainname => crate::misc::names::setdomainname, Full;
    getrandom => crate::misc::random::getrandom, Full;

    // Refused on purpose.
    uselib => refused, Refused(Errno::ENOSYS, "Linux has dropped it");
    ustat => refused, Refused(Errno::ENOSYS, "superseded by statfs");
    vhangup => refused, Refused(Errno::EPERM, "only the host's administrator hangs up terminals");
    modify_ldt => refused, Refused(Errno::ENOSYS, "segments are the host's; 32-bit code is not run");
    _sysctl => refused, Refused(Errno::ENOSYS, "Linux has dropped it");
    acct => refused, Refused(Errno::EPERM, "process accounting is the host's");
    settimeofday => refused, Refused(Errno::EPERM, "the clock is the host's");
    swapon => refused, Refused(Errno::EPERM, "swap is the host's");
    swapoff => refused, Refused(Errno::EPERM, "swap is the host's");
    iopl => refused, Refused(Errno::EPERM, "no access to I/O ports");
    ioperm => refused, Refused(Errno::EPERM, "no access to I/O ports");
    create_module => refused, Refused(Errno::ENOSYS, "Linux has dropped it");
    init_module => refused, Refused(Errno::EPERM, "the kernel has no modules");
    delete_module => refused, Refused(Errno::EPERM, "the kernel has no modules");
    get_kernel_syms => refused, Refused(Errno::ENOSYS, "Linux has dropped it");
    query_module => refused, Refused(Errno::ENOSYS, "Linux has dropped it");
    quotactl => refused, Refused(Errno::ENOSYS, "no file system has quotas");
    nfsservctl => refused, Refused(Errno::ENOSYS, "Linux has dropped it");
    getpmsg => refused, Refused(Errno::ENOSYS, "never existed on Linux");
    putpmsg => refused, Refused(Errno::ENOSYS, "never existed on Linux");
    afs_syscall => refused, Refused(Errno::ENOSYS, "never existed on Linux");
    tuxcall => refused, Refused(Errno::ENOSYS, "never existed on Linux");
    security => refused, Refused(Errno::ENOSYS, "never existed on Linux");
    set_thread_area => refused, Refused(Errno::ENOSYS, "only for 32-bit code");
    get_thread_area => refused, Refused(Errno::ENOSYS, "only for 32-bit code");
    io_setup => refused, Refused(Errno::ENOSYS, "asynchronous I/O is left to threads; libraries fall back");
    io_destroy => refused, Refused(Errno::ENOSYS, "see io_setup");
    io_getevents => refused, Refused(Errno::ENOSYS, "see io_setup");
    io_submit => refused, Refused(Errno::ENOSYS, "see io_setup");
    io_cancel => refused, Refused(Errno::ENOSYS, "see io_setup");
    lookup_dcookie => refused, Refused(Errno::ENOSYS, "Linux has dropped it");
    epoll_ctl_old => refused, Refused(Errno::ENOSYS, "never existed on x86-64");
    epoll_wait_old => refused, Refused(Errno::ENOSYS, "never existed on x86-64");
    vserver => refused, Refused(Errno::ENOSYS, "never existed on Linux");
    add_key => refused, Refused(Errno::ENOSYS, "no key retention service; programs go on without");
    request_key => refused, Refused(Errno::ENOSYS, "see add_key");
    keyctl => refused, Refused(Errno::ENOSYS, "see add_key");
    perf_event_open => refused, Refused(Errno::ENOSYS, "the host's performance counters see more than this sandbox");
    fanotify_init => refused, Refused(Errno::ENOSYS, "only inotify is there");
    fanotify_mark => refused, Refused(Errno::ENOSYS, "see fanotify_init");
    name_to_handle_at => refused, Refused(Errno::EOPNOTSUPP, "files have no handles that outlive them");
    open_by_handle_at => refused, Refused(Errno::EPERM, "see name_to_handle_at");
    finit_module => refused, Refused(Errno::EPERM, "the kernel has no modules");
    kexec_file_load => refused, Refused(Errno::EPERM, "the sandbox has no host kernel to replace");
    bpf => refused, Refused(Errno::EPERM, "no guest code runs in a kernel");
    userfaultfd => refused, Refused(Errno::ENOSYS, "page faults are the host's business");
    io_pgetevents => refused, Refused(Errno::ENOSYS, "see io_setup");
    io_uring_setup => refused, Refused(Errno::ENOSYS, "rings would bypass the walls; programs fall back to epoll");
    io_uring_enter => refused, Refused(Errno::ENOSYS, "see io_uring_setup");
    io_uring_register => refused, Refused(Errno::ENOSYS, "see io_uring_setup");
    quotactl_fd => refused, Refused(Errno::ENOSYS, "no file system has quotas");
    landlock_create_ruleset => refused, Refused(Errno::ENOSYS, "not built; ENOSYS is what programs expect then");
    landlock_add_rule => refused, Refused(Errno::ENOSYS, "see landlock_create_ruleset");
    landlock_restrict_self => refused, Refused(Errno::ENOSYS, "see landlock_create_ruleset");
    memfd_secret => refused, Refused(Errno::ENOSYS, "not offered by Linux either unless switched on");
    map_shadow_stack => refused, Refused(Errno::ENOSYS, "no shadow stacks");
    lsm_get_self_attr => refused, Refused(Errno::ENOSYS, "no security module");
    lsm_set_self_attr => refused, Refused(Errno::ENOSYS, "no security module");
    lsm_list_modules => refused, Refused(Errno::ENOSYS, "no security module");
    // Tasks.
    sched_yield => crate::task::scheduling::sched_yield, Full;
    getpid => crate::task::groups::getpid, Full;
    clone => crate::task::clone::clone, Partial("of namespaces only those of mounts and host names");
    fork => crate::task::clone::fork, Full;
    vfork => crate::task::clone::vfork, Full;
    execve => crate::task::exec::execve, Full;
    exit => crate::task::exit::exit, Full;
    wait4 => crate::task::exit::wait4, Partial("of the usage only times are counted");
    getrlimit => crate::task::limits::getrlimit, Full;
    getrusage => crate::task::limits::getrusage, Partial("times and largest resident size only");
    ptrace => refused, Refused(Errno::EPERM, "not served yet");
    getuid => crate::task::ids::getuid, Full;
    getgid => crate::task::ids::getgid, Full;
    setuid => crate::task::ids::setuid, Full;
    setgid => crate::task::ids::setgid, Full;
    geteuid => crate::task::ids::geteuid, Full;
    getegid => crate::task::ids::getegid, Full;
    setpgid => crate::task::groups::setpgid, Full;
    getppid => crate::task::groups::getppid, Full;
    getpgrp => crate::task::groups::getpgrp, Full;
    setsid => crate::task::groups::setsid, Full;
    setreuid => crate::task::ids::setreuid, Full;
    setregid => crate::task::ids::setregid, Full;
    getgroups => crate::task::ids::getgroups, Full;
    setgroups => crate::task::ids::setgroups, Full;
    setresuid => crate::task::ids::setresuid, Full;
    getresuid => crate::task::ids::getresuid, Full;
    setresgid => crate::task::ids::setresgid, Full;
    getresgid => crate::task::ids::getresgid, Full;
    getpgid => crate::task::groups::getpgid, Full;
    setfsuid => crate::task::ids::setfsuid, Full;
    setfsgid => crate::task::ids::setfsgid, Full;
    getsid => crate::task::groups::getsid, Full;
    capget => crate::task::capabilities::capget, Full;
    capset => crate::task::capabilities::capset, Full;
    personality => crate::task::scheduling::personality, Partial("only ADDR_NO_RANDOMIZE has an effect");
    getpriority => crate::task::scheduling::getpriority, Partial("kept, without effect on the host");
    setpriority => crate::task::scheduling::setpriority, Partial("kept, without effect on the host");
    sched_setparam => crate::task::scheduling::sched_setparam, Partial("kept, without effect on the host");
    sched_getparam => crate::task::scheduling::sched_getparam, Full;
    sched_setscheduler => crate::task::scheduling::sched_setscheduler, Partial("kept, without effect on the host");
    sched_getscheduler => crate::task::scheduling::sched_getscheduler, Full;
    sched_get_priority_max => crate::task::scheduling::sched_get_priority_max, Full;
    sched_get_priority_min => crate::task::scheduling::sched_get_priority_min, Full;
    sched_rr_get_interval => crate::task::scheduling::sched_rr_get_interval, Full;
    prctl => crate::task::prctl::prctl, Partial("no seccomp, PR_SET_MM or speculation control");
    arch_prctl => crate::task::thread::arch_prctl, Partial("segment bases only");
    setrlimit => crate::task::limits::setrlimit, Full;
    gettid => crate::task::groups::gettid, Full;
    futex => crate::task::futex::futex, Partial("priority-inheriting locks raise nobody's priority; no FUTEX_CMP_REQUEUE_PI");
    sched_setaffinity => crate::task::scheduling::sched_setaffinity, Partial("of another thread: takes effect at its next clone");
    sched_getaffinity => crate::task::scheduling::sched_getaffinity, Full;
    set_tid_address => crate::task::thread::set_tid_address, Full;
    exit_group => crate::task::exit::exit_group, Full;
    waitid => crate::task::exit::waitid, Partial("of the usage only times are counted");
    ioprio_set => crate::task::scheduling::ioprio_set, Partial("kept, without effect on the host");
    ioprio_get => crate::task::scheduling::ioprio_get, Full;
    unshare => crate::task::clone::unshare, Partial("of namespaces only those of mounts and host names");
    set_robust_list => crate::task::thread::set_robust_list, Full;
    get_robust_list => crate::task::thread::get_robust_list, Partial("of the caller only: ENOSYS for others that may be looked into");
    prlimit64 => crate::task::limits::prlimit64, Full;
    setns => crate::task::clone::setns, Partial("always EPERM");
    getcpu => crate::task::thread::getcpu, Full;
    process_vm_readv => crate::task::vm_access::process_vm_readv, Full;
    process_vm_writev => crate::task::vm_access::process_vm_writev, Full;
    kcmp => refused, Refused(Errno::ENOSYS, "programs do without");
    sched_setattr => crate::task::scheduling::sched_setattr, Partial("kept, without effect on the host; no deadlines");
    sched_getattr => crate::task::scheduling::sched_getattr, Partial("no deadlines");
    seccomp => crate::task::thread::seccomp, Partial("guests' own filters are refused with EINVAL");
    execveat => crate::task::exec::execveat, Full;
    membarrier => crate::task::thread::membarrier, Full;
    rseq => crate::task::thread::rseq, Full;
    pidfd_send_signal => crate::task::pidfd::pidfd_send_signal, Full;
    pidfd_open => crate::task::pidfd::pidfd_open, Full;
    clone3 => crate::task::clone::clone3, Partial("of namespaces only those of mounts and host names; no chosen ids");
    pidfd_getfd => crate::task::pidfd::pidfd_getfd, Full;

    // Signals.
    rt_sigaction => crate::signal::action::rt_sigaction, Full;
    rt_sigprocmask => crate::signal::action::rt_sigprocmask, Full;
    rt_sigreturn => crate::signal::action::rt_sigreturn, Full;
    pause => crate::signal::wait::pause, Full;
    kill => crate::signal::send::kill, Full;
    rt_sigpending => crate::signal::action::rt_sigpending, Full;
    rt_sigtimedwait => crate::signal::wait::rt_sigtimedwait, Full;
    rt_sigqueueinfo => crate::signal::send::rt_sigqueueinfo, Full;
    rt_sigsuspend => crate::signal::wait::rt_sigsuspend, Full;
    sigaltstack => crate::signal::action::sigaltstack, Full;
    tkill => crate::signal::send::tkill, Full;
    restart_syscall => crate::signal::wait::restart_syscall, Full;
    tgkill => crate::signal::send::tgkill, Full;
    rt_tgsigqueueinfo => crate::signal::send::rt_tgsigqueueinfo, Full;

    // Time.
    nanosleep => crate::time::sleep::nanosleep, Full;
    getitimer => crate::time::timers::getitimer, Full;
    alarm => crate::time::timers::alarm, Full;
    setitimer => crate::time::timers::setitimer, Full;
    gettimeofday => crate::time::clocks::gettimeofday, Full;
    times => crate::time::clocks::times, Full;
    adjtimex => crate::time::clocks::adjtimex, Partial("reads only, EPERM otherwise");
    time => crate::time::clocks::time, Full;
    timer_create => crate::time::timers::timer_create, Partial("a thread's CPU clock counts its whole process");
    timer_settime => crate::time::timers::timer_settime, Partial("wall-clock times do not follow jumps of the clock");
    timer_gettime => crate::time::timers::timer_gettime, Full;
    timer_getoverrun => crate::time::timers::timer_getoverrun, Full;
    timer_delete => crate::time::timers::timer_delete, Full;
    clock_settime => crate::time::clocks::clock_settime, Partial("always EPERM");
    clock_gettime => crate::time::clocks::clock_gettime, Full;
    clock_getres => crate::time::clocks::clock_getres, Full;
    clock_nanosleep => crate::time::sleep::clock_nanosleep, Partial("no CPU clocks; wall-clock times do not follow jumps");
    clock_adjtime => crate::time::clocks::clock_adjtime, Partial("reads only, EPERM otherwise");

    kexec_load => refused, Refused(Errno::EPERM, "the sandbox has no host kernel to replace");
}

static INDEX: [Option<u16>; LIMIT] = index(ROWS);

/// All rows, as listed.
#[must_use]
pub fn rows() -> &'static [Row] {
    ROWS
}

fn row(number: u64) -> Option<&'static Row> {
    let index = (*INDEX.get(usize::try_from(number).ok()?)?)?;
    ROWS.get(usize::from(index))
}

/// The table as the kernel calls it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table;

impl SyscallAbi for Table {
    fn call(&self, current: &mut Current, number: u64, args: [u64; 6]) -> Outcome {
        match row(number) {
            None => Outcome::Error(Errno::ENOSYS),
            Some(Row { support: Support::Refused(errno, _), .. }) => Outcome::Error(*errno),
            Some(row) => (row.handler)(current, args),
        }
    }

    fn wait_interrupted(&self, current: &mut Current, number: u64, waited_ns: u64) -> Errno {
        if number == nr::FUTEX {
            return crate::task::futex::wait_interrupted(current, waited_ns);
        }
        Errno::EINTR
    }

    fn leaves_descriptors(&self, number: u64) -> bool {
        crate::sync::harmless::leaves_descriptors(number)
    }

    fn name(&self, number: u64) -> Option<&'static str> {
        row(number).map(|row| row.name)
    }
}
