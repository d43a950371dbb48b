//! System V shared memory (`shmget(2)`): a memory file per segment, mapped like any other.
//!
//! Key types: [`SharedMemory`] (all segments), [`Segment`]. Each `shmat` gives its mapping an [`Attached`], which the
//! layout copies when it splits a mapping or forks: so its references are the attachments that `shm_nattch` counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linux_abi::ipc::{
    IPC_PRIVATE, IpcPerm, SHM_DEST, SHM_HUGETLB, SHM_LOCKED, SHM_RDONLY, ShmUsage, ShmidDs,
};
use linux_abi::mm::Prot;
use platform::MapSource;
use platform::host::file;

use super::now_seconds;
use super::table::{Caller, INDEX_MAX, Permissions, Table};
use crate::Errno;
use crate::account::{self, Charge, Counted, Kind};
use crate::descriptors::{self, Share, Use};
use crate::mm::{Attachment, SharedSegment, layout};
use crate::vfs::Pages;

/// Most segments of a container. LINUX: `SHMMNI`, ENOSPC above.
pub const SHMMNI: usize = 4096;
/// Largest segment in bytes: an eighth of guest memory; EINVAL above.
pub const SHMMAX: u64 = 1 << 44;
/// Most pages of all segments; ENOSPC above.
pub const SHMALL: u64 = 1 << 33;

/// All segments.
pub struct SharedMemory {
    table: Mutex<Table<Segment>>,
    me: Weak<SharedMemory>,
}

/// A segment.
pub struct Segment {
    id: i32,
    size: u64,
    memory: MapSource,
    state: Mutex<State>,
    _charge: (Counted, Charge, descriptors::Charge),
}

struct State {
    permissions: Permissions,
    atime: i64,
    dtime: i64,
    ctime: i64,
    cpid: i32,
    lpid: i32,
    attached: Vec<Weak<Attached>>,
}

/// One `shmat`, held by its mappings.
struct Attached {
    segment: Arc<Segment>,
    all: Weak<SharedMemory>,
}

impl Attachment for Attached {
    fn id(&self) -> i32 {
        self.segment.id
    }

    fn pages(&self) -> Pages {
        Pages { source: Arc::clone(&self.segment.memory), offset: 0 }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let gone = {
            let mut state = self.segment.lock();
            state.dtime = now_seconds();
            state.attached.retain(|attached| attached.strong_count() > 0);
            state.attached.is_empty() && state.permissions.0.mode & SHM_DEST != 0
        };
        if gone && let Some(all) = self.all.upgrade() {
            all.lock().remove(self.segment.id);
        }
    }
}

impl Segment {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size in bytes, as it was asked for.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// `IPC_STAT`.
    #[must_use]
    pub fn stat(&self) -> ShmidDs {
        let state = self.lock();
        let attached: usize = state.attached.iter().map(Weak::strong_count).sum();
        ShmidDs {
            perm: state.permissions.0,
            segsz: self.size,
            atime: state.atime,
            dtime: state.dtime,
            ctime: state.ctime,
            cpid: state.cpid,
            lpid: state.lpid,
            nattch: attached as u64,
            unused: [0; 2],
        }
    }

    /// May `caller` do that?
    ///
    /// # Errors
    /// EACCES.
    pub fn check(&self, caller: &Caller<'_>, wanted: u32) -> Result<(), Errno> {
        self.lock().permissions.check(caller, wanted)
    }

    /// `shmdt` by `pid`.
    pub fn note_detach(&self, pid: i32) {
        let mut state = self.lock();
        (state.lpid, state.dtime) = (pid, now_seconds());
    }

