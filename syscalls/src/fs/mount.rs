//! Mounts: `mount`, `umount2`, `pivot_root`.

use linux_abi::{Errno, PAGE_SIZE, UserCStr, UserPtr};
use sentry::task::Current;
use sentry::vfs::Caller;
use sentry::vfs::mounting::MountArgs;

/// `mount(2)`: <https://man7.org/linux/man-pages/man2/mount.2.html>
pub(crate) fn mount(
    current: &mut Current,
    source: UserCStr,
    target: UserCStr,
    kind: UserCStr,
    flags: u64,
    data: UserPtr<u8>,
) -> Result<(), Errno> {
    let optional = |ptr: UserCStr| {
        ptr.non_null()
            .map_or(Ok(Vec::new()), |ptr| current.read_cstr(ptr, sentry::task::PATH_MAX, Errno::EINVAL))
    };
    let (source, kind) = (optional(source)?, optional(kind)?);
    let data = match data.non_null() {
        None => Vec::new(),
        Some(data) => {
            let page = usize::try_from(PAGE_SIZE).map_err(|_| Errno::EINVAL)?;
            current.read_cstr(data.cast(), page, Errno::EINVAL)?
        }
    };
    let target = current.read_path(target)?;
    let data = String::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let flags = u32::try_from(flags & 0xffff_ffff).map_err(|_| Errno::EINVAL)?;
    let args = MountArgs { source: &source, target: &target, kind: &kind, flags, data: &data };
    Caller::of(current.task()).mount(&args)
}

/// `umount2(2)`: <https://man7.org/linux/man-pages/man2/umount2.2.html>
pub(crate) fn umount2(current: &mut Current, target: UserCStr, flags: u32) -> Result<(), Errno> {
    let target = current.read_path(target)?;
    Caller::of(current.task()).umount(&target, flags)
}

/// `pivot_root(2)`: <https://man7.org/linux/man-pages/man2/pivot_root.2.html>
pub(crate) fn pivot_root(current: &mut Current, new_root: UserCStr, put_old: UserCStr) -> Result<(), Errno> {
    let new_root = current.read_path(new_root)?;
    let put_old = current.read_path(put_old)?;
    Caller::of(current.task()).pivot_root(&new_root, &put_old)
}
