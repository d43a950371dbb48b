//! THE table: every system call that is served, its handler, and how far it goes.
//!
//! Key types: [`Row`], [`Support`], [`Table`] (what the kernel calls). Rows may stand in any order; a number listed twice
//! fails the build. `docs/SYSCALLS.md` is printed from here by `rvisor syscalls`.

use linux_abi::{Errno, nr};
use sentry::task::{Current, Outcome, SyscallAbi};

use crate::args::Handler;

/// How much of a call is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// All that the man page says.
    Full,
    /// With gaps: what is missing or different.
    Partial(&'static str),
    /// Refused on purpose, always with this errno: why.
    Refused(Errno, &'static str),
}

/// One system call.
pub struct Row {
    /// Number on x86-64.
    pub number: u64,
    /// Name as in its man page.
    pub name: &'static str,
    /// How much of it is there.
    pub support: Support,
    handler: fn(&mut Current, [u64; 6]) -> Outcome,
}

const LIMIT: usize = nr::LIMIT as usize;

/// Index of rows by number, checked at compile time.
const fn index(rows: &[Row]) -> [Option<u16>; LIMIT] {
    let mut index = [None; LIMIT];
    let mut row = 0;
    while row < rows.len() {
        let number = rows[row].number as usize;
        assert!(number < LIMIT, "a number in the table is beyond nr::LIMIT");
        assert!(index[number].is_none(), "a system call is listed twice in the table");
        index[number] = Some(row as u16);
        row += 1;
    }
    index
}

/// Stands in rows whose call is refused on purpose.
fn refused(_: &mut Current) -> Result<u64, Errno> {
    Err(Errno::ENOSYS)
}

macro_rules! table {
    ($($name:ident => $handler:expr, $support:expr;)*) => {
        static ROWS: &[Row] = &[$(
            Row {
                number: number::$name,
                name: stringify!($name),
                support: $support,
                handler: |current, args| Handler::handle(&$handler, current, args),
            },
        )*];
    };
}

/// Numbers by lower-case name, for the macro.
#[expect(non_upper_case_globals, reason = "named as the calls are")]
mod number {
    include!(concat!(env!("OUT_DIR"), "/numbers.rs"));
}

use Support::{Full, Partial, Refused};

table! {
    // One row a line, `name => room::handler, support;`
    uname => crate::misc::uname, Full;
    // Pipes, event descriptors, poll, select, epoll.
    poll => crate::sync::poll::poll, Partial("after a stop signal it starts again with the whole timeout");
    pipe => crate::sync::pipe::pipe, Full;
    select => crate::sync::select::select, Full;
    epoll_create => crate::sync::epoll::epoll_create, Full;
    epoll_wait => crate::sync::epoll::epoll_wait, Full;
    epoll_ctl => crate::sync::epoll::epoll_ctl, Full;
    pselect6 => crate::sync::select::pselect6, Partial("the signal mask is not applied");
    ppoll => crate::sync::poll::ppoll, Partial("the signal mask is not applied");
    epoll_pwait => crate::sync::epoll::epoll_pwait, Partial("the signal mask is not applied");
    eventfd => crate::sync::event::eventfd, Full;
    eventfd2 => crate::sync::event::eventfd2, Full;
    epoll_create1 => crate::sync::epoll::epoll_create1, Full;
    pipe2 => crate::sync::pipe::pipe2, Full;
    epoll_pwait2 => crate::sync::epoll::epoll_pwait2, Partial("the signal mask is not applied");

    // Memory.
    mmap => crate::mm::map::mmap, Partial("MAP_GROWSDOWN does not grow; no hugetlb pages; no MAP_SYNC");
    mprotect => crate::mm::map::mprotect, Full;
    munmap => crate::mm::map::munmap, Full;
    brk => crate::mm::map::brk, Full;
    mremap => crate::mm::map::mremap, Full;
    msync => crate::mm::advise::msync, Full;
    mincore => crate::mm::advise::mincore, Full;
    madvise => crate::mm::advise::madvise, Partial("no page merging, no hardware poison, no guard regions");
    mlock => crate::mm::lock::mlock, Partial("counted and populated, not pinned on the host");
    munlock => crate::mm::lock::munlock, Full;
    mlockall => crate::mm::lock::mlockall, Partial("counted and populated, not pinned on the host");
    munlockall => crate::mm::lock::munlockall, Full;
    remap_file_pages => refused, Refused(Errno::ENOSYS, "obsolete; programs fall back to mmap");
    mbind => crate::mm::numa::mbind, Partial("one memory node");
    set_mempolicy => crate::mm::numa::set_mempolicy, Partial("one memory node; the policy is not kept");
    get_mempolicy => crate::mm::numa::get_mempolicy, Partial("one memory node; always the default policy");
    migrate_pages => crate::mm::numa::migrate_pages, Partial("one memory node: nothing to move");
    mlock2 => crate::mm::lock::mlock2, Partial("counted and populated, not pinned on the host");
    pkey_mprotect => crate::mm::map::pkey_mprotect, Partial("no protection keys: key -1 only");
    pkey_alloc => refused, Refused(Errno::ENOSPC, "no protection keys");
    pkey_free => refused, Refused(Errno::EINVAL, "no protection keys");
    mseal => crate::mm::map::mseal, Full;
    kexec_load => refused, Refused(Errno::EPERM, "the sandbox has no host kernel to replace");
}

static INDEX: [Option<u16>; LIMIT] = index(ROWS);

/// All rows, as listed.
#[must_use]
pub fn rows() -> &'static [Row] {
    ROWS
}

fn row(number: u64) -> Option<&'static Row> {
    let index = (*INDEX.get(usize::try_from(number).ok()?)?)?;
    ROWS.get(usize::from(index))
}

/// The table as the kernel calls it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table;

impl SyscallAbi for Table {
    fn call(&self, current: &mut Current, number: u64, args: [u64; 6]) -> Outcome {
        match row(number) {
            None => Outcome::Error(Errno::ENOSYS),
            Some(Row { support: Support::Refused(errno, _), .. }) => Outcome::Error(*errno),
            Some(row) => (row.handler)(current, args),
        }
    }

    fn name(&self, number: u64) -> Option<&'static str> {
        row(number).map(|row| row.name)
    }
}
