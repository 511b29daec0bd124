//! What was tried, and what came of it.
//!
//! It is kept on disk, so that a restart of the agent, or of the board, gives nobody a fresh budget. Points
//! in time of an earlier life count as now: then rather too little is done than too much.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{FAILURES_MAX, Failure, Policy, Step};
use crate::{
    mutant::mutant,
    time::{Now, Timestamp, WallTime},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Doublings of a back-off after which its bound is reached whatever it is.
const DOUBLINGS_MAX: u32 = 16;

/// How an attempt has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(String),
    /// Looked at closely, there was a reason to do nothing.
    LeftAlone(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    pub(super) episodes: Vec<Episode>,
    /// Attempts that count against the budget.
    pub(super) spent: Vec<Spent>,
}

/// From a failure until all has been well for long enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) failure: Failure,
    pub(super) since: WallTime,
    pub(super) attempts: u32,
    /// A person knows.
    pub(super) told: bool,
    /// Of the last wait; the next is no shorter.
    pub(super) back_off_ms: u64,
    #[serde(skip)]
    pub(super) not_before: Timestamp,
    #[serde(skip)]
    pub(super) under_way: Option<(Step, Timestamp)>,
    /// It does not fail now.
    #[serde(skip)]
    pub(super) well_since: Option<Timestamp>,
    #[serde(skip)]
    pub(super) left_alone: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spent {
    pub(super) step: Step,
    wall: WallTime,
    #[serde(skip)]
    pub(super) at: Timestamp,
}

impl Memory {
    /// After a start: what was under way is not any more, and nothing is known to be well.
    pub fn restore(&mut self, now: Now) {
        for spent in &mut self.spent {
            spent.at = now.at;
        }
        self.spent.retain(|spent| now.wall.since(spent.wall) < kept_for(spent.step));
        for episode in &mut self.episodes {
            episode.not_before = now.at + Duration::from_millis(episode.back_off_ms);
            episode.well_since = Some(now.at);
        }
    }

    /// As it is on disk: without what only this life knows.
    #[must_use]
    pub fn stored(&self) -> Self {
        let mut stored = self.clone();
        for spent in &mut stored.spent {
            spent.at = Timestamp::default();
        }
        for episode in &mut stored.episodes {
            episode.not_before = Timestamp::default();
            (episode.under_way, episode.well_since, episode.left_alone) = (None, None, None);
        }
        stored
    }

    /// Learns what fails now. Returns the attempts that have not ended in their time.
    pub fn observe(
        &mut self,
        failing: &BTreeSet<Failure>,
        policy: &Policy,
        now: Now,
        dice: &mut dyn FnMut() -> u64,
    ) -> Vec<(Failure, Step)> {
        self.spent.retain(|spent| now.at.since(spent.at) < kept_for(spent.step));
        self.episodes.retain(|e| e.well_since.is_none_or(|at| now.at.since(at) < policy.stable));
        let mut overdue = Vec::new();
        for episode in &mut self.episodes {
            if !failing.contains(&episode.failure) {
                episode.get_well(now.at);
            } else if episode.well_since.take().is_some() {
                episode.not_before = now.at + Duration::from_millis(episode.back_off_ms);
            }
            if let Some((step, until)) = episode.under_way
                && until <= now.at
            {
                episode.attempt_over(policy, now.at, dice());
                if step.is_ours() {
                    overdue.push((episode.failure.clone(), step));
                }
            }
        }
        for failure in failing {
            let known = self.episodes.iter().any(|episode| episode.failure == *failure);
            if !known && self.episodes.len() < FAILURES_MAX {
                self.episodes.push(Episode::new(failure.clone(), now, dice()));
            }
        }
        self.episodes.sort_by(|a, b| a.failure.cmp(&b.failure));
        overdue
    }

    pub fn is_empty(&self) -> bool {
        self.episodes.is_empty() && self.spent.is_empty()
    }

    /// An attempt begins. It counts from now on, whatever becomes of it.
    pub fn begin(&mut self, failure: &Failure, step: Step, now: Now) {
        let Some(episode) = self.episode(failure) else { return };
        if step == Step::Alert {
            episode.told = !mutant!("a person is told again and again");
            return;
        }
        episode.attempts = episode.attempts.saturating_add(1);
        episode.under_way = Some((step, now.at + step.window()));
        if step.is_ours() && !mutant!("attempts are not counted") {
            self.spent.push(Spent { step, wall: now.wall, at: now.at });
        }
    }

    /// What an operator wants, whether the plan would or not: it is given its time as any attempt, and takes nothing
    /// from what the plan may do by itself, neither of the budget nor of the ladder.
    pub fn begin_forced(&mut self, failure: &Failure, step: Step, now: Now) {
        if mutant!("a forced step takes an attempt of the plan's") {
            return self.begin(failure, step, now);
        }
        if let Some(episode) = self.episode(failure) {
            episode.under_way = Some((step, now.at + step.window()));
        }
    }

    /// A person was told at that time of what is meant: in this episode, unless it is younger.
    pub fn recall_told(&mut self, at: WallTime, is_meant: impl Fn(&Failure) -> bool) {
        for episode in &mut self.episodes {
            episode.told |= episode.since <= at && is_meant(&episode.failure);
        }
    }

    /// What became of it. Whether it was still waited for.
    pub fn ended(
        &mut self,
        failure: &Failure,
        outcome: &Outcome,
        policy: &Policy,
        now: Timestamp,
        dice: u64,
    ) -> bool {
        let Some(episode) = self.episode(failure) else { return false };
        if !episode.under_way.is_some_and(|(step, _)| step.is_ours()) {
            return false;
        }
        episode.attempt_over(policy, now, dice);
        if let Outcome::LeftAlone(why) = outcome {
            episode.left_alone = Some(why.clone());
        }
        true
    }

    /// A failure that an operator wants something to be done about, though nothing may have failed.
    /// Whether there is room for it.
    pub fn admit(&mut self, failure: &Failure, now: Now) -> bool {
        if self.episode(failure).is_some() {
            return true;
        }
        let room = self.episodes.len() < FAILURES_MAX;
        if room {
            self.episodes.push(Episode::new(failure.clone(), now, 0));
        }
        room
    }

    pub fn is_under_way(&self, failure: &Failure) -> bool {
        self.episodes.iter().any(|e| e.failure == *failure && e.under_way.is_some())
    }

    pub fn attempts(&self, failure: &Failure) -> u32 {
        self.episodes.iter().find(|e| e.failure == *failure).map_or(0, |e| e.attempts)
    }

    /// Attempts that count against the budget of the hour.
    pub fn spent(&self, now: Timestamp) -> usize {
        self.spent.iter().filter(|spent| now.since(spent.at) < HOUR).count()
    }

    pub(super) fn reboots(&self) -> usize {
        self.spent.iter().filter(|spent| spent.step == Step::Reboot).count()
    }

    /// When the budget of the hour has room again.
    pub(super) fn room_at(&self, now: Timestamp, max: usize) -> Option<Timestamp> {
        let mut hour: Vec<_> =
            self.spent.iter().map(|s| s.at).filter(|at| now.since(*at) < HOUR).collect();
        hour.sort_unstable();
        let over = hour.len().checked_sub(max)?;
        hour.get(over).map(|at| *at + HOUR)
    }

    fn episode(&mut self, failure: &Failure) -> Option<&mut Episode> {
        self.episodes.iter_mut().find(|episode| episode.failure == *failure)
    }
}

impl Episode {
    fn new(failure: Failure, now: Now, dice: u64) -> Self {
        let mut episode = Self {
            failure,
            since: now.wall,
            attempts: 0,
            told: false,
            back_off_ms: 0,
            not_before: now.at,
            under_way: None,
            well_since: None,
            left_alone: None,
        };
        episode.back_off(Duration::MAX, now.at, dice);
        episode
    }

    fn get_well(&mut self, now: Timestamp) {
        self.well_since.get_or_insert(now);
        self.left_alone = None;
        // an attempt of ours ends by itself; what others did has helped, and has its time anew next time
        if self.under_way.take_if(|(step, _)| !step.is_ours()).is_some() {
            self.attempts = self.attempts.saturating_sub(1);
        }
    }

    fn attempt_over(&mut self, policy: &Policy, now: Timestamp, dice: u64) {
        self.under_way = None;
        self.back_off(policy.back_off_max, now, dice);
    }

    /// Doubled with each attempt, anywhere in its upper half, capped, and never shorter than before.
    fn back_off(&mut self, cap: Duration, now: Timestamp, dice: u64) {
        let doublings = self.attempts.min(DOUBLINGS_MAX);
        let bound = self.failure.first_back_off().saturating_mul(1 << doublings).min(cap);
        let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        let jittered = bound / 2 + dice % (bound / 2 + 1);
        let before = if mutant!("back-off may shrink") { 0 } else { self.back_off_ms };
        self.back_off_ms = jittered.max(before);
        self.not_before = now + Duration::from_millis(self.back_off_ms);
    }
}

fn kept_for(step: Step) -> Duration {
    if step == Step::Reboot { DAY } else { HOUR }
}
