//! When to ask Podman next. No clock, no IO: time is an argument.
//!
//! Something that surely matters (a process died, a container appeared) is asked for at once, after
//! a short wait that lets its neighbours join in. Something that may matter (Podman wrote into its
//! database, which each `podman exec` does too) is asked for more and more rarely while nothing
//! comes of it. And once a minute the list is read anyway, in case something was missed.

use std::time::{Duration, Instant};

/// Lets several containers that die together share one list; short enough for 0.3 s in all.
pub(super) const GATHER: Duration = Duration::from_millis(50);
/// The list is read this often even if nothing seems to have changed.
pub(super) const SAFETY: Duration = Duration::from_secs(60);
/// After a change more is likely to follow (create, init, start), so a maybe counts as a surely.
const LIVELY: Duration = Duration::from_secs(2);
const MAYBE_GAP_MIN: Duration = Duration::from_secs(1);
const MAYBE_GAP_MAX: Duration = Duration::from_secs(64);
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Podman may need a moment to write down that a container ended, and on a busy board many of them: twice as long
/// each time, until the list comes anyway.
const RECHECK_FIRST: Duration = Duration::from_millis(100);
const RECHECKS_MAX: u32 = 9;

/// The next time to read the list.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Instant,
    listed_at: Option<Instant>,
    lively_until: Option<Instant>,
    maybe_gap: Duration,
    /// The list that is due is wanted by a maybe alone.
    only_maybe: bool,
    /// And so was the one that is being read.
    asked_by_maybe: bool,
    retry: Duration,
    rechecks: u32,
}

impl Schedule {
    /// The first list is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now,
            listed_at: None,
            lively_until: None,
            maybe_gap: MAYBE_GAP_MIN,
            only_maybe: false,
            asked_by_maybe: false,
            retry: RETRY_MIN,
            rechecks: 0,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The list is being read. What changes from now on may not be in it, and is asked for again.
    pub(super) fn asked(&mut self, now: Instant) {
        self.due = now + SAFETY;
        self.asked_by_maybe = self.only_maybe;
        self.only_maybe = false;
    }

    /// Something has changed.
    pub(super) fn surely(&mut self, now: Instant) {
        self.due = self.due.min(now + GATHER);
        self.only_maybe = false;
        self.rechecks = 0;
    }

    /// Something may have changed.
    pub(super) fn maybe(&mut self, now: Instant) {
        if self.lively_until.is_some_and(|until| now < until) {
            return self.surely(now);
        }
        let earliest = self.listed_at.map_or(now, |listed| listed + self.maybe_gap);
        let due = earliest.max(now + GATHER);
        if due < self.due {
            self.due = due;
            self.only_maybe = true;
        }
    }

    /// The list has been read; `changed` if it said something new.
    pub(super) fn listed(&mut self, now: Instant, changed: bool) {
        if changed {
            self.maybe_gap = MAYBE_GAP_MIN;
            self.lively_until = Some(now + LIVELY);
        } else if self.asked_by_maybe {
            self.maybe_gap = (self.maybe_gap * 2).min(MAYBE_GAP_MAX);
        }
        self.listed_at = Some(now);
        self.retry = RETRY_MIN;
        if changed && self.only_maybe {
            self.surely(now);
        }
    }

    /// The list could not be read.
    pub(super) fn failed(&mut self, now: Instant) {
        self.due = now + self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
        self.only_maybe = false;
    }

    /// The list does not show yet what is known otherwise. False once that has gone on too long.
    pub(super) fn recheck(&mut self, now: Instant) -> bool {
        if self.rechecks >= RECHECKS_MAX {
            return false;
        }
        self.due = self.due.min(now + RECHECK_FIRST * 2_u32.pow(self.rechecks));
        self.rechecks += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A schedule that has been quiet for an hour, and the time.
    fn quiet() -> (Schedule, Instant) {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        list(&mut schedule, start, false);
        let now = start + Duration::from_secs(3600);
        list(&mut schedule, now, false);
        (schedule, now)
    }

    /// Within no time.
    fn list(schedule: &mut Schedule, now: Instant, changed: bool) {
        schedule.asked(now);
        schedule.listed(now, changed);
    }

    #[test]
    fn what_changes_while_the_list_is_read_is_asked_for_again() {
        let (mut schedule, now) = quiet();
        schedule.asked(now);
        schedule.surely(now + ms(300));
        schedule.listed(now + ms(400), true);
        assert_eq!(schedule.due(), now + ms(300) + GATHER);
        list(&mut schedule, now + ms(500), false);
        assert_eq!(schedule.due(), now + ms(500) + SAFETY);
        let (mut schedule, now) = quiet();
        schedule.asked(now);
        schedule.maybe(now + ms(100));
        schedule.listed(now + ms(200), true);
        assert_eq!(schedule.due(), now + ms(200) + GATHER, "beside a change a maybe counts");
    }

    #[test]
    fn many_deaths_share_one_list_soon_after_the_first() {
        let (mut schedule, now) = quiet();
        schedule.surely(now);
        schedule.surely(now + ms(30));
        schedule.maybe(now + ms(40));
        assert_eq!(schedule.due(), now + GATHER);
    }

    #[test]
    fn idle_podman_is_asked_once_a_minute() {
        let (schedule, now) = quiet();
        assert_eq!(schedule.due(), now + SAFETY);
    }

    #[test]
    fn constant_noise_is_asked_for_more_and_more_rarely() {
        let (mut schedule, mut now) = quiet();
        let start = now;
        let mut lists = 0;
        while now < start + Duration::from_secs(600) {
            now += ms(100);
            if schedule.due() <= now {
                list(&mut schedule, now, false);
                lists += 1;
            }
            schedule.maybe(now);
        }
        assert!((10..=17).contains(&lists), "{lists} lists in ten minutes of noise");
    }

    #[test]
    fn a_change_makes_the_next_maybe_count() {
        let (mut schedule, now) = quiet();
        for _ in 0..10 {
            schedule.maybe(now);
            list(&mut schedule, now, false);
        }
        list(&mut schedule, now, true);
        schedule.maybe(now + ms(500));
        assert_eq!(schedule.due(), now + ms(500) + GATHER);
    }

    #[test]
    fn a_death_is_never_held_back_by_noise() {
        let (mut schedule, now) = quiet();
        for _ in 0..10 {
            schedule.maybe(now);
            list(&mut schedule, now, false);
        }
        schedule.maybe(now);
        schedule.surely(now);
        assert_eq!(schedule.due(), now + GATHER);
    }

    #[test]
    fn failures_are_retried_with_growing_pauses_that_saturate() {
        let (mut schedule, mut now) = quiet();
        let mut pauses = Vec::new();
        for _ in 0..10_000 {
            schedule.failed(now);
            pauses.push(schedule.due() - now);
            now = schedule.due();
        }
        assert_eq!(pauses[..4], [ms(500), ms(1000), ms(2000), ms(4000)]);
        assert_eq!(pauses.last(), Some(&RETRY_MAX));
        list(&mut schedule, now, true);
        schedule.failed(now);
        assert_eq!(schedule.due(), now + RETRY_MIN);
    }

    #[test]
    fn rechecks_end() {
        let (mut schedule, now) = quiet();
        let rechecks = (0..100).filter(|_| schedule.recheck(now)).count();
        assert_eq!(rechecks, RECHECKS_MAX as usize);
        schedule.surely(now);
        assert!(schedule.recheck(now));
    }
}
