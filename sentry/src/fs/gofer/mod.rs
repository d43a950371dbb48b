//! The container's own files: its root file system and its volumes, brokered by the gofer.
//!
//! Key types: [`Connection`] (one gofer), [`GoferFs`] (one of its mounts), [`GoferInode`], [`GoferFile`].
//! The gofer is asked for names and attributes, and once per file for the host's descriptor; bytes then move between
//! the descriptor and the guest without it. Of the root file system all is remembered ([`Trust::Exclusive`]): nobody else
//! changes it. A volume may be changed by others, so each lookup asks ([`Trust::Revalidate`]).

mod attributes;
mod failures;
mod file;
mod inode;
mod listing;
mod memory;

pub use file::GoferFile;
pub use inode::GoferInode;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gofer_protocol::{Client, Node, storage};
use platform::MapSource;

use attributes::Asked;
use failures::Failures;
use memory::HostMemory;

use crate::Errno;
use crate::descriptors::{Charge, Share, Use};
use crate::vfs::{DentryCache, FileSystem, Inode, Stat, StatFs, System, makedev};

/// Files whose host descriptors are kept after the last close. PERF: opening such a file again asks nobody.
const KEPT_FILES_MAX: usize = 2048;

/// How long what is known of a file stays true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Until we change it ourselves.
    Exclusive,
    /// Until the next lookup.
    Revalidate,
}

/// A host's file that the gofer has donated.
pub(super) struct Donated {
    pub(super) source: MapSource,
    /// What the host has told of writing back.
    failures: Failures,
    /// It serves one open file of the guest's: its file system does something at each open and close.
    is_one_files_own: bool,
    _charge: Charge,
}

impl Donated {
    fn new(fd: OwnedFd, charge: Charge, stat: &gofer_protocol::Stat) -> Arc<Self> {
        let is_one_files_own = stat.storage & storage::AT_CLOSE != 0;
        Arc::new(Self {
            source: Arc::new(fd),
            failures: Failures::default(),
            is_one_files_own,
            _charge: charge,
        })
    }
}

impl AsFd for Donated {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// One gofer: the files of one container.
pub struct Connection {
    client: Client,
    system: Arc<System>,
    /// Guest's device numbers by the gofer's. LOCK: leaf.
    devices: Mutex<HashMap<u32, u64>>,
    /// The container's part of the sentry's descriptors.
    descriptors: Arc<Share>,
    /// Directory entries, within what the gofer can hold.
    dentries: Arc<DentryCache>,
    /// Files whose descriptors are kept. LOCK: leaf; nothing is dropped under it.
    kept: Mutex<KeptFiles>,
}

/// Files by when they got their descriptors.
#[derive(Default)]
struct KeptFiles {
    files: BTreeMap<u64, Weak<GoferInode>>,
    last: u64,
}

impl Connection {
    /// Talks to the gofer behind `socket`.
    #[must_use]
    pub fn new(socket: OwnedFd, system: &Arc<System>, descriptors: Arc<Share>) -> Arc<Self> {
        let client = Client::new(socket);
        // A gofer that does not even answer this fails the mount that comes next.
        let nodes =
            client.limits().map_or(0, |limits| usize::try_from(limits.nodes_max).unwrap_or(usize::MAX));
        Arc::new(Self {
            client,
            system: Arc::clone(system),
            devices: Mutex::default(),
            descriptors,
            // What is open must find room beside what is only kept.
            dentries: DentryCache::new(nodes / 4 * 3),
            kept: Mutex::default(),
        })
    }

    fn kept(&self) -> MutexGuard<'_, KeptFiles> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the gofer for something that takes a descriptor. Where there is none left, what is only kept makes room.
    fn with_room<T>(&self, mut ask: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        loop {
            match ask() {
                Err(Errno::ENFILE | Errno::EMFILE) if self.dentries.shrink() => self.client.flush_closes(),
                answer => return answer,
            }
        }
    }

    fn device(&self, gofers: u32) -> u64 {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        *devices.entry(gofers).or_insert_with(|| self.system.new_device())
    }

    /// The file got a host descriptor: it may keep it until too many others have come. Answers its place among them.
    fn keep(&self, inode: Weak<GoferInode>, place: u64) -> u64 {
        let mut kept = self.kept();
        let replaced = kept.files.remove(&place);
        kept.last += 1;
        let place = kept.last;
        kept.files.insert(place, inode);
        let oldest = if kept.files.len() > KEPT_FILES_MAX { kept.files.pop_first() } else { None };
        drop(kept);
        drop(replaced);
        if let Some(oldest) = oldest.and_then(|(_, oldest)| oldest.upgrade()) {
            oldest.forget_files();
        }
        place
    }

    /// The file at that place goes.
    fn leave(&self, place: u64) {
        let left = self.kept().files.remove(&place);
        drop(left);
    }

    /// Room for one more descriptor; files that nobody has open give theirs back for it.
    fn charge(&self) -> Result<Charge, Errno> {
        loop {
            let errno = match self.descriptors.take(Use::File) {
                Ok(charge) => return Ok(charge),
                Err(errno) => errno,
            };
            let Some((_, oldest)) = self.kept().files.pop_first() else { return Err(errno) };
            if let Some(oldest) = oldest.upgrade() {
                oldest.forget_files();
            }
        }
    }

