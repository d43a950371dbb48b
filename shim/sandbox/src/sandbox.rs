//! How do the pieces become a running sandbox with containers in it?
//!
//! Key types: [`Sandbox`] (one sentry) and [`Container`] (its gofer and its stub template). Order of a create: gofer
//! up and shut in; its socket and the standard descriptors to the sentry; the stub template, which the sentry
//! names by a pidfd, into the container's cgroup. Whatever was started by a create that fails is ended again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use control::{
    BootConfig, Channel, ContainerConfig, GoferConfig, GoferReply, IdsMapped, ProcessConfig, Reply, Request,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::cgroup::Cgroup;
use crate::client::{CallError, Client, Notice};
use crate::hardening::{Hardening, Report};
use crate::plan::NetworkPlan;
use crate::spawn::{Child, Ended, Launcher, Programs, SpawnError, host, wait_readable};

/// How long the sentry may take to boot, and to make a container.
const BOOT_LIMIT: Duration = Duration::from_secs(30);
/// How long a gofer may take to shut itself in.
const GOFER_LIMIT: Duration = Duration::from_secs(30);
/// How long anything else may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Sentry and gofer are the last that the host kills for want of memory. LINUX: proc(5): -1000 would be never.
const KERNEL_OOM_SCORE: i32 = -998;
/// How long the sentry may take to end in good order.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Why a sandbox or a container could not be made or used: one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The sentry refused or did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The sentry ended early.
    #[error("the sentry {0} before it had booted")]
    Sentry(Ended),
    /// The gofer could not be set up.
    #[error("files of the container: {0}")]
    Gofer(String),
    /// The stub template's cgroup.
    #[error("cannot put the container into its cgroup: {0}")]
    Cgroup(std::io::Error),
}

/// What a sandbox needs to boot.
#[derive(Debug)]
pub struct BootOptions<'a> {
    /// For the sentry.
    pub config: BootConfig,
    /// The binaries.
    pub programs: Programs,
    /// Where it lives.
    pub network: NetworkPlan,
    /// What is set there, by name with dots.
    pub sysctls: Vec<(String, String)>,
    /// What its own processes are charged to.
    pub cgroup: Option<Cgroup>,
    /// What is added between it and its neighbours.
    pub hardening: Hardening,
    /// Where the sentry and the gofers write what they have to say.
    pub log: BorrowedFd<'a>,
}

/// A running sentry.
#[derive(Debug)]
pub struct Sandbox {
    /// For requests that need no help from here.
    pub client: Client,
    /// Its process.
    pub sentry: Child,
    /// The platform that runs, and why not a better one.
    pub platform: (String, Option<String>),
    launcher: Launcher,
    programs: Programs,
    cgroup: Option<Cgroup>,
    log: OwnedFd,
    log_level: String,
}

/// What is left to do for one container: its processes.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Pid of the stub template on the host.
    pub pid: i32,
    /// Guest pid of its init process.
    pub guest_pid: i32,
    /// Serves its files.
    pub gofer: Child,
}

impl Sandbox {
    /// Starts a sentry and boots it. `hear` is called, on a thread of its own, with all that it says unasked.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left running.
    pub fn boot(options: BootOptions<'_>, hear: impl FnMut(Notice) + Send + 'static) -> Result<Self, Error> {
        let launcher = Launcher::start(&options.network, &options.sysctls, &options.hardening)?;
        let cgroup = options.cgroup.as_ref();
        let (sentry, socket) = launcher.sentry(&options.programs, cgroup, options.log)?;
        let log_level = options.config.log_level.clone();
        let booted = || -> Result<_, Error> {
            let client = Client::start(socket, hear).map_err(host("start a thread"))?;
            match client.call(Request::Boot(Box::new(options.config)), &[], BOOT_LIMIT) {
                Ok((Reply::Booted { platform, fallback }, _)) => Ok((client, (platform, fallback))),
                Ok(_) => Err(CallError::Confused("boot").into()),
                Err(error) => Err(error.into()),
            }
        };
        let (client, platform) = booted().map_err(|error| {
            let early = sentry.wait(Some(Duration::from_millis(100)));
            sentry.kill();
            if sentry.wait(Some(SHUTDOWN_LIMIT)).is_some() {
                launcher.release_id();
            }
            match (early, error) {
                (Some(how), Error::Call(CallError::Gone)) => Error::Sentry(how),
                (_, error) => error,
            }
        })?;
        let log = options.log.try_clone_to_owned().map_err(host("duplicate the log"))?;
        Ok(Self {
            client,
            sentry,
            platform,
            launcher,
            programs: options.programs,
            cgroup: options.cgroup,
            log,
            log_level,
        })
    }

