//! Content, limits, seals and options of a tmpfs.

use std::sync::Arc;

use super::content::{Content, seal};
use super::{Options, Shared};
use crate::Errno;
use crate::account::{Accounts, work_for};
use crate::descriptors::Descriptors;
use crate::io::VecSink;

fn content(size: u64, seals: u32) -> (Arc<Shared>, Content) {
    let descriptors = Descriptors::new(1 << 20).share("test");
    let shared = Shared::new(1, Options { size, ..Options::unlimited() }, descriptors);
    let content = Content::new(Arc::clone(&shared), seals);
    (shared, content)
}

fn read(content: &Content, offset: u64, len: usize) -> Vec<u8> {
    let mut sink = VecSink::new(len);
    content.read(&mut sink, offset).expect("can be read");
    sink.bytes
}

#[test]
fn small_content_survives_the_move_to_a_memory_file() {
    let (_, content) = content(1 << 30, seal::SEAL);
    assert_eq!(content.write(&mut &b"abc"[..], Some(1), u64::MAX).map(|(n, _)| n), Ok(3));
    assert_eq!(read(&content, 0, 10), b"\0abc");
    let big = vec![b'x'; 600_000];
    assert_eq!(content.write(&mut big.as_slice(), None, u64::MAX).map(|(n, _)| n), Ok(big.len()));
    assert_eq!(content.size_and_blocks().0, 600_004);
    assert_eq!(read(&content, 0, 6), b"\0abcxx");
    assert_eq!(read(&content, 4, 700_000), big);
    content.truncate(2).expect("can shrink");
    content.truncate(4).expect("can grow");
    assert_eq!(read(&content, 0, 10), b"\0a\0\0");
}

#[test]
fn a_full_file_system_takes_no_more() {
    let (shared, content) = content(8192, seal::SEAL);
    assert_eq!(content.write(&mut vec![1; 10_000].as_slice(), Some(0), u64::MAX).map(|(n, _)| n), Ok(8192));
    assert_eq!(content.write(&mut &b"x"[..], None, u64::MAX).map(|(n, _)| n), Err(Errno::ENOSPC));
    assert_eq!(content.write(&mut &b"x"[..], Some(100), u64::MAX).map(|(n, _)| n), Ok(1));
    assert_eq!(shared.free_bytes(), 0);
    content.truncate(1).expect("can shrink");
    assert_eq!(shared.free_bytes(), 4096);
    drop(content);
    assert_eq!(shared.free_bytes(), 8192);
}

#[test]
fn holes_cost_nothing() {
    let (shared, content) = content(1 << 20, seal::SEAL);
    content.truncate(1 << 30).expect("a hole");
    assert_eq!(content.size_and_blocks(), (1 << 30, 0));
    assert_eq!(content.write(&mut &b"x"[..], Some(1 << 29), u64::MAX).map(|(n, _)| n), Ok(1));
    assert_eq!(shared.free_bytes(), (1 << 20) - 4096);
    assert_eq!(content.seek_sparse(true, 0), Ok(1 << 29));
    assert_eq!(content.seek_sparse(false, 1 << 29), Ok((1 << 29) + 4096));
    assert_eq!(content.seek_sparse(true, 1 << 30), Err(Errno::ENXIO));
    content.allocate(3, 1 << 29, 4096).expect("a hole is punched");
    assert_eq!(shared.free_bytes(), 1 << 20);
}

#[test]
fn whoever_mounted_it_pays_for_what_is_held_for_holes() {
    let account = Accounts::default().of("a");
    account.set_limits(64 << 10, 0);
    let working = work_for(&account);
    let (shared, content) = content(1 << 20, seal::SEAL);
    drop(working);
    let check = |held: u64, blocks: u64| {
        assert_eq!((account.used(), content.size_and_blocks().1), (held, blocks));
    };
    content.truncate(16384).expect("a hole");
    check(16384, 0);
    assert_eq!(content.write(&mut &b"x"[..], Some(16383), u64::MAX).map(|(n, _)| n), Ok(1));
    check(16384, 8);
    assert_eq!(content.write(&mut vec![1; 16384].as_slice(), Some(0), u64::MAX).map(|(n, _)| n), Ok(16384));
    check(16384, 32);
    content.truncate(1).expect("can shrink");
    check(4096, 8);
    content.truncate(0).expect("can shrink");
    check(0, 0);
    let taken = account.charge(60 << 10).expect("room");
    assert_eq!(content.truncate(8192), Err(Errno::ENOSPC));
    assert_eq!((account.used(), content.size_and_blocks()), (60 << 10, (0, 0)));
    drop(taken);
    content.truncate(1 << 30).expect("a hole in a memory file");
    assert!(account.used() > 0 && content.size_and_blocks() == (1 << 30, 0));
    drop(content);
    assert_eq!((account.used(), shared.free_bytes()), (0, 64 << 10));
}

#[test]
fn seals_hold() {
    let (_, content) = content(1 << 20, 0);
    assert_eq!(content.write(&mut &b"data"[..], None, u64::MAX).map(|(n, _)| n), Ok(4));
    content.add_seals(seal::GROW | seal::SHRINK).expect("may be sealed");
    assert_eq!(content.truncate(5), Err(Errno::EPERM));
    assert_eq!(content.truncate(3), Err(Errno::EPERM));
    assert_eq!(content.write(&mut &b"DATA!"[..], Some(0), u64::MAX).map(|(n, _)| n), Err(Errno::EPERM));
    assert_eq!(content.write(&mut &b"DATA"[..], Some(0), u64::MAX).map(|(n, _)| n), Ok(4));
    assert_eq!(content.write(&mut &b"x"[..], None, u64::MAX).map(|(n, _)| n), Err(Errno::EPERM));
    content.add_seals(seal::WRITE | seal::SEAL).expect("may be sealed");
    assert_eq!(content.write(&mut &b"x"[..], Some(0), u64::MAX).map(|(n, _)| n), Err(Errno::EPERM));
    assert!(content.map(true).is_err());
    assert!(content.map(false).is_ok());
    assert_eq!(content.add_seals(seal::WRITE), Err(Errno::EPERM));
}

#[test]
fn options_are_parsed_as_in_mount() {
    let parse = |text: &str| Options::new(1 << 30).parse(text, 1 << 30);
    assert_eq!(parse("").expect("none").size, 1 << 29);
    let options = parse("size=64m,mode=755,uid=5,nr_inodes=1k").expect("known");
    assert_eq!((options.size, options.mode, options.uid, options.nodes), (64 << 20, 0o755, 5, 1024));
    assert_eq!(parse("size=50%").expect("known").size, (1 << 30) / 100 * 50 / 4096 * 4096 + 4096);
    assert_eq!(parse("size=1q").err(), Some(Errno::EINVAL));
    assert_eq!(parse("colour=red").err(), Some(Errno::EINVAL));
}
