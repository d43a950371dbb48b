//! `containerd-shim-rvisor-v2`: what is this process to do, told by containerd's flags?
//!
//! `start` answers with an address and leaves a server behind (`bootstrap`), `delete` cleans up after a server that
//! is gone (`cleanup`), `guard` waits for what `delete` cannot (`guard`), `-info` and `-v` describe us, and without an action we are the server (`server`).
//! On stdout and stderr nothing may stand but the answer: containerd takes all of it.

#![forbid(unsafe_code)]

mod bootstrap;
mod cleanup;
mod config;
mod create;
mod events;
mod exits;
mod failure;
mod flags;
mod guard;
mod info;
mod io;
mod log;
mod metrics;
mod pod;
mod process;
mod record;
mod server;
mod service;
mod socket;
mod start;
mod task;

use std::process::ExitCode;

use flags::{Action, Flags};

fn main() -> ExitCode {
    let result = Flags::parse(std::env::args().skip(1)).and_then(|flags| match flags.action {
        Action::Start => bootstrap::start(&flags),
        Action::Delete => cleanup::delete(&flags),
        Action::Guard => guard::stand(&flags.socket),
        Action::Info => info::info(),
        Action::Version => info::version(),
        Action::Serve => server::serve(flags),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line; containerd shows it as the reason.
#[expect(clippy::print_stderr, reason = "containerd reads the reason of a failed start from stderr")]
fn complain(error: &anyhow::Error) {
    eprintln!("rvisor: {}", format!("{error:#}").replace('\n', " "));
}
