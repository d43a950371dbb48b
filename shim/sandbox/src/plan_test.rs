//! What `plan` makes of real configs and of broken ones.

use super::*;
use serde_json::{Value, json};

/// What containerd's CRI wrote for a pod's container, shortened to one of each kind.
fn cri_container() -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
            "args": ["sleep", "100"],
            "env": ["PATH=/bin", "HOSTNAME=sp"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_FROM_THE_FUTURE"], "effective": ["CAP_KILL"], "permitted": null}
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=65536k"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
            {"destination": "/etc/hosts", "type": "bind", "source": "/var/hosts", "options": ["rbind", "rprivate", "rw"]},
            {"destination": "/data", "type": "bind", "source": "data", "options": ["bind", "ro"]}
        ],
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": "844e"
        },
        "linux": {
            "resources": {"memory": {"limit": 1048576}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}},
            "cgroupsPath": "/rvtest/9f5f",
            "namespaces": [
                {"type": "pid"},
                {"type": "network", "path": "/proc/28600/ns/net"}
            ]
        }
    })
}

fn planned(config: Value) -> Result<Plan, PlanError> {
    let spec: Spec = serde_json::from_value(config).expect("parses");
    plan("c1", Path::new("/b"), &spec)
}

fn message(config: Value) -> String {
    planned(config).expect_err("not a plan").to_string()
}

#[test]
fn binds_go_to_the_gofer_in_order_and_the_rest_to_the_sentry() {
    let plan = planned(cri_container()).expect("a plan");
    let kinds: Vec<_> = plan.container.mounts.iter().map(|m| (m.kind.as_str(), m.gofer_mount)).collect();
    assert_eq!(kinds, [("proc", 0), ("devtmpfs", 0), ("cgroup", 0), ("bind", 1), ("bind", 2)]);
    assert_eq!(plan.gofer.root, "/b/rootfs");
    assert_eq!(plan.gofer.mounts[1].source, "/b/data");
    assert!(plan.gofer.mounts[1].readonly && !plan.gofer.mounts[0].readonly);
    assert!(plan.gofer.mounts[0].recursive && !plan.gofer.mounts[1].recursive);
    assert_eq!(plan.container.mounts[3].options, ["rw"]);
}

/// All places in a config, in some order.
fn each_value(value: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_value(item, visit)),
        Value::Object(members) => members.values_mut().for_each(|member| each_value(member, visit)),
        _ => {}
    }
}

