//! Has each process of a sandbox the least? What runs is compared with `posture.toml`: ids, capabilities, namespaces, mounts,
//! descriptors, limits, cgroup, and the seccomp filters as the kernel has them.
//!
//! Key types: [`Table`] and [`Live`]. Filters are read by `posture/filters.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seccomp::bpf::{ARCH_X86_64, X32_BIT, sock_filter};
use seccomp::policy::{Gofer, Platform, gofer, sentry};
use seccomp::{Policy, Unexpected};
use toml::Value;

use super::Case;
use crate::command::{run, wait_until};
use crate::processes::{self, Process};
use crate::world::{BUSYBOX, DEBIAN, World};

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let ours = |case: Case| Case { needs_ours: true, ..case };
    vec![
        ours(Case::new("posture: every process has what the table says and no more", posture)),
        ours(Case::new("posture: no epoll instance of the host watches another", epolls)),
    ]
}

/// The file beside this crate.
type Table = toml::Table;
/// `code, jt, jf, k`, as the kernel gives it back.
type Instruction = (u16, u8, u8, u32);
type Filter = Vec<Instruction>;

/// A process, and which part of the table speaks about it.
struct Live {
    process: Process,
    part: &'static str,
}

/// A guest of three processes; there is a file when all have become what they stay.
const THREE: &str = "sleep 1000 & a=$!; sleep 1000 & b=$!
for p in $a $b; do c=sh; while [ $c = sh ]; do read c < /proc/$p/comm; done; done
: > /made; wait";

fn posture(w: &World) -> Result<()> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("posture.toml"))?;
    let table: Table = toml::from_str(&text).context("posture.toml")?;
    let container = w.container();
    let outcome = container
        .run(&["-d"], BUSYBOX, &["sh", "-c", THREE])
        .and_then(crate::command::Answer::ok)
        .and_then(|_| {
            wait_until("the guest has its processes", Duration::from_secs(20), || {
                Ok(container.exec("look", &["test", "-e", "/made"])?.status == 0)
            })
        })
        .and_then(|()| compare(&table, &container.id));
    container.clean();
    outcome
}

/// A guest's instance that watches another, with a socket in that, and both of them used.
const NESTED: &str = "
import select, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))
inner, outer = select.epoll(), select.epoll()
outer.register(inner.fileno()); inner.register(s.fileno(), select.EPOLLIN)
s.sendto(b'x', s.getsockname())
assert outer.poll() == [(inner.fileno(), select.EPOLLIN)]
open('/made', 'w').close()
time.sleep(1000)
";

/// Races between the two ends of such a pair have been a way into the host's kernel.
fn epolls(w: &World) -> Result<()> {
    let container = w.container();
    let outcome = container
        .run(&["-d"], DEBIAN, &["python3", "-c", NESTED])
        .and_then(crate::command::Answer::ok)
        .and_then(|_| {
            wait_until("the guest has nested its instances", Duration::from_secs(20), || {
                Ok(container.exec("look", &["test", "-e", "/made"])?.status == 0)
            })
        })
        .and_then(|()| no_nested_epolls(&container.id));
    container.clean();
    outcome
}

/// LINUX: proc(5), fdinfo: an instance tells the descriptor of each file that it watches.
fn no_nested_epolls(id: &str) -> Result<()> {
    let sentry = processes::find(id, processes::Role::Sentry).context("a sentry")?.pid;
    let leads_to_epoll = |fd: &str| {
        std::fs::read_link(format!("/proc/{sentry}/fd/{fd}"))
            .is_ok_and(|target| target == Path::new("anon_inode:[eventpoll]"))
    };
    let (mut instances, mut watched) = (0, 0);
    for entry in std::fs::read_dir(format!("/proc/{sentry}/fd"))? {
        let fd = entry?.file_name().to_string_lossy().into_owned();
        if !leads_to_epoll(&fd) {
            continue;
        }
        instances += 1;
        for line in std::fs::read_to_string(format!("/proc/{sentry}/fdinfo/{fd}"))?.lines() {
            let Some(target) = line.strip_prefix("tfd:") else { continue };
            let target = target.split_whitespace().next().unwrap_or_default();
            watched += 1;
            ensure!(!leads_to_epoll(target), "instance {fd} watches instance {target}: {line}");
        }
    }
    ensure!(instances >= 2 && watched >= 2, "{instances} instances with {watched} files were seen");
    Ok(())
}

