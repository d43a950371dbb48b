//! Which runtime, which containerd, which cases: the runner's command line.
//!
//! Key type: [`Options`]. No library for it: a few switches.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What the runner says about itself.
pub const USAGE: &str = "e2e [--runtime NAME] [--containerd system|1.7|2.1] [--bin-dir DIR] [--cache DIR] \
    [--only TEXT]... [--times N] [--soak N] [--demo] [--list] [--keep-log FILE]";

/// Rounds of the soak cases in an ordinary run; `make soak` has many more.
const SOAK: usize = 60;

/// The runner's switches.
#[derive(Debug, Clone)]
pub struct Options {
    /// The runtime's name as containerd takes it.
    pub runtime: String,
    /// `system`, or the name of another version in the cache.
    pub containerd: String,
    /// Where our binaries are; first on containerd's search path.
    pub bin_dir: Option<PathBuf>,
    /// Where `tests/images/setup.sh` put its products.
    pub cache: PathBuf,
    /// Only cases whose name contains one of these.
    pub only: Vec<String>,
    /// How often each case is tried, to find what fails now and then.
    pub times: usize,
    /// How many rounds the soak cases have.
    pub soak: usize,
    /// Only the demo's cases, shown as they run.
    pub demo: bool,
    /// Print the names and end.
    pub list: bool,
    /// Where containerd's log goes when cases failed.
    pub keep_log: Option<PathBuf>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// On an unknown switch or a missing value.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut options = Self {
            runtime: "io.containerd.rvisor.v2".to_owned(),
            containerd: "system".to_owned(),
            bin_dir: None,
            cache: std::env::var_os("RVISOR_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from),
            only: Vec::new(),
            times: 1,
            soak: SOAK,
            demo: false,
            list: false,
            keep_log: None,
        };
        while let Some(switch) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{switch} needs a value; {USAGE}"));
            match switch.as_str() {
                "--runtime" => options.runtime = value()?,
                "--containerd" => options.containerd = value()?,
                "--bin-dir" => options.bin_dir = Some(std::fs::canonicalize(value()?).context("--bin-dir")?),
                "--cache" => options.cache = value()?.into(),
                "--only" => options.only.push(value()?),
                "--times" => options.times = value()?.parse().context("--times")?,
                "--soak" => options.soak = value()?.parse().context("--soak")?,
                "--keep-log" => options.keep_log = Some(value()?.into()),
                "--demo" => options.demo = true,
                "--list" => options.list = true,
                _ => bail!("unknown switch {switch}; {USAGE}"),
            }
        }
        Ok(options)
    }

    /// The directory that holds `containerd` and `ctr`.
    #[must_use]
    pub fn containerd_bin(&self) -> PathBuf {
        match self.containerd.as_str() {
            "system" => PathBuf::from("/usr/bin"),
            version => self.cache.join(format!("containerd-{version}")).join("usr/bin"),
        }
    }

    /// Whether the runtime under test is ours, so that cases about our own processes apply.
    #[must_use]
    pub fn ours(&self) -> bool {
        self.runtime.contains("rvisor")
    }
}
