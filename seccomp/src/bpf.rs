//! How a list of system-call rules becomes a classic BPF program for seccomp, and what such a program answers.
//!
//! Key types: [`Program`] (numbers, conditions, actions), [`Cond`] (one test of an argument), [`Action`].
//! [`Program::compile`] emits a binary tree over the numbers, so a call costs about `log2(rules)` comparisons
//! before its own argument tests. [`evaluate`] runs a program without the kernel, for tests.
//! It installs nothing: see [`crate::install`], or pass the filters to seccomp(2) yourself where a flag
//! such as a user-notification listener is needed.

use std::collections::{BTreeMap, BTreeSet};

/// One BPF instruction, as the kernel takes it.
pub use libc::sock_filter;

/// `AUDIT_ARCH_X86_64`: little endian, 64 bit, `EM_X86_64`.
pub const ARCH_X86_64: u32 = 0xC000_003E;
/// Calls numbered from here on are of the x32 ABI.
pub const X32_BIT: u32 = 0x4000_0000;
/// Longest program the kernel accepts, in instructions (`BPF_MAXINSNS`).
pub const PROGRAM_MAX: usize = 4096;

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_IP: u32 = 8;
const OFFSET_ARGS: u32 = 16;

const LD_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Let it through and write a line to the audit log.
    Log,
    /// Ask the listener.
    UserNotif,
    /// Stop for a tracer, with this message.
    Trace(u16),
    /// Fail with this errno.
    Errno(u16),
    /// `SIGSYS` to the caller, with this `si_errno`.
    Trap(u16),
    /// End the thread.
    KillThread,
    /// End the process as if by an uncaught `SIGSYS`.
    KillProcess,
}

impl Action {
    /// The `SECCOMP_RET_*` word.
    #[must_use]
    pub const fn word(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::UserNotif => 0x7fc0_0000,
            Self::Trace(message) => 0x7ff0_0000 | message as u32,
            Self::Errno(errno) => 0x0005_0000 | errno as u32,
            Self::Trap(data) => 0x0003_0000 | data as u32,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }

    /// The action of a `SECCOMP_RET_*` word; an unknown one kills, as in the kernel.
    #[must_use]
    pub const fn of_word(word: u32) -> Self {
        let data = (word & 0xffff) as u16;
        match word & 0xffff_0000 {
            0x7fff_0000 => Self::Allow,
            0x7ffc_0000 => Self::Log,
            0x7fc0_0000 => Self::UserNotif,
            0x7ff0_0000 => Self::Trace(data),
            0x0005_0000 => Self::Errno(data),
            0x0003_0000 => Self::Trap(data),
            0 => Self::KillThread,
            _ => Self::KillProcess,
        }
    }
}

/// What a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Argument 0 to 5.
    Arg(u8),
    /// The address after the `syscall` instruction. No boundary against code in the same address space.
    Ip,
}

impl Field {
    fn offset(self) -> u32 {
        match self {
            Self::Arg(index) => {
                assert!(index < 6, "a system call has six arguments");
                OFFSET_ARGS + 8 * u32::from(index)
            }
            Self::Ip => OFFSET_IP,
        }
    }
}

/// How many bits of the field the kernel looks at: an `int` argument's upper half is ignored by it, and so here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// The low 32 bits.
    Int,
    /// All 64.
    Long,
}

