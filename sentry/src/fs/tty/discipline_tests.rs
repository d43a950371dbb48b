//! What a user sees and a program reads, byte by byte.

use super::*;

fn type_in(tty: &mut Discipline, text: &[u8]) -> Vec<Keystroke> {
    text.iter().filter_map(|&byte| tty.input(byte)).collect()
}

fn shown(tty: &mut Discipline) -> String {
    String::from_utf8(tty.take_output(usize::MAX)).unwrap()
}

fn raw() -> Discipline {
    let mut tty = Discipline::default();
    let mut termios = *tty.termios();
    termios.lflag = 0;
    termios.iflag = 0;
    termios.oflag = 0;
    tty.set_termios(termios);
    tty
}

fn with(change: impl FnOnce(&mut Termios)) -> Discipline {
    let mut tty = Discipline::default();
    let mut termios = *tty.termios();
    change(&mut termios);
    tty.set_termios(termios);
    tty
}

#[test]
fn a_line_is_read_when_it_is_complete() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"ls");
    assert_eq!(tty.read(100, 1), None);
    type_in(&mut tty, b"\r");
    assert_eq!(tty.readable_len(), 3);
    assert_eq!(tty.read(100, 1).unwrap(), b"ls\n");
    assert_eq!(shown(&mut tty), "ls\r\n");
}

#[test]
fn a_read_takes_one_line_at_most_and_a_short_read_leaves_the_rest() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"abc\ndef\n");
    assert_eq!(tty.read(2, 1).unwrap(), b"ab");
    assert_eq!(tty.read(100, 1).unwrap(), b"c\n");
    assert_eq!(tty.read(100, 1).unwrap(), b"def\n");
    assert_eq!(tty.read(100, 1), None);
}

#[test]
fn erase_removes_a_character_from_line_and_screen() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"ab\x7fc\n");
    assert_eq!(tty.read(100, 1).unwrap(), b"ac\n");
    assert_eq!(shown(&mut tty), "ab\x08 \x08c\r\n");
}

#[test]
fn erase_removes_both_columns_of_a_control_character() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"\x01\x7f");
    assert_eq!(shown(&mut tty), "^A\x08 \x08\x08 \x08");
}

#[test]
fn erase_removes_a_whole_utf8_character() {
    let mut tty = with(|termios| termios.iflag |= iflag::IUTF8);
    type_in(&mut tty, "xé\x7f\n".as_bytes());
    assert_eq!(tty.read(100, 1).unwrap(), b"x\n");
    assert_eq!(shown(&mut tty), "xé\x08 \x08\r\n");
}

#[test]
fn erase_on_an_empty_line_shows_nothing() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"\x7f\x7f");
    assert_eq!(shown(&mut tty), "");
}

#[test]
fn word_erase_and_kill() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"one two  \x17\n");
    assert_eq!(tty.read(100, 1).unwrap(), b"one \n");
    type_in(&mut tty, b"rubbish\x15ok\n");
    assert_eq!(tty.read(100, 1).unwrap(), b"ok\n");
}

#[test]
fn end_of_file_gives_what_there_is_and_then_nothing() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"ab\x04\x04");
    assert_eq!(tty.read(100, 1).unwrap(), b"ab");
    assert_eq!(tty.read(100, 1).unwrap(), b"");
    assert_eq!(tty.read(100, 1), None);
    assert_eq!(shown(&mut tty), "ab");
}

#[test]
fn interrupt_flushes_and_is_shown() {
    let mut tty = Discipline::default();
    assert_eq!(
        type_in(&mut tty, b"abc\x03\x1c\x1a"),
        [Keystroke::Interrupt, Keystroke::Quit, Keystroke::Suspend]
    );
    type_in(&mut tty, b"\n");
    assert_eq!(tty.read(100, 1).unwrap(), b"\n");
    assert!(shown(&mut tty).starts_with("^Z"));
}

