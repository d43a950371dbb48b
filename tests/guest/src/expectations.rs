//! Which behaviours are known to fail in a place, and why? [`Expectations`] is read from lists of lines
//! `name  # reason`. A listed behaviour that passes is an error, so that a list can only tell the truth; only where
//! the reason begins with `flaky:` both outcomes are taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Begins the reason of a behaviour that now passes and now fails.
const FLAKY: &str = "flaky:";

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

/// The known failures of one place.
#[derive(Debug, Default)]
pub struct Expectations {
    reasons: BTreeMap<String, String>,
}

impl Expectations {
    /// Reads a list; every line needs its reason.
    ///
    /// # Errors
    /// When it cannot be read, a reason is missing or a name stands twice.
    pub fn read(path: &Path) -> Result<Self> {
        let mut list = Self::default();
        list.add(path)?;
        Ok(list)
    }

    /// Adds what another list says.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn add(&mut self, path: &Path) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        self.parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(&mut self, text: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, reason) = line.split_once('#').unwrap_or((line, ""));
            let (name, reason) = (name.trim(), reason.trim());
            if name.is_empty() || reason.trim_start_matches(FLAKY).is_empty() {
                bail!("line {}: want `name  # reason`", number + 1);
            }
            if self.reasons.insert(name.to_owned(), reason.to_owned()).is_some() {
                bail!("line {}: {name} is listed twice", number + 1);
            }
        }
        Ok(())
    }

    /// Judges the outcome of one behaviour.
    #[must_use]
    pub fn judge(&self, name: &str, passed: bool) -> Judgement {
        match (self.reason(name), passed) {
            (None, false) => Judgement::Failed,
            (Some(reason), true) if !reason.starts_with(FLAKY) => Judgement::UnexpectedPass,
            (_, true) => Judgement::Passed,
            (Some(_), false) => Judgement::KnownFailure,
        }
    }

    /// Why this behaviour may fail, if it may.
    #[must_use]
    pub fn reason(&self, name: &str) -> Option<&str> {
        self.reasons.get(name).map(String::as_str)
    }

    /// Listed names that no behaviour bears.
    pub fn unknown<'a>(&'a self, known: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
        self.reasons.keys().map(String::as_str).filter(move |name| !known(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectations, Judgement};

    fn list(text: &str) -> Option<Expectations> {
        let mut list = Expectations::default();
        list.parse(text).ok().map(|()| list)
    }

    #[test]
    fn a_line_needs_a_reason_and_a_name_only_once() {
        assert!(list("# prose\n\nfs/a  # not there yet\n").is_some());
        for wrong in ["fs/a", "fs/a  #", "fs/a  # flaky:", "# reason\n# other\n #\n fs/a #x\nfs/a # y"] {
            assert!(list(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn only_a_flaky_behaviour_may_do_as_it_likes() {
        let list = list("a  # missing\nrun: a b  # flaky: timing\n").expect("a good list");
        assert_eq!(list.judge("a", true), Judgement::UnexpectedPass);
        assert_eq!(list.judge("a", false), Judgement::KnownFailure);
        assert_eq!(list.judge("run: a b", true), Judgement::Passed);
        assert_eq!(list.judge("run: a b", false), Judgement::KnownFailure);
        assert_eq!(list.judge("c", true), Judgement::Passed);
        assert_eq!(list.judge("c", false), Judgement::Failed);
        assert_eq!(list.unknown(|name| name == "a").collect::<Vec<_>>(), ["run: a b"]);
    }
}
