//! `open(2)`: from a path to an open file description. LINUX: `path_openat`, `may_open`.
//!
//! Key types: [`How`], [`open_flags`]. Opening never waits; the system call layer asks [`super::FileOps::open_ready`].

use std::any::Any;
use std::sync::Arc;

use super::modify::truncate_at;
use super::open_flags::{
    O_ACCMODE, O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOFOLLOW, O_PATH, O_TMPFILE_BIT, O_TRUNC,
};
use super::permission::{self, Want, ms};
use super::walk::{Caller, Last, LastName, Lookup, Walk};
use super::{
    Access, Dentry, DenyWrite, DirectoryFile, FileOps, Linkable, Location, NewKind, OpenFile, Opener,
    WriteAccess, mode, now,
};
use crate::Errno;
use crate::fs::inotify;

/// How a path is to be opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// `O_*`.
    pub flags: u32,
    /// Permission bits of a file that is made.
    pub mode: u32,
    /// `RESOLVE_*`, as [`Lookup`] bits.
    pub resolve: Lookup,
}

/// `O_*` flags on x86-64.
pub mod open_flags {
    /// Mask of the access mode.
    pub const O_ACCMODE: u32 = 3;
    /// For reading.
    pub const O_RDONLY: u32 = 0;
    /// For writing.
    pub const O_WRONLY: u32 = 1;
    /// For both.
    pub const O_RDWR: u32 = 2;
    /// Make it if it is not there.
    pub const O_CREAT: u32 = 0o100;
    /// It must not be there.
    pub const O_EXCL: u32 = 0o200;
    /// Not as controlling terminal.
    pub const O_NOCTTY: u32 = 0o400;
    /// Empty it.
    pub const O_TRUNC: u32 = 0o1000;
    /// Write at the end.
    pub const O_APPEND: u32 = 0o2000;
    /// Do not wait.
    pub const O_NONBLOCK: u32 = 0o4000;
    /// Writes reach the disk (data).
    pub const O_DSYNC: u32 = 0o10_000;
    /// `SIGIO`.
    pub const O_ASYNC: u32 = 0o20_000;
    /// Around the page cache.
    pub const O_DIRECT: u32 = 0o40_000;
    /// Always set on 64 bits.
    pub const O_LARGEFILE: u32 = 0o100_000;
    /// It must be a directory.
    pub const O_DIRECTORY: u32 = 0o200_000;
    /// The last component must not be a link.
    pub const O_NOFOLLOW: u32 = 0o400_000;
    /// Leave the access time alone.
    pub const O_NOATIME: u32 = 0o1_000_000;
    /// `FD_CLOEXEC`.
    pub const O_CLOEXEC: u32 = 0o2_000_000;
    /// Writes reach the disk (with `O_DSYNC`).
    pub const O_SYNC: u32 = 0o4_010_000;
    /// Only a place in the tree.
    pub const O_PATH: u32 = 0o10_000_000;
    /// The bit of `O_TMPFILE` that is not `O_DIRECTORY`.
    pub const O_TMPFILE_BIT: u32 = 0o20_000_000;
    /// All that `open(2)` knows.
    pub const VALID: u32 = O_ACCMODE
        | O_CREAT
        | O_EXCL
        | O_NOCTTY
        | O_TRUNC
        | O_APPEND
        | O_NONBLOCK
        | O_SYNC
        | O_ASYNC
        | O_DIRECT
        | O_LARGEFILE
        | O_DIRECTORY
        | O_NOFOLLOW
        | O_NOATIME
        | O_CLOEXEC
        | O_PATH
        | O_TMPFILE_BIT;
    /// What an open file description keeps.
    pub const KEPT: u32 = VALID & !(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC);
}

/// An `O_PATH` descriptor: a place, not a file.
struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whether the file is there because this open made it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

