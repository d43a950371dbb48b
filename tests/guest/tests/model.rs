//! Do random sequences of calls come out as on Linux? Runs the generators of `model/` with the same seeds on the host
//! and in a sandbox, and compares what they print, sequence by sequence.
//!
//! `cargo test -p guest-tests --test model -- [--model=NAME] [--where=PLACE] [--platform=P] [--first=SEED]
//! [--count=N] [--fresh=N] [--seconds=N] [--jobs=N] [--steps=N] [--show=N] [--most=N]`. Without `--first` the seeds that failed once
//! (`model/seeds/NAME.txt`) are run as well. `--fresh` adds so many that nobody has chosen; `--seconds` goes on with such
//! for that time. `--jobs`: how many batches at a time, by default one more than there are processors: some sleep. A sequence that
//! differs is printed up to its first difference, `--show` of them; `--most` differences end it. `rvisor` is `$RVISOR_BIN`, or the one beside this test in the target
//! directory.
#![allow(clippy::print_stdout, reason = "this is the front end of a test run")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use guest_tests::{Program, Programs, conclude, find_rvisor};

const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
/// Longest that a batch may take, in seconds.
const BATCH_SECONDS: u32 = 120;
/// How often the host is asked again about a sequence that came out otherwise in a sandbox.
const NATIVE_ANSWERS: usize = 20;
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
    /// Sequences of one start of the generator: some seconds' worth.
    batch: u32,
}

const FILES: [Ground; 3] = [
    Ground { name: "tree", native: &["bind", "overlay"], inside: "bind", is_volume: false, batch: 100 },
    Ground { name: "tmpfs", native: &["tmpfs"], inside: "tmpfs", is_volume: false, batch: 100 },
    Ground { name: "volume", native: &["bind"], inside: "given", is_volume: true, batch: 100 },
];

/// For generators whose calls are on no file system.
const CALLS: [Ground; 1] =
    [Ground { name: "calls", native: &["none"], inside: "none", is_volume: false, batch: 20 }];

fn grounds(model: &str) -> &'static [Ground] {
    if model == "files" { &FILES } else { &CALLS }
}

struct Options {
    model: Option<String>,
    place: Option<String>,
    platforms: Vec<String>,
    first: Option<u32>,
    count: u32,
    fresh: u32,
    seconds: Option<u64>,
    jobs: usize,
    steps: u32,
    show: usize,
    /// Ends with so many differences.
    most: usize,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            model: None,
            place: None,
            platforms: PLATFORMS.map(str::to_owned).to_vec(),
            first: None,
            count: 200,
            fresh: 0,
            seconds: None,
            jobs: thread::available_parallelism()?.get() + 1,
            steps: 60,
            show: 10,
            most: usize::MAX,
        };
        for argument in env::args().skip(1) {
            let Some((name, value)) = argument.split_once('=') else { bail!("what is {argument}?") };
            match name {
                "--model" => options.model = Some(value.to_owned()),
                "--where" => options.place = Some(value.to_owned()),
                "--platform" => options.platforms = vec![value.to_owned()],
                "--first" => options.first = Some(value.parse()?),
                "--count" => options.count = value.parse()?,
                "--fresh" => options.fresh = value.parse()?,
                "--seconds" => options.seconds = Some(value.parse()?),
                "--jobs" => options.jobs = value.parse()?,
                "--steps" => options.steps = value.parse()?,
                "--most" => options.most = value.parse()?,
                "--show" => options.show = value.parse()?,
                _ => bail!("what is {argument}?"),
            }
        }
        Ok(options)
    }
}

/// A generator's lines by sequence.
type Transcripts = BTreeMap<u32, Vec<String>>;

/// What one start of a generator makes: from each of the first seeds on, so many.
#[derive(Clone)]
struct Batch {
    firsts: Vec<u32>,
    count: u32,
    steps: u32,
}

impl Batch {
    fn seeds(&self) -> impl Iterator<Item = u32> {
        self.firsts.iter().flat_map(|&first| (first..).take(self.count as usize))
    }
}

