//! `semget`, `semop`, `semtimedop`, `semctl`.

use linux_abi::ipc::{
    GETALL, GETNCNT, GETPID, GETVAL, GETZCNT, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, SEM_INFO, SEM_STAT,
    SEM_STAT_ANY, SETALL, SETVAL, SemBuf, SemInfo, SemidDs,
};
use linux_abi::time::Timespec;
use linux_abi::{Errno, UserPtr};
use platform::host::clock::{Clock, now_ns};
use sentry::ipc::{Attempt, SEMMNI, SEMMNS, SEMMSL, SEMOPM, SEMVMX, SemaphoreSet, undo_owner};
use sentry::sync::Events;
use sentry::task::{Current, WaitEnd};

use super::{Me, index, int, namespace};

/// `semget(2)`: <https://man7.org/linux/man-pages/man2/semget.2.html>
pub(crate) fn semget(current: &mut Current, key: i32, count: i32, flags: u32) -> Result<i32, Errno> {
    namespace(current).semaphores.get(&Me::of(current).caller(), key, count, flags)
}

/// `semop(2)`: <https://man7.org/linux/man-pages/man2/semop.2.html>
pub(crate) fn semop(
    current: &mut Current,
    id: i32,
    operations: UserPtr<SemBuf>,
    count: u32,
) -> Result<(), Errno> {
    semtimedop(current, id, operations, count, UserPtr::new(0))
}

/// `semtimedop(2)`: <https://man7.org/linux/man-pages/man2/semtimedop.2.html>
pub(crate) fn semtimedop(
    current: &mut Current,
    id: i32,
    operations: UserPtr<SemBuf>,
    count: u32,
    timeout: UserPtr<Timespec>,
) -> Result<(), Errno> {
    let count = usize::try_from(count).map_err(|_| Errno::E2BIG)?;
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if count > SEMOPM {
        return Err(Errno::E2BIG);
    }
    let operations = current.read_objects(operations, count)?;
    let deadline = match timeout.non_null() {
        None => None,
        Some(timeout) => {
            let timeout = current.read_object(timeout)?.to_ns()?;
            Some(now_ns(Clock::Monotonic).saturating_add(timeout))
        }
    };
    let set = namespace(current).semaphores.find(id)?;
    let me = Me::of(current);
    let owner = undo_owner(current.process());
    let (num, for_zero) = match set.attempt(&me.caller(), owner, &operations)? {
        Attempt::Done => return Ok(()),
        Attempt::MustWait(num, for_zero) => (num, for_zero),
    };
    set.count_waiter(num, for_zero, 1);
    let end = current.wait(&[(&set.changed, Events::READABLE)], deadline, |_| {
        match set.attempt(&me.caller(), owner, &operations) {
            Ok(Attempt::MustWait(..)) => None,
            Ok(Attempt::Done) => Some(Ok(())),
            Err(errno) => Some(Err(errno)),
        }
    });
    set.count_waiter(num, for_zero, -1);
    match end {
        Ok(result) => result,
        Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN),
        // LINUX: never restarted, signal(7).
        Err(WaitEnd::Interrupted) => Err(Errno::EINTR),
    }
}

/// `semctl(2)`: <https://man7.org/linux/man-pages/man2/semctl.2.html>
pub(crate) fn semctl(current: &mut Current, id: i32, num: i32, command: u32, arg: u64) -> Result<u64, Errno> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let ipc = namespace(current);
    let me = Me::of(current);
    match command {
        IPC_INFO | SEM_INFO => info(current, command, UserPtr::new(arg)),
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            let (result, set) = {
                let table = ipc.semaphores.lock();
                if command == IPC_STAT { (0, table.get(id)?) } else { table.at_index(id)? }
            };
            if command != SEM_STAT_ANY {
                set.check(&me.caller(), 0o4)?;
            }
            current.write_object(UserPtr::<SemidDs>::new(arg), &set.stat())?;
            Ok(u64::from(result.cast_unsigned()))
        }
        IPC_SET => {
            let new = current.read_object(UserPtr::<SemidDs>::new(arg))?;
            ipc.semaphores.find(id)?.set(&me.caller(), &new.perm).map(|()| 0)
        }
        IPC_RMID => ipc.semaphores.remove(&me.caller(), id).map(|()| 0),
        _ => {
            let set = ipc.semaphores.find(id)?;
            values(current, &set, &me, num, command, arg)
        }
    }
}

/// The commands that look at values or set them.
fn values(
    current: &mut Current,
    set: &SemaphoreSet,
    me: &Me,
    num: i32,
    command: u32,
    arg: u64,
) -> Result<u64, Errno> {
    let caller = me.caller();
    let result = |n: i32| u64::from(n.cast_unsigned());
    match command {
        GETVAL | GETPID | GETNCNT | GETZCNT => {
            set.check(&caller, 0o4)?;
            let [value, pid, increase, zero] = set.look(num)?;
            Ok(result(match command {
                GETVAL => value,
                GETPID => pid,
                GETNCNT => increase,
                _ => zero,
            }))
        }
        GETALL => {
            set.check(&caller, 0o4)?;
            let bytes: Vec<u8> = set.values().iter().flat_map(|value| value.to_le_bytes()).collect();
            current.write_user(arg, &bytes).map(|()| 0)
        }
        SETALL => {
            set.check(&caller, 0o2)?;
            let values = current.read_objects(UserPtr::<u16>::new(arg), set.len)?;
            set.set_values(&caller, &values).map(|()| 0)
        }
        SETVAL => {
            // The value is an `int` in the union's low half.
            let value = i32::try_from(arg & 0xffff_ffff).map_err(|_| Errno::ERANGE)?;
            if !(0..=SEMVMX).contains(&value) {
                return Err(Errno::ERANGE);
            }
            set.check(&caller, 0o2)?;
            set.set_value(&caller, num, value).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn info(current: &mut Current, command: u32, buf: UserPtr<SemInfo>) -> Result<u64, Errno> {
    let ipc = namespace(current);
    let mut info = SemInfo {
        semmap: int(SEMMNS),
        semmni: int(SEMMNI),
        semmns: int(SEMMNS),
        semmnu: int(SEMMNS),
        semmsl: int(SEMMSL),
        semopm: int(SEMOPM),
        semume: int(SEMOPM),
        semusz: 20,
        semvmx: SEMVMX,
        semaem: SEMVMX,
    };
    if command == SEM_INFO {
        info.semusz = int(ipc.semaphores.lock().used());
        info.semaem = int(ipc.semaphores.total());
    }
    current.write_object(buf, &info)?;
    index(ipc.semaphores.lock().highest_index())
}
