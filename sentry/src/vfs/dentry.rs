//! Which name leads to which node? The tree of directory entries of one file system.
//!
//! Key types: [`Dentry`], [`Tree`] (what the entries of one file system share), [`Cached`].
//! An entry lives as long as somebody holds it: an open file, a working directory, a child, or the [`DentryCache`], which
//! holds the ones used lately. Where a directory says [`super::Caching::Exclusive`], what is remembered here is the truth,
//! also that a name is absent. An entry that has lost its name leaves the cache at once, with all that is below it: what
//! its node holds goes with its last user.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::dentry_cache::NOWHERE;
use super::{DentryCache, Inode, Linkable};
use crate::fs::inotify::Registry;

/// Absent names remembered for one directory; all are forgotten when there are more. All directories together: see
/// [`DentryCache`].
const ABSENT_MAX: usize = 512;
/// A directory's table of names is made smaller when less than an eighth of it is in use, from this size on.
const TABLE_MIN: usize = 64;

/// A name in a directory, and the node it leads to.
///
/// INVARIANT: a live child is listed in its parent's `children` under its own name, weakly; a child keeps its parent alive.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    /// LOCK: after any dentry `children` lock. Name and parent change together, by rename.
    place: Mutex<Place>,
    /// LOCK: dentry; parent before child.
    children: Mutex<Children>,
    /// LOCK: outside all other dentry locks, and held across the file system's own lookups and changes of names (the one
    /// lock under which the gofer is called, as Linux's `i_rwsem`): else an answer could be remembered that a change has
    /// overtaken. Two of them only by rename, see [`Dentry::lock_two`].
    names: Mutex<()>,
    /// How many mounts are on it.
    mounts: AtomicU32,
    /// Used since the cache looked at it last.
    is_used: AtomicBool,
    /// Its place in the cache. LOCK: changed under the cache's.
    slot: AtomicUsize,
    /// It never had a name, and may get one.
    is_linkable: AtomicBool,
    /// `None` for nameless files.
    tree: Option<Arc<Tree>>,
}

#[derive(Default)]
struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
    deleted: bool,
}

#[derive(Default)]
struct Children {
    /// `None`: known to be absent.
    by_name: HashMap<Vec<u8>, Option<Weak<Dentry>>>,
    absent: usize,
}

impl Children {
    fn insert(&mut self, name: &[u8], child: Option<Weak<Dentry>>) {
        self.remove(name);
        self.absent += usize::from(child.is_none());
        self.by_name.insert(name.to_vec(), child);
    }

    fn remove(&mut self, name: &[u8]) -> Option<Weak<Dentry>> {
        let child = self.by_name.remove(name)?;
        self.absent -= usize::from(child.is_none());
        self.fit();
        child
    }

    fn live(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        self.by_name.get(name)?.as_ref()?.upgrade()
    }

    /// Forgets which names are absent; says how many there were.
    fn forget_absent(&mut self) -> usize {
        if self.absent > 0 {
            self.by_name.retain(|_, child| child.is_some());
            self.fit();
        }
        std::mem::take(&mut self.absent)
    }

    /// A table does not become smaller by itself.
    fn fit(&mut self) {
        let (len, capacity) = (self.by_name.len(), self.by_name.capacity());
        if capacity >= TABLE_MIN && len < capacity / 8 {
            self.by_name.shrink_to(2 * len);
        }
    }
}

/// What is remembered of a name.
pub enum Cached {
    /// This entry.
    Known(Arc<Dentry>),
    /// There is no such name.
    Absent,
    /// Nothing.
    Unknown,
}

/// What the entries of one file system share.
#[derive(Default)]
pub struct Tree {
    /// What keeps its entries alive; `None`: nothing does.
    cache: Option<Arc<DentryCache>>,
    /// Who is told when one of them goes.
    watches: Option<Arc<Registry>>,
    /// How many mounts show it.
    mounts: AtomicUsize,
    /// LOCK: outside all dentry locks; held by renames, so that the tree stands still while ancestors are compared.
    renaming: Mutex<()>,
}

