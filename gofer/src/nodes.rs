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

/// Descriptors kept back for channels, open directories and requests under way: a share of all, and at most so many.
const RESERVED_FDS_MAX: u64 = 512;
/// One of so many.
const RESERVED_SHARE: u64 = 4;
/// With fewer descriptors there is no point in starting.
const DESCRIPTORS_MIN: u64 = 256;
/// Directories kept open between two pages of a listing: a quarter of what is kept back, and at most so many. Above it
/// each page opens its directory again.
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
    /// Set while it is kept: its place among those of [`Nodes::listing_slot`].
    pub(crate) slot: Option<Slot>,
}

/// One of the places for open directories.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// A free place among `places`, if there is one.
    fn take(used: &Arc<AtomicUsize>, places: usize) -> Option<Self> {
        let slot = Self(Arc::clone(used));
        // Counted before it is looked at; a place too many is given back by `drop`.
        (used.fetch_add(1, Ordering::Relaxed) < places).then_some(slot)
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

#[derive(Debug, Default)]
struct Table {
    nodes: HashMap<u64, Arc<Node>>,
    /// Places that are taken and not filled yet.
    promised: usize,
}

/// A place for one more node. Taken before a file is made, so that no file has to be unmade for want of one.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Nodes);

impl Place<'_> {
    /// Fills it; the node's handle.
    pub(crate) fn fill(self, node: Node) -> u64 {
        let handle = self.0.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        table.nodes.insert(handle, Arc::new(node));
        handle
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.table.write().unwrap_or_else(PoisonError::into_inner).promised -= 1;
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// LOCK: taken alone, never across a host call.
    table: RwLock<Table>,
    next: AtomicU64,
    limit: usize,
    /// Directories kept open, and how many there may be.
    listings: Arc<AtomicUsize>,
    listings_max: usize,
}

impl Nodes {
    /// An empty table, limited by how many descriptors this process may have; raises that to the host's hard limit.
    ///
    /// # Errors
    /// One line for a person if that is too few.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        // Refused at worst; then the soft limit stands.
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        Self::within(rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(NODES_MAX))
    }

    /// As [`Nodes::new`], for a process that may have `descriptors`.
    fn within(descriptors: u64) -> anyhow::Result<Self> {
        anyhow::ensure!(
            descriptors >= DESCRIPTORS_MIN,
            "the gofer needs {DESCRIPTORS_MIN} open files, the host's hard limit is {descriptors}"
        );
        let reserved = (descriptors / RESERVED_SHARE).min(RESERVED_FDS_MAX);
        Ok(Self {
            table: RwLock::default(),
            next: AtomicU64::new(1),
            limit: usize::try_from((descriptors - reserved).min(NODES_MAX))?,
            listings: Arc::default(),
            listings_max: usize::try_from(reserved / 4)?.min(LISTINGS_MAX),
        })
    }

    /// A place for a directory that stays open between two pages, if one is free.
    pub(crate) fn listing_slot(&self) -> Option<Slot> {
        Slot::take(&self.listings, self.listings_max)
    }

    /// How many there may be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The node of a handle, or `ESTALE`.
    pub(crate) fn get(&self, handle: u64) -> Result<Arc<Node>, Errno> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.nodes.get(&handle).cloned().ok_or(Errno::ESTALE)
    }

    /// Adds a node, or `ENFILE`.
    pub(crate) fn insert(&self, node: Node) -> Result<u64, Errno> {
        Ok(self.place()?.fill(node))
    }

    /// A place for a node that is still to come, or `ENFILE`.
    pub(crate) fn place(&self) -> Result<Place<'_>, Errno> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.nodes.len() + table.promised >= self.limit {
            return Err(Errno::ENFILE);
        }
        table.promised += 1;
        Ok(Place(self))
    }

    /// Removes nodes; handles that are unknown are ignored. Descriptors are closed after the lock is released.
    pub(crate) fn remove(&self, handles: &[u64]) {
        let removed: Vec<_> = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            handles.iter().filter_map(|handle| table.nodes.remove(handle)).collect()
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
        let nodes = Nodes::within(1024).expect("enough");
        let first = nodes.insert(node()).expect("room");
        assert!(nodes.get(first).is_ok());
        nodes.remove(&[first, first, 999]);
        assert_eq!(nodes.get(first).err(), Some(Errno::ESTALE));
        assert_ne!(nodes.insert(node()).expect("room"), first);
    }

    #[test]
    fn a_listing_slot_is_free_again_when_dropped() {
        let nodes = Nodes::within(1024).expect("enough");
        let mut slots: Vec<_> = (0..64).map(|_| nodes.listing_slot().expect("free")).collect();
        assert!(nodes.listing_slot().is_none());
        slots.pop();
        assert!(nodes.listing_slot().is_some());
        drop(slots);
        assert_eq!(nodes.listings.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_kept_back_is_a_share_of_the_limit() {
        let limit = |descriptors| Nodes::within(descriptors).expect("enough").limit();
        assert_eq!((limit(256), limit(512), limit(20_000)), (192, 384, 19_488));
        let refused = Nodes::within(255).expect_err("too few").to_string();
        assert_eq!(refused, "the gofer needs 256 open files, the host's hard limit is 255");
    }

    #[test]
    fn above_the_limit_is_enfile() {
        let nodes = Nodes { limit: 2, ..Nodes::within(1024).expect("enough") };
        let first = nodes.insert(node()).expect("room");
        nodes.insert(node()).expect("room");
        assert_eq!(nodes.insert(node()).err(), Some(Errno::ENFILE));
        nodes.remove(&[first]);
        assert!(nodes.insert(node()).is_ok());
    }

    #[test]
    fn a_place_that_is_promised_is_nobody_elses() {
        let nodes = Nodes { limit: 1, ..Nodes::within(1024).expect("enough") };
        let place = nodes.place().expect("room");
        assert_eq!(nodes.insert(node()).err(), Some(Errno::ENFILE));
        drop(place);
        let handle = nodes.place().expect("room again").fill(node());
        assert!(nodes.get(handle).is_ok());
        assert_eq!(nodes.place().err(), Some(Errno::ENFILE));
    }
}
