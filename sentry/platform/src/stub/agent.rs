//! Ordering a stub's agent about: clone a guest thread, fork the stub.
//!
//! Key type: [`Agent`]. An order is written to a page that guests can only read; the answer comes back in one that they can write,
//! so it is a claim: process ids are checked by [`super::process::Registry`], thread ids by the listener. An agent that does not
//! answer is one whose stub is frozen, or hostile: guests can hide its answer. Nothing that concerns others is held meanwhile.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use linux_abi::{Errno, nr};

use super::arena::{Arena, Window};
use super::layout::{AGENT_RO, agent};
use crate::api::{MemoryCall, PlatformError};
use crate::sys;

/// How long the sentry waits between looks at whether the stub is still alive.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait for an agent. It does nothing that takes more than milliseconds, unless the host swaps or the container is frozen.
const LOOKS_MAX: u32 = 3000;

/// Longest wait for the answer to a question, likewise: who asks about another process must not wait for one that is frozen, or hostile.
const ASK_LOOKS: u32 = 10;

/// Puts a question to an agent; 0 if it is at work for long.
pub fn ask(agent: &Mutex<Agent>, question: impl FnOnce(&mut Agent) -> u64) -> u64 {
    reach(agent, question).unwrap_or(0)
}

/// Has an agent do something; `None` if it is at work for long.
fn reach<T>(agent: &Mutex<Agent>, work: impl FnOnce(&mut Agent) -> T) -> Option<T> {
    for _ in 0..200 {
        match agent.try_lock() {
            Ok(mut agent) => return Some(work(&mut agent)),
            Err(TryLockError::Poisoned(agent)) => return Some(work(&mut agent.into_inner())),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

/// Has an agent change the protection of memory, or advise.
///
/// # Errors
/// As `AddressSpace::memory`.
pub fn order_memory(
    agent: &Mutex<Agent>,
    call: MemoryCall<'_>,
    alive: impl Fn() -> bool,
) -> Result<(), Errno> {
    let (number, args) = match call {
        MemoryCall::Protect { addr, len, prot } => (nr::MPROTECT, [addr, len, u64::from(prot)]),
        MemoryCall::Advise { addr, len, advice } => (nr::MADVISE, [addr, len, u64::from(advice)]),
        _ => return Err(Errno::EINVAL),
    };
    match reach(agent, |agent| agent.call(number, args, alive)) {
        Some(Ok(_)) => Ok(()),
        Some(Err(PlatformError::Host { source, .. })) => {
            Err(Errno::new(source.raw_os_error().unwrap_or(libc::EIO)))
        }
        Some(Err(_)) | None => Err(Errno::EAGAIN),
    }
}

/// From an agent's window to its answer page.
const ANSWERS: u64 = 0x1000;
/// Where in the answer page the host writes what a call tells.
const ANSWER_DATA: u64 = 0x100;

/// An agent: the sentry's side of its two pages.
#[derive(Debug)]
pub struct Agent {
    /// Shared with whoever keeps it until the stub has gone.
    window: Arc<Window>,
    sequence: u32,
}

/// What the agent clones threads with. The host clears the tid word and wakes its waiters when the thread is gone.
const THREAD_FLAGS: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_CHILD_CLEARTID;
/// What it forks with: the child is the sentry's, as its parent is.
const FORK_FLAGS: i32 = libc::CLONE_PARENT | libc::SIGCHLD;

/// The mark of the agent whose pages a stub has; `None` if it has none, or is no more.
#[must_use]
pub fn mark_in(pid: i32) -> Option<u64> {
    let mut word = [0; 8];
    let is_there = sys::read_process(pid, AGENT_RO + agent::MARK, &mut word) == word.len();
    is_there.then(|| u64::from_ne_bytes(word))
}

/// Windows lie at different offsets, none at 0.
pub(super) fn mark_of(window: &Window) -> u64 {
    window.file_offset() | 1
}

impl Agent {
    /// The agent whose pages are `window`; it has done nothing yet.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self::with(Arc::new(window))
    }

    /// One with pages of its own.
    ///
    /// # Errors
    /// When all are taken.
    pub fn allocate(arena: &Arc<Arena>) -> Result<Self, PlatformError> {
        arena.allocate().map(Self::new).ok_or(PlatformError::Limit("processes of the sandbox"))
    }

    /// As [`Agent::new`], in a window that somebody may keep.
    #[must_use]
    pub fn with(window: Arc<Window>) -> Self {
        window.set64(agent::MARK, mark_of(&window));
        window.set32(ANSWERS + agent::DONE, 0);
        Self { window, sequence: 0 }
    }

    /// Offsets of its order and answer pages in the arena.
    #[must_use]
    pub fn offsets(&self) -> (u64, u64) {
        (self.window.file_offset(), self.window.file_offset() + ANSWERS)
    }

    /// What stands in its order page at [`agent::MARK`], and in no other: a stub that has this page mapped is this agent's.
    #[must_use]
    pub fn mark(&self) -> u64 {
        mark_of(&self.window)
    }

    /// Its window, to put a list into before it starts.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Its window, to be kept alive until the stub has been reaped.
    #[must_use]
    pub fn kept_window(&self) -> Arc<Window> {
        Arc::clone(&self.window)
    }

    fn post(&mut self, operation: u64) {
        let operation = u32::try_from(operation).expect("operations are small");
        self.window.set32(agent::OP, operation);
        self.sequence = self.sequence.wrapping_add(1);
        self.window.set32(agent::SEQ, self.sequence);
        self.wake();
    }

    /// Wakes all that sleep on the word: a guest thread may wait there as well, and would take a single wake-up for itself.
    fn wake(&self) {
        sys::futex_wake(self.window.word(agent::SEQ), i32::MAX);
    }

    fn write_thread_order(&self, slot: u64, map: Option<&Window>) {
        self.window.set64(agent::SLOT, slot);
        self.window.set64(agent::CLONE_FLAGS, u64::from(THREAD_FLAGS.cast_unsigned()));
        self.window.set64(agent::MAP, u64::from(map.is_some()));
        if let Some(window) = map {
            self.window.set64(agent::RO_OFFSET, window.file_offset());
            self.window.set64(agent::RW_OFFSET, window.file_offset() + super::layout::RW);
        }
    }

    /// Writes the order to clone a guest thread before the agent runs: its first act after a fork.
    pub fn prepare_thread(&mut self, slot: u64, map: Option<&Window>) {
        self.write_thread_order(slot, map);
        self.window.set32(agent::OP, u32::try_from(agent::OP_THREAD).expect("small"));
        self.sequence = 1;
        self.window.set32(agent::SEQ, 1);
    }

    /// Orders a guest thread in `slot`, whose pages are mapped first if `map` is given. Answers when ordered.
    pub fn order_thread(&mut self, slot: u64, map: Option<&Window>) {
        self.write_thread_order(slot, map);
        self.post(agent::OP_THREAD);
    }

    /// Orders a fork; `child` is the new stub's agent.
    pub fn order_fork(&mut self, child: &Self) {
        let (ro, rw) = child.offsets();
        self.window.set64(agent::CLONE_FLAGS, u64::from(FORK_FLAGS.cast_unsigned()));
        self.window.set64(agent::AGENT_RO_OFFSET, ro);
        self.window.set64(agent::AGENT_RW_OFFSET, rw);
        self.post(agent::OP_FORK);
    }

    /// Orders a call of the host and waits for it. What it answers is the guest's own claim about itself.
    fn call(&mut self, number: u64, args: [u64; 3], alive: impl Fn() -> bool) -> Result<u64, PlatformError> {
        if !self.is_idle() {
            return Err(PlatformError::Stub("agent does not answer"));
        }
        self.window.set64(agent::CALL_NR, number);
        for (offset, arg) in (agent::CALL_ARGS..).step_by(8).zip(args.into_iter().chain([0; 3])) {
            self.window.set64(offset, arg);
        }
        self.post(agent::OP_CALL);
        self.wait_for(ASK_LOOKS, alive)
    }

    /// Orders a call of the host that writes its answer to [`ANSWER_DATA`]. Guests can write there too.
    fn question(&mut self, number: u64, about: u64, alive: impl Fn() -> bool) -> Result<(), PlatformError> {
        self.call(number, [about, super::layout::AGENT_RW + ANSWER_DATA, 0], alive).map(drop)
    }

    fn answer(&self, offset: u64) -> u64 {
        self.window.get64(ANSWERS + ANSWER_DATA + offset)
    }

    /// Largest resident size of the stub in bytes, `getrusage(2)`; 0 if it does not answer.
    pub fn peak_resident_bytes(&mut self, alive: impl Fn() -> bool) -> u64 {
        /// Where `ru_maxrss` is in the structure, in KiB.
        const MAX_RESIDENT: u64 = 32;
        let whose = u64::from(libc::RUSAGE_SELF.cast_unsigned());
        match self.question(nr::GETRUSAGE, whose, alive) {
            Ok(()) => self.answer(MAX_RESIDENT).min(linux_abi::TASK_SIZE >> 10) << 10,
            Err(_) => 0,
        }
    }

    /// CPU time of one of the stub's threads in nanoseconds; 0 if there is no such thread. LINUX: only threads of the same process
    /// may read the clock of one.
    pub fn thread_cpu_ns(&mut self, tid: i32, alive: impl Fn() -> bool) -> u64 {
        let clock = i64::from(sys::thread_clock(tid)).cast_unsigned();
        match self.question(nr::CLOCK_GETTIME, clock, alive) {
            Ok(()) => self.answer(0).saturating_mul(1_000_000_000).saturating_add(self.answer(8)),
            Err(_) => 0,
        }
    }

    /// Waits until the last order is done; answers what the agent says, positive or zero.
    ///
    /// # Errors
    /// When the stub has died, the host refused, or it takes unreasonably long.
    pub fn wait(&self, alive: impl Fn() -> bool) -> Result<u64, PlatformError> {
        self.wait_for(LOOKS_MAX, alive)
    }

    /// Waits for a question that was given up to be answered: an order must not be written over one that the agent is about to read.
    ///
    /// # Errors
    /// When the stub has died, or it takes unreasonably long.
    pub fn settle(&self, alive: impl Fn() -> bool) -> Result<(), PlatformError> {
        if self.is_idle() { Ok(()) } else { self.wait(alive).map(drop) }
    }

    fn is_idle(&self) -> bool {
        self.window.word(ANSWERS + agent::DONE).load(Ordering::Acquire) == self.sequence
    }

    fn wait_for(&self, looks: u32, alive: impl Fn() -> bool) -> Result<u64, PlatformError> {
        let done = self.window.word(ANSWERS + agent::DONE);
        for _ in 0..looks {
            let seen = done.load(Ordering::Acquire);
            if seen == self.sequence {
                let result = self.window.get64(ANSWERS + agent::RESULT).cast_signed();
                return u64::try_from(result).map_err(|_| PlatformError::Host {
                    what: "stub could not clone",
                    source: std::io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EIO)),
                });
            }
            if !alive() {
                return Err(PlatformError::Stub("died while it was cloning"));
            }
            sys::futex_wait(done, seen, LOOK);
            self.wake();
        }
        Err(PlatformError::Stub("agent does not answer"))
    }
}
