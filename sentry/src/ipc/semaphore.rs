//! System V semaphores (`semop(2)`): sets whose values change all at once or not at all.
//!
//! Key types: [`Semaphores`] (all sets), [`SemaphoreSet`], [`Attempt`]. LINUX: `ipc/sem.c`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux_abi::ipc::{IPC_NOWAIT, IpcPerm, SEM_UNDO, SemBuf, SemidDs};

use super::now_seconds;
use super::table::{Caller, INDEX_MAX, Permissions, Table};
use crate::Errno;
use crate::account::{self, Charge, Counted, Kind};
use crate::sync::{Events, WaitQueue};

/// Most sets of a container. LINUX: `SEMMNI`, ENOSPC above.
pub const SEMMNI: usize = 32000;
/// Most semaphores in a set. LINUX: EINVAL above.
pub const SEMMSL: usize = 32000;
/// Most semaphores in all sets; ENOSPC above.
pub const SEMMNS: usize = 1 << 20;
/// Most operations of one call. LINUX: E2BIG above.
pub const SEMOPM: usize = 500;
/// Largest value. LINUX: ERANGE above.
pub const SEMVMX: i32 = 32767;

/// What is kept to undo the operations of one process on one semaphore.
const UNDO_BYTES: usize = 64;

/// Whose operations are to be undone: a process, by a number that is never used twice.
pub type UndoOwner = u64;

/// All sets.
pub struct Semaphores {
    table: Mutex<Table<SemaphoreSet>>,
}

/// A set of semaphores.
pub struct SemaphoreSet {
    /// Number of semaphores.
    pub len: usize,
    state: Mutex<State>,
    /// Woken when a value changes, or the set goes.
    pub changed: WaitQueue,
    _charge: (Counted, Charge),
}

#[derive(Debug, Clone, Copy, Default)]
struct Semaphore {
    value: i32,
    pid: i32,
    /// Tasks that wait for it to increase, and for zero.
    waiting: [u32; 2],
}

struct State {
    permissions: Permissions,
    semaphores: Vec<Semaphore>,
    undo: HashMap<UndoOwner, HashMap<u16, i32>>,
    /// For `undo`.
    charge: Charge,
    otime: i64,
    ctime: i64,
    removed: bool,
}

/// What came of trying the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Done.
    Done,
    /// They must wait for this semaphore, to increase or (`true`) to become zero.
    MustWait(u16, bool),
}

impl SemaphoreSet {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries all operations at once.
    ///
    /// # Errors
    /// EIDRM, EFBIG, EACCES, ERANGE; EAGAIN if one would wait and must not.
    pub fn attempt(
        &self,
        caller: &Caller<'_>,
        owner: UndoOwner,
        operations: &[SemBuf],
    ) -> Result<Attempt, Errno> {
        let mut state = self.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        if operations.iter().any(|operation| usize::from(operation.num) >= self.len) {
            return Err(Errno::EFBIG);
        }
        let alters = operations.iter().any(|operation| operation.op != 0);
        state.permissions.check(caller, if alters { 0o2 } else { 0o4 })?;
        let mut values: HashMap<u16, i32> = HashMap::new();
        let mut undo: HashMap<u16, i32> = HashMap::new();
        for operation in operations {
            let old = state.semaphores.get(usize::from(operation.num)).map_or(0, |one| one.value);
            let value = values.entry(operation.num).or_insert(old);
            let next = *value + i32::from(operation.op);
            if (operation.op == 0 && *value != 0) || next < 0 {
                let nowait = operation.flags & i16::try_from(IPC_NOWAIT).unwrap_or(0) != 0;
                let wait = Attempt::MustWait(operation.num, operation.op == 0);
                return if nowait { Err(Errno::EAGAIN) } else { Ok(wait) };
            }
            if next > SEMVMX {
                return Err(Errno::ERANGE);
            }
            if operation.flags & SEM_UNDO != 0 {
                let kept = state.undo.get(&owner).and_then(|of| of.get(&operation.num)).copied();
                let adjustment = undo.entry(operation.num).or_insert(kept.unwrap_or(0));
                *adjustment -= i32::from(operation.op);
                if !(-SEMVMX - 1..=SEMVMX).contains(adjustment) {
                    return Err(Errno::ERANGE);
                }
            }
            *value = next;
        }
        if !undo.is_empty() {
            let entries: usize = state.undo.values().map(HashMap::len).sum();
            // LINUX: ENOMEM from `find_alloc_undo`.
            state.charge.resize((entries + undo.len()) * UNDO_BYTES)?;
            state.undo.entry(owner).or_default().extend(undo);
        }
        for (num, value) in values {
            if let Some(semaphore) = state.semaphores.get_mut(usize::from(num)) {
                (semaphore.value, semaphore.pid) = (value, caller.pid);
            }
        }
        state.otime = now_seconds();
        drop(state);
        if alters {
            self.changed.wake(Events::READABLE);
        }
        Ok(Attempt::Done)
    }

