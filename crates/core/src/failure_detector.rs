//! Who is alive: two tiers (HLD §4.2, §8.1.1; docs/adr/0001).
//!
//! A session that breaks, or is silent for `beat_silence`, makes its node Suspect at once and lost after
//! `session_grace`. Three missed heartbeats are a fact of their own, on which recovery may act. A node that
//! only speaks the unary calls has no session to lose: for it there is the second tier alone.
//!
//! After a (re)start of the master nothing is known: everybody gets double allowance.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    mutant::mutant,
    time::{Deadline, Timestamp},
};

/// Set by the master, sent to every agent. Every value is configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Between two beats of a session, each way.
    pub beat_interval: Duration,
    /// Silence after which a session counts as broken; at least two beats.
    pub beat_silence: Duration,
    /// For a new session, before the node is NotReady.
    pub session_grace: Duration,
    /// Between two status reports, and between two heartbeats of a unary client.
    pub heartbeat_interval: Duration,
    /// How many heartbeats in a row may be missed.
    pub heartbeats_missed: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_secs(1),
            beat_silence: Duration::from_secs(3),
            session_grace: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(10),
            heartbeats_missed: 3,
        }
    }
}

impl Timing {
    /// HLD §8.1.1.
    pub const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_secs(5);

    pub fn heartbeat_timeout(&self) -> Duration {
        self.heartbeat_interval.saturating_mul(self.heartbeats_missed)
    }
}

/// Allowance after a restart, as a multiple of the usual one.
const UNKNOWN_ALLOWANCE: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Alive,
    /// Not heard since the master started: what was known still stands.
    Unknown,
    Suspect,
    SessionLost,
    HeartbeatTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    Unknown,
    Session,
    /// The stream was closed, then.
    Broken {
        at: Timestamp,
    },
    Unary,
}

/// Watches one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureDetector {
    contact: Contact,
    /// When it was last heard; when watching began, where it was not.
    heard_at: Timestamp,
    /// When we last learnt that we had not been listening: from then on there is double allowance.
    deaf_until: Option<Timestamp>,
}

impl FailureDetector {
    /// For a node of which nothing is known but that it exists.
    pub fn unknown(now: Timestamp) -> Self {
        Self { contact: Contact::Unknown, heard_at: now, deaf_until: Some(now) }
    }

    /// For a node that speaks the unary calls only.
    pub fn heard_by_unary_call(&mut self, now: Timestamp) {
        *self = Self { contact: Contact::Unary, heard_at: now, deaf_until: None };
    }

    /// For a node that speaks sessions, and was heard beside one: where its session broke a moment ago it
    /// gets the grace anew; where it was given up it must open a new one, and is not to be probed.
    pub fn probed(&mut self, now: Timestamp) {
        self.heard_at = now;
        if let Contact::Broken { at } = &mut self.contact {
            *at = now;
        }
    }

    pub fn session_opened(&mut self, now: Timestamp) {
        *self = Self { contact: Contact::Session, heard_at: now, deaf_until: None };
    }

    /// A message of the current session.
    pub fn heard(&mut self, now: Timestamp) {
        if mutant!("only a new session counts as heard") {
            return;
        }
        self.heard_at = now;
    }

    pub fn session_closed(&mut self, now: Timestamp) {
        if mutant!("a broken session is not noticed") {
            return;
        }
        if self.contact == Contact::Session {
            self.contact = Contact::Broken { at: now };
        }
    }

    /// The session was silent for too long and is dropped: broken from when it should have been heard.
    pub fn session_dropped(&mut self, timing: &Timing) {
        if self.contact == Contact::Session && !mutant!("a dropped session stays live") {
            self.contact = Contact::Broken { at: self.heard_at + timing.beat_silence };
        }
    }

    /// A session is open and was not silent for too long: nobody else may claim the node's identity.
    pub fn is_live(&self, now: Timestamp, timing: &Timing) -> bool {
        if mutant!("a second live session is accepted") {
            return false;
        }
        self.contact == Contact::Session && now < self.heard_at + timing.beat_silence
    }

    /// Nothing was heard since watching began.
    pub fn is_unheard(&self) -> bool {
        self.contact == Contact::Unknown
    }

