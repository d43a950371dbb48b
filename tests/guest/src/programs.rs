//! Where do the guest programs come from? [`Programs`] compiles them from this crate's C files when they are older
//! than their sources: one static program per area folder, and one per file of `hostile/`. Nothing built is committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::options::List;

/// Static, so that a program also runs where there is nothing but itself; without a red zone of the compiler's, for
/// some behaviours push and pop in assembly.
const CFLAGS: [&str; 9] =
    ["-D_GNU_SOURCE", "-std=gnu17", "-O1", "-g", "-Wall", "-Wextra", "-static", "-pthread", "-mno-red-zone"];

/// One built program.
#[derive(Debug, Clone)]
pub struct Program {
    /// The area, or the file's stem for a hostile guest.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// What the sandbox must say of it, by platform: `// TOLD platform: text` in its source.
    pub told: Vec<(String, String)>,
}

/// All built programs.
#[derive(Debug)]
pub struct Programs {
    /// Behaviours, one program per area, in alphabetical order.
    pub areas: Vec<Program>,
    /// Hostile guests, in alphabetical order.
    pub hostile: Vec<Program>,
    /// The well-behaved process that lives beside a hostile one.
    pub neighbour: Program,
    /// Generators of random sequences of calls, in alphabetical order.
    pub models: Vec<Program>,
    /// What makes and destroys objects of each kind.
    pub lifetimes: Program,
    /// What asks storage that is full or fails.
    pub storage: Program,
}

impl Programs {
    /// Builds what is out of date into `out`.
    pub fn build(out: &Path) -> Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let header = root.join("src/harness.h");
        let mut areas = Vec::new();
        for folder in sorted(&root.join("src"))? {
            let mut sources = if folder.is_dir() { c_files(&folder)? } else { Vec::new() };
            if !sources.is_empty() {
                sources.insert(0, root.join("src/harness.c"));
                let headers = [files(&folder, "h")?, vec![header.clone()]].concat();
                areas.push(compile(&stem(&folder), &sources, &headers, out)?);
            }
        }
        let mut hostile = Vec::new();
        let headers = [root.join("hostile/hostile.h")];
        for source in c_files(&root.join("hostile"))? {
            hostile.push(compile(&stem(&source), &[source], &headers, out)?);
        }
        let Some(at) = hostile.iter().position(|program| program.name == "neighbour") else {
            bail!("hostile/neighbour.c is missing");
        };
        let neighbour = hostile.remove(at);
        let mut models = Vec::new();
        let headers = [root.join("model/model.h")];
        for source in c_files(&root.join("model"))? {
            models.push(compile(&stem(&source), std::slice::from_ref(&source), &headers, out)?);
        }
        let kinds = root.join("lifetimes/kinds.c");
        let lifetimes = compile("kinds", std::slice::from_ref(&kinds), &[], out)?;
        let answers = root.join("storage/answers.c");
        let storage = compile("answers", std::slice::from_ref(&answers), &[], out)?;
        Ok(Self { areas, hostile, neighbour, models, lifetimes, storage })
    }

    /// Builds the program of `acl/` into `out`.
    pub fn build_acl(out: &Path) -> Result<Program> {
        fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("acl/acl.c");
        compile("acl", std::slice::from_ref(&source), &[], out)
    }

    /// Builds the survey of `survey/` with a list's names into `out`.
    pub fn build_survey(out: &Path, list: &List) -> Result<Program> {
        fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("survey");
        let names = out.join("survey-names.c");
        let text = format!("#include \"{}\"\n{}", folder.join("names.h").display(), list.as_c());
        // What has not changed is left alone, so that the survey is current.
        if !fs::read_to_string(&names).is_ok_and(|old| old == text) {
            fs::write(&names, text).with_context(|| format!("write {}", names.display()))?;
        }
        let sources = [c_files(&folder)?, vec![names]].concat();
        compile("survey", &sources, &files(&folder, "h")?, out)
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn c_files(folder: &Path) -> Result<Vec<PathBuf>> {
    files(folder, "c")
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    Ok(sorted(folder)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect())
}

fn modified(path: &Path) -> Result<SystemTime> {
    fs::metadata(path)
        .and_then(|status| status.modified())
        .with_context(|| format!("stat {}", path.display()))
}

fn is_current(program: &Path, inputs: &[PathBuf], headers: &[PathBuf]) -> Result<bool> {
    if !program.exists() {
        return Ok(false);
    }
    let built = modified(program)?;
    for input in inputs.iter().chain(headers) {
        if modified(input)? >= built {
            return Ok(false);
        }
    }
    Ok(true)
}

fn told_of(source: &Path) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(source).with_context(|| format!("read {}", source.display()))?;
    let told = text.lines().filter_map(|line| line.strip_prefix("// TOLD ")?.split_once(": "));
    Ok(told.map(|(platform, text)| (platform.to_owned(), text.to_owned())).collect())
}

fn compile(name: &str, sources: &[PathBuf], headers: &[PathBuf], out: &Path) -> Result<Program> {
    let path = out.join(name);
    let told = sources.iter().map(|source| told_of(source)).collect::<Result<Vec<_>>>()?.concat();
    let program = Program { name: name.to_owned(), path: path.clone(), told };
    if is_current(&path, sources, headers)? {
        return Ok(program);
    }
    // Under another name first: an interrupted build must not leave half a program that looks current.
    let partial = out.join(format!(".{name}.partial"));
    let done = Command::new("cc")
        .args(CFLAGS)
        .arg("-o")
        .arg(&partial)
        .args(sources)
        .output()
        .context("start the C compiler `cc`")?;
    if !done.status.success() {
        bail!("compile {name}: {}", String::from_utf8_lossy(&done.stderr));
    }
    fs::rename(&partial, &path).with_context(|| format!("install {}", path.display()))?;
    Ok(program)
}
