//! What is to be done now about each failure, or why nothing is.

use std::{fmt::Write as _, time::Duration};

use super::{Failure, Hold, Memory, Policy, REBOOTS_PER_DAY_MAX, Step, memory::Episode};
use crate::{
    model::RecoveryLine,
    mutant::mutant,
    time::{Now, Timestamp, WallTime},
};

/// One failure, and what the plan says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub failure: Failure,
    pub since: WallTime,
    pub attempts: u32,
    /// The rung that it stands on.
    pub step: Step,
    pub next: Next,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Now.
    Attempt,
    /// Not before then, where that is known.
    Waits { why: WhyNot, until: Option<Timestamp> },
}

/// Why nothing is done now. Shown to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    UnderWay,
    Paused,
    Maintenance,
    /// For the reason that was found when it was looked at closely.
    LeftAlone(String),
    BackOff,
    /// So many attempts were made within the hour.
    Budget(usize),
    /// So many reboots within the day.
    Reboots(usize),
    /// It is a matter of Podman's, which has failed itself.
    Podman,
    /// It does not fail any more; if that lasts it is forgotten.
    Well,
    /// All that may be done has been done, and a person was told.
    Person,
    /// The session is lost, and heartbeats are not missed yet: nothing may be done.
    SessionLost,
    /// The node told that it reboots.
    Reboot,
}

/// A function of its arguments: the same failures at the same time give the same plan.
pub fn plan(policy: &Policy, hold: Option<Hold>, memory: &Memory, now: Timestamp) -> Vec<Line> {
    let mut room = policy.attempts_per_hour_max.saturating_sub(memory.spent(now));
    let podman_fails =
        memory.episodes.iter().any(|e| e.failure == Failure::Podman && e.well_since.is_none());
    let mut lines = Vec::with_capacity(memory.episodes.len());
    for episode in &memory.episodes {
        let waits_for_podman = podman_fails && matches!(episode.failure, Failure::Container(_));
        let (step, next) = next(policy, hold, memory, episode, (now, room, waits_for_podman));
        if next == Next::Attempt && step.is_ours() {
            room = room.saturating_sub(1);
        }
        let Episode { failure, since, attempts, .. } = episode;
        lines.push(Line {
            failure: failure.clone(),
            since: *since,
            attempts: *attempts,
            step,
            next,
        });
    }
    lines
}

/// When a plan that was made now may say something else though nothing has happened.
pub fn changes_at(plan: &[Line], now: Timestamp) -> Option<Timestamp> {
    let until = |line: &Line| match line.next {
        Next::Attempt => Some(now),
        Next::Waits { until, .. } => until,
    };
    plan.iter().filter_map(until).min()
}

fn next(
    policy: &Policy,
    hold: Option<Hold>,
    memory: &Memory,
    episode: &Episode,
    (now, room, waits_for_podman): (Timestamp, usize, bool),
) -> (Step, Next) {
    let waits = |why, until| Next::Waits { why, until };
    let at = rung(policy, episode);
    let step = at.unwrap_or(Step::Alert);
    if let Some((step, until)) = episode.under_way {
        return (step, waits(WhyNot::UnderWay, Some(until)));
    }
    if let Some(since) = episode.well_since {
        return (step, waits(WhyNot::Well, Some(since + policy.stable)));
    }
    match hold.filter(|_| !mutant!("a pause holds nothing")) {
        Some(Hold::Paused { until }) => return (step, waits(WhyNot::Paused, Some(until))),
        Some(Hold::Maintenance) => return (step, waits(WhyNot::Maintenance, None)),
        Some(Hold::Reboots { until }) => {
            return (Step::Reboot, waits(WhyNot::Reboot, Some(until)));
        }
        None => {}
    }
    if let Some(why) = &episode.left_alone {
        return (step, waits(WhyNot::LeftAlone(why.clone()), None));
    }
    if at.is_none() {
        return (step, waits(WhyNot::Person, None));
    }
    if waits_for_podman {
        return (step, waits(WhyNot::Podman, None));
    }
    if now < episode.not_before {
        return (step, waits(WhyNot::BackOff, Some(episode.not_before)));
    }
    if step == Step::Reboot && memory.reboots() >= REBOOTS_PER_DAY_MAX {
        return beyond(episode, step, WhyNot::Reboots(REBOOTS_PER_DAY_MAX), None);
    }
    let max = policy.attempts_per_hour_max;
    if step.is_ours() && room == 0 && !mutant!("a storm has no budget") {
        // what is about to begin takes the last of the room, and gives it back in an hour
        let until = memory.room_at(now, max).or(Some(now + Duration::from_secs(3600)));
        return beyond(episode, step, WhyNot::Budget(max), until);
    }
    (step, Next::Attempt)
}

