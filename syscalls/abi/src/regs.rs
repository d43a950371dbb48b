//! A guest thread's general registers on x86-64.
//!
//! Key type: [`Registers`]. Source: `struct user_regs_struct`, `arch/x86/include/asm/user_64.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// General registers, in the order of the hand-over page (not of `ptrace(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the registers' own")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    /// The system call number as it was at entry; `rax` holds the result afterwards. `u64::MAX`: not in a call.
    pub orig_rax: u64,
}

/// Flags that a guest may set itself (`FIX_EFLAGS` of `arch/x86/kernel/signal_64.c` and `ptrace.c`'s `FLAG_MASK`).
pub const RFLAGS_USER: u64 = 0x0025_4dd5;
/// Bit 1 reads as one, interrupts are on.
pub const RFLAGS_FIXED: u64 = 0x0000_0202;

impl Registers {
    /// The six arguments of a system call.
    #[must_use]
    pub const fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// The flags with all that a guest may not set forced to their fixed values.
    #[must_use]
    pub const fn safe_rflags(&self) -> u64 {
        (self.rflags & RFLAGS_USER) | RFLAGS_FIXED
    }
}
