//! Which flags does containerd give a shim? Go's style: one dash, value as the next argument or after `=`.
//!
//! Key type: [`Flags`].

use std::path::PathBuf;

use anyhow::{Context, bail};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Action {
    /// Serve on the socket that is stdin.
    #[default]
    Serve,
    /// Start a server or find the pod's.
    Start,
    /// Clean up after a container whose server is gone.
    Delete,
    /// Clean up after a server that is killed when nobody else will; ours alone.
    Guard,
    /// Describe the runtime.
    Info,
    /// Print the version.
    Version,
}

/// The command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) action: Action,
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// containerd's gRPC socket.
    pub(crate) address: String,
    pub(crate) bundle: PathBuf,
    /// What the guard watches over.
    pub(crate) socket: PathBuf,
    pub(crate) debug: bool,
}

impl Flags {
    /// Reads the arguments behind the program's name. Flags of other containerd versions are passed over.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut flags = Self::default();
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix('-') else {
                flags.action = match arg.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    "guard" => Action::Guard,
                    other => bail!("unknown action {other:?}"),
                };
                continue;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, attached) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            match name {
                "debug" => flags.debug = attached.is_none_or(|value| value == "true"),
                "info" => flags.action = Action::Info,
                "v" | "version" => flags.action = Action::Version,
                _ => {
                    let value =
                        attached.or_else(|| args.next()).with_context(|| format!("-{name} needs a value"))?;
                    match name {
                        "namespace" => flags.namespace = value,
                        "id" => flags.id = value,
                        "address" => flags.address = value,
                        "bundle" => flags.bundle = value.into(),
                        "socket" => flags.socket = value.into(),
                        _ => {}
                    }
                }
            }
        }
        if matches!(flags.action, Action::Start | Action::Delete | Action::Serve) {
            sandbox::plan::check_id(&flags.id)?;
            sandbox::plan::check_id(&flags.namespace).context("-namespace")?;
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Flags> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerds_own_lines_are_read() {
        let line =
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id c1 -debug start";
        let flags = parse(line).expect("a start");
        assert_eq!(
            (flags.action, flags.namespace.as_str(), flags.id.as_str()),
            (Action::Start, "k8s.io", "c1")
        );
        assert!(flags.debug);
        let flags =
            parse("-namespace n -address a -publish-binary b -id c1 -bundle /b delete").expect("a delete");
        assert_eq!((flags.action, flags.bundle), (Action::Delete, PathBuf::from("/b")));
        assert_eq!(parse("-info").expect("info").action, Action::Info);
        assert_eq!(parse("--namespace=n --id=c --debug=false start").expect("a start").id, "c");
    }

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        assert!(parse("-namespace n -id ../x start").is_err());
        assert!(parse("-namespace n start").is_err());
        assert!(parse("-namespace n -id c dance").is_err());
        assert!(parse("-namespace n -id").is_err());
    }
}
