//! The loader on real programs of the machine, and on files that were tampered with.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use linux_abi::elf::{FileHeader, ProgramHeader, at};
use platform::fake::FakeSpace;
use platform::host::file;
use zerocopy::{FromBytes, IntoBytes};

use super::{Ids, LoadResult, Opener, Program, ProgramFile, ProgramInput, Reach};
use crate::Errno;
use crate::mm::layout::{Aslr, STUB_END, STUB_START};
use crate::mm::tests::Dice;
use crate::mm::{MemoryLimits, MemoryManager};
use crate::vfs::{Mappable, OpenFile, Pages};

const STACK: u64 = 8 << 20;

/// A file in memory.
#[derive(Clone)]
struct Image {
    memory: Arc<OwnedFd>,
    mappable: bool,
}

impl Image {
    fn new(bytes: &[u8]) -> Self {
        let memory = file::new_memory_file("program").expect("a memory file");
        assert_eq!(file::write_at(&memory, bytes, 0), Ok(bytes.len()));
        Self { memory: Arc::new(memory), mappable: true }
    }
}

impl ProgramFile for Image {
    fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![0; len];
        let n = file::read_at(&*self.memory, &mut buf, offset)?;
        buf.truncate(n);
        Ok(buf)
    }

    fn pages(&self, offset: u64, _: u64) -> Result<Mappable, Errno> {
        if !self.mappable {
            return Err(Errno::ENODEV);
        }
        Ok(Mappable::Pages(Pages { source: Arc::clone(&self.memory), offset }))
    }

    fn open_file(&self) -> Option<Arc<OpenFile>> {
        None
    }
}

/// A small program: code at one page, data with some zeros behind it at another.
fn small_program(kind: u16) -> Vec<u8> {
    let base: u64 = if kind == 2 { 0x40_0000 } else { 0 };
    let segment = |flags, offset: u64, filesz, memsz| ProgramHeader {
        kind: 1,
        flags,
        offset,
        vaddr: base + offset,
        paddr: 0,
        filesz,
        memsz,
        align: 4096,
    };
    let segments = [segment(5, 0, 0x1000, 0x1000), segment(6, 0x1800, 0x100, 0x2000)];
    let header = FileHeader {
        ident: *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        kind,
        machine: 62,
        version: 1,
        entry: base + 0x200,
        phoff: 64,
        shoff: 0,
        flags: 0,
        ehsize: 64,
        phentsize: 56,
        phnum: 2,
        shentsize: 0,
        shnum: 0,
        shstrndx: 0,
    };
    let mut bytes = header.as_bytes().to_vec();
    segments.iter().for_each(|segment| bytes.extend_from_slice(segment.as_bytes()));
    bytes.resize(0x2000, 0xcc);
    bytes
}

fn input(argv: &[&str]) -> ProgramInput {
    ProgramInput {
        reach: Reach::Kept,
        path: b"/bin/program".to_vec(),
        argv: argv.iter().map(|text| text.as_bytes().to_vec()).collect(),
        envp: vec![b"HOME=/root".to_vec()],
    }
}

struct Loaded {
    space: Arc<FakeSpace>,
    mm: Arc<MemoryManager>,
    result: LoadResult,
}

fn load_with(image: Image, others: HashMap<Vec<u8>, Image>, aslr: Aslr) -> Result<Loaded, Errno> {
    let mut open = |path: &[u8]| match others.get(path) {
        Some(image) => Ok(Box::new(image.clone()) as Box<dyn ProgramFile>),
        None => Err(Errno::ENOENT),
    };
    let open: &mut Opener<'_> = &mut open;
    let program = Program::prepare(Box::new(image), input(&["program", "an argument"]), STACK, open)?;
    let (space, mut context) = FakeSpace::with_context();
    let mm = MemoryManager::new(Arc::clone(&space) as Arc<dyn platform::AddressSpace>);
    let ids = Ids { uid: 1, euid: 2, gid: 3, egid: 4, secure: true };
    let result = program.load(&mm, &mut context, &ids, aslr, &MemoryLimits::default())?;
    Ok(Loaded { space, mm, result })
}

fn load(bytes: &[u8]) -> Result<Loaded, Errno> {
    load_with(Image::new(bytes), HashMap::new(), Aslr::Off)
}

impl Loaded {
    fn word(&self, addr: u64) -> u64 {
        let mut bytes = [0; 8];
        let space = Arc::clone(self.mm.space());
        assert_eq!(space.read(addr, &mut bytes), 8, "nothing at {addr:#x}");
        u64::from_le_bytes(bytes)
    }

