//! How does a task become another program? `execve(2)`, and the first program of a container's process.
//!
//! Key types: [`ExecInput`], [`LoadedProgram`]. The program is loaded into a new address space first, so that a failure
//! leaves the caller as it was; only then do its other threads end and its memory go (`begin_new_exec` of `fs/exec.c`).

use std::sync::Arc;

use linux_abi::{Errno, Registers};
use platform::Context;

use super::{Capability, Credentials, Current, Process, SpaceUser, Task};
use crate::container::chain;
use crate::mm::MemoryManager;
use crate::mm::layout::Aslr;
use crate::mm::loader::{Ids, Opener, Program, ProgramInput, TaskFile};
use crate::vfs::{Caller, Location, Lookup, OpenFile, Stat};

/// `personality(2)`: no random layout.
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
/// Mode bits.
const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;
/// `MS_NOSUID`.
const NOSUID: u32 = 2;
/// Root's ids mean nothing special. LINUX: `SECBIT_NOROOT`.
const SECBIT_NOROOT: u32 = 1;
/// Forgotten at exec. LINUX: `SECBIT_KEEP_CAPS`.
const SECBIT_KEEP_CAPS: u32 = 1 << 4;

/// What is to be run.
pub struct ExecInput {
    /// The file, opened for execution.
    pub file: Arc<OpenFile>,
    /// Path, arguments, environment.
    pub program: ProgramInput,
}

/// A program in an address space of its own, not running yet.
pub struct LoadedProgram {
    /// Its memory.
    pub mm: Arc<MemoryManager>,
    /// Its first thread on the host.
    pub context: Box<dyn Context>,
    /// Keeps the address space.
    pub user: SpaceUser,
    /// To start with.
    pub registers: Registers,
    /// Whom it runs as.
    pub credentials: Credentials,
    /// It has more rights than who starts it.
    pub secure: bool,
    /// The file that runs.
    pub exe: Option<Location>,
}

/// File capabilities as `security.capability` holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct FileCapabilities {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

impl FileCapabilities {
    /// LINUX: `struct vfs_cap_data`, revisions 2 and 3.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |n: usize| {
            let bytes = bytes.get(n * 4..n * 4 + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let magic = word(0)?;
        if !matches!(magic >> 24, 2 | 3) {
            return None;
        }
        let both = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Some(Self {
            permitted: both(word(1)?, word(3)?),
            inheritable: both(word(2)?, word(4)?),
            effective: magic & 1 != 0,
        })
    }
}

/// What running a file does to credentials. LINUX: `bprm_fill_uid`, `cap_bprm_creds_from_file`.
fn transform(
    old: &Credentials,
    stat: &Stat,
    capabilities: Option<FileCapabilities>,
    nosuid: bool,
) -> (Credentials, bool) {
    let mut new = old.clone();
    new.securebits &= !SECBIT_KEEP_CAPS;
    let may_gain = !nosuid && !old.no_new_privs;
    if may_gain && stat.mode & S_ISUID != 0 {
        new.euid = stat.uid;
    }
    if may_gain && stat.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
        new.egid = stat.gid;
    }
    let ids_changed = new.euid != old.euid || new.egid != old.egid;
    let mut file = capabilities.filter(|_| may_gain);
    let has_file_capabilities = file.is_some();
    let root_counts = old.securebits & SECBIT_NOROOT == 0;
    let mut effective = file.is_some_and(|file| file.effective);
    if root_counts && (new.uid == 0 || new.euid == 0) && (!has_file_capabilities || new.uid == 0) {
        file = Some(FileCapabilities { permitted: u64::MAX, inheritable: u64::MAX, effective: false });
        effective = new.euid == 0;
    }
    let file = file.unwrap_or_default();
    if ids_changed || has_file_capabilities {
        new.ambient = 0;
    }
    new.permitted = file.permitted & old.bounding | file.inheritable & old.inheritable | new.ambient;
    new.effective = if effective { new.permitted } else { new.ambient };
    (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
    let secure = ids_changed
        || (new.uid != 0 && (has_file_capabilities && effective || new.permitted & !new.ambient != 0));
    (new, secure)
}

