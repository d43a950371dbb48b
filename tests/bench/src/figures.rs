//! How samples become a table: median, range and the ratio to native, one row per operation, one column per place.
//!
//! Key type: [`Figures`]. Less is better in every row.

use std::fmt::Write;

/// Width of one column.
const COLUMN: usize = 32;

/// Samples by operation and place, operations in the order of their first sample.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    cells: Vec<(&'static str, Vec<f64>)>,
}

/// Least, middle and largest of some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    min: f64,
    median: f64,
    max: f64,
}

fn summary(samples: &[f64]) -> Option<Summary> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len() / 2)?;
    Some(Summary { min: *sorted.first()?, median: *middle, max: *sorted.last()? })
}

impl Figures {
    /// Adds one sample.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, place: &'static str, sample: f64) {
        if !self.rows.iter().any(|row| row.name == name) {
            self.rows.push(Row { name: name.to_owned(), unit, cells: Vec::new() });
        }
        let row = self.rows.iter_mut().find(|row| row.name == name).expect("it was just added");
        match row.cells.iter_mut().find(|(other, _)| *other == place) {
            Some((_, samples)) => samples.push(sample),
            None => row.cells.push((place, vec![sample])),
        }
    }

    /// The table.
    pub(crate) fn table(&self, places: &[&str]) -> String {
        let mut text = format!("{:<36}", "median [least..most] x ratio to native");
        for place in places {
            write!(text, "{place:>COLUMN$}").expect("a string takes it");
        }
        text.push('\n');
        for row in &self.rows {
            let native = row.of("native");
            write!(text, "{:<36}", format!("{} ({})", row.name, row.unit)).expect("a string takes it");
            for place in places {
                write!(text, "{:>COLUMN$}", cell(row.of(place), native)).expect("a string takes it");
            }
            text.push('\n');
        }
        text
    }
}

impl Row {
    fn of(&self, place: &str) -> Option<Summary> {
        summary(&self.cells.iter().find(|(other, _)| *other == place)?.1)
    }
}

fn cell(own: Option<Summary>, native: Option<Summary>) -> String {
    let Some(Summary { min, median, max }) = own else { return "-".to_owned() };
    let ratio = native.map_or(String::new(), |native| format!(" x{:.2}", median / native.median));
    format!("{} [{}..{}]{ratio}", short(median), short(min), short(max))
}

/// Three figures that count, with k and M for the thousands.
fn short(value: f64) -> String {
    let (scaled, suffix) = match value {
        v if v >= 999_500.0 => (v / 1e6, "M"),
        v if v >= 9_995.0 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let decimals = match scaled {
        _ if suffix.is_empty() => 0,
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::{Figures, Summary, short, summary};

    #[test]
    fn the_median_is_the_middle_sample() {
        assert_eq!(summary(&[9.0, 1.0, 5.0]), Some(Summary { min: 1.0, median: 5.0, max: 9.0 }));
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn large_values_are_short() {
        assert_eq!(
            [9_994.0, 16_026.0, 999_499.0, 17_568_643.0].map(short),
            ["9994", "16.0k", "999k", "17.6M"]
        );
    }

    #[test]
    fn a_row_has_ratios_and_gaps() {
        let mut figures = Figures::default();
        figures.add("null", "ns", "native", 100.0);
        figures.add("null", "ns", "ours", 150.0);
        let table = figures.table(&["native", "ours", "absent"]);
        let row = table.lines().nth(1).expect("a row");
        assert!(row.contains("150 [150..150] x1.50"), "{row}");
        assert!(row.trim_end().ends_with('-'), "{row}");
    }
}
