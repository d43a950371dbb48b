//! Is what a configuration asks for done, refused with a line, or noted in containerd's log?

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use super::bad::changed;
use crate::command::Answer;
use crate::world::{BUSYBOX, World};

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let ours = |case: Case| Case { needs_ours: true, ..case };
    vec![
        Case::new("config: a privileged container starts, with devices in folders", privileged),
        Case::new("config: a hook is called by the name that its arguments begin with", hook),
        Case::new("config: a user that is not root binds a low port where the pod allows it", low_port),
        Case::new("config: sysctls of the network are set and told", sysctls),
        ours(Case::new("config: id mappings are refused", id_mappings)),
        ours(Case::new("config: namespaces of others are refused", namespaces)),
        ours(Case::new("config: what is not done stands in containerd's log once", noted)),
    ]
}

fn privileged(w: &World) -> Result<()> {
    let container = w.container();
    let script = "ls -d /dev/null /dev/pts /dev/shm && grep CapEff /proc/self/status";
    let answer = container.run(&["--rm", "--privileged"], BUSYBOX, &["sh", "-c", script])?;
    container.clean();
    answer.ok()?.mentions("/dev/null")?;
    let device = json!([{"path": "/dev/rvisor/deep/null", "type": "c", "major": 1, "minor": 3}]);
    let answer = changed(w, |config| {
        config["linux"]["devices"] = device;
        config["mounts"].as_array_mut().into_iter().for_each(|mounts| {
            mounts.push(json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}));
        });
        config["process"]["args"] =
            json!(["sh", "-c", "echo x > /dev/rvisor/deep/null && test -c /dev/rvisor/deep/null"]);
    })?;
    answer.ok().map(drop)
}

fn hook(w: &World) -> Result<()> {
    let made = w.dir.path().join("made-by-a-hook");
    let busybox = w.rootfs()?.join("bin/busybox").display().to_string();
    let hook = json!({"prestart": [{"path": busybox, "args": ["touch", made.display().to_string()]}]});
    changed(w, |config| config["hooks"] = hook)?.ok()?;
    ensure!(made.exists(), "the hook was not touch");
    Ok(())
}

fn as_user(w: &World, script: &str, sysctls: Value) -> Result<Answer> {
    changed(w, |config| {
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        config["linux"]["sysctl"] = sysctls;
    })
}

fn low_port(w: &World) -> Result<()> {
    let serve = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; httpd -p 80 -h /";
    as_user(w, serve, json!({}))?.failed()?.mentions("1024")?;
    let allowed =
        json!({"net.ipv4.ip_unprivileged_port_start": "80", "net.ipv4.ping_group_range": "0 2147483647"});
    as_user(w, serve, allowed.clone())?.ok()?.mentions("80")?;
    as_user(w, "httpd -p 79 -h /", allowed)?.failed().map(drop)
}

fn sysctls(w: &World) -> Result<()> {
    let tell = "cd /proc/sys/net; cat core/somaxconn ipv4/ip_local_port_range";
    let set = json!({"net.core.somaxconn": "777", "net.ipv4.ip_local_port_range": "40000 40100"});
    as_user(w, tell, set)?.ok()?.mentions("777")?.mentions("40000\t40100")?;
    as_user(w, "true", json!({"kernel.core_pattern": "x"}))?.failed().map(drop)
}

/// Refused with one line that names the field.
fn refused(answer: Answer, field: &str) -> Result<()> {
    let answer = answer.failed()?;
    ensure!(answer.stderr.contains(field), "{field} is not named: {answer}");
    Ok(())
}

fn id_mappings(w: &World) -> Result<()> {
    let maps = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    let answer = changed(w, |config| {
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["linux"]["namespaces"]
            .as_array_mut()
            .into_iter()
            .for_each(|all| all.push(json!({"type": "user"})));
    })?;
    refused(answer, "linux.uidMappings")
}

fn namespaces(w: &World) -> Result<()> {
    for kind in ["pid", "ipc", "uts", "mount"] {
        let answer = changed(w, |config| {
            let all = config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut);
            let mut named = all.into_iter().flatten().filter(|ns| ns["type"] == kind);
            named.by_ref().for_each(|ns| ns["path"] = json!(format!("/proc/self/ns/{kind}")));
        })?;
        refused(answer, "linux.namespaces").context(kind)?;
    }
    Ok(())
}

fn noted(w: &World) -> Result<()> {
    let before = w.log().len();
    changed(w, |config| {
        config["process"]["apparmorProfile"] = json!("no-such-profile");
        config["process"]["selinuxLabel"] = json!("no:such:label:s0");
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
        config["linux"]["rootfsPropagation"] = json!("rshared");
    })?
    .ok()?;
    let fields = [
        "process.apparmorProfile",
        "process.selinuxLabel",
        "linux.seccomp",
        "linux.devices",
        "linux.rootfsPropagation",
    ];
    let mut log = String::new();
    crate::command::wait_until("all is noted", std::time::Duration::from_secs(5), || {
        log = w.log().split_off(before);
        Ok(fields.iter().all(|field| log.contains(field)))
    })
    .context(log.clone())?;
    for field in fields {
        ensure!(log.matches(&format!("field=\"{field}\"")).count() == 1, "{field} not once: {log}");
    }
    Ok(())
}
