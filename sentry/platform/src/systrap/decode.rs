//! How long is an instruction, may it be moved, and what does it leave in a register?
//!
//! Key function: [`decode`]; key type: [`Instruction`]. A whitelist of what compilers put before a `syscall`: integer instructions and moves of
//! vector registers. Whatever is not listed is not understood, and so never moved. It knows no VEX encodings, no x87, nothing privileged.
//!
//! Source: Intel SDM volume 2, appendix A (opcode maps), and AMD APM volume 3, appendix A.

/// An instruction, as far as moving it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Its bytes.
    pub len: usize,
    /// How it can be moved.
    pub kind: Kind,
    /// What it does to general registers.
    pub effect: Effect,
}

/// How an instruction can be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It means the same wherever it stands.
    Plain,
    /// An operand is `distance` bytes from the instruction's end; the four bytes that say so are at `at`.
    Relative {
        /// Offset in the instruction.
        at: usize,
        /// What they say.
        distance: i32,
    },
    /// A conditional jump.
    Jump {
        /// The low four bits of the opcode.
        condition: u8,
        /// From the instruction's end.
        distance: i32,
    },
    /// It must stay where it is, or nothing follows it.
    Fixed,
}

/// What an instruction does to the general registers, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The register holds this afterwards.
    Set(u8, u64),
    /// The register holds something else afterwards.
    Clobber(u8),
    /// Several registers, or not known which.
    ClobberAll,
}

/// Which register an opcode writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Nothing,
    /// The one that the ModRM byte's `reg` field names.
    Reg,
    /// The one that its `rm` field names, unless that is memory.
    Rm,
    /// Any.
    All,
}

/// The shape of an opcode's operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// ModRM and so many bytes of immediate.
    Modrm(usize, To),
    /// No ModRM; so many bytes of immediate.
    Bare(usize, Effect),
    Jump(usize, u8),
    Fixed(usize),
    FixedModrm,
}

/// Prefixes and a reader behind them.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    rex: u8,
    operand_16: bool,
    repeat: bool,
    is_fixed: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// A little-endian number of `len` bytes, with its sign.
    fn signed(&self, at: usize, len: usize) -> Option<i64> {
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        let mut wide = [if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 }; 8];
        wide[..len].copy_from_slice(bytes);
        Some(i64::from_le_bytes(wide))
    }

    fn wide(&self) -> bool {
        self.rex & 8 != 0
    }

    /// Bytes of an immediate that is as long as the operand, but at most four.
    fn immediate(&self) -> usize {
        if self.operand_16 && !self.wide() { 2 } else { 4 }
    }

    /// Number of the register in the opcode's or ModRM's low bits.
    fn low(&self, bits: u8) -> u8 {
        (bits & 7) | (self.rex & 1) << 3
    }

    fn high(&self, modrm: u8) -> u8 {
        (modrm >> 3 & 7) | (self.rex & 4) << 1
    }

    fn prefixes(&mut self) -> Option<()> {
        while let Some(byte) = self.peek() {
            match byte {
                0x66 => self.operand_16 = true,
                0xf2 | 0xf3 => self.repeat = true,
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 => {}
                // `%gs` is the stub's, and a locked instruction may be entered behind its prefix.
                0x65 | 0xf0 => self.is_fixed = true,
                _ => break,
            }
            self.at += 1;
            if self.at > 8 {
                return None;
            }
        }
        if let Some(rex @ 0x40..=0x4f) = self.peek() {
            self.rex = rex;
            self.at += 1;
        }
        Some(())
    }
}

/// The instruction at the start of `bytes`, if it is one of those that are known here and lies in there whole.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Instruction> {
    let mut reader = Reader { bytes, at: 0, rex: 0, operand_16: false, repeat: false, is_fixed: false };
    reader.prefixes()?;
    let opcode = reader.next()?;
    let (shape, is_byte) = if opcode == 0x0f {
        let second = reader.next()?;
        (two_byte(&reader, second)?, matches!(second, 0x90..=0x9f))
    } else {
        (one_byte(&reader, opcode)?, is_byte_operation(opcode))
    };
    let mut instruction = operands(&mut reader, shape, opcode, is_byte)?;
    if reader.is_fixed {
        instruction.kind = Kind::Fixed;
    }
    (instruction.len <= bytes.len()).then_some(instruction)
}

/// The operation is on 8 bits, where numbers 4 to 7 without a REX prefix are the high halves of others.
const fn is_byte_operation(opcode: u8) -> bool {
    matches!(opcode, 0x00..=0x3f | 0x84 | 0x86 | 0x88 | 0x8a | 0xc0 | 0xc6 | 0xd0 | 0xd2 | 0xf6 | 0xfe | 0x80)
        && opcode & 1 == 0
}

