//! The runner: starts a world, runs the cases, looks for leaks, counts.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line front end")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::cases::{Case, all};
use e2e::leaks::Snapshot;
use e2e::options::Options;
use e2e::world::World;

/// After this long no further case is started: the rest has failed. So a runtime in which everything hangs
/// is cleaned up after as well, before a caller loses patience.
const BUDGET: Duration = Duration::from_secs(720);

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
    let mark = format!("rvisor-e2e-{}", std::process::id());
    let before = Snapshot::take(&mark, options.ours());
    let (mut passed, mut failed) = (0, 0);
    let started = Instant::now();
    {
        let world = World::start(&options)?;
        let version = world.ctr(&["version"])?.stdout;
        let server = version.lines().skip_while(|line| !line.starts_with("Server")).nth(1).unwrap_or("?");
        println!("{} on containerd {}", options.runtime, server.trim());
        if options.demo {
            e2e::command::show();
        }
        for case in &chosen {
            let begun = Instant::now();
            if options.demo {
                println!("{}", case.name);
            }
            let outcome = match started.elapsed() < BUDGET {
                true => (case.run)(&world),
                false => Err(anyhow::anyhow!("not tried: {BUDGET:?} are over")),
            };
            let took = begun.elapsed().as_secs_f64();
            match outcome {
                Ok(()) => {
                    passed += 1;
                    println!("ok   {} ({took:.1} s)", case.name);
                }
                Err(error) => {
                    failed += 1;
                    println!("FAIL {} ({took:.1} s): {error:#}", case.name);
                }
            }
        }
        if let (Some(path), true) = (&options.keep_log, failed > 0) {
            std::fs::write(path, world.log())?;
        }
    }
    // A shim that is told to shut down may take a moment to end.
    let clean = e2e::command::wait_until("nothing is left", Duration::from_secs(8), || {
        Ok(Snapshot::take(&mark, options.ours()).since(&before).is_empty())
    });
    if clean.is_ok() {
        passed += 1;
        println!("ok   nothing is left behind");
    } else {
        failed += 1;
        let left = Snapshot::take(&mark, options.ours()).since(&before);
        println!("FAIL nothing is left behind:\n  {}", left.join("\n  "));
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed)
}

fn wanted(case: &Case, options: &Options) -> bool {
    let named = options.only.is_empty() || options.only.iter().any(|text| case.name.contains(text.as_str()));
    named && (!case.needs_ours || options.ours()) && (!options.demo || case.demo)
}
