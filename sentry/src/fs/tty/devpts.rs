//! Where do terminals have names? `/dev/pts`, `pts(4)`, and the devices of major 5.
//!
//! Key types: [`DevPts`] (a mount's terminals), [`DevPtsType`], [`TerminalDevices`] (`/dev/tty`, `/dev/ptmx`).

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::discipline::BUFFERS_MAX;
use super::{Master, Tty, jobs};
use crate::Errno;
use crate::account::{self, Charge};
use crate::container::NewTerminal;
use crate::kernel::Kernel;
use crate::task::{Capability, Process, Task};
use crate::vfs::{
    Cached, DeviceDriver, DirEntry, FileOps, FileSystem, FileSystemType, Inode, Location, MountNamespace,
    MountRequest, OpenFile, SetAttr, Stat, StatFs, makedev, minor, mode, now,
};

/// Major number of `/dev/tty`, `/dev/console`, `/dev/ptmx`.
pub(in crate::fs) const TTY_MAJOR: u32 = 5;
/// LINUX: `DEVPTS_SUPER_MAGIC`.
const MAGIC: u64 = 0x1cd1;
/// Most terminals of one mount. LINUX: `kernel.pty.max`, ENOSPC above.
const TERMINALS_MAX: usize = 4096;
/// Inode number of the first terminal. LINUX: index + 3.
const FIRST_INO: u64 = 3;
const O_ACCMODE: u32 = 3;
const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
const O_NOCTTY: u32 = 0o400;

/// The kind of file system.
pub struct DevPtsType;

/// How it was mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    ptmx_mode: u32,
    max: usize,
}

impl Options {
    fn parse(text: &str) -> Result<Self, Errno> {
        let mut options = Self { uid: None, gid: None, mode: 0o600, ptmx_mode: 0, max: TERMINALS_MAX };
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |radix| u32::from_str_radix(value, radix).map_err(|_| Errno::EINVAL);
            match key {
                "uid" => options.uid = Some(number(10)?),
                "gid" => options.gid = Some(number(10)?),
                "mode" => options.mode = number(8)? & 0o777,
                "ptmxmode" => options.ptmx_mode = number(8)? & 0o777,
                "max" => options.max = (number(10)? as usize).min(TERMINALS_MAX),
                "newinstance" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

impl FileSystemType for DevPtsType {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>, Errno> {
        let options = Options::parse(request.options)?;
        Ok(DevPts::new(request.kernel.vfs.new_device(), options))
    }
}

/// The terminals of one mount.
pub struct DevPts {
    me: Weak<DevPts>,
    dev: u64,
    options: Options,
    born_ns: i64,
    /// LOCK: leaf.
    nodes: Mutex<BTreeMap<u32, Arc<PtsNode>>>,
}

impl DevPts {
    fn new(dev: u64, options: Options) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { me: me.clone(), dev, options, born_ns: now(), nodes: Mutex::default() })
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<PtsNode>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new terminal under the lowest free number, owned by `uid` and `gid` unless the mount says otherwise.
    fn new_terminal(&self, kernel: &Arc<Kernel>, uid: u32, gid: u32) -> Result<Arc<PtsNode>, Errno> {
        let mut nodes = self.nodes();
        if nodes.len() >= self.options.max {
            return Err(Errno::ENOSPC);
        }
        let charge = account::charge_for::<Tty>(BUFFERS_MAX)?;
        let index = (0..).zip(nodes.keys()).find(|(free, used)| free != *used).map(|(free, _)| free);
        let index = index.unwrap_or(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
        let tty = Tty::new(kernel, index, &self.me);
        let time = now();
        let stat = Stat {
            dev: self.dev,
            ino: FIRST_INO + u64::from(index),
            mode: mode::S_IFCHR | self.options.mode,
            nlink: 1,
            uid: self.options.uid.unwrap_or(uid),
            gid: self.options.gid.unwrap_or(gid),
            rdev: tty.rdev(),
            blksize: 1024,
            atime_ns: time,
            mtime_ns: time,
            ctime_ns: time,
            ..Stat::default()
        };
        let node = Arc::new(PtsNode { tty, stat: Mutex::new(stat), _charge: charge });
        nodes.insert(index, Arc::clone(&node));
        Ok(node)
    }

    /// The master of a terminal has been closed.
    pub(super) fn forget(&self, index: u32) {
        let gone = self.nodes().remove(&index);
        drop(gone);
    }

    fn stat(&self, ino: u64, mode: u32) -> Stat {
        let time = self.born_ns;
        Stat {
            dev: self.dev,
            ino,
            mode,
            nlink: 1,
            blksize: 1024,
            atime_ns: time,
            mtime_ns: time,
            ctime_ns: time,
            ..Stat::default()
        }
    }
}

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(PtsRoot(self.me.upgrade().expect("a file system that is asked lives")))
    }

    fn stat_fs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { magic: MAGIC, block_size: 4096, name_max: 255, ..StatFs::default() })
    }

    fn options(&self) -> String {
        let owner = |name: &str, id: Option<u32>| id.map(|id| format!("{name}={id},")).unwrap_or_default();
        let Options { uid, gid, mode, ptmx_mode, .. } = self.options;
        format!("{}{}mode={mode:03o},ptmxmode={ptmx_mode:03o}", owner("uid", uid), owner("gid", gid))
    }
}

