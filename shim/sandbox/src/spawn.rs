//! How are the sentry and the gofers started, and how does one know that they have ended?
//!
//! Key types: [`Programs`] (where the binaries are), [`Launcher`] (the thread that starts them) and [`Child`].
//! One thread per sandbox does all the starting: it enters the pod's network namespace once, its children inherit
//! that, and they die with it (see `seccomp::jail`). A child gets one socket as stdin and a log as stdout and stderr.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions};
use seccomp::jail::{self, Jail, Namespaces, Privileges, Root, Speculation};

use crate::cgroup::Cgroup;
use crate::hardening::{self, Hardening, Report};
use crate::ids::{self, Id};
use crate::plan::NetworkPlan;

/// Bytes of stack of the launching thread, which does next to nothing.
const LAUNCHER_STACK: usize = 128 << 10;

/// Why something could not be started: one line.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A binary is not where it should be.
    #[error("cannot open {path}: {cause}")]
    Program {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The network namespace cannot be entered.
    #[error("network namespace {path}: {cause}")]
    Network {
        /// Its name.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// A sysctl of the network cannot be set.
    #[error("sysctl {name}: {cause}")]
    Sysctl {
        /// Its name.
        name: String,
        /// Why.
        cause: io::Error,
    },
    /// The child did not come up.
    #[error("cannot start {name}: {cause}")]
    Jail {
        /// Which program.
        name: &'static str,
        /// At which step, and why.
        cause: jail::JailError,
    },
    /// A plain host call failed.
    #[error("{what}: {cause}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
    /// There is no user id for the sandbox.
    #[error(transparent)]
    Id(#[from] ids::IdError),
    /// The launching thread has ended.
    #[error("the launcher has ended")]
    Gone,
}

/// Shorthand for a failed host call.
pub(crate) fn host<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SpawnError {
    move |cause| SpawnError::Host { what, cause: cause.into() }
}

/// Where the binaries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `rvisor-sentry`.
    pub sentry: PathBuf,
    /// `rvisor-gofer`.
    pub gofer: PathBuf,
}

impl Programs {
    /// Beside the running program, unless `RVISOR_SENTRY` or `RVISOR_GOFER` say otherwise.
    ///
    /// # Errors
    /// This program's own place cannot be found.
    pub fn find() -> Result<Self, SpawnError> {
        let own = std::env::current_exe().map_err(host("find this program"))?;
        let beside = |name: &str| own.parent().unwrap_or(Path::new("/")).join(name);
        let place = |variable: &str, name: &str| {
            std::env::var_os(variable).map_or_else(|| beside(name), PathBuf::from)
        };
        Ok(Self {
            sentry: place("RVISOR_SENTRY", "rvisor-sentry"),
            gofer: place("RVISOR_GOFER", "rvisor-gofer"),
        })
    }
}

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Somebody else has waited for it.
    Unknown,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => write!(f, "ended"),
        }
    }
}

/// A running sentry or gofer. Dropping it does not end it.
#[derive(Debug)]
pub struct Child {
    /// Its pid.
    pub pid: i32,
    pidfd: OwnedFd,
}

impl Child {
    /// Kills it. One that has ended already is fine.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for its end; `None` if the time ran out.
    #[must_use]
    pub fn wait(&self, limit: Option<Duration>) -> Option<Ended> {
        if !wait_readable(self.pidfd.as_fd(), limit) {
            return None;
        }
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        Some(match status {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Code(code),
                (None, Some(signal)) => Ended::Signal(signal),
                (None, None) => Ended::Unknown,
            },
            Ok(None) | Err(_) => Ended::Unknown,
        })
    }

    /// A descriptor that becomes readable when it has ended.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn watch(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }
}

/// Waits until a descriptor is readable; false if the time ran out.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Option<Duration>) -> bool {
    let deadline = limit.map(|l| Instant::now() + l);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|l| Timespec::try_from(l).ok());
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// What to start.
struct Job {
    name: &'static str,
    program: PathBuf,
    socket: OwnedFd,
    log: OwnedFd,
    cgroup: Option<Cgroup>,
    /// The user id of the sentry; a gofer confines itself.
    jailed: Option<u32>,
    speculation: Speculation,
    answer: mpsc::SyncSender<Result<Child, SpawnError>>,
}

/// The thread that starts a sandbox's processes. They die with it.
#[derive(Debug)]
pub struct Launcher {
    jobs: mpsc::Sender<Job>,
    /// What the sandbox runs as, if that is its own.
    id: Mutex<Option<Id>>,
    core_scheduling: String,
    speculation: Speculation,
}