/// A comparison, unsigned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// Equal.
    Eq(u64),
    /// Not equal.
    Ne(u64),
    /// Less.
    Lt(u64),
    /// Less or equal.
    Le(u64),
    /// Greater.
    Gt(u64),
    /// Greater or equal.
    Ge(u64),
    /// `field & mask == value`.
    Masked {
        /// Which bits count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// One of these, all below 2^32.
    In(Vec<u32>),
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cond {
    /// What is compared.
    pub field: Field,
    /// How wide it is.
    pub width: Width,
    /// With what.
    pub test: Test,
}

impl Cond {
    /// A test of all 64 bits of an argument.
    #[must_use]
    pub const fn long(arg: u8, test: Test) -> Self {
        Self { field: Field::Arg(arg), width: Width::Long, test }
    }

    /// A test of an argument that the kernel takes as `int` or `unsigned int`.
    #[must_use]
    pub const fn int(arg: u8, test: Test) -> Self {
        Self { field: Field::Arg(arg), width: Width::Int, test }
    }

    /// A test of the instruction pointer.
    #[must_use]
    pub const fn ip(test: Test) -> Self {
        Self { field: Field::Ip, width: Width::Long, test }
    }

    /// Whether the call would pass: what the compiled form must agree with.
    #[must_use]
    pub fn holds(&self, data: &SeccompData) -> bool {
        let raw = match self.field {
            Field::Arg(index) => data.args[usize::from(index)],
            Field::Ip => data.instruction_pointer,
        };
        let (field, bits) = match self.width {
            Width::Int => (raw & LOW, LOW),
            Width::Long => (raw, u64::MAX),
        };
        match &self.test {
            Test::Eq(value) => field == value & bits,
            Test::Ne(value) => field != value & bits,
            Test::Lt(value) => field < value & bits,
            Test::Le(value) => field <= value & bits,
            Test::Gt(value) => field > value & bits,
            Test::Ge(value) => field >= value & bits,
            Test::Masked { mask, value } => field & mask == value & bits,
            Test::In(values) => values.iter().any(|&value| field == u64::from(value)),
        }
    }
}

const LOW: u64 = 0xffff_ffff;
/// In the distance of a jump: it goes to a shared block of this number, whose place is not known yet.
const SHARED: u32 = 1 << 31;

/// What seccomp shows a filter: `struct seccomp_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeccompData {
    /// Call number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Address after the `syscall` instruction.
    pub instruction_pointer: u64,
    /// The six arguments.
    pub args: [u64; 6],
}

impl SeccompData {
    /// An x86-64 call.
    #[must_use]
    pub const fn x86_64(nr: u32, args: [u64; 6]) -> Self {
        Self { nr, arch: ARCH_X86_64, instruction_pointer: 0, args }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    conditions: Vec<Cond>,
    action: Action,
}

/// Rules by number, and what happens to everything else.
#[derive(Debug, Clone)]
pub struct Program {
    default: Action,
    foreign: Action,
    hot: Vec<u32>,
    rules: BTreeMap<u32, Vec<Alternative>>,
}

impl Program {
    /// A program without rules: `default` for every x86-64 call, [`Action::KillProcess`] for other ABIs.
    #[must_use]
    pub const fn new(default: Action) -> Self {
        Self { default, foreign: Action::KillProcess, hot: Vec::new(), rules: BTreeMap::new() }
    }

    /// What happens to i386 and x32 calls.
    #[must_use]
    pub const fn foreign(mut self, action: Action) -> Self {
        self.foreign = action;
        self
    }

    /// Adds a rule: all `conditions` hold -> `action`. Rules of one number are tried in the order they were
    /// added; when none fits the default applies.
    #[must_use]
    pub fn rule(mut self, nr: u32, conditions: &[Cond], action: Action) -> Self {
        let alternative = Alternative { conditions: conditions.to_vec(), action };
        self.rules.entry(nr).or_default().push(alternative);
        self
    }

    /// Tests this number before the tree: a linear prefix for the one or two calls that matter most.
    #[must_use]
    pub fn first(mut self, nr: u32) -> Self {
        self.hot.push(nr);
        self
    }

    /// How many different calls have a rule.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.rules.len()
    }

    /// Emits the program.
    ///
    /// # Panics
    /// When it would be longer than [`PROGRAM_MAX`], or a jump does not fit: a rule list out of hand.
    #[must_use]
    pub fn compile(&self) -> Vec<sock_filter> {
        let mut code = vec![
            load(OFFSET_ARCH),
            jump(JEQ_K, ARCH_X86_64, 1, 0),
            ret(self.foreign),
            load(OFFSET_NR),
            jump(JGE_K, X32_BIT, 0, 1),
            ret(self.foreign),
        ];
        for nr in &self.hot {
            if let Some(alternatives) = self.rules.get(nr) {
                let block = self.block(alternatives);
                code.push(jump(JEQ_K, *nr, 1, 0));
                code.push(jump_always(block.len()));
                code.extend(block);
            }
        }
        let hot: BTreeSet<u32> = self.hot.iter().copied().collect();
        let rest: Vec<_> = self.rules.iter().filter(|(nr, _)| !hot.contains(nr)).collect();
        let shared = shared_blocks(&rest);
        code.extend(self.tree(&rest, &shared));
        let mut starts = Vec::with_capacity(shared.len());
        for block in shared {
            starts.push(code.len());
            code.extend(self.block(block));
        }
        link(&mut code, &starts);
        assert!(
            code.len() <= PROGRAM_MAX,
            "the filter has {} instructions, the kernel takes {PROGRAM_MAX}",
            code.len()
        );
        code
    }

