//! Finding files through a gofer, and never anything outside its mounts.

mod common;

use std::os::unix::fs::symlink;

use common::{Gofer, OWNER};
use gofer_protocol::{Errno, Node, file_type};

#[test]
fn attach_gives_the_root_of_each_mount() {
    let gofer = Gofer::start();
    let limits = gofer.client.limits().expect("limits");
    assert_eq!(limits.mounts, 4);
    assert!(limits.nodes_max > 100);
    for mount in 0..3 {
        assert!(gofer.client.attach(mount).expect("it is there").1.is_dir());
    }
    assert!(gofer.client.attach(3).expect("it is there").1.is_regular());
    assert_eq!(gofer.client.attach(4).err(), Some(Errno::ENOENT));
    assert_eq!(gofer.client.attach(u32::MAX).err(), Some(Errno::ENOENT));
}

#[test]
fn walk_finds_a_file_and_its_attributes() {
    let gofer = Gofer::start();
    std::fs::write(gofer.path("root/a"), b"hello").expect("write");
    let (node, stat) = gofer.client.walk(gofer.root(), b"a").expect("it is there");
    assert_eq!((stat.size, stat.file_type(), stat.nlink), (5, file_type::REGULAR, 1));
    assert_eq!(gofer.client.stat(node), Ok(stat));
    assert_eq!(gofer.client.walk(gofer.root(), b"b").err(), Some(Errno::ENOENT));
    assert_eq!(gofer.client.walk(node, b"b").err(), Some(Errno::ENOTDIR));
}

#[test]
fn a_name_that_is_no_component_is_refused_by_every_operation() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    std::fs::write(gofer.path("root/a"), b"").expect("write");
    let (file, _) = client.walk(root, b"a").expect("it is there");
    for name in [&b""[..], b".", b"..", b"/", b"a/", b"/etc", b"../outside", b"x\0y", b"a/../../outside"] {
        let refused = [
            client.walk(root, name).err(),
            client.create(root, name, 0o644, OWNER, 2).err(),
            client.mkdir(root, name, 0o755, OWNER).err(),
            client.symlink(root, name, b"target", OWNER).err(),
            client.mknod(root, name, file_type::FIFO | 0o644, OWNER).err(),
            client.link(file, root, name).err(),
            client.unlink(root, name, false, None).err(),
            client.unlink(root, name, true, None).err(),
            client.rename((root, name), (root, b"new"), 0, None).err(),
            client.rename((root, b"a"), (root, name), 0, None).err(),
        ];
        assert_eq!(refused, [Some(Errno::EINVAL); 10], "{name:?}");
    }
    assert_eq!(client.walk(root, &[b'x'; 256]).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(client.mkdir(root, &[b'x'; 256], 0o755, OWNER).err(), Some(Errno::ENAMETOOLONG));
    assert!(client.mkdir(root, &[b'x'; 255], 0o755, OWNER).is_ok());
    assert_eq!(std::fs::read_dir(gofer.dir.path()).expect("readable").count(), 5, "nothing was made outside");
}

#[test]
fn walk_many_resolves_components_and_says_why_it_stops() {
    let gofer = Gofer::start();
    std::fs::create_dir_all(gofer.path("root/a/b")).expect("mkdir");
    std::fs::write(gofer.path("root/a/b/c"), b"").expect("write");
    symlink("b", gofer.path("root/a/link")).expect("symlink");
    let (client, root) = (&gofer.client, gofer.root());

    let all = client.walk_many(root, &[b"a", b"b", b"c"]).expect("walk");
    assert_eq!((all.nodes.len(), all.stopped), (3, None));
    assert!(all.nodes[2].1.is_regular());

    let missing = client.walk_many(root, &[b"a", b"x", b"c"]).expect("walk");
    assert_eq!((missing.nodes.len(), missing.stopped), (1, Some(Errno::ENOENT)));

    let link = client.walk_many(root, &[b"a", b"link", b"c"]).expect("walk");
    assert_eq!((link.nodes.len(), link.stopped), (2, None));
    assert!(link.nodes[1].1.is_symlink());

    let file = client.walk_many(root, &[b"a", b"b", b"c", b"d"]).expect("walk");
    assert_eq!((file.nodes.len(), file.stopped), (3, None));

    let dots = client.walk_many(root, &[b"a", b"..", b"..", b"outside"]).expect("walk");
    assert_eq!((dots.nodes.len(), dots.stopped), (1, Some(Errno::EINVAL)));

    assert_eq!(client.walk_many(root, &[]).err(), Some(Errno::EINVAL));
    assert_eq!(client.walk_many(root, &[&b"a"[..]; 65]).err(), Some(Errno::EINVAL));
}

