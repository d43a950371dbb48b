//! A file system in memory: `tmpfs(5)`, and the memory files of `memfd_create(2)`.
//!
//! Key types: [`TmpFs`], [`TmpFsType`] (what `mount(2)` calls), [`Options`], [`TmpInode`].
//! All is lost with the last mount.

mod content;
mod directory;
mod file;
mod inode;
#[cfg(test)]
mod tests;

pub use content::seal;
pub use file::TmpFile;
pub use inode::TmpInode;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use content::Charged;

use crate::Errno;
use crate::descriptors::Share;
use crate::task::Task;
use crate::vfs::{
    DentryCache, FileSystem, FileSystemType, Inode, Location, MountRequest, NewKind, NewNode, StatFs, System,
};

const MAGIC: u64 = 0x0102_1994;
const PAGE: u64 = 4096;
/// Nodes of one file system, unless the options say otherwise.
const NODES_DEFAULT: u64 = 1 << 20;

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
    /// Half of `memory` bytes, a root that everybody may write to.
    #[must_use]
    pub fn new(memory: u64) -> Self {
        Self { size: memory / 2 / PAGE * PAGE, nodes: NODES_DEFAULT, mode: 0o1777, uid: 0, gid: 0 }
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
                "nr_inodes" => self.nodes = limit(parse_size(value, memory)?),
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
    used_nodes: AtomicU64,
    next_ino: AtomicU64,
    /// Whose descriptors its memory files are.
    descriptors: Arc<Share>,
}

impl Shared {
    fn new(device: u64, limits: Options, descriptors: Arc<Share>) -> Arc<Self> {
        Arc::new(Self {
            descriptors,
            device,
            limits,
            used_bytes: AtomicU64::new(0),
            mapped: Mutex::default(),
            used_nodes: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
        })
    }

    fn free_bytes(&self) -> u64 {
        let mapped = std::mem::take(&mut *self.mapped.lock().unwrap_or_else(PoisonError::into_inner));
        let there: Vec<_> = mapped.into_iter().filter(|file| file.strong_count() > 0).collect();
        for file in there.iter().filter_map(Weak::upgrade) {
            file.refresh(self);
        }
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner).extend(there);
        self.limits.size.saturating_sub(self.used_bytes.load(Ordering::Relaxed))
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
    }

    /// Counts one node more.
    fn take_node(&self) -> Result<u64, Errno> {
        let limit = self.limits.nodes;
        let count = |used| (used < limit).then_some(used + 1);
        match self.used_nodes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            Ok(_) => Ok(self.next_ino.fetch_add(1, Ordering::Relaxed)),
            Err(_) => Err(Errno::ENOSPC),
        }
    }

    fn give_node(&self) {
        self.used_nodes.fetch_sub(1, Ordering::Relaxed);
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
        let Shared { limits, used_nodes, .. } = &*self.shared;
        let free = self.shared.free_bytes() / PAGE;
        Ok(StatFs {
            magic: MAGIC,
            block_size: PAGE,
            blocks: limits.size / PAGE,
            blocks_free: free,
            blocks_available: free,
            files: limits.nodes,
            files_free: limits.nodes.saturating_sub(used_nodes.load(Ordering::Relaxed)),
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
        let memory = request.kernel.machine.memory(|| 0).total;
        let mut options = Options::new(memory);
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
    let mut options = Options::new(0);
    (options.size, options.mode) = (u64::MAX / 2, mode);
    let shared = Shared::new(kernel.vfs.new_device(), options, descriptors);
    let inode = TmpInode::new_sealable(&shared, mode, seals)?;
    let label = [b"/memfd:", name, b" (deleted)"].concat();
    Ok(kernel.vfs.labelled(&label, inode))
}
