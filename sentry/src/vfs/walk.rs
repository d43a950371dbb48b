//! Where does a path lead? LINUX: `path_resolution(7)`, fs/namei.c.
//!
//! Key types: [`Caller`] (who asks), [`Lookup`] (how), [`Last`] (a directory and the name in it that is to be made or
//! removed). A walk goes one component at a time; a symbolic link puts its target in front of what is left of the path.
//! What is done with the names found is in `names.rs` and `open.rs`.

use std::sync::Arc;

use super::permission::{self, Want, ms};
use super::{Access, Cached, Caching, LinkTarget, Location, Moment, Stat, mode};
use crate::Errno;
use crate::task::{Capability, Credentials, Task};

/// Longest component. LINUX: `NAME_MAX`, ENAMETOOLONG above.
pub const NAME_MAX: usize = 255;
/// Most symbolic links in one walk. LINUX: `MAXSYMLINKS`, ELOOP above.
const LINKS_MAX: u32 = 40;

bitflags::bitflags! {
    /// How to walk.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Lookup: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The result must be a directory.
        const DIRECTORY = 1 << 1;
        /// An empty path means where the walk starts (`AT_EMPTY_PATH`).
        const EMPTY = 1 << 2;
        /// `RESOLVE_NO_XDEV`.
        const NO_XDEV = 1 << 3;
        /// `RESOLVE_NO_MAGICLINKS`.
        const NO_MAGICLINKS = 1 << 4;
        /// `RESOLVE_NO_SYMLINKS`.
        const NO_SYMLINKS = 1 << 5;
        /// `RESOLVE_BENEATH`.
        const BENEATH = 1 << 6;
        /// `RESOLVE_IN_ROOT`.
        const IN_ROOT = 1 << 7;
    }
}

/// Who walks: a task, in most cases with its own credentials.
pub struct Caller<'a> {
    /// The task.
    pub task: &'a Arc<Task>,
    /// With which credentials permission is checked.
    pub credentials: Arc<Credentials>,
    /// Where `/` is.
    pub root: Location,
}

/// The last component of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastName {
    /// A name.
    Normal(Vec<u8>),
    /// Nothing but slashes.
    Root,
    /// `.`
    Dot,
    /// `..`.
    DotDot,
}

/// A directory, and what the path names in it.
pub struct Last {
    /// The directory; the caller may search it.
    pub dir: Location,
    /// Its attributes.
    pub dir_access: Access,
    /// What the path names in it.
    pub name: LastName,
    /// The path goes on with a slash: it can only mean a directory.
    pub is_dir_only: bool,
}

/// A location, and who may use it.
#[derive(Clone)]
pub struct Found {
    /// Where.
    pub location: Location,
    /// What it is and whose.
    pub access: Access,
    /// When the walk began.
    since: Moment,
}

impl Found {
    fn at(location: Location, since: Moment) -> Result<Self, Errno> {
        let access = location.inode().access()?;
        Ok(Self { location, access, since })
    }

    /// All attributes, as they are now or have been at some moment of the walk.
    ///
    /// # Errors
    /// The gofer's.
    pub fn stat(&self) -> Result<Stat, Errno> {
        self.location.inode().stat_since(self.since)
    }
}

impl<'a> Caller<'a> {
    /// The task as itself.
    #[must_use]
    pub fn of(task: &'a Arc<Task>) -> Self {
        Self { task, credentials: task.credentials(), root: task.fs().root() }
    }

    /// The task with other credentials (`access(2)` asks with the real ids).
    #[must_use]
    pub fn with_credentials(task: &'a Arc<Task>, credentials: Credentials) -> Self {
        Self { task, credentials: Arc::new(credentials), root: task.fs().root() }
    }

