//! `mbind`, `get_mempolicy`, `set_mempolicy`, `migrate_pages`, `move_pages`: a machine with one memory node.

use std::sync::Arc;

use linux_abi::{Errno, UserPtr};
use sentry::mm::MemoryPolicy;
use sentry::task::{AccessMode, Current};

/// `MPOL_F_NODE`, `MPOL_F_ADDR`, `MPOL_F_MEMS_ALLOWED`.
const GET_FLAGS: u64 = 7;
/// Longest node mask in bits. LINUX: `PAGE_SIZE * BITS_PER_BYTE`, EINVAL above.
const MASK_BITS_MAX: u64 = 4096 * 8;

/// Whether a mask names node 0; it may name nothing else.
fn read_mask(current: &Current, mask: UserPtr<u64>, max_node: u64) -> Result<bool, Errno> {
    let bits = max_node.saturating_sub(1);
    if mask.is_null() || bits == 0 {
        return Ok(false);
    }
    if bits > MASK_BITS_MAX {
        return Err(Errno::EINVAL);
    }
    let words = usize::try_from(bits.div_ceil(64)).map_err(|_| Errno::EINVAL)?;
    let mask = current.read_objects(mask, words)?;
    let foreign = mask.iter().enumerate().any(|(n, &word)| if n == 0 { word & !1 != 0 } else { word != 0 });
    if foreign { Err(Errno::EINVAL) } else { Ok(mask.first().is_some_and(|&word| word & 1 != 0)) }
}

/// `mbind(2)`: <https://man7.org/linux/man-pages/man2/mbind.2.html>
pub(crate) fn mbind(
    current: &mut Current,
    addr: u64,
    len: u64,
    mode: i32,
    mask: UserPtr<u64>,
    max_node: u64,
    flags: u32,
) -> Result<(), Errno> {
    if !addr.is_multiple_of(linux_abi::PAGE_SIZE) || flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let policy = MemoryPolicy::new(mode.cast_unsigned(), read_mask(current, mask, max_node)?)?;
    current.mm().bind(addr, len, policy)
}

/// `set_mempolicy(2)`: <https://man7.org/linux/man-pages/man2/set_mempolicy.2.html>
pub(crate) fn set_mempolicy(
    current: &mut Current,
    mode: i32,
    mask: UserPtr<u64>,
    max_node: u64,
) -> Result<(), Errno> {
    let policy = MemoryPolicy::new(mode.cast_unsigned(), read_mask(current, mask, max_node)?)?;
    current.task().change_scheduling(|scheduling| scheduling.memory_policy = policy);
    Ok(())
}

/// `get_mempolicy(2)`: <https://man7.org/linux/man-pages/man2/get_mempolicy.2.html>
pub(crate) fn get_mempolicy(
    current: &mut Current,
    mode: UserPtr<i32>,
    mask: UserPtr<u64>,
    max_node: u64,
    addr: u64,
    flags: u64,
) -> Result<(), Errno> {
    const MPOL_F_NODE: u64 = 1;
    const MPOL_F_ADDR: u64 = 2;
    const MPOL_F_MEMS_ALLOWED: u64 = 4;
    const MPOL_INTERLEAVE: u32 = 3;
    let by_address = flags & MPOL_F_ADDR != 0;
    let wants_allowed = flags & MPOL_F_MEMS_ALLOWED != 0;
    if wants_allowed && flags & (MPOL_F_NODE | MPOL_F_ADDR) != 0
        || flags & !GET_FLAGS != 0
        || (addr != 0 && !by_address)
        || (!mask.is_null() && max_node < 1)
    {
        return Err(Errno::EINVAL);
    }
    let own = current.task().scheduling().memory_policy;
    let policy = if by_address { current.mm().policy_at(addr)? } else { own };
    // LINUX: which node comes next is asked of an interleaving policy alone.
    if flags & MPOL_F_NODE != 0 && !by_address && policy.raw() & 7 != MPOL_INTERLEAVE {
        return Err(Errno::EINVAL);
    }
    if !mode.is_null() {
        let told = if flags & (MPOL_F_NODE | MPOL_F_MEMS_ALLOWED) != 0 { 0 } else { policy.raw() };
        current.write_object(mode, &told.cast_signed())?;
    }
    if !mask.is_null() {
        if max_node > MASK_BITS_MAX {
            return Err(Errno::EINVAL);
        }
        let words = usize::try_from(max_node.div_ceil(64)).map_err(|_| Errno::EINVAL)?;
        let mut nodes = vec![0u8; words * 8];
        if wants_allowed || policy.nodes() != 0 {
            nodes[0] = 1;
        }
        current.write_user(mask.addr(), &nodes)?;
    }
    Ok(())
}

/// `migrate_pages(2)`: <https://man7.org/linux/man-pages/man2/migrate_pages.2.html>
pub(crate) fn migrate_pages(
    current: &mut Current,
    pid: i32,
    max_node: u64,
    old: UserPtr<u64>,
    new: UserPtr<u64>,
) -> Result<(), Errno> {
    read_mask(current, old, max_node)?;
    read_mask(current, new, max_node)?;
    let task = match pid {
        0 => Arc::clone(current.task()),
        _ => current.process().namespace.task(pid).ok_or(Errno::ESRCH)?,
    };
    task.inspect(current.task(), AccessMode::Calls, |_| Ok(()))
}
