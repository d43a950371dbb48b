//! Do the things that we want fewer of only become fewer?
//!
//! Counts stand in `ratchet.toml`; `UPDATE=1 cargo test -p tidy` writes today's. A count that rose needs a
//! reviewer's consent: the changed line in that file is where it is given.

use std::collections::BTreeMap;

use tidy::{Repo, count_word};

const FILE: &str = "tests/tidy/ratchet.toml";

fn today(repo: &Repo) -> BTreeMap<&'static str, i64> {
    let mut counts = BTreeMap::from([("unsafe", 0), ("expect", 0), ("static", 0), ("as", 0)]);
    for file in repo.product() {
        for line in file.code() {
            let casts = if line.trim_start().starts_with("use ") { 0 } else { count_word(&line, "as") };
            let statics = usize::from(line.trim_start().trim_start_matches("pub ").starts_with("static "));
            for (name, found) in [
                ("unsafe", count_word(&line, "unsafe")),
                ("expect", line.matches(".expect(").count()),
                ("static", statics),
                ("as", casts),
            ] {
                *counts.entry(name).or_default() += i64::try_from(found).expect("a small number");
            }
        }
    }
    counts
}

#[test]
fn counts_only_fall() {
    let repo = Repo::read();
    let now = today(&repo);
    if std::env::var_os("UPDATE").is_some() {
        let lines: String = now.iter().map(|(name, count)| format!("{name} = {count}\n")).collect();
        let head =
            "# Counts outside tests that may only fall; see tests/ratchet.rs for how they are taken.\n";
        std::fs::write(repo.root.join(FILE), format!("{head}{lines}")).expect("the file is written");
        return;
    }
    let allowed: BTreeMap<String, i64> = toml::from_str(&repo.file(FILE).text).expect("names and counts");
    for (name, count) in now {
        let limit = *allowed.get(name).unwrap_or(&0);
        assert!(
            count <= limit,
            "`{name}` rose from {limit} to {count}: UPDATE=1 cargo test -p tidy, and say why"
        );
    }
}
