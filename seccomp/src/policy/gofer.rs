//! What a gofer may ask of the host: names inside the one tree that it stands in, and messages.
//!
//! No network, no other process, nothing executable. Its root directory is the container's, so even
//! a resolution that goes wrong ends inside.

use super::{common, one_of};
use crate::rule::{Door, Policy, Rule};

/// The gofer's policy.
#[must_use]
pub fn gofer() -> Policy {
    let mut rules = common::runtime();
    rules.extend(common::memory());
    rules.extend(paths());
    rules.extend(files());
    rules.extend(control());
    Policy { name: "gofer", rules }
}

/// Names in the container's tree, always relative to a held directory.
fn paths() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Paths, why);
    vec![
        rule(
            libc::SYS_openat2,
            "openat2",
            "walk and open beneath a held directory; the RESOLVE flags lie in memory, the tree's root is the jail",
        ),
        rule(
            libc::SYS_openat,
            "openat",
            "reopen a held path with another access mode; the tree's root is the jail",
        ),
        rule(libc::SYS_statx, "statx", "attributes of a name, or of a held file"),
        rule(libc::SYS_newfstatat, "newfstatat", "attributes of a name"),
        rule(
            libc::SYS_readlinkat,
            "readlinkat",
            "the target of a symbolic link, which the sentry follows itself",
        ),
        rule(libc::SYS_mkdirat, "mkdirat", "mkdir(2) of a guest"),
        rule(
            libc::SYS_mknodat,
            "mknodat",
            "fifos and sockets of a guest; device nodes need a capability that we gave up",
        ),
        rule(libc::SYS_symlinkat, "symlinkat", "symlink(2) of a guest"),
        rule(libc::SYS_linkat, "linkat", "link(2) of a guest"),
        rule(libc::SYS_unlinkat, "unlinkat", "unlink(2) and rmdir(2) of a guest"),
        rule(libc::SYS_renameat2, "renameat2", "rename(2) of a guest"),
        rule(libc::SYS_fchownat, "fchownat", "chown(2) of a guest"),
        rule(libc::SYS_fchmodat, "fchmodat", "chmod(2) of a guest"),
        rule(libc::SYS_utimensat, "utimensat", "times that a guest sets"),
        rule(libc::SYS_faccessat2, "faccessat2", "what the host would allow"),
    ]
}

/// Descriptors that it opened itself.
fn files() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Files, why);
    vec![
        rule(libc::SYS_read, "read", "small files, and the change notifications"),
        rule(libc::SYS_write, "write", "its log"),
        rule(libc::SYS_writev, "writev", "its log"),
        rule(libc::SYS_close, "close", "descriptors of ours"),
        rule(libc::SYS_fstat, "fstat", "attributes of a held file"),
        rule(libc::SYS_fstatfs, "fstatfs", "statfs(2) of a guest"),
        rule(libc::SYS_statfs, "statfs", "statfs(2) of a guest"),
        rule(libc::SYS_getdents64, "getdents64", "readdir(3) of a guest"),
        rule(libc::SYS_lseek, "lseek", "rewind a directory"),
        rule(libc::SYS_fchmod, "fchmod", "chmod(2) of a guest"),
        rule(libc::SYS_fchown, "fchown", "chown(2) of a guest"),
        rule(libc::SYS_ftruncate, "ftruncate", "truncate(2) of a guest"),
        rule(libc::SYS_fallocate, "fallocate", "fallocate(2) of a guest"),
        rule(libc::SYS_fsync, "fsync", "durability of directories"),
        rule(libc::SYS_fgetxattr, "fgetxattr", "extended attributes"),
        rule(libc::SYS_fsetxattr, "fsetxattr", "extended attributes"),
        rule(libc::SYS_flistxattr, "flistxattr", "extended attributes"),
        rule(libc::SYS_fremovexattr, "fremovexattr", "extended attributes"),
        rule(libc::SYS_fcntl, "fcntl", "duplicate a held descriptor, read and set its flags").when([one_of(
            1,
            &[libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL],
        )]),
        rule(libc::SYS_inotify_init1, "inotify_init1", "tell the sentry when a volume changes from outside"),
        rule(
            libc::SYS_inotify_add_watch,
            "inotify_add_watch",
            "tell the sentry when a volume changes from outside",
        ),
        rule(libc::SYS_inotify_rm_watch, "inotify_rm_watch", "stop telling"),
    ]
}

/// The one socket to the sentry.
fn control() -> Vec<Rule> {
    let rule = |nr, name, why| Rule::new(nr, name, Door::Control, why);
    vec![
        rule(libc::SYS_sendmsg, "sendmsg", "answers to the sentry, with descriptors"),
        rule(libc::SYS_recvmsg, "recvmsg", "requests of the sentry"),
        rule(libc::SYS_sendto, "sendto", "answers to the sentry without descriptors"),
        rule(libc::SYS_recvfrom, "recvfrom", "requests of the sentry"),
        rule(libc::SYS_poll, "poll", "wait for a request"),
        rule(libc::SYS_ppoll, "ppoll", "wait for a request"),
    ]
}
