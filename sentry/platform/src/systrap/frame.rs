//! Where are a stopped guest thread's registers? In its page (rewritten call site) or in a signal frame (trap).
//!
//! Key type: [`Entry`]. Both places can be written by other guest threads at any time; every field is read once, and any
//! value of a register is a legal one.

use linux_abi::Registers;
use zerocopy::{FromBytes, IntoBytes};

use crate::stub::arena::Window;
use crate::stub::layout::{RW, SIGNAL_STACK, SIGNAL_STACK_SIZE, rw};

/// Offsets in the kernel's `struct rt_sigframe` of x86-64, from the frame's start (the return address).
mod offset {
    /// General registers: `uc_mcontext`.
    pub const GREGS: u64 = 8 + 40;
    /// `uc_mcontext.fpstate`.
    pub const FPSTATE: u64 = 8 + 224;
    /// `siginfo_t`.
    pub const SIGINFO: u64 = 8 + 304;
    /// All of it, without the extended state.
    pub const SIZE: u64 = SIGINFO + 128;
}

/// How the guest thread stopped, and so how it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Registers in the page; goes on by loading them.
    Page,
    /// Registers in a signal frame at this offset in the window; goes on by `rt_sigreturn`.
    Frame(u64),
}

/// What the host said about a trap.
#[derive(Debug, Clone, Copy)]
pub struct Trap {
    /// `si_code`.
    pub code: i32,
    /// `si_addr`, or for `SIGSYS` the address after the call.
    pub addr: u64,
    /// `si_syscall` of `SIGSYS`.
    pub syscall: u32,
    /// `si_arch` of `SIGSYS`.
    pub arch: u32,
    /// Trap number.
    pub trapno: u64,
    /// Error code.
    pub error_code: u64,
}

/// The frame's offset in the window, if the address that the guest's page claims is possible.
#[must_use]
pub fn frame_offset(claimed: u64, slot: u64) -> Option<u64> {
    let offset = claimed.checked_sub(slot)?;
    let end = offset.checked_add(offset::SIZE)?;
    (offset >= SIGNAL_STACK && end <= SIGNAL_STACK + SIGNAL_STACK_SIZE && offset.is_multiple_of(8))
        .then_some(offset)
}

/// Offset in the window of the frame's extended state, if it lies on the signal stack with `size` bytes of room.
#[must_use]
pub fn extended_offset(window: &Window, frame: u64, slot: u64, size: usize) -> Option<u64> {
    let offset = window.get64(frame + offset::FPSTATE).checked_sub(slot)?;
    let end = offset.checked_add(size as u64)?;
    (offset >= SIGNAL_STACK && end <= SIGNAL_STACK + SIGNAL_STACK_SIZE && offset.is_multiple_of(64))
        .then_some(offset)
}

/// General registers in the order of `struct sigcontext`: which of ours stands at each place.
fn in_frame_order(regs: &Registers) -> [u64; 18] {
    [
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        regs.rsp,
        regs.rip,
        regs.rflags,
    ]
}

/// Reads the registers.
pub fn get(window: &Window, entry: Entry, regs: &mut Registers) {
    match entry {
        Entry::Page => {
            let mut bytes = [0; size_of::<Registers>()];
            window.read(RW + rw::REGS, &mut bytes);
            *regs = Registers::read_from_bytes(&bytes).expect("the sizes are equal");
            // Whoever comes this way has the stub's own.
            regs.gs_base = 0;
        }
        Entry::Frame(frame) => {
            let mut bytes = [0; 18 * 8];
            window.read(frame + offset::GREGS, &mut bytes);
            let g: [u64; 18] = FromBytes::read_from_bytes(&bytes).expect("the sizes are equal");
            [regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15] =
                [g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]];
            [regs.rdi, regs.rsi, regs.rbp, regs.rbx, regs.rdx, regs.rax, regs.rcx, regs.rsp] =
                [g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]];
            [regs.rip, regs.rflags] = [g[16], g[17]];
            regs.fs_base = window.get64(RW + rw::REGS + 144);
            regs.gs_base = window.get64(RW + rw::REGS + 152);
            regs.orig_rax = u64::MAX;
        }
    }
}

/// Writes the registers back, with the flags that a guest may have.
pub fn put(window: &Window, entry: Entry, regs: &Registers) {
    let mut safe = *regs;
    safe.rflags = regs.safe_rflags();
    match entry {
        Entry::Page => {
            // Single-stepping would begin inside the stub: not to be had on this path.
            safe.rflags &= !0x100;
            window.write(RW + rw::REGS, safe.as_bytes());
        }
        Entry::Frame(frame) => window.write(frame + offset::GREGS, in_frame_order(&safe).as_bytes()),
    }
}

/// Reads what the host said about a trap.
#[must_use]
pub fn trap(window: &Window, frame: u64) -> Trap {
    let info = frame + offset::SIGINFO;
    Trap {
        code: window.get32(info + 8).cast_signed(),
        addr: window.get64(info + 16),
        syscall: window.get32(info + 24),
        arch: window.get32(info + 28),
        error_code: window.get64(frame + offset::GREGS + 19 * 8),
        trapno: window.get64(frame + offset::GREGS + 20 * 8),
    }
}
