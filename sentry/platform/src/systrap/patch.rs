//! What has been rewritten in an address space: sites, their trampolines, and what is not to be rewritten.
//!
//! Key type: [`Patches`], one per address space. What a site and a trampoline look like is [`super::site`]'s, which sites are worth it
//! [`super::heat`]'s, and how one is written [`super::rewrite`]'s. Trampolines are private memory of the stub: a guest that writes to them
//! confuses itself only.

use std::collections::{BTreeMap, HashSet};

use linux_abi::{Errno, nr};

use super::Options;
use super::site::{CALL, Site};
use crate::stub::blob::Blob;

/// Trampolines begin at multiples of this.
const ALIGN: u64 = 16;
/// Bytes of a page of trampolines.
pub const PAGE: u64 = 4096;
/// How far a jump reaches, with room to spare.
pub const REACH: u64 = (1 << 31) - (1 << 24);
/// Sites of one address space; further ones stay as they are.
const SITES_MAX: usize = 1 << 14;
/// Sites remembered as not to be rewritten; beyond, all are forgotten and looked at again.
const REFUSED_MAX: usize = 1 << 12;

/// Whatever is written for a call stands less than this before it.
const BEFORE: u64 = 256;

/// A trampoline in its page.
#[derive(Debug, Clone)]
struct Place {
    at: u64,
    /// Address of the instruction that jumps to it.
    start: u64,
    /// From offsets in it to original addresses.
    origins: Vec<(u8, u64)>,
    /// What stood at the site.
    bytes: Vec<u8>,
}

/// A page of trampolines.
#[derive(Debug, Clone, Default)]
struct Page {
    used: u64,
    /// In order of address.
    places: Vec<Place>,
}

/// What has been rewritten in one address space.
#[derive(Debug, Clone, Default)]
pub struct Patches {
    /// By the address of the `syscall`: where the jump stands, and the first byte that was written.
    sites: BTreeMap<u64, (u64, u64)>,
    pages: BTreeMap<u64, Page>,
    refused: HashSet<u64>,
    /// The newest, by its `syscall`.
    last: Option<u64>,
    /// The host does not let code be written.
    is_off: bool,
}

/// Where a new trampoline goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// At this address, in a page that is mapped.
    Here(u64),
    /// A page is needed first.
    NewPage,
}

impl Patches {
    /// Whether the call at `call` is worth a look: not rewritten, not refused.
    #[must_use]
    pub fn is_candidate(&self, call: u64) -> bool {
        !self.is_off && !self.sites.contains_key(&call) && !self.refused.contains(&call)
    }

    /// A jump has been put at `start`.
    #[must_use]
    pub fn jumps_from(&self, start: u64) -> bool {
        self.sites.range(start..start.saturating_add(BEFORE)).any(|(_, &(jump, _))| jump == start)
    }

    /// Nothing more will be rewritten here.
    pub fn switch_off(&mut self) {
        self.is_off = true;
    }

    /// The call cannot be rewritten.
    pub fn refuse(&mut self, call: u64) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(call);
    }

    /// Room for a trampoline of `len` bytes within reach of `call`.
    ///
    /// # Errors
    /// ENOMEM when there are enough of them.
    pub fn room(&self, call: u64, len: u64) -> Result<Room, Errno> {
        if self.sites.len() >= SITES_MAX {
            return Err(Errno::ENOMEM);
        }
        let (low, high) = (call.saturating_sub(REACH), call.saturating_add(REACH));
        let mut near = self.pages.range(low..high);
        let page = near.find(|(_, page)| page.used + len <= PAGE);
        Ok(page.map_or(Room::NewPage, |(start, page)| Room::Here(start + page.used)))
    }

    /// A page for trampolines has been mapped.
    pub fn add_page(&mut self, page: u64) {
        self.pages.insert(page, Page::default());
    }

    /// The trampoline at `at`, of `len` bytes, serves the site.
    pub fn add(&mut self, site: &Site, (at, len): (u64, u64), origins: Vec<(u8, u64)>) {
        if let Some(page) = self.pages.get_mut(&(at & !(PAGE - 1))) {
            page.used = (at % PAGE + len).next_multiple_of(ALIGN);
            page.places.push(Place { at, start: site.start, origins, bytes: site.bytes.clone() });
            self.last = Some(site.call);
            self.sites.insert(site.call, (site.start, site.written().0));
        }
    }

    /// The address that means the same as `addr`, if that lies in a trampoline.
    #[must_use]
    pub fn origin_of(&self, addr: u64) -> Option<u64> {
        let page = self.pages.get(&(addr & !(PAGE - 1)))?;
        let index = page.places.partition_point(|place| place.at <= addr).checked_sub(1)?;
        let place = page.places.get(index)?;
        let offset = addr - place.at;
        let met = place.origins.iter().rfind(|(at, _)| u64::from(*at) <= offset);
        Some(met.map_or(place.start, |&(_, origin)| origin))
    }

    /// For the log: how many sites there are, and which lie near `addr`, or have been last entered of all. Each as: address and original
    /// bytes up to its `syscall`, address of its trampoline.
    #[must_use]
    pub fn describe(&self, addr: u64) -> String {
        /// Farther ones have nothing to do with a fault.
        const NEAR: u64 = 4096;
        let mut text = format!("{} call sites rewritten", self.sites.len());
        let near = self.sites.range(addr.saturating_sub(NEAR)..addr.saturating_add(NEAR));
        let near = near.map(|(call, _)| call).chain(self.last.as_ref());
        for call in near {
            let Some((at, place)) = self.place_of(*call) else { continue };
            let bytes: String = place.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("; {:#x} ({bytes}) call {call:#x} by {at:#x}", place.start));
        }
        text
    }

    fn place_of(&self, call: u64) -> Option<(u64, &Place)> {
        let places = self.pages.values().flat_map(|page| &page.places);
        let mut of_call =
            places.filter(|place| place.origins.last().is_some_and(|&(_, origin)| origin == call));
        of_call.next_back().map(|place| (place.at, place))
    }

    /// Something else is mapped at `start..end` now.
    pub fn forget(&mut self, start: u64, end: u64) {
        if start >= end || self.sites.is_empty() && self.refused.is_empty() {
            return;
        }
        let near = self.sites.range(start.saturating_sub(CALL - 1)..end.saturating_add(BEFORE));
        let gone: Vec<u64> = near.filter(|(_, (_, first))| *first < end).map(|(&call, _)| call).collect();
        for call in gone {
            self.sites.remove(&call);
        }
        self.refused.retain(|call| !(start..end).contains(call));
    }
}

