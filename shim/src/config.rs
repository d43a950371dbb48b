//! Which options does the operator give, and where do they come from?
//!
//! Key type: [`Config`]. From `options` of the runtime handler in containerd's configuration: a path to a TOML
//! file, or the TOML itself; without either, `/etc/rvisor/config.toml`, which need not be there; annotations of the container
//! (`dev.rvisor.*`, which containerd passes only if its configuration lists them) come last. Options meant for runc
//! are accepted and ignored, since some handlers send them to every runtime.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use containerd_shim_protos::protobuf::{CodedInputStream, well_known_types::any::Any};
use control::{BootConfig, Tuning};
use sandbox::Hardening;
use sandbox::ids::Range;
use sandbox::plan;
use sandbox::spawn::Programs;
use serde::Deserialize;

/// What the names of our annotations begin with.
pub(crate) const ANNOTATIONS: &str = "dev.rvisor.";
/// Read when the handler names no other.
const DEFAULT_PATH: &str = "/etc/rvisor/config.toml";

/// How much may be logged.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The operator's choices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `auto`, `systrap` or `ptrace`.
    pub(crate) platform: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) log_level: String,
    /// Where the sentry's and gofers' log goes instead of containerd's; `%ID%` stands for the sandbox.
    pub(crate) debug_log: Option<String>,
    /// Print system calls to the log.
    pub(crate) strace: bool,
    /// Fast paths to switch off: `no-patch,no-spin`.
    pub(crate) tuning: String,
    /// User ids on the host, of which each sandbox has one: `FIRST:COUNT`, or `none`; empty is the default range.
    pub(crate) sandbox_ids: String,
    /// Share no processor core with others at the same time.
    pub(crate) core_scheduling: bool,
    /// Restrict speculation in sentry and guests.
    pub(crate) restrict_speculation: bool,
    /// Another `rvisor-sentry` than the one beside the shim.
    pub(crate) sentry: Option<PathBuf>,
    /// Another `rvisor-gofer`.
    pub(crate) gofer: Option<PathBuf>,
}

impl Config {
    /// From the options of a create request.
    pub(crate) fn load(options: Option<&Any>) -> anyhow::Result<Self> {
        let options = options.map(Options::decode).transpose()?.unwrap_or_default();
        let text = match options {
            Options { body, .. } if !body.is_empty() => body,
            Options { path, .. } if !path.is_empty() => read(Path::new(&path), Path::new(DEFAULT_PATH))?,
            Options { .. } => read(Path::new(DEFAULT_PATH), Path::new(DEFAULT_PATH))?,
        };
        Self::parse(&text)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self =
            toml::from_str(text).map_err(|e| anyhow::anyhow!("configuration: {}", e.message()))?;
        if !["", "auto", "systrap", "ptrace"].contains(&config.platform.as_str()) {
            bail!("configuration: platform {:?} is none of auto, systrap, ptrace", config.platform);
        }
        if !config.log_level.is_empty() && !LEVELS.contains(&config.log_level.as_str()) {
            bail!("configuration: log_level {:?} is none of {}", config.log_level, LEVELS.join(", "));
        }
        config.tuning()?;
        config.hardening()?;
        Ok(config)
    }

