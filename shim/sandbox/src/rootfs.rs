//! How does the root file system that containerd describes by mounts come to stand in the bundle, and go again?
//!
//! Key type: [`RootMount`]. Mounts are made on `<bundle>/rootfs`; undoing takes away everything mounted there
//! or below, whoever mounted it, because a half-made create must leave nothing.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};

/// LINUX: mount(2) takes one page of data.
const DATA_MAX: usize = 4095;

/// One mount, as containerd asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootMount {
    /// `overlay`, `bind`, `ext4`, ...
    pub kind: String,
    /// Device or directory.
    pub source: String,
    /// Below the root, usually empty.
    pub target: String,
    /// As in `mount -o`.
    pub options: Vec<String>,
}

/// The directory of a bundle's root file system.
#[must_use]
pub fn directory(bundle: &Path) -> PathBuf {
    bundle.join("rootfs")
}

/// Makes the mounts, in order. Without any, the root is expected to be there already.
///
/// # Errors
/// The first mount that fails, by its type; the ones before it are undone.
pub fn mount(bundle: &Path, mounts: &[RootMount]) -> io::Result<()> {
    /// As containerd makes it: only root looks in, everyone may pass through.
    const MODE: u32 = 0o711;
    if mounts.is_empty() {
        return Ok(());
    }
    let root = directory(bundle);
    match std::fs::DirBuilder::new().mode(MODE).create(&root) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    for mount in mounts {
        if let Err(error) = mount_one(&root, mount) {
            unmount(bundle);
            let text = format!("mount the {} root file system: {error}", mount.kind);
            return Err(io::Error::new(error.kind(), text));
        }
    }
    Ok(())
}

fn mount_one(root: &Path, mount: &RootMount) -> io::Result<()> {
    let target = match mount.target.trim_start_matches('/') {
        "" => root.to_path_buf(),
        below if below.split('/').any(|part| part == "..") => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the target leaves the root"));
        }
        below => root.join(below),
    };
    let (flags, data) = split_options(&mount.options)?;
    if mount.kind == "bind" || flags.contains(MountFlags::BIND) {
        return bind(&mount.source, &target, flags);
    }
    if data.len() > DATA_MAX {
        return mount_long(&target, mount, flags);
    }
    let data = CString::new(data)?;
    rustix::mount::mount(&mount.source, &target, &mount.kind, flags, Some(data.as_c_str()))?;
    Ok(())
}

/// A bind takes its other flags only when mounted again.
fn bind(source: &str, target: &Path, flags: MountFlags) -> io::Result<()> {
    if flags.contains(MountFlags::REC) {
        rustix::mount::mount_bind_recursive(source, target)?;
    } else {
        rustix::mount::mount_bind(source, target)?;
    }
    let rest = flags - MountFlags::REC - MountFlags::BIND;
    if !rest.is_empty() {
        rustix::mount::mount_remount(target, rest | MountFlags::BIND, c"")?;
    }
    rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Flags and the rest. Loop devices are containerd's to set up.
fn split_options(options: &[String]) -> io::Result<(MountFlags, String)> {
    let mut flags = MountFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" | "rprivate" | "private" => {}
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            "loop" => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "loop mounts are not supported"));
            }
            other => data.push(other),
        }
    }
    Ok((flags, data.join(",")))
}

/// An overlay of so many layers that its options do not fit a page: each option on its own, each layer on its own.
/// LINUX: `lowerdir+` since 6.5.
fn mount_long(target: &Path, mount: &RootMount, flags: MountFlags) -> io::Result<()> {
    let context = rustix::mount::fsopen(mount.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    for option in &mount.options {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => {
                for layer in layers.split(':') {
                    rustix::mount::fsconfig_set_string(&context, "lowerdir+", layer)?;
                }
            }
            Some((key, value)) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            // Plain words are either flags, given below, or switches of the file system.
            None if split_options(std::slice::from_ref(option))?.1.is_empty() => {}
            None => rustix::mount::fsconfig_set_flag(&context, option.as_str())?,
        }
    }
    rustix::mount::fsconfig_set_string(&context, "source", mount.source.as_str())?;
    rustix::mount::fsconfig_create(&context)?;
    let mut attributes = MountAttrFlags::empty();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, flags.contains(MountFlags::RDONLY));
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, flags.contains(MountFlags::NOSUID));
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, flags.contains(MountFlags::NODEV));
    let made = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&made, "", rustix::fs::CWD, target, empty)?;
    Ok(())
}

/// Takes away everything mounted on a bundle's root or below it.
pub fn unmount(bundle: &Path) {
    let root = directory(bundle);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for place in mounted_below(&table, &root) {
        if let Err(error) = rustix::mount::unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            tracing::warn!(place = %place.display(), %error, "cannot unmount");
        }
    }
}

/// Mount points at or below a directory, the last mounted first. LINUX: proc(5): the fifth field, octal escapes.
fn mounted_below(table: &str, root: &Path) -> Vec<PathBuf> {
    let unescape = |text: &str| {
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    };
    let point = |line: &str| line.split(' ').nth(4).map(|field| PathBuf::from(unescape(field)));
    let mut points: Vec<_> =
        table.lines().filter_map(point).filter(|place| place.starts_with(root)).collect();
    points.reverse();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_data() {
        let options = ["ro", "lowerdir=/a:/b", "nosuid", "index=off"].map(str::to_owned);
        let (flags, data) = split_options(&options).expect("known");
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(data, "lowerdir=/a:/b,index=off");
        assert!(split_options(&["loop".to_owned()]).is_err());
    }

    #[test]
    fn mount_points_are_found_in_reverse_and_by_whole_names() {
        let table = "1 0 0:1 / / rw - t s o\n2 1 0:2 / /b/rootfs rw - t s o\n3 2 0:3 / /b/rootfs/with\\040space rw - t s o\n4 1 0:4 / /b/rootfs2 rw - t s o\n";
        let found = mounted_below(table, Path::new("/b/rootfs"));
        assert_eq!(found, [PathBuf::from("/b/rootfs/with space"), PathBuf::from("/b/rootfs")]);
    }

    #[test]
    fn a_target_outside_the_root_is_refused() {
        let mount = RootMount { target: "../x".to_owned(), ..RootMount::default() };
        let error = mount_one(Path::new("/nowhere"), &mount).expect_err("leaves");
        assert_eq!(error.to_string(), "the target leaves the root");
    }
}
