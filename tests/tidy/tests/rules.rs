//! Does somebody need each rule of a filter? Who does stands in `rules.toml`, and is looked up in the code.
//!
//! What the standard library and the C library do is believed: its reasons are read by people.

use std::collections::{BTreeMap, BTreeSet};

use seccomp::bpf::Action;
use seccomp::policy::{Gofer, Platform, gofer, sentry};
use tidy::Repo;
use toml::Value;

const FILE: &str = "tests/tidy/rules.toml";

/// The calls that a process of this name is allowed on any platform and with any configuration.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let with_sockets = gofer(Gofer { proc_fds: 0, host_sockets: true });
    let policies = [
        ("sentry", sentry(Platform::Systrap)),
        ("sentry", sentry(Platform::Ptrace)),
        ("gofer", with_sockets),
    ];
    for (process, policy) in policies {
        let rules = policy.rules.iter().filter(|rule| rule.action == Action::Allow);
        found.entry(process).or_default().extend(rules.map(|rule| rule.name));
    }
    found
}

#[test]
fn somebody_needs_every_rule() {
    let repo = Repo::read();
    let table: toml::Table = toml::from_str(&repo.file(FILE).text).expect("tables");
    let names = |part: &str| table[part].as_table().expect("a table");
    let mut needed = BTreeSet::new();
    for (process, calls) in allowed() {
        for call in &calls {
            let is_known = names(process).contains_key(*call) || names("runtime").contains_key(*call);
            assert!(is_known, "{process}: {call} is allowed, and {FILE} does not say for whom");
        }
        for (call, place) in names(process) {
            assert!(calls.contains(call.as_str()), "{process}: {call} stands in {FILE} and in no filter");
            let place: Vec<_> = place.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let [file, text] = place[..] else { panic!("{call}: a file and a text") };
            let found = repo.file(file).code().iter().any(|line| line.contains(text));
            assert!(found, "{process}: {call} is allowed for `{text}` in {file}, which is not there");
        }
        needed.extend(calls);
    }
    for (call, why) in names("runtime") {
        assert!(needed.contains(call.as_str()), "{call} stands in {FILE} and in no filter");
        assert!(why.as_str().is_some_and(|why| !why.is_empty()), "{call}: why?");
    }
}
