//! Lines of several sources in the order of their times.
//!
//! The oldest line that is there is the next, if every source has told something: each gives its own lines in order.
//! A source that says nothing might still have an older one, and nobody knows; it is waited for, but not long.

use std::{collections::VecDeque, time::Duration};

use super::LogLine;
use crate::time::Timestamp;

/// For the first word of a source that was just opened.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// For a source that may have an older line while others are followed: as long as a line is under way.
const FOLLOW_WAIT: Duration = Duration::from_millis(400);
/// For the next chunk of a source that is read to its end; one that takes longer is not waited for again until it speaks.
const READ_WAIT: Duration = Duration::from_secs(3);

/// The lines that wait for their turn.
#[derive(Debug)]
pub struct Merger {
    sources: Vec<Waiting>,
    follow: bool,
}

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<(Timestamp, LogLine)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was heard yet.
    Opened(Timestamp),
    Speaking,
    /// It was waited for in vain.
    Late,
    Ended,
}

impl Merger {
    /// Of so many sources, all of which were just opened.
    pub fn new(sources: usize, follow: bool, now: Timestamp) -> Self {
        let waiting = || Waiting { lines: VecDeque::new(), state: State::Opened(now) };
        Self { sources: std::iter::repeat_with(waiting).take(sources).collect(), follow }
    }

    /// What a source has said, perhaps nothing.
    pub fn push(&mut self, now: Timestamp, source: usize, lines: Vec<LogLine>) {
        let Some(waiting) = self.sources.get_mut(source) else { return };
        waiting.state = State::Speaking;
        waiting.lines.extend(lines.into_iter().map(|line| (now, line)));
    }

    /// No more will come of it, for now.
    pub fn end(&mut self, source: usize) {
        if let Some(waiting) = self.sources.get_mut(source) {
            waiting.state = State::Ended;
        }
    }

    /// More will come of it.
    pub fn reopen(&mut self, now: Timestamp, source: usize) {
        if let Some(waiting) = self.sources.get_mut(source) {
            waiting.state = State::Opened(now);
        }
    }

    /// The next line, if it is its turn.
    pub fn next(&mut self, now: Timestamp) -> Option<(usize, LogLine)> {
        let (source, arrived) = self.oldest()?;
        if self.held_until(arrived).is_some_and(|until| now < until) {
            return None;
        }
        if !self.follow {
            for waiting in self.sources.iter_mut().filter(|waiting| waiting.is_awaited()) {
                waiting.state = State::Late;
            }
        }
        let (_, line) = self.sources.get_mut(source)?.lines.pop_front()?;
        Some((source, line))
    }

    /// When [`Self::next`] has something, if nothing comes before.
    pub fn deadline(&self) -> Option<Timestamp> {
        let (_, arrived) = self.oldest()?;
        Some(self.held_until(arrived).unwrap_or(arrived))
    }

    /// Lines of a source that wait.
    pub fn waiting(&self, source: usize) -> usize {
        self.sources.get(source).map_or(0, |waiting| waiting.lines.len())
    }

    fn oldest(&self) -> Option<(usize, Timestamp)> {
        let heads = self.sources.iter().enumerate().filter_map(|(source, waiting)| {
            let (arrived, line) = waiting.lines.front()?;
            Some((line.at_ns, source, *arrived))
        });
        heads.min().map(|(_, source, arrived)| (source, arrived))
    }

    /// Until when a line that arrived then waits for the sources that say nothing.
    fn held_until(&self, arrived: Timestamp) -> Option<Timestamp> {
        let wait = if self.follow { FOLLOW_WAIT } else { READ_WAIT };
        let awaited = self.sources.iter().filter(|waiting| waiting.is_awaited());
        awaited
            .map(|waiting| match waiting.state {
                State::Opened(since) => since + FIRST_WAIT,
                State::Speaking | State::Late | State::Ended => arrived + wait,
            })
            .max()
    }
}

impl Waiting {
    fn is_awaited(&self) -> bool {
        let may_speak = match self.state {
            State::Opened(_) | State::Speaking => true,
            State::Late | State::Ended => false,
        };
        may_speak && self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out at each of the times, of lines by source and time that came in.
    struct Run(Merger);

    impl Run {
        fn new(sources: usize, follow: bool) -> Self {
            Self(Merger::new(sources, follow, Timestamp(0)))
        }

        fn push(&mut self, ms: u64, source: usize, times: &[i64]) {
            let lines = times.iter().map(|at| LogLine::new(*at, 6, "", "")).collect();
            self.0.push(Timestamp::from_millis(ms), source, lines);
        }

        #[track_caller]
        fn check(&mut self, ms: u64, expected: &[(usize, i64)]) {
            let now = Timestamp::from_millis(ms);
            let next = || self.0.next(now).map(|(source, line)| (source, line.at_ns));
            let found: Vec<_> = std::iter::from_fn(next).collect();
            assert_eq!(found, expected, "at {ms} ms");
        }
    }

    #[test]
    fn lines_of_several_sources_come_in_the_order_of_their_times() {
        let mut run = Run::new(3, false);
        run.push(0, 0, &[1, 4, 7]);
        run.push(0, 1, &[2, 5]);
        run.check(0, &[]);
        run.push(1, 2, &[3, 9]);
        run.check(1, &[(0, 1), (1, 2), (2, 3), (0, 4), (1, 5)]);
        run.0.end(1);
        run.check(1, &[(0, 7)]);
        run.0.end(0);
        run.check(1, &[(2, 9)]);
    }

    #[test]
    fn a_silent_source_is_waited_for_a_while_and_then_not_again() {
        let mut run = Run::new(2, false);
        run.push(0, 0, &[1]);
        assert_eq!(run.0.deadline(), Some(Timestamp::from_millis(3_000)));
        run.check(2_999, &[]);
        run.check(3_000, &[(0, 1)]);
        run.push(3_001, 0, &[2]);
        run.check(3_001, &[(0, 2)]);
        run.push(3_002, 1, &[1]);
        run.push(3_002, 0, &[3]);
        run.check(3_002, &[(1, 1)]);
    }

    #[test]
    fn who_follows_waits_only_as_long_as_a_line_is_under_way() {
        let mut run = Run::new(2, true);
        run.push(0, 0, &[]);
        run.push(0, 1, &[]);
        run.push(1_000, 0, &[10]);
        run.check(1_000, &[]);
        run.push(1_200, 1, &[9]);
        run.check(1_200, &[(1, 9)]);
        assert_eq!(run.0.deadline(), Some(Timestamp::from_millis(1_400)));
        run.check(1_400, &[(0, 10)]);
        run.push(2_000, 0, &[11]);
        run.check(2_399, &[]);
        run.check(2_400, &[(0, 11)]);
    }

    #[test]
    fn a_source_that_is_away_holds_nobody_up_and_is_waited_for_when_it_is_back() {
        let mut run = Run::new(2, true);
        run.0.end(1);
        run.push(0, 0, &[5]);
        run.check(0, &[(0, 5)]);
        run.0.reopen(Timestamp::from_millis(100), 1);
        run.push(200, 0, &[8]);
        run.check(200, &[]);
        run.push(300, 1, &[6, 7]);
        run.check(300, &[(1, 6), (1, 7)]);
    }

    #[test]
    fn one_source_is_never_held_up() {
        let mut run = Run::new(1, true);
        run.push(0, 0, &[3, 1, 2]);
        run.check(0, &[(0, 3), (0, 1), (0, 2)]);
        assert_eq!(run.0.deadline(), None);
    }
}