impl Launcher {
    /// Starts the thread and has it enter the network.
    ///
    /// # Errors
    /// The network namespace cannot be made or entered; no user id is left.
    pub fn start(
        network: &NetworkPlan,
        sysctls: &[(String, String)],
        hardening: &Hardening,
    ) -> Result<Self, SpawnError> {
        let id = hardening.ids.map(ids::take).transpose()?.flatten();
        if let (Some(range), None, true) = (hardening.ids, &id, rustix::process::geteuid().is_root()) {
            tracing::warn!("user ids {range} do not exist in this container: the sandbox runs as nobody");
        }
        let wants_cores = hardening.core_scheduling;
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, entered) = mpsc::sync_channel(1);
        let (network, sysctls) = (network.clone(), sysctls.to_vec());
        std::thread::Builder::new()
            .name("launcher".to_owned())
            .stack_size(LAUNCHER_STACK)
            .spawn(move || {
                let set = || set_sysctls(&network, &sysctls);
                let result = enter_network(&network).and_then(|()| set()).map(|()| own_cores(wants_cores));
                let failed = result.is_err();
                if ready.send(result).is_err() || failed {
                    return;
                }
                for job in inbox {
                    let answer = job.answer.clone();
                    let _ = answer.send(run(job));
                }
            })
            .map_err(host("start a thread"))?;
        let core_scheduling = entered.recv().map_err(|_| SpawnError::Gone)??;
        let speculation =
            if hardening.restrict_speculation { Speculation::Restricted } else { Speculation::Host };
        Ok(Self { jobs, id: Mutex::new(id), core_scheduling, speculation })
    }

    /// Starts the sentry in its jail. Returns it and our end of its socket.
    ///
    /// # Errors
    /// See [`SpawnError`].
    pub fn sentry(
        &self,
        programs: &Programs,
        cgroup: Option<&Cgroup>,
        log: BorrowedFd<'_>,
    ) -> Result<(Child, OwnedFd), SpawnError> {
        self.start_child("rvisor-sentry", &programs.sentry, cgroup, log, Some(self.uid()))
    }

    /// The user id of the sentry and of the guests' processes on the host.
    fn uid(&self) -> u32 {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(ids::NOBODY, Id::uid)
    }

    /// Gives the user id back: the sandbox's processes have all ended.
    pub(crate) fn release_id(&self) {
        let id = self.id.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(id) = id {
            id.release();
        }
    }

    /// What stands between the sandbox and its neighbours.
    pub(crate) fn report(&self, sentry: &Child) -> Report {
        Report {
            uid: self.uid(),
            core_scheduling: self.core_scheduling.clone(),
            speculation: hardening::speculation_of(sentry.pid),
        }
    }

    /// Starts a gofer, which confines itself. Returns it and our end of its socket.
    ///
    /// # Errors
    /// See [`SpawnError`].
    pub fn gofer(
        &self,
        programs: &Programs,
        cgroup: Option<&Cgroup>,
        log: BorrowedFd<'_>,
    ) -> Result<(Child, OwnedFd), SpawnError> {
        self.start_child("rvisor-gofer", &programs.gofer, cgroup, log, None)
    }

    fn start_child(
        &self,
        name: &'static str,
        program: &Path,
        cgroup: Option<&Cgroup>,
        log: BorrowedFd<'_>,
        jailed: Option<u32>,
    ) -> Result<(Child, OwnedFd), SpawnError> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(host("make a socket pair"))?;
        let (answer, result) = mpsc::sync_channel(1);
        let job = Job {
            name,
            program: program.to_path_buf(),
            socket: theirs,
            log: log.try_clone_to_owned().map_err(host("duplicate the log"))?,
            cgroup: cgroup.cloned(),
            jailed,
            speculation: self.speculation,
            answer,
        };
        self.jobs.send(job).map_err(|_| SpawnError::Gone)?;
        Ok((result.recv().map_err(|_| SpawnError::Gone)??, ours))
    }
}

fn enter_network(network: &NetworkPlan) -> Result<(), SpawnError> {
    let failed = |path: &str, cause| SpawnError::Network { path: path.to_owned(), cause };
    match network {
        NetworkPlan::Host => Ok(()),
        NetworkPlan::New => {
            jail::enter_network(jail::Network::New).map_err(|e| failed("(new)", e.cause))?;
            open_ports();
            Ok(())
        }
        NetworkPlan::Path(path) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|e| failed(&name, e))?;
            jail::enter_network(jail::Network::Existing(file.as_fd())).map_err(|e| failed(&name, e.cause))?;
            if !is_host_network() {
                open_ports();
            }
            Ok(())
        }
    }
}

/// A core-scheduling cookie for this thread and all that it starts, if asked for: what became of it.
fn own_cores(wanted: bool) -> String {
    if !wanted {
        return "off".to_owned();
    }
    match jail::own_cores() {
        Ok(()) => "on".to_owned(),
        Err(error) => {
            tracing::warn!(%error, "core scheduling is asked for, and the host has none");
            format!("not on this host: {error}")
        }
    }
}

/// True if this thread is in the network namespace of process 1.
fn is_host_network() -> bool {
    let own = std::fs::read_link("/proc/thread-self/ns/net");
    own.is_ok_and(|own| std::fs::read_link("/proc/1/ns/net").is_ok_and(|host| host == own))
}

