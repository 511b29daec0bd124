//! How long a beat's way to the master and its answer's way back take (HLD §11.1).
//!
//! The master answers each beat of a session at once and in order, so that the agent's own clock measures it and no two
//! clocks are compared. One sample says little: they are smoothed as TCP does (RFC 6298, section 2), and begin anew with
//! each session, whose way may be another.

use std::{collections::VecDeque, time::Duration};

use crate::{monitoring_server::ROUND_TRIP, time::Timestamp};

/// Beats without an answer that are remembered. A master that leaves more of them unanswered does not answer each.
const UNANSWERED_MAX: usize = 32;
/// How much of the old value a sample replaces: an eighth.
const SHARE: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// When they were sent, the oldest first. `None`: which answer is whose is not known any more.
    unanswered: Option<VecDeque<Timestamp>>,
    smoothed: Option<Duration>,
}

impl RoundTrip {
    pub(super) fn begin(&mut self) {
        *self = Self { unanswered: Some(VecDeque::new()), smoothed: None };
    }

    pub(super) fn sent(&mut self, now: Timestamp) {
        match &mut self.unanswered {
            Some(sent) if sent.len() < UNANSWERED_MAX => sent.push_back(now),
            Some(_) | None => self.unanswered = None,
        }
    }

    /// What took longer than `most` was no way but a process that was suspended: the session of such a link is over.
    pub(super) fn answered(&mut self, now: Timestamp, most: Duration) {
        let Some(sent) = self.unanswered.as_mut().and_then(VecDeque::pop_front) else { return };
        let sample = now.since(sent);
        if sample < most {
            let old = self.smoothed.unwrap_or(sample);
            self.smoothed = Some(old - old / SHARE + sample / SHARE);
        }
    }

    /// Its figure, in seconds.
    pub(super) fn figure(&self) -> Option<(String, String)> {
        let seconds = self.smoothed?.as_secs_f64();
        Some((ROUND_TRIP.to_owned(), format!("{seconds:.6}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(3);

    /// Beats as the milliseconds in which they were sent (`Ok`) and answered (`Err`).
    #[track_caller]
    fn check(beats: &[Result<u64, u64>], expect: Option<&str>) {
        let mut round_trip = RoundTrip::default();
        round_trip.begin();
        for beat in beats {
            match *beat {
                Ok(sent) => round_trip.sent(Timestamp::from_millis(sent)),
                Err(answered) => round_trip.answered(Timestamp::from_millis(answered), SILENCE),
            }
        }
        let seconds = round_trip.figure().map(|(_, seconds)| seconds);
        assert_eq!(seconds.as_deref(), expect, "{beats:?}");
    }

    #[test]
    fn a_round_trip_is_what_lies_between_a_beat_and_its_own_answer() {
        check(&[], None);
        check(&[Ok(1000)], None);
        check(&[Ok(1000), Err(1024)], Some("0.024000"));
        // on a slow link a second beat is under way before the first is answered
        check(&[Ok(1000), Ok(2000), Err(2500), Err(3500)], Some("1.500000"));
        check(&[Err(900), Ok(1000), Err(1024), Err(1500)], Some("0.024000"));
    }

    #[test]
    fn a_sample_moves_it_by_an_eighth() {
        check(&[Ok(1000), Err(1016), Ok(2000), Err(2032)], Some("0.018000"));
        let steady = |i: u64| [Ok(i * 1000), Err(i * 1000 + 40)];
        let mut beats = vec![Ok(0), Err(2000)];
        beats.extend((1..200).flat_map(steady));
        check(&beats, Some("0.040000"));
    }

    #[test]
    fn a_process_that_was_suspended_has_not_measured_its_link() {
        check(
            &[Ok(1000), Err(1016), Ok(2000), Err(60_000), Ok(61_000), Err(61_016)],
            Some("0.016000"),
        );
    }

    #[test]
    fn a_master_that_does_not_answer_each_beat_is_not_measured() {
        let mut beats: Vec<_> = (0..100).map(|i| Ok(i * 1000)).collect();
        beats.extend([Err(99_001), Ok(100_000), Err(100_001)]);
        check(&beats, None);
    }
}
