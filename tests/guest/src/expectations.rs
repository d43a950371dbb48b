//! Which behaviours are known to fail on a platform, and why? [`Expectations`] is read from
//! `expectations/PLATFORM.txt`: lines `area/name  # reason`. A listed behaviour that passes is an error, so that the
//! list can only tell the truth.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What an outcome means once the list of known failures is taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Passed, and was to pass.
    Passed,
    /// Failed, as the list says.
    KnownFailure,
    /// Failed, and was to pass.
    Failed,
    /// Passed, but the list says that it fails: its line must go.
    UnexpectedPass,
}

/// The known failures of one platform.
#[derive(Debug, Default)]
pub struct Expectations {
    reasons: BTreeMap<String, String>,
}

impl Expectations {
    /// Reads a list; every line needs its reason.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut reasons = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, reason)) = line.split_once('#') else {
                bail!("line {}: no reason after '#'", number + 1);
            };
            if reason.trim().is_empty() || !name.contains('/') {
                bail!("line {}: want `area/name  # reason`", number + 1);
            }
            if reasons.insert(name.trim().to_owned(), reason.trim().to_owned()).is_some() {
                bail!("line {}: {} is listed twice", number + 1, name.trim());
            }
        }
        Ok(Self { reasons })
    }

    /// Judges the outcome of one behaviour, named `area/name`.
    pub fn judge(&self, name: &str, passed: bool) -> Judgement {
        match (self.reasons.contains_key(name), passed) {
            (false, true) => Judgement::Passed,
            (false, false) => Judgement::Failed,
            (true, true) => Judgement::UnexpectedPass,
            (true, false) => Judgement::KnownFailure,
        }
    }

    /// Listed names that no behaviour bears.
    pub fn unknown<'a>(&'a self, known: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
        self.reasons.keys().map(String::as_str).filter(move |name| !known(name))
    }
}
