//! What does `delete` do? It cleans up after one container whose server cannot be asked any more.
//!
//! It also runs after every deletion in good order, when there is nothing left to do, and for single containers of
//! a living pod: the pod's server, sentry and other containers are not touched then.

use std::io::Write;
use std::time::SystemTime;

use anyhow::Context;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};

use crate::events::timestamp;
use crate::flags::Flags;
use crate::record;
use crate::socket;

/// 128 + SIGKILL: what has become of a container whose server is gone.
const KILLED: u32 = 137;

/// Cleans up and prints a `DeleteResponse`.
pub(crate) fn delete(flags: &Flags) -> anyhow::Result<()> {
    let bundle = if flags.bundle.as_os_str().is_empty() {
        std::env::current_dir().context("bundle")?
    } else {
        flags.bundle.clone()
    };
    let pid = record::Record::load(&bundle).and_then(|record| record.processes.first().map(|p| p.pid));
    record::clean(&bundle);
    remove_socket(&bundle);
    let response = DeleteResponse {
        pid: pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..DeleteResponse::default()
    };
    std::io::stdout().write_all(&response.write_to_bytes()?).context("stdout")
}

/// Removes the server's socket, if nobody listens on it.
fn remove_socket(bundle: &std::path::Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join("address")) else { return };
    if let Some(path) = address.trim().strip_prefix("unix://") {
        socket::remove_if_dead(path.as_ref());
    }
}
