//! Whose is what a gofer makes, and is anything else ever touched? Nothing may be given away or removed by a name that
//! somebody else may have turned to another file meanwhile.

mod common;

use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Gofer, OWNER};
use gofer_protocol::{Errno, Ownership, file_type};
use rustix::fs::{CWD, RenameFlags, inotify};

const O_RDWR: u32 = 2;
const O_EXCL: u32 = 0o200;

#[test]
fn a_new_file_is_its_owners_from_its_first_moment() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let watch =
        inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).expect("inotify");
    let kinds = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVE;
    inotify::add_watch(&watch, gofer.path("root"), kinds).expect("watch");
    client.mkdir(root, b"dir", 0o1755, OWNER).expect("mkdir");
    client.symlink(root, b"link", b"x", OWNER).expect("symlink");
    client.mknod(root, b"fifo", file_type::FIFO | 0o4620, OWNER).expect("mknod");
    client.mknod(root, b"socket", file_type::SOCKET | 0o600, OWNER).expect("mknod");
    client.create(root, b"file", 0o6755, OWNER, O_RDWR | O_EXCL).expect("create");
    for name in ["dir", "link", "fifo", "socket", "file"] {
        let made = std::fs::symlink_metadata(gofer.path("root").join(name)).expect("it is there");
        assert_eq!((made.uid(), made.gid()), (OWNER.uid, OWNER.gid), "{name}");
    }
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    for name in ["dir", "link", "fifo", "socket", "file"] {
        let event = events.next().expect("an event");
        let seen = event.file_name().map(|name| name.to_string_lossy().into_owned());
        assert_eq!(seen.as_deref(), Some(name), "one event for each, no change of owner or mode: {event:?}");
        assert!(event.events().contains(inotify::ReadFlags::CREATE), "{event:?}");
    }
    assert_eq!(events.next().err(), Some(rustix::io::Errno::AGAIN), "nothing was done to them afterwards");
}

#[test]
fn what_takes_a_new_files_name_is_not_given_away_nor_removed() {
    const ROUNDS: usize = 3000;
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let (secret, name) = (gofer.path("root/secret"), gofer.path("root/x"));
    std::fs::write(&secret, b"root's").expect("write");
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                // Ours under the new name for a moment, and back; whatever is made there meanwhile is removed.
                let swapped = rustix::fs::renameat_with(CWD, &secret, CWD, &name, RenameFlags::EXCHANGE);
                if swapped.is_ok() {
                    std::fs::rename(&name, &secret).or_else(|_| std::fs::remove_dir(&secret)).ok();
                }
            }
        });
        for round in 0..ROUNDS {
            let made = match round % 3 {
                0 => client.mkdir(root, b"x", 0o700, OWNER),
                1 => client.mknod(root, b"x", file_type::FIFO | 0o600, OWNER),
                _ => client.symlink(root, b"x", b"nowhere", OWNER),
            };
            let _ = made.map(|(node, _)| client.close(node));
            let _ = client.unlink(root, b"x", round % 3 == 0, None);
        }
        ends.store(true, Ordering::Relaxed);
    });
    let left = [&secret, &name].into_iter().filter_map(|path| std::fs::symlink_metadata(path).ok());
    for file in left.filter(std::fs::Metadata::is_file) {
        assert_eq!(file.uid(), 0, "root's file was given to somebody");
    }
}

#[test]
fn a_directorys_permissions_do_not_hinder_whom_the_sentry_lets() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let (dir, _) = client.mkdir(root, b"closed", 0o500, Ownership { uid: 7, gid: 7 }).expect("mkdir");
    let made = client.create(dir, b"f", 0o600, OWNER, O_RDWR | O_EXCL).expect("the checks are the sentry's");
    assert_eq!((made.stat.uid, made.stat.gid), (OWNER.uid, OWNER.gid));
    let (_, again) = client.mkdir(root, b"own", 0o700, Ownership { uid: 0, gid: 0 }).expect("mkdir");
    assert_eq!((again.uid, again.gid), (0, 0), "the thread is itself again");
}

#[test]
fn a_new_file_takes_its_directorys_default_access_list() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    // LINUX: posix_acl_xattr: version 2; user::rwx, group::r-x, other::---.
    let entry = |tag: u16, bits: u16| [tag.to_le_bytes(), bits.to_le_bytes(), [0xff; 2], [0xff; 2]].concat();
    let list = [2_u32.to_le_bytes().to_vec(), entry(1, 7), entry(4, 5), entry(0x20, 0)].concat();
    let flags = rustix::fs::XattrFlags::empty();
    match rustix::fs::setxattr(gofer.path("root"), "system.posix_acl_default", &list, flags) {
        Err(rustix::io::Errno::OPNOTSUPP) => return, // a file system without lists
        result => result.expect("set"),
    }
    let made = client.create(root, b"f", 0o666, OWNER, O_RDWR | O_EXCL).expect("create");
    assert_eq!((made.stat.uid, made.stat.mode & 0o777), (OWNER.uid, 0o640));
}

#[test]
fn where_there_is_no_place_nothing_is_made() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    let limit = client.limits().expect("limits").nodes_max;
    let mut held = vec![root];
    while let Ok((node, _)) = client.attach(0) {
        held.push(node);
        assert!(held.len() <= limit as usize);
    }
    assert_eq!(client.mkdir(root, b"d", 0o700, OWNER).err(), Some(Errno::ENFILE));
    assert_eq!(client.symlink(root, b"l", b"x", OWNER).err(), Some(Errno::ENFILE));
    assert_eq!(client.create_unnamed(root, 0o600, OWNER, true).err(), Some(Errno::ENFILE));
    assert_eq!(std::fs::read_dir(gofer.path("root")).expect("readable").count(), 0);
}

#[test]
fn a_name_of_a_sticky_directory_is_its_owners_to_remove() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    if !rustix::process::getuid().is_root() {
        return;
    }
    let someone = Ownership { uid: 1234, gid: 1234 };
    let (dir, _) = client.mkdir(root, b"dir", 0o1777, Ownership { uid: 0, gid: 0 }).expect("mkdir");
    let make = |name: &[u8]| client.mknod(dir, name, file_type::REGULAR | 0o600, someone).expect("mknod");
    let (other, owner) = (Some(4321), Some(someone.uid));
    for name in [b"a", b"b"] {
        make(name);
    }
    assert_eq!(client.unlink(dir, b"a", false, other).err(), Some(Errno::EPERM));
    assert_eq!(client.rename((dir, b"a"), (dir, b"c"), 0, other).err(), Some(Errno::EPERM));
    assert_eq!(client.rename((root, b"dir"), (dir, b"a"), 2, other).err(), Some(Errno::EINVAL));
    // One's own over another's is another's to lose.
    let mine = Ownership { uid: 4321, gid: 4321 };
    client.mknod(dir, b"mine", file_type::REGULAR | 0o600, mine).expect("mknod");
    assert_eq!(client.rename((dir, b"mine"), (dir, b"a"), 0, other).err(), Some(Errno::EPERM));
    client.rename((dir, b"a"), (dir, b"c"), 0, owner).expect("its owner moves it");
    client.unlink(dir, b"c", false, owner).expect("its owner removes it");
    client.unlink(dir, b"b", false, Some(0)).expect("the directory's owner removes it");
    // The thread is above it again.
    make(b"d");
    client.unlink(dir, b"d", false, None).expect("nobody is asked");
    assert_eq!(client.mknod(dir, b"e", file_type::REGULAR, OWNER).map(|_| ()), Ok(()));
}
