//! The bytes of a regular file in memory: small ones in the sentry's own memory, larger or mapped ones in a host
//! memory file.
//!
//! Key type: [`Content`]. A host memory file costs a descriptor, of which there are few; a small file costs nothing but
//! its bytes and is read without a host call. Once in a memory file, content stays there.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux_abi::fs::falloc;
use platform::MapSource;
use platform::host::file;

use super::count::{Charged, Held, pages};
use super::{PAGE, Shared};
use crate::Errno;
use crate::account;
use crate::descriptors::{Charge, Use};
use crate::fs::host_file;
use crate::io::{Sink, Source};
use crate::mm::{Gate, Room};

/// Largest content kept in the sentry's own memory, in bytes.
const SMALL_MAX: u64 = 16 << 10;
/// What a host memory file costs besides its pages, in bytes: the host's inode, file and descriptor.
const MEMORY_FILE_BYTES: u64 = 2048;
/// Largest file. LINUX: `MAX_LFS_FILESIZE`, EFBIG above.
const SIZE_MAX: u64 = i64::MAX as u64;
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
    /// What the file system counts for it.
    charged: Arc<Charged>,
    /// LOCK: held across transfers that change the content, as Linux's `i_rwsem`; outside the node's attributes.
    inner: Mutex<Inner>,
}

struct Inner {
    bytes: Bytes,
    /// What is held besides: memory for holes of small content, which the file system does not count; the host's file.
    held: account::Charge,
    seals: u32,
}

