//! Changing files through a gofer: what Linux would do, with the owner that the sentry names.

mod common;

use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use common::{Gofer, OWNER};
use gofer_protocol::{Errno, Ownership, SetAttr, SetTime, Time, file_type};

const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;

#[test]
fn create_gives_an_open_file_of_the_owner_named() {
    let gofer = Gofer::start();
    let made = gofer.client.create(gofer.root(), b"new", 0o640, OWNER, O_RDWR | O_EXCL).expect("create");
    assert_eq!((made.stat.uid, made.stat.gid, made.stat.mode), (1234, 5678, file_type::REGULAR | 0o640));
    let file = std::fs::File::from(made.fd);
    file.write_all_at(b"data", 0).expect("it is open for writing");
    assert_eq!(std::fs::read(gofer.path("root/new")).expect("it is there"), b"data");
    assert_eq!(gofer.client.stat(made.node).map(|stat| stat.size), Ok(4));
}

#[test]
fn create_of_what_exists_depends_on_excl() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    std::fs::write(gofer.path("root/old"), b"content").expect("write");
    assert_eq!(client.create(root, b"old", 0o600, OWNER, O_RDWR | O_EXCL).err(), Some(Errno::EEXIST));
    let found = client.create(root, b"old", 0o600, OWNER, O_RDONLY).expect("it is opened");
    assert_eq!((found.stat.uid, found.stat.size), (0, 7), "an existing file keeps its owner and content");
    let truncated = client.create(root, b"old", 0o600, OWNER, O_WRONLY | O_TRUNC).expect("it is opened");
    assert_eq!(truncated.stat.size, 0);
    client.mkdir(root, b"dir", 0o755, OWNER).expect("mkdir");
    assert_eq!(client.create(root, b"dir", 0o600, OWNER, O_RDWR).err(), Some(Errno::EEXIST));
}

#[test]
fn an_unnamed_file_is_the_owners_and_can_be_named_once_made() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let made = client.create_unnamed(root, 0o640, OWNER, true).expect("the host's file system has it");
    assert_eq!((made.stat.uid, made.stat.gid, made.stat.nlink), (1234, 5678, 0));
    assert_eq!(made.stat.mode, file_type::REGULAR | 0o640);
    std::fs::File::from(made.fd).write_all_at(b"data", 0).expect("it is open for writing");
    assert_eq!(std::fs::read_dir(gofer.path("root")).expect("a directory").count(), 0);
    assert_eq!(client.link(made.node, root, b"named").map(|stat| stat.nlink), Ok(1));
    assert_eq!(std::fs::read(gofer.path("root/named")).expect("it is there"), b"data");
}

#[test]
fn an_unnamed_file_that_may_not_be_named_is_not() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let made = client.create_unnamed(root, 0o600, OWNER, false).expect("the host's file system has it");
    assert_eq!(client.link(made.node, root, b"named").err(), Some(Errno::ENOENT));
    let (ro, _) = client.attach(2).expect("mount 2");
    assert_eq!(client.create_unnamed(ro, 0o600, OWNER, true).err(), Some(Errno::EROFS));
    let (file, _) = client.attach(3).expect("mount 3");
    assert_eq!(client.create_unnamed(file, 0o600, OWNER, true).err(), Some(Errno::ENOTDIR));
    assert_eq!(client.create_unnamed(root, 0o10_000, OWNER, true).err(), Some(Errno::EINVAL));
}

#[test]
fn special_bits_survive_the_change_of_owner() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let file = client.create(root, b"suid", 0o6755, OWNER, O_RDONLY).expect("create");
    assert_eq!((file.stat.mode & 0o7777, file.stat.uid), (0o6755, 1234));
    let (_, dir) = client.mkdir(root, b"tmp", 0o1777, OWNER).expect("mkdir");
    assert_eq!((dir.mode & 0o7777, dir.uid), (0o1777, 1234));
}

#[test]
fn a_set_group_id_directory_hands_its_group_on() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let (dir, made) = client.mkdir(root, b"shared", 0o2775, Ownership { uid: 1, gid: 77 }).expect("mkdir");
    assert_eq!(made.mode & 0o7777, 0o775, "mkdir(2) does not take the bit");
    client.set_attr(dir, SetAttr { mode: Some(0o2775), ..SetAttr::default() }).expect("chmod");
    let file = client.create(dir, b"file", 0o644, OWNER, O_RDONLY).expect("create");
    assert_eq!((file.stat.uid, file.stat.gid, file.stat.mode & 0o7777), (1234, 77, 0o644));
    let (_, sub) = client.mkdir(dir, b"sub", 0o755, OWNER).expect("mkdir");
    assert_eq!((sub.uid, sub.gid, sub.mode & 0o7777), (1234, 77, 0o2755));
    let (_, link) = client.symlink(dir, b"link", b"x", OWNER).expect("symlink");
    assert_eq!((link.uid, link.gid), (1234, 77));
}

