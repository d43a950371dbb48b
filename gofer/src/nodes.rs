//! Which files the sentry holds: a table from handle to `O_PATH` descriptor.
//!
//! Key types: [`Nodes`], [`Node`]. A handle is never used twice, so one that comes too late finds nothing. The number
//! of nodes is limited so that descriptors are left for the gofer's own work; nothing is evicted (see the protocol's
//! documentation: the sentry's dentry cache is the one place that decides what to keep).

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use gofer_protocol::Errno;
use rustix::process::{Resource, Rlimit};

/// Descriptors kept back for channels, open directories and requests under way.
const RESERVED_FDS: u64 = 512;
/// Directories kept open between two pages of a listing; above it each page opens its directory again.
const LISTINGS_MAX: usize = 128;
/// However many descriptors the host allows.
const NODES_MAX: u64 = 1 << 20;

/// A file that the sentry has a handle of.
#[derive(Debug)]
pub(crate) struct Node {
    fd: OwnedFd,
    /// Index of its mount.
    pub(crate) mount: usize,
    /// One of [`gofer_protocol::file_type`]; a file never changes it.
    pub(crate) file_type: u32,
    /// Of a directory that is being listed: where the listing stands.
    /// LOCK: held for one page.
    pub(crate) listing: Mutex<Option<Listing>>,
}

/// A directory opened for reading, kept between two pages so that entries which go or come meanwhile shift nothing.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) fd: OwnedFd,
    /// On an overlay, where a directory's entry has the number of a layer, not the one that `stat(2)` gives.
    pub(crate) is_overlay: bool,
    /// Cookie of the entry that was delivered last.
    pub(crate) cookie: u64,
    /// Set while it is kept: its place among the [`LISTINGS_MAX`].
    pub(crate) slot: Option<Slot>,
}

/// One of the [`LISTINGS_MAX`] places for open directories.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// A free place, if there is one.
    pub(crate) fn take(used: &Arc<AtomicUsize>) -> Option<Self> {
        let slot = Self(Arc::clone(used));
        // Counted before it is looked at; a place too many is given back by `drop`.
        (used.fetch_add(1, Ordering::Relaxed) < LISTINGS_MAX).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// A node of `mount`.
    pub(crate) fn new(fd: OwnedFd, mount: usize, file_type: u32) -> Self {
        Self { fd, mount, file_type, listing: Mutex::new(None) }
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// LOCK: taken alone, never across a host call.
    table: RwLock<HashMap<u64, Arc<Node>>>,
    next: AtomicU64,
    limit: usize,
}

impl Nodes {
    /// An empty table, limited by how many descriptors this process may have; raises that to the host's hard limit.
    pub(crate) fn new() -> Self {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        // Refused at worst; then the soft limit stands.
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let descriptors = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(NODES_MAX);
        let limit = descriptors.saturating_sub(RESERVED_FDS).clamp(1, NODES_MAX);
        Self {
            table: RwLock::default(),
            next: AtomicU64::new(1),
            limit: usize::try_from(limit).expect("at most NODES_MAX"),
        }
    }

    /// How many there may be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The node of a handle, or `ESTALE`.
    pub(crate) fn get(&self, handle: u64) -> Result<Arc<Node>, Errno> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&handle).cloned().ok_or(Errno::ESTALE)
    }

    /// Adds a node, or `ENFILE`.
    pub(crate) fn insert(&self, node: Node) -> Result<u64, Errno> {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= self.limit {
            return Err(Errno::ENFILE);
        }
        table.insert(handle, Arc::new(node));
        Ok(handle)
    }

    /// Removes nodes; handles that are unknown are ignored. Descriptors are closed after the lock is released.
    pub(crate) fn remove(&self, handles: &[u64]) {
        let removed: Vec<_> = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            handles.iter().filter_map(|handle| table.remove(handle)).collect()
        };
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node::new(std::fs::File::open("/dev/null").expect("it exists").into(), 0, 0)
    }

    #[test]
    fn a_handle_is_good_until_removed_and_never_comes_back() {
        let nodes = Nodes::new();
        let first = nodes.insert(node()).expect("room");
        assert!(nodes.get(first).is_ok());
        nodes.remove(&[first, first, 999]);
        assert_eq!(nodes.get(first).err(), Some(Errno::ESTALE));
        assert_ne!(nodes.insert(node()).expect("room"), first);
    }

    #[test]
    fn a_listing_slot_is_free_again_when_dropped() {
        let used = Arc::new(AtomicUsize::new(0));
        let mut slots: Vec<_> = (0..LISTINGS_MAX).map(|_| Slot::take(&used).expect("free")).collect();
        assert!(Slot::take(&used).is_none());
        slots.pop();
        assert!(Slot::take(&used).is_some());
        drop(slots);
        assert_eq!(used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn above_the_limit_is_enfile() {
        let nodes = Nodes { limit: 2, ..Nodes::new() };
        let first = nodes.insert(node()).expect("room");
        nodes.insert(node()).expect("room");
        assert_eq!(nodes.insert(node()).err(), Some(Errno::ENFILE));
        nodes.remove(&[first]);
        assert!(nodes.insert(node()).is_ok());
    }
}
