//! May a guest touch a page of a file in memory by itself? A tmpfs has a size, but the host fills a hole of a mapped file at the first
//! touch and asks nobody.
//!
//! Key types: [`Gate`] (one file's), [`Room`] (the file system that it is in), [`Hand`] (who makes the host's calls).
//!
//! ```text
//! OPEN ── its holes do not fit any more, or somebody needs the room ──> CLOSED
//!   ^                                                                     │
//!   └────────── it is mapped again, nobody had it, and it fits ───────────┘
//! ```
//!
//! Open: each hole of the file counts as if it was filled, and there is room for all (INVARIANT). Guests fill them at native speed.
//! Closed: what an address space can reach is filled (INVARIANT). All else is mapped without access; at the fault room is taken for one
//! page, or there is SIGBUS. Whatever makes holes takes the pages out of all address spaces first ([`Gate::withdraw`]).
//!
//! The size of a mount is no wall: a hostile guest changes protections by the stub's code. Its memory is limited by its cgroup.
//!
//! LOCK: a file's content > the file system's turn > `mm.inner` > who has it mapped (leaf).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linux_abi::fs::falloc;
use linux_abi::mm::{Prot, madv};
use linux_abi::signal::{SIGBUS, SIGSEGV, code};
use platform::host::file as host_file;
use platform::{AddressSpace, Context, Fault, MapSource, MemoryCall};

use super::layout::{self, PAGE};
use super::vma::{Backing, Vma};
use super::{Inner, MemoryManager, host};
use crate::Errno;

/// Most bytes that are there already and are let through at once.
const RUN_MAX: u64 = 2 << 20;
/// How often one looks again at what has changed meanwhile.
const TRIES: u32 = 4;

/// What a file system of a certain size has left.
pub trait Room: Send + Sync {
    /// Held by whoever changes what guests may fill.
    fn turn(&self) -> MutexGuard<'_, ()>;

    /// Bytes left, holes behind open gates being reckoned as filled. LOCK: its turn.
    fn spare(&self) -> u64;

    /// The same, gates having been closed if that is less than `bytes`. LOCK: its turn.
    fn make_spare(&self, bytes: u64) -> u64;

    /// Bytes by which there is too much in it. LOCK: its turn.
    fn excess(&self) -> u64;
}

/// What stands before the holes of a file.
pub struct Gate {
    file: MapSource,
    room: Arc<dyn Room>,
    is_open: AtomicBool,
    /// Who may have it mapped. LOCK: leaf.
    users: Mutex<Vec<Weak<MemoryManager>>>,
}

/// Who makes the host's calls in an address space.
pub enum Hand<'a> {
    /// One of its threads, which is the caller's.
    Context(&'a mut dyn Context),
    /// None of them.
    Space(&'a dyn AddressSpace),
}

/// What is behind the gate at an offset.
enum Behind {
    /// The file ends before it.
    Nothing,
    /// A hole up to there.
    Hole(u64),
    /// Pages that are there, up to there.
    Pages(u64),
}

/// What guests may reach from an offset on.
enum Passage {
    /// There is nothing.
    Nothing,
    /// There is nothing, and the gate is open: the host says so itself (SIGBUS) to who only reads.
    NotHeldBack,
    /// All of the mapping.
    Whole,
    /// So many bytes that are there.
    Pages(u64),
    /// A hole, with room for so many bytes of it.
    Hole(u64),
}

/// What became of pages that somebody touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// They can be reached now, up to that address.
    Up(u64),
    /// There is none, and no room for one. LINUX: SIGBUS.
    NoPage,
    /// There is no gate before them.
    NotGated,
}

impl Hand<'_> {
    fn call(&mut self, call: MemoryCall<'_>) -> Result<(), Errno> {
        match self {
            Self::Context(context) => host::call(*context, call),
            Self::Space(space) => host::pieces(call, |piece| space.memory(piece)),
        }
    }

    fn protect(&mut self, start: u64, end: u64, prot: Prot) -> Result<(), Errno> {
        self.call(MemoryCall::Protect { addr: start, len: end - start, prot: prot.bits() })
    }
}

impl Gate {
    /// Closed, and nobody has it mapped.
    #[must_use]
    pub fn new(file: MapSource, room: Arc<dyn Room>) -> Self {
        Self { file, room, is_open: AtomicBool::new(false), users: Mutex::default() }
    }

    /// The host's file.
    #[must_use]
    pub fn file(&self) -> &MapSource {
        &self.file
    }