/// The root directory.
struct PtsRoot(Arc<DevPts>);

impl Inode for PtsRoot {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat { nlink: 2, ..self.0.stat(1, mode::S_IFDIR | 0o755) })
    }

    fn sync(&self, _: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn lookup(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if name == b"ptmx" {
            return Ok(Arc::new(PtmxNode(Arc::clone(&self.0))));
        }
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let index: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if text != index.to_string() {
            return Err(Errno::ENOENT);
        }
        let node = self.0.nodes().get(&index).cloned().ok_or(Errno::ENOENT)?;
        Ok(node)
    }

    fn read_dir(
        &self,
        _: &Arc<Task>,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        const DT_CHR: u8 = 2;
        let indices: Vec<u32> = self.0.nodes().keys().copied().collect();
        let terminals = indices.into_iter().map(|index| {
            (index.to_string().into_bytes(), FIRST_INO + u64::from(index), u64::from(index) + 2)
        });
        for (name, ino, next) in std::iter::once((b"ptmx".to_vec(), 2, 1)).chain(terminals) {
            if next > cookie && !emit(DirEntry { name: &name, ino, kind: DT_CHR, next }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `ptmx`: each opening makes a terminal.
struct PtmxNode(Arc<DevPts>);

impl Inode for PtmxNode {
    fn stat(&self) -> Result<Stat, Errno> {
        let stat = self.0.stat(2, mode::S_IFCHR | self.0.options.ptmx_mode);
        Ok(Stat { rdev: makedev(TTY_MAJOR, 2), ..stat })
    }

    fn open(&self, task: &Arc<Task>, location: &Location, _: u32) -> Result<Arc<dyn FileOps>, Errno> {
        let root = location.dentry.parent().map(|dentry| Location { dentry, ..location.clone() });
        open_master(&self.0, task, root.as_ref())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `root`: where the devpts directory is, if known.
fn open_master(
    devpts: &DevPts,
    task: &Arc<Task>,
    root: Option<&Location>,
) -> Result<Arc<dyn FileOps>, Errno> {
    let credentials = task.credentials();
    let node = devpts.new_terminal(&task.kernel, credentials.fsuid, credentials.fsgid)?;
    let place = root.map(|root| node.place(root));
    let tty = Arc::clone(&node.tty);
    tty.lock().slave_place = place;
    Ok(Arc::new(Master(tty)))
}

/// A terminal's slave.
struct PtsNode {
    tty: Arc<Tty>,
    /// LOCK: leaf.
    stat: Mutex<Stat>,
    _charge: Charge,
}

impl PtsNode {
    fn stat(&self) -> MutexGuard<'_, Stat> {
        self.stat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name in the devpts directory at `root`.
    fn place(self: &Arc<Self>, root: &Location) -> Location {
        let name = self.tty.index.to_string();
        let dentry = root.dentry.add_child(name.as_bytes(), Arc::clone(self) as Arc<dyn Inode>);
        Location { mount: Arc::clone(&root.mount), dentry }
    }
}

impl Inode for PtsNode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(*self.stat())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        change.apply(&mut self.stat());
        Ok(())
    }

    fn open(&self, task: &Arc<Task>, _: &Location, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
        open_slave(&self.tty, task, flags)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn open_slave(tty: &Arc<Tty>, task: &Arc<Task>, flags: u32) -> Result<Arc<dyn FileOps>, Errno> {
    // LINUX: tty_reopen.
    if tty.lock().is_exclusive && !task.credentials().has(Capability::SysAdmin) {
        return Err(Errno::EBUSY);
    }
    let slave = tty.open_slave()?;
    if flags & O_NOCTTY == 0 && flags & O_ACCMODE != O_WRONLY {
        tty.acquire_if_free(task);
    }
    Ok(slave)
}

/// `/dev/tty`, `/dev/console` and `/dev/ptmx`.
pub struct TerminalDevices;

impl DeviceDriver for TerminalDevices {
    fn open(
        &self,
        task: &Arc<Task>,
        location: &Location,
        rdev: u64,
        flags: u32,
    ) -> Result<Arc<dyn FileOps>, Errno> {
        match minor(rdev) {
            0 | 1 => {
                let tty = jobs::terminal_of(task).ok_or(Errno::ENXIO)?;
                open_slave(&tty, task, flags | O_NOCTTY)
            }
            2 => {
                let root = sibling_pts(location).ok_or(Errno::ENODEV)?;
                let inode = Arc::clone(root.inode());
                let devpts = inode.as_any().downcast_ref::<PtsRoot>().ok_or(Errno::ENODEV)?;
                open_master(&devpts.0, task, Some(&root))
            }
            _ => Err(Errno::ENXIO),
        }
    }
}

/// The devpts mount at `pts` beside a `ptmx` node. LINUX: `devpts_mntget`.
fn sibling_pts(ptmx: &Location) -> Option<Location> {
    let directory = ptmx.dentry.parent()?;
    let Cached::Known(pts) = directory.cached(b"pts") else { return None };
    Some(ptmx.mount.mounted_on(&pts)?.root_location())
}

/// Makes a terminal for a container's process: in the container's devpts, its controlling terminal at once.
///
/// # Errors
/// One line for a person.
pub fn new_terminal(process: &Arc<Process>, mounts: &Arc<MountNamespace>) -> Result<NewTerminal, String> {
    let is_devpts = |root: &Location| root.inode().as_any().is::<PtsRoot>();
    let mounted = mounts.mounts().into_iter().map(|mount| mount.root_location()).find(is_devpts);
    // Without a devpts mount the terminal has no name, but works.
    let (devpts, root) = match &mounted {
        Some(root) => (
            root.inode().as_any().downcast_ref::<PtsRoot>().map(|root| Arc::clone(&root.0)),
            mounted.as_ref(),
        ),
        None => (None, None),
    };
    let kernel = &process.kernel;
    let devpts = match devpts {
        Some(devpts) => devpts,
        None => {
            let options = Options::parse("mode=0620,gid=5").map_err(|errno| errno.to_string())?;
            DevPts::new(kernel.vfs.new_device(), options)
        }
    };
    let node = devpts.new_terminal(kernel, 0, 0).map_err(|errno| format!("new terminal: {errno}"))?;
    let tty = Arc::clone(&node.tty);
    tty.set_locked(false);
    let place = match root {
        Some(root) => node.place(root),
        None => kernel.vfs.labelled(format!("/dev/pts/{}", tty.index).as_bytes(), node),
    };
    tty.lock().slave_place = Some(place.clone());
    let master = Arc::new(Master(Arc::clone(&tty)));
    let slave = tty.open_slave().map_err(|errno| format!("open terminal: {errno}"))?;
    tty.acquire_for(process).map_err(|errno| format!("controlling terminal: {errno}"))?;
    Ok((master, OpenFile::new(slave, place, O_RDWR)))
}
