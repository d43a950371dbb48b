//! Is the house built as drawn: which crate may lean on which, who may be unsafe, who may name the host?

use tidy::{File, Repo, count_word};

/// From the bottom of the graph upwards, with the folder of each crate's manifest.
const LAYERS: [(&str, &str); 12] = [
    ("linux-abi", "syscalls/abi"),
    ("seccomp", "seccomp"),
    ("gofer-protocol", "gofer/protocol"),
    ("control", "sentry/control"),
    ("platform", "sentry/platform"),
    ("sentry", "sentry"),
    ("syscalls", "syscalls"),
    ("rvisor-gofer", "gofer"),
    ("rvisor-sentry", "sentry/boot"),
    ("sandbox", "shim/sandbox"),
    ("containerd-shim-rvisor-v2", "shim"),
    ("rvisor", "shim/cli"),
];

/// The only places where `unsafe` may stand.
fn may_be_unsafe(path: &str) -> bool {
    path.starts_with("sentry/platform/")
        || path == "seccomp/src/jail.rs"
        || path.starts_with("seccomp/src/jail/")
}

/// The crates whose whole kernel must run in a unit test.
fn is_kernel(file: &File) -> bool {
    let folders = ["sentry/src/", "syscalls/src/", "syscalls/abi/src/"];
    folders.iter().any(|folder| file.path.starts_with(folder))
}

fn dependencies(repo: &Repo, folder: &str) -> Vec<String> {
    let manifest: toml::Table =
        toml::from_str(&repo.file(&format!("{folder}/Cargo.toml")).text).expect("a manifest");
    let table = |key: &str| manifest.get(key).and_then(|value| value.as_table()).cloned().unwrap_or_default();
    table("dependencies").keys().chain(table("build-dependencies").keys()).cloned().collect()
}

#[test]
fn a_crate_leans_only_on_crates_below_it() {
    let repo = Repo::read();
    for (layer, (name, folder)) in LAYERS.iter().enumerate() {
        let manifest = &repo.file(&format!("{folder}/Cargo.toml")).text;
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{folder} is not {name}");
        for dependency in dependencies(&repo, folder) {
            let Some(below) = LAYERS.iter().position(|(other, _)| *other == dependency) else { continue };
            assert!(below < layer, "{name} depends on {dependency}, which stands above it");
        }
    }
}

#[test]
fn every_crate_of_the_workspace_has_its_layer_or_is_a_test() {
    let repo = Repo::read();
    let workspace: toml::Table = toml::from_str(&repo.file("Cargo.toml").text).expect("a manifest");
    for member in workspace["workspace"]["members"].as_array().expect("members") {
        let member = member.as_str().expect("a path");
        let known = LAYERS.iter().any(|(_, folder)| *folder == member) || member.starts_with("tests/");
        assert!(known, "{member} has no place in the layers");
    }
}

#[test]
fn every_crate_but_two_forbids_unsafe_code() {
    let repo = Repo::read();
    for root in repo.rust().filter(|f| f.path.ends_with("src/lib.rs") || f.path.ends_with("src/main.rs")) {
        let expected = match root.path.as_str() {
            "sentry/platform/src/lib.rs" => continue,
            "seccomp/src/lib.rs" => "#![deny(unsafe_code)]",
            _ => "#![forbid(unsafe_code)]",
        };
        assert!(root.text.contains(expected), "{} lacks {expected}", root.path);
    }
}

#[test]
fn unsafe_stands_in_two_places() {
    for file in Repo::read().rust().filter(|file| !may_be_unsafe(&file.path)) {
        for (number, line) in file.code().iter().enumerate() {
            assert_eq!(count_word(line, "unsafe"), 0, "{}:{}: {line}", file.path, number + 1);
        }
    }
}

/// The line has a path that begins so: `nix::` is not in `unix::`.
fn names_path(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

#[test]
fn the_kernel_does_not_name_the_host() {
    let repo = Repo::read();
    let names = ["libc::", "rustix::", "nix::", "tokio::", "std::fs", "std::net", "std::process"];
    for file in repo.product().filter(|file| is_kernel(file)) {
        for (number, line) in file.code().iter().enumerate() {
            for name in names {
                assert!(
                    !names_path(line, name),
                    "{}:{}: {name} in the kernel: {line}",
                    file.path,
                    number + 1
                );
            }
        }
    }
    for folder in ["sentry", "syscalls", "syscalls/abi"] {
        for dependency in dependencies(&repo, folder) {
            let host = ["libc", "rustix", "nix", "tokio", "caps", "tempfile"];
            assert!(!host.contains(&dependency.as_str()), "{folder} depends on {dependency}");
        }
    }
}

/// `RLIMIT_FSIZE`, set-ID bits, capabilities and events belong to each change of content: see `vfs/modify.rs`.
#[test]
fn content_is_changed_in_one_place() {
    const CALLS: [&str; 4] = [".ops.write(", ".ops.append(", ".ops.truncate(", ".ops.allocate("];
    let repo = Repo::read();
    let mut found = 0;
    for file in repo.rust().filter(|file| is_kernel(file) && !file.path.ends_with("tests.rs")) {
        for (number, line) in file.code().iter().enumerate() {
            let changes = CALLS.iter().any(|call| line.contains(call));
            found += usize::from(changes);
            let may = file.path == "sentry/src/vfs/modify.rs";
            assert!(may || !changes, "{}:{}: {line}", file.path, number + 1);
        }
    }
    assert!(found >= CALLS.len(), "the calls have other names now");
}
