//! How is the person's terminal lent to a guest, and given back?
//!
//! Key type: [`RawMode`]. While it lives, the terminal passes every key on (the guest's own terminal, in the sentry,
//! does echo, editing and Ctrl-C); dropping it restores what was there.

use std::io::Stdin;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode.
#[derive(Debug)]
pub(crate) struct RawMode {
    stdin: Stdin,
    before: Termios,
}

impl RawMode {
    /// Switches stdin's terminal to raw mode.
    pub(crate) fn enter() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(&self.stdin, OptionalActions::Drain, &self.before);
    }
}

/// Columns and rows of stdin's terminal; zeros if it is none.
pub(crate) fn size() -> (u16, u16) {
    tcgetwinsize(std::io::stdin()).map_or((0, 0), |size| (size.ws_col, size.ws_row))
}

/// True if both input and output are a terminal.
pub(crate) fn is_interactive() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}
