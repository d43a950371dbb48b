//! Do a container's limits hold for what the kernel does and keeps on its behalf, without a pod and in one, and go on the others
//! unharmed? Measured from outside, by the host's cgroups.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::command::{run, wait_until};
use crate::cri::{Pod, text};
use crate::world::{BUSYBOX, World};

const MEBIBYTE: u64 = 1 << 20;
/// A container's limit of memory.
const LIMIT: u64 = 64 * MEBIBYTE;
/// What sentry and gofer may need besides.
const KERNEL: u64 = 16 * MEBIBYTE;
/// How much the guest tries to get, in MiB.
const WANTED: &str = "192";
/// What can grow, as the guest program names it; its list is compared with this one.
const KINDS: [&str; 27] = [
    "pipes",
    "streams",
    "datagrams",
    "tmpfs",
    "small-files",
    "empty-files",
    "enlarged-files",
    "sparse-files",
    "memory-files",
    "symbolic-links",
    "attributes",
    "epoll-items",
    "messages",
    "semaphores",
    "undone",
    "segments",
    "signals",
    "timers",
    "watch-events",
    "mappings",
    "locks",
    "descriptor-tables",
    "open-files",
    "terminals",
    "answers",
    "connections",
    "volumes-in-memory",
];

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        ours("limits: a tenth of a processor is a tenth with the kernel's work", processor),
        ours("limits: a container has as many tasks as it was promised", tasks),
        ours("limits: each kind in a pod, beside another container", in_pod),
    ];
    for kind in KINDS {
        let run = Rc::new(move |w: &World| alone(w, kind));
        cases.push(Case { run, ..ours(&format!("limits: {kind} without a pod"), processor) });
    }
    cases
}

fn ours(name: &str, run: fn(&World) -> Result<()>) -> Case {
    Case { needs_ours: true, ..Case::new(name, run) }
}

/// The guest program, compiled once.
fn program(w: &World) -> Result<PathBuf> {
    let program = w.dir.path().join("grow");
    if !program.exists() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/grow.c");
        let out = program.display().to_string();
        run(&["gcc", "-O1", "-static", "-o", &out, source], None, 60)?.ok()?;
        let listed = run(&[&out], None, 10)?.ok()?;
        ensure!(listed.stdout.lines().eq(KINDS), "the program's kinds are not the cases': {listed}");
    }
    Ok(program)
}

/// A folder on a tmpfs of the host, as an `emptyDir` in memory is.
struct Volume(PathBuf);

