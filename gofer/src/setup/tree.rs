//! How the gofer's world is built: a small tmpfs with the container's mounts in it, and nothing else.
//!
//! Key function: [`enter`]. All sources are opened first, as detached copies of their mounts; then a tmpfs is mounted over
//! [`BASE`] in a mount namespace of our own, the copies are put into it (`root`, `m/1`, `m/2`, ...), it becomes
//! the root (`pivot_root`), and the old tree is detached. Descriptors are reopened through `self/fd` of a procfs instance that is
//! attached nowhere; that directory is the gofer's working directory, because the calls for extended attributes and
//! `connect` only take paths.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use control::{GoferConfig, GoferMount, GoferOverlay};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use rustix::thread::UnshareFlags;

/// Directory that the new tree is mounted over for a moment. Every Linux host has it.
const BASE: &str = "/proc";

/// What is left to serve from.
pub(crate) struct Tree {
    /// By mount index.
    pub(crate) mounts: Vec<Mount>,
    /// Our own `/proc/self/fd`, which is the working directory as well.
    pub(crate) proc_fds: OwnedFd,
}

/// A mount as requests see it.
pub(crate) struct Mount {
    /// `O_PATH` descriptor of its root.
    pub(crate) root: OwnedFd,
    /// Changes are refused.
    pub(crate) readonly: bool,
    /// `Connect` is allowed.
    pub(crate) allow_host_sockets: bool,
}

/// Builds the tree and moves into it.
pub(crate) fn enter(config: &GoferConfig) -> anyhow::Result<Tree> {
    make_namespace()?;
    rustix::process::umask(Mode::empty());
    let proc_fds = open_proc_fds()?;
    let root_source = Source::open(&root_mount(config), config.overlay.is_some())?;
    anyhow::ensure!(root_source.is_dir, "root {} is not a directory", config.root);
    let volumes =
        config.mounts.iter().map(|mount| Source::open(mount, false)).collect::<anyhow::Result<Vec<_>>>()?;
    let upper = config.overlay.as_ref().map(open_upper).transpose()?;

    rustix::mount::mount(
        "rvisor",
        BASE,
        "tmpfs",
        MountFlags::NODEV | MountFlags::NOSUID,
        c"mode=0755,size=64m",
    )
    .with_context(|| format!("cannot mount a tmpfs over {BASE}"))?;
    rustix::process::chdir(BASE).context("cannot enter the new tree")?;
    mkdir("root")?;
    mkdir("m")?;
    match &config.overlay {
        Some(overlay) => mount_overlay(&root_source, overlay, upper.flatten().as_ref())?,
        None => root_source.attach("root", config.root_readonly)?,
    }
    for (index, (volume, mount)) in volumes.iter().zip(&config.mounts).enumerate() {
        volume.attach(&format!("m/{}", index + 1), mount.readonly)?;
    }

    rustix::process::pivot_root(".", ".").context("cannot make the new tree the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("cannot detach the host's tree")?;
    rustix::process::chdir("/").context("cannot enter the new root")?;
    let mounts = open_mounts(config)?;
    rustix::process::fchdir(&proc_fds).context("cannot enter the directory of descriptors")?;
    Ok(Tree { mounts, proc_fds })
}

/// Mounts of its own, and nothing of the host's names, IPC objects and network: a new network namespace is empty, and the host's abstract
/// Unix sockets are not in it. (Its pid namespace comes from whoever starts it: only a child can be in a new one.)
fn make_namespace() -> anyhow::Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWNET;
    #[expect(deprecated, reason = "the other form is unsafe, because of a flag that is not used here")]
    rustix::thread::unshare(flags).context("cannot make namespaces")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")
}

/// A procfs of our own pid namespace, attached nowhere, that shows nothing but processes: this one.
fn open_proc_fds() -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = || -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        // LINUX: since 5.8. Before it the instance shows the host's settings as well, which is worse, but nobody else's processes.
        let _ = rustix::mount::fsconfig_set_string(context.as_fd(), "subset", "pid");
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        rustix::fs::openat(&mount, "self/fd", flags, Mode::empty())
    };
    own().context("cannot open the descriptors' directory in a procfs of our own")
}

fn root_mount(config: &GoferConfig) -> GoferMount {
    GoferMount {
        source: config.root.clone(),
        readonly: config.root_readonly,
        recursive: true,
        allow_host_sockets: false,
    }
}

/// A directory or file of the host, opened before the host's tree is covered.
struct Source {
    path: String,
    fd: OwnedFd,
    is_dir: bool,
}