    fn text(&self, mut addr: u64) -> String {
        let mut text = Vec::new();
        let space = Arc::clone(self.mm.space());
        let mut byte = [0];
        while space.read(addr, &mut byte) == 1 && byte[0] != 0 {
            text.push(byte[0]);
            addr += 1;
        }
        String::from_utf8(text).expect("text")
    }

    /// Arguments, environment, auxiliary vector, as a program reads them.
    fn stack(&self) -> (Vec<String>, Vec<String>, HashMap<u64, u64>) {
        let mut at = self.result.registers.rsp;
        let count = self.word(at);
        let mut texts = || {
            let mut list = Vec::new();
            loop {
                at += 8;
                match self.word(at) {
                    0 => return list,
                    pointer => list.push(self.text(pointer)),
                }
            }
        };
        let (args, env) = (texts(), texts());
        assert_eq!(args.len() as u64, count);
        let mut aux = HashMap::new();
        at += 8;
        while self.word(at) != 0 {
            aux.insert(self.word(at), self.word(at + 8));
            at += 16;
        }
        (args, env, aux)
    }
}

#[test]
fn a_static_program_lies_where_it_says() {
    let loaded = load(&small_program(2)).expect("a good program");
    assert_eq!(loaded.result.registers.rip, 0x40_0200);
    assert_eq!(loaded.result.registers.rflags, 0x202);
    assert_eq!(loaded.word(0x40_1800), 0xcccc_cccc_cccc_cccc);
    assert_eq!(loaded.word(0x40_1900), 0, "zeros begin behind the file's part");
    assert_eq!(loaded.word(0x40_37f8), 0);
    assert_eq!(loaded.result.brk_start, 0x40_4000);
    assert!(!loaded.mm.is_writable(0x40_0000, 8) && loaded.mm.is_writable(0x40_1800, 0x2000));
}

#[test]
fn a_relocatable_file_may_start_at_a_high_address() {
    let mut bytes = small_program(3);
    let base = 0x7e00_0000_0000u64;
    for at in [24, 64 + 16, 64 + 56 + 16] {
        let old = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a word"));
        bytes[at..at + 8].copy_from_slice(&(old + base).to_le_bytes());
    }
    let loaded = load(&bytes).expect("a good program");
    assert_eq!(loaded.word(loaded.result.registers.rip - 0x200 + 0x1800), 0xcccc_cccc_cccc_cccc);
}

#[test]
fn a_file_that_cannot_be_mapped_is_read() {
    let image = Image { mappable: false, ..Image::new(&small_program(2)) };
    let loaded = load_with(image, HashMap::new(), Aslr::Off).expect("a good program");
    assert_eq!(loaded.word(0x40_1800), 0xcccc_cccc_cccc_cccc);
    assert_eq!(loaded.word(0x40_1900), 0);
    assert!(!loaded.mm.is_writable(0x40_0000, 8));
    assert_eq!(loaded.mm.executable_range_containing(0x40_0200), Some((0x40_0000, 0x40_1000)));
}

#[test]
fn the_stack_holds_what_the_program_is_told() {
    for aslr in [Aslr::Off, Aslr::On] {
        let loaded = load_with(Image::new(&small_program(3)), HashMap::new(), aslr).expect("good");
        let (args, env, aux) = loaded.stack();
        assert_eq!(args, ["program", "an argument"]);
        assert_eq!(env, ["HOME=/root"]);
        assert_eq!(loaded.result.registers.rsp % 16, 0);
        assert_eq!(aux[&at::ENTRY], loaded.result.registers.rip);
        assert_eq!(aux[&at::PHNUM], 2);
        assert_eq!(aux[&at::UID], 1);
        assert_eq!((aux[&at::EUID], aux[&at::GID], aux[&at::EGID], aux[&at::SECURE]), (2, 3, 4, 1));
        assert_eq!(loaded.text(aux[&at::EXECFN]), "/bin/program");
        assert_eq!(loaded.text(aux[&at::PLATFORM]), "x86_64");
        assert_eq!(aux[&at::BASE], 0);
        assert_eq!(loaded.word(aux[&at::PHDR]) & 0xffff_ffff, 1, "the first program header is a segment");
        let layout = loaded.mm.program();
        assert_eq!(layout.arg_end - layout.arg_start, "program\0an argument\0".len() as u64);
        assert_eq!(loaded.text(layout.env_start), "HOME=/root");
    }
}

