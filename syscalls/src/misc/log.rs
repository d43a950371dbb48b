//! `syslog`: the sandbox's own kernel log.

use linux_abi::{Errno, UserPtr};
use sentry::kernel_log::LOG_SIZE;
use sentry::task::{Capability, Current};

const READ: i32 = 2;
const READ_ALL: i32 = 3;
const READ_CLEAR: i32 = 4;
const CLEAR: i32 = 5;
const CONSOLE_LEVEL: i32 = 8;
const SIZE_UNREAD: i32 = 9;
const SIZE_BUFFER: i32 = 10;

/// `syslog(2)`: <https://man7.org/linux/man-pages/man2/syslog.2.html>
pub(crate) fn syslog(current: &mut Current, action: i32, buf: UserPtr<u8>, len: i32) -> Result<usize, Errno> {
    let is_open = matches!(action, READ_ALL | SIZE_BUFFER);
    if !is_open && !current.credentials().has(Capability::Syslog) {
        return Err(Errno::EPERM);
    }
    let kernel = current.kernel().clone();
    let log = &kernel.machine.log;
    match action {
        READ | READ_ALL | READ_CLEAR => {
            let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
            if buf.is_null() {
                return Err(Errno::EINVAL);
            }
            let len = len.min(2 * LOG_SIZE);
            // An empty log answers 0 instead of waiting: nobody is going to write to it.
            let text =
                if action == READ { log.read_new(len) } else { log.read_all(len, action == READ_CLEAR) };
            current.write_user(buf.addr(), text.as_bytes())?;
            Ok(text.len())
        }
        CLEAR => {
            log.clear();
            Ok(0)
        }
        CONSOLE_LEVEL if !(1..=8).contains(&len) => Err(Errno::EINVAL),
        // Opening, closing, and the console that there is none of.
        0 | 1 | 6 | 7 | CONSOLE_LEVEL => Ok(0),
        SIZE_UNREAD => Ok(log.unread()),
        SIZE_BUFFER => Ok(LOG_SIZE),
        _ => Err(Errno::EINVAL),
    }
}