    /// A task begins (`by` 1) or ends (`by` -1) waiting for a semaphore.
    pub fn count_waiter(&self, num: u16, for_zero: bool, by: i32) {
        if let Some(semaphore) = self.lock().semaphores.get_mut(usize::from(num)) {
            let count = &mut semaphore.waiting[usize::from(for_zero)];
            *count = count.saturating_add_signed(by);
        }
    }

    /// May `caller` do that?
    ///
    /// # Errors
    /// EACCES; EIDRM.
    pub fn check(&self, caller: &Caller<'_>, wanted: u32) -> Result<(), Errno> {
        let state = self.lock();
        if state.removed {
            return Err(Errno::EIDRM);
        }
        state.permissions.check(caller, wanted)
    }

    /// `IPC_STAT`.
    #[must_use]
    pub fn stat(&self) -> SemidDs {
        let state = self.lock();
        SemidDs {
            perm: state.permissions.0,
            otime: state.otime,
            ctime: state.ctime,
            nsems: self.len as u64,
            ..SemidDs::default()
        }
    }

    /// `IPC_SET`.
    ///
    /// # Errors
    /// EPERM.
    pub fn set(&self, caller: &Caller<'_>, new: &IpcPerm) -> Result<(), Errno> {
        let mut state = self.lock();
        state.permissions.check_owner(caller)?;
        state.permissions.update(new);
        state.ctime = now_seconds();
        Ok(())
    }

    /// `GETVAL`, `GETPID`, `GETNCNT`, `GETZCNT` of one semaphore, in that order.
    ///
    /// # Errors
    /// EINVAL.
    pub fn look(&self, num: i32) -> Result<[i32; 4], Errno> {
        let state = self.lock();
        let index = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
        let one = state.semaphores.get(index).ok_or(Errno::EINVAL)?;
        let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        Ok([one.value, one.pid, count(one.waiting[0]), count(one.waiting[1])])
    }

    /// `GETALL`.
    #[must_use]
    pub fn values(&self) -> Vec<u16> {
        self.lock().semaphores.iter().map(|one| u16::try_from(one.value).unwrap_or(0)).collect()
    }

    /// `SETVAL`.
    ///
    /// # Errors
    /// ERANGE, EINVAL.
    pub fn set_value(&self, caller: &Caller<'_>, num: i32, value: i32) -> Result<(), Errno> {
        if !(0..=SEMVMX).contains(&value) {
            return Err(Errno::ERANGE);
        }
        let index = u16::try_from(num).map_err(|_| Errno::EINVAL)?;
        let mut state = self.lock();
        let one = state.semaphores.get_mut(usize::from(index)).ok_or(Errno::EINVAL)?;
        (one.value, one.pid) = (value, caller.pid);
        for undo in state.undo.values_mut() {
            undo.remove(&index);
        }
        state.ctime = now_seconds();
        drop(state);
        self.changed.wake(Events::READABLE);
        Ok(())
    }

