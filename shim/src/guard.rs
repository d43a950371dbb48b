//! Who cleans up when a part of the shim is killed and containerd does not?
//!
//! containerd notices the server's death and runs `delete`, but not before its first request, and not if it has removed
//! the bundle in the same moment, as it does while it creates or deletes a container.
//!
//! - If the *server* is killed, its socket, cgroups and processes could stay. A third process, the guard, waits for that
//!   on a pipe whose other end the server has, and on which it is told what there would be to clean up. It goes with
//!   the server that ends in good order.
//! - If the *guard* is killed, the server sees its end of that pipe close, posts another and tells it all again.
//! - If *`start`* is killed, containerd never learns the address and the server would serve for ever. So the server
//!   waits on a pipe whose other end `start` has, for the word that the answer has been given.
//!
//! Key types: [`Guard`] (as `start` holds it), [`Link`] (as the server does) and [`Word`] (what goes between).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions};
use seccomp::jail::{Jail, Namespaces, Privileges, Root, Speculation, Started};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;

use crate::record::Record;
use crate::socket;

/// What `start` writes when it has answered.
const WELL: &[u8] = b"!";
/// How long the socket of a server that was killed unasked keeps its name. A containerd that has its address already is
/// then refused at once, while containerd up to 1.7 tries a name that is not there for 100 s.
const LINGER: Duration = Duration::from_secs(3);

/// How long the socket of a process that dies may live on.
const DYING: Duration = Duration::from_secs(5);
/// Between looks at it.
const LOOK: Duration = Duration::from_millis(10);

/// What the server tells its guard, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// containerd is there: it refuses no name any more.
    Asked,
    /// What this bundle's container has on the host now.
    Has(PathBuf, Record),
    /// That container has been deleted in good order.
    Forget(PathBuf),
    /// The server ends by itself and has cleaned up.
    Well,
}

/// The guard of a server that does not run yet.
#[derive(Debug)]
pub(crate) struct Guard {
    /// For the server.
    pub(crate) pipe: OwnedFd,
    /// For its parent.
    started: Started,
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
            speculation: Speculation::Host,
        };
        let started = jail.prepare().and_then(seccomp::jail::Held::release).context("start the guard")?;
        Ok(Self { pipe, started })
    }
}

/// The guard's own life: it ends with the server, and cleans up if that ends without a word.
pub(crate) fn stand(path: &Path) -> anyhow::Result<()> {
    // Holds up nothing that is to be removed.
    std::env::set_current_dir("/").context("/")?;
    watch(path, io::stdin().lock(), LINGER);
    Ok(())
}

fn watch(path: &Path, pipe: impl Read, linger: Duration) {
    let mut asked = false;
    let mut records = BTreeMap::new();
    for line in BufReader::with_capacity(PIPE_BUF, pipe).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Word::Asked) => asked = true,
            Ok(Word::Has(bundle, record)) => drop(records.insert(bundle, record)),
            Ok(Word::Forget(bundle)) => drop(records.remove(&bundle)),
            Ok(Word::Well) => return,
            // Of a server that is no longer of our version: the name is still ours to remove.
            Err(_) => {}
        }
    }
    for record in records.values() {
        record.undo();
    }
    if !asked {
        std::thread::sleep(linger);
    }
    // The pipe may be closed before the socket is, by a process that dies.
    let begun = Instant::now();
    while !socket::remove_if_dead(path) && begun.elapsed() < DYING {
        std::thread::sleep(LOOK);
    }
}

/// A guard that is stopped must not stop the server.
fn unstoppable(pipe: OwnedFd) -> io::Result<File> {
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Ok(pipe.into())
}

/// Between two posts, however soon the first is killed.
const REPOST_PAUSE: Duration = Duration::from_secs(1);
/// LINUX: pipe(7): what is no longer is written whole or not at all.
const PIPE_BUF: usize = 4096;

/// What the server holds of the two pipes.
#[derive(Debug)]
pub(crate) struct Link {
    /// LOCK: taken alone, and never waited under.
    told: Mutex<Told>,
    asked: AtomicBool,
}

/// The guard's end and what it has been told, for its successor.
#[derive(Debug)]
struct Told {
    guard: File,
    records: BTreeMap<PathBuf, Record>,
}

