//! `/proc/PID/mounts`, `mountinfo`, `mountstats`: the mounts that a process can reach.

use std::sync::Arc;

use super::process::Subject;
use crate::Errno;
use crate::task::Task;
use crate::vfs::{Dentry, Location, Mount, major, minor};

/// `MS_*` flags as options, in the order in which Linux shows them.
const OPTIONS: [(u32, &str); 7] = [
    (2, "nosuid"),
    (4, "nodev"),
    (8, "noexec"),
    (1024, "noatime"),
    (2048, "nodiratime"),
    (1 << 21, "relatime"),
    (256, "nosymfollow"),
];
/// The same of the file system, which come first.
const SUPER_OPTIONS: [(u32, &str); 4] = [(16, "sync"), (128, "dirsync"), (64, "mand"), (1 << 25, "lazytime")];
const RDONLY: u32 = 1;

/// A mount with its path as seen from the process's root.
type Visible = (Arc<Mount>, Vec<u8>);

fn visible(subject: &Subject) -> Result<Vec<Visible>, Errno> {
    let fs = subject.task()?.fs();
    let root = fs.root();
    let path = |mount: Arc<Mount>| {
        let (path, is_reachable) = mount.root_location().path(&root);
        is_reachable.then_some((mount, path))
    };
    Ok(fs.namespace().mounts().into_iter().filter_map(path).collect())
}

fn options(flags: u32) -> String {
    named(flags, OPTIONS.iter())
}

fn named<'a>(flags: u32, names: impl Iterator<Item = &'a (u32, &'a str)>) -> String {
    let mut text = String::from(if flags & RDONLY == 0 { "rw" } else { "ro" });
    for (_, name) in names.filter(|(flag, _)| flags & flag != 0) {
        text.push(',');
        text.push_str(name);
    }
    text
}

fn super_options(mount: &Mount) -> String {
    let more = mount.file_system.options();
    let own = named(mount.flags() & !RDONLY, SUPER_OPTIONS.iter());
    if more.is_empty() { own } else { format!("{own},{more}") }
}

/// LINUX: `mangle`.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\\' | b'#') {
            escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            escaped.push(byte);
        }
    }
    escaped
}

fn source(mount: &Mount) -> Vec<u8> {
    if mount.source.is_empty() { b"none".to_vec() } else { escape(&mount.source) }
}

/// `/proc/PID/mounts`: as `fstab(5)`.
pub(super) fn mounts(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (mount, path) in visible(subject)? {
        let mut all = named(mount.flags(), SUPER_OPTIONS.iter().chain(&OPTIONS));
        let more = mount.file_system.options();
        if !more.is_empty() {
            all = format!("{all},{more}");
        }
        text.extend(source(&mount));
        text.push(b' ');
        text.extend(escape(&path));
        text.extend(format!(" {} {all} 0 0\n", mount.file_system.name()).into_bytes());
    }
    Ok(text)
}

/// `/proc/PID/mountinfo`.
pub(super) fn mountinfo(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (mount, path) in visible(subject)? {
        let parent = mount.place().map_or(mount.id, |place| place.mount.id);
        let dev = mount.root.inode().stat().map_or(0, |stat| stat.dev);
        let name = mount.file_system.name();
        text.extend(format!("{} {parent} {}:{} ", mount.id, major(dev), minor(dev)).into_bytes());
        text.extend(escape(&path_on_file_system(&mount.root)));
        text.push(b' ');
        text.extend(escape(&path));
        text.extend(format!(" {} - {name} ", options(mount.flags())).into_bytes());
        text.extend(source(&mount));
        text.extend(format!(" {}\n", super_options(&mount)).into_bytes());
    }
    Ok(text)
}

/// `/proc/PID/mountstats`.
pub(super) fn mountstats(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for (mount, path) in visible(subject)? {
        let name = mount.file_system.name();
        let line = [b"device ", &source(&mount)[..], b" mounted on ", &escape(&path), b" with fstype "];
        text.extend(line.concat());
        text.extend_from_slice(format!("{name}\n").as_bytes());
    }
    Ok(text)
}

/// Where a mount's root lies on its own file system: not `/` for bind mounts.
fn path_on_file_system(root: &Arc<Dentry>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = Arc::clone(root);
    while let Some(parent) = at.parent() {
        names.push(at.name());
        at = parent;
    }
    if names.is_empty() {
        return b"/".to_vec();
    }
    names.iter().rev().flat_map(|name| [&b"/"[..], name].concat()).collect()
}

/// The text of a location as `reader` sees it.
pub(super) fn path_for(reader: &Arc<Task>) -> impl Fn(&Location) -> Vec<u8> {
    let root = reader.fs().root();
    move |location| location.path(&root).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_paths_are_escaped() {
        assert_eq!(escape(b"/a b\\"), b"/a\\040b\\134");
    }

    #[test]
    fn options_name_the_flags() {
        assert_eq!(options(1 | 2 | 1 << 21), "ro,nosuid,relatime");
        assert_eq!(options(0), "rw");
    }
}
