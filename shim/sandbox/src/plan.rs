//! What has to be made for this bundle? A pure function from `config.json` to a [`Plan`]: no host is touched.
//!
//! Key types: [`Plan`] (everything that `spawn`, `cgroup` and the sentry are told) and [`PlanError`] (one line
//! for the person who wrote the bundle). What is asked for and not done is named in [`Plan::notes`] or an error: `fields`
//! has it field by field, `asked` for those where the value decides.

use std::path::{Component, Path, PathBuf};

use control::{
    Capabilities, ContainerConfig, Device, GoferConfig, GoferMount, Mount, ProcessConfig, Rlimit, Tuning,
};

use crate::asked;
use crate::cgroup::CgroupPath;
use crate::fields::{self, Note, Part};
use crate::spec::{self, Hooks, Resources, Spec};

/// Everything about one container, decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its part in a pod.
    pub role: Role,
    /// For the sentry.
    pub container: ContainerConfig,
    /// For the gofer: where the files are.
    pub gofer: GoferConfig,
    /// Its cgroup, if it is to have one.
    pub cgroup: Option<CgroupPath>,
    /// The limits of that cgroup.
    pub resources: Resources,
    /// The network that the sandbox lives in.
    pub network: NetworkPlan,
    /// Programs to run.
    pub hooks: Hooks,
    /// What the hooks and the state show.
    pub annotations: Vec<(String, String)>,
    /// The specification's version that the bundle was written for.
    pub oci_version: String,
    /// What was asked for and is not done, for the log.
    pub notes: Vec<Note>,
    /// Namespaces of the pod that it wants to be in: kind and path.
    pub joins: Vec<(String, PathBuf)>,
    /// Without a UTS namespace of its own: its host name is the host's.
    pub has_host_name: bool,
}

/// A container's part in its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// No pod: its own sandbox.
    Alone,
    /// The pod's first container, whose sandbox the others share.
    Sandbox,
    /// One more container of the pod with this sandbox id.
    Member(String),
}

/// The network namespace of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPlan {
    /// The host's.
    Host,
    /// A new, empty one.
    New,
    /// An existing one.
    Path(PathBuf),
}

/// Why a bundle cannot be run: one line.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Not JSON, or a field of the wrong type.
    #[error("{path} is not a container configuration: {cause}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        cause: serde_json::Error,
    },
    /// A field is missing or wrong.
    #[error("config.json: {0}")]
    Field(String),
}

/// Longest container id, as containerd has it.
const ID_MAX: usize = 76;
/// LINUX: `PATH_MAX`.
const PATH_MAX: usize = 4096;

/// Reads `config.json` of a bundle.
///
/// # Errors
/// Unreadable or malformed.
pub fn read_spec(bundle: &Path) -> Result<Spec, PlanError> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).map_err(|cause| PlanError::Unreadable { path: path.clone(), cause })?;
    serde_json::from_slice(&text).and_then(Spec::new).map_err(|cause| PlanError::Malformed { path, cause })
}

