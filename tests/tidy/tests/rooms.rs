//! Have the rooms of the kernel an order?
//!
//! A room is a top-level module of `sentry`; it may name those that stand below it in `rooms.toml`. What points up today
//! is listed there, with the number of files that do it: `UPDATE=1 cargo test -p tidy` writes today's. A number that rose
//! needs a reviewer's consent: the changed line in that file is where it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use tidy::{File, Repo};

const FILE: &str = "tests/tidy/rooms.toml";
const SOURCE: &str = "sentry/src/";

/// The floors, the lowest first, as the head of the file has them.
fn floors(table: &toml::Table) -> BTreeMap<String, usize> {
    let floors = table["floors"].as_array().expect("a list of floors");
    let rooms = floors.iter().enumerate().flat_map(|(height, rooms)| {
        rooms.as_array().expect("a list of rooms").iter().map(move |room| (room, height))
    });
    rooms.map(|(room, height)| (room.as_str().expect("a name").to_owned(), height)).collect()
}

/// The room that a file is in; `None`: it is the crate's own face.
fn room_of(file: &File) -> Option<&str> {
    let name = file.path.strip_prefix(SOURCE)?;
    let room = name.split('/').next()?.trim_end_matches(".rs");
    (!matches!(room, "lib" | "testing")).then_some(room)
}

/// The rooms that a file names by `crate::room` or `crate::{room, ...}`.
fn named(file: &File) -> BTreeSet<String> {
    let code = file.code().join("\n");
    let mut rooms = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            rooms.insert(first_name(rest));
            continue;
        };
        // The names at the group's own depth.
        let (mut depth, mut from) = (0_usize, 0);
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                '}' | ',' if depth == 0 => {
                    rooms.insert(first_name(group[from..at].trim_start()));
                    from = at + 1;
                    if character == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    rooms
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// How many files of a room name a room that does not stand below it.
fn upward(repo: &Repo, floors: &BTreeMap<String, usize>) -> BTreeMap<String, i64> {
    let mut edges = BTreeMap::new();
    for file in repo.product() {
        let Some(room) = room_of(file) else { continue };
        let height = floors.get(room).unwrap_or_else(|| panic!("{FILE}: no floor for {room}"));
        for other in named(file) {
            if other != room && floors.get(&other).is_some_and(|other| other >= height) {
                *edges.entry(format!("{room} -> {other}")).or_default() += 1;
            }
        }
    }
    edges
}

#[test]
fn rooms_name_only_those_below_them() {
    let repo = Repo::read();
    let text = &repo.file(FILE).text;
    let table: toml::Table = toml::from_str(text).expect("floors and edges");
    let floors = floors(&table);
    let now = upward(&repo, &floors);
    if std::env::var_os("UPDATE").is_some() {
        let (head, _) = text.split_once("[upward]\n").expect("a table of edges");
        let mut new = format!("{head}[upward]\n");
        for (edge, count) in &now {
            writeln!(new, "\"{edge}\" = {count}").expect("written");
        }
        std::fs::write(repo.root.join(FILE), new).expect("the file is written");
        return;
    }
    let allowed = table["upward"].as_table().expect("a table of edges");
    for (edge, count) in now {
        let limit = allowed.get(&edge).and_then(toml::Value::as_integer).unwrap_or(0);
        assert!(
            count <= limit,
            "`{edge}` in {count} files, not {limit}: a room names those below it (tests/tidy/rooms.toml)"
        );
    }
}

#[test]
fn names_in_groups_are_found() {
    let text = "use crate::{Errno, fs::{a, b}, vfs};\nuse crate::mm::Map; // crate::net\n";
    let file = File { path: "sentry/src/x.rs".to_owned(), text: text.to_owned() };
    let names: Vec<_> = named(&file).into_iter().collect();
    assert_eq!(names, ["Errno", "fs", "mm", "vfs"]);
}
