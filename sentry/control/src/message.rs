//! The messages on the control socket between the shim (or the CLI) and the sentry.
//!
//! One stream socket per sandbox. The shim sends [`ToSentry`] frames, the sentry sends [`FromSentry`] frames.
//! Every request carries an id and gets exactly one reply with that id; events are unsolicited and ordered.
//! Descriptors travel with the frame in the order that each message documents.
//! The shim is trusted by the sentry; the sentry is *not* trusted by the shim, which must check what it reads.

use serde::{Deserialize, Serialize};

/// A frame from the shim to the sentry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToSentry {
    /// Chosen by the sender, echoed in the reply.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// A frame from the sentry to the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromSentry {
    /// The answer to request `id`.
    Reply {
        /// The request's id.
        id: u64,
        /// Its outcome; an error is one line for a person.
        result: Result<Reply, Failure>,
    },
    /// Something that happened on its own.
    Event(Event),
}

/// Why a request failed: one line for the person who must act, and its kind for the caller's protocol.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Failure {
    /// How a caller should classify it.
    pub kind: FailureKind,
    /// One line, lower case, no trailing full stop.
    pub message: String,
}

/// Coarse classes of failure, mapped by the shim to ttrpc status codes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub enum FailureKind {
    /// No such container or process.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// Not in the state that the request needs.
    FailedPrecondition,
    /// The request itself is wrong (bad path, not executable, wrong architecture).
    InvalidArgument,
    /// Anything else.
    Internal,
}

/// Requests of the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Always first, once. No descriptors.
    Boot(Box<BootConfig>),
    /// Prepare a container: mount its root, find its program, fork its stub template.
    ///
    /// Descriptors, in order: the gofer's socket; then stdin, stdout, stderr of the init process
    /// (always three: `/dev/null` where there is none; with a terminal all that the guest's terminal prints goes to stdout).
    /// Reply: [`Reply::Created`] with one descriptor, a pidfd of the stub template, which the caller puts
    /// into the container's cgroup before it sends [`Request::Start`].
    Create(Box<ContainerConfig>),
    /// Release the container's first task.
    Start {
        /// Container id.
        container: String,
    },
    /// Start one more process in a running container.
    ///
    /// Descriptors: stdin, stdout, stderr as in `Create`. Reply: [`Reply::Started`].
    Exec {
        /// Container id.
        container: String,
        /// Exec id, unique within the container.
        exec: String,
        /// What to run.
        process: Box<ProcessConfig>,
    },
    /// Change a running container's limits.
    Limit {
        /// Container id.
        container: String,
        /// Bytes of memory; 0 for no limit.
        memory: u64,
        /// Tasks; 0 for no limit.
        tasks: u64,
    },
    /// What the sentry keeps on behalf of a container. Reply: [`Reply::Usage`].
    Usage {
        /// Container id.
        container: String,
    },
    /// Send a signal.
    Signal {
        /// Container id.
        container: String,
        /// A process started by `Exec`; the init process if absent.
        exec: Option<String>,
        /// Signal number, 1 to 64.
        signal: i32,
        /// To every process of the container.
        all: bool,
    },
    /// Set the size of a process's terminal; without a terminal it does nothing.
    Resize {
        /// Container id.
        container: String,
        /// Exec id; init if absent.
        exec: Option<String>,
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// The guest's process ids in a container, in the container's own pid namespace.
    Pids {
        /// Container id.
        container: String,
    },
    /// Forget a container whose processes have all gone; kills what is left of it first.
    Delete {
        /// Container id.
        container: String,
    },
    /// Kill everything and exit.
    Shutdown,
    /// For debugging: the sentry's own figures, see [`Reply::Status`].
    Status,
}

/// Answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing to tell.
    Ok,
    /// See [`Request::Create`].
    Created {
        /// Guest pid of the init process (1, unless the pod shares one pid namespace).
        pid: i32,
    },
    /// See [`Request::Exec`].
    Started {
        /// Guest pid of the new process.
        pid: i32,
    },
    /// See [`Request::Pids`].
    Pids(Vec<GuestProcess>),
    /// Booted: which platform runs.
    Booted {
        /// `systrap` or `ptrace`.
        platform: String,
        /// Why a better platform was not used, if so: one line.
        fallback: Option<String>,
    },
    /// Counters by name.
    Status(Vec<(String, u64)>),
    /// See [`Request::Usage`].
    Usage {
        /// Bytes of memory that the sentry holds for it.
        memory: u64,
        /// Its guest tasks.
        tasks: u64,
    },
}

/// A process of a container.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct GuestProcess {
    /// Guest pid in the container's pid namespace.
    pub pid: i32,
    /// Set for a process that `Exec` started.
    pub exec: Option<String>,
}

/// What the sentry tells unasked, in order.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub enum Event {
    /// A process that the shim started has ended, and its output has been written to its descriptors, which are closed.
    Exited {
        /// Container id.
        container: String,
        /// Exec id; init if absent.
        exec: Option<String>,
        /// Exit status as a shell shows it: 0..=255, 128 + signal if killed.
        status: i32,
        /// A stub of the container was killed by the host (out of memory, most likely).
        killed_by_host: bool,
    },
    /// A line for the person who operates the host.
    Warning(String),
}

