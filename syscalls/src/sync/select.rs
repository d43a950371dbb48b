//! `select`, `pselect6`.

use linux_abi::poll::SigsetArgument;
use linux_abi::{Errno, UserPtr};
use sentry::sync::Events;
use sentry::task::Current;
use sentry::vfs::Fd;

use super::mask::with_mask;
use super::poll::{Polled, wait_for_any};
use super::timeout::{Deadline, TimeWords, Unit};

/// Bits in a word of an `fd_set`.
const WORD: usize = 64;
/// LINUX: `NR_OPEN_DEFAULT`, and the size of the first larger table.
const TABLE_SIZES: (usize, usize) = (64, 256);

/// LINUX: `POLLIN_SET`, `POLLOUT_SET`, `POLLEX_SET` in fs/select.c.
const CLASSES: [Events; 3] = [
    Events::READABLE.union(Events::RDBAND).union(Events::ALWAYS),
    Events::WRITABLE.union(Events::WRBAND).union(Events::ERR),
    Events::PRI,
];

/// An `fd_set` in guest memory, of as many words as needed.
type UserSet = UserPtr<u64>;

/// `select(2)`: <https://man7.org/linux/man-pages/man2/select.2.html>
pub(crate) fn select(
    current: &mut Current,
    nfds: i32,
    read: UserSet,
    write: UserSet,
    except: UserSet,
    timeout: TimeWords,
) -> Result<usize, Errno> {
    let deadline = Deadline::read(current, timeout, Unit::Micro)?;
    let result = select_until(current, nfds, [read, write, except], deadline);
    deadline.write_rest(current, timeout, Unit::Micro);
    result
}

/// `pselect6(2)`: <https://man7.org/linux/man-pages/man2/select.2.html>
pub(crate) fn pselect6(
    current: &mut Current,
    nfds: i32,
    read: UserSet,
    write: UserSet,
    except: UserSet,
    timeout: TimeWords,
    mask: UserPtr<SigsetArgument>,
) -> Result<usize, Errno> {
    let mask = match mask.non_null() {
        None => SigsetArgument::default(),
        Some(mask) => current.read_object(mask)?,
    };
    let deadline = Deadline::read(current, timeout, Unit::Nano)?;
    let result = with_mask(current, UserPtr::new(mask.address), mask.size, |current| {
        select_until(current, nfds, [read, write, except], deadline)
    });
    deadline.write_rest(current, timeout, Unit::Nano);
    result
}

fn select_until(
    current: &mut Current,
    nfds: i32,
    sets: [UserSet; 3],
    deadline: Deadline,
) -> Result<usize, Errno> {
    let nfds = usize::try_from(nfds).map_err(|_| Errno::EINVAL)?.min(table_size(current));
    let words = nfds.div_ceil(WORD);
    let mut wanted = [vec![0u64; words], vec![0; words], vec![0; words]];
    for (set, bits) in sets.iter().zip(&mut wanted) {
        if !set.is_null() {
            *bits = current.read_objects(*set, words)?;
        }
    }
    let files = current.files();
    let mut numbers = Vec::new();
    let mut polled = Vec::new();
    for fd in 0..nfds {
        let interest = wanted
            .iter()
            .zip(CLASSES)
            .filter(|(bits, _)| bits[fd / WORD] >> (fd % WORD) & 1 == 1)
            .fold(Events::empty(), |all, (_, class)| all | class);
        if !interest.is_empty() {
            let file = files.get(Fd(i32::try_from(fd).map_err(|_| Errno::EINVAL)?))?;
            numbers.push(fd);
            polled.push(Polled { file: Some(file), interest, ready: Events::empty() });
        }
    }
    wait_for_any(current, &mut polled, deadline)?;
    let mut count = 0;
    for ((set, bits), class) in sets.iter().zip(&wanted).zip(CLASSES) {
        let mut answer = vec![0u64; words];
        for (&fd, polled) in numbers.iter().zip(&polled) {
            let bit = bits[fd / WORD] & (1 << (fd % WORD));
            if bit != 0 && polled.ready.intersects(class) {
                answer[fd / WORD] |= bit;
                count += 1;
            }
        }
        if !set.is_null() {
            current.write_user(set.addr(), zerocopy::IntoBytes::as_bytes(&answer[..]))?;
        }
    }
    Ok(count)
}

/// How many numbers the descriptor table has room for: bits beyond are not looked at.
fn table_size(current: &Current) -> usize {
    let highest = current.files().numbers().last().map_or(0, |fd| fd.0);
    let used = usize::try_from(highest).unwrap_or(0) + 1;
    if used <= TABLE_SIZES.0 { TABLE_SIZES.0 } else { used.next_power_of_two().max(TABLE_SIZES.1) }
}