#[test]
fn symlinks_fifos_and_sockets_are_made_with_their_owner() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let (link, stat) = client.symlink(root, b"l", b"any/../text", OWNER).expect("symlink");
    assert_eq!((stat.is_symlink(), stat.uid), (true, 1234));
    assert_eq!(client.read_link(link).as_deref(), Ok(&b"any/../text"[..]));
    assert_eq!(client.symlink(root, b"m", &[b'x'; 4096], OWNER).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(client.symlink(root, b"m", b"", OWNER).err(), Some(Errno::ENOENT));
    for (name, kind) in [(b"f", file_type::FIFO), (b"s", file_type::SOCKET), (b"r", file_type::REGULAR)] {
        let (node, stat) = client.mknod(root, name, kind | 0o620, OWNER).expect("mknod");
        assert_eq!((stat.file_type(), stat.mode & 0o777, stat.gid), (kind, 0o620, 5678));
        if kind != file_type::REGULAR {
            assert_eq!(
                client.open(node, O_RDONLY).err(),
                Some(Errno::ENXIO),
                "not opened, so it cannot block"
            );
        }
    }
}

#[test]
fn an_owner_that_is_nobody_is_refused_and_nothing_is_left() {
    let gofer = Gofer::start();
    let nobody = Ownership { uid: u32::MAX, gid: 0 };
    assert_eq!(gofer.client.create(gofer.root(), b"a", 0o600, nobody, O_RDWR).err(), Some(Errno::EINVAL));
    assert_eq!(gofer.client.mkdir(gofer.root(), b"b", 0o700, nobody).err(), Some(Errno::EINVAL));
    assert_eq!(gofer.client.mkdir(gofer.root(), b"c", 0o10_755, OWNER).err(), Some(Errno::EINVAL));
    assert_eq!(std::fs::read_dir(gofer.path("root")).expect("readable").count(), 0);
}

#[test]
fn attributes_are_set_and_told() {
    let gofer = Gofer::start();
    std::fs::write(gofer.path("root/a"), b"0123456789").expect("write");
    let (node, before) = gofer.client.walk(gofer.root(), b"a").expect("it is there");
    let set = |attr| gofer.client.set_attr(node, attr);
    assert_eq!(set(SetAttr::default()).map(|stat| stat.mtime), Ok(before.mtime));
    assert_eq!(set(SetAttr { size: Some(4), ..SetAttr::default() }).map(|stat| stat.size), Ok(4));
    let stat =
        set(SetAttr { uid: Some(7), gid: Some(8), mode: Some(0o4711), ..SetAttr::default() }).expect("set");
    assert_eq!((stat.uid, stat.gid, stat.mode & 0o7777), (7, 8, 0o4711));
    let stat = set(SetAttr { gid: Some(9), ..SetAttr::default() }).expect("set");
    assert_eq!((stat.uid, stat.gid, stat.mode & 0o7777), (7, 9, 0o711), "a new group takes set-user-ID away");

    let at = Time { sec: -5, nsec: 999_999_999 };
    let stat = set(SetAttr { mtime: Some(SetTime::At(at)), ..SetAttr::default() }).expect("set");
    assert_eq!((stat.mtime, stat.atime), (at, before.atime));
    let stat = set(SetAttr { mtime: Some(SetTime::Now), atime: Some(SetTime::At(at)), ..SetAttr::default() });
    assert!(stat.is_ok_and(|stat| stat.atime == at && stat.mtime >= before.mtime));
    assert_eq!(std::fs::metadata(gofer.path("root/a")).expect("it is there").mode() & 0o777, 0o711);

    let late = Time { sec: 0, nsec: 1_000_000_000 };
    assert_eq!(
        set(SetAttr { mtime: Some(SetTime::At(late)), ..SetAttr::default() }).err(),
        Some(Errno::EINVAL)
    );
    assert_eq!(set(SetAttr { mode: Some(0o10_000), ..SetAttr::default() }).err(), Some(Errno::EINVAL));
    assert_eq!(set(SetAttr { uid: Some(u32::MAX), ..SetAttr::default() }).err(), Some(Errno::EINVAL));
    assert_eq!(set(SetAttr { size: Some(u64::MAX), ..SetAttr::default() }).err(), Some(Errno::EINVAL));
    let directory = SetAttr { size: Some(0), ..SetAttr::default() };
    assert_eq!(gofer.client.set_attr(gofer.root(), directory).err(), Some(Errno::EISDIR));
}

