//! Where does the sentry's log go? To its standard error, which the shim has pointed at a file or pipe.

use std::io::Write as _;

use control::BootConfig;
use tracing_subscriber::EnvFilter;

/// Starts logging at the level that the boot message asks for.
pub fn start(config: &BootConfig) {
    let level = if config.log_level.is_empty() { "warn" } else { &config.log_level };
    let level = if config.strace { format!("{level},strace=debug") } else { level.to_owned() };
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // Only one is ever set.
    let _ = subscriber.try_init();
}

/// The last line of a sentry that cannot go on.
pub fn fatal(line: &str) {
    // There is nobody left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "rvisor-sentry: {line}");
}
