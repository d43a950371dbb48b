//! What lies on a guest's stack while a signal handler runs, and back (`rt_sigreturn(2)`)?
//!
//! Key type: [`Placement`]. Layout and order of checks: `arch/x86/kernel/signal.c` and `signal_64.c`.
//!
//! ```text
//! interrupted stack │ red zone 128 │ extended state (64-aligned) │ rt_sigframe (16-aligned, less 8)
//!                                                                └ the handler's rsp: return address first
//! ```

use linux_abi::signal::{
    FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FpxSwBytes, RtSigFrame, SW_RESERVED_OFFSET, SigAction, SigContext,
    SigInfo, StackT, UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, UContext, sa, ss,
};
use linux_abi::{Registers, UserPtr};
use platform::Fault;
use zerocopy::{FromBytes, IntoBytes};

use super::{SigSet, Signal};
use crate::Errno;
use crate::task::Current;

/// Below the stack pointer, functions may keep data without moving it.
const RED_ZONE: u64 = 128;
/// User code and data segments of 64-bit mode.
const USER_CS: u16 = 0x33;
const USER_DS: u16 = 0x2b;
/// Flags cleared when a handler starts: direction, resume, trap.
const HANDLER_CLEARS: u64 = 0x400 | 0x1_0000 | 0x100;
/// Flags that `rt_sigreturn` takes from the frame. LINUX: `FIX_EFLAGS`.
const RESTORED_FLAGS: u64 = 0x5_0dd5;
/// The legacy part of an extended state, without XSAVE header.
const LEGACY_STATE: usize = 512;
/// More than any processor's extended state. LINUX: its own size, asked from the processor.
const STATE_MAX: u32 = 32 << 10;

/// Where the parts of a frame go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    fpstate: u64,
    frame: u64,
}

/// The stack pointer lies on the alternate stack.
fn on_stack(stack: &StackT, sp: u64) -> bool {
    stack.flags & ss::DISABLE == 0 && sp > stack.sp && sp - stack.sp <= stack.size
}

/// `ss_flags` as `sigaltstack(2)` tells them.
pub(super) fn stack_flags(stack: &StackT, sp: u64) -> i32 {
    if stack.size == 0 {
        return ss::DISABLE;
    }
    // LINUX: sas_ss_flags: an autodisarmed stack is never "in use".
    if stack.flags & ss::AUTODISARM == 0 && on_stack(stack, sp) { ss::ONSTACK } else { 0 }
}

/// Chooses places below `sp`, or on the alternate stack if the action wants it.
///
/// # Errors
/// EFAULT if the alternate stack would overflow.
pub(super) fn place(
    sp: u64,
    action: &SigAction,
    stack: &StackT,
    state_len: usize,
) -> Result<Placement, Errno> {
    let mut sp = sp.wrapping_sub(RED_ZONE);
    let nested = stack_flags(stack, sp) == ss::ONSTACK;
    let enters = action.flags & sa::ONSTACK != 0 && stack_flags(stack, sp) == 0 && stack.size > 0;
    if enters {
        sp = stack.sp.wrapping_add(stack.size);
    }
    let state_len = state_len as u64 + size_of_val(&FP_XSTATE_MAGIC2) as u64;
    let fpstate = sp.wrapping_sub(state_len) & !63;
    let frame = (fpstate.wrapping_sub(size_of::<RtSigFrame>() as u64) & !15).wrapping_sub(8);
    let inside = frame > stack.sp && frame - stack.sp <= stack.size;
    if (nested || enters) && !inside {
        return Err(Errno::EFAULT);
    }
    Ok(Placement { fpstate, frame })
}

/// The registers as the frame keeps them.
fn sigcontext(regs: &Registers, fault: Option<Fault>, blocked: SigSet, fpstate: u64) -> SigContext {
    SigContext {
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rdi: regs.rdi,
        rsi: regs.rsi,
        rbp: regs.rbp,
        rbx: regs.rbx,
        rdx: regs.rdx,
        rax: regs.rax,
        rcx: regs.rcx,
        rsp: regs.rsp,
        rip: regs.rip,
        rflags: regs.rflags,
        cs: USER_CS,
        ss: USER_DS,
        err: fault.map_or(0, |fault| fault.error_code),
        trapno: fault.map_or(0, |fault| fault.trapno),
        cr2: fault.filter(|fault| fault.trapno == 14).map_or(0, |fault| fault.addr),
        oldmask: blocked.0,
        fpstate,
        ..SigContext::default()
    }
}