/// Loads a program for `task` into a new address space of its container.
///
/// # Errors
/// As `execve(2)`.
pub fn load_program(task: &Arc<Task>, input: ExecInput) -> Result<LoadedProgram, Errno> {
    let process = &task.process;
    let credentials = task.credentials();
    let limits = process.memory_limits(credentials.has(Capability::IpcLock));
    let program = prepare_program(task, input)?;
    let exe = program.file().map(|file| file.location.clone());
    let (new, secure) = match &exe {
        Some(location) => credentials_for(&credentials, location)?,
        None => (Credentials::clone(&credentials), false),
    };
    let ids = Ids { uid: new.uid, euid: new.euid, gid: new.gid, egid: new.egid, secure };
    let origin = process.origin().ok_or(Errno::ENOSYS)?;
    let (space, mut context) = origin.template.spawn().map_err(|error| {
        let template = origin.template.death().map_or(String::new(), |why| format!("; the template: {why}"));
        task.tell(format_args!("got no memory for a new program: {}{template}", chain(&error)));
        Errno::EAGAIN
    })?;
    let user = SpaceUser::new(&space);
    let mm = MemoryManager::new(space);
    let aslr = if task.scheduling().personality & ADDR_NO_RANDOMIZE == 0 { Aslr::On } else { Aslr::Off };
    let loaded = program.load(&mm, context.as_mut(), &ids, aslr, &limits);
    if loaded.is_err() {
        context.exit();
    }
    let registers = loaded?.registers;
    Ok(LoadedProgram { mm, context, user, registers, credentials: new, secure, exe })
}

/// Follows scripts to their interpreters and checks headers, without loading anything.
///
/// # Errors
/// As `execve(2)`.
pub fn prepare_program(task: &Arc<Task>, input: ExecInput) -> Result<Program, Errno> {
    let stack_limit = task.process.limit(super::Resource::Stack).soft;
    let cwd = task.fs().cwd();
    let open = &mut |path: &[u8]| {
        let file = Caller::of(task).open_exec(&cwd, path, Lookup::FOLLOW)?;
        Ok(Box::new(TaskFile { file, task: Arc::clone(task) }) as Box<dyn crate::mm::loader::ProgramFile>)
    };
    let file = Box::new(TaskFile { file: input.file, task: Arc::clone(task) });
    let open: &mut Opener<'_> = open;
    Program::prepare(file, input.program, stack_limit, open)
}

fn credentials_for(old: &Credentials, location: &Location) -> Result<(Credentials, bool), Errno> {
    let stat = location.inode().stat()?;
    let capabilities = location.inode().get_xattr(b"security.capability").ok();
    let capabilities = capabilities.and_then(|bytes| FileCapabilities::parse(&bytes));
    let nosuid = location.mount.flags() & NOSUID != 0;
    Ok(transform(old, &stat, capabilities, nosuid))
}

impl Current {
    /// Replaces the program. On success the registers are the new program's.
    ///
    /// # Errors
    /// As `execve(2)`; the caller is then as it was, but for other threads if a fatal signal came.
    pub fn exec(&mut self, input: ExecInput) -> Result<(), Errno> {
        let name = base_name(&input.program.path).to_vec();
        self.context_mut().flush_writes()?;
        let task = Arc::clone(self.task());
        let loaded = load_program(&task, input)?;
        if let Err(errno) = self.become_single_threaded() {
            let mut context = loaded.context;
            context.exit();
            return Err(errno);
        }
        self.release_memory();
        let spent = self.spent_ns();
        self.process().keep_used(spent, 0);
        if !self.space_user().is_shared() {
            self.process().keep_peak(self.space().final_peak());
        }
        self.unshare_files();
        let process = Arc::clone(self.process());
        renew(&process, &loaded);
        self.replace(loaded.context, loaded.mm, loaded.user);
        self.regs = loaded.registers;
        let old = task.credentials();
        process.set_dumpable(i32::from(!(loaded.secure || old.euid != loaded.credentials.euid)));
        if loaded.secure {
            task.set_parent_death_signal(None);
        }
        task.set_credentials(loaded.credentials);
        task.set_name(&name);
        task.lock_signals().stack = linux_abi::signal::StackT::default();
        self.files().close_where(&task, |_, descriptor| descriptor.close_on_exec);
        Ok(())
    }

