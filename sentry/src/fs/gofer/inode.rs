//! A node of the container's files.
//!
//! Key type: [`GoferInode`]: the gofer's handle, the attributes as last told, the host's descriptors once donated.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use gofer_protocol::{Client, Node, Ownership, SetTime, Time, mark};
use platform::host::file;

use super::attributes::{Asked, Attributes, Change, Changes, Freshness};
use super::listing::{self, Extent, Kept};
use super::memory::HostMemory;
use super::{Donated, GoferFile, Shared, Trust, errno};
use crate::Errno;
use crate::descriptors::Charge;
use crate::task::{Credentials, Task};
use crate::vfs::acl::{self, Acl};
use crate::vfs::open_flags::{O_ACCMODE, O_APPEND, O_EXCL, O_NOATIME, O_RDONLY, O_RDWR};
use crate::vfs::permission::{self, Want};
use crate::vfs::{
    Access, Caching, DirEntry, FifoSlot, FileOps, Inode, LinkTarget, Linkable, Location, Moment, NewKind,
    NewNode, SetAttr, SocketSlot, Stat, WriteCount, mode,
};

/// A node.
pub struct GoferInode {
    me: Weak<Self>,
    shared: Arc<Shared>,
    node: Node,
    key: (u32, u64),
    /// LOCK: leaf.
    attributes: Mutex<Attributes>,
    changes: Changes,
    /// The next read moves the access time.
    is_access_due: AtomicBool,
    /// LOCK: held while the gofer opens the file, so that it is asked once; no other file's is taken under it.
    files: Mutex<Files>,
    write_count: WriteCount,
    /// LOCK: held across a write at the end and the question where it ended.
    appends: Mutex<()>,
    /// LOCK: held while permission bits change, so that none are put back that have just been taken away.
    bits: Mutex<()>,
    /// A directory's names, as last listed.
    pub(super) listing: Kept,
    /// A name has been made or removed: if it was the last, the gofer's descriptor holds blocks that nobody wants.
    have_links_changed: AtomicBool,
    /// Its place among the files that keep their descriptors; 0: none.
    kept_at: AtomicU64,
    /// A guest has it mapped and may write to it at any time.
    is_mapped_writable: AtomicBool,
    /// A symbolic link's target, which never changes.
    target: OnceLock<Vec<u8>>,
    fifo: FifoSlot,
    socket: SocketSlot,
}

/// What exec looks at.
const CAPABILITIES: &[u8] = b"security.capability";

#[derive(Default)]
struct Files {
    readable: Option<Arc<Donated>>,
    writable: Option<Arc<Donated>>,
    /// For reading, and that is no access (`O_NOATIME`).
    quiet: Option<Arc<Donated>>,
    /// Opened with `O_APPEND`. LINUX: `pwrite(2)` then writes at the end, whatever offset it is given.
    appending: Option<Arc<Donated>>,
}

impl Files {
    /// The descriptor for these `O_*` flags, if there is one that the caller may have.
    fn at_hand(&mut self, flags: u32) -> Option<Arc<Donated>> {
        let (place, _) = self.place(flags);
        if place.as_ref().is_some_and(|file| file.is_one_files_own) { place.take() } else { place.clone() }
    }

    /// Where the descriptor for these `O_*` flags is kept, and how it is opened.
    fn place(&mut self, flags: u32) -> (&mut Option<Arc<Donated>>, u32) {
        match flags & O_ACCMODE != O_RDONLY {
            false if flags & O_NOATIME != 0 => (&mut self.quiet, O_RDONLY | O_NOATIME),
            false => (&mut self.readable, O_RDONLY),
            true if flags & O_APPEND != 0 => (&mut self.appending, O_RDWR | O_APPEND),
            true => (&mut self.writable, O_RDWR),
        }
    }
}

