//! What happens to bytes between a keyboard and a program? The line discipline, `termios(3)`; LINUX: drivers/tty/n_tty.c.
//!
//! Key types: [`Discipline`], [`Keystroke`] (what a byte of input asks for besides being read). Pure: no locks, no tasks.
//!
//! ```text
//! master write ──> input() ──> edited line ──(end of line)──> ready lines ──> read() ──> slave read
//!                     └ echo ──┐
//! slave write  ──> write() ────┴──> output ──> take_output() ──> master read
//! ```

use std::collections::VecDeque;

use linux_abi::tty::{Termios, cc, iflag, lflag, oflag};

/// Longest line, and most bytes that wait to be read. LINUX: `N_TTY_BUF_SIZE`; what a line has beyond is dropped.
pub const INPUT_MAX: usize = 4096;
/// Output that waits for the master; a writer waits when there is more. Echo may go over it by one line's worth.
pub const OUTPUT_MAX: usize = 16 << 10;
/// No echo beyond this.
const ECHO_MAX: usize = OUTPUT_MAX + INPUT_MAX;
/// Most bytes of a terminal in either direction.
pub const BUFFERS_MAX: usize = INPUT_MAX + ECHO_MAX;
/// The control character that is none: `_POSIX_VDISABLE`.
const DISABLED: u8 = 0;
const TAB: usize = 8;

/// What a byte of input asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keystroke {
    /// SIGINT for the foreground group.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTSTP.
    Suspend,
}

/// A terminal's line discipline.
#[derive(Debug, Default)]
pub struct Discipline {
    termios: Termios,
    /// The line that is being edited (canonical mode).
    line: Vec<u8>,
    /// Finished input.
    ready: VecDeque<u8>,
    /// Lengths of finished lines in `ready`; 0 is an end of file. Empty in raw mode.
    lines: VecDeque<usize>,
    output: VecDeque<u8>,
    /// The output's column.
    column: usize,
    /// The column where the edited line begins.
    line_column: usize,
    /// `^S`: output waits.
    is_stopped: bool,
    /// `^V` was typed: the next byte means nothing special.
    is_literal: bool,
}

impl Discipline {
    /// The settings.
    #[must_use]
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the settings. Leaving canonical mode makes what has been typed readable; LINUX: `n_tty_set_termios`.
    pub fn set_termios(&mut self, termios: Termios) {
        let was_canonical = self.has(lflag::ICANON);
        self.termios = termios;
        if was_canonical && !self.has(lflag::ICANON) {
            self.ready.extend(self.line.drain(..));
            self.lines.clear();
        } else if !was_canonical && self.has(lflag::ICANON) && !self.ready.is_empty() {
            self.lines.push_back(self.ready.len());
        }
        if self.termios.iflag & iflag::IXON == 0 {
            self.is_stopped = false;
        }
    }

    fn has(&self, flag: u32) -> bool {
        self.termios.lflag & flag != 0
    }

    fn is_char(&self, byte: u8, index: usize) -> bool {
        let special = self.termios.cc[index];
        special != DISABLED && special == byte
    }

    /// How much input is taken now; the rest must wait until somebody reads.
    #[must_use]
    pub fn input_room(&self) -> usize {
        let held = self.ready.len() + self.lines.len();
        if self.has(lflag::ICANON) && self.lines.is_empty() {
            // A line that is too long loses its end, but must not keep its line end from coming.
            return INPUT_MAX;
        }
        INPUT_MAX.saturating_sub(held + self.line.len())
    }