/// Where calls go from a trampoline: those of this number, or of a number that only the moment knows.
#[must_use]
pub fn entry(number: Option<u32>, options: Options) -> u64 {
    let blob = Blob::get();
    let Some(number) = number.map(u64::from) else {
        return if options.native_futex { blob.any } else { blob.slow };
    };
    let identity = blob.identity.iter().find(|(call, _)| *call == number);
    match (identity, number) {
        (Some((_, entry)), _) if options.identity => *entry,
        (_, nr::FUTEX) if options.native_futex => blob.futex,
        (_, nr::EPOLL_CTL) if options.epoll_queue => blob.epoll_ctl,
        (_, nr::RT_SIGPROCMASK) if options.thread_state => blob.sigmask,
        (_, nr::SET_ROBUST_LIST) if options.thread_state => blob.robust_list,
        (_, nr::RSEQ) if options.thread_state => blob.rseq,
        (_, nr::SCHED_YIELD | nr::CLOCK_GETTIME | nr::GETTIMEOFDAY | nr::TIME) if options.native_clock => {
            blob.native
        }
        _ => blob.slow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(start: u64, call: u64) -> Site {
        Site { start, call, ..Site::default() }
    }

    #[test]
    fn trampolines_fill_a_page_and_then_another() {
        let mut patches = Patches::default();
        assert_eq!(patches.room(0x40_0000, 25), Ok(Room::NewPage));
        patches.add_page(0x50_0000);
        for n in 0..128 {
            let at = 0x50_0000 + n * 32;
            assert_eq!(patches.room(0x40_0000, 25), Ok(Room::Here(at)));
            let call = 0x40_0005 + n * 8;
            patches.add(&site(call - 5, call), (at, 25), vec![(0, call - 5), (5, call)]);
            assert_eq!(patches.origin_of(at), Some(call - 5));
            assert_eq!((patches.origin_of(at + 5), patches.origin_of(at + 24)), (Some(call), Some(call)));
        }
        assert_eq!(patches.room(0x40_0000, 25), Ok(Room::NewPage));
        assert_eq!((patches.origin_of(0x51_0000), patches.origin_of(0x40_0000)), (None, None));
    }

    #[test]
    fn sites_are_forgotten_with_any_byte_of_theirs() {
        let mut patches = Patches::default();
        patches.add_page(0x50_0000);
        patches.add(&site(0x40_0ffb, 0x40_1000), (0x50_0000, 25), vec![(0, 0x40_0ffb)]);
        patches.add(&site(0x40_2000, 0x40_2005), (0x50_0020, 25), vec![(0, 0x40_2000)]);
        assert!(patches.jumps_from(0x40_0ffb) && !patches.jumps_from(0x40_1000));
        patches.forget(0x40_0000, 0x40_1000);
        assert!(patches.is_candidate(0x40_1000) && !patches.is_candidate(0x40_2005));
        patches.refuse(0x40_3000);
        patches.forget(0x40_2006, 0x40_4000);
        assert!(patches.is_candidate(0x40_2005) && patches.is_candidate(0x40_3000));
    }
}
