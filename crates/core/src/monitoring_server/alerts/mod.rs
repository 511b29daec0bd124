//! Alerts: what people should know of, told once, and to the right ones (HLD §11.3, §10.1).
//!
//! Rules look at nodes, containers and the cluster as a whole. Where one holds for long enough its alert fires, until
//! it is over; in between somebody acknowledges it, or it escalates. Subjects of one rule that fail together are one
//! alert. What channels are to tell goes through a durable outbox.
//!
//! - [`rule`], [`expression`], [`facts`], [`template`]: what rules say, and what they can speak of
//! - `evaluate`: rules meet facts: pending, firing, cleared, grouped
//! - `past`: what nodes that were alone have judged by themselves
//! - [`alert`], [`silence`], [`matcher`], [`channel`]: the words
//! - [`outbox`]: notifications on their way
//! - [`requests`]: what people ask for
//!
//! A part of the master's machine: what it writes is committed together with what caused it.

pub mod alert;
pub mod channel;
mod evaluate;
pub mod expression;
pub mod facts;
pub mod matcher;
pub mod outbox;
mod past;
pub mod requests;
pub mod rule;
pub mod silence;
pub mod template;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use self::{
    alert::{Alert, AlertState, Id, Member, Subject},
    channel::{Channel, Notice, NoticeKind},
    facts::ClusterFacts,
    outbox::{DELIVERIES, Delivery, DeliveryError, Dispatch, Outbox, OutboxExtent},
    rule::{Compiled, On, Rule},
    silence::Silence,
};
use crate::{
    model::{EventKind, NodeId, NodeName, NodeStatus, Severity},
    mutant::mutant,
    state_manager::{CorruptRecord, RequestId, keys},
    time::{Deadline, Now, Timestamp, WallTime},
};

pub const RULES: &str = "/piccolo/v1/alerts/rules/";
pub const GENERATION: &str = "/piccolo/v1/alerts/generation";
pub const ALERTS: &str = "/piccolo/v1/alerts/alerts/";
pub const SILENCES: &str = "/piccolo/v1/alerts/silences/";
/// As a whole secret: an address may be one.
pub const CHANNELS: &str = "/piccolo/v1/sealed/alert-channels/";

/// Alerts that fire at once at most; what comes beyond it is counted.
const FIRING_MAX: usize = 1000;
/// Alerts that are over and still shown, and for how long.
const RESOLVED_MAX: usize = 200;
const RESOLVED_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Subjects of one alert at most, those of them that a notification names, and bytes of an alert's labels: an alert and
/// what channels are to tell of it are one commit, and a store takes 1 MiB.
const MEMBERS_MAX: usize = 200;
const MEMBERS_TOLD_MAX: usize = 10;
const LABELS_BYTES_MAX: usize = 4096;
/// Alerts that become a part of one group at once, at most.
const MERGED_MAX: usize = 16;
/// Between two looks at what only time changes.
const TICK_EVERY: Duration = Duration::from_secs(15);
/// For agents to tell, after a start, what the master does not keep. Until then nothing is over that is not known.
const TOLD_WITHIN: Duration = Duration::from_secs(300);
/// What is counted of losses and of starts.
const OFTEN_WITHIN: Duration = Duration::from_secs(900);
const OFTEN_MAX: usize = 16;
/// Subjects that fire within so long of each other may be one alert.
const GROUPED_WITHIN: Duration = Duration::from_secs(60);
/// Between two notifications that a group has grown.
const UPDATED_EVERY: Duration = Duration::from_secs(60);
/// Writes of a commit beyond which nothing more fires: it waits for the next.
const WRITES_MAX: usize = 48;

/// What comes of it: writes and what they reveal.
#[derive(Debug, Default)]
pub struct Out {
    pub writes: BTreeMap<String, Option<Vec<u8>>>,
    pub events: Vec<Told>,
    pub changed: Vec<Alert>,
    pub removed: Vec<Id>,
    pub dispatches: Vec<Dispatch>,
    /// Somebody waits for a test notification.
    pub tested: Vec<(RequestId, Result<(), String>)>,
}

/// An event that is to be in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub severity: Severity,
    pub kind: EventKind,
    pub node: Option<(NodeId, NodeName)>,
    pub message: String,
    pub alert: Option<Id>,
}

/// What was stored.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    rules: Vec<Rule>,
    generation: u64,
    alerts: Vec<Alert>,
    silences: Vec<Silence>,
    channels: Vec<Channel>,
    deliveries: Vec<Delivery>,
}

