//! Which object has this key or this id, and who may use it?
//!
//! Key types: [`Table`], [`Permissions`], [`Caller`]. LINUX: `ipc/util.c`.

use std::collections::HashMap;
use std::sync::Arc;

use linux_abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IpcPerm};

use crate::Errno;
use crate::task::{Capability, Credentials};

/// An id is a sequence number above so many bits of index. LINUX: `IPCMNI_SHIFT`.
const INDEX_BITS: u32 = 15;
/// Most objects of one kind in the sandbox: as many as there are indices.
pub(super) const INDEX_MAX: usize = 1 << INDEX_BITS;
/// Sequence numbers wrap before ids turn negative.
const SEQUENCES: u32 = 1 << (31 - INDEX_BITS);

/// Who asks.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// As whom.
    pub credentials: &'a Credentials,
    /// Process id as the objects note it.
    pub pid: i32,
}

/// Owner, creator and mode of an object.
#[derive(Debug, Clone, Copy, Default)]
pub struct Permissions(pub IpcPerm);

impl Permissions {
    /// Of a new object.
    #[must_use]
    pub fn new(key: i32, id: i32, flags: u32, caller: &Caller<'_>) -> Self {
        let (uid, gid) = (caller.credentials.euid, caller.credentials.egid);
        Self(IpcPerm {
            key,
            uid,
            gid,
            cuid: uid,
            cgid: gid,
            mode: flags & 0o777,
            seq: u16::try_from(id >> INDEX_BITS).unwrap_or(0),
            ..IpcPerm::default()
        })
    }

    /// LINUX: `ipcperms`. `wanted`: mode bits, in any of the three places.
    ///
    /// # Errors
    /// EACCES.
    pub fn check(&self, caller: &Caller<'_>, wanted: u32) -> Result<(), Errno> {
        let who = caller.credentials;
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if who.euid == self.0.cuid || who.euid == self.0.uid {
            self.0.mode >> 6
        } else if who.in_group(self.0.cgid) || who.in_group(self.0.gid) {
            self.0.mode >> 3
        } else {
            self.0.mode
        };
        if wanted & !granted & 0o7 != 0 && !who.has(Capability::IpcOwner) {
            Err(Errno::EACCES)
        } else {
            Ok(())
        }
    }

    /// May it be removed or given away? LINUX: `ipcctl_obtain_check`.
    ///
    /// # Errors
    /// EPERM.
    pub fn check_owner(&self, caller: &Caller<'_>) -> Result<(), Errno> {
        let who = caller.credentials;
        let owns = who.euid == self.0.cuid || who.euid == self.0.uid || who.has(Capability::SysAdmin);
        if owns { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `IPC_SET`. LINUX: `ipc_update_perm`.
    pub fn update(&mut self, new: &IpcPerm) {
        (self.0.uid, self.0.gid) = (new.uid, new.gid);
        self.0.mode = self.0.mode & !0o777 | new.mode & 0o777;
    }
}

/// Objects of one kind by id and key.
pub struct Table<T> {
    slots: Vec<Option<(i32, Arc<T>)>>,
    by_key: HashMap<i32, i32>,
    sequence: u32,
    limit: usize,
    used: usize,
}

impl<T> Table<T> {
    /// At most `limit` objects.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), by_key: HashMap::new(), sequence: 0, limit, used: 0 }
    }

    /// Number of objects.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Highest index in use; 0 if there is none.
    #[must_use]
    pub fn highest_index(&self) -> usize {
        self.slots.iter().rposition(Option::is_some).unwrap_or(0)
    }

    /// All objects with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Arc<T>)> {
        self.slots.iter().flatten().map(|(id, object)| (*id, object))
    }

    /// By id.
    ///
    /// # Errors
    /// EINVAL; EIDRM if another object has taken its place.
    pub fn get(&self, id: i32) -> Result<Arc<T>, Errno> {
        let index = usize::try_from(id).map_err(|_| Errno::EINVAL)? & ((1 << INDEX_BITS) - 1);
        match self.slots.get(index) {
            Some(Some((there, object))) if *there == id => Ok(Arc::clone(object)),
            Some(Some(_)) => Err(Errno::EIDRM),
            _ => Err(Errno::EINVAL),
        }
    }

    /// By index, with its id.
    ///
    /// # Errors
    /// EINVAL.
    pub fn at_index(&self, index: i32) -> Result<(i32, Arc<T>), Errno> {
        let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
        self.slots.get(index).cloned().flatten().ok_or(Errno::EINVAL)
    }

    /// `shmget` and its kin: the id of the object with that key, or of a new one. LINUX: `ipcget`.
    ///
    /// # Errors
    /// ENOENT, EEXIST, ENOSPC; those of `check` and `make`.
    pub fn obtain(
        &mut self,
        key: i32,
        flags: u32,
        check: impl FnOnce(&T) -> Result<(), Errno>,
        make: impl FnOnce(i32) -> Result<T, Errno>,
    ) -> Result<i32, Errno> {
        if key != IPC_PRIVATE
            && let Some(&id) = self.by_key.get(&key)
        {
            if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(Errno::EEXIST);
            }
            check(&*self.get(id)?)?;
            return Ok(id);
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        if self.used >= self.limit {
            return Err(Errno::ENOSPC);
        }
        let index = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let bits = self.sequence << INDEX_BITS | u32::try_from(index).map_err(|_| Errno::ENOSPC)?;
        let id = i32::try_from(bits).map_err(|_| Errno::ENOSPC)?;
        let object = Arc::new(make(id)?);
        self.sequence = (self.sequence + 1) % SEQUENCES;
        if index == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[index] = Some((id, object));
        self.used += 1;
        if key != IPC_PRIVATE {
            self.by_key.insert(key, id);
        }
        Ok(id)
    }

    /// The key leads to it no longer.
    pub fn forget_key(&mut self, id: i32) {
        self.by_key.retain(|_, there| *there != id);
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: i32) -> Option<Arc<T>> {
        self.get(id).ok()?;
        let index = usize::try_from(id).ok()? & ((1 << INDEX_BITS) - 1);
        let (_, object) = self.slots.get_mut(index)?.take()?;
        self.used -= 1;
        self.forget_key(id);
        Some(object)
    }
}
