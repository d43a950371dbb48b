//! A file system in memory: `tmpfs(5)`, and the memory files of `memfd_create(2)`.
//!
//! Key types: [`TmpFs`], [`TmpFsType`] (what `mount(2)` calls), [`Options`], [`TmpInode`].
//! All is lost with the last mount.

mod content;
mod count;
mod directory;
mod file;
mod inode;
#[cfg(test)]
mod tests;

pub use content::seal;
pub use file::TmpFile;
pub use inode::TmpInode;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use count::Charged;

use crate::Errno;
use crate::account::{self, Account, Charge};
use crate::descriptors::Share;
use crate::mm::Room;
use crate::task::Task;
use crate::vfs::{
    DentryCache, FileSystem, FileSystemType, Inode, Location, MountRequest, NewKind, NewNode, StatFs, System,
};

pub(super) const MAGIC: u64 = 0x0102_1994;
const PAGE: u64 = 4096;
/// What a node takes of the space for nodes; each further name of a node takes as much. LINUX: `BOGO_INODE_SIZE`.
const NODE_SPACE: u64 = 1024;
/// What a node really costs in bytes, with what the allocator adds.
const NODE_BYTES: usize = size_of::<TmpInode>() + size_of::<Charged>() + 96;
/// Longest target of a symbolic link that takes no page. LINUX: `SHORT_SYMLINK_LEN`, which counts a zero.
const SHORT_LINK_MAX: usize = 127;

/// Mount options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of content.
    pub size: u64,
    /// Most nodes.
    pub nodes: u64,
    /// Permission bits of the root.
    pub mode: u32,
    /// Owner of the root.
    pub uid: u32,
    /// Group of the root.
    pub gid: u32,
}

impl Options {
    /// Half of `memory` bytes and a node for each of their pages, a root that everybody may write to.
    #[must_use]
    pub fn new(memory: u64) -> Self {
        let pages = memory / 2 / PAGE;
        Self { size: pages * PAGE, nodes: pages, mode: 0o1777, uid: 0, gid: 0 }
    }

    /// No limits but its owner's.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { size: limit(0), nodes: limit(0) / NODE_SPACE, ..Self::new(0) }
    }

    /// Takes over what a data string says: `size=64m,mode=755`.
    ///
    /// # Errors
    /// EINVAL for an unknown or malformed option.
    pub fn parse(mut self, text: &str, memory: u64) -> Result<Self, Errno> {
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "size" => self.size = limit(parse_size(value, memory)?.div_ceil(PAGE).saturating_mul(PAGE)),
                "nr_blocks" => self.size = limit(parse_size(value, memory)?.saturating_mul(PAGE)),
                "nr_inodes" => self.nodes = limit(parse_size(value, memory)?).min(limit(0) / NODE_SPACE),
                "mode" => self.mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)? & 0o7777,
                "uid" => self.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => self.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                "huge" | "mpol" | "inode32" | "inode64" | "noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(self)
    }
}

/// LINUX: 0 is no limit.
fn limit(value: u64) -> u64 {
    if value == 0 { u64::MAX / 2 } else { value }
}

fn parse_size(text: &str, memory: u64) -> Result<u64, Errno> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    match &text[digits.len()..] {
        "" => Ok(number),
        "k" | "K" => Ok(number.saturating_mul(1 << 10)),
        "m" | "M" => Ok(number.saturating_mul(1 << 20)),
        "g" | "G" => Ok(number.saturating_mul(1 << 30)),
        "t" | "T" => Ok(number.saturating_mul(1 << 40)),
        "%" => Ok(memory / 100 * number.min(100)),
        _ => Err(Errno::EINVAL),
    }
}