#[derive(Debug)]
pub struct Alerts {
    cluster: String,
    certificate_lifetime: Duration,
    rules: BTreeMap<String, Compiled>,
    /// The same, by what they look at.
    by_subject: [Arc<[Compiled]>; 3],
    generation: u64,
    tracks: BTreeMap<Subject, BTreeMap<String, Track>>,
    alerts: BTreeMap<Id, Alert>,
    silences: BTreeMap<Id, Silence>,
    channels: BTreeMap<String, Channel>,
    outbox: Outbox,
    /// Groups that others have come to, and when that is told.
    grown: BTreeMap<Id, Timestamp>,
    /// By the number of the test notification.
    tests: BTreeMap<Id, (RequestId, Timestamp)>,
    watched: BTreeMap<NodeId, Watched>,
    facts: Option<ClusterFacts>,
    started: Timestamp,
    next_id: Id,
    revision: u64,
    tick_at: Timestamp,
    /// When something is due, beside the tick.
    due: Option<Timestamp>,
    /// Alerts that did not fire because there are too many, since the start.
    refused: u64,
}

/// A rule that holds, or held until lately, for one subject.
#[derive(Debug)]
struct Track {
    member: Member,
    group: String,
    since: Timestamp,
    pending: Duration,
    keep: Duration,
    alert: Option<Id>,
    clear_since: Option<Timestamp>,
}

impl Track {
    fn due(&self) -> Option<Timestamp> {
        match self.alert {
            None => Some(self.since + self.pending),
            Some(_) => self.clear_since.map(|since| since + self.keep),
        }
    }
}

/// What is remembered of a node: how often it was lost, and its containers started.
#[derive(Debug)]
struct Watched {
    status: NodeStatus,
    losses: VecDeque<Timestamp>,
    containers: BTreeMap<String, Starts>,
}

#[derive(Debug, Default)]
struct Starts {
    started_at: Option<WallTime>,
    restarts: u32,
    at: VecDeque<Timestamp>,
}

impl Out {
    fn put(&mut self, key: impl Into<String>, value: &impl Serialize) {
        self.writes.insert(key.into(), Some(keys::encode(value)));
    }

    fn delete(&mut self, key: String) {
        self.writes.insert(key, None);
    }

    fn tell(
        &mut self,
        severity: Severity,
        kind: EventKind,
        alert: Option<&Alert>,
        message: String,
    ) {
        let only = alert.filter(|alert| alert.members.len() == 1);
        let member = only.and_then(|alert| alert.members.first());
        let node = member.and_then(|m| Some((m.subject.node()?.clone(), m.node.clone()?)));
        let alert = alert.map(|alert| alert.id);
        self.events.push(Told { severity, kind, node, message, alert });
    }

    fn is_full(&self) -> bool {
        // an event is a write, and may retire two older ones
        self.writes.len() + 3 * self.events.len() > WRITES_MAX
    }
}

impl Stored {
    pub fn is_ours(key: &str) -> bool {
        [RULES, GENERATION, ALERTS, SILENCES, CHANNELS, DELIVERIES]
            .into_iter()
            .any(|ours| key.starts_with(ours))
    }

    /// Takes one stored value that is ours.
    pub fn add(&mut self, key: &str, value: &[u8]) -> Result<(), CorruptRecord> {
        if key.starts_with(RULES) {
            self.rules.push(keys::decode(key, value)?);
        } else if key == GENERATION {
            self.generation = keys::decode(key, value)?;
        } else if key.starts_with(ALERTS) {
            self.alerts.push(keys::decode(key, value)?);
        } else if key.starts_with(SILENCES) {
            self.silences.push(keys::decode(key, value)?);
        } else if key.starts_with(CHANNELS) {
            self.channels.push(keys::decode(key, value)?);
        } else if key.starts_with(DELIVERIES) {
            self.deliveries.push(keys::decode(key, value)?);
        }
        Ok(())
    }
}

fn alert_key(id: Id) -> String {
    format!("{ALERTS}{:020}", id.0)
}

fn silence_key(id: Id) -> String {
    format!("{SILENCES}{:020}", id.0)
}

