//! Where does the server's log go? Into the `log` pipe that containerd reads, never waiting for it.
//!
//! Key types: [`Pipe`] (drops what does not fit: a containerd that is away must not stop the pod) and [`Tail`] (the
//! last line of a child, which may be the reason of its death).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use sandbox::fields::Note;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;

/// Longest line of a child that is kept whole.
const LINE_MAX: usize = 16 << 10;

/// The log pipe.
#[derive(Debug)]
pub(crate) struct Pipe(File);

impl Write for &Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Full, or nobody reads: the line is lost, not the pod.
        let _ = (&self.0).write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends this process's log to the pipe in the current directory.
pub(crate) fn start(debug: bool) {
    // Read and write, so that opening does not wait for a reader and writing without one is no error.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(flags).open("log") else { return };
    let level = if debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    tracing_subscriber::fmt()
        .with_writer(Arc::new(Pipe(file)))
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .init();
}

/// Tells the operator of something that was asked for and is not done.
pub(crate) fn note(container: &str, note: &Note) {
    tracing::warn!(container, field = note.field, value = note.value, "not done: {}", note.why);
}

/// The last line that a child has written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<String>>);

impl Tail {
    /// The line; empty if there was none.
    pub(crate) fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A pipe for a child's log, whose lines go into ours. Needs the runtime's context.
pub(crate) fn child_log() -> io::Result<(OwnedFd, Tail)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let reader = pipe::Receiver::from_owned_fd(reader)?;
    let tail = Tail::default();
    let last = tail.clone();
    tokio::spawn(async move {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            line.truncate(LINE_MAX);
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            // The child's own level stands behind its time.
            match text.split_whitespace().nth(1) {
                Some("ERROR") => tracing::error!("{text}"),
                Some("WARN") => tracing::warn!("{text}"),
                _ => tracing::info!("{text}"),
            }
            *last.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    });
    Ok((writer, tail))
}
