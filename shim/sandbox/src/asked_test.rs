//! Values that are done, noted and refused.

use super::*;
use crate::plan::{Plan, plan};
use serde_json::{Value, json};

/// What a good configuration becomes with these fields over its own.
fn planned(change: &Value) -> Result<Plan, String> {
    let mut config = json!({
        "process": {"args": ["x"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}]},
    });
    merge(&mut config, change);
    plan("c1", std::path::Path::new("/b"), &Spec::new(config).expect("parses"))
        .map_err(|error| error.to_string())
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn notes(change: &Value) -> Vec<String> {
    planned(change).expect("a plan").notes.iter().map(Note::to_string).collect()
}

/// The one line that it is refused with.
fn refusal(change: &Value) -> String {
    let line = planned(change).expect_err("refused");
    assert!(line.starts_with("config.json: linux.") || line.starts_with("config.json: mounts"), "{line}");
    assert!(!line.contains('\n'), "{line}");
    line
}

fn with_namespace(kind: &str, path: &str) -> Value {
    json!({"linux": {"namespaces": [{"type": kind, "path": path}]}})
}

const MEMBER: &str = "io.kubernetes.cri.container-type";

#[test]
fn a_plain_configuration_has_no_notes() {
    assert_eq!(notes(&json!({})), Vec::<String>::new());
}

#[test]
fn ids_are_mapped_to_themselves_or_the_container_is_refused() {
    let user = |container: u32, host: u32, kind: &str| {
        let range = json!([{"containerID": container, "hostID": host, "size": 65536}]);
        let same = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        let mut linux = json!({"namespaces": [{"type": "user"}], "uidMappings": same, "gidMappings": same});
        linux[kind] = range;
        json!({"linux": linux})
    };
    for kind in ["uidMappings", "gidMappings"] {
        assert!(refusal(&user(0, 200_000, kind)).contains(kind));
        assert!(refusal(&user(5, 4, kind)).contains(kind));
        assert!(notes(&user(7, 7, kind)).iter().any(|note| note.starts_with("linux.namespaces = user")));
        let without = json!({"linux": {kind: [{"containerID": 0, "hostID": 1, "size": 1}]}});
        assert!(refusal(&without).contains("without a user namespace"));
    }
    assert!(refusal(&with_namespace("user", "")).contains("without id mappings"));
    assert!(refusal(&with_namespace("user", "/proc/1/ns/user")).contains("cannot be joined"));
}

#[test]
fn namespaces_of_others_than_the_pod_are_refused() {
    for kind in ["pid", "ipc", "uts", "mount", "user", "cgroup", "time", "novel"] {
        assert!(refusal(&with_namespace(kind, "/proc/1/ns/x")).contains(kind), "{kind}");
    }
    assert!(planned(&with_namespace("network", "/proc/1/ns/net")).is_ok());
    assert!(refusal(&json!({"linux": {"namespaces": [{"type": "pid"}, {"type": "pid"}]}})).contains("twice"));
    for kind in ["pid", "ipc", "uts", "network"] {
        let mut member = with_namespace(kind, "/proc/1/ns/x");
        merge(
            &mut member,
            &json!({"annotations": {MEMBER: "container", "io.kubernetes.cri.sandbox-id": "s"}}),
        );
        let plan = planned(&member).expect("a plan");
        assert_eq!(
            plan.joins,
            [(kind.to_owned(), PathBuf::from("/proc/1/ns/x"))],
            "to be looked at by who knows the pod"
        );
    }
}

#[test]
fn namespaces_of_the_host_are_noted() {
    let bare = json!({"linux": {"namespaces": []}});
    let told = notes(&bare);
    for kind in ["pid", "ipc", "mount"] {
        assert!(told.iter().any(|note| note.contains(&format!("the host's {kind} namespace"))), "{told:?}");
    }
    let plan = planned(&bare).expect("a plan");
    assert!(plan.has_host_name && !planned(&json!({})).expect("a plan").has_host_name);
}

