//! Alerts of a node that is alone (HLD §10.1, §11.3): what the master would tell of, judged and told by the node.
//!
//! What the agent sees of itself is a [`Problem`] or not. One that holds for long enough, while no master has been
//! there for as long, fires; it is over when it has been well for long enough. Both are events of the journal, from
//! which the master makes an alert of the past when the node is back, and both are told by the node's own channel,
//! where it has one: in order, one at a time, again until it takes them.
//!
//! What fires and what waits to be told is in the ledger: a restart tells nothing twice under another key, and
//! forgets nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Effect, NodeAgent, Phase, observe::printable};
use crate::{
    model::{ConditionKind, ContainerReport, EventKind, RestartPolicy, Severity},
    mutant::mutant,
    time::{Deadline, Now, Timestamp, WallTime},
};

/// Problems that are followed at a time.
const PROBLEMS_MAX: usize = 64;
/// Notices that wait for the channel; the oldest gives way, and is told of.
const WAITING_MAX: usize = 32;
/// Bytes of a message.
const MESSAGE_BYTES_MAX: usize = 300;
/// Between two runs of the channel that went well, and between those that did not.
const RUN_EVERY: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// A day, nearly all of it at the longest interval.
const ATTEMPTS_MAX: u32 = 290;
/// After a start it takes a while until everything has been looked at: what fired goes on for so long.
const KNOWN_AFTER: Duration = Duration::from_secs(120);
/// The master's own rule has another name: it sees a node that is gone.
pub const MASTER_LOST: &str = "MasterLost";
pub const CONTAINER_STOPPED: &str = "ContainerStopped";
pub const CONTAINER_UNHEALTHY: &str = "ContainerUnhealthy";

/// How the node alerts by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// There is a channel.
    pub channel: bool,
    pub when: When,
    /// For how long a problem must hold, and no master be there.
    pub after: Duration,
    /// For how long all must be well until it is over.
    pub clear_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// While no master is there, who would tell of it.
    Offline,
    Always,
}

impl Default for Local {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { channel: false, when: When::Offline, after: minute, clear_after: minute }
    }
}

/// What it is about: a rule, and the container; of the node itself there is none.
type Subject = (String, String);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    rule: String,
    container: String,
    severity: Severity,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAlert {
    /// As the master calls its own: what it is about.
    pub rule: String,
    /// Empty of the node itself.
    pub container: String,
    pub severity: Severity,
    pub message: String,
    pub since: WallTime,
    pub fired_at: WallTime,
    /// No master was there when it fired.
    pub alone: bool,
    pub resolved_at: Option<WallTime>,
}

/// What the channel is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalNotice {
    /// The same at every attempt, and of no other notice.
    pub key: String,
    pub alert: LocalAlert,
}

/// What is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    pub firing: Vec<LocalAlert>,
    pub waiting: VecDeque<LocalNotice>,
}

#[derive(Debug)]
struct Track {
    since: Now,
    fired: bool,
    clear_since: Option<Timestamp>,
    /// Before that it is not known whether it is well.
    known_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct LocalAlerts {
    settings: Local,
    tracks: BTreeMap<Subject, Track>,
    under_way: bool,
    attempts: u32,
    next_at: Timestamp,
}

/// What the agent sees now.
struct Look {
    problems: Vec<Problem>,
    alone_since: Option<Timestamp>,
}

impl LocalAlerts {
    pub(super) fn restored(settings: Local, kept: &mut Kept, now: Now) -> Self {
        if !settings.channel {
            kept.waiting.clear();
        }
        let known_at = |alert: &LocalAlert| match alert.rule.as_str() {
            MASTER_LOST => now.at,
            _ => now.at + KNOWN_AFTER,
        };
        let track = |alert: &LocalAlert| {
            let track =
                Track { since: now, fired: true, clear_since: None, known_at: known_at(alert) };
            (subject(&alert.rule, &alert.container), track)
        };
        let tracks = kept.firing.iter().map(track).collect();
        Self { settings, tracks, under_way: false, attempts: 0, next_at: now.at }
    }

    /// From when on a problem that holds may fire; `None`: a master is there for it.
    fn may_fire_at(&self, alone_since: Option<Timestamp>) -> Option<Timestamp> {
        match self.settings.when {
            When::Always => Some(Timestamp(0)),
            When::Offline if mutant!("a master that is there is passed over") => Some(Timestamp(0)),
            When::Offline => alone_since.map(|since| since + self.settings.after),
        }
    }