fn compare(table: &Table, id: &str) -> Result<()> {
    let live = live(id);
    for part in ["shim", "sentry", "gofer", "stub"] {
        ensure!(live.iter().any(|live| live.part == part), "no {part} among {:?}", names(&live));
    }
    let mut uids = BTreeSet::new();
    for live in &live {
        let rules = table[live.part].as_table().context("a table")?;
        let pid = live.process.pid;
        let looked_at = status(rules, pid).and_then(|uid| {
            namespaces(rules, pid)?;
            if live.part != "shim" {
                holdings(table, rules, pid, id)?;
            }
            Ok(uid)
        });
        match looked_at {
            Ok(uid) => uids.extend(uid),
            // A guest's process may end while it is looked at.
            Err(_) if live.part == "stub" && has_ended(pid) => {}
            Err(error) => return Err(error.context(format!("{} {pid}", live.part))),
        }
    }
    ensure!(uids.len() == 1, "one id for all of the sandbox: {uids:?}");
    filters(table, &live)
}

fn names(live: &[Live]) -> Vec<&str> {
    live.iter().map(|live| live.process.line.as_str()).collect()
}

/// The container's processes. What is below the sentry is a stub, whatever it calls itself.
fn live(id: &str) -> Vec<Live> {
    let all = processes::of_container(id);
    let sentry = processes::find(id, processes::Role::Sentry).map_or(0, |sentry| sentry.pid);
    let mut live: Vec<Live> = Vec::new();
    for process in all {
        let below =
            |pid: i32| live.iter().any(|above: &Live| above.process.pid == pid && above.part == "stub");
        let part = if process.pid == sentry {
            "sentry"
        } else if process.parent == sentry || below(process.parent) {
            "stub"
        } else if process.line.contains("rvisor-gofer") {
            "gofer"
        } else {
            "shim"
        };
        live.push(Live { process, part });
    }
    live
}

/// Whether a process or thread is gone, or only waits to be reaped.
fn has_ended(id: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { return true };
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn fields(pid: i32, task: Option<i32>) -> Result<BTreeMap<String, String>> {
    let path = match task {
        Some(task) => format!("/proc/{pid}/task/{task}/status"),
        None => format!("/proc/{pid}/status"),
    };
    let text = std::fs::read_to_string(path)?;
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// Ids, capabilities and `no_new_privs` of every thread; the id, if it is the sandbox's.
fn status(rules: &Table, pid: i32) -> Result<Option<u32>> {
    let mut own = None;
    for task in tasks(pid)? {
        let has = match fields(pid, Some(task)) {
            Err(_) if has_ended(task) => continue,
            has => has?,
        };
        let ids: BTreeSet<&str> = ["Uid", "Gid"].iter().flat_map(|name| has[*name].split(' ')).collect();
        ensure!(ids.len() == 1, "its ids differ: {ids:?}");
        let uid: u32 = ids.first().context("an id")?.parse()?;
        if rules["uid"].as_str() == Some("host") {
            ensure!(uid == 0, "its uid is {uid}");
        } else {
            let range = sandbox::ids::Range::default();
            ensure!(range.contains(uid), "its uid {uid} is not of {range}");
            own = Some(uid);
        }
        if let Some(wanted) = rules.get("capabilities").and_then(Value::as_str) {
            for name in ["CapPrm", "CapEff", "CapBnd"] {
                ensure!(has[name] == wanted, "{name} is {}, not {wanted}", has[name]);
            }
            ensure!(
                has["CapInh"].chars().chain(has["CapAmb"].chars()).all(|c| c == '0'),
                "it hands rights on"
            );
            ensure!(has["Groups"].is_empty(), "it has groups: {}", has["Groups"]);
        }
        let no_new_privs = rules["no_new_privs"].as_bool() == Some(true);
        ensure!((has["NoNewPrivs"] == "1") == no_new_privs, "no_new_privs is {}", has["NoNewPrivs"]);
        let seccomp = if no_new_privs { "2" } else { "0" };
        ensure!(has["Seccomp"] == seccomp, "thread {task}: seccomp mode {}", has["Seccomp"]);
    }
    Ok(own)
}

fn tasks(pid: i32) -> Result<Vec<i32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn namespaces(rules: &Table, pid: i32) -> Result<()> {
    let mut own = Vec::new();
    for name in ["cgroup", "ipc", "mnt", "pid", "time", "user", "uts"] {
        let [its, ours] = [pid.to_string(), "self".to_owned()]
            .map(|who| std::fs::read_link(format!("/proc/{who}/ns/{name}")));
        if its? != ours? {
            own.push(name);
        }
    }
    ensure!(own == strings(&rules["namespaces"]), "namespaces of its own: {own:?}");
    Ok(())
}

fn matches(text: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => text == *pattern,
    })
}

