//! Does the text keep the rules of `docs/STYLE.md` that a machine can see?

use tidy::Repo;

/// The end: a file of more lines has more than one subject.
const LINES_MAX: usize = 800;

#[test]
fn no_file_is_too_long() {
    for file in Repo::read().rust() {
        let lines = file.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines, the end is {LINES_MAX}", file.path);
    }
}

#[test]
fn every_file_says_first_which_question_it_answers() {
    for file in Repo::read().rust().filter(|file| !file.path.ends_with("build.rs")) {
        assert!(file.text.starts_with("//! "), "{} does not begin with `//! `", file.path);
    }
}

#[test]
fn no_workplace_and_no_registry_is_named() {
    // Put together here, so that this file does not hold them.
    let words: Vec<String> = [
        ("/wo", "rk/"),
        ("/root", "/."),
        ("docker", ".io/"),
        ("quay", ".io/"),
        ("ghcr", ".io/"),
        ("gcr", ".io/"),
        ("registry", ".k8s.io"),
        ("deb.debian", ".org"),
        ("security.debian", ".org"),
    ]
    .iter()
    .map(|(head, tail)| format!("{head}{tail}"))
    .collect();
    for file in Repo::read().files.iter().filter(|file| file.path != "Cargo.lock") {
        for word in &words {
            assert!(!file.text.contains(word.as_str()), "{} names {word}", file.path);
        }
    }
}

#[test]
fn allowances_have_a_reason() {
    for file in Repo::read().rust() {
        let mut start = 0;
        for line in file.text.split_inclusive('\n') {
            let begins = ["#[allow(", "#[expect(", "#![allow(", "#![expect("];
            if begins.iter().any(|attribute| line.trim_start().starts_with(attribute)) {
                let rest = &file.text[start..];
                let attribute = rest.split_once(")]").map_or(rest, |(head, _)| head).trim();
                assert!(attribute.contains("reason"), "{}: {attribute})] without a reason", file.path);
            }
            start += line.len();
        }
    }
}

#[test]
fn licence_and_documents_are_there() {
    let repo = Repo::read();
    assert!(repo.file("LICENSE").text.contains("Apache License"));
    for path in ["README.md", "docs/ARCHITECTURE.md", "docs/THREAT-MODEL.md", "docs/STYLE.md"] {
        assert!(repo.file(path).text.lines().count() > 20, "{path} is too short to be true");
    }
}
