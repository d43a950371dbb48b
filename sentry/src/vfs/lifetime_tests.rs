//! What a name held goes with the name, and the cache of entries keeps within its budget; tried on a tmpfs.

use std::sync::{Arc, Weak};

use super::dentry_cache::ENTRIES_MAX;
use super::open_flags::{O_CREAT, O_WRONLY};
use super::{Caller, Dentry, How, Inode, Lookup, OpenFile, RENAME_EXCHANGE};
use crate::Errno;
use crate::task::Task;
use crate::testing;

fn open(task: &Arc<Task>, path: &str) -> Arc<OpenFile> {
    let how = How { flags: O_CREAT | O_WRONLY, mode: 0o644, ..How::default() };
    Caller::of(task).open(&task.fs().cwd(), path.as_bytes(), how).expect("can be made")
}

fn mkdir(task: &Arc<Task>, path: &str) {
    Caller::of(task).mkdir(&task.fs().cwd(), path.as_bytes(), 0o777).expect("can be made");
}

fn rename(task: &Arc<Task>, old: &str, new: &str, flags: u32) {
    let cwd = task.fs().cwd();
    Caller::of(task).rename((&cwd, old.as_bytes()), (&cwd, new.as_bytes()), flags).expect("can be renamed");
}

fn unlink(task: &Arc<Task>, path: &str) {
    Caller::of(task).unlink(&task.fs().cwd(), path.as_bytes()).expect("can be removed");
}

fn rmdir(task: &Arc<Task>, path: &str) {
    Caller::of(task).rmdir(&task.fs().cwd(), path.as_bytes()).expect("can be removed");
}

fn dentry(task: &Arc<Task>, path: &str) -> Arc<Dentry> {
    let found = Caller::of(task).resolve(&task.fs().cwd(), path.as_bytes(), Lookup::empty());
    found.expect("is there").dentry
}

fn inode(task: &Arc<Task>, path: &str) -> Weak<dyn Inode> {
    Arc::downgrade(dentry(task, path).inode())
}

fn is_absent(task: &Arc<Task>, path: &str) {
    let found = Caller::of(task).resolve(&task.fs().cwd(), path.as_bytes(), Lookup::empty());
    assert_eq!(found.err(), Some(Errno::ENOENT));
}

#[test]
fn a_removed_file_goes_with_its_last_user() {
    let task = testing::task();
    drop(open(&task, "/closed"));
    let closed = inode(&task, "/closed");
    unlink(&task, "/closed");
    assert!(closed.upgrade().is_none());

    let file = open(&task, "/open");
    let held = inode(&task, "/open");
    unlink(&task, "/open");
    assert!(held.upgrade().is_some());
    drop(file);
    assert!(held.upgrade().is_none());
}

#[test]
fn a_replaced_file_goes_and_an_exchanged_one_stays() {
    let task = testing::task();
    drop((open(&task, "/new"), open(&task, "/old")));
    let (new, old) = (inode(&task, "/new"), inode(&task, "/old"));
    rename(&task, "/new", "/old", RENAME_EXCHANGE);
    assert!(Weak::ptr_eq(&inode(&task, "/old"), &new));
    rename(&task, "/new", "/old", 0);
    assert!(new.upgrade().is_none() && Weak::ptr_eq(&inode(&task, "/old"), &old));
}

#[test]
fn a_file_with_another_name_stays() {
    let task = testing::task();
    drop(open(&task, "/a"));
    let file = inode(&task, "/a");
    let caller = Caller::of(&task);
    let cwd = task.fs().cwd();
    let from = caller.resolve(&cwd, b"/a", Lookup::empty()).expect("is there");
    caller.link(&from, &cwd, b"/b").expect("can be linked");
    drop((caller, from));
    unlink(&task, "/a");
    assert!(Weak::ptr_eq(&inode(&task, "/b"), &file));
    unlink(&task, "/b");
    assert!(file.upgrade().is_none());
}

#[test]
fn a_removed_directory_goes_with_the_names_it_knows_to_be_absent() {
    let task = testing::task();
    let absent = || task.kernel.vfs.dentries.absent().load(std::sync::atomic::Ordering::Relaxed);
    let before = absent();
    for round in 0..100 {
        let dir = format!("/d{round}");
        mkdir(&task, &dir);
        (0..10).for_each(|name| is_absent(&task, &format!("{dir}/{name}")));
        let node = inode(&task, &dir);
        rmdir(&task, &dir);
        assert!(node.upgrade().is_none());
    }
    // The root knows a hundred more.
    assert!(absent() - before <= 100, "{}", absent() - before);
}

#[test]
fn absent_names_have_one_limit_for_all_directories() {
    let task = testing::task();
    let absent = || task.kernel.vfs.dentries.absent().load(std::sync::atomic::Ordering::Relaxed);
    for dir in 0..100 {
        mkdir(&task, &format!("/d{dir}"));
        (0..400).for_each(|name| is_absent(&task, &format!("/d{dir}/{name}")));
        assert!(absent() <= ENTRIES_MAX);
    }
    assert!(absent() > ENTRIES_MAX / 2);
    (0..100).for_each(|dir| rmdir(&task, &format!("/d{dir}")));
    assert!(absent() <= 512, "{}", absent());
}

#[test]
fn the_cache_keeps_within_its_budget_and_gives_up_what_is_asked_for() {
    let task = testing::task();
    let cache = &task.kernel.vfs.dentries;
    for file in 0..ENTRIES_MAX + 100 {
        drop(open(&task, &format!("/{file}")));
    }
    assert_eq!(cache.len(), ENTRIES_MAX);
    let used = Arc::downgrade(&dentry(&task, &format!("/{}", ENTRIES_MAX - 1)));
    assert!(cache.shrink());
    assert_eq!(cache.len(), ENTRIES_MAX - ENTRIES_MAX / 4);
    assert!(used.upgrade().is_some(), "what was used lately stays longer");
    while cache.shrink() {}
    assert_eq!((cache.len(), used.strong_count()), (0, 0));
    assert!(open(&task, "/7").location.inode().stat().is_ok());
}

#[test]
fn a_tree_leaves_the_cache_with_its_last_mount() {
    let task = testing::task();
    drop(open(&task, "/f"));
    let cache = Arc::clone(&task.kernel.vfs.dentries);
    let file = inode(&task, "/f");
    assert_eq!(cache.len(), 1);
    let root = Arc::downgrade(&task.fs().root().mount);
    drop(task);
    assert!(root.upgrade().is_none() && file.upgrade().is_none() && cache.is_empty());
}
