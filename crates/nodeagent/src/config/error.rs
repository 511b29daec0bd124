//! What is wrong with a setting, in a sentence that says where and what was expected.

use std::path::PathBuf;

use super::place::Setting;

/// Why there is no configuration. Nothing was started or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge { path: PathBuf, limit_bytes: u64 },
    #[error("{}:{line}:{column}: {problem}", path.display())]
    File { path: PathBuf, line: u64, column: u64, problem: String },
    #[error("{variable} in the environment: {problem}")]
    Environment { variable: String, problem: String },
    /// Values that are right each by itself.
    #[error("{problem}")]
    Together { setting: Setting, problem: String },
}

/// `unknown key NAME`, with the nearest known one if it is near, else all of them.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let near = known
        .clone()
        .map(|k| (distance(name, k), k))
        .min()
        .filter(|(distance, k)| *distance <= 1 + k.chars().count() / 4);
    let name: String = name.chars().take(80).collect();
    match near {
        Some((_, near)) => format!("unknown {what} `{name}`; did you mean `{near}`?"),
        None => {
            let known: Vec<_> = known.collect();
            format!("unknown {what} `{name}`; known are {}", known.join(", "))
        }
    }
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) =
        (from.chars().take(80).collect(), to.chars().collect());
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
        let known = ["masters", "name", "state_dir"];
        for (name, expected) in [
            ("mastres", "unknown key `mastres`; did you mean `masters`?"),
            ("master", "unknown key `master`; did you mean `masters`?"),
            ("state-dir", "unknown key `state-dir`; did you mean `state_dir`?"),
            ("zzz", "unknown key `zzz`; known are masters, name, state_dir"),
        ] {
            assert_eq!(unknown("key", name, known.into_iter()), expected);
        }
    }
}
