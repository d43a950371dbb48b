//! How did the behaviours of a program come out in some place? [`Runner`] starts the program on the host or through
//! `rvisor do`, reads its `ok`/`not ok` lines, and when the program dies or hangs half way, blames the behaviour it
//! was at and goes on with the rest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::Program;
use crate::rows::{Answers, MARK, Rows};

/// The longest silence: the programs' own watchdog ends a behaviour after 20 s.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// How often a program that dies or hangs is started again with what is left of its behaviours.
const RESTARTS_MAX: usize = 30;
/// How much of a program's error output is kept, and how much of a failing one's quoted.
const STDERR_MAX: usize = 16 << 10;
const QUOTED_MAX: usize = 300;

/// The `rvisor` binary: `$RVISOR_BIN`, or the one beside the running test in the target directory.
///
/// # Errors
/// If there is none.
pub fn find_rvisor() -> Result<PathBuf> {
    let path = match std::env::var_os("RVISOR_BIN") {
        Some(path) => PathBuf::from(path),
        // target/.../PROFILE/deps/guest-HASH -> target/.../PROFILE/rvisor
        None => {
            let exe = std::env::current_exe().context("find this test's own path")?;
            let profile =
                exe.parent().and_then(Path::parent).context("test binary outside a target directory")?;
            profile.join("rvisor")
        }
    };
    ensure!(
        path.is_file(),
        "no rvisor binary at {}: build it (cargo build) or set RVISOR_BIN",
        path.display()
    );
    Ok(path)
}

/// Where a program runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// On the host's own kernel.
    Host,
    /// In a sandbox made by this `rvisor` binary, on this platform.
    Sandbox {
        /// The `rvisor` binary.
        rvisor: PathBuf,
        /// The value of `--platform`.
        platform: String,
    },
}

/// How one behaviour came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As on Linux.
    Passed,
    /// Not so; and why.
    Failed(String),
}

/// Outcomes by the behaviour's name.
pub type Results = BTreeMap<String, Outcome>;

/// Runs programs in one place.
#[derive(Debug)]
pub struct Runner {
    place: Place,
    deadline: Instant,
    /// What the host has answered; `None`: this is the host.
    native: Option<Rows>,
    rows: RefCell<Rows>,
}

enum End {
    /// The program printed its summary.
    Finished,
    /// It ended or was killed before that; how.
    Broken(String),
}

impl Runner {
    /// A runner for one place that has so much time for all that it is asked; what comes later fails untried.
    #[must_use]
    pub fn new(place: Place, budget: Duration) -> Self {
        Self { place, deadline: Instant::now() + budget, native: None, rows: RefCell::default() }
    }

    /// The same; rows are compared with the host's.
    #[must_use]
    pub fn comparing(self, native: &Rows) -> Self {
        Self { native: Some(native.clone()), ..self }
    }

    /// The rows that have been told.
    #[must_use]
    pub fn into_rows(self) -> Rows {
        self.rows.into_inner()
    }

