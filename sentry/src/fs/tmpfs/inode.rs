//! A node of a tmpfs: attributes, extended attributes, and what its kind needs.
//!
//! Key type: [`TmpInode`]. Names are in `directory.rs`, bytes in `content.rs`.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use platform::host::clock::{Clock, now_ns};

use super::content::{Content, seal};
use super::directory::Entries;
use super::file::TmpFile;
use super::{NODE_BYTES, NODE_SPACE, PAGE, SHORT_LINK_MAX, Shared};
use crate::Errno;
use crate::account::Charge;
use crate::task::Task;
use crate::vfs::{
    Caching, DirEntry, FifoSlot, FileOps, Inode, LinkTarget, Linkable, Location, NewKind, NewNode, SetAttr,
    SocketSlot, Stat, WriteCount, mode, now,
};

/// What an extended attribute takes besides its name and value. LINUX: `simple_xattr_space`.
const XATTR_SPACE: usize = 40;
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

/// A node.
pub struct TmpInode {
    me: Weak<Self>,
    pub(super) shared: Arc<Shared>,
    pub(super) kind: Kind,
    /// All but size and blocks of a regular file. LOCK: leaf.
    stat: Mutex<Stat>,
    /// LOCK: leaf.
    write_count: WriteCount,
    xattrs: Mutex<Xattrs>,
    _charge: Charge,
}

/// Extended attributes; each takes of the space for nodes.
#[derive(Default)]
struct Xattrs {
    by_name: BTreeMap<Vec<u8>, (Vec<u8>, Charge)>,
    /// What all of them take.
    space: u64,
}

/// What the kinds of nodes need.
pub(super) enum Kind {
    Regular(Content),
    /// LOCK: see [`Entries`].
    Directory(Mutex<Entries>),
    Symlink(Vec<u8>),
    Socket(SocketSlot),
    /// Fifos and devices; the slot is for fifos.
    Special(FifoSlot),
}

impl TmpInode {
    pub(super) fn new(shared: &Arc<Shared>, new: &NewNode) -> Result<Arc<Self>, Errno> {
        Self::with_seals(shared, new, seal::SEAL)
    }

    pub(super) fn new_sealable(shared: &Arc<Shared>, mode: u32, seals: u32) -> Result<Arc<Self>, Errno> {
        let new = NewNode { kind: NewKind::Regular, mode, uid: 0, gid: 0 };
        let inode = Self::with_seals(shared, &new, seals)?;
        inode.stat().nlink = 0;
        Ok(inode)
    }

