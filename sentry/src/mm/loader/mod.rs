//! How does a program get into memory? `execve(2)` as far as files and memory are concerned.
//!
//! Key types: [`ProgramFile`] (where bytes and pages come from), [`Program`] (checked, but not in memory yet),
//! [`LoadResult`]. Two steps, because credentials depend on which file it comes to in the end:
//!
//! ```text
//! Program::prepare(file, argv...)   scripts are followed, headers checked: ENOEXEC, ELIBBAD, E2BIG...
//! Program::load(mm, context...)     maps it into a new, empty address space, and builds the stack
//! ```
//!
//! LINUX: `fs/exec.c`, `fs/binfmt_elf.c`, `fs/binfmt_script.c`.

mod elf;
mod image;
mod script;
mod segments;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use linux_abi::Registers;
use linux_abi::mm::{MAP_NORESERVE, MAP_PRIVATE, MAP_STACK, Prot, madv};
use linux_abi::regs::RFLAGS_FIXED;
use platform::{Context, MemoryCall};

use self::elf::Elf;
use self::image::{StackImage, StackInput};
use super::layout::{self, Aslr, PIE_BASE, Places, STACK_MAX, STACK_MIN};
use super::map::{Placement, anonymous};
use super::vma::VmaFlags;
use super::{MemoryLimits, MemoryManager};
use crate::Errno;
use crate::fs::inotify;
use crate::io::VecSink;
use crate::task::Task;
use crate::vfs::{DenyWrite, Mappable, OpenFile};

/// Most scripts that may be interpreted by scripts. LINUX: `exec_binprm`, ELOOP above.
const MAX_INTERPRETERS: usize = 5;
/// Longest argument with its zero byte. LINUX: `MAX_ARG_STRLEN`, E2BIG above.
const MAX_ARG_LEN: usize = 128 << 10;
/// Arguments may always have this much. LINUX: `ARG_MAX`.
const ARG_MIN_ROOM: u64 = 128 << 10;
/// Arguments may never have more. LINUX: three quarters of `_STK_LIM`.
const ARG_MAX_ROOM: u64 = 6 << 20;

/// A program file as the loader sees it.
pub trait ProgramFile {
    /// Up to `len` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// The file's.
    fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno>;

    /// What a private mapping is backed by.
    ///
    /// # Errors
    /// ENODEV if it cannot be mapped; it is read then.
    fn pages(&self, offset: u64, len: u64) -> Result<Mappable, Errno>;

    /// The open file, to be held by its mappings.
    fn open_file(&self) -> Option<Arc<OpenFile>>;
}

/// An open file, opened for execution by a task.
pub struct TaskFile {
    /// The file.
    pub file: Arc<OpenFile>,
    /// Who loads it.
    pub task: Arc<Task>,
}

impl ProgramFile for TaskFile {
    fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut sink = VecSink::new(len);
        while sink.bytes.len() < len {
            let at = offset.checked_add(sink.bytes.len() as u64).ok_or(Errno::EINVAL)?;
            if self.file.ops.read(&self.file.op(&self.task), &mut sink, at)? == 0 {
                break;
            }
        }
        if !sink.bytes.is_empty() {
            inotify::notify_file(&self.task.kernel, &self.file, inotify::mask::ACCESS);
        }
        Ok(sink.bytes)
    }

    fn pages(&self, offset: u64, len: u64) -> Result<Mappable, Errno> {
        self.file.ops.map(&self.file.op(&self.task), offset, len, false)
    }

    fn open_file(&self) -> Option<Arc<OpenFile>> {
        Some(Arc::clone(&self.file))
    }
}

/// Opens an interpreter by path, checked for execution as `execve` checks the program itself.
pub type Opener<'a> = dyn FnMut(&[u8]) -> Result<Box<dyn ProgramFile>, Errno> + 'a;

/// Whether the path of a program still leads to it when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// An interpreter can open it.
    Kept,
    /// It is a descriptor's that is closed on the way. LINUX: `BINPRM_FLAGS_PATH_INACCESSIBLE`.
    Lost,
}

/// What `execve(2)` was given.
pub struct ProgramInput {
    /// Path as given (`AT_EXECFN`); `/dev/fd/N` for descriptors.
    pub path: Vec<u8>,
    /// Whether that is of use to an interpreter.
    pub reach: Reach,
    /// Arguments, without zero bytes.
    pub argv: Vec<Vec<u8>>,
    /// Environment, without zero bytes.
    pub envp: Vec<Vec<u8>>,
}

