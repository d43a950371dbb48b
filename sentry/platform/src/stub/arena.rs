//! The memory that the sentry shares with stubs: one memory file, cut into windows.
//!
//! Key types: [`Arena`], [`Window`]. A window is the backing of one slot (or of an agent's two pages) in one stub. All of the
//! arena is mapped in the sentry once; a stub maps single windows. Everything but a window's first page can be
//! written by guests at any time, so it is reached only by the single reads and writes below.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::SLOT_SIZE;
use crate::api::PlatformError;
use crate::bulk::{BulkIn, BulkOut, copy_bytes};

/// Windows of one sandbox: guest threads plus two pages a process.
pub const WINDOWS_MAX: u64 = 1 << 16;

/// The shared memory of one sandbox.
pub struct Arena {
    fd: OwnedFd,
    base: NonNull<u8>,
    /// LOCK: leaf.
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    next: u64,
    returned: Vec<u64>,
}

// SAFETY: the mapping is shared memory reached by atomic or volatile operations only, and lives as long as the arena.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Makes and maps the arena; takes no memory before it is touched.
    ///
    /// # Errors
    /// The host's.
    pub fn new() -> io::Result<Arc<Self>> {
        let fd = rustix::fs::memfd_create("rvisor-arena", rustix::fs::MemfdFlags::CLOEXEC)?;
        let len = WINDOWS_MAX * SLOT_SIZE;
        rustix::fs::ftruncate(&fd, len)?;
        let prot = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let flags = rustix::mm::MapFlags::SHARED | rustix::mm::MapFlags::NORESERVE;
        let len = usize::try_from(len).expect("64-bit");
        // SAFETY: a new mapping at a place of the kernel's choice overlaps nothing.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, &fd, 0) }?;
        let base = NonNull::new(base.cast()).expect("mmap does not answer null");
        Ok(Arc::new(Self { fd, base, free: Mutex::default() }))
    }

    /// The memory file, for the template.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A window full of zeros; `None` when all are taken.
    #[must_use]
    pub fn allocate(self: &Arc<Self>) -> Option<Window> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match free.returned.pop() {
            Some(index) => index,
            None if free.next < WINDOWS_MAX => {
                free.next += 1;
                free.next - 1
            }
            None => return None,
        };
        Some(Window { arena: Arc::clone(self), index })
    }

    /// A window for a guest thread's pages.
    ///
    /// # Errors
    /// When all are taken.
    pub fn allocate_thread(self: &Arc<Self>) -> Result<Arc<Window>, PlatformError> {
        self.allocate().map(Arc::new).ok_or(PlatformError::Limit("threads of the sandbox"))
    }
}

/// A piece of the arena: [`SLOT_SIZE`] bytes. Given back, emptied, when dropped.
pub struct Window {
    arena: Arc<Arena>,
    index: u64,
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Window({})", self.index)
    }
}

impl Window {
    /// Its offset in the memory file.
    #[must_use]
    pub const fn file_offset(&self) -> u64 {
        self.index * SLOT_SIZE
    }

    fn at(&self, offset: u64, len: u64) -> NonNull<u8> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= SLOT_SIZE), "inside the window");
        let offset = usize::try_from(self.file_offset() + offset).expect("64-bit");
        // SAFETY: the arena is mapped whole, and the assertion keeps the offset inside it.
        unsafe { self.arena.base.add(offset) }
    }

    /// A 32-bit word.
    #[must_use]
    pub fn word(&self, offset: u64) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4));
        let at = self.at(offset, 4).cast();
        // SAFETY: aligned, mapped as long as `self` lives; atomics may be shared with other processes.
        unsafe { at.as_ref() }
    }

    /// A 64-bit word.
    #[must_use]
    pub fn long(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8));
        let at = self.at(offset, 8).cast();
        // SAFETY: as for `word`.
        unsafe { at.as_ref() }
    }

    /// Reads a 32-bit word, once.
    #[must_use]
    pub fn get32(&self, offset: u64) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Writes a 32-bit word.
    pub fn set32(&self, offset: u64, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// Reads a 64-bit word, once.
    #[must_use]
    pub fn get64(&self, offset: u64) -> u64 {
        self.long(offset).load(Ordering::Relaxed)
    }

    /// Writes a 64-bit word.
    pub fn set64(&self, offset: u64, value: u64) {
        self.long(offset).store(value, Ordering::Relaxed);
    }

    /// Copies out, each byte read once.
    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        let from = self.at(offset, buf.len() as u64);
        // PERF: volatile copies of a few hundred bytes would cost more than the call; a plain copy of racing bytes by the
        // string instruction yields some bytes, and no reference to them is ever made.
        // SAFETY: mapped for `buf.len()` bytes; the destination is ours alone.
        unsafe { copy_bytes(from.as_ptr(), buf.as_mut_ptr(), buf.len()) };
    }

    /// Copies in.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let to = self.at(offset, bytes.len() as u64);
        // SAFETY: mapped for `bytes.len()` bytes; nobody holds a reference into it.
        unsafe { copy_bytes(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }

    /// Bytes that a call of the host may read as they lie.
    #[must_use]
    pub fn bulk_in(&self, offset: u64, len: u64) -> BulkIn<'_> {
        let at = self.at(offset, len);
        let len = usize::try_from(len).expect("64-bit");
        // SAFETY: mapped as long as `self` lives; no reference into the arena is ever made but to atomic words.
        unsafe { BulkIn::new(at, len) }
    }

    /// Room that a call of the host may fill as it lies.
    #[must_use]
    pub fn bulk_out(&self, offset: u64, len: u64) -> BulkOut<'_> {
        let at = self.at(offset, len);
        let len = usize::try_from(len).expect("64-bit");
        // SAFETY: as for `bulk_in`.
        unsafe { BulkOut::new(at, len) }
    }

    /// Makes it fit for another thread: what it held of orders and answers goes, up to the bulk data.
    pub fn clear_thread(&self) {
        /// The order page, and the words at the start of the hand-over page.
        const CLEARED: u64 = 0x1100;
        self.zero(0, CLEARED);
    }

    /// Fills with zeros.
    pub fn zero(&self, offset: u64, len: u64) {
        let to = self.at(offset, len);
        let len = usize::try_from(len).expect("64-bit");
        // SAFETY: mapped for `len` bytes, nobody holds a reference into it; the direction flag is clear by the ABI.
        unsafe {
            std::arch::asm!("rep stosb", inout("rcx") len => _, inout("rdi") to.as_ptr() => _, in("al") 0_u8,
                options(nostack, preserves_flags));
        }
    }

    /// Gives the memory of whole pages back; they read as zeros from now on.
    pub fn give_back(&self, offset: u64, len: u64) -> bool {
        // Also the range check.
        let _ = self.at(offset, len);
        let mode = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.arena.fd, mode, self.file_offset() + offset, len).is_ok()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Emptied, so that the next one who gets it finds zeros and nothing of the last one's.
        if self.give_back(0, SLOT_SIZE) {
            self.arena.free.lock().unwrap_or_else(PoisonError::into_inner).returned.push(self.index);
        }
    }
}
