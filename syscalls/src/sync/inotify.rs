//! `inotify_init`, `inotify_init1`, `inotify_add_watch`, `inotify_rm_watch`.

use linux_abi::poll::{O_CLOEXEC, O_NONBLOCK};
use linux_abi::{Errno, UserCStr};
use sentry::fs::inotify::{self, mask};
use sentry::task::Current;
use sentry::vfs::permission::Want;
use sentry::vfs::{Caller, Fd, Lookup};

/// `inotify_init(2)`: <https://man7.org/linux/man-pages/man2/inotify_init.2.html>
pub(crate) fn inotify_init(current: &mut Current) -> Result<Fd, Errno> {
    inotify_init1(current, 0)
}

/// `inotify_init1(2)`: <https://man7.org/linux/man-pages/man2/inotify_init.2.html>
pub(crate) fn inotify_init1(current: &mut Current, flags: u32) -> Result<Fd, Errno> {
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = inotify::new(current.task(), flags & O_NONBLOCK)?;
    super::install(current, file, flags)
}

/// `inotify_add_watch(2)`: <https://man7.org/linux/man-pages/man2/inotify_add_watch.2.html>
pub(crate) fn inotify_add_watch(
    current: &mut Current,
    fd: Fd,
    path: UserCStr,
    wanted: u32,
) -> Result<i32, Errno> {
    let exclusive = mask::MASK_ADD | mask::MASK_CREATE;
    if wanted == 0 || wanted & !mask::VALID != 0 || wanted & exclusive == exclusive {
        return Err(Errno::EINVAL);
    }
    let file = current.files().get(fd)?;
    let instance = inotify::instance_of(&file).ok_or(Errno::EINVAL)?;
    let path = current.read_path(path)?;
    let mut lookup = Lookup::empty();
    lookup.set(Lookup::FOLLOW, wanted & mask::DONT_FOLLOW == 0);
    lookup.set(Lookup::DIRECTORY, wanted & mask::ONLYDIR != 0);
    let caller = Caller::of(current.task());
    let location = caller.resolve(&current.fs().cwd(), &path, lookup)?;
    caller.check(&location, &location.inode().access()?, Want::READ)?;
    instance.add(&location, wanted)
}

/// `inotify_rm_watch(2)`: <https://man7.org/linux/man-pages/man2/inotify_rm_watch.2.html>
pub(crate) fn inotify_rm_watch(current: &mut Current, fd: Fd, number: i32) -> Result<(), Errno> {
    let file = current.files().get(fd)?;
    inotify::instance_of(&file).ok_or(Errno::EINVAL)?.remove(number)
}
