//! Which values of a field are done, which are noted and which refused, where `fields` cannot say it of the field?
//!
//! One function for each kind of field; they give `plan` what it needs of them.

use std::path::PathBuf;

use serde_json::json;

use crate::fields::{Note, note};
use crate::plan::{PlanError, Role, field, namespace, sorted};
use crate::spec::{IdMapping, Mount, Namespace, Spec};

/// Adds a note.
pub(crate) fn add(notes: &mut Vec<Note>, field: &str, value: &str, why: &str) {
    notes.push(note(field, &json!(value), why));
}

/// Looks at all namespaces, named and not named. Returns those of its pod that a container wants to be in.
pub(crate) fn namespaces(
    spec: &Spec,
    role: &Role,
    notes: &mut Vec<Note>,
) -> Result<Vec<(String, PathBuf)>, PlanError> {
    let mut joins = Vec::new();
    for (index, ns) in spec.linux.namespaces.iter().enumerate() {
        let refused = |why: &str| {
            let path = ns.path.display();
            Err(field(&format!("linux.namespaces: {} {path}: {why}", ns.kind)))
        };
        if spec.linux.namespaces[..index].iter().any(|earlier| earlier.kind == ns.kind) {
            return refused("named twice");
        }
        let has_path = !ns.path.as_os_str().is_empty();
        match ns.kind.as_str() {
            "user" if has_path => return refused("user namespaces cannot be joined"),
            "user" => user_namespace(spec, notes)?,
            "mount" | "cgroup" | "time" if has_path => return refused("it cannot be joined"),
            "mount" | "cgroup" | "time" => {}
            "network" | "pid" | "ipc" | "uts" => match role {
                Role::Member(_) if has_path => joins.push((ns.kind.clone(), ns.path.clone())),
                // The one that an engine has made for the pod; its containers are to be in the same.
                Role::Sandbox if has_path && ns.kind != "pid" => {
                    joins.push((ns.kind.clone(), ns.path.clone()))
                }
                _ if has_path && ns.kind != "network" => {
                    return refused("only namespaces of containers of the same pod can be joined");
                }
                _ => {}
            },
            _ => return refused("there is no such kind of namespace"),
        }
    }
    if namespace(spec, "user").is_none() {
        identity(spec, "without a user namespace")?;
    }
    absent(spec, role, notes);
    Ok(joins)
}

/// What is not named is meant to be the host's.
fn absent(spec: &Spec, role: &Role, notes: &mut Vec<Note>) {
    let is_first = !matches!(role, Role::Member(_));
    let missing = |kind: &str| namespace(spec, kind).is_none();
    let whys = [
        ("pid", "the host's processes are not seen, those of the pod are"),
        ("ipc", "the host's System V objects and queues are not seen, those of the pod are"),
        ("mount", "the host's mounts are not seen"),
    ];
    for (kind, why) in whys {
        if is_first && missing(kind) {
            add(notes, "linux.namespaces", &format!("the host's {kind} namespace"), why);
        }
    }
}

/// Only one in which ids mean what they mean outside. LINUX: user_namespaces(7).
fn user_namespace(spec: &Spec, notes: &mut Vec<Note>) -> Result<(), PlanError> {
    if spec.linux.uid_mappings.is_empty() || spec.linux.gid_mappings.is_empty() {
        return Err(field("linux.namespaces: user: a user namespace without id mappings"));
    }
    identity(spec, "user namespaces are not served")?;
    let namespace = Namespace { kind: "user".to_owned(), ..Namespace::default() };
    add(
        notes,
        "linux.namespaces",
        &namespace.kind,
        "ids are mapped to themselves; there is no namespace of its own",
    );
    Ok(())
}

/// A container whose ids stand for others on the host would have the rights of the wrong ones on volumes.
fn identity(spec: &Spec, why: &str) -> Result<(), PlanError> {
    for (name, mappings) in
        [("uidMappings", &spec.linux.uid_mappings), ("gidMappings", &spec.linux.gid_mappings)]
    {
        if let Some(IdMapping { container_id, host_id, size }) =
            mappings.iter().find(|mapping| mapping.container_id != mapping.host_id)
        {
            let range = format!("{container_id} to {host_id}, {size} of them");
            return Err(field(&format!("linux.{name}: {range}: ids are not mapped ({why})")));
        }
    }
    Ok(())
}

/// LINUX: personality(2).
pub(crate) fn personality(spec: &Spec) -> Result<(), PlanError> {
    match spec.linux.personality.as_ref().map(|personality| personality.domain.as_str()) {
        None | Some("" | "LINUX") => Ok(()),
        Some(other) => {
            Err(field(&format!("linux.personality.domain: {other}: guests are 64-bit Linux only")))
        }
    }
}

/// Whether a mount made later is seen on the other side. LINUX: mount_namespaces(7).
fn crosses(propagation: &str) -> bool {
    matches!(propagation, "shared" | "rshared" | "slave" | "rslave")
}

const NO_PROPAGATION: &str = "mounts made later do not go in or out";

/// Of the root. Of mounts it is an option.
pub(crate) fn propagation(spec: &Spec, notes: &mut Vec<Note>) {
    if crosses(&spec.linux.rootfs_propagation) {
        add(notes, "linux.rootfsPropagation", &spec.linux.rootfs_propagation, NO_PROPAGATION);
    }
}

