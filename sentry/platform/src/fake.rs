//! A platform without a host process behind it: guest memory is a table, guest code is a list of exits.
//!
//! Key types: [`FakePlatform`], [`FakeSpace`], [`FakeContext`]. With it the whole kernel runs in a unit test: memory calls
//! do what the host's would do, refusals can be ordered ([`FakeSpace::fail_next`]), and calls are recorded.
//! What it deliberately does not do: run guest code, deliver faults, keep extended state.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux_abi::mm::{Prot, madv};
use linux_abi::{Errno, PAGE_SIZE, Registers};

use crate::api::{
    AddressSpace, Context, Exit, Identity, Interrupter, MemoryCall, Platform, PlatformError, Service,
    Template, ThreadCall, Unserved,
};
use crate::host::file;

/// Where the fake says its vDSO is.
pub const FAKE_VDSO: u64 = 0x7ffd_1234_5000;

#[derive(Clone)]
struct Region {
    end: u64,
    prot: Prot,
    /// Host file and the offset in it of the region's start.
    file: Option<(Arc<OwnedFd>, u64)>,
    shared: bool,
}

#[derive(Clone, Default)]
struct Memory {
    regions: BTreeMap<u64, Region>,
    /// Private pages that have been written, by page number.
    pages: HashMap<u64, Box<[u8]>>,
}

impl Memory {
    fn find(&self, addr: u64) -> Option<(u64, &Region)> {
        let (&start, region) = self.regions.range(..=addr).next_back()?;
        (addr < region.end).then_some((start, region))
    }

    /// Makes a region start at `at`, if one reaches over it.
    fn split(&mut self, at: u64) {
        let Some((start, region)) = self.find(at).map(|(start, region)| (start, region.clone())) else {
            return;
        };
        if start == at {
            return;
        }
        let mut tail = region.clone();
        if let Some((_, offset)) = &mut tail.file {
            *offset += at - start;
        }
        self.regions.insert(start, Region { end: at, ..region });
        self.regions.insert(at, tail);
    }

    fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        while at < end {
            match self.find(at) {
                Some((_, region)) => at = region.end,
                None => return false,
            }
        }
        true
    }

    fn unmap(&mut self, start: u64, end: u64) {
        self.split(start);
        self.split(end);
        let gone: Vec<u64> = self.regions.range(start..end).map(|(&key, _)| key).collect();
        for key in gone {
            self.regions.remove(&key);
        }
        self.forget_pages(start, end);
    }

    fn forget_pages(&mut self, start: u64, end: u64) {
        self.pages.retain(|page, _| !(start / PAGE_SIZE..end / PAGE_SIZE).contains(page));
    }

    fn remap(
        &mut self,
        addr: u64,
        old_len: u64,
        new_len: u64,
        new_addr: u64,
        keep: bool,
    ) -> Result<(), Errno> {
        let (start, region) = self.find(addr).ok_or(Errno::EFAULT)?;
        let mut moved = region.clone();
        if addr + old_len > moved.end && old_len > 0 {
            return Err(Errno::EFAULT);
        }
        if let Some((_, offset)) = &mut moved.file {
            *offset += addr - start;
        }
        if new_addr == addr && !self.is_free(addr + old_len, addr + new_len) {
            return Err(Errno::ENOMEM);
        }
        let kept = old_len.min(new_len) / PAGE_SIZE;
        let pages: Vec<(u64, Box<[u8]>)> = (0..kept)
            .filter_map(|n| self.pages.remove(&(addr / PAGE_SIZE + n)).map(|page| (n, page)))
            .collect();
        if new_addr != addr {
            self.unmap(new_addr, new_addr + new_len);
        }
        if !keep && old_len > 0 {
            self.unmap(addr, addr + old_len);
        }
        moved.end = new_addr + new_len;
        self.regions.insert(new_addr, moved);
        self.pages.extend(pages.into_iter().map(|(n, page)| (new_addr / PAGE_SIZE + n, page)));
        Ok(())
    }

    fn is_free(&self, start: u64, end: u64) -> bool {
        start >= end || (self.find(start).is_none() && self.regions.range(start..end).next().is_none())
    }

    /// One stretch within one page.
    fn read_piece(&self, addr: u64, buf: &mut [u8]) -> bool {
        let Some((start, region)) = self.find(addr).filter(|(_, region)| region.prot.contains(Prot::READ))
        else {
            return false;
        };
        let into_page = usize::try_from(addr % PAGE_SIZE).unwrap_or(0);
        if let Some(page) = self.pages.get(&(addr / PAGE_SIZE)) {
            buf.copy_from_slice(&page[into_page..into_page + buf.len()]);
        } else if let Some((file, offset)) = &region.file {
            buf.fill(0);
            return file::read_at(&**file, buf, offset + (addr - start)).is_ok();
        } else {
            buf.fill(0);
        }
        true
    }

    fn write_piece(&mut self, addr: u64, bytes: &[u8]) -> bool {
        let found = self.find(addr).map(|(start, region)| (start, region.clone()));
        let Some((start, region)) = found.filter(|(_, region)| region.prot.contains(Prot::WRITE)) else {
            return false;
        };
        if let Some((file, offset)) = region.file.as_ref().filter(|_| region.shared) {
            return file::write_at(&**file, bytes, offset + (addr - start)).is_ok();
        }
        let page_start = addr / PAGE_SIZE * PAGE_SIZE;
        let mut page = vec![0; PAGE_SIZE as usize].into_boxed_slice();
        if let Some(old) = self.pages.remove(&(addr / PAGE_SIZE)) {
            page = old;
        } else if let Some((file, offset)) = &region.file {
            let at = (offset + page_start).saturating_sub(start);
            let _ = file::read_at(&**file, &mut page, at);
        }
        let into_page = usize::try_from(addr - page_start).unwrap_or(0);
        page[into_page..into_page + bytes.len()].copy_from_slice(bytes);
        self.pages.insert(addr / PAGE_SIZE, page);
        true
    }
}