    /// LOCK: see [`Room::turn`].
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.room.turn()
    }

    /// Guests fill its holes by themselves.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    fn users(&self) -> MutexGuard<'_, Vec<Weak<MemoryManager>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that its holes would take.
    #[must_use]
    pub fn holes(&self) -> u64 {
        let (size, blocks) = host_file::size_and_blocks(&*self.file).unwrap_or_default();
        layout::page_up(size).unwrap_or(size).saturating_sub(blocks.saturating_mul(512))
    }

    /// `mm` is about to map it. LOCK: its turn, until it is mapped.
    pub(super) fn admit(&self, mm: &Weak<MemoryManager>) {
        if !self.is_open() && !self.is_mapped() && self.holes() <= self.room.spare() {
            self.is_open.store(true, Ordering::Release);
        }
        self.add_user(mm);
    }

    /// A copy of an address space has it mapped as well.
    pub(super) fn add_user(&self, mm: &Weak<MemoryManager>) {
        let mut users = self.users();
        if !users.iter().any(|user| user.ptr_eq(mm)) {
            users.retain(|user| user.strong_count() > 0);
            users.push(Weak::clone(mm));
        }
    }

    /// Calls `work` for each address space that may have it mapped, those included that are copied meanwhile.
    fn for_users(&self, mut work: impl FnMut(&MemoryManager)) {
        let mut next = 0;
        loop {
            let Some(user) = self.users().get(next).cloned() else { return };
            next += 1;
            if let Some(mm) = user.upgrade() {
                work(&mm);
            }
        }
    }

    fn is_mapped(&self) -> bool {
        let mut is_mapped = false;
        self.for_users(|mm| {
            // Who cannot be asked may have it.
            is_mapped |= mm.look().is_none_or(|inner| inner.behind(self).next().is_some());
        });
        is_mapped
    }

    /// From now on room is asked for at each touch. If an address space cannot be reached (its container is frozen), it stays open.
    /// LOCK: its turn.
    pub fn close(&self) {
        if !self.is_open.swap(false, Ordering::AcqRel) {
            return;
        }
        if !self.withdraw(0, u64::MAX) {
            self.is_open.store(true, Ordering::Release);
        }
    }

    /// Takes the pages of a part of the file out of all address spaces, before they become holes; `false` if one cannot be reached.
    /// Nothing to do for one that is open. LOCK: its turn, until they are holes.
    pub fn withdraw(&self, start: u64, end: u64) -> bool {
        let mut is_done = true;
        if !self.is_open() {
            self.for_users(|mm| is_done &= mm.withdraw(self, start, end));
        }
        is_done
    }

    /// The file is about to grow. LOCK: its turn, until it has.
    pub fn before_growth(&self, old: u64, new: u64) {
        let pages = |bytes: u64| layout::page_up(bytes).unwrap_or(u64::MAX);
        if self.is_open() && pages(new).saturating_sub(pages(old)) > self.room.spare() {
            self.close();
        }
    }

    fn behind(&self, offset: u64) -> Behind {
        let size = host_file::size_and_blocks(&*self.file).map_or(0, |(size, _)| size);
        let size = layout::page_up(size).unwrap_or(size);
        if offset >= size {
            return Behind::Nothing;
        }
        match host_file::stretch(&*self.file, offset) {
            (true, end) => Behind::Pages(layout::page_up(end).unwrap_or(size).min(size).max(offset + PAGE)),
            (false, end) => Behind::Hole(layout::page_down(end).min(size)),
        }
    }

    /// Room for what is touched, at `offset`, of which `wanted` bytes are. LOCK: its turn, and no `mm.inner`, since gates may have to be
    /// closed for it.
    fn room_for(&self, offset: u64, wanted: u64) -> Passage {
        let is_open = self.is_open();
        match self.behind(offset) {
            // Else a write to what may only be read would be tried again for ever, where the host does not tell that it is one (ptrace).
            Behind::Nothing if is_open => Passage::NotHeldBack,
            Behind::Nothing => Passage::Nothing,
            _ if is_open => Passage::Whole,
            Behind::Pages(until) => Passage::Pages((until - offset).min(RUN_MAX)),
            Behind::Hole(until) => {
                let wanted = wanted.min(until - offset);
                Passage::Hole(layout::page_down(self.room.make_spare(wanted)).min(wanted))
            }
        }
    }

    /// Lets guests reach a hole at `at`, for which there is room for `spare` bytes. Answers how many they reach. LOCK: its turn, `mm.inner`.
    fn fill(&self, hand: &mut Hand<'_>, vma: &Vma, at: u64, spare: u64) -> Result<u64, Errno> {
        // What has been allocated and not been written looks like a hole, but takes no more room. So one page is tried in any case.
        let len = spare.max(PAGE);
        hand.protect(at, at + len, vma.prot)?;
        let advice = if vma.prot.contains(Prot::READ) { madv::POPULATE_READ } else { madv::POPULATE_WRITE };
        // A host that cannot bring them in now does at the touch.
        let _ = hand.call(MemoryCall::Advise { addr: at, len, advice });
        if spare == 0 && self.room.excess() > 0 {
            hand.protect(at, at + len, Prot::empty())?;
            let punch = falloc::KEEP_SIZE | falloc::PUNCH_HOLE;
            host_file::allocate(&*self.file, punch, vma.offset_of(at), len)?;
            return Ok(0);
        }
        Ok(len)
    }

    /// Lets guests reach what is at `at`. LOCK: its turn, `mm.inner`.
    fn pass(&self, hand: &mut Hand<'_>, vma: &Vma, at: u64, passage: Passage) -> Result<Touched, Errno> {
        let end = match passage {
            Passage::Nothing => return Ok(Touched::NoPage),
            Passage::NotHeldBack => return Ok(Touched::NotGated),
            Passage::Whole => {
                hand.protect(vma.start, vma.end, vma.prot)?;
                vma.end
            }
            Passage::Pages(len) => {
                let end = (at + len).min(vma.end);
                hand.protect(at, end, vma.prot)?;
                end
            }
            Passage::Hole(spare) => at + self.fill(hand, vma, at, spare.min(vma.end - at))?,
        };
        Ok(if end > at { Touched::Up(end) } else { Touched::NoPage })
    }
}

