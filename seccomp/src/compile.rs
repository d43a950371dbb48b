//! How a policy becomes the filter of this process, and what then happens to a call that no rule names.
//!
//! Key types: [`Unexpected`], [`InstallError`]. [`install`] is the one safe way in; it covers all threads.

use crate::bpf::{Action, Program, sock_filter};
use crate::rule::Policy;

/// The answer to a call that the policy does not foresee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unexpected {
    /// The process ends by `SIGSYS`. The only answer outside of development: it fails closed.
    #[default]
    Kill,
    /// The call fails with `EPERM`; shows in a debugger where a policy is too narrow.
    Refuse,
    /// The call is made, and the host's audit log has a line about it.
    Log,
}

impl Unexpected {
    const fn action(self) -> Action {
        match self {
            Self::Kill => Action::KillProcess,
            Self::Refuse => Action::Errno(1), // EPERM
            Self::Log => Action::Log,
        }
    }
}

/// Why a filter could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("install the {policy} seccomp policy")]
pub struct InstallError {
    policy: &'static str,
    #[source]
    cause: seccompiler::Error,
}

impl Policy {
    /// The BPF form. Calls of the i386 and x32 ABIs always end the process.
    #[must_use]
    pub fn compile(&self, unexpected: Unexpected) -> Vec<sock_filter> {
        let mut program = Program::new(unexpected.action());
        for rule in &self.rules {
            if rule.when.is_empty() {
                program = program.rule(rule.nr, &[], rule.action);
            }
            for conditions in &rule.when {
                program = program.rule(rule.nr, conditions, rule.action);
            }
        }
        program.compile()
    }
}

/// Puts all threads of this process, now and later, behind `policy`, and sets `no_new_privs`. For good.
///
/// # Errors
/// When the host has no seccomp filters or a thread already has a different one.
pub fn install(policy: &Policy, unexpected: Unexpected) -> Result<(), InstallError> {
    let same = |f: &sock_filter| seccompiler::sock_filter { code: f.code, jt: f.jt, jf: f.jf, k: f.k };
    let filter: Vec<_> = policy.compile(unexpected).iter().map(same).collect();
    seccompiler::apply_filter_all_threads(&filter)
        .map_err(|cause| InstallError { policy: policy.name, cause })
}
