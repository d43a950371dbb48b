//! How does a process of ours get into its jail? By one `clone3` straight into new namespaces, a few raw
//! calls and `execveat`.
//!
//! Key types: [`Jail`] (what to start and how much to take away), [`Held`] (the cloned child, waiting) and
//! [`Started`]. The child is held until [`Held::release`], so that the caller can put it into cgroups before
//! its first instruction. Between the clone and the exec the child makes raw system calls only: it allocates
//! nothing and takes no lock, because the parent may have other threads.
//!
//! What the child does, in order (each step has a name, which an error reports): wait for the parent (and end with
//! it, if it ends: the waiting child has a copy of every descriptor of the parent's), start a
//! session, take its id, mount and enter an empty root, drop every capability, forbid new privileges, ask to
//! die with the parent's *thread* (so the calling thread has to live on), place descriptors, exec.
//!
//! It stays dumpable and keeps one uid for all that it forks later, since the sentry must be able to reach its
//! stubs with `process_vm_readv` and `pidfd_getfd`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_char, c_int, c_long, c_ulong};

mod identity;

pub use identity::{ActingAs, Ids};

/// Descriptors that the child is given are first moved above this number, so that placing one cannot
/// overwrite the next.
const PARKING: RawFd = 100;
/// Highest capability number tried when the bounding set is emptied; the kernel refuses the ones it has not.
const LAST_CAPABILITY: c_ulong = 63;
/// LINUX: `linux/prctl.h`; the `libc` crate has none of these.
const PR_SET_SPECULATION_CTRL: c_int = 53;
const PR_SPEC_STORE_BYPASS: c_long = 0;
const PR_SPEC_INDIRECT_BRANCH: c_long = 1;
const PR_SPEC_FORCE_DISABLE: c_long = 8;
const PR_SCHED_CORE: c_int = 62;
const PR_SCHED_CORE_CREATE: c_int = 1;
/// LINUX: `PIDTYPE_PID`: one task.
const PR_SCHED_CORE_SCOPE_THREAD: c_int = 0;
/// Exit status of a child that could not enter its jail; nobody but [`Held`] sees it.
const FAILED: c_int = 125;

/// Which new namespaces the child gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(c_int);

impl Namespaces {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// Its own processes: it is the first of them.
    pub const PROCESSES: Self = Self(libc::CLONE_NEWPID);
    /// Mounts, processes, IPC and host name: everything except the network and the users.
    pub const ALL_BUT_NETWORK: Self =
        Self(libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS);
}

/// What the child sees as `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The parent's tree. The program is expected to confine itself.
    Inherited,
    /// An empty read-only tmpfs. Needs a mount namespace.
    Empty,
}

/// Which privileges are left at the exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// The parent's. The program is expected to drop them.
    Inherited,
    /// None: a user namespace in which only this id is mapped (to itself outside), no capability anywhere.
    OnlyId(u32),
    /// None, but without a user namespace, for hosts that allow none: the id, and no capability.
    OnlyIdNoNamespace(u32),
}

/// A process to start and what it may have.
#[derive(Debug)]
pub struct Jail<'a> {
    /// The program, opened by the caller: the path need not exist inside.
    pub program: BorrowedFd<'a>,
    /// Its argument vector.
    pub args: Vec<CString>,
    /// Its environment.
    pub env: Vec<CString>,
    /// Its descriptors 0, 1, 2, ...; everything else is closed.
    pub fds: Vec<BorrowedFd<'a>>,
    /// New namespaces besides the user namespace that [`Privileges::OnlyId`] implies.
    pub namespaces: Namespaces,
    /// Its `/`.
    pub root: Root,
    /// Its rights.
    pub privileges: Privileges,
    /// Kill it when the calling thread ends.
    pub die_with_parent: bool,
    /// How it, and all that it starts, may be speculated with.
    pub speculation: Speculation,
}

