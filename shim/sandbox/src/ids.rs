//! Which user id does a sandbox run as? One of a range, which no other sandbox of the host has while a process of it lives.
//!
//! Key types: [`Range`] (the operator's choice), [`take`] and [`Id`]. What the kernel counts by user (epoll watches, keys, pending signals,
//! locked memory) is then counted for each sandbox alone, and two sandboxes are strangers to each other wherever ids are compared.
//!
//! The shims of a host agree by files: `DIR/UID` is locked (`flock(2)`) by the process that answers for the sandbox, so that a lock ends
//! with its holder however that ends. The file is removed once the sandbox's processes are known to have ended. One that is found without
//! a lock belonged to a shim that was killed: its id is given out again when no process has it. Ids are given in turn, so that
//! this comes late. `DIR/lock` is held for each of these steps.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// Where the files are.
pub const DIRECTORY: &str = "/run/rvisor/ids";
/// Who a sandbox is where no range can be had: nobody, like all others.
pub const NOBODY: u32 = 65534;
/// Longest `/etc/subuid` that is read.
const SUBUID_MAX: u64 = 1 << 20;

/// User ids for sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: u32,
    count: u32,
}

impl Default for Range {
    /// Ids that systemd's list of ranges (UIDS-GIDS) leaves free: above those of `systemd-nspawn` and of all ranges that `useradd` gives to
    /// users (`SUB_UID_MAX` is 600100000), far above the kubelet's for pods with user namespaces, below 2^31.
    fn default() -> Self {
        Self { first: 0x7000_0000, count: 16384 }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.first, self.count)
    }
}

impl std::str::FromStr for Range {
    type Err = String;

    /// `FIRST:COUNT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let pair =
            text.split_once(':').and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
        let (first, count): (u32, u32) = pair.ok_or_else(|| format!("{text:?} is not FIRST:COUNT"))?;
        let end = first.checked_add(count);
        if first == 0 || count == 0 || end.is_none() {
            return Err(format!(
                "{text} is no range of user ids: the first must not be root's, the last not above 4294967294"
            ));
        }
        Ok(Self { first, count })
    }
}

impl Range {
    /// The id is one of them.
    #[must_use]
    pub fn contains(self, uid: u32) -> bool {
        self.overlaps(u64::from(uid), 1)
    }

    fn overlaps(self, first: u64, count: u64) -> bool {
        let (start, end) = (u64::from(self.first), u64::from(self.first) + u64::from(self.count));
        first < end && start < first.saturating_add(count)
    }

    /// A line of `/etc/subuid` that gives ids of the range to somebody.
    fn taken_in(self, subuid: &str) -> Option<&str> {
        subuid.lines().find(|line| {
            let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u64>());
            match (fields.next(), fields.next()) {
                (Some(Ok(first)), Some(Ok(count))) => self.overlaps(first, count),
                _ => false,
            }
        })
    }

    /// True if the ids exist where this process is. LINUX: user_namespaces(7): they do not in most containers.
    fn exists_in(self, uid_map: &str) -> bool {
        uid_map.lines().any(|line| {
            let mut fields = line.split_whitespace().map(str::parse::<u64>);
            match (fields.next(), fields.nth(1)) {
                (Some(Ok(first)), Some(Ok(count))) => {
                    first <= u64::from(self.first)
                        && u64::from(self.first) + u64::from(self.count) <= first.saturating_add(count)
                }
                _ => false,
            }
        })
    }
}