fn operands(reader: &mut Reader<'_>, shape: Shape, opcode: u8, is_byte: bool) -> Option<Instruction> {
    match shape {
        Shape::Bare(immediate, effect) => {
            Some(Instruction { len: reader.at + immediate, kind: Kind::Plain, effect })
        }
        Shape::Fixed(immediate) => {
            Some(Instruction { len: reader.at + immediate, kind: Kind::Fixed, effect: Effect::ClobberAll })
        }
        Shape::Jump(len, condition) => {
            let distance = i32::try_from(reader.signed(reader.at, len)?).ok()?;
            let kind = Kind::Jump { condition, distance };
            Some(Instruction { len: reader.at + len, kind, effect: Effect::None })
        }
        Shape::FixedModrm => {
            let end = modrm_end(reader)?.1;
            Some(Instruction { len: end, kind: Kind::Fixed, effect: Effect::ClobberAll })
        }
        Shape::Modrm(immediate, to) => {
            let modrm = reader.peek()?;
            let (relative, end) = modrm_end(reader)?;
            let len = end + immediate;
            let kind = match relative {
                None => Kind::Plain,
                Some(at) => Kind::Relative { at, distance: i32::try_from(reader.signed(at, 4)?).ok()? },
            };
            let effect = effect_of(reader, modrm, to, opcode, is_byte, end);
            Some(Instruction { len, kind, effect })
        }
    }
}

/// Where the displacement from the instruction's end stands, if there is one, and where the operand's bytes end.
fn modrm_end(reader: &Reader<'_>) -> Option<(Option<usize>, usize)> {
    let modrm = reader.peek()?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    let at = reader.at + 1;
    if mode == 3 {
        return Some((None, at));
    }
    if mode == 0 && rm == 5 {
        return Some((Some(at), at + 4));
    }
    let mut end = at;
    let mut base = rm;
    if rm == 4 {
        base = *reader.bytes.get(at)? & 7;
        end += 1;
    }
    end += match mode {
        0 if rm == 4 && base == 5 => 4,
        0 => 0,
        1 => 1,
        _ => 4,
    };
    Some((None, end))
}

fn effect_of(reader: &Reader<'_>, modrm: u8, to: To, opcode: u8, is_byte: bool, end: usize) -> Effect {
    let is_register = modrm >> 6 == 3;
    let number = match to {
        To::Nothing => return Effect::None,
        To::All => return Effect::ClobberAll,
        To::Reg => reader.high(modrm),
        To::Rm if is_register => reader.low(modrm),
        To::Rm => return Effect::None,
    };
    let is_same = is_register && reader.high(modrm) == reader.low(modrm);
    if matches!(opcode, 0x31 | 0x33) && is_same && !reader.operand_16 {
        return Effect::Set(number, 0);
    }
    if opcode == 0xc7
        && !reader.operand_16
        && let Some(value) = reader.signed(end, 4)
    {
        let value = value.cast_unsigned();
        return Effect::Set(number, if reader.wide() { value } else { value & 0xffff_ffff });
    }
    let is_high_half = is_byte && reader.rex == 0 && number >= 4;
    Effect::Clobber(if is_high_half { number - 4 } else { number })
}

