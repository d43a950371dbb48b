//! Calls about the machine as a whole.

use linux_abi::{Errno, UserPtr};
use sentry::task::Current;

/// `struct new_utsname`: six fields of 65 bytes.
const UTS_FIELD: usize = 65;

/// `uname(2)`: <https://man7.org/linux/man-pages/man2/uname.2.html>
pub(crate) fn uname(current: &mut Current, buf: UserPtr<u8>) -> Result<(), Errno> {
    let hostname = current.kernel().config.hostname.clone();
    let fields: [&str; 6] = ["Linux", &hostname, "6.6.0-rvisor", "#1 SMP rvisor", "x86_64", "(none)"];
    let mut bytes = [0; UTS_FIELD * 6];
    for (field, text) in bytes.chunks_exact_mut(UTS_FIELD).zip(fields) {
        let n = text.len().min(UTS_FIELD - 1);
        field[..n].copy_from_slice(&text.as_bytes()[..n]);
    }
    current.write_user(buf.addr(), &bytes)
}
