//! What are we, for those who ask before they use us?

use std::io::Write;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

/// The name of containerd's runtime.
const NAME: &str = "io.containerd.rvisor.v2";
/// containerd's name for the OCI's description of a runtime.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// The OCI's description of a runtime: what kubelet and containerd ask for.
fn features() -> serde_json::Value {
    serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        // Without `rro` among them containerd refuses a pod's recursive read-only mounts.
        "mountOptions": sandbox::mount_option_names().collect::<Vec<_>>(),
        "linux": {
            "namespaces": ["ipc", "mount", "network", "pid", "uts"],
            "capabilities": sandbox::plan::CAPABILITIES.map(|name| format!("CAP_{name}")).to_vec(),
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false}
        }
    })
}

/// `-info`: a protobuf message on stdout.
pub(crate) fn info() -> anyhow::Result<()> {
    let features =
        Any { type_url: FEATURES.to_owned(), value: serde_json::to_vec(&features())?, ..Any::default() };
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        features: MessageField::some(features),
        ..RuntimeInfo::default()
    };
    std::io::stdout().write_all(&info.write_to_bytes()?)?;
    Ok(())
}

/// `-v`.
pub(crate) fn version() -> anyhow::Result<()> {
    let text = format!("containerd-shim-rvisor-v2:\n  Version: {}\n", env!("CARGO_PKG_VERSION"));
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
