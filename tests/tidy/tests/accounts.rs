//! Is everything that a guest can make grow somebody's to pay? `docs/guides/limits.md` has a row for each file of the kernel with a
//! table, queue or list in it, and the rows that say "charged" are true.

use std::collections::BTreeMap;

use tidy::Repo;

/// What grows is kept in one of these.
const COLLECTIONS: [&str; 6] = ["VecDeque<", "HashMap<", "HashSet<", "BTreeMap<", "BTreeSet<", "BinaryHeap<"];
const FOLDER: &str = "sentry/src/";

/// A field of a structure, or of a variant, that is a collection.
fn is_growable(line: &str) -> bool {
    let line = line
        .trim()
        .trim_start_matches("pub ")
        .trim_start_matches("pub(crate) ")
        .trim_start_matches("pub(super) ");
    let Some((name, kind)) = line.split_once(": ") else { return false };
    let is_field =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_field
        && line.ends_with(',')
        && !line.contains(['(', '=', '&'])
        && COLLECTIONS.iter().any(|one| kind.contains(one))
}

/// Who pays, by file.
fn rows(page: &str) -> BTreeMap<&str, &str> {
    let cells =
        page.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').map(str::trim));
    cells.filter_map(|mut cells| Some((cells.nth(1)?.trim_matches('`'), cells.nth(1)?))).collect()
}

#[test]
fn everything_that_grows_has_a_row() {
    let repo = Repo::read();
    let page = &repo.file("docs/guides/limits.md").text;
    let rows = rows(page);
    assert!(!rows.is_empty(), "no row was understood");
    let kernel = repo.rust().filter(|file| file.path.starts_with(FOLDER) && !file.path.contains("test"));
    let growing: Vec<_> = kernel
        .filter(|file| file.text.lines().take_while(|line| !line.contains("mod tests")).any(is_growable))
        .map(|file| file.path.trim_start_matches(FOLDER))
        .collect();
    assert!(growing.contains(&"fs/inotify.rs"), "no field was understood");
    let missing: Vec<_> = growing.iter().filter(|path| !rows.contains_key(**path)).collect();
    assert!(missing.is_empty(), "what grows there, and who pays? docs/guides/limits.md lacks: {missing:?}");
}

#[test]
fn what_is_said_to_be_charged_is_charged() {
    let repo = Repo::read();
    let page = &repo.file("docs/guides/limits.md").text;
    for (path, pays) in
        rows(page).into_iter().filter(|(_, pays)| *pays == "charged" || pays.starts_with("charged to"))
    {
        // Where the mappings of `mm/tree.rs` are.
        let path = if path == "mm/tree.rs" { "mm/mod.rs" } else { path };
        let text = &repo.file(&format!("{FOLDER}{path}")).text;
        let charges = ["charge(", "charge_for", "charge_memory(", ".resize(", "account::count("];
        assert!(
            charges.iter().any(|call| text.contains(call)),
            "{path} is said to be charged ({pays}), and is not"
        );
    }
}
