//! How does an address space look in `/proc/PID`: maps, smaps, statm, the `Vm*` lines of status?
//!
//! Key type: [`MemoryUsage`]. Resident sizes come from `resident`.

use std::fmt::Write;

use linux_abi::mm::Prot;

use super::MemoryManager;
use super::layout::PAGE;
use super::resident::Resident;
use super::vma::{Backing, Vma, VmaFlags};
use super::{Inner, ProgramLayout};
use crate::vfs::Location;

/// How much memory is in use, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// `VmPeak`.
    pub peak_size: u64,
    /// `VmSize`.
    pub size: u64,
    /// `VmLck`.
    pub locked: u64,
    /// `VmHWM`.
    pub peak_resident: u64,
    /// `VmRSS` and what it consists of.
    pub resident: Resident,
    /// `VmData`.
    pub data: u64,
    /// `VmStk`.
    pub stack: u64,
    /// `VmExe`: the program's own code.
    pub text: u64,
    /// `VmLib`: other code.
    pub library: u64,
}

/// Writes a location as a path, seen from wherever the reader of the file stands.
pub type PathWriter<'a> = dyn Fn(&Location) -> Vec<u8> + 'a;

impl MemoryManager {
    /// Sizes, and the resident size as the host counts it. Zeros if a change of the layout lasts: another process must not wait
    /// for one that may be stuck or frozen in it.
    #[must_use]
    pub fn usage(&self) -> MemoryUsage {
        let resident = self.resident();
        let Some(mut inner) = self.look() else { return MemoryUsage { resident, ..MemoryUsage::default() } };
        inner.peak_resident = inner.peak_resident.max(resident.total());
        let totals = inner.tree.totals();
        let ProgramLayout { start_code, end_code, .. } = inner.program;
        let text = end_code.saturating_sub(start_code).next_multiple_of(PAGE).min(totals.exec);
        MemoryUsage {
            peak_size: inner.peak_size.max(totals.size),
            size: totals.size,
            locked: totals.locked,
            peak_resident: inner.peak_resident,
            resident,
            data: totals.data,
            stack: totals.stack,
            text,
            library: totals.exec - text,
        }
    }

    /// `/proc/PID/maps`.
    #[must_use]
    pub fn maps(&self, path: &PathWriter<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        for line in self.lines() {
            line.write(&mut text, path);
        }
        text
    }

    /// `/proc/PID/smaps`. With whom pages are shared the host does not tell: each counts as the reader's alone.
    #[must_use]
    pub fn smaps(&self, path: &PathWriter<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        let lines = self.lines();
        let areas: Vec<Vma> = lines.iter().map(|line| line.vma.clone()).collect();
        for (line, bytes) in lines.iter().zip(self.resident_of(&areas)) {
            line.write(&mut text, path);
            let resident = Resident::of(&line.vma, bytes);
            let size = line.vma.len() >> 10;
            let more = format!(
                "Size:           {size:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n{}VmFlags: {}\n",
                resident_lines(resident, line.vma.flags.contains(VmaFlags::LOCKED)),
                vm_flags(&line.vma)
            );
            text.extend_from_slice(more.as_bytes());
        }
        text
    }

    /// `/proc/PID/smaps_rollup`.
    #[must_use]
    pub fn smaps_rollup(&self) -> String {
        let (start, end) = {
            let Some(inner) = self.look() else { return String::new() };
            let visible = || inner.tree.iter().filter(|vma| !vma.flags.contains(VmaFlags::HIDDEN));
            (visible().next().map_or(0, |vma| vma.start), visible().next_back().map_or(0, |vma| vma.end))
        };
        let head = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0");
        format!("{head:<72} [rollup]\n{}", resident_lines(self.resident(), false))
    }

    /// `/proc/PID/statm`.
    #[must_use]
    pub fn statm(&self) -> String {
        let usage = self.usage();
        let (all, shared) = (usage.resident.total(), usage.resident.file + usage.resident.shared);
        let [size, resident, shared, text] = [usage.size, all, shared, usage.text].map(|bytes| bytes / PAGE);
        let data = (usage.data + usage.stack) / PAGE;
        format!("{size} {resident} {shared} {text} 0 {data} 0\n")
    }

    /// The visible mappings; copied, so that paths are made without the lock.
    fn lines(&self) -> Vec<Line> {
        let Some(inner) = self.look() else { return Vec::new() };
        let visible = inner.tree.iter().filter(|vma| !vma.flags.contains(VmaFlags::HIDDEN));
        visible.map(|vma| Line { label: inner.label(vma), vma: vma.clone() }).collect()
    }
}