/// What the processor may do ahead of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speculation {
    /// As the host has it.
    Host,
    /// LINUX: `PR_SET_SPECULATION_CTRL`: no store bypass, no indirect branches by what others have taught, where the host can; for good.
    Restricted,
}

/// Why a jail could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {cause}")]
pub struct JailError {
    /// The step that failed.
    pub step: &'static str,
    /// The host's answer.
    pub cause: io::Error,
}

impl JailError {
    fn last(step: &'static str) -> Self {
        Self { step, cause: io::Error::last_os_error() }
    }
}

/// A child that waits for its release; dropped, it ends by itself without having run anything.
#[derive(Debug)]
pub struct Held {
    started: Started,
    release: OwnedFd,
    report: OwnedFd,
}

/// A running child.
#[derive(Debug)]
pub struct Started {
    /// Its pid as the caller sees it.
    pub pid: i32,
    /// Becomes readable when it has ended.
    pub pidfd: OwnedFd,
}

impl Jail<'_> {
    /// Clones the child into its namespaces and leaves it waiting.
    ///
    /// # Errors
    /// The step and the host's reason, for instance that user namespaces are switched off.
    pub fn prepare(&self) -> Result<Held, JailError> {
        let (go_read, go_write) = pipe()?;
        let (report_read, report_write) = pipe()?;
        let parked = self.fds.iter().map(|fd| park(fd.as_raw_fd())).collect::<Result<Vec<_>, _>>()?;
        let program = park(self.program.as_raw_fd())?;
        let go = park(go_read.as_raw_fd())?;
        let report = park(report_write.as_raw_fd())?;
        drop((go_read, report_write));
        let argv = pointers(&self.args);
        let envp = pointers(&self.env);
        let order = Order {
            go: go.as_raw_fd(),
            release: go_write.as_raw_fd(),
            report: report.as_raw_fd(),
            program: program.as_raw_fd(),
            fds: &parked.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(),
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            root: self.root,
            privileges: self.privileges,
            die_with_parent: self.die_with_parent,
            speculation: self.speculation,
            in_sandbox: self.namespaces != Namespaces::NONE,
        };
        let mut flags = self.namespaces.0;
        if matches!(self.privileges, Privileges::OnlyId(_)) {
            flags |= libc::CLONE_NEWUSER;
        }
        let started = clone_child(flags, &order)?;
        // Our copy of the report pipe has to go, or its end would never be seen.
        drop(report);
        let held = Held { started, release: go_write, report: report_read };
        if let Privileges::OnlyId(id) = self.privileges {
            map_only(held.started.pid, id)?;
        }
        Ok(held)
    }
}

impl Held {
    /// Pid of the waiting child.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.started.pid
    }

    /// Lets the child enter its jail and exec; returns when the program runs.
    ///
    /// # Errors
    /// The step at which the child failed and why. The child has ended then.
    pub fn release(self) -> Result<Started, JailError> {
        let Self { started, release, report } = self;
        // SAFETY: a valid descriptor and one readable byte.
        if unsafe { libc::write(release.as_raw_fd(), b"!".as_ptr().cast(), 1) } != 1 {
            return Err(JailError::last("release the child"));
        }
        let mut told = [0u8; 8];
        let mut have = 0;
        while have < told.len() {
            let rest = &mut told[have..];
            // SAFETY: the buffer is valid for the length given.
            let n = unsafe { libc::read(report.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len()) };
            match n {
                0 => return Ok(started),
                n if n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                n if n < 0 => return Err(JailError::last("read the child's report")),
                n => have += usize::try_from(n).expect("positive"),
            }
        }
        let mut parts = told.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        let (step, errno) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        reap(started.pid);
        let step = usize::try_from(step).ok().and_then(|i| STEPS.get(i)).copied().unwrap_or("enter the jail");
        Err(JailError { step, cause: io::Error::from_raw_os_error(errno) })
    }
}