impl Link {
    /// The server's: `start` has put the guard's pipe where stdout is, and its own where stderr is. Both are /dev/null
    /// afterwards.
    pub(crate) fn inherit() -> io::Result<(Self, pipe::Receiver)> {
        let guard = io::stdout().as_fd().try_clone_to_owned()?;
        let starter = io::stderr().as_fd().try_clone_to_owned()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        let told = Told { guard: unstoppable(guard)?, records: BTreeMap::new() };
        Ok((
            Self { told: Mutex::new(told), asked: AtomicBool::new(false) },
            pipe::Receiver::from_owned_fd(starter)?,
        ))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As long as the server lives: posts another guard where one has been killed. Returns when that fails, with a line
    /// in the log: `delete` remains, which containerd runs in all but the cases above.
    pub(crate) async fn keep_guarded(self: Arc<Self>, path: PathBuf, id: String) {
        let mut own: Option<Started> = None;
        loop {
            if let Err(error) = self.guard_has_gone().await {
                return tracing::error!(%error, "cannot watch the guard");
            }
            // Those that we posted are ours to reap; the first was `start`'s.
            if let Some(Started { pidfd, .. }) = own.take() {
                let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            }
            tracing::warn!("the guard has been killed; another one is posted");
            let posted =
                Guard::post(&path, &id).and_then(|guard| Ok((unstoppable(guard.pipe)?, guard.started)));
            match posted {
                Ok((pipe, started)) => {
                    own = Some(started);
                    self.relieve(pipe);
                }
                Err(error) => return tracing::error!("no guard any more: {error:#}"),
            }
            tokio::time::sleep(REPOST_PAUSE).await;
        }
    }

    /// Waits until nobody has the other end of the pipe.
    async fn guard_has_gone(&self) -> io::Result<()> {
        let end = self.told().guard.try_clone()?;
        AsyncFd::with_interest(end, Interest::ERROR)?.ready(Interest::ERROR).await.map(drop)
    }

    /// Tells a new guard what the old one knew. A pipe holds what a pod's containers come to.
    fn relieve(&self, guard: File) {
        let mut told = self.told();
        told.guard = guard;
        if self.was_asked() {
            told.tell(&Word::Asked);
        }
        for (bundle, record) in &told.records {
            told.tell(&Word::Has(bundle.clone(), record.clone()));
        }
    }

    /// containerd is there.
    pub(crate) fn asked(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.told().tell(&Word::Asked);
        }
    }

    /// Whether containerd has been here.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes what there is to clean up of a container, on disk and with the guard.
    pub(crate) fn note(&self, bundle: &Path, record: &Record) -> io::Result<()> {
        record.store(bundle)?;
        // The guard hears of every container.
        let record = Record { members: Vec::new(), ..record.clone() };
        let mut told = self.told();
        told.records.insert(bundle.to_path_buf(), record.clone());
        told.tell(&Word::Has(bundle.to_path_buf(), record));
        Ok(())
    }

    /// The container has been cleaned up.
    pub(crate) fn forget(&self, bundle: &Path) {
        Record::remove(bundle);
        let mut told = self.told();
        told.records.remove(bundle);
        told.tell(&Word::Forget(bundle.to_path_buf()));
    }

    /// All has been cleaned up.
    pub(crate) fn well(&self) {
        self.told().tell(&Word::Well);
    }
}

impl Told {
    /// One that has been killed is told by its successor's post, and one that cannot be told knows less: `delete` remains.
    fn tell(&self, word: &Word) {
        let Ok(mut line) = serde_json::to_vec(word) else { return };
        line.push(b'\n');
        if line.len() <= PIPE_BUF {
            let _ = (&self.guard).write_all(&line);
        }
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

    fn told(words: &[Word]) -> Vec<u8> {
        words
            .iter()
            .flat_map(|word| serde_json::to_vec(word).expect("encodes").into_iter().chain([b'\n']))
            .collect()
    }

    #[test]
    fn the_name_goes_when_the_server_has_gone_without_a_word() {
        let directory = tempfile::tempdir().expect("a directory");
        for words in [told(&[]), told(&[Word::Asked]), b"{}\n".to_vec(), vec![0xff; 5000]] {
            let path = dead_socket(directory.path());
            watch(&path, words.as_slice(), Duration::ZERO);
            assert!(!path.exists());
        }
    }

    #[test]
    fn the_name_stays_when_the_server_ends_in_good_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = dead_socket(directory.path());
        watch(&path, told(&[Word::Asked, Word::Well]).as_slice(), Duration::ZERO);
        assert!(path.exists());
    }

    #[test]
    fn the_name_stays_when_somebody_serves_it_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        watch(&path, io::empty(), Duration::ZERO);
        assert!(path.exists());
    }

    #[test]
    fn processes_of_the_last_record_are_killed_and_forgotten_ones_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = dead_socket(directory.path());
        let sleeper = || std::process::Command::new("sleep").arg("100").spawn().expect("started");
        let (mut ours, mut other) = (sleeper(), sleeper());
        let record = |child: &std::process::Child| {
            let process = crate::record::Process::of(i32::try_from(child.id()).expect("a pid"));
            Record { processes: process.into_iter().collect(), ..Record::default() }
        };
        let words = told(&[
            Word::Asked,
            Word::Has("/a".into(), Record::default()),
            Word::Has("/b".into(), record(&other)),
            Word::Has("/a".into(), record(&ours)),
            Word::Forget("/b".into()),
        ]);
        watch(&path, words.as_slice(), Duration::ZERO);
        assert!(!ours.wait().expect("ended").success());
        assert!(other.try_wait().expect("looked").is_none());
        other.kill().expect("killed");
        other.wait().expect("ended");
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