/// Why there is no id: one line.
#[derive(Debug, thiserror::Error)]
pub enum IdError {
    /// Every one is somebody's.
    #[error("all {} user ids of the range {range} belong to sandboxes that run: widen sandbox_ids", range.count)]
    Exhausted {
        /// Which.
        range: Range,
    },
    /// Ids that a user may give to containers of their own.
    #[error("sandbox_ids {range} overlaps /etc/subuid: {line}")]
    Overlap {
        /// Which.
        range: Range,
        /// With what.
        line: String,
    },
    /// The files cannot be used.
    #[error("cannot choose a user id for the sandbox: {path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

fn at<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> IdError {
    move |cause| IdError::File { path: path.to_owned(), cause: cause.into() }
}

/// A sandbox's id. Dropped without [`Id::release`] it is free again when no process has it any more.
#[derive(Debug)]
pub struct Id {
    uid: u32,
    path: PathBuf,
    directory: PathBuf,
    /// Held for the lock.
    file: File,
}

impl Id {
    /// The number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Gives it back: all processes of the sandbox have ended.
    pub fn release(self) {
        // Without the guard the file stays, and is looked at when its turn comes.
        if let Ok(guard) = lock(&self.directory) {
            let _ = fs::remove_file(&self.path);
            drop((self.file, guard));
        }
    }
}

/// An id of the range; `None` where these ids do not exist (in a container of somebody's), or where this process may not take them.
///
/// # Errors
/// See [`IdError`].
pub fn take(range: Range) -> Result<Option<Id>, IdError> {
    let map = Path::new("/proc/self/uid_map");
    if !rustix::process::geteuid().is_root() || !range.exists_in(&fs::read_to_string(map).map_err(at(map))?) {
        return Ok(None);
    }
    if let Some(line) = range.taken_in(&read_subuid()) {
        return Err(IdError::Overlap { range, line: line.to_owned() });
    }
    take_in(range, Path::new(DIRECTORY), Path::new("/proc")).map(Some)
}

fn read_subuid() -> String {
    use std::io::Read;
    let mut text = Vec::new();
    // A host without the file gives nothing away.
    let _ = File::open("/etc/subuid").and_then(|file| file.take(SUBUID_MAX).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

fn take_in(range: Range, directory: &Path, proc: &Path) -> Result<Id, IdError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
    let _guard = lock(directory)?;
    let next = directory.join("next");
    // Absent, cut short by a full disk, or of another range: any place to begin is right.
    let start = fs::read_to_string(&next).ok().and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0);
    let mut living = None;
    for step in 0..range.count {
        let offset = (start % range.count + step) % range.count;
        let uid = range.first + offset;
        let path = directory.join(uid.to_string());
        let (file, is_new) = open(&path).map_err(at(&path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => continue,
            Err(errno) => return Err(at(&path)(errno)),
        }
        if !is_new {
            let living = match &living {
                Some(living) => living,
                None => living.insert(users(proc).map_err(at(proc))?),
            };
            if living.contains(&uid) {
                continue;
            }
        }
        fs::write(&next, (offset + 1).to_string()).map_err(at(&next))?;
        return Ok(Id { uid, path, directory: directory.to_owned(), file });
    }
    Err(IdError::Exhausted { range })
}

/// The file, and whether it was made just now.
fn open(path: &Path) -> io::Result<(File, bool)> {
    match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((OpenOptions::new().read(true).write(true).open(path)?, false))
        }
        Err(error) => Err(error),
    }
}

fn lock(directory: &Path) -> Result<File, IdError> {
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(at(&path))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(at(&path))?;
    Ok(file)
}

