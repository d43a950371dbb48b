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

/// Which ids a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Group,
}

/// The ids of one kind that a task has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    real: u32,
    effective: u32,
    saved: u32,
    fs: u32,
}

impl Ids {
    fn of(kind: Kind, c: &Credentials) -> Self {
        match kind {
            Kind::User => Self { real: c.uid, effective: c.euid, saved: c.suid, fs: c.fsuid },
            Kind::Group => Self { real: c.gid, effective: c.egid, saved: c.sgid, fs: c.fsgid },
        }
    }

    fn put(self, kind: Kind, c: &mut Credentials) {
        let Self { real, effective, saved, fs } = self;
        match kind {
            Kind::User => (c.uid, c.euid, c.suid, c.fsuid) = (real, effective, saved, fs),
            Kind::Group => (c.gid, c.egid, c.sgid, c.fsgid) = (real, effective, saved, fs),
        }
    }
}

fn get_three(current: &mut Current, kind: Kind, to: [UserPtr<u32>; 3]) -> Result<(), Errno> {
    let ids = Ids::of(kind, &current.credentials());
    let [real, effective, saved] = to;
    current.write_object(real, &ids.real)?;
    current.write_object(effective, &ids.effective)?;
    current.write_object(saved, &ids.saved)
}

/// `getresuid(2)`: <https://man7.org/linux/man-pages/man2/getresuid.2.html>
pub(crate) fn getresuid(
    current: &mut Current,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<(), Errno> {
    get_three(current, Kind::User, [real, effective, saved])
}

/// `getresgid(2)`: <https://man7.org/linux/man-pages/man2/getresgid.2.html>
pub(crate) fn getresgid(
    current: &mut Current,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<(), Errno> {
    get_three(current, Kind::Group, [real, effective, saved])
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
fn commit(current: &Current, old: &Credentials, new: Credentials) {
    if (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid) {
        current.process().set_dumpable(0);
        current.task().set_parent_death_signal(None);
    }
    current.task().set_credentials(new);
}

/// Changes the ids of one kind as `rule` says, which is told whether the caller is privileged.
fn change(
    current: &Current,
    kind: Kind,
    rule: impl FnOnce(Ids, bool) -> Result<Ids, Errno>,
) -> Result<(), Errno> {
    let old = current.credentials();
    let privilege = if kind == Kind::User { Capability::Setuid } else { Capability::Setgid };
    let ids = rule(Ids::of(kind, &old), old.has(privilege))?;
    let mut new = Credentials::clone(&old);
    ids.put(kind, &mut new);
    if kind == Kind::User {
        fix_capabilities(&old, &mut new);
    }
    commit(current, &old, new);
    Ok(())
}

/// `id` may be taken if it is to be left alone, is among `own`, or the caller is privileged.
fn may_take(id: u32, own: &[u32], privileged: bool) -> Result<(), Errno> {
    if id == KEEP || privileged || own.contains(&id) { Ok(()) } else { Err(Errno::EPERM) }
}

fn unless_kept(id: u32, wanted: u32) -> u32 {
    if wanted == KEEP { id } else { wanted }
}

/// The rule of `setuid` and `setgid`.
fn set_one(id: u32, own: Ids, privileged: bool) -> Result<Ids, Errno> {
    if id == KEEP {
        return Err(Errno::EINVAL);
    }
    may_take(id, &[own.real, own.saved], privileged)?;
    let (real, saved) = if privileged { (id, id) } else { (own.real, own.saved) };
    Ok(Ids { real, effective: id, saved, fs: id })
}

/// The rule of `setreuid` and `setregid`.
fn set_two(real: u32, effective: u32, own: Ids, privileged: bool) -> Result<Ids, Errno> {
    may_take(real, &[own.real, own.effective], privileged)?;
    may_take(effective, &[own.real, own.effective, own.saved], privileged)?;
    let new = unless_kept(own.effective, effective);
    let is_saved = real != KEEP || (effective != KEEP && effective != own.real);
    let saved = if is_saved { new } else { own.saved };
    Ok(Ids { real: unless_kept(own.real, real), effective: new, saved, fs: new })
}

/// The rule of `setresuid` and `setresgid`.
fn set_three(wanted: [u32; 3], own: Ids, privileged: bool) -> Result<Ids, Errno> {
    for id in wanted {
        may_take(id, &[own.real, own.effective, own.saved], privileged)?;
    }
    let [real, effective, saved] = wanted;
    let effective = unless_kept(own.effective, effective);
    Ok(Ids {
        real: unless_kept(own.real, real),
        effective,
        saved: unless_kept(own.saved, saved),
        fs: effective,
    })
}

/// `setuid(2)`: <https://man7.org/linux/man-pages/man2/setuid.2.html>
pub(crate) fn setuid(current: &mut Current, uid: u32) -> Result<(), Errno> {
    change(current, Kind::User, |own, privileged| set_one(uid, own, privileged))
}

/// `setgid(2)`: <https://man7.org/linux/man-pages/man2/setgid.2.html>
pub(crate) fn setgid(current: &mut Current, gid: u32) -> Result<(), Errno> {
    change(current, Kind::Group, |own, privileged| set_one(gid, own, privileged))
}

/// `setreuid(2)`: <https://man7.org/linux/man-pages/man2/setreuid.2.html>
pub(crate) fn setreuid(current: &mut Current, real: u32, effective: u32) -> Result<(), Errno> {
    change(current, Kind::User, |own, privileged| set_two(real, effective, own, privileged))
}

/// `setregid(2)`: <https://man7.org/linux/man-pages/man2/setregid.2.html>
pub(crate) fn setregid(current: &mut Current, real: u32, effective: u32) -> Result<(), Errno> {
    change(current, Kind::Group, |own, privileged| set_two(real, effective, own, privileged))
}

/// `setresuid(2)`: <https://man7.org/linux/man-pages/man2/setresuid.2.html>
pub(crate) fn setresuid(current: &mut Current, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    change(current, Kind::User, |own, privileged| set_three([real, effective, saved], own, privileged))
}

/// `setresgid(2)`: <https://man7.org/linux/man-pages/man2/setresgid.2.html>
pub(crate) fn setresgid(current: &mut Current, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    change(current, Kind::Group, |own, privileged| set_three([real, effective, saved], own, privileged))
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
        commit(current, &old, new);
    }
    Ok(old.fsuid)
}

/// `setfsgid(2)`: <https://man7.org/linux/man-pages/man2/setfsgid.2.html>
pub(crate) fn setfsgid(current: &mut Current, gid: u32) -> Result<u32, Errno> {
    let old = current.credentials();
    let own = [old.gid, old.egid, old.sgid, old.fsgid];
    if gid != KEEP && (own.contains(&gid) || old.has(Capability::Setgid)) {
        commit(current, &old, Credentials { fsgid: gid, ..Credentials::clone(&old) });
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
