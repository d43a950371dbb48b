//! Do arguments and results of all sizes pass between a guest and us, without a remote copy?

use super::platform;
use crate::api::{Exit, MemoryCall};
use crate::guest_tests::{Guest, guest};
use linux_abi::nr;

/// 128 KiB of the guest's memory, and nothing behind.
const AREA: u64 = 0x60_0000;
const AREA_LEN: u64 = 0x2_0000;
/// All that fits in the window.
const LARGE: usize = 0x1_0000;

/// `L: syscall; jmp L`: the test sets number and arguments.
fn caller() -> Guest {
    let mut g = guest(&*platform(), &[0x0f, 5, 0xeb, 0xfc]);
    let map = MemoryCall::MapAnonymous { addr: AREA, len: AREA_LEN, prot: 3, extra_flags: 0 };
    assert_eq!(g.context.memory(map), Ok(AREA));
    g
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn call(g: &mut Guest, number: u64, args: [u64; 3]) {
    (g.regs.rax, g.regs.rdi, g.regs.rsi, g.regs.rdx) = (number, args[0], args[1], args[2]);
    assert_eq!(g.context.run(&mut g.regs), Exit::Syscall);
    assert_eq!(g.regs.orig_rax, number);
}

/// Large arguments come along only when they have been wanted a few times.
fn insist(g: &mut Guest) {
    for _ in 0..4 {
        call(g, nr::WRITE, [1, AREA, LARGE as u64]);
    }
}

#[test]
fn buffers_of_all_sizes_ride_along() {
    let mut g = caller();
    let bytes = pattern(LARGE);
    assert_eq!(g.space.write(AREA, &bytes), LARGE);
    insist(&mut g);
    for len in [1, 2048, 2049, 4096, 5000, LARGE] {
        call(&mut g, nr::WRITE, [1, AREA, len as u64]);
        let mut copy = vec![0; len];
        assert!(g.context.prefetched(AREA, &mut copy), "{len}");
        assert_eq!(copy, bytes[..len]);
        let mut pieces = [(AREA, 1), (AREA + 1, len as u64 - 1)].into_iter();
        let there = g.context.bulk_in(&mut pieces).expect("at hand");
        copy.fill(0);
        there.copy_to(&mut copy);
        assert_eq!(copy, bytes[..len]);
        assert!(!g.context.prefetched(AREA + 1, &mut copy));
    }
    call(&mut g, nr::WRITE, [1, AREA, LARGE as u64 + 1]);
    assert!(!g.context.prefetched(AREA, &mut [0]));
    // Up to the end of what can be read.
    call(&mut g, nr::WRITE, [1, AREA + AREA_LEN - 5000, 6000]);
    assert!(g.context.prefetched(AREA + AREA_LEN - 5000, &mut [0; 5000]));
    assert!(!g.context.prefetched(AREA + AREA_LEN - 5000, &mut [0; 5001]));
    // Another call's arguments are not at hand any more.
    call(&mut g, nr::CLOSE, [1, 2, 3]);
    assert!(!g.context.prefetched(AREA, &mut [0]));
}

#[test]
fn a_first_large_buffer_does_not_ride_along() {
    let mut g = caller();
    call(&mut g, nr::WRITE, [1, AREA, LARGE as u64]);
    assert!(!g.context.prefetched(AREA, &mut [0]));
    assert!(!g.context.holds_memory());
    call(&mut g, nr::WRITE, [1, AREA, 4096]);
    assert!(g.context.prefetched(AREA, &mut [0]) && g.context.holds_memory());
    g.context.trim();
    assert!(!g.context.prefetched(AREA, &mut [0]) && !g.context.holds_memory());
}

#[test]
fn the_pieces_of_a_vector_ride_along_in_order() {
    let mut g = caller();
    let bytes = pattern(LARGE);
    insist(&mut g);
    for len in [10, 700, 3000, 20_000] {
        assert_eq!(g.space.write(AREA + 0x1000, &bytes), LARGE);
        // The second before the first, an empty one, and the first again.
        let pieces = [(len, len), (0, len), (7, 0), (0, len)];
        let vector: Vec<u64> = pieces.iter().flat_map(|(at, len)| [AREA + 0x1000 + at, *len]).collect();
        let vector: Vec<u8> = vector.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(g.space.write(AREA, &vector), vector.len());
        call(&mut g, nr::WRITEV, [1, AREA, 4]);
        let mut copy = vec![0; vector.len()];
        assert!(g.context.prefetched(AREA, &mut copy));
        assert_eq!(copy, vector);
        let wanted = [(AREA + 0x1000 + len, len), (AREA + 0x1000, len)];
        let there = g.context.bulk_in(&mut wanted.into_iter()).expect("at hand");
        let n = usize::try_from(len).unwrap();
        let mut copy = vec![0; 2 * n];
        there.copy_to(&mut copy);
        assert_eq!(copy, [&bytes[n..2 * n], &bytes[..n]].concat());
    }
}

#[test]
fn results_of_all_sizes_are_copied_by_the_stub() {
    let mut g = caller();
    let bytes = pattern(LARGE);
    insist(&mut g);
    let mut back = vec![0; LARGE];
    for len in [1, 3000, 3900, 10_000, LARGE] {
        assert!(g.context.defer_write(AREA + 3, &bytes[..len]), "{len}");
        assert!(g.context.defer_write(AREA + 3 + len as u64, b"and more"));
        call(&mut g, nr::CLOSE, [1, 2, 3]);
        assert_eq!(g.space.read(AREA + 3, &mut back[..len]), len);
        assert_eq!(back[..len], bytes[..len]);
        let mut more = [0; 8];
        assert_eq!(g.space.read(AREA + 3 + len as u64, &mut more), 8);
        assert_eq!(&more, b"and more");
    }
    assert!(!g.context.defer_write(AREA, &[0; LARGE + 1]));
    // In several places, from one room, now.
    let mut room = g.context.bulk_out(LARGE as u64, 3).expect("room");
    room.copy_from(&bytes);
    assert!(g.context.commit_out(AREA + 0x1_0000, 5));
    assert!(g.context.commit_out(AREA, 10_000));
    assert!(!g.context.commit_out(AREA, LARGE as u64));
    assert!(g.context.commit_out(AREA + 0x1_8000, 3));
    assert_eq!(g.context.flush_writes(), Ok(()));
    for (addr, range) in [(AREA + 0x1_0000, 0..5), (AREA, 5..10_005), (AREA + 0x1_8000, 10_005..10_008)] {
        assert_eq!(g.space.read(addr, &mut back[..range.len()]), range.len());
        assert_eq!(back[..range.len()], bytes[range]);
    }
    // What is not committed goes nowhere.
    assert!(g.context.bulk_out(100, 1).is_some());
    assert_eq!(g.context.flush_writes(), Ok(()));
}

#[test]
fn a_large_result_that_cannot_be_written_is_efault() {
    let mut g = caller();
    insist(&mut g);
    assert!(g.context.defer_write(AREA + AREA_LEN - 9000, &[1; 10_000]));
    assert_eq!(g.context.flush_writes(), Err(linux_abi::Errno::EFAULT));
    assert!(g.context.defer_write(AREA, b"then"));
    assert_eq!(g.context.flush_writes(), Ok(()));
    // Nothing that belongs to the stub can be named.
    assert!(!g.context.defer_write(crate::stub::layout::STUB_BASE, &[1; 5000]));
    assert!(g.context.bulk_out(5000, 1).is_some());
    assert!(!g.context.commit_out(crate::stub::layout::SLOTS_BASE, 5000));
}

#[test]
fn results_in_the_window_replace_arguments_there() {
    let mut g = caller();
    insist(&mut g);
    call(&mut g, nr::WRITE, [1, AREA, 5000]);
    assert!(g.context.prefetched(AREA, &mut [0; 5000]));
    assert!(g.context.defer_write(AREA + 0x1_0000, &[1; 5000]));
    assert!(!g.context.prefetched(AREA, &mut [0]));
}
