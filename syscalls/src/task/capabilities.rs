//! `capget`, `capset`.

use linux_abi::{Errno, UserPtr};
use sentry::task::{Capability, Credentials, Current};

use super::task_by_id;

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;
/// Capabilities that exist. LINUX: `CAP_LAST_CAP` is 40.
pub(super) const ALL: u64 = (1 << 41) - 1;

/// Reads the header; answers the process id and how many words each set has. `None`: only the version was asked for.
fn header(
    current: &mut Current,
    header: UserPtr<[u32; 2]>,
    has_data: bool,
) -> Result<Option<(i32, usize)>, Errno> {
    let [version, pid] = current.read_object(header)?;
    let words = match version {
        VERSION_1 => 1,
        VERSION_2 | VERSION_3 => 2,
        _ => {
            current.write_object(header.cast::<u32>(), &VERSION_3)?;
            return if has_data { Err(Errno::EINVAL) } else { Ok(None) };
        }
    };
    Ok(Some((pid.cast_signed(), words)))
}

/// `capget(2)`: <https://man7.org/linux/man-pages/man2/capget.2.html>
pub(crate) fn capget(
    current: &mut Current,
    head: UserPtr<[u32; 2]>,
    data: UserPtr<[u32; 3]>,
) -> Result<(), Errno> {
    let Some((pid, words)) = header(current, head, !data.is_null())? else { return Ok(()) };
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = task_by_id(current, pid)?.credentials();
    let sets = [credentials.effective, credentials.permitted, credentials.inheritable];
    for word in 0..words {
        let part = sets.map(|set| u32::try_from(set >> (32 * word) & 0xffff_ffff).unwrap_or(0));
        current.write_object(data.element(word), &part)?;
    }
    Ok(())
}

/// `capset(2)`: <https://man7.org/linux/man-pages/man2/capset.2.html>
pub(crate) fn capset(
    current: &mut Current,
    head: UserPtr<[u32; 2]>,
    data: UserPtr<[u32; 3]>,
) -> Result<(), Errno> {
    let Some((pid, words)) = header(current, head, true)? else { return Ok(()) };
    if pid != 0 && pid != current.task().tid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0_u64; 3];
    for word in 0..words {
        let part = current.read_object(data.element(word))?;
        for (set, part) in sets.iter_mut().zip(part) {
            *set |= u64::from(part) << (32 * word);
        }
    }
    let old = current.credentials();
    let new = change(&old, sets.map(|set| set & ALL))?;
    current.task().set_credentials(new);
    Ok(())
}

/// LINUX: `cap_capset`. `sets`: effective, permitted, inheritable.
fn change(old: &Credentials, [effective, permitted, inheritable]: [u64; 3]) -> Result<Credentials, Errno> {
    let within = |set: u64, bounds: u64| set & !bounds == 0;
    let may_inherit = old.has(Capability::Setpcap) || within(inheritable, old.inheritable | old.permitted);
    let allowed = may_inherit
        && within(inheritable, old.inheritable | old.bounding)
        && within(permitted, old.permitted)
        && within(effective, permitted);
    if !allowed {
        return Err(Errno::EPERM);
    }
    let ambient = old.ambient & permitted & inheritable;
    Ok(Credentials { effective, permitted, inheritable, ambient, ..old.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_cannot_be_regained() {
        let old = Credentials { effective: 1, permitted: 3, bounding: 0xff, ..Credentials::default() };
        assert_eq!(change(&old, [4, 4, 0]), Err(Errno::EPERM));
        assert_eq!(change(&old, [3, 1, 0]), Err(Errno::EPERM));
        let new = change(&old, [2, 2, 0]).expect("a subset");
        assert_eq!((new.effective, new.permitted), (2, 2));
    }

    #[test]
    fn ambient_capabilities_follow() {
        let old =
            Credentials { permitted: 3, inheritable: 3, ambient: 3, bounding: 3, ..Credentials::default() };
        assert_eq!(change(&old, [0, 1, 3]).map(|new| new.ambient), Ok(1));
    }
}
