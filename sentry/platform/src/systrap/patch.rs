//! Rewriting call sites, so that a call needs no signal.
//!
//! Key type: [`Patches`], one per address space. A site is `mov imm32, %eax; syscall`, seven bytes. At its first trap the five bytes of the `mov`
//! become a jump to a trampoline of the site's own; the two bytes of `syscall` stay, so that code that jumps to them still works, by
//! the signal.
//!
//! ```text
//!   site:  b8 nr nr nr nr 0f 05          trampoline:  mov  nr, %eax
//!   ───>   e9 to trampoline 0f 05                     lea  site+7, %rcx       (as `syscall` would set it)
//!                                                     mov  entry, %r11        (`syscall` clobbers it)
//!                                                     jmp  *%r11
//! ```
//!
//! Other threads may be running the site meanwhile: its first byte is a breakpoint until the rest is in place, with a
//! serialising barrier on every processor between the steps. A thread that hits the breakpoint comes in with SIGTRAP, waits for the lock, and tries
//! again. Trampolines are private memory of the stub: a guest that writes to them confuses itself only.

use std::collections::{BTreeMap, HashSet};

use linux_abi::{Errno, nr};

use super::Options;
use crate::stub::blob::Blob;

/// Bytes of a site.
pub const SITE: u64 = 7;
/// Bytes of a trampoline.
const TRAMPOLINE: u64 = 32;
/// Bytes of a page of trampolines.
pub const PAGE: u64 = 4096;
/// How far a jump reaches, with room to spare.
pub const REACH: u64 = (1 << 31) - (1 << 24);
/// Sites of one address space; further ones stay as they are.
const SITES_MAX: usize = 1 << 14;
/// Sites remembered as not to be rewritten; beyond, all are forgotten and looked at again.
const REFUSED_MAX: usize = 1 << 12;

/// What has been rewritten in one address space.
#[derive(Debug, Clone, Default)]
pub struct Patches {
    /// Trampoline address of each site.
    sites: BTreeMap<u64, u64>,
    /// Pages of trampolines: which site each slot serves.
    pages: BTreeMap<u64, Vec<u64>>,
    refused: HashSet<u64>,
    /// The host does not let code be written.
    is_off: bool,
}

/// Where a new trampoline goes.
pub enum Room {
    /// At this address, in a page that is mapped.
    Here(u64),
    /// A page is needed first.
    NewPage,
}

impl Patches {
    /// Whether the site is worth a look: not rewritten, not refused.
    #[must_use]
    pub fn is_candidate(&self, site: u64) -> bool {
        !self.is_off && !self.sites.contains_key(&site) && !self.refused.contains(&site)
    }

    /// The site has been rewritten.
    #[must_use]
    pub fn contains(&self, site: u64) -> bool {
        self.sites.contains_key(&site)
    }

    /// Nothing more will be rewritten here.
    pub fn switch_off(&mut self) {
        self.is_off = true;
    }

    /// The site is not one, or cannot be rewritten.
    pub fn refuse(&mut self, site: u64) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(site);
    }

    /// Room for a trampoline within reach of `site`.
    ///
    /// # Errors
    /// ENOMEM when there are enough of them.
    pub fn room(&self, site: u64) -> Result<Room, Errno> {
        if self.sites.len() >= SITES_MAX {
            return Err(Errno::ENOMEM);
        }
        let (low, high) = (site.saturating_sub(REACH), site.saturating_add(REACH));
        let mut near = self.pages.range(low..high);
        let page = near.find(|(_, slots)| (slots.len() as u64) < PAGE / TRAMPOLINE);
        Ok(page.map_or(Room::NewPage, |(page, slots)| Room::Here(page + slots.len() as u64 * TRAMPOLINE)))
    }

    /// A page for trampolines has been mapped.
    pub fn add_page(&mut self, page: u64) {
        self.pages.insert(page, Vec::new());
    }

    /// The trampoline at `at` serves `site`.
    pub fn add(&mut self, site: u64, at: u64) {
        if let Some(slots) = self.pages.get_mut(&(at & !(PAGE - 1))) {
            slots.push(site);
            self.sites.insert(site, at);
        }
    }

    /// The site whose trampoline `addr` lies in.
    #[must_use]
    pub fn site_of(&self, addr: u64) -> Option<u64> {
        let slots = self.pages.get(&(addr & !(PAGE - 1)))?;
        slots.get(usize::try_from(addr % PAGE / TRAMPOLINE).ok()?).copied()
    }

    /// Something else is mapped at `start..end` now.
    pub fn forget(&mut self, start: u64, end: u64) {
        if start >= end || self.sites.is_empty() && self.refused.is_empty() {
            return;
        }
        let gone: Vec<u64> = self.sites.range(start..end).map(|(&site, _)| site).collect();
        for site in gone {
            self.sites.remove(&site);
        }
        self.refused.retain(|site| !(start..end).contains(site));
    }
}