impl Caller<'_> {
    /// Opens. The flags have been checked as far as they can be without a file.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(&self, start: &Location, path: &[u8], how: How) -> Result<Arc<OpenFile>, Errno> {
        let mut lookup = how.resolve;
        // LINUX: `build_open_flags`: what must not be there is not followed, either; `F_GETFL` does not show that.
        let is_new = how.flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
        lookup.set(Lookup::FOLLOW, how.flags & O_NOFOLLOW == 0 && !is_new);
        lookup.set(Lookup::DIRECTORY, how.flags & O_DIRECTORY != 0);
        if how.flags & O_PATH != 0 {
            let location = self.resolve(start, path, lookup)?;
            let kept = how.flags & super::open_flags::KEPT;
            return Ok(OpenFile::opened(Arc::new(PathOnly), location, kept, self.as_opener(None)));
        }
        if how.flags & O_TMPFILE_BIT != 0 {
            return self.open_unnamed(start, path, how, lookup);
        }
        if how.flags & O_CREAT == 0 {
            let found = self.find(start, path, lookup)?;
            return self.open_found(&found.location, how.flags, Made::Before);
        }
        self.open_or_create(start, path, how, lookup)
    }

    fn open_or_create(
        &self,
        start: &Location,
        path: &[u8],
        how: How,
        lookup: Lookup,
    ) -> Result<Arc<OpenFile>, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut walk = Walk::new(self, start, lookup);
        let mut last = walk.parent(start, path)?;
        loop {
            let LastName::Normal(name) = &last.name else { return Err(Errno::EISDIR) };
            if last.is_dir_only {
                return Err(Errno::EISDIR);
            }
            let found = match walk.last(&last) {
                Err(Errno::ENOENT) => match self.create(&last, name, how.mode) {
                    Ok(location) => return self.open_found(&location, how.flags, Made::Now),
                    // Somebody else was faster.
                    Err(Errno::EEXIST) if how.flags & O_EXCL == 0 => walk.last(&last)?,
                    Err(errno) => return Err(errno),
                },
                found => found?,
            };
            if how.flags & O_EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            if !(found.access.is_symlink() && lookup.contains(Lookup::FOLLOW)) {
                if found.access.is_dir() {
                    return Err(Errno::EISDIR);
                }
                permission::check_open_in_sticky(&self.credentials, &last.dir_access, &found.access)?;
                return self.open_found(&found.location, how.flags, Made::Before);
            }
            last = match walk.follow_last(&last, &found)? {
                Ok(next) => next,
                Err(location) => {
                    let access = location.inode().access()?;
                    permission::check_open_in_sticky(&self.credentials, &last.dir_access, &access)?;
                    return self.open_found(&location, how.flags, Made::Before);
                }
            };
        }
    }

    fn create(&self, last: &Last, name: &[u8], bits: u32) -> Result<Location, Errno> {
        permission::check_writable_mount(&last.dir)?;
        self.check_may_create(&last.dir, &last.dir_access)?;
        let new = self.new_node(&last.dir_access, NewKind::Regular, bits);
        self.make(&last.dir, name, &new)
    }

    fn open_unnamed(
        &self,
        start: &Location,
        path: &[u8],
        how: How,
        lookup: Lookup,
    ) -> Result<Arc<OpenFile>, Errno> {
        let dir = self.find(start, path, lookup | Lookup::DIRECTORY)?;
        permission::check_writable_mount(&dir.location)?;
        self.check(&dir.location, &dir.access, Want::WRITE | Want::EXEC)?;
        let new = self.new_node(&dir.access, NewKind::Regular, how.mode);
        let linkable = if how.flags & O_EXCL == 0 { Linkable::Yes } else { Linkable::No };
        let inode = dir.location.inode().create_unnamed(&new, linkable)?;
        let label = format!("#{}", inode.access()?.ino);
        let dentry = Dentry::unnamed(&dir.location.dentry, inode, label.as_bytes(), linkable);
        let location = Location { mount: Arc::clone(&dir.location.mount), dentry };
        let flags = how.flags & !(O_TMPFILE_BIT | O_DIRECTORY | O_EXCL);
        let file = self.open_found(&location, flags, Made::Now)?;
        // LINUX: `F_GETFL` shows them.
        file.set_flags(file.flags() | how.flags & (O_TMPFILE_BIT | O_DIRECTORY));
        Ok(file)
    }

    /// Opens what a walk has found, with the checks of LINUX `may_open`.
    fn open_found(&self, location: &Location, flags: u32, made: Made) -> Result<Arc<OpenFile>, Errno> {
        let access = location.inode().access()?;
        if flags & O_DIRECTORY != 0 && !access.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if made == Made::Before {
            self.check_may_open(location, &access, flags)?;
        }
        let cuts = flags & O_TRUNC != 0 && access.is_regular();
        let writes = access.is_regular() && flags & O_ACCMODE != 0;
        let write_access = if writes { Some(WriteAccess::take(location.inode())?) } else { None };
        let file = self.open_with(location, &access, flags, write_access)?;
        inotify::notify_file(&self.task.kernel, &file, inotify::mask::OPEN);
        if cuts && made == Made::Before {
            // LINUX: `handle_truncate`, of what is open by then. It asks no size: an empty file's times move, too.
            truncate_at(self, location, 0, Some(now()))?;
        }
        Ok(file)
    }

    /// Opens a location that this caller may open already (a descriptor's, by `/proc/self/fd` and exec).
    ///
    /// # Errors
    /// The file system's.
    pub fn open_unchecked(
        &self,
        location: &Location,
        access: &Access,
        flags: u32,
    ) -> Result<Arc<OpenFile>, Errno> {
        self.open_with(location, access, flags, None)
    }

    fn open_with(
        &self,
        location: &Location,
        access: &Access,
        flags: u32,
        write_access: Option<WriteAccess>,
    ) -> Result<Arc<OpenFile>, Errno> {
        let kept = flags & super::open_flags::KEPT | super::open_flags::O_LARGEFILE;
        let ops: Arc<dyn FileOps> = if access.is_dir() {
            Arc::new(DirectoryFile::new(location.clone()))
        } else {
            location.inode().open(self.task, location, flags)?
        };
        Ok(OpenFile::opened(ops, location.clone(), kept, self.as_opener(write_access)))
    }

    fn as_opener(&self, write_access: Option<WriteAccess>) -> Opener {
        Opener {
            kernel: Arc::downgrade(&self.task.kernel),
            credentials: Arc::clone(&self.credentials),
            write_access,
        }
    }

    fn check_may_open(&self, location: &Location, access: &Access, flags: u32) -> Result<(), Errno> {
        let writes = flags & O_ACCMODE != 0;
        match access.kind() {
            mode::S_IFLNK => return Err(Errno::ELOOP),
            mode::S_IFDIR if writes || flags & O_TRUNC != 0 => return Err(Errno::EISDIR),
            mode::S_IFCHR | mode::S_IFBLK if location.forbids_device(access) => {
                return Err(Errno::EACCES);
            }
            mode::S_IFREG | mode::S_IFDIR if writes || flags & O_TRUNC != 0 => {
                permission::check_writable_mount(location)?;
            }
            _ => {}
        }
        let mut want = match flags & O_ACCMODE {
            0 => Want::READ,
            1 => Want::WRITE,
            _ => Want::READ | Want::WRITE,
        };
        if flags & O_TRUNC != 0 {
            want |= Want::WRITE;
        }
        self.check(location, access, want)?;
        if flags & O_NOATIME != 0 && !permission::is_owner(&self.credentials, access) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Opens a program: regular, executable, on a mount that allows it. LINUX: `do_open_execat`.
    ///
    /// # Errors
    /// EACCES; as `open(2)`.
    pub fn open_exec(&self, start: &Location, path: &[u8], lookup: Lookup) -> Result<Arc<OpenFile>, Errno> {
        let found = self.find(start, path, lookup)?;
        if found.access.is_symlink() {
            return Err(Errno::ELOOP);
        }
        if !found.access.is_regular() || found.location.mount.flags() & ms::NOEXEC != 0 {
            return Err(Errno::EACCES);
        }
        self.check(&found.location, &found.access, Want::EXEC)?;
        let file = self.open_unchecked(&found.location, &found.access, 0)?;
        let events = inotify::mask::OPEN | inotify::mask::OPEN_EXEC;
        inotify::notify_file(&self.task.kernel, &file, events);
        drop(DenyWrite::take(found.location.inode())?);
        Ok(file)
    }
}