/// No more may be done, though more could be: a person ought to know.
fn beyond(episode: &Episode, step: Step, why: WhyNot, until: Option<Timestamp>) -> (Step, Next) {
    if episode.told { (step, Next::Waits { why, until }) } else { (Step::Alert, Next::Attempt) }
}

/// Where on its ladder it stands; `None` at the end.
fn rung(policy: &Policy, episode: &Episode) -> Option<Step> {
    let mut tried = episode.attempts;
    for (step, times) in episode.failure.ladder() {
        if *step == Step::Alert && !episode.told && !mutant!("nobody is told") {
            return Some(Step::Alert);
        }
        if *step == Step::Alert || !step.is_allowed(policy) {
            continue;
        }
        if tried < *times {
            return Some(*step);
        }
        tried -= times;
    }
    episode.failure.goes_on_with().filter(|step| step.is_allowed(policy))
}

/// Whether a node tells with this that its reboot has begun.
pub fn tells_of_reboot(line: &RecoveryLine) -> bool {
    line.step == Step::Reboot.name() && line.waits == WhyNot::UnderWay.word()
}

impl Line {
    /// Of a node whose session is lost, before anything may be done about it.
    pub fn of_lost_session(since: WallTime, hold: Option<Hold>, silent_at: Timestamp) -> Self {
        let (step, why, until) = match hold {
            Some(Hold::Reboots { until }) => (Step::Reboot, WhyNot::Reboot, until),
            Some(Hold::Paused { .. } | Hold::Maintenance) | None => {
                (Step::Reconnect, WhyNot::SessionLost, silent_at)
            }
        };
        let next = Next::Waits { why, until: Some(until) };
        Self { failure: Failure::Silent, since, attempts: 0, step, next }
    }

    /// In one word for programs, why it waits.
    pub fn waits(&self) -> &'static str {
        match &self.next {
            Next::Attempt => "Now",
            Next::Waits { why, .. } => why.word(),
        }
    }

    /// As it is told to people and programs.
    pub fn told(&self, policy: &Policy, now: Now) -> RecoveryLine {
        let (why, until) = match &self.next {
            Next::Attempt => ("begins now".to_owned(), Some(now.at)),
            Next::Waits { why: WhyNot::UnderWay, until } if !self.step.is_ours() => {
                ("happens by itself, and is given its time".to_owned(), *until)
            }
            Next::Waits { why, until } => (why.sentence(), *until),
        };
        RecoveryLine {
            failure: self.failure.to_string(),
            ladder: ladder_text(&self.failure, policy),
            step: self.step.name().to_owned(),
            attempts: self.attempts,
            since: self.since,
            next_at: until.map(|until| now.wall.plus(until.since(now.at))),
            waits: self.waits().to_owned(),
            why,
        }
    }
}

fn ladder_text(failure: &Failure, policy: &Policy) -> String {
    let mut text = String::new();
    for (step, times) in failure.ladder() {
        text.push_str(if text.is_empty() { "" } else { " > " });
        text.push_str(step.name());
        if *times > 1 {
            let _ = write!(text, " x{times}");
        }
        text.push_str(if step.is_allowed(policy) { "" } else { " (off)" });
    }
    text
}

impl WhyNot {
    fn word(&self) -> &'static str {
        match self {
            Self::UnderWay => "UnderWay",
            Self::Paused => "Paused",
            Self::Maintenance => "Maintenance",
            Self::LeftAlone(_) => "LeftAlone",
            Self::BackOff => "BackOff",
            Self::Budget(_) => "Budget",
            Self::Reboots(_) => "Reboots",
            Self::Podman => "Podman",
            Self::Well => "Well",
            Self::Person => "Person",
            Self::SessionLost => "SessionLost",
            Self::Reboot => "Reboot",
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::UnderWay => "under way".to_owned(),
            Self::Paused => "an operator has paused recovery".to_owned(),
            Self::Maintenance => "the node is in Maintenance".to_owned(),
            Self::LeftAlone(why) => why.clone(),
            Self::BackOff => "waits before the next attempt".to_owned(),
            Self::Budget(max) => {
                format!("the {max} attempts that the node has in an hour are used up")
            }
            Self::Reboots(max) => {
                format!("the {max} reboots that the node has in a day are used up")
            }
            Self::Podman => "waits until Podman answers".to_owned(),
            Self::Well => "is well; forgotten if that lasts".to_owned(),
            Self::Person => "nothing more is left but a person".to_owned(),
            Self::SessionLost => {
                "the session is lost, and the agent connects again by itself".to_owned()
            }
            Self::Reboot => "it told that it reboots, and is given its time".to_owned(),
        }
    }
}
