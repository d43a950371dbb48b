//! `mbind`, `get_mempolicy`, `set_mempolicy`, `migrate_pages`, `move_pages`: a machine with one memory node.

use std::sync::Arc;

use linux_abi::{Errno, UserPtr};
use sentry::task::{AccessMode, Current};

/// `MPOL_DEFAULT` to `MPOL_PREFERRED_MANY`, without the flags in the upper bits.
const MPOL_LAST: i32 = 5;
/// `MPOL_F_STATIC_NODES`, `MPOL_F_RELATIVE_NODES`, `MPOL_F_NUMA_BALANCING`.
const MPOL_MODE_FLAGS: i32 = 0xe000;
/// `MPOL_F_NODE`, `MPOL_F_ADDR`, `MPOL_F_MEMS_ALLOWED`.
const GET_FLAGS: u64 = 7;
/// Longest node mask in bits. LINUX: `PAGE_SIZE * BITS_PER_BYTE`, EINVAL above.
const MASK_BITS_MAX: u64 = 4096 * 8;

fn check_mode(mode: i32) -> Result<(), Errno> {
    if (0..=MPOL_LAST).contains(&(mode & !MPOL_MODE_FLAGS)) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The node mask may name node 0 and nothing else.
fn check_mask(current: &Current, mask: UserPtr<u64>, max_node: u64) -> Result<(), Errno> {
    let bits = max_node.saturating_sub(1);
    if mask.is_null() || bits == 0 {
        return Ok(());
    }
    if bits > MASK_BITS_MAX {
        return Err(Errno::EINVAL);
    }
    let words = usize::try_from(bits.div_ceil(64)).map_err(|_| Errno::EINVAL)?;
    let mask = current.read_objects(mask, words)?;
    let foreign = mask.iter().enumerate().any(|(n, &word)| if n == 0 { word & !1 != 0 } else { word != 0 });
    if foreign { Err(Errno::EINVAL) } else { Ok(()) }
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
    check_mode(mode)?;
    check_mask(current, mask, max_node)?;
    if len != 0 && !current.mm().is_mapped(addr, len) { Err(Errno::EFAULT) } else { Ok(()) }
}

/// `set_mempolicy(2)`: <https://man7.org/linux/man-pages/man2/set_mempolicy.2.html>
pub(crate) fn set_mempolicy(
    current: &mut Current,
    mode: i32,
    mask: UserPtr<u64>,
    max_node: u64,
) -> Result<(), Errno> {
    check_mode(mode)?;
    check_mask(current, mask, max_node)
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
    const MPOL_F_ADDR: u64 = 2;
    const MPOL_F_MEMS_ALLOWED: u64 = 4;
    let by_address = flags & MPOL_F_ADDR != 0;
    if flags & !GET_FLAGS != 0 || (addr != 0 && !by_address) || (!mask.is_null() && max_node < 1) {
        return Err(Errno::EINVAL);
    }
    if by_address && !current.mm().is_mapped(addr, 1) {
        return Err(Errno::EFAULT);
    }
    if !mode.is_null() {
        current.write_object(mode, &0)?;
    }
    if !mask.is_null() {
        if max_node > MASK_BITS_MAX {
            return Err(Errno::EINVAL);
        }
        let words = usize::try_from(max_node.div_ceil(64)).map_err(|_| Errno::EINVAL)?;
        let mut nodes = vec![0u8; words * 8];
        if flags & MPOL_F_MEMS_ALLOWED != 0 {
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
    check_mask(current, old, max_node)?;
    check_mask(current, new, max_node)?;
    let task = match pid {
        0 => Arc::clone(current.task()),
        _ => current.process().namespace.task(pid).ok_or(Errno::ESRCH)?,
    };
    task.inspect(current.task(), AccessMode::Calls, |_| Ok(()))
}
