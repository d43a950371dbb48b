//! What does a program find on its stack? Arguments, environment, auxiliary vector.
//!
//! Key type: [`StackImage`]. LINUX: `create_elf_tables` in `fs/binfmt_elf.c`. From the top downwards:
//! ```text
//! 8 zero bytes, path, environment strings, argument strings, (a random gap), "x86_64", 16 random bytes,
//! auxiliary vector, environment pointers, argument pointers, argument count   <- stack pointer, 16-byte aligned
//! ```

use linux_abi::elf::{ProgramHeader, at};
use platform::host::file::random;
use platform::host::machine::aux_info;

use super::segments::Loaded;
use super::{Ids, ProgramInput};
use crate::Errno;
use crate::mm::layout::{Aslr, PAGE, random_u64};

/// What `AT_PLATFORM` names.
const PLATFORM: &[u8] = b"x86_64\0";
/// Ticks per second that user space counts in.
const CLOCK_TICKS: u64 = 100;
/// Largest random gap below the strings. LINUX: `arch_align_stack`.
const GAP_MASK: u64 = 0x1ff0;

/// What goes into the auxiliary vector besides the strings.
pub(super) struct StackInput<'a> {
    pub(super) program: &'a Loaded,
    pub(super) interpreter_base: u64,
    pub(super) ids: &'a Ids,
    pub(super) vdso: u64,
}

/// Bytes for the top of the stack.
pub(super) struct StackImage {
    /// Of the first byte: the stack pointer.
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) auxv: Vec<u8>,
    /// Start and end of the argument strings.
    pub(super) args: (u64, u64),
    /// Start and end of the environment strings.
    pub(super) env: (u64, u64),
}

/// Strings one after the other; answers their addresses.
fn lay_out(texts: &[Vec<u8>], start: u64, bytes: &mut Vec<u8>) -> Vec<u64> {
    let origin = start.wrapping_sub(bytes.len() as u64);
    let place = |text: &Vec<u8>| {
        let addr = origin + bytes.len() as u64;
        bytes.extend_from_slice(text);
        bytes.push(0);
        addr
    };
    texts.iter().map(place).collect()
}

fn total(texts: &[Vec<u8>]) -> u64 {
    texts.iter().map(|text| text.len() as u64 + 1).sum()
}

impl StackImage {
    /// Builds it for a stack that ends at `top`. The sizes have been limited (`check_size`).
    pub(super) fn build(
        input: &ProgramInput,
        top: u64,
        aslr: Aslr,
        aux: &StackInput<'_>,
    ) -> Result<Self, Errno> {
        let strings_len = total(&input.argv) + total(&input.envp) + input.path.len() as u64 + 1;
        let args_start = top.checked_sub(8 + strings_len).ok_or(Errno::E2BIG)?;
        let mut strings = Vec::new();
        let argv = lay_out(&input.argv, args_start, &mut strings);
        let env_start = args_start + strings.len() as u64;
        let envp = lay_out(&input.envp, env_start, &mut strings);
        let env_end = args_start + strings.len() as u64;
        let path = env_end;
        strings.extend_from_slice(&input.path);
        strings.extend_from_slice(&[0; 9]);

        let gap = if aslr == Aslr::On { random_u64() & GAP_MASK } else { 0 };
        let platform = ((args_start & !0xf) - gap) - 16;
        let random_bytes = platform - 16;
        let auxv = vector(aux, random_bytes, platform, path);

        let mut table = Vec::with_capacity(argv.len() + envp.len() + 3);
        table.push(argv.len() as u64);
        table.extend_from_slice(&argv);
        table.push(0);
        table.extend_from_slice(&envp);
        table.push(0);
        let words: Vec<u64> =
            table.into_iter().chain(auxv.iter().flat_map(|&(kind, value)| [kind, value])).collect();
        let address = random_bytes.checked_sub(words.len() as u64 * 8).ok_or(Errno::E2BIG)? & !0xf;

        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        pad_to(&mut bytes, random_bytes - address);
        let mut dice = [0; 16];
        random(&mut dice);
        bytes.extend_from_slice(&dice);
        bytes.extend_from_slice(PLATFORM);
        pad_to(&mut bytes, args_start - address);
        bytes.extend_from_slice(&strings);
        let auxv = auxv.iter().flat_map(|&(kind, value)| [kind, value]).flat_map(u64::to_le_bytes).collect();
        Ok(Self { address, bytes, auxv, args: (args_start, env_start), env: (env_start, env_end) })
    }
}

fn pad_to(bytes: &mut Vec<u8>, len: u64) {
    bytes.resize(usize::try_from(len).expect("a stack image is limited to megabytes"), 0);
}

/// The auxiliary vector, in Linux's order.
fn vector(aux: &StackInput<'_>, random_bytes: u64, platform: u64, path: u64) -> Vec<(u64, u64)> {
    let (host, ids, program) = (aux_info(), aux.ids, aux.program);
    let mut vector = Vec::with_capacity(24);
    if aux.vdso != 0 {
        vector.push((at::SYSINFO_EHDR, aux.vdso));
    }
    vector.extend_from_slice(&[
        (at::MINSIGSTKSZ, host.min_signal_stack),
        (at::HWCAP, host.hwcap),
        (at::PAGESZ, PAGE),
        (at::CLKTCK, CLOCK_TICKS),
        (at::PHDR, program.headers),
        (at::PHENT, size_of::<ProgramHeader>() as u64),
        (at::PHNUM, u64::from(program.header_count)),
        (at::BASE, aux.interpreter_base),
        (at::FLAGS, 0),
        (at::ENTRY, program.entry),
        (at::UID, u64::from(ids.uid)),
        (at::EUID, u64::from(ids.euid)),
        (at::GID, u64::from(ids.gid)),
        (at::EGID, u64::from(ids.egid)),
        (at::SECURE, u64::from(ids.secure)),
        (at::RANDOM, random_bytes),
        (at::HWCAP2, host.hwcap2),
        (at::EXECFN, path),
        (at::PLATFORM, platform),
    ]);
    if host.rseq_feature_size != 0 {
        vector.push((at::RSEQ_FEATURE_SIZE, host.rseq_feature_size));
        vector.push((at::RSEQ_ALIGN, host.rseq_align));
    }
    vector.push((at::NULL, 0));
    vector
}
