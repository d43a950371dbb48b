//! How a command is run with a time limit, and what it answered.
//!
//! Key type: [`Answer`]. With [`show`] set, commands and answers are printed as they happen, for the demo.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Longest that any one command may take, unless a case says otherwise.
pub const COMMAND_SECONDS: u64 = 90;

static SHOWN: AtomicBool = AtomicBool::new(false);

/// From now on, print every command and its output.
pub fn show() {
    SHOWN.store(true, Ordering::Relaxed);
}

/// Does something without showing it.
pub fn quietly(deed: impl FnOnce()) {
    let shown = SHOWN.swap(false, Ordering::Relaxed);
    deed();
    SHOWN.store(shown, Ordering::Relaxed);
}

/// What a command answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The command line, for messages.
    pub line: String,
    /// Exit status; 128 + signal if it was killed.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// The command must have succeeded.
    ///
    /// # Errors
    /// When it did not, with what it said.
    pub fn ok(self) -> Result<Self> {
        self.status_is(0)
    }

    /// The command must have ended with `status`.
    ///
    /// # Errors
    /// When it did not, with what it said.
    pub fn status_is(self, status: i32) -> Result<Self> {
        ensure!(self.status == status, "status {} in place of {status}: {self}", self.status);
        Ok(self)
    }

    /// The command must have failed, with something to read and in time.
    ///
    /// # Errors
    /// When it succeeded, said nothing, or was killed for taking too long.
    pub fn failed(self) -> Result<Self> {
        ensure!(self.status != 0, "should have failed: {self}");
        ensure!(self.status != 124 && self.status != 137, "hung until it was killed: {self}");
        Ok(self)
    }

    /// Standard output, trimmed, must be exactly this.
    ///
    /// # Errors
    /// When it is not.
    pub fn prints(self, expected: &str) -> Result<Self> {
        ensure!(
            self.stdout.trim() == expected,
            "printed {:?} in place of {expected:?}: {self}",
            self.stdout.trim()
        );
        Ok(self)
    }

    /// Standard output must contain this.
    ///
    /// # Errors
    /// When it does not.
    pub fn mentions(self, expected: &str) -> Result<Self> {
        ensure!(self.stdout.contains(expected), "does not print {expected:?}: {self}");
        Ok(self)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = |text: &str| {
            let lines: Vec<_> = text.trim().lines().rev().take(12).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n    ")
        };
        write!(f, "`{}` -> {} in {:?}", self.line, self.status, self.took)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.trim().is_empty() {
                write!(f, "\n  {name}:\n    {}", tail(text))?;
            }
        }
        Ok(())
    }
}

/// Runs a command line to its end, with `input` as its standard input, for at most `seconds`.
///
/// # Errors
/// When it could not be started; its own failure is in the answer.
pub fn run(argv: &[&str], input: Option<&str>, seconds: u64) -> Result<Answer> {
    let begun = Instant::now();
    // `timeout` in place of a thread: it kills with a signal that nothing can hold back.
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", &seconds.to_string()]).args(argv);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {}", argv.join(" ")))?;
    if let (Some(mut stdin), Some(text)) = (child.stdin.take(), input) {
        // The command may end without reading; that is its business.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output()?;
    let signalled = std::os::unix::process::ExitStatusExt::signal(&output.status);
    let answer = Answer {
        line: argv.join(" "),
        status: output.status.code().unwrap_or_else(|| 128 + signalled.unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: begun.elapsed(),
    };
    if SHOWN.load(Ordering::Relaxed) {
        report(&answer);
    }
    Ok(answer)
}

#[allow(clippy::print_stdout, reason = "the demo shows what it does")]
fn report(answer: &Answer) {
    println!("    $ {}", answer.line);
    for line in answer.stdout.lines().chain(answer.stderr.lines()).take(40) {
        println!("      {line}");
    }
    println!("      -> {} in {:.2} s", answer.status, answer.took.as_secs_f64());
}

/// Asks `done` every 50 ms until it agrees or `limit` has passed.
///
/// # Errors
/// When it never agreed.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
