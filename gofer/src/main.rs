//! The gofer: the one process that touches a container's files by name, on behalf of its sentry.
//!
//! It starts with a control socket as stdin, takes its configuration and the sentry's socket from there, shuts itself
//! into a tree that holds nothing but the container's mounts ([`setup`]), and serves the requests of
//! `gofer-protocol` ([`serve`], [`ops`]) until the sentry goes. The sentry may have been taken over, so
//! every request is hostile input; what a request may do is decided in [`ops`], by mount and by file type.
//!
//! The host calls that it makes once it serves are listed, each with its reason, in `seccomp/src/policy/gofer.rs`.

#![forbid(unsafe_code)]

mod host;
mod log;
mod nodes;
mod ops;
mod request;
mod serve;
mod setup;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use control::{Channel, GoferConfig, GoferReply};

use crate::serve::Server;

fn main() -> ExitCode {
    let control = match setup::take_control_socket() {
        Ok(socket) => Channel::new(socket),
        Err(error) => {
            log::start("error");
            tracing::error!("rvisor-gofer is started by rvisor with a control socket as stdin: {error:#}");
            return ExitCode::from(2);
        }
    };
    let (server, socket) = match start(&control) {
        Ok(ready) => ready,
        Err(error) => {
            let line = format!("{error:#}");
            // Without a configuration there is no log yet.
            log::start("error");
            tracing::error!("{line}");
            // The shim may have gone; then there is nobody left to tell.
            let _ = control.send(&GoferReply::Failed(line), &[]);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = control.send(&GoferReply::Ready, &[]) {
        tracing::error!("cannot answer the shim: {error}");
        return ExitCode::FAILURE;
    }
    drop(control);
    match serve::run(&server, socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything up to the first request.
fn start(control: &Channel) -> anyhow::Result<(Arc<Server>, std::os::fd::OwnedFd)> {
    let (config, mut fds) =
        control.receive::<GoferConfig>().context("no configuration on the control socket")?;
    log::start(&config.log_level);
    let socket = fds.pop().context("no descriptor came with the configuration")?;
    anyhow::ensure!(fds.is_empty(), "more than one descriptor came with the configuration");
    serve::check_socket(&socket)?;
    let tree = setup::tree::enter(&config)?;
    let server = Arc::new(Server::new(tree)?);
    setup::jail::enter(control, &server)?;
    Ok((server, socket))
}