#[test]
fn chance_moves_everything() {
    let place = || {
        let loaded = load_with(Image::new(&small_program(3)), HashMap::new(), Aslr::On).expect("good");
        (loaded.result.registers.rip, loaded.result.registers.rsp, loaded.result.brk_start)
    };
    let (one, two) = (place(), place());
    assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2, "{one:x?} {two:x?}");
}

#[test]
fn an_interpreter_gets_control_and_the_program_is_low() {
    let mut bytes = small_program(3);
    let path = b"/lib/ld.so\0";
    bytes[0x400..0x400 + path.len()].copy_from_slice(path);
    let interp = ProgramHeader {
        kind: 3,
        flags: 4,
        offset: 0x400,
        vaddr: 0x400,
        paddr: 0,
        filesz: path.len() as u64,
        memsz: path.len() as u64,
        align: 1,
    };
    let second: [u8; 56] = bytes[64 + 56..64 + 112].try_into().expect("a header");
    bytes[64 + 112..64 + 168].copy_from_slice(&second);
    bytes[64 + 56..64 + 112].copy_from_slice(interp.as_bytes());
    bytes[56] = 3;
    let others = HashMap::from([(b"/lib/ld.so".to_vec(), Image::new(&small_program(3)))]);
    let loaded = load_with(Image::new(&bytes), others.clone(), Aslr::Off).expect("good");
    let (_, _, aux) = loaded.stack();
    assert_eq!(aux[&at::ENTRY], 0x5555_5555_4200);
    assert_eq!(loaded.result.registers.rip, aux[&at::BASE] + 0x200);
    assert_eq!(loaded.result.interpreter.as_deref(), Some(b"/lib/ld.so".as_slice()));
    let missing = load_with(Image::new(&bytes), HashMap::new(), Aslr::Off);
    assert_eq!(missing.err(), Some(Errno::ENOENT));
    let bad = HashMap::from([(b"/lib/ld.so".to_vec(), Image::new(&[b'x'; 100]))]);
    assert_eq!(load_with(Image::new(&bytes), bad, Aslr::Off).err(), Some(Errno::ELIBBAD));
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x?} {:x?}", self.result, self.space.regions())
    }
}

#[test]
fn scripts_are_followed_with_their_arguments() {
    let others = HashMap::from([(b"/bin/sh".to_vec(), Image::new(&small_program(2)))]);
    let loaded = load_with(Image::new(b"#!/bin/sh -e\necho"), others, Aslr::Off).expect("good");
    let (args, _, aux) = loaded.stack();
    assert_eq!(args, ["/bin/sh", "-e", "/bin/program", "an argument"]);
    assert_eq!(loaded.text(aux[&at::EXECFN]), "/bin/program");
}

#[test]
fn a_script_that_interprets_itself_is_a_loop() {
    let script = Image::new(b"#!/bin/loop\n");
    let others = HashMap::from([(b"/bin/loop".to_vec(), script.clone())]);
    assert_eq!(load_with(script, others, Aslr::Off).err(), Some(Errno::ELOOP));
}

#[test]
fn too_many_arguments_are_too_big() {
    let mut open = |_: &[u8]| Err(Errno::ENOENT);
    let open: &mut Opener<'_> = &mut open;
    let image = || Box::new(Image::new(&small_program(2)));
    let mut long = input(&["program"]);
    long.argv.push(vec![b'x'; 128 << 10]);
    assert_eq!(Program::prepare(image(), long, STACK, open).err(), Some(Errno::E2BIG));
    let mut many = input(&["program"]);
    many.argv.resize(300_000, b"x".to_vec());
    assert_eq!(Program::prepare(image(), many, STACK, open).err(), Some(Errno::E2BIG));
    let mut none = input(&[]);
    none.envp.clear();
    let Ok(program) = Program::prepare(image(), none, STACK, open) else { panic!("a good program") };
    assert_eq!(program.input.argv, [b""], "a program always has a name");
}

