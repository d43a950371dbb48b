//! `getrandom`.

use linux_abi::misc::{GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM};
use linux_abi::{Errno, UserPtr};
use platform::host::file;
use sentry::io::Sink;
use sentry::task::Current;

/// Bytes made at a time; a signal may end a longer request in between. LINUX: it looks after each page.
const STEP: usize = 64 << 10;

/// `getrandom(2)`: <https://man7.org/linux/man-pages/man2/getrandom.2.html>
pub(crate) fn getrandom(
    current: &mut Current,
    buf: UserPtr<u8>,
    count: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let both = GRND_RANDOM | GRND_INSECURE;
    if flags & !(GRND_NONBLOCK | both) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let task = current.task().clone();
    let mut sink = current.user_writer(buf, count.min(i32::MAX as usize))?;
    let mut bytes = vec![0; STEP.min(count)];
    let mut done = 0;
    while sink.remaining() > 0 && !(done > 0 && task.is_interrupted()) {
        let n = sink.remaining().min(STEP);
        file::random(&mut bytes[..n]);
        match sink.write(&bytes[..n]) {
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
            Ok(written) => done += written,
        }
    }
    Ok(done)
}