/// Where calls of this number go from a trampoline.
#[must_use]
pub fn entry(number: u64, options: Options) -> u64 {
    let blob = Blob::get();
    let identity = blob.identity.iter().find(|(call, _)| *call == number);
    match (identity, number) {
        (Some((_, entry)), _) if options.identity => *entry,
        (_, nr::FUTEX) if options.native_futex => blob.native,
        (_, nr::SCHED_YIELD | nr::CLOCK_GETTIME | nr::GETTIMEOFDAY | nr::TIME) if options.native_clock => {
            blob.native
        }
        _ => blob.slow,
    }
}

/// The trampoline's code.
#[must_use]
pub fn trampoline(site: u64, at: u64, number: u32, entry: u64) -> Option<[u8; TRAMPOLINE as usize]> {
    let mut code = [0xcc; TRAMPOLINE as usize];
    code[0] = 0xb8;
    code[1..5].copy_from_slice(&number.to_le_bytes());
    code[5..8].copy_from_slice(&[0x48, 0x8d, 0x0d]);
    let back = i32::try_from((site + SITE).cast_signed() - (at + 12).cast_signed()).ok()?;
    code[8..12].copy_from_slice(&back.to_le_bytes());
    code[12..14].copy_from_slice(&[0x49, 0xbb]);
    code[14..22].copy_from_slice(&entry.to_le_bytes());
    code[22..25].copy_from_slice(&[0x41, 0xff, 0xe3]);
    Some(code)
}

/// The jump that replaces the `mov`.
#[must_use]
pub fn jump(site: u64, at: u64) -> Option<[u8; 5]> {
    let distance = i32::try_from(at.cast_signed() - (site + 5).cast_signed()).ok()?;
    let mut code = [0xe9; 5];
    code[1..5].copy_from_slice(&distance.to_le_bytes());
    Some(code)
}

/// The call number, if these bytes are a site.
#[must_use]
pub fn number_at(bytes: [u8; SITE as usize]) -> Option<u32> {
    let [0xb8, a, b, c, d, 0x0f, 0x05] = bytes else { return None };
    Some(u32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_pattern_is_a_site() {
        assert_eq!(number_at([0xb8, 39, 0, 0, 0, 0x0f, 0x05]), Some(39));
        assert_eq!(number_at([0xb9, 39, 0, 0, 0, 0x0f, 0x05]), None);
        assert_eq!(number_at([0xb8, 39, 0, 0, 0, 0x0f, 0x34]), None);
    }

    #[test]
    fn a_jump_reaches_both_ways_and_no_further() {
        assert_eq!(jump(0x1000, 0x2000), Some([0xe9, 0xfb, 0x0f, 0, 0]));
        assert_eq!(jump(0x2000, 0x1000), Some([0xe9, 0xfb, 0xef, 0xff, 0xff]));
        assert_eq!(jump(0x1000, 0x1_0000_0000), None);
    }

    #[test]
    fn trampolines_fill_a_page_and_then_another() {
        let mut patches = Patches::default();
        assert!(matches!(patches.room(0x40_0000), Ok(Room::NewPage)));
        patches.add_page(0x50_0000);
        for n in 0..128 {
            let Ok(Room::Here(at)) = patches.room(0x40_0000) else { panic!("no room for {n}") };
            assert_eq!(at, 0x50_0000 + n * 32);
            patches.add(0x40_0000 + n * 8, at);
            assert_eq!(patches.site_of(at + 31), Some(0x40_0000 + n * 8));
        }
        assert!(matches!(patches.room(0x40_0000), Ok(Room::NewPage)));
        patches.forget(0x40_0000, 0x40_0008);
        assert!(patches.is_candidate(0x40_0000) && !patches.is_candidate(0x40_0008));
    }
}