impl GoferInode {
    pub(super) fn new(
        shared: &Arc<Shared>,
        node: Node,
        from: &gofer_protocol::Stat,
        asked: Asked,
    ) -> Arc<Self> {
        let attributes = Attributes::new(shared.connection.stat(from), from.marks, asked);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            shared: Arc::clone(shared),
            node,
            key: (from.dev, from.ino),
            changes: Changes::default(),
            is_access_due: AtomicBool::new(attributes.is_access_due()),
            attributes: Mutex::new(attributes),
            files: Mutex::default(),
            write_count: WriteCount::default(),
            appends: Mutex::default(),
            bits: Mutex::default(),
            listing: Kept::default(),
            have_links_changed: AtomicBool::new(false),
            kept_at: AtomicU64::new(0),
            is_mapped_writable: AtomicBool::new(false),
            target: OnceLock::new(),
            fifo: FifoSlot::default(),
            socket: SocketSlot::default(),
        })
    }

    pub(super) fn node(&self) -> Node {
        self.node
    }

    fn attributes(&self) -> MutexGuard<'_, Attributes> {
        self.attributes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gofer has told the attributes anew.
    pub(super) fn learn(&self, from: &gofer_protocol::Stat, asked: Asked) -> Stat {
        let stat = self.shared.connection.stat(from);
        let mut attributes = self.attributes();
        attributes.learn(stat, from.marks, asked, self.shared.trust);
        self.is_access_due.store(attributes.is_access_due(), Ordering::Relaxed);
        stat
    }

    /// To be held while bytes or size change through the host's descriptor.
    pub(super) fn changing(&self) -> Change<'_> {
        self.changes.begin()
    }

    pub(super) fn memory(&self) -> Option<&HostMemory> {
        self.shared.memory.as_ref()
    }

    pub(super) fn client(&self) -> &Client {
        self.shared.client()
    }

    fn name_gone(&self) {
        if let Some(memory) = self.memory() {
            memory.name_gone();
        }
    }

    pub(super) fn lock_appends(&self) -> MutexGuard<'_, ()> {
        self.appends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have been read through the host's descriptor.
    pub(super) fn has_been_read(&self) {
        // PERF: one load, unless the access time moves by it.
        if self.is_access_due.load(Ordering::Relaxed) && self.is_access_due.swap(false, Ordering::Relaxed) {
            self.changes.add();
        }
    }

    /// Names in this directory have changed.
    fn names_changed(&self) {
        self.changes.add();
        self.listing.changed();
    }

    fn asking(&self) -> Asked {
        Asked::after(&self.changes)
    }

    fn ask(&self) -> Result<Stat, Errno> {
        let asked = self.asking();
        let told = self.shared.client().stat(self.node).map_err(errno)?;
        Ok(self.learn(&told, asked))
    }

    fn page(&self, cookie: u64) -> Result<Vec<gofer_protocol::DirEntry>, Errno> {
        self.shared.client().read_dir(self.node, cookie).map_err(errno)
    }

    /// Emits the entries behind `cookie` as the gofer tells them.
    fn read_pages(&self, cookie: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<(), Errno> {
        let mut cookie = cookie;
        loop {
            let page = self.page(cookie)?;
            let Some(last) = page.last() else { return Ok(()) };
            cookie = last.cookie;
            for told in &page {
                let gofer_protocol::DirEntry { ino, cookie: next, kind, ref name, .. } = *told;
                if !emit(DirEntry { name, ino, kind, next }) {
                    return Ok(());
                }
            }
            if last.is_last {
                return Ok(());
            }
        }
    }

    /// Reads the directory from its beginning and keeps its listing, unless it is too long.
    fn list(&self, changes: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<(), Errno> {
        let (listing, extent) = listing::read_all(|cookie| self.page(cookie))?;
        let mut is_full = false;
        listing.emit_from(0, &mut |entry| {
            is_full = !emit(entry);
            !is_full
        });
        match extent {
            Extent::Until(_) if is_full => Ok(()),
            Extent::Until(cookie) => self.read_pages(cookie, emit),
            Extent::Whole => {
                if self.listing.put(&Arc::new(listing), changes) {
                    self.shared.keep_listing(Weak::clone(&self.me));
                }
                Ok(())
            }
        }
    }

    /// Its access control list, if it has one.
    fn acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        if let Some(acl) = self.attributes().acl.clone() {
            return Ok(Some(acl));
        }
        let value = match self.shared.client().get_xattr(self.node, acl::ATTRIBUTE).map_err(errno) {
            Err(Errno::ENODATA) => return Ok(None),
            value => value?,
        };
        let acl = Arc::new(Acl::parse(&value)?);
        self.attributes().acl = Some(Arc::clone(&acl));
        Ok(Some(acl))
    }

    /// Any host descriptor that is at hand.
    fn any_file(&self) -> Option<Arc<Donated>> {
        let files = self.files();
        [&files.writable, &files.readable, &files.appending].into_iter().find_map(Option::as_ref).cloned()
    }

    /// Attributes as the host has them now.
    fn refresh(&self, from: &Donated) -> Result<Stat, Errno> {
        let asked = self.asking();
        let host = file::stat(from)?;
        let time = |seconds: i64, nanoseconds: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add_unsigned(nanoseconds)
        };
        let mut attributes = self.attributes();
        let mut stat = attributes.stat;
        if self.shared.trust == Trust::Revalidate {
            // Of what is ours alone only we change the bits; the host's may lack some for the time of a write.
            stat.mode = stat.kind() | host.st_mode & 0o7777;
        }
        stat.size = u64::try_from(host.st_size).unwrap_or(0);
        stat.blocks = u64::try_from(host.st_blocks).unwrap_or(0);
        stat.atime_ns = time(host.st_atime, host.st_atime_nsec);
        stat.mtime_ns = time(host.st_mtime, host.st_mtime_nsec);
        stat.ctime_ns = time(host.st_ctime, host.st_ctime_nsec);
        stat.nlink = u32::try_from(host.st_nlink).unwrap_or(u32::MAX);
        let is_whole = attributes.learn_from_host(stat, asked, self.shared.trust);
        self.is_access_due.store(attributes.is_access_due(), Ordering::Relaxed);
        drop(attributes);
        if is_whole { Ok(stat) } else { self.ask() }
    }

    /// The host's descriptor, asked for if it is not at hand.
    pub(super) fn file(&self, flags: u32) -> Result<Arc<Donated>, Errno> {
        if let Some(file) = self.files().at_hand(flags) {
            return Ok(file);
        }
        // Before the lock: other files may have to let go of theirs for it.
        let charge = self.shared.connection.charge()?;
        let mut charge = Some(charge);
        self.shared.connection.with_room(|| self.open_file(flags, &mut charge))
    }

    fn open_file(&self, flags: u32, charge: &mut Option<Charge>) -> Result<Arc<Donated>, Errno> {
        let mut files = self.files();
        if let Some(file) = files.at_hand(flags) {
            return Ok(file);
        }
        let (place, mode) = files.place(flags);
        let asked = self.asking();
        let reply = self.shared.client().open(self.node, mode).map_err(errno)?;
        let file = Donated::new(reply.fd, charge.take().ok_or(Errno::ENFILE)?, &reply.stat);
        if !file.is_one_files_own {
            *place = Some(Arc::clone(&file));
        }
        drop(files);
        self.learn(&reply.stat, asked);
        if !file.is_one_files_own {
            self.keep_files();
        }
        Ok(file)
    }

    /// It has a host descriptor, and keeps it for the next to open it.
    fn keep_files(&self) {
        let connection = &self.shared.connection;
        let place = connection.keep(Weak::clone(&self.me), self.kept_at.load(Ordering::Relaxed));
        self.kept_at.store(place, Ordering::Relaxed);
    }

    /// Lets go of the host's descriptors; open files keep theirs.
    pub(super) fn forget_files(&self) {
        let files = std::mem::take(&mut *self.files());
        drop(files);
    }

    /// A guest maps it for writing: from now on size and times are asked of the host each time.
    pub(super) fn mapped_writable(&self) {
        if !self.is_mapped_writable.swap(true, Ordering::Relaxed) {
            self.changes.begin_for_ever();
        }
    }

    pub(super) fn connect(&self, kind: u32) -> Result<OwnedFd, Errno> {
        self.shared.client().connect(self.node, kind).map_err(errno)
    }

    fn make(
        &self,
        name: &[u8],
        new: &NewNode,
        owner: Ownership,
    ) -> Result<(Node, gofer_protocol::Stat, Option<OwnedFd>), Errno> {
        let client = self.shared.client();
        let made = match &new.kind {
            NewKind::Regular => {
                let made = client.create(self.node, name, new.mode, owner, O_RDWR | O_EXCL).map_err(errno)?;
                return Ok((made.node, made.stat, Some(made.fd)));
            }
            NewKind::Directory => client.mkdir(self.node, name, new.mode, owner),
            NewKind::Symlink(target) => client.symlink(self.node, name, target, owner),
            NewKind::Fifo => client.mknod(self.node, name, mode::S_IFIFO | new.mode, owner),
            NewKind::Socket => client.mknod(self.node, name, mode::S_IFSOCK | new.mode, owner),
            NewKind::Device { .. } => return Err(Errno::EPERM),
        };
        made.map(|(node, stat)| (node, stat, None)).map_err(errno)
    }

    fn of(inode: &Arc<dyn Inode>) -> Result<&Self, Errno> {
        inode.as_any().downcast_ref::<Self>().ok_or(Errno::EXDEV)
    }

    fn time(ns: i64) -> SetTime {
        SetTime::At(Time { sec: ns.div_euclid(1_000_000_000), nsec: ns.rem_euclid(1_000_000_000) })
    }
}