    /// Makes a container that waits for its start.
    ///
    /// # Errors
    /// See [`Error`]; what was started is ended.
    pub fn create(
        &self,
        config: ContainerConfig,
        mut files: GoferConfig,
        cgroup: Option<&Cgroup>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<Container, Error> {
        files.log_level.clone_from(&self.log_level);
        let (gofer, socket) = self.start_gofer(&files)?;
        if config.memory_limit != 0 {
            // What they keep on behalf of guests is limited, and goes with the guests: those are to be killed first.
            set_oom_score(self.sentry.pid, KERNEL_OOM_SCORE);
            set_oom_score(gofer.pid, KERNEL_OOM_SCORE);
        }
        let created = self.create_with(config, &socket, cgroup, stdio);
        match created {
            Ok((id, pid, guest_pid)) => Ok(Container { id, pid, guest_pid, gofer }),
            Err(error) => {
                gofer.kill();
                let _ = gofer.wait(Some(CALL_LIMIT));
                Err(error)
            }
        }
    }

    /// Starts a gofer and waits until it is shut in. Returns it and the protocol socket for the sentry.
    fn start_gofer(&self, files: &GoferConfig) -> Result<(Child, OwnedFd), Error> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(host("make a socket pair"))?;
        let (gofer, control) = self.launcher.gofer(&self.programs, self.cgroup.as_ref(), self.log.as_fd())?;
        let channel = Channel::new(control);
        let ask = || {
            channel.send(files, &[theirs.as_fd()]).map_err(|e| e.to_string())?;
            loop {
                if !wait_readable(channel.as_fd(), Some(GOFER_LIMIT)) {
                    return Err("the gofer did not answer in time".to_owned());
                }
                match channel.receive::<GoferReply>().map_err(|e| e.to_string())?.0 {
                    GoferReply::MapIds => {
                        map_every_id(gofer.pid).map_err(|e| format!("cannot map the gofer's ids: {e}"))?;
                        channel.send(&IdsMapped, &[]).map_err(|e| e.to_string())?;
                    }
                    GoferReply::Ready => return Ok(()),
                    GoferReply::Failed(why) => return Err(why),
                }
            }
        };
        match ask() {
            Ok(()) => Ok((gofer, ours)),
            Err(why) => {
                let early = gofer.wait(Some(Duration::from_millis(100)));
                gofer.kill();
                let how = early
                    .filter(|how| matches!(how, Ended::Signal(_)))
                    .map(|how| format!(" (the gofer was {how})"));
                Err(Error::Gofer(why + &how.unwrap_or_default()))
            }
        }
    }

    fn create_with(
        &self,
        config: ContainerConfig,
        gofer: &OwnedFd,
        cgroup: Option<&Cgroup>,
        [stdin, stdout, stderr]: [BorrowedFd<'_>; 3],
    ) -> Result<(String, i32, i32), Error> {
        let id = config.container.clone();
        let oom_score_adj = config.process.oom_score_adj;
        let fds = [gofer.as_fd(), stdin, stdout, stderr];
        let (reply, fds) = self.client.call(Request::Create(Box::new(config)), &fds, BOOT_LIMIT)?;
        let placed = || -> Result<_, Error> {
            let Reply::Created { pid: guest_pid } = reply else {
                return Err(CallError::Confused("create").into());
            };
            let template = fds.first().ok_or(CallError::Confused("create"))?;
            let pid = pid_of(template).ok_or(CallError::Confused("create"))?;
            if let Some(cgroup) = cgroup {
                cgroup.put(pid).map_err(Error::Cgroup)?;
            }
            // Still the same process: a pid may have been reused, but not one that is alive behind a pidfd.
            if pid_of(template) != Some(pid) {
                return Err(CallError::Confused("create").into());
            }
            set_oom_score(pid, oom_score_adj);
            Ok((id.clone(), pid, guest_pid))
        };
        placed().inspect_err(|_| drop(self.delete(&id)))
    }

    fn simple(&self, what: &'static str, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match self.client.call(request, fds, CALL_LIMIT)? {
            (Reply::Ok | Reply::Started { .. }, _) => Ok(()),
            _ => Err(CallError::Confused(what).into()),
        }
    }