    /// Applies a container's own wishes.
    pub(crate) fn annotated(mut self, annotations: &[(String, String)]) -> anyhow::Result<Self> {
        let ours =
            annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(ANNOTATIONS)?, value)));
        for (key, value) in ours {
            match (key, value.as_str()) {
                ("platform", "auto" | "systrap" | "ptrace") => self.platform.clone_from(value),
                ("strace", "true" | "false") => self.strace = value == "true",
                ("tuning", list) => {
                    let parsed = plan::parse_tuning(list);
                    parsed.map_err(|why| anyhow::anyhow!("annotation {ANNOTATIONS}{key}: {why}"))?;
                    self.tuning.clone_from(value);
                }
                ("log-level", level) if LEVELS.contains(&level) => self.log_level.clone_from(value),
                _ => {
                    bail!("annotation {ANNOTATIONS}{key}: {value:?} is no value of it, or it does not exist")
                }
            }
        }
        Ok(self)
    }

    fn tuning(&self) -> anyhow::Result<Tuning> {
        plan::parse_tuning(&self.tuning).map_err(|why| anyhow::anyhow!("configuration: tuning: {why}"))
    }

    /// What is to stand between the sandbox and its neighbours. An annotation cannot change any of it.
    pub(crate) fn hardening(&self) -> anyhow::Result<Hardening> {
        let ids = match self.sandbox_ids.as_str() {
            "" => Some(Range::default()),
            "none" => None,
            range => Some(range.parse().map_err(|why| anyhow::anyhow!("configuration: sandbox_ids: {why}"))?),
        };
        // LINUX: containerd sets it where its own configuration says so (`sched_core`), for runc's shim.
        let asked = std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty());
        Ok(Hardening {
            ids,
            core_scheduling: self.core_scheduling || asked,
            restrict_speculation: self.restrict_speculation,
        })
    }

    /// The sentry's boot message.
    pub(crate) fn boot(&self, sandbox: &str, hostname: &str) -> BootConfig {
        let or = |value: &str, default: &str| if value.is_empty() { default } else { value }.to_owned();
        BootConfig {
            sandbox: sandbox.to_owned(),
            platform: or(&self.platform, "auto"),
            hostname: hostname.to_owned(),
            strace: self.strace,
            log_level: or(&self.log_level, "warn"),
            tuning: self.tuning().unwrap_or_default(),
            ..BootConfig::default()
        }
    }

    /// Where the binaries are.
    pub(crate) fn programs(&self) -> anyhow::Result<Programs> {
        let mut programs = Programs::find()?;
        if let Some(sentry) = &self.sentry {
            programs.sentry.clone_from(sentry);
        }
        if let Some(gofer) = &self.gofer {
            programs.gofer.clone_from(gofer);
        }
        Ok(programs)
    }
}

/// The text of a configuration file. One at the default place need not be there, also when the handler names it, as the
/// shipped stanzas do; any other that is named must be.
fn read(path: &Path, default: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path == default => Ok(String::new()),
        text => text.with_context(|| format!("configuration {}", path.display())),
    }
}

/// `runtimeoptions.v1.Options`: type_url = 1, config_path = 2, config_body = 3.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    path: String,
    body: String,
}

impl Options {
    fn decode(any: &Any) -> anyhow::Result<Self> {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        if name != "runtimeoptions.v1.Options" {
            if !any.value.is_empty() {
                tracing::warn!(
                    field = "options",
                    value = name,
                    "not done: options of another runtime are not read"
                );
            }
            return Ok(Self::default());
        }
        Self::decode_fields(&any.value).context("options of the runtime handler")
    }

