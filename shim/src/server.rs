//! How does the server come up, and how does it end?
//!
//! Key function: [`serve`]. One thread runs everything that only waits; blocking work has threads of its own, which
//! go when they are idle. The same Task object stands under both names that containerd uses for it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use containerd_shim_protos::shim_async::create_task;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::r#async::Server;

use crate::events::Publisher;
use crate::flags::Flags;
use crate::guard::{self, Link};
use crate::log;
use crate::pod::Pod;
use crate::service::Service;

/// How long the first request may take: as long as containerd tries to connect.
const UNASKED_LIMIT: Duration = Duration::from_secs(100);
/// Between looks whether it has come.
const UNASKED_PAUSE: Duration = Duration::from_secs(1);
/// How long a thread for blocking work waits for more.
const IDLE_THREAD: Duration = Duration::from_secs(2);

/// Serves until containerd asks for the end.
pub(crate) fn serve(flags: Flags) -> anyhow::Result<()> {
    log::start(flags.debug);
    // We were executed by a descriptor, whose number would stand in the process list.
    let _ = rustix::thread::set_name(c"rvisor-shim");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(IDLE_THREAD)
        .build()
        .context("runtime")?;
    let result = runtime.block_on(serve_until_end(flags));
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    // Blocked threads have nothing left that matters.
    runtime.shutdown_background();
    result
}

async fn serve_until_end(flags: Flags) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let socket =
        std::os::unix::net::UnixListener::from(stdin.as_fd().try_clone_to_owned().context("socket")?);
    let path =
        socket.local_addr().context("stdin is no socket")?.as_pathname().map(std::path::Path::to_path_buf);
    socket.set_nonblocking(true).context("socket")?;
    let listener = tokio::net::UnixListener::from_std(socket).context("socket")?;

    let (link, starter) = Link::inherit().context("pipes")?;
    let address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let events = Publisher::start(&address, &flags.namespace);
    let bundle = std::env::current_dir().context("bundle")?;
    let pod = Pod::start(&flags.namespace, bundle, link, events);
    let service = Arc::new(Service(Arc::clone(&pod)));
    let mut server = Server::new().add_listener(listener.into());
    let v3 = create_task(Arc::clone(&service) as Arc<_>);
    let v2 = create_task(service as Arc<_>);
    let renamed = v2.into_values().map(|service| ("containerd.task.v2.Task".to_owned(), service));
    server = server.register_service(v3).register_service(renamed.collect());
    server.start().await.context("serve")?;
    tracing::info!(group = flags.id, "shim serves");
    if let Some(path) = path.clone() {
        tokio::spawn(Arc::clone(&pod.link).keep_guarded(path, flags.id.clone()));
    }

    wait_for_end(&pod, starter).await?;
    let ended = Arc::clone(&pod);
    tokio::task::spawn_blocking(move || ended.end_all()).await.context("end")?;
    pod.flush().await;
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
    pod.link.well();
    // Lets the answer to Shutdown out before the connection goes.
    tokio::time::sleep(Duration::from_millis(20)).await;
    tracing::info!("shim ends");
    Ok(())
}

/// Until containerd asks for it and no container is left, or somebody terminates us, or nobody knows us.
async fn wait_for_end(pod: &Pod, starter: Receiver) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    tokio::select! {
        () = pod.end.notified() => {}
        _ = terminate.recv() => tracing::warn!("terminated"),
        _ = interrupt.recv() => tracing::warn!("interrupted"),
        () = forgotten(pod, starter) => {}
    }
    Ok(())
}

/// Returns if nobody will ever ask us for anything: whoever started us has died, or containerd has.
async fn forgotten(pod: &Pod, starter: Receiver) {
    if !guard::was_answered(starter).await {
        return tracing::warn!("the one that started this server has died");
    }
    let begun = Instant::now();
    while begun.elapsed() < UNASKED_LIMIT {
        tokio::time::sleep(UNASKED_PAUSE).await;
        if pod.link.was_asked() {
            std::future::pending::<()>().await;
        }
        // As containerd does when whoever started us was killed after all: it never got the address.
        if !pod.bundle.exists() {
            return tracing::warn!("the container has been given up");
        }
    }
    tracing::warn!("nobody has asked for anything");
}
