//! Reads "N passed, N failed" out of what the test runners print.

/// Tests that ran and how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Who prints the line. A runner also shows what failed tests printed, so only its own form counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    Nextest,
    Libtest,
    Wire,
    Vitest,
}

/// What a line sums up, if it is the summary line of `runner`.
pub(crate) fn of_line(runner: Runner, line: &str) -> Option<Count> {
    let line = without_colours(line);
    let is_summary = match runner {
        Runner::Nextest => line.trim_start().starts_with("Summary [") && line.contains(" run: "),
        Runner::Libtest => line.starts_with("test result: "),
        Runner::Wire => line.starts_with("wire: "),
        Runner::Vitest => line.trim_start().starts_with("Tests  "),
    };
    if !is_summary {
        return None;
    }
    let before = |word: &str| {
        let (head, _) = line.split_once(word)?;
        head.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let failed = [" failed", " timed out", " exec failed"].map(|word| before(word).unwrap_or(0));
    Some(Count { passed: before(" passed").unwrap_or(0), failed: failed.iter().sum() })
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut in_sequence = false;
    for c in line.chars() {
        match (in_sequence, c) {
            (false, '\u{1b}') => in_sequence = true,
            (false, c) => plain.push(c),
            (true, c) => in_sequence = !c.is_ascii_alphabetic(),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::Runner::{Libtest, Nextest, Vitest, Wire};
    use super::*;

    #[track_caller]
    fn check(runner: Runner, line: &str, expected: Option<(u64, u64)>) {
        let expected = expected.map(|(passed, failed)| Count { passed, failed });
        assert_eq!(of_line(runner, line), expected, "{line}");
    }

    #[test]
    fn the_summaries_of_all_runners_are_understood() {
        check(
            Nextest,
            "     Summary [   1.234s] 12 tests run: 10 passed (1 slow), 2 failed, 0 skipped",
            Some((10, 2)),
        );
        check(
            Nextest,
            "     Summary [ 60.0s] 3 tests run: 1 passed, 1 failed, 1 timed out",
            Some((1, 2)),
        );
        check(
            Nextest,
            "\u{1b}[32;1m     Summary\u{1b}[0m [ 0.0s] \u{1b}[1m1\u{1b}[0m test run: \
             \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, 0 skipped",
            Some((1, 0)),
        );
        check(Libtest, "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured", Some((3, 0)));
        check(
            Libtest,
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured",
            Some((3, 2)),
        );
        check(Wire, "wire: 9 passed, 1 failed", Some((9, 1)));
        check(Vitest, "      Tests  1 failed | 464 passed (465)", Some((464, 1)));
        check(
            Vitest,
            "\u{1b}[2m      Tests \u{1b}[22m \u{1b}[32m4 passed\u{1b}[39m (4)",
            Some((4, 0)),
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        check(Libtest, "test foo::five_passed ... ok", None);
        check(Nextest, "test result: FAILED. 3 passed; 2 failed; 0 ignored", None);
        check(Nextest, "error: 3 failed", None);
        check(Wire, "", None);
        check(Vitest, " Test Files  2 passed (2)", None);
    }
}
