//! User and group ids (`credentials(7)`).

use linux_abi::{Errno, UserPtr};
use sentry::task::{Capability, Credentials, Current};
use zerocopy::IntoBytes;

/// "Leave it" in calls that set several ids; never an id.
const KEEP: u32 = u32::MAX;
/// Most supplementary groups. LINUX: `NGROUPS_MAX`, EINVAL above.
const GROUPS_MAX: usize = 65_536;
/// LINUX: `SECBIT_NO_SETUID_FIXUP`.
const NO_FIXUP: u32 = 1 << 2;
/// LINUX: `SECBIT_KEEP_CAPS`.
const KEEP_CAPS: u32 = 1 << 4;
/// Capabilities that go with the file-system user id. LINUX: `CAP_FS_SET` and `CAP_LINUX_IMMUTABLE`.
const FS_CAPABILITIES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

/// `getuid(2)`: <https://man7.org/linux/man-pages/man2/getuid.2.html>
pub(crate) fn getuid(current: &mut Current) -> Result<u32, Errno> {
    Ok(current.credentials().uid)
}

/// `geteuid(2)`: <https://man7.org/linux/man-pages/man2/geteuid.2.html>
pub(crate) fn geteuid(current: &mut Current) -> Result<u32, Errno> {
    Ok(current.credentials().euid)
}

/// `getgid(2)`: <https://man7.org/linux/man-pages/man2/getgid.2.html>
pub(crate) fn getgid(current: &mut Current) -> Result<u32, Errno> {
    Ok(current.credentials().gid)
}

/// `getegid(2)`: <https://man7.org/linux/man-pages/man2/getegid.2.html>
pub(crate) fn getegid(current: &mut Current) -> Result<u32, Errno> {
    Ok(current.credentials().egid)
}

