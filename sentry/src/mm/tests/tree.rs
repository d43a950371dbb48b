//! [`VmaTree`] against one entry per page.

use std::collections::BTreeMap;

use linux_abi::mm::Prot;

use super::Dice;
use crate::mm::layout::PAGE;
use crate::mm::tree::VmaTree;
use crate::mm::vma::{Backing, Vma, VmaFlags};

/// Pages of the model's address space.
const PAGES: u64 = 96;

fn vma(start: u64, end: u64, prot: Prot) -> Vma {
    Vma {
        start: start * PAGE,
        end: end * PAGE,
        prot,
        max_prot: Prot::all(),
        flags: VmaFlags::empty(),
        backing: Backing::Anonymous,
    }
}

/// As [`vma`], of a memory file: page n shows page `n + shift` of it.
fn file(start: u64, end: u64, prot: Prot, shift: u64) -> Vma {
    let backing = Backing::Memory {
        id: 1,
        offset: (start + shift) * PAGE,
        size: u64::MAX,
        name: "memory".into(),
        attachment: None,
    };
    Vma { backing, flags: VmaFlags::SHARED, ..vma(start, end, prot) }
}

/// Per page: protection, and for file pages which page of the file.
type Model = BTreeMap<u64, (Prot, Option<u64>)>;

fn flatten(tree: &VmaTree) -> Model {
    let mut pages = Model::new();
    let mut end = 0;
    for vma in tree.iter() {
        assert!(vma.start < vma.end && vma.start >= end, "mappings overlap");
        end = vma.end;
        for page in vma.start / PAGE..vma.end / PAGE {
            let content = match &vma.backing {
                Backing::Memory { offset, .. } => Some(offset / PAGE + page - vma.start / PAGE),
                _ => None,
            };
            pages.insert(page, (vma.prot, content));
        }
    }
    pages
}

fn check(tree: &VmaTree, model: &Model) {
    assert_eq!(&flatten(tree), model);
    let all: Vec<&Vma> = tree.iter().collect();
    for pair in all.windows(2) {
        assert!(!pair[0].can_merge(pair[1]), "two mappings should be one");
    }
    assert_eq!(tree.totals().size, model.len() as u64 * PAGE);
    let data = all.iter().filter(|vma| vma.is_data()).map(|vma| vma.len()).sum::<u64>();
    assert_eq!(tree.totals().data, data);
}

fn random_prot(dice: &mut Dice) -> Prot {
    [Prot::READ, Prot::READ | Prot::WRITE, Prot::empty()][dice.below(3) as usize]
}

#[test]
fn agrees_with_a_page_by_page_model() {
    for seed in 1..60 {
        let mut dice = Dice::new(seed);
        let mut tree = VmaTree::new(PAGES * PAGE);
        let mut model = Model::new();
        for _ in 0..250 {
            let start = 1 + dice.below(PAGES - 2);
            let end = start + 1 + dice.below(12.min(PAGES - start - 1).max(1));
            let prot = random_prot(&mut dice);
            match dice.below(4) {
                0 | 1 => {
                    let shift = dice.below(2) * 7;
                    let of_file = dice.below(2) == 0;
                    tree.remove(start * PAGE, end * PAGE);
                    tree.insert(if of_file { file(start, end, prot, shift) } else { vma(start, end, prot) });
                    for page in start..end {
                        model.insert(page, (prot, of_file.then_some(page + shift)));
                    }
                }
                2 => {
                    let gone: u64 = tree.remove(start * PAGE, end * PAGE).iter().map(Vma::len).sum();
                    let before = model.len();
                    model.retain(|page, _| !(start..end).contains(page));
                    assert_eq!(gone / PAGE, (before - model.len()) as u64);
                }
                _ => {
                    tree.update(start * PAGE, end * PAGE, |vma| vma.prot = prot);
                    model.range_mut(start..end).for_each(|(_, page)| page.0 = prot);
                }
            }
            check(&tree, &model);
            let covered = (start..end).all(|page| model.contains_key(&page));
            assert_eq!(tree.covers(start * PAGE, end * PAGE), covered);
            let free = (start..end).all(|page| !model.contains_key(&page));
            assert_eq!(tree.is_free(start * PAGE, end * PAGE), free);
        }
    }
}

#[test]
fn placement_finds_the_highest_room_whatever_came_before() {
    for seed in 1..60 {
        let mut dice = Dice::new(seed);
        let mut tree = VmaTree::new(PAGES * PAGE);
        for _ in 0..300 {
            let pages = 1 + dice.below(6);
            if dice.below(5) < 3 {
                let free = |tree: &VmaTree, at: u64| tree.is_free(at * PAGE, (at + pages) * PAGE);
                let expected = (1..=PAGES - pages).rev().find(|&at| free(&tree, at));
                assert_eq!(tree.place(pages * PAGE, PAGE, PAGE).map(|addr| addr / PAGE), expected);
                let lowest = (1..=PAGES - pages).find(|&at| free(&tree, at));
                let found = tree.gap_above(pages * PAGE, PAGE, PAGES * PAGE);
                assert_eq!(found.map(|addr| addr / PAGE), lowest);
                // Not every place that was found is used: a host may refuse.
                if let Some(at) = expected.filter(|_| dice.below(8) > 0) {
                    tree.insert(vma(at, at + pages, random_prot(&mut dice)));
                }
            } else {
                let start = 1 + dice.below(PAGES - pages);
                tree.remove(start * PAGE, (start + pages) * PAGE);
            }
        }
    }
}

#[test]
fn aligned_placement_is_aligned_and_free() {
    let mut tree = VmaTree::new(PAGES * PAGE);
    tree.insert(vma(90, 96, Prot::READ));
    let addr = tree.place(8 * PAGE, PAGE, 16 * PAGE).expect("room");
    assert_eq!(addr, 80 * PAGE);
    tree.insert(vma(80, 88, Prot::READ));
    // The gap of two pages that alignment left is still found.
    assert_eq!(tree.place(2 * PAGE, PAGE, PAGE), Some(88 * PAGE));
}

#[test]
fn special_mappings_stay() {
    let mut tree = VmaTree::new(PAGES * PAGE);
    let special =
        Vma { flags: VmaFlags::SPECIAL, backing: Backing::Special("[x]"), ..vma(10, 12, Prot::READ) };
    tree.insert(special);
    tree.insert(vma(5, 10, Prot::READ));
    tree.insert(vma(12, 20, Prot::READ));
    let gone: u64 = tree.remove(8 * PAGE, 16 * PAGE).iter().map(Vma::len).sum();
    assert_eq!(gone, 6 * PAGE);
    assert!(tree.find(10 * PAGE).is_some_and(Vma::is_special));
    assert_eq!(tree.count(), 2);
}

#[test]
fn a_stack_keeps_its_guard() {
    let mut tree = VmaTree::new(4096 * PAGE);
    let stack = Vma { flags: VmaFlags::STACK, ..vma(2000, 2010, Prot::READ) };
    tree.insert(stack);
    assert!(!tree.is_roomy(1990 * PAGE, 2000 * PAGE));
    assert!(tree.is_roomy(1700 * PAGE, 1744 * PAGE));
    assert_eq!(tree.gap_below(PAGE, PAGE, 2000 * PAGE), Some((2000 - 256 - 1) * PAGE));
}