/// Device nodes that something answers behind: major and minor; any minor for the terminals of `/dev/pts`.
/// `sentry::fs::dev` has the drivers.
const DEVICES: [(i64, &[i64]); 3] = [(1, &[3, 5, 7, 8, 9, 11]), (5, &[0, 1, 2]), (136, &[])];

/// One note for all of them: a privileged container has every device of the host.
pub(crate) fn devices(spec: &Spec, notes: &mut Vec<Note>) {
    let is_served = |major: i64, minor: i64| {
        DEVICES
            .iter()
            .any(|(known, minors)| *known == major && (minors.is_empty() || minors.contains(&minor)))
    };
    let without: Vec<&str> = spec
        .linux
        .devices
        .iter()
        .filter(|device| device.kind != "p" && (device.kind == "b" || !is_served(device.major, device.minor)))
        .map(|device| device.path.as_str())
        .collect();
    if !without.is_empty() {
        let why = "the nodes are made, with nothing behind them: opening one is ENXIO";
        add(notes, "linux.devices", &without.join(" "), why);
    }
}

/// The sysctls that the sandbox has or the pod's network gets, by name with dots.
pub(crate) fn sysctls(
    spec: &Spec,
    role: &Role,
    notes: &mut Vec<Note>,
) -> Result<Vec<(String, String)>, PlanError> {
    let mut done = Vec::new();
    for (name, value) in sorted(&spec.linux.sysctl) {
        let refused = |why: &str| Err(field(&format!("linux.sysctl: {name:?} = {value:?}: {why}")));
        let name_is_plain = name.split(['.', '/']).all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        });
        if !name_is_plain || value.contains(['\0', '\n']) || value.len() > SYSCTL_MAX {
            return refused("this is no sysctl");
        }
        if matches!(role, Role::Member(_)) {
            return refused("sysctls are the pod's, not a container's");
        }
        let dotted = name.replace('/', ".");
        match dotted.as_str() {
            net if net.starts_with("net.") => {}
            "kernel.domainname" => {}
            "kernel.hostname" => return refused("use hostname"),
            ipc if IPC_SYSCTLS.contains(&ipc) || ipc.starts_with("fs.mqueue.") => {
                let why = "the value is told to who asks; the sandbox's own limits stay";
                add(notes, &format!("linux.sysctl.{ipc}"), &value, why);
            }
            _ => return refused("it is not in a separate kernel namespace"),
        }
        done.push((dotted, value));
    }
    Ok(done)
}

/// Longest value of a sysctl.
const SYSCTL_MAX: usize = 256;
/// Those that belong to an IPC namespace. LINUX: ipc_namespaces(7).
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The options of a mount, read here and nowhere else: what is left are those that the sentry knows, and those of the file
/// system. LINUX: mount(8); names that begin with `r` are recursive, mount_setattr(2).
pub(crate) fn mount_options(mount: &Mount, notes: &mut Vec<Note>) -> Result<Vec<String>, PlanError> {
    let is_bind = mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
    let mut kept: Vec<String> = Vec::new();
    for option in &mount.options {
        let plain = option.as_str();
        match plain.strip_prefix('r').filter(|rest| FLAGS.contains(rest)).unwrap_or(plain) {
            flag if FLAGS.contains(&flag) => kept.push(flag.to_owned()),
            flag if NOTHING.contains(&flag) => {}
            flag if crosses(flag) => add(notes, "mounts[].options", &mounted(mount, flag), NO_PROPAGATION),
            "idmap" | "ridmap" | "tmpcopyup" => {
                return Err(field(&format!(
                    "mounts: {}: option {plain} is not supported",
                    mount.destination
                )));
            }
            // LINUX: a bind has no options of a file system; mount(2) passes over them.
            other if is_bind => {
                add(notes, "mounts[].options", &mounted(mount, other), "not an option of a bind")
            }
            other => kept.push(other.to_owned()),
        }
    }
    Ok(kept)
}

fn mounted(mount: &Mount, option: &str) -> String {
    format!("{option} of {}", mount.destination)
}

/// The names of all options of a mount that are done, for those who ask before they write one.
pub fn mount_option_names() -> impl Iterator<Item = String> {
    let recursive = FLAGS.iter().map(|flag| format!("r{flag}"));
    FLAGS.iter().chain(&NOTHING).map(|&name| name.to_owned()).chain(recursive)
}

/// Options that the sentry keeps as flags of the mount.
const FLAGS: [&str; 15] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "noatime",
    "nodiratime",
    "strictatime",
    "relatime",
    "sync",
    "async",
    "nosymfollow",
];
/// Options that ask for what is so anyway.
const NOTHING: [&str; 24] = [
    "bind",
    "rbind",
    "defaults",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
    "atime",
    "diratime",
    "norelatime",
    "nostrictatime",
    "symfollow",
    "rdiratime",
    "ratime",
    "rnostrictatime",
    "rnorelatime",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "lazytime",
    "nolazytime",
];

#[cfg(test)]
#[path = "asked_test.rs"]
mod tests;
