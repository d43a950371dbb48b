//! How does one container run in the foreground, with this process's own input, output and signals?
//!
//! Key type: [`Job`]. The guest gets our descriptors themselves; nothing is copied through this process. Signals
//! that would end us are sent on to the guest instead; the third Ctrl-C without effect ends the sandbox.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context;
use control::{BootConfig, ContainerConfig, Event, FailureKind, GoferConfig};
use nix::sys::signal::{SigSet, Signal};
use sandbox::cgroup::Cgroup;
use sandbox::client::{CallError, Notice};
use sandbox::plan::NetworkPlan;
use sandbox::spawn::Programs;
use sandbox::{BootOptions, Error, Sandbox};

use crate::{Failure, SandboxArgs, complain, terminal};

/// Exit statuses of a program that could not be run, as every shell has them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// Ctrl-C this often ends the sandbox whatever the guest does.
const IMPATIENCE: u32 = 3;
/// How long the ends of a killed sentry's processes are waited for.
const END_LIMIT: Duration = Duration::from_secs(2);

/// What is to run.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) boot: BootConfig,
    pub(crate) container: ContainerConfig,
    pub(crate) gofer: GoferConfig,
    pub(crate) network: NetworkPlan,
    /// What is set in that network.
    pub(crate) sysctls: Vec<(String, String)>,
    /// The container's, made already.
    pub(crate) cgroup: Option<Cgroup>,
    /// The sentry's.
    pub(crate) sandbox_cgroup: Option<Cgroup>,
}

/// What the foreground waits for.
#[derive(Debug)]
enum Happening {
    Notice(Notice),
    Signal(Signal),
}

/// Runs the job; the guest's exit status.
pub(crate) fn run(job: Job, args: &SandboxArgs) -> Result<u8, Failure> {
    let (happen, happenings) = channel();
    listen_for_signals(happen.clone())?;
    let log = open_log(args)?;
    let id = job.container.container.clone();
    let tty = job.container.process.terminal;
    let options = BootOptions {
        config: job.boot,
        programs: Programs::find()?,
        network: job.network,
        sysctls: job.sysctls,
        cgroup: job.sandbox_cgroup,
        hardening: args.hardening(),
        log: log.as_fd(),
    };
    let sandbox = Sandbox::boot(options, move |notice| drop(happen.send(Happening::Notice(notice))))?;
    let sandbox = Arc::new(sandbox);
    if let Some(why) = &sandbox.platform.1 {
        complain(why);
    }
    let result = run_in(&sandbox, &id, job.container, job.gofer, job.cgroup.as_ref(), tty, &happenings);
    sandbox.sentry.kill();
    let _ = sandbox.sentry.wait(Some(END_LIMIT));
    result
}

fn run_in(
    sandbox: &Sandbox,
    id: &str,
    config: ContainerConfig,
    files: GoferConfig,
    cgroup: Option<&Cgroup>,
    tty: bool,
    happenings: &Receiver<Happening>,
) -> Result<u8, Failure> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let container = sandbox.create(config, files, cgroup, stdio).map_err(|e| not_run(sandbox, &e))?;
    let raw = if tty { Some(terminal::RawMode::enter().context("terminal")?) } else { None };
    sandbox.start(id).map_err(|e| not_run(sandbox, &e))?;
    let status = wait(sandbox, id, tty, happenings);
    drop(raw);
    if status.is_ok() {
        // All output has been written when the exit is told; the gofer ends with the sentry.
        container.gofer.kill();
    }
    status
}

fn wait(sandbox: &Sandbox, id: &str, tty: bool, happenings: &Receiver<Happening>) -> Result<u8, Failure> {
    let mut interrupts = 0;
    for happening in happenings {
        match happening {
            Happening::Notice(Notice::Event(Event::Exited { container, exec: None, status, .. }))
                if container == id =>
            {
                return Ok(u8::try_from(status).unwrap_or(u8::MAX));
            }
            Happening::Notice(Notice::Event(Event::Exited { .. })) => {}
            Happening::Notice(Notice::Event(Event::Warning(text))) => complain(&text),
            Happening::Notice(Notice::Gone(why)) => return Err(died(sandbox, why)),
            Happening::Signal(Signal::SIGWINCH) => {
                let (columns, rows) = terminal::size();
                if tty {
                    let _ = sandbox.resize(id, None, columns, rows);
                }
            }
            Happening::Signal(signal) => {
                interrupts += u32::from(signal == Signal::SIGINT);
                let impatient = interrupts >= IMPATIENCE;
                let number = if impatient { Signal::SIGKILL } else { signal } as i32;
                // The terminal would have sent it to every process in front; so do we.
                let _ = sandbox.signal(id, None, number, signal == Signal::SIGINT || impatient);
            }
        }
    }
    Err(died(sandbox, None))
}

fn died(sandbox: &Sandbox, why: Option<String>) -> Failure {
    let how = sandbox.sentry.wait(Some(Duration::from_millis(200)));
    let how = why.or(how.map(|how| how.to_string())).unwrap_or_else(|| "closed its socket".to_owned());
    Failure { message: format!("the sandbox has died: the sentry {how}"), status: 1 }
}

/// The shell's statuses for a program that is not there or cannot be executed.
fn not_run(sandbox: &Sandbox, error: &Error) -> Failure {
    if matches!(error, Error::Call(CallError::Gone)) {
        return died(sandbox, None);
    }
    let message = error.to_string();
    let kind = match error {
        Error::Call(call) => Some(call.kind()),
        _ => None,
    };
    let says = |texts: &[&str]| texts.iter().any(|text| message.to_lowercase().contains(text));
    let status = match kind {
        Some(FailureKind::NotFound | FailureKind::InvalidArgument)
            if says(&["no such file", "not found"]) =>
        {
            NOT_FOUND
        }
        Some(FailureKind::InvalidArgument) if says(&["denied", "format", "executable", "architecture"]) => {
            NOT_EXECUTABLE
        }
        _ => 1,
    };
    Failure { message, status }
}

/// Signals are taken by a thread of their own. Must be called before any other thread is made.
fn listen_for_signals(happen: Sender<Happening>) -> anyhow::Result<()> {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
    let mut signals = SigSet::empty();
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH] {
        signals.add(signal);
    }
    signals.thread_block().context("block signals")?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            if happen.send(Happening::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn open_log(args: &SandboxArgs) -> anyhow::Result<OwnedFd> {
    match &args.debug_log {
        Some(path) => {
            let file = File::options().create(true).append(true).open(path);
            Ok(file.with_context(|| format!("debug log {}", path.display()))?.into())
        }
        None => Ok(std::io::stderr().as_fd().try_clone_to_owned()?),
    }
}