/// Names of the child's steps; [`Step`] indexes it.
const STEPS: [&str; 14] = [
    "wait for the parent",
    "start a session",
    "limit resources",
    "drop groups",
    "take the unprivileged id",
    "keep capabilities for the mounts",
    "make mounts private",
    "mount an empty root",
    "enter the empty root",
    "drop capabilities",
    "forbid new privileges",
    "die with the parent",
    "place descriptors",
    "exec the program",
];

/// Index into [`STEPS`].
#[derive(Clone, Copy)]
#[repr(i32)]
enum Step {
    Wait,
    Session,
    Limits,
    Groups,
    Id,
    Keep,
    Private,
    Mount,
    Pivot,
    Capabilities,
    NoNewPrivs,
    Death,
    Descriptors,
    Exec,
}

/// All that the child needs, prepared before the clone.
struct Order<'a> {
    go: RawFd,
    /// The other end of `go`, of which the child has a copy until its exec.
    release: RawFd,
    report: RawFd,
    program: RawFd,
    fds: &'a [RawFd],
    argv: *const *const c_char,
    envp: *const *const c_char,
    root: Root,
    privileges: Privileges,
    die_with_parent: bool,
    speculation: Speculation,
    /// It gets namespaces, so it is part of a sandbox; the shim's own helpers get none and keep their limits.
    in_sandbox: bool,
}

/// A raw call with up to five arguments; the errno on failure. Used by the child, so it must stay free of
/// allocation and of the C library's own wrappers (its `setresuid` talks to threads that are not there).
fn raw(number: c_long, args: [c_long; 5]) -> Result<c_long, c_int> {
    let [a, b, c, d, e] = args;
    // SAFETY: the callers below pass numbers and pointers that live for the whole call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn errno() -> c_int {
    // SAFETY: no arguments; the pointer is to this thread's own errno.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the C library's errno of this thread is always there.
    unsafe { *place }
}

fn ptr(text: &CStr) -> c_long {
    text.as_ptr() as c_long
}

/// Clones; in the child runs the order and never returns.
fn clone_child(flags: c_int, order: &Order<'_>) -> Result<Started, JailError> {
    let mut pidfd: c_int = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());

    // No handler of ours may run in the child.
    let mask = block_signals()?;
    // SAFETY: without CLONE_VM the child gets a copy of this address space, and continues below with raw calls only.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        let (step, errno) = enter(order);
        let mut told = [0u8; 8];
        let (first, second) = told.split_at_mut(4);
        first.copy_from_slice(&(step as i32).to_le_bytes());
        second.copy_from_slice(&errno.to_le_bytes());
        let _ = raw(libc::SYS_write, [order.report.into(), told.as_ptr() as c_long, 8, 0, 0]);
        // SAFETY: ends this process at once, without running anything of the parent's.
        unsafe { libc::_exit(FAILED) }
    }
    let failed = (pid < 0).then(|| JailError::last("clone"));
    restore_signals(&mask);
    if let Some(error) = failed {
        return Err(error);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Started { pid: i32::try_from(pid).expect("pids fit"), pidfd })
}

