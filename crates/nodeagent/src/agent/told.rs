//! What the log was told of the way to a master. Attempts are repeated for ever, and masters are tried in
//! turn: each reason is told once, until there was a session again.

use std::collections::VecDeque;

/// Reasons that are remembered at most; beyond, the oldest may be told again.
const REASONS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Told(VecDeque<String>);

impl Told {
    /// Whether the log does not have it yet; from now on it has.
    pub(super) fn is_new(&mut self, why: &str) -> bool {
        if self.0.iter().any(|told| told == why) {
            return false;
        }
        if self.0.len() == REASONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(why.to_owned());
        true
    }

    /// What goes wrong after a session is new.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_take_turns_are_told_once_each() {
        let mut told = Told::default();
        let news: Vec<&str> =
            ["a", "b", "a", "b", "a"].into_iter().filter(|why| told.is_new(why)).collect();
        assert_eq!(news, ["a", "b"]);
        told.forget();
        assert!(told.is_new("a"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut told = Told::default();
        for reason in 0..=REASONS_MAX {
            assert!(told.is_new(&reason.to_string()));
        }
        assert_eq!(told.0.len(), REASONS_MAX);
        assert!(!told.is_new(&REASONS_MAX.to_string()) && told.is_new("0"));
    }
}