/// Every user id that a process of the host has. LINUX: proc(5), status: real, effective, saved and file system id.
fn users(proc: &Path) -> io::Result<HashSet<u32>> {
    let mut users = HashSet::new();
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // One that has just ended has none.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        users.extend(line.split_whitespace().filter_map(|uid| uid.parse::<u32>().ok()));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range { first: 500, count: 3 };

    /// A directory for ids and a `/proc` in which these users run something.
    fn host(users: &[u32]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (pid, uid) in users.iter().enumerate() {
            let process = dir.path().join("proc").join((pid + 1).to_string());
            fs::create_dir_all(&process).expect("mkdir");
            fs::write(process.join("status"), format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"))
                .expect("write");
        }
        fs::create_dir_all(dir.path().join("proc/sys")).expect("mkdir");
        dir
    }

    fn get(host: &tempfile::TempDir) -> Result<Id, IdError> {
        take_in(RANGE, &host.path().join("ids"), &host.path().join("proc"))
    }

    #[test]
    fn every_sandbox_has_its_own_and_the_end_is_told() {
        let host = host(&[]);
        let held: Vec<_> = (0..3).map(|_| get(&host).expect("one is free")).collect();
        assert_eq!(held.iter().map(Id::uid).collect::<Vec<_>>(), [500, 501, 502]);
        let refused = get(&host).expect_err("none is free").to_string();
        assert_eq!(
            refused,
            "all 3 user ids of the range 500:3 belong to sandboxes that run: widen sandbox_ids"
        );
    }

    #[test]
    fn one_that_was_given_back_comes_last_again() {
        let host = host(&[]);
        let first = get(&host).expect("free");
        first.release();
        assert_eq!(
            [(); 3].map(|()| get(&host)
                .map(|id| {
                    let uid = id.uid();
                    id.release();
                    uid
                })
                .expect("free")),
            [501, 502, 500]
        );
        let left: Vec<_> = fs::read_dir(host.path().join("ids")).expect("a directory").collect();
        assert_eq!(left.len(), 2, "the lock and the turn: {left:?}");
    }

    #[test]
    fn one_of_a_killed_shim_is_free_when_its_processes_have_ended() {
        let host = host(&[0, 501, 1000]);
        let ids: Vec<_> = (0..3).map(|_| get(&host).expect("free")).collect();
        // As if their shims had been killed: the locks end, the files stay.
        drop(ids);
        assert_eq!(get(&host).expect("free").uid(), 500);
        assert_eq!(get(&host).expect("501 lives").uid(), 502);
        fs::remove_dir_all(host.path().join("proc/2")).expect("it has ended");
        let held = [get(&host).expect("free"), get(&host).expect("free")];
        assert_eq!(held.each_ref().map(Id::uid), [500, 501]);
    }

    #[test]
    fn damaged_files_do_no_harm() {
        let host = host(&[]);
        fs::create_dir_all(host.path().join("ids")).expect("mkdir");
        fs::write(host.path().join("ids/next"), b"4294967295").expect("write");
        let id = get(&host).expect("free");
        assert!((500..503).contains(&id.uid()));
        fs::write(host.path().join("ids/next"), b"\xff\0").expect("write");
        assert_ne!(get(&host).expect("free").uid(), id.uid());
    }

    #[test]
    fn many_at_once_get_different_ones() {
        let host = host(&[]);
        let range = Range { first: 9000, count: 40 };
        let (ids, proc) = (host.path().join("ids"), host.path().join("proc"));
        let held: Vec<Id> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..5).map(|_| take_in(range, &ids, &proc).expect("free")).collect::<Vec<_>>()
                    })
                })
                .collect();
            takers.into_iter().flat_map(|taker| taker.join().expect("it ends")).collect()
        });
        assert_eq!(held.iter().map(Id::uid).collect::<HashSet<_>>().len(), 40);
    }

    #[test]
    fn ranges_are_read_and_checked() {
        assert_eq!("500:3".parse(), Ok(RANGE));
        assert_eq!(Range::default().to_string(), "1879048192:16384");
        for text in ["", "500", "0:5", "500:0", "4294967295:1", "4294967000:400", "-1:5", "a:b"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn subordinate_ids_are_left_alone() {
        assert_eq!(RANGE.taken_in("a:100:400\nb:502:1\n"), Some("b:502:1"));
        assert_eq!(RANGE.taken_in("a:100:400\nb:503:1\nnonsense\nc:x:y\n"), None);
        assert_eq!(Range::default().taken_in("user:100000:65536\nlast:600034464:65536\n"), None);
    }

    #[test]
    fn ids_that_are_not_mapped_here_are_not_used() {
        assert!(RANGE.exists_in("         0          0 4294967295\n"));
        assert!(!RANGE.exists_in("         0     100000        502\n"));
        assert!(!Range::default().exists_in("0 1000 1\n1 100000 65536\n"));
    }
}
