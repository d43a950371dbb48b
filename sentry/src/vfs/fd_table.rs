//! Which open file does a descriptor number name?
//!
//! Key types: [`FdTable`], [`Fd`], [`Descriptor`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::OpenFile;
use crate::Errno;
use crate::account::{self, Charge};
use crate::task::Task;

/// A descriptor number as the guest gave it; it may name nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fd(pub i32);

/// What a descriptor number names.
#[derive(Clone)]
pub struct Descriptor {
    /// The open file.
    pub file: Arc<OpenFile>,
    /// `FD_CLOEXEC`.
    pub close_on_exec: bool,
}

/// A process's descriptors (`CLONE_FILES`).
pub struct FdTable {
    /// Who holds a process's file locks.
    id: u64,
    /// LOCK: innermost but for wait queues; no file is closed under it.
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Option<Descriptor>>,
    /// INVARIANT: no slot below is free.
    lowest_free: usize,
    /// For `entries`.
    charge: Charge,
}

impl Clone for Slots {
    fn clone(&self) -> Self {
        // A fork is charged for as a task, and has been granted.
        let charge = account::count(Self::bytes(self.entries.len()));
        Self { entries: self.entries.clone(), lowest_free: self.lowest_free, charge }
    }
}

impl Slots {
    fn bytes(len: usize) -> usize {
        len * size_of::<Option<Descriptor>>()
    }

    /// Makes room for a number. LINUX: ENOMEM, EMFILE from `expand_fdtable`.
    fn reach(&mut self, index: usize) -> Result<(), Errno> {
        if index >= self.entries.len() {
            let len = (index + 1).next_power_of_two();
            self.charge.resize(Self::bytes(len))?;
            self.entries.reserve_exact(len - self.entries.len());
            self.entries.resize_with(index + 1, || None);
        }
        Ok(())
    }
}

impl FdTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(Slots::default())
    }

    fn with(slots: Slots) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), slots: Mutex::new(slots) })
    }

    /// Distinguishes tables: the owner of record locks.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A table of its own with the same files (`fork`).
    #[must_use]
    pub fn copy(&self) -> Arc<Self> {
        Self::with(self.lock().clone())
    }

    /// The open file, `O_PATH` ones included.
    ///
    /// # Errors
    /// EBADF.
    pub fn get_any(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        self.descriptor(fd).map(|descriptor| descriptor.file)
    }

    /// The open file; one opened with `O_PATH` counts as absent.
    ///
    /// # Errors
    /// EBADF.
    pub fn get(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        const O_PATH: u32 = 0o10_000_000;
        let file = self.get_any(fd)?;
        if file.flags() & O_PATH != 0 { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// File and flags.
    ///
    /// # Errors
    /// EBADF.
    pub fn descriptor(&self, fd: Fd) -> Result<Descriptor, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        self.lock().entries.get(index).cloned().flatten().ok_or(Errno::EBADF)
    }

    /// Enters a file at the lowest free number from `from` on, below `limit` (`RLIMIT_NOFILE`).
    ///
    /// # Errors
    /// EMFILE; ENFILE, ENOMEM at the container's limit.
    pub fn add(
        &self,
        file: Arc<OpenFile>,
        close_on_exec: bool,
        from: usize,
        limit: u64,
    ) -> Result<Fd, Errno> {
        let mut slots = self.lock();
        let mut index = from.max(slots.lowest_free);
        while slots.entries.get(index).is_some_and(Option::is_some) {
            index += 1;
        }
        if index as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        // Open files are counted when they are made, and refused here. LINUX: `alloc_empty_file`.
        if account::is_full() {
            return Err(Errno::ENFILE);
        }
        let fd = Fd(i32::try_from(index).map_err(|_| Errno::EMFILE)?);
        slots.reach(index)?;
        slots.entries[index] = Some(Descriptor { file, close_on_exec });
        if from <= slots.lowest_free {
            slots.lowest_free = index + 1;
        }
        Ok(fd)
    }

    /// Enters a file at `fd` (`dup2`); answers what was there.
    ///
    /// # Errors
    /// EBADF if `fd` is negative or not below `limit`; ENOMEM.
    pub fn replace(
        &self,
        fd: Fd,
        file: Arc<OpenFile>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Option<Arc<OpenFile>>, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit {
            return Err(Errno::EBADF);
        }
        let mut slots = self.lock();
        slots.reach(index)?;
        let old = slots.entries[index].replace(Descriptor { file, close_on_exec });
        Ok(old.map(|descriptor| descriptor.file))
    }

    /// Takes a file out; the caller calls [`super::FileOps::closing`] and drops it.
    ///
    /// # Errors
    /// EBADF.
    pub fn remove(&self, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.lock();
        let descriptor = slots.entries.get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)?;
        slots.lowest_free = slots.lowest_free.min(index);
        Ok(descriptor.file)
    }

    /// Sets or clears `FD_CLOEXEC`.
    ///
    /// # Errors
    /// EBADF.
    pub fn set_close_on_exec(&self, fd: Fd, close_on_exec: bool) -> Result<(), Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.lock();
        let descriptor = slots.entries.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        descriptor.close_on_exec = close_on_exec;
        Ok(())
    }

    /// Numbers in use, ascending.
    #[must_use]
    pub fn numbers(&self) -> Vec<Fd> {
        let slots = self.lock();
        let used = slots.entries.iter().enumerate().filter(|(_, slot)| slot.is_some());
        used.filter_map(|(index, _)| i32::try_from(index).ok().map(Fd)).collect()
    }

    /// Takes out those that `which` names (close-on-exec, `close_range`, everything at exit) and closes them.
    pub fn close_where(&self, task: &Arc<Task>, which: impl Fn(Fd, &Descriptor) -> bool) {
        let mut closed = Vec::new();
        {
            let mut slots = self.lock();
            for index in 0..slots.entries.len() {
                let fd = Fd(i32::try_from(index).unwrap_or(i32::MAX));
                if slots.entries[index].as_ref().is_some_and(|descriptor| which(fd, descriptor)) {
                    closed.extend(slots.entries[index].take());
                    slots.lowest_free = slots.lowest_free.min(index);
                }
            }
        }
        for descriptor in closed {
            // LINUX: only close(2) itself tells.
            let _ = descriptor.file.close(task, self);
        }
    }
}
