//! Which instruction before a `syscall` can become a jump, and what stands in the trampoline that it jumps to.
//!
//! Key type: [`Site`], made by [`find`] from the code before a call that has just trapped. Code cannot be read backwards for certain, so a
//! candidate must pass three tests: it decodes, whole, up to the `syscall`; the constants that it would load are those in the registers;
//! and reading from most places further back meets its first byte.
//!
//! ```text
//!   site   80 3d .. cmpb $0, x(%rip)         trampoline   cmpb $0, x'(%rip)
//!          74 ..    je   away                             je   away
//!          31 c0    xor  %eax, %eax                       xor  %eax, %eax
//!   call   0f 05    syscall                               lea  call+2, %rcx      (as `syscall` would set it)
//!                                                         mov  entry, %r11       (`syscall` clobbers it)
//!                                                         jmp  *%r11
//! ```
//!
//! The first five bytes at the site become the jump. All that follows stays, so that code that jumps there still works, by the signal.
//! Where no instruction is as long (Go's calls are moves of three bytes), two bytes become a short jump to the padding before the function, and
//! there stands the long one.

use linux_abi::{Registers, nr};

use super::decode::{Effect, Instruction, Kind, decode};

/// Bytes of `syscall`.
pub const CALL: u64 = 2;
/// Bytes of the jump.
pub const JUMP: usize = 5;
/// Bytes of the short one.
const SHORT: usize = 2;
/// What assemblers put between functions where nothing may run, and how much of it in a row is taken for that.
const PADDING: [u8; 8] = [0xcc; 8];
/// Farthest start of a site before its `syscall`.
const BEFORE_MAX: usize = 32;
/// Bytes before a call that are looked at: enough for reading to fall into step.
pub const WINDOW: u64 = 96;
/// Longest trampoline.
const TRAMPOLINE_MAX: usize = 112;

/// A call site that can be rewritten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Address of the instruction that becomes a jump.
    pub start: u64,
    /// Where that is short: address of padding in which the long one goes.
    pub padding: Option<u64>,
    /// Address of the `syscall`.
    pub call: u64,
    /// The call number, where the code itself sets it.
    pub number: Option<u32>,
    /// From `start` to `call`.
    pub(super) bytes: Vec<u8>,
    pub(super) moved: Vec<Instruction>,
}

/// Code for a trampoline, and which place in it stands for which in the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trampoline {
    /// Its bytes.
    pub code: Vec<u8>,
    /// Offsets of instructions in `code` and their original addresses, in order.
    pub origins: Vec<(u8, u64)>,
}

/// Looks for a site before the call that has just trapped. `window` is the code up to `call`; `regs` are as the call left them.
#[must_use]
pub fn find(window: &[u8], call: u64, regs: &Registers) -> Option<Site> {
    // A stack unwinder knows the end of a signal handler by these very bytes.
    if regs.orig_rax == nr::RT_SIGRETURN {
        return None;
    }
    let search = |jump: usize| {
        (jump..=BEFORE_MAX.min(window.len())).find_map(|back| {
            let start = window.len() - back;
            let moved = chain(&window[start..], jump)?;
            let number = constants(&moved, regs)?;
            let bytes = window[start..].to_vec();
            let padding = if jump == JUMP { None } else { Some(padding_near(window, start, call)?) };
            let site = Site { start: call - long(back), padding, call, number, bytes, moved };
            (site.leaves_the_jump_alone() && is_in_step(window, start)).then_some(site)
        })
    };
    search(JUMP).or_else(|| search(SHORT))
}

/// Address of padding for a jump, so close before `start` in the window that a short jump reaches it.
fn padding_near(window: &[u8], start: usize, call: u64) -> Option<u64> {
    const REACH: usize = 128 - SHORT;
    let run = window[..start].windows(PADDING.len()).rposition(|bytes| bytes == PADDING)?;
    let at = run + PADDING.len() - JUMP;
    (start - at <= REACH).then(|| call - long(window.len() - at))
}

/// The instructions of `bytes`, if they are known, can be moved, end where `bytes` end, and the first is long enough.
fn chain(bytes: &[u8], jump: usize) -> Option<Vec<Instruction>> {
    let mut moved = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let instruction = decode(&bytes[at..]).filter(|instruction| instruction.kind != Kind::Fixed)?;
        if at == 0 && instruction.len < jump {
            return None;
        }
        at += instruction.len;
        moved.push(instruction);
    }
    Some(moved)
}

/// Compares what the instructions would leave in the registers with what is in them; answers the call number if they set it.
fn constants(moved: &[Instruction], regs: &Registers) -> Option<Option<u32>> {
    let mut known = [None; 16];
    for instruction in moved {
        match instruction.effect {
            Effect::None => {}
            Effect::Set(register, value) => known[usize::from(register & 15)] = Some(value),
            Effect::Clobber(register) => known[usize::from(register & 15)] = None,
            Effect::ClobberAll => known = [None; 16],
        }
    }
    // `rcx` and `r11` are the call's own by now.
    let now = [
        Some(regs.orig_rax),
        None,
        Some(regs.rdx),
        Some(regs.rbx),
        Some(regs.rsp),
        Some(regs.rbp),
        Some(regs.rsi),
        Some(regs.rdi),
        Some(regs.r8),
        Some(regs.r9),
        Some(regs.r10),
        None,
        Some(regs.r12),
        Some(regs.r13),
        Some(regs.r14),
        Some(regs.r15),
    ];
    let agrees = known.iter().zip(now).all(|(known, now)| match (known, now) {
        (Some(known), Some(now)) => *known == now,
        _ => true,
    });
    let number = known[0].map(u32::try_from);
    match number {
        _ if !agrees => None,
        Some(Err(_)) => None,
        Some(Ok(number)) => Some(Some(number)),
        None => Some(None),
    }
}