fn one_byte(reader: &Reader<'_>, opcode: u8) -> Option<Shape> {
    let z = reader.immediate();
    let field = reader.peek().map_or(0, |modrm| modrm >> 3 & 7);
    let low = reader.low(opcode);
    Some(match opcode {
        // Zeros are no code.
        0x00 => return None,
        0x01..=0x3f => match (opcode & 7, opcode >> 3) {
            (0..=3, 7) => Shape::Modrm(0, To::Nothing),
            (0 | 1, _) => Shape::Modrm(0, To::Rm),
            (2 | 3, _) => Shape::Modrm(0, To::Reg),
            (4, 7) => Shape::Bare(1, Effect::None),
            (5, 7) => Shape::Bare(z, Effect::None),
            (4, _) => Shape::Bare(1, Effect::Clobber(0)),
            (5, _) => Shape::Bare(z, Effect::Clobber(0)),
            _ => return None,
        },
        0x50..=0x57 => Shape::Bare(0, Effect::None),
        0x58..=0x5f => Shape::Bare(0, Effect::Clobber(low)),
        0x63 | 0x8a | 0x8b => Shape::Modrm(0, To::Reg),
        0x8d if reader.peek()? >> 6 != 3 => Shape::Modrm(0, To::Reg),
        0x68 => Shape::Bare(z, Effect::None),
        0x6a => Shape::Bare(1, Effect::None),
        0x69 => Shape::Modrm(z, To::Reg),
        0x6b => Shape::Modrm(1, To::Reg),
        0x70..=0x7f => Shape::Jump(1, opcode & 15),
        0x80 | 0x83 => Shape::Modrm(1, if field == 7 { To::Nothing } else { To::Rm }),
        0x81 => Shape::Modrm(z, if field == 7 { To::Nothing } else { To::Rm }),
        0x84 | 0x85 => Shape::Modrm(0, To::Nothing),
        0x86 | 0x87 => Shape::Modrm(0, To::All),
        0x88 | 0x89 => Shape::Modrm(0, To::Rm),
        0x90 if reader.rex & 1 == 0 => Shape::Bare(0, Effect::None),
        0x90..=0x97 | 0xc9 | 0xa4 | 0xa5 | 0xaa | 0xab => Shape::Bare(0, Effect::ClobberAll),
        0x98 => Shape::Bare(0, Effect::Clobber(0)),
        0x99 => Shape::Bare(0, Effect::Clobber(2)),
        0xa8 => Shape::Bare(1, Effect::None),
        0xa9 => Shape::Bare(z, Effect::None),
        0xb0..=0xb7 => Shape::Bare(1, Effect::ClobberAll),
        0xb8..=0xbf => return moved_immediate(reader, low),
        0xc0 | 0xc1 => Shape::Modrm(1, To::Rm),
        0xd0..=0xd3 => Shape::Modrm(0, To::Rm),
        0xc6 if field == 0 => Shape::Modrm(1, To::Rm),
        0xc7 if field == 0 => Shape::Modrm(z, To::Rm),
        0xf6 | 0xf7 => match field {
            0 | 1 => Shape::Modrm(if opcode == 0xf6 { 1 } else { z }, To::Nothing),
            2 | 3 => Shape::Modrm(0, To::Rm),
            _ => Shape::Modrm(0, To::All),
        },
        0xfe if field < 2 => Shape::Modrm(0, To::Rm),
        0xff => match field {
            0 | 1 => Shape::Modrm(0, To::Rm),
            6 => Shape::Modrm(0, To::Nothing),
            2 | 4 => Shape::FixedModrm,
            _ => return None,
        },
        0xc3 | 0xcc => Shape::Fixed(0),
        0xe8 | 0xe9 => Shape::Fixed(4),
        0xeb => Shape::Fixed(1),
        _ => return None,
    })
}

/// `mov` of an immediate into the register `to`.
fn moved_immediate(reader: &Reader<'_>, to: u8) -> Option<Shape> {
    if reader.wide() {
        let value = reader.signed(reader.at, 8)?.cast_unsigned();
        return Some(Shape::Bare(8, Effect::Set(to, value)));
    }
    if reader.operand_16 {
        return Some(Shape::Bare(2, Effect::Clobber(to)));
    }
    let value = reader.signed(reader.at, 4)?.cast_unsigned() & 0xffff_ffff;
    Some(Shape::Bare(4, Effect::Set(to, value)))
}