/// The child's way in. Returns only on failure.
fn enter(order: &Order<'_>) -> (Step, c_int) {
    match enter_steps(order) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Nothing has this type: `enter_steps` ends in an exec or in an error.
enum Never {}

fn enter_steps(order: &Order<'_>) -> Result<Never, (Step, c_int)> {
    // Or it would hold up its own end of file: a child whose parent is killed would wait for ever, with copies of
    // all that the parent had open.
    at(Step::Wait, raw(libc::SYS_close, [order.release.into(), 0, 0, 0, 0]))?;
    let mut byte = 0u8;
    let got = raw(libc::SYS_read, [order.go.into(), (&raw mut byte) as c_long, 1, 0, 0]);
    if got != Ok(1) {
        return Err((Step::Wait, got.err().unwrap_or(libc::ECANCELED)));
    }
    // A child of its own session is not reached by the terminal's signals.
    at(Step::Session, raw(libc::SYS_setsid, [0; 5]))?;
    if order.in_sandbox {
        limit_resources()?;
    }
    if order.speculation == Speculation::Restricted {
        restrict_speculation();
    }
    if let Privileges::OnlyId(id) | Privileges::OnlyIdNoNamespace(id) = order.privileges {
        take_id(id.into())?;
    }
    if order.root == Root::Empty {
        enter_empty_root()?;
    }
    if order.privileges != Privileges::Inherited {
        drop_capabilities()?;
        at(Step::NoNewPrivs, prctl(libc::PR_SET_NO_NEW_PRIVS, 1))?;
    }
    if order.die_with_parent {
        at(Step::Death, prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.into()))?;
        // A parent that had died before is not told by a signal, but by the end of its pipe.
        if is_hung_up(order.go) {
            return Err((Step::Death, libc::ECANCELED));
        }
    }
    place_descriptors(order.fds)?;
    reset_signals();
    let empty = c"";
    let call = [
        order.program.into(),
        ptr(empty),
        order.argv as c_long,
        order.envp as c_long,
        libc::AT_EMPTY_PATH.into(),
    ];
    match raw(libc::SYS_execveat, call) {
        Err(errno) => Err((Step::Exec, errno)),
        Ok(_) => Err((Step::Exec, libc::EINVAL)),
    }
}

fn at(step: Step, result: Result<c_long, c_int>) -> Result<(), (Step, c_int)> {
    result.map(|_| ()).map_err(|errno| (step, errno))
}

fn prctl(option: c_int, value: c_long) -> Result<c_long, c_int> {
    raw(libc::SYS_prctl, [option.into(), value, 0, 0, 0])
}

/// What no process of ours needs, whatever this one may have. LINUX: core(5): a limit of 1 keeps a dump even from a program that the host pipes
/// it into, where 0 does not. The size of files is not limited: it is for the guests' files, by the sentry.
fn limit_resources() -> Result<(), (Step, c_int)> {
    for (resource, limit) in [
        (libc::RLIMIT_CORE, 1),
        (libc::RLIMIT_MSGQUEUE, 0),
        (libc::RLIMIT_RTPRIO, 0),
        (libc::RLIMIT_MEMLOCK, 0),
    ] {
        let both = libc::rlimit64 { rlim_cur: limit, rlim_max: limit };
        at(Step::Limits, raw(libc::SYS_prlimit64, [0, resource.into(), (&raw const both) as c_long, 0, 0]))?;
    }
    Ok(())
}

/// A host or a processor that has no such switch is no reason not to run: what is on is read back by who asked for it.
fn restrict_speculation() {
    for what in [PR_SPEC_STORE_BYPASS, PR_SPEC_INDIRECT_BRANCH] {
        let call = [PR_SET_SPECULATION_CTRL.into(), what, PR_SPEC_FORCE_DISABLE, 0, 0];
        let _ = raw(libc::SYS_prctl, call);
    }
}

/// True if nobody has the other end of the pipe any more.
fn is_hung_up(pipe: RawFd) -> bool {
    let mut entry = libc::pollfd { fd: pipe, events: 0, revents: 0 };
    raw(libc::SYS_poll, [(&raw mut entry) as c_long, 1, 0, 0, 0]) != Ok(0)
}

