//! What one permission looks like: a host call, the arguments it may have, the door it belongs to, and why.
//!
//! Key types: [`Rule`], [`Door`], [`Policy`]. A policy is a list of rules; turning it into BPF is in
//! [`crate::compile`], the lists themselves are in [`crate::policy`].

use crate::bpf::{Action, Cond, SeccompData};

/// The way out of the process that a call belongs to: whoever removes a door removes its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// What any Rust program does to run at all: threads, locks, signals, the end.
    Runtime,
    /// The process's own memory.
    Memory,
    /// Descriptors that someone else opened and handed in.
    Files,
    /// Names in the container's tree; the gofer's only.
    Paths,
    /// Internet sockets in the pod's network namespace.
    Network,
    /// Waiting for any of the other doors.
    Waiting,
    /// The stub processes that run guest code.
    Stubs,
    /// Messages between the shim, the sentry and the gofer.
    Control,
}

/// One permission.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Call number.
    pub nr: u32,
    /// Its name.
    pub name: &'static str,
    /// Which door it belongs to.
    pub door: Door,
    /// Why it is needed and why it does no harm, for the reader of the threat model.
    pub why: &'static str,
    /// Any of these lists of conditions; none at all means any arguments.
    pub when: Vec<Vec<Cond>>,
    /// What happens when a list holds: [`Action::Allow`], or a refusal that the C library can live with.
    pub action: Action,
}

impl Rule {
    /// A rule for call `nr`.
    ///
    /// # Panics
    /// On a negative number, which no call has.
    #[must_use]
    pub fn new(nr: libc::c_long, name: &'static str, door: Door, why: &'static str) -> Self {
        let nr = u32::try_from(nr).expect("call numbers are small and positive");
        Self { nr, name, door, why, when: Vec::new(), action: Action::Allow }
    }

    /// Adds an alternative: the rule applies when all of `conditions` hold.
    #[must_use]
    pub fn when<const N: usize>(mut self, conditions: [Cond; N]) -> Self {
        self.when.push(conditions.to_vec());
        self
    }

    /// Refuses with `errno` where the rule applies, in place of the policy's answer to the unexpected.
    #[must_use]
    pub fn refuse(mut self, errno: i32) -> Self {
        self.action = Action::Errno(u16::try_from(errno).expect("errno values are small and positive"));
        self
    }

    /// Whether the rule speaks about this call with these arguments.
    #[must_use]
    pub fn applies(&self, data: &SeccompData) -> bool {
        let alternatives = &self.when;
        data.nr == self.nr
            && (alternatives.is_empty()
                || alternatives.iter().any(|all| all.iter().all(|cond| cond.holds(data))))
    }
}

/// A named list of rules.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whose it is, for messages.
    pub name: &'static str,
    /// The rules; rules of one call are tried in order.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// How many different calls may be made; refusals do not count.
    #[must_use]
    pub fn calls(&self) -> usize {
        let allowed = self.rules.iter().filter(|rule| rule.action == Action::Allow);
        allowed.map(|rule| rule.nr).collect::<std::collections::BTreeSet<_>>().len()
    }
}
