//! What becomes of each field that a `config.json`, an exec request or an update may have?
//!
//! Key types: [`Verdict`] and [`Note`]; the tables say it field by field, [`review`] looks at what was written. Nothing
//! is left out in silence: a field is done, holds anyway, is noted once for the operator, or refused; one that no
//! table names (of a newer specification) is noted. What weakens isolation when it is left out is refused, and so is
//! what few ask for; noted is what everybody's configuration has, so that refusing would refuse everybody.
//!
//! Where it depends on the value, the field is `Done` here and `plan` refuses or notes the values that are not.

use serde_json::Value;

use crate::spec::Resources;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done, or `plan` says for which values not.
    Done,
    /// Nothing has to be done for it to hold.
    Holds(&'static str),
    /// It is not done, and the operator is told.
    Noted(&'static str),
    /// The container is not made.
    Refused(&'static str),
}

use Verdict::{Done, Holds, Noted, Refused};

/// Something that was asked for and is not done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// The field, as in `linux.resources.memory.kernel`.
    pub field: String,
    /// What it asked for, cut short.
    pub value: String,
    /// What is so instead.
    pub why: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}: {}", self.field, self.value, self.why)
    }
}

/// Fields of `config.json`. A name stands for all that is below it, unless that is named itself; `[]` are the members of a
/// list, `*` the keys of a map.
pub const CONFIG: &[(&str, Verdict)] = &[
    ("ociVersion", Done),
    ("hostname", Done),
    ("domainname", Done),
    ("root.path", Done),
    ("root.readonly", Done),
    ("annotations.*", Done),
    ("mounts[].destination", Done),
    ("mounts[].type", Done),
    ("mounts[].source", Done),
    ("mounts[].options", Done),
    ("mounts[].uidMappings", Refused(NO_IDMAP)),
    ("mounts[].gidMappings", Refused(NO_IDMAP)),
    ("hooks.prestart[]", Done),
    ("hooks.createRuntime[]", Done),
    ("hooks.createContainer[]", Done),
    ("hooks.startContainer[]", Done),
    ("hooks.poststart[]", Done),
    ("hooks.poststop[]", Done),
    ("linux.namespaces[].type", Done),
    ("linux.namespaces[].path", Done),
    ("linux.uidMappings[]", Done),
    ("linux.gidMappings[]", Done),
    ("uidMappings", Refused("id mappings belong to linux")),
    ("gidMappings", Refused("id mappings belong to linux")),
    ("linux.timeOffsets", Refused("there are no time namespaces; clocks are the host's")),
    ("linux.devices[]", Done),
    ("linux.netDevices", Refused("network devices are not moved into containers")),
    ("linux.cgroupsPath", Done),
    ("linux.sysctl.*", Done),
    ("linux.maskedPaths", Done),
    ("linux.readonlyPaths", Done),
    ("linux.rootfsPropagation", Done),
    ("linux.seccomp", Noted("the profile is not applied; guests reach the sentry's system calls only")),
    ("linux.mountLabel", Noted("SELinux does not reach into the sandbox; files are not labelled")),
    ("linux.intelRdt", Refused("cache and bandwidth classes are not set")),
    ("linux.memoryPolicy", Refused("memory policies are not set")),
    ("linux.personality.domain", Done),
    ("linux.personality.flags", Refused("personalities have no flags")),
    ("vm", Refused("containers are not virtual machines")),
    ("windows", Refused("containers are Linux's")),
    ("solaris", Refused("containers are Linux's")),
    ("zos", Refused("containers are Linux's")),
];

/// Fields of a process: `process` in the configuration, and the whole of an exec request.
pub const PROCESS: &[(&str, Verdict)] = &[
    ("terminal", Done),
    ("consoleSize", Done),
    ("user.uid", Done),
    ("user.gid", Done),
    ("user.umask", Done),
    ("user.additionalGids", Done),
    ("user.username", Refused("users are told by number")),
    ("args", Done),
    ("env", Done),
    ("cwd", Done),
    ("commandLine", Refused("it is Windows'")),
    ("capabilities.bounding", Done),
    ("capabilities.effective", Done),
    ("capabilities.inheritable", Done),
    ("capabilities.permitted", Done),
    ("capabilities.ambient", Done),
    ("rlimits[]", Done),
    ("noNewPrivileges", Done),
    ("oomScoreAdj", Done),
    ("apparmorProfile", Noted("AppArmor does not reach into the sandbox")),
    ("selinuxLabel", Noted("SELinux does not reach into the sandbox")),
    ("ioPriority", Refused("I/O priorities are not set")),
    ("scheduler", Refused("scheduling policies are not set from outside")),
    ("execCPUAffinity", Refused("processors are not chosen for single processes")),
];

