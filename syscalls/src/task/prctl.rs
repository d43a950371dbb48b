//! `prctl`.

use linux_abi::{Errno, UserPtr};
use sentry::task::signal::Signal;
use sentry::task::{Capability, Credentials, Current};

/// `PR_*`.
mod option {
    pub(super) const SET_PDEATHSIG: i32 = 1;
    pub(super) const GET_PDEATHSIG: i32 = 2;
    pub(super) const GET_DUMPABLE: i32 = 3;
    pub(super) const SET_DUMPABLE: i32 = 4;
    pub(super) const GET_KEEPCAPS: i32 = 7;
    pub(super) const SET_KEEPCAPS: i32 = 8;
    pub(super) const GET_TIMING: i32 = 13;
    pub(super) const SET_TIMING: i32 = 14;
    pub(super) const SET_NAME: i32 = 15;
    pub(super) const GET_NAME: i32 = 16;
    pub(super) const GET_SECCOMP: i32 = 21;
    pub(super) const SET_SECCOMP: i32 = 22;
    pub(super) const CAPBSET_READ: i32 = 23;
    pub(super) const CAPBSET_DROP: i32 = 24;
    pub(super) const GET_TSC: i32 = 25;
    pub(super) const SET_TSC: i32 = 26;
    pub(super) const GET_SECUREBITS: i32 = 27;
    pub(super) const SET_SECUREBITS: i32 = 28;
    pub(super) const SET_TIMERSLACK: i32 = 29;
    pub(super) const GET_TIMERSLACK: i32 = 30;
    pub(super) const SET_CHILD_SUBREAPER: i32 = 36;
    pub(super) const GET_CHILD_SUBREAPER: i32 = 37;
    pub(super) const SET_NO_NEW_PRIVS: i32 = 38;
    pub(super) const GET_NO_NEW_PRIVS: i32 = 39;
    pub(super) const GET_TID_ADDRESS: i32 = 40;
    pub(super) const SET_THP_DISABLE: i32 = 41;
    pub(super) const GET_THP_DISABLE: i32 = 42;
    pub(super) const CAP_AMBIENT: i32 = 47;
    pub(super) const SET_PTRACER: i32 = 0x5961_6d61;
}

const KEEP_CAPS: u32 = 1 << 4;
/// Every bit with its lock. LINUX: `SECURE_ALL_BITS`, `SECURE_ALL_LOCKS`.
const SECURE_ALL: u32 = 0xff;
const SECURE_LOCKS: u32 = 0xaa;
const TSC_ENABLE: u32 = 1;

/// `prctl(2)`: <https://man7.org/linux/man-pages/man2/prctl.2.html>
pub(crate) fn prctl(
    current: &mut Current,
    option: i32,
    arg2: u64,
    arg3: u64,
    arg4: u64,
    arg5: u64,
) -> Result<u64, Errno> {
    let rest_is_zero = arg3 == 0 && arg4 == 0 && arg5 == 0;
    match option {
        option::SET_PDEATHSIG | option::GET_PDEATHSIG => death_signal(current, option, arg2),
        option::GET_DUMPABLE => Ok(u64::from(current.process().dumpable().cast_unsigned())),
        option::SET_DUMPABLE => {
            let value = i32::try_from(arg2).ok().filter(|value| (0..=1).contains(value));
            current.process().set_dumpable(value.ok_or(Errno::EINVAL)?);
            Ok(0)
        }
        option::SET_NAME => {
            // LINUX: cut without an error if it is too long.
            let mut name = [0; 16];
            let read = current.read_user_some(arg2, &mut name);
            let end = name[..read].iter().position(|&byte| byte == 0);
            let len = end.or((read >= 15).then_some(15)).ok_or(Errno::EFAULT)?;
            current.task().set_name(&name[..len]);
            Ok(0)
        }
        option::GET_NAME => {
            let name = current.task().name();
            current.write_user(arg2, &name).map(|()| 0)
        }
        option::GET_KEEPCAPS
        | option::SET_KEEPCAPS
        | option::CAPBSET_READ
        | option::CAPBSET_DROP
        | option::GET_SECUREBITS
        | option::SET_SECUREBITS
        | option::CAP_AMBIENT => privileges(current, option, arg2, arg3, arg4 == 0 && arg5 == 0),
        option::SET_CHILD_SUBREAPER => {
            current.process().set_subreaper(arg2 != 0);
            Ok(0)
        }
        option::GET_CHILD_SUBREAPER => {
            let value = u32::from(current.process().is_subreaper());
            current.write_object(UserPtr::new(arg2), &value).map(|()| 0)
        }
        option::SET_NO_NEW_PRIVS if arg2 == 1 && rest_is_zero => {
            let old = current.credentials();
            current.task().set_credentials(Credentials { no_new_privs: true, ..Credentials::clone(&old) });
            Ok(0)
        }
        option::GET_NO_NEW_PRIVS if arg2 == 0 && rest_is_zero => {
            Ok(u64::from(current.credentials().no_new_privs))
        }
        option::SET_PTRACER => set_ptracer(current, arg2),
        _ => figures(current, option, arg2, rest_is_zero),
    }
}