/// How a sandbox is booted.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct BootConfig {
    /// Sandbox id, for logs.
    pub sandbox: String,
    /// `auto`, `systrap` or `ptrace`.
    pub platform: String,
    /// The pod's host name.
    pub hostname: String,
    /// Print each system call of the guest to the debug log.
    pub strace: bool,
    /// `error`, `warn`, `info`, `debug` or `trace`; the log goes to the sentry's stderr.
    pub log_level: String,
    /// Switches for measuring and debugging, all on by default in [`Tuning::default`].
    pub tuning: Tuning,
    /// Number of processors that guests see; 0 means all.
    pub cpus: u32,
    /// Memory that guests see in /proc/meminfo, in bytes; 0 means the host's.
    pub memory_bytes: u64,
    /// Largest number of tasks in the sandbox; 0 means the default.
    pub max_tasks: u32,
}

/// Fast paths that can be switched off one by one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Tuning {
    /// Rewrite call sites.
    pub patch: bool,
    /// Answer identity calls in the stub.
    pub identity: bool,
    /// Let futex calls through to the host.
    pub native_futex: bool,
    /// Watch a futex word for some microseconds before waiting for it.
    pub futex_spin: bool,
    /// Let `sched_yield` and clock calls through to the host.
    pub native_clock: bool,
    /// Spin while a core is free.
    pub spin: bool,
    /// Let the stub copy small arguments and results.
    pub stub_copy: bool,
    /// Let the stub answer `epoll_ctl` where its answer is certain, and make the calls later.
    pub epoll_queue: bool,
    /// Leave its signal mask, robust list and restartable sequences to the guest thread.
    pub thread_state: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            patch: true,
            identity: true,
            native_futex: true,
            futex_spin: true,
            native_clock: true,
            spin: true,
            stub_copy: true,
            epoll_queue: true,
            thread_state: true,
        }
    }
}

/// A container as the sentry needs to know it; made by the shim from `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct ContainerConfig {
    /// Container id.
    pub container: String,
    /// Its init process.
    pub process: ProcessConfig,
    /// Host name (UTS namespace of this container); empty: the sandbox's.
    pub hostname: String,
    /// NIS domain name of the same namespace; empty: none.
    pub domainname: String,
    /// The root file system may not be written.
    pub root_readonly: bool,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Paths hidden from the guest.
    pub masked_paths: Vec<String>,
    /// Paths that may not be written.
    pub readonly_paths: Vec<String>,
    /// Guest sysctls, e.g. `net.core.somaxconn`: what `/proc/sys` tells in all the sandbox. The host's network has been
    /// told of its own already.
    pub sysctls: Vec<(String, String)>,
    /// Share the pid namespace of the sandbox's first container.
    pub share_pid_namespace: bool,
    /// Or that of this container, which must run.
    pub pid_namespace_of: Option<String>,
    /// Device nodes to make in /dev besides the default ones.
    pub devices: Vec<Device>,
    /// Bytes of memory that the container may have, what the kernel keeps for it included; 0 for no limit.
    pub memory_limit: u64,
    /// Tasks that it may have; 0 for no limit.
    pub tasks_limit: u64,
    /// Signals end the init process as they end any other, so that Ctrl-C ends a command in the foreground. Otherwise
    /// it gets those alone that it has handlers for (`pid_namespaces(7)`).
    pub init_obeys_signals: bool,
}

/// A device node in the container.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Device {
    /// Absolute path in the container.
    pub path: String,
    /// `c`, `b` or `p`.
    pub kind: String,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One mount of a container.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: String,
    /// `bind` (served by the gofer), `tmpfs`, `proc`, `sysfs`, `devtmpfs`, `devpts`, `mqueue`, `cgroup`.
    pub kind: String,
    /// For `bind`: the mount's index on the gofer (0 is the root file system).
    pub gofer_mount: u32,
    /// Options as in the OCI spec: `ro`, `nosuid`, `size=64m`, `mode=755`, ...
    pub options: Vec<String>,
}

/// A process as the OCI spec describes it.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct ProcessConfig {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// File mode mask, if set.
    pub umask: Option<u32>,
    /// With a terminal: the sentry makes a pty, relays it to stdin and stdout.
    pub terminal: bool,
    /// Terminal's first size: columns and rows, 0 if unknown.
    pub console_size: (u16, u16),
    /// Capability sets as bit masks (bit n = capability n).
    pub capabilities: Capabilities,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Forbid gaining privileges through exec.
    pub no_new_privileges: bool,
    /// OOM score adjustment as the guest sees it.
    pub oom_score_adj: i32,
}

/// Capability sets; bit n stands for capability number n.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// One resource limit.
#[derive(Debug, Clone, Serialize, Deserialize, Default, PartialEq, Eq)]
pub struct Rlimit {
    /// As in `setrlimit(2)`: `RLIMIT_NOFILE`, ...
    pub kind: String,
    /// Soft limit; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}
