//! How do the segments of an ELF file get into memory?
//!
//! Key type: [`Loaded`]. LINUX: `elf_load` in `fs/binfmt_elf.c`.

use linux_abi::elf::{PF_R, PF_W, PF_X, ProgramHeader};
use linux_abi::mm::{MAP_PRIVATE, Prot};
use platform::Context;

use super::ProgramFile;
use super::elf::Elf;
use crate::Errno;
use crate::mm::layout::{self, END, MIN_ADDR, PAGE};
use crate::mm::map::{Placement, anonymous, of_pages};
use crate::mm::{MemoryLimits, MemoryManager};
use crate::vfs::Mappable;

/// How much is copied at once where a file cannot be mapped.
const COPY_CHUNK: usize = 256 << 10;

/// Where an ELF file went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    /// Added to every address in the file.
    pub(super) bias: u64,
    /// First instruction.
    pub(super) entry: u64,
    /// Program headers in memory; 0: not there.
    pub(super) headers: u64,
    /// Number of program headers.
    pub(super) header_count: u16,
    /// Behind the last byte.
    pub(super) end: u64,
    /// Start and end of code.
    pub(super) code: (u64, u64),
    /// Start and end of data.
    pub(super) data: (u64, u64),
}

/// Maps all segments. `base`: where a relocatable file goes; `None`: wherever there is room.
pub(super) fn map(
    mm: &MemoryManager,
    context: &mut dyn Context,
    file: &dyn ProgramFile,
    elf: &Elf,
    base: Option<u64>,
    limits: &MemoryLimits,
) -> Result<Loaded, Errno> {
    let bias = choose_bias(mm, elf, base)?;
    let mut loaded = Loaded {
        bias,
        entry: elf.header.entry.wrapping_add(bias),
        headers: 0,
        header_count: elf.header.phnum,
        end: 0,
        code: (u64::MAX, 0),
        data: (0, 0),
    };
    if elf.program_headers_addr() != 0 {
        loaded.headers = elf.program_headers_addr().wrapping_add(bias);
    }
    for segment in &elf.segments {
        // The bias may stand for a negative number; where it leads is checked below.
        let start = segment.vaddr.wrapping_add(bias);
        let memory_end = start.checked_add(segment.memsz).ok_or(Errno::EINVAL)?;
        if layout::page_up(memory_end).is_none_or(|end| end > END) {
            return Err(Errno::EINVAL);
        }
        if segment.memsz > 0 {
            map_segment(mm, context, file, segment, start, limits)?;
        }
        let file_end = start + segment.filesz;
        loaded.end = loaded.end.max(memory_end);
        loaded.code.0 = loaded.code.0.min(start);
        if segment.flags & PF_X != 0 {
            loaded.code.1 = loaded.code.1.max(file_end);
        }
        loaded.data = (loaded.data.0.max(start), loaded.data.1.max(file_end));
    }
    if loaded.entry >= END {
        return Err(Errno::EINVAL);
    }
    Ok(loaded)
}

fn choose_bias(mm: &MemoryManager, elf: &Elf, base: Option<u64>) -> Result<u64, Errno> {
    if !elf.is_relocatable() {
        return Ok(0);
    }
    let (low, high) = elf.span();
    let align = elf.alignment();
    let start = match base {
        Some(base) => base / align * align,
        None => mm.lock().tree.place(high - low, MIN_ADDR, align).ok_or(Errno::ENOMEM)?,
    };
    // A file that starts at another address than 0 keeps its place relative to that.
    Ok(start.wrapping_sub(low / align * align))
}

fn protection(segment: &ProgramHeader) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.flags & PF_R != 0);
    prot.set(Prot::WRITE, segment.flags & PF_W != 0);
    prot.set(Prot::EXEC, segment.flags & PF_X != 0);
    prot
}

/// Maps one segment with its zeros; `start` is where its first byte goes.
fn map_segment(
    mm: &MemoryManager,
    context: &mut dyn Context,
    file: &dyn ProgramFile,
    segment: &ProgramHeader,
    start: u64,
    limits: &MemoryLimits,
) -> Result<(), Errno> {
    let first_page = layout::page_down(start);
    if first_page < MIN_ADDR {
        return Err(Errno::EPERM);
    }
    let prot = protection(segment);
    let file_end = start + segment.filesz;
    let file_pages_end =
        if segment.filesz == 0 { first_page } else { layout::page_up(file_end).ok_or(Errno::EINVAL)? };
    let memory_pages_end = layout::page_up(start + segment.memsz).ok_or(Errno::EINVAL)?;
    if file_pages_end > first_page {
        let into_page = start - first_page;
        let piece = FilePiece {
            offset: segment.offset - into_page,
            len: file_pages_end - first_page,
            // Copied, where it cannot be mapped, only as far as the segment says.
            bytes: into_page + segment.filesz,
        };
        map_file_piece(mm, context, file, first_page, &piece, prot, limits)?;
        if segment.memsz > segment.filesz {
            clear_tail(mm, file_end, file_pages_end, prot)?;
        }
    }
    if memory_pages_end > file_pages_end {
        let len = memory_pages_end - file_pages_end;
        let blueprint = anonymous(len, prot.bits(), MAP_PRIVATE)?;
        mm.establish(context, Placement::Fixed(file_pages_end), blueprint, limits)?;
    }
    Ok(())
}

/// Zeros between the end of the file's part and the end of its page.
fn clear_tail(mm: &MemoryManager, from: u64, to: u64, prot: Prot) -> Result<(), Errno> {
    let zeros = [0; PAGE as usize];
    let len = usize::try_from(to - from).map_err(|_| Errno::EINVAL)?.min(zeros.len());
    let done = mm.write(from, &zeros[..len]);
    // LINUX: a segment that cannot be written keeps what the file has there.
    if done < len && prot.contains(Prot::WRITE) { Err(Errno::EFAULT) } else { Ok(()) }
}

/// Part of a file by whole pages.
struct FilePiece {
    offset: u64,
    len: u64,
    bytes: u64,
}

fn map_file_piece(
    mm: &MemoryManager,
    context: &mut dyn Context,
    file: &dyn ProgramFile,
    at: u64,
    piece: &FilePiece,
    prot: Prot,
    limits: &MemoryLimits,
) -> Result<(), Errno> {
    if let Ok(Mappable::Pages(pages)) = file.pages(piece.offset, piece.len) {
        let blueprint = of_pages(piece.len, prot, file.open_file(), piece.offset, pages);
        match mm.establish(context, Placement::Fixed(at), blueprint, limits) {
            Ok(_) => return Ok(()),
            // A host file that may not be mapped executable, or not at all, can still be read.
            Err(Errno::EPERM | Errno::EACCES | Errno::ENODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    let blueprint = anonymous(piece.len, (Prot::READ | Prot::WRITE).bits(), MAP_PRIVATE)?;
    mm.establish(context, Placement::Fixed(at), blueprint, limits)?;
    let mut done = 0;
    while done < piece.bytes {
        let want = usize::try_from(piece.bytes - done).unwrap_or(COPY_CHUNK).min(COPY_CHUNK);
        let chunk = file.read_at(piece.offset + done, want)?;
        if chunk.is_empty() {
            break;
        }
        if mm.write(at + done, &chunk) != chunk.len() {
            return Err(Errno::EFAULT);
        }
        done += chunk.len() as u64;
    }
    mm.mprotect(context, at, piece.len, prot.bits(), limits)
}