/// See [`open_ports`].
const OPENED: [(&str, &str); 2] = [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 4294967294")];

/// The sentry has no capabilities, so low ports and ping sockets must be open to it in the pod's own namespace;
/// who among the guests may use them is the sentry's decision.
fn open_ports() {
    for (name, value) in OPENED {
        if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value) {
            tracing::warn!(name, %error, "guests cannot use low ports or ping");
        }
    }
}

/// Sets what belongs to the pod's network, where its sockets are. The two of [`open_ports`] are the sentry's to keep: it
/// tells guests apart, which the host, to which all of them are the sentry, cannot.
fn set_sysctls(network: &NetworkPlan, sysctls: &[(String, String)]) -> Result<(), SpawnError> {
    for (name, value) in sysctls.iter().filter(|(name, _)| name.starts_with("net.")) {
        let failed = |cause| SpawnError::Sysctl { name: name.clone(), cause };
        if *network == NetworkPlan::Host || is_host_network() {
            return Err(failed(io::Error::other("not allowed in host network namespace")));
        }
        if OPENED.iter().any(|(opened, _)| name.strip_prefix("net.ipv4.") == Some(*opened)) {
            continue;
        }
        std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).map_err(failed)?;
    }
    Ok(())
}

/// Starts one child; runs on the launching thread.
fn run(job: Job) -> Result<Child, SpawnError> {
    let program =
        File::open(&job.program).map_err(|cause| SpawnError::Program { path: job.program.clone(), cause })?;
    let fds = vec![job.socket.as_fd(), job.log.as_fd(), job.log.as_fd()];
    let name = CString::new(job.name).expect("a name without zero bytes");
    let mut jail = Jail {
        program: program.as_fd(),
        args: vec![name],
        env: Vec::new(),
        fds,
        // A gofer makes the others itself.
        namespaces: Namespaces::PROCESSES,
        root: Root::Inherited,
        privileges: Privileges::Inherited,
        die_with_parent: true,
        speculation: job.speculation,
    };
    if let Some(id) = job.jailed {
        jail.namespaces = Namespaces::ALL_BUT_NETWORK;
        jail.root = Root::Empty;
        jail.privileges = Privileges::OnlyId(id);
    }
    let failed = |cause| SpawnError::Jail { name: job.name, cause };
    let held = match jail.prepare() {
        Err(error) if job.jailed.is_some() && rustix::process::geteuid().is_root() => {
            tracing::warn!(%error, "no user namespace for the sentry; it runs as an unprivileged id only");
            jail.privileges = Privileges::OnlyIdNoNamespace(job.jailed.unwrap_or(ids::NOBODY));
            jail.prepare().map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    if let Some(cgroup) = &job.cgroup {
        cgroup.put(held.pid()).map_err(host("put the process into its cgroup"))?;
    }
    raise_descriptor_limit(held.pid());
    let started = held.release().map_err(failed)?;
    Ok(Child { pid: started.pid, pidfd: started.pidfd })
}

/// Sentry and gofer hold a descriptor per open guest file: as many as the hard limit lets them.
fn raise_descriptor_limit(pid: i32) {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let new = Rlimit { current: hard, maximum: hard };
    if let Err(error) = rustix::process::prlimit(Pid::from_raw(pid), Resource::Nofile, new) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Hardening {
        Hardening { ids: None, ..Hardening::default() }
    }

    #[test]
    fn a_missing_binary_is_named() {
        let launcher = Launcher::start(&NetworkPlan::Host, &[], &none()).expect("a thread");
        let programs = Programs { sentry: "/nowhere/sentry".into(), gofer: "/nowhere/gofer".into() };
        let log = File::options().write(true).open("/dev/null").expect("there is one");
        let error = launcher.sentry(&programs, None, log.as_fd()).expect_err("no such file");
        assert!(error.to_string().starts_with("cannot open /nowhere/sentry: "), "{error}");
    }

    #[test]
    fn a_network_namespace_that_is_not_there_is_named() {
        let error = Launcher::start(&NetworkPlan::Path("/run/netns/none-such".into()), &[], &none())
            .expect_err("no such file");
        assert!(error.to_string().starts_with("network namespace /run/netns/none-such: "), "{error}");
    }

    #[test]
    fn the_end_of_a_child_is_seen_and_explained() {
        let launcher = Launcher::start(&NetworkPlan::Host, &[], &none()).expect("a thread");
        let programs = Programs { sentry: "/bin/true".into(), gofer: "/bin/cat".into() };
        let log = File::options().write(true).open("/dev/null").expect("there is one");
        let (cat, socket) = launcher.gofer(&programs, None, log.as_fd()).expect("started");
        assert_eq!(cat.wait(Some(Duration::from_millis(10))), None);
        drop(socket);
        assert_eq!(cat.wait(Some(Duration::from_secs(5))), Some(Ended::Code(0)));
        let (cat, _socket) = launcher.gofer(&programs, None, log.as_fd()).expect("started");
        cat.kill();
        assert_eq!(cat.wait(Some(Duration::from_secs(5))), Some(Ended::Signal(9)));
    }
}