impl Inner {
    fn label(&self, vma: &Vma) -> Option<&'static str> {
        match vma.backing {
            Backing::Special(name) => Some(name),
            _ if vma.flags.contains(VmaFlags::STACK) => Some("[stack]"),
            Backing::Anonymous
                if vma.start <= self.brk && vma.end >= self.program.start_brk && self.brk > 0 =>
            {
                Some("[heap]")
            }
            _ => None,
        }
    }
}

struct Line {
    vma: Vma,
    label: Option<&'static str>,
}

impl Line {
    fn write(&self, text: &mut Vec<u8>, path: &PathWriter<'_>) {
        let vma = &self.vma;
        let bit = |on: bool, letter: char| if on { letter } else { '-' };
        let (mut offset, mut dev, mut ino, mut name) = (0, 0, 0, Vec::new());
        match &vma.backing {
            Backing::File { file: Some(file), offset: at } => {
                offset = *at;
                if let Ok(stat) = file.location.inode().stat() {
                    (dev, ino) = (stat.dev, stat.ino);
                }
                name = path(&file.location);
            }
            Backing::File { file: None, offset: at } => offset = *at,
            Backing::Memory { offset: at, name: memory, id, .. } => {
                (offset, ino, name) = (*at, *id, memory.as_bytes().to_vec());
                dev = 1;
            }
            Backing::Anonymous | Backing::Special(_) => {}
        }
        if let Some(label) = self.label {
            name = label.as_bytes().to_vec();
        }
        let line = format!(
            "{:08x}-{:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {ino}",
            vma.start,
            vma.end,
            bit(vma.prot.contains(Prot::READ), 'r'),
            bit(vma.prot.contains(Prot::WRITE), 'w'),
            bit(vma.prot.contains(Prot::EXEC), 'x'),
            if vma.is_shared() { 's' } else { 'p' },
            (dev >> 8) & 0xfff,
            (dev & 0xff) | ((dev >> 12) & 0xfff00),
        );
        text.extend_from_slice(line.as_bytes());
        if !name.is_empty() {
            // LINUX: names start in column 74, and newlines in them are escaped.
            let pad = 73usize.saturating_sub(line.len()).max(1);
            text.extend(std::iter::repeat_n(b' ', pad));
            for &byte in &name {
                match byte {
                    b'\n' => text.extend_from_slice(b"\\012"),
                    _ => text.push(byte),
                }
            }
        }
        text.push(b'\n');
    }
}

/// The lines of `smaps` that say how much is in memory.
fn resident_lines(resident: Resident, is_locked: bool) -> String {
    let rss = resident.total();
    let clean = resident.file;
    let mut text = String::new();
    for (name, bytes) in [
        ("Rss:", rss),
        ("Pss:", rss),
        ("Shared_Clean:", 0),
        ("Shared_Dirty:", 0),
        ("Private_Clean:", clean),
        ("Private_Dirty:", rss - clean),
        ("Referenced:", rss),
        ("Anonymous:", resident.anonymous),
        ("AnonHugePages:", 0),
        ("Swap:", 0),
        ("SwapPss:", 0),
        ("Locked:", if is_locked { rss } else { 0 }),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<15} {:>8} kB", bytes >> 10);
    }
    text
}

fn vm_flags(vma: &Vma) -> String {
    let shown = [
        (vma.prot.contains(Prot::READ), "rd"),
        (vma.prot.contains(Prot::WRITE), "wr"),
        (vma.prot.contains(Prot::EXEC), "ex"),
        (vma.is_shared() && !vma.flags.contains(VmaFlags::READ_SHARED), "sh"),
        (vma.max_prot.contains(Prot::READ), "mr"),
        (vma.max_prot.contains(Prot::WRITE), "mw"),
        (vma.max_prot.contains(Prot::EXEC), "me"),
        (vma.is_shared(), "ms"),
        (vma.flags.intersects(VmaFlags::STACKS), "gd"),
        (vma.flags.contains(VmaFlags::LOCKED), "lo"),
        (vma.flags.contains(VmaFlags::LOCKED_ON_FAULT), "lf"),
        (vma.flags.contains(VmaFlags::SEQUENTIAL), "sr"),
        (vma.flags.contains(VmaFlags::RANDOM), "rr"),
        (vma.flags.contains(VmaFlags::NORESERVE), "nr"),
        (vma.flags.contains(VmaFlags::DONTFORK), "dc"),
        (vma.flags.contains(VmaFlags::DONTDUMP), "dd"),
        (vma.flags.contains(VmaFlags::WIPEONFORK), "wf"),
        (vma.flags.contains(VmaFlags::HUGEPAGE), "hg"),
        (vma.flags.contains(VmaFlags::NOHUGEPAGE), "nh"),
        (vma.flags.contains(VmaFlags::SEALED), "sl"),
    ];
    let names: Vec<&str> = shown.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    names.join(" ")
}