/// A program that has been found and checked, but is not in memory yet.
pub struct Program {
    file: Box<dyn ProgramFile>,
    elf: Elf,
    input: ProgramInput,
    interpreter: Option<Interpreter>,
}

struct Interpreter {
    path: Vec<u8>,
    file: Box<dyn ProgramFile>,
    elf: Elf,
}

/// Whom the program will run as.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "named as in credentials(7)")]
pub struct Ids {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    /// `AT_SECURE`: it has more rights than who started it.
    pub secure: bool,
}

/// A program in memory.
#[derive(Debug, Clone)]
pub struct LoadResult {
    /// To start with.
    pub registers: Registers,
    /// Start and end of the stack.
    pub stack: (u64, u64),
    /// Where the heap starts.
    pub brk_start: u64,
    /// The dynamic linker, if there is one.
    pub interpreter: Option<Vec<u8>>,
}

impl Program {
    /// Follows scripts to their interpreters, and checks what it comes to.
    ///
    /// # Errors
    /// ENOEXEC, ELIBBAD, ELOOP, E2BIG, EIO, the opener's.
    pub fn prepare(
        file: Box<dyn ProgramFile>,
        mut input: ProgramInput,
        stack_limit: u64,
        open: &mut Opener<'_>,
    ) -> Result<Self, Errno> {
        if input.argv.is_empty() {
            // LINUX: since 5.18 a program always has a name.
            input.argv.push(Vec::new());
        }
        check_size(&input, stack_limit)?;
        let mut file = file;
        let mut name = input.path.clone();
        let mut followed = 0;
        let elf = loop {
            let head = file.read_at(0, elf::HEAD_LEN)?;
            let Some(script) = script::parse(&head)? else {
                break Elf::parse(&head, file.as_ref(), Errno::ENOEXEC)?;
            };
            if input.reach == Reach::Lost {
                return Err(Errno::ENOENT);
            }
            if followed == MAX_INTERPRETERS {
                return Err(Errno::ELOOP);
            }
            followed += 1;
            file = open(&script.interpreter)?;
            let script_name = std::mem::replace(&mut name, script.interpreter.clone());
            let head = [Some(script.interpreter), script.argument, Some(script_name)];
            input.argv.splice(0..1, head.into_iter().flatten());
            check_size(&input, stack_limit)?;
        };
        let interpreter = match elf.interpreter_path(file.as_ref())? {
            None => None,
            Some(path) => {
                let file = open(&path)?;
                let head = file.read_at(0, elf::HEAD_LEN)?;
                if head.len() < elf::HEADER_LEN {
                    return Err(Errno::EIO);
                }
                let elf = Elf::parse(&head, file.as_ref(), Errno::ELIBBAD)?;
                Some(Interpreter { path, file, elf })
            }
        };
        Ok(Self { file, elf, input, interpreter })
    }

    /// The file that will run: not the script, but its interpreter. Set-user-id bits count here.
    #[must_use]
    pub fn file(&self) -> Option<Arc<OpenFile>> {
        self.file.open_file()
    }