    /// Whether the sentry has ended, or is about to: it was asked and will not answer.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.client.call(Request::Status, &[], CALL_LIMIT), Err(CallError::Gone))
    }

    /// Releases a container's first task.
    ///
    /// # Errors
    /// The sentry's reason.
    pub fn start(&self, container: &str) -> Result<(), Error> {
        self.simple("start", Request::Start { container: container.to_owned() }, &[])
    }

    /// Starts one more process; returns its guest pid.
    ///
    /// # Errors
    /// The sentry's reason.
    pub fn exec(
        &self,
        container: &str,
        exec: &str,
        process: ProcessConfig,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<i32, Error> {
        let request = Request::Exec {
            container: container.to_owned(),
            exec: exec.to_owned(),
            process: Box::new(process),
        };
        match self.client.call(request, &stdio, BOOT_LIMIT)? {
            (Reply::Started { pid }, _) => Ok(pid),
            _ => Err(CallError::Confused("exec").into()),
        }
    }

    /// Sends a signal to a process, or to all of the container.
    ///
    /// # Errors
    /// The sentry's reason.
    pub fn signal(&self, container: &str, exec: Option<&str>, signal: i32, all: bool) -> Result<(), Error> {
        let (container, exec) = (container.to_owned(), exec.map(str::to_owned));
        self.simple("signal", Request::Signal { container, exec, signal, all }, &[])
    }

    /// Sets the size of a process's terminal.
    ///
    /// # Errors
    /// The sentry's reason.
    pub fn resize(&self, container: &str, exec: Option<&str>, columns: u16, rows: u16) -> Result<(), Error> {
        let (container, exec) = (container.to_owned(), exec.map(str::to_owned));
        self.simple("resize", Request::Resize { container, exec, columns, rows }, &[])
    }

    /// Changes what the kernel lets a container have: bytes of memory and tasks, 0 for no limit.
    ///
    /// # Errors
    /// The sentry's reason.
    pub fn limit(&self, container: &str, memory: u64, tasks: u64) -> Result<(), Error> {
        self.simple("limit", Request::Limit { container: container.to_owned(), memory, tasks }, &[])
    }

    /// Bytes that the kernel keeps for a container, and the container's tasks.
    ///
    /// # Errors
    /// The sentry's reason.
    pub fn usage(&self, container: &str) -> Result<(u64, u64), Error> {
        match self.client.call(Request::Usage { container: container.to_owned() }, &[], CALL_LIMIT)? {
            (Reply::Usage { memory, tasks }, _) => Ok((memory, tasks)),
            _ => Err(CallError::Confused("usage").into()),
        }
    }

    /// Forgets a container.
    ///
    /// # Errors
    /// The sentry's reason.
    pub fn delete(&self, container: &str) -> Result<(), Error> {
        self.simple("delete", Request::Delete { container: container.to_owned() }, &[])
    }

    /// Ends the sentry, first in good order, then by force. Every stub dies with it: it is their pid namespace's init.
    pub fn shutdown(&self) {
        let _ = self.client.call(Request::Shutdown, &[], SHUTDOWN_LIMIT);
        if self.sentry.wait(Some(SHUTDOWN_LIMIT)).is_none() {
            self.sentry.kill();
            let _ = self.sentry.wait(Some(SHUTDOWN_LIMIT));
        }
        self.release_id();
    }

    /// The end of a pid namespace's first process is told when all others have gone. One that does not end keeps the id.
    fn release_id(&self) {
        if self.sentry.wait(Some(Duration::ZERO)).is_some() {
            self.launcher.release_id();
        }
    }

    /// What stands between the sandbox and its neighbours, for the log.
    #[must_use]
    pub fn report(&self) -> Report {
        self.launcher.report(&self.sentry)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.release_id();
    }
}

/// Makes every id that this process knows the same in the child's new user namespace. LINUX: user_namespaces(7): the first and the third
/// column of our own map are what exists here; a map can be written once.
fn map_every_id(pid: i32) -> std::io::Result<()> {
    for name in ["gid_map", "uid_map"] {
        let own = std::fs::read_to_string(format!("/proc/self/{name}"))?;
        let line = |line: &str| {
            let mut columns = line.split_whitespace();
            let (first, count) = (columns.next()?, columns.nth(1)?);
            Some(format!("{first} {first} {count}\n"))
        };
        std::fs::write(format!("/proc/{pid}/{name}"), own.lines().filter_map(line).collect::<String>())?;
    }
    Ok(())
}

/// The process behind a pidfd. LINUX: proc(5), fdinfo: `Pid:` is 0 or -1 once it is not visible or has gone.
fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    value.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Stubs inherit the template's score, which has the sentry's first. Lowering one needs a right that not every host gives, so
/// it is only tried.
fn set_oom_score(pid: i32, score: i32) {
    let written = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
    if let Err(error) = written
        && score != 0
    {
        tracing::warn!(%error, score, "cannot set the container's OOM score");
    }
}