    /// Takes one byte from the master.
    pub fn input(&mut self, byte: u8) -> Option<Keystroke> {
        let mut byte = byte;
        if self.termios.iflag & iflag::ISTRIP != 0 {
            byte &= 0x7f;
        }
        if self.termios.iflag & iflag::IUCLC != 0 && self.has(lflag::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if std::mem::take(&mut self.is_literal) {
            self.add(byte);
            return None;
        }
        if self.flow_control(byte) {
            return None;
        }
        if let Some(keystroke) = self.keystroke(byte) {
            self.signal_typed(byte);
            return Some(keystroke);
        }
        match byte {
            b'\r' if self.termios.iflag & iflag::IGNCR != 0 => return None,
            b'\r' if self.termios.iflag & iflag::ICRNL != 0 => byte = b'\n',
            b'\n' if self.termios.iflag & iflag::INLCR != 0 => byte = b'\r',
            _ => {}
        }
        if !(self.has(lflag::ICANON) && self.edit(byte)) {
            self.add(byte);
        }
        None
    }

    /// `^S` and `^Q`; `true`: the byte was one of them.
    fn flow_control(&mut self, byte: u8) -> bool {
        if self.termios.iflag & iflag::IXON == 0 {
            return false;
        }
        if self.is_char(byte, cc::VSTART) {
            self.is_stopped = false;
            return true;
        }
        if self.is_char(byte, cc::VSTOP) {
            self.is_stopped = true;
            return true;
        }
        if self.is_stopped && self.termios.iflag & iflag::IXANY != 0 {
            self.is_stopped = false;
        }
        false
    }

    fn keystroke(&self, byte: u8) -> Option<Keystroke> {
        if !self.has(lflag::ISIG) {
            return None;
        }
        let keys = [
            (cc::VINTR, Keystroke::Interrupt),
            (cc::VQUIT, Keystroke::Quit),
            (cc::VSUSP, Keystroke::Suspend),
        ];
        keys.into_iter().find(|(index, _)| self.is_char(byte, *index)).map(|(_, keystroke)| keystroke)
    }

    fn signal_typed(&mut self, byte: u8) {
        if !self.has(lflag::NOFLSH) {
            self.flush_input();
            self.flush_output();
        }
        self.is_stopped = false;
        if self.has(lflag::ECHO) {
            self.echo(byte);
        }
        self.line_column = self.column;
    }

    /// Canonical mode's special bytes; `false`: it is an ordinary one.
    fn edit(&mut self, byte: u8) -> bool {
        let extended = self.has(lflag::IEXTEN);
        if self.is_char(byte, cc::VERASE) {
            self.erase(self.last_char_start(), byte);
        } else if extended && self.is_char(byte, cc::VWERASE) {
            self.erase(self.last_word_start(), byte);
        } else if self.is_char(byte, cc::VKILL) {
            self.kill(byte);
        } else if extended && self.is_char(byte, cc::VLNEXT) {
            self.is_literal = true;
            if self.has(lflag::ECHO) && self.has(lflag::ECHOCTL) {
                self.put_raw(b"^\x08");
            }
        } else if extended && self.has(lflag::ECHO) && self.is_char(byte, cc::VREPRINT) {
            self.echo(byte);
            self.put(b'\n');
            self.line_column = self.column;
            for byte in self.line.clone() {
                self.echo(byte);
            }
        } else if byte == b'\n' {
            if self.has(lflag::ECHO) || self.has(lflag::ECHONL) {
                self.put(b'\n');
            }
            self.end_line(Some(byte));
        } else if self.is_char(byte, cc::VEOF) {
            self.end_line(None);
        } else if self.is_char(byte, cc::VEOL) || (extended && self.is_char(byte, cc::VEOL2)) {
            if self.has(lflag::ECHO) {
                self.echo(byte);
            }
            self.end_line(Some(byte));
        } else {
            return false;
        }
        true
    }

    /// An ordinary byte.
    fn add(&mut self, byte: u8) {
        let is_canonical = self.has(lflag::ICANON);
        // The last place is for the line end.
        if is_canonical && self.line.len() + self.ready.len() >= INPUT_MAX - 1 {
            if self.termios.iflag & iflag::IMAXBEL != 0 {
                self.put_raw(b"\x07");
            }
            return;
        }
        if self.has(lflag::ECHO) {
            if self.line.is_empty() {
                self.line_column = self.column;
            }
            if byte == b'\n' { self.put(byte) } else { self.echo(byte) }
        }
        if is_canonical {
            self.line.push(byte);
        } else if self.ready.len() < INPUT_MAX {
            self.ready.push_back(byte);
        }
    }

    fn end_line(&mut self, last: Option<u8>) {
        self.line.extend(last);
        self.lines.push_back(self.line.len());
        self.ready.extend(self.line.drain(..));
        self.line_column = self.column;
    }

    fn last_char_start(&self) -> usize {
        let mut start = self.line.len().saturating_sub(1);
        if self.termios.iflag & iflag::IUTF8 != 0 {
            while start > 0 && self.line[start] & 0xc0 == 0x80 {
                start -= 1;
            }
        }
        start
    }

    /// LINUX: `eraser` with `WERASE`: blanks behind the word, then letters, digits and underscores.
    fn last_word_start(&self) -> usize {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let mut start = self.line.len();
        while start > 0 && !is_word(&self.line[start - 1]) {
            start -= 1;
        }
        while start > 0 && is_word(&self.line[start - 1]) {
            start -= 1;
        }
        start
    }

    fn erase(&mut self, start: usize, key: u8) {
        if self.line.is_empty() {
            return;
        }
        let before = self.width(self.line.len());
        self.line.truncate(start);
        if !self.has(lflag::ECHO) {
            return;
        }
        if !self.has(lflag::ECHOE) {
            self.echo(key);
            return;
        }
        for _ in self.width(start)..before {
            self.put_raw(b"\x08 \x08");
        }
        self.column = self.line_column + self.width(start);
    }

    fn kill(&mut self, key: u8) {
        let visually = lflag::ECHOK | lflag::ECHOKE | lflag::ECHOE;
        if self.has(lflag::ECHO) && self.termios.lflag & visually != visually {
            self.line.clear();
            self.echo(key);
            if self.has(lflag::ECHOK) {
                self.put(b'\n');
            }
        } else {
            self.erase(0, key);
        }
    }

    /// How many columns the first `n` bytes of the line take on the screen.
    fn width(&self, n: usize) -> usize {
        let mut column = self.line_column;
        for &byte in &self.line[..n.min(self.line.len())] {
            column += match byte {
                b'\t' => TAB - column % TAB,
                byte if byte.is_ascii_control() => 2 * usize::from(self.has(lflag::ECHOCTL)),
                byte if self.termios.iflag & iflag::IUTF8 != 0 && byte & 0xc0 == 0x80 => 0,
                _ => 1,
            };
        }
        column - self.line_column
    }

    /// Shows a typed byte, a control character as `^X`.
    fn echo(&mut self, byte: u8) {
        if self.output.len() > ECHO_MAX {
            return;
        }
        if self.has(lflag::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' {
            self.put_raw(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.put(byte);
        }
    }

    fn put_raw(&mut self, bytes: &[u8]) {
        if self.output.len() <= ECHO_MAX {
            self.output.extend(bytes);
        }
    }

    /// One byte of output, processed.
    fn put(&mut self, byte: u8) {
        let flags = self.termios.oflag;
        if flags & oflag::OPOST == 0 {
            self.output.push_back(byte);
            return;
        }
        match byte {
            b'\n' => {
                if flags & oflag::ONLCR != 0 {
                    self.output.push_back(b'\r');
                }
                if flags & (oflag::ONLCR | oflag::ONLRET) != 0 {
                    self.column = 0;
                }
                self.output.push_back(b'\n');
            }
            b'\r' if flags & oflag::ONOCR != 0 && self.column == 0 => {}
            b'\r' if flags & oflag::OCRNL != 0 => {
                if flags & oflag::ONLRET != 0 {
                    self.column = 0;
                }
                self.output.push_back(b'\n');
            }
            b'\r' => {
                self.column = 0;
                self.output.push_back(b'\r');
            }
            b'\t' => {
                let width = TAB - self.column % TAB;
                self.column += width;
                if flags & oflag::XTABS == oflag::XTABS {
                    self.output.extend(std::iter::repeat_n(b' ', width));
                } else {
                    self.output.push_back(b'\t');
                }
            }
            0x08 => {
                self.column = self.column.saturating_sub(1);
                self.output.push_back(byte);
            }
            _ => {
                let byte = if flags & oflag::OLCUC != 0 { byte.to_ascii_uppercase() } else { byte };
                let is_continuation = self.termios.iflag & iflag::IUTF8 != 0 && byte & 0xc0 == 0x80;
                self.column += usize::from(!byte.is_ascii_control() && !is_continuation);
                self.output.push_back(byte);
            }
        }
    }

    /// How much a program may write now.
    #[must_use]
    pub fn output_room(&self) -> usize {
        if self.is_stopped { 0 } else { OUTPUT_MAX.saturating_sub(self.output.len()) }
    }

    /// Output of a program; at most [`Discipline::output_room`] bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.put(byte);
        }
        if self.line.is_empty() {
            self.line_column = self.column;
        }
    }