    fn with_seals(shared: &Arc<Shared>, new: &NewNode, seals: u32) -> Result<Arc<Self>, Errno> {
        let short_link = match &new.kind {
            NewKind::Symlink(target) if target.len() <= SHORT_LINK_MAX => target.len(),
            _ => 0,
        };
        let charge = shared.charge_memory(NODE_BYTES + short_link)?;
        shared.take_space(NODE_SPACE)?;
        let mut blocks = 0;
        if let NewKind::Symlink(target) = &new.kind
            && target.len() > SHORT_LINK_MAX
        {
            shared.take_page().inspect_err(|_| shared.give_space(NODE_SPACE))?;
            blocks = PAGE / 512;
        }
        let ino = shared.next_ino.fetch_add(1, Ordering::Relaxed);
        let mut size = 0;
        let mut device = 0;
        let (kind, bits) = match &new.kind {
            NewKind::Regular => (Kind::Regular(Content::new(Arc::clone(shared), seals)), mode::S_IFREG),
            NewKind::Directory => (Kind::Directory(Mutex::default()), mode::S_IFDIR),
            NewKind::Symlink(target) => {
                size = target.len() as u64;
                (Kind::Symlink(target.clone()), mode::S_IFLNK)
            }
            NewKind::Fifo => (Kind::Special(FifoSlot::default()), mode::S_IFIFO),
            NewKind::Socket => (Kind::Socket(SocketSlot::default()), mode::S_IFSOCK),
            NewKind::Device { character, rdev } => {
                device = *rdev;
                let bits = if *character { mode::S_IFCHR } else { mode::S_IFBLK };
                (Kind::Special(FifoSlot::default()), bits)
            }
        };
        let now = now();
        let stat = Stat {
            dev: shared.device,
            ino,
            mode: bits | new.mode & 0o7777,
            nlink: if bits == mode::S_IFDIR { 2 } else { 1 },
            uid: new.uid,
            gid: new.gid,
            rdev: device,
            size,
            blocks,
            blksize: 4096,
            atime_ns: now,
            mtime_ns: now,
            ctime_ns: now,
            btime_ns: now,
        };
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            shared: Arc::clone(shared),
            kind,
            stat: Mutex::new(stat),
            xattrs: Mutex::default(),
            write_count: WriteCount::default(),
            _charge: charge,
        }))
    }

    pub(super) fn stat(&self) -> MutexGuard<'_, Stat> {
        self.stat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's bytes, if it is a regular file.
    #[must_use]
    pub(super) fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::Regular(content) => Some(content),
            _ => None,
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// The content, or a directory's names, have changed.
    pub(super) fn touch(&self) {
        let now = now();
        let mut stat = self.stat();
        (stat.mtime_ns, stat.ctime_ns) = (now, now);
    }

    /// It has been read. LINUX: by the coarse clock, so that the next read of the same tick moves the access time again.
    pub(super) fn touch_access(&self) {
        let mut stat = self.stat();
        let now = i64::try_from(now_ns(Clock::RealtimeCoarse)).unwrap_or(i64::MAX);
        if stat.is_access_due(now) {
            // A change is told by a finer clock.
            stat.atime_ns = now.max(stat.ctime_ns);
        }
    }

    /// A name more or less.
    pub(super) fn add_links(&self, count: i32) {
        let mut stat = self.stat();
        stat.nlink = stat.nlink.saturating_add_signed(count);
        stat.ctime_ns = now();
    }

    fn make(&self, new: &NewNode) -> Result<Arc<Self>, Errno> {
        Self::new(&self.shared, new)
    }

    fn of(inode: &Arc<dyn Inode>) -> Result<Arc<Self>, Errno> {
        let inode = inode.as_any().downcast_ref::<Self>().ok_or(Errno::EXDEV)?;
        inode.me.upgrade().ok_or(Errno::ESTALE)
    }
}

impl Inode for TmpInode {
    fn stat(&self) -> Result<Stat, Errno> {
        let mut stat = *self.stat();
        match &self.kind {
            Kind::Regular(content) => (stat.size, stat.blocks) = content.size_and_blocks(),
            Kind::Directory(entries) => {
                stat.size = entries.lock().unwrap_or_else(PoisonError::into_inner).size();
            }
            _ => {}
        }
        Ok(stat)
    }

    fn sync(&self, _: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        let mut is_nothing = false;
        if let Some(size) = change.size {
            let content = self.content().ok_or(Errno::EINVAL)?;
            is_nothing = content.size_and_blocks() == (size, 0);
            content.truncate(size)?;
        }
        let seals = if change.mode.is_some() { self.content().map_or(0, Content::seals) } else { 0 };
        let mut stat = self.stat();
        if change.mode.is_some_and(|bits| seals & seal::EXEC != 0 && (bits ^ stat.mode) & 0o111 != 0) {
            return Err(Errno::EPERM);
        }
        // LINUX: `shmem_setattr`: a size that was the same moves no times, unless there are pages to be looked at.
        if is_nothing && (SetAttr { size: None, ..*change }) == SetAttr::default() {
            return Ok(());
        }
        change.apply(&mut stat);
        if change.size.is_some() && !is_nothing {
            stat.mtime_ns = stat.ctime_ns;
        }
        Ok(())
    }

    fn write_count(&self) -> Option<&WriteCount> {
        Some(&self.write_count)
    }

    fn drop_capabilities(&self) -> Result<(), Errno> {
        let mut xattrs = self.xattrs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((old, _)) = xattrs.by_name.remove(CAPABILITIES) {
            self.forget_xattr(&mut xattrs, CAPABILITIES, &old);
        }
        Ok(())
    }

    fn lookup(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Ok(self.find_name(name)?)
    }

    fn caching(&self) -> Caching {
        Caching::Exclusive
    }

    fn create(&self, name: &[u8], new: &NewNode) -> Result<Arc<dyn Inode>, Errno> {
        let node = self.make(new)?;
        self.add_name(name, &node)?;
        Ok(node)
    }

