//! How does a test runner of this crate end?

use std::process::ExitCode;

use anyhow::Result;

/// Prints `N passed, N failed` as the last line, or why there are no numbers, and says how the process ends: well if something passed
/// and nothing failed.
#[expect(clippy::print_stdout, reason = "the last line of a test run")]
#[must_use]
pub fn conclude(what: &str, counts: Result<(usize, usize)>) -> ExitCode {
    match counts {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("FAIL {what}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
