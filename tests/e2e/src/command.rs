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
pub fn quietly<T>(deed: impl FnOnce() -> T) -> T {
    let shown = SHOWN.swap(false, Ordering::Relaxed);
    let result = deed();
    SHOWN.store(shown, Ordering::Relaxed);
    result
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

    /// Standard error must contain this.
    ///
    /// # Errors
    /// When it does not.
    pub fn says(self, expected: &str) -> Result<Self> {
        ensure!(self.stderr.contains(expected), "does not say {expected:?}: {self}");
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
        report(&Answer { line: as_typed(argv), ..answer.clone() });
    }
    Ok(answer)
}

/// Longest part of a command's output that the demo shows, in lines.
const SHOWN_LINES: usize = 16;

#[allow(clippy::print_stdout, reason = "the demo shows what it does")]
fn report(answer: &Answer) {
    for (number, line) in answer.line.lines().enumerate() {
        println!("    {} {line}", if number == 0 { "$" } else { ">" });
    }
    let lines =
        answer.stdout.lines().chain(answer.stderr.lines()).map(|line| without_mark(&last_state(line)));
    let lines: Vec<_> = lines.collect();
    let lines: Vec<_> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    for line in lines.iter().take(SHOWN_LINES) {
        println!("      {line}");
    }
    if lines.len() > SHOWN_LINES {
        println!("      ... {} more lines", lines.len().saturating_sub(SHOWN_LINES));
    }
    let status = if answer.status == 0 { String::new() } else { format!("exit status {}, ", answer.status) };
    println!("      ({status}{:.2} s)", answer.took.as_secs_f64());
}

/// A line as a terminal would show it in the end: what stands behind the last carriage return, without control characters.
fn last_state(line: &str) -> String {
    let last = line.trim_end().rsplit('\r').next().unwrap_or_default();
    // A terminal's echo of the end of its input.
    let last = last.trim_start_matches("^@").trim_start_matches("^D");
    last.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// A command line as one would type it, without what is only of use to this harness: absolute paths of the programs, the
/// private socket, the cgroup, the run's mark in names.
fn as_typed(argv: &[&str]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = argv.iter().enumerate();
    while let Some((place, word)) = rest.next() {
        match *word {
            "-a" if place == 1 => drop(rest.next()),
            "--cgroup" => drop(rest.next()),
            program if place == 0 => words.push(program.rsplit('/').next().unwrap_or(program).to_owned()),
            other => words.push(quoted(&without_mark(&without_socket(other)))),
        }
    }
    words.join(" ")
}

/// `/usr/bin/ctr -a SOCKET run` within a longer line becomes `ctr run`.
fn without_socket(line: &str) -> String {
    let Some((before, after)) = line.split_once("/ctr -a ") else { return line.to_owned() };
    let before = before.rsplit_once(' ').map_or(String::new(), |(front, _)| format!("{front} "));
    format!("{before}ctr {}", after.split_once(' ').map_or("", |(_, rest)| rest))
}

/// `rvisor-e2e-123-456-7`, the name of a run's seventh container, becomes `demo-7`.
fn without_mark(word: &str) -> String {
    const MARK: &str = "rvisor-e2e-";
    let Some((before, after)) = word.split_once(MARK) else { return word.to_owned() };
    let own = after.trim_start_matches(|c: char| c.is_ascii_digit());
    let own = own.strip_prefix('-').unwrap_or(own).trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}demo{}", without_mark(own))
}

/// In quotes if a shell would need them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.trim()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_has_no_paths_and_names_of_the_harness() {
        let argv = [
            "/usr/bin/ctr",
            "-a",
            "/tmp/x/c.sock",
            "run",
            "--cgroup",
            "/x/y",
            "--rm",
            "rvisor-e2e-12-34-5",
            "a b",
        ];
        assert_eq!(as_typed(&argv), "ctr run --rm demo-5 'a b'");
        assert_eq!(without_mark("/run/netns/rvisor-e2e-12-34"), "/run/netns/demo");
        assert_eq!(without_socket("/usr/bin/ctr -a /x/c.sock tasks ls"), "ctr tasks ls");
        assert_eq!(last_state("SET: 1\rSET: 2  \r"), "SET: 2");
    }
}