/// LINUX: `yama_task_prctl`. `kernel.yama.ptrace_scope` is 0: whoever is named may look already, as far as ids allow.
fn set_ptracer(current: &Current, pid: u64) -> Result<u64, Errno> {
    /// LINUX: `PR_SET_PTRACER_ANY`.
    const ANY: i32 = -1;
    // LINUX: the kernel looks at an int.
    match u32::try_from(pid & 0xffff_ffff).map_or(0, u32::cast_signed) {
        0 | ANY => Ok(0),
        pid => super::task_by_id(current, pid).map(|_| 0).map_err(|_| Errno::EINVAL),
    }
}

fn death_signal(current: &mut Current, option: i32, arg: u64) -> Result<u64, Errno> {
    if option == option::GET_PDEATHSIG {
        let number = current.task().parent_death_signal().map_or(0, Signal::number);
        return current.write_object(UserPtr::new(arg), &number).map(|()| 0);
    }
    let number = i32::try_from(arg).map_err(|_| Errno::EINVAL)?;
    let signal = if number == 0 { None } else { Some(Signal::new(number)?) };
    current.task().set_parent_death_signal(signal);
    Ok(0)
}

/// Small values that are kept or fixed.
fn figures(current: &mut Current, option: i32, arg: u64, rest_is_zero: bool) -> Result<u64, Errno> {
    match option {
        option::GET_TIMING | option::GET_SECCOMP => Ok(0),
        option::SET_TIMING if arg == 0 => Ok(0),
        option::SET_SECCOMP => Err(Errno::EINVAL),
        option::GET_TSC => current.write_object(UserPtr::new(arg), &TSC_ENABLE).map(|()| 0),
        option::SET_TSC if arg == u64::from(TSC_ENABLE) => Ok(0),
        option::GET_TIMERSLACK => Ok(current.task().timer_slack_ns()),
        option::SET_TIMERSLACK => {
            current.task().change_scheduling(|scheduling| scheduling.timer_slack_ns = arg);
            Ok(0)
        }
        option::GET_TID_ADDRESS => {
            let addr = current.leaving().clear_child_tid;
            current.write_object(UserPtr::new(arg), &addr).map(|()| 0)
        }
        // Huge pages are the host's business; the wish is kept and told.
        option::SET_THP_DISABLE if rest_is_zero => {
            current.process().set_thp_disabled(arg != 0);
            Ok(0)
        }
        option::GET_THP_DISABLE if arg == 0 && rest_is_zero => {
            Ok(u64::from(current.process().is_thp_disabled()))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Capabilities and secure bits.
fn privileges(
    current: &mut Current,
    option: i32,
    arg2: u64,
    arg3: u64,
    rest_is_zero: bool,
) -> Result<u64, Errno> {
    let old = current.credentials();
    let mut new = Credentials::clone(&old);
    let bit = |number: u64| {
        if number <= 40 { Ok(1_u64 << number) } else { Err(Errno::EINVAL) }
    };
    match option {
        option::GET_KEEPCAPS => return Ok(u64::from(old.securebits & KEEP_CAPS != 0)),
        option::SET_KEEPCAPS if arg2 > 1 => return Err(Errno::EINVAL),
        option::SET_KEEPCAPS if old.securebits & (KEEP_CAPS << 1) != 0 => return Err(Errno::EPERM),
        option::SET_KEEPCAPS if arg2 == 1 => new.securebits |= KEEP_CAPS,
        option::SET_KEEPCAPS => new.securebits &= !KEEP_CAPS,
        option::CAPBSET_READ => return Ok(u64::from(old.bounding & bit(arg2)? != 0)),
        option::CAPBSET_DROP => {
            let bit = bit(arg2)?;
            if !old.has(Capability::Setpcap) {
                return Err(Errno::EPERM);
            }
            new.bounding &= !bit;
        }
        option::GET_SECUREBITS => return Ok(u64::from(old.securebits)),
        option::SET_SECUREBITS => {
            let bits = u32::try_from(arg2).map_err(|_| Errno::EPERM)?;
            // A locked bit may not change, a lock may not be taken away.
            let locked = (old.securebits & SECURE_LOCKS) >> 1;
            let changes_locked = locked & (old.securebits ^ bits) != 0;
            let unlocks = old.securebits & SECURE_LOCKS & !bits != 0;
            if changes_locked || unlocks || bits & !SECURE_ALL != 0 || !old.has(Capability::Setpcap) {
                return Err(Errno::EPERM);
            }
            new.securebits = bits;
        }
        _ => return ambient(current, &old, arg2, arg3, rest_is_zero),
    }
    current.task().set_credentials(new);
    Ok(0)
}

fn ambient(
    current: &Current,
    old: &Credentials,
    command: u64,
    number: u64,
    rest_is_zero: bool,
) -> Result<u64, Errno> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    /// LINUX: `SECBIT_NO_CAP_AMBIENT_RAISE`.
    const NO_RAISE: u32 = 1 << 6;
    let mut new = old.clone();
    if !rest_is_zero || (command == CLEAR_ALL && number != 0) || (command != CLEAR_ALL && number > 40) {
        return Err(Errno::EINVAL);
    }
    let bit = 1_u64 << number;
    match command {
        IS_SET => return Ok(u64::from(old.ambient & bit != 0)),
        RAISE if old.permitted & old.inheritable & bit == 0 || old.securebits & NO_RAISE != 0 => {
            return Err(Errno::EPERM);
        }
        RAISE => new.ambient |= bit,
        LOWER => new.ambient &= !bit,
        CLEAR_ALL => new.ambient = 0,
        _ => return Err(Errno::EINVAL),
    }
    current.task().set_credentials(new);
    Ok(0)
}
