//! What is in a directory that nobody else changes? The listing that its node keeps until a name changes.
//!
//! Key types: [`Listing`], [`Kept`]. PERF: the gofer takes 40 us to answer, and more for a large page; most
//! directories are listed twice (`find`, `ls -R`, a shell's patterns) or again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gofer_protocol::DirEntry as Told;

use crate::Errno;
use crate::vfs::DirEntry;

/// Longest listing that is kept, in bytes of names and of what goes with each.
const BYTES_MAX: usize = 256 << 10;
/// Most listings that one mount keeps: with [`BYTES_MAX`], 8 MiB.
pub(super) const KEPT_MAX: usize = 32;

/// All entries of a directory, in the gofer's order.
#[derive(Debug, Default)]
pub(super) struct Listing {
    entries: Vec<Entry>,
    names: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    ino: u64,
    cookie: u64,
    /// Where its name ends; it begins where the one before ends.
    name_end: u32,
    kind: u8,
}

impl Listing {
    /// Adds a page; `false`: that is too much to be kept.
    pub(super) fn add(&mut self, page: &[Told]) -> bool {
        for told in page {
            self.names.extend_from_slice(&told.name);
            let Ok(name_end) = u32::try_from(self.names.len()) else { return false };
            self.entries.push(Entry { ino: told.ino, cookie: told.cookie, name_end, kind: told.kind });
        }
        self.names.len() + self.entries.len() * size_of::<Entry>() <= BYTES_MAX
    }

    /// Emits the entries behind `cookie`; `false`: no entry has that cookie, it is older than the listing.
    pub(super) fn emit_from(&self, cookie: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> bool {
        let first = match cookie {
            0 => 0,
            _ => match self.entries.iter().position(|entry| entry.cookie == cookie) {
                Some(last) => last + 1,
                None => return false,
            },
        };
        let mut start = first.checked_sub(1).map_or(0, |before| self.entries[before].name_end as usize);
        for entry in &self.entries[first..] {
            let end = entry.name_end as usize;
            let name = &self.names[start..end];
            if !emit(DirEntry { name, ino: entry.ino, kind: entry.kind, next: entry.cookie }) {
                break;
            }
            start = end;
        }
        true
    }
}

/// A node's listing, if it has one.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// LOCK: leaf.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listing: Option<Arc<Listing>>,
    /// How often names have changed: a listing that was begun before the last change is not kept.
    changes: u64,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listing, and how often names have changed.
    pub(super) fn get(&self) -> (Option<Arc<Listing>>, u64) {
        let state = self.state();
        (state.listing.clone(), state.changes)
    }

    /// Keeps a listing that was begun after `changes` changes.
    pub(super) fn put(&self, listing: &Arc<Listing>, changes: u64) -> bool {
        let mut state = self.state();
        let is_true = state.changes == changes;
        if is_true {
            state.listing = Some(Arc::clone(listing));
        }
        is_true
    }

    /// Names have changed.
    pub(super) fn changed(&self) {
        let mut state = self.state();
        state.changes += 1;
        state.listing = None;
    }

    /// Lets go of the listing.
    pub(super) fn forget(&self) {
        self.state().listing = None;
    }
}

/// Reads a directory from its beginning: all of it, or as much as may be kept.
pub(super) fn read_all(
    mut page_at: impl FnMut(u64) -> Result<Vec<Told>, Errno>,
) -> Result<(Listing, Extent), Errno> {
    let mut listing = Listing::default();
    let mut cookie = 0;
    loop {
        let page = page_at(cookie)?;
        let is_all = page.last().is_none_or(|last| last.is_last);
        cookie = page.last().map_or(cookie, |last| last.cookie);
        if !listing.add(&page) {
            return Ok((listing, Extent::Until(cookie)));
        }
        if is_all {
            listing.entries.shrink_to_fit();
            listing.names.shrink_to_fit();
            return Ok((listing, Extent::Whole));
        }
    }
}

/// How much of a directory has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// Up to this cookie.
    Until(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cookie: u64) -> Told {
        Told {
            ino: cookie + 100,
            cookie,
            kind: 8,
            name: format!("name-{cookie}").into_bytes(),
            is_last: false,
        }
    }

    fn names_from(listing: &Listing, cookie: u64, room: usize) -> Option<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let known = listing.emit_from(cookie, &mut |entry| {
            if names.len() == room {
                return false;
            }
            names.push(entry.name.to_vec());
            true
        });
        known.then_some(names)
    }

    #[test]
    fn a_listing_goes_on_behind_any_of_its_cookies() {
        let pages = [vec![told(7), told(3)], vec![told(9)], vec![]];
        let mut asked = Vec::new();
        let (listing, extent) = read_all(|cookie| {
            asked.push(cookie);
            Ok(pages[asked.len() - 1].clone())
        })
        .expect("no page fails");
        assert_eq!((asked.as_slice(), extent), ([0, 3, 9].as_slice(), Extent::Whole));
        let names = |cookie, room| names_from(&listing, cookie, room);
        assert_eq!(names(0, 2), Some(vec![b"name-7".to_vec(), b"name-3".to_vec()]));
        assert_eq!(names(7, 9), Some(vec![b"name-3".to_vec(), b"name-9".to_vec()]));
        assert_eq!(names(9, 9), Some(vec![]));
        assert_eq!(names(8, 9), None);
    }

    #[test]
    fn behind_the_last_entry_nothing_is_asked() {
        let mut asked = 0;
        let (listing, extent) = read_all(|_| {
            asked += 1;
            Ok(vec![told(1), Told { is_last: true, ..told(2) }])
        })
        .expect("no page fails");
        assert_eq!((asked, extent), (1, Extent::Whole));
        assert_eq!(names_from(&listing, 1, 9), Some(vec![b"name-2".to_vec()]));
    }

    #[test]
    fn a_listing_that_is_too_long_ends_where_the_pages_go_on() {
        let (_, extent) =
            read_all(|cookie| Ok((cookie + 1..cookie + 1000).map(told).collect())).expect("pages");
        let Extent::Until(cookie) = extent else { panic!("the directory never ends") };
        assert!(cookie < 100_000, "{cookie}");
    }

    #[test]
    fn a_listing_that_a_change_has_overtaken_is_not_kept() {
        let kept = Kept::default();
        let listing = Arc::new(Listing::default());
        let (_, before) = kept.get();
        kept.changed();
        assert!(!kept.put(&listing, before));
        assert!(kept.get().0.is_none());
        assert!(kept.put(&listing, kept.get().1));
        assert!(kept.get().0.is_some());
        kept.changed();
        assert!(kept.get().0.is_none());
    }
}