/// Guest memory as a table.
#[derive(Default)]
pub struct FakeSpace {
    memory: Mutex<Memory>,
    log: Mutex<Vec<String>>,
    failures: Mutex<VecDeque<Errno>>,
    dead: AtomicBool,
    remote_copies: AtomicUsize,
}

impl FakeSpace {
    /// An empty space with a thread in it.
    #[must_use]
    pub fn with_context() -> (Arc<Self>, FakeContext) {
        let space = Arc::new(Self::default());
        let context = FakeContext::new(Arc::clone(&space));
        (space, context)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next memory call fails so (once; calls queue up).
    pub fn fail_next(&self, errno: Errno) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push_back(errno);
    }

    /// The memory calls so far, as text; forgotten here.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the kernel has read or written memory itself.
    #[must_use]
    pub fn remote_copies(&self) -> usize {
        self.remote_copies.load(Ordering::Relaxed)
    }

    fn put(&self, addr: u64, bytes: &[u8]) -> usize {
        let mut memory = self.memory();
        for (at, range) in by_page(addr, bytes.len()) {
            let start = range.start;
            if !memory.write_piece(at, &bytes[range]) {
                return start;
            }
        }
        bytes.len()
    }

    /// What is mapped: start, end, protection; neighbours that allow the same are one.
    #[must_use]
    pub fn regions(&self) -> Vec<(u64, u64, Prot)> {
        let mut joined: Vec<(u64, u64, Prot)> = Vec::new();
        for (&start, region) in &self.memory().regions {
            match joined.last_mut() {
                Some(last) if last.1 == start && last.2 == region.prot => last.1 = region.end,
                _ => joined.push((start, region.end, region.prot)),
            }
        }
        joined
    }

    fn copy(&self) -> Arc<Self> {
        Arc::new(Self { memory: Mutex::new(self.memory().clone()), ..Self::default() })
    }