/// Fields of `linux.resources`, which an update has as well.
pub const RESOURCES: &[(&str, Verdict)] = &[
    ("devices", Holds("guests reach devices of the sentry only, which are in nobody's way")),
    ("memory.limit", Done),
    ("memory.reservation", Done),
    ("memory.swap", Done),
    ("memory.swappiness", Done),
    ("memory.disableOOMKiller", Done),
    ("memory.kernel", Noted("kernel memory is counted with the rest, as with runc")),
    ("memory.kernelTCP", Refused("buffers of TCP have no limit of their own")),
    ("memory.useHierarchy", Holds("cgroups count what is below them")),
    ("memory.checkBeforeUpdate", Refused("a limit below what is in use is set, or refused by the host")),
    ("cpu.shares", Done),
    ("cpu.quota", Done),
    ("cpu.period", Done),
    ("cpu.cpus", Done),
    ("cpu.mems", Done),
    ("cpu.burst", Refused("quotas have no burst")),
    ("cpu.idle", Refused("cgroups are not made idle")),
    ("cpu.realtimeRuntime", Refused("guests have no real-time scheduling")),
    ("cpu.realtimePeriod", Refused("guests have no real-time scheduling")),
    ("pids.limit", Done),
    ("blockIO", Refused("I/O is the gofer's and is not limited by container")),
    ("hugepageLimits", Holds("guests have no huge pages of hugetlbfs")),
    ("network", Refused("packets are neither classed nor given priorities by cgroup")),
    ("rdma", Refused("guests have no RDMA")),
    ("unified.*", Done),
];

const NO_IDMAP: &str = "ids of a mount are not mapped";

/// Most characters of a value that a note shows.
const VALUE_SHOWN: usize = 120;

/// Which part of a configuration is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Config,
    /// A process.
    Process,
    /// Limits.
    Resources,
}

impl Part {
    /// As it is called in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config.json",
            Self::Process => "process",
            Self::Resources => "resources",
        }
    }

    /// Its tables, with the field that each of them begins at.
    fn tables(self) -> &'static [(&'static str, &'static [(&'static str, Verdict)])] {
        match self {
            Self::Config => &[("", CONFIG), ("process", PROCESS), ("linux.resources", RESOURCES)],
            Self::Process => &[("", PROCESS)],
            Self::Resources => &[("", RESOURCES)],
        }
    }

    /// What stands for a field, if a table names it itself.
    #[must_use]
    pub fn verdict(self, field: &str) -> Option<Verdict> {
        self.tables().iter().find_map(|(start, table)| {
            let below = match start.len() {
                0 => field,
                length => field.strip_prefix(start).filter(|_| field.len() > length)?.strip_prefix('.')?,
            };
            table.iter().find(|(name, _)| *name == below).map(|(_, verdict)| *verdict)
        })
    }

    /// Whether a table names something below the field, or the field's keys.
    fn goes_on(self, field: &str) -> bool {
        let begins = |name: &str| {
            name.strip_prefix(field).is_some_and(|rest| field.is_empty() || rest.starts_with(['.', '[']))
        };
        self.tables().iter().any(|(start, table)| {
            let full =
                |name: &str| if start.is_empty() { name.to_owned() } else { format!("{start}.{name}") };
            begins(start) || table.iter().any(|(name, _)| begins(&full(name)))
        })
    }
}

/// Looks at all that was written. Returns what is not done; fails with the first field that is refused.
///
/// # Errors
/// One line: the field, its value and why not.
pub fn review(part: Part, value: &Value) -> Result<Vec<Note>, String> {
    let mut notes = Vec::new();
    walk(part, "", value, &mut notes)?;
    Ok(notes)
}

fn walk(part: Part, field: &str, value: &Value, notes: &mut Vec<Note>) -> Result<(), String> {
    if asks_nothing(value) {
        return Ok(());
    }
    match part.verdict(field) {
        Some(Done | Holds(_)) => return Ok(()),
        Some(Noted(why)) => {
            notes.push(note(field, value, why));
            return Ok(());
        }
        Some(Refused(why)) => return Err(format!("{field} = {}: {why}", shown(value))),
        None => {}
    }
    match value {
        Value::Object(members) if part.goes_on(field) => {
            for (key, member) in members {
                let of_map = format!("{field}.*");
                let next = match field {
                    "" => key.clone(),
                    _ if part.verdict(&of_map).is_some() => of_map,
                    _ => format!("{field}.{key}"),
                };
                walk(part, &next, member, notes)?;
            }
            Ok(())
        }
        Value::Array(items) if part.goes_on(field) => {
            items.iter().try_for_each(|item| walk(part, &format!("{field}[]"), item, notes))
        }
        _ => {
            notes.push(note(field, value, "this field is not known"));
            Ok(())
        }
    }
}

/// Go writes what is not set as well.
fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(asks_nothing),
    }
}

/// What a host with cgroup version 2 has no file for.
#[must_use]
pub fn missing_on_v2(resources: &Resources) -> Vec<Note> {
    let Some(memory) = &resources.memory else { return Vec::new() };
    let why = "cgroup version 2 has nothing of the kind";
    let swappiness =
        memory.swappiness.map(|value| note("linux.resources.memory.swappiness", &value.into(), why));
    let killer = memory.disable_oom_killer.filter(|off| *off);
    let killer = killer.map(|off| note("linux.resources.memory.disableOOMKiller", &off.into(), why));
    swappiness.into_iter().chain(killer).collect()
}

/// A note on a field.
#[must_use]
pub fn note(field: &str, value: &Value, why: &str) -> Note {
    Note { field: field.to_owned(), value: shown(value), why: why.to_owned() }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let plain: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    match plain.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}...", &plain[..end]),
        None => plain,
    }
}

#[cfg(test)]
#[path = "fields_test.rs"]
mod tests;