impl Tree {
    /// Only one rename at a time.
    pub fn lock_renames(&self) -> MutexGuard<'_, ()> {
        self.renaming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dentry {
    /// A root entry, which has no parent and no name. `cache`: what keeps the entries below it; `watches`: who is told
    /// of their end.
    #[must_use]
    pub fn root(
        inode: Arc<dyn Inode>,
        cache: Option<Arc<DentryCache>>,
        watches: Option<Arc<Registry>>,
    ) -> Arc<Self> {
        Self::make(inode, Place::default(), Some(Arc::new(Tree { cache, watches, ..Tree::default() })))
    }

    /// An entry of a nameless file: not in any directory; `label` stands for its whole path.
    #[must_use]
    pub fn labelled(inode: Arc<dyn Inode>, label: &[u8]) -> Arc<Self> {
        Self::make(inode, Place { name: label.to_vec(), ..Place::default() }, None)
    }

    /// An entry for a file that never had a name, in the tree of `directory` (`O_TMPFILE`).
    #[must_use]
    pub fn unnamed(
        directory: &Arc<Dentry>,
        inode: Arc<dyn Inode>,
        label: &[u8],
        linkable: Linkable,
    ) -> Arc<Self> {
        let place = Place { name: label.to_vec(), parent: Some(Arc::clone(directory)), deleted: true };
        let dentry = Self::make(inode, place, directory.tree.clone());
        dentry.is_linkable.store(linkable == Linkable::Yes, Ordering::Relaxed);
        dentry
    }

    /// It never had a name, and may get one.
    #[must_use]
    pub fn is_linkable(&self) -> bool {
        self.is_linkable.load(Ordering::Relaxed)
    }

    /// It has got its first name; if it loses that, it cannot get another. LINUX: `I_LINKABLE` in `vfs_link`.
    pub fn has_been_linked(&self) {
        self.is_linkable.store(false, Ordering::Relaxed);
    }

    fn make(inode: Arc<dyn Inode>, place: Place, tree: Option<Arc<Tree>>) -> Arc<Self> {
        Arc::new(Self {
            inode,
            place: Mutex::new(place),
            children: Mutex::default(),
            names: Mutex::default(),
            mounts: AtomicU32::new(0),
            is_used: AtomicBool::new(false),
            slot: AtomicUsize::new(NOWHERE),
            is_linkable: AtomicBool::new(false),
            tree,
        })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> Option<&Arc<DentryCache>> {
        self.tree.as_ref()?.cache.as_ref()
    }

    pub(super) fn slot(&self) -> &AtomicUsize {
        &self.slot
    }

    /// It has been used since this was asked last.
    pub(super) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    /// Keeps the directory's names as they are; see the lock's own comment.
    pub fn lock_names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for two directories, in an order that cannot deadlock.
    pub fn lock_two<'a>(
        one: &'a Arc<Dentry>,
        other: &'a Arc<Dentry>,
    ) -> (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>) {
        if Arc::ptr_eq(one, other) {
            return (one.lock_names(), None);
        }
        let (first, second) = if Arc::as_ptr(one) < Arc::as_ptr(other) { (one, other) } else { (other, one) };
        (first.lock_names(), Some(second.lock_names()))
    }

    /// The node.
    #[must_use]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// What all entries of the file system share; `None` for nameless files.
    #[must_use]
    pub fn tree(&self) -> Option<&Arc<Tree>> {
        self.tree.as_ref()
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

    /// It is `other`, or below it.
    #[must_use]
    pub fn is_within(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(Arc::clone(self));
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, other) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// What is remembered of a name.
    #[must_use]
    pub fn cached(&self, name: &[u8]) -> Cached {
        match self.children().by_name.get(name) {
            None => Cached::Unknown,
            Some(None) => Cached::Absent,
            Some(Some(child)) => match child.upgrade() {
                Some(child) => {
                    child.is_used.store(true, Ordering::Relaxed);
                    Cached::Known(child)
                }
                None => Cached::Unknown,
            },
        }
    }

    /// Enters a child and keeps it, or answers the one that is there already if it leads to the same node.
    pub fn add_child(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        if let Cached::Known(there) = self.cached(name)
            && Arc::ptr_eq(&there.inode, &inode)
        {
            return there;
        }
        let place = Place { name: name.to_vec(), parent: Some(Arc::clone(self)), deleted: false };
        let child = Self::make(inode, place, self.tree.clone());
        let there = self.change(|children| {
            let there = children.live(name);
            if !there.as_ref().is_some_and(|there| Arc::ptr_eq(&there.inode, &child.inode)) {
                children.insert(name, Some(Arc::downgrade(&child)));
            }
            there
        });
        if let Some(there) = there {
            if Arc::ptr_eq(&there.inode, &child.inode) {
                return there;
            }
            // Replaced behind our back, in a directory that is looked up anew each time.
            there.inode.links_changed();
            there.lose_name();
        }
        if let Some(cache) = self.cache() {
            cache.keep(&child);
            // Whoever removes either of them has let go of the child already, or will.
            if self.is_deleted() || child.is_deleted() {
                cache.forget(&child);
            }
        }
        child
    }

    /// Remembers that there is no such name.
    pub fn add_absent(&self, name: &[u8]) {
        let Some(cache) = self.cache() else { return };
        if self.children().absent >= ABSENT_MAX {
            self.forget_absent();
        }
        if !cache.has_room_for_absent() {
            return;
        }
        self.enter(name, None);
        if self.is_deleted() {
            self.forget_absent();
        }
    }

    /// A child has been unlinked: it is absent now, and those who hold it see that it is deleted.
    pub fn remove_child(&self, name: &[u8]) {
        if let Some(child) = self.strike(name) {
            child.lose_name();
        }
    }

    /// Lists a child, or that there is none, under its name.
    fn enter(&self, name: &[u8], child: Option<Weak<Dentry>>) {
        self.change(|children| children.insert(name, child));
    }

    /// Takes a child out of the list.
    fn strike(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        self.change(|children| children.remove(name)).and_then(|child| child.upgrade())
    }

    /// Changes the list, and counts how many absent names it has.
    fn change<T>(&self, change: impl FnOnce(&mut Children) -> T) -> T {
        let mut children = self.children();
        let before = children.absent;
        let result = change(&mut children);
        let after = children.absent;
        drop(children);
        if let Some(cache) = self.cache().filter(|_| before != after) {
            cache.absent().fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        result
    }

    /// Forgets which names are absent.
    pub(super) fn forget_absent(&self) {
        self.change(Children::forget_absent);
    }

    /// It is in no directory any more: nothing of it is kept but what somebody uses.
    fn lose_name(self: &Arc<Self>) {
        self.place().deleted = true;
        self.forget();
    }

    /// Lets go of this entry and of all below it that only the cache holds.
    fn forget(self: &Arc<Self>) {
        let Some(cache) = self.cache() else { return };
        // In a loop: the guest decides how deep it is, and the stack is small.
        let mut pending = vec![Arc::clone(self)];
        while let Some(dentry) = pending.pop() {
            dentry.forget_absent();
            let children = dentry.children();
            pending.extend(children.by_name.values().filter_map(|child| child.as_ref()?.upgrade()));
            drop(children);
            cache.forget(&dentry);
        }
    }

    /// Moves this entry to another directory and name, replacing what is there. The caller holds both directories' names.
    pub fn move_to(self: &Arc<Self>, new_parent: &Arc<Dentry>, new_name: &[u8]) {
        let (old_parent, old_name) = {
            let place = self.place();
            (place.parent.clone(), place.name.clone())
        };
        if let Some(old_parent) = &old_parent {
            old_parent.strike(&old_name);
        }
        new_parent.remove_child(new_name);
        new_parent.enter(new_name, Some(Arc::downgrade(self)));
        let mut place = self.place();
        place.name = new_name.to_vec();
        place.parent = Some(Arc::clone(new_parent));
        place.deleted = false;
    }

    /// Swaps the places of two entries. The caller holds both directories' names.
    pub fn exchange(self: &Arc<Self>, other: &Arc<Dentry>) {
        let take = |dentry: &Dentry| (dentry.parent(), dentry.name());
        let ((my_parent, my_name), (their_parent, their_name)) = (take(self), take(other));
        let (Some(my_parent), Some(their_parent)) = (my_parent, their_parent) else { return };
        my_parent.enter(&my_name, Some(Arc::downgrade(other)));
        their_parent.enter(&their_name, Some(Arc::downgrade(self)));
        for (dentry, parent, name) in [(self, their_parent, their_name), (other, my_parent, my_name)] {
            let mut place = dentry.place();
            (place.parent, place.name) = (Some(parent), name);
        }
    }

    /// A mount shows its tree, from here on.
    pub(super) fn show(&self) {
        if let Some(tree) = &self.tree {
            tree.mounts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A mount that showed its tree has gone. With the last one goes what the cache holds, whose entries hold the cache.
    pub(super) fn hide(self: &Arc<Self>) {
        let Some(tree) = &self.tree else { return };
        if tree.mounts.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if let Some(watches) = tree.watches.as_ref().filter(|watches| !watches.is_idle()) {
            watches.unmounted(tree);
        }
        let mut top = Arc::clone(self);
        while let Some(parent) = top.parent() {
            top = parent;
        }
        top.forget();
    }

    /// Something is mounted on it.
    #[must_use]
    pub fn is_mountpoint(&self) -> bool {
        self.mounts.load(Ordering::Acquire) > 0
    }

    /// One mount more.
    pub(super) fn mounted(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    /// One mount less.
    pub(super) fn unmounted(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }

    /// Strikes out a child that is gone.
    fn unlist(&self, name: &[u8]) {
        let mut children = self.children();
        if children
            .by_name
            .get(name)
            .is_some_and(|child| child.as_ref().is_some_and(|c| c.strong_count() == 0))
        {
            children.remove(name);
        }
    }
}

impl Dentry {
    /// Its last user has gone.
    fn leave_place(&mut self) -> Place {
        let place = std::mem::take(self.place.get_mut().unwrap_or_else(PoisonError::into_inner));
        if place.deleted
            && let Some(watches) = self.tree.as_ref().and_then(|tree| tree.watches.as_ref())
            && !watches.is_idle()
        {
            watches.entry_has_gone(&self.inode);
        }
        place
    }
}

impl Drop for Dentry {
    /// Up the tree in a loop: the guest decides how deep it is, and the stack is small.
    fn drop(&mut self) {
        let absent = self.children.get_mut().unwrap_or_else(PoisonError::into_inner).absent;
        if let Some(cache) = self.cache().filter(|_| absent > 0) {
            cache.absent().fetch_sub(absent, Ordering::Relaxed);
        }
        let mut place = self.leave_place();
        while let Some(parent) = place.parent.take() {
            parent.unlist(&place.name);
            match Arc::into_inner(parent) {
                None => return,
                Some(mut parent) => place = parent.leave_place(),
            }
        }
    }
}
