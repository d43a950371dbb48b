//! Do the tables that a behaviour prints agree with the host's? A behaviour tells rows, `= question: answer`; those of the
//! host are kept, and those of a sandbox compared with them, question by question.
//!
//! Key types: [`Answers`] (one behaviour's rows), [`Rows`] (of all behaviours of a place).

use std::collections::BTreeMap;

/// What begins a row's line.
pub const MARK: &str = "= ";
/// The answer of what one kernel does not have: nobody gets rights from it, so that it equals any.
const ABSENT: &str = "-";
/// How many differences are told.
const TOLD_MAX: usize = 4;

/// Answers by question; one that is asked several times has several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<String, Vec<String>>);

/// The answers of behaviours, by `AREA/NAME`.
pub type Rows = BTreeMap<String, Answers>;

impl Answers {
    /// Takes a line's row, without its mark.
    pub fn take(&mut self, row: &str) {
        let (question, answer) = row.rsplit_once(": ").unwrap_or((row, ""));
        self.0.entry(question.to_owned()).or_default().push(answer.to_owned());
    }

    /// Nothing was asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the differences are from what the host has answered; `None` if there are none. A question that the host was not asked
    /// (by somebody with a capability that its tests do not have) has no answer to compare with.
    #[must_use]
    pub fn differences(&self, host: &Self) -> Option<String> {
        if host.is_empty() && !self.is_empty() {
            return Some(String::from("the host has answered nothing"));
        }
        let unasked = Vec::new();
        let differing: Vec<_> = host
            .0
            .keys()
            .map(|question| {
                let of = |answers: &Self| answers.0.get(question).unwrap_or(&unasked).join(" ");
                (question, of(host), of(self))
            })
            .filter(|(_, host, here)| host != here && host != ABSENT && here != ABSENT)
            .collect();
        if differing.is_empty() {
            return None;
        }
        let told = differing.iter().take(TOLD_MAX);
        let told: Vec<_> =
            told.map(|(question, host, here)| format!("{question}: {here}, on the host {host}")).collect();
        Some(format!("{} of {} answers differ: {}", differing.len(), host.0.len(), told.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(rows: &[&str]) -> Answers {
        let mut answers = Answers::default();
        rows.iter().for_each(|row| answers.take(row));
        answers
    }

    #[test]
    fn the_same_answers_are_no_difference() {
        let rows = ["kill(pid, 0), user: EPERM", "kill(pid, 0), user: ok", "a: b: c"];
        assert_eq!(answers(&rows).differences(&answers(&rows)), None);
    }

    #[test]
    fn another_answer_and_a_missing_question_are_told() {
        let host = answers(&["one: ok", "two: EPERM", "three: ok"]);
        let here = answers(&["one: EPERM", "two: EPERM", "four: ok"]);
        let told = here.differences(&host).expect("they differ");
        assert!(told.starts_with("2 of 3 answers differ: one: EPERM, on the host ok; "), "{told}");
        assert!(told.contains("three: , on the host ok"), "{told}");
        assert!(here.differences(&Answers::default()).is_some());
    }

    #[test]
    fn what_one_kernel_does_not_have_equals_any_answer() {
        assert_eq!(answers(&["kcmp: -"]).differences(&answers(&["kcmp: ok"])), None);
        assert_eq!(answers(&["kcmp: ok"]).differences(&answers(&["kcmp: -"])), None);
    }
}
