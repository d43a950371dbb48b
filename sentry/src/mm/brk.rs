//! `brk(2)`: where does the heap end?

use linux_abi::mm::{MAP_PRIVATE, Prot};
use platform::Context;

use super::layout::{self, END, MIN_ADDR};
use super::map::{Placement, anonymous};
use super::{MemoryLimits, MemoryManager};

impl MemoryManager {
    /// `brk(2)`: answers the end of the heap, which is the old one if it could not be moved.
    pub fn brk(&self, context: &mut dyn Context, wanted: u64, limits: &MemoryLimits) -> u64 {
        let (start, old) = {
            let inner = self.lock();
            (inner.program.start_brk, inner.brk)
        };
        if wanted < start || !(MIN_ADDR..=END).contains(&wanted) {
            return old;
        }
        // LINUX: RLIMIT_DATA counts the heap together with the program's own data.
        if limits.data != u64::MAX {
            let program = self.lock().program;
            let data = program.end_data.saturating_sub(program.start_data);
            if (wanted - start).saturating_add(data) > limits.data {
                return old;
            }
        }
        let (Some(old_end), Some(new_end)) = (layout::page_up(old), layout::page_up(wanted)) else {
            return old;
        };
        let moved = match new_end.cmp(&old_end) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Less => self.munmap(context, new_end, old_end - new_end).is_ok(),
            std::cmp::Ordering::Greater => {
                self.grow_heap(context, old_end, new_end - old_end, limits).is_some()
            }
        };
        if !moved {
            return old;
        }
        self.lock().brk = wanted;
        wanted
    }

    fn grow_heap(&self, context: &mut dyn Context, at: u64, len: u64, limits: &MemoryLimits) -> Option<u64> {
        if !self.lock().tree.is_roomy(at, at.checked_add(len)?) {
            return None;
        }
        let blueprint = anonymous(len, (Prot::READ | Prot::WRITE).bits(), MAP_PRIVATE).ok()?;
        self.establish(context, Placement::FixedNoReplace(at), blueprint, limits).ok()
    }

    /// Sets where the heap starts; it is empty then.
    pub(super) fn set_brk_start(&self, start: u64) {
        let mut inner = self.lock();
        inner.program.start_brk = start;
        inner.brk = start;
    }
}