impl Inode for GoferInode {
    fn stat(&self) -> Result<Stat, Errno> {
        match self.shared.trust {
            Trust::Exclusive => self.stat_since(Moment::default()),
            Trust::Revalidate => self.stat_since(Moment::last()),
        }
    }

    fn stat_since(&self, since: Moment) -> Result<Stat, Errno> {
        let (stat, freshness) = {
            let attributes = self.attributes();
            (attributes.stat, attributes.freshness(self.shared.trust, &self.changes, since))
        };
        match freshness {
            Freshness::Told => Ok(stat),
            Freshness::Outdated => match self.any_file() {
                Some(file) => self.refresh(&file),
                None => self.ask(),
            },
        }
    }

    fn access(&self) -> Result<Access, Errno> {
        let attributes = self.attributes();
        if attributes.is_owner_fresh(self.shared.trust) {
            return Ok(Access::from(&attributes.stat));
        }
        drop(attributes);
        self.stat().map(|stat| Access::from(&stat))
    }

    fn mode(&self) -> Result<u32, Errno> {
        match (self.shared.trust, self.any_file()) {
            (Trust::Exclusive, _) => Ok(self.attributes().stat.mode),
            // PERF: the host says it at once, and whose it is does not matter.
            (Trust::Revalidate, Some(file)) => Ok(file::stat(&*file)?.st_mode),
            (Trust::Revalidate, None) => self.access().map(|access| access.mode),
        }
    }

