//! What is wrong with a setting, in a sentence that says where and what was expected.

use std::path::PathBuf;

use crate::tree::Position;

const SHOWN_CHARS_MAX: usize = 80;

/// Why there are no settings. Nothing was started or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge { path: PathBuf, limit_bytes: u64 },
    #[error("{}:{}:{}: {problem}", path.display(), at.line, at.column)]
    File { path: PathBuf, at: Position, problem: String },
    #[error("{variable} in the environment: {problem}")]
    Environment { variable: String, problem: String },
    /// Values that are right each by itself, and that neither file nor environment has set.
    #[error("{0}")]
    Together(String),
}

/// What is wrong, and where in the file if it is from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub at: Option<Position>,
    pub problem: String,
}

impl Problem {
    pub(crate) fn at(at: Position, problem: impl Into<String>) -> Self {
        Self { at: Some(at), problem: problem.into() }
    }
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self { at: None, problem }
    }
}

/// Values that are right each by itself, but not together. [`crate::Origins::blame`] finds the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The settings that may be the wrong ones, the likeliest first.
    pub keys: Vec<String>,
    pub problem: String,
}

impl Clash {
    pub fn new<const N: usize>(keys: [&str; N], problem: impl Into<String>) -> Self {
        Self { keys: keys.map(str::to_owned).to_vec(), problem: problem.into() }
    }
}

/// A text as it is shown in an error.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect::<String>().escape_debug().to_string()
}

/// `unknown key NAME`, with the nearest known one if it is near, else all of them.
pub(crate) fn unknown(what: &str, name: &str, known: &[String]) -> String {
    let near = known
        .iter()
        .map(|k| (distance(name, k), k))
        .min()
        .filter(|(distance, k)| *distance <= 1 + k.chars().count() / 4);
    let name = shown(name);
    match near {
        Some((_, near)) => format!("unknown {what} `{name}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{name}`; known are {}", known.join(", ")),
    }
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) =
        (from.chars().take(SHOWN_CHARS_MAX).collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            let swapped = i > 0 && j > 0 && from[i - 1] == *b && to[j - 1] == *a;
            if swapped {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["masters", "name", "state_dir"].map(str::to_owned);
        for (name, expected) in [
            ("mastres", "unknown key `mastres`; did you mean `masters`?"),
            ("master", "unknown key `master`; did you mean `masters`?"),
            ("state-dir", "unknown key `state-dir`; did you mean `state_dir`?"),
            ("zzz", "unknown key `zzz`; known are masters, name, state_dir"),
        ] {
            assert_eq!(unknown("key", name, &known), expected);
        }
    }
}
