//! What does the list of options say, `docs/OPTIONS.md`? One row per call, argument and answer, with the values' names.
//!
//! Key types: [`List`], [`Answer`].

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What a value is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its effect is Linux's.
    Done,
    /// Without effect here; read back as it was set.
    Kept,
    /// Linux may do nothing about it, too.
    Hint,
    /// As by a kernel that was made without it.
    Refused,
}

/// A row of the list.
#[derive(Debug, Clone)]
pub struct Row {
    /// The call and the argument: what `tests/guest/survey/` calls the space.
    pub title: String,
    /// What is said of them.
    pub answer: Answer,
    /// Their names, as the headers have them.
    pub names: Vec<String>,
    /// Which behaviours show it: the file below `tests/guest/src`, and its tests.
    pub shown: Vec<(String, Vec<String>)>,
}

/// The list.
#[derive(Debug)]
pub struct List {
    /// In the list's order.
    pub rows: Vec<Row>,
}

impl List {
    /// Reads `docs/OPTIONS.md` of the working tree.
    pub fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/OPTIONS.md");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Call"));
        Ok(Self { rows: lines.map(row).collect::<Result<_>>()? })
    }

    /// The names as C, for the survey to resolve and try.
    #[must_use]
    pub fn as_c(&self) -> String {
        let mut text = String::from("const struct named named_values[] = {\n");
        for row in &self.rows {
            for name in &row.names {
                // A sink that is a string takes all.
                let _ = writeln!(text, "    {{\"{}\", \"{name}\", (unsigned long)({name})}},", row.title);
            }
        }
        text + "};\nconst size_t named_count = sizeof named_values / sizeof named_values[0];\n"
    }

    /// What the list says of a value.
    #[must_use]
    pub fn answer(&self, title: &str, name: &str) -> Option<Answer> {
        let row = self.rows.iter().find(|row| row.title == title && row.names.iter().any(|one| one == name));
        row.map(|row| row.answer)
    }
}

fn row(line: &str) -> Result<Row> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [title, answer, names, shown] = cells[..] else { bail!("not four columns: {line}") };
    let answer = match answer {
        "done" => Answer::Done,
        "kept" => Answer::Kept,
        "hint" => Answer::Hint,
        "refused" => Answer::Refused,
        _ => bail!("an answer that is none: {line}"),
    };
    let shown = shown.split(';').filter(|one| !one.trim().is_empty()).map(|one| {
        let mut words = one.split_whitespace().map(|word| word.trim_matches('`').to_owned());
        (words.next().unwrap_or_default(), words.collect())
    });
    Ok(Row {
        title: title.trim_matches('`').to_owned(),
        answer,
        names: names.split_whitespace().map(str::to_owned).collect(),
        shown: shown.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &str) -> Option<String> {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).ok()
    }

    /// A whole word of a text.
    fn stands_in(text: &str, word: &str) -> bool {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        text.split(|letter| !is_letter(letter)).any(|one| one == word)
    }

    #[test]
    fn what_is_done_or_kept_is_shown_by_a_behaviour() {
        let list = List::read().expect("the list is read");
        let mut faults = Vec::new();
        for row in &list.rows {
            let needs_one = matches!(row.answer, Answer::Done | Answer::Kept);
            if row.names.is_empty() || (needs_one && row.shown.is_empty()) {
                faults.push(format!("{}: no names, or nothing that shows it", row.title));
            }
            let mut sources = String::new();
            for (file, behaviours) in &row.shown {
                let Some(text) = source(file) else {
                    faults.push(format!("{}: there is no {file}", row.title));
                    continue;
                };
                for behaviour in behaviours {
                    if !text.contains(&format!("TEST({behaviour})")) {
                        faults.push(format!("{}: there is no {behaviour} in {file}", row.title));
                    }
                }
                if behaviours.is_empty() {
                    faults.push(format!("{}: which behaviour of {file}?", row.title));
                }
                sources.push_str(&text);
            }
            let unseen = row.names.iter().filter(|name| needs_one && !stands_in(&sources, name));
            faults.extend(unseen.map(|name| format!("{}: {name} is in none of its files", row.title)));
        }
        assert!(faults.is_empty(), "docs/OPTIONS.md:\n{}", faults.join("\n"));
    }

    #[test]
    fn nothing_is_said_twice() {
        let list = List::read().expect("the list is read");
        let mut all: Vec<_> =
            list.rows.iter().flat_map(|row| row.names.iter().map(|name| (&row.title, name))).collect();
        all.sort();
        let twice: Vec<_> = all.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty() && !all.is_empty(), "{twice:?}");
    }
}
