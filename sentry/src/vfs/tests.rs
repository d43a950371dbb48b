//! How paths are walked, made and removed, tried on a tmpfs. The oracle is Linux.

use std::sync::Arc;

use super::open_flags::{O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDWR, O_TRUNC, O_WRONLY};
use super::{Caller, How, Location, Lookup, Mount, NewKind, OpenFile, RENAME_EXCHANGE, permission::ms};
use crate::Errno;
use crate::fs::tmpfs::{Options, TmpFs};
use crate::io::VecSink;
use crate::task::Task;
use crate::testing;

fn at(task: &Arc<Task>, path: &str) -> Result<Location, Errno> {
    Caller::of(task).resolve(&task.fs().cwd(), path.as_bytes(), Lookup::FOLLOW)
}

fn looked_up(task: &Arc<Task>, path: &str, lookup: Lookup) -> Result<Location, Errno> {
    Caller::of(task).resolve(&task.fs().cwd(), path.as_bytes(), lookup)
}

fn open(task: &Arc<Task>, path: &str, flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let how = How { flags, mode: 0o644, ..How::default() };
    Caller::of(task).open(&task.fs().cwd(), path.as_bytes(), how)
}

fn mkdir(task: &Arc<Task>, path: &str) -> Result<(), Errno> {
    Caller::of(task).mkdir(&task.fs().cwd(), path.as_bytes(), 0o777).map(|_| ())
}

fn symlink(task: &Arc<Task>, target: &str, path: &str) -> Result<(), Errno> {
    Caller::of(task).symlink(target.as_bytes(), &task.fs().cwd(), path.as_bytes()).map(|_| ())
}

fn rename(task: &Arc<Task>, old: &str, new: &str, flags: u32) -> Result<(), Errno> {
    let cwd = task.fs().cwd();
    Caller::of(task).rename((&cwd, old.as_bytes()), (&cwd, new.as_bytes()), flags)
}

fn unlink(task: &Arc<Task>, path: &str) -> Result<(), Errno> {
    Caller::of(task).unlink(&task.fs().cwd(), path.as_bytes())
}

fn rmdir(task: &Arc<Task>, path: &str) -> Result<(), Errno> {
    Caller::of(task).rmdir(&task.fs().cwd(), path.as_bytes())
}

fn touch(task: &Arc<Task>, path: &str) {
    open(task, path, O_CREAT | O_WRONLY).expect("can be made");
}

fn path_of(task: &Arc<Task>, location: &Location) -> String {
    String::from_utf8(location.path(&task.fs().root()).0).expect("ascii")
}

fn list(task: &Arc<Task>, path: &str) -> Vec<String> {
    let file = open(task, path, O_DIRECTORY).expect("a directory");
    let mut names = Vec::new();
    file.ops
        .read_dir(&file.op(task), 0, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            true
        })
        .expect("can be listed");
    names
}

#[test]
fn a_file_is_made_written_and_read() {
    let task = testing::task();
    mkdir(&task, "/d").expect("mkdir");
    let file = open(&task, "/d/f", O_CREAT | O_RDWR | O_EXCL).expect("open");
    let op = file.op(&task);
    assert_eq!(file.ops.write(&op, &mut &b"hello"[..], 0), Ok(5));
    assert_eq!(file.ops.write(&op, &mut &b"w"[..], 20_000), Ok(1));
    let mut sink = VecSink::new(5);
    assert_eq!(file.ops.read(&op, &mut sink, 0), Ok(5));
    assert_eq!(sink.bytes, b"hello");
    let stat = at(&task, "/d/f").expect("there").inode().stat().expect("stat");
    assert_eq!((stat.size, stat.mode, stat.nlink), (20_001, 0o100_644, 1));
    assert_eq!(file.ops.read(&op, &mut VecSink::new(5), 20_001), Ok(0));
    assert_eq!(open(&task, "/d/f", O_CREAT | O_EXCL).err(), Some(Errno::EEXIST));
    open(&task, "/d/f", O_TRUNC | O_WRONLY).expect("truncating");
    assert_eq!(file.ops.size(), Ok(0));
    assert_eq!(list(&task, "/d"), [".", "..", "f"]);
}