fn two_byte(reader: &Reader<'_>, second: u8) -> Option<Shape> {
    let low = reader.low(second);
    Some(match second {
        0x05 | 0x0b => Shape::Fixed(0),
        // Hints and no-operations, `endbr64` among them.
        0x0d | 0x18..=0x1f => Shape::Modrm(0, To::Nothing),
        // Moves and arithmetic of vector registers.
        0x10..=0x17
        | 0x28..=0x2b
        | 0x2e
        | 0x2f
        | 0x51..=0x6f
        | 0x74..=0x76
        | 0x7f
        | 0xd4
        | 0xd6
        | 0xe7
        | 0xeb
        | 0xef
        | 0xfa..=0xfe => Shape::Modrm(0, To::Nothing),
        0x70 | 0xc6 => Shape::Modrm(1, To::Nothing),
        0x2c | 0x2d | 0x50 | 0x7e | 0xd7 => Shape::Modrm(0, To::All),
        0x40..=0x4f | 0xaf | 0xb6 | 0xb7 | 0xbc..=0xbf => Shape::Modrm(0, To::Reg),
        0xb8 if reader.repeat => Shape::Modrm(0, To::Reg),
        0x80..=0x8f => Shape::Jump(4, second & 15),
        0x90..=0x9f | 0xab | 0xb3 | 0xbb | 0xa5 | 0xad => Shape::Modrm(0, To::Rm),
        0xa3 => Shape::Modrm(0, To::Nothing),
        0xa4 | 0xac | 0xba => Shape::Modrm(1, To::Rm),
        0xb0 | 0xb1 | 0xc0 | 0xc1 => Shape::Modrm(0, To::All),
        0xc8..=0xcf => Shape::Bare(0, Effect::Clobber(low)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Instruction {
        decode(bytes).expect("known")
    }

    #[test]
    fn lengths_are_those_of_the_disassembler() {
        let known: [&[u8]; 22] = [
            &[0xb8, 0x27, 0, 0, 0],                         // mov $0x27,%eax
            &[0x41, 0xb8, 0xca, 0, 0, 0],                   // mov $0xca,%r8d
            &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0],             // mov $0xf,%rax
            &[0x49, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8],          // movabs
            &[0x66, 0xb8, 1, 0],                            // mov $1,%ax
            &[0x31, 0xc0],                                  // xor %eax,%eax
            &[0x80, 0x3d, 0x31, 0x33, 0x0e, 0, 0],          // cmpb $0,x(%rip)
            &[0x4c, 0x8b, 0x4c, 0x24, 0x08],                // mov 8(%rsp),%r9
            &[0x48, 0x8b, 0x84, 0x24, 0x88, 0, 0, 0],       // mov 0x88(%rsp),%rax
            &[0x8b, 0x04, 0x25, 0x10, 0, 0, 0],             // mov 0x10,%eax
            &[0x64, 0x8b, 0x04, 0x25, 0xd0, 2, 0, 0],       // mov %fs:0x2d0,%eax
            &[0x40, 0x80, 0xf6, 0x81],                      // xor $0x81,%sil
            &[0x81, 0xe6, 0x80, 0, 0, 0],                   // and $0x80,%esi
            &[0x74, 0x17],                                  // je
            &[0x0f, 0x84, 0x17, 0, 0, 0],                   // je
            &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], // cs nopw
            &[0xf3, 0x0f, 0x1e, 0xfa],                      // endbr64
            &[0x0f, 0x29, 0x44, 0x24, 0x10],                // movaps %xmm0,0x10(%rsp)
            &[0x41, 0xc7, 0x44, 0xd0, 0x08, 0, 0, 0, 0],    // movl $0,8(%r8,%rdx,8)
            &[0xf6, 0x43, 0x08, 0x40],                      // testb $0x40,8(%rbx)
            &[0xe8, 0, 0, 0, 0],                            // call
            &[0x48, 0x8d, 0x35, 0xdd, 0x78, 0x11, 0],       // lea x(%rip),%rsi
        ];
        for bytes in known {
            let mut padded = bytes.to_vec();
            padded.extend([0x90; 12]);
            assert_eq!(one(&padded).len, bytes.len(), "{bytes:02x?}");
            assert_eq!(decode(&bytes[..bytes.len() - 1]), None, "{bytes:02x?} cut short");
        }
    }

    #[test]
    fn effects_name_the_register_that_is_written() {
        assert_eq!(one(&[0xb8, 0xff, 0xff, 0xff, 0xff]).effect, Effect::Set(0, 0xffff_ffff));
        assert_eq!(one(&[0x41, 0xb8, 0xca, 0, 0, 0]).effect, Effect::Set(8, 0xca));
        assert_eq!(one(&[0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff]).effect, Effect::Set(0, u64::MAX));
        assert_eq!(one(&[0x45, 0x31, 0xd2]).effect, Effect::Set(10, 0));
        assert_eq!(one(&[0x31, 0xd0]).effect, Effect::Clobber(0));
        assert_eq!(one(&[0x44, 0x89, 0xc8]).effect, Effect::Clobber(0));
        assert_eq!(one(&[0x89, 0x44, 0x24, 0x08]).effect, Effect::None);
        assert_eq!(one(&[0xb4, 1]).effect, Effect::ClobberAll);
        assert_eq!(one(&[0x80, 0xc4, 1]).effect, Effect::Clobber(0)); // add $1,%ah
        assert_eq!(one(&[0x40, 0x80, 0xf6, 0x81]).effect, Effect::Clobber(6));
    }

    #[test]
    fn what_must_stay_is_fixed_and_the_rest_unknown() {
        for bytes in
            [&[0xc3][..], &[0x0f, 0x05], &[0xeb, 1], &[0xff, 0xd0], &[0xf0, 0x89, 0x07], &[0x65, 0x8b, 0x07]]
        {
            assert_eq!(one(bytes).kind, Kind::Fixed, "{bytes:02x?}");
        }
        for bytes in
            [&[0x00, 0x00][..], &[0xc5, 0xf8, 0x77], &[0xf4], &[0x67, 0x8b, 0x07], &[0x0f, 0x38, 0, 0]]
        {
            assert_eq!(decode(bytes), None, "{bytes:02x?}");
        }
    }
}
