//! The bytes of a regular file in memory: small ones in the sentry's own memory, larger or mapped ones in a host
//! memory file.
//!
//! Key type: [`Content`]. A host memory file costs a descriptor, of which there are few; a small file costs nothing but
//! its bytes and is read without a host call. Once in a memory file, content stays there.
//!
//! Deliberately not done: SIGBUS for a store through a mapping that goes beyond the file system's size. The host fills the page
//! without asking; it is counted at the next question, and the next write gets ENOSPC.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use platform::MapSource;
use platform::host::file;

use super::Shared;
use crate::Errno;
use crate::account;
use crate::descriptors::{Charge, Use};
use crate::fs::host_file;
use crate::io::{Sink, Source};

/// Largest content kept in the sentry's own memory, in bytes.
const SMALL_MAX: u64 = 16 << 10;
/// What a host memory file costs besides its pages, in bytes: the host's inode, file and descriptor.
const MEMORY_FILE_BYTES: u64 = 2048;
/// Largest file. LINUX: `MAX_LFS_FILESIZE`, EFBIG above.
const SIZE_MAX: u64 = i64::MAX as u64;
const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;

/// LINUX: `F_SEAL_*`.
pub mod seal {
    /// No more seals.
    pub const SEAL: u32 = 1;
    /// It may not shrink.
    pub const SHRINK: u32 = 2;
    /// It may not grow.
    pub const GROW: u32 = 4;
    /// It may not be written.
    pub const WRITE: u32 = 8;
    /// Nor by mappings made from now on.
    pub const FUTURE_WRITE: u32 = 16;
    /// Its execute bits may not change.
    pub const EXEC: u32 = 32;
    /// All of them.
    pub const ALL: u32 = 63;
}

/// A regular file's bytes.
pub struct Content {
    shared: Arc<Shared>,
    /// LOCK: held across transfers that change the content, as Linux's `i_rwsem`; outside the node's attributes.
    inner: Mutex<Inner>,
}

struct Inner {
    bytes: Bytes,
    /// What the file system counts for it.
    charged: Arc<Charged>,
    /// What is held besides: memory for holes of small content, which the file system does not count; the host's file.
    held: account::Charge,
    seals: u32,
}

/// What a file system counts for a file, in bytes; and the host's file, once guests have it mapped: they fill its holes without
/// asking anybody, so that what there is has to be asked of the host.
#[derive(Default)]
pub(super) struct Charged {
    bytes: AtomicU64,
    mapped: OnceLock<MapSource>,
    is_gone: AtomicBool,
}

impl Charged {
    fn get(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn set(&self, shared: &Shared, bytes: u64) {
        shared.charge(self.bytes.swap(bytes, Ordering::AcqRel), bytes);
    }

    /// Brings it up to date, if guests may have filled holes.
    pub(super) fn refresh(&self, shared: &Shared) {
        if let Some(file) = self.mapped.get()
            && let Ok((_, blocks)) = file::size_and_blocks(&**file)
        {
            self.set(shared, blocks.saturating_mul(512));
            if self.is_gone.load(Ordering::Acquire) {
                self.set(shared, 0);
            }
        }
    }

    /// The content goes. It may be that somebody refreshes it at this moment.
    fn end(&self, shared: &Shared) {
        self.is_gone.store(true, Ordering::Release);
        self.set(shared, 0);
    }
}

enum Bytes {
    /// The bytes, and which of the (at most four) pages are there, a bit each: the others are holes.
    Small(Vec<u8>, u8),
    Memory {
        file: MapSource,
        size: u64,
        _charge: Charge,
    },
}

/// The bits of the pages that a stretch touches.
fn small_pages(start: u64, end: u64) -> u8 {
    let bits = |pages: u64| (1_u16 << pages.min(8)) - 1;
    let touched = bits(end.div_ceil(PAGE)) & !bits(start / PAGE);
    if start < end { touched.to_le_bytes()[0] } else { 0 }
}

impl Inner {
    fn size(&self) -> u64 {
        match &self.bytes {
            Bytes::Small(bytes, _) => bytes.len() as u64,
            Bytes::Memory { size, .. } => *size,
        }
    }