/// What the nodes of one file system share: numbers and limits.
pub struct Shared {
    device: u64,
    limits: Options,
    used_bytes: AtomicU64,
    /// Files that guests have mapped. LOCK: leaf.
    mapped: Mutex<Vec<Weak<Charged>>>,
    /// LOCK: after a file's content, before a layout: see `mm::Gate`.
    turn: Mutex<()>,
    /// Of the space for nodes, which attributes take from as well. LINUX: `shmem_sb_info.free_ispace`.
    used_space: AtomicU64,
    next_ino: AtomicU64,
    /// Who made it pays for what is in it.
    account: Option<Arc<Account>>,
    /// Whose descriptors its memory files are.
    descriptors: Arc<Share>,
}

impl Shared {
    fn new(device: u64, limits: Options, descriptors: Arc<Share>) -> Arc<Self> {
        Arc::new(Self {
            descriptors,
            device,
            limits,
            account: account::current(),
            used_bytes: AtomicU64::new(0),
            mapped: Mutex::default(),
            turn: Mutex::default(),
            used_space: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
        })
    }

    /// Bytes of content that may be added: what the options leave, and the container's limit.
    fn free_bytes(&self) -> u64 {
        self.refresh();
        self.left().min(self.account.as_ref().map_or(u64::MAX, |account| account.free()))
    }

    /// The same, guests having been kept from filling holes by themselves if that is less than `wanted`.
    fn free_for(&self, wanted: u64) -> u64 {
        let mut spare = self.left().saturating_sub(self.refresh());
        if spare < wanted && self.has_limit() {
            let _turn = self.turn();
            spare = self.make_spare(wanted);
        }
        spare.min(self.account.as_ref().map_or(u64::MAX, |account| account.free()))
    }

    /// Bytes that the options leave, as counted.
    fn left(&self) -> u64 {
        self.limits.size.saturating_sub(self.used_bytes.load(Ordering::Relaxed))
    }

    /// It has a size that mappings could pass.
    fn has_limit(&self) -> bool {
        self.limits.size < limit(0)
    }

    fn mapped(&self) -> Vec<Arc<Charged>> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.retain(|file| file.strong_count() > 0);
        mapped.iter().filter_map(Weak::upgrade).collect()
    }

    /// Counts what guests have filled. Answers the bytes of holes that they may fill by themselves.
    fn refresh(&self) -> u64 {
        self.mapped().iter().map(|file| file.refresh(self)).sum()
    }

    /// Guests have mapped a file: what it takes has to be asked from now on.
    fn has_been_mapped(&self, file: &Arc<Charged>) {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(file));
    }

    /// A file's share goes from `old` to `new` bytes.
    fn charge(&self, old: u64, new: u64) {
        if new >= old {
            self.used_bytes.fetch_add(new - old, Ordering::Relaxed);
        } else {
            self.used_bytes.fetch_sub(old - new, Ordering::Relaxed);
        }
        if let Some(account) = &self.account {
            account.add(new);
            account.give(old);
        }
    }

    /// Takes of the space for nodes.
    ///
    /// # Errors
    /// ENOSPC.
    fn take_space(&self, bytes: u64) -> Result<(), Errno> {
        let limit = self.limits.nodes.saturating_mul(NODE_SPACE);
        let count = |used: u64| used.checked_add(bytes).filter(|&used| used <= limit);
        let taken = self.used_space.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        taken.map(drop).map_err(|_| Errno::ENOSPC)
    }

    fn give_space(&self, bytes: u64) {
        self.used_space.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Charges whoever made the file system for what is not content.
    ///
    /// # Errors
    /// ENOSPC at the container's limit.
    fn charge_memory(&self, bytes: usize) -> Result<Charge, Errno> {
        match &self.account {
            Some(account) => account.charge(bytes).map_err(|_| Errno::ENOSPC),
            None => Ok(Charge::default()),
        }
    }

    /// Takes a page for a long target of a symbolic link.
    ///
    /// # Errors
    /// ENOSPC.
    fn take_page(&self) -> Result<(), Errno> {
        if self.free_for(PAGE) < PAGE {
            return Err(Errno::ENOSPC);
        }
        self.charge(0, PAGE);
        Ok(())
    }
}

impl Room for Shared {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spare(&self) -> u64 {
        let holes = self.refresh();
        self.left().saturating_sub(holes)
    }

