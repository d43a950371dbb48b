//! Real code before real calls: of glibc, musl, Go and others, as disassembled.

use super::*;

const CALL_AT: u64 = 0x40_1000;

/// Finds a site in `window`, which ends before a call with these registers.
fn found(window: &[u8], regs: &Registers) -> Option<Site> {
    find(window, CALL_AT, regs)
}

/// Where the jump stands before the call, and the number.
fn place(window: &[u8], regs: &Registers) -> Option<(u64, Option<u32>)> {
    found(window, regs).map(|site| (CALL_AT - site.start, site.number))
}

fn call(number: u64) -> Registers {
    Registers { orig_rax: number, ..Registers::default() }
}

#[test]
fn a_moved_number_is_a_site() {
    assert_eq!(place(&[0xb8, 39, 0, 0, 0], &call(39)), Some((5, Some(39))));
    // mov $39,%rax, seven bytes: the jump must stand on its first byte, not on the one that the decoder likes as well.
    let nops_and_wide = [0x90, 0x90, 0x90, 0x48, 0xc7, 0xc0, 39, 0, 0, 0];
    assert_eq!(place(&nops_and_wide, &call(39)), Some((7, Some(39))));
}

#[test]
fn a_number_that_is_not_the_calls_is_no_site() {
    assert_eq!(place(&[0xb8, 39, 0, 0, 0], &call(40)), None);
    // sub $8,%rsp; mov $0xca,%r8d: reading from its second byte gives mov $0xca,%eax.
    let other = [0x48, 0x83, 0xec, 0x08, 0x90, 0x90, 0x41, 0xb8, 0xca, 0, 0, 0];
    assert_eq!(place(&other, &Registers { r8: 0xca, ..call(202) }), Some((6, None)));
    assert_eq!(place(&other, &Registers { r8: 1, ..call(202) }), None);
}

#[test]
fn the_return_from_a_signal_is_left_alone() {
    assert_eq!(place(&[0x90, 0x90, 0x48, 0xc7, 0xc0, 15, 0, 0, 0], &call(15)), None);
}

/// read(2) of glibc 2.36: endbr-less, `cmpb $0,x(%rip); je; xor %eax,%eax`.
const READ: [u8; 16] = [0x66, 0x0f, 0x1f, 0x44, 0, 0, 0x80, 0x3d, 0x31, 0x33, 0x0e, 0, 0, 0x74, 0x17, 0x31];

#[test]
fn read_of_glibc_moves_its_test_and_its_jump() {
    let window: Vec<u8> = READ.iter().copied().chain([0xc0]).collect();
    let site = found(&window, &call(0)).expect("a site");
    assert_eq!((CALL_AT - site.start, site.number), (11, Some(0)));
    let at = CALL_AT + 0x10_0000;
    let made = site.trampoline(at, 0x1122_3344_5566_7788).expect("within reach");
    let behind_test = site.start + 7;
    let flag = behind_test + 0xe_3331;
    assert_eq!(made.code[..2], [0x80, 0x3d]);
    assert_eq!(word(&made.code[2..6]), distance(flag, at + 7));
    assert_eq!(made.code[6..9], [0, 0x0f, 0x84]);
    assert_eq!(word(&made.code[9..13]), distance(site.start + 9 + 0x17, at + 13));
    assert_eq!(made.code[13..18], [0x31, 0xc0, 0x48, 0x8d, 0x0d]);
    assert_eq!(word(&made.code[18..22]), distance(CALL_AT + 2, at + 22));
    assert_eq!(made.code[22..24], [0x49, 0xbb]);
    assert_eq!(made.code[24..32], 0x1122_3344_5566_7788_u64.to_le_bytes());
    assert_eq!(made.code[32..], [0x41, 0xff, 0xe3]);
    let start = site.start;
    assert_eq!(made.origins, [(0, start), (7, start + 7), (13, start + 9), (15, CALL_AT)]);
    let jumps = site.jumps(at).expect("within reach");
    assert_eq!((jumps.len(), jumps[0].0, jumps[0].1[0]), (1, site.start, 0xe9));
    assert_eq!(site.jumps(at + (1 << 31)), None);
    assert_eq!(site.trampoline(at + (1 << 31), 1), None);
}