    /// Output that waits for the master.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Takes up to `n` bytes for the master.
    pub fn take_output(&mut self, n: usize) -> Vec<u8> {
        let n = n.min(self.output.len());
        self.output.drain(..n).collect()
    }

    /// What a read of `n` bytes answers now; `None`: it would have to wait. Raw mode: `minimum` bytes must be there.
    pub fn read(&mut self, n: usize, minimum: usize) -> Option<Vec<u8>> {
        if !self.has(lflag::ICANON) {
            if self.ready.len() < minimum {
                return None;
            }
            let n = n.min(self.ready.len());
            return Some(self.ready.drain(..n).collect());
        }
        let len = self.lines.front_mut()?;
        let n = n.min(*len);
        *len -= n;
        if *len == 0 {
            self.lines.pop_front();
        }
        Some(self.ready.drain(..n).collect())
    }

    /// How many bytes a read could take now (`FIONREAD`).
    #[must_use]
    pub fn readable_len(&self) -> usize {
        if self.has(lflag::ICANON) { self.lines.iter().sum() } else { self.ready.len() }
    }

    /// A read would answer at once, `minimum` as for [`Discipline::read`].
    #[must_use]
    pub fn is_readable(&self, minimum: usize) -> bool {
        if self.has(lflag::ICANON) { !self.lines.is_empty() } else { self.ready.len() >= minimum }
    }

    /// `TCIFLUSH`.
    pub fn flush_input(&mut self) {
        self.line.clear();
        self.ready.clear();
        self.lines.clear();
        self.is_literal = false;
    }

    /// `TCOFLUSH`.
    pub fn flush_output(&mut self) {
        self.output.clear();
    }

    /// `TCOOFF` and `TCOON`.
    pub fn set_stopped(&mut self, is_stopped: bool) {
        self.is_stopped = is_stopped;
    }

    /// Output waits for `^Q`.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

#[cfg(test)]
#[path = "discipline_tests.rs"]
mod tests;
