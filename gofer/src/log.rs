//! Where does the gofer's log go? To stderr, a few lines of it: whatever the sentry asks for, the operator's disk does not fill.
//!
//! Key type: [`Budget`]. A line beyond it is dropped, and the next one that is written says how many were.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may be written at once.
const BURST: u32 = 64;
/// From then on, one in this time.
const PERIOD: Duration = Duration::from_secs(10);

/// Starts the log, if that has not been done.
pub(crate) fn start(level: &str) {
    let level = level.parse().unwrap_or(tracing::Level::WARN);
    let log = tracing_subscriber::fmt().with_writer(Lines::default()).with_ansi(false).with_max_level(level);
    let _ = log.try_init();
}

/// How many lines may still be written.
#[derive(Debug)]
struct Budget {
    left: u32,
    dropped: u64,
    /// When the last one was given back.
    refilled: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left: BURST, dropped: 0, refilled: now }
    }

    /// Takes a line; how many were dropped before it, or `None` if it is dropped, too.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let periods = now.saturating_duration_since(self.refilled).as_secs() / PERIOD.as_secs();
        if periods > 0 {
            self.left = self.left.saturating_add(u32::try_from(periods).unwrap_or(BURST)).min(BURST);
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.dropped))
            }
            None => {
                self.dropped += 1;
                None
            }
        }
    }
}

/// Makes one writer for each line.
#[derive(Debug)]
struct Lines(Mutex<Budget>);

impl Default for Lines {
    fn default() -> Self {
        Self(Mutex::new(Budget::new(Instant::now())))
    }
}

/// One line, or the place of one that is dropped.
#[derive(Debug)]
enum Line {
    Kept(io::Stderr),
    Dropped,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            None => Line::Dropped,
            Some(0) => Line::Kept(io::stderr()),
            Some(dropped) => {
                let mut stderr = io::stderr();
                let _ = writeln!(stderr, "({dropped} lines of the gofer were dropped)");
                Line::Kept(stderr)
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Kept(stderr) => stderr.write(bytes),
            Self::Dropped => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_the_next_line_says_so() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let written = (0..100_000).filter(|_| budget.take(start).is_some()).count();
        assert_eq!(written, BURST as usize);
        assert_eq!(budget.take(start + PERIOD), Some(100_000 - u64::from(BURST)));
        assert_eq!(budget.take(start + PERIOD), None);
        assert_eq!(budget.take(start + 3 * PERIOD), Some(1));
        assert_eq!(budget.take(start + 3 * PERIOD), Some(0));
        assert_eq!(budget.take(start + 3 * PERIOD), None);
    }
}