#[test]
fn a_symlinks_own_owner_and_times_are_set_not_its_targets() {
    let gofer = Gofer::start();
    std::os::unix::fs::symlink(gofer.path("outside/secret"), gofer.path("root/l")).expect("symlink");
    let (link, _) = gofer.client.walk(gofer.root(), b"l").expect("it is there");
    let at = Time { sec: 1000, nsec: 0 };
    let attr = SetAttr { uid: Some(42), mtime: Some(SetTime::At(at)), ..SetAttr::default() };
    let stat = gofer.client.set_attr(link, attr).expect("set");
    assert_eq!((stat.uid, stat.mtime, stat.is_symlink()), (42, at, true));
    let mode = SetAttr { mode: Some(0o777), ..SetAttr::default() };
    assert_eq!(gofer.client.set_attr(link, mode).err(), Some(Errno::EOPNOTSUPP));
    let secret = std::fs::metadata(gofer.path("outside/secret")).expect("it is there");
    assert_eq!((secret.uid(), secret.permissions().mode() & 0o777), (0, 0o644));
    assert_ne!(secret.mtime(), 1000);
}

#[test]
fn names_are_linked_moved_exchanged_and_removed() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let (one, _) = client.mkdir(root, b"one", 0o755, OWNER).expect("mkdir");
    let (two, _) = client.mkdir(root, b"two", 0o755, OWNER).expect("mkdir");
    let file = client.create(one, b"a", 0o644, OWNER, O_RDWR).expect("create");
    assert_eq!(client.link(file.node, two, b"b").map(|stat| (stat.ino, stat.nlink)), Ok((file.stat.ino, 2)));
    assert_eq!(client.link(file.node, two, b"b").err(), Some(Errno::EEXIST));
    assert_eq!(client.link(one, two, b"c").err(), Some(Errno::EPERM));

    client.rename((one, b"a"), (two, b"c"), 0, None).expect("rename");
    assert_eq!(client.walk(one, b"a").err(), Some(Errno::ENOENT));
    assert_eq!(client.rename((two, b"c"), (two, b"b"), 1, None).err(), Some(Errno::EEXIST));
    client.symlink(two, b"l", b"x", OWNER).expect("symlink");
    client.rename((two, b"l"), (two, b"c"), 2, None).expect("exchange");
    assert!(client.walk(two, b"c").is_ok_and(|(_, stat)| stat.is_symlink()));
    for flags in [3, 4, 8, u32::MAX] {
        assert_eq!(client.rename((two, b"c"), (two, b"d"), flags, None).err(), Some(Errno::EINVAL));
    }
    assert_eq!(client.rename((root, b"two"), (two, b"inside"), 0, None).err(), Some(Errno::EINVAL));

    assert_eq!(client.unlink(root, b"two", false, None).err(), Some(Errno::EISDIR));
    assert_eq!(client.unlink(root, b"two", true, None).err(), Some(Errno::ENOTEMPTY));
    assert_eq!(client.unlink(two, b"c", true, None).err(), Some(Errno::ENOTDIR));
    for name in [b"b", b"c", b"l"] {
        client.unlink(two, name, false, None).expect("unlink");
    }
    client.unlink(root, b"two", true, None).expect("rmdir");
    assert_eq!(client.create(two, b"late", 0o644, OWNER, O_RDWR).err(), Some(Errno::ENOENT));
    assert_eq!(client.stat(file.node).map(|stat| stat.nlink), Ok(0));
}

#[test]
fn a_symlink_is_linked_itself() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let (link, stat) = client.symlink(root, b"l", b"../outside/secret", OWNER).expect("symlink");
    assert_eq!(client.link(link, root, b"m").map(|stat| stat.nlink), Ok(2));
    assert!(client.walk(root, b"m").is_ok_and(|(_, found)| found.ino == stat.ino && found.is_symlink()));
}

#[test]
fn a_node_follows_its_file_through_rename_and_unlink() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let (dir, _) = client.mkdir(root, b"dir", 0o755, OWNER).expect("mkdir");
    let file = client.create(dir, b"a", 0o644, OWNER, O_WRONLY).expect("create");
    std::fs::File::from(file.fd).write_all_at(b"kept", 0).expect("write");
    client.rename((root, b"dir"), (root, b"moved"), 0, None).expect("rename");
    assert!(client.walk(dir, b"a").is_ok());
    client.unlink(dir, b"a", false, None).expect("unlink");
    std::fs::write(gofer.path("root/moved/a"), b"another").expect("write");

    let mut content = String::new();
    let reopened = client.open(file.node, O_RDONLY).expect("an unlinked file opens through its node");
    std::fs::File::from(reopened.fd).read_to_string(&mut content).expect("read");
    assert_eq!((content.as_str(), reopened.stat.nlink), ("kept", 0));
    assert_eq!(
        client.set_attr(file.node, SetAttr { size: Some(1), ..SetAttr::default() }).map(|s| s.size),
        Ok(1)
    );
    assert_eq!(client.link(file.node, dir, b"back").err(), Some(Errno::ENOENT));
}