    fn make_spare(&self, bytes: u64) -> u64 {
        let spare = self.spare();
        if spare >= bytes {
            return spare;
        }
        for gate in self.mapped().iter().filter_map(|file| file.gate()) {
            gate.close();
        }
        self.spare()
    }

    fn excess(&self) -> u64 {
        self.refresh();
        self.used_bytes.load(Ordering::Relaxed).saturating_sub(self.limits.size)
    }
}

/// A mounted tmpfs.
pub struct TmpFs {
    shared: Arc<Shared>,
    root: Arc<TmpInode>,
    dentries: Arc<DentryCache>,
}

impl TmpFs {
    /// An empty one.
    ///
    /// # Errors
    /// ENOSPC if the options do not even leave room for the root.
    pub fn new(system: &System, options: Options, descriptors: Arc<Share>) -> Result<Arc<Self>, Errno> {
        let shared = Shared::new(system.new_device(), options, descriptors);
        let new =
            NewNode { kind: NewKind::Directory, mode: options.mode, uid: options.uid, gid: options.gid };
        let root = TmpInode::new(&shared, &new)?;
        Ok(Arc::new(Self { shared, root, dentries: Arc::clone(&system.dentries) }))
    }
}

impl FileSystem for TmpFs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::clone(&self.root) as Arc<dyn Inode>
    }

    fn dentry_cache(&self) -> Option<Arc<DentryCache>> {
        Some(Arc::clone(&self.dentries))
    }

    fn stat_fs(&self) -> Result<StatFs, Errno> {
        let Shared { limits, used_space, .. } = &*self.shared;
        let nodes = used_space.load(Ordering::Relaxed).div_ceil(NODE_SPACE);
        let free = self.shared.free_bytes() / PAGE;
        Ok(StatFs {
            magic: MAGIC,
            block_size: PAGE,
            blocks: limits.size / PAGE,
            blocks_free: free,
            blocks_available: free,
            files: limits.nodes,
            files_free: limits.nodes.saturating_sub(nodes),
            name_max: 255,
        })
    }

    fn options(&self) -> String {
        let Options { size, mode, uid, gid, .. } = self.shared.limits;
        let mut text = format!("size={}k", size / 1024);
        if mode != 0o1777 {
            text.push_str(&format!(",mode={mode:o}"));
        }
        for (key, id) in [("uid", uid), ("gid", gid)] {
            if id != 0 {
                text.push_str(&format!(",{key}={id}"));
            }
        }
        text
    }
}

/// `tmpfs` for `mount(2)`.
pub struct TmpFsType;

impl FileSystemType for TmpFsType {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>, Errno> {
        let mut options = Options::new(request.kernel.machine.memory(|| 0).total);
        // Half of the container's memory, if it has less; nodes are paid for one by one.
        let limit = account::current().map_or(u64::MAX, |account| account.limit());
        let memory = request.kernel.machine.memory(|| 0).total.min(limit);
        options.size = Options::new(memory).size;
        (options.uid, options.gid) = (request.uid, request.gid);
        let options = options.parse(request.options, memory)?;
        Ok(TmpFs::new(&request.kernel.vfs, options, Arc::clone(request.descriptors))?)
    }
}

/// `memfd_create(2)`: a nameless file in memory; `seals` are those it is born with.
///
/// # Errors
/// ENOSPC; ENFILE.
pub fn new_memory_file(task: &Task, name: &[u8], mode: u32, seals: u32) -> Result<Location, Errno> {
    let kernel = &task.kernel;
    let descriptors = kernel.descriptors.share(&task.process.container);
    let options = Options { mode, ..Options::unlimited() };
    let shared = Shared::new(kernel.vfs.new_device(), options, descriptors);
    let inode = TmpInode::new_sealable(&shared, mode, seals)?;
    let label = [b"/memfd:", name, b" (deleted)"].concat();
    Ok(kernel.vfs.labelled(&label, inode))
}
