//! `MAP_GROWSDOWN`: an area grows when something below it is touched.
//!
//! The host's areas never grow by themselves (the stub's filter refuses to make such): the guest faults, and the sentry extends the area if Linux
//! would have done so.

use linux_abi::mm::{MAP_NORESERVE, madv};
use platform::{Context, MemoryCall};

use super::host;
use super::layout::{self, END, MIN_ADDR, STACK_GUARD};
use super::vma::{Vma, VmaFlags};
use super::{Inner, MemoryLimits, MemoryManager};

impl MemoryManager {
    /// Somebody has touched `addr`, where nothing is mapped: an area above it that grows is extended to there. Answers whether something is there
    /// now, so that it is worth another try.
    pub fn grow_to(&self, context: &mut dyn Context, addr: u64, limits: &MemoryLimits) -> bool {
        let start = layout::page_down(addr);
        if !(MIN_ADDR..END).contains(&start) {
            return false;
        }
        let mut inner = self.lock();
        // Another thread may have been faster.
        if let Some(vma) = inner.tree.find(start) {
            return vma.flags.contains(VmaFlags::GROWSDOWN);
        }
        let Some(added) = inner.growth_to(start, limits) else { return false };
        self.forget_writable();
        inner.grow(context, added)
    }
}

impl Inner {
    /// The piece that an area would grow by, if it may. LINUX: `expand_downwards`, `acct_stack_growth`.
    fn growth_to(&self, start: u64, limits: &MemoryLimits) -> Option<Vma> {
        let area = self.tree.from(start).next().filter(|area| area.flags.contains(VmaFlags::GROWSDOWN))?;
        let is_near = |below: &Vma| {
            let keeps_away = !below.flags.intersects(VmaFlags::STACKS) && !below.prot.is_empty();
            keeps_away && start - below.end < STACK_GUARD
        };
        let growth = area.start - start;
        let too_much = area.end - start > limits.stack
            || !self.may_expand(growth, area.is_data(), limits)
            || area.flags.contains(VmaFlags::LOCKED) && !self.may_lock(growth, limits);
        if too_much || self.tree.below(start).is_some_and(is_near) {
            return None;
        }
        Some(Vma { start, end: area.start, ..area.clone() })
    }

    fn grow(&mut self, context: &mut dyn Context, added: Vma) -> bool {
        // It becomes one with the area, but the two are two for a moment.
        if self.reserve(1).is_err() {
            return false;
        }
        let (addr, len) = (added.start, added.len());
        let extra_flags = if added.flags.contains(VmaFlags::NORESERVE) { MAP_NORESERVE } else { 0 };
        let map = MemoryCall::MapAnonymous { addr, len, prot: added.prot.bits(), extra_flags };
        if host::call(context, map).is_err() {
            return false;
        }
        // What the host was told about the area holds for what is added.
        let told = [
            (VmaFlags::DONTFORK, madv::DONTFORK),
            (VmaFlags::WIPEONFORK, madv::WIPEONFORK),
            (VmaFlags::HUGEPAGE, madv::HUGEPAGE),
            (VmaFlags::NOHUGEPAGE, madv::NOHUGEPAGE),
        ];
        for (_, advice) in told.into_iter().filter(|(flag, _)| added.flags.contains(*flag)) {
            if host::call(context, MemoryCall::Advise { addr, len, advice }).is_err() {
                // Nothing was there, and nothing is there if this works; if not, it is as if the guest had not touched it yet.
                let _ = host::call(context, MemoryCall::Unmap { addr, len });
                return false;
            }
        }
        // LINUX: also of a locked area only the page that was touched comes in.
        self.tree.insert(added);
        self.note_peak();
        true
    }
}
