//! Who cleans up when a part of the shim is killed before containerd has asked the server for anything?
//!
//! From the first request on, containerd notices the server's death and runs `delete`. Before that nobody would:
//!
//! - If the *server* is killed, its socket would stay. A third process, the guard, waits for that on a pipe whose other
//!   end the server has. It goes as soon as the server is asked for something.
//! - If *`start`* is killed, containerd never learns the address and the server would serve for ever. So the server
//!   waits on a pipe whose other end `start` has, for the word that the answer has been given.
//!
//! Key types: [`Guard`] (as `start` holds it) and [`Birth`] (as the server does).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::pipe::{PipeFlags, pipe_with};
use seccomp::jail::{Jail, Namespaces, Privileges, Root};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::socket;

/// What is written to either pipe when all is well.
const WELL: &[u8] = b"!";
/// How long a dead socket keeps its name. A containerd that has its address already is then refused at once, while
/// containerd up to 1.7 tries a name that is not there for 100 s.
const LINGER: Duration = Duration::from_secs(3);

/// The guard of a socket's name, which has not been dismissed yet.
#[derive(Debug)]
pub(crate) struct Guard {
    /// For the server.
    pub(crate) pipe: OwnedFd,
}

impl Guard {
    /// Posts a guard: this program again.
    pub(crate) fn post(path: &Path, id: &str) -> anyhow::Result<Self> {
        let (reader, pipe) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        let program = File::open("/proc/self/exe").context("own program")?;
        let null = File::options().write(true).open("/dev/null").context("/dev/null")?;
        let path = path.display().to_string();
        let args = ["containerd-shim-rvisor-v2", "-id", id, "-socket", &path, "guard"];
        let jail = Jail {
            program: program.as_fd(),
            args: args.into_iter().map(CString::new).collect::<Result<_, _>>().context("a zero byte")?,
            env: Vec::new(),
            fds: vec![reader.as_fd(), null.as_fd(), null.as_fd()],
            namespaces: Namespaces::NONE,
            root: Root::Inherited,
            privileges: Privileges::Inherited,
            die_with_parent: false,
        };
        jail.prepare().and_then(seccomp::jail::Held::release).context("start the guard")?;
        Ok(Self { pipe })
    }
}

/// The guard's own life: removes the name once nobody can write to the pipe any more and nobody did.
pub(crate) fn stand(path: &Path) -> anyhow::Result<()> {
    // Holds up nothing that is to be removed.
    std::env::set_current_dir("/").context("/")?;
    watch(path, io::stdin().lock(), LINGER)
}

fn watch(path: &Path, mut pipe: impl Read, linger: Duration) -> anyhow::Result<()> {
    let mut word = Vec::new();
    pipe.by_ref().take(1).read_to_end(&mut word).context("pipe")?;
    if word != WELL {
        std::thread::sleep(linger);
        socket::remove_if_dead(path);
    }
    Ok(())
}

/// What the server holds of the two pipes.
#[derive(Debug)]
pub(crate) struct Birth {
    guard: Mutex<Option<File>>,
}

impl Birth {
    /// The server's: `start` has put the guard's pipe where stdout is, and its own where stderr is. Both are /dev/null
    /// afterwards.
    pub(crate) fn inherit() -> io::Result<(Self, pipe::Receiver)> {
        let guard = io::stdout().as_fd().try_clone_to_owned()?;
        let starter = io::stderr().as_fd().try_clone_to_owned()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Ok((Self { guard: Mutex::new(Some(guard.into())) }, pipe::Receiver::from_owned_fd(starter)?))
    }

    /// containerd is there: the guard may go.
    pub(crate) fn asked(&self) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut guard) = guard {
            // One that has been killed needs no telling.
            let _ = guard.write_all(WELL);
        }
    }

    /// Whether containerd has been here.
    pub(crate) fn was_asked(&self) -> bool {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// `start`'s word that the answer has been given; false if it has died before.
pub(crate) async fn was_answered(mut starter: pipe::Receiver) -> bool {
    let mut word = [0];
    matches!(starter.read(&mut word).await, Ok(n) if n > 0)
}

/// Tells the server that the answer has been given.
pub(crate) fn answered(starter: OwnedFd) {
    // A server that is gone already is containerd's to notice.
    let _ = File::from(starter).write_all(WELL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_socket(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        path
    }

    #[test]
    fn the_name_goes_when_the_server_has_gone_unasked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = dead_socket(directory.path());
        watch(&path, io::empty(), Duration::ZERO).expect("watched");
        assert!(!path.exists());
    }

    #[test]
    fn the_name_stays_when_the_guard_is_dismissed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = dead_socket(directory.path());
        watch(&path, WELL, Duration::ZERO).expect("watched");
        assert!(path.exists());
    }

    #[test]
    fn the_name_stays_when_somebody_serves_it_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        watch(&path, io::empty(), Duration::ZERO).expect("watched");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_starter_that_dies_without_a_word_is_noticed() {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (reader, writer) = pipe();
        answered(writer);
        assert!(was_answered(pipe::Receiver::from_owned_fd(reader).expect("a pipe")).await);
        let (reader, writer) = pipe();
        drop(writer);
        assert!(!was_answered(pipe::Receiver::from_owned_fd(reader).expect("a pipe")).await);
    }
}