enum Bytes {
    /// The bytes, and which of the (at most four) pages are there, a bit each: the others are holes.
    Small(Vec<u8>, u8),
    Memory {
        file: MapSource,
        size: u64,
        held: Held,
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

impl Content {
    /// Empty; with `seals` set (`F_SEAL_SEAL`, unless it is a memory file that may be sealed).
    #[must_use]
    pub fn new(shared: Arc<Shared>, seals: u32) -> Self {
        let bytes = Bytes::Small(Vec::new(), 0);
        let inner = Inner { bytes, held: account::Charge::default(), seals };
        Self { shared, charged: Arc::default(), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size in bytes, and blocks of 512 bytes.
    #[must_use]
    pub fn size_and_blocks(&self) -> (u64, u64) {
        let inner = self.lock();
        self.charged.refresh(&self.shared);
        (inner.size(), self.charged.get() / 512)
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
            // LINUX: `shmem_write_begin` refuses what would grow the file page by page, and a page's bytes all or none.
            end = size / PAGE * PAGE;
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
        self.prepare_growth(&inner, end);
        let limit = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let written = match &mut inner.bytes {
            Bytes::Small(bytes, there) => {
                let written = write_small(bytes, source, offset, limit);
                *there |= small_pages(offset, offset + *written.as_ref().unwrap_or(&0) as u64);
                written
            }
            Bytes::Memory { file, size, held, .. } => {
                let written = host_file::write_at(&**file, source, offset, limit);
                held.wrote(offset, *size);
                *size = (*size).max(offset + *written.as_ref().unwrap_or(&0) as u64);
                written
            }
        };
        self.recharge(&mut inner);
        written.map(|n| (n, offset + n as u64))
    }

    /// How far a write may go before the file system is full.
    fn make_room(&self, inner: &mut Inner, offset: u64, end: u64) -> Result<u64, Errno> {
        let first = offset / PAGE * PAGE;
        let is_there = |inner: &Inner| match &inner.bytes {
            Bytes::Small(_, there) => small_pages(first, end) & !there == 0 && end <= SMALL_MAX,
            Bytes::Memory { size, held, .. } => held.is_dense() && end <= pages(*size),
        };
        if is_there(inner) {
            return Ok(end);
        }
        let needed = pages(end).saturating_sub(first);
        let free = self.shared.free_for(needed);
        if needed <= free {
            return Ok(end);
        }
        let room_end = match &inner.bytes {
            Bytes::Small(_, there) => {
                let mut left = free;
                let mut at = first;
                while at < end {
                    if at >= SMALL_MAX || there & 1 << (at / PAGE) == 0 {
                        match left.checked_sub(PAGE) {
                            Some(less) => left = less,
                            None => break,
                        }
                    }
                    at += PAGE;
                }
                at
            }
            Bytes::Memory { file, size, held, .. } => held.reach(file, *size, (first, end), free),
        };
        if room_end <= offset { Err(Errno::ENOSPC) } else { Ok(end.min(room_end)) }
    }

    /// It is about to have `end` bytes at least. Guests may not fill the holes in them by themselves if there is no room for all.
    fn prepare_growth(&self, inner: &Inner, end: u64) {
        if let Some(gate) = self.charged.gate()
            && end > inner.size()
        {
            let _turn = gate.turn();
            gate.before_growth(inner.size(), end);
        }
    }

    /// Brings the count of what is used up to date after a change.
    fn recharge(&self, inner: &mut Inner) {
        let charged = match &inner.bytes {
            Bytes::Small(_, there) => u64::from(there.count_ones()) * PAGE,
            Bytes::Memory { size, held, .. } if held.is_dense() => pages(*size),
            Bytes::Memory { file, size, .. } => {
                file::size_and_blocks(&**file).map_or(pages(*size), |(_, blocks)| blocks.saturating_mul(512))
            }
        };
        self.charged.set(&self.shared, charged);
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
        self.hold(inner, new.saturating_sub(self.charged.get()))?;
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
        let held = Held::new(small_pages(0, size) & !there == 0);
        self.hold(inner, MEMORY_FILE_BYTES)?;
        inner.bytes = Bytes::Memory { file: Arc::clone(&file), size, held, _charge: charge };
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
        let gate = self.charged.gate();
        let _turn = gate.as_ref().map(|gate| {
            let turn = gate.turn();
            if len > old {
                gate.before_growth(old, len);
            } else {
                gate.withdraw(pages(len), u64::MAX);
            }
            turn
        });
        match &mut inner.bytes {
            Bytes::Small(bytes, there) => {
                bytes.resize(usize::try_from(len).map_err(|_| Errno::EFBIG)?, 0);
                if len < old {
                    bytes.shrink_to_fit();
                }
                *there &= small_pages(0, len);
            }
            Bytes::Memory { file, size, held, .. } => {
                file::truncate(&**file, len)?;
                *size = len;
                held.truncated(old, len);
            }
        }
        self.recharge(&mut inner);
        Ok(())
    }

    /// `fallocate(2)`.
    ///
    /// # Errors
    /// As the man page.
    pub fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let mut inner = self.lock();
        if mode & !(falloc::KEEP_SIZE | falloc::PUNCH_HOLE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let old = inner.size();
        let end = offset.checked_add(len).filter(|&end| end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
        if mode & falloc::PUNCH_HOLE != 0 {
            if inner.seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
        } else {
            if end > old && inner.seals & seal::GROW != 0 {
                return Err(Errno::EPERM);
            }
            self.find_room(&inner, offset, end)?;
        }
        let file = self.to_memory(&mut inner)?;
        let gate = self.charged.gate();
        let _turn = gate.as_ref().map(|gate| {
            let turn = gate.turn();
            if mode & falloc::PUNCH_HOLE != 0 {
                gate.withdraw(offset.next_multiple_of(PAGE), end / PAGE * PAGE);
            } else if mode & falloc::KEEP_SIZE == 0 && end > old {
                gate.before_growth(old, end);
            }
            turn
        });
        file::allocate(&*file, mode, offset, len)?;
        if let Bytes::Memory { size, held, .. } = &mut inner.bytes {
            if mode & falloc::PUNCH_HOLE != 0 {
                held.punched(offset, end);
            } else {
                held.allocated(offset, end);
            }
            if mode & falloc::KEEP_SIZE == 0 {
                *size = (*size).max(end);
            }
        }
        self.recharge(&mut inner);
        Ok(())
    }

    fn find_room(&self, inner: &Inner, offset: u64, end: u64) -> Result<(), Errno> {
        let first = offset / PAGE * PAGE;
        let free = self.shared.free_for(pages(end).saturating_sub(first));
        let reached = match &inner.bytes {
            Bytes::Small(_, there) => {
                let there = u64::from((small_pages(first, end) & there).count_ones()) * PAGE;
                first.saturating_add(free).saturating_add(there)
            }
            Bytes::Memory { file, size, held, .. } => held.reach(file, *size, (first, end), free),
        };
        if reached < end { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Is there room for what `fallocate(2)` is asked for as a whole?
    ///
    /// # Errors
    /// ENOSPC.
    pub fn check_room(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        if mode & falloc::PUNCH_HOLE != 0 {
            return Ok(());
        }
        self.find_room(&self.lock(), offset, offset.saturating_add(len).min(SIZE_MAX))
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
        let room = Arc::clone(&self.shared) as Arc<dyn Room>;
        if self.charged.set_mapped(Arc::new(Gate::new(Arc::clone(&file), room))) {
            self.shared.has_been_mapped(&self.charged);
        }
        Ok(file)
    }

    /// What guests must pass before they fill its holes, once it has been mapped; `None` if the file system has no size. Asked under the
    /// lock of a layout, which comes after that of the content.
    #[must_use]
    pub fn gate(&self) -> Option<Arc<Gate>> {
        if self.shared.has_limit() { self.charged.gate() } else { None }
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
        self.charged.end(&self.shared);
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