/// The registers from a frame; what a guest may not set stays as it is.
fn registers(context: &SigContext, old: &Registers) -> Registers {
    Registers {
        rax: context.rax,
        rbx: context.rbx,
        rcx: context.rcx,
        rdx: context.rdx,
        rsi: context.rsi,
        rdi: context.rdi,
        rbp: context.rbp,
        rsp: context.rsp,
        r8: context.r8,
        r9: context.r9,
        r10: context.r10,
        r11: context.r11,
        r12: context.r12,
        r13: context.r13,
        r14: context.r14,
        r15: context.r15,
        rip: context.rip,
        rflags: old.rflags & !RESTORED_FLAGS | context.rflags & RESTORED_FLAGS,
        fs_base: old.fs_base,
        gs_base: old.gs_base,
        orig_rax: u64::MAX,
    }
}

/// Puts the marks around an XSAVE image by which handlers and `rt_sigreturn` know its length.
fn seal_state(image: &mut Vec<u8>) {
    let Ok(len) = u32::try_from(image.len()) else { return };
    if image.len() <= LEGACY_STATE {
        return;
    }
    let features =
        image.get(LEGACY_STATE..LEGACY_STATE + 8).and_then(|bytes| u64::read_from_bytes(bytes).ok());
    let marks = FpxSwBytes {
        magic1: FP_XSTATE_MAGIC1,
        extended_size: len + 4,
        xfeatures: features.unwrap_or(0) | 3,
        xstate_size: len,
        padding: [0; 7],
    };
    let end = SW_RESERVED_OFFSET + size_of::<FpxSwBytes>();
    if let Some(place) = image.get_mut(SW_RESERVED_OFFSET..end) {
        place.copy_from_slice(marks.as_bytes());
    }
    image.extend_from_slice(&FP_XSTATE_MAGIC2.to_ne_bytes());
}

impl Current {
    /// Makes the guest run a handler when it runs next.
    ///
    /// # Errors
    /// EFAULT if the frame cannot be written, or the action has no restorer.
    pub(super) fn push_frame(
        &mut self,
        signal: Signal,
        info: &SigInfo,
        action: &SigAction,
    ) -> Result<(), Errno> {
        // LINUX: x86-64 has no default way back.
        if action.flags & sa::RESTORER == 0 {
            return Err(Errno::EFAULT);
        }
        let mut state = Vec::new();
        self.context_mut().save_extended(&mut state)?;
        let (stack, blocked) = {
            let signals = self.task().lock_signals();
            (signals.stack, signals.saved.unwrap_or(signals.blocked()))
        };
        let place = place(self.regs.rsp, action, &stack, state.len())?;
        let has_header = state.len() > LEGACY_STATE;
        seal_state(&mut state);
        let fault = self.take_fault();
        let mut shown = stack;
        shown.flags = stack.flags & ss::AUTODISARM | stack_flags(&stack, self.regs.rsp);
        let xstate = if has_header { UC_FP_XSTATE } else { 0 };
        let frame = RtSigFrame {
            pretcode: action.restorer,
            uc: UContext {
                flags: xstate | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
                link: 0,
                stack: shown,
                mcontext: sigcontext(&self.regs, fault, blocked, place.fpstate),
                sigmask: blocked.0,
            },
            info: *info,
        };
        self.write_user(place.fpstate, &state)?;
        self.write_user(place.frame, frame.as_bytes())?;
        // The handler may look at the frame at once, on this very stack.
        self.context_mut().flush_writes()?;
        if stack.flags & ss::AUTODISARM != 0 {
            self.task().lock_signals().stack = StackT::default();
        }
        self.regs.rdi = u64::from(signal.number().cast_unsigned());
        self.regs.rax = 0;
        self.regs.rsi = place.frame + std::mem::offset_of!(RtSigFrame, info) as u64;
        self.regs.rdx = place.frame + std::mem::offset_of!(RtSigFrame, uc) as u64;
        self.regs.rip = action.handler;
        self.regs.rsp = place.frame;
        self.regs.rflags &= !HANDLER_CLEARS;
        self.regs.orig_rax = u64::MAX;
        Ok(())
    }

    /// `rt_sigreturn(2)`: takes registers, mask and alternate stack from the frame on the stack.
    ///
    /// # Errors
    /// EFAULT if there is no proper frame; the caller then forces SIGSEGV.
    pub fn pop_frame(&mut self) -> Result<(), Errno> {
        let frame = self.regs.rsp.wrapping_sub(8);
        let frame: RtSigFrame = self.read_object(UserPtr::new(frame))?;
        let context = frame.uc.mcontext;
        if context.cs & 3 != 3 {
            return Err(Errno::EFAULT);
        }
        let state = self.read_state(context.fpstate)?;
        self.context_mut().load_extended(state.as_deref()).map_err(|_| Errno::EFAULT)?;
        self.set_blocked(SigSet::blockable(frame.uc.sigmask));
        self.regs = registers(&context, &self.regs);
        // LINUX: restore_altstack: errors are ignored.
        let _ = self.set_alternate_stack(frame.uc.stack);
        Ok(())
    }