    fn write_count(&self) -> Option<&WriteCount> {
        Some(&self.write_count)
    }

    /// LINUX: the host's kernel takes set-ID bits away whenever the sentry writes, which has no `CAP_FSETID`.
    fn keep_set_id(&self, bits: u32) {
        let _bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        let others =
            self.any_file().and_then(|file| file::stat(&*file).ok()).map(|stat| stat.st_mode & 0o1777);
        if others.is_some_and(|others| others != bits & 0o1777) {
            // Somebody has changed them meanwhile, which stands.
            return;
        }
        let asked = self.asking();
        let request = gofer_protocol::SetAttr { mode: Some(bits), ..gofer_protocol::SetAttr::default() };
        // The bytes are written: a set-ID bit that is lost is a right less.
        if let Ok(told) = self.shared.client().set_attr(self.node, request) {
            self.learn(&told, asked);
        }
    }

    fn permission(
        &self,
        _: &Arc<Task>,
        credentials: &Credentials,
        access: &Access,
        want: Want,
    ) -> Result<(), Errno> {
        // PERF: who owns a file is told by its mode, and no lock is taken.
        if permission::is_mode_enough(credentials, access, want) || self.attributes().lacks(mark::ACL) {
            return permission::check(credentials, access, want);
        }
        match self.acl()? {
            Some(acl) => permission::check_with_acl(credentials, access, &acl, want),
            None => permission::check(credentials, access, want),
        }
    }