    /// The sentry's own memory that it has.
    fn capacity(&self) -> u64 {
        match &self.bytes {
            Bytes::Small(bytes, _) => u64::try_from(bytes.capacity()).unwrap_or(u64::MAX),
            Bytes::Memory { .. } => 0,
        }
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE).saturating_mul(PAGE)
}

impl Content {
    /// Empty; with `seals` set (`F_SEAL_SEAL`, unless it is a memory file that may be sealed).
    #[must_use]
    pub fn new(shared: Arc<Shared>, seals: u32) -> Self {
        let bytes = Bytes::Small(Vec::new(), 0);
        let inner = Inner { bytes, charged: Arc::default(), held: account::Charge::default(), seals };
        Self { shared, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size in bytes, and blocks of 512 bytes.
    #[must_use]
    pub fn size_and_blocks(&self) -> (u64, u64) {
        let inner = self.lock();
        inner.charged.refresh(&self.shared);
        (inner.size(), inner.charged.get() / 512)
    }

    /// Reads.
    ///
    /// # Errors
    /// The sink's.
    pub fn read(&self, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        let inner = self.lock();
        let (file, size) = match &inner.bytes {
            Bytes::Memory { file, size, .. } => (Arc::clone(file), *size),
            Bytes::Small(bytes, _) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(sink.remaining()).min(bytes.len());
                return if start == end { Ok(0) } else { sink.write(&bytes[start..end]) };
            }
        };
        drop(inner);
        if offset >= size { Ok(0) } else { host_file::read_at(&*file, sink, offset) }
    }

    /// Writes at `offset`, or at the end for `None`, but not beyond `limit`; answers how much, and where it ended.
    ///
    /// # Errors
    /// EPERM if sealed; EFBIG; ENOSPC; the source's.
    pub fn write(
        &self,
        source: &mut dyn Source,
        offset: Option<u64>,
        limit: u64,
    ) -> Result<(usize, u64), Errno> {
        let mut inner = self.lock();
        let size = inner.size();
        let offset = offset.unwrap_or(size);
        let wanted = source.remaining() as u64;
        if wanted == 0 {
            return Ok((0, offset));
        }
        if inner.seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        let mut end = offset.saturating_add(wanted).min(SIZE_MAX).min(limit);
        if inner.seals & seal::GROW != 0 && end > size {
            end = size;
            if offset >= end {
                return Err(Errno::EPERM);
            }
        }
        if offset >= end {
            return Err(Errno::EFBIG);
        }
        let end = self.make_room(&mut inner, offset, end)?;
        if end > SMALL_MAX {
            self.to_memory(&mut inner)?;
        } else {
            self.reserve_small(&mut inner, end)?;
        }
        let limit = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let written = match &mut inner.bytes {
            Bytes::Small(bytes, there) => {
                let written = write_small(bytes, source, offset, limit);
                *there |= small_pages(offset, offset + *written.as_ref().unwrap_or(&0) as u64);
                written
            }
            Bytes::Memory { file, size, .. } => {
                let written = host_file::write_at(&**file, source, offset, limit);
                *size = (*size).max(offset + *written.as_ref().unwrap_or(&0) as u64);
                written
            }
        };
        self.recharge(&mut inner, size, offset);
        written.map(|n| (n, offset + n as u64))
    }

    /// How far a write may go before the file system is full.
    fn make_room(&self, inner: &mut Inner, offset: u64, end: u64) -> Result<u64, Errno> {
        let size = inner.size();
        if end <= size && inner.charged.get() >= pages(size) {
            return Ok(end);
        }
        let free = self.shared.free_bytes();
        let needed = pages(end).saturating_sub(offset / PAGE * PAGE);
        if needed <= free {
            return Ok(end);
        }
        // Some of it may be there already.
        let overlap = if inner.charged.get() >= pages(size) {
            pages(size).saturating_sub(offset / PAGE * PAGE)
        } else {
            0
        };
        let room_end = (offset / PAGE * PAGE).saturating_add(free.saturating_add(overlap) / PAGE * PAGE);
        if room_end <= offset { Err(Errno::ENOSPC) } else { Ok(end.min(room_end)) }
    }

    /// Brings the count of what is used up to date after a change at `offset`, the size having been `old_size`.
    fn recharge(&self, inner: &mut Inner, old_size: u64, offset: u64) {
        let is_plain = inner.charged.get() >= pages(old_size) && offset <= old_size;
        let charged = match &inner.bytes {
            Bytes::Small(_, there) => u64::from(there.count_ones()) * PAGE,
            Bytes::Memory { file, size, .. } if !is_plain => {
                file::size_and_blocks(&**file).map_or(pages(*size), |(_, blocks)| blocks.saturating_mul(512))
            }
            Bytes::Memory { size, .. } => pages(*size),
        };
        inner.charged.set(&self.shared, charged);
        if let Bytes::Small(..) = &inner.bytes {
            let held = inner.capacity().saturating_sub(charged);
            // Never more than has been reserved, so that it is not refused.
            let _ = self.hold(inner, held.min(inner.held.bytes()));
        }
    }

    /// Charges for what is held besides the counted bytes.
    fn hold(&self, inner: &mut Inner, bytes: u64) -> Result<(), Errno> {
        let old = inner.held.bytes();
        if old == bytes {
            return Ok(());
        }
        let bytes = usize::try_from(bytes).map_err(|_| Errno::ENOSPC)?;
        if old == 0 {
            inner.held = self.shared.charge_memory(bytes)?;
        } else {
            inner.held.resize(bytes).map_err(|_| Errno::ENOSPC)?;
        }
        Ok(())
    }

    /// Makes and charges room for small content up to `end`, holes included. In steps, so that bytes written one by one do not
    /// move each time.
    fn reserve_small(&self, inner: &mut Inner, end: u64) -> Result<(), Errno> {
        let old = inner.capacity();
        if end <= old || !matches!(inner.bytes, Bytes::Small(..)) {
            return Ok(());
        }
        let new = end.max(old.saturating_mul(2)).min(SMALL_MAX);
        self.hold(inner, new.saturating_sub(inner.charged.get()))?;
        if let Bytes::Small(bytes, _) = &mut inner.bytes {
            let more = usize::try_from(new).map_err(|_| Errno::EFBIG)?.saturating_sub(bytes.len());
            bytes.reserve_exact(more);
        }
        Ok(())
    }

    fn to_memory(&self, inner: &mut Inner) -> Result<MapSource, Errno> {
        if let Bytes::Memory { file, .. } = &inner.bytes {
            return Ok(Arc::clone(file));
        }
        let charge = self.shared.descriptors.take(Use::Object)?;
        let file: OwnedFd = file::new_memory_file("tmpfs")?;
        let Bytes::Small(bytes, there) = &inner.bytes else { return Err(Errno::EIO) };
        file::truncate(&file, bytes.len() as u64)?;
        for (page, piece) in bytes.chunks(PAGE_LEN).enumerate() {
            let mut done = if there & 1 << page == 0 { piece.len() } else { 0 };
            while done < piece.len() {
                done += file::write_at(&file, &piece[done..], (page * PAGE_LEN + done) as u64)?.max(1);
            }
        }
        let (size, file) = (bytes.len() as u64, Arc::new(file));
        self.hold(inner, MEMORY_FILE_BYTES)?;
        inner.bytes = Bytes::Memory { file: Arc::clone(&file), size, _charge: charge };
        Ok(file)
    }

    /// Sets the size.
    ///
    /// # Errors
    /// EPERM if sealed; EFBIG.
    pub fn truncate(&self, len: u64) -> Result<(), Errno> {
        let mut inner = self.lock();
        let old = inner.size();
        if len > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        if (len < old && inner.seals & seal::SHRINK != 0) || (len > old && inner.seals & seal::GROW != 0) {
            return Err(Errno::EPERM);
        }
        if len > SMALL_MAX {
            self.to_memory(&mut inner)?;
        } else {
            self.reserve_small(&mut inner, len)?;
        }
        match &mut inner.bytes {
            Bytes::Small(bytes, there) => {
                bytes.resize(usize::try_from(len).map_err(|_| Errno::EFBIG)?, 0);
                if len < old {
                    bytes.shrink_to_fit();
                }
                *there &= small_pages(0, len);
            }
            Bytes::Memory { file, size, .. } => {
                file::truncate(&**file, len)?;
                *size = len;
            }
        }
        // A hole at the end or a cut: the host knows what is left.
        self.recharge(&mut inner, old, u64::MAX);
        Ok(())
    }

    /// `fallocate(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        let mut inner = self.lock();
        if mode & !(KEEP_SIZE | PUNCH_HOLE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let old = inner.size();
        let end = offset.checked_add(len).filter(|&end| end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
        if mode & PUNCH_HOLE != 0 {
            if inner.seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
        } else {
            if end > old && inner.seals & seal::GROW != 0 {
                return Err(Errno::EPERM);
            }
            self.find_room(&inner, len)?;
        }
        let file = self.to_memory(&mut inner)?;
        file::allocate(&*file, mode, offset, len)?;
        if let Bytes::Memory { size, .. } = &mut inner.bytes
            && mode & KEEP_SIZE == 0
        {
            *size = (*size).max(end);
        }
        self.recharge(&mut inner, old, u64::MAX);
        Ok(())
    }

    fn find_room(&self, inner: &Inner, len: u64) -> Result<(), Errno> {
        if len > self.shared.free_bytes().saturating_add(inner.charged.get()) {
            Err(Errno::ENOSPC)
        } else {
            Ok(())
        }
    }

    /// Is there room for what `fallocate(2)` is asked for as a whole?
    ///
    /// # Errors
    /// ENOSPC.
    pub fn check_room(&self, mode: u32, _offset: u64, len: u64) -> Result<(), Errno> {
        const PUNCH_HOLE: u32 = 2;
        if mode & PUNCH_HOLE != 0 { Ok(()) } else { self.find_room(&self.lock(), len) }
    }

    /// The host file, for mapping.
    ///
    /// # Errors
    /// EPERM if `writable` and sealed; the host's.
    pub fn map(&self, writable: bool) -> Result<MapSource, Errno> {
        let mut inner = self.lock();
        if writable && inner.seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        let file = self.to_memory(&mut inner)?;
        if inner.charged.mapped.set(Arc::clone(&file)).is_ok() {
            self.shared.has_been_mapped(&inner.charged);
        }
        Ok(file)
    }

    /// `SEEK_DATA` (`data`) or `SEEK_HOLE`.
    ///
    /// # Errors
    /// ENXIO past the end.
    pub fn seek_sparse(&self, data: bool, offset: u64) -> Result<u64, Errno> {
        let inner = self.lock();
        let size = inner.size();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        match &inner.bytes {
            Bytes::Small(_, there) => {
                let is_wanted = |page: &u64| (*there & 1 << *page != 0) == data;
                let found = (offset / PAGE..size.div_ceil(PAGE)).find(is_wanted);
                match found {
                    Some(page) => Ok(offset.max(page * PAGE)),
                    None if data => Err(Errno::ENXIO),
                    None => Ok(size),
                }
            }
            Bytes::Memory { file, .. } if data => file::seek_data(&**file, offset),
            Bytes::Memory { file, .. } => file::seek_hole(&**file, offset),
        }
    }

    /// `F_GET_SEALS`.
    #[must_use]
    pub fn seals(&self) -> u32 {
        self.lock().seals
    }

    /// `F_ADD_SEALS`.
    ///
    /// # Errors
    /// EPERM if no more are allowed; EINVAL; EBUSY if it is mapped writable.
    pub fn add_seals(&self, seals: u32) -> Result<(), Errno> {
        let mut inner = self.lock();
        if seals & !seal::ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if inner.seals & seal::SEAL != 0 {
            return Err(Errno::EPERM);
        }
        // The host refuses what a mapping of the guest's contradicts. Sealing against sealing is ours to remember.
        let host = seals & !(seal::SEAL | seal::EXEC);
        if host != 0 {
            let file = self.to_memory(&mut inner)?;
            file::add_seals(&*file, host)?;
        }
        inner.seals |= seals;
        Ok(())
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.charged.end(&self.shared);
    }
}

fn write_small(
    bytes: &mut Vec<u8>,
    source: &mut dyn Source,
    offset: u64,
    limit: usize,
) -> Result<usize, Errno> {
    let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let old = bytes.len();
    let end = start.saturating_add(source.remaining().min(limit));
    if old < end {
        bytes.resize(end, 0);
    }
    let read = source.read(&mut bytes[start..end]);
    // A fault on the way: nothing has been added beyond it, nor a hole before nothing.
    let reached = read.as_ref().map_or(0, |&n| if n == 0 { 0 } else { start + n });
    bytes.truncate(reached.max(old));
    read
}
