//! `uname`, `sethostname`, `setdomainname`.

use linux_abi::misc::UTS_FIELD;
use linux_abi::{Errno, UserPtr};
use sentry::machine::{RELEASE, VERSION};
use sentry::task::{Capability, Current};

/// `PER_LINUX32` of `personality(2)`, and what masks it.
const PER_LINUX32: u32 = 8;
const PER_MASK: u32 = 0xff;
/// `UNAME26`.
const UNAME26: u32 = 0x2_0000;

/// `uname(2)`: <https://man7.org/linux/man-pages/man2/uname.2.html>
pub(crate) fn uname(current: &mut Current, buf: UserPtr<u8>) -> Result<(), Errno> {
    let uts = current.task().uts();
    let (hostname, domainname) = (uts.hostname(), uts.domainname());
    let personality = current.task().scheduling().personality;
    let machine: &[u8] = if personality & PER_MASK == PER_LINUX32 { b"i686" } else { b"x86_64" };
    let release = if personality & UNAME26 == 0 { RELEASE.to_owned() } else { release_26() };
    let fields: [&[u8]; 6] =
        [b"Linux", &hostname, release.as_bytes(), VERSION.as_bytes(), machine, &domainname];
    let mut bytes = [0; UTS_FIELD * 6];
    for (field, text) in bytes.chunks_exact_mut(UTS_FIELD).zip(fields) {
        let n = text.len().min(UTS_FIELD - 1);
        field[..n].copy_from_slice(&text[..n]);
    }
    current.write_user(buf.addr(), &bytes)
}

/// LINUX: `override_release`: 3.1 and what came after it as a 2.6 that goes on.
fn release_26() -> String {
    let minor = RELEASE.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).unwrap_or(0);
    let rest = RELEASE.find(|letter: char| letter != '.' && !letter.is_ascii_digit());
    format!("2.6.{}{}", minor + 60, rest.and_then(|at| RELEASE.get(at..)).unwrap_or_default())
}

/// `sethostname(2)`: <https://man7.org/linux/man-pages/man2/sethostname.2.html>
pub(crate) fn sethostname(current: &mut Current, name: UserPtr<u8>, len: i32) -> Result<(), Errno> {
    let name = read_name(current, name, len)?;
    current.task().uts().set_hostname(&name);
    Ok(())
}

/// `setdomainname(2)`: <https://man7.org/linux/man-pages/man2/setdomainname.2.html>
pub(crate) fn setdomainname(current: &mut Current, name: UserPtr<u8>, len: i32) -> Result<(), Errno> {
    let name = read_name(current, name, len)?;
    current.task().uts().set_domainname(&name);
    Ok(())
}

fn read_name(current: &Current, name: UserPtr<u8>, len: i32) -> Result<Vec<u8>, Errno> {
    if !current.credentials().has(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).ok().filter(|&len| len < UTS_FIELD).ok_or(Errno::EINVAL)?;
    let mut bytes = vec![0; len];
    current.read_user(name.addr(), &mut bytes)?;
    bytes.truncate(bytes.iter().position(|&byte| byte == 0).unwrap_or(len));
    Ok(bytes)
}