    /// How much of its time is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The names of a program's behaviours, in their order; asked on the host.
    pub fn list(program: &Program) -> Result<Vec<String>> {
        let output = Command::new(&program.path).arg("--list").output().context("list behaviours")?;
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    /// Runs these behaviours of a program; every one of them is in the results.
    pub fn run(&self, program: &Program, names: &[String]) -> Result<Results> {
        let mut results = Results::new();
        let mut left: Vec<String> = names.to_vec();
        for _ in 0..=RESTARTS_MAX {
            if self.left().is_zero() {
                break;
            }
            let (end, _) = self.attempt(program, &left, &mut results)?;
            left.retain(|name| !results.contains_key(name));
            match end {
                End::Finished if left.is_empty() => return Ok(results),
                End::Finished => {
                    let why = "the program ended well without naming it";
                    results.extend(left.drain(..).map(|name| (name, Outcome::Failed(why.to_owned()))));
                }
                End::Broken(why) if !left.is_empty() => {
                    results.insert(left.remove(0), Outcome::Failed(why));
                }
                End::Broken(_) => {}
            }
            if left.is_empty() {
                return Ok(results);
            }
        }
        let why = "not run: the program broke too often, or the time was over";
        results.extend(left.into_iter().map(|name| (name, Outcome::Failed(why.to_owned()))));
        Ok(results)
    }

    /// Runs a hostile guest beside its neighbour; the neighbour must say that it could go on.
    pub fn run_hostile(&self, neighbour: &Program, hostile: &Program) -> Result<Outcome> {
        if self.left().is_zero() {
            return Ok(Outcome::Failed("not run: the time was over".to_owned()));
        }
        let mut results = Results::new();
        let path = hostile.path.to_string_lossy().into_owned();
        let (end, said) = self.attempt(neighbour, &[path], &mut results)?;
        let outcome = results.remove("neighbour");
        let platform = match &self.place {
            Place::Host => "host",
            Place::Sandbox { platform, .. } => platform,
        };
        let mut missing = hostile.told.iter().filter(|(on, text)| on == platform && !said.contains(text));
        if let Some((_, text)) = missing.next() {
            return Ok(Outcome::Failed(format!("the sandbox did not say {text:?}, but: {}", quoted(&said))));
        }
        Ok(match (end, outcome) {
            (End::Finished, Some(outcome)) => outcome,
            (End::Finished, None) => Outcome::Failed("the neighbour said nothing".to_owned()),
            (End::Broken(why), _) => Outcome::Failed(why),
        })
    }

    fn command(&self, program: &Program) -> Command {
        match &self.place {
            Place::Host => Command::new(&program.path),
            Place::Sandbox { rvisor, platform } => {
                let mut command = Command::new(rvisor);
                command.arg("do").arg(format!("--platform={platform}")).arg("--").arg(&program.path);
                command
            }
        }
    }

    /// A behaviour has ended; `answers` are the rows that it told before.
    fn take_line(&self, area: &str, line: &str, answers: Answers, results: &mut Results) {
        if let Some(name) = line.strip_prefix("ok ") {
            let outcome = self.compare(&format!("{area}/{name}"), answers);
            results.insert(name.to_owned(), outcome);
        } else if let Some((name, why)) = line.strip_prefix("not ok ").and_then(|rest| rest.split_once(": "))
        {
            results.insert(name.to_owned(), Outcome::Failed(why.to_owned()));
        }
    }

    /// Keeps the rows on the host, and compares them elsewhere.
    fn compare(&self, name: &str, answers: Answers) -> Outcome {
        let Some(native) = &self.native else {
            if !answers.is_empty() {
                self.rows.borrow_mut().insert(name.to_owned(), answers);
            }
            return Outcome::Passed;
        };
        let nothing = Answers::default();
        let differences = answers.differences(native.get(name).unwrap_or(&nothing));
        differences.map_or(Outcome::Passed, Outcome::Failed)
    }

    fn attempt(
        &self,
        program: &Program,
        arguments: &[String],
        results: &mut Results,
    ) -> Result<(End, String)> {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.process_group(0).spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        let lines = lines_of(&mut child);
        let errors = errors_of(&mut child);
        let mut answers = Answers::default();
        let silence = loop {
            match lines.recv_timeout(SILENCE_MAX.min(self.left())) {
                Ok(line) if line.starts_with("# ") => {
                    end(&mut child);
                    let errors = errors.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
                    return Ok((End::Finished, errors));
                }
                Ok(line) => match line.strip_prefix(MARK) {
                    Some(row) => answers.take(row),
                    None => self.take_line(&program.name, &line, std::mem::take(&mut answers), results),
                },
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => break false,
            }
        };
        let status = if silence { None } else { child.wait().ok() };
        end(&mut child);
        let errors = errors.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
        let what = match status {
            None => format!("silent for {} s, or the time was over", SILENCE_MAX.as_secs()),
            Some(status) => status.to_string(),
        };
        Ok((End::Broken(format!("program broke off: {what}; {}", quoted(&errors))), errors))
    }
}

/// The end of an error output, in one line.
fn quoted(errors: &str) -> String {
    let skipped = errors.chars().count().saturating_sub(QUOTED_MAX);
    errors.chars().skip(skipped).collect::<String>().trim().replace('\n', " | ")
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

fn errors_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut output) = child.stderr.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What could be read before an error is still worth quoting.
            let _ = output.read_to_end(&mut bytes);
            bytes.drain(..bytes.len().saturating_sub(STDERR_MAX));
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
    }
    receiver
}

/// Ends what is left of a run: gives it a second to end by itself, then kills its process group.
fn end(child: &mut Child) {
    for _ in 0..20 {
        if matches!(child.try_wait(), Ok(Some(_))) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    if let Ok(pid) = i32::try_from(child.id()) {
        // The group is usually gone by now.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}