impl Backing {
    /// What stands before the holes of its file.
    pub(super) fn gate(&self) -> Option<Arc<Gate>> {
        match self {
            Self::File { file: Some(file), .. } => file.ops.gate(),
            _ => None,
        }
    }
}

impl Vma {
    /// What stands before the holes of its file.
    #[must_use]
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.backing.gate()
    }

    /// The gate, if it is closed.
    pub(super) fn closed_gate(&self) -> Option<Arc<Gate>> {
        self.gate().filter(|gate| !gate.is_open())
    }

    /// The protection that the host is told: none, where pages are let through one by one.
    pub(super) fn host_prot(&self, wanted: Prot) -> Prot {
        if self.closed_gate().is_some() { Prot::empty() } else { wanted }
    }

    /// Where in the file `addr` is.
    fn offset_of(&self, addr: u64) -> u64 {
        match &self.backing {
            Backing::File { offset, .. } => offset.saturating_add(addr - self.start),
            _ => 0,
        }
    }
}

impl Inner {
    /// The mappings of a file.
    fn behind<'a>(&'a self, gate: &'a Gate) -> impl Iterator<Item = &'a Vma> {
        self.tree.iter().filter(|vma| vma.gate().is_some_and(|its| std::ptr::eq(&*its, gate)))
    }
}

impl MemoryManager {
    /// It has, or had, mappings with a gate.
    pub(super) fn has_gates(&self) -> bool {
        self.has_gates.load(Ordering::Relaxed)
    }

    fn withdraw(&self, gate: &Gate, from: u64, to: u64) -> bool {
        let Some(inner) = self.look() else { return false };
        self.forget_writable();
        let mut hand = Hand::Space(&*self.space);
        let mut is_done = true;
        for vma in inner.behind(gate) {
            let first = vma.offset_of(vma.start);
            let start = vma.start + from.saturating_sub(first).min(vma.len());
            let end = vma.start + to.saturating_sub(first).min(vma.len());
            is_done &=
                start >= end || hand.protect(start, end, Prot::empty()).is_ok() || self.space.has_died();
        }
        is_done
    }

