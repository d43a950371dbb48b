//! How does a process that the shim asks for come to life?
//!
//! Key type: [`Prepared`] (found and checked, but not loaded). Preparing finds the program and fails with a line for a
//! person; launching forks the template, loads the program and starts the first thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use control::{Failure, FailureKind, ProcessConfig};
use linux_abi::task::Rlimit64;
use platform::{Service, serve};

use super::relay::Relay;
use super::{Container, Hooks, fail};
use crate::Errno;
use crate::fs::host_stdio;
use crate::fs::host_stream::Stream;
use crate::kernel::Kernel;
use crate::mm::loader::{ProgramInput, Reach};
use crate::mm::{MemoryManager, NoSpace};
use crate::task::{
    Credentials, Current, ExecInput, Limits, LoadedProgram, NewProcess, Process, ProcessGroup, Resource,
    STACK_BYTES, Session, Task, load_program, prepare_program, run,
};
use crate::vfs::{Caller, FdTable, FsContext, Location, Lookup, OpenFile};

/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;

/// A process that has been found and checked.
pub(super) struct Prepared {
    task: Arc<Task>,
    config: ProcessConfig,
    relay: Option<Arc<Relay>>,
    started: bool,
}

impl Prepared {
    pub(super) fn pid(&self) -> i32 {
        self.task.process.pid
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        &self.task.process
    }

    pub(super) fn relay(&self) -> Option<Arc<Relay>> {
        self.relay.clone()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.started {
            return;
        }
        self.task.retire();
        self.task.process.namespace.release(self.pid());
        if let Some(relay) = &self.relay {
            relay.finish();
        }
    }
}

fn credentials(config: &ProcessConfig) -> Credentials {
    let sets = config.capabilities;
    Credentials {
        uid: config.uid,
        euid: config.uid,
        suid: config.uid,
        fsuid: config.uid,
        gid: config.gid,
        egid: config.gid,
        sgid: config.gid,
        fsgid: config.gid,
        groups: config.additional_gids.clone(),
        bounding: sets.bounding,
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
        ambient: sets.ambient,
        securebits: 0,
        no_new_privs: config.no_new_privileges,
    }
}

fn limits(config: &ProcessConfig) -> Limits {
    let mut limits = Limits::default();
    for limit in &config.rlimits {
        if let Some(resource) = Resource::from_name(&limit.kind) {
            limits.set(resource, Rlimit64 { soft: limit.soft.min(limit.hard), hard: limit.hard });
        }
    }
    limits
}

/// Finds the program, opens the streams, makes process and first task.
pub(super) fn prepare(
    kernel: &Arc<Kernel>,
    container: &Arc<Container>,
    config: &ProcessConfig,
    stdio: Vec<OwnedFd>,
    hooks: &dyn Hooks,
) -> Result<Prepared, Failure> {
    if config.args.is_empty() {
        return fail(FailureKind::InvalidArgument, "no program given");
    }
    let pid = container.pids.allocate().or_else(|_| fail(FailureKind::Internal, "no process id is free"))?;
    let new = NewProcess {
        namespace: Arc::clone(&container.pids),
        container: container.config.container.clone(),
        actions: Arc::default(),
        limits: limits(config),
        exe: None,
    };
    let process = Process::new(kernel, pid, new);
    process.set_origin(Arc::clone(&container.origin));
    // The operator's word: nobody is refused it.
    let _ = process.set_oom_score_adj(config.oom_score_adj, true);
    if container.config.init_obeys_signals {
        process.obey_signals();
    }
    let root = container.mounts.root().root_location().topmost();
    let umask = config.umask.unwrap_or(0o022);
    let fs = FsContext::new(Arc::clone(&container.mounts), root.clone(), root, umask);
    let mm = MemoryManager::new(Arc::new(NoSpace));
    let who = Arc::new(credentials(config));
    let task = Task::new(pid, process, who, fs, FdTable::new(), mm);
    let mut prepared = Prepared { task, config: config.clone(), relay: None, started: false };
    enter_directory(&prepared.task, &config.cwd)?;
    let (file, path) = find_program(&prepared.task, config)?;
    let input = ExecInput { file, program: program_input(config, path) };
    if let Err(errno) = prepare_program(&prepared.task, input) {
        return fail(FailureKind::InvalidArgument, explain(config, errno));
    }
    prepared.relay = open_streams(kernel, container, &prepared, stdio, hooks)?;
    Ok(prepared)
}

