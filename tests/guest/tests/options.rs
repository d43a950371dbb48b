//! Does the sandbox take what `docs/OPTIONS.md` lists, and nothing else? Runs the survey of `survey/` on each platform: it
//! tries every value that the list names and every other that could be one, and its answers are held against the list.
//!
//! `cargo test -p guest-tests --test options -- [--platform=P]`. `rvisor` is `$RVISOR_BIN`, or the one beside this test in
//! the target directory.
#![allow(clippy::print_stdout, reason = "this is the front end of a test run")]

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use guest_tests::{Answer, List, Programs, conclude, find_rvisor};

const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
/// Longest that a survey may take, in seconds.
const SURVEY_SECONDS: &str = "300";

/// What a survey has answered, and what is wrong with it.
#[derive(Default)]
struct Findings {
    surveyed: BTreeSet<String>,
    answers: usize,
    faults: Vec<String>,
}

/// Holds one line of a survey against the list.
fn judge(list: &List, line: &str, findings: &mut Findings) {
    let Some((title, told)) = line.rsplit_once(": ") else {
        findings.faults.push(line.to_owned());
        return;
    };
    if told == "surveyed" {
        findings.surveyed.insert(title.to_owned());
        return;
    }
    let (name, is_taken) = match told.split_once(' ') {
        Some((name, "taken")) => (name, true),
        Some((name, "refused")) => (name, false),
        _ => return findings.faults.push(line.to_owned()),
    };
    findings.answers += 1;
    match list.answer(title, name) {
        None => findings.faults.push(format!("{title}: {name} is taken and not listed")),
        Some(Answer::Refused) if is_taken => {
            findings.faults.push(format!("{title}: {name} is taken and listed as refused"));
        }
        Some(Answer::Done | Answer::Kept | Answer::Hint) if !is_taken => {
            findings.faults.push(format!("{title}: {name} is listed and refused"));
        }
        Some(_) => {}
    }
}

fn survey(list: &List, program: &Path, rvisor: &Path, platform: &str) -> Result<Findings> {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", SURVEY_SECONDS]).arg(rvisor);
    command.args(["do", "--no-tty", "--platform", platform, "--"]).arg(program).arg("/tmp");
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let output = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() || !output.ends_with("# done\n") {
        let last = output.lines().last().unwrap_or_default();
        bail!("{} after `{last}`: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    let mut findings = Findings::default();
    for line in output.lines().filter(|line| !line.starts_with("# ")) {
        judge(list, line, &mut findings);
    }
    let titles: BTreeSet<_> = list.rows.iter().map(|row| row.title.clone()).collect();
    let unasked = titles.difference(&findings.surveyed).map(|title| format!("{title}: nobody asks"));
    findings.faults.extend(unasked.collect::<Vec<_>>());
    Ok(findings)
}

fn run_all() -> Result<(usize, usize)> {
    let mut platforms = PLATFORMS.map(str::to_owned).to_vec();
    for argument in env::args().skip(1) {
        match argument.split_once('=') {
            Some(("--platform", value)) => platforms = vec![value.to_owned()],
            _ => bail!("what is {argument}?"),
        }
    }
    let list = List::read()?;
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-programs");
    let program = Programs::build_survey(&out, &list)?;
    let rvisor = find_rvisor()?;
    let (mut passed, mut failed) = (0, 0);
    for platform in &platforms {
        let findings = survey(&list, &program.path, &rvisor, platform)?;
        for fault in &findings.faults {
            println!("FAIL {platform}: {fault}");
        }
        failed += findings.faults.len();
        passed += findings.answers.saturating_sub(findings.faults.len());
    }
    Ok((passed, failed))
}

fn main() -> ExitCode {
    conclude("options", run_all())
}