    fn tree(&self, rules: &[Rule<'_>], shared: &[&[Alternative]]) -> Vec<sock_filter> {
        match rules {
            [] => vec![ret(self.default)],
            [(nr, alternatives)] => {
                let mut code = vec![jump(JEQ_K, **nr, 1, 0), ret(self.default)];
                match shared.iter().position(|block| block == alternatives) {
                    Some(index) => code.push(jump_always(SHARED as usize | index)),
                    None => code.extend(self.block(alternatives)),
                }
                code
            }
            _ => {
                let (below, above) = rules.split_at(rules.len() / 2);
                let left = self.tree(below, shared);
                let mut code = vec![jump(JGE_K, *above[0].0, 0, 1), jump_always(left.len())];
                code.extend(left);
                code.extend(self.tree(above, shared));
                code
            }
        }
    }

    /// The rules of one number; every path through it returns.
    fn block(&self, alternatives: &[Alternative]) -> Vec<sock_filter> {
        let mut code = Vec::new();
        for Alternative { conditions, action } in alternatives {
            code.extend(all_hold(conditions));
            code.push(ret(*action));
            if conditions.is_empty() {
                return code;
            }
        }
        code.push(ret(self.default));
        code
    }
}

/// A number and its rules.
type Rule<'a> = (&'a u32, &'a Vec<Alternative>);

/// Rules with conditions that several numbers have: emitted once, behind the tree. PERF: the kernel takes 0.15 us an instruction to
/// accept and translate a filter, which every guest thread installs.
fn shared_blocks<'a>(rules: &[Rule<'a>]) -> Vec<&'a [Alternative]> {
    let mut shared: Vec<&[Alternative]> = Vec::new();
    for (_, block) in rules {
        let has_conditions = block.iter().any(|alternative| !alternative.conditions.is_empty());
        let count = rules.iter().filter(|(_, other)| other == block).count();
        if has_conditions && count > 1 && !shared.contains(&block.as_slice()) {
            shared.push(block);
        }
    }
    shared
}

/// Fills in where the shared blocks are.
fn link(code: &mut [sock_filter], starts: &[usize]) {
    for (at, instruction) in code.iter_mut().enumerate() {
        if instruction.code == JA && instruction.k & SHARED != 0 {
            let index = usize::try_from(instruction.k & !SHARED).expect("u32 fits");
            *instruction = jump_always(starts[index] - (at + 1));
        }
    }
}

/// Where a half-emitted jump goes.
#[derive(Clone, Copy)]
enum To {
    /// The following instruction.
    On,
    /// The end of this condition, which holds.
    Held,
    /// Past the return of this rule: it does not apply.
    Failed,
}

struct Draft {
    code: u16,
    k: u32,
    yes: To,
    no: To,
}

/// Falls through when all conditions hold, else jumps over the one instruction that follows.
fn all_hold(conditions: &[Cond]) -> Vec<sock_filter> {
    let drafts: Vec<Vec<Draft>> = conditions.iter().map(draft).collect();
    let total: usize = drafts.iter().map(Vec::len).sum();
    let mut code = Vec::with_capacity(total);
    let mut end = 0;
    for condition in drafts {
        end += condition.len();
        for Draft { code: operation, k, yes, no } in condition {
            let next = code.len() + 1;
            let distance = |to| match to {
                To::On => 0,
                To::Held => end - next,
                To::Failed => total + 1 - next,
            };
            let short = |to| u8::try_from(distance(to)).expect("one rule is shorter than a jump reaches");
            code.push(jump(operation, k, short(yes), short(no)));
        }
    }
    code
}

