//! What the shim tells a gofer, once, and what the gofer answers.
//!
//! Key types: [`GoferConfig`], [`GoferReply`]. The gofer is started with one stream socket as its stdin. The first
//! frame from the shim is a [`GoferConfig`] with one descriptor: the gofer's end of a
//! `SOCK_SEQPACKET` socket pair, whose other end goes to the sentry. The gofer shuts itself in, asks for its ids on the way
//! ([`GoferReply::MapIds`], answered by [`IdsMapped`]), and then says that it is ready or why not. From then on it serves until the sentry's end is closed; it does not look at the control socket again.
//!
//! Started as root it needs nothing prepared but a pid namespace, which only a child can be put into: it makes its own others. Its log lines go to stderr.

use serde::{Deserialize, Serialize};

/// Which files a container has.
#[derive(Debug, Clone, Serialize, Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
pub struct GoferConfig {
    /// Host path of the root file system's directory; mount 0. Everything mounted below it comes along.
    pub root: String,
    /// Refuse every change of mount 0.
    pub root_readonly: bool,
    /// Volumes: `mounts[i]` is mount `i + 1`.
    pub mounts: Vec<GoferMount>,
    /// Put a copy-on-write layer over the root, so that the host's files are never changed.
    pub overlay: Option<GoferOverlay>,
    /// `error`, `warn`, `info`, `debug` or `trace`; empty is `warn`.
    pub log_level: String,
}

/// One volume.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct GoferMount {
    /// Host path of a directory or of a single file. It must exist.
    pub source: String,
    /// Refuse every change.
    pub readonly: bool,
    /// Mounts below the source come along (`rbind`); otherwise only the one file system does (`bind`).
    pub recursive: bool,
    /// Let the container connect to Unix sockets that the host's processes have bound in it.
    pub allow_host_sockets: bool,
}

impl Default for GoferMount {
    fn default() -> Self {
        Self { source: String::new(), readonly: false, recursive: true, allow_host_sockets: false }
    }
}

/// The copy-on-write layer: an overlay whose lower layer is the root's directory, without what is mounted below it.
#[derive(Debug, Clone, Serialize, Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
pub struct GoferOverlay {
    /// Host directory for changes: `upper` and `work` are made in it if absent. Without one, changes
    /// are kept in memory and vanish with the gofer.
    pub directory: Option<String>,
    /// Limit for changes kept in memory, as tmpfs takes it (`512m`, `50%`); empty is tmpfs's default, half the memory.
    pub memory_limit: String,
}

/// What the gofer says: at most one [`GoferReply::MapIds`], then one of the others.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub enum GoferReply {
    /// It has entered a user namespace of its own and waits for [`IdsMapped`]: every id is to be mapped to itself, which only
    /// somebody outside may do.
    MapIds,
    /// It is shut in and serves.
    Ready,
    /// It could not be set up, and has ended: one line for a person.
    Failed(String),
}

/// The answer to [`GoferReply::MapIds`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub struct IdsMapped;
