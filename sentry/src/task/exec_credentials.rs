//! What does running a file do to a task's rights? LINUX: `bprm_fill_uid`, `cap_bprm_creds_from_file`.
//!
//! Key types: [`FileCapabilities`], [`Unsafe`], [`Transformed`].

use super::Credentials;
use crate::Errno;
use crate::vfs::Stat;

/// Mode bits.
const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;
/// Root's ids mean nothing special. LINUX: `SECBIT_NOROOT`.
const SECBIT_NOROOT: u32 = 1;
/// Forgotten at exec. LINUX: `SECBIT_KEEP_CAPS`.
const SECBIT_KEEP_CAPS: u32 = 1 << 4;
/// Capabilities that exist. LINUX: `CAP_VALID_MASK`.
const VALID: u64 = (1 << 41) - 1;

/// File capabilities as `security.capability` holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FileCapabilities {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

impl FileCapabilities {
    /// LINUX: `get_vfs_caps_from_disk`. `None`: they count in another user namespace.
    ///
    /// # Errors
    /// EINVAL if it is not of a known form.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Errno> {
        let word = |n: usize| {
            let bytes = bytes.get(n * 4..n * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or(Errno::EINVAL)
        };
        let magic = word(0)?;
        let (words, len) = match magic >> 24 {
            1 => (1, 12),
            2 => (2, 20),
            3 => (2, 24),
            _ => return Err(Errno::EINVAL),
        };
        if bytes.len() != len {
            return Err(Errno::EINVAL);
        }
        if len == 24 && word(5)? != 0 {
            return Ok(None);
        }
        let set = |first: usize| {
            let high = if words == 2 { word(first + 2)? } else { 0 };
            Ok::<_, Errno>((u64::from(word(first)?) | u64::from(high) << 32) & VALID)
        };
        Ok(Some(Self { permitted: set(1)?, inheritable: set(2)?, effective: magic & 1 != 0 }))
    }
}

/// Why a program gets no more rights than its caller has, though its file would give some. LINUX: `LSM_UNSAFE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsafe {
    /// Nothing is against it.
    No,
    /// Its mount does not honour set-user-ID bits and file capabilities.
    Mount,
    /// Another process shares root and working directory and could change them under it; who may set any user may do so.
    Shared,
}

/// Credentials after exec, and what else follows from the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transformed {
    pub(super) credentials: Credentials,
    /// The program has more rights than who starts it: `AT_SECURE`.
    pub(super) secure: bool,
}

/// What running a file with these attributes makes of `old`. `may_set_users`: the caller has `CAP_SETUID`.
///
/// # Errors
/// EPERM if the file asks for capabilities that cannot be had.
pub(super) fn transform(
    old: &Credentials,
    stat: &Stat,
    capabilities: Option<FileCapabilities>,
    hindrance: Unsafe,
) -> Result<Transformed, Errno> {
    let mut new = old.clone();
    let honours = hindrance != Unsafe::Mount;
    if honours && !old.no_new_privs && stat.mode & S_ISUID != 0 {
        new.euid = stat.uid;
    }
    if honours && !old.no_new_privs && stat.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
        new.egid = stat.gid;
    }
    let file = capabilities.filter(|_| honours);
    let (permitted, effective) = capabilities_of(old, &new, file)?;
    new.permitted = permitted;
    let gains_ids = new.euid != old.euid || new.egid != old.egid;
    let gains_capabilities = new.permitted & !old.permitted != 0;
    if (gains_ids || gains_capabilities) && (old.no_new_privs || hindrance == Unsafe::Shared) {
        // LINUX: they get no more than they had, and maybe less.
        if old.no_new_privs || !old.has(super::Capability::Setuid) {
            (new.euid, new.egid) = (old.euid, old.egid);
        }
        new.permitted &= old.permitted;
    }
    (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
    if file.is_some() || gains_ids {
        new.ambient = 0;
    }
    new.permitted |= new.ambient;
    new.effective = if effective { new.permitted } else { new.ambient };
    new.securebits &= !SECBIT_KEEP_CAPS;
    let has_grown = new.permitted & !new.ambient != 0;
    let secure = new.euid != old.uid || new.egid != old.gid || new.uid != 0 && (effective || has_grown);
    Ok(Transformed { credentials: new, secure })
}