    /// Path as given to `execve`; the task's name is its last component.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.input.path
    }

    /// Maps it into a new, empty address space.
    ///
    /// # Errors
    /// EINVAL, ENOMEM, EPERM for impossible addresses; EFAULT; the host's. The address space is to be thrown away then.
    pub fn load(
        &self,
        mm: &MemoryManager,
        context: &mut dyn Context,
        ids: &Ids,
        aslr: Aslr,
        limits: &MemoryLimits,
    ) -> Result<LoadResult, Errno> {
        let stack_size = layout::page_down(limits.stack.clamp(STACK_MIN, STACK_MAX));
        let places = Places::new(aslr, stack_size);
        mm.lock().tree.set_top(places.mmap_base);
        let stack = map_stack(mm, context, stack_size, places.stack_top, self.elf.executable_stack)?;

        let with_interpreter = self.interpreter.is_some();
        let base = (self.elf.is_relocatable() && with_interpreter).then_some(places.pie_base);
        let program = segments::map(mm, context, self.file.as_ref(), &self.elf, base, limits)?;
        let mut entry = program.entry;
        let mut interpreter_base = 0;
        if let Some(interpreter) = &self.interpreter {
            let file = interpreter.file.as_ref();
            let loaded = segments::map(mm, context, file, &interpreter.elf, None, limits)?;
            (entry, interpreter_base) = (loaded.entry, loaded.bias);
        }

        // LINUX: programs without interpreter that can be loaded anywhere lie among the mappings: their heap does not.
        let heap_floor = if self.elf.is_relocatable() && !with_interpreter { PIE_BASE } else { program.end };
        let brk_start = layout::page_up(heap_floor)
            .and_then(|floor| floor.checked_add(places.brk_gap))
            .filter(|&start| start < layout::END)
            .ok_or(Errno::EINVAL)?;
        mm.set_brk_start(brk_start);

        let input = StackInput { program: &program, interpreter_base, ids, vdso: mm.space().vdso() };
        let image = StackImage::build(&self.input, stack.1, aslr, &input)?;
        if image.address < stack.0 || mm.write(image.address, &image.bytes) != image.bytes.len() {
            return Err(Errno::EFAULT);
        }
        self.note(mm, &program, &image)?;
        let registers = Registers {
            rip: entry,
            rsp: image.address,
            rflags: RFLAGS_FIXED,
            orig_rax: u64::MAX,
            ..Registers::default()
        };
        let interpreter = self.interpreter.as_ref().map(|interpreter| interpreter.path.clone());
        Ok(LoadResult { registers, stack, brk_start, interpreter })
    }

    /// What others want to know of the program later.
    fn note(&self, mm: &MemoryManager, program: &segments::Loaded, image: &StackImage) -> Result<(), Errno> {
        let exe = self.file.open_file().map(|file| file.location.clone());
        let denies = exe.as_ref().map(|exe| DenyWrite::take(exe.inode())).transpose()?;
        let mut inner = mm.lock();
        (inner.exe, inner.exe_denies) = (exe, denies.map(Arc::new));
        inner.auxv.clone_from(&image.auxv);
        inner.program.start_code = program.code.0;
        inner.program.end_code = program.code.1;
        inner.program.start_data = program.data.0;
        inner.program.end_data = program.data.1;
        inner.program.start_stack = image.address;
        (inner.program.arg_start, inner.program.arg_end) = image.args;
        (inner.program.env_start, inner.program.env_end) = image.env;
        Ok(())
    }
}

/// LINUX: `bprm_stack_limits`, `copy_strings`.
fn check_size(input: &ProgramInput, stack_limit: u64) -> Result<(), Errno> {
    let room = (stack_limit / 4).clamp(ARG_MIN_ROOM, ARG_MAX_ROOM);
    let strings = || input.argv.iter().chain(&input.envp);
    if strings().any(|text| text.len() >= MAX_ARG_LEN) {
        return Err(Errno::E2BIG);
    }
    let pointers = strings().count() as u64 * 8;
    let bytes: u64 = strings().map(|text| text.len() as u64 + 1).sum();
    if pointers + bytes + input.path.len() as u64 + 1 > room { Err(Errno::E2BIG) } else { Ok(()) }
}

/// Sets the whole stack aside at once: the host hands out its pages as they are touched.
fn map_stack(
    mm: &MemoryManager,
    context: &mut dyn Context,
    size: u64,
    top: u64,
    executable: bool,
) -> Result<(u64, u64), Errno> {
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, executable);
    let mut blueprint = anonymous(size, prot.bits(), MAP_PRIVATE | MAP_STACK | MAP_NORESERVE)?;
    blueprint.flags = VmaFlags::STACK;
    let start = mm.lock().tree.gap_below(size, layout::MIN_ADDR, top).ok_or(Errno::ENOMEM)?;
    let limits = MemoryLimits { address_space: u64::MAX, data: u64::MAX, ..MemoryLimits::default() };
    mm.establish(context, Placement::FixedNoReplace(start), blueprint, &limits)?;
    // PERF: a huge page would be zeroed at the first touch and copied at the first fork. A host that has none refuses.
    let _ =
        super::host::call(context, MemoryCall::Advise { addr: start, len: size, advice: madv::NOHUGEPAGE });
    Ok((start, start + size))
}
