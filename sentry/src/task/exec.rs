//! How does a task become another program? `execve(2)`, and the first program of a container's process.
//!
//! Key types: [`ExecInput`], [`LoadedProgram`]. The program is loaded into a new address space first, so that a failure
//! leaves the caller as it was; only then do its other threads end and its memory go (`begin_new_exec` of `fs/exec.c`).

use std::sync::Arc;

use linux_abi::{Errno, Registers};
use platform::Context;

use super::exec_credentials::{FileCapabilities, Transformed, Unsafe, transform};
use super::{Capability, Credentials, Current, SpaceUser, Task};
use crate::container::chain;
use crate::mm::MemoryManager;
use crate::mm::layout::Aslr;
use crate::mm::loader::{Ids, Opener, Program, ProgramInput, TaskFile};
use crate::vfs::permission::Want;
use crate::vfs::{Access, Caller, Location, Lookup, OpenFile};

/// `personality(2)`: no random layout.
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
/// `MS_NOSUID`.
const NOSUID: u32 = 2;
/// `S_ISUID` and `S_ISGID`.
const SET_IDS: u32 = 0o6000;

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
    /// Who starts it may read its file, so that its memory need not be hidden. LINUX: `would_dump`.
    pub is_readable: bool,
    /// The file that runs.
    pub exe: Option<Location>,
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
    let (new, secure, is_readable) = match &exe {
        Some(location) => credentials_for(task, &credentials, location)?,
        None => (Credentials::clone(&credentials), false, true),
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
    Ok(LoadedProgram { mm, context, user, registers, credentials: new, secure, is_readable, exe })
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

/// Credentials after running the program at `location`, whether it is secure, and whether its file may be read.
fn credentials_for(
    task: &Arc<Task>,
    old: &Credentials,
    location: &Location,
) -> Result<(Credentials, bool, bool), Errno> {
    let stat = location.inode().stat()?;
    let is_readable = Caller::of(task).check(location, &Access::from(&stat), Want::READ).is_ok();
    let nosuid = location.mount.flags() & NOSUID != 0;
    let attribute = if nosuid { None } else { location.inode().get_xattr(b"security.capability").ok() };
    let capabilities = attribute.map(|bytes| FileCapabilities::parse(&bytes)).transpose()?.flatten();
    let may_gain = capabilities.is_some() || stat.mode & SET_IDS != 0;
    let hindrance = match () {
        () if nosuid => Unsafe::Mount,
        () if may_gain && shares_fs(task) => Unsafe::Shared,
        () => Unsafe::No,
    };
    let Transformed { credentials, secure } = transform(old, &stat, capabilities, hindrance)?;
    Ok((credentials, secure, is_readable))
}

/// Another process has the same root and working directory. LINUX: `check_unsafe_exec`.
fn shares_fs(task: &Arc<Task>) -> bool {
    let fs = task.fs();
    let others = task.kernel.tasks.all().into_iter().filter(|process| process.key != task.process.key);
    others.flat_map(|process| process.threads()).any(|other| Arc::ptr_eq(&other.fs(), &fs))
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
        // Before the new program can be looked into: it may be less of a secret than the old one and its files.
        self.files().close_where(&task, |_, descriptor| descriptor.close_on_exec);
        renew(&task, &name);
        self.become_program(loaded);
        Ok(())
    }

    /// Takes over memory and rights. Whoever looks into the process sees the old ones or the new ones.
    fn become_program(&mut self, loaded: LoadedProgram) {
        let task = Arc::clone(self.task());
        let process = &task.process;
        let old = task.credentials();
        let has_gained = has_gained(&old, &loaded.credentials);
        if has_gained {
            // Somebody may have come to share them since the program was loaded.
            task.set_fs(task.fs().copy());
        }
        let exec = process.exec_update.begin();
        let is_dumpable = loaded.is_readable && (old.euid, old.egid) == (old.uid, old.gid) && !has_gained;
        process.set_dumpable(i32::from(is_dumpable));
        if loaded.secure || has_gained {
            task.set_parent_death_signal(None);
        }
        process.set_exe(loaded.exe);
        task.set_mm(Some(Arc::clone(&loaded.mm)));
        task.set_credentials(loaded.credentials);
        drop(exec);
        self.regs = loaded.registers;
        self.replace(loaded.context, loaded.mm, loaded.user);
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

/// What a task forgets when it runs another program.
fn renew(task: &Arc<Task>, name: &[u8]) {
    let process = &task.process;
    process.set_actions(process.actions().cleared_copy());
    process.timers.clear_posix();
    process.kernel.tasks.mark_exec(process);
    task.set_name(name);
    task.lock_signals().stack = linux_abi::signal::StackT::default();
}

/// Others may know things of the process that they must not know from now on. LINUX: `commit_creds`.
fn has_gained(old: &Credentials, new: &Credentials) -> bool {
    let ids = |c: &Credentials| (c.euid, c.egid, c.fsuid, c.fsgid);
    ids(old) != ids(new) || new.permitted & !old.permitted != 0
}

/// What follows the last slash.
fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_last_component() {
        assert_eq!(base_name(b"/bin/sh"), b"sh");
        assert_eq!(base_name(b"sh"), b"sh");
    }
}
