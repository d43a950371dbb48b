//! What of an OCI `config.json` do we read, and how forgiving are we?
//!
//! Key type: [`Spec`]. Only the fields that rvisor acts on; what becomes of the others is in `fields`. Names from open
//! lists (capabilities, limits, namespaces) stay strings until `plan` looks at them, so that a config written
//! for a newer kernel or a newer specification still parses. Go writes `null` for an empty slice; so do we read it.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

/// `null` as the default.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A container's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification.
    pub oci_version: String,
    /// The first process.
    pub process: Option<Process>,
    /// Where its file system is.
    pub root: Option<Root>,
    /// Host name.
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    /// NIS domain name.
    #[serde(deserialize_with = "nullable")]
    pub domainname: String,
    /// Mounts, in order.
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    /// Programs to run at certain moments.
    pub hooks: Option<Hooks>,
    /// Free text by key.
    #[serde(deserialize_with = "nullable")]
    pub annotations: HashMap<String, String>,
    /// Linux' part.
    #[serde(deserialize_with = "nullable")]
    pub linux: Linux,
    /// All that was written, for `fields`.
    #[serde(skip)]
    pub written: serde_json::Value,
}

impl Spec {
    /// From all that was written.
    ///
    /// # Errors
    /// A field of the wrong type.
    pub fn new(written: serde_json::Value) -> Result<Self, serde_json::Error> {
        let spec = Self::deserialize(&written)?;
        Ok(Self { written, ..spec })
    }
}

/// A process: `process` in the config, and what an exec request carries.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// With a terminal.
    #[serde(deserialize_with = "nullable")]
    pub terminal: bool,
    /// Size of the terminal.
    pub console_size: Option<ConsoleSize>,
    /// Who runs it.
    #[serde(deserialize_with = "nullable")]
    pub user: User,
    /// Program and arguments.
    #[serde(deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// Environment.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(deserialize_with = "nullable")]
    pub cwd: String,
    /// Capability sets, by name.
    pub capabilities: Option<Capabilities>,
    /// Limits.
    #[serde(deserialize_with = "nullable")]
    pub rlimits: Vec<Rlimit>,
    /// No privileges through exec.
    #[serde(deserialize_with = "nullable")]
    pub no_new_privileges: bool,
    /// OOM score adjustment.
    pub oom_score_adj: Option<i32>,
}

/// Rows and columns.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Who a process runs as.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "nullable")]
    pub additional_gids: Vec<u32>,
}

/// Capability sets by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Bounding set.
    #[serde(deserialize_with = "nullable")]
    pub bounding: Vec<String>,
    /// Effective set.
    #[serde(deserialize_with = "nullable")]
    pub effective: Vec<String>,
    /// Inheritable set.
    #[serde(deserialize_with = "nullable")]
    pub inheritable: Vec<String>,
    /// Permitted set.
    #[serde(deserialize_with = "nullable")]
    pub permitted: Vec<String>,
    /// Ambient set.
    #[serde(deserialize_with = "nullable")]
    pub ambient: Vec<String>,
}

/// One limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The root file system.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Relative to the bundle, or absolute.
    pub path: PathBuf,
    /// Not to be written.
    #[serde(deserialize_with = "nullable")]
    pub readonly: bool,
}

/// A mount.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: String,
    /// File system type; `bind` may also be said by an option only.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// For binds: the host's path.
    #[serde(deserialize_with = "nullable")]
    pub source: PathBuf,
    /// As in `mount -o`.
    #[serde(deserialize_with = "nullable")]
    pub options: Vec<String>,
}