/// Decides everything about container `id` in `bundle`.
///
/// # Errors
/// The first field that cannot be right.
pub fn plan(id: &str, bundle: &Path, spec: &Spec) -> Result<Plan, PlanError> {
    check_id(id)?;
    let mut notes = fields::review(Part::Config, &spec.written).map_err(PlanError::Field)?;
    let role = role(spec)?;
    let joins = asked::namespaces(spec, &role, &mut notes)?;
    asked::personality(spec)?;
    asked::propagation(spec, &mut notes);
    asked::devices(spec, &mut notes);
    let process = spec.process.as_ref().ok_or_else(|| field("process is missing"))?;
    let root = spec.root.as_ref().ok_or_else(|| field("root is missing"))?;
    if root.path.as_os_str().is_empty() {
        return Err(field("root.path is empty"));
    }
    let mut gofer = GoferConfig {
        root: host_path(bundle, &root.path),
        root_readonly: root.readonly,
        ..GoferConfig::default()
    };
    let mounts = mounts(spec, bundle, &mut gofer.mounts, &mut notes)?;
    let sysctls = asked::sysctls(spec, &role, &mut notes)?;
    let shares = match &role {
        Role::Member(_) => namespace(spec, "pid").is_none_or(|ns| !ns.path.as_os_str().is_empty()),
        Role::Alone | Role::Sandbox => false,
    };
    let container = ContainerConfig {
        container: id.to_owned(),
        process: process_config(process, &mut notes)?,
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        root_readonly: root.readonly,
        mounts,
        masked_paths: spec.linux.masked_paths.clone(),
        readonly_paths: spec.linux.readonly_paths.clone(),
        sysctls,
        share_pid_namespace: shares,
        pid_namespace_of: None,
        init_obeys_signals: false,
        memory_limit: spec.linux.resources.memory_limit().unwrap_or(0),
        tasks_limit: spec.linux.resources.tasks_limit().unwrap_or(0),
        devices: spec.linux.devices.iter().map(device).collect::<Result<_, _>>()?,
    };
    let cgroup = match spec.linux.cgroups_path.as_str() {
        // As runc: limits need a place.
        "" if spec.linux.resources != Resources::default() => Some(
            CgroupPath::parse(&format!("/{id}"))
                .map_err(|why| field(&format!("linux.cgroupsPath: {why}")))?,
        ),
        "" => None,
        text => Some(CgroupPath::parse(text).map_err(|why| field(&format!("linux.cgroupsPath: {why}")))?),
    };
    Ok(Plan {
        role,
        container,
        gofer,
        cgroup,
        resources: spec.linux.resources.clone(),
        network: network(spec),
        hooks: spec.hooks.clone().unwrap_or_default(),
        annotations: sorted(&spec.annotations),
        oci_version: spec.oci_version.clone(),
        notes,
        joins,
        has_host_name: spec.hostname.is_empty() && namespace(spec, "uts").is_none(),
    })
}

pub(crate) fn field(text: &str) -> PlanError {
    PlanError::Field(text.to_owned())
}

pub(crate) fn sorted(map: &std::collections::HashMap<String, String>) -> Vec<(String, String)> {
    let mut list: Vec<_> = map.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    list.sort();
    list
}

/// The host's name, for containers that share its UTS namespace.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A path of the config: relative ones start at the bundle.
fn host_path(bundle: &Path, path: &Path) -> String {
    bundle.join(path).to_string_lossy().into_owned()
}

/// Ids become file names; nothing else may.
///
/// # Errors
/// The id is empty, too long, or has other characters than letters, digits and `_+-.`.
pub fn check_id(id: &str) -> Result<(), PlanError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > ID_MAX || !id.chars().all(plain) || id.starts_with('.') {
        return Err(field(&format!("{id:?} cannot be a container id")));
    }
    Ok(())
}

/// Which annotations group containers into pods: containerd's, CRI-O's, and the one that runc's shim honours.
const SANDBOX_ID_KEYS: [&str; 3] =
    ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID", "io.containerd.runc.v2.group"];
const CONTAINER_TYPE_KEYS: [&str; 2] =
    ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

fn role(spec: &Spec) -> Result<Role, PlanError> {
    let find = |keys: &[&str]| keys.iter().find_map(|key| spec.annotations.get(*key)).cloned();
    match (find(&CONTAINER_TYPE_KEYS).as_deref(), find(&SANDBOX_ID_KEYS)) {
        (Some("sandbox"), _) => Ok(Role::Sandbox),
        (Some("container"), Some(id)) => Ok(Role::Member(id)),
        (Some("container"), None) => Err(field("a pod's container without the sandbox id annotation")),
        (Some(other), _) => Err(field(&format!("container type {other:?} in the annotations"))),
        (None, _) => Ok(Role::Alone),
    }
}

/// The id under which containers share a shim: the pod's sandbox, or the container's own.
#[must_use]
pub fn group(id: &str, spec: &Spec) -> String {
    SANDBOX_ID_KEYS.iter().find_map(|key| spec.annotations.get(*key)).map_or(id, String::as_str).to_owned()
}

