//! A kernel without a platform, for unit tests of what needs a task but no guest code.

use std::sync::Arc;

use linux_abi::Errno;
use platform::host::poller::Poller;
use platform::{Platform, PlatformError, Template};

use crate::fs::tmpfs::{Options, TmpFs};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::mm::{MemoryManager, NoSpace};
use crate::task::{
    Credentials, Current, Limits, NewProcess, Outcome, PidNamespace, Process, ProcessTree, SyscallAbi, Task,
};
use crate::time::Timers;
use crate::vfs::{FdTable, FsContext, Mount, MountNamespace, System};

struct NoPlatform;

impl Platform for NoPlatform {
    fn name(&self) -> &'static str {
        "none"
    }

    fn new_template(&self) -> Result<Arc<dyn Template>, PlatformError> {
        Err(PlatformError::Missing("a platform"))
    }
}

struct NoCalls;

impl SyscallAbi for NoCalls {
    fn call(&self, _: &mut Current, _: u64, _: [u64; 6]) -> Outcome {
        Outcome::Error(Errno::ENOSYS)
    }

    fn wait_interrupted(&self, _: &mut Current, _: u64, _: u64) -> Errno {
        Errno::EINTR
    }

    fn leaves_descriptors(&self, _: u64) -> bool {
        false
    }

    fn name(&self, _: u64) -> Option<&'static str> {
        None
    }
}

/// A kernel in which nothing runs.
pub(crate) fn kernel() -> Arc<Kernel> {
    Arc::new(Kernel {
        machine: Machine::new(&control::BootConfig::default()),
        config: control::BootConfig::default(),
        platform: Arc::new(NoPlatform),
        abi: Arc::new(NoCalls),
        vfs: System::new(),
        accounts: crate::account::Accounts::default(),
        descriptors: crate::descriptors::Descriptors::new(1 << 20),
        poller: Poller::start().expect("the host has epoll"),
        pi_locks: Arc::default(),
        tasks: ProcessTree::default(),
        ipc: crate::ipc::Namespace::new(),
        net: crate::net::Namespace::new(),
        timers: Timers::start().expect("the host has threads"),
        trim: Arc::default(),
        load: crate::load::Load::default(),
        logins: 1.into(),
    })
}

/// A task whose root is an empty tmpfs; root user with all capabilities.
pub(crate) fn task() -> Arc<Task> {
    let kernel = kernel();
    let options = Options { mode: 0o755, ..Options::new(1 << 30) };
    let file_system =
        TmpFs::new(&kernel.vfs, options, kernel.descriptors.share("test")).expect("room for a root");
    task_on(&kernel, Mount::of(&kernel.vfs, file_system, 0, b"tmpfs"))
}

/// A task whose root is `root`; root user with all capabilities, umask 022.
pub(crate) fn task_on(kernel: &Arc<Kernel>, root: Arc<Mount>) -> Arc<Task> {
    let location = root.root_location();
    let fs = FsContext::new(MountNamespace::new(root), location.clone(), location, 0o022);
    let new = NewProcess {
        namespace: PidNamespace::new(),
        container: "test".into(),
        actions: Arc::default(),
        limits: Limits::default(),
        exe: None,
    };
    let process = Process::new(kernel, 1, new);
    let credentials = Credentials { effective: u64::MAX, permitted: u64::MAX, ..Credentials::default() };
    let mm = MemoryManager::new(Arc::new(NoSpace));
    Task::new(1, process, Arc::new(credentials), fs, FdTable::new(), mm)
}

/// Makes the task an ordinary user without capabilities.
pub(crate) fn become_user(task: &Arc<Task>, uid: u32) {
    task.set_credentials(Credentials {
        uid,
        euid: uid,
        suid: uid,
        fsuid: uid,
        gid: uid,
        egid: uid,
        sgid: uid,
        fsgid: uid,
        ..Credentials::default()
    });
}
