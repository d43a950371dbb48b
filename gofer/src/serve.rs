//! How requests are received and answered: one thread per channel, one request at a time on each.
//!
//! Key types: [`Server`] (what all threads share), [`run`]. The first of these threads serves the sentry's first socket, over which
//! further channels are asked for; when that closes, the process ends. A malformed request ends it as well. The main thread only waits:
//! it is the one that ends with the parent, which a thread that acts for others forgets (`seccomp::jail::ActingAs`).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use gofer_protocol::wire::{CHANNELS_MAX, Header, Op, VERSION};
use gofer_protocol::{Channel, ChannelError, Descriptors, Errno, Stat};
use rustix::fs::Statx;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use seccomp::jail::Ids;

use crate::host;
use crate::nodes::Nodes;
use crate::ops;
use crate::request::{Fault, Outcome, Reply};
use crate::setup::tree::{Mount, Tree};

/// Deepest call chain is shallow; buffers are on the heap.
const STACK_BYTES: usize = 256 << 10;

/// What all threads share.
pub(crate) struct Server {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) nodes: Nodes,
    pub(crate) proc_fds: OwnedFd,
    /// The process's own, which every thread has between two requests.
    pub(crate) ids: Ids,
    channels: AtomicUsize,
    /// File systems seen, and what each does; a file's `dev` is the position here, from 1.
    /// LOCK: taken alone.
    devices: Mutex<Vec<((u32, u32), u32)>>,
}

impl Server {
    /// A server over the tree; nothing is attached yet.
    pub(crate) fn new(tree: Tree) -> anyhow::Result<Self> {
        anyhow::ensure!(u32::try_from(tree.mounts.len()).is_ok(), "too many mounts");
        Ok(Self {
            mounts: tree.mounts,
            nodes: Nodes::new()?,
            proc_fds: tree.proc_fds,
            ids: Ids::current(),
            channels: AtomicUsize::new(0),
            devices: Mutex::default(),
        })
    }

    /// The small number of a file's file system, and what that does.
    fn file_system(&self, fd: impl AsFd, host: &Statx) -> (u32, u32) {
        let device = (host.stx_dev_major, host.stx_dev_minor);
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let index = devices.iter().position(|(known, _)| *known == device).unwrap_or_else(|| {
            devices.push((device, host::storage(fd)));
            devices.len() - 1
        });
        (u32::try_from(index + 1).expect("fewer file systems than 2^32"), devices[index].1)
    }

    /// Attributes of a file.
    pub(crate) fn stat(&self, fd: impl AsFd) -> rustix::io::Result<Stat> {
        let host = host::statx(&fd)?;
        Ok(host::stat(&host, self.file_system(&fd, &host), host::marks(&fd, &host)))
    }
}

/// Refuses what cannot be the sentry's end, while that can still be told to the shim.
pub(crate) fn check_socket(socket: &OwnedFd) -> anyhow::Result<()> {
    let kind = rustix::net::sockopt::socket_type(socket).context("the sentry's end is no socket")?;
    anyhow::ensure!(kind == SocketType::SEQPACKET, "the sentry's socket is not of type SEQPACKET");
    Ok(())
}

/// Serves the sentry until it goes.
///
/// # Errors
/// If the connection breaks, or if what comes is not the protocol.
pub(crate) fn run(server: &Arc<Server>, socket: OwnedFd) -> anyhow::Result<()> {
    let server = Arc::clone(server);
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || serve(&server, Channel::new(socket)))
        .context("cannot start a thread")?
        .join()
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the first channel's thread panicked")))
}

