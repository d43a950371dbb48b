//! `execve`, `execveat`.

use linux_abi::{Errno, UserCStr, UserPtr};
use sentry::mm::loader::{ProgramInput, Reach};
use sentry::task::{Current, ExecInput, Outcome};
use sentry::vfs::{Caller, Fd, Lookup};

const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;
/// Longest argument with its zero byte. LINUX: `MAX_ARG_STRLEN`, E2BIG above.
const ARG_LEN_MAX: usize = 128 << 10;
/// Most bytes of all arguments with their pointers. LINUX: three quarters of `_STK_LIM`, E2BIG above.
const ARGS_MAX: usize = 6 << 20;
/// Pointers read at a time.
const BATCH: usize = 64;

/// `execve(2)`: <https://man7.org/linux/man-pages/man2/execve.2.html>
pub(crate) fn execve(
    current: &mut Current,
    path: UserCStr,
    argv: UserPtr<UserCStr>,
    envp: UserPtr<UserCStr>,
) -> Outcome {
    outcome(exec(current, Fd(AT_FDCWD), path, argv, envp, 0))
}

/// `execveat(2)`: <https://man7.org/linux/man-pages/man2/execveat.2.html>
pub(crate) fn execveat(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    argv: UserPtr<UserCStr>,
    envp: UserPtr<UserCStr>,
    flags: u32,
) -> Outcome {
    outcome(exec(current, dir, path, argv, envp, flags))
}

fn outcome(result: Result<(), Errno>) -> Outcome {
    match result {
        Ok(()) => Outcome::KeepRegs,
        Err(errno) => Outcome::Error(errno),
    }
}

fn exec(
    current: &mut Current,
    dir: Fd,
    path: UserCStr,
    argv: UserPtr<UserCStr>,
    envp: UserPtr<UserCStr>,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = current.read_path(path)?;
    let mut lookup = if flags & AT_SYMLINK_NOFOLLOW == 0 { Lookup::FOLLOW } else { Lookup::default() };
    lookup.set(Lookup::EMPTY, flags & AT_EMPTY_PATH != 0);
    let start = match dir.0 {
        AT_FDCWD => current.fs().cwd(),
        _ if path.first() == Some(&b'/') => current.fs().root(),
        _ => current.files().get_any(dir)?.location.clone(),
    };
    let file = Caller::of(current.task()).open_exec(&start, &path, lookup)?;
    let mut room = ARGS_MAX;
    let argv = read_strings(current, argv, &mut room)?;
    let envp = read_strings(current, envp, &mut room)?;
    // LINUX: alloc_bprm.
    let is_by_descriptor = dir.0 != AT_FDCWD && path.first() != Some(&b'/');
    let is_lost = is_by_descriptor && current.files().descriptor(dir)?.close_on_exec;
    let reach = if is_lost { Reach::Lost } else { Reach::Kept };
    let path = match dir.0 {
        AT_FDCWD => path,
        _ if path.first() == Some(&b'/') => path,
        fd if path.is_empty() => format!("/dev/fd/{fd}").into_bytes(),
        fd => [format!("/dev/fd/{fd}/").as_bytes(), &path].concat(),
    };
    current.exec(ExecInput { file, program: ProgramInput { path, reach, argv, envp } })
}

/// Reads an array of strings that ends with a null pointer; the null pointer itself is an empty array.
fn read_strings(
    current: &Current,
    array: UserPtr<UserCStr>,
    room: &mut usize,
) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if array.is_null() {
        return Ok(strings);
    }
    let mut addr = array.addr();
    loop {
        // No further than the end of the page: the next one may not be there.
        let left = usize::try_from(4096 - addr % 4096).map_or(8, |left| (left / 8).max(1));
        let mut words = vec![0; left.min(BATCH) * 8];
        let got = current.read_user_some(addr, &mut words);
        if got < 8 {
            return Err(Errno::EFAULT);
        }
        for word in words[..got].chunks_exact(8) {
            let pointer = u64::from_ne_bytes(word.try_into().map_err(|_| Errno::EFAULT)?);
            if pointer == 0 {
                return Ok(strings);
            }
            let text = current.read_cstr(UserPtr::new(pointer), ARG_LEN_MAX, Errno::E2BIG)?;
            *room = room.checked_sub(text.len() + 9).ok_or(Errno::E2BIG)?;
            strings.push(text);
        }
        addr = addr.wrapping_add((got / 8 * 8) as u64);
    }
}