/// `getresuid(2)`: <https://man7.org/linux/man-pages/man2/getresuid.2.html>
pub(crate) fn getresuid(
    current: &mut Current,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<(), Errno> {
    let credentials = current.credentials();
    current.write_object(real, &credentials.uid)?;
    current.write_object(effective, &credentials.euid)?;
    current.write_object(saved, &credentials.suid)
}

/// `getresgid(2)`: <https://man7.org/linux/man-pages/man2/getresgid.2.html>
pub(crate) fn getresgid(
    current: &mut Current,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<(), Errno> {
    let credentials = current.credentials();
    current.write_object(real, &credentials.gid)?;
    current.write_object(effective, &credentials.egid)?;
    current.write_object(saved, &credentials.sgid)
}

/// What a change of user ids does to capabilities. LINUX: `cap_emulate_setxuid`.
fn fix_capabilities(old: &Credentials, new: &mut Credentials) {
    if old.securebits & NO_FIXUP != 0 {
        return;
    }
    let had_root = [old.uid, old.euid, old.suid].contains(&0);
    let has_root = [new.uid, new.euid, new.suid].contains(&0);
    if had_root && !has_root {
        if old.securebits & KEEP_CAPS == 0 {
            new.permitted = 0;
            new.effective = 0;
        }
        new.ambient = 0;
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = 0;
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

/// Takes over new credentials. LINUX: `commit_creds`: who changes identity can no longer be looked into.
fn commit(current: &Current, old: &Credentials, mut new: Credentials, users: bool) {
    if users {
        fix_capabilities(old, &mut new);
    }
    if (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid) {
        current.process().set_dumpable(0);
        current.process().set_parent_death_signal(None);
    }
    current.task().set_credentials(new);
}

/// `setuid(2)`: <https://man7.org/linux/man-pages/man2/setuid.2.html>
pub(crate) fn setuid(current: &mut Current, uid: u32) -> Result<(), Errno> {
    if uid == KEEP {
        return Err(Errno::EINVAL);
    }
    let old = current.credentials();
    let mut new = Credentials::clone(&old);
    if old.has(Capability::Setuid) {
        (new.uid, new.suid) = (uid, uid);
    } else if uid != old.uid && uid != old.suid {
        return Err(Errno::EPERM);
    }
    (new.euid, new.fsuid) = (uid, uid);
    commit(current, &old, new, true);
    Ok(())
}

/// `setgid(2)`: <https://man7.org/linux/man-pages/man2/setgid.2.html>
pub(crate) fn setgid(current: &mut Current, gid: u32) -> Result<(), Errno> {
    if gid == KEEP {
        return Err(Errno::EINVAL);
    }
    let old = current.credentials();
    let mut new = Credentials::clone(&old);
    if old.has(Capability::Setgid) {
        (new.gid, new.sgid) = (gid, gid);
    } else if gid != old.gid && gid != old.sgid {
        return Err(Errno::EPERM);
    }
    (new.egid, new.fsgid) = (gid, gid);
    commit(current, &old, new, false);
    Ok(())
}

/// `id` may be taken if it is to be left alone, is among `own`, or the caller is privileged.
fn may_take(id: u32, own: &[u32], privileged: bool) -> Result<(), Errno> {
    if id == KEEP || privileged || own.contains(&id) { Ok(()) } else { Err(Errno::EPERM) }
}

/// `setreuid(2)`: <https://man7.org/linux/man-pages/man2/setreuid.2.html>
pub(crate) fn setreuid(current: &mut Current, real: u32, effective: u32) -> Result<(), Errno> {
    let old = current.credentials();
    let privileged = old.has(Capability::Setuid);
    may_take(real, &[old.uid, old.euid], privileged)?;
    may_take(effective, &[old.uid, old.euid, old.suid], privileged)?;
    let mut new = Credentials::clone(&old);
    set_unless_kept(&mut new.uid, real);
    set_unless_kept(&mut new.euid, effective);
    if real != KEEP || (effective != KEEP && effective != old.uid) {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    commit(current, &old, new, true);
    Ok(())
}

/// `setregid(2)`: <https://man7.org/linux/man-pages/man2/setregid.2.html>
pub(crate) fn setregid(current: &mut Current, real: u32, effective: u32) -> Result<(), Errno> {
    let old = current.credentials();
    let privileged = old.has(Capability::Setgid);
    may_take(real, &[old.gid, old.egid], privileged)?;
    may_take(effective, &[old.gid, old.egid, old.sgid], privileged)?;
    let mut new = Credentials::clone(&old);
    set_unless_kept(&mut new.gid, real);
    set_unless_kept(&mut new.egid, effective);
    if real != KEEP || (effective != KEEP && effective != old.gid) {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit(current, &old, new, false);
    Ok(())
}

fn set_unless_kept(id: &mut u32, wanted: u32) {
    if wanted != KEEP {
        *id = wanted;
    }
}

/// `setresuid(2)`: <https://man7.org/linux/man-pages/man2/setresuid.2.html>
pub(crate) fn setresuid(current: &mut Current, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    let old = current.credentials();
    let privileged = old.has(Capability::Setuid);
    for id in [real, effective, saved] {
        may_take(id, &[old.uid, old.euid, old.suid], privileged)?;
    }
    let mut new = Credentials::clone(&old);
    set_unless_kept(&mut new.uid, real);
    set_unless_kept(&mut new.euid, effective);
    set_unless_kept(&mut new.suid, saved);
    new.fsuid = new.euid;
    commit(current, &old, new, true);
    Ok(())
}

/// `setresgid(2)`: <https://man7.org/linux/man-pages/man2/setresgid.2.html>
pub(crate) fn setresgid(current: &mut Current, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    let old = current.credentials();
    let privileged = old.has(Capability::Setgid);
    for id in [real, effective, saved] {
        may_take(id, &[old.gid, old.egid, old.sgid], privileged)?;
    }
    let mut new = Credentials::clone(&old);
    set_unless_kept(&mut new.gid, real);
    set_unless_kept(&mut new.egid, effective);
    set_unless_kept(&mut new.sgid, saved);
    new.fsgid = new.egid;
    commit(current, &old, new, false);
    Ok(())
}

/// `setfsuid(2)`: <https://man7.org/linux/man-pages/man2/setfsuid.2.html>
pub(crate) fn setfsuid(current: &mut Current, uid: u32) -> Result<u32, Errno> {
    let old = current.credentials();
    let own = [old.uid, old.euid, old.suid, old.fsuid];
    if uid != KEEP && (own.contains(&uid) || old.has(Capability::Setuid)) && uid != old.fsuid {
        let mut new = Credentials { fsuid: uid, ..Credentials::clone(&old) };
        if old.securebits & NO_FIXUP == 0 {
            if old.fsuid == 0 {
                new.effective &= !FS_CAPABILITIES;
            } else if uid == 0 {
                new.effective |= new.permitted & FS_CAPABILITIES;
            }
        }
        commit(current, &old, new, false);
    }
    Ok(old.fsuid)
}

/// `setfsgid(2)`: <https://man7.org/linux/man-pages/man2/setfsgid.2.html>
pub(crate) fn setfsgid(current: &mut Current, gid: u32) -> Result<u32, Errno> {
    let old = current.credentials();
    let own = [old.gid, old.egid, old.sgid, old.fsgid];
    if gid != KEEP && (own.contains(&gid) || old.has(Capability::Setgid)) {
        commit(current, &old, Credentials { fsgid: gid, ..Credentials::clone(&old) }, false);
    }
    Ok(old.fsgid)
}

/// `getgroups(2)`: <https://man7.org/linux/man-pages/man2/getgroups.2.html>
pub(crate) fn getgroups(current: &mut Current, size: i32, list: UserPtr<u32>) -> Result<usize, Errno> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let credentials = current.credentials();
    let count = credentials.groups.len();
    if size != 0 {
        if count > size {
            return Err(Errno::EINVAL);
        }
        current.write_user(list.addr(), credentials.groups.as_bytes())?;
    }
    Ok(count)
}

/// `setgroups(2)`: <https://man7.org/linux/man-pages/man2/setgroups.2.html>
pub(crate) fn setgroups(current: &mut Current, size: i32, list: UserPtr<u32>) -> Result<(), Errno> {
    let old = current.credentials();
    if !old.has(Capability::Setgid) {
        return Err(Errno::EPERM);
    }
    let size = usize::try_from(size).ok().filter(|&size| size <= GROUPS_MAX).ok_or(Errno::EINVAL)?;
    let mut groups = current.read_objects(list, size)?;
    groups.sort_unstable();
    current.task().set_credentials(Credentials { groups, ..Credentials::clone(&old) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Credentials {
        Credentials { permitted: 0xff, effective: 0xff, ambient: 0x1, ..Credentials::default() }
    }

    #[test]
    fn leaving_root_for_good_drops_capabilities() {
        let old = root();
        let mut new = Credentials { uid: 1, euid: 1, suid: 1, ..old.clone() };
        fix_capabilities(&old, &mut new);
        assert_eq!((new.permitted, new.effective, new.ambient), (0, 0, 0));
    }

    #[test]
    fn keeping_capabilities_keeps_the_permitted_ones() {
        let old = Credentials { securebits: KEEP_CAPS, ..root() };
        let mut new = Credentials { uid: 1, euid: 1, suid: 1, ..old.clone() };
        fix_capabilities(&old, &mut new);
        assert_eq!((new.permitted, new.effective), (0xff, 0));
    }

    #[test]
    fn coming_back_to_root_raises_what_is_permitted() {
        let old = Credentials { euid: 1, effective: 0, ..root() };
        let mut new = Credentials { euid: 0, ..old.clone() };
        fix_capabilities(&old, &mut new);
        assert_eq!(new.effective, 0xff);
    }
}