fn word(bytes: &[u8]) -> i64 {
    i64::from(i32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

fn distance(to: u64, from: u64) -> i64 {
    to.cast_signed() - from.cast_signed()
}

#[test]
fn arguments_reloaded_from_the_stack_are_moved_with_what_follows() {
    // mov 0x18(%rsp),%rdx; mov 0x10(%rsp),%rsi; mov %eax,%r8d; mov 8(%rsp),%edi; xor %eax,%eax
    let window = [
        0x48, 0x8b, 0x54, 0x24, 0x18, 0x48, 0x8b, 0x74, 0x24, 0x10, 0x41, 0x89, 0xc0, 0x8b, 0x7c, 0x24, 0x08,
        0x31, 0xc0,
    ];
    assert_eq!(place(&window, &call(0)), Some((14, Some(0))));
}

#[test]
fn a_number_from_an_argument_is_known_at_the_call_only() {
    // syscall(3) of glibc: mov %r9,%r8; mov 8(%rsp),%r9
    let glibc = [0x4d, 0x89, 0xc2, 0x4d, 0x89, 0xc8, 0x4c, 0x8b, 0x4c, 0x24, 0x08];
    assert_eq!(place(&glibc, &call(3)), Some((5, None)));
    // Go's: mov 8(%rsp),%rax
    let go = [0x48, 0x8b, 0x54, 0x24, 0x20, 0x48, 0x8b, 0x44, 0x24, 0x08];
    assert_eq!(place(&go, &call(3)), Some((5, None)));
    // musl's cancellation point: mov %r11,8(%rsp)
    let musl = [0x4c, 0x8b, 0x4c, 0x24, 0x10, 0x4c, 0x89, 0x5c, 0x24, 0x08];
    assert_eq!(place(&musl, &call(3)), Some((5, None)));
}

#[test]
fn a_jump_into_the_replaced_bytes_is_no_site() {
    // mov $39,%eax; je -4 (into the immediate)
    assert_eq!(place(&[0xb8, 39, 0, 0, 0, 0x74, 0xfc], &call(39)), None);
    // ... to the call itself it is one.
    assert_eq!(place(&[0xb8, 39, 0, 0, 0, 0x74, 0x00], &call(39)), Some((7, Some(39))));
}

#[test]
fn what_cannot_be_moved_ends_the_search() {
    // call; xor %edi,%edi
    assert_eq!(place(&[0xe8, 1, 0, 0, 0, 0x31, 0xff], &call(3)), None);
    // mov $3,%eax; syscall; the next call's own instructions are too short
    assert_eq!(place(&[0xb8, 3, 0, 0, 0, 0x0f, 5, 0x31, 0xc0], &call(0)), None);
    assert_eq!(place(&[], &call(0)), None);
}

#[test]
fn code_that_reads_differently_from_before_is_no_site() {
    // Of movabs $0x0000000027b8.. the middle reads as mov $39,%eax; everything before says that it is not.
    let window = [0x90, 0x90, 0x90, 0x90, 0x49, 0xba, 1, 0, 0, 0xb8, 39, 0, 0, 0];
    assert_ne!(place(&window, &call(39)).map(|site| site.0), Some(5));
}

#[test]
fn moves_of_three_bytes_jump_by_way_of_the_padding() {
    // Go's Syscall6: int3 padding; mov %rsi,%r10; mov %rdi,%rdx; mov %rcx,%rsi; mov %rbx,%rdi
    let moves = [0x49, 0x89, 0xf2, 0x48, 0x89, 0xfa, 0x48, 0x89, 0xce, 0x48, 0x89, 0xdf];
    let padded: Vec<u8> = [0xc3].into_iter().chain([0xcc; 12]).chain(moves).collect();
    let site = found(&padded, &call(1)).expect("a site");
    assert_eq!((CALL_AT - site.start, site.number), (3, None));
    let padding = site.padding.expect("not long enough");
    assert_eq!(padding, CALL_AT - 12 - 5);
    let jumps = site.jumps(CALL_AT + 0x1000).expect("within reach");
    assert_eq!(jumps[1], (site.start, vec![0xeb, 0xf0]));
    assert_eq!((jumps[0].0, jumps[0].1[0]), (padding, 0xe9));
    assert_eq!(word(&jumps[0].1[1..]), distance(CALL_AT + 0x1000, padding + 5));
    assert_eq!(site.written(), (padding, site.start + 1));
    // Padding that is used up is none.
    let mut used = padded;
    used[8..13].copy_from_slice(&[0xe9, 0, 1, 0, 0]);
    assert_eq!(place(&used, &call(1)), None);
    assert_eq!(place(&moves, &call(1)), None);
}