pub(crate) fn namespace<'a>(spec: &'a Spec, kind: &str) -> Option<&'a spec::Namespace> {
    spec.linux.namespaces.iter().find(|ns| ns.kind == kind)
}

fn network(spec: &Spec) -> NetworkPlan {
    match namespace(spec, "network") {
        None => NetworkPlan::Host,
        Some(ns) if ns.path.as_os_str().is_empty() => NetworkPlan::New,
        Some(ns) => NetworkPlan::Path(ns.path.clone()),
    }
}

/// The process of a config or of an exec request, in the sentry's terms.
///
/// # Errors
/// No program, a working directory that is not absolute, or a limit that cannot be.
pub fn process_config(process: &spec::Process, notes: &mut Vec<Note>) -> Result<ProcessConfig, PlanError> {
    if process.args.is_empty() {
        return Err(field("process.args is empty"));
    }
    if process.args.iter().chain(&process.env).chain([&process.cwd]).any(|s| s.contains('\0')) {
        return Err(field("process holds a zero byte"));
    }
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    if !cwd.starts_with('/') {
        return Err(field(&format!("process.cwd {cwd:?} is not an absolute path")));
    }
    let names = process.capabilities.clone().unwrap_or_default();
    let mut mask = |names: &[String]| capability_mask(names, notes);
    let capabilities = Capabilities {
        bounding: mask(&names.bounding),
        effective: mask(&names.effective),
        inheritable: mask(&names.inheritable),
        permitted: mask(&names.permitted),
        ambient: mask(&names.ambient),
    };
    let limit = |r: &spec::Rlimit| match RLIMITS.contains(&r.kind.trim_start_matches("RLIMIT_")) {
        _ if r.soft > r.hard => Err(field(&format!("process.rlimits: {} is softer than hard", r.kind))),
        true => Ok(Rlimit { kind: r.kind.clone(), soft: r.soft, hard: r.hard }),
        false => Err(field(&format!("process.rlimits: {:?} does not exist", r.kind))),
    };
    let size = process.console_size.unwrap_or_default();
    Ok(ProcessConfig {
        args: process.args.clone(),
        env: process.env.clone(),
        cwd: cwd.to_owned(),
        uid: process.user.uid,
        gid: process.user.gid,
        additional_gids: process.user.additional_gids.clone(),
        umask: process.user.umask,
        terminal: process.terminal,
        console_size: (size.width, size.height),
        capabilities,
        rlimits: process.rlimits.iter().map(limit).collect::<Result<_, _>>()?,
        no_new_privileges: process.no_new_privileges,
        oom_score_adj: process.oom_score_adj.unwrap_or(0),
    })
}

/// LINUX: setrlimit(2).
const RLIMITS: [&str; 16] = [
    "AS",
    "CORE",
    "CPU",
    "DATA",
    "FSIZE",
    "LOCKS",
    "MEMLOCK",
    "MSGQUEUE",
    "NICE",
    "NOFILE",
    "NPROC",
    "RSS",
    "RTPRIO",
    "RTTIME",
    "SIGPENDING",
    "STACK",
];

/// LINUX: `include/uapi/linux/capability.h`, in the order of their numbers.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn capability_mask(names: &[String], notes: &mut Vec<Note>) -> u64 {
    let mut mask = 0;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match CAPABILITIES.iter().position(|known| *known == plain) {
            Some(bit) => mask |= 1 << bit,
            None => {
                asked::add(notes, "process.capabilities", name, "there is no such capability; it is left out")
            }
        }
    }
    mask
}

