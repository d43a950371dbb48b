//! Bytes of a call that lie in memory shared with the guest, on their way between it and a descriptor of the host.
//!
//! Key types: [`BulkIn`] (arguments that rode along), [`BulkOut`] (room for results that the stub will copy).
//! The guest may write to either at any time, so there is no reference into them: the host's own calls read and write
//! them, or they are copied, once. What the bytes are worth is the guest's affair.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use linux_abi::Errno;

/// Arguments of the current call, as the guest had them when it made the call.
#[derive(Debug)]
pub struct BulkIn<'a> {
    at: NonNull<u8>,
    len: usize,
    window: PhantomData<&'a ()>,
}

/// Room for results of the current call; what is put here goes nowhere until it is committed.
#[derive(Debug)]
pub struct BulkOut<'a> {
    at: NonNull<u8>,
    len: usize,
    window: PhantomData<&'a mut ()>,
}

/// What a positioned call of the host answers.
fn answer(result: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(result)
        .map_err(|_| Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
}

/// Offsets above the host's range are refused by the host as negative ones.
fn position(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(-1)
}

impl BulkIn<'_> {
    /// # Safety
    /// `at` must be readable for `len` bytes and stay mapped for the lifetime, in memory that nobody has a reference into.
    pub(crate) const unsafe fn new(at: NonNull<u8>, len: usize) -> Self {
        Self { at, len, window: PhantomData }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// There are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same, at most `limit` bytes of it.
    #[must_use]
    pub fn up_to(self, limit: usize) -> Self {
        Self { len: self.len.min(limit), ..self }
    }

    /// Where the bytes are and how many, for a call of the host that only reads them.
    pub(crate) const fn raw(&self) -> (*const u8, usize) {
        (self.at.as_ptr(), self.len)
    }

    /// Writes them to a file of the host, `pwrite(2)`.
    ///
    /// # Errors
    /// The host's.
    pub fn write_at(&self, fd: impl AsFd, offset: u64) -> Result<usize, Errno> {
        let (at, len) = self.raw();
        // SAFETY: the host reads `len` mapped bytes and trusts none of them.
        answer(unsafe { libc::pwrite(fd.as_fd().as_raw_fd(), at.cast(), len, position(offset)) })
    }

    /// Writes them to a file of the host at its own position, `write(2)`.
    ///
    /// # Errors
    /// The host's.
    pub fn write(&self, fd: impl AsFd) -> Result<usize, Errno> {
        let (at, len) = self.raw();
        // SAFETY: the host reads `len` mapped bytes and trusts none of them.
        answer(unsafe { libc::write(fd.as_fd().as_raw_fd(), at.cast(), len) })
    }

    /// Copies the first bytes out, each read once.
    pub fn copy_to(&self, buf: &mut [u8]) {
        let len = buf.len().min(self.len);
        // SAFETY: both ranges are `len` bytes, and the destination is ours alone.
        unsafe { copy_bytes(self.at.as_ptr(), buf.as_mut_ptr(), len) };
    }
}

impl BulkOut<'_> {
    /// # Safety
    /// `at` must be writable for `len` bytes and stay mapped for the lifetime, in memory that nobody has a reference into.
    pub(crate) const unsafe fn new(at: NonNull<u8>, len: usize) -> Self {
        Self { at, len, window: PhantomData }
    }

    /// How much room there is.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// There is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the room is and how much, for a call of the host that only writes there.
    pub(crate) const fn raw(&mut self) -> (*mut u8, usize) {
        (self.at.as_ptr(), self.len)
    }

    /// Fills it from a file of the host, `pread(2)`; answers how far.
    ///
    /// # Errors
    /// The host's.
    pub fn read_at(&mut self, fd: impl AsFd, offset: u64) -> Result<usize, Errno> {
        let (at, len) = self.raw();
        // SAFETY: the host writes at most `len` bytes, all of them mapped and nobody's reference.
        answer(unsafe { libc::pread(fd.as_fd().as_raw_fd(), at.cast(), len, position(offset)) })
    }

    /// Copies bytes in; what does not fit is left out.
    pub fn copy_from(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.len);
        // SAFETY: both ranges are `len` bytes, and nobody has a reference into the destination.
        unsafe { copy_bytes(bytes.as_ptr(), self.at.as_ptr(), len) };
    }
}

/// Copies with `rep movsb`, which the compiler cannot tear, merge or repeat.
///
/// # Safety
/// Both ranges must be mapped and must not overlap; `to` must be writable.
pub(crate) unsafe fn copy_bytes(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for the ranges; the direction flag is clear by the ABI.
    unsafe {
        std::arch::asm!("rep movsb", inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}
