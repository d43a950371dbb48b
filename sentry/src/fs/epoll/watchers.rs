//! Which epoll instances watch an open file? They must hear of its end.
//!
//! Key type: [`Watchers`], a field of every open file; it costs one empty lock where nobody watches.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Item;
use crate::vfs::FileOps;

/// The items that watch one open file.
#[derive(Default)]
pub struct Watchers(
    /// LOCK: leaf.
    Mutex<Vec<Weak<Item>>>,
);

impl Watchers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Item>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, item: &Arc<Item>) {
        self.lock().push(Arc::downgrade(item));
    }

    pub(super) fn remove(&self, item: &Arc<Item>) {
        self.lock().retain(|there| !std::ptr::eq(there.as_ptr(), Arc::as_ptr(item)));
    }

    /// The open file ends; `ops` are its operations.
    pub fn release(&self, ops: &dyn FileOps) {
        let items = std::mem::take(&mut *self.lock());
        for item in items.iter().filter_map(Weak::upgrade) {
            item.file_closed(ops);
        }
    }
}
