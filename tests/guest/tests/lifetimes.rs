//! Does what a guest makes and destroys come back? Runs `lifetimes/kinds.c` in a sandbox on each platform and counts from
//! outside, before and after the cycles of each kind: descriptors, memory and tasks of sentry and gofer, blocks of files
//! that have no name any more and are held by either, and what `/dev/shm` has in use.
//!
//! `cargo test -p guest-tests --test lifetimes -- [--platform=P] [--cycles=N] [--figures] [KIND]`. `rvisor` is
//! `$RVISOR_BIN`, or the one beside this test in the target directory. Its last line is `N passed, N failed`.
#![allow(clippy::print_stdout, reason = "this is the front end of a test run")]

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use guest_tests::{Programs, conclude, find_rvisor};

const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
/// Enough that what stays of each, be it a descriptor or half a kilobyte, is more than what is allowed.
const CYCLES: u32 = 600;
/// What ends a moment later, and memory that is given back when nothing happens, may take so long.
const SETTLE: Duration = Duration::from_secs(10);

/// How much more there may be afterwards.
///
/// Descriptors: threads that rest have some. Memory: the allocator's rounding, and names that are remembered.
const ALLOWED: Held = Held {
    sentry_fds: 24,
    gofer_fds: 24,
    memory_kib: 256,
    nameless_kib: 512,
    tasks: 24,
    shm_kib: 0,
    shm_nodes: 0,
};

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    sentry_fds: i64,
    gofer_fds: i64,
    memory_kib: i64,
    nameless_kib: i64,
    tasks: i64,
    shm_kib: i64,
    shm_nodes: i64,
}

impl Held {
    const NAMES: [&str; 7] = [
        "descriptors of the sentry",
        "descriptors of the gofer",
        "KiB of memory",
        "KiB in files without a name",
        "tasks of the sandbox",
        "KiB in /dev/shm",
        "nodes in /dev/shm",
    ];

    fn figures(&self) -> [i64; 7] {
        let Self { sentry_fds, gofer_fds, memory_kib, nameless_kib, tasks, shm_kib, shm_nodes } = *self;
        [sentry_fds, gofer_fds, memory_kib, nameless_kib, tasks, shm_kib, shm_nodes]
    }

    /// What has grown by more than it may.
    fn grown_since(&self, before: &Self) -> Vec<String> {
        let rows = self.figures().into_iter().zip(before.figures()).zip(ALLOWED.figures());
        rows.zip(Self::NAMES)
            .filter(|(((after, before), allowed), _)| after - before > *allowed)
            .map(|(((after, before), _), name)| format!("{} {name} more", after - before))
            .collect()
    }
}

/// A running sandbox, as its host sees it.
struct Sandbox {
    child: Child,
    sentry: u32,
    gofer: u32,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Name and parent of each process on the host.
fn processes() -> Result<Vec<(u32, String, u32)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let Some(parent) = tail.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()) else {
            continue;
        };
        all.push((pid, name, parent));
    }
    Ok(all)
}

fn descriptors(pid: u32) -> i64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| i64::try_from(entries.count()).unwrap_or(0))
}

fn memory_kib(pid: u32) -> Result<i64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("no line `Anonymous`")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl Sandbox {
    /// Which of the processes below `child` are its sentry and its gofer.
    fn of(child: Child) -> Result<Self> {
        let all = processes()?;
        let find = |wanted: &str| {
            let is_it = |(_, name, parent): &&(u32, String, u32)| name == wanted && *parent == child.id();
            all.iter().find(is_it).map(|(pid, ..)| *pid).with_context(|| format!("{wanted} is not there"))
        };
        let (sentry, gofer) = (find("rvisor-sentry")?, find("rvisor-gofer")?);
        Ok(Self { child, sentry, gofer })
    }

    fn held(&self, shm_kib: i64, shm_nodes: i64) -> Result<Held> {
        Ok(Held {
            sentry_fds: descriptors(self.sentry),
            gofer_fds: descriptors(self.gofer),
            memory_kib: memory_kib(self.sentry)? + memory_kib(self.gofer)?,
            nameless_kib: self.nameless_kib(),
            tasks: self.tasks()?,
            shm_kib,
            shm_nodes,
        })
    }

    /// Blocks of files that only a descriptor of sentry or gofer keeps.
    fn nameless_kib(&self) -> i64 {
        let mut seen = HashSet::new();
        let folders = [self.sentry, self.gofer].map(|pid| format!("/proc/{pid}/fd"));
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let files = entries.filter_map(|entry| fs::metadata(entry.path()).ok()).filter(|file| {
            file.file_type().is_file() && file.nlink() == 0 && seen.insert((file.dev(), file.ino()))
        });
        files.map(|file| i64::try_from(file.blocks() / 2).unwrap_or(0)).sum()
    }

    /// Threads of the sentry and of all processes below it.
    fn tasks(&self) -> Result<i64> {
        let all = processes()?;
        let mut family = vec![self.sentry];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            family.extend(all.iter().filter(|(.., theirs)| *theirs == parent).map(|(pid, ..)| *pid));
            next += 1;
        }
        let threads = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        Ok(i64::try_from(family.iter().map(threads).sum::<usize>())?)
    }
}

