//! `rvisor`: the sandbox without containerd. Which commands are there, and what do they exit with?
//!
//! Errors are one line on stderr. The exit status is the guest's own; 127 if its program is not there, 126 if it
//! cannot be executed, 1 for everything else that keeps it from running.

#![forbid(unsafe_code)]

mod do_command;
mod foreground;
mod run_command;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use control::{BootConfig, Tuning};
use sandbox::Hardening;
use sandbox::ids::Range;

/// Run Linux programs on a kernel of their own.
#[derive(Debug, Parser)]
#[command(name = "rvisor", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in a throw-away sandbox over a copy-on-write view of a directory
    Do(do_command::DoArgs),
    /// Run an OCI bundle in the foreground
    Run(run_command::RunArgs),
    /// Print the table of system calls and how far each is supported
    Syscalls,
}

/// What both `do` and `run` take.
#[derive(Debug, Args)]
struct SandboxArgs {
    /// How guest code runs: auto, systrap or ptrace
    #[arg(long, default_value = "auto", value_parser = ["auto", "systrap", "ptrace"])]
    platform: String,
    /// Print every system call of the guest to the debug log (or stderr)
    #[arg(long)]
    strace: bool,
    /// Write the sentry's and the gofer's log to this file
    #[arg(long, value_name = "FILE")]
    debug_log: Option<PathBuf>,
    /// Fast paths to switch off, for instance no-patch,no-spin
    #[arg(long, value_name = "LIST", value_parser = parse_tuning, default_value = "")]
    tuning: Tuning,
    /// User ids on the host, of which each sandbox has one, or none: all are nobody
    #[arg(long, value_name = "FIRST:COUNT", value_parser = parse_ids, default_value_t = Ids::default())]
    sandbox_ids: Ids,
    /// Share no processor core with others at the same time
    #[arg(long)]
    core_scheduling: bool,
    /// Restrict speculation in the sandbox
    #[arg(long)]
    restrict_speculation: bool,
}

/// `FIRST:COUNT` or `none`.
#[derive(Debug, Clone, Copy)]
struct Ids(Option<Range>);

impl Default for Ids {
    fn default() -> Self {
        Self(Some(Range::default()))
    }
}

impl std::fmt::Display for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(range) => range.fmt(f),
            None => f.write_str("none"),
        }
    }
}

fn parse_ids(text: &str) -> Result<Ids, String> {
    if text == "none" { Ok(Ids(None)) } else { text.parse().map(|range| Ids(Some(range))) }
}

impl SandboxArgs {
    /// What is to stand between the sandbox and its neighbours.
    fn hardening(&self) -> Hardening {
        Hardening {
            ids: self.sandbox_ids.0,
            core_scheduling: self.core_scheduling,
            restrict_speculation: self.restrict_speculation,
        }
    }

    /// The boot message for these options.
    fn boot_config(&self, sandbox: &str, hostname: &str) -> BootConfig {
        let log_level = match (&self.debug_log, self.strace) {
            (Some(_), _) => "debug",
            (None, true) => "info",
            (None, false) => "warn",
        };
        BootConfig {
            sandbox: sandbox.to_owned(),
            platform: self.platform.clone(),
            hostname: hostname.to_owned(),
            strace: self.strace,
            log_level: log_level.to_owned(),
            tuning: self.tuning,
            ..BootConfig::default()
        }
    }
}

/// `no-patch,no-spin` and so on.
fn parse_tuning(list: &str) -> Result<Tuning, String> {
    sandbox::plan::parse_tuning(list)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .without_time()
        .with_target(false)
        .init();
    let result = match cli.command {
        Command::Do(args) => do_command::run(args),
        Command::Run(args) => run_command::run(args),
        Command::Syscalls => syscalls_command(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            complain(&failure.message);
            ExitCode::from(failure.status)
        }
    }
}

/// One line to the person at the terminal.
#[expect(clippy::print_stderr, reason = "this is the command line's front end")]
fn complain(message: &str) {
    eprintln!("rvisor: {}", message.replace('\n', " "));
}

/// A reason not to run, and what to exit with.
#[derive(Debug)]
struct Failure {
    message: String,
    status: u8,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { message: format!("{:#}", error.into()), status: 1 }
    }
}

/// Prints the table.
#[expect(clippy::print_stdout, reason = "this is the command line's front end")]
#[expect(clippy::unnecessary_wraps, reason = "the commands have one signature")]
fn syscalls_command() -> Result<u8, Failure> {
    print!("{}", syscalls::page::markdown());
    Ok(0)
}