/// Mounts, descriptors, limits and cgroup.
fn holdings(table: &Table, rules: &Table, pid: i32, id: &str) -> Result<()> {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let (point, options) = (fields[4], fields[5]);
        ensure!(matches(point, &strings(&rules["mounts"])), "a mount that the table has not: {line}");
        ensure!(options.contains("nosuid") && options.contains("nodev"), "{line}");
        ensure!(
            !["proc", "sysfs", "cgroup", "cgroup2"].iter().any(|kind| line.contains(&format!(" - {kind} "))),
            "{line}"
        );
        if rules["read_only_root"].as_bool() == Some(true) {
            ensure!(options.starts_with("ro,"), "{line}");
        }
    }
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // One may be closed meanwhile.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        ensure!(
            matches(&target, &strings(&rules["descriptors"])),
            "descriptor {} leads to {target}",
            entry.file_name().display()
        );
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    for (name, wanted) in table["limits"].as_table().context("limits")? {
        let line = limits.lines().find_map(|line| line.strip_prefix(name.as_str())).context("a limit")?;
        let has: Vec<_> = line.split_whitespace().take(2).collect();
        ensure!(Some(has.join(" ").as_str()) == wanted.as_str(), "{name}: {has:?}");
    }
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(cgroup.contains(id), "it is in no cgroup of the container: {cgroup}");
    Ok(())
}

