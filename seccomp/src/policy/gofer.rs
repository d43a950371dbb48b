//! What a gofer may ask of the host: names inside the one tree that it stands in, and messages.
//!
//! No network, no other process, nothing executable. Its root directory is the container's, so even
//! a resolution that goes wrong ends inside; its procfs is that of its own pid namespace. Each call is one that `gofer/src/ops` or `gofer/src/serve.rs` makes.

use super::{common, is, one_of, only_int_bits, sends_copies};
use crate::bpf::{Cond, Test};
use crate::rule::{Door, Policy, Rule};

/// What a gofer's policy depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gofer {
    /// Its descriptor of its own `/proc/self/fd`.
    pub proc_fds: i32,
    /// A mount of its container allows connections to the host's Unix sockets.
    pub host_sockets: bool,
}

/// The gofer's policy.
#[must_use]
pub fn gofer(gofer: Gofer) -> Policy {
    let mut rules = common::runtime();
    rules.extend(common::memory());
    rules.extend(lookups(gofer.proc_fds));
    rules.extend(changes());
    rules.extend(files());
    rules.extend(control());
    if gofer.host_sockets {
        rules.extend(host_sockets());
    }
    Policy { name: "gofer", rules }
}

fn path(nr: libc::c_long, name: &'static str, why: &'static str) -> Rule {
    Rule::new(nr, name, Door::Paths, why)
}

/// Finding, opening and looking at files, always relative to a held directory.
fn lookups(proc_fds: i32) -> Vec<Rule> {
    // No O_CREAT, no O_TMPFILE: files are only made by openat2, beneath a directory.
    let reopen = libc::O_ACCMODE
        | libc::O_TRUNC
        | libc::O_APPEND
        | libc::O_SYNC
        | libc::O_DIRECT
        | libc::O_NOATIME
        | libc::O_PATH
        | libc::O_DIRECTORY
        | libc::O_NOCTTY
        | libc::O_CLOEXEC
        | 0o100_000; // O_LARGEFILE, which libc has as 0
    vec![
        path(
            libc::SYS_openat2,
            "openat2",
            "walk and create beneath a held directory; the RESOLVE flags lie in memory, the tree's root is the jail",
        ),
        path(libc::SYS_openat, "openat", "reopen a held file through its entry in our own /proc/self/fd")
            .when([is(0, proc_fds), only_int_bits(2, reopen)]),
        path(
            libc::SYS_openat,
            "openat",
            "the C library asks the host how many processors there are when many threads allocate, and does without",
        )
        .when([is(0, libc::AT_FDCWD), is(2, libc::O_RDONLY | libc::O_CLOEXEC)])
        .refuse(libc::ENOENT),
        path(libc::SYS_statx, "statx", "attributes of a name, or of a held file"),
        path(
            libc::SYS_readlinkat,
            "readlinkat",
            "the target of a symbolic link, which the sentry follows itself",
        ),
        path(
            libc::SYS_getxattr,
            "getxattr",
            "extended attributes of a held file, by its entry in /proc/self/fd",
        ),
        path(
            libc::SYS_listxattr,
            "listxattr",
            "extended attributes of a held file, by its entry in /proc/self/fd",
        ),
    ]
}

