//! When figures are sent on: every so often, and less often to a receiver that does not take them.

use std::time::Duration;

/// A receiver that is back has the figures within it, or within the interval where that is longer.
pub const PAUSE_MAX: Duration = Duration::from_secs(300);
/// What a receiver may ask for.
pub const ASKED_MAX: Duration = Duration::from_secs(3600);
/// Doublings after which the most is reached, whatever the interval.
const DOUBLINGS_MAX: u32 = 16;

/// From the beginning of one export to that of the next: after `failures` of them in a row, where a receiver may have
/// `asked` for a pause.
#[must_use]
pub fn pause(interval: Duration, failures: u32, asked: Option<Duration>) -> Duration {
    let longer = interval.saturating_mul(1 << failures.min(DOUBLINGS_MAX));
    let pause = longer.min(PAUSE_MAX.max(interval));
    asked.map_or(pause, |asked| pause.max(asked.min(ASKED_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(interval: u64, failures: u32, asked: Option<u64>, seconds: u64) {
        let pause = pause(Duration::from_secs(interval), failures, asked.map(Duration::from_secs));
        assert_eq!(pause.as_secs(), seconds);
    }

    #[test]
    fn it_doubles_with_each_failure_up_to_five_minutes() {
        check(30, 0, None, 30);
        check(30, 1, None, 60);
        check(30, 3, None, 240);
        check(30, 4, None, 300);
        check(1, u32::MAX, None, 300);
    }

    #[test]
    fn an_interval_that_is_longer_stays_what_it_is() {
        check(600, 0, None, 600);
        check(600, 9, None, 600);
    }

    #[test]
    fn a_receiver_may_ask_for_more_and_not_for_ever() {
        check(30, 1, Some(5), 60);
        check(30, 1, Some(120), 120);
        check(30, 1, Some(u64::MAX), 3600);
    }
}
