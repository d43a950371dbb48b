//! Tasks: threads and processes of the guest, their credentials, signals, birth and death.
//!
//! Key types: [`Task`] (a thread, what other threads may touch), [`Process`] (a thread group), [`Current`] (the running
//! task as its own sentry thread sees it), [`SyscallAbi`] (how a system call reaches its handler).

mod abi;
mod credentials;
mod current;
mod process;
mod run;
mod user_memory;

pub use abi::{Outcome, SyscallAbi};
pub use credentials::{Capability, Credentials};
pub use current::{Current, WaitEnd};
pub use process::{PidNamespace, Process};
pub use run::run;
pub use user_memory::{Iovec, PATH_MAX, UserReader, UserWriter};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use platform::Interrupter;

use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::sync::Parker;
use crate::vfs::{FdTable, FsContext};

/// A guest thread: what any thread of the kernel may touch.
pub struct Task {
    /// Thread id in its pid namespace.
    pub tid: i32,
    /// The sandbox.
    pub kernel: Arc<Kernel>,
    /// Its thread group.
    pub process: Arc<Process>,
    /// What its sentry thread sleeps on.
    pub parker: Arc<Parker>,
    /// LOCK: after the process's locks.
    inner: Mutex<Inner>,
    /// Stops its guest code; replaced at exec.
    interrupter: Mutex<Option<Arc<dyn Interrupter>>>,
    /// Something (a signal, a group stop, death) wants the task out of its wait or its guest code.
    interrupted: AtomicBool,
}

struct Inner {
    credentials: Arc<Credentials>,
    fs: Arc<FsContext>,
    files: Arc<FdTable>,
    mm: Option<Arc<MemoryManager>>,
    name: [u8; 16],
}

impl Task {
    /// A new thread of `process`.
    #[must_use]
    pub fn new(
        tid: i32,
        process: Arc<Process>,
        credentials: Arc<Credentials>,
        fs: Arc<FsContext>,
        files: Arc<FdTable>,
        mm: Arc<MemoryManager>,
    ) -> Arc<Self> {
        let kernel = Arc::clone(&process.kernel);
        let inner = Mutex::new(Inner { credentials, fs, files, mm: Some(mm), name: [0; 16] });
        Arc::new(Self {
            tid,
            kernel,
            process,
            parker: Arc::default(),
            inner,
            interrupter: Mutex::new(None),
            interrupted: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its credentials, as they are now.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.lock().credentials)
    }

    /// Replaces its credentials; only the task itself does.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.lock().credentials = Arc::new(credentials);
    }

    /// Root, working directory, umask.
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        Arc::clone(&self.lock().fs)
    }

    /// Replaces them (`unshare`).
    pub fn set_fs(&self, fs: Arc<FsContext>) {
        self.lock().fs = fs;
    }

    /// Its descriptors.
    #[must_use]
    pub fn files(&self) -> Arc<FdTable> {
        Arc::clone(&self.lock().files)
    }

    /// Replaces them (`unshare`, exec).
    pub fn set_files(&self, files: Arc<FdTable>) {
        self.lock().files = files;
    }

    /// Its memory; `None` once it has exited.
    #[must_use]
    pub fn mm(&self) -> Option<Arc<MemoryManager>> {
        self.lock().mm.clone()
    }

    /// Replaces its memory (exec, exit).
    pub fn set_mm(&self, mm: Option<Arc<MemoryManager>>) {
        self.lock().mm = mm;
    }

    /// `comm`, padded with zeros.
    #[must_use]
    pub fn name(&self) -> [u8; 16] {
        self.lock().name
    }

    /// `comm` as text.
    #[must_use]
    pub fn name_text(&self) -> String {
        let name = self.name();
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(15);
        String::from_utf8_lossy(&name[..end]).into_owned()
    }

    /// Sets `comm`; cut to 15 bytes.
    pub fn set_name(&self, name: &[u8]) {
        let mut padded = [0; 16];
        let n = name.len().min(15);
        padded[..n].copy_from_slice(&name[..n]);
        self.lock().name = padded;
    }

    /// Says how to stop its guest code.
    pub fn set_interrupter(&self, interrupter: Option<Arc<dyn Interrupter>>) {
        *self.interrupter.lock().unwrap_or_else(PoisonError::into_inner) = interrupter;
    }

    /// Makes the task look at its signals soon, wherever it is: in guest code, in a wait, or in a system call.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.parker.unpark();
        let interrupter = self.interrupter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(interrupter) = interrupter {
            interrupter.interrupt();
        }
    }

    /// Somebody called [`Task::interrupt`] since [`Task::take_interrupt`].
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Clears the mark; the caller is about to look at its signals.
    pub fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::AcqRel)
    }
}
