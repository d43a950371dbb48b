//! Are POSIX access lists of a volume's files obeyed as on the host? `acl/acl.c` makes files with lists and asks as several users; each
//! answer in a sandbox is that of the host.
//!
//! `cargo test -p guest-tests --test acl`. `rvisor` is `$RVISOR_BIN`, or the one beside this test in the target directory.
#![allow(clippy::print_stdout, reason = "this is the front end of a test run")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use guest_tests::{Program, Programs, conclude, find_rvisor};

const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
/// Longest that one run may take, in seconds.
const SECONDS: &str = "60";

/// The lines of one run.
fn answers(command: &mut Command) -> Result<Vec<String>> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let output = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success() && output.ends_with("# done\n"),
        "{command:?}: {}, {}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(output.lines().map(str::to_owned).collect())
}

/// A new directory of files with lists: what an owner may change must not be there for the next who asks.
fn fresh(program: &Program, at: &Path) -> Result<()> {
    if at.exists() {
        fs::remove_dir_all(at)?;
    }
    fs::create_dir_all(at)?;
    fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
    let made = Command::new(&program.path).arg("make").arg(at).output()?;
    ensure!(made.status.success(), "no lists here: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn run_all() -> Result<(usize, usize)> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = Programs::build_acl(&tmp.join("guest-programs"))?;
    let rvisor = find_rvisor()?;
    let volume = tmp.join(format!("acl-{}", std::process::id()));
    fresh(&program, &volume)?;
    let native = answers(Command::new(&program.path).arg("ask").arg(&volume))?;
    let (mut passed, mut failed) = (0, 0);
    for platform in PLATFORMS {
        fresh(&program, &volume)?;
        let mut command = Command::new("timeout");
        command.args(["-k", "5", SECONDS]).arg(&rvisor);
        command.args(["do", "--no-tty", "--platform", platform, "-v"]);
        command.arg(format!("{}:/mnt/acl", volume.display())).arg("--").arg(&program.path);
        let here = answers(command.args(["ask", "/mnt/acl"]))?;
        ensure!(
            here.len() == native.len(),
            "{platform}: {} answers, on the host {}",
            here.len(),
            native.len()
        );
        for (here, native) in here.iter().zip(&native) {
            if here == native {
                passed += 1;
            } else {
                failed += 1;
                println!("FAIL {platform}: {here}, on the host {native}");
            }
        }
    }
    fs::remove_dir_all(&volume)?;
    Ok((passed, failed))
}

fn main() -> ExitCode {
    conclude("acl", run_all())
}