/// Becomes `id` and keeps the capabilities until the mounts are done.
fn take_id(id: c_long) -> Result<(), (Step, c_int)> {
    // A caller without rights could not allow setgroups in its map; it has no groups to lose that matter.
    match raw(libc::SYS_setgroups, [0; 5]) {
        Ok(_) | Err(libc::EPERM) => {}
        Err(errno) => return Err((Step::Groups, errno)),
    }
    at(Step::Keep, prctl(libc::PR_SET_KEEPCAPS, 1))?;
    at(Step::Id, raw(libc::SYS_setresgid, [id, id, id, 0, 0]))?;
    at(Step::Id, raw(libc::SYS_setresuid, [id, id, id, 0, 0]))?;
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut sets = [CapData::default(); 2];
    let call = [(&raw mut header) as c_long, (&raw mut sets) as c_long, 0, 0, 0];
    at(Step::Keep, raw(libc::SYS_capget, call))?;
    for set in &mut sets {
        set.effective = set.permitted;
    }
    at(Step::Keep, raw(libc::SYS_capset, call))
}

/// LINUX: `_LINUX_CAPABILITY_VERSION_3`.
const CAP_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Mounts an empty tmpfs, makes it the root and lets go of everything else.
fn enter_empty_root() -> Result<(), (Step, c_int)> {
    // `/proc` stands for "a directory that surely exists"; only this mount namespace sees the change.
    let (none, place, tmpfs, here, root) = (c"none", c"/proc", c"tmpfs", c".", c"/");
    let (options, nothing) = (c"size=4k,nr_inodes=2,mode=555", 0);
    let private = (libc::MS_REC | libc::MS_PRIVATE).cast_signed();
    at(Step::Private, raw(libc::SYS_mount, [nothing, ptr(root), nothing, private, nothing]))?;
    let flags = (libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC).cast_signed();
    at(Step::Mount, raw(libc::SYS_mount, [ptr(none), ptr(place), ptr(tmpfs), flags, ptr(options)]))?;
    at(Step::Pivot, raw(libc::SYS_chdir, [ptr(place), 0, 0, 0, 0]))?;
    // LINUX: pivot_root(2), "pivot_root(".", ".")": the old root is stacked on the new one and detached.
    at(Step::Pivot, raw(libc::SYS_pivot_root, [ptr(here), ptr(here), 0, 0, 0]))?;
    at(Step::Pivot, raw(libc::SYS_umount2, [ptr(here), libc::MNT_DETACH.into(), 0, 0, 0]))?;
    at(Step::Pivot, raw(libc::SYS_chdir, [ptr(root), 0, 0, 0, 0]))
}

fn drop_capabilities() -> Result<(), (Step, c_int)> {
    for capability in 0..=LAST_CAPABILITY {
        match prctl(libc::PR_CAPBSET_DROP, capability.cast_signed()) {
            Ok(_) | Err(libc::EINVAL) => {}
            Err(errno) => return Err((Step::Capabilities, errno)),
        }
    }
    at(Step::Capabilities, prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL.into()))?;
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let sets = [CapData::default(); 2];
    at(
        Step::Capabilities,
        raw(libc::SYS_capset, [(&raw const header) as c_long, (&raw const sets) as c_long, 0, 0, 0]),
    )
}

/// Puts the parked descriptors at 0, 1, 2, ... and marks the rest to be closed by the exec.
fn place_descriptors(fds: &[RawFd]) -> Result<(), (Step, c_int)> {
    let mut place: c_long = 0;
    for fd in fds {
        at(Step::Descriptors, raw(libc::SYS_dup3, [(*fd).into(), place, 0, 0, 0]))?;
        place = place.wrapping_add(1);
    }
    let cloexec = libc::CLOSE_RANGE_CLOEXEC.into();
    at(Step::Descriptors, raw(libc::SYS_close_range, [place, c_int::MAX.into(), cloexec, 0, 0]))
}

/// Default dispositions (an ignored signal would stay ignored across exec) and an empty mask.
fn reset_signals() {
    /// LINUX: the kernel's `struct sigaction` and its `sigset_t` of 64 signals.
    const SIGSET_SIZE: c_long = 8;
    let default = [0u64; 4];
    for signal in 1..=64 {
        let _ = raw(libc::SYS_rt_sigaction, [signal, default.as_ptr() as c_long, 0, SIGSET_SIZE, 0]);
    }
    let none = 0u64;
    let call = [libc::SIG_SETMASK.into(), (&raw const none) as c_long, 0, SIGSET_SIZE, 0];
    let _ = raw(libc::SYS_rt_sigprocmask, call);
}

