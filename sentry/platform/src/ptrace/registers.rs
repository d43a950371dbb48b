//! Between the kernel's registers and those of `ptrace(2)`.

use libc::user_regs_struct;
use linux_abi::{Registers, TASK_SIZE};

/// Reads the general registers; `orig_rax` as it is.
pub fn get(from: &user_regs_struct, regs: &mut Registers) {
    *regs = Registers {
        rax: from.rax,
        rbx: from.rbx,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        rbp: from.rbp,
        rsp: from.rsp,
        r8: from.r8,
        r9: from.r9,
        r10: from.r10,
        r11: from.r11,
        r12: from.r12,
        r13: from.r13,
        r14: from.r14,
        r15: from.r15,
        rip: from.rip,
        rflags: from.eflags,
        fs_base: from.fs_base,
        gs_base: from.gs_base,
        orig_rax: from.orig_rax,
    };
}

/// A base that the host accepts.
fn base(claimed: u64) -> u64 {
    if claimed < TASK_SIZE { claimed } else { 0 }
}

/// Registers for the guest to go on with. `segments` is where selectors come from: those of a 64-bit process.
#[must_use]
pub fn put(regs: &Registers, segments: &user_regs_struct) -> user_regs_struct {
    user_regs_struct {
        rax: regs.rax,
        rbx: regs.rbx,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        rbp: regs.rbp,
        rsp: regs.rsp,
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rip: regs.rip,
        eflags: regs.safe_rflags(),
        fs_base: base(regs.fs_base),
        gs_base: base(regs.gs_base),
        // No call is under way that the host might restart.
        orig_rax: u64::MAX,
        ..*segments
    }
}

/// Registers for a call of the host at `rip`, where a `syscall` instruction is.
#[must_use]
pub fn call(number: u64, args: [u64; 6], rip: u64, segments: &user_regs_struct) -> user_regs_struct {
    let [rdi, rsi, rdx, r10, r8, r9] = args;
    let regs = Registers { rax: number, rdi, rsi, rdx, r10, r8, r9, rip, ..Registers::default() };
    user_regs_struct { fs_base: segments.fs_base, gs_base: segments.gs_base, ..put(&regs, segments) }
}

/// Registers for the loop in which a thread sleeps that nobody traces.
#[must_use]
pub fn park(rip: u64, slot: u64, segments: &user_regs_struct) -> user_regs_struct {
    put(&Registers { r15: slot, rip, ..Registers::default() }, segments)
}