/// Linux' part of the config.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// Namespaces to make or join.
    #[serde(deserialize_with = "nullable")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes.
    #[serde(deserialize_with = "nullable")]
    pub devices: Vec<Device>,
    /// `/a/b`, or `slice:prefix:name`.
    #[serde(deserialize_with = "nullable")]
    pub cgroups_path: String,
    /// Limits of the cgroup.
    #[serde(deserialize_with = "nullable")]
    pub resources: Resources,
    /// Guest sysctls.
    #[serde(deserialize_with = "nullable")]
    pub sysctl: HashMap<String, String>,
    /// Hidden paths.
    #[serde(deserialize_with = "nullable")]
    pub masked_paths: Vec<String>,
    /// Paths that may not be written.
    #[serde(deserialize_with = "nullable")]
    pub readonly_paths: Vec<String>,
    /// Which of the container's user ids stand for which of the host's.
    #[serde(deserialize_with = "nullable")]
    pub uid_mappings: Vec<IdMapping>,
    /// The same for groups.
    #[serde(deserialize_with = "nullable")]
    pub gid_mappings: Vec<IdMapping>,
    /// Whether later mounts below the root go in or out.
    #[serde(deserialize_with = "nullable")]
    pub rootfs_propagation: String,
    /// How system calls behave.
    pub personality: Option<Personality>,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// The first in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first on the host.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// `personality(2)`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    #[serde(deserialize_with = "nullable")]
    pub domain: String,
}

/// A namespace to make (no path) or join.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// `pid`, `network`, `ipc`, `uts`, `mount`, `user`, `cgroup`, `time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The one to join.
    #[serde(deserialize_with = "nullable")]
    pub path: PathBuf,
}

/// A device node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// Absolute path in the container.
    pub path: String,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// Limits of a cgroup, as the config and `Update` give them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Resources {
    /// Memory.
    pub memory: Option<Memory>,
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Number of tasks.
    pub pids: Option<Pids>,
    /// Cgroup v2 files, written as they are.
    #[serde(deserialize_with = "nullable")]
    pub unified: HashMap<String, String>,
}

impl Resources {
    /// Bytes of memory; 0 for no limit, `None` if nothing is said.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        let limit = self.memory.as_ref().and_then(|memory| memory.limit).filter(|limit| *limit != 0);
        limit.map(|limit| u64::try_from(limit).unwrap_or(0)).or_else(|| self.unified_limit("memory.max"))
    }

    /// Tasks; 0 for no limit, `None` if nothing is said.
    #[must_use]
    pub fn tasks_limit(&self) -> Option<u64> {
        let limit = self.pids.as_ref().map(|pids| pids.limit).filter(|limit| *limit != 0);
        limit.map(|limit| u64::try_from(limit).unwrap_or(0)).or_else(|| self.unified_limit("pids.max"))
    }

    fn unified_limit(&self, file: &str) -> Option<u64> {
        self.unified.get(file).map(|text| text.trim().parse().unwrap_or(0))
    }
}

/// Memory limits, in bytes; -1 means none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Most memory.
    pub limit: Option<i64>,
    /// What the container is asked to shrink to.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// Tendency to swap, 0 to 100.
    pub swappiness: Option<u64>,
    /// Do not kill when over the limit.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
}

/// Processor limits.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Relative weight, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds per period; -1 means no limit.
    pub quota: Option<i64>,
    /// Period in microseconds.
    pub period: Option<u64>,
    /// Processors, as a list like `0-2,7`.
    #[serde(deserialize_with = "nullable")]
    pub cpus: String,
    /// Memory nodes, likewise.
    #[serde(deserialize_with = "nullable")]
    pub mems: String,
}

/// Limit of tasks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Pids {
    /// Most tasks; 0 or less means no limit.
    #[serde(deserialize_with = "nullable")]
    pub limit: i64,
}

/// Programs to run at certain moments.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Old name for the next.
    #[serde(deserialize_with = "nullable")]
    pub prestart: Vec<Hook>,
    /// When the sandbox exists, before the container.
    #[serde(deserialize_with = "nullable")]
    pub create_runtime: Vec<Hook>,
    /// The same, but meant for the container's namespaces.
    #[serde(deserialize_with = "nullable")]
    pub create_container: Vec<Hook>,
    /// Before the program runs.
    #[serde(deserialize_with = "nullable")]
    pub start_container: Vec<Hook>,
    /// After it has been started.
    #[serde(deserialize_with = "nullable")]
    pub poststart: Vec<Hook>,
    /// After the container has been deleted.
    #[serde(deserialize_with = "nullable")]
    pub poststop: Vec<Hook>,
}

/// One program to run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Arguments, the program's name first.
    #[serde(deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// Environment.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Seconds after which it is killed.
    pub timeout: Option<u64>,
}
