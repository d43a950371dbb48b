//! What is in this repository? The files as the tidy tests see them: tracked by git or about to be, with their text.
//!
//! Key types: [`Repo`], [`File`]. The facts themselves are in `tests/`, one file per subject.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The working tree.
#[derive(Debug)]
pub struct Repo {
    /// Its top directory.
    pub root: PathBuf,
    /// Its text files.
    pub files: Vec<File>,
}

/// A text file.
#[derive(Debug)]
pub struct File {
    /// Relative to the top, with `/` between.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl Repo {
    /// Reads the tree that this crate is in.
    ///
    /// # Panics
    /// Without git, or with nothing tracked.
    #[must_use]
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .expect("the repository is there");
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .expect("git lists the files");
        let names = String::from_utf8(listed.stdout).expect("names are UTF-8");
        let read = |path: &str| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some(File { path: path.to_owned(), text })
        };
        let files: Vec<_> = names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect();
        assert!(files.len() > 50, "git lists only {} files", files.len());
        Self { root, files }
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The Rust files that are part of a program, not of its tests.
    pub fn product(&self) -> impl Iterator<Item = &File> {
        self.rust().filter(|file| !file.is_test())
    }

    /// The file at `path`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn file(&self, path: &str) -> &File {
        self.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is missing"))
    }
}

impl File {
    /// Whether it only serves tests.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || name == "tests.rs"
            || name.ends_with("_test.rs")
            || name.ends_with("_tests.rs")
    }

    /// The text without comments, string contents and what follows `#[cfg(test)]` at the left margin, line by line,
    /// so that words in prose do not count. Rough on purpose: raw strings keep their text.
    #[must_use]
    pub fn code(&self) -> Vec<String> {
        let product = self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        product.lines().map(code_of).collect()
    }
}

/// One line without its comment and the contents of its strings.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '/' if characters.peek() == Some(&'/') => break,
            '"' => {
                code.push('"');
                while let Some(inner) = characters.next() {
                    match inner {
                        '\\' => drop(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push('"');
            }
            // A quotation mark as a character literal opens no string.
            '\'' if characters.peek() == Some(&'"') => {
                characters.next();
            }
            other => code.push(other),
        }
    }
    code
}

/// How often `word` stands in `code` with no identifier character before or after it.
#[must_use]
pub fn count_word(code: &str, word: &str) -> usize {
    let bytes = code.as_bytes();
    let is_name = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let outside = |at: usize| (at == 0 || !is_name(at - 1)) && !is_name(at + word.len());
    code.match_indices(word).filter(|(at, _)| outside(*at)).count()
}

#[cfg(test)]
mod tests {
    use super::{code_of, count_word};

    #[test]
    fn prose_is_not_code() {
        assert_eq!(code_of(r#"let a = "unsafe \" as"; // unsafe"#), r#"let a = ""; "#);
        assert_eq!(code_of(r"if c == '\x22' { unsafe_word() }"), r"if c == '\x22' { unsafe_word() }");
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(count_word("unsafe { unsafe_op(unsafe) }", "unsafe"), 2);
    }
}