    fn links_changed(&self) {
        self.have_links_changed.store(true, Ordering::Relaxed);
        self.changes.add();
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        if let SetAttr {
            size: Some(size),
            mode: None,
            uid: None,
            gid: None,
            atime_ns: None,
            // Now: what the host sets it to.
            mtime_ns: _,
        } = change
        {
            // PERF: by the host's descriptor, which the caller will want next anyway.
            let file = self.file(O_RDWR)?;
            let _changing = self.changing();
            return file::truncate(&*file, *size);
        }
        let _bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        let request = gofer_protocol::SetAttr {
            mode: change.mode,
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: change.atime_ns.map(Self::time),
            mtime: change.mtime_ns.map(Self::time),
        };
        let asked = self.asking();
        let told = self.shared.client().set_attr(self.node, request).map_err(errno)?;
        self.learn(&told, asked);
        Ok(())
    }

    fn lookup(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let client = self.shared.client();
        let asked = Asked::for_any();
        let (node, stat) =
            self.shared.connection.with_room(|| client.walk(self.node, name).map_err(errno))?;
        Ok(self.shared.inode(node, &stat, asked))
    }

    fn caching(&self) -> Caching {
        match self.shared.trust {
            Trust::Exclusive => Caching::Exclusive,
            Trust::Revalidate => Caching::Never,
        }
    }

    fn create(&self, name: &[u8], new: &NewNode) -> Result<Arc<dyn Inode>, Errno> {
        let owner = Ownership { uid: new.uid, gid: new.gid };
        let charge = match new.kind {
            NewKind::Regular => Some(self.shared.connection.charge()?),
            _ => None,
        };
        let asked = Asked::for_any();
        let (node, stat, file) = self.shared.connection.with_room(|| self.make(name, new, owner))?;
        self.names_changed();
        let inode = self.shared.inode(node, &stat, asked);
        if let (Some(file), Some(charge)) = (file, charge) {
            inode.files().writable = Some(Donated::new(file, charge, &stat));
            inode.keep_files();
        }
        Ok(inode)
    }

    fn create_unnamed(&self, new: &NewNode, linkable: Linkable) -> Result<Arc<dyn Inode>, Errno> {
        if !matches!(new.kind, NewKind::Regular) {
            return Err(Errno::EOPNOTSUPP);
        }
        let owner = Ownership { uid: new.uid, gid: new.gid };
        let charge = self.shared.connection.charge()?;
        let client = self.shared.client();
        let asked = Asked::for_any();
        let is_linkable = linkable == Linkable::Yes;
        let made = self
            .shared
            .connection
            .with_room(|| client.create_unnamed(self.node, new.mode, owner, is_linkable).map_err(errno))?;
        let inode = self.shared.inode(made.node, &made.stat, asked);
        inode.files().writable = Some(Donated::new(made.fd, charge, &made.stat));
        inode.keep_files();
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let target = Self::of(target)?;
        let asked = target.asking();
        let told = self.shared.client().link(target.node, self.node, name).map_err(errno)?;
        target.learn(&told, asked);
        self.names_changed();
        Ok(())
    }

    fn unlink(&self, name: &[u8], directory: bool, by: Option<u32>) -> Result<(), Errno> {
        self.shared.client().unlink(self.node, name, directory, by).map_err(errno)?;
        self.name_gone();
        self.names_changed();
        Ok(())
    }

