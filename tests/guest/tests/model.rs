//! Do random sequences of calls come out as on Linux? Runs the generators of `model/` with the same seeds on the host
//! and in a sandbox, and compares what they print, sequence by sequence.
//!
//! `cargo test -p guest-tests --test model -- [--model=NAME] [--where=PLACE] [--platform=P] [--first=SEED]
//! [--count=N] [--steps=N] [--show=N]`. Without `--first` the seeds that failed once (`model/seeds/NAME.txt`) are run as
//! well. A sequence that differs is printed up to its first difference. `rvisor` is `$RVISOR_BIN`, or the one beside
//! this test in the target directory.
#![allow(clippy::print_stdout, reason = "this is the front end of a test run")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use guest_tests::{Program, Programs, find_rvisor};

const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
/// Sequences of one start of a generator.
const BATCH: u32 = 100;
/// Longest that a batch may take, in seconds.
const BATCH_SECONDS: u32 = 120;
/// Lines before a difference that are printed with it.
const CONTEXT_LINES: usize = 12;

/// Where a generator works, and what on the host it is compared with.
struct Ground {
    name: &'static str,
    /// The generator's WHERE on the host; it is Linux's answer if one of these gives it.
    native: &'static [&'static str],
    /// The generator's WHERE in the sandbox.
    inside: &'static str,
    /// Its directory is a volume, twice, and what it leaves is looked at from the host.
    is_volume: bool,
}

const FILES: [Ground; 3] = [
    Ground { name: "tree", native: &["bind", "overlay"], inside: "bind", is_volume: false },
    Ground { name: "tmpfs", native: &["tmpfs"], inside: "tmpfs", is_volume: false },
    Ground { name: "volume", native: &["bind"], inside: "given", is_volume: true },
];

/// For generators whose calls are on no file system.
const CALLS: [Ground; 1] = [Ground { name: "calls", native: &["none"], inside: "none", is_volume: false }];

fn grounds(model: &str) -> &'static [Ground] {
    if model == "files" { &FILES } else { &CALLS }
}

struct Options {
    model: Option<String>,
    place: Option<String>,
    platforms: Vec<String>,
    first: Option<u32>,
    count: u32,
    steps: u32,
    show: usize,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            model: None,
            place: None,
            platforms: PLATFORMS.map(str::to_owned).to_vec(),
            first: None,
            count: 200,
            steps: 60,
            show: 10,
        };
        for argument in env::args().skip(1) {
            let Some((name, value)) = argument.split_once('=') else { bail!("what is {argument}?") };
            match name {
                "--model" => options.model = Some(value.to_owned()),
                "--where" => options.place = Some(value.to_owned()),
                "--platform" => options.platforms = vec![value.to_owned()],
                "--first" => options.first = Some(value.parse()?),
                "--count" => options.count = value.parse()?,
                "--steps" => options.steps = value.parse()?,
                "--show" => options.show = value.parse()?,
                _ => bail!("what is {argument}?"),
            }
        }
        Ok(options)
    }
}

/// A generator's lines by sequence.
type Transcripts = BTreeMap<u32, Vec<String>>;

/// What one batch is.
#[derive(Clone, Copy)]
struct Batch {
    first: u32,
    count: u32,
    steps: u32,
}

struct Comparison<'a> {
    program: &'a Program,
    rvisor: &'a Path,
    scratch: &'a Path,
}

fn transcripts(output: &str) -> Transcripts {
    let mut all = Transcripts::new();
    let mut at = None;
    for line in output.lines() {
        if let Some(seed) = line.strip_prefix("== ").and_then(|seed| seed.parse().ok()) {
            at = Some(seed);
            all.insert(seed, Vec::new());
        } else if line.starts_with("# ") {
            at = None;
        } else if let Some(lines) = at.and_then(|seed| all.get_mut(&seed)) {
            lines.push(line.to_owned());
        }
    }
    all
}

/// Runs a generator to its end; a batch that is cut off, or ends badly, says so in its last sequence.
fn run(command: &mut Command) -> Result<Transcripts> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut all = transcripts(&output);
    if !done.status.success() || !output.lines().any(|line| line.starts_with("# ")) {
        let why = format!("BROKEN {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
        all.entry(all.keys().next_back().copied().unwrap_or(0)).or_default().push(why);
    }
    Ok(all)
}

/// An empty directory for both ends of a comparison.
fn fresh(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("empty {}", path.display()))?;
    }
    for name in ["one", "two"] {
        fs::create_dir_all(path.join(name)).with_context(|| format!("make {}", path.display()))?;
    }
    Ok(())
}

