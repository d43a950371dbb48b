//! Does a full disk, an exceeded quota, a failing disk reach write, fsync and close as on Linux? Runs `storage/answers.c` natively and
//! in a sandbox on each platform, on storage made for it (small file systems, one whose calls fail, a disk with bad blocks) that the sandbox
//! has as a volume; each answer has to be the host's.
//!
//! `cargo test -p guest-tests --test storage -- [--platform=P] [KIND]`. `rvisor` is `$RVISOR_BIN`, or the one beside this test in
//! the target directory. Its last line is `N passed, N failed`.
#![allow(clippy::print_stdout, reason = "this is the front end of a test run")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use guest_tests::{FaultyFs, Programs, Writes, conclude, find_rvisor};
use nix::mount::{MntFlags, umount2};

const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];
/// Longest that one run may take, in seconds.
const SECONDS: &str = "60";

/// What is below a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An ext4 of a few MiB, to be filled.
    FullDisk,
    /// A tmpfs of the host's, to be filled.
    FullTmpfs,
    /// Each file fails at a call of its own.
    Failing,
    /// The kernel writes later, which fails.
    FailingLater,
    /// An ext4 on a disk on which some blocks cannot be written.
    BadDisk,
}

const KINDS: [Kind; 5] = [Kind::FullDisk, Kind::FullTmpfs, Kind::Failing, Kind::FailingLater, Kind::BadDisk];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::FullDisk => "full-disk",
            Self::FullTmpfs => "full-tmpfs",
            Self::Failing => "failing",
            Self::FailingLater => "failing-later",
            Self::BadDisk => "bad-disk",
        }
    }

    /// What the program is told to ask.
    fn questions(self) -> &'static str {
        match self {
            Self::FullDisk | Self::FullTmpfs => "full",
            Self::Failing => "failing",
            Self::FailingLater | Self::BadDisk => "written-back",
        }
    }
}

/// Mounted storage of some kind; unmounted when dropped, from the last on.
struct Storage {
    at: PathBuf,
    mounted: Vec<PathBuf>,
    below: Option<FaultyFs>,
    folder: PathBuf,
}

impl Drop for Storage {
    fn drop(&mut self) {
        for path in self.mounted.drain(..).rev() {
            // A loop device goes with its mount.
            if umount2(&path, MntFlags::empty()).is_err() {
                let _ = umount2(&path, MntFlags::MNT_DETACH);
            }
        }
        drop(self.below.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    Ok(())
}

impl Storage {
    fn new(kind: Kind, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let at = folder.join("volume");
        std::fs::create_dir_all(&at)?;
        let mut storage = Self { at, mounted: Vec::new(), below: None, folder: folder.to_owned() };
        let to = storage.at.display().to_string();
        match kind {
            Kind::FullDisk => {
                let image = folder.join("image");
                std::fs::File::create(&image)?.set_len(8 << 20)?;
                storage.disk(&image)?;
            }
            Kind::FullTmpfs => {
                run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", &to])?;
                storage.mounted.push(storage.at.clone());
            }
            Kind::Failing => storage.below = Some(FaultyFs::mount(&storage.at, Writes::Through)?),
            Kind::FailingLater => storage.below = Some(FaultyFs::mount(&storage.at, Writes::Back)?),
            Kind::BadDisk => {
                let disk = folder.join("disk");
                std::fs::create_dir_all(&disk)?;
                storage.below = Some(FaultyFs::mount(&disk, Writes::Through)?);
                storage.disk(&disk.join("blocks"))?;
            }
        }
        Ok(storage)
    }

    /// An ext4 on this image. Without a journal, which would take note of what cannot be written in its own way.
    fn disk(&mut self, image: &Path) -> Result<()> {
        let image = image.display().to_string();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "nodiscard", &image])?;
        run("mount", &["-o", "loop", &image, &self.at.display().to_string()])?;
        self.mounted.push(self.at.clone());
        Ok(())
    }
}

/// The program's answers, natively or on a platform.
fn answers(rvisor: &Path, program: &Path, kind: Kind, place: &str) -> Result<Vec<String>> {
    let folder = env::temp_dir().join(format!("rvisor-storage-{}-{place}", std::process::id()));
    let storage = Storage::new(kind, &folder).with_context(|| format!("make {}", kind.name()))?;
    let at = storage.at.display().to_string();
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", SECONDS]);
    if place != "host" {
        command.arg(rvisor).args(["do", "--no-tty", "--platform", place, "-v", &format!("{at}:{at}"), "--"]);
    }
    command.arg(program).args([kind.questions(), &at]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    ensure!(
        output.status.success() && lines.last().is_some_and(|line| line == "# end"),
        "{} on {place}: {} after {:?}",
        kind.name(),
        output.status,
        lines.last()
    );
    Ok(lines)
}

/// Compares line by line; answers how many are right and how many are not.
fn compare(kind: Kind, place: &str, native: &[String], here: &[String]) -> (usize, usize) {
    let (mut passed, mut failed, mut heading) = (0, 0, "");
    for at in 0..native.len().max(here.len()) {
        let [native, here] = [native, here].map(|lines| lines.get(at).map_or("nothing", String::as_str));
        if native.starts_with('#') && native == here {
            heading = native.trim_start_matches('#').trim();
        } else if native == here {
            passed += 1;
        } else {
            failed += 1;
            println!("{place}: not ok {} {heading}: {here:?}, natively {native:?}", kind.name());
        }
    }
    (passed, failed)
}

fn all() -> Result<(usize, usize)> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let platforms: Vec<&str> = arguments.iter().filter_map(|text| text.strip_prefix("--platform=")).collect();
    let platforms = if platforms.is_empty() { PLATFORMS.to_vec() } else { platforms };
    let is_wanted = |kind: &Kind| {
        let mut named = arguments.iter().filter(|text| !text.starts_with('-')).peekable();
        named.peek().is_none() || named.any(|text| text == kind.name())
    };
    let rvisor = find_rvisor()?;
    let programs = Programs::build(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-programs"))?;
    let (mut passed, mut failed) = (0, 0);
    for kind in KINDS.into_iter().filter(is_wanted) {
        let native = answers(&rvisor, &programs.storage.path, kind, "host")?;
        if arguments.iter().any(|text| text == "--show") {
            native.iter().for_each(|line| println!("  {line}"));
        }
        for platform in &platforms {
            let (well, badly) = match answers(&rvisor, &programs.storage.path, kind, platform) {
                Ok(here) => compare(kind, platform, &native, &here),
                Err(error) => {
                    println!("{platform}: not ok {error:#}");
                    (0, 1)
                }
            };
            println!("{platform}: {}: {well} passed, {badly} failed", kind.name());
            (passed, failed) = (passed + well, failed + badly);
        }
    }
    Ok((passed, failed))
}

fn main() -> ExitCode {
    conclude("storage", all())
}