    fn create_unnamed(&self, new: &NewNode, _: Linkable) -> Result<Arc<dyn Inode>, Errno> {
        let node = self.make(new)?;
        node.stat().nlink = 0;
        Ok(node)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let node = Self::of(target)?;
        // LINUX: shmem_link: each further name takes as much as a node.
        let is_further = node.stat().nlink > 0;
        if is_further {
            self.shared.take_space(NODE_SPACE)?;
        }
        self.add_name(name, &node).inspect_err(|_| {
            if is_further {
                self.shared.give_space(NODE_SPACE);
            }
        })?;
        node.add_links(1);
        Ok(())
    }

    fn unlink(&self, name: &[u8], directory: bool, _: Option<u32>) -> Result<(), Errno> {
        self.remove_name(name, directory)
    }

    fn rename(
        &self,
        old: &[u8],
        (new_dir, new): (&Arc<dyn Inode>, &[u8]),
        flags: u32,
        _: Option<u32>,
    ) -> Result<(), Errno> {
        self.move_name(old, &*Self::of(new_dir)?, new, flags)
    }

    fn read_link(&self, _: &Arc<Task>) -> Result<LinkTarget, Errno> {
        match &self.kind {
            Kind::Symlink(target) => {
                self.touch_access();
                Ok(LinkTarget::Path(target.clone()))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(&self, task: &Arc<Task>, location: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        match &self.kind {
            Kind::Regular(_) => {
                let inode = self.me.upgrade().ok_or(Errno::ESTALE)?;
                Ok(Arc::new(TmpFile::new(inode, Arc::clone(&location.mount))))
            }
            Kind::Special(slot) => {
                let stat = *self.stat();
                task.kernel.vfs.open_special(task, location, &stat, slot, flags)
            }
            Kind::Symlink(_) => Err(Errno::ELOOP),
            Kind::Socket(_) | Kind::Directory(_) => Err(Errno::ENXIO),
        }
    }

    fn read_dir(
        &self,
        _: &Arc<Task>,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        self.list_names(cookie, emit)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        check_xattr_name(name)?;
        let xattrs = self.xattrs.lock().unwrap_or_else(PoisonError::into_inner);
        xattrs.by_name.get(name).map(|(value, _)| value.clone()).ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        check_xattr_name(name)?;
        let mut xattrs = self.xattrs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = xattrs.by_name.contains_key(name);
        if is_there && flags & XATTR_CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        if !is_there && flags & XATTR_REPLACE != 0 {
            return Err(Errno::ENODATA);
        }
        // LINUX: shmem_xattr_handler_set: the new value is paid for before the old one is given back.
        let space = xattr_space(name, value);
        let charge = self.shared.charge_memory(space + XATTR_SPACE)?;
        self.shared.take_space(space as u64)?;
        xattrs.space += space as u64;
        let old = xattrs.by_name.insert(name.to_vec(), (value.to_vec(), charge));
        if let Some((old, _)) = old {
            self.forget_xattr(&mut xattrs, name, &old);
        }
        self.stat().ctime_ns = now();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let xattrs = self.xattrs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(xattrs.by_name.keys().cloned().collect())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        check_xattr_name(name)?;
        let mut xattrs = self.xattrs.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, _) = xattrs.by_name.remove(name).ok_or(Errno::ENODATA)?;
        self.forget_xattr(&mut xattrs, name, &old);
        self.stat().ctime_ns = now();
        Ok(())
    }

    fn bound_socket(&self) -> Option<&SocketSlot> {
        match &self.kind {
            Kind::Socket(slot) => Some(slot),
            _ => None,
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a change of content takes away. LINUX: `cap_inode_killpriv`.
const CAPABILITIES: &[u8] = b"security.capability";

impl TmpInode {
    fn forget_xattr(&self, xattrs: &mut Xattrs, name: &[u8], value: &[u8]) {
        let space = xattr_space(name, value) as u64;
        xattrs.space -= space;
        self.shared.give_space(space);
    }
}

fn xattr_space(name: &[u8], value: &[u8]) -> usize {
    XATTR_SPACE + name.len() + value.len()
}

fn check_xattr_name(name: &[u8]) -> Result<(), Errno> {
    let known: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if known.iter().any(|prefix| name.starts_with(prefix)) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        let xattrs = self.xattrs.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.give_space(NODE_SPACE + xattrs.space);
        if matches!(&self.kind, Kind::Symlink(target) if target.len() > SHORT_LINK_MAX) {
            self.shared.charge(PAGE, 0);
        }
        if let Kind::Directory(entries) = &mut self.kind {
            super::directory::drop_deep(std::mem::take(
                entries.get_mut().unwrap_or_else(PoisonError::into_inner),
            ));
        }
    }
}
