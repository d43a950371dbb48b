//! A file system whose calls fail as they are told: a small FUSE server, spoken to the kernel without a library.
//!
//! Key type: [`FaultyFs`]. It has one folder of files, each with what fails in its name: `write-EIO`, `flush-EDQUOT`,
//! `fsync-ENOSPC`; the folder's own fsync fails, too. `blocks` is the image of a disk on which sectors full of one letter (`b`, `m`) cannot be written. Bytes are kept in
//! memory; nothing can be made or removed.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The files.
const NAMES: [&str; 14] = [
    "none-0",
    "write-EIO",
    "write-EDQUOT",
    "write-ENOSPC",
    "flush-EIO",
    "flush-EDQUOT",
    "flush-ENOSPC",
    "fsync-EIO",
    "fsync-EDQUOT",
    "read-EIO",
    "fallocate-ENOSPC",
    "fallocate-EDQUOT",
    "truncate-EIO",
    "blocks",
];
/// How long a file is at first, and the disk.
const FILE_BYTES: usize = 8 << 10;
const DISK_BYTES: usize = 16 << 20;
/// Longest request: what a write may have, and its head.
const REQUEST_MAX: usize = (1 << 20) + 4096;
const WRITE_MAX: u32 = 128 << 10;
/// What a disk writes as one.
const SECTOR: usize = 512;
/// LINUX: `FUSE_WRITEBACK_CACHE`.
const WRITEBACK_CACHE: u32 = 1 << 16;
/// LINUX: `FATTR_SIZE`.
const SET_SIZE: u32 = 1 << 3;
const ROOT: u64 = 1;

/// When the kernel asks for what a guest has written to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// At the write.
    Through,
    /// Some time later.
    Back,
}

/// A mounted one.
#[derive(Debug)]
pub struct FaultyFs {
    at: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl FaultyFs {
    /// Mounts one at an empty directory.
    ///
    /// # Errors
    /// If `/dev/fuse` cannot be opened, or the mount is refused.
    pub fn mount(at: &Path, writes: Writes) -> Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").context("open /dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("faulty"), at, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount a FUSE file system at {}", at.display()))?;
        let server = thread::spawn(move || Server::new(writes).serve(device));
        Ok(Self { at: at.to_owned(), server: Some(server) })
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        // Who still has a file open there keeps it a moment longer; the server ends with the last.
        if umount2(&self.at, MntFlags::MNT_DETACH).is_ok()
            && let Some(server) = self.server.take()
        {
            let _ = server.join();
        }
    }
}

/// Numbers in the machine's order, one behind the other.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
}

/// A request: its head, and what follows.
struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    const HEAD: usize = 40;

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head = Self { opcode: 0, unique: 0, node: 0, body: bytes };
        Some(Self {
            opcode: head.u32(4)?,
            unique: head.u64(8)?,
            node: head.u64(16)?,
            body: bytes.get(Self::HEAD..)?,
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.body.get(at..at + 4)?.try_into().ok()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(self.body.get(at..at + 8)?.try_into().ok()?))
    }

    /// A place and a length within a file.
    fn range(&self, at: usize) -> Option<(usize, usize)> {
        Some((usize::try_from(self.u64(at)?).ok()?, usize::try_from(self.u32(at + 8)?).ok()?))
    }
}

struct Server {
    writes: Writes,
    files: Vec<Vec<u8>>,
}

impl Server {
    fn new(writes: Writes) -> Self {
        let bytes = |name: &&str| if *name == "blocks" { DISK_BYTES } else { FILE_BYTES };
        Self { writes, files: NAMES.iter().map(|name| vec![b'x'; bytes(name)]).collect() }
    }

