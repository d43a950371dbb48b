//! Every value of what the filters list, one by one, in the interpreter.

use seccomp::bpf::{SeccompData, evaluate};

use super::*;

/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;
/// Guest code, and the stub's.
const GUEST: u64 = 0x40_0000;
const STUB: u64 = STUB_BASE + 0x100;
/// A place of the guest's, and how much of it.
const PLACE: (u64, u64) = (0x7000_0000, 0x1000);

fn answers(program: &[sock_filter], call: u64, ip: u64, args: [u64; 6]) -> bool {
    let data = SeccompData { nr: number(call), arch: ARCH, instruction_pointer: ip, args };
    evaluate(program, &data) == Action::Allow
}

fn guests() -> Vec<sock_filter> {
    guest(Natives { futex: true, clock: true })
}

/// Small numbers with each higher bit, for words of 32 bits or of 64.
fn values(bits: u32) -> impl Iterator<Item = u64> {
    (0..1024).chain((10..bits).flat_map(|bit| (0..16).map(move |low| 1 << bit | low)))
}

#[test]
fn the_host_hears_of_listed_advice_only() {
    let (program, agent) = (guests(), agent());
    for advice in values(32) {
        let args = [PLACE.0, PLACE.1, advice, 0, 0, 0];
        let listed = matches!(advice, 0..=4 | 8..=11 | 14 | 15 | 18..=24);
        assert_eq!(answers(&program, nr::MADVISE, STUB, args), listed, "{advice}");
        assert_eq!(answers(&agent, nr::MADVISE, STUB, args), listed, "{advice}");
        assert!(!answers(&program, nr::MADVISE, GUEST, args), "{advice}");
        assert_eq!(is_host_advice(u32::try_from(advice).expect("32 bits")), listed);
    }
}

#[test]
fn futexes_are_listed_and_waits_are_the_stubs() {
    let (program, agent) = (guests(), agent());
    let without = guest(Natives { futex: false, clock: true });
    for operation in values(32) {
        let args = [PLACE.0, operation, 0, 0, 0, 0];
        let waits = matches!(operation & !128, 0 | 9 | 0x109);
        let prompt = matches!(operation & !128, 1 | 3 | 4 | 5 | 10);
        assert_eq!(answers(&program, nr::FUTEX, STUB, args), waits || prompt, "{operation:#x}");
        assert_eq!(answers(&program, nr::FUTEX, GUEST, args), prompt, "{operation:#x}");
        assert_eq!(answers(&without, nr::FUTEX, STUB, args), waits || prompt, "{operation:#x}");
        assert!(!answers(&without, nr::FUTEX, GUEST, args), "{operation:#x}");
        assert_eq!(answers(&agent, nr::FUTEX, STUB, args), waits || prompt, "{operation:#x}");
        assert_eq!(is_futex_wait(nr::FUTEX, 7 << 32 | operation), waits, "{operation:#x}");
        assert_eq!(is_host_futex(u32::try_from(operation).expect("32 bits")), waits || prompt);
    }
}

#[test]
fn futexes_of_the_second_kind_do_not_reach_the_host() {
    let (program, agent) = (guests(), agent());
    // futex_waitv, futex_wake, futex_wait, futex_requeue.
    for call in [449, 454, 455, 456] {
        for ip in [GUEST, STUB] {
            assert!(!answers(&program, call, ip, [0; 6]) && !answers(&agent, call, ip, [0; 6]), "{call}");
        }
    }
}

#[test]
fn a_mapping_is_moved_in_place_or_to_a_place_that_is_named() {
    let (program, agent) = (guests(), agent());
    for flags in values(64) {
        let args = [PLACE.0, PLACE.1, PLACE.1, flags, PLACE.0 + 0x10_0000, 0];
        let listed = matches!(flags, 0 | 3 | 7);
        assert_eq!(answers(&program, nr::MREMAP, STUB, args), listed, "{flags:#x}");
        assert_eq!(answers(&agent, nr::MREMAP, STUB, args), listed, "{flags:#x}");
    }
}

#[test]
fn what_is_mapped_natively_is_private_fixed_and_does_not_grow() {
    let program = guests();
    let plain = u64::from((libc::MAP_NORESERVE | libc::MAP_STACK | libc::MAP_POPULATE).cast_unsigned());
    let growing = u64::from(libc::MAP_GROWSDOWN.cast_unsigned());
    for flags in values(64).chain([plain | 0x32, growing | 0x32]) {
        let args = [PLACE.0, PLACE.1, 3, flags, u64::MAX, 0];
        assert_eq!(answers(&program, nr::MMAP, STUB, args), flags & !plain == 0x32, "{flags:#x}");
    }
    for prot in values(64) {
        let mapped = [PLACE.0, PLACE.1, prot, 0x32, u64::MAX, 0];
        assert_eq!(answers(&program, nr::MMAP, STUB, mapped), prot <= 7, "{prot:#x}");
        let protected = [PLACE.0, PLACE.1, prot, 0, 0, 0];
        assert_eq!(answers(&program, nr::MPROTECT, STUB, protected), prot <= 7, "{prot:#x}");
    }
}

#[test]
fn a_wait_that_the_host_resumes_is_resumed_in_the_stub_only() {
    let program = guests();
    assert!(answers(&program, nr::RESTART_SYSCALL, STUB, [0; 6]));
    assert!(!answers(&program, nr::RESTART_SYSCALL, GUEST, [0; 6]));
}