    /// Has the capability.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.credentials.has(capability)
    }

    /// EACCES unless the caller may do that to a node with these attributes.
    ///
    /// # Errors
    /// EACCES.
    pub fn check(&self, node: &Location, access: &Access, want: Want) -> Result<(), Errno> {
        node.inode().permission(self.task, &self.credentials, access, want)
    }

    /// Where a path leads that starts at `start` (or at `/`).
    ///
    /// # Errors
    /// As `path_resolution(7)`.
    pub fn resolve(&self, start: &Location, path: &[u8], lookup: Lookup) -> Result<Location, Errno> {
        self.find(start, path, lookup).map(|found| found.location)
    }

    /// As [`Caller::resolve`], with the attributes of what is there.
    ///
    /// # Errors
    /// As `path_resolution(7)`.
    pub fn find(&self, start: &Location, path: &[u8], lookup: Lookup) -> Result<Found, Errno> {
        if path.is_empty() {
            return if lookup.contains(Lookup::EMPTY) {
                Found::at(start.clone(), Moment::last())
            } else {
                Err(Errno::ENOENT)
            };
        }
        let mut walk = Walk::new(self, start, lookup);
        let mut last = walk.parent(start, path)?;
        loop {
            let found = walk.last(&last)?;
            let follow = lookup.contains(Lookup::FOLLOW) || last.is_dir_only;
            if !(found.access.is_symlink() && follow) {
                let want_dir = lookup.contains(Lookup::DIRECTORY) || last.is_dir_only;
                return if want_dir && !found.access.is_dir() { Err(Errno::ENOTDIR) } else { Ok(found) };
            }
            permission::check_follow(&self.credentials, &last.dir_access, &found.access)?;
            match walk.follow(&last.dir, &found)? {
                Followed::Jump(location) => {
                    let found = Found::at(location, walk.since)?;
                    let want_dir = lookup.contains(Lookup::DIRECTORY) || last.is_dir_only;
                    return if want_dir && !found.access.is_dir() { Err(Errno::ENOTDIR) } else { Ok(found) };
                }
                Followed::Path(from, mut target) => {
                    if last.is_dir_only {
                        target.push(b'/');
                    }
                    last = walk.parent(&from, &target)?;
                }
            }
        }
    }

    /// The directory that a path's last component is in, and that component, which need not exist.
    ///
    /// # Errors
    /// As `path_resolution(7)`; ENOENT for an empty path.
    pub fn find_parent(&self, start: &Location, path: &[u8], lookup: Lookup) -> Result<Last, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        Walk::new(self, start, lookup).parent(start, path)
    }

    /// What a name in a directory leads to; neither mounts nor symbolic links are followed. The caller has checked
    /// that the directory may be searched.
    ///
    /// # Errors
    /// ENOENT; ENAMETOOLONG; the file system's.
    pub fn child(&self, dir: &Location, name: &[u8]) -> Result<Location, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let parent = &dir.dentry;
        let is_exclusive = parent.inode().caching() == Caching::Exclusive;
        let at = |dentry| Location { mount: Arc::clone(&dir.mount), dentry };
        if is_exclusive {
            match parent.cached(name) {
                Cached::Known(dentry) => return Ok(at(dentry)),
                Cached::Absent => return Err(Errno::ENOENT),
                Cached::Unknown => {}
            }
        }
        let _names = is_exclusive.then(|| parent.lock_names());
        self.child_locked(dir, name).map(at)
    }

    /// As [`Caller::child`], with the directory's names locked by the caller.
    ///
    /// # Errors
    /// As [`Caller::child`].
    pub(super) fn child_locked(&self, dir: &Location, name: &[u8]) -> Result<Arc<super::Dentry>, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let parent = &dir.dentry;
        if parent.is_deleted() {
            return Err(Errno::ENOENT);
        }
        let is_exclusive = parent.inode().caching() == Caching::Exclusive;
        if is_exclusive {
            match parent.cached(name) {
                Cached::Known(dentry) => return Ok(dentry),
                Cached::Absent => return Err(Errno::ENOENT),
                Cached::Unknown => {}
            }
        }
        match parent.inode().lookup(self.task, name) {
            Ok(inode) => Ok(parent.add_child(name, inode)),
            Err(Errno::ENOENT) => {
                if is_exclusive {
                    parent.add_absent(name);
                } else {
                    parent.remove_child(name);
                }
                Err(Errno::ENOENT)
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Where a symbolic link leads.
enum Followed {
    Jump(Location),
    Path(Location, Vec<u8>),
}

/// One walk under way.
pub(super) struct Walk<'a> {
    caller: &'a Caller<'a>,
    lookup: Lookup,
    /// What `/` means, and above which `..` does not go.
    top: Location,
    links: u32,
    /// When it began.
    since: Moment,
}

impl<'a> Walk<'a> {
    pub(super) fn new(caller: &'a Caller<'a>, start: &Location, lookup: Lookup) -> Self {
        let is_scoped = lookup.intersects(Lookup::BENEATH | Lookup::IN_ROOT);
        let top = if is_scoped { start.clone() } else { caller.root.clone() };
        Self { caller, lookup, top, links: 0, since: Moment::last() }
    }

    /// Goes through all components but the last.
    pub(super) fn parent(&mut self, start: &Location, path: &[u8]) -> Result<Last, Errno> {
        let mut at = self.start(start, path)?;
        let mut rest = path.to_vec();
        let mut pos = 0;
        loop {
            pos += rest[pos..].iter().take_while(|&&byte| byte == b'/').count();
            if pos == rest.len() {
                let name = LastName::Root;
                return Ok(Last { dir: at.location, dir_access: at.access, name, is_dir_only: true });
            }
            let length = rest[pos..].iter().take_while(|&&byte| byte != b'/').count();
            let (name, after) = (rest[pos..pos + length].to_vec(), pos + length);
            if !at.access.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            self.caller.check(&at.location, &at.access, Want::EXEC)?;
            let is_dir_only = after < rest.len();
            let is_last = rest[after..].iter().all(|&byte| byte == b'/');
            if is_last {
                if name.len() > NAME_MAX {
                    return Err(Errno::ENAMETOOLONG);
                }
                let name = LastName::from_component(name);
                return Ok(Last { dir: at.location, dir_access: at.access, name, is_dir_only });
            }
            let next = self.step(&at, &LastName::from_component(name))?;
            if next.access.is_symlink() {
                match self.follow(&at.location, &next)? {
                    Followed::Jump(location) => at = Found::at(location, self.since)?,
                    Followed::Path(from, mut target) => {
                        at = Found::at(from, self.since)?;
                        target.extend_from_slice(&rest[after..]);
                        (rest, pos) = (target, 0);
                        continue;
                    }
                }
            } else {
                at = next;
            }
            pos = after;
        }
    }

    /// Goes to the last component, without following it.
    pub(super) fn last(&self, last: &Last) -> Result<Found, Errno> {
        let dir = Found { location: last.dir.clone(), access: last.dir_access, since: self.since };
        self.step(&dir, &last.name)
    }

    fn start(&self, start: &Location, path: &[u8]) -> Result<Found, Errno> {
        if path.first() != Some(&b'/') {
            return Found::at(start.clone(), self.since);
        }
        if self.lookup.contains(Lookup::BENEATH) {
            return Err(Errno::EXDEV);
        }
        self.check_mount(start, &self.top)?;
        Found::at(self.top.clone(), self.since)
    }

    fn check_mount(&self, from: &Location, to: &Location) -> Result<(), Errno> {
        if self.lookup.contains(Lookup::NO_XDEV) && !Arc::ptr_eq(&from.mount, &to.mount) {
            Err(Errno::EXDEV)
        } else {
            Ok(())
        }
    }

    /// One component further; crosses mounts, follows no link.
    fn step(&self, at: &Found, name: &LastName) -> Result<Found, Errno> {
        let to = match name {
            LastName::Dot | LastName::Root => return Ok(at.clone()),
            LastName::DotDot => self.step_up(&at.location)?,
            LastName::Normal(name) => self.caller.child(&at.location, name)?.topmost(),
        };
        self.check_mount(&at.location, &to)?;
        Found::at(to, self.since)
    }

    fn step_up(&self, at: &Location) -> Result<Location, Errno> {
        let mut at = at.clone();
        loop {
            if at.is_same(&self.top) {
                return if self.lookup.contains(Lookup::BENEATH) { Err(Errno::EXDEV) } else { Ok(at) };
            }
            if at.is_same(&self.caller.root) {
                return Ok(at);
            }
            if Arc::ptr_eq(&at.dentry, &at.mount.root) {
                match at.mount.place() {
                    Some(place) => at = place,
                    None => return Ok(at),
                }
                continue;
            }
            return match at.dentry.parent() {
                Some(dentry) => Ok(Location { mount: at.mount, dentry }.topmost()),
                None => Ok(at),
            };
        }
    }

    /// Where the symbolic link `link`, found in `dir`, leads.
    fn follow(&mut self, dir: &Location, link: &Found) -> Result<Followed, Errno> {
        self.links += 1;
        if self.links > LINKS_MAX || self.lookup.contains(Lookup::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if link.location.mount.flags() & ms::NOSYMFOLLOW != 0 {
            return Err(Errno::ELOOP);
        }
        match link.location.inode().read_link(self.caller.task)? {
            LinkTarget::Jump(location) => {
                if self.lookup.contains(Lookup::NO_MAGICLINKS) {
                    return Err(Errno::ELOOP);
                }
                // LINUX: a jump could leave the scope, so it is refused there.
                if self.lookup.intersects(Lookup::BENEATH | Lookup::IN_ROOT) {
                    return Err(Errno::EXDEV);
                }
                self.check_mount(dir, &location)?;
                Ok(Followed::Jump(location))
            }
            LinkTarget::Path(target) if target.is_empty() => Err(Errno::ENOENT),
            LinkTarget::Path(target) if target.first() == Some(&b'/') => {
                if self.lookup.contains(Lookup::BENEATH) {
                    return Err(Errno::EXDEV);
                }
                self.check_mount(dir, &self.top)?;
                Ok(Followed::Path(self.top.clone(), target))
            }
            LinkTarget::Path(target) => Ok(Followed::Path(dir.clone(), target)),
        }
    }

    /// For an open that may create: follows `link`, whose name was `last`. `None`: it leads straight to a place.
    pub(super) fn follow_last(&mut self, last: &Last, link: &Found) -> Result<Result<Last, Location>, Errno> {
        permission::check_follow(&self.caller.credentials, &last.dir_access, &link.access)?;
        match self.follow(&last.dir, link)? {
            Followed::Jump(location) => Ok(Err(location)),
            Followed::Path(from, target) => self.parent(&from, &target).map(Ok),
        }
    }
}

impl LastName {
    fn from_component(name: Vec<u8>) -> Self {
        match name.as_slice() {
            b"." => Self::Dot,
            b".." => Self::DotDot,
            _ => Self::Normal(name),
        }
    }
}

impl Location {
    /// What is seen at this place: the root of the newest mount on it, if there is one.
    #[must_use]
    pub fn topmost(self) -> Self {
        let mut at = self;
        while let Some(mount) = at.mount.mounted_on(&at.dentry) {
            at = mount.root_location();
        }
        at
    }

    /// It is a device node that this mount lets nobody open, or the like.
    #[must_use]
    pub fn forbids_device(&self, access: &Access) -> bool {
        matches!(access.kind(), mode::S_IFCHR | mode::S_IFBLK) && self.mount.flags() & ms::NODEV != 0
    }

    /// The path as seen from `root`, as the kernel prints it: with ` (deleted)` if it has been unlinked; for a nameless
    /// file, its label. The flag says whether `root` is above it at all.
    #[must_use]
    pub fn path(&self, root: &Location) -> (Vec<u8>, bool) {
        if self.dentry.parent().is_none() && self.mount.place().is_none() && !self.dentry.name().is_empty() {
            return (self.dentry.name(), true);
        }
        let mut names = Vec::new();
        let mut at = self.clone();
        let is_reachable = loop {
            if at.is_same(root) {
                break true;
            }
            if Arc::ptr_eq(&at.dentry, &at.mount.root) {
                match at.mount.place() {
                    Some(place) => at = place,
                    None => break false,
                }
                continue;
            }
            names.push(at.dentry.name());
            match at.dentry.parent() {
                Some(dentry) => at.dentry = dentry,
                None => break false,
            }
        };
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        if self.dentry.is_deleted() {
            path.extend_from_slice(b" (deleted)");
        }
        (path, is_reachable)
    }
}
