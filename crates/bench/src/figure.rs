//! One row of the table: what was measured, and what it should be.

use anyhow::Result;
use serde::Serialize;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Of a time: both hold or it is missed.
    Times {
        median: f64,
        worst: f64,
    },
    /// Told, and judged by whoever reads it.
    None,
}

#[derive(Debug, Clone)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    /// In the order measured; several only for what is repeated.
    values: Vec<f64>,
    target: Target,
    note: String,
}

impl Figure {
    pub(crate) fn one(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::many(name, unit, vec![value])
    }

    pub(crate) fn many(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self { name: name.into(), unit, values, target: Target::None, note: String::new() }
    }

    /// The largest of several that were measured at once.
    pub(crate) fn worst_of(name: impl Into<String>, unit: &'static str, values: &[f64]) -> Self {
        Self::one(name, unit, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// A row that says why it has no value.
    pub(crate) fn missing(name: impl Into<String>, unit: &'static str, why: &str) -> Self {
        Self { note: why.to_owned(), ..Self::many(name, unit, Vec::new()) }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    pub(crate) fn at_most(self, bound: f64) -> Self {
        self.target(Target::AtMost(bound))
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            n if n % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// The value farthest to the wrong side.
    fn worst(&self) -> Option<f64> {
        let by = |a: &f64, b: &f64| a.total_cmp(b);
        match self.target {
            Target::AtLeast(_) => self.values.iter().copied().min_by(by),
            Target::AtMost(_) | Target::Times { .. } | Target::None => {
                self.values.iter().copied().max_by(by)
            }
        }
    }

    fn met(&self) -> Option<bool> {
        let (median, worst) = (self.median()?, self.worst()?);
        match self.target {
            Target::AtMost(bound) => Some(median <= bound),
            Target::AtLeast(bound) => Some(median >= bound),
            Target::Times { median: m, worst: w } => Some(median <= m && worst <= w),
            Target::None => None,
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtMost(bound) => format!("<= {}", number(bound)),
            Target::AtLeast(bound) => format!(">= {}", number(bound)),
            Target::Times { median, worst } => {
                format!("median <= {}, worst <= {}", number(median), number(worst))
            }
            Target::None => "-".to_owned(),
        }
    }
}

/// All rows, with columns as wide as their widest cell.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["figure", "unit", "median", "worst", "runs", "target", "met", "note"];
    let mut rows = vec![head.map(str::to_owned)];
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    rows.extend(figures.iter().map(|figure| {
        let met = match figure.met() {
            Some(true) => "yes",
            Some(false) => "MISSED",
            None => "-",
        };
        [
            figure.name.clone(),
            figure.unit.to_owned(),
            cell(figure.median()),
            cell(figure.worst()),
            figure.values.len().to_string(),
            figure.target_text(),
            met.to_owned(),
            figure.note.clone(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[derive(Serialize)]
struct Row<'a> {
    figure: &'a str,
    unit: &'a str,
    median: Option<f64>,
    worst: Option<f64>,
    target: String,
    met: Option<bool>,
}

/// # Errors
/// None that is known: the rows are plain data.
pub(crate) fn json(figures: &[Figure]) -> Result<String> {
    let rows: Vec<_> = figures
        .iter()
        .map(|figure| Row {
            figure: &figure.name,
            unit: figure.unit,
            median: figure.median(),
            worst: figure.worst(),
            target: figure.target_text(),
            met: figure.met(),
        })
        .collect();
    Ok(serde_json::to_string_pretty(&rows)? + "\n")
}

/// Three digits that matter, and no exponent.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size == 0.0 || size.fract() == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], target: Target, median: &str, worst: &str, met: Option<bool>) {
        let figure = Figure::many("x", "s", values.to_vec()).target(target);
        assert_eq!(figure.median().map(number).unwrap_or_default(), median, "median {values:?}");
        assert_eq!(figure.worst().map(number).unwrap_or_default(), worst, "worst {values:?}");
        assert_eq!(figure.met(), met, "{values:?} against {target:?}");
    }

    #[test]
    fn a_target_is_met_by_the_median_and_where_asked_by_the_worst() {
        check(&[3.0, 1.0, 2.0], Target::AtMost(2.0), "2", "3", Some(true));
        check(&[4.0, 1.0, 2.0, 3.0], Target::AtMost(2.4), "2.50", "4", Some(false));
        check(&[900.0, 400.0, 700.0], Target::AtLeast(500.0), "700", "400", Some(true));
        check(
            &[4.0, 4.1, 5.2],
            Target::Times { median: 4.2, worst: 5.0 },
            "4.10",
            "5.20",
            Some(false),
        );
        check(
            &[4.0, 4.1, 4.9],
            Target::Times { median: 4.2, worst: 5.0 },
            "4.10",
            "4.90",
            Some(true),
        );
        check(&[1.0], Target::None, "1", "1", None);
        check(&[], Target::AtMost(1.0), "", "", None);
    }

    #[test]
    fn rows_that_say_why_they_are_empty_stay_in_the_table() {
        let rows = [Figure::missing("size", "B", "not built: cargo xtask dist").at_most(4.0)];
        let text = table(&rows);
        assert!(text.contains("not built: cargo xtask dist") && text.contains("<= 4"), "{text}");
        let read: serde_json::Value = serde_json::from_str(&json(&rows).unwrap()).unwrap();
        assert_eq!(read[0]["median"], serde_json::Value::Null);
        assert_eq!(read[0]["met"], serde_json::Value::Null);
        assert_eq!(read[0]["target"], "<= 4");
    }
}