impl Volume {
    fn new(w: &World, name: &str) -> Result<Self> {
        let path = Path::new("/dev/shm").join(format!("{}-{name}", w.mark.replace('/', "-")));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of a cgroup, in whichever hierarchy has it.
fn cgroup_file(cgroup: &str, names: &[&str]) -> Result<u64> {
    let roots =
        ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct"];
    let paths =
        roots.iter().flat_map(|root| names.iter().map(move |name| Path::new(root).join(cgroup).join(name)));
    let mut texts = paths.filter_map(|path| std::fs::read_to_string(path).ok());
    let text = texts.next().with_context(|| format!("no {names:?} in {cgroup}"))?;
    // A number, or a table whose first line has the one that is wanted.
    text.split_whitespace().find_map(|word| word.parse().ok()).with_context(|| format!("{names:?}: {text:?}"))
}

fn most_memory(cgroup: &str) -> Result<u64> {
    cgroup_file(cgroup, &["memory.max_usage_in_bytes", "memory.peak"])
}

/// One container that grows: it is refused with an error, lives, and all that belongs to it stays below its limit.
fn alone(w: &World, kind: &str) -> Result<()> {
    let container = w.container();
    let (cgroup, limit) = (format!("{}/{}", w.mark, container.id), LIMIT.to_string());
    let mount = format!("type=bind,src={},dst=/grow,options=rbind:ro", program(w)?.display());
    let line = w.ctr_line();
    let volume = Volume::new(w, &container.id)?;
    let memory = format!("type=bind,src={},dst=/memory,options=rbind:rw", volume.0.display());
    let mut client = Command::new("timeout");
    client.args(["-s", "KILL", "120"]).args(line.split(' '));
    client.args(["run", "--rm", "--runtime", &w.options.runtime, "--cgroup", &format!("/{cgroup}")]);
    client.args([
        "--memory-limit",
        &limit,
        "--mount",
        &mount,
        "--mount",
        &memory,
        BUSYBOX,
        &container.id,
        "/grow",
        kind,
        WANTED,
    ]);
    let log = w.dir.path().join(format!("{}.out", container.id));
    client.stdin(Stdio::piped()).stdout(std::fs::File::create(&log)?).stderr(Stdio::inherit());
    let mut client = client.spawn()?;
    let grown = wait_until("it has grown", Duration::from_secs(100), || {
        let has_ended = client.try_wait()?.is_some();
        Ok(has_ended || std::fs::read_to_string(&log)?.contains("MiB"))
    });
    let most = most_memory(&cgroup);
    // The end of its input ends it.
    drop(client.stdin.take());
    let status = client.wait()?;
    container.clean();
    grown?;
    let said = std::fs::read_to_string(&log)?;
    ensure!(status.success() && said.contains("MiB"), "it has not lived: {status}, {said:?}");
    let most = most?;
    ensure!(most <= LIMIT + KERNEL, "{} MiB for a limit of {}: {said}", most / MEBIBYTE, LIMIT / MEBIBYTE);
    Ok(())
}

/// One container of a pod after the other grows, beside another one, which notices nothing.
fn in_pod(w: &World) -> Result<()> {
    let pod = Pod::run(w)?;
    let tried = || -> Result<()> {
        let sibling = pod.start("sibling", &["sleep", "1000"], json!({"memory_limit_in_bytes": LIMIT}))?;
        for kind in KINDS {
            grow_beside(w, &pod, &sibling, kind).with_context(|| kind)?;
        }
        Ok(())
    };
    let outcome = tried();
    let removed = pod.remove();
    outcome.and(removed)
}

fn grow_beside(w: &World, pod: &Pod<'_>, sibling: &str, kind: &str) -> Result<()> {
    const USAGE: [&str; 2] = ["memory.usage_in_bytes", "memory.current"];
    let before = cgroup_file(pod.cgroup(), &USAGE)?;
    let shell = format!("sleep 1000 | /grow {kind} {WANTED}");
    let program = program(w)?.display().to_string();
    let volume = Volume::new(w, kind)?;
    let mounts = json!([
        {"container_path": "/grow", "host_path": program, "readonly": true},
        {"container_path": "/memory", "host_path": volume.0.display().to_string()},
    ]);
    let limits = json!({"memory_limit_in_bytes": LIMIT});
    let id = pod.start_with(kind, &["sh", "-c", &shell], limits, mounts)?;
    let mut said = String::new();
    let grown = wait_until("it has grown", Duration::from_secs(100), || {
        said = std::fs::read_to_string(pod.logs.join(format!("{kind}.log"))).unwrap_or_default();
        Ok(said.contains("MiB") || text(&pod.status(&id)?, "/state") != "CONTAINER_RUNNING")
    });
    grown.with_context(|| said.clone())?;
    ensure!(said.contains("MiB"), "it has not lived: {said:?}, {}", pod.status(&id)?);
    let grew = cgroup_file(pod.cgroup(), &USAGE)?.saturating_sub(before);
    ensure!(grew <= LIMIT + KERNEL, "{} MiB for a limit of {}: {said}", grew / MEBIBYTE, LIMIT / MEBIBYTE);
    let works = "dd if=/dev/zero bs=1M count=8 2>/dev/null | cat | wc -c";
    let answer = pod.exec(sibling, works, 20)?;
    ensure!(text(&answer, "/stdout").trim() == "8388608", "the sibling does not work: {answer}");
    pod.about("StopContainer", &id, json!({"timeout": 0}))?;
    pod.about("RemoveContainer", &id, json!({})).map(drop)
}

/// Two threads that let the kernel work for them. LINUX: sched-bwc.rst: what a period leaves over is not kept.
fn processor(w: &World) -> Result<()> {
    const SECONDS: u64 = 4;
    let container = w.container();
    let cgroup = format!("{}/{}", w.mark, container.id);
    let busy = "cat /dev/urandom > /dev/null & exec cat /dev/urandom > /dev/null";
    let quota = ["-d", "--cpu-quota", "10000", "--cpu-period", "100000"];
    let tried = container.run(&quota, BUSYBOX, &["sh", "-c", busy])?.ok().and_then(|_| {
        let used = || -> Result<u64> {
            let microseconds = cgroup_file(&cgroup, &["cpu.stat"]);
            cgroup_file(&cgroup, &["cpuacct.usage"]).map(|ns| ns / 1000).or(microseconds)
        };
        std::thread::sleep(Duration::from_secs(1));
        let (first, begun) = (used()?, Instant::now());
        std::thread::sleep(Duration::from_secs(SECONDS));
        let (spent, passed) = (used()? - first, u64::try_from(begun.elapsed().as_micros())?);
        ensure!(spent * 100 <= passed * 12, "{spent} of {passed} microseconds");
        ensure!(spent > 0, "it does not run");
        Ok(())
    });
    container.clean();
    tried
}

/// `pids.limit` counts guest tasks, whatever the host needs for them.
fn tasks(w: &World) -> Result<()> {
    const PROMISED: usize = 60;
    let script = "n=1; while sleep 1000 & do n=$((n+1)); echo $n; done 2>/dev/null; echo end";
    let answer = super::bad::changed(w, |config: &mut Value| {
        config["process"]["args"] = json!(["timeout", "-s", "KILL", "20", "sh", "-c", script]);
        config["linux"]["resources"] = json!({"pids": {"limit": PROMISED}});
    })?;
    let most = answer.stdout.lines().filter_map(|line| line.parse::<usize>().ok()).max().unwrap_or(0);
    // `timeout` is the first of them.
    ensure!(most + 1 == PROMISED, "{most} processes besides the first: {answer}");
    Ok(())
}