    /// The extended state that a frame points at.
    fn read_state(&self, addr: u64) -> Result<Option<Vec<u8>>, Errno> {
        if addr == 0 {
            return Ok(None);
        }
        let marks: FpxSwBytes =
            self.read_object(UserPtr::new(addr.wrapping_add(SW_RESERVED_OFFSET as u64)))?;
        let is_extended = marks.magic1 == FP_XSTATE_MAGIC1
            && marks.xstate_size as usize > LEGACY_STATE
            && marks.xstate_size <= STATE_MAX
            && marks.xstate_size <= marks.extended_size;
        let len = if is_extended { marks.xstate_size as usize } else { LEGACY_STATE };
        let mut image = vec![0; len];
        self.read_user(addr, &mut image)?;
        Ok(Some(image))
    }

    /// `sigaltstack(2)`: replaces the alternate stack.
    ///
    /// # Errors
    /// EPERM while running on it; EINVAL for unknown flags; ENOMEM if it is too small.
    pub fn set_alternate_stack(&mut self, stack: StackT) -> Result<(), Errno> {
        /// LINUX: `MINSIGSTKSZ`.
        const MIN_SIZE: u64 = 2048;
        let sp = self.regs.rsp;
        let mut signals = self.task().lock_signals();
        if stack_flags(&signals.stack, sp) == ss::ONSTACK {
            return Err(Errno::EPERM);
        }
        let mode = stack.flags & !ss::AUTODISARM;
        if mode != ss::DISABLE && mode != ss::ONSTACK && mode != 0 {
            return Err(Errno::EINVAL);
        }
        if mode == ss::DISABLE {
            signals.stack = StackT { flags: stack.flags, ..StackT::default() };
            return Ok(());
        }
        if stack.size < MIN_SIZE {
            return Err(Errno::ENOMEM);
        }
        signals.stack = StackT { flags: stack.flags & ss::AUTODISARM, pad: 0, ..stack };
        Ok(())
    }

    /// The alternate stack as `sigaltstack(2)` shows it.
    #[must_use]
    pub fn alternate_stack(&self) -> StackT {
        let mut stack = self.task().lock_signals().stack;
        stack.flags = stack.flags & ss::AUTODISARM | stack_flags(&stack, self.regs.rsp);
        stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(flags: u64) -> SigAction {
        SigAction { handler: 0x1000, flags: flags | sa::RESTORER, restorer: 0x2000, mask: 0 }
    }

    #[test]
    fn a_frame_is_aligned_as_a_function_call_expects() {
        for sp in 0x7000_0000..0x7000_0040_u64 {
            let place = place(sp, &handler(0), &StackT::default(), 832).expect("no alternate stack");
            assert_eq!((place.frame + 8) % 16, 0);
            assert_eq!(place.fpstate % 64, 0);
            assert!(place.fpstate + 836 <= sp - RED_ZONE);
            assert!(place.frame + 440 <= place.fpstate);
        }
    }

    #[test]
    fn the_alternate_stack_is_used_from_its_top() {
        let stack = StackT { sp: 0x10_0000, flags: 0, pad: 0, size: 0x4000 };
        let place = place(0x7000_0000, &handler(sa::ONSTACK), &stack, 832).expect("large enough");
        assert!(place.frame > stack.sp && place.frame < stack.sp + stack.size);
    }

    #[test]
    fn an_alternate_stack_overflow_is_a_fault() {
        let stack = StackT { sp: 0x10_0000, flags: 0, pad: 0, size: 2048 };
        assert_eq!(place(0x7000_0000, &handler(sa::ONSTACK), &stack, 2696), Err(Errno::EFAULT));
        assert_eq!(place(0x10_0100, &handler(sa::ONSTACK), &stack, 832), Err(Errno::EFAULT));
    }

    #[test]
    fn registers_survive_a_frame_but_privileged_flags_do_not_come_from_it() {
        let regs = Registers { rax: 1, r15: 2, rip: 3, rflags: 0x202, fs_base: 9, ..Registers::default() };
        let mut context = sigcontext(&regs, None, SigSet::EMPTY, 0);
        context.rflags = 0x3000 | 0x1;
        let back = registers(&context, &regs);
        assert_eq!((back.rax, back.r15, back.rip, back.fs_base), (1, 2, 3, 9));
        assert_eq!(back.rflags, 0x203);
    }

    #[test]
    fn a_sealed_state_tells_its_length() {
        let mut image = vec![0; 832];
        seal_state(&mut image);
        assert_eq!(image.len(), 836);
        let marks = FpxSwBytes::read_from_bytes(&image[464..512]).expect("48 bytes");
        assert_eq!((marks.magic1, marks.xstate_size, marks.extended_size), (FP_XSTATE_MAGIC1, 832, 836));
    }
}
