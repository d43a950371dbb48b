//! Is it said of each field of CRI's messages what becomes of it? `docs/guides/cri.md` has a row for each that
//! `lists/cri-fields.txt` names, and agrees with the tables of the program about the OCI field that it becomes.

use std::collections::BTreeMap;

use tidy::Repo;

const PAGE: &str = "docs/guides/cri.md";
const LIST: &str = "tests/tidy/lists/cri-fields.txt";
const TABLES: &str = "shim/sandbox/src/fields.rs";
/// Answers, and the verdicts of the tables that each agrees with; one that depends on the value agrees with all.
const ANSWERS: [(&str, &[&str]); 5] = [
    ("done", &["Done", "Holds"]),
    ("noted", &["Noted"]),
    ("refused", &["Refused"]),
    ("by value", &["Done", "Holds", "Noted", "Refused"]),
    ("containerd's", &[]),
];

/// A row of the page.
struct Row<'a> {
    messages: Vec<&'a str>,
    fields: Vec<&'a str>,
    becomes: &'a str,
    answer: &'a str,
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Message"));
    let parsed = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [messages, fields, becomes, answer] = cells[..] else {
            panic!("{PAGE}: not four columns: {line}")
        };
        Row {
            messages: messages.split(", ").collect(),
            fields: fields.split_whitespace().collect(),
            becomes,
            answer,
        }
    });
    parsed.collect()
}

/// `Message field`, each with the rows that have it.
fn told<'a>(rows: &'a [Row<'a>]) -> BTreeMap<(&'a str, &'a str), Vec<&'a Row<'a>>> {
    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        for (message, field) in row.messages.iter().flat_map(|&one| row.fields.iter().map(move |&f| (one, f)))
        {
            told.entry((message, field)).or_default().push(row);
        }
    }
    told
}

#[test]
fn each_field_has_an_answer() {
    let repo = Repo::read();
    let rows = rows(&repo.file(PAGE).text);
    let told = told(&rows);
    let lines = repo.file(LIST).text.lines().filter(|line| !line.starts_with('#'));
    let mut known = Vec::new();
    for mut words in lines.map(str::split_whitespace) {
        let message = words.next().unwrap_or_default();
        known.extend(words.map(|field| (message, field)));
    }
    assert!(known.len() > 150, "only {} fields were understood", known.len());
    let missing: Vec<_> = known.iter().filter(|field| !told.contains_key(field)).collect();
    assert!(missing.is_empty(), "what becomes of them? {PAGE} lacks {missing:?}");
    // A row may name several messages, not all of which have each of its fields.
    let unknown: Vec<_> = rows
        .iter()
        .flat_map(|row| row.fields.iter().map(move |field| (row, field)))
        .filter(|(row, field)| !row.messages.iter().any(|message| known.contains(&(message, field))))
        .map(|(row, field)| format!("{}.{field}", row.messages.join("/")))
        .collect();
    assert!(unknown.is_empty(), "CRI has none of {unknown:?}");
}

#[test]
fn an_answer_agrees_with_the_tables() {
    let repo = Repo::read();
    let tables = &repo.file(TABLES).text;
    let verdicts: BTreeMap<&str, &str> = tables
        .lines()
        .filter_map(|line| {
            let (field, rest) = line.trim().strip_prefix("(\"")?.split_once("\", ")?;
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
            Some((field, &rest[..end]))
        })
        .collect();
    assert_eq!(verdicts.get("linux.seccomp"), Some(&"Noted"), "no table was understood");
    let mut faults = Vec::new();
    for row in rows(&repo.file(PAGE).text) {
        let Some((_, agreeing)) = ANSWERS.iter().find(|(answer, _)| *answer == row.answer) else {
            faults.push(format!("{}: an answer that is none: {}", row.messages.join(", "), row.answer));
            continue;
        };
        // Every second piece stands in `code`.
        for code in row.becomes.split('`').skip(1).step_by(2).filter(|code| code.contains('.')) {
            let short = code.trim_start_matches("process.").trim_start_matches("linux.resources.");
            match verdicts.get(code).or_else(|| verdicts.get(short)) {
                None => faults.push(format!("{}: no table has {code}", row.messages.join(", "))),
                Some(verdict) if !agreeing.contains(verdict) && !agreeing.is_empty() => {
                    faults.push(format!(
                        "{}: {code} is {verdict}, not {}",
                        row.messages.join(", "),
                        row.answer
                    ));
                }
                Some(_) => {}
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
