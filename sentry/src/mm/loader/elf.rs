//! Is this an ELF program that we can run, and what does it want to be mapped?
//!
//! Key type: [`Elf`]. Everything in the file is an allegation: sizes and addresses are checked before they are used,
//! with Linux's errno for each kind of wrong.

use linux_abi::elf::{
    EM_X86_64, ET_DYN, ET_EXEC, FileHeader, MAGIC, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, ProgramHeader,
};
use zerocopy::FromBytes;

use super::ProgramFile;
use crate::Errno;
use crate::mm::layout::{self, END, PAGE};
use crate::task::PATH_MAX;

/// How much of a file is read to find out what it is: enough for scripts and headers.
pub(super) const HEAD_LEN: usize = 256;
/// Size of the ELF header.
pub(super) const HEADER_LEN: usize = size_of::<FileHeader>();
/// Most bytes of program headers. LINUX: `load_elf_phdrs`.
const PROGRAM_HEADERS_MAX: usize = 65536;

/// A checked ELF file.
///
/// INVARIANT: there is at least one segment to load, `filesz <= memsz` for each, and the span of all segments is below the
/// end of guest memory.
#[derive(Debug, Clone)]
pub(super) struct Elf {
    pub(super) header: FileHeader,
    /// `PT_LOAD` only, in the file's order.
    pub(super) segments: Vec<ProgramHeader>,
    /// `PT_GNU_STACK` asks for an executable stack.
    pub(super) executable_stack: bool,
    interpreter: Option<ProgramHeader>,
}

impl Elf {
    /// Parses and checks. `wrong`: what to answer for something that is no such file (ENOEXEC, or ELIBBAD for interpreters).
    pub(super) fn parse(head: &[u8], file: &dyn ProgramFile, wrong: Errno) -> Result<Self, Errno> {
        let (header, _) = FileHeader::read_from_prefix(head).map_err(|_| wrong)?;
        let good = header.ident.starts_with(&MAGIC)
            && matches!(header.kind, ET_EXEC | ET_DYN)
            && header.machine == EM_X86_64
            && usize::from(header.phentsize) == size_of::<ProgramHeader>();
        let size = usize::from(header.phnum) * size_of::<ProgramHeader>();
        if !good || size == 0 || size > PROGRAM_HEADERS_MAX {
            return Err(wrong);
        }
        if header.phoff.checked_add(size as u64).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(wrong);
        }
        let bytes = file.read_at(header.phoff, size).map_err(|_| wrong)?;
        if bytes.len() < size {
            return Err(wrong);
        }
        let all: Vec<ProgramHeader> = bytes
            .chunks_exact(size_of::<ProgramHeader>())
            .filter_map(|chunk| ProgramHeader::read_from_bytes(chunk).ok())
            .collect();
        let segments: Vec<ProgramHeader> =
            all.iter().filter(|segment| segment.kind == PT_LOAD).copied().collect();
        check_segments(&segments)?;
        let stack = all.iter().rfind(|segment| segment.kind == PT_GNU_STACK);
        Ok(Self {
            header,
            segments,
            executable_stack: stack.is_some_and(|stack| stack.flags & PF_X != 0),
            interpreter: all.iter().find(|segment| segment.kind == PT_INTERP).copied(),
        })
    }

    /// Can be loaded anywhere.
    pub(super) const fn is_relocatable(&self) -> bool {
        self.header.kind == ET_DYN
    }

    /// The path in `PT_INTERP`.
    pub(super) fn interpreter_path(&self, file: &dyn ProgramFile) -> Result<Option<Vec<u8>>, Errno> {
        let Some(entry) = &self.interpreter else { return Ok(None) };
        let len = usize::try_from(entry.filesz).map_err(|_| Errno::ENOEXEC)?;
        if !(2..=PATH_MAX).contains(&len) {
            return Err(Errno::ENOEXEC);
        }
        if entry.offset.checked_add(entry.filesz).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::EINVAL);
        }
        let mut path = file.read_at(entry.offset, len)?;
        if path.len() < len {
            return Err(Errno::EIO);
        }
        if path.last() != Some(&0) {
            return Err(Errno::ENOEXEC);
        }
        let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
        path.truncate(end);
        Ok(Some(path))
    }

    /// First and last page that the segments touch, before they are moved.
    pub(super) fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(|segment| layout::page_down(segment.vaddr)).min().unwrap_or(0);
        let ends = self.segments.iter().map(|segment| segment.vaddr.saturating_add(segment.memsz));
        let end = ends.max().and_then(layout::page_up).unwrap_or(END);
        (start, end.max(start))
    }

    /// The alignment that the segments ask for; at least a page.
    pub(super) fn alignment(&self) -> u64 {
        let wanted = self.segments.iter().map(|segment| segment.align);
        wanted.filter(|align| align.is_power_of_two() && *align < END).max().unwrap_or(PAGE).max(PAGE)
    }

    /// Where the program headers are in memory, before they are moved; 0: nowhere.
    pub(super) fn program_headers_addr(&self) -> u64 {
        let at = self.header.phoff;
        let holder =
            self.segments.iter().find(|segment| segment.offset <= at && at - segment.offset < segment.filesz);
        holder.map_or(0, |segment| segment.vaddr.wrapping_add(at - segment.offset))
    }
}

/// LINUX: the checks of `load_elf_binary` and `elf_load` that need no memory.
fn check_segments(segments: &[ProgramHeader]) -> Result<(), Errno> {
    if segments.is_empty() {
        return Err(Errno::EINVAL);
    }
    for segment in segments {
        let end = segment.vaddr.checked_add(segment.memsz).and_then(layout::page_up);
        if segment.filesz > segment.memsz || end.is_none_or(|end| end > END) {
            return Err(Errno::EINVAL);
        }
        let file_end = segment.offset.checked_add(segment.filesz).and_then(layout::page_up);
        if file_end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::EINVAL);
        }
        // The file is mapped by whole pages, so both must lie alike in theirs.
        if segment.filesz > 0 && segment.offset % PAGE != segment.vaddr % PAGE {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}