#[test]
fn sysctls_are_the_networks_or_the_pods_or_refused() {
    let one = |name: &str, value: &str| json!({"linux": {"sysctl": {name: value}}});
    for name in ["net.ipv4.ip_unprivileged_port_start", "net/core/somaxconn"] {
        let plan = planned(&one(name, "7")).expect("a plan");
        assert_eq!(plan.container.sysctls, [(name.replace('/', "."), "7".to_owned())]);
        assert!(plan.notes.is_empty());
    }
    assert!(notes(&one("kernel.shmmax", "5"))[0].starts_with("linux.sysctl.kernel.shmmax = 5"));
    assert!(notes(&one("fs.mqueue.msg_max", "5"))[0].starts_with("linux.sysctl.fs.mqueue.msg_max = 5"));
    for name in
        ["kernel.core_pattern", "vm.overcommit_memory", "kernel.hostname", "net...kernel.x", "net./x", ""]
    {
        assert!(refusal(&one(name, "1")).contains("linux.sysctl"), "{name}");
    }
    assert!(refusal(&one("net.ipv4.x", "1\n2")).contains("no sysctl"));
    let mut member = one("net.core.somaxconn", "7");
    merge(&mut member, &json!({"annotations": {MEMBER: "container", "io.kubernetes.cri.sandbox-id": "s"}}));
    assert!(refusal(&member).contains("the pod's"));
}

#[test]
fn options_of_mounts_are_read_once() {
    let options = |kind: &str, options: &[&str]| {
        let mount = json!({"destination": "/x", "type": kind, "source": "/s", "options": options});
        planned(&json!({"mounts": [mount]}))
    };
    for readonly in ["ro", "rro"] {
        let plan = options("bind", &["rbind", "rprivate", readonly, "nosuid", "rnodev"]).expect("a plan");
        assert_eq!(plan.container.mounts[0].options, ["ro", "nosuid", "nodev"]);
        assert!(plan.gofer.mounts[0].readonly && plan.notes.is_empty());
        assert_eq!(
            options("tmpfs", &[readonly, "size=1m"]).expect("a plan").container.mounts[0].options,
            ["ro", "size=1m"]
        );
    }
    for crossing in ["shared", "rshared", "slave", "rslave", "z"] {
        let plan = options("bind", &["rbind", crossing]).expect("a plan");
        assert_eq!(plan.notes.len(), 1, "{crossing}");
        assert_eq!(plan.notes[0].value, format!("{crossing} of /x"));
    }
    for refused in ["idmap", "ridmap", "tmpcopyup"] {
        assert!(options("bind", &[refused]).expect_err("refused").contains(refused));
    }
}

#[test]
fn devices_without_a_driver_are_noted_in_one_line() {
    let device = |path: &str, kind: &str, major: i64, minor: i64| json!({"path": path, "type": kind, "major": major, "minor": minor});
    let devices = json!([
        device("/dev/null", "c", 1, 3),
        device("/dev/fuse", "c", 10, 229),
        device("/dev/mem", "c", 1, 1),
        device("/dev/ptmx", "c", 5, 2),
        device("/dev/loop0", "b", 7, 0),
        device("/dev/ram3", "b", 1, 3),
    ]);
    let told = notes(&json!({"linux": {"devices": devices}}));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("linux.devices = /dev/fuse /dev/mem /dev/loop0 /dev/ram3:"), "{told:?}");
}

#[test]
fn the_rest_that_depends_on_the_value() {
    assert!(planned(&json!({"linux": {"personality": {"domain": "LINUX"}}})).is_ok());
    assert!(refusal(&json!({"linux": {"personality": {"domain": "LINUX32"}}})).contains("LINUX32"));
    assert_eq!(notes(&json!({"linux": {"rootfsPropagation": "rslave"}})).len(), 1);
    assert_eq!(notes(&json!({"linux": {"rootfsPropagation": "private"}})).len(), 0);
    let limit =
        |kind: &str, soft: u64| json!({"process": {"rlimits": [{"type": kind, "soft": soft, "hard": 5}]}});
    assert!(planned(&limit("RLIMIT_NOFILE", 5)).is_ok());
    assert!(planned(&limit("RLIMIT_NOFILE", 6)).expect_err("refused").contains("RLIMIT_NOFILE"));
    assert!(planned(&limit("RLIMIT_NOVEL", 5)).expect_err("refused").contains("RLIMIT_NOVEL"));
    let plan = planned(&json!({"linux": {"resources": {"memory": {"limit": 5}}}})).expect("a plan");
    assert_eq!(plan.cgroup.expect("a place for the limit").as_path(), std::path::Path::new("c1"));
}