    /// Follows what is seen; what begins, and what is over, with it.
    fn look(&mut self, now: Now, look: Look) -> (Vec<Problem>, Vec<Subject>) {
        let may_fire_at = self.may_fire_at(look.alone_since);
        for track in self.tracks.values_mut() {
            track.clear_since.get_or_insert(now.at);
        }
        let mut begun = Vec::new();
        for problem in look.problems {
            let key = subject(&problem.rule, &problem.container);
            if self.tracks.len() >= PROBLEMS_MAX && !self.tracks.contains_key(&key) {
                continue;
            }
            let new = Track { since: now, fired: false, clear_since: None, known_at: now.at };
            let track = self.tracks.entry(key).or_insert(new);
            track.clear_since = None;
            let due = may_fire_at.map(|at| at.max(track.since.at + self.settings.after));
            if !track.fired && due.is_some_and(|due| due <= now.at) {
                track.fired = true;
                begun.push(problem);
            }
        }
        let clear_after = self.settings.clear_after;
        let mut over = Vec::new();
        self.tracks.retain(|key, track| match track.over_at(clear_after) {
            Some(_) if !track.fired => false,
            Some(at) if at <= now.at => {
                over.push(key.clone());
                false
            }
            Some(_) | None => true,
        });
        (begun, over)
    }

    /// What waits for the channel, where it may be told now.
    fn next<'k>(&mut self, now: Timestamp, kept: &'k Kept) -> Option<&'k LocalNotice> {
        let notice = kept.waiting.front().filter(|_| !self.under_way && self.next_at <= now)?;
        self.under_way = true;
        Some(notice)
    }

    fn deadline(&self, alone_since: Option<Timestamp>, kept: &Kept) -> Option<Deadline> {
        let may_fire_at = self.may_fire_at(alone_since);
        let due = |track: &Track| match track.fired {
            true => track.over_at(self.settings.clear_after),
            false => may_fire_at.map(|at| at.max(track.since.at + self.settings.after)),
        };
        let waits = !self.under_way && !kept.waiting.is_empty();
        let tracks = self.tracks.values().filter_map(due);
        let at = tracks.chain(waits.then_some(self.next_at)).min()?;
        Some(Deadline { at, why: "local alerts" })
    }
}

impl Track {
    fn over_at(&self, clear_after: Duration) -> Option<Timestamp> {
        self.clear_since.map(|since| since.max(self.known_at) + clear_after)
    }
}

impl LocalAlert {
    fn notice(&self, node: &str) -> LocalNotice {
        let kind = if self.resolved_at.is_some() { "resolved" } else { "firing" };
        let Self { rule, container, fired_at, .. } = self;
        let key = format!("{node}/{rule}/{container}/{}/{kind}", fired_at.0);
        LocalNotice { key, alert: self.clone() }
    }

    /// For the master, which makes an alert of it again.
    fn fields(&self) -> [(&'static str, String); 6] {
        [
            ("rule", self.rule.clone()),
            ("container", self.container.clone()),
            ("severity", format!("{:?}", self.severity).to_lowercase()),
            ("since", self.since.0.to_string()),
            ("fired_at", self.fired_at.0.to_string()),
            ("alone", if self.alone { "yes" } else { "no" }.to_owned()),
        ]
    }
}

impl NodeAgent {
    /// Called after whatever may have changed what there is to tell.
    pub(super) fn alert(&mut self, now: Now, out: &mut Vec<Effect>) {
        let alone_since = self.alone.map(|(since, _)| since.at);
        let idle = self.local_alerts.tracks.is_empty() && self.ledger.alerts == Kept::default();
        let nobody_asks = idle && self.local_alerts.may_fire_at(alone_since).is_none();
        if nobody_asks || self.phase == Phase::Stopped {
            return;
        }
        let look = Look { problems: self.problems(), alone_since };
        let (begun, over) = self.local_alerts.look(now, look);
        let changed = !begun.is_empty() || !over.is_empty();
        let wall = now.wall.max(self.ledger.clock_floor);
        for problem in begun {
            let Problem { rule, container, severity, message } = problem;
            let since = self.local_alerts.tracks.get(&subject(&rule, &container));
            let alert = LocalAlert {
                since: since.map_or(wall, |track| track.since.wall.min(wall)),
                fired_at: wall,
                alone: !self.in_session(),
                resolved_at: None,
                rule,
                container,
                severity,
                message,
            };
            self.tell_locally(now, out, &alert);
            self.ledger.alerts.firing.push(alert);
        }
        for key in over {
            let firing = &mut self.ledger.alerts.firing;
            let is_it = |alert: &LocalAlert| subject(&alert.rule, &alert.container) == key;
            let Some(index) = firing.iter().position(is_it) else { continue };
            let mut alert = firing.remove(index);
            alert.resolved_at = Some(wall.max(alert.fired_at));
            self.tell_locally(now, out, &alert);
        }
        if changed && !mutant!("what fires is not kept") {
            out.push(Effect::SaveLedger(self.ledger.clone()));
        }
        if let Some(notice) = self.local_alerts.next(now.at, &self.ledger.alerts) {
            out.push(Effect::TellLocally(Box::new(notice.clone())));
        }
    }

