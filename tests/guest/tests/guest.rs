//! Do guests see Linux? Runs every behaviour on the host, then in the sandbox on each platform, then the hostile
//! guests; prints what failed, and `N passed, N failed` as its last line.
//!
//! `cargo test -p guest-tests --test guest -- [--host-only] [--platform=P]... [AREA | AREA/NAME]...`. The `rvisor`
//! binary is `$RVISOR_BIN`, or the one beside this test in the target directory; without one the run fails.
//! On the host, which others use as well, a behaviour that fails is asked again; if it then passes it is counted, and
//! printed as unstable. In a sandbox there is no second try.
#![allow(clippy::print_stdout, reason = "this is the front end of a test run")]

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use guest_tests::{
    Expectations, Judgement, Outcome, Place, Programs, Results, Runner, conclude, find_rvisor,
};

const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
/// The time of one place; a whole run takes five minutes when nothing hangs.
const PLACE_BUDGET: Duration = Duration::from_secs(900);
/// How often a behaviour that fails on the host is asked again.
const SECOND_CHANCES: usize = 2;
/// With more failures than this in an area there is nothing unstable about it.
const SECOND_CHANCE_FAILURES_MAX: usize = 12;

#[derive(Default)]
struct Options {
    host_only: bool,
    platforms: Vec<String>,
    filters: Vec<String>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self::default();
        for argument in env::args().skip(1) {
            if argument == "--host-only" {
                options.host_only = true;
            } else if let Some(platform) = argument.strip_prefix("--platform=") {
                options.platforms.push(platform.to_owned());
            } else if !argument.starts_with('-') {
                options.filters.push(argument);
            }
        }
        if options.platforms.is_empty() {
            options.platforms = PLATFORMS.map(str::to_owned).to_vec();
        }
        options
    }

    fn wants(&self, area: &str, name: &str) -> bool {
        self.filters.is_empty()
            || self.filters.iter().any(|filter| filter == area || *filter == format!("{area}/{name}"))
    }
}

/// Counts and prints outcomes.
#[derive(Default)]
struct Tally {
    passed: usize,
    known: usize,
    failed: usize,
    unstable: usize,
}

impl Tally {
    fn take(&mut self, place: &str, name: &str, outcome: &Outcome, expectations: &Expectations) {
        match expectations.judge(name, *outcome == Outcome::Passed) {
            Judgement::Passed => self.passed += 1,
            Judgement::KnownFailure => self.known += 1,
            Judgement::UnexpectedPass => {
                self.failed += 1;
                println!("{place}: {name} passes now: remove its line from expectations/{place}.txt");
            }
            Judgement::Failed => {
                self.failed += 1;
                let why = if let Outcome::Failed(why) = outcome { why } else { "" };
                println!("{place}: not ok {name}: {why}");
            }
        }
    }

    fn print(&self, place: &str) {
        let Self { passed, known, failed, unstable } = self;
        println!("{place}: {passed} passed, {failed} failed, {known} known failures, {unstable} passed late");
    }

    /// Asks again what failed.
    fn ask_again(&mut self, results: &mut Results, again: impl Fn(&str) -> Result<Outcome>) -> Result<()> {
        let bad = |(_, outcome): &(&String, &mut Outcome)| **outcome != Outcome::Passed;
        let failures: Vec<_> = results.iter_mut().filter(bad).collect();
        if failures.len() > SECOND_CHANCE_FAILURES_MAX {
            return Ok(());
        }
        for (name, outcome) in failures {
            for _ in 0..SECOND_CHANCES {
                if again(name)? == Outcome::Passed {
                    println!("unstable: {name}: {outcome:?}");
                    self.unstable += 1;
                    *outcome = Outcome::Passed;
                    break;
                }
            }
        }
        Ok(())
    }
}

fn run_areas(place: &str, runner: &Runner, programs: &Programs, options: &Options) -> Result<Tally> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("expectations/{place}.txt"));
    let expectations = if place == "host" { Expectations::default() } else { Expectations::read(&list)? };
    let mut tally = Tally::default();
    let mut known = Vec::new();
    for program in &programs.areas {
        let names = Runner::list(program)?;
        known.extend(names.iter().map(|name| format!("{}/{name}", program.name)));
        let names: Vec<_> = names.into_iter().filter(|name| options.wants(&program.name, name)).collect();
        if names.is_empty() {
            continue;
        }
        let full = |name: &str| format!("{}/{name}", program.name);
        let mut results = runner.run(program, &names)?;
        let once = |name: &str| {
            let alone = runner.run(program, &[name.to_owned()])?.remove(name);
            Ok(alone.unwrap_or(Outcome::Failed("not named".to_owned())))
        };
        if place == "host" {
            tally.ask_again(&mut results, once)?;
        }
        for (name, outcome) in results {
            tally.take(place, &full(&name), &outcome, &expectations);
        }
    }
    known.extend(programs.hostile.iter().map(|program| format!("hostile/{}", program.name)));
    for name in expectations.unknown(|name| known.iter().any(|k| k == name)) {
        tally.failed += 1;
        println!("{place}: expectations/{place}.txt names {name}, which does not exist");
    }
    // Never on the host: they are there to do harm.
    if place != "host" {
        for program in programs.hostile.iter().filter(|program| options.wants("hostile", &program.name)) {
            let name = format!("hostile/{}", program.name);
            let outcome = runner.run_hostile(&programs.neighbour, program)?;
            tally.take(place, &name, &outcome, &expectations);
        }
    }
    tally.print(place);
    Ok(tally)
}

fn run() -> Result<(usize, usize)> {
    let options = Options::parse();
    let programs = Programs::build(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-programs"))?;
    let host = Runner::new(Place::Host, PLACE_BUDGET);
    let mut tallies = vec![run_areas("host", &host, &programs, &options)?];
    let rows = host.into_rows();
    if !options.host_only {
        let rvisor = find_rvisor()?;
        for platform in &options.platforms {
            let runner = Runner::new(
                Place::Sandbox { rvisor: rvisor.clone(), platform: platform.clone() },
                PLACE_BUDGET,
            )
            .comparing(&rows);
            tallies.push(run_areas(platform, &runner, &programs, &options)?);
        }
    }
    let passed: usize = tallies.iter().map(|tally| tally.passed).sum();
    let failed: usize = tallies.iter().map(|tally| tally.failed).sum();
    Ok((passed, failed))
}

fn main() -> ExitCode {
    conclude("guest", run())
}