    /// `SHM_LOCK`, `SHM_UNLOCK`: noted, no more.
    ///
    /// # Errors
    /// EPERM.
    pub fn set_locked(&self, caller: &Caller<'_>, locked: bool) -> Result<(), Errno> {
        let mut state = self.lock();
        state.permissions.check_owner(caller)?;
        let mode = &mut state.permissions.0.mode;
        *mode = if locked { *mode | SHM_LOCKED } else { *mode & !SHM_LOCKED };
        Ok(())
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
}

impl SharedMemory {
    pub(super) fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self { table: Mutex::new(Table::new(INDEX_MAX)), me: me.clone() })
    }

    /// The table, for those who list it.
    pub fn lock(&self) -> MutexGuard<'_, Table<Segment>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `shmget(2)`; `descriptors`: whose descriptor of the host a new segment is.
    ///
    /// # Errors
    /// As `shmget(2)`.
    pub fn get(
        &self,
        caller: &Caller<'_>,
        descriptors: &Arc<Share>,
        key: i32,
        size: u64,
        flags: u32,
    ) -> Result<i32, Errno> {
        let mut table = self.lock();
        let pages = |size: u64| size.div_ceil(layout::PAGE);
        let total: u64 = table.iter().map(|(_, segment)| pages(segment.size)).sum();
        let check = |segment: &Segment| {
            if size > segment.size {
                return Err(Errno::EINVAL);
            }
            segment.check(caller, flags)
        };
        table.obtain(key, flags, check, |id| {
            if size == 0 || size > SHMMAX {
                return Err(Errno::EINVAL);
            }
            if total + pages(size) > SHMALL {
                return Err(Errno::ENOSPC);
            }
            if flags & SHM_HUGETLB != 0 {
                return Err(Errno::ENOMEM);
            }
            let counted = account::take_one(Kind::Segment, SHMMNI).ok_or(Errno::ENOSPC)?;
            let charge = (counted, account::charge_for::<Segment>(0)?, descriptors.take(Use::Object)?);
            let memory = file::new_memory_file("SYSV")?;
            file::truncate(&memory, pages(size) * layout::PAGE)?;
            let state = State {
                permissions: Permissions::new(key, id, flags, caller),
                atime: 0,
                dtime: 0,
                ctime: now_seconds(),
                cpid: caller.pid,
                lpid: 0,
                attached: Vec::new(),
            };
            let (memory, state) = (Arc::new(memory), Mutex::new(state));
            Ok(Segment { id, size, memory, state, _charge: charge })
        })
    }

    /// What `shmat(2)` is to map; `prot` is what the mapping shall allow.
    ///
    /// # Errors
    /// EINVAL, EIDRM, EACCES.
    pub fn attach(
        &self,
        caller: &Caller<'_>,
        id: i32,
        prot: Prot,
        flags: u32,
    ) -> Result<SharedSegment, Errno> {
        let segment = self.lock().get(id)?;
        let mut wanted = 0o4;
        if flags & SHM_RDONLY == 0 {
            wanted |= 0o2;
        }
        if prot.contains(Prot::EXEC) {
            wanted |= 0o1;
        }
        let attached = Arc::new(Attached { segment: Arc::clone(&segment), all: self.me.clone() });
        let mut state = segment.lock();
        state.permissions.check(caller, wanted)?;
        state.attached.push(Arc::downgrade(&attached));
        (state.atime, state.lpid) = (now_seconds(), caller.pid);
        let key = state.permissions.0.key.cast_unsigned();
        drop(state);
        Ok(SharedSegment {
            len: segment.size,
            pages: attached.pages(),
            name: Arc::from(format!("/SYSV{key:08x} (deleted)")),
            writable: flags & SHM_RDONLY == 0,
            attachment: attached,
        })
    }

    /// `IPC_RMID`: gone at once, or with its last attachment.
    ///
    /// # Errors
    /// EINVAL, EIDRM, EPERM.
    pub fn remove(&self, caller: &Caller<'_>, id: i32) -> Result<(), Errno> {
        let mut table = self.lock();
        let segment = table.get(id)?;
        let mut state = segment.lock();
        state.permissions.check_owner(caller)?;
        if state.attached.iter().any(|attached| attached.strong_count() > 0) {
            state.permissions.0.mode |= SHM_DEST;
            state.permissions.0.key = IPC_PRIVATE;
            drop(state);
            table.forget_key(id);
        } else {
            drop(state);
            table.remove(id);
        }
        Ok(())
    }

    /// `SHM_INFO`.
    #[must_use]
    pub fn usage(&self) -> ShmUsage {
        let table = self.lock();
        let (mut total, mut resident) = (0, 0);
        for (_, segment) in table.iter() {
            total += segment.size.div_ceil(layout::PAGE);
            let blocks = file::size_and_blocks(&*segment.memory).map_or(0, |(_, blocks)| blocks);
            resident += blocks * 512 / layout::PAGE;
        }
        let used_ids = i32::try_from(table.used()).unwrap_or(i32::MAX);
        ShmUsage { used_ids, shm_tot: total, shm_rss: resident, ..ShmUsage::default() }
    }
}