    fn perform(&self, call: MemoryCall<'_>) -> Result<u64, Errno> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{call:x?}"));
        if self.dead.load(Ordering::Acquire) {
            return Err(Errno::ESRCH);
        }
        if let Some(errno) = self.failures.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return Err(errno);
        }
        let mut memory = self.memory();
        match call {
            MemoryCall::MapAnonymous { addr, len, prot, .. } => {
                memory.unmap(addr, addr + len);
                let prot = Prot::from_bits_truncate(prot);
                memory.regions.insert(addr, Region { end: addr + len, prot, file: None, shared: false });
                Ok(addr)
            }
            MemoryCall::MapFile { addr, len, prot, shared, file, offset } => {
                let file = Some((Arc::new(file::duplicate(file)?), offset));
                memory.unmap(addr, addr + len);
                let prot = Prot::from_bits_truncate(prot);
                memory.regions.insert(addr, Region { end: addr + len, prot, file, shared });
                Ok(addr)
            }
            MemoryCall::Unmap { addr, len } => {
                memory.unmap(addr, addr + len);
                Ok(0)
            }
            MemoryCall::Protect { addr, len, prot } => {
                if !memory.covers(addr, addr + len) {
                    return Err(Errno::ENOMEM);
                }
                memory.split(addr);
                memory.split(addr + len);
                for (_, region) in memory.regions.range_mut(addr..addr + len) {
                    region.prot = Prot::from_bits_truncate(prot);
                }
                Ok(0)
            }
            MemoryCall::Remap { addr, old_len, new_len, new_addr, keep_old } => {
                memory.remap(addr, old_len, new_len, new_addr, keep_old).map(|()| new_addr)
            }
            MemoryCall::Advise { addr, len, advice } => {
                if advice == madv::DONTNEED {
                    memory.forget_pages(addr, addr + len);
                }
                Ok(0)
            }
            MemoryCall::Sync { .. } | MemoryCall::Incore { .. } => Ok(0),
        }
    }
}

/// The stretches of a range that lie in one page each.
fn by_page(addr: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = addr.checked_add(done as u64)?;
        let room = usize::try_from(PAGE_SIZE - at % PAGE_SIZE).ok()?;
        let range = done..done + room.min(len - done);
        done = range.end;
        Some((at, range))
    })
}

impl AddressSpace for FakeSpace {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.remote_copies.fetch_add(1, Ordering::Relaxed);
        let memory = self.memory();
        for (at, range) in by_page(addr, buf.len()) {
            let start = range.start;
            if !memory.read_piece(at, &mut buf[range]) {
                return start;
            }
        }
        buf.len()
    }

    fn write(&self, addr: u64, buf: &[u8]) -> usize {
        self.remote_copies.fetch_add(1, Ordering::Relaxed);
        self.put(addr, buf)
    }

    fn kill(&self) {
        self.dead.store(true, Ordering::Release);
    }

    fn killed_by_host(&self) -> bool {
        false
    }

    fn cpu_time_ns(&self) -> (u64, u64) {
        (0, 0)
    }

    fn count_resident(&self, pages: &[u64]) -> usize {
        let memory = self.memory();
        pages.iter().filter(|&page| memory.pages.contains_key(&(page / PAGE_SIZE))).count()
    }

    fn memory(&self, call: MemoryCall<'_>) -> Result<(), Errno> {
        self.perform(call).map(drop)
    }

    fn vdso(&self) -> u64 {
        FAKE_VDSO
    }
}

/// A guest thread as a list of exits.
pub struct FakeContext {
    space: Arc<FakeSpace>,
    exits: VecDeque<(Registers, Exit)>,
    interrupted: Arc<AtomicBool>,
    /// What [`Context::set_identity`] was told last.
    pub identity: Option<Identity>,
    /// Guest memory that comes along with calls; `Some`: results go back with their answers, too.
    pub along: Option<(u64, Vec<u8>)>,
    deferred: Vec<(u64, Vec<u8>)>,
}

impl FakeContext {
    /// A thread in `space`.
    #[must_use]
    pub fn new(space: Arc<FakeSpace>) -> Self {
        Self {
            space,
            exits: VecDeque::new(),
            interrupted: Arc::default(),
            identity: None,
            along: None,
            deferred: Vec::new(),
        }
    }