/// What guests do to their files.
fn changes() -> Vec<Rule> {
    let node_type = |kind: libc::mode_t| {
        Cond::int(2, Test::Masked { mask: u64::from(libc::S_IFMT), value: u64::from(kind) })
    };
    vec![
        path(
            libc::SYS_setfsuid,
            "setfsuid",
            "a thread makes a file as its owner, so that nothing is given away by name afterwards; files only",
        ),
        path(libc::SYS_setfsgid, "setfsgid", "as setfsuid"),
        path(
            libc::SYS_capset,
            "capset",
            "a thread lays FOWNER down to remove a name of a sticky directory; it can take back what the process has, and no more",
        ),
        path(libc::SYS_capget, "capget", "as capset"),
        path(libc::SYS_mkdirat, "mkdirat", "mkdir(2) of a guest"),
        path(
            libc::SYS_mknodat,
            "mknodat",
            "fifos, sockets' names and plain files of a guest; never a device",
        )
        .when([node_type(libc::S_IFIFO), is(3, 0)])
        .when([node_type(libc::S_IFSOCK), is(3, 0)])
        .when([node_type(libc::S_IFREG), is(3, 0)]),
        path(libc::SYS_symlinkat, "symlinkat", "symlink(2) of a guest"),
        path(libc::SYS_linkat, "linkat", "link(2) of a guest, from the held file's entry in /proc/self/fd")
            .when([is(4, libc::AT_SYMLINK_FOLLOW)]),
        path(libc::SYS_unlinkat, "unlinkat", "unlink(2) and rmdir(2) of a guest")
            .when([one_of(2, &[0, libc::AT_REMOVEDIR])]),
        path(libc::SYS_renameat2, "renameat2", "rename(2) of a guest; whiteouts are not a guest's to make")
            .when([one_of(4, &[0, 1, 2])]), // RENAME_NOREPLACE, RENAME_EXCHANGE
        path(libc::SYS_fchownat, "fchownat", "chown(2) of a guest").when([is(4, 0)]),
        path(libc::SYS_fchmodat, "fchmodat", "chmod(2) of a guest"),
        path(libc::SYS_utimensat, "utimensat", "times that a guest sets").when([is(3, 0)]),
        path(
            libc::SYS_setxattr,
            "setxattr",
            "extended attributes of a held file, by its entry in /proc/self/fd",
        ),
        path(
            libc::SYS_removexattr,
            "removexattr",
            "extended attributes of a held file, by its entry in /proc/self/fd",
        ),
    ]
}

/// Descriptors that it opened itself.
fn files() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Files, why);
    vec![
        rule(libc::SYS_write, "write", "its log").when([is(0, libc::STDERR_FILENO)]),
        rule(libc::SYS_writev, "writev", "its log").when([is(0, libc::STDERR_FILENO)]),
        rule(libc::SYS_close, "close", "descriptors of ours"),
        rule(libc::SYS_fcntl, "fcntl", "the runtime's check, in debug builds, that what it closes is open")
            .when([is(1, libc::F_GETFD)]),
        rule(libc::SYS_fstatfs, "fstatfs", "statfs(2) of a guest"),
        rule(libc::SYS_getdents64, "getdents64", "readdir(3) of a guest"),
        rule(libc::SYS_lseek, "lseek", "where a guest's listing of a directory goes on"),
        rule(libc::SYS_ftruncate, "ftruncate", "truncate(2) of a guest"),
        rule(libc::SYS_fsync, "fsync", "fsync(2) of a guest, of a directory above all"),
        rule(libc::SYS_fdatasync, "fdatasync", "fdatasync(2) of a guest"),
        rule(libc::SYS_syncfs, "syncfs", "sync(2) and syncfs(2) of a guest, for its own mounts only"),
    ]
}

/// The sockets to the sentry.
fn control() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Control, why);
    vec![
        rule(libc::SYS_sendmsg, "sendmsg", "answers to the sentry, with descriptors").when([sends_copies()]),
        rule(libc::SYS_recvmsg, "recvmsg", "requests of the sentry"),
        rule(libc::SYS_socketpair, "socketpair", "one more channel to the sentry; joined to nothing else")
            .when([is(0, libc::AF_UNIX)]),
    ]
}

/// On a guest's behalf to the host's Unix sockets, where a mount of the container allows that.
fn host_sockets() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Control, why);
    vec![
        rule(libc::SYS_socket, "socket", "Unix sockets only, to be connected below")
            .when([is(0, libc::AF_UNIX)]),
        rule(
            libc::SYS_connect,
            "connect",
            "a Unix socket in a mount that allows it, by its entry in /proc/self/fd; other families have no socket",
        ),
    ]
}
