//! The names in a directory of a tmpfs.
//!
//! Key type: [`Entries`]. Each entry has a cookie that only grows, so that a listing goes on where it stopped, whatever
//! has been made or removed since.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::inode::Kind;
use super::{NODE_SPACE, TmpInode};
use crate::Errno;
use crate::account::Charge;
use crate::vfs::{Dentry, DirEntry, RENAME_EXCHANGE, mode};

/// LINUX: `BOGO_DIRENT_SIZE`, what one entry adds to a directory's size.
const ENTRY_SIZE: u64 = 20;

/// Names and nodes. LOCK: parent before child, never two siblings; the virtual file system keeps two changes of one
/// directory apart.
#[derive(Default)]
pub(super) struct Entries {
    by_name: HashMap<Arc<[u8]>, Entry>,
    by_cookie: BTreeMap<u64, Arc<[u8]>>,
    last_cookie: u64,
    /// The directory has been removed: nothing may be made in it.
    is_dead: bool,
}

struct Entry {
    cookie: u64,
    node: Arc<TmpInode>,
    _charge: Charge,
}

/// What a name costs, in bytes, while its dentry is kept as well: the name is there three times, and in four tables, which are half
/// empty after they have grown, and there twice while they grow. The dentry may go earlier; Linux counts both until the name goes, too.
fn name_bytes(name: &[u8]) -> usize {
    const TABLES: usize = 432;
    TABLES + size_of::<Dentry>() + 3 * name.len()
}

impl Entries {
    pub(super) fn size(&self) -> u64 {
        (self.by_name.len() as u64 + 2) * ENTRY_SIZE
    }

    fn insert(&mut self, name: &[u8], node: Arc<TmpInode>, charge: Charge) {
        self.last_cookie += 1;
        let name: Arc<[u8]> = name.into();
        self.by_cookie.insert(self.last_cookie, Arc::clone(&name));
        self.by_name.insert(name, Entry { cookie: self.last_cookie, node, _charge: charge });
    }

    fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let entry = self.by_name.remove(name)?;
        self.by_cookie.remove(&entry.cookie);
        Some(entry.node)
    }
}

impl TmpInode {
    fn entries(&self) -> Result<MutexGuard<'_, Entries>, Errno> {
        match &self.kind {
            Kind::Directory(entries) => Ok(entries.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn find_name(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        let entries = self.entries()?;
        entries.by_name.get(name).map(|entry| Arc::clone(&entry.node)).ok_or(Errno::ENOENT)
    }

    pub(super) fn add_name(&self, name: &[u8], node: &Arc<Self>) -> Result<(), Errno> {
        let mut entries = self.entries()?;
        if entries.is_dead {
            return Err(Errno::ENOENT);
        }
        if entries.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let charge = self.shared.charge_memory(name_bytes(name))?;
        entries.insert(name, Arc::clone(node), charge);
        drop(entries);
        if node.is_dir() {
            self.add_links(1);
        }
        self.touch();
        Ok(())
    }

    /// An empty directory is on its way out: from now on nothing is made in it.
    fn bury(&self) -> Result<(), Errno> {
        let mut entries = self.entries()?;
        if !entries.by_name.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        entries.is_dead = true;
        Ok(())
    }

    pub(super) fn remove_name(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        let mut entries = self.entries()?;
        let node = entries.by_name.get(name).map(|entry| Arc::clone(&entry.node)).ok_or(Errno::ENOENT)?;
        match (directory, node.is_dir()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) => node.bury()?,
            (false, false) => {}
        }
        entries.remove(name);
        drop(entries);
        self.forgotten(&node);
        Ok(())
    }

    /// A name of `node` in this directory has gone.
    fn forgotten(&self, node: &Arc<Self>) {
        if node.is_dir() {
            node.add_links(-2);
            self.add_links(-1);
        } else {
            if node.stat().nlink > 1 {
                self.shared.give_space(NODE_SPACE);
            }
            node.add_links(-1);
        }
        self.touch();
    }

    pub(super) fn move_name(&self, old: &[u8], new_dir: &Self, new: &[u8], flags: u32) -> Result<(), Errno> {
        let node = self.find_name(old)?;
        let there = new_dir.find_name(new).ok();
        if flags & RENAME_EXCHANGE != 0 {
            return self.exchange(old, &node, new_dir, new, there.ok_or(Errno::ENOENT)?);
        }
        if let Some(there) = &there
            && there.is_dir()
        {
            there.bury()?;
        }
        if new_dir.entries()?.is_dead {
            return Err(Errno::ENOENT);
        }
        let charge = self.shared.charge_memory(name_bytes(new))?;
        self.entries()?.remove(old);
        let mut entries = new_dir.entries()?;
        entries.remove(new);
        entries.insert(new, Arc::clone(&node), charge);
        drop(entries);
        if let Some(there) = &there {
            new_dir.forgotten(there);
        }
        if node.is_dir() {
            self.add_links(-1);
            new_dir.add_links(1);
        }
        node.add_links(0);
        self.touch();
        new_dir.touch();
        Ok(())
    }

    fn exchange(
        &self,
        old: &[u8],
        node: &Arc<Self>,
        new_dir: &Self,
        new: &[u8],
        there: Arc<Self>,
    ) -> Result<(), Errno> {
        if let Some(entry) = self.entries()?.by_name.get_mut(old) {
            entry.node = Arc::clone(&there);
        }
        if let Some(entry) = new_dir.entries()?.by_name.get_mut(new) {
            entry.node = Arc::clone(node);
        }
        let moved = i32::from(there.is_dir()) - i32::from(node.is_dir());
        self.add_links(moved);
        new_dir.add_links(-moved);
        node.add_links(0);
        there.add_links(0);
        self.touch();
        new_dir.touch();
        Ok(())
    }

    pub(super) fn list_names(
        &self,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        self.touch_access();
        let entries = self.entries()?;
        for (&at, name) in entries.by_cookie.range(cookie.saturating_add(1)..) {
            let Some(entry) = entries.by_name.get(name) else { continue };
            let stat = entry.node.stat();
            let (ino, kind) = (stat.ino, dirent_kind(stat.mode));
            drop(stat);
            if !emit(DirEntry { name, ino, kind, next: at }) {
                break;
            }
        }
        Ok(())
    }
}

/// `DT_*` from `S_IFMT`. LINUX: `IFTODT`.
fn dirent_kind(mode: u32) -> u8 {
    u8::try_from((mode & mode::S_IFMT) >> 12).unwrap_or(0)
}

/// Drops a tree of nodes in a loop: the guest decides how deep it is, and the stack is small.
pub(super) fn drop_deep(entries: Entries) {
    let mut pending: Vec<Arc<TmpInode>> = entries.by_name.into_values().map(|entry| entry.node).collect();
    while let Some(node) = pending.pop() {
        let Some(mut node) = Arc::into_inner(node) else { continue };
        if let Kind::Directory(entries) = &mut node.kind {
            let entries = std::mem::take(entries.get_mut().unwrap_or_else(PoisonError::into_inner));
            pending.extend(entries.by_name.into_values().map(|entry| entry.node));
        }
    }
}
