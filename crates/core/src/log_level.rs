//! How long a process logs as somebody asked it to: until it restarts, or for a time, after which it logs again as
//! it was configured.
//!
//! The process that changes its level keeps the time itself, so it returns also where nobody is connected any more.

use std::time::Duration;

use crate::time::Timestamp;

/// Of a change that ends by itself.
pub const SPAN_MIN: Duration = Duration::from_secs(1);
pub const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// From the wire, where zero means that the change does not end by itself.
///
/// # Errors
/// A sentence: it is too long.
pub fn span(seconds: u32) -> Result<Option<Duration>, String> {
    let span = Duration::from_secs(seconds.into());
    if span > SPAN_MAX {
        return Err(format!("is more than {} hours", SPAN_MAX.as_secs() / 3600));
    }
    Ok((span >= SPAN_MIN).then_some(span))
}

/// For answers and the audit log: `debug for 600 s`.
pub fn words(filter: &str, span: Option<Duration>) -> String {
    match span {
        Some(span) => format!("{filter} for {} s", span.as_secs()),
        None => filter.to_owned(),
    }
}

/// The level of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel {
    configured: String,
    returns: Option<Timestamp>,
}

impl LogLevel {
    pub fn new(configured: &str) -> Self {
        Self { configured: configured.to_owned(), returns: None }
    }

    /// It was changed: what was to end before does not end any more.
    pub fn changed(&mut self, now: Timestamp, span: Option<Duration>) {
        self.returns = span.map(|span| now + span.min(SPAN_MAX));
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        self.returns
    }

    /// What to log from now on, once for each change whose time is over.
    pub fn due(&mut self, now: Timestamp) -> Option<&str> {
        self.returns.take_if(|at| *at <= now).map(|_| self.configured.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes at seconds, for seconds; then whether it is due at seconds.
    fn check(changes: &[(u64, Option<u64>)], due: &[(u64, bool)]) {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let mut level = LogLevel::new("warn");
        for (when, span) in changes {
            level.changed(at(*when), span.map(Duration::from_secs));
        }
        for (when, expected) in due {
            let returned = level.due(at(*when)).map(str::to_owned);
            assert_eq!(returned.as_deref(), expected.then_some("warn"), "{changes:?} at {when} s");
        }
    }

    #[test]
    fn a_change_for_a_time_ends_once_with_what_was_configured() {
        check(&[(0, Some(10))], &[(9, false), (10, true), (11, false)]);
        check(&[(0, Some(10))], &[(5000, true), (5001, false)]);
    }

    #[test]
    fn a_change_without_a_time_stays() {
        check(&[], &[(0, false), (1_000_000, false)]);
        check(&[(0, None)], &[(1_000_000, false)]);
    }

    #[test]
    fn a_later_change_replaces_the_return_that_was_pending() {
        check(&[(0, Some(10)), (5, Some(10))], &[(10, false), (15, true)]);
        check(&[(0, Some(100)), (5, Some(10))], &[(15, true), (100, false)]);
        check(&[(0, Some(10)), (5, None)], &[(1_000_000, false)]);
    }

    #[test]
    fn no_change_for_a_time_is_longer_than_a_day() {
        assert_eq!(span(0), Ok(None));
        assert_eq!(span(86_400), Ok(Some(SPAN_MAX)));
        assert!(span(86_401).unwrap_err().contains("24 hours"));
        check(&[(0, Some(u64::MAX))], &[(86_399, false), (86_400, true)]);
    }

    #[test]
    fn words_say_how_long() {
        assert_eq!(words("debug", Some(Duration::from_secs(600))), "debug for 600 s");
        assert_eq!(words("debug", None), "debug");
    }
}
