//! Guest memory: the layout is ours, the pages are the host's.
//!
//! Key type: [`MemoryManager`], one per guest address space. It decides where mappings lie and what they allow, and orders
//! the host's memory calls through the running task's `platform::Context`.
//!
//! Files: `vma` one mapping, `tree` all of them, `layout` bounds and chance, `map`, `protect`, `remap`, `brk`, `advise`,
//! `lock` the calls, `grow` what grows at a fault, `gate` which pages of a tmpfs a guest may fill, `host` how the host is told, `query` what others
//! ask (is this writable? where can a trampoline go?), `report` the texts of
//! `/proc/PID/maps` and its kin, [`loader`] how a program gets into memory.

mod advise;
mod brk;
mod gate;
mod grow;
mod host;
pub mod layout;
pub mod loader;
mod lock;
mod map;
mod no_space;
mod policy;
mod protect;
mod query;
mod remap;
mod report;
mod resident;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod vma;

pub use gate::{Gate, Hand, Room, Touched};
pub use lock::Fault as LockFault;
pub use map::{MapRequest, MapTarget, SharedSegment};
pub(crate) use no_space::NoSpace;
pub use policy::MemoryPolicy;
pub use query::SharedPlace;
pub use report::MemoryUsage;
pub use resident::Resident;
pub use tree::Totals;
pub use vma::{Attachment, Backing, Vma, VmaFlags};

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use linux_abi::mm::Prot;
use platform::{AddressSpace, Context, PlatformError};

use self::layout::{END, STUB_END, STUB_START, VDSO_BEFORE, VDSO_LEN};
use self::query::WritableCache;
use self::tree::VmaTree;
use crate::Errno;
use crate::account::{self, Charge};
use crate::vfs::{DenyWrite, Location};

/// The resource limits that memory calls look at, in bytes. `u64::MAX`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// `RLIMIT_AS`.
    pub address_space: u64,
    /// `RLIMIT_DATA`.
    pub data: u64,
    /// `RLIMIT_STACK`.
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`; `u64::MAX` also for those with `CAP_IPC_LOCK`.
    pub locked: u64,
}

impl Default for MemoryLimits {
    /// What a container starts with.
    fn default() -> Self {
        Self { address_space: u64::MAX, data: u64::MAX, stack: 8 << 20, locked: 8 << 20 }
    }
}

/// Where the pieces of the program lie, for `/proc/PID/stat` and `prctl(PR_SET_MM)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in proc_pid_stat(5)")]
pub struct ProgramLayout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

impl ProgramLayout {
    /// What those see who may not look into the process. LINUX: `do_task_stat`.
    pub const HIDDEN: Self = Self {
        start_code: 1,
        end_code: 1,
        start_data: 0,
        end_data: 0,
        start_brk: 0,
        start_stack: 0,
        arg_start: 0,
        arg_end: 0,
        env_start: 0,
        env_end: 0,
    };
}

/// A guest address space's layout.
pub struct MemoryManager {
    space: Arc<dyn AddressSpace>,
    /// LOCK: `mm.inner`. Held across the host's memory call, so that layout and pages agree whatever two threads do at once;
    /// a memory call waits for nobody but the host kernel.
    inner: Mutex<Inner>,
    writable: WritableCache,
    /// Of those, the ones that are no files.
    plain: WritableCache,
    /// Some mapping has, or had, a [`Gate`].
    has_gates: AtomicBool,
    me: Weak<Self>,
}

struct Inner {
    tree: VmaTree,
    program: ProgramLayout,
    /// Current end of the heap, to the byte.
    brk: u64,
    /// `mlockall(MCL_FUTURE)`: of new mappings, those of [`VmaFlags::LOCKS`].
    lock_future: VmaFlags,
    exe: Option<Location>,
    /// Nobody writes to the program file as long as it runs somewhere.
    exe_denies: Option<Arc<DenyWrite>>,
    /// As the program got it, for `/proc/PID/auxv`.
    auxv: Vec<u8>,
    /// Largest resident size seen, in bytes (`VmHWM`).
    peak_resident: u64,
    /// Largest `Totals::size` seen (`VmPeak`).
    peak_size: u64,
    /// For the mappings in `tree`.
    charge: Charge,
}

/// What a mapping costs in the tree, and as much again in the host's: seen 210 and 230 bytes.
const MAPPING_BYTES: usize = 448;

impl MemoryManager {
    /// An empty layout over an empty address space.
    #[must_use]
    pub fn new(space: Arc<dyn AddressSpace>) -> Arc<Self> {
        let mut tree = VmaTree::new(END - layout::HUGE_PAGE);
        tree.insert(special(STUB_START, STUB_END, "[stub]", Prot::READ, VmaFlags::HIDDEN));
        let vdso = layout::page_down(space.vdso());
        if vdso > VDSO_BEFORE && vdso < END - VDSO_LEN {
            tree.insert(special(vdso - VDSO_BEFORE, vdso, "[vvar]", Prot::READ, VmaFlags::empty()));
            tree.insert(special(vdso, vdso + VDSO_LEN, "[vdso]", Prot::READ | Prot::EXEC, VmaFlags::empty()));
        }
        let inner = Inner {
            tree,
            program: ProgramLayout::default(),
            brk: 0,
            lock_future: VmaFlags::empty(),
            exe: None,
            exe_denies: None,
            auxv: Vec::new(),
            peak_resident: 0,
            peak_size: 0,
            charge: Charge::default(),
        };
        Self::with(space, inner, false)
    }