/// Blocks every signal of this thread; returns the old mask.
fn block_signals() -> Result<libc::sigset_t, JailError> {
    // SAFETY: all-zero is a valid set.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut old: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: two valid sets.
    if unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) } != 0 {
        return Err(JailError::last("block signals"));
    }
    Ok(old)
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: a valid set, as `block_signals` returned it.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

fn pipe() -> Result<(OwnedFd, OwnedFd), JailError> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(JailError::last("make a pipe"));
    }
    // SAFETY: the kernel has just made it for us.
    let read = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let write = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    Ok((read, write))
}

/// A copy of `fd` above [`PARKING`].
fn park(fd: RawFd) -> Result<OwnedFd, JailError> {
    // SAFETY: plain numbers.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, PARKING) };
    if copy < 0 {
        return Err(JailError::last("duplicate a descriptor"));
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A null-terminated vector of pointers into `strings`.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Maps the one id, to itself for a privileged caller, otherwise to the caller's own.
fn map_only(pid: i32, id: u32) -> Result<(), JailError> {
    // SAFETY: no arguments, cannot fail.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments, cannot fail.
    let gid = unsafe { libc::getegid() };
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/{pid}/{file}"), text)
            .map_err(|cause| JailError { step: "map the unprivileged id", cause })
    };
    if uid == 0 {
        write("gid_map", format!("{id} {id} 1\n"))?;
        return write("uid_map", format!("{id} {id} 1\n"));
    }
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{id} {gid} 1\n"))?;
    write("uid_map", format!("{id} {uid} 1\n"))
}

fn reap(pid: i32) {
    let mut status = 0;
    // SAFETY: our own child and a valid place for its status.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
}

/// Which network namespace the calling *thread* enters; its children inherit it.
#[derive(Debug, Clone, Copy)]
pub enum Network<'a> {
    /// Stay.
    Host,
    /// A new one in which only `lo` exists, and is up.
    New,
    /// An existing one, by a descriptor of its file.
    Existing(BorrowedFd<'a>),
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// The host's refusal.
pub fn enter_network(network: Network<'_>) -> Result<(), JailError> {
    match network {
        Network::Host => Ok(()),
        Network::Existing(fd) => {
            // SAFETY: plain numbers; only this thread changes.
            if unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(JailError::last("enter the network namespace"));
            }
            Ok(())
        }
        Network::New => {
            // SAFETY: plain numbers; only this thread changes.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(JailError::last("make a network namespace"));
            }
            loopback_up()
        }
    }
}

