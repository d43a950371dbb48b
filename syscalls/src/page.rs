//! What does the compatibility page say? The table, printed for people: `rvisor syscalls` and `docs/SYSCALLS.md`.

use std::fmt::Write;

use crate::table::{Support, rows};

/// The page: a line of totals and one row per call, by number.
///
/// # Panics
/// Never: a `String` takes all that is written to it.
#[must_use]
pub fn markdown() -> String {
    let mut sorted: Vec<_> = rows().iter().collect();
    sorted.sort_by_key(|row| row.number);
    let count = |wanted: fn(&Support) -> bool| sorted.iter().filter(|row| wanted(&row.support)).count();
    let full = count(|support| matches!(support, Support::Full));
    let partial = count(|support| matches!(support, Support::Partial(_)));
    let refused = count(|support| matches!(support, Support::Refused(..)));
    let mut page = format!(
        "# System calls\n\nPrinted from the table in `syscalls/src/table.rs`; a number that is not listed fails with \
         `ENOSYS`.\n\n{full} full, {partial} partial, {refused} refused on purpose.\n\n\
         | number | call | support | note |\n|---:|---|---|---|\n"
    );
    for row in sorted {
        let (level, note) = match &row.support {
            Support::Full => ("full", String::new()),
            Support::Partial(note) => ("partial", (*note).to_owned()),
            Support::Refused(errno, why) => ("refused", format!("{}: {why}", errno.name())),
        };
        writeln!(page, "| {} | `{}` | {level} | {note} |", row.number, row.name).expect("a string takes it");
    }
    page
}