fn program_input(config: &ProcessConfig, path: Vec<u8>) -> ProgramInput {
    let bytes = |texts: &[String]| texts.iter().map(|text| text.clone().into_bytes()).collect();
    ProgramInput { path, reach: Reach::Kept, argv: bytes(&config.args), envp: bytes(&config.env) }
}

/// As runc words it, which programs that drive containers look for: the first when the program is not there, the second
/// when it is there and cannot be run (a script whose interpreter is missing, for instance).
fn explain_missing(config: &ProcessConfig, errno: Errno) -> String {
    let name = config.args.first().map_or("", String::as_str);
    match errno {
        Errno::ENOENT if name.contains('/') => {
            format!("exec: {name:?}: stat {name}: no such file or directory")
        }
        Errno::ENOTDIR if name.contains('/') => format!("exec: {name:?}: stat {name}: not a directory"),
        _ => explain(config, errno),
    }
}

fn explain(config: &ProcessConfig, errno: Errno) -> String {
    let name = config.args.first().map_or("", String::as_str);
    let what = match errno {
        Errno::ENOENT if !name.contains('/') => "executable file not found in $PATH",
        Errno::ENOENT => "no such file or directory",
        Errno::EACCES => "permission denied",
        Errno::ENOEXEC => "exec format error",
        Errno::E2BIG => "argument list too long",
        Errno::ELOOP => "too many levels of symbolic links",
        _ => return format!("exec: {name:?}: {errno}"),
    };
    format!("exec: {name:?}: {what}")
}

/// Enters the working directory; one that is missing is made, as runc does.
fn enter_directory(task: &Arc<Task>, cwd: &str) -> Result<(), Failure> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    let fs = task.fs();
    let root = fs.root();
    let flags = Lookup::FOLLOW | Lookup::DIRECTORY;
    let as_root = Caller::with_credentials(
        task,
        Credentials { effective: u64::MAX, permitted: u64::MAX, ..Credentials::default() },
    );
    let mut found: Result<Location, Errno> = as_root.resolve(&root, cwd.as_bytes(), flags);
    if found.as_ref().err() == Some(&Errno::ENOENT) {
        for (at, _) in cwd.match_indices('/').filter(|(at, _)| *at > 0).chain([(cwd.len(), "")]) {
            // One that is there already is fine; any other failure shows below.
            let _ = as_root.mkdir(&root, &cwd.as_bytes()[..at], 0o755);
        }
        found = as_root.resolve(&root, cwd.as_bytes(), flags);
    }
    match found {
        Ok(location) => {
            fs.set_cwd(location);
            Ok(())
        }
        Err(errno) => {
            let what = match errno {
                Errno::ENOENT => "no such file or directory".to_owned(),
                Errno::ENOTDIR => "not a directory".to_owned(),
                Errno::EACCES => "permission denied".to_owned(),
                errno => errno.to_string(),
            };
            let text = format!("chdir to cwd ({cwd:?}) set in config.json failed: {what}");
            fail(FailureKind::InvalidArgument, text)
        }
    }
}

/// Opens the program: by path if its name has a slash, else along `PATH`.
fn find_program(task: &Arc<Task>, config: &ProcessConfig) -> Result<(Arc<OpenFile>, Vec<u8>), Failure> {
    let name = config.args.first().map_or("", String::as_str);
    let cwd = task.fs().cwd();
    let open = |path: &str| Caller::of(task).open_exec(&cwd, path.as_bytes(), Lookup::FOLLOW);
    let invalid = |errno| fail(FailureKind::InvalidArgument, explain_missing(config, errno));
    if name.contains('/') {
        return match open(name) {
            Ok(file) => Ok((file, name.into())),
            Err(errno) => invalid(errno),
        };
    }
    let path = config.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    for dir in path.split(':').filter(|_| !name.is_empty()) {
        let dir = if dir.is_empty() { "." } else { dir.trim_end_matches('/') };
        let candidate = format!("{dir}/{name}");
        if let Ok(file) = open(&candidate) {
            return Ok((file, candidate.into_bytes()));
        }
    }
    // As runc: also where one is there that must not be executed.
    invalid(Errno::ENOENT)
}

