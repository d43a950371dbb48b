//! Which name leads to which node? The tree of directory entries of one file system.
//!
//! Key type: [`Dentry`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Inode;

/// A name in a directory, and the node it leads to.
///
/// INVARIANT: a live child is listed in its parent's `children` under its own name, weakly; a child keeps its parent alive.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    /// LOCK: after any dentry `children` lock. Name and parent change together, by rename.
    place: Mutex<Place>,
    /// LOCK: dentry; parent before child.
    children: Mutex<HashMap<Vec<u8>, Weak<Dentry>>>,
}

struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
    deleted: bool,
}

impl Dentry {
    /// A root entry, which has no parent and no name.
    #[must_use]
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::make(inode, Vec::new(), None)
    }

    /// An entry of a nameless file: not in any directory; `label` stands for its whole path.
    #[must_use]
    pub fn labelled(inode: Arc<dyn Inode>, label: &[u8]) -> Arc<Self> {
        Self::make(inode, label.to_vec(), None)
    }

    fn make(inode: Arc<dyn Inode>, name: Vec<u8>, parent: Option<Arc<Dentry>>) -> Arc<Self> {
        let place = Mutex::new(Place { name, parent, deleted: false });
        Arc::new(Self { inode, place, children: Mutex::default() })
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Weak<Dentry>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node.
    #[must_use]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The last component of its path; empty for a root.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.place().name.clone()
    }

    /// The directory it is in; `None` for a root.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place().parent.clone()
    }

    /// It has been unlinked.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.place().deleted
    }

    /// A child that somebody still holds.
    #[must_use]
    pub fn cached_child(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        self.children().get(name).and_then(Weak::upgrade)
    }

    /// Enters a child, or answers the one that is there already if it leads to the same node.
    pub fn add_child(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let mut children = self.children();
        if let Some(there) = children.get(name).and_then(Weak::upgrade)
            && Arc::ptr_eq(&there.inode, &inode)
        {
            return there;
        }
        let child = Self::make(inode, name.to_vec(), Some(Arc::clone(self)));
        children.insert(name.to_vec(), Arc::downgrade(&child));
        child
    }

    /// A child has been unlinked: it is forgotten, and those who hold it see that it is deleted.
    pub fn remove_child(&self, name: &[u8]) {
        if let Some(child) = self.children().remove(name).and_then(|child| child.upgrade()) {
            child.place().deleted = true;
        }
    }

    /// Moves this entry to another directory and name, replacing what is there.
    pub fn move_to(self: &Arc<Self>, new_parent: &Arc<Dentry>, new_name: &[u8]) {
        let (old_parent, old_name) = {
            let place = self.place();
            (place.parent.clone(), place.name.clone())
        };
        if let Some(old_parent) = old_parent {
            old_parent.children().remove(&old_name);
        }
        new_parent.remove_child(new_name);
        new_parent.children().insert(new_name.to_vec(), Arc::downgrade(self));
        let mut place = self.place();
        place.name = new_name.to_vec();
        place.parent = Some(Arc::clone(new_parent));
    }
}
