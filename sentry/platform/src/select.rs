//! Which platform runs the guests of this sandbox?
//!
//! Key function: [`select`]. `auto` takes systrap where the host can run it, else ptrace, and says why.

use std::sync::Arc;

use crate::api::{Platform, PlatformError};
use crate::{ptrace, systrap};

/// No platform was to be had.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The name is none that we know.
    #[error("platform {0:?} is none of auto, systrap, ptrace")]
    Unknown(String),
    /// The platform that was asked for does not work here.
    #[error("platform {name}")]
    Forced {
        /// Which.
        name: &'static str,
        /// Why not.
        #[source]
        source: PlatformError,
    },
    /// Neither works here.
    #[error("neither platform works: systrap: {systrap}; ptrace")]
    Neither {
        /// Why not systrap, with its cause.
        systrap: String,
        /// Why not ptrace.
        #[source]
        source: PlatformError,
    },
}

/// A platform whose first stub has been forked; threads have not been started.
pub struct Prepared {
    kind: Kind,
    fallback: Option<String>,
}

enum Kind {
    Systrap(systrap::Prepared),
    Ptrace(ptrace::Prepared),
}

/// First step, while the sentry is single-threaded.
///
/// # Errors
/// When the name is unknown, or the host cannot run what it names.
pub fn select(name: &str, options: systrap::Options) -> Result<Prepared, SelectError> {
    match name {
        "" | "auto" => automatic(systrap::prepare(options)),
        "systrap" => systrap::prepare(options)
            .map(|prepared| Prepared { kind: Kind::Systrap(prepared), fallback: None })
            .map_err(|source| SelectError::Forced { name: "systrap", source }),
        "ptrace" => ptrace::prepare()
            .map(|prepared| Prepared { kind: Kind::Ptrace(prepared), fallback: None })
            .map_err(|source| SelectError::Forced { name: "ptrace", source }),
        other => Err(SelectError::Unknown(other.to_owned())),
    }
}

fn automatic(tried: Result<systrap::Prepared, PlatformError>) -> Result<Prepared, SelectError> {
    let error = match tried {
        Ok(prepared) => return Ok(Prepared { kind: Kind::Systrap(prepared), fallback: None }),
        Err(error) => with_cause(&error),
    };
    match ptrace::prepare() {
        Ok(prepared) => {
            let why = format!("platform ptrace instead of systrap, and slower: {error}");
            Ok(Prepared { kind: Kind::Ptrace(prepared), fallback: Some(why) })
        }
        Err(source) => Err(SelectError::Neither { systrap: error, source }),
    }
}

fn with_cause(error: &PlatformError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl Prepared {
    /// Which list of calls the sentry needs from now on.
    #[must_use]
    pub const fn policy(&self) -> seccomp::policy::Platform {
        match self.kind {
            Kind::Systrap(_) => seccomp::policy::Platform::Systrap,
            Kind::Ptrace(_) => seccomp::policy::Platform::Ptrace,
        }
    }

    /// Why it is not the best platform, in one line.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Second step: starts the platform's threads.
    ///
    /// # Errors
    /// When the first stub has died, or the host refuses threads.
    pub fn start(self) -> Result<Arc<dyn Platform>, PlatformError> {
        Ok(match self.kind {
            Kind::Systrap(prepared) => Arc::new(prepared.start()?),
            Kind::Ptrace(prepared) => Arc::new(prepared.start()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: systrap::Options = systrap::Options {
        patch: false,
        identity: false,
        native_futex: false,
        futex_spin: false,
        thread_state: false,
        native_clock: false,
        spin: false,
        stub_copy: false,
        epoll_queue: false,
    };

    #[test]
    fn a_forced_platform_is_the_one_that_comes() {
        for name in ["systrap", "ptrace"] {
            let prepared = select(name, PLAIN).expect("this host runs both");
            assert_eq!(prepared.fallback(), None);
            assert_eq!(prepared.start().expect("start").name(), name);
        }
        assert!(matches!(select("kvm", PLAIN), Err(SelectError::Unknown(name)) if name == "kvm"));
    }

    #[test]
    fn without_systrap_it_is_ptrace_and_one_line_says_why() {
        let prepared = automatic(Err(PlatformError::Missing("FSGSBASE instructions"))).expect("ptrace");
        let why = prepared.fallback().expect("a reason").to_owned();
        assert!(why.contains("host lacks FSGSBASE instructions") && !why.contains('\n'));
        assert_eq!(prepared.start().expect("start").name(), "ptrace");
    }
}
