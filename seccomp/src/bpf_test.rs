//! Does the compiled form agree with the plain meaning of the rules?

use super::{ARCH_X86_64, Action, Cond, Program, SeccompData, Test, Width, X32_BIT, evaluate};

const INTERESTING: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0007,
    0xffff_ffff_0000_0007,
    u64::MAX - 1,
    u64::MAX,
];

fn tests_around(value: u64) -> Vec<Test> {
    vec![
        Test::Eq(value),
        Test::Ne(value),
        Test::Lt(value),
        Test::Le(value),
        Test::Gt(value),
        Test::Ge(value),
        Test::Masked { mask: value, value: value & 0xf },
        Test::Masked { mask: !value, value: 0 },
        Test::In(vec![1, 7, super::lower(value)]),
    ]
}

#[test]
fn every_comparison_agrees_with_its_meaning() {
    for bound in INTERESTING {
        for test in tests_around(bound) {
            for width in [Width::Int, Width::Long] {
                // A masked test of an int may only name low bits; the policy never does otherwise.
                if width == Width::Int
                    && matches!(test, Test::Masked { mask, .. } if mask > u64::from(u32::MAX))
                {
                    continue;
                }
                let cond = Cond { field: super::Field::Arg(3), width, test: test.clone() };
                let code = Program::new(Action::KillProcess)
                    .rule(5, std::slice::from_ref(&cond), Action::Allow)
                    .compile();
                for value in INTERESTING {
                    let data = SeccompData::x86_64(5, [9, 9, 9, value, 9, 9]);
                    let expected = if cond.holds(&data) { Action::Allow } else { Action::KillProcess };
                    assert_eq!(evaluate(&code, &data), expected, "{cond:?} on {value:#x}");
                }
            }
        }
    }
}

#[test]
fn a_tree_of_many_numbers_finds_each_and_only_those() {
    let mut program = Program::new(Action::Errno(38)).first(300);
    for nr in (0..400).step_by(3) {
        program = program.rule(nr, &[], Action::Trap(u16::try_from(nr).unwrap()));
    }
    let code = program.compile();
    for nr in 0..450 {
        let expected = if nr % 3 == 0 && nr < 400 {
            Action::Trap(u16::try_from(nr).unwrap())
        } else {
            Action::Errno(38)
        };
        assert_eq!(evaluate(&code, &SeccompData::x86_64(nr, [0; 6])), expected, "call {nr}");
    }
}

#[test]
fn other_abis_are_killed_whatever_the_rules() {
    let code = Program::new(Action::Allow).rule(0, &[], Action::Allow).compile();
    let i386 = SeccompData { arch: 0x4000_0003, ..SeccompData::default() };
    assert_eq!(evaluate(&code, &i386), Action::KillProcess);
    let x32 = SeccompData { nr: X32_BIT, arch: ARCH_X86_64, ..SeccompData::default() };
    assert_eq!(evaluate(&code, &x32), Action::KillProcess);
    let negative = SeccompData { nr: u32::MAX, arch: ARCH_X86_64, ..SeccompData::default() };
    assert_eq!(evaluate(&code, &negative), Action::KillProcess);
}

#[test]
fn foreign_action_can_be_chosen() {
    let code = Program::new(Action::KillProcess).foreign(Action::Trap(0)).compile();
    let x32 = SeccompData { nr: X32_BIT | 5, arch: ARCH_X86_64, ..SeccompData::default() };
    assert_eq!(evaluate(&code, &x32), Action::Trap(0));
}

#[test]
fn rules_of_one_number_are_tried_in_order() {
    let code = Program::new(Action::KillProcess)
        .rule(9, &[Cond::int(0, Test::Eq(1))], Action::UserNotif)
        .rule(9, &[Cond::int(0, Test::Le(5)), Cond::long(1, Test::Eq(0))], Action::Allow)
        .rule(9, &[Cond::int(0, Test::Eq(9))], Action::Trap(1))
        .compile();
    let answer = |a, b| evaluate(&code, &SeccompData::x86_64(9, [a, b, 0, 0, 0, 0]));
    assert_eq!(answer(1, 0), Action::UserNotif);
    assert_eq!(answer(2, 0), Action::Allow);
    assert_eq!(answer(2, 1 << 40), Action::KillProcess);
    assert_eq!(answer(9, 7), Action::Trap(1));
    assert_eq!(answer(6, 0), Action::KillProcess);
}

#[test]
fn calls_with_the_same_rules_share_their_tests_and_answer_as_before() {
    let range = [Cond::long(0, Test::Lt(100)), Cond::long(1, Test::Ge(7))];
    let other = [Cond::long(0, Test::Lt(50))];
    let with = |numbers: &[u32]| {
        let mut program =
            Program::new(Action::Trap(0)).rule(20, &other, Action::Allow).rule(21, &[], Action::Allow);
        for number in numbers {
            program = program.rule(*number, &range, Action::Allow).rule(*number, &other, Action::UserNotif);
        }
        program.compile()
    };
    let numbers = [3, 9, 10, 40, 41];
    let together = with(&numbers);
    assert!(together.len() < with(&numbers[..1]).len() + 8 * (numbers.len() - 1));
    for nr in 0..45 {
        for a in [0, 49, 50, 99, 100] {
            for b in [6, 7] {
                let expected = match nr {
                    20 if a < 50 => Action::Allow,
                    21 => Action::Allow,
                    nr if numbers.contains(&nr) && a < 100 && b >= 7 => Action::Allow,
                    nr if numbers.contains(&nr) && a < 50 => Action::UserNotif,
                    _ => Action::Trap(0),
                };
                let data = SeccompData::x86_64(nr, [a, b, 0, 0, 0, 0]);
                assert_eq!(evaluate(&together, &data), expected, "{nr}({a}, {b})");
            }
        }
    }
}

#[test]
fn an_instruction_pointer_range_can_be_tested() {
    let range = [Cond::ip(Test::Ge(0x7000_0000_1000)), Cond::ip(Test::Lt(0x7000_0000_2000))];
    let code = Program::new(Action::Trap(0)).rule(39, &range, Action::Allow).compile();
    for (ip, expected) in [
        (0x7000_0000_0fff, Action::Trap(0)),
        (0x7000_0000_1000, Action::Allow),
        (0x7000_0000_1fff, Action::Allow),
        (0x7000_0000_2000, Action::Trap(0)),
        (0x1000, Action::Trap(0)),
    ] {
        let data = SeccompData { instruction_pointer: ip, ..SeccompData::x86_64(39, [0; 6]) };
        assert_eq!(evaluate(&code, &data), expected, "{ip:#x}");
    }
}

#[test]
fn actions_survive_the_trip_through_their_words() {
    for action in [
        Action::Allow,
        Action::Log,
        Action::UserNotif,
        Action::Trace(7),
        Action::Errno(13),
        Action::Trap(3),
        Action::KillThread,
        Action::KillProcess,
    ] {
        assert_eq!(Action::of_word(action.word()), action);
    }
}