    /// Ends all other threads; if the leader was among them, this one takes its number. LINUX: `de_thread`.
    fn become_single_threaded(&mut self) -> Result<(), Errno> {
        let process = Arc::clone(self.process());
        let tid = self.task().tid();
        {
            let mut group = process.lock_group();
            if group.exit.is_some() || group.exec.is_some() {
                return Err(Errno::EAGAIN);
            }
            if group.threads.len() > 1 {
                group.exec = Some(tid);
                for other in group.threads.iter().filter(|other| other.tid() != tid) {
                    other.interrupt();
                }
            }
        }
        let end = self.wait_killable(&[], |_| (process.lock_group().threads.len() <= 1).then_some(()));
        let mut group = process.lock_group();
        group.exec = None;
        drop(group);
        end.map_err(|_| Errno::EINTR)?;
        if tid != process.pid {
            process.namespace.rename_task(self.task(), tid, process.pid);
            self.task().set_tid(process.pid);
        }
        Ok(())
    }

    /// Gives the task a descriptor table of its own.
    pub fn unshare_files(&mut self) {
        let files = self.files();
        // The task's own reference and this one.
        if Arc::strong_count(&files) > 2 {
            drop(self.task().set_files(files.copy()));
        }
    }
}

/// What a process forgets when it runs another program.
fn renew(process: &Arc<Process>, loaded: &LoadedProgram) {
    process.set_actions(process.actions().cleared_copy());
    process.timers.clear_posix();
    process.set_exe(loaded.exe.clone());
    process.kernel.tasks.mark_exec(process);
}

/// What follows the last slash.
fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Credentials {
        Credentials {
            uid: 1000,
            euid: 1000,
            suid: 1000,
            fsuid: 1000,
            bounding: 0xff,
            ..Credentials::default()
        }
    }

    fn file(mode: u32) -> Stat {
        Stat { mode: 0o100_755 | mode, ..Stat::default() }
    }

    #[test]
    fn set_user_id_root_gains_the_bounding_set() {
        let (new, secure) = transform(&user(), &file(S_ISUID), None, false);
        assert_eq!((new.uid, new.euid, new.suid, new.fsuid), (1000, 0, 0, 0));
        assert_eq!((new.permitted, new.effective), (0xff, 0xff));
        assert!(secure);
    }

    #[test]
    fn nothing_is_gained_where_it_is_forbidden() {
        let (new, secure) = transform(&user(), &file(S_ISUID), None, true);
        assert_eq!((new.euid, new.effective, secure), (1000, 0, false));
        let careful = Credentials { no_new_privs: true, ..user() };
        assert_eq!(transform(&careful, &file(S_ISUID), None, false).0.euid, 1000);
    }

    #[test]
    fn file_capabilities_are_given_within_the_bounding_set() {
        let capabilities = FileCapabilities { permitted: 0x1003, inheritable: 0, effective: true };
        let (new, secure) = transform(&user(), &file(0), Some(capabilities), false);
        assert_eq!((new.permitted, new.effective), (0x3, 0x3));
        assert!(secure);
    }

    #[test]
    fn root_keeps_all_and_is_not_secure() {
        let root = Credentials { bounding: 0xf, permitted: 0xf, effective: 0xf, ..Credentials::default() };
        let (new, secure) = transform(&root, &file(0), None, false);
        assert_eq!((new.permitted, new.effective, secure), (0xf, 0xf, false));
    }

    #[test]
    fn ambient_capabilities_survive_for_plain_users() {
        let ambient = Credentials { ambient: 0x4, permitted: 0x4, inheritable: 0x4, ..user() };
        let (new, secure) = transform(&ambient, &file(0), None, false);
        assert_eq!((new.permitted, new.effective, secure), (0x4, 0x4, false));
    }

    #[test]
    fn names_are_the_last_component() {
        assert_eq!(base_name(b"/bin/sh"), b"sh");
        assert_eq!(base_name(b"sh"), b"sh");
    }
}
