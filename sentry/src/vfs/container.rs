//! How does a container see its files? Builds its mount namespace from what the shim says.
//!
//! Key functions: [`build`], [`BuildError`]. In order: root, mounts (their mount points made where they are missing), `/dev`,
//! masked and read-only paths; only then the root may become read-only. It is done in the name of a task without
//! program, memory or process id, as nothing of the container runs yet.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use control::{ContainerConfig, Device};

use super::mounting::attach;
use super::permission::ms;
use super::walk::{Caller, LastName, Lookup};
use super::{
    Dentry, FdTable, FsContext, Linkable, Location, Mount, MountNamespace, MountRequest, NewKind, NewNode,
    makedev,
};
use crate::Errno;
use crate::descriptors::Share;
use crate::fs::gofer::{Connection, GoferFs, Trust};
use crate::fs::tmpfs::{Options, TmpFs};
use crate::kernel::Kernel;
use crate::mm::{MemoryManager, NoSpace};
use crate::task::{Credentials, Limits, NewProcess, PidNamespace, Process, Task};

/// Why a container's files could not be set up: one line for a person.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {errno:?}")]
pub struct BuildError {
    what: &'static str,
    path: String,
    /// The cause.
    pub errno: Errno,
}

fn failed<'a>(what: &'static str, path: &'a str) -> impl FnOnce(Errno) -> BuildError + use<'a> {
    move |errno| BuildError { what, path: path.to_owned(), errno }
}

/// Device nodes that every container has: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links in `/dev` that every container has: name, target.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Builds a container's mounts. `gofer`: the socket to its gofer; `pid_namespace`: whose processes its `/proc` shows.
///
/// # Errors
/// What could not be mounted, and why.
pub fn build(
    kernel: &Arc<Kernel>,
    gofer: OwnedFd,
    config: &ContainerConfig,
    pid_namespace: &Arc<PidNamespace>,
) -> Result<Arc<MountNamespace>, BuildError> {
    let connection = &Connection::new(gofer, &kernel.vfs, kernel.descriptors.share(&config.container));
    let root = GoferFs::attach(connection, 0, Trust::Exclusive).map_err(failed("cannot attach", "/"))?;
    let root = Mount::of(&kernel.vfs, root, ms::RELATIME, b"overlay");
    build_on(kernel, root, Some(connection), config, pid_namespace)
}

/// As [`build`], on a root of the caller's.
///
/// # Errors
/// As [`build`].
pub fn build_on(
    kernel: &Arc<Kernel>,
    root: Arc<Mount>,
    connection: Option<&Arc<Connection>>,
    config: &ContainerConfig,
    pid_namespace: &Arc<PidNamespace>,
) -> Result<Arc<MountNamespace>, BuildError> {
    let place = root.root_location();
    let namespace = MountNamespace::new(Arc::clone(&root));
    let fs = FsContext::new(Arc::clone(&namespace), place.clone(), place.clone(), 0o022);
    let task = builder_task(kernel, &fs, pid_namespace);
    let caller = Caller::of(&task);
    let descriptors = kernel.descriptors.share(&config.container);
    let scratch = scratch(kernel, &descriptors).map_err(failed("cannot make room for", "/"))?;
    let builder = Builder {
        kernel,
        connection,
        caller,
        pid_namespace,
        namespace: Arc::clone(&namespace),
        place,
        scratch,
        descriptors,
    };
    for mount in &config.mounts {
        match builder.mount(mount) {
            // One kind less is better than no container.
            Err(Errno::ENODEV) if mount.kind != "bind" => {
                tracing::warn!(kind = mount.kind, path = mount.destination, "no such kind of file system");
            }
            mounted => mounted.map_err(failed("cannot mount", &mount.destination))?,
        }
    }
    builder.devices(&config.devices)?;
    for path in &config.masked_paths {
        builder.mask(path).map_err(failed("cannot mask", path))?;
    }
    for path in &config.readonly_paths {
        builder.protect(path).map_err(failed("cannot make read-only", path))?;
    }
    if config.root_readonly {
        root.set_flags(root.flags() | ms::RDONLY);
    }
    Ok(namespace)
}

/// A file system for what has no other place: mount points on a root that cannot be written, masks.
fn scratch(kernel: &Arc<Kernel>, descriptors: &Arc<Share>) -> Result<Arc<Mount>, Errno> {
    let options = Options { size: 0, mode: 0o755, ..Options::unlimited() };
    let file_system = TmpFs::new(&kernel.vfs, options, Arc::clone(descriptors))?;
    Ok(Mount::of(&kernel.vfs, file_system, ms::RDONLY | ms::RELATIME, b"tmpfs"))
}

