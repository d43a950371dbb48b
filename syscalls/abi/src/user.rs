//! Addresses in guest memory, as allegations: typed, but not yet checked or read.
//!
//! Key type: [`UserPtr`]. A value of this type says only what the guest *claims* lies there; reading it goes
//! through the running task's readers and writers, which check and may answer EFAULT.

use std::marker::PhantomData;

/// The lowest address that is not user space on x86-64 with four-level paging.
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;
/// Size of a page, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// A guest address that is claimed to hold a `T`.
pub struct UserPtr<T> {
    addr: u64,
    kind: PhantomData<fn() -> T>,
}

impl<T> UserPtr<T> {
    /// From a register.
    #[must_use]
    pub const fn new(addr: u64) -> Self {
        Self { addr, kind: PhantomData }
    }

    /// The bare address.
    #[must_use]
    pub const fn addr(self) -> u64 {
        self.addr
    }

    /// The null pointer: usually "not given".
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.addr == 0
    }

    /// `None` for the null pointer.
    #[must_use]
    pub const fn non_null(self) -> Option<Self> {
        if self.addr == 0 { None } else { Some(self) }
    }

    /// The same address seen as something else.
    #[must_use]
    pub const fn cast<U>(self) -> UserPtr<U> {
        UserPtr::new(self.addr)
    }

    /// The address `bytes` further on; wraps, since it is checked where it is used.
    #[must_use]
    pub const fn byte_add(self, bytes: u64) -> Self {
        Self::new(self.addr.wrapping_add(bytes))
    }

    /// The `n`th element of an array that starts here.
    #[must_use]
    pub const fn element(self, n: usize) -> Self {
        self.byte_add((n as u64).wrapping_mul(size_of::<T>() as u64))
    }
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}
impl<T> std::fmt::Debug for UserPtr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.addr)
    }
}

/// A path name or other string in guest memory that ends with a zero byte.
#[derive(Clone, Copy, Debug)]
pub enum CStr {}
/// `UserPtr` to a zero-terminated string.
pub type UserCStr = UserPtr<CStr>;