    /// The guest's view of the gofer's attributes.
    fn stat(&self, from: &gofer_protocol::Stat) -> Stat {
        Stat {
            dev: self.device(from.dev),
            ino: from.ino,
            mode: from.mode,
            nlink: from.nlink,
            uid: from.uid,
            gid: from.gid,
            rdev: makedev(from.rdev_major, from.rdev_minor),
            size: from.size,
            blocks: from.blocks,
            blksize: from.blksize,
            atime_ns: nanoseconds(from.atime),
            mtime_ns: nanoseconds(from.mtime),
            ctime_ns: nanoseconds(from.ctime),
            btime_ns: nanoseconds(from.btime),
        }
    }
}

fn nanoseconds(time: gofer_protocol::Time) -> i64 {
    time.sec.saturating_mul(1_000_000_000).saturating_add(time.nsec)
}

/// The gofer's error as the guest sees it.
fn errno(error: gofer_protocol::Errno) -> Errno {
    Errno::new(error.raw())
}

/// What the nodes of one mount share.
struct Shared {
    connection: Arc<Connection>,
    trust: Trust,
    /// Live nodes by the gofer's device and inode number. LOCK: leaf.
    inodes: Mutex<HashMap<(u32, u64), Weak<GoferInode>>>,
    /// Directories whose listings are kept, oldest first. LOCK: leaf; nothing is dropped under it.
    listed: Mutex<VecDeque<Weak<GoferInode>>>,
    /// What the container has written to it, if it is in memory.
    memory: Option<HostMemory>,
}

impl Shared {
    fn client(&self) -> &Client {
        &self.connection.client
    }

    fn inodes(&self) -> MutexGuard<'_, HashMap<(u32, u64), Weak<GoferInode>>> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A directory got a listing: it may keep it until too many others have come.
    fn keep_listing(&self, inode: Weak<GoferInode>) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.iter().any(|there| there.ptr_eq(&inode)) {
            return;
        }
        listed.push_back(inode);
        let oldest = if listed.len() > listing::KEPT_MAX { listed.pop_front() } else { None };
        drop(listed);
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            oldest.listing.forget();
        }
    }

    /// The node that a handle is for: one that is known already, or a new one that owns the handle.
    ///
    /// A file's number is not used again as long as the gofer holds the file for us, so equal numbers are equal files.
    fn inode(self: &Arc<Self>, node: Node, stat: &gofer_protocol::Stat, asked: Asked) -> Arc<GoferInode> {
        let key = (stat.dev, stat.ino);
        let known = {
            let mut inodes = self.inodes();
            match inodes.get(&key).and_then(Weak::upgrade) {
                Some(known) => known,
                None => {
                    let made = GoferInode::new(self, node, stat, asked);
                    inodes.insert(key, Arc::downgrade(&made));
                    return made;
                }
            }
        };
        self.client().close(node);
        known.learn(stat, asked);
        known
    }
}

/// One mount of a gofer.
pub struct GoferFs {
    shared: Arc<Shared>,
    root: Arc<GoferInode>,
}

impl GoferFs {
    /// Attaches to a mount: 0 is the root file system.
    ///
    /// # Errors
    /// ENOENT if there is no such mount; EIO if the gofer has gone.
    pub fn attach(connection: &Arc<Connection>, mount: u32, trust: Trust) -> Result<Arc<Self>, Errno> {
        let asked = Asked::for_any();
        let (node, stat) = connection.with_room(|| connection.client.attach(mount).map_err(errno))?;
        let shared = Arc::new(Shared {
            connection: Arc::clone(connection),
            trust,
            inodes: Mutex::default(),
            listed: Mutex::default(),
            memory: HostMemory::of(&connection.client, node),
        });
        let root = shared.inode(node, &stat, asked);
        Ok(Arc::new(Self { shared, root }))
    }
}

impl FileSystem for GoferFs {
    fn name(&self) -> &'static str {
        // LINUX: what `df` and start scripts expect of a container's files.
        match self.shared.trust {
            Trust::Exclusive => "overlay",
            Trust::Revalidate => "ext4",
        }
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::clone(&self.root) as Arc<dyn Inode>
    }

    fn dentry_cache(&self) -> Option<Arc<DentryCache>> {
        Some(Arc::clone(&self.shared.connection.dentries))
    }

    fn stat_fs(&self) -> Result<StatFs, Errno> {
        let from = self.shared.client().stat_fs(self.root.node()).map_err(errno)?;
        Ok(StatFs {
            magic: from.kind,
            block_size: from.bsize,
            blocks: from.blocks,
            blocks_free: from.bfree,
            blocks_available: from.bavail,
            files: from.files,
            files_free: from.ffree,
            name_max: from.namelen,
        })
    }

    fn sync(&self) -> Result<(), Errno> {
        self.shared.client().sync_fs(self.root.node()).map_err(errno)
    }
}

/// Connects to a host's socket that is bound at `inode`, where the mount allows it: `None` if it is not the gofer's.
#[must_use]
pub fn connect_host_socket(inode: &Arc<dyn Inode>, kind: u32) -> Option<Result<OwnedFd, Errno>> {
    let inode = inode.as_any().downcast_ref::<GoferInode>()?;
    Some(inode.connect(kind))
}