    /// Somebody touches pages that may be behind a gate, and wants them up to `end`.
    pub fn touch(&self, hand: &mut Hand<'_>, addr: u64, end: u64) -> Touched {
        let at = layout::page_down(addr);
        let end = layout::page_up(end).unwrap_or(u64::MAX).max(at + PAGE);
        for _ in 0..TRIES {
            let place = |inner: MutexGuard<'_, Inner>| {
                let vma = inner.tree.find(at)?;
                Some((vma.gate()?, vma.offset_of(at), end.min(vma.end) - at))
            };
            let Some((gate, offset, wanted)) = self.reach(hand).and_then(place) else {
                return Touched::NotGated;
            };
            let _turn = gate.turn();
            let passage = gate.room_for(offset, wanted);
            let Some(inner) = self.reach(hand) else { return Touched::NotGated };
            let is_it = |vma: &&Vma| {
                let is_same = vma.gate().is_some_and(|its| Arc::ptr_eq(&its, &gate));
                is_same && vma.offset_of(at) == offset && !vma.prot.is_empty()
            };
            let Some(vma) = inner.tree.find(at).filter(is_it) else { continue };
            return match gate.pass(hand, vma, at, passage) {
                // Too many pieces for the host: what is filled from now on is counted when somebody asks.
                Err(Errno::ENOMEM) => {
                    hand.protect(vma.start, vma.end, vma.prot).map(|()| Touched::Up(vma.end))
                }
                touched => touched,
            }
            .unwrap_or(Touched::NotGated);
        }
        Touched::NotGated
    }

    /// The lock, as whoever makes calls by that hand may wait for it.
    fn reach(&self, hand: &Hand<'_>) -> Option<MutexGuard<'_, Inner>> {
        match hand {
            Hand::Context(_) => Some(self.lock()),
            Hand::Space(_) => self.look(),
        }
    }

    /// Brings in what is behind gates in a range.
    ///
    /// # Errors
    /// EFAULT if there is no room for it.
    pub(super) fn bring_in(&self, context: &mut dyn Context, start: u64, end: u64) -> Result<(), Errno> {
        if !self.has_gates() {
            return Ok(());
        }
        let gated: Vec<(u64, u64)> = {
            let inner = self.lock();
            let gated = inner.tree.overlapping(start, end).filter(|vma| vma.closed_gate().is_some());
            gated.map(|vma| (vma.start.max(start), vma.end.min(end))).collect()
        };
        for (mut at, end) in gated {
            while at < end {
                match self.touch(&mut Hand::Context(context), at, end) {
                    Touched::Up(next) => at = next,
                    Touched::NoPage => return Err(Errno::EFAULT),
                    Touched::NotGated => break,
                }
            }
        }
        Ok(())
    }

    /// Brings in the page of an address; `false` if it was there, or cannot be.
    pub fn brings_in(&self, context: &mut dyn Context, addr: u64) -> bool {
        let is_gated =
            self.has_gates() && self.lock().tree.find(addr).is_some_and(|vma| vma.prot.contains(Prot::READ));
        is_gated && matches!(self.touch(&mut Hand::Context(context), addr, addr + 4), Touched::Up(_))
    }

    /// A guest thread cannot go on. `None`: it can now; else what it is to be told.
    pub fn resolve_fault(&self, context: &mut dyn Context, fault: Fault) -> Option<Fault> {
        const PROTECTION: u64 = 1;
        const WRITE: u64 = 2;
        const FETCH: u64 = 16;
        if fault.signo != SIGSEGV || fault.code != code::SEGV_ACCERR || !self.has_gates() {
            return Some(fault);
        }
        let prot = self.protection(fault.addr).map_or(Prot::empty(), |(prot, _)| prot);
        let is_write = fault.error_code & WRITE != 0;
        let is_fetch = fault.error_code & FETCH != 0;
        if prot.is_empty()
            || (is_write && !prot.contains(Prot::WRITE))
            || (is_fetch && !prot.contains(Prot::EXEC))
        {
            return Some(fault);
        }
        match self.touch(&mut Hand::Context(context), fault.addr, fault.addr + 1) {
            Touched::Up(_) => None,
            Touched::NotGated => Some(fault),
            Touched::NoPage => {
                let error_code = fault.error_code & !PROTECTION;
                Some(Fault { signo: SIGBUS, code: code::BUS_ADRERR, error_code, ..fault })
            }
        }
    }

    /// Copies from guest memory; answers how many bytes were there before the first unreadable one.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = self.space.read(addr, buf);
        while done < buf.len() && self.admits(addr + done as u64, (buf.len() - done) as u64, Prot::READ) {
            match self.space.read(addr + done as u64, &mut buf[done..]) {
                0 => break,
                n => done += n,
            }
        }
        done
    }

    /// Copies to guest memory; answers how many bytes went in before the first unwritable one.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> usize {
        let mut done = self.space.write(addr, bytes);
        while done < bytes.len() && self.admits(addr + done as u64, (bytes.len() - done) as u64, Prot::WRITE)
        {
            match self.space.write(addr + done as u64, &bytes[done..]) {
                0 => break,
                n => done += n,
            }
        }
        done
    }

    /// The sentry itself touches pages, and could not reach the first: may it now?
    fn admits(&self, addr: u64, len: u64, wanted: Prot) -> bool {
        if !self.has_gates() || !self.protection(addr).is_some_and(|(prot, _)| prot.contains(wanted)) {
            return false;
        }
        let end = addr.saturating_add(len);
        matches!(self.touch(&mut Hand::Space(&*self.space), addr, end), Touched::Up(_))
    }
}