    fn rename(
        &self,
        old: &[u8],
        (new_dir, new): (&Arc<dyn Inode>, &[u8]),
        flags: u32,
        by: Option<u32>,
    ) -> Result<(), Errno> {
        let new_dir = Self::of(new_dir)?;
        self.shared.client().rename((self.node, old), (new_dir.node, new), flags, by).map_err(errno)?;
        self.name_gone();
        self.names_changed();
        new_dir.names_changed();
        Ok(())
    }

    fn read_link(&self, _: &Arc<Task>) -> Result<LinkTarget, Errno> {
        let is_due = self.is_access_due.load(Ordering::Relaxed);
        if let Some(target) = self.target.get().filter(|_| !is_due) {
            return Ok(LinkTarget::Path(target.clone()));
        }
        // Which moves the access time, too.
        let target = self.shared.client().read_link(self.node).map_err(errno)?;
        self.has_been_read();
        Ok(LinkTarget::Path(self.target.get_or_init(|| target).clone()))
    }

    fn open(&self, task: &Arc<Task>, location: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        let stat = self.attributes().stat;
        match stat.kind() {
            mode::S_IFREG => {
                // How it is read is asked at each read: `fcntl(F_SETFL)` may change its mind.
                let file = self.file(flags & !O_NOATIME)?;
                let inode = self.me.upgrade().ok_or(Errno::ESTALE)?;
                let is_appending = flags & O_ACCMODE != O_RDONLY && flags & O_APPEND != 0;
                Ok(Arc::new(GoferFile::new(inode, file, is_appending)))
            }
            mode::S_IFLNK => Err(Errno::ELOOP),
            _ => task.kernel.vfs.open_special(task, location, &stat, &self.fifo, flags),
        }
    }

    fn read_dir(
        &self,
        _: &Arc<Task>,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let (kept, changes) = self.listing.get();
        if kept.is_some_and(|listing| listing.emit_from(cookie, emit)) {
            return Ok(());
        }
        if cookie == 0 && self.shared.trust == Trust::Exclusive {
            return self.list(changes, emit);
        }
        self.read_pages(cookie, emit)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let is_absent = || self.attributes().lacks(mark::CAPABILITIES);
        if name == CAPABILITIES && self.shared.trust == Trust::Exclusive && is_absent() {
            return Err(Errno::ENODATA);
        }
        self.shared.client().get_xattr(self.node, name).map_err(errno)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        self.shared.client().set_xattr(self.node, name, value, flags).map_err(errno)?;
        self.changes.add();
        if !name.starts_with(b"user.") {
            self.attributes().spoil_marks();
        }
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let names = self.shared.client().list_xattr(self.node).map_err(errno)?;
        Ok(names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        self.shared.client().remove_xattr(self.node, name).map_err(errno)?;
        self.changes.add();
        Ok(())
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.shared.client().fsync(self.node, data_only).map_err(errno)
    }

    fn bound_socket(&self) -> Option<&SocketSlot> {
        (self.attributes().stat.kind() == mode::S_IFSOCK).then_some(&self.socket)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for GoferInode {
    fn drop(&mut self) {
        let mut inodes = self.shared.inodes();
        // Another may have taken the place since this one began to go.
        if inodes.get(&self.key).is_some_and(|there| there.strong_count() == 0) {
            inodes.remove(&self.key);
        }
        drop(inodes);
        let connection = &self.shared.connection;
        if *self.kept_at.get_mut() != 0 {
            connection.leave(*self.kept_at.get_mut());
        }
        let attributes = self.attributes.get_mut().unwrap_or_else(PoisonError::into_inner);
        let may_be_last = *self.have_links_changed.get_mut() || attributes.stat.nlink == 0;
        // The descriptors before the handle: the file's blocks come back with the last of them.
        *self.files.get_mut().unwrap_or_else(PoisonError::into_inner) = Files::default();
        connection.client.close(self.node);
        if may_be_last {
            connection.client.flush_closes();
        }
    }
}