impl Alerts {
    /// `epoch` says which start of the master this is.
    pub fn restore(
        stored: Stored,
        cluster: &str,
        certificate_lifetime: Duration,
        epoch: u64,
        now: Now,
    ) -> Self {
        let mut rules = rule::builtin();
        for rule in stored.rules {
            rules.insert(rule.name.clone(), Compiled::new(rule, false));
        }
        let newest =
            stored.alerts.iter().map(|a| a.id).chain(stored.deliveries.iter().map(|d| d.id));
        let newest = newest.chain(stored.silences.iter().map(|silence| silence.id)).max();
        let next_id = newest.map_or(Id(0), |id| Id(id.0 + 1)).max(Id::first_of(epoch));
        let forgets = mutant!("a silence is forgotten by a restart");
        let silences = stored.silences.into_iter().filter(|_| !forgets);
        let mut alerts = Self {
            cluster: cluster.to_owned(),
            certificate_lifetime,
            rules,
            by_subject: Default::default(),
            generation: stored.generation,
            tracks: BTreeMap::new(),
            alerts: BTreeMap::new(),
            silences: silences.map(|silence| (silence.id, silence)).collect(),
            channels: stored.channels.into_iter().map(|c| (c.name.clone(), c)).collect(),
            outbox: Outbox::restore(stored.deliveries),
            grown: BTreeMap::new(),
            tests: BTreeMap::new(),
            watched: BTreeMap::new(),
            facts: None,
            started: now.at,
            next_id,
            // as those of nodes: none comes again after a restart
            revision: epoch << keys::EPOCH_BITS,
            tick_at: now.at + TICK_EVERY,
            due: None,
            refused: 0,
        };
        alerts.sort_rules();
        for alert in stored.alerts {
            alerts.resume(alert, now);
        }
        alerts.reschedule();
        alerts
    }

    /// What fired before the start goes on firing.
    fn resume(&mut self, alert: Alert, now: Now) {
        let alert = Alert { revision: self.revision, ..alert };
        let forgets = mutant!("what fires is forgotten by a restart");
        for member in alert.active().filter(|_| !alert.is_over() && !forgets) {
            let rule = self.rules.get(&alert.rule);
            let track = Track {
                member: member.clone(),
                group: alert.group.clone().unwrap_or_default(),
                since: now.at,
                pending: Duration::ZERO,
                keep: rule.map(Compiled::keep).unwrap_or_default(),
                alert: Some(alert.id),
                clear_since: None,
            };
            let tracks = self.tracks.entry(member.subject.clone()).or_default();
            tracks.insert(alert.rule.clone(), track);
        }
        self.alerts.insert(alert.id, alert);
    }

    fn sort_rules(&mut self) {
        self.by_subject =
            On::ALL.map(|on| self.rules.values().filter(|rule| rule.is_on(on)).cloned().collect());
    }

    fn on(&self, on: On) -> Arc<[Compiled]> {
        let [node, container, cluster] = &self.by_subject;
        Arc::clone(match on {
            On::Node => node,
            On::Container => container,
            On::Cluster => cluster,
        })
    }

    fn take_id(&mut self) -> Id {
        let id = self.next_id;
        self.next_id = Id(id.0 + 1);
        id
    }

    /// What a shell reported of the cluster as a whole.
    pub fn told(
        &mut self,
        now: Now,
        facts: ClusterFacts,
        (nodes, ready): (usize, usize),
        out: &mut Out,
    ) {
        self.cluster.clone_from(&facts.name);
        self.facts = Some(facts);
        self.look_at_cluster(now, nodes, ready, out);
        self.dispatch(now, out);
    }

    /// An attempt has ended.
    pub fn delivered(
        &mut self,
        now: Now,
        id: Id,
        result: Result<(), DeliveryError>,
        out: &mut Out,
    ) {
        if let Some((request, _)) = self.tests.remove(&id) {
            out.tested.push((request, result.map_err(|error| error.problem)));
            return;
        }
        self.outbox.ended(now, id, result, out);
        self.dispatch(now, out);
    }

    /// What is due now, beside the nodes of [`Self::due_nodes`].
    pub fn at_deadline(&mut self, now: Now, (nodes, ready): (usize, usize), out: &mut Out) {
        if self.tick_at <= now.at {
            self.tick_at = now.at + TICK_EVERY;
            self.look_at_cluster(now, nodes, ready, out);
            self.forget_silences(now, out);
            self.end_ruleless(now, out);
            self.retire(now, out);
        } else if self.due_subjects(now).any(|subject| *subject == Subject::Cluster) {
            self.look_at_cluster(now, nodes, ready, out);
        }
        self.escalate(now, out);
        self.tell_of_growth(now, out);
        self.give_up_tests(now, out);
        self.dispatch(now, out);
    }