    /// Into the journal, and where there is a channel, into its queue.
    fn tell_locally(&mut self, now: Now, out: &mut Vec<Effect>, alert: &LocalAlert) {
        let fields = alert.fields();
        let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let (severity, kind, message) = match alert.resolved_at {
            None => (alert.severity, EventKind::LocalAlertFiring, alert.message.clone()),
            Some(_) => {
                let message = format!("{OVER}{}", alert.message);
                (Severity::Info, EventKind::LocalAlertResolved, message)
            }
        };
        self.record(now, out, severity, kind, message, &fields);
        if !self.local_alerts.settings.channel {
            return;
        }
        let waiting = &mut self.ledger.alerts.waiting;
        waiting.push_back(alert.notice(self.settings.node.as_str()));
        if waiting.len() > WAITING_MAX {
            // the first may be under way: its answer is for nobody then
            let first = usize::from(self.local_alerts.under_way);
            let lost = waiting.remove(first).map(|notice| notice.key).unwrap_or_default();
            self.give_up(now, out, &lost, "newer ones have taken its place");
        }
    }

    fn give_up(&mut self, now: Now, out: &mut Vec<Effect>, key: &str, why: &str) {
        let message = format!("the local channel was not told: {why}");
        let fields = [("channel", "local"), ("notification", key)];
        let kind = EventKind::NotificationFailed;
        self.record(now, out, Severity::Warning, kind, message, &fields);
    }

    pub(super) fn told_locally(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        result: Result<(), String>,
    ) {
        let local = &mut self.local_alerts;
        if !std::mem::take(&mut local.under_way) {
            return;
        }
        local.attempts += 1;
        let back_off = RUN_EVERY * 2_u32.saturating_pow(local.attempts - 1);
        local.next_at =
            now.at + if result.is_ok() { RUN_EVERY } else { back_off.min(BACK_OFF_MAX) };
        if result.is_err() && local.attempts < ATTEMPTS_MAX {
            return;
        }
        local.attempts = 0;
        let notice = self.ledger.alerts.waiting.pop_front();
        if let (Err(why), Some(notice)) = (result, notice) {
            self.give_up(now, out, &notice.key, &why);
        }
        out.push(Effect::SaveLedger(self.ledger.clone()));
    }

    pub(super) fn local_alerts_deadline(&self) -> Option<Deadline> {
        let alone_since = self.alone.map(|(since, _)| since.at);
        self.local_alerts.deadline(alone_since, &self.ledger.alerts)
    }

    /// Of a member of a cluster. In Maintenance nothing is one, as for the master.
    fn problems(&self) -> Vec<Problem> {
        let held_back = self.ledger.maintenance && !mutant!("a node in Maintenance alerts");
        if self.ledger.generation == 0 || held_back {
            return Vec::new();
        }
        let problem = |rule: &str, container: &str, severity: Severity, message: &str| Problem {
            rule: rule.to_owned(),
            container: container.to_owned(),
            severity,
            message: bounded(message),
        };
        let mut problems = Vec::new();
        if self.alone.is_some() && self.local_alerts.settings.channel {
            let message = "the master cannot be reached; the node works on alone";
            problems.push(problem(MASTER_LOST, "", Severity::Warning, message));
        }
        for condition in self.conditions() {
            let rule = condition.kind.name();
            let is_critical = condition.kind == ConditionKind::PodmanUnavailable;
            let severity = if is_critical { Severity::Critical } else { Severity::Warning };
            problems.push(problem(rule, "", severity, &format!("{rule}: {}", condition.message)));
        }
        for container in self.observed.containers.iter().flatten() {
            let name = &container.name;
            if is_to_run(container) {
                let code = container.exit_code.map(|code| format!(": exit code {code}"));
                let code = code.unwrap_or_default();
                let message = format!("container {name} has ended and is to run{code}");
                problems.push(problem(CONTAINER_STOPPED, name, Severity::Warning, &message));
            }
            if container.health == "unhealthy" {
                let message = format!("container {name} is unhealthy");
                problems.push(problem(CONTAINER_UNHEALTHY, name, Severity::Warning, &message));
            }
        }
        problems
    }
}

/// What the event of an end begins with.
pub const OVER: &str = "over: ";

/// Ended, though its policy says that it is to run: what recovery was to do, it has not done yet.
fn is_to_run(container: &ContainerReport) -> bool {
    let failed = container.exit_code.is_some_and(|code| code != 0);
    container.has_ended()
        && match container.restart {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure => failed,
            RestartPolicy::Always => true,
        }
}

fn bounded(message: &str) -> String {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    printable(&message[..end])
}

fn subject(rule: &str, container: &str) -> Subject {
    (rule.to_owned(), container.to_owned())
}

#[cfg(test)]
mod tests;
