//! What may the operator add between a sandbox and its neighbours on the host, and what of it is on?
//!
//! Key types: [`Hardening`] (what is asked for) and [`Report`] (what is). None of it changes what guests see.

use crate::ids::Range;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardening {
    /// User ids, of which each sandbox has one; `None`: all are nobody.
    pub ids: Option<Range>,
    /// Never on one processor core at the same time with anybody else's tasks (`PR_SCHED_CORE`).
    pub core_scheduling: bool,
    /// Speculative store bypass and indirect branch speculation off (`PR_SET_SPECULATION_CTRL`) in the sentry and the guests.
    pub restrict_speculation: bool,
}

impl Default for Hardening {
    fn default() -> Self {
        Self { ids: Some(Range::default()), core_scheduling: false, restrict_speculation: false }
    }
}

/// What is on, for the operator's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The sandbox's user id on the host.
    pub uid: u32,
    /// `on`, `off`, or why not.
    pub core_scheduling: String,
    /// What the kernel says of the sentry, as proc(5) has it.
    pub speculation: String,
}

/// LINUX: proc(5), status: `Speculation_Store_Bypass` and `SpeculationIndirectBranch`.
pub(crate) fn speculation_of(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("unknown", |line| line.trim_start_matches(':').trim()).to_owned()
    };
    let (store, branch) = (field("Speculation_Store_Bypass"), field("SpeculationIndirectBranch"));
    format!("store bypass {store}, indirect branches {branch}")
}
