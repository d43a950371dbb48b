//! How are the programs run that a config asks for at certain moments?
//!
//! Key type: [`State`], what each of them reads on stdin. LINUX: none; the OCI runtime specification, "POSIX-platform
//! Hooks" and "State". All run in the host's own namespaces: `createContainer` and `startContainer` hooks too, since
//! there is no host-side container namespace that they could enter.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::spec::Hook;

/// How long a hook may take that names no limit of its own.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// What a hook reads, and what `rvisor state` prints.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: String,
    /// Container id.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'static str,
    /// A process of the container on the host.
    pub pid: i32,
    /// Where the config is.
    pub bundle: String,
    /// From the config.
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl State {
    /// The state of one container.
    #[must_use]
    pub fn new(id: &str, bundle: &Path, oci_version: &str, annotations: &[(String, String)]) -> Self {
        Self {
            oci_version: if oci_version.is_empty() { "1.0.2".to_owned() } else { oci_version.to_owned() },
            id: id.to_owned(),
            status: "creating",
            pid: 0,
            bundle: bundle.display().to_string(),
            annotations: annotations.iter().cloned().collect(),
        }
    }
}

/// Runs hooks one after another; the first that fails is the error.
///
/// # Errors
/// Which hook failed and how, in one line, with what it last wrote to stderr.
pub fn run(kind: &str, hooks: &[Hook], state: &State) -> io::Result<()> {
    for hook in hooks {
        run_one(hook, state).map_err(|error| {
            io::Error::new(error.kind(), format!("{kind} hook {}: {error}", hook.path.display()))
        })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &State) -> io::Result<()> {
    let limit = hook.timeout.map_or(DEFAULT_LIMIT, Duration::from_secs);
    let mut command = Command::new(&hook.path);
    if let [name, args @ ..] = hook.args.as_slice() {
        // Programs that are several in one look at it: docker's network hook is dockerd under another name.
        command.arg0(name).args(args);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input.
        let _ = stdin.write_all(&serde_json::to_vec(state)?);
    }
    let status = wait(&mut child, limit)?;
    if status.success() {
        return Ok(());
    }
    let said = last_line(&mut child);
    Err(io::Error::other(format!("{status}{said}")))
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<std::process::ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("not done after {} s", limit.as_secs()),
            ));
        }
        std::thread::sleep(POLL);
    }
}

/// The end of what a failed hook wrote, without waiting for children that it left behind.
fn last_line(child: &mut Child) -> String {
    use std::io::Read;
    const SHOWN: usize = 4096;
    let Some(mut stderr) = child.stderr.take() else { return String::new() };
    if rustix::io::ioctl_fionbio(&stderr, true).is_err() {
        return String::new();
    }
    let mut text = vec![0; SHOWN];
    let length = stderr.read(&mut text).unwrap_or(0);
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    text.lines().last().map(|line| format!(": {line}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<u64>) -> io::Result<()> {
        let hook = Hook {
            path: "/bin/sh".into(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["X=1".to_owned()],
            timeout,
        };
        run("createRuntime", &[hook], &State::new("c1", Path::new("/b"), "", &[]))
    }

    #[test]
    fn a_hook_reads_the_state_and_its_own_environment_only() {
        shell(
            r#"read -r s; [ "$X" = 1 ] && [ -z "$HOME" ] && case "$s" in *'"id":"c1"'*) ;; *) exit 3;; esac"#,
            None,
        )
        .expect("the hook agrees");
    }

    #[test]
    fn a_hook_is_called_by_the_name_that_its_arguments_begin_with() {
        // busybox is many programs, and is told by that name which one it is to be.
        let hook = |name: &str| Hook {
            path: "/bin/busybox".into(),
            args: vec![name.to_owned(), "-c".to_owned(), "exit 0".to_owned()],
            ..Hook::default()
        };
        let state = State::new("c1", Path::new("/b"), "", &[]);
        run("prestart", &[hook("sh")], &state).expect("a shell");
        assert!(run("prestart", &[hook("false")], &state).is_err());
    }

    #[test]
    fn a_failing_hook_is_named_with_what_it_said() {
        let error = shell("echo no network >&2; exit 7", None).expect_err("fails").to_string();
        assert_eq!(error, "createRuntime hook /bin/sh: exit status: 7: no network");
    }

    #[test]
    fn a_hook_that_hangs_is_ended() {
        let error = shell("exec sleep 100", Some(0)).expect_err("hangs").to_string();
        assert!(error.ends_with("not done after 0 s"), "{error}");
    }
}