/// Gives the task its three streams, or a terminal with a relay.
fn open_streams(
    kernel: &Arc<Kernel>,
    container: &Arc<Container>,
    prepared: &Prepared,
    stdio: Vec<OwnedFd>,
    hooks: &dyn Hooks,
) -> Result<Option<Arc<Relay>>, Failure> {
    let config = &prepared.config;
    let internal = |message: String| Failure { kind: FailureKind::Internal, message };
    let failed = |errno: Errno| internal(format!("stream: {errno}"));
    let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(stdio) else {
        return fail(FailureKind::InvalidArgument, "exactly three standard streams are needed");
    };
    enter_session(&prepared.task);
    let files = prepared.task.files();
    let add = |file: Arc<OpenFile>| {
        let added = files.add(file, false, 0, u64::MAX);
        added.map(drop).map_err(|errno| internal(format!("stream: {errno}")))
    };
    if config.terminal {
        let process = prepared.process();
        let (master, slave) = hooks.new_terminal(process, &container.mounts).map_err(internal)?;
        let (columns, rows) = config.console_size;
        if columns != 0 && rows != 0 {
            master.resize(columns, rows);
        }
        for _ in 0..3 {
            add(Arc::clone(&slave))?;
        }
        drop(stderr);
        let stream = |fd| Stream::new(fd, &kernel.poller).map_err(failed);
        let (stdin, stdout) = (stream(stdin)?, stream(stdout)?);
        let relay = Relay::start(master, stdin, stdout);
        return relay.map(Some).map_err(|error| internal(format!("terminal: {error}")));
    }
    for (fd, flags) in [(stdin, O_RDONLY), (stdout, O_WRONLY), (stderr, O_WRONLY)] {
        add(host_stdio::open(kernel, fd, flags, (config.uid, config.gid)).map_err(failed)?)?;
    }
    Ok(None)
}

/// Makes the process the leader of a session and group of its own.
fn enter_session(task: &Arc<Task>) {
    let process = &task.process;
    let session = Session::new(process.pid);
    let group = ProcessGroup::new(process.pid, Arc::clone(&session));
    process.namespace.enter_session(&session);
    process.namespace.enter_group(&group);
    process.kernel.tasks.enter(process, None, group, 0);
    process.timers.watch_cpu_limit(process);
}

/// Loads the program and starts its first thread.
pub(super) fn launch(mut prepared: Prepared) -> Result<(), Failure> {
    let task = Arc::clone(&prepared.task);
    let config = &prepared.config;
    let started = find_program(&task, config).and_then(|(file, path)| {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
        let input = ExecInput { file, program: program_input(config, path) };
        let loaded = load_program(&task, input)
            .or_else(|errno| fail(FailureKind::InvalidArgument, explain(config, errno)))?;
        task.set_name(&name);
        task.process.set_exe(loaded.exe);
        task.set_credentials(loaded.credentials);
        task.set_mm(Some(Arc::clone(&loaded.mm)));
        task.process.lock_group().threads.push(Arc::clone(&task));
        task.process.namespace.enter_task(&task);
        task.kernel.tasks.started();
        let theirs = Arc::clone(&task);
        task.process.keep_charge(Some(task.process.account.add_task()));
        let thread = std::thread::Builder::new().name(format!("task-{}", task.tid())).stack_size(STACK_BYTES);
        let LoadedProgram { mm, context, user, registers, .. } = loaded;
        let service: Service = Box::new(move |context| {
            let abi = Arc::clone(&theirs.kernel.abi);
            run(Current::with_user(theirs, context, mm, user, registers), abi.as_ref())
        });
        thread
            .spawn(move || serve((context, service)))
            .map(drop)
            .or_else(|error| fail(FailureKind::Internal, format!("thread: {error}")))
    });
    prepared.started = started.is_ok();
    started
}
