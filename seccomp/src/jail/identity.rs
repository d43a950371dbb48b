//! As whom does a thread make files? For a moment as their owner, so that nothing has to be given away afterwards.
//!
//! Key types: [`Ids`] and [`ActingAs`]. LINUX: `setfsuid(2)`: these two ids belong to one thread and decide about files only. Capabilities
//! stay as they are where the process has `SECBIT_NO_SETUID_FIXUP`. LINUX: `commit_creds`: a thread whose ids change forgets
//! `PR_SET_PDEATHSIG`, so the thread that holds the process to its parent must never act for anybody.

use std::io;
use std::marker::PhantomData;

/// The ids of a file's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Ids {
    /// Those that the calling thread makes files with.
    #[must_use]
    pub fn current() -> Self {
        // An id that cannot be is refused, and the one that stands is told: the only way to ask.
        Self { uid: set_fsuid(u32::MAX), gid: set_fsgid(u32::MAX) }
    }

    fn set(self) {
        set_fsgid(self.gid);
        set_fsuid(self.uid);
    }
}

/// While it lives, the calling thread makes files as somebody else.
#[derive(Debug)]
pub struct ActingAs {
    /// Whom to be again; `None` where nothing was changed.
    before: Option<Ids>,
    /// It belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

impl ActingAs {
    /// Makes the calling thread, whose ids are `own`, act as `owner`.
    ///
    /// # Errors
    /// `EPERM` where the thread may not; then it acts as before.
    pub fn new(own: Ids, owner: Ids) -> io::Result<Self> {
        if own == owner {
            return Ok(Self { before: None, not_send: PhantomData });
        }
        owner.set();
        // The calls do not tell whether they did it.
        if Ids::current() != owner {
            own.set();
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        Ok(Self { before: Some(own), not_send: PhantomData })
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if let Some(own) = self.before {
            own.set();
            // The way back is always open: they are the process's own ids.
            assert_eq!(Ids::current(), own, "the thread's own ids");
        }
    }
}

fn set_fsuid(uid: u32) -> u32 {
    // SAFETY: a plain number; only this thread changes.
    unsafe { libc::setfsuid(uid) }.cast_unsigned()
}

fn set_fsgid(gid: u32) -> u32 {
    // SAFETY: a plain number; only this thread changes.
    unsafe { libc::setfsgid(gid) }.cast_unsigned()
}