#[test]
fn noflsh_keeps_the_line() {
    let mut tty = with(|termios| termios.lflag |= lflag::NOFLSH);
    type_in(&mut tty, b"ab\x03c\n");
    assert_eq!(tty.read(100, 1).unwrap(), b"abc\n");
}

#[test]
fn a_literal_key_takes_the_meaning_away() {
    let mut tty = Discipline::default();
    assert_eq!(type_in(&mut tty, b"\x16\x03\n"), []);
    assert_eq!(tty.read(100, 1).unwrap(), b"\x03\n");
    assert_eq!(shown(&mut tty), "^\x08^C\r\n");
}

#[test]
fn flow_control_holds_output() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"\x13");
    assert_eq!(tty.output_room(), 0);
    type_in(&mut tty, b"\x11");
    assert!(tty.output_room() > 0);
    assert_eq!(shown(&mut tty), "");
}

#[test]
fn raw_mode_passes_everything() {
    let mut tty = raw();
    assert_eq!(type_in(&mut tty, b"\x03\r\x7f"), []);
    assert_eq!(tty.read(2, 1).unwrap(), b"\x03\r");
    assert_eq!(tty.read(2, 1).unwrap(), b"\x7f");
    assert_eq!(tty.read(2, 1), None);
    assert_eq!(tty.read(2, 0).unwrap(), b"");
    tty.write(b"a\n");
    assert_eq!(shown(&mut tty), "a\n");
}

#[test]
fn raw_mode_waits_for_the_minimum() {
    let mut tty = raw();
    type_in(&mut tty, b"ab");
    assert_eq!(tty.read(10, 3), None);
    type_in(&mut tty, b"c");
    assert_eq!(tty.read(10, 3).unwrap(), b"abc");
}

#[test]
fn leaving_canonical_mode_hands_over_the_unfinished_line() {
    let mut tty = Discipline::default();
    type_in(&mut tty, b"half");
    let mut termios = *tty.termios();
    termios.lflag &= !lflag::ICANON;
    tty.set_termios(termios);
    assert_eq!(tty.read(100, 1).unwrap(), b"half");
}

#[test]
fn output_is_processed() {
    let mut tty = Discipline::default();
    tty.write(b"a\tb\nc");
    assert_eq!(shown(&mut tty), "a\tb\r\nc");
    let mut tty = with(|termios| termios.oflag |= oflag::XTABS);
    tty.write(b"abc\tx\r\tY");
    assert_eq!(shown(&mut tty), "abc     x\r        Y");
}

#[test]
fn no_echo_shows_only_the_line_end_with_echonl() {
    let mut tty = with(|termios| {
        termios.lflag &= !lflag::ECHO;
        termios.lflag |= lflag::ECHONL;
    });
    type_in(&mut tty, b"secret\n");
    assert_eq!(shown(&mut tty), "\r\n");
    assert_eq!(tty.read(100, 1).unwrap(), b"secret\n");
}

#[test]
fn a_line_that_is_too_long_loses_its_end_but_keeps_its_line_end() {
    let mut tty = Discipline::default();
    type_in(&mut tty, &[b'x'; INPUT_MAX + 100]);
    type_in(&mut tty, b"\n");
    let line = tty.read(INPUT_MAX * 2, 1).unwrap();
    assert_eq!((line.len(), line.last()), (INPUT_MAX, Some(&b'\n')));
    tty.take_output(usize::MAX);
}

#[test]
fn nothing_grows_without_a_reader() {
    let mut tty = Discipline::default();
    for _ in 0..100_000 {
        let room = tty.input_room();
        if room == 0 {
            break;
        }
        tty.input(b'\n');
    }
    assert!(tty.ready.len() <= INPUT_MAX);
    let mut tty = raw();
    tty.termios.lflag = lflag::ECHO | lflag::ECHOCTL;
    for _ in 0..100_000 {
        tty.input(3);
    }
    assert!(tty.output.len() <= ECHO_MAX + INPUT_MAX && tty.ready.len() <= INPUT_MAX);
}
