//! `rt_sigaction`, `rt_sigprocmask`, `rt_sigpending`, `sigaltstack`, `rt_sigreturn`.

use linux_abi::signal::{SIGSEGV, StackT};
use linux_abi::{Errno, UserPtr};
use sentry::task::signal::{SigAction, SigInfo, SigSet, Signal};
use sentry::task::{Current, Outcome};

use super::check_size;

/// `rt_sigaction(2)`: <https://man7.org/linux/man-pages/man2/rt_sigaction.2.html>
pub(crate) fn rt_sigaction(
    current: &mut Current,
    signal: i32,
    action: UserPtr<SigAction>,
    old: UserPtr<SigAction>,
    size: usize,
) -> Result<(), Errno> {
    check_size(size)?;
    let new = action.non_null().map(|action| current.read_object(action)).transpose()?;
    let signal = Signal::new(signal)?;
    let process = current.process();
    let actions = process.actions();
    let before = match new {
        Some(_) if signal.is_kernel_only() => return Err(Errno::EINVAL),
        Some(new) => {
            let before = actions.set(signal, new);
            // LINUX: do_sigaction: what is ignored now is not delivered later.
            if actions.ignores(signal) {
                process.forget_signal(signal);
            }
            before
        }
        None => actions.get(signal),
    };
    match old.non_null() {
        Some(old) => current.write_object(old, &before),
        None => Ok(()),
    }
}

/// `rt_sigprocmask(2)`: <https://man7.org/linux/man-pages/man2/rt_sigprocmask.2.html>
pub(crate) fn rt_sigprocmask(
    current: &mut Current,
    how: i32,
    set: UserPtr<u64>,
    old: UserPtr<u64>,
    size: usize,
) -> Result<(), Errno> {
    const BLOCK: i32 = 0;
    const UNBLOCK: i32 = 1;
    const SETMASK: i32 = 2;
    check_size(size)?;
    let before = current.task().blocked();
    if let Some(set) = set.non_null() {
        let set = SigSet::blockable(current.read_object(set)?);
        let new = match how {
            BLOCK => before.union(set),
            UNBLOCK => before.difference(set),
            SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        current.set_blocked(new);
    }
    match old.non_null() {
        Some(old) => current.write_object(old, &before.0),
        None => Ok(()),
    }
}

/// `rt_sigpending(2)`: <https://man7.org/linux/man-pages/man2/rt_sigpending.2.html>
pub(crate) fn rt_sigpending(current: &mut Current, set: UserPtr<u8>, size: usize) -> Result<(), Errno> {
    if size > 8 {
        return Err(Errno::EINVAL);
    }
    let pending = current.task().pending_signals().intersection(current.task().blocked());
    current.write_user(set.addr(), &pending.0.to_ne_bytes()[..size])
}

/// `sigaltstack(2)`: <https://man7.org/linux/man-pages/man2/sigaltstack.2.html>
pub(crate) fn sigaltstack(
    current: &mut Current,
    new: UserPtr<StackT>,
    old: UserPtr<StackT>,
) -> Result<(), Errno> {
    let new = new.non_null().map(|new| current.read_object(new)).transpose()?;
    let before = current.alternate_stack();
    if let Some(new) = new {
        current.set_alternate_stack(new)?;
    }
    match old.non_null() {
        Some(old) => current.write_object(old, &before),
        None => Ok(()),
    }
}

/// `rt_sigreturn(2)`: <https://man7.org/linux/man-pages/man2/rt_sigreturn.2.html>
pub(crate) fn rt_sigreturn(current: &mut Current) -> Outcome {
    if current.pop_frame().is_err() {
        current.task().force(SigInfo::kernel(SIGSEGV));
    }
    Outcome::KeepRegs
}