#[test]
fn a_symlink_is_itself_and_never_followed() {
    let gofer = Gofer::start();
    symlink("../outside", gofer.path("root/out")).expect("symlink");
    symlink("/proc/self/root", gofer.path("root/magic")).expect("symlink");
    let (client, root) = (&gofer.client, gofer.root());
    let (out, stat) = client.walk(root, b"out").expect("it is there");
    assert!(stat.is_symlink());
    assert_eq!(client.read_link(out).as_deref(), Ok(&b"../outside"[..]));
    assert_eq!(client.walk(out, b"secret").err(), Some(Errno::ENOTDIR));
    assert_eq!(client.open(out, 0).err(), Some(Errno::ELOOP));
    assert_eq!(client.mkdir(out, b"x", 0o755, OWNER).err(), Some(Errno::ENOTDIR));
    assert_eq!(client.read_dir(out, 0).err(), Some(Errno::ENOTDIR));
    // Naming the symlink as the file to create opens nothing behind it.
    assert_eq!(client.create(root, b"out", 0o644, OWNER, 1).err(), Some(Errno::EEXIST));
    let (magic, _) = client.walk(root, b"magic").expect("it is there");
    assert_eq!(client.open(magic, 0).err(), Some(Errno::ELOOP));
    assert_eq!(client.read_link(root).err(), Some(Errno::EINVAL));
}

#[test]
fn a_handle_closed_or_never_given_is_stale() {
    let gofer = Gofer::start();
    let (client, root) = (&gofer.client, gofer.root());
    assert!(client.stat(root).is_ok());
    client.close(root);
    client.flush_closes();
    assert_eq!(gofer.client.limits().map(|limits| limits.mounts), Ok(4), "the close has been served");
    assert_eq!(client.stat(root).err(), Some(Errno::ESTALE));
    for node in [Node(0), Node(u64::MAX)] {
        assert_eq!(client.stat(node).err(), Some(Errno::ESTALE));
        assert_eq!(client.walk(node, b"a").err(), Some(Errno::ESTALE));
        assert_eq!(client.open(node, 0).err(), Some(Errno::ESTALE));
        assert_eq!(client.link(node, node, b"a").err(), Some(Errno::ESTALE));
    }
}

#[test]
fn files_of_one_host_file_system_share_their_device_number() {
    let gofer = Gofer::start();
    std::fs::write(gofer.path("root/a"), b"").expect("write");
    std::fs::hard_link(gofer.path("root/a"), gofer.path("vol/a")).expect("link");
    let (_, here) = gofer.client.walk(gofer.root(), b"a").expect("it is there");
    let volume = gofer.client.attach(1).expect("mount 1").0;
    let (_, there) = gofer.client.walk(volume, b"a").expect("it is there");
    assert_eq!((here.dev, here.ino), (there.dev, there.ino));
    assert!(here.dev >= 1);
}

#[test]
fn a_large_directory_comes_in_pages_complete_and_without_dots() {
    const FILES: usize = 5000;
    let gofer = Gofer::start();
    std::fs::create_dir(gofer.path("root/d")).expect("mkdir");
    for index in 0..FILES {
        std::fs::write(gofer.path(&format!("root/d/file-with-a-longer-name-{index:05}")), b"")
            .expect("write");
    }
    let (dir, _) = gofer.client.walk(gofer.root(), b"d").expect("it is there");
    for _ in 0..2 {
        let mut names = Vec::new();
        let (mut cookie, mut pages, mut is_over) = (0, 0, false);
        loop {
            let page = gofer.client.read_dir(dir, cookie).expect("page");
            assert!(!is_over || page.is_empty(), "more behind the last");
            let Some((last, others)) = page.split_last() else { break };
            assert!(others.iter().all(|entry| !entry.is_last));
            (cookie, is_over) = (last.cookie, last.is_last);
            pages += 1;
            assert!(page.iter().all(|entry| entry.kind == 8 && entry.ino != 0));
            names.extend(page.into_iter().map(|entry| entry.name));
        }
        assert!(is_over, "the last entry did not say so");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), FILES);
        assert!(pages > 1);
        assert_eq!(names[0], b"file-with-a-longer-name-00000");
    }
}

#[test]
fn removing_while_listing_skips_nothing() {
    const FILES: usize = 4000;
    let gofer = Gofer::start();
    for index in 0..FILES {
        std::fs::write(gofer.path(&format!("root/file-with-a-longer-name-{index:05}")), b"").expect("write");
    }
    let root = gofer.root();
    let (mut cookie, mut seen) = (0, 0);
    loop {
        let page = gofer.client.read_dir(root, cookie).expect("page");
        let Some(last) = page.last() else { break };
        cookie = last.cookie;
        for entry in &page {
            gofer.client.unlink(root, &entry.name, false, None).expect("unlink");
        }
        seen += page.len();
    }
    assert_eq!(seen, FILES);
    assert!(gofer.client.read_dir(root, 0).expect("page").is_empty());
}