/// Permitted capabilities but for ambient ones, and whether all permitted ones are effective at once.
fn capabilities_of(
    old: &Credentials,
    new: &Credentials,
    file: Option<FileCapabilities>,
) -> Result<(u64, bool), Errno> {
    let FileCapabilities { permitted, inheritable, effective } = file.unwrap_or_default();
    let granted = permitted & old.bounding | inheritable & old.inheritable;
    // LINUX: a program that does not know of capabilities is not to run with a part of them.
    if effective && permitted & !granted != 0 {
        return Err(Errno::EPERM);
    }
    let is_root_by_file = new.euid == 0 && new.uid != 0;
    if old.securebits & SECBIT_NOROOT != 0
        || (new.uid != 0 && new.euid != 0)
        || (file.is_some() && is_root_by_file)
    {
        return Ok((granted, effective));
    }
    Ok((old.bounding | old.inheritable, effective || new.euid == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETUID: u64 = 1 << 7;

    fn user() -> Credentials {
        Credentials {
            uid: 1000,
            euid: 1000,
            suid: 1000,
            fsuid: 1000,
            bounding: 0xff,
            ..Credentials::default()
        }
    }

    fn file(mode: u32) -> Stat {
        Stat { mode: 0o100_755 | mode, ..Stat::default() }
    }

    fn run(old: &Credentials, mode: u32, file_capabilities: Option<u64>, hindrance: Unsafe) -> Transformed {
        let capabilities = file_capabilities.map(|permitted| FileCapabilities {
            permitted,
            inheritable: 0,
            effective: true,
        });
        transform(old, &file(mode), capabilities, hindrance).expect("may run")
    }

    #[test]
    fn set_user_id_root_gains_the_bounding_set() {
        let Transformed { credentials: new, secure } = run(&user(), S_ISUID, None, Unsafe::No);
        assert_eq!((new.uid, new.euid, new.suid, new.fsuid), (1000, 0, 0, 0));
        assert_eq!((new.permitted, new.effective), (0xff, 0xff));
        assert!(secure);
    }

    #[test]
    fn nothing_is_gained_where_it_is_forbidden() {
        let careful = Credentials { no_new_privs: true, ..user() };
        for (old, hindrance) in [(user(), Unsafe::Mount), (user(), Unsafe::Shared), (careful, Unsafe::No)] {
            for capabilities in [None, Some(0x3)] {
                let Transformed { credentials: new, .. } = run(&old, S_ISUID, capabilities, hindrance);
                assert_eq!((new.euid, new.suid, new.fsuid, new.effective), (1000, 1000, 1000, 0));
                assert_eq!(new.permitted, 0);
            }
        }
    }

    #[test]
    fn who_may_set_users_keeps_the_user_of_a_shared_program_but_no_new_capabilities() {
        let old = Credentials { permitted: SETUID, effective: SETUID, ..user() };
        let new = run(&old, S_ISUID, None, Unsafe::Shared).credentials;
        assert_eq!((new.euid, new.permitted), (0, SETUID));
    }

    #[test]
    fn what_a_process_has_is_not_lost_under_no_new_privs() {
        let old = Credentials { no_new_privs: true, permitted: 0x3, effective: 0x3, ..user() };
        let new = run(&old, 0, Some(0x6), Unsafe::No).credentials;
        assert_eq!((new.permitted, new.effective), (0x2, 0x2));
    }

    #[test]
    fn file_capabilities_are_given_whole_or_not_at_all() {
        let Transformed { credentials: new, secure } = run(&user(), 0, Some(0x3), Unsafe::No);
        assert_eq!((new.permitted, new.effective, secure), (0x3, 0x3, true));
        let too_much = FileCapabilities { permitted: 0x1003, inheritable: 0, effective: true };
        let run = |file: FileCapabilities| transform(&user(), &Stat::default(), Some(file), Unsafe::No);
        assert_eq!(run(too_much), Err(Errno::EPERM));
        let aware = FileCapabilities { effective: false, ..too_much };
        let new = run(aware).map(|done| (done.credentials.permitted, done.credentials.effective));
        assert_eq!(new, Ok((0x3, 0)));
    }

    #[test]
    fn root_keeps_all_and_is_not_secure() {
        let root = Credentials { bounding: 0xf, permitted: 0xf, effective: 0xf, ..Credentials::default() };
        let Transformed { credentials: new, secure } = run(&root, 0, None, Unsafe::No);
        assert_eq!((new.permitted, new.effective, secure), (0xf, 0xf, false));
    }

    #[test]
    fn a_user_who_acts_as_another_is_secure() {
        let acting = Credentials { euid: 1001, ..user() };
        assert!(run(&acting, 0, None, Unsafe::No).secure);
    }

    #[test]
    fn ambient_capabilities_survive_for_plain_files_alone() {
        let ambient = Credentials { ambient: 0x4, permitted: 0x4, inheritable: 0x4, ..user() };
        let Transformed { credentials: new, secure } = run(&ambient, 0, None, Unsafe::No);
        assert_eq!((new.permitted, new.effective, secure), (0x4, 0x4, false));
        assert_eq!(run(&ambient, 0, Some(0x1), Unsafe::No).credentials.permitted, 0x1);
    }

    #[test]
    fn file_capabilities_have_three_forms() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let of = |permitted| Ok(Some(FileCapabilities { permitted, inheritable: 0, effective: true }));
        assert_eq!(FileCapabilities::parse(&words(&[0x0100_0001, 5, 0])), of(5));
        assert_eq!(
            FileCapabilities::parse(&words(&[0x0200_0001, 5, 0, 0xffff_ffff, 0])),
            of(5 | 0x1ff << 32)
        );
        assert_eq!(FileCapabilities::parse(&words(&[0x0300_0001, 5, 0, 0, 0, 0])), of(5));
        assert_eq!(FileCapabilities::parse(&words(&[0x0300_0001, 5, 0, 0, 0, 1000])), Ok(None));
        assert_eq!(FileCapabilities::parse(&words(&[0x0300_0001, 5, 0, 0, 0])), Err(Errno::EINVAL));
        assert_eq!(FileCapabilities::parse(b"1"), Err(Errno::EINVAL));
    }
}
