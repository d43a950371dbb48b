//! What a gofer does not do for anybody: change what is read-only, open devices, cross mounts, speak to strangers.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use common::{Gofer, OWNER};
use gofer_protocol::{Errno, SetAttr, SetTime, file_type};

#[test]
fn a_read_only_mount_refuses_every_change() {
    let gofer = Gofer::start();
    let (client, ro) = (&gofer.client, gofer.client.attach(2).expect("mount 2").0);
    let (file, stat) = client.walk(ro, b"data").expect("it can be read");
    let attr = |attr| client.set_attr(file, attr).err();
    let refused = [
        client.create(ro, b"x", 0o644, OWNER, 0).err(),
        client.create(ro, b"data", 0o644, OWNER, 0).err(),
        client.mkdir(ro, b"x", 0o755, OWNER).err(),
        client.symlink(ro, b"x", b"y", OWNER).err(),
        client.mknod(ro, b"x", file_type::FIFO | 0o600, OWNER).err(),
        client.link(file, ro, b"x").err(),
        client.unlink(ro, b"data", false, None).err(),
        client.unlink(ro, b"x", true, None).err(),
        client.rename((ro, b"data"), (ro, b"x"), 0, None).err(),
        client.open(file, 1).err(),
        client.open(file, 2).err(),
        client.open(file, 0o1000).err(),
        client.set_xattr(file, b"user.k", b"", 0).err(),
        client.remove_xattr(file, b"user.k").err(),
        attr(SetAttr { mode: Some(0o600), ..SetAttr::default() }),
        attr(SetAttr { uid: Some(1), ..SetAttr::default() }),
        attr(SetAttr { size: Some(0), ..SetAttr::default() }),
        attr(SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() }),
    ];
    assert_eq!(refused, [Some(Errno::EROFS); 18]);
    let mut content = String::new();
    let opened = client.open(file, 0).expect("it can be read");
    std::fs::File::from(opened.fd).read_to_string(&mut content).expect("read");
    assert_eq!(content, "fixed");
    assert_eq!(client.stat(file), Ok(stat));
}

#[test]
fn a_read_only_root_refuses_changes_and_volumes_take_them() {
    let gofer = Gofer::start_with(|config, _| config.root_readonly = true);
    assert_eq!(gofer.client.mkdir(gofer.root(), b"x", 0o755, OWNER).err(), Some(Errno::EROFS));
    let volume = gofer.client.attach(1).expect("mount 1").0;
    assert!(gofer.client.mkdir(volume, b"x", 0o755, OWNER).is_ok());
}

#[test]
fn devices_are_neither_made_nor_opened() {
    let gofer = Gofer::start_with(|_, dir| {
        let device = rustix::fs::makedev(1, 5);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("root/zero"), kind, 0o666.into(), device)
            .expect("as root");
    });
    let (client, root) = (&gofer.client, gofer.root());
    for kind in [file_type::CHAR, file_type::BLOCK] {
        assert_eq!(client.mknod(root, b"x", kind | 0o666, OWNER).err(), Some(Errno::EPERM));
    }
    assert_eq!(client.mknod(root, b"x", file_type::DIRECTORY | 0o700, OWNER).err(), Some(Errno::EINVAL));
    let (zero, stat) = client.walk(root, b"zero").expect("it can be seen");
    assert_eq!((stat.file_type(), stat.rdev_major, stat.rdev_minor), (file_type::CHAR, 1, 5));
    assert_eq!(client.open(zero, 0).err(), Some(Errno::ENXIO));
    assert_eq!(client.create(root, b"zero", 0o644, OWNER, 0).err(), Some(Errno::EEXIST));
    assert_eq!(client.fsync(zero, false).err(), Some(Errno::EINVAL));
    assert_eq!(
        client.set_attr(zero, SetAttr { size: Some(0), ..SetAttr::default() }).err(),
        Some(Errno::EINVAL)
    );
}

#[test]
fn nothing_is_linked_or_moved_between_mounts() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let volume = client.attach(1).expect("mount 1").0;
    let file = client.create(root, b"a", 0o644, OWNER, 0).expect("create").node;
    assert_eq!(client.link(file, volume, b"a").err(), Some(Errno::EXDEV));
    assert_eq!(client.rename((root, b"a"), (volume, b"a"), 0, None).err(), Some(Errno::EXDEV));
    let ro = client.attach(2).expect("mount 2").0;
    assert_eq!(client.rename((root, b"a"), (ro, b"a"), 0, None).err(), Some(Errno::EROFS));
    assert_eq!(client.rename((ro, b"data"), (root, b"b"), 0, None).err(), Some(Errno::EROFS));
}

#[test]
fn host_sockets_answer_only_where_the_mount_allows_it() {
    let gofer = Gofer::start();
    let client = &gofer.client;
    let listener = UnixListener::bind(gofer.path("vol/sock")).expect("bind");
    let _hidden = UnixListener::bind(gofer.path("root/sock")).expect("bind");
    let volume = client.attach(1).expect("mount 1").0;
    let (socket, _) = client.walk(volume, b"sock").expect("it is there");

    let ours = client.connect(socket, 1).expect("connect");
    let mut ours = std::os::unix::net::UnixStream::from(ours);
    ours.write_all(b"hi").expect("write");
    drop(ours);
    let mut heard = String::new();
    listener.accept().expect("accept").0.read_to_string(&mut heard).expect("read");
    assert_eq!(heard, "hi");

    assert_eq!(client.connect(socket, 2).err(), Some(Errno::new(91)), "EPROTOTYPE: it is no datagram socket");
    assert_eq!(client.connect(socket, 3).err(), Some(Errno::EINVAL));
    assert_eq!(client.connect(volume, 1).err(), Some(Errno::ECONNREFUSED));
    drop(listener);
    assert_eq!(client.connect(socket, 1).err(), Some(Errno::ECONNREFUSED));
    let (hidden, _) = client.walk(gofer.root(), b"sock").expect("it is there");
    assert_eq!(client.connect(hidden, 1).err(), Some(Errno::EACCES));
}

#[test]
fn a_mount_of_a_single_file_is_that_file() {
    let gofer = Gofer::start();
    let (file, stat) = gofer.client.attach(3).expect("mount 3");
    assert_eq!(stat.size, 6);
    assert_eq!(gofer.client.walk(file, b"x").err(), Some(Errno::ENOTDIR));
    assert_eq!(gofer.client.read_dir(file, 0).err(), Some(Errno::ENOTDIR));
    let opened = std::fs::File::from(gofer.client.open(file, 2).expect("open").fd);
    std::os::unix::fs::FileExt::write_all_at(&opened, b"S", 0).expect("write");
    assert_eq!(std::fs::read(gofer.path("file")).expect("read"), b"Single");
}
