//! Is every call accounted for: the table's handlers cite their man pages, the filters' rules say why,
//! and the compatibility page is what the table says?

use seccomp::policy::{Gofer, Platform, gofer, sentry};
use tidy::Repo;

/// Fewest words that can be called a reason.
const REASON_WORDS: usize = 2;

/// The handlers named in the table, as `(call, room::function)`.
fn handlers(table: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in table.lines().map(str::trim) {
        let Some((name, rest)) = line.split_once(" => crate::") else { continue };
        let name = name.split_whitespace().last().unwrap_or_default();
        let path = rest.split([',', ' ', ';']).next().unwrap_or_default();
        found.push((name.to_owned(), path.to_owned()));
    }
    found
}

/// The comment and attributes directly above `fn name(` in `text`.
fn comment_of(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let declares = |line: &str| {
        let after = line.split(&format!("fn {name}")).nth(1);
        after.is_some_and(|rest| rest.starts_with('(') || rest.starts_with('<'))
            && !line.trim().starts_with("//")
    };
    let at = lines.iter().position(|line| declares(line))?;
    let above = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.trim().starts_with("//") || line.trim().starts_with("#["));
    Some(above.copied().collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_handler_links_its_man_page() {
    let repo = Repo::read();
    let handlers = handlers(&repo.file("syscalls/src/table.rs").text);
    assert!(!handlers.is_empty(), "no row of the table was understood");
    let mut wrong = Vec::new();
    for (call, path) in handlers {
        let (rooms, function) = path.rsplit_once("::").expect("a handler stands in a room");
        let folder = format!("syscalls/src/{}", rooms.split("::").next().unwrap_or_default());
        let candidates = repo.rust().filter(|file| file.path.starts_with(&folder));
        let comments: Vec<String> = candidates.filter_map(|file| comment_of(&file.text, function)).collect();
        // A call without a man page has a page of the kernel's own documentation.
        let is_page = |comment: &String| {
            comment.contains("man7.org/linux/man-pages/man") || comment.contains("www.kernel.org/doc/html/")
        };
        if !comments.iter().any(is_page) {
            wrong.push(format!("{call} ({path})"));
        }
    }
    assert!(wrong.is_empty(), "handlers without a link to their man page: {}", wrong.join(", "));
}

#[test]
fn every_seccomp_rule_says_why() {
    for policy in [
        sentry(Platform::Systrap),
        sentry(Platform::Ptrace),
        gofer(Gofer { proc_fds: 0, host_sockets: true }),
    ] {
        for rule in &policy.rules {
            let words = rule.why.split_whitespace().count();
            assert!(words >= REASON_WORDS, "{}: {} has no reason", policy.name, rule.name);
            assert!(!rule.why.ends_with('.'), "{}: {}: a reason is a phrase", policy.name, rule.name);
        }
    }
}

#[test]
fn the_compatibility_page_is_what_the_table_says() {
    let repo = Repo::read();
    let page = syscalls::page::markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(repo.root.join("docs/SYSCALLS.md"), &page).expect("the page is written");
        return;
    }
    assert!(
        repo.file("docs/SYSCALLS.md").text == page,
        "docs/SYSCALLS.md is old: UPDATE=1 cargo test -p tidy"
    );
}
