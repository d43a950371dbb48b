//! The runner: starts a world, runs the cases, looks for leaks, counts.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line front end")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use e2e::cases::{Case, all};
use e2e::leaks::Snapshot;
use e2e::options::Options;
use e2e::world::World;
use guest_tests::{Expectations, Judgement};

/// After this long no further case is started: the rest has failed. So a runtime in which everything hangs
/// is cleaned up after as well, before a caller loses patience.
const BUDGET: Duration = Duration::from_secs(720);
/// What is added to that for each round of the soak cases.
const SOAK_ROUND: Duration = Duration::from_secs(2);
/// The case that the runner itself adds.
const LEFT: &str = "nothing is left behind";

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<usize> {
    let options = Options::parse(std::env::args().skip(1))?;
    let chosen: Vec<Case> = all().into_iter().filter(|case| wanted(case, &options)).collect();
    if options.list {
        chosen.iter().for_each(|case| println!("{}", case.name));
        return Ok(0);
    }
    // The number alone would do, were it not that each run may be in a PID namespace of its own.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() % 1_000_000;
    let mark = format!("rvisor-e2e-{now}-{}", std::process::id());
    let before = Snapshot::take(&mark, options.ours());
    let expectations = expectations(&options)?;
    let mut tally = Tally::default();
    let started = Instant::now();
    let budget = BUDGET + SOAK_ROUND * u32::try_from(options.soak)?;
    {
        let world = World::start(&options, &mark)?;
        let version = world.ctr(&["version"])?.stdout;
        let server = version.lines().skip_while(|line| !line.starts_with("Server")).nth(1).unwrap_or("?");
        println!("{} on containerd {}", options.runtime, server.trim());
        if options.demo {
            e2e::command::show();
        }
        for case in chosen.iter().flat_map(|case| std::iter::repeat_n(case, options.times)) {
            let begun = Instant::now();
            if options.demo {
                println!("\n== {}", case.name);
            }
            let outcome = attempt(case, &world, started, budget);
            let took = begun.elapsed().as_secs_f64();
            tally.take(case, outcome, took, &expectations);
        }
        if let (Some(path), true) = (&options.keep_log, tally.failed > 0) {
            std::fs::write(path, world.log())?;
        }
    }
    // A shim that is told to shut down may take a moment to end; one that is not told because containerd has gone, ten
    // seconds.
    let clean = e2e::command::wait_until("nothing is left", Duration::from_secs(15), || {
        Ok(Snapshot::take(&mark, options.ours()).since(&before).is_empty())
    });
    if clean.is_ok() {
        tally.passed += 1;
        println!("ok   {LEFT}");
    } else {
        let left = Snapshot::take(&mark, options.ours()).since(&before);
        let is_known = expectations.judge(LEFT, false) == Judgement::KnownFailure;
        *(if is_known { &mut tally.known } else { &mut tally.failed }) += 1;
        println!("{} {LEFT}:\n  {}", if is_known { "known" } else { "FAIL" }, left.join("\n  "));
    }
    for name in expectations.unknown(|name| all().iter().any(|case| case.name == name) || name == LEFT) {
        tally.failed += 1;
        println!("FAIL the expectations name {name:?}, which does not exist");
    }
    println!("{} passed, {} failed, {} known failures", tally.passed, tally.failed, tally.known);
    Ok(tally.failed)
}

/// Counts and prints outcomes.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    known: usize,
}

impl Tally {
    fn take(&mut self, case: &Case, outcome: Result<()>, took: f64, expectations: &Expectations) {
        match (expectations.judge(&case.name, outcome.is_ok()), outcome) {
            (Judgement::Passed, _) => {
                self.passed += 1;
                println!("ok   {} ({took:.1} s)", case.name);
            }
            (Judgement::UnexpectedPass, _) => {
                self.failed += 1;
                println!("FAIL {}: passes now: remove its line from the expectations", case.name);
            }
            (Judgement::KnownFailure, Err(error)) => {
                self.known += 1;
                println!("known {} ({took:.1} s): {error:#}", case.name);
            }
            (_, outcome) => {
                self.failed += 1;
                let error = outcome.err().unwrap_or_else(|| anyhow::anyhow!("no reason"));
                println!("FAIL {} ({took:.1} s): {error:#}", case.name);
            }
        }
    }
}

/// Known failures; of our runtime only, for the other one is the measure.
fn expectations(options: &Options) -> Result<Expectations> {
    let mut list = Expectations::default();
    if options.ours() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        list.add(&folder.join("expectations.txt"))?;
        let more = folder.join(format!("expectations-{}.txt", options.containerd));
        if more.exists() {
            list.add(&more)?;
        }
    }
    Ok(list)
}

fn attempt(case: &Case, world: &World, started: Instant, budget: Duration) -> Result<()> {
    match started.elapsed() < budget {
        true => (case.run)(world),
        false => Err(anyhow::anyhow!("not tried: {budget:?} are over")),
    }
}

fn wanted(case: &Case, options: &Options) -> bool {
    let named = options.only.is_empty() || options.only.iter().any(|text| case.name.contains(text.as_str()));
    named && (!case.needs_ours || options.ours()) && (!options.demo || case.demo)
}