fn filters(table: &Table, live: &[Live]) -> Result<()> {
    let mut threads = Vec::new();
    for live in live.iter().filter(|live| live.part != "shim") {
        let pid = live.process.pid;
        match tasks(pid) {
            Err(_) if live.part == "stub" && has_ended(pid) => {}
            found => threads.extend(found?.into_iter().map(|task| (live, task))),
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("posture/filters.py");
    let mut argv = vec!["/usr/bin/python3".to_owned(), script.display().to_string()];
    argv.extend(threads.iter().map(|(_, task)| task.to_string()));
    let argv: Vec<_> = argv.iter().map(String::as_str).collect();
    let answer = run(&argv, None, 60)?.ok()?;
    let installed: BTreeMap<String, Option<Vec<Filter>>> = serde_json::from_str(&answer.stdout)?;
    let mut guests = 0;
    for (live, task) in threads {
        // A thread that ended meanwhile has nothing any more; all the others are looked at.
        let Some(has) = &installed[&task.to_string()] else { continue };
        let pid = live.process.pid;
        match live.part {
            "sentry" => same(has, &sentry(Platform::Systrap)),
            "gofer" => same(has, &gofer(Gofer { proc_fds: proc_fds(pid)?, host_sockets: false })),
            _ => {
                guests += usize::from(has.len() == 2);
                stub(table, has)
            }
        }
        .with_context(|| format!("filters of {} {pid}, thread {task}", live.part))?;
    }
    ensure!(guests >= 3, "only {guests} guest threads were seen");
    Ok(())
}

/// The one filter is the policy's, to the last instruction.
fn same(has: &[Filter], policy: &Policy) -> Result<()> {
    ensure!(has.len() == 1, "{} filters", has.len());
    let wanted: Vec<_> =
        policy.compile(Unexpected::Kill).iter().map(|i: &sock_filter| (i.code, i.jt, i.jf, i.k)).collect();
    ensure!(
        has[0] == wanted,
        "not what {} compiles to: {} instructions, not {}",
        policy.name,
        has[0].len(),
        wanted.len()
    );
    Ok(())
}

/// Where a gofer has its own `/proc/self/fd`.
fn proc_fds(pid: i32) -> Result<i32> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        if std::fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("/1/fd")) {
            return Ok(entry.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("it has no /proc/self/fd")
}

/// One filter is an agent's, two a guest's.
fn stub(table: &Table, has: &[Filter]) -> Result<()> {
    let list = match has.len() {
        1 => "agent_calls",
        2 => "guest_calls",
        other => anyhow::bail!("{other} filters"),
    };
    let calls = table["calls"].as_table().context("calls")?;
    let wanted: BTreeSet<u32> = strings(&table["stub"][list])
        .into_iter()
        .map(|name| {
            calls.get(name).and_then(Value::as_integer).map_or(NOTIFY_NR, |nr| u32::try_from(nr).unwrap_or(0))
        })
        .collect();
    let allowed: BTreeSet<u32> =
        (0..0x1_0000).filter(|nr| has.iter().all(|filter| may_allow(filter, *nr))).collect();
    ensure!(allowed == wanted, "{list}: allowed {allowed:?}, in the table {wanted:?}");
    for (nr, arch) in [(X32_GETPID, ARCH_X86_64), (I386_GETPID, ARCH_I386)] {
        ensure!(
            has.iter().any(|filter| !may_allow_on(filter, nr, arch)),
            "call {nr} of {arch:#x} gets through"
        );
    }
    Ok(())
}

/// `AUDIT_ARCH_I386`.
const ARCH_I386: u32 = 0x4000_0003;
const I386_GETPID: u32 = 20;
const X32_GETPID: u32 = X32_BIT | 39;
/// The stub's word to the sentry, which is no call of the host's: `sentry/platform/src/stub/layout.rs`.
const NOTIFY_NR: u32 = 0x7fff;

fn may_allow(filter: &[Instruction], nr: u32) -> bool {
    may_allow_on(filter, nr, ARCH_X86_64)
}

/// Whether a filter lets a call through for any arguments and from any place: both ways of a test on those are taken.
fn may_allow_on(filter: &[Instruction], nr: u32, arch: u32) -> bool {
    const ALLOW: u32 = 0x7fff_0000;
    let mut ways: Vec<(usize, Option<u32>)> = vec![(0, None)];
    let mut seen = BTreeSet::new();
    while let Some((at, accumulator)) = ways.pop() {
        if !seen.insert((at, accumulator)) {
            continue;
        }
        let (code, jt, jf, k) = filter[at];
        let jump = |by: u32| at + 1 + usize::try_from(by).unwrap_or(usize::MAX / 2);
        match (code, accumulator) {
            (0x20, _) => ways.push((
                at + 1,
                match k {
                    0 => Some(nr),
                    4 => Some(arch),
                    _ => None,
                },
            )),
            (0x54, known) => ways.push((at + 1, known.map(|a| a & k))),
            (0x05, known) => ways.push((jump(k), known)),
            (0x15 | 0x25 | 0x35, Some(a)) => {
                let taken = match code {
                    0x15 => a == k,
                    0x25 => a > k,
                    _ => a >= k,
                };
                ways.push((jump(u32::from(if taken { jt } else { jf })), accumulator));
            }
            (0x15 | 0x25 | 0x35, None) => {
                ways.extend([(jump(u32::from(jt)), None), (jump(u32::from(jf)), None)]);
            }
            (0x06, _) if k == ALLOW => return true,
            (0x06, _) => {}
            // Not of our assembler's vocabulary: nothing is known about it.
            _ => return true,
        }
    }
    false
}
