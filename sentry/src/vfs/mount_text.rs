//! What `/proc/PID/mounts` and `/proc/PID/mountinfo` say, `proc(5)`.

use std::fmt::Write as _;
use std::sync::Arc;

use super::permission::ms;
use super::{FsContext, Location, Mount, major, minor};

/// The mounts that a process sees, with where it sees them.
fn visible(fs: &FsContext) -> Vec<(Arc<Mount>, String)> {
    let root = fs.root();
    let mut seen = Vec::new();
    for mount in fs.namespace().mounts() {
        let (path, is_reachable) = mount.root_location().path(&root);
        if is_reachable {
            seen.push((mount, escape(&path)));
        }
    }
    seen
}

/// `/proc/PID/mounts`.
#[must_use]
pub fn mounts(fs: &FsContext) -> String {
    let mut text = String::new();
    for (mount, path) in visible(fs) {
        let source = escape(&mount.source);
        let (kind, mut options) = (mount.file_system.name(), flags(&mount));
        let more = mount.file_system.options();
        if !more.is_empty() {
            options = format!("{options},{more}");
        }
        let _ = writeln!(text, "{source} {path} {kind} {options} 0 0");
    }
    text
}

/// `/proc/PID/mountinfo`.
#[must_use]
pub fn mountinfo(fs: &FsContext) -> String {
    let mut text = String::new();
    for (mount, path) in visible(fs) {
        let parent = mount.place().map_or(1, |place| place.mount.id);
        let device = mount.root.inode().stat().map_or(0, |stat| stat.dev);
        let whole = Location { mount: Arc::clone(&mount), dentry: Arc::clone(&mount.root) };
        let (major, minor, root) = (major(device), minor(device), escape(&path_in_file_system(&whole)));
        let (kind, source) = (mount.file_system.name(), escape(&mount.source));
        let access = if mount.flags() & ms::RDONLY == 0 { "rw" } else { "ro" };
        let more = mount.file_system.options();
        let separator = if more.is_empty() { "" } else { "," };
        let _ = writeln!(
            text,
            "{} {parent} {major}:{minor} {root} {path} {} - {kind} {source} {access}{separator}{more}",
            mount.id,
            flags(&mount),
        );
    }
    text
}

fn path_in_file_system(location: &Location) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = Arc::clone(&location.dentry);
    while let Some(parent) = at.parent() {
        names.push(at.name());
        at = parent;
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

fn flags(mount: &Mount) -> String {
    const NAMES: [(u32, &str); 7] = [
        (ms::NOSUID, "nosuid"),
        (ms::NODEV, "nodev"),
        (ms::NOEXEC, "noexec"),
        (ms::NOATIME, "noatime"),
        (ms::NODIRATIME, "nodiratime"),
        (ms::RELATIME, "relatime"),
        (ms::NOSYMFOLLOW, "nosymfollow"),
    ];
    let flags = mount.flags();
    let mut text = String::from(if flags & ms::RDONLY == 0 { "rw" } else { "ro" });
    for (flag, name) in NAMES {
        if flags & flag != 0 {
            text.push(',');
            text.push_str(name);
        }
    }
    text
}

/// LINUX: `mangle`: blank, tab, line feed and backslash as octal.
fn escape(text: &[u8]) -> String {
    let mut out = String::new();
    for piece in String::from_utf8_lossy(text).chars() {
        match piece {
            ' ' | '\t' | '\n' | '\\' => {
                let _ = write!(out, "\\{:03o}", u32::from(piece));
            }
            _ => out.push(piece),
        }
    }
    if out.is_empty() { "none".into() } else { out }
}