/// A batch of one model at one place.
struct Job<'a> {
    program: &'a Program,
    ground: &'static Ground,
    batch: Batch,
}

struct Comparison<'a> {
    program: &'a Program,
    rvisor: &'a Path,
    scratch: PathBuf,
}

/// What has been found out so far.
#[derive(Default)]
struct Report {
    /// Sequences as on the host, and not, by model and place.
    counts: BTreeMap<(String, &'static str), [usize; 2]>,
    /// Sequences that came out as another answer of the host's.
    several: u32,
    shown: usize,
    error: Option<anyhow::Error>,
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

    fn arguments(command: &mut Command, place: &str, directory: &Path, batch: &Batch, is_kept: bool) {
        command.arg(place).arg(directory);
        let firsts: Vec<_> = batch.firsts.iter().map(u32::to_string).collect();
        command.arg(firsts.join(",")).args([batch.count, batch.steps].map(|number| number.to_string()));
        if is_kept {
            command.arg("keep");
        }
    }

    fn native(&self, ground: &Ground, place: &str, batch: &Batch) -> Result<Transcripts> {
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

    fn sandboxed(&self, ground: &Ground, platform: &str, batch: &Batch) -> Result<Transcripts> {
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
        let seeds: Vec<_> = all.keys().map(u32::to_string).collect();
        let mut command = Command::new(&self.program.path);
        let done = command.arg("describe").arg(directory).arg(seeds.join(",")).output()?;
        for (seed, seen) in transcripts(&String::from_utf8_lossy(&done.stdout)) {
            all.entry(seed).or_default().extend(seen.iter().map(|line| format!("host: {line}")));
        }
        Ok(())
    }

    /// Linux has several answers where processes run side by side: does the host give this one, too, when it is asked again?
    fn is_another_answer(
        &self,
        ground: &Ground,
        batch: &Batch,
        seed: u32,
        lines: Option<&Vec<String>>,
    ) -> Result<bool> {
        let alone = Batch { firsts: vec![seed], count: 1, steps: batch.steps };
        for _ in 0..NATIVE_ANSWERS {
            for place in ground.native {
                if self.native(ground, place, &alone)?.get(&seed) == lines {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Runs a batch on the host and in sandboxes.
    fn batch(&self, job: &Job<'_>, options: &Options, report: &Mutex<Report>) -> Result<()> {
        let Job { ground, batch, .. } = job;
        let mut natives = Vec::new();
        for place in ground.native {
            natives.push(self.native(ground, place, batch)?);
        }
        for platform in &options.platforms {
            let guest = self.sandboxed(ground, platform, batch)?;
            for seed in batch.seeds() {
                let lines = guest.get(&seed);
                let Some(want) = natives[0].get(&seed) else {
                    bail!("{} did not run sequence {seed} on the host", self.program.name)
                };
                let is_first_answer = natives.iter().any(|native| native.get(&seed) == lines);
                let is_same = is_first_answer || self.is_another_answer(ground, batch, seed, lines)?;
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report.several += u32::from(is_same && !is_first_answer);
                let counts = report.counts.entry((self.program.name.clone(), ground.name)).or_default();
                counts[usize::from(!is_same)] += 1;
                if !is_same && report.shown < options.show {
                    report.shown += 1;
                    let title = format!("{} {} {platform} --first={seed}", self.program.name, ground.name);
                    print_difference(&title, want, lines.map_or(&[], Vec::as_slice));
                }
            }
        }
        Ok(())
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

fn batches(options: &Options, name: &str, ground: &Ground, fresh: u32) -> Result<Vec<Batch>> {
    let steps = options.steps;
    let mut all = Vec::new();
    if options.first.is_none() {
        let firsts = kept_seeds(name)?;
        if !firsts.is_empty() {
            all.push(Batch { firsts, count: 1, steps });
        }
    }
    for (first, count) in [(options.first.unwrap_or(1), options.count), (fresh, options.fresh)] {
        for begin in (first..first + count).step_by(ground.batch as usize) {
            all.push(Batch { firsts: vec![begin], count: ground.batch.min(first + count - begin), steps });
        }
    }
    Ok(all)
}

/// All that is to be done: without end, if it is to be done for a time.
fn jobs<'a>(
    options: &'a Options,
    models: &[&'a Program],
    fresh: u32,
) -> Result<Box<dyn Iterator<Item = Job<'a>> + Send + 'a>> {
    let mut lanes = Vec::new();
    for &program in models {
        let wanted = |ground: &&Ground| options.place.as_deref().is_none_or(|place| place == ground.name);
        lanes.extend(grounds(&program.name).iter().filter(wanted).map(|ground| (program, ground)));
    }
    if let Some(seconds) = options.seconds {
        let until = Instant::now() + Duration::from_secs(seconds);
        // The next round begins behind the longest batch.
        let rounds = (fresh..).step_by(100);
        let steps = options.steps;
        return Ok(Box::new(
            rounds
                .flat_map(move |first| lanes.clone().into_iter().map(move |lane| (first, lane)))
                .take_while(move |_| Instant::now() < until)
                .map(move |(first, (program, ground))| {
                    let batch = Batch { firsts: vec![first], count: ground.batch, steps };
                    Job { program, ground, batch }
                }),
        ));
    }
    let mut all = Vec::new();
    for (program, ground) in lanes {
        let batches = batches(options, &program.name, ground, fresh)?;
        all.extend(batches.into_iter().map(|batch| Job { program, ground, batch }));
    }
    Ok(Box::new(all.into_iter()))
}

/// Does one job after another, until there are none or one cannot be done.
fn work<'a>(
    queue: &Mutex<Box<dyn Iterator<Item = Job<'a>> + Send + 'a>>,
    (rvisor, scratch): (&Path, &Path),
    options: &Options,
    report: &Mutex<Report>,
) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(job) = job else { return };
        let comparison = Comparison { program: job.program, rvisor, scratch: scratch.to_owned() };
        let result = comparison.batch(&job, options, report);
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = result {
            report.error.get_or_insert(error);
        }
        let different: usize = report.counts.values().map(|[_, not]| not).sum();
        if report.error.is_some() || different >= options.most {
            return;
        }
    }
}

/// Seeds that nobody has chosen.
fn fresh_seeds() -> Result<u32> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(1_000_000 + u32::try_from(now.as_millis() % 4_000_000_000)? / 100 * 100)
}

fn run_all() -> Result<(usize, usize)> {
    let options = Options::parse()?;
    let begun = Instant::now();
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let programs = Programs::build(&tmp.join("guest-programs"))?;
    let rvisor = find_rvisor()?;
    let scratch = tmp.join(format!("model-{}", std::process::id()));
    let wanted = |program: &&Program| options.model.as_deref().is_none_or(|model| model == program.name);
    let models: Vec<_> = programs.models.iter().filter(wanted).collect();
    let fresh = fresh_seeds()?;
    if options.fresh > 0 || options.seconds.is_some() {
        println!("fresh seeds from {fresh} on");
    }
    let queue = Mutex::new(jobs(&options, &models, fresh)?);
    let report = Mutex::new(Report::default());
    thread::scope(|scope| {
        for number in 0..options.jobs.max(1) {
            let scratch = scratch.join(number.to_string());
            let (queue, report, options, rvisor) = (&queue, &report, &options, &rvisor);
            scope.spawn(move || work(queue, (rvisor, &scratch), options, report));
        }
    });
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    let report = report.into_inner().map_err(|_| anyhow!("a thread has panicked"))?;
    let (mut same, mut different) = (0, 0);
    for ((model, place), [as_host, not]) in &report.counts {
        println!("{model} {place}: {as_host} sequences as on the host, {not} not");
        (same, different) = (same + as_host, different + not);
    }
    if let Some(error) = report.error {
        return Err(error);
    }
    println!(
        "{} sequences in {} s: {different} differences; to {} the host has several answers",
        same + different,
        begun.elapsed().as_secs(),
        report.several
    );
    Ok((same, different))
}

fn main() -> ExitCode {
    conclude("model", run_all())
}