    /// [`Context::run`] will answer so, once.
    pub fn push_exit(&mut self, registers: Registers, exit: Exit) {
        self.exits.push_back((registers, exit));
    }
}

impl Context for FakeContext {
    /// The next exit of the list; [`Exit::Died`] when it is empty.
    fn run(&mut self, regs: &mut Registers) -> Exit {
        if self.space.dead.load(Ordering::Acquire) {
            return Exit::Died;
        }
        if self.interrupted.swap(false, Ordering::AcqRel) {
            return Exit::Interrupted;
        }
        let Some((next, exit)) = self.exits.pop_front() else { return Exit::Died };
        *regs = next;
        exit
    }

    fn memory(&mut self, call: MemoryCall<'_>) -> Result<u64, Errno> {
        self.space.perform(call)
    }

    fn thread_call(&mut self, _: ThreadCall) -> Result<u64, Errno> {
        Ok(0)
    }

    fn clone_thread(&mut self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(Self::new(Arc::clone(&self.space))))
    }

    fn fork(&mut self) -> Result<(Arc<dyn AddressSpace>, Box<dyn Context>), PlatformError> {
        let space = self.space.copy();
        Ok((Arc::clone(&space) as Arc<dyn AddressSpace>, Box::new(Self::new(space))))
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        Arc::new(FakeInterrupter(Arc::clone(&self.interrupted)))
    }

    fn set_identity(&mut self, identity: Option<Identity>) {
        self.identity = identity;
    }

    fn save_extended(&mut self, image: &mut Vec<u8>) -> Result<(), Errno> {
        image.clear();
        image.resize(576, 0);
        Ok(())
    }

    fn load_extended(&mut self, _: Option<&[u8]>) -> Result<(), Errno> {
        Ok(())
    }

    fn prefetched(&self, addr: u64, buf: &mut [u8]) -> bool {
        let Some((start, bytes)) = &self.along else { return false };
        let into = addr.checked_sub(*start).and_then(|into| usize::try_from(into).ok());
        let found = into.and_then(|into| bytes.get(into..)?.get(..buf.len()));
        found.is_some_and(|found| {
            buf.copy_from_slice(found);
            true
        })
    }

    fn defer_write(&mut self, addr: u64, bytes: &[u8]) -> bool {
        if self.along.is_some() {
            self.deferred.push((addr, bytes.to_vec()));
        }
        self.along.is_some()
    }

    fn flush_writes(&mut self) -> Result<(), Errno> {
        let deferred = std::mem::take(&mut self.deferred);
        let is_written = |(addr, bytes): &(u64, Vec<u8>)| self.space.put(*addr, bytes) == bytes.len();
        if deferred.iter().all(is_written) { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn last_cpu(&self) -> u32 {
        0
    }

    fn set_affinity(&mut self, _: &[u64]) -> Result<(), Errno> {
        Ok(())
    }

    fn cpu_time_ns(&mut self) -> u64 {
        0
    }

    fn exit(&mut self) {}

    fn start(self: Box<Self>, _: &Registers, service: Service) -> Result<(), Unserved> {
        Err((self, service))
    }

    fn rest(self: Box<Self>) -> Option<Unserved> {
        None
    }
}

struct FakeInterrupter(Arc<AtomicBool>);

impl Interrupter for FakeInterrupter {
    fn interrupt(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Makes fake spaces.
#[derive(Debug, Default)]
pub struct FakePlatform;

impl Platform for FakePlatform {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn new_template(&self) -> Result<Arc<dyn Template>, PlatformError> {
        let host = |errno: Errno| PlatformError::Host {
            what: "make a memory file",
            source: std::io::Error::from_raw_os_error(errno.raw()),
        };
        Ok(Arc::new(FakeTemplate { descriptor: file::new_memory_file("fake-template").map_err(host)? }))
    }
}

struct FakeTemplate {
    descriptor: OwnedFd,
}

impl Template for FakeTemplate {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn spawn(&self) -> Result<(Arc<dyn AddressSpace>, Box<dyn Context>), PlatformError> {
        let (space, context) = FakeSpace::with_context();
        Ok((space, Box::new(context)))
    }

    fn kill(&self) {}
}