fn draft(condition: &Cond) -> Vec<Draft> {
    let offset = condition.field.offset();
    let plain = |code, k| Draft { code, k, yes: To::On, no: To::On };
    let test = |code, k, yes, no| Draft { code, k, yes, no };
    let (low, high) = (plain(LD_ABS, offset), plain(LD_ABS, offset + 4));
    // The high word decides or leaves it to the low one.
    let equal_high = |k| test(JEQ_K, k, To::On, To::Failed);
    let mut code = Vec::new();
    let wide = condition.width == Width::Long;
    if wide {
        code.push(high);
    }
    match &condition.test {
        Test::Eq(value) => {
            code.extend(wide.then(|| equal_high(upper(*value))));
            code.extend([low, test(JEQ_K, lower(*value), To::On, To::Failed)]);
        }
        Test::Ne(value) => {
            code.extend(wide.then(|| test(JEQ_K, upper(*value), To::On, To::Held)));
            code.extend([low, test(JEQ_K, lower(*value), To::Failed, To::On)]);
        }
        Test::Gt(value) | Test::Ge(value) => {
            if wide {
                code.extend([test(JGT_K, upper(*value), To::Held, To::On), equal_high(upper(*value))]);
            }
            let operation = if matches!(condition.test, Test::Gt(_)) { JGT_K } else { JGE_K };
            code.extend([low, test(operation, lower(*value), To::On, To::Failed)]);
        }
        Test::Lt(value) | Test::Le(value) => {
            if wide {
                let above = test(JGT_K, upper(*value), To::Failed, To::On);
                code.extend([above, test(JEQ_K, upper(*value), To::On, To::Held)]);
            }
            let operation = if matches!(condition.test, Test::Le(_)) { JGT_K } else { JGE_K };
            code.extend([low, test(operation, lower(*value), To::Failed, To::On)]);
        }
        Test::Masked { mask, value } => {
            if wide {
                code.extend([plain(ALU_AND_K, upper(*mask)), equal_high(upper(*value))]);
            }
            let masked = [low, plain(ALU_AND_K, lower(*mask))];
            code.extend(masked);
            code.push(test(JEQ_K, lower(*value), To::On, To::Failed));
        }
        Test::In(values) => {
            code.extend(wide.then(|| equal_high(0)));
            code.push(low);
            let (last, others) = values.split_last().expect("a set of allowed values is not empty");
            code.extend(others.iter().map(|value| test(JEQ_K, *value, To::Held, To::On)));
            code.push(test(JEQ_K, *last, To::On, To::Failed));
        }
    }
    code
}

const fn lower(value: u64) -> u32 {
    (value & LOW) as u32
}

const fn upper(value: u64) -> u32 {
    (value >> 32) as u32
}

const fn load(offset: u32) -> sock_filter {
    jump(LD_ABS, offset, 0, 0)
}

const fn ret(action: Action) -> sock_filter {
    jump(RET_K, action.word(), 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn jump_always(distance: usize) -> sock_filter {
    jump(JA, u32::try_from(distance).expect("a filter is short"), 0, 0)
}

/// What `program` answers to a call, without the kernel.
///
/// # Panics
/// On an instruction that [`Program::compile`] never emits or a path without a return.
#[must_use]
pub fn evaluate(program: &[sock_filter], data: &SeccompData) -> Action {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let instruction = program.get(at).expect("every path of a filter ends in a return");
        let branch = |taken| usize::from(if taken { instruction.jt } else { instruction.jf });
        at += 1;
        match instruction.code {
            LD_ABS => accumulator = word_at(data, instruction.k),
            ALU_AND_K => accumulator &= instruction.k,
            JA => at += usize::try_from(instruction.k).expect("u32 fits"),
            JEQ_K => at += branch(accumulator == instruction.k),
            JGT_K => at += branch(accumulator > instruction.k),
            JGE_K => at += branch(accumulator >= instruction.k),
            RET_K => return Action::of_word(instruction.k),
            code => panic!("instruction {code:#x} is not in our vocabulary"),
        }
    }
}

fn word_at(data: &SeccompData, offset: u32) -> u32 {
    let half = |value: u64| if offset.is_multiple_of(8) { lower(value) } else { upper(value) };
    match offset {
        OFFSET_NR => data.nr,
        OFFSET_ARCH => data.arch,
        8..16 => half(data.instruction_pointer),
        16..64 => half(data.args[usize::try_from((offset - OFFSET_ARGS) / 8).expect("below six")]),
        _ => panic!("offset {offset} is outside seccomp_data"),
    }
}

#[cfg(test)]
#[path = "bpf_test.rs"]
mod tests;