fn serve(server: &Arc<Server>, mut channel: Channel) -> anyhow::Result<()> {
    loop {
        let record = match channel.receive(Descriptors::Refuse) {
            Ok(record) => record,
            Err(ChannelError::Closed) => return Ok(()),
            Err(error @ ChannelError::Length) => return Err(error).context("malformed request"),
            Err(error) => return Err(error).context("cannot receive requests"),
        };
        let request = record.header;
        let op = check_header(request)?;
        let (status, reply) = match dispatch(server, op, record.body) {
            Ok(reply) => (0, reply),
            Err(Fault::Errno(errno)) => (errno.raw().unsigned_abs(), Reply::default()),
            Err(Fault::Malformed(why)) => anyhow::bail!("malformed request {op:?}: {why}"),
        };
        if op == Op::Close {
            continue;
        }
        let header = Header { status, ..request };
        match channel.send(header, &[&reply.body], reply.fd.as_ref().map(AsFd::as_fd)) {
            Ok(()) => {}
            Err(ChannelError::Closed) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot answer {op:?}")),
        }
    }
}

fn check_header(header: Header) -> anyhow::Result<Op> {
    anyhow::ensure!(
        header.version == VERSION,
        "malformed request: version {} is not {VERSION}",
        header.version
    );
    anyhow::ensure!(header.status == 0, "malformed request: it has a status");
    Op::from_raw(header.op)
        .with_context(|| format!("malformed request: no operation has number {}", header.op))
}

fn dispatch(server: &Arc<Server>, op: Op, body: &[u8]) -> Outcome {
    match op {
        Op::Hello => ops::lookup::hello(server, body),
        Op::Attach => ops::lookup::attach(server, body),
        Op::Walk => ops::lookup::walk(server, body),
        Op::Close => ops::lookup::close(server, body),
        Op::Stat => ops::attr::stat(server, body),
        Op::SetAttr => ops::attr::set_attr(server, body),
        Op::StatFs => ops::attr::stat_fs(server, body),
        Op::ReadLink => ops::data::read_link(server, body),
        Op::Open => ops::data::open(server, body),
        Op::Connect => ops::data::connect(server, body),
        Op::Fsync => ops::data::fsync(server, body),
        Op::SyncFs => ops::data::sync_fs(server, body),
        Op::Create => ops::make::create(server, body),
        Op::CreateUnnamed => ops::make::create_unnamed(server, body),
        Op::Mkdir => ops::make::mkdir(server, body),
        Op::Symlink => ops::make::symlink(server, body),
        Op::Mknod => ops::make::mknod(server, body),
        Op::Link => ops::names::link(server, body),
        Op::Unlink => ops::names::unlink(server, body),
        Op::Rename => ops::names::rename(server, body),
        Op::ReadDir => ops::names::read_dir(server, body),
        Op::GetXattr => ops::xattr::get(server, body),
        Op::SetXattr => ops::xattr::set(server, body),
        Op::ListXattr => ops::xattr::list(server, body),
        Op::RemoveXattr => ops::xattr::remove(server, body),
        Op::OpenChannel => open_channel(server, body),
    }
}

/// One more channel, with a thread of its own; `EMFILE` above [`CHANNELS_MAX`].
fn open_channel(server: &Arc<Server>, body: &[u8]) -> Outcome {
    if !body.is_empty() {
        return Err(Fault::Malformed("wrong length"));
    }
    if server.channels.fetch_add(1, Ordering::Relaxed) >= CHANNELS_MAX {
        server.channels.fetch_sub(1, Ordering::Relaxed);
        return Err(Errno::EMFILE.into());
    }
    spawn_channel(server).inspect_err(|_| {
        server.channels.fetch_sub(1, Ordering::Relaxed);
    })
}

fn spawn_channel(server: &Arc<Server>) -> Outcome {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let shared = Arc::clone(server);
    let serve_channel = move || {
        if let Err(error) = serve(&shared, Channel::new(ours)) {
            tracing::error!("{error:#}");
            std::process::exit(1);
        }
        shared.channels.fetch_sub(1, Ordering::Relaxed);
    };
    match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(serve_channel) {
        Ok(_) => Ok(Reply::default().with(theirs)),
        Err(error) => Err(Errno::new(error.raw_os_error().unwrap_or(0)).into()),
    }
}
