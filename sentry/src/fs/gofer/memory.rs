//! A volume that is a tmpfs of the host (`emptyDir` in memory, `/dev/shm` of a pod): what a container writes there is memory, and the host charges
//! it to whoever wrote, which is the sentry. So it is in the account of the container.
//!
//! Key type: [`HostMemory`]. Counted is what files grow by when they are written here; that the space of a file was given back, the host tells
//! only for the whole volume: it is asked when files have been removed and before anything is refused. What guests fill through a mapping is in
//! their own cgroup, and not in here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gofer_protocol::{Client, Node, StatFs};
use platform::host::file;

use super::{Donated, GoferInode};
use crate::Errno;
use crate::account::{self, Charge};
use crate::fs::tmpfs;

const PAGE: u64 = 4096;

/// What a container has in a volume.
pub(super) struct HostMemory {
    root: Node,
    /// LOCK: leaf.
    charge: Mutex<Charge>,
    /// Files have been removed since the host was asked.
    is_stale: AtomicBool,
}

fn used(stat: &StatFs) -> u64 {
    stat.blocks.saturating_sub(stat.bfree).saturating_mul(stat.bsize)
}

impl HostMemory {
    /// `None` if the volume below `root` is not in memory.
    pub(super) fn of(client: &Client, root: Node) -> Option<Self> {
        let stat = client.stat_fs(root).ok()?;
        let is_one = stat.kind == tmpfs::MAGIC;
        is_one.then(|| Self { root, charge: Mutex::default(), is_stale: AtomicBool::new(false) })
    }

    fn charge(&self) -> MutexGuard<'_, Charge> {
        self.charge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name in it has gone.
    pub(super) fn name_gone(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// There is no more of the container's in it than there is.
    fn refresh(&self, client: &Client) {
        self.is_stale.store(false, Ordering::Relaxed);
        client.flush_closes();
        if let Ok(stat) = client.stat_fs(self.root) {
            let mut charge = self.charge();
            let there = charge.bytes().min(used(&stat));
            charge.set(usize::try_from(there).unwrap_or(usize::MAX));
        }
    }

    /// Bytes that the container may add, at best `wanted`.
    fn free(&self, client: &Client, wanted: u64) -> u64 {
        let free = || account::current().map_or(u64::MAX, |account| account.free());
        if free() < wanted || self.is_stale.load(Ordering::Relaxed) {
            self.refresh(client);
        }
        free().min(wanted)
    }

    /// A file has `after` blocks, and had `before`.
    fn changed(&self, before: u64, after: u64) {
        let mut charge = self.charge();
        let bytes = charge.bytes().saturating_add(after.saturating_mul(512));
        let bytes = bytes.saturating_sub(before.saturating_mul(512));
        charge.set(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
}

impl GoferInode {
    /// Does what changes the file's size or pages, of which at most `wanted` bytes may be new from `offset` on, or from the end on; `work` gets
    /// the number of bytes that it may add. LOCK: where that is counted, one at a time.
    ///
    /// # Errors
    /// ENOSPC if the volume is in memory and the container has none left; those of `work`.
    pub(super) fn counting<T>(
        &self,
        file: &Donated,
        offset: Option<u64>,
        wanted: u64,
        work: impl FnOnce(u64) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Some(memory) = self.memory() else { return work(u64::MAX) };
        let _one_at_a_time = self.lock_appends();
        let (size, before) = file::size_and_blocks(file)?;
        let end = offset.unwrap_or(size).saturating_add(wanted);
        let is_there = end <= size && before.saturating_mul(512) >= size.next_multiple_of(PAGE);
        let mut may = u64::MAX;
        if wanted > 0 && !is_there {
            let free = memory.free(self.client(), wanted.next_multiple_of(PAGE));
            if free < wanted {
                may = free / PAGE * PAGE;
            }
            if may == 0 {
                return Err(Errno::ENOSPC);
            }
        }
        let done = work(may);
        let (_, after) = file::size_and_blocks(file)?;
        memory.changed(before, after);
        done
    }
}