    /// `SETALL`; `values` has one for each.
    ///
    /// # Errors
    /// ERANGE.
    pub fn set_values(&self, caller: &Caller<'_>, values: &[u16]) -> Result<(), Errno> {
        if values.iter().any(|&value| i32::from(value) > SEMVMX) {
            return Err(Errno::ERANGE);
        }
        let mut state = self.lock();
        for (one, &value) in state.semaphores.iter_mut().zip(values) {
            (one.value, one.pid) = (i32::from(value), caller.pid);
        }
        state.undo.clear();
        state.ctime = now_seconds();
        drop(state);
        self.changed.wake(Events::READABLE);
        Ok(())
    }

    /// The process has ended: what it did with `SEM_UNDO` is undone, as far as values go.
    fn undo(&self, owner: UndoOwner, pid: i32) {
        let mut state = self.lock();
        let Some(adjustments) = state.undo.remove(&owner) else { return };
        for (num, adjustment) in adjustments {
            if let Some(one) = state.semaphores.get_mut(usize::from(num)) {
                (one.value, one.pid) = ((one.value + adjustment).clamp(0, SEMVMX), pid);
            }
        }
        state.otime = now_seconds();
        drop(state);
        self.changed.wake(Events::READABLE);
    }
}

impl Default for Semaphores {
    fn default() -> Self {
        Self { table: Mutex::new(Table::new(INDEX_MAX)) }
    }
}

impl Semaphores {
    /// The table, for those who list it.
    pub fn lock(&self) -> MutexGuard<'_, Table<SemaphoreSet>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Semaphores in all sets.
    #[must_use]
    pub fn total(&self) -> usize {
        self.lock().iter().map(|(_, set)| set.len).sum()
    }

    /// `semget(2)`.
    ///
    /// # Errors
    /// As `semget(2)`.
    pub fn get(&self, caller: &Caller<'_>, key: i32, count: i32, flags: u32) -> Result<i32, Errno> {
        let len = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        if len > SEMMSL {
            return Err(Errno::EINVAL);
        }
        let mut table = self.lock();
        let total: usize = table.iter().map(|(_, set)| set.len).sum();
        let check = |set: &SemaphoreSet| {
            if len > set.len {
                return Err(Errno::EINVAL);
            }
            set.check(caller, flags)
        };
        table.obtain(key, flags, check, |id| {
            if len == 0 {
                return Err(Errno::EINVAL);
            }
            if total + len > SEMMNS {
                return Err(Errno::ENOSPC);
            }
            let state = State {
                permissions: Permissions::new(key, id, flags, caller),
                semaphores: vec![Semaphore::default(); len],
                undo: HashMap::new(),
                charge: Charge::default(),
                otime: 0,
                ctime: now_seconds(),
                removed: false,
            };
            let counted = account::take_one(Kind::SemaphoreSet, SEMMNI).ok_or(Errno::ENOSPC)?;
            let bytes = len * size_of::<Semaphore>();
            let charge = (counted, account::charge_for::<SemaphoreSet>(bytes)?);
            Ok(SemaphoreSet { _charge: charge, len, state: Mutex::new(state), changed: WaitQueue::new() })
        })
    }

    /// By id.
    ///
    /// # Errors
    /// EINVAL, EIDRM.
    pub fn find(&self, id: i32) -> Result<Arc<SemaphoreSet>, Errno> {
        self.lock().get(id)
    }

    /// `IPC_RMID`: those who wait get EIDRM.
    ///
    /// # Errors
    /// EINVAL, EIDRM, EPERM.
    pub fn remove(&self, caller: &Caller<'_>, id: i32) -> Result<(), Errno> {
        let mut table = self.lock();
        let set = table.get(id)?;
        {
            let mut state = set.lock();
            state.permissions.check_owner(caller)?;
            state.removed = true;
        }
        table.remove(id);
        drop(table);
        set.changed.wake(Events::READABLE | Events::HUP);
        Ok(())
    }

    /// A process has ended: what it did with `SEM_UNDO` is undone.
    pub fn process_exited(&self, owner: UndoOwner, pid: i32) {
        let sets: Vec<Arc<SemaphoreSet>> = self.lock().iter().map(|(_, set)| Arc::clone(set)).collect();
        for set in sets {
            set.undo(owner, pid);
        }
    }
}