fn builder_task(kernel: &Arc<Kernel>, fs: &Arc<FsContext>, namespace: &Arc<PidNamespace>) -> Arc<Task> {
    let new = NewProcess {
        namespace: Arc::clone(namespace),
        container: String::new(),
        actions: Arc::default(),
        limits: Limits::default(),
        exe: None,
    };
    let process = Process::new(kernel, 0, new);
    let all = u64::MAX;
    let credentials = Credentials { effective: all, permitted: all, bounding: all, ..Credentials::default() };
    let mm = MemoryManager::new(Arc::new(NoSpace));
    Task::new(0, process, Arc::new(credentials), Arc::clone(fs), FdTable::new(), mm)
}

struct Builder<'a> {
    kernel: &'a Arc<Kernel>,
    connection: Option<&'a Arc<Connection>>,
    caller: Caller<'a>,
    pid_namespace: &'a Arc<PidNamespace>,
    namespace: Arc<MountNamespace>,
    place: Location,
    scratch: Arc<Mount>,
    descriptors: Arc<Share>,
}

/// What the options of an OCI mount come to.
struct ParsedOptions {
    flags: u32,
    data: String,
}

impl Builder<'_> {
    fn mount(&self, config: &control::Mount) -> Result<(), Errno> {
        let options = parse_options(&config.options);
        let mount = match config.kind.as_str() {
            "bind" => {
                let connection = self.connection.ok_or(Errno::ENODEV)?;
                let file_system = GoferFs::attach(connection, config.gofer_mount, Trust::Revalidate)?;
                Mount::of(&self.kernel.vfs, file_system, options.flags, b"/dev/rvisor")
            }
            kind => self.mount_kind(kind, &options)?,
        };
        let is_dir = mount.root.inode().access()?.is_dir();
        let target = self.make_mount_point(config.destination.as_bytes(), is_dir)?;
        attach(&self.namespace, &target, &mount)
    }

    fn mount_kind(&self, kind: &str, options: &ParsedOptions) -> Result<Arc<Mount>, Errno> {
        // LINUX: devtmpfs as a container gets it is a tmpfs that the runtime fills.
        let (name, kind) = if kind == "devtmpfs" { ("devtmpfs", "tmpfs") } else { (kind, kind) };
        let known = self.kernel.vfs.file_system_type(kind).ok_or(Errno::ENODEV)?;
        let file_system = known.mount(&MountRequest {
            kernel: self.kernel,
            pid_namespace: self.pid_namespace,
            descriptors: &self.descriptors,
            source: name.as_bytes(),
            options: &options.data,
            uid: 0,
            gid: 0,
        })?;
        Ok(Mount::of(&self.kernel.vfs, file_system, options.flags, name.as_bytes()))
    }

    fn find(&self, path: &[u8]) -> Result<Location, Errno> {
        self.caller.resolve(&self.place, path, Lookup::FOLLOW)
    }

    /// The place for a mount; made, with the directories above it, if it is not there.
    fn make_mount_point(&self, path: &[u8], is_dir: bool) -> Result<Location, Errno> {
        match self.find(path) {
            Err(Errno::ENOENT) => {}
            found => return found,
        }
        let mut at = self.place.clone();
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            at = match self.caller.resolve(&at, name, Lookup::FOLLOW) {
                Ok(next) => next,
                Err(Errno::ENOENT) => self.make_place(&at, name, is_dir || !is_last)?,
                Err(errno) => return Err(errno),
            };
        }
        Ok(at)
    }

    fn make_place(&self, dir: &Location, name: &[u8], is_dir: bool) -> Result<Location, Errno> {
        let last = self.caller.find_parent(dir, name, Lookup::empty())?;
        let (LastName::Normal(name), parent) = (last.name, last.dir) else { return Err(Errno::EINVAL) };
        let kind = if is_dir { NewKind::Directory } else { NewKind::Regular };
        let new = NewNode { kind, mode: if is_dir { 0o755 } else { 0o644 }, uid: 0, gid: 0 };
        match self.caller.make(&parent, &name, &new) {
            // The name exists and is a link to nowhere; or nothing may be made here: a place that only we know of.
            Err(Errno::EROFS | Errno::EACCES | Errno::EPERM | Errno::EEXIST) => {
                let inode = self.scratch.root.inode().create_unnamed(&new, Linkable::No)?;
                let dentry: Arc<Dentry> = parent.dentry.add_child(&name, inode);
                Ok(Location { mount: parent.mount, dentry })
            }
            made => made,
        }
    }

    fn devices(&self, more: &[Device]) -> Result<(), BuildError> {
        if let Ok(dev) = self.find(b"/dev")
            && dev.mount.file_system.name() == "tmpfs"
        {
            for (name, major, minor) in DEVICES {
                self.device(name, major, minor).map_err(failed("cannot make /dev", name))?;
            }
            for (name, target) in LINKS {
                match self.caller.symlink(target.as_bytes(), &dev, name.as_bytes()) {
                    Ok(_) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(failed("cannot make /dev", name)(errno)),
                }
            }
        }
        for device in more {
            self.extra_device(device).map_err(failed("cannot make", &device.path))?;
        }
        Ok(())
    }

    fn device(&self, name: &str, major: u32, minor: u32) -> Result<(), Errno> {
        let path = format!("/dev/{name}");
        let kind = NewKind::Device { character: true, rdev: makedev(major, minor) };
        match self.caller.mknod(&self.place, path.as_bytes(), kind, 0o666) {
            Ok(made) => self.caller.chmod(&made, 0o666),
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn extra_device(&self, device: &Device) -> Result<(), Errno> {
        let rdev = makedev(device.major, device.minor);
        let kind = match device.kind.as_str() {
            "c" | "u" => NewKind::Device { character: true, rdev },
            "b" => NewKind::Device { character: false, rdev },
            "p" => NewKind::Fifo,
            _ => return Err(Errno::EINVAL),
        };
        // The folder that it is in (`/dev/net`, `/dev/cpu/0`) is made as well, as every runtime does.
        if let Some((folder, _)) =
            device.path.trim_end_matches('/').rsplit_once('/').filter(|(f, _)| !f.is_empty())
        {
            self.make_mount_point(folder.as_bytes(), true)?;
        }
        match self.caller.mknod(&self.place, device.path.as_bytes(), kind, device.mode) {
            Ok(made) => {
                self.caller.chmod(&made, device.mode)?;
                self.caller.chown(&made, Some(device.uid), Some(device.gid))
            }
            // The root file system may already hold such a node, or may not be able to.
            Err(Errno::EEXIST | Errno::EPERM | Errno::EROFS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Hides what is there: a directory under an empty one, anything else under a file without bytes.
    fn mask(&self, path: &str) -> Result<(), Errno> {
        let target = match self.find(path.as_bytes()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            found => found?,
        };
        let kind = if target.inode().access()?.is_dir() { NewKind::Directory } else { NewKind::Regular };
        let mode = if matches!(kind, NewKind::Directory) { 0o755 } else { 0o444 };
        let new = NewNode { kind, mode, uid: 0, gid: 0 };
        let inode = self.scratch.root.inode().create_unnamed(&new, Linkable::No)?;
        let file_system = Arc::clone(&self.scratch.file_system);
        let flags = ms::RDONLY | ms::RELATIME;
        attach(
            &self.namespace,
            &target,
            &Mount::new(file_system, Dentry::root(inode, None, None), flags, b"tmpfs"),
        )
    }

    /// Makes what is there read-only, with a mount of itself.
    fn protect(&self, path: &str) -> Result<(), Errno> {
        let target = match self.find(path.as_bytes()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            found => found?,
        };
        let Location { mount, dentry } = &target;
        let flags = mount.flags() | ms::RDONLY;
        let bound = Mount::new(Arc::clone(&mount.file_system), Arc::clone(dentry), flags, &mount.source);
        attach(&self.namespace, &target, &bound)
    }
}

/// Splits a mount's options into flags and what the file system itself understands. The shim has read what else an OCI
/// mount may have.
fn parse_options(options: &[String]) -> ParsedOptions {
    let mut parsed = ParsedOptions { flags: ms::RELATIME, data: String::new() };
    for option in options {
        let (set, clear) = match option.as_str() {
            "ro" => (ms::RDONLY, 0),
            "rw" => (0, ms::RDONLY),
            "nosuid" => (ms::NOSUID, 0),
            "suid" => (0, ms::NOSUID),
            "nodev" => (ms::NODEV, 0),
            "dev" => (0, ms::NODEV),
            "noexec" => (ms::NOEXEC, 0),
            "exec" => (0, ms::NOEXEC),
            "noatime" => (ms::NOATIME, ms::RELATIME),
            "nodiratime" => (ms::NODIRATIME, 0),
            "sync" => (ms::SYNCHRONOUS, 0),
            "nosymfollow" => (ms::NOSYMFOLLOW, 0),
            "strictatime" => (0, ms::RELATIME | ms::NOATIME),
            "relatime" | "async" => (0, 0),
            data => {
                if !parsed.data.is_empty() {
                    parsed.data.push(',');
                }
                parsed.data.push_str(data);
                (0, 0)
            }
        };
        parsed.flags = (parsed.flags | set) & !clear;
    }
    parsed
}