    /// Whether the next deadline is for a look at everything.
    pub fn is_tick_due(&self, now: Now) -> bool {
        self.tick_at <= now.at
    }

    /// Nodes of which something is pending, or nearly over, for long enough.
    pub fn due_nodes(&self, now: Now) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.due_subjects(now).filter_map(Subject::node).cloned().collect();
        nodes.dedup();
        nodes
    }

    fn due_subjects(&self, now: Now) -> impl Iterator<Item = &Subject> {
        let is_due = move |track: &Track| track.due().is_some_and(|due| due <= now.at);
        self.tracks
            .iter()
            .filter(move |(_, tracks)| tracks.values().any(is_due))
            .map(|(subject, _)| subject)
    }

    pub fn deadline(&self) -> Deadline {
        let at = self.due.map_or(self.tick_at, |due| due.min(self.tick_at));
        Deadline { at, why: "alerts" }
    }

    /// After whatever may have changed what is due.
    fn reschedule(&mut self) {
        let tracks = self.tracks.values().flat_map(BTreeMap::values).filter_map(Track::due).min();
        let tests = self.tests.values().map(|(_, until)| *until).min();
        let outbox = self.outbox.next_at(&self.channels);
        let grown = self.grown.values().copied().min();
        self.due = [tracks, tests, outbox, grown].into_iter().flatten().min();
    }

    fn dispatch(&mut self, now: Now, out: &mut Out) {
        let at_once = self.facts.as_ref().is_some_and(|facts| facts.store != "ok");
        self.outbox.dispatch(now, &self.channels, at_once, out);
        self.reschedule();
    }

    /// A change of an alert: stored, and shown.
    fn changed(&mut self, id: Id, out: &mut Out) {
        self.revision += 1;
        if let Some(alert) = self.alerts.get_mut(&id) {
            alert.revision = self.revision;
            if !mutant!("an alert is not stored") {
                out.put(alert_key(id), &*alert);
            }
            out.changed.push(alert.clone());
        }
    }

    /// Has every channel that wants it tell of an alert. While it is silenced nobody is told anything but the end of
    /// what they have heard of: whoever opened an incident is to close it.
    fn notify(&mut self, now: Now, id: Id, kind: NoticeKind, out: &mut Out) {
        let Some(alert) = self.alerts.get(&id) else { return };
        let silenced_by = silence::silencing(&self.silences, alert, now.wall);
        let is_end = kind == NoticeKind::Resolved;
        let hidden = silenced_by.is_some()
            && (!is_end || mutant!("a silence hides the end of what was told"));
        let known = alert.notified || mutant!("an end is told of what nobody was told of");
        let wanted = !hidden && (!is_end || known);
        let channels: Vec<_> = self
            .channels
            .values()
            .filter(|channel| wanted && channel.takes(alert, kind))
            .map(|channel| channel.name.clone())
            .collect();
        let notice = Notice {
            key: notice_key(alert, kind),
            kind,
            at: now.wall,
            cluster: self.cluster.clone(),
            subjects: alert.members.len(),
            alert: Alert {
                members: alert.members.iter().take(MEMBERS_TOLD_MAX).cloned().collect(),
                ..alert.clone()
            },
        };
        for channel in channels {
            let delivery = self.take_id();
            self.outbox.add(now, delivery, &channel, notice.clone(), out);
        }
        if let Some(alert) = self.alerts.get_mut(&id) {
            alert.set_silence(silenced_by, now.wall);
            alert.notified |= wanted;
        }
    }

    /// Alerts that fire, and those that were over lately.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    pub fn firing(&self) -> usize {
        self.alerts.values().filter(|alert| !alert.is_over()).count()
    }

    pub fn outbox_extent(&self) -> OutboxExtent {
        self.outbox.extent()
    }

    /// Too many at once: what was not told of.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// The same for the same news, also where a crash has made it forget that it was told.
fn notice_key(alert: &Alert, kind: NoticeKind) -> String {
    use sha2::{Digest as _, Sha256};
    let first = alert.members.first().map(|member| (&member.subject, member.since));
    let kind = if mutant!("a notification's key is that of other news") { "" } else { kind.name() };
    let text = format!("{}|{first:?}|{kind}|{}", alert.rule, alert.members.len());
    let hash = Sha256::digest(text.as_bytes());
    format!("{}-{}", alert.id, crate::hex::hex(hash.get(..8).unwrap_or_default()))
}
