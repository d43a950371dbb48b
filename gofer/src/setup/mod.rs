//! How the gofer gets from a freshly started process to one that can reach nothing but its container's files.
//!
//! [`take_control_socket`], then [`tree::enter`] (mounts), then [`jail::enter`] (privileges). One thread all the while.

pub(crate) mod jail;
pub(crate) mod tree;

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketType;

/// Takes the socket from stdin and leaves `/dev/null` there.
pub(crate) fn take_control_socket() -> anyhow::Result<OwnedFd> {
    let stdin = std::io::stdin();
    let kind = rustix::net::sockopt::socket_type(stdin.as_fd()).context("stdin is no socket")?;
    anyhow::ensure!(kind == SocketType::STREAM, "stdin is a socket of the wrong type");
    let socket = stdin.as_fd().try_clone_to_owned().context("cannot duplicate stdin")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("cannot replace stdin")?;
    Ok(socket)
}