#[test]
fn wrong_files_are_refused_as_linux_does() {
    assert_eq!(load(b"").err(), Some(Errno::ENOEXEC));
    assert_eq!(load(b"\x7fELF").err(), Some(Errno::ENOEXEC));
    assert_eq!(load(&[0; 300]).err(), Some(Errno::ENOEXEC));
    let with = |at: usize, bytes: &[u8]| {
        let mut program = small_program(2);
        program[at..at + bytes.len()].copy_from_slice(bytes);
        load(&program).err()
    };
    assert_eq!(with(18, &[183, 0]), Some(Errno::ENOEXEC), "another architecture");
    assert_eq!(with(16, &[1, 0]), Some(Errno::ENOEXEC), "an object file");
    assert_eq!(with(56, &[0, 0]), Some(Errno::ENOEXEC), "no program headers");
    assert_eq!(with(54, &[57, 0]), Some(Errno::ENOEXEC), "program headers of another size");
    assert_eq!(with(32, &u64::MAX.to_le_bytes()), Some(Errno::ENOEXEC), "program headers beyond the file");
    assert_eq!(with(64 + 16, &0x7fff_ffff_e800u64.to_le_bytes()), Some(Errno::EINVAL), "misaligned");
    assert_eq!(with(64 + 16, &(u64::MAX - 0xfff).to_le_bytes()), Some(Errno::EINVAL), "wraps around");
    assert_eq!(with(64 + 32, &0x10_0000u64.to_le_bytes()), Some(Errno::EINVAL), "more file than memory");
    assert_eq!(with(64 + 16, &0u64.to_le_bytes()), Some(Errno::EPERM), "page zero");
    let stub = STUB_START;
    assert_eq!(with(64 + 16, &stub.to_le_bytes()), Some(Errno::ENOMEM), "where the stub is");
}

#[test]
fn no_mutation_of_a_header_gets_past_the_checks() {
    for kind in [2, 3] {
        let good = small_program(kind);
        for seed in 1..1500 {
            let mut dice = Dice::new(seed);
            let mut bytes = good.clone();
            for _ in 0..1 + dice.below(4) {
                let at = dice.below(64 + 112) as usize;
                let interesting = [0, 1, 0x7f, 0x80, 0xff, dice.below(256) as u8];
                bytes[at] = interesting[dice.below(6) as usize];
                if dice.below(4) == 0 {
                    let field = (dice.below(22) * 8) as usize;
                    let value = [0, u64::MAX, 1 << 63, 0x7fff_ffff_f000, dice.next()][dice.below(5) as usize];
                    bytes[field..field + 8].copy_from_slice(&value.to_le_bytes());
                }
            }
            if dice.below(8) == 0 {
                bytes.truncate(dice.below(0x2000) as usize);
            }
            if let Ok(loaded) = load(&bytes) {
                assert!(loaded.result.registers.rip < 0x7fff_ffff_f000);
                for (start, end, _) in loaded.space.regions() {
                    assert!(start >= 0x1_0000 && end <= 0x7fff_ffff_f000);
                    assert!(end <= STUB_START || start >= STUB_END);
                }
            }
        }
    }
}

/// A program of the machine, if it is there.
fn host_program(path: &str) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

#[test]
fn programs_of_this_machine_load() {
    let mut tried = 0;
    for path in ["/bin/busybox", "/bin/true", "/usr/bin/env", "/bin/bash"] {
        let Some(bytes) = host_program(path) else { continue };
        let linker = "/lib64/ld-linux-x86-64.so.2";
        let linkers = host_program(linker).map(|bytes| (linker.as_bytes().to_vec(), Image::new(&bytes)));
        let loaded = load_with(Image::new(&bytes), linkers.into_iter().collect(), Aslr::On)
            .unwrap_or_else(|errno| panic!("{path}: {errno:?}"));
        let (header, _) = FileHeader::read_from_prefix(&bytes).expect("a header");
        let (_, _, aux) = loaded.stack();
        let bias = aux[&at::ENTRY] - header.entry;
        let mut head = [0; 4];
        let mm_space = Arc::clone(loaded.mm.space());
        assert_eq!(mm_space.read(aux[&at::PHDR] - header.phoff, &mut head), 4);
        assert!(head == *b"\x7fELF", "{path}: headers at {:#x}, bias {bias:#x}", aux[&at::PHDR]);
        tried += 1;
    }
    assert!(tried > 0, "this machine has no programs");
}

#[test]
fn a_raised_limit_extends_the_stack() {
    let loaded = load(&small_program(2)).expect("a good program");
    let (start, end) = loaded.result.stack;
    let mut context = platform::fake::FakeContext::new(Arc::clone(&loaded.space));
    loaded.mm.raise_stack_limit(&mut context, 64 << 20);
    assert!(loaded.mm.is_writable(end - (64 << 20), 64 << 20));
    loaded.mm.raise_stack_limit(&mut context, 8 << 20);
    assert!(loaded.mm.is_writable(start, end - start));
    assert_eq!(loaded.mm.usage().stack, 64 << 20);
}
