//! Which NUMA policy has a task or a mapping? There is one node, so that a policy decides nothing; it is checked as Linux does, kept
//! and told back. LINUX: `mpol_new`, `sanitize_mpol_flags` in mm/mempolicy.c.
//!
//! Key type: [`MemoryPolicy`].

use super::MemoryManager;
use super::vma::VmaFlags;
use crate::Errno;

/// `MPOL_*`.
mod mode {
    pub(super) const DEFAULT: u32 = 0;
    pub(super) const PREFERRED: u32 = 1;
    pub(super) const BIND: u32 = 2;
    pub(super) const INTERLEAVE: u32 = 3;
    pub(super) const LOCAL: u32 = 4;
    pub(super) const PREFERRED_MANY: u32 = 5;
}

/// `MPOL_F_NUMA_BALANCING`, `MPOL_F_RELATIVE_NODES`, `MPOL_F_STATIC_NODES`.
const BALANCING: u32 = 1 << 13;
const RELATIVE: u32 = 1 << 14;
const STATIC: u32 = 1 << 15;
const FLAGS: u32 = BALANCING | RELATIVE | STATIC;
/// Where a policy stands in a mapping's flags: three bits of mode and three of flags.
const SHIFT: u32 = 24;

/// A policy as it was set. The default: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryPolicy(u32);

impl MemoryPolicy {
    /// Checks a mode with its flags, for node 0 or for no node.
    ///
    /// # Errors
    /// EINVAL.
    pub fn new(raw: u32, has_node: bool) -> Result<Self, Errno> {
        let (mode, flags) = (raw & !FLAGS, raw & FLAGS);
        let is_fixed = flags & (RELATIVE | STATIC) != 0;
        let is_balanced = flags & BALANCING != 0;
        let is_good = match mode {
            mode::DEFAULT => !has_node && flags == 0,
            mode::LOCAL => !has_node && !is_fixed && !is_balanced,
            mode::PREFERRED => (has_node || !is_fixed) && !is_balanced,
            mode::BIND => has_node,
            mode::INTERLEAVE => has_node && !is_balanced,
            mode::PREFERRED_MANY => has_node,
            _ => false,
        };
        if !is_good || flags & (RELATIVE | STATIC) == RELATIVE | STATIC {
            return Err(Errno::EINVAL);
        }
        let mode = if mode == mode::PREFERRED && !has_node { mode::LOCAL } else { mode };
        Ok(Self(mode | flags))
    }

    /// Mode and flags, as `get_mempolicy(2)` tells them.
    #[must_use]
    pub fn raw(self) -> u32 {
        self.0
    }

    /// The nodes that it names, as bits.
    #[must_use]
    pub fn nodes(self) -> u64 {
        u64::from(!matches!(self.0 & !FLAGS, mode::DEFAULT | mode::LOCAL))
    }

    fn to_flags(self) -> VmaFlags {
        VmaFlags::from_bits_truncate((self.0 & 7 | (self.0 & FLAGS) >> 10) << SHIFT)
    }

    fn of_flags(flags: VmaFlags) -> Self {
        let bits = (flags & VmaFlags::POLICY).bits() >> SHIFT;
        Self(bits & 7 | bits << 10 & FLAGS)
    }
}

impl MemoryManager {
    /// `mbind(2)`.
    ///
    /// # Errors
    /// EFAULT where nothing is mapped; ENOMEM.
    pub fn bind(&self, addr: u64, len: u64, policy: MemoryPolicy) -> Result<(), Errno> {
        let (start, end) = super::checked_range(addr, len, Errno::EINVAL, Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        let mut inner = self.lock_to_change();
        let mut covered = start;
        for vma in inner.tree.overlapping(start, end) {
            if vma.start > covered {
                break;
            }
            covered = vma.end;
        }
        if covered < end {
            return Err(Errno::EFAULT);
        }
        let pieces = inner.tree.cuts(start, end);
        inner.reserve(pieces)?;
        inner.tree.update(start, end, |vma| {
            vma.flags = (vma.flags - VmaFlags::POLICY) | policy.to_flags();
        });
        Ok(())
    }

    /// The policy of the mapping at an address, if there is one.
    ///
    /// # Errors
    /// EFAULT.
    pub fn policy_at(&self, addr: u64) -> Result<MemoryPolicy, Errno> {
        let inner = self.lock();
        let vma = inner.tree.overlapping(addr, addr.saturating_add(1)).next().ok_or(Errno::EFAULT)?;
        Ok(MemoryPolicy::of_flags(vma.flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_in_a_mappings_flags() {
        for raw in [0, 2, 3, 4, 5, 1 | STATIC, 2 | RELATIVE, 2 | BALANCING | STATIC] {
            let policy = MemoryPolicy::new(raw, !matches!(raw, 0 | 4)).expect("it is good");
            assert_eq!(MemoryPolicy::of_flags(policy.to_flags() | VmaFlags::SHARED), policy, "{raw:#x}");
            assert_eq!(policy.raw(), raw);
        }
    }

    #[test]
    fn nodes_and_modes_must_agree() {
        for (raw, has_node) in
            [(0, true), (2, false), (3, false), (4, true), (6, true), (2 | STATIC | RELATIVE, true)]
        {
            assert_eq!(MemoryPolicy::new(raw, has_node), Err(Errno::EINVAL), "{raw:#x}");
        }
        assert_eq!(MemoryPolicy::new(1, false).map(MemoryPolicy::raw), Ok(4));
    }
}