    fn with(space: Arc<dyn AddressSpace>, inner: Inner, has_gates: bool) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            space,
            inner: Mutex::new(inner),
            writable: WritableCache::default(),
            plain: WritableCache::default(),
            has_gates: AtomicBool::new(has_gates),
            me: Weak::clone(me),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For who looks from outside: `None` if the lock cannot be had soon. Orders to the stub are given under it, and a hostile
    /// stub may never finish one, a frozen one only when it is thawed.
    fn look(&self) -> Option<MutexGuard<'_, Inner>> {
        const PAUSE: Duration = Duration::from_millis(1);
        const LOOKS: u32 = 200;
        for _ in 0..LOOKS {
            match self.inner.try_lock() {
                Ok(inner) => return Some(inner),
                Err(TryLockError::Poisoned(inner)) => return Some(inner.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
        None
    }

    /// To change the layout: what [`MemoryManager::is_writable`] remembers is forgotten.
    fn lock_to_change(&self) -> MutexGuard<'_, Inner> {
        let inner = self.lock();
        self.forget_writable();
        inner
    }

    /// LOCK: `mm.inner` is held.
    fn forget_writable(&self) {
        self.writable.clear();
        self.plain.clear();
    }

    /// The host side.
    #[must_use]
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Forks the address space through one of its threads: host pages and layout are copied at one moment.
    ///
    /// # Errors
    /// When the host has no more processes or memory.
    pub fn fork(
        &self,
        context: &mut dyn Context,
    ) -> Result<(Arc<MemoryManager>, Box<dyn Context>), PlatformError> {
        let inner = self.lock();
        let (space, child) = context.fork()?;
        let copy = Inner {
            tree: inner.tree.forked(),
            program: inner.program,
            brk: inner.brk,
            lock_future: VmaFlags::empty(),
            exe: inner.exe.clone(),
            exe_denies: inner.exe_denies.clone(),
            auxv: inner.auxv.clone(),
            peak_resident: 0,
            peak_size: inner.tree.totals().size,
            // The task that is made with it has been granted.
            charge: account::count(inner.tree.count() * MAPPING_BYTES),
        };
        let mm = Self::with(space, copy, self.has_gates());
        if self.has_gates() {
            // LOCK: still that of the memory that was copied, so that nobody takes pages out of it and misses the copy.
            inner.tree.iter().filter_map(Vma::gate).for_each(|gate| gate.add_user(&mm.me));
        }
        Ok((mm, child))
    }

    /// The program file, for `/proc/PID/exe`.
    #[must_use]
    pub fn exe(&self) -> Option<Location> {
        self.look()?.exe.clone()
    }

    /// Where the program's pieces lie; nowhere, if the layout is not to be had ([`MemoryManager::usage`]).
    #[must_use]
    pub fn program(&self) -> ProgramLayout {
        self.look().map(|inner| inner.program).unwrap_or_default()
    }

    /// `prctl(PR_SET_MM)`: the program says where its arguments and so on are.
    pub fn set_program(&self, program: ProgramLayout) {
        self.lock().program = program;
    }

    /// The auxiliary vector as the program got it.
    #[must_use]
    pub fn auxv(&self) -> Vec<u8> {
        self.look().map(|inner| inner.auxv.clone()).unwrap_or_default()
    }
}

impl VmaTree {
    /// The tree that a forked child starts with.
    fn forked(&self) -> Self {
        let mut copy = self.clone();
        let gone: Vec<(u64, u64)> = copy
            .iter()
            .filter(|vma| vma.flags.contains(VmaFlags::DONTFORK))
            .map(|vma| (vma.start, vma.end))
            .collect();
        for (start, end) in gone {
            copy.remove(start, end);
        }
        let locked: Vec<(u64, u64)> = copy
            .iter()
            .filter(|vma| vma.flags.contains(VmaFlags::LOCKED))
            .map(|vma| (vma.start, vma.end))
            .collect();
        for (start, end) in locked {
            copy.update(start, end, |vma| vma.flags.remove(VmaFlags::LOCKS));
        }
        copy
    }
}

impl Inner {
    /// The tree is about to have `more` mappings.
    ///
    /// # Errors
    /// ENOMEM above the limit of an address space, or the container's.
    fn reserve(&mut self, more: usize) -> Result<(), Errno> {
        let count = self.tree.count() + more;
        if count > layout::MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        self.charge.resize(count * MAPPING_BYTES)
    }

    /// Another `len` bytes may be mapped. LINUX: `may_expand_vm`.
    fn may_expand(&self, len: u64, data: bool, limits: &MemoryLimits) -> bool {
        let totals = self.tree.totals();
        let fits =
            |sum: u64, limit: u64| limit == u64::MAX || sum.checked_add(len).is_some_and(|sum| sum <= limit);
        fits(totals.size, limits.address_space) && (!data || fits(totals.data, limits.data))
    }

    /// Another `len` bytes may be locked. LINUX: `mlock_future_ok`.
    fn may_lock(&self, len: u64, limits: &MemoryLimits) -> bool {
        self.tree.totals().locked.saturating_add(len) <= limits.locked
    }

    fn note_peak(&mut self) {
        self.peak_size = self.peak_size.max(self.tree.totals().size);
    }
}

/// A mapping that is not the guest's.
fn special(start: u64, end: u64, name: &'static str, prot: Prot, flags: VmaFlags) -> Vma {
    Vma {
        start,
        end,
        prot,
        max_prot: prot,
        flags: flags | VmaFlags::SPECIAL,
        backing: Backing::Special(name),
    }
}

/// Checks a range as most memory calls do; answers its end. The length is rounded up to pages.
fn checked_range(addr: u64, len: u64, unaligned: Errno, overflow: Errno) -> Result<(u64, u64), Errno> {
    if !layout::is_aligned(addr) {
        return Err(unaligned);
    }
    let len = layout::page_up(len).ok_or(overflow)?;
    let end = addr.checked_add(len).ok_or(overflow)?;
    Ok((addr, end))
}