#[test]
fn dots_and_slashes() {
    let task = testing::task();
    mkdir(&task, "a").expect("mkdir");
    mkdir(&task, "a/b/").expect("mkdir with a slash");
    touch(&task, "a/f");
    for path in ["/a/b", "a/b/", "//a//b//", "a/./b/.", "a/b/../b", "/../../a/b"] {
        assert_eq!(path_of(&task, &at(&task, path).expect(path)), "/a/b", "{path}");
    }
    assert_eq!(path_of(&task, &at(&task, "/").expect("root")), "/");
    assert_eq!(at(&task, "a/f/").err(), Some(Errno::ENOTDIR));
    assert_eq!(at(&task, "a/f/x").err(), Some(Errno::ENOTDIR));
    assert_eq!(at(&task, "a/f/..").err(), Some(Errno::ENOTDIR));
    assert_eq!(at(&task, "").err(), Some(Errno::ENOENT));
    assert!(looked_up(&task, "", Lookup::EMPTY).is_ok());
    assert_eq!(open(&task, "a/new/", O_CREAT).err(), Some(Errno::EISDIR));
    assert_eq!(open(&task, "a/f", O_DIRECTORY).err(), Some(Errno::ENOTDIR));
    assert_eq!(open(&task, "a", O_WRONLY).err(), Some(Errno::EISDIR));
    assert_eq!(at(&task, &"n".repeat(256)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(at(&task, &"n".repeat(255)).err(), Some(Errno::ENOENT));
}

#[test]
fn symbolic_links_are_followed_and_limited() {
    let task = testing::task();
    mkdir(&task, "d").expect("mkdir");
    touch(&task, "d/f");
    symlink(&task, "d", "l").expect("symlink");
    symlink(&task, "/l/f", "abs").expect("symlink");
    symlink(&task, "loop", "loop").expect("symlink");
    symlink(&task, "d/new", "dangling").expect("symlink");
    assert_eq!(path_of(&task, &at(&task, "l/f").expect("there")), "/d/f");
    assert_eq!(path_of(&task, &at(&task, "abs").expect("there")), "/d/f");
    assert_eq!(path_of(&task, &looked_up(&task, "l", Lookup::empty()).expect("there")), "/l");
    assert_eq!(path_of(&task, &looked_up(&task, "l/", Lookup::empty()).expect("there")), "/d");
    assert_eq!(at(&task, "loop").err(), Some(Errno::ELOOP));
    assert_eq!(open(&task, "l", O_NOFOLLOW).err(), Some(Errno::ELOOP));
    assert!(open(&task, "l", O_NOFOLLOW | O_PATH).is_ok());
    assert_eq!(open(&task, "dangling", O_CREAT | O_EXCL).err(), Some(Errno::EEXIST));
    touch(&task, "dangling");
    assert!(at(&task, "d/new").is_ok());
    for n in 0..50 {
        symlink(&task, &format!("s{}", n + 1), &format!("s{n}")).expect("symlink");
    }
    touch(&task, "s50");
    assert!(at(&task, "s10").is_ok());
    assert_eq!(at(&task, "s9").err(), Some(Errno::ELOOP));
}

#[test]
fn scoped_lookups_stay_inside() {
    let task = testing::task();
    mkdir(&task, "top").expect("mkdir");
    mkdir(&task, "top/d").expect("mkdir");
    touch(&task, "top/d/f");
    symlink(&task, "/d/f", "top/abs").expect("symlink");
    symlink(&task, "../..", "top/up").expect("symlink");
    let top = at(&task, "top").expect("there");
    let caller = Caller::of(&task);
    let find = |path: &str, lookup| caller.resolve(&top, path.as_bytes(), lookup | Lookup::FOLLOW);
    assert!(find("d/../d/f", Lookup::BENEATH).is_ok());
    assert_eq!(find("..", Lookup::BENEATH).err(), Some(Errno::EXDEV));
    assert_eq!(find("abs", Lookup::BENEATH).err(), Some(Errno::EXDEV));
    assert_eq!(find("/d", Lookup::BENEATH).err(), Some(Errno::EXDEV));
    assert!(find("abs", Lookup::IN_ROOT).is_ok());
    assert!(find("up", Lookup::IN_ROOT).expect("there").is_same(&top));
    assert_eq!(find("abs", Lookup::NO_SYMLINKS).err(), Some(Errno::ELOOP));
}

#[test]
fn chroot_is_the_top() {
    let task = testing::task();
    mkdir(&task, "jail").expect("mkdir");
    mkdir(&task, "jail/d").expect("mkdir");
    let jail = at(&task, "jail").expect("there");
    task.fs().set_root(jail.clone());
    task.fs().set_cwd(jail.clone());
    assert!(at(&task, "d/../../..").expect("there").is_same(&jail));
    assert_eq!(path_of(&task, &at(&task, "/d").expect("there")), "/d");
}

#[test]
fn mounts_are_crossed_both_ways() {
    let task = testing::task();
    mkdir(&task, "m").expect("mkdir");
    touch(&task, "m/hidden");
    let place = at(&task, "m").expect("there");
    let share = task.kernel.descriptors.share("test");
    let inner = TmpFs::new(&task.kernel.vfs, Options::new(1 << 20), share).expect("tmpfs");
    let device = crate::vfs::FileSystem::root(&*inner).stat().expect("stat").dev;
    let mount = Mount::of(&task.kernel.vfs, inner, ms::RDONLY, b"inner");
    place.mount.attach(&place.dentry, &mount);
    assert_eq!(at(&task, "m/hidden").err(), Some(Errno::ENOENT));
    assert_eq!(at(&task, "m").expect("there").inode().stat().expect("stat").dev, device);
    assert_eq!(path_of(&task, &at(&task, "m/..").expect("there")), "/");
    assert_eq!(open(&task, "m/f", O_CREAT).err(), Some(Errno::EROFS));
    assert_eq!(mkdir(&task, "m/d").err(), Some(Errno::EROFS));
    assert_eq!(mkdir(&task, "m").err(), Some(Errno::EEXIST));
    assert_eq!(rmdir(&task, "m").err(), Some(Errno::EBUSY));
    assert_eq!(rename(&task, "m", "n", 0).err(), Some(Errno::EBUSY));
    assert_eq!(looked_up(&task, "m", Lookup::NO_XDEV).err(), Some(Errno::EXDEV));
    mount.set_flags(0);
    touch(&task, "m/f");
    touch(&task, "g");
    assert_eq!(rename(&task, "g", "m/g", 0).err(), Some(Errno::EXDEV));
    assert_eq!(path_of(&task, &at(&task, "m/f").expect("there")), "/m/f");
    place.mount.detach(&mount);
    assert!(at(&task, "m/hidden").is_ok());
}

#[test]
fn unlinked_files_live_on_nameless() {
    let task = testing::task();
    let file = open(&task, "f", O_CREAT | O_RDWR).expect("open");
    unlink(&task, "f").expect("unlink");
    assert_eq!(at(&task, "f").err(), Some(Errno::ENOENT));
    assert_eq!(path_of(&task, &file.location), "/f (deleted)");
    assert_eq!(file.location.inode().stat().expect("stat").nlink, 0);
    assert_eq!(file.ops.write(&file.op(&task), &mut &b"x"[..], 0), Ok(1));
    touch(&task, "f");
    assert_ne!(
        at(&task, "f").expect("there").inode().stat().expect("stat").ino,
        file.location.inode().stat().expect("stat").ino
    );
}

#[test]
fn removal_has_linux_errors() {
    let task = testing::task();
    mkdir(&task, "d").expect("mkdir");
    touch(&task, "d/f");
    assert_eq!(rmdir(&task, "d").err(), Some(Errno::ENOTEMPTY));
    assert_eq!(rmdir(&task, "d/f").err(), Some(Errno::ENOTDIR));
    assert_eq!(unlink(&task, "d").err(), Some(Errno::EISDIR));
    assert_eq!(unlink(&task, "d/f/").err(), Some(Errno::ENOTDIR));
    assert_eq!(rmdir(&task, "d/.").err(), Some(Errno::EINVAL));
    assert_eq!(rmdir(&task, "d/..").err(), Some(Errno::ENOTEMPTY));
    assert_eq!(rmdir(&task, "/").err(), Some(Errno::EBUSY));
    assert_eq!(unlink(&task, "x").err(), Some(Errno::ENOENT));
    let inside = at(&task, "d").expect("there");
    unlink(&task, "d/f").expect("unlink");
    rmdir(&task, "d").expect("rmdir");
    task.fs().set_cwd(inside);
    assert_eq!(mkdir(&task, "x").err(), Some(Errno::ENOENT));
    assert_eq!(open(&task, "x", O_CREAT).err(), Some(Errno::ENOENT));
    assert_eq!(at(&task, "/").expect("root").inode().stat().expect("stat").nlink, 2);
}

#[test]
fn rename_moves_replaces_and_exchanges() {
    let task = testing::task();
    for dir in ["a", "a/b", "c", "full", "full/x"] {
        mkdir(&task, dir).expect("mkdir");
    }
    touch(&task, "f");
    touch(&task, "g");
    assert_eq!(rename(&task, "a", "a/b/c", 0).err(), Some(Errno::EINVAL));
    assert_eq!(rename(&task, "a/b", "a", 0).err(), Some(Errno::ENOTEMPTY));
    assert_eq!(rename(&task, "a", "full", 0).err(), Some(Errno::ENOTEMPTY));
    assert_eq!(rename(&task, "f", "a", 0).err(), Some(Errno::EISDIR));
    assert_eq!(rename(&task, "a", "f", 0).err(), Some(Errno::ENOTDIR));
    assert_eq!(rename(&task, "f", "g", super::RENAME_NOREPLACE).err(), Some(Errno::EEXIST));
    assert_eq!(rename(&task, "none", "g", 0).err(), Some(Errno::ENOENT));
    let f = at(&task, "f").expect("there");
    rename(&task, "f", "g", 0).expect("replaces");
    assert!(at(&task, "g").expect("there").is_same(&f));
    assert_eq!(at(&task, "f").err(), Some(Errno::ENOENT));
    rename(&task, "a", "c", 0).expect("onto an empty directory");
    assert_eq!(path_of(&task, &at(&task, "c/b").expect("there")), "/c/b");
    rename(&task, "c", "full/x/c", 0).expect("into another directory");
    assert_eq!(at(&task, "full/x").expect("there").inode().stat().expect("stat").nlink, 3);
    rename(&task, "g", "full", RENAME_EXCHANGE).expect("exchange");
    assert!(at(&task, "full").expect("there").is_same(&f));
    assert_eq!(path_of(&task, &at(&task, "g/x/c/b").expect("there")), "/g/x/c/b");
    assert_eq!(list(&task, "/"), [".", "..", "full", "g"]);
}

#[test]
fn hard_links_share_a_node() {
    let task = testing::task();
    touch(&task, "f");
    mkdir(&task, "d").expect("mkdir");
    let f = at(&task, "f").expect("there");
    let cwd = task.fs().cwd();
    Caller::of(&task).link(&f, &cwd, b"d/g").expect("link");
    assert!(Arc::ptr_eq(at(&task, "d/g").expect("there").inode(), f.inode()));
    assert_eq!(f.inode().stat().expect("stat").nlink, 2);
    rename(&task, "f", "d/g", 0).expect("nothing happens");
    assert!(at(&task, "f").is_ok());
    let d = at(&task, "d").expect("there");
    assert_eq!(Caller::of(&task).link(&d, &cwd, b"e").err(), Some(Errno::EPERM));
    unlink(&task, "f").expect("unlink");
    assert_eq!(f.inode().stat().expect("stat").nlink, 1);
}

#[test]
fn permissions_of_an_ordinary_user() {
    let task = testing::task();
    mkdir(&task, "mine").expect("mkdir");
    mkdir(&task, "tmp").expect("mkdir");
    mkdir(&task, "closed").expect("mkdir");
    touch(&task, "closed/f");
    touch(&task, "tmp/roots");
    touch(&task, "readable");
    let caller = Caller::of(&task);
    caller.chown(&at(&task, "mine").expect("there"), Some(7), Some(7)).expect("chown");
    caller.chmod(&at(&task, "tmp").expect("there"), 0o1777).expect("chmod");
    caller.chmod(&at(&task, "closed").expect("there"), 0o700).expect("chmod");
    testing::become_user(&task, 7);
    touch(&task, "mine/f");
    let stat = at(&task, "mine/f").expect("there").inode().stat().expect("stat");
    assert_eq!((stat.uid, stat.gid), (7, 7));
    assert_eq!(open(&task, "new", O_CREAT).err(), Some(Errno::EACCES));
    assert_eq!(at(&task, "closed/f").err(), Some(Errno::EACCES));
    assert_eq!(open(&task, "closed", 0).err(), Some(Errno::EACCES));
    assert!(open(&task, "readable", 0).is_ok());
    assert_eq!(open(&task, "readable", O_RDWR).err(), Some(Errno::EACCES));
    assert_eq!(unlink(&task, "tmp/roots").err(), Some(Errno::EPERM));
    touch(&task, "tmp/own");
    unlink(&task, "tmp/own").expect("one's own");
    let caller = Caller::of(&task);
    assert_eq!(caller.chmod(&at(&task, "readable").expect("there"), 0o777).err(), Some(Errno::EPERM));
    assert_eq!(caller.chown(&at(&task, "mine/f").expect("there"), Some(0), None).err(), Some(Errno::EPERM));
    let device = NewKind::Device { character: true, rdev: 0x103 };
    assert_eq!(caller.mknod(&task.fs().cwd(), b"mine/null", device, 0o666).err(), Some(Errno::EPERM));
}

#[test]
fn set_group_id_directories_pass_their_group_on() {
    let task = testing::task();
    mkdir(&task, "d").expect("mkdir");
    let d = at(&task, "d").expect("there");
    let caller = Caller::of(&task);
    caller.chown(&d, None, Some(50)).expect("chown");
    caller.chmod(&d, 0o2777).expect("chmod");
    mkdir(&task, "d/sub").expect("mkdir");
    touch(&task, "d/f");
    let stat = |path| at(&task, path).expect("there").inode().stat().expect("stat");
    assert_eq!((stat("d/sub").gid, stat("d/sub").mode), (50, 0o042_755));
    assert_eq!((stat("d/f").gid, stat("d/f").mode), (50, 0o100_644));
}

#[test]
fn a_very_deep_tree_is_dropped_without_recursion() {
    let task = testing::task();
    let top = task.fs().cwd();
    for _ in 0..20_000 {
        mkdir(&task, "d").expect("mkdir");
        let next = at(&task, "d").expect("there");
        task.fs().set_cwd(next);
    }
    assert_eq!(path_of(&task, &task.fs().cwd()).len(), 40_000);
    task.fs().set_cwd(top);
    drop(task);
}

#[test]
fn a_container_is_built_from_its_configuration() {
    let task = testing::task();
    let root = task.fs().namespace().root();
    mkdir(&task, "sys").expect("mkdir");
    touch(&task, "secret");
    let mount = |destination: &str, options: &[&str]| control::Mount {
        destination: destination.into(),
        kind: "tmpfs".into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..control::Mount::default()
    };
    let device = |path: &str| control::Device {
        path: path.into(),
        kind: "c".into(),
        major: 10,
        minor: 200,
        mode: 0o640,
        gid: 7,
        ..control::Device::default()
    };
    let config = control::ContainerConfig {
        mounts: vec![
            mount("/dev", &["nosuid", "mode=755", "size=64k"]),
            mount("/run/deep", &["ro", "noexec"]),
        ],
        masked_paths: vec!["/secret".into(), "/absent".into()],
        devices: ["/dev/net/tun", "/dev/cpu/0/cpuid"].into_iter().map(device).collect(),
        readonly_paths: vec!["/sys".into()],
        root_readonly: true,
        ..control::ContainerConfig::default()
    };
    let namespace = super::container::build_on(&task.kernel, root, None, &config, &task.process.namespace)
        .expect("built");
    let place = namespace.root().root_location();
    task.set_fs(super::FsContext::new(namespace, place.clone(), place, 0o022));
    let stat = |path| at(&task, path).expect(path).inode().stat().expect("stat");
    assert_eq!((stat("/dev/null").mode, stat("/dev/null").rdev), (0o020_666, 0x103));
    assert_eq!(stat("/dev").mode, 0o040_755);
    assert_eq!((stat("/dev/net").mode, stat("/dev/net/tun").rdev), (0o040_755, 0xac8));
    let node = stat("/dev/cpu/0/cpuid");
    assert_eq!((node.mode, node.uid, node.gid), (0o020_640, 0, 7));
    assert_eq!(stat("/secret").mode, 0o100_444);
    assert_eq!(open(&task, "/sys/x", O_CREAT).err(), Some(Errno::EROFS));
    assert_eq!(open(&task, "/run/deep/x", O_CREAT).err(), Some(Errno::EROFS));
    assert_eq!(mkdir(&task, "/new").err(), Some(Errno::EROFS));
    mkdir(&task, "/dev/shm").expect("mkdir");
    let text = super::mount_text::mounts(&task.fs());
    assert!(text.contains("tmpfs /dev tmpfs rw,nosuid,relatime,size=64k,mode=755 0 0\n"), "{text}");
    assert!(text.contains(" /run/deep tmpfs ro,noexec,relatime"), "{text}");
    assert_eq!(super::mount_text::mountinfo(&task.fs()).lines().count(), 5);
}
