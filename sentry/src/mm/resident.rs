//! How much of an address space is in memory?
//!
//! Key type: [`Resident`]. Only the host knows, and it is asked page by page, by those who read the figure and by nobody else. Up to
//! [`ASKED_MAX`] pages the answer is exact; of larger address spaces the large areas are sampled at even distances.
//!
//! What a page of a private file mapping is, the file's or a copy of the guest's own, the host does not tell: writable areas count as
//! copies. Areas without any access count as empty, as reserved ranges are.

use linux_abi::mm::Prot;

use super::MemoryManager;
use super::layout::PAGE;
use super::vma::{Backing, Vma, VmaFlags};

/// Most pages that are asked for one figure, but for one of each area. PERF: 90 to 175 ns each, so 6 ms at most.
const ASKED_MAX: u64 = 1 << 15;
/// Pages in one question to the platform.
const STEP: u64 = 512;

/// Resident memory in bytes, by what it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// `RssAnon`.
    pub anonymous: u64,
    /// `RssFile`.
    pub file: u64,
    /// `RssShmem`.
    pub shared: u64,
}

impl Resident {
    /// `VmRSS`.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.anonymous + self.file + self.shared
    }

    /// Of an area with so many resident bytes.
    pub(super) fn of(vma: &Vma, bytes: u64) -> Self {
        match &vma.backing {
            Backing::Anonymous => Self { anonymous: bytes, ..Self::default() },
            Backing::Memory { .. } => Self { shared: bytes, ..Self::default() },
            Backing::File { .. } if vma.is_anonymous() => Self { anonymous: bytes, ..Self::default() },
            Backing::File { .. } if !vma.is_shared() && vma.prot.contains(Prot::WRITE) => {
                Self { anonymous: bytes, ..Self::default() }
            }
            Backing::File { .. } | Backing::Special(_) => Self { file: bytes, ..Self::default() },
        }
    }

    fn add(&mut self, other: Self) {
        self.anonymous += other.anonymous;
        self.file += other.file;
        self.shared += other.shared;
    }
}

impl MemoryManager {
    /// Resident memory now.
    #[must_use]
    pub fn resident(&self) -> Resident {
        let areas: Vec<Vma> = {
            let Some(inner) = self.look() else { return Resident::default() };
            inner.tree.iter().filter(|vma| is_counted(vma)).cloned().collect()
        };
        let mut sum = Resident::default();
        for (vma, bytes) in areas.iter().zip(self.resident_of(&areas)) {
            sum.add(Resident::of(vma, bytes));
        }
        sum
    }

    /// Largest resident size so far, in bytes: what the host knows, or the largest that was ever asked for.
    #[must_use]
    pub fn peak_resident(&self) -> u64 {
        let peak = self.space.peak_resident_bytes();
        let Some(mut inner) = self.look() else { return peak };
        inner.peak_resident = inner.peak_resident.max(peak);
        inner.peak_resident
    }

    /// Resident bytes of each of these areas.
    pub(super) fn resident_of(&self, areas: &[Vma]) -> Vec<u64> {
        let sizes: Vec<u64> =
            areas.iter().map(|vma| if is_counted(vma) { vma.len() / PAGE } else { 0 }).collect();
        let asked = shares(&sizes, ASKED_MAX);
        let mut answers = Vec::with_capacity(areas.len());
        for ((vma, pages), asked) in areas.iter().zip(sizes).zip(asked) {
            answers.push(scaled(self.count(vma.start, pages, asked), pages, asked) * PAGE);
        }
        answers
    }

    /// How many of `asked` pages, spread evenly over `pages`, are resident.
    fn count(&self, start: u64, pages: u64, asked: u64) -> u64 {
        let mut count = 0;
        let mut next = 0;
        while next < asked {
            let end = asked.min(next + STEP);
            let page = |n: u64| start + scaled(n, pages, asked) * PAGE;
            let question: Vec<u64> = (next..end).map(page).collect();
            count += u64::try_from(self.space.count_resident(&question)).unwrap_or(0);
            next = end;
        }
        count
    }
}

fn is_counted(vma: &Vma) -> bool {
    !vma.flags.contains(VmaFlags::SPECIAL) && !vma.prot.is_empty()
}

/// `n` of `part`, on the scale of `whole`. Both are pages of an address space, so the product fits.
fn scaled(n: u64, whole: u64, part: u64) -> u64 {
    if part == 0 {
        0
    } else {
        u64::try_from(u128::from(n) * u128::from(whole) / u128::from(part)).unwrap_or(whole)
    }
}

/// How many pages of each area are asked: all of the small ones, and of the large ones as many each as the budget leaves.
fn shares(sizes: &[u64], budget: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_unstable_by_key(|&index| sizes[index]);
    let (mut left, mut areas) = (budget, u64::try_from(sizes.len()).unwrap_or(u64::MAX));
    let mut shares = vec![0; sizes.len()];
    for index in order {
        let share = sizes[index].min((left / areas).max(1));
        shares[index] = share;
        left = left.saturating_sub(share);
        areas -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_areas_are_asked_whole_and_large_ones_share_what_is_left() {
        assert_eq!(shares(&[10, 1000, 20, 4000], 230), [10, 100, 20, 100]);
        assert_eq!(shares(&[10, 20], 230), [10, 20]);
        assert_eq!(shares(&[0, 5], 0), [0, 1]);
        assert!(shares(&[], 100).is_empty());
    }

    #[test]
    fn samples_are_spread_over_the_whole_area() {
        let places: Vec<u64> = (0..4).map(|n| scaled(n, 1000, 4)).collect();
        assert_eq!(places, [0, 250, 500, 750]);
        assert_eq!(scaled(2, 1000, 4), 500);
        assert_eq!(scaled(3, 3, 3), 3);
    }
}