    fn serve(&mut self, mut device: File) {
        let mut buffer = vec![0; REQUEST_MAX];
        loop {
            let length = match device.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A request that was taken back; and ENODEV: the end.
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => continue,
                Err(_) => return,
            };
            let Some(request) = Request::parse(&buffer[..length]) else { return };
            // FORGET, INTERRUPT, BATCH_FORGET have no answer.
            if matches!(request.opcode, 2 | 36 | 42) {
                continue;
            }
            let (error, body) = match self.answer(&request) {
                Ok(Message(body)) => (0, body),
                Err(errno) => (-(errno as i32), Vec::new()),
            };
            let length = u32::try_from(body.len() + 16).unwrap_or(u32::MAX);
            let head = Message::default().u32(length).u32(error.cast_unsigned()).u64(request.unique);
            // The request may have been taken back meanwhile.
            let _ = device.write_all(&[head.0, body].concat());
        }
    }

    fn answer(&mut self, request: &Request<'_>) -> Result<Message, Errno> {
        let none = Message::default;
        match request.opcode {
            // LOOKUP
            1 => {
                let name = request.body.strip_suffix(&[0]).ok_or(Errno::EINVAL)?;
                let place = NAMES.iter().position(|known| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
                let node = place as u64 + ROOT + 1;
                let times = none().u64(node).u64(0).u64(1).u64(1).u32(0).u32(0);
                self.attributes(times, node)
            }
            // GETATTR, SETATTR
            3 => self.attributes(none().u64(1).u32(0).u32(0), request.node),
            4 => {
                if request.u32(0).is_some_and(|valid| valid & SET_SIZE != 0) {
                    self.fails(request.node, "truncate")?;
                    let size = request.u64(16).and_then(|size| usize::try_from(size).ok());
                    self.file(request.node)?.resize(size.ok_or(Errno::EINVAL)?.min(DISK_BYTES), 0);
                }
                self.attributes(none().u64(1).u32(0).u32(0), request.node)
            }
            // OPEN, OPENDIR
            14 | 27 => Ok(none().u64(0).u32(0).u32(0)),
            15 => self.read(request),
            16 => self.write(request),
            // STATFS
            17 => Ok(none()
                .u64(1000)
                .u64(500)
                .u64(500)
                .u64(1000)
                .u64(500)
                .u32(4096)
                .u32(255)
                .u32(4096)
                .zeros(28)),
            // RELEASE, RELEASEDIR, DESTROY, READDIR (of which nothing is told)
            18 | 28 | 29 | 38 => Ok(none()),
            // FSYNCDIR
            30 => Err(Errno::EIO),
            // FSYNC, FLUSH
            20 => self.fails(request.node, "fsync").map(|()| none()),
            25 => self.fails(request.node, "flush").map(|()| none()),
            // INIT
            26 => Ok(self.start(request)),
            // FALLOCATE
            43 => {
                self.fails(request.node, "fallocate")?;
                let end = request.u64(8).zip(request.u64(16)).and_then(|(at, length)| at.checked_add(length));
                let end = end.and_then(|end| usize::try_from(end).ok()).filter(|&end| end <= DISK_BYTES);
                let (end, file) = (end.ok_or(Errno::EFBIG)?, self.file(request.node)?);
                file.resize(end.max(file.len()), 0);
                Ok(none())
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Version 7.31, as `fuse_init_out` has it.
    fn start(&self, request: &Request<'_>) -> Message {
        let flags = if self.writes == Writes::Back { WRITEBACK_CACHE } else { 0 };
        let readahead = request.u32(8).unwrap_or(0);
        let head = Message::default().u32(7).u32(31).u32(readahead).u32(flags);
        head.u16(12).u16(9).u32(WRITE_MAX).u32(1).zeros(36)
    }

    fn file(&mut self, node: u64) -> Result<&mut Vec<u8>, Errno> {
        let place = usize::try_from(node.wrapping_sub(ROOT + 1)).map_err(|_| Errno::ENOENT)?;
        self.files.get_mut(place).ok_or(Errno::EISDIR)
    }

    fn attributes(&self, before: Message, node: u64) -> Result<Message, Errno> {
        let place = usize::try_from(node.wrapping_sub(ROOT + 1)).map_err(|_| Errno::ENOENT)?;
        let (size, mode) = match self.files.get(place) {
            Some(file) => (file.len() as u64, 0o100_666),
            None if node == ROOT => (0, 0o040_777),
            None => return Err(Errno::ENOENT),
        };
        let times = before.u64(node).u64(size).u64(size.div_ceil(512)).zeros(3 * 8 + 3 * 4);
        Ok(times.u32(mode).u32(1).u32(0).u32(0).u32(0).u32(4096).u32(0))
    }

    /// The error in the file's name, if that is what fails there.
    fn fails(&self, node: u64, what: &str) -> Result<(), Errno> {
        let place = usize::try_from(node.wrapping_sub(ROOT + 1)).map_err(|_| Errno::EISDIR)?;
        match NAMES.get(place).and_then(|name| name.split_once('-')) {
            Some((failing, "EIO")) if failing == what => Err(Errno::EIO),
            Some((failing, "EDQUOT")) if failing == what => Err(Errno::EDQUOT),
            Some((failing, "ENOSPC")) if failing == what => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    fn read(&mut self, request: &Request<'_>) -> Result<Message, Errno> {
        self.fails(request.node, "read")?;
        let (at, length) = request.range(8).ok_or(Errno::EINVAL)?;
        let file = self.file(request.node)?;
        let (from, to) = (at.min(file.len()), at.saturating_add(length).min(file.len()));
        Ok(Message(file[from..to].to_vec()))
    }

    fn write(&mut self, request: &Request<'_>) -> Result<Message, Errno> {
        const HEAD: usize = 40;
        self.fails(request.node, "write")?;
        let (at, length) = request.range(8).ok_or(Errno::EINVAL)?;
        let bytes = request.body.get(HEAD..HEAD + length).ok_or(Errno::EINVAL)?;
        let end = at.checked_add(length).filter(|&end| end <= DISK_BYTES).ok_or(Errno::EFBIG)?;
        // LINUX: a loop device takes a short write for a whole one, so it has to be the first sector.
        let is_bad =
            |sector: &[u8]| matches!(sector[0], b'b' | b'm') && sector.iter().all(|byte| *byte == sector[0]);
        let file = self.file(request.node)?;
        if file.len() == DISK_BYTES && bytes.chunks_exact(SECTOR).any(is_bad) {
            return Err(Errno::EIO);
        }
        if file.len() < end {
            file.resize(end, 0);
        }
        file[at..end].copy_from_slice(bytes);
        Ok(Message::default().u32(u32::try_from(length).unwrap_or(0)).u32(0))
    }
}