    /// The watcher itself was stalled: what was said meanwhile may still be on its way to us, and a node
    /// that gave us up has to find its way back, as after a restart.
    pub fn forgive(&mut self, now: Timestamp) {
        self.deaf_until = Some(now);
        match &mut self.contact {
            Contact::Broken { at } => *at = now,
            Contact::Session | Contact::Unary => self.heard_at = now,
            Contact::Unknown => {}
        }
    }

    pub fn verdict(&self, now: Timestamp, timing: &Timing) -> Verdict {
        if self.timeout_at(timing) <= now {
            return Verdict::HeartbeatTimeout;
        }
        match (self.contact, self.suspect_at(timing), self.lost_at(timing)) {
            (_, _, Some(lost)) if lost <= now => Verdict::SessionLost,
            (Contact::Unknown, _, _) => Verdict::Unknown,
            (_, Some(suspect), _) if suspect <= now => Verdict::Suspect,
            _ => Verdict::Alive,
        }
    }

    /// When the verdict changes next if nothing is heard; `None` once it cannot get worse.
    pub fn deadline(&self, now: Timestamp, timing: &Timing) -> Option<Deadline> {
        let at =
            |at: Option<Timestamp>, why| at.filter(|at| *at > now).map(|at| Deadline { at, why });
        [
            at(self.suspect_at(timing), "session silent"),
            at(self.lost_at(timing), "session grace over"),
            at(Some(self.timeout_at(timing)), "heartbeats missed"),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn suspect_at(&self, timing: &Timing) -> Option<Timestamp> {
        match self.contact {
            Contact::Session => Some(self.heard_at + timing.beat_silence),
            Contact::Broken { at } => Some(at),
            Contact::Unknown | Contact::Unary => None,
        }
    }

    fn lost_at(&self, timing: &Timing) -> Option<Timestamp> {
        let allowance = timing.beat_silence + timing.session_grace;
        let unknown = if mutant!("no double allowance") { 1 } else { UNKNOWN_ALLOWANCE };
        let deaf = self.deaf_until.map(|at| at + allowance * unknown);
        match self.contact {
            Contact::Session | Contact::Broken { .. } => {
                self.suspect_at(timing).map(|at| at + timing.session_grace).max(deaf)
            }
            Contact::Unknown => deaf,
            Contact::Unary => None,
        }
    }

    /// When its heartbeats are missed, if nothing is heard.
    pub fn timeout_at(&self, timing: &Timing) -> Timestamp {
        let allowance = match self.contact {
            Contact::Unknown => UNKNOWN_ALLOWANCE,
            Contact::Session | Contact::Broken { .. } | Contact::Unary => 1,
        };
        self.heard_at + timing.heartbeat_timeout() * allowance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// Walks from deadline to deadline and prints what is seen there.
    fn story(detector: &FailureDetector, mut now: Timestamp) -> String {
        let timing = Timing::default();
        let mut story = String::new();
        loop {
            let verdict = detector.verdict(now, &timing);
            story += &format!("{:>6} ms {verdict:?}\n", now.0 / 1000);
            match detector.deadline(now, &timing) {
                Some(deadline) => now = deadline.at,
                None => return story,
            }
        }
    }

    #[test]
    fn a_silent_session_is_lost_within_five_seconds() {
        let mut detector = FailureDetector::unknown(ms(0));
        detector.session_opened(ms(1000));
        detector.heard(ms(2000));
        insta::assert_snapshot!(story(&detector, ms(2000)), @r"
          2000 ms Alive
          5000 ms Suspect
          6000 ms SessionLost
         32000 ms HeartbeatTimeout
        ");
    }

    #[test]
    fn a_broken_session_is_suspect_at_once() {
        let mut detector = FailureDetector::unknown(ms(0));
        detector.session_opened(ms(1000));
        detector.session_closed(ms(1500));
        insta::assert_snapshot!(story(&detector, ms(1500)), @r"
          1500 ms Suspect
          2500 ms SessionLost
         31000 ms HeartbeatTimeout
        ");
    }

    #[test]
    fn after_a_restart_everybody_has_double_allowance() {
        insta::assert_snapshot!(story(&FailureDetector::unknown(ms(0)), ms(0)), @r"
             0 ms Unknown
          8000 ms SessionLost
         60000 ms HeartbeatTimeout
        ");
    }

    #[test]
    fn after_a_stall_of_the_master_there_is_double_allowance_once() {
        let mut detector = FailureDetector::unknown(ms(0));
        detector.session_opened(ms(1000));
        detector.forgive(ms(9000));
        detector.session_closed(ms(9001));
        insta::assert_snapshot!(story(&detector, ms(9001)), @r"
          9001 ms Suspect
         17000 ms SessionLost
         39000 ms HeartbeatTimeout
        ");
        detector.session_opened(ms(9500));
        detector.session_closed(ms(10_000));
        insta::assert_snapshot!(story(&detector, ms(10_000)), @r"
         10000 ms Suspect
         11000 ms SessionLost
         39500 ms HeartbeatTimeout
        ");
    }

    #[test]
    fn a_unary_client_has_three_heartbeats() {
        let mut detector = FailureDetector::unknown(ms(0));
        detector.heard_by_unary_call(ms(100));
        insta::assert_snapshot!(story(&detector, ms(100)), @r"
           100 ms Alive
         30100 ms HeartbeatTimeout
        ");
    }

    #[test]
    fn a_probe_lengthens_the_grace() {
        let mut detector = FailureDetector::unknown(ms(0));
        detector.session_opened(ms(1000));
        detector.session_closed(ms(1500));
        detector.probed(ms(2000));
        let expect = "  2000 ms Suspect\n  3000 ms SessionLost\n 32000 ms HeartbeatTimeout\n";
        assert_eq!(story(&detector, ms(2000)), expect);
    }

    #[test]
    fn a_dropped_session_is_not_forgiven_into_life() {
        let timing = Timing::default();
        let mut detector = FailureDetector::unknown(ms(0));
        detector.session_opened(ms(1000));
        detector.session_dropped(&timing);
        detector.forgive(ms(9000));
        assert_eq!(detector.verdict(ms(9000), &timing), Verdict::Suspect);
        assert!(!detector.is_live(ms(9000), &timing));
    }

    #[test]
    fn only_a_live_session_guards_its_identity() {
        let timing = Timing::default();
        let mut detector = FailureDetector::unknown(ms(0));
        assert!(!detector.is_live(ms(0), &timing));
        detector.session_opened(ms(0));
        assert!(detector.is_live(ms(2999), &timing));
        assert!(!detector.is_live(ms(3000), &timing));
        detector.session_closed(ms(100));
        assert!(!detector.is_live(ms(100), &timing));
    }

    proptest::proptest! {
        #[test]
        fn silence_never_makes_it_better(contact in 0u8..4, start in 0u64..10_000, later in proptest::collection::vec(1u64..20_000, 1..20)) {
            let timing = Timing::default();
            let mut detector = FailureDetector::unknown(ms(start));
            match contact {
                0 => {}
                1 => detector.session_opened(ms(start + 5)),
                2 => {
                    detector.session_opened(ms(start + 5));
                    detector.session_closed(ms(start + 10));
                }
                _ => detector.heard_by_unary_call(ms(start + 5)),
            }
            let rank = |verdict| match verdict {
                Verdict::Alive | Verdict::Unknown => 0,
                Verdict::Suspect => 1,
                Verdict::SessionLost => 2,
                Verdict::HeartbeatTimeout => 3,
            };
            let (mut now, mut worst) = (ms(start + 10), 0);
            for step in later {
                let verdict = rank(detector.verdict(now, &timing));
                proptest::prop_assert!(verdict >= worst);
                worst = verdict;
                if let Some(deadline) = detector.deadline(now, &timing) {
                    proptest::prop_assert!(deadline.at > now, "a deadline that is past makes a loop hot");
                    let before = rank(detector.verdict(Timestamp(deadline.at.0 - 1), &timing));
                    proptest::prop_assert_eq!(before, verdict, "nothing changes between deadlines");
                }
                now = now + Duration::from_millis(step);
            }
        }
    }
}