impl Comparison<'_> {
    fn limited(program: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", &BATCH_SECONDS.to_string()]).arg(program);
        command
    }

    fn arguments(command: &mut Command, place: &str, directory: &Path, batch: Batch, is_kept: bool) {
        command.arg(place).arg(directory);
        command.args([batch.first, batch.count, batch.steps].map(|number| number.to_string()));
        if is_kept {
            command.arg("keep");
        }
    }

    fn describe(&self, directory: &Path) -> Result<String> {
        let done = Command::new(&self.program.path).arg("describe").arg(directory).output()?;
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn native(&self, ground: &Ground, place: &str, batch: Batch) -> Result<Transcripts> {
        let directory = self.scratch.join(format!("native-{}-{place}", ground.name));
        fresh(&directory)?;
        let mut command = Self::limited(&self.program.path);
        Self::arguments(&mut command, place, &directory, batch, ground.is_volume);
        let mut all = run(&mut command)?;
        if ground.is_volume {
            self.add_hosts_view(&mut all, &directory.join("one"))?;
        }
        fs::remove_dir_all(&directory)?;
        Ok(all)
    }

    fn sandboxed(&self, ground: &Ground, platform: &str, batch: Batch) -> Result<Transcripts> {
        let outside = self.scratch.join(format!("sandbox-{}-{platform}", ground.name));
        fresh(&outside)?;
        let mut command = Self::limited(self.rvisor);
        command.args(["do", "--no-tty", "--platform", platform]);
        let mut inside = PathBuf::from("/tmp/model");
        if ground.is_volume {
            inside = PathBuf::from("/mnt/model");
            for name in ["one", "two"] {
                let volume = format!("{}:{}", outside.join("one").display(), inside.join(name).display());
                command.arg("-v").arg(volume);
            }
        }
        command.arg("--").arg(&self.program.path);
        Self::arguments(&mut command, ground.inside, &inside, batch, ground.is_volume);
        let mut all = run(&mut command)?;
        if ground.is_volume {
            self.add_hosts_view(&mut all, &outside.join("one"))?;
        }
        fs::remove_dir_all(&outside)?;
        Ok(all)
    }

    /// What the host sees of each sequence's files, behind what was seen inside.
    fn add_hosts_view(&self, all: &mut Transcripts, directory: &Path) -> Result<()> {
        for (seed, lines) in all {
            let seen = self.describe(&directory.join(seed.to_string()))?;
            lines.extend(seen.lines().map(|line| format!("host: {line}")));
        }
        Ok(())
    }

    /// How many sequences of a batch are as on the host, and how many are not.
    fn batch(
        &self,
        ground: &Ground,
        platforms: &[String],
        batch: Batch,
        show: &mut usize,
    ) -> Result<[u32; 2]> {
        let mut natives = Vec::new();
        for place in ground.native {
            natives.push(self.native(ground, place, batch)?);
        }
        let (mut same, mut different) = (0, 0);
        for platform in platforms {
            let guest = self.sandboxed(ground, platform, batch)?;
            for seed in batch.first..batch.first + batch.count {
                let lines = guest.get(&seed);
                let Some(want) = natives[0].get(&seed) else {
                    bail!("{} did not run sequence {seed} on the host", self.program.name)
                };
                if natives.iter().any(|native| native.get(&seed) == lines) {
                    same += 1;
                    continue;
                }
                different += 1;
                if *show > 0 {
                    *show -= 1;
                    let title = format!("{} {} {platform} --first={seed}", self.program.name, ground.name);
                    print_difference(&title, want, lines.map_or(&[], Vec::as_slice));
                }
            }
        }
        Ok([same, different])
    }
}

fn print_difference(title: &str, want: &[String], have: &[String]) {
    let at = want.iter().zip(have).take_while(|(want, have)| want == have).count();
    println!("FAIL {title}");
    for line in &want[at.saturating_sub(CONTEXT_LINES)..at] {
        println!("       {line}");
    }
    println!("  host {}", want.get(at).map_or("(nothing more)", String::as_str));
    println!("  here {}", have.get(at).map_or("(nothing more)", String::as_str));
}

/// Seeds that failed once: one a line, `#` begins a comment.
fn kept_seeds(name: &str) -> Result<Vec<u32>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("model/seeds/{name}.txt"));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let numbers = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    numbers
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().with_context(|| format!("{}: {line}", path.display())))
        .collect()
}

fn batches(options: &Options, name: &str) -> Result<Vec<Batch>> {
    let steps = options.steps;
    let mut all = Vec::new();
    if options.first.is_none() {
        all.extend(kept_seeds(name)?.into_iter().map(|first| Batch { first, count: 1, steps }));
    }
    let first = options.first.unwrap_or(1);
    for begin in (first..first + options.count).step_by(BATCH as usize) {
        all.push(Batch { first: begin, count: BATCH.min(first + options.count - begin), steps });
    }
    Ok(all)
}

fn run_all() -> Result<bool> {
    let options = Options::parse()?;
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let programs = Programs::build(&tmp.join("guest-programs"))?;
    let rvisor = find_rvisor()?;
    let scratch = tmp.join(format!("model-{}", std::process::id()));
    let (mut same, mut different, mut show) = (0, 0, options.show);
    let wanted = |name: &str| options.model.as_deref().is_none_or(|model| model == name);
    for program in programs.models.iter().filter(|program| wanted(&program.name)) {
        let comparison = Comparison { program, rvisor: &rvisor, scratch: &scratch };
        let wanted = |ground: &&Ground| options.place.as_deref().is_none_or(|place| place == ground.name);
        for ground in grounds(&program.name).iter().filter(wanted) {
            let mut count = [0, 0];
            for batch in batches(&options, &program.name)? {
                let [more, bad] = comparison.batch(ground, &options.platforms, batch, &mut show)?;
                count = [count[0] + more, count[1] + bad];
            }
            println!(
                "{} {}: {} sequences as on the host, {} not",
                program.name, ground.name, count[0], count[1]
            );
            same += count[0];
            different += count[1];
        }
    }
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    println!("{same} passed, {different} failed");
    Ok(different == 0 && same > 0)
}

fn main() -> ExitCode {
    match run_all() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("model tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}
