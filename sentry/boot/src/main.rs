//! `rvisor-sentry`: puts the kernel together and serves the control socket that is its standard input.
//!
//! Order matters: one thread only until the first stub has been forked; the filter before the first guest runs.
//! When the control socket closes, or anything here fails, the process ends, and every stub ends with it.

#![forbid(unsafe_code)]

mod hooks;
mod log;

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use control::{
    BootConfig, Channel, ChannelError, Event, Failure, FailureKind, FromSentry, Reply, Request, ToSentry,
};
use platform::host::machine::{descriptor_limit, limit_heaps};
use platform::host::poller::Poller;
use platform::systrap;
use seccomp::compile::{Unexpected, install};
use seccomp::policy::sentry as sentry_policy;
use sentry::account::Accounts;
use sentry::container::{EventSink, Sandbox};
use sentry::descriptors::Descriptors;
use sentry::kernel::Kernel;
use sentry::machine::Machine;
use sentry::task::ProcessTree;
use sentry::time::Timers;

/// Heaps that threads share: more cost memory, fewer cost waiting.
const HEAPS: u16 = 4;
/// Bytes of stack of a thread that answers one request.
const REQUEST_STACK: usize = 512 << 10;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fatal(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("control socket")?;
    let channel = Arc::new(Channel::new(socket));
    let (id, config) = receive_boot(&channel)?;
    log::start(&config);
    let booted = boot(&channel, config);
    let (reply, sandbox) = match booted {
        Ok((reply, sandbox)) => (Ok(reply), Ok(sandbox)),
        Err(error) => {
            let message = format!("{error:#}");
            (Err(Failure { kind: FailureKind::Internal, message: message.clone() }), Err(anyhow!(message)))
        }
    };
    channel.send(&FromSentry::Reply { id, result: reply }, &[])?;
    serve(&channel, &sandbox?)
}

fn receive_boot(channel: &Channel) -> anyhow::Result<(u64, BootConfig)> {
    let (message, _): (ToSentry, _) = channel.receive().context("first message")?;
    match message.request {
        Request::Boot(config) => Ok((message.id, *config)),
        _ => Err(anyhow!("the first message is not a boot message")),
    }
}

/// Makes the kernel; afterwards nothing new is asked of the host.
fn boot(channel: &Arc<Channel>, config: BootConfig) -> anyhow::Result<(Reply, Arc<Sandbox>)> {
    let tuning = config.tuning;
    let options = systrap::Options {
        patch: tuning.patch,
        identity: tuning.identity,
        native_futex: tuning.native_futex,
        futex_spin: tuning.futex_spin,
        native_clock: tuning.native_clock,
        spin: tuning.spin,
        stub_copy: tuning.stub_copy,
        epoll_queue: tuning.epoll_queue,
        thread_state: tuning.thread_state && !config.strace,
    };
    limit_heaps(HEAPS);
    let prepared = platform::select::select(&config.platform, options)?;
    let (policy, fallback) = (prepared.policy(), prepared.fallback().map(str::to_owned));
    if let Some(why) = &fallback {
        tracing::warn!("{why}");
    }
    let platform = prepared.start().context("platform")?;
    let poller = Poller::start().context("poller")?;
    let timers = Timers::start().context("timers")?;
    let trim = sentry::trim::Trim::start().context("a thread")?;
    // Asks the host for processors and memory, which the filter forbids.
    let machine = Machine::new(&config);
    let net = sentry::net::Namespace::learn();
    let descriptors = Descriptors::new(descriptor_limit());
    // Reads a clock: the first time, the place of the vDSO is asked for, too.
    let load = sentry::load::Load::default();
    install(&sentry_policy(policy), unexpected(&config))?;

    let name = platform.name().to_owned();
    let kernel = Arc::new(Kernel {
        machine,
        config,
        platform,
        abi: Arc::new(syscalls::table::Table),
        vfs: sentry::vfs::System::new(),
        accounts: Accounts::new(&trim),
        descriptors,
        poller,
        tasks: ProcessTree::default(),
        pi_locks: Arc::default(),
        ipc: sentry::ipc::Namespace::new(),
        net,
        timers,
        trim,
        load,
        logins: 1.into(),
    });
    hooks::register(&kernel);
    let events = Arc::new(Events(Arc::clone(channel)));
    let sandbox = Sandbox::new(kernel, Box::new(hooks::Rooms), events);
    Ok((Reply::Booted { platform: name, fallback }, sandbox))
}

/// A call outside the policy ends the sentry. A debug build that logs everything goes on,
/// and the host's audit log shows what the policy lacks.
fn unexpected(config: &BootConfig) -> Unexpected {
    if cfg!(debug_assertions) && matches!(config.log_level.as_str(), "debug" | "trace") {
        return Unexpected::Log;
    }
    Unexpected::Kill
}

/// Tells the shim what happens, in order.
struct Events(Arc<Channel>);

impl EventSink for Events {
    fn event(&self, event: Event) {
        // If the shim has gone, the loop in `serve` ends the sandbox.
        let _ = self.0.send(&FromSentry::Event(event), &[]);
    }
}

/// Answers requests until the shim is gone. Each has a thread of its own: one that waits must not hold up a kill.
fn serve(channel: &Arc<Channel>, sandbox: &Arc<Sandbox>) -> anyhow::Result<()> {
    loop {
        let (message, fds): (ToSentry, Vec<OwnedFd>) = match channel.receive() {
            Ok(received) => received,
            Err(ChannelError::Closed) => return Ok(()),
            Err(error) => return Err(error).context("control socket"),
        };
        let is_last = matches!(message.request, Request::Shutdown);
        let (theirs, room) = (Arc::clone(channel), Arc::clone(sandbox));
        let answer = move || {
            let (result, fd) = room.handle(message.request, fds);
            let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
            // A shim that has gone needs no answer.
            let _ = theirs.send(&FromSentry::Reply { id: message.id, result }, &fds);
        };
        let thread =
            std::thread::Builder::new().name("request".into()).stack_size(REQUEST_STACK).spawn(answer);
        let thread = thread.context("thread for a request")?;
        if is_last {
            // Its answer must be out before the process ends.
            let _ = thread.join();
            return Ok(());
        }
    }
}