impl Source {
    /// `in_place` leaves it attached where it is (an overlay's lower layer must be); otherwise it is a detached copy.
    fn open(mount: &GoferMount, in_place: bool) -> anyhow::Result<Self> {
        let path = &mount.source;
        anyhow::ensure!(path.starts_with('/'), "mount source {path:?} is not an absolute path");
        let fd = if in_place {
            rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        } else {
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            flags.set(OpenTreeFlags::AT_RECURSIVE, mount.recursive);
            rustix::mount::open_tree(CWD, path.as_str(), flags)
        }
        .with_context(|| format!("cannot open mount source {path}"))?;
        let stat = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)
            .with_context(|| format!("cannot look at mount source {path}"))?;
        let is_dir = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
        Ok(Self { path: path.clone(), fd, is_dir })
    }

    fn attach(&self, target: &str, readonly: bool) -> anyhow::Result<()> {
        if self.is_dir && target != "root" {
            mkdir(target)?;
        } else if !self.is_dir {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::open(target, flags, Mode::RUSR).with_context(|| format!("cannot make {target}"))?;
        }
        rustix::mount::move_mount(self.fd.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .with_context(|| format!("cannot mount {}", self.path))?;
        rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .with_context(|| format!("cannot make {} private", self.path))?;
        self.restrict(target, readonly)
    }

    /// Devices and set-user-ID mean nothing here, and read-only is enforced twice: by the kernel and in [`crate::ops`].
    fn restrict(&self, target: &str, readonly: bool) -> anyhow::Result<()> {
        let held = rustix::fs::statvfs(target)
            .with_context(|| format!("cannot look at mount {}", self.path))?
            .f_flag;
        let mut flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID;
        flags.set(MountFlags::RDONLY, readonly || held.contains(StatVfsMountFlags::RDONLY));
        flags.set(MountFlags::NOEXEC, held.contains(StatVfsMountFlags::NOEXEC));
        flags.set(MountFlags::NOATIME, held.contains(StatVfsMountFlags::NOATIME));
        flags.set(MountFlags::NODIRATIME, held.contains(StatVfsMountFlags::NODIRATIME));
        flags.set(MountFlags::RELATIME, held.contains(StatVfsMountFlags::RELATIME));
        match rustix::mount::mount_remount(target, flags, c"") {
            Ok(()) => Ok(()),
            Err(Errno::PERM) => {
                tracing::warn!(
                    "the kernel does not let us restrict mount {}; requests are checked all the same",
                    self.path
                );
                Ok(())
            }
            Err(errno) => Err(errno).with_context(|| format!("cannot restrict mount {}", self.path)),
        }
    }
}

fn open_upper(overlay: &GoferOverlay) -> anyhow::Result<Option<OwnedFd>> {
    let Some(path) = &overlay.directory else { return Ok(None) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path.as_str(), flags)
        .map(Some)
        .with_context(|| format!("cannot open the overlay's directory {path}"))
}

/// Mounts the overlay on `root`: below is `lower`, in `scratch` are the changes.
fn mount_overlay(lower: &Source, overlay: &GoferOverlay, upper: Option<&OwnedFd>) -> anyhow::Result<()> {
    mkdir("scratch")?;
    match upper {
        Some(upper) => {
            rustix::mount::move_mount(
                upper.as_fd(),
                "",
                CWD,
                "scratch",
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .context("cannot mount the overlay's directory")?;
        }
        None => {
            let mut options = b"mode=0700".to_vec();
            if !overlay.memory_limit.is_empty() {
                anyhow::ensure!(
                    overlay.memory_limit.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%'),
                    "overlay limit {:?} is not a size",
                    overlay.memory_limit
                );
                options.extend_from_slice(b",size=");
                options.extend_from_slice(overlay.memory_limit.as_bytes());
            }
            let options = std::ffi::CString::new(options).expect("letters and digits");
            rustix::mount::mount("rvisor-upper", "scratch", "tmpfs", MountFlags::NODEV, options.as_c_str())
                .context("cannot mount a tmpfs for the overlay's changes")?;
        }
    }
    let root = rustix::fs::statx(&lower.fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .context("cannot look at the overlay's lower directory")?;
    for name in ["scratch/upper", "scratch/work"] {
        match rustix::fs::mkdir(name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).with_context(|| format!("cannot make the overlay's {name}")),
        }
    }
    // The merged root shows the upper directory's owner and mode: make them the lower's.
    rustix::fs::chmod("scratch/upper", Mode::from_bits_truncate(u32::from(root.stx_mode) & 0o7777))
        .context("cannot set the mode of the overlay's upper directory")?;
    rustix::fs::chown(
        "scratch/upper",
        Some(rustix::fs::Uid::from_raw(root.stx_uid)),
        Some(rustix::fs::Gid::from_raw(root.stx_gid)),
    )
    .context("cannot set the owner of the overlay's upper directory")?;

    // Relative to the lower directory, so that no path of the host needs escaping.
    rustix::process::fchdir(&lower.fd).context("cannot enter the overlay's lower directory")?;
    let options = format!("lowerdir=.,upperdir={BASE}/scratch/upper,workdir={BASE}/scratch/work");
    let options = std::ffi::CString::new(options).expect("no NUL");
    let target = format!("{BASE}/root");
    rustix::mount::mount(
        "rvisor",
        target.as_str(),
        "overlay",
        MountFlags::NODEV | MountFlags::NOSUID,
        options.as_c_str(),
    )
    .with_context(|| format!("cannot mount an overlay over {}", lower.path))?;
    rustix::process::chdir(BASE).context("cannot return to the new tree")
}

fn open_mounts(config: &GoferConfig) -> anyhow::Result<Vec<Mount>> {
    let root = GoferMount { allow_host_sockets: false, ..root_mount(config) };
    let targets =
        std::iter::once("root".to_owned()).chain((1..=config.mounts.len()).map(|index| format!("m/{index}")));
    std::iter::once(&root)
        .chain(&config.mounts)
        .zip(targets)
        .map(|(mount, target)| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let root = rustix::fs::open(target.as_str(), flags, Mode::empty())
                .with_context(|| format!("cannot open mount {}", mount.source))?;
            Ok(Mount { root, readonly: mount.readonly, allow_host_sockets: mount.allow_host_sockets })
        })
        .collect()
}

fn mkdir(name: &str) -> anyhow::Result<()> {
    rustix::fs::mkdir(name, Mode::RWXU).with_context(|| format!("cannot make {name} in the new tree"))
}
