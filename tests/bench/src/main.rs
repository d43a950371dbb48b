//! What does a sandbox cost? One run prints every operation natively, in ours on both platforms, and under runc and
//! runsc where they are installed: median, range, and the ratio to native.
//!
//! The parts: [`place`] (where a command can run), [`figures`] (samples and the table), and here the order of
//! things. Rounds go over all places in turn, so that a busy minute of the machine hits all of them.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line front end")]

mod figures;
mod measure;
mod place;
mod share;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::figures::Figures;
use crate::place::Place;

const USAGE: &str =
    "bench [--bin-dir DIR] [--cache DIR] [--rounds N] [--only PLACE]... [--operation NAME]...";

struct Options {
    bin_dir: PathBuf,
    cache: PathBuf,
    rounds: u32,
    only: Vec<String>,
    operations: Vec<String>,
}

fn options() -> Result<Options> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let own = std::env::current_exe()?;
    let cache = std::env::var_os("RVISOR_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
    let bin_dir = own.parent().context("this program stands in a directory")?.to_owned();
    let mut options = Options { bin_dir, cache, rounds: 5, only: Vec::new(), operations: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(switch) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{switch} needs a value; {USAGE}"))?;
        match switch.as_str() {
            "--bin-dir" => options.bin_dir = value.into(),
            "--cache" => options.cache = value.into(),
            "--rounds" => options.rounds = value.parse().context("--rounds")?,
            "--only" => options.only.push(value),
            "--operation" => options.operations.push(value),
            _ => bail!("unknown switch {switch}; {USAGE}"),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The C program, built into the root that every place runs on.
fn build_guest(root: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/bench.c");
    let program = root.join(place::BENCH.trim_start_matches('/'));
    let built = Command::new("gcc")
        .args(["-O2", "-static", "-pthread", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .context("start gcc")?;
    ensure!(built.success(), "gcc cannot build {}", source.display());
    Ok(())
}

fn run() -> Result<()> {
    let options = options()?;
    let root = options.cache.join("rootfs/debian");
    ensure!(root.is_dir(), "{} is missing: run tests/images/setup.sh", root.display());
    build_guest(&root)?;
    let _share = share::Share::enter();
    let scratch = tempfile::Builder::new().prefix("rvisor-bench").tempdir()?;
    let known = place::all(&root, &options.bin_dir, &options.cache, scratch.path())?;
    let wanted =
        |place: &Place| options.only.is_empty() || options.only.iter().any(|name| name == place.name);
    let mut places = Vec::new();
    for place in known.into_iter().filter(wanted) {
        match place.try_out() {
            Ok(()) => places.push(place),
            Err(error) => eprintln!("bench: no column for {}: {error:#}", place.name),
        }
    }
    ensure!(!places.is_empty(), "no place works");
    println!("load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for place in &places {
            // A place that fails in one subject keeps its other figures.
            for subject in measure::SUBJECTS {
                if let Err(error) = subject(place, &options.operations, &mut figures) {
                    eprintln!("bench: {}: {error:#}", place.name);
                }
            }
        }
    }
    let names: Vec<&str> = places.iter().map(|place| place.name).collect();
    print!("{}", figures.table(&names));
    Ok(())
}