    fn decode_fields(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut input = CodedInputStream::from_bytes(bytes);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            let (field, wire) = (tag >> 3, tag & 7);
            match (field, wire) {
                (2, 2) => options.path = input.read_string()?,
                (3, 2) => options.body = String::from_utf8(input.read_bytes()?)?,
                (_, 2) => drop(input.read_bytes()?),
                (_, 0) => drop(input.read_raw_varint64()?),
                _ => bail!("field {field} of an unexpected kind"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_changes_nothing_but_its_four_words() {
        let keys = [
            "platform",
            "log-level",
            "log_level",
            "debug-log",
            "debug_log",
            "strace",
            "tuning",
            "sandbox-ids",
            "sandbox_ids",
            "core-scheduling",
            "core_scheduling",
            "restrict-speculation",
            "restrict_speculation",
            "sentry",
            "gofer",
        ];
        let strict = Config { core_scheduling: true, restrict_speculation: true, ..Config::default() };
        let values = ["", "none", "0:1", "false", "true", "/bin/sh", "systrap", "trace"];
        for (key, value) in keys.iter().flat_map(|key| values.map(|value| (key, value))) {
            let wish = [(format!("dev.rvisor.{key}"), value.to_owned())];
            // Refused is as good.
            let Ok(after) = strict.clone().annotated(&wish) else { continue };
            let same = Config {
                platform: after.platform.clone(),
                log_level: after.log_level.clone(),
                strace: after.strace,
                tuning: after.tuning.clone(),
                ..strict.clone()
            };
            assert_eq!(after, same, "{key} {value:?}");
            assert_eq!(after.hardening().expect("good"), strict.hardening().expect("good"));
        }
    }

    fn any(type_url: &str, value: &[u8]) -> Any {
        Any { type_url: type_url.to_owned(), value: value.to_vec(), ..Any::default() }
    }

    #[test]
    fn a_body_in_the_options_is_the_configuration() {
        let body = b"platform = \"ptrace\"\n";
        let mut value = vec![0x0a, 1, b'x', 0x1a, u8::try_from(body.len()).expect("short")];
        value.extend_from_slice(body);
        let config = Config::load(Some(&any("runtimeoptions.v1.Options", &value))).expect("read");
        assert_eq!(config.platform, "ptrace");
        assert_eq!(config.boot("s", "h").platform, "ptrace");
    }

    #[test]
    fn a_path_in_the_options_is_read() {
        let error =
            Config::load(Some(&any("runtimeoptions.v1.Options", b"\x12\x0a/none/such"))).expect_err("none");
        assert!(format!("{error:#}").starts_with("configuration /none/such: "), "{error:#}");
    }

    #[test]
    fn a_missing_file_is_no_configuration_at_the_default_place_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let (default, other) = (directory.path().join("config.toml"), directory.path().join("other.toml"));
        assert_eq!(read(&default, &default).expect("defaults"), "");
        assert!(read(&other, &default).is_err(), "a file that is named must be there");
        std::fs::write(&default, "strace = true\n").expect("written");
        assert_eq!(read(&default, &default).expect("read"), "strace = true\n");
        assert!(read(directory.path(), directory.path()).is_err(), "a directory is no configuration");
    }

    #[test]
    fn the_shipped_stanzas_start_pods_on_a_node_without_a_configuration_file() {
        for stanza in [
            include_str!("../../runtimeclass/containerd-v2.toml"),
            include_str!("../../runtimeclass/containerd-v3.toml"),
        ] {
            let named = stanza.lines().find_map(|line| line.trim().strip_prefix("ConfigPath = "));
            assert_eq!(named.map(|path| path.trim_matches(['"', '\''])), Some(DEFAULT_PATH));
        }
    }

    #[test]
    fn options_meant_for_runc_are_ignored() {
        let options = any("containerd.runc.v1.Options", &[0xff, 0xff, 0xff]);
        assert_eq!(Options::decode(&options).expect("ignored"), Options::default());
    }

    #[test]
    fn truncated_options_are_refused() {
        assert!(Config::load(Some(&any("runtimeoptions.v1.Options", b"\x12\x7fshort"))).is_err());
    }

    #[test]
    fn mistakes_in_the_file_are_one_line() {
        for text in [
            "log_level = \"loud\"",
            "platform = \"kvm\"",
            "tuning = \"no-sense\"",
            "colour = 3",
            "platform = ",
        ] {
            let error = format!("{:#}", Config::parse(text).expect_err(text));
            assert!(error.starts_with("configuration: ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn annotations_come_last_and_bad_ones_are_refused() {
        let annotated = |pairs: &[(&str, &str)]| -> anyhow::Result<Config> {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Config { strace: true, ..Config::default() }.annotated(&pairs)
        };
        let pairs = [
            ("dev.rvisor.platform", "ptrace"),
            ("dev.rvisor.strace", "false"),
            ("dev.rvisor.tuning", "no-spin"),
            ("dev.rvisor.log-level", "debug"),
            ("other", "x"),
        ];
        let config = annotated(&pairs).expect("good");
        let told =
            (config.platform.as_str(), config.strace, config.tuning.as_str(), config.log_level.as_str());
        assert_eq!(told, ("ptrace", false, "no-spin", "debug"));
        let bad = [
            ("platform", "kvm"),
            ("strace", "yes"),
            ("tuning", "x"),
            ("log-level", "loud"),
            ("colour", "red"),
        ];
        for (key, value) in bad {
            let key = format!("dev.rvisor.{key}");
            let error = annotated(&[(&key, value)]).expect_err(&key).to_string();
            assert!(error.starts_with(&format!("annotation {key}: ")), "{error}");
        }
    }
}