#[test]
fn a_donated_descriptor_has_the_access_mode_asked_for() {
    let gofer = Gofer::start();
    std::fs::write(gofer.path("root/a"), b"abc").expect("write");
    let (node, _) = gofer.client.walk(gofer.root(), b"a").expect("it is there");
    let open = |flags| gofer.client.open(node, flags).map(|reply| std::fs::File::from(reply.fd));
    assert!(open(O_RDONLY).expect("open").write_at(b"x", 0).is_err());
    assert!(open(O_WRONLY).expect("open").read_at(&mut [0], 0).is_err());
    let both = open(O_RDWR).expect("open");
    assert!(both.write_at(b"x", 0).is_ok() && both.read_at(&mut [0], 0).is_ok());
    assert_eq!(open(O_RDWR | O_TRUNC).expect("open").metadata().expect("stat").len(), 0);
    for flags in [3, 0o100, 0o200, 0o200_000, 0o10_000_000, 1 << 31] {
        assert_eq!(open(flags).err(), Some(Errno::EINVAL), "{flags:o}");
    }
    assert_eq!(gofer.client.open(gofer.root(), O_RDONLY).err(), Some(Errno::EISDIR));
}

#[test]
fn user_attributes_are_kept_and_others_hidden() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let node = client.create(root, b"a", 0o644, OWNER, O_RDONLY).expect("create").node;
    rustix::fs::setxattr(gofer.path("root/a"), "trusted.x", b"1", rustix::fs::XattrFlags::empty())
        .expect("as root");
    assert_eq!(client.list_xattr(node).as_deref(), Ok(&b""[..]));
    client.set_xattr(node, b"user.k", b"value", 1).expect("set");
    assert_eq!(client.set_xattr(node, b"user.k", b"", 1).err(), Some(Errno::EEXIST));
    assert_eq!(client.set_xattr(node, b"user.other", b"", 2).err(), Some(Errno::ENODATA));
    assert_eq!(client.get_xattr(node, b"user.k").as_deref(), Ok(&b"value"[..]));
    assert_eq!(client.list_xattr(node).as_deref(), Ok(&b"user.k\0"[..]));
    assert_eq!(client.get_xattr(node, b"trusted.x").err(), Some(Errno::ENODATA));
    assert_eq!(client.set_xattr(node, b"trusted.x", b"", 0).err(), Some(Errno::EPERM));
    assert_eq!(client.remove_xattr(node, b"trusted.x").err(), Some(Errno::EPERM));
    assert_eq!(client.set_xattr(node, b"security.capability", b"", 0).err(), Some(Errno::EPERM));
    assert_eq!(client.set_xattr(node, b"system.posix_acl_access", b"", 0).err(), Some(Errno::EOPNOTSUPP));
    assert_eq!(client.set_xattr(node, b"", b"", 0).err(), Some(Errno::ERANGE));
    assert_eq!(client.get_xattr(node, &[b'x'; 256]).err(), Some(Errno::ERANGE));
    assert_eq!(client.set_xattr(node, b"user.k", b"", 7).err(), Some(Errno::EINVAL));
    assert_eq!(client.set_xattr(node, b"user.k", &[0; 70_000], 0).err(), Some(Errno::E2BIG));
    client.remove_xattr(node, b"user.k").expect("remove");
    assert_eq!(client.get_xattr(node, b"user.k").err(), Some(Errno::ENODATA));
    // A symlink has none of its own, and its target's are not reached through it.
    let (link, _) = client.symlink(root, b"l", b"a", OWNER).expect("symlink");
    client.set_xattr(node, b"user.k", b"value", 0).expect("set");
    assert!(client.get_xattr(link, b"user.k").is_err());
}

#[test]
fn file_system_figures_and_syncs_are_the_hosts() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let node = client.create(root, b"a", 0o644, OWNER, O_RDWR).expect("create").node;
    let host = rustix::fs::statvfs(gofer.path("root")).expect("statvfs");
    let figures = client.stat_fs(node).expect("statfs");
    assert_eq!(
        (figures.bsize, figures.blocks, figures.namelen),
        (host.f_bsize, host.f_blocks, host.f_namemax)
    );
    assert_ne!(figures.kind, 0);
    assert_eq!(client.fsync(node, false), Ok(()));
    assert_eq!(client.fsync(node, true), Ok(()));
    assert_eq!(client.fsync(root, false), Ok(()));
    assert_eq!(client.sync_fs(root), Ok(()));
    let (fifo, _) = client.mknod(root, b"f", file_type::FIFO | 0o600, OWNER).expect("mknod");
    assert_eq!(client.fsync(fifo, false).err(), Some(Errno::EINVAL));
}