/// Every value of a real config is replaced by every kind of wrong one: a plan comes out or one line of refusal, no panic.
#[test]
fn a_config_with_any_value_replaced_is_planned_or_refused() {
    let long = "x/".repeat(5000);
    let wrong = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1.5e300),
        json!(""),
        json!("../../../etc"),
        json!("a\u{0}b"),
        json!("/proc/self/\u{202e}\n"),
        json!(long),
        json!([]),
        json!([null, 1, "x", {"destination": "x"}]),
        json!({}),
        json!({"type": "bind", "path": "/", "destination": "..", "options": ["rbind", "size=99999999999999999999"]}),
    ];
    let mut places = 0;
    each_value(&mut cri_container(), &mut |_| places += 1);
    let mut planned = 0;
    for place in 0..places {
        for value in &wrong {
            let mut config = cri_container();
            let mut at = 0;
            each_value(&mut config, &mut |here| {
                if at == place {
                    here.clone_from(value);
                }
                at += 1;
            });
            let Ok(spec) = serde_json::from_value::<Spec>(config) else { continue };
            match plan("c1", Path::new("/b"), &spec) {
                Ok(plan) => planned += usize::from(plan.container.mounts.len() < 100),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    assert!(planned > 50, "only {planned} of them could be planned");
}

#[test]
fn an_unknown_capability_is_noted_and_left_out() {
    let plan = planned(cri_container()).expect("a plan");
    assert_eq!(plan.container.process.capabilities.bounding, 1);
    assert_eq!(plan.container.process.capabilities.effective, 1 << 5);
    let told: Vec<_> = plan.notes.iter().map(|note| (note.field.as_str(), note.value.as_str())).collect();
    assert_eq!(told, [("process.capabilities", "CAP_FROM_THE_FUTURE")]);
}

#[test]
fn annotations_decide_the_role() {
    assert_eq!(planned(cri_container()).expect("a plan").role, Role::Member("844e".to_owned()));
    let mut config = cri_container();
    config["annotations"] =
        json!({"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.SandboxID": "x"});
    assert_eq!(planned(config).expect("a plan").role, Role::Sandbox);
    let mut config = cri_container();
    config["annotations"] = Value::Null;
    assert_eq!(planned(config).expect("a plan").role, Role::Alone);
}

#[test]
fn members_share_the_pods_pids_only_if_the_namespace_has_a_path_or_is_absent() {
    let mut config = cri_container();
    assert!(!planned(config.clone()).expect("a plan").container.share_pid_namespace);
    config["linux"]["namespaces"][0]["path"] = json!("/proc/28600/ns/pid");
    assert!(planned(config.clone()).expect("a plan").container.share_pid_namespace);
    config["linux"]["namespaces"] = json!([]);
    assert!(planned(config).expect("a plan").container.share_pid_namespace);
}

#[test]
fn the_network_follows_the_namespace_list() {
    let mut config = cri_container();
    let network = |config: &Value| planned(config.clone()).expect("a plan").network;
    assert_eq!(network(&config), NetworkPlan::Path("/proc/28600/ns/net".into()));
    config["linux"]["namespaces"] = json!([{"type": "network"}]);
    assert_eq!(network(&config), NetworkPlan::New);
    config["linux"]["namespaces"] = json!([]);
    assert_eq!(network(&config), NetworkPlan::Host);
}

#[test]
fn broken_configs_are_refused_in_one_line() {
    let broken = |path: &str, value: Value| {
        let mut config = cri_container();
        *config.pointer_mut(path).expect("there") = value;
        let text = message(config);
        assert!(!text.contains('\n'), "{text}");
        text
    };
    assert_eq!(broken("/process/args", json!([])), "config.json: process.args is empty");
    assert_eq!(broken("/process", Value::Null), "config.json: process is missing");
    assert_eq!(broken("/root", Value::Null), "config.json: root is missing");
    assert!(broken("/process/cwd", json!("tmp")).contains("not an absolute path"));
    assert!(broken("/mounts/0/destination", json!("/a/../../b")).contains("not an absolute path"));
    assert!(broken("/mounts/0/type", json!("ext4")).contains("\"ext4\" is not supported"));
    assert!(broken("/linux/cgroupsPath", json!("/a/../b")).contains("cgroupsPath"));
    assert!(broken("/process/args/0", json!("a\0b")).contains("zero byte"));
}

#[test]
fn ids_that_are_not_file_names_are_refused() {
    for id in ["", "a/b", "..", ".x", "a b", &"x".repeat(77)] {
        assert!(check_id(id).is_err(), "{id:?}");
    }
    assert!(check_id("844e7139172efd5c22152105ce2a81b765703d4ca0c6d94e9b512a880ef796d1").is_ok());
}

#[test]
fn the_later_of_two_mounts_on_one_place_wins() {
    let mut config = cri_container();
    config["mounts"] = json!([
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=64k"]},
        {"destination": "/dev/shm", "type": "bind", "source": "/run/shm", "options": ["rbind", "ro"]}
    ]);
    let plan = planned(config).expect("a plan");
    assert_eq!(plan.container.mounts.len(), 1);
    assert_eq!(plan.container.mounts[0].kind, "bind");
}

#[test]
fn a_missing_bundle_says_which_file() {
    let text = read_spec(Path::new("/nowhere")).expect_err("no such bundle").to_string();
    assert!(text.starts_with("cannot read /nowhere/config.json: "), "{text}");
}

#[test]
fn tuning_names_switch_single_paths_off() {
    let tuning = parse_tuning("no-patch, no-spin").expect("names");
    assert!(!tuning.patch && !tuning.spin && tuning.identity && tuning.stub_copy);
    assert_eq!(parse_tuning("").expect("nothing"), Tuning::default());
    assert!(parse_tuning("no-such-thing").is_err());
}