/// Gives the calling thread, and all that it starts, a core-scheduling cookie of its own: what has another never runs on the same core at the
/// same time. LINUX: core-scheduling.rst.
///
/// # Errors
/// `ENODEV` where no core has two threads, `EINVAL` on a kernel without it.
pub fn own_cores() -> io::Result<()> {
    // SAFETY: plain numbers; pid 0 and the type of a task are this thread alone.
    let result =
        unsafe { libc::prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `ip link set lo up`.
fn loopback_up() -> Result<(), JailError> {
    // SAFETY: plain numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(JailError::last("open a socket for lo"));
    }
    // SAFETY: the kernel has just made it for us.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("flags fit");
    // SAFETY: SIOCSIFFLAGS takes an ifreq.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } != 0 {
        return Err(JailError::last("bring lo up"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn shell(
        script: &str,
        root: Root,
        privileges: Privileges,
        namespaces: Namespaces,
    ) -> Result<String, JailError> {
        // busybox is one static file, so it runs in an empty root; without it there is nothing to try here.
        let program =
            File::open("/bin/busybox").map_err(|cause| JailError { step: "open busybox", cause })?;
        let (read, write) = pipe()?;
        let null = File::open("/dev/null").map_err(|cause| JailError { step: "null", cause })?;
        let jail = Jail {
            program: program.as_fd(),
            args: ["sh", "-c", script].iter().map(|s| CString::new(*s).expect("no zero")).collect(),
            env: Vec::new(),
            fds: vec![null.as_fd(), write.as_fd(), write.as_fd()],
            namespaces,
            root,
            privileges,
            die_with_parent: true,
            speculation: Speculation::Host,
        };
        let started = jail.prepare()?.release()?;
        drop(write);
        let mut out = String::new();
        File::from(read).read_to_string(&mut out).map_err(|cause| JailError { step: "read", cause })?;
        reap(started.pid);
        Ok(out)
    }

    fn jailed(script: &str) -> Option<String> {
        if !std::path::Path::new("/bin/busybox").exists() || unprivileged() {
            return None;
        }
        let out = shell(script, Root::Empty, Privileges::OnlyId(65534), Namespaces::ALL_BUT_NETWORK);
        Some(out.expect("the jail can be entered"))
    }

    fn unprivileged() -> bool {
        // SAFETY: no arguments, cannot fail.
        unsafe { libc::geteuid() != 0 }
    }

    #[test]
    fn the_jailed_program_is_pid_one_in_an_empty_root() {
        let Some(out) = jailed("echo $$; echo /*; echo x > /file && echo wrote; ls -la / | wc -l") else {
            return;
        };
        assert_eq!(out.lines().next(), Some("1"), "{out}");
        assert_eq!(out.lines().nth(1), Some("/*"), "{out}");
        assert!(!out.contains("wrote"), "{out}");
    }

    #[test]
    fn the_jailed_program_has_the_one_id_and_no_others() {
        let Some(out) = jailed("id -u; id -g") else { return };
        assert_eq!(out, "65534\n65534\n");
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_reported_with_its_step() {
        let program = File::open("/etc/passwd").expect("there is one");
        let null = File::open("/dev/null").expect("there is one");
        let jail = Jail {
            program: program.as_fd(),
            args: vec![CString::from(c"x")],
            env: Vec::new(),
            fds: vec![null.as_fd()],
            namespaces: Namespaces::NONE,
            root: Root::Inherited,
            privileges: Privileges::Inherited,
            die_with_parent: true,
            speculation: Speculation::Host,
        };
        let error = jail.prepare().expect("clones").release().expect_err("not a program");
        assert_eq!(error.step, "exec the program");
    }

    #[test]
    fn a_held_child_ends_when_nobody_can_release_it_any_more() {
        let null = File::open("/dev/null").expect("there is one");
        let jail = Jail {
            program: null.as_fd(),
            args: Vec::new(),
            env: Vec::new(),
            fds: vec![null.as_fd()],
            namespaces: Namespaces::NONE,
            root: Root::Inherited,
            privileges: Privileges::Inherited,
            die_with_parent: false,
            speculation: Speculation::Host,
        };
        let Held { started, release, .. } = jail.prepare().expect("clones");
        drop(release);
        let mut poll = libc::pollfd { fd: started.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        let ended = unsafe { libc::poll(&raw mut poll, 1, 5000) };
        // SAFETY: a signal to a child of ours that has not been waited for.
        unsafe { libc::kill(started.pid, libc::SIGKILL) };
        reap(started.pid);
        assert_eq!(ended, 1, "it waits for ever");
    }

    #[test]
    fn descriptors_arrive_in_order_and_no_others() {
        if !std::path::Path::new("/bin/busybox").exists() {
            return;
        }
        let out = shell("ls /proc/self/fd", Root::Inherited, Privileges::Inherited, Namespaces::NONE);
        // 3 is the directory that ls itself reads.
        assert_eq!(out.expect("runs"), "0\n1\n2\n3\n");
    }
}