struct Options {
    platforms: Vec<String>,
    cycles: u32,
    with_figures: bool,
    kind: Option<String>,
}

impl Options {
    fn parse() -> Result<Self> {
        let platforms = PLATFORMS.map(str::to_owned).to_vec();
        let mut options = Self { platforms, cycles: CYCLES, with_figures: false, kind: None };
        for argument in env::args().skip(1) {
            match argument.split_once('=') {
                Some(("--platform", platform)) => options.platforms = vec![platform.to_owned()],
                Some(("--cycles", cycles)) => options.cycles = cycles.parse()?,
                None if argument == "--figures" => options.with_figures = true,
                None if !argument.starts_with('-') => options.kind = Some(argument),
                _ => bail!("what is {argument}?"),
            }
        }
        Ok(options)
    }
}

/// Runs all kinds on a platform; answers how many passed and how many failed.
fn run(rvisor: &Path, program: &Path, platform: &str, options: &Options) -> Result<(usize, usize)> {
    let mut command = Command::new(rvisor);
    command.args(["do", "--no-tty", "--platform", platform, "--"]).arg(program);
    command.arg(options.cycles.to_string()).args(&options.kind);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start rvisor")?;
    let mut answers = child.stdin.take().context("no standard input")?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    let (mut sandbox, mut before, mut tally) = (None, Held::default(), (0, 0));
    let mut child = Some(child);
    while let Some(line) = lines.next().transpose()? {
        let words: Vec<&str> = line.split(' ').collect();
        let &[kind, moment, kib, nodes] = words.as_slice() else { bail!("what is {line}?") };
        let (kib, nodes) = (kib.parse()?, nodes.parse()?);
        if let Some(child) = child.take() {
            sandbox = Some(Sandbox::of(child)?);
        }
        let sandbox = sandbox.as_ref().context("no sandbox")?;
        if moment == "before" {
            before = sandbox.held(kib, nodes)?;
        } else {
            let (after, grown) = settled(sandbox, &before, kib, nodes)?;
            if options.with_figures {
                println!("{platform}: {kind}: {:?} -> {:?}", before.figures(), after.figures());
            }
            match grown.is_empty() {
                true => tally.0 += 1,
                false => {
                    tally.1 += 1;
                    println!("{platform}: not ok {kind}: {}", grown.join(", "));
                }
            }
        }
        answers.write_all(b"\n")?;
    }
    let Some(mut sandbox) = sandbox else { bail!("{platform}: nothing ran") };
    let status = sandbox.child.wait()?;
    if !status.success() {
        tally.1 += 1;
        println!("{platform}: not ok: {status}");
    }
    Ok(tally)
}

/// What is held once nothing more goes, and what of it is too much.
fn settled(sandbox: &Sandbox, before: &Held, kib: i64, nodes: i64) -> Result<(Held, Vec<String>)> {
    let until = Instant::now() + SETTLE;
    loop {
        let after = sandbox.held(kib, nodes)?;
        let grown = after.grown_since(before);
        if grown.is_empty() || Instant::now() > until {
            return Ok((after, grown));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn all() -> Result<(usize, usize)> {
    let options = Options::parse()?;
    let rvisor = find_rvisor()?;
    let programs = Programs::build(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-programs"))?;
    let (mut passed, mut failed) = (0, 0);
    for platform in &options.platforms {
        let (well, badly) = run(&rvisor, &programs.lifetimes.path, platform, &options)?;
        println!("{platform}: {well} passed, {badly} failed");
        (passed, failed) = (passed + well, failed + badly);
    }
    Ok((passed, failed))
}

fn main() -> ExitCode {
    conclude("lifetimes", all())
}