fn device(device: &spec::Device) -> Result<Device, PlanError> {
    /// LINUX: a device node without a mode is readable and writable by everyone in the OCI world.
    const DEVICE_MODE: u32 = 0o666;
    let number = |n: i64| {
        u32::try_from(n).map_err(|_| field(&format!("device {}: number {n} is out of range", device.path)))
    };
    check_destination(&device.path)?;
    // Fifos have no numbers; runtimes write -1 or leave them out.
    let fifo = device.kind == "p";
    Ok(Device {
        path: device.path.clone(),
        kind: if device.kind == "u" { "c".to_owned() } else { device.kind.clone() },
        major: if fifo { 0 } else { number(device.major)? },
        minor: if fifo { 0 } else { number(device.minor)? },
        mode: device.file_mode.unwrap_or(DEVICE_MODE),
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

fn check_destination(path: &str) -> Result<(), PlanError> {
    let climbs = Path::new(path).components().any(|part| part == Component::ParentDir);
    if !path.starts_with('/') || climbs || path.len() >= PATH_MAX || path.contains('\0') {
        return Err(field(&format!("{path:?} is not an absolute path in the container")));
    }
    Ok(())
}

/// Reads a list of fast paths to switch off: `no-patch,no-identity,no-native-futex,...`.
///
/// # Errors
/// A name that is none of them.
pub fn parse_tuning(list: &str) -> Result<Tuning, String> {
    let mut tuning = Tuning::default();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let (name, on) = name.strip_prefix("no-").map_or((name, true), |name| (name, false));
        let switch = match name {
            "patch" => &mut tuning.patch,
            "identity" => &mut tuning.identity,
            "native-futex" => &mut tuning.native_futex,
            "futex-spin" => &mut tuning.futex_spin,
            "native-clock" => &mut tuning.native_clock,
            "spin" => &mut tuning.spin,
            "stub-copy" => &mut tuning.stub_copy,
            "epoll-queue" => &mut tuning.epoll_queue,
            "thread-state" => &mut tuning.thread_state,
            _ => {
                return Err(format!(
                    "{name:?} is none of patch, identity, native-futex, futex-spin, native-clock, spin, stub-copy, epoll-queue, thread-state"
                ));
            }
        };
        *switch = on;
    }
    Ok(tuning)
}

fn mounts(
    spec: &Spec,
    bundle: &Path,
    volumes: &mut Vec<GoferMount>,
    notes: &mut Vec<Note>,
) -> Result<Vec<Mount>, PlanError> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in &spec.mounts {
        check_destination(&mount.destination)?;
        let planned = match mount_kind(mount)? {
            "bind" => bind(mount, bundle, volumes, notes)?,
            kind => Mount {
                destination: mount.destination.clone(),
                kind: kind.to_owned(),
                gofer_mount: 0,
                options: asked::mount_options(mount, notes)?,
            },
        };
        // CRI's sandbox config mounts /dev/shm twice; the later one hides the earlier.
        mounts.retain(|earlier| earlier.destination != planned.destination);
        mounts.push(planned);
    }
    Ok(mounts)
}

fn mount_kind(mount: &spec::Mount) -> Result<&'static str, PlanError> {
    if mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind") {
        return Ok("bind");
    }
    match mount.kind.as_str() {
        // The OCI's /dev is a tmpfs that the runtime fills.
        "tmpfs" if mount.destination == "/dev" => Ok("devtmpfs"),
        "tmpfs" | "ramfs" => Ok("tmpfs"),
        "proc" => Ok("proc"),
        "sysfs" => Ok("sysfs"),
        "devtmpfs" => Ok("devtmpfs"),
        "devpts" => Ok("devpts"),
        "mqueue" => Ok("mqueue"),
        "cgroup" | "cgroup2" => Ok("cgroup"),
        other => Err(field(&format!("mount {}: type {other:?} is not supported", mount.destination))),
    }
}

fn bind(
    mount: &spec::Mount,
    bundle: &Path,
    volumes: &mut Vec<GoferMount>,
    notes: &mut Vec<Note>,
) -> Result<Mount, PlanError> {
    let options = asked::mount_options(mount, notes)?;
    volumes.push(GoferMount {
        source: host_path(bundle, &mount.source),
        readonly: options.iter().any(|o| o == "ro"),
        recursive: mount.options.iter().any(|o| o == "rbind"),
        allow_host_sockets: false,
    });
    Ok(Mount {
        destination: mount.destination.clone(),
        kind: "bind".to_owned(),
        gofer_mount: u32::try_from(volumes.len()).expect("a config holds fewer mounts"),
        options,
    })
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