/// Reading from places before `start` meets `start`, for the most part.
fn is_in_step(window: &[u8], start: usize) -> bool {
    let (mut hits, mut misses) = (0, 0);
    for from in 0..start {
        let mut at = from;
        while at < start {
            let Some(instruction) = decode(&window[at..]) else { break };
            at += instruction.len;
        }
        match at.cmp(&start) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => hits += 1,
            std::cmp::Ordering::Greater => misses += 1,
        }
    }
    misses == 0 || hits > 2 * misses
}

impl Site {
    /// No jump of the site's own leads into the bytes that are replaced.
    fn leaves_the_jump_alone(&self) -> bool {
        let mut at = 0;
        self.moved.iter().all(|instruction| {
            at += instruction.len;
            let Kind::Jump { distance, .. } = instruction.kind else { return true };
            let target = (self.start + long(at)).wrapping_add_signed(i64::from(distance));
            !(1..long(self.jump_len())).contains(&target.wrapping_sub(self.start))
        })
    }

    /// First and last byte that is written.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        (self.padding.unwrap_or(self.start), self.start + long(self.jump_len()) - 1)
    }

    const fn jump_len(&self) -> usize {
        if self.padding.is_some() { SHORT } else { JUMP }
    }

    /// The code for a trampoline at `at` that goes on at `entry`.
    #[must_use]
    pub fn trampoline(&self, at: u64, entry: u64) -> Option<Trampoline> {
        let mut made =
            Trampoline { code: Vec::with_capacity(64), origins: Vec::with_capacity(self.moved.len() + 1) };
        let mut from = 0;
        for instruction in &self.moved {
            made.origins.push((u8::try_from(made.code.len()).ok()?, self.start + long(from)));
            let bytes = self.bytes.get(from..from + instruction.len)?;
            from += instruction.len;
            let behind = self.start + long(from);
            move_instruction(&mut made.code, at, instruction, bytes, behind)?;
        }
        made.origins.push((u8::try_from(made.code.len()).ok()?, self.call));
        let distance = relative(self.call + CALL, at + long(made.code.len()) + 7)?;
        made.code.extend([0x48, 0x8d, 0x0d]);
        made.code.extend(distance);
        made.code.extend([0x49, 0xbb]);
        made.code.extend(entry.to_le_bytes());
        made.code.extend([0x41, 0xff, 0xe3]);
        (made.code.len() <= TRAMPOLINE_MAX).then_some(made)
    }

    /// What is to be written so that the site jumps to a trampoline: at which address what, the site itself last.
    #[must_use]
    pub fn jumps(&self, to: u64) -> Option<Vec<(u64, Vec<u8>)>> {
        let long_at = self.padding.unwrap_or(self.start);
        let mut code = vec![0xe9];
        code.extend(relative(to, long_at + long(JUMP))?);
        let mut jumps = vec![(long_at, code)];
        if let Some(padding) = self.padding {
            let distance = padding.cast_signed() - (self.start + long(SHORT)).cast_signed();
            jumps.push((self.start, vec![0xeb, i8::try_from(distance).ok()?.cast_unsigned()]));
        }
        Some(jumps)
    }
}

/// Appends an instruction that stood before `behind` so that it means the same at its new place.
fn move_instruction(
    code: &mut Vec<u8>,
    base: u64,
    instruction: &Instruction,
    bytes: &[u8],
    behind: u64,
) -> Option<()> {
    match instruction.kind {
        Kind::Plain => code.extend(bytes),
        Kind::Relative { at, distance } => {
            let target = behind.wrapping_add_signed(i64::from(distance));
            let moved = relative(target, base + long(code.len() + bytes.len()))?;
            let first = code.len();
            code.extend(bytes);
            code.get_mut(first + at..first + at + 4)?.copy_from_slice(&moved);
        }
        Kind::Jump { condition, distance } => {
            let target = behind.wrapping_add_signed(i64::from(distance));
            let moved = relative(target, base + long(code.len()) + 6)?;
            code.extend([0x0f, 0x80 | condition]);
            code.extend(moved);
        }
        Kind::Fixed => return None,
    }
    Some(())
}

/// A length as a distance between addresses.
pub(super) const fn long(len: usize) -> u64 {
    len as u64
}

/// The four bytes that lead from `behind` to `target`.
fn relative(target: u64, behind: u64) -> Option<[u8; 4]> {
    let distance = target.cast_signed().checked_sub(behind.cast_signed())?;
    i32::try_from(distance).ok().map(i32::to_le_bytes)
}

#[cfg(test)]
#[path = "site_test.rs"]
mod tests;
