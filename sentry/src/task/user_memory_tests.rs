//! Which pieces of guest memory need a remote copy, and which travel with the call?

use std::sync::Arc;

use linux_abi::mm::{MAP_PRIVATE, MAP_SHARED};
use linux_abi::{Registers, UserPtr};
use platform::AddressSpace;
use platform::fake::FakeSpace;

use super::*;
use crate::fs::pipe;

use crate::mm::{MapRequest, MapTarget, MemoryLimits, MemoryManager};
use crate::testing;
use crate::vfs::OpenFile;

const LEN: u64 = 0x1_0000;

struct World {
    current: Current,
    space: Arc<FakeSpace>,
    area: u64,
}

/// A task with 64 KiB of memory, the first bytes of which come along with every call.
fn world(target: MapTarget, flags: u32) -> World {
    let task = testing::task();
    let (space, mut context) = FakeSpace::with_context();
    let mm = MemoryManager::new(Arc::clone(&space) as Arc<dyn AddressSpace>);
    let request = MapRequest { addr: 0, len: LEN, prot: 3, flags, target };
    let area = mm.mmap(&mut context, &task, request, &MemoryLimits::default()).expect("room");
    context.along = Some((area, b"hello, along".to_vec()));
    let current = Current::new(task, Box::new(context), mm, Registers::default());
    World { current, space, area }
}

fn anonymous() -> World {
    world(MapTarget::Anonymous, MAP_PRIVATE | 0x20)
}

/// What `act` copies remotely.
fn copies(world: &mut World, act: impl FnOnce(&mut Current, u64)) -> usize {
    let before = world.space.remote_copies();
    act(&mut world.current, world.area);
    world.space.remote_copies() - before
}

#[test]
fn results_of_small_calls_need_no_remote_copy() {
    let mut world = anonymous();
    let place = |area: u64, into: u64| UserPtr::<u8>::new(area + into);
    let n = copies(&mut world, |current, area| {
        // As stat, epoll_wait, getdents and readlink answer.
        current.write_user(area + 100, &[1; 144]).expect("writable");
        current.write_user(area + 300, &[2; 12 * 64]).expect("writable");
        current.write_user(area + 4096, &[3; 30_000]).expect("writable");
        let mut sink = current.user_writer(place(area, 50_000), 1).expect("in user space");
        assert_eq!(sink.write(b"x"), Ok(1));
    });
    assert_eq!(n, 0);
    world.current.context_mut().flush_writes().expect("writable");
    let mut back = [0; 2];
    assert_eq!(world.space.read(world.area + 34_095, &mut back), 2);
    assert_eq!(back, [3, 0]);
    assert_eq!(world.space.read(world.area + 50_000, &mut back), 2);
    assert_eq!(&back, b"x\0");
}

#[test]
fn bytes_that_come_along_pass_a_pipe_without_a_remote_copy() {
    let mut world = anonymous();
    let (reader, writer) = pipe::new_pair(world.current.task(), 0);
    let n = copies(&mut world, |current, area| {
        let task = Arc::clone(current.task());
        let mut source = current.user_reader(UserPtr::new(area), 5).expect("in user space");
        assert_eq!(writer.ops.write(&writer.op(&task), &mut source, 0), Ok(5));
        let mut sink = current.user_writer(UserPtr::new(area + 64), 5).expect("in user space");
        assert_eq!(reader.ops.read(&reader.op(&task), &mut sink, 0), Ok(5));
    });
    assert_eq!(n, 0);
    // What has not come along is fetched.
    let n = copies(&mut world, |current, area| assert_eq!(current.read_user(area + 8, &mut [0; 8]), Ok(())));
    assert_eq!(n, 1);
}

#[test]
fn a_large_result_in_a_mapped_file_is_written_at_once() {
    let task = testing::task();
    let location = crate::fs::tmpfs::new_memory_file(&task, b"f", 0o600, 0).expect("room");
    let ops = location.inode().open(&task, &location, 2).expect("a regular file");
    let file = OpenFile::new(ops, location, 2);
    let mut world = world(MapTarget::File { file, offset: 0 }, MAP_SHARED);
    let n = copies(&mut world, |current, area| assert_eq!(current.write_user(area, &[1; 257]), Ok(())));
    assert_eq!(n, 1);
    let n = copies(&mut world, |current, area| assert_eq!(current.write_user(area, &[1; 256]), Ok(())));
    assert_eq!(n, 0);
}
