//! Events and the audit chain: appended in the commit of what they tell, bounded by count and age.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    Effect, StateManager,
    keys::{self, LogSnapshot},
    outbox::Outbox,
};
use crate::{
    api_server::{Call, Caller, Refusal, Role},
    model::{AuditEnds, AuditEntry, AuditOutcome, Event, EventKind, NodeRecord, Severity},
    mutant::mutant,
    time::{Now, Timestamp, WallTime},
    topology::TopologyRecord,
};

/// Deletions of old entries in one commit at most, beside one for each that is added.
const RETIRED_PER_COMMIT_MAX: usize = 16;
/// Writes of a commit beyond which no more is retired than is appended.
const WRITES_TO_RETIRE_MORE: usize = 48;
/// Refusals that are audited per minute at most: a flood must not wear out the flash, nor push out soon what was
/// done.
const REFUSALS_PER_MINUTE_MAX: u32 = 60;
/// Of one caller, so that nobody's flood hides what others tried. Strangers together count as one: they could
/// have as many addresses as they like.
const REFUSALS_PER_CALLER_PER_MINUTE_MAX: u32 = 20;
const MINUTE_US: u64 = 60_000_000;
/// Bytes of what a stranger wrote, in an audit entry.
const AUDIT_TEXT_BYTES_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Log {
    events: VecDeque<(u64, WallTime)>,
    events_max: usize,
    next_event: u64,
    audit: AuditEnds,
    /// The newest id that is taken: there may be entries after the last one that are not ours.
    audit_taken: u64,
    audit_max: usize,
    refusals: Refusals,
}

/// This minute's refusals: whose were audited, and how many were only counted.
#[derive(Debug, Default)]
struct Refusals {
    since: Timestamp,
    /// By caller; as many as the minute has places at most.
    told: BTreeMap<String, u32>,
    untold: u64,
}

/// An event that has no place in the log yet.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) severity: Severity,
    pub(super) kind: EventKind,
    pub(super) node: Option<(crate::model::NodeId, crate::model::NodeName)>,
    pub(super) message: String,
    pub(super) fields: BTreeMap<String, String>,
}

impl Draft {
    pub(super) fn of(
        node: &NodeRecord,
        severity: Severity,
        kind: EventKind,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            kind,
            node: Some((node.id.clone(), node.name.clone())),
            message: message.into(),
            fields: BTreeMap::new(),
        }
    }

    pub(super) fn cluster(severity: Severity, kind: EventKind, message: impl Into<String>) -> Self {
        Self { severity, kind, node: None, message: message.into(), fields: BTreeMap::new() }
    }

    pub(super) fn field(mut self, key: &str, value: impl Into<String>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }
}

pub(super) fn cluster_created(topology: &TopologyRecord) -> Draft {
    let message = format!("cluster {} was created", topology.name);
    Draft::cluster(Severity::Info, EventKind::ClusterCreated, message)
        .field("cluster", topology.id.clone())
}

pub(super) fn master_started(epoch: u64) -> Draft {
    Draft::cluster(Severity::Info, EventKind::MasterStarted, "the master has started")
        .field("start", epoch.to_string())
}

impl Log {
    pub(super) fn restored(snapshot: LogSnapshot, events_max: usize, audit_max: usize) -> Self {
        let mut events = VecDeque::with_capacity(snapshot.events.len());
        for (id, at) in snapshot.events.iter().copied() {
            events.push_back((id, no_earlier(events.back(), at)));
        }
        let next_event = snapshot.events.back().map_or(0, |(id, _)| *id) + 1;
        let next_event = next_event.max(snapshot.events_from);
        Self {
            events,
            events_max,
            next_event,
            audit_taken: snapshot.audit_last.as_ref().map_or(0, |last| last.id),
            audit: ends(&snapshot),
            audit_max,
            refusals: Refusals::default(),
        }
    }

    pub(super) fn events_kept(&self) -> (u64, u64) {
        (self.events.front().map_or(self.next_event, |(id, _)| *id), self.next_event - 1)
    }

    pub(super) fn events_count(&self) -> usize {
        self.events.len()
    }

    pub(super) fn audit_ends(&self) -> &AuditEnds {
        &self.audit
    }

    pub(super) fn append(&mut self, mut event: Event, out: &mut Outbox) {
        event.id = self.next_event;
        self.next_event += 1;
        self.events.push_back((event.id, no_earlier(self.events.back(), event.at)));
        out.put(keys::event(event.id), &event);
        out.effects.push(Effect::Happened(event));
        // one for one; more, where the bound was lowered, as long as there is room in the transaction
        for extra in [false, true] {
            let room = !extra
                || out.writes.len() < WRITES_TO_RETIRE_MORE
                || mutant!("retirement has no bound");
            if room
                && self.events.len() > self.events_max
                && let Some((id, _)) = self.events.pop_front()
            {
                out.delete(keys::event(id));
            }
        }
    }

    /// Whether more is waiting to be retired.
    pub(super) fn retire_old(&mut self, now: WallTime, age: Duration, out: &mut Outbox) -> bool {
        for _ in 0..RETIRED_PER_COMMIT_MAX {
            // the newest stays: the next id follows from it
            match self.events.front() {
                Some((id, at)) if self.events.len() > 1 && now.since(*at) > age => {
                    out.delete(keys::event(*id));
                    self.events.pop_front();
                }
                _ => return false,
            }
        }
        true
    }

    /// After what was cut off or added past us the chain does not link: that is how it shows.
    fn append_audit(&mut self, mut entry: AuditEntry, out: &mut Outbox) {
        entry.id = self.audit.last.max(self.audit_taken) + 1;
        if !mutant!("the audit chain is not linked") {
            entry.previous_hash.clone_from(&self.audit.last_hash);
        }
        entry.hash = entry.expected_hash();
        out.put(keys::audit(entry.id), &entry);
        for _ in 0..2 {
            if (entry.id + 1).saturating_sub(self.audit.first) > self.audit_max as u64 {
                out.delete(keys::audit(self.audit.first));
                self.audit.first += 1;
            }
        }
        (self.audit.last, self.audit.last_hash) = (entry.id, entry.hash);
        out.put(keys::AUDIT_ENDS, &self.audit);
    }
}

/// As they were recorded; as they are found, where an older version kept no record.
fn ends(snapshot: &LogSnapshot) -> AuditEnds {
    let last = snapshot.audit_last.as_ref();
    let found = AuditEnds {
        first: snapshot.audit_first.max(1),
        last: last.map_or(0, |last| last.id),
        last_hash: last.map(|last| last.hash.clone()).unwrap_or_default(),
        since: last.map_or(0, |last| last.id) + 1,
    };
    match &snapshot.audit_ends {
        None => found,
        Some(recorded) if snapshot.audit_first == 0 => recorded.clone(),
        // what is retired a transaction late is still to be retired
        Some(recorded) => AuditEnds { first: recorded.first.min(found.first), ..recorded.clone() },
    }
}

impl Refusals {
    /// Whether one more of this caller is audited, and then how many were not before it.
    fn tell(&mut self, by: &Caller, now: Timestamp) -> Option<u64> {
        if now.0 - self.since.0 >= MINUTE_US {
            self.since = now;
            self.told.clear();
        }
        let told_in_all: u32 = self.told.values().sum();
        let who = by.who();
        let told = self.told.get(&who).copied().unwrap_or(0);
        if told_in_all >= REFUSALS_PER_MINUTE_MAX || told >= REFUSALS_PER_CALLER_PER_MINUTE_MAX {
            self.untold += 1;
            return None;
        }
        self.told.insert(who, told + 1);
        Some(std::mem::take(&mut self.untold))
    }
}

impl StateManager {
    pub(super) fn happened(&mut self, now: Now, out: &mut Outbox, draft: Draft) {
        let (node, node_name) = draft.node.unzip();
        let event = Event {
            id: 0,
            at: now.wall,
            severity: draft.severity,
            kind: draft.kind,
            node,
            node_name,
            message: draft.message,
            node_sequence: 0,
            fields: draft.fields,
            delivered_late: false,
        };
        self.log.append(event, out);
    }

    pub(super) fn audit(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        call: Call,
        target: &str,
    ) {
        self.append_audit(now, out, by, call, target, AuditOutcome::Done);
    }

    pub(super) fn audit_refusal(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        call: Call,
        target: &str,
        refusal: &Refusal,
    ) {
        if call == Call::RegisterNode && by.role == Role::Anonymous {
            self.joins.failed(&by.from, now.at);
        }
        let Some(untold) = self.log.refusals.tell(by, now.at) else { return };
        let mut why = format!("{}: {}", refusal.reason, refusal.message);
        if untold > 0 {
            why = format!("{why} (before it, {untold} more refusals were only counted)");
        }
        self.append_audit(now, out, by, call, target, AuditOutcome::Refused(bounded(&why)));
    }

    /// One event when backups begin to fail, or fail for another reason, and one when they are made again.
    pub(super) fn backup_ended(&mut self, now: Now, out: &mut Outbox, failed: Option<String>) {
        let failed = failed.map(|why| bounded(&why));
        if failed == self.backup_failed {
            return;
        }
        let draft = match &failed {
            Some(why) => {
                let message = format!("the backup was not made: {why}");
                Draft::cluster(Severity::Warning, EventKind::BackupFailed, message)
            }
            None => Draft::cluster(Severity::Info, EventKind::BackupMade, "backups are made again"),
        };
        self.backup_failed = failed;
        self.happened(now, out, draft);
    }

    /// Nobody called: it was done to the store.
    pub(super) fn audit_restore(&mut self, now: Now, out: &mut Outbox, message: &str) {
        let entry = AuditEntry {
            id: 0,
            at: now.wall,
            who: "the master itself".to_owned(),
            from: String::new(),
            call: "Restore".to_owned(),
            target: message.to_owned(),
            outcome: AuditOutcome::Done,
            previous_hash: String::new(),
            hash: String::new(),
        };
        self.log.append_audit(entry, out);
    }

    fn append_audit(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        call: Call,
        target: &str,
        outcome: AuditOutcome,
    ) {
        let entry = AuditEntry {
            id: 0,
            at: now.wall,
            who: bounded(&by.who()),
            from: bounded(&by.from),
            call: call.name().to_owned(),
            target: bounded(target),
            outcome,
            previous_hash: String::new(),
            hash: String::new(),
        };
        self.log.append_audit(entry, out);
    }
}

/// An event's age follows from when it came: a board without a clock says that it is 1970.
fn no_earlier(last: Option<&(u64, WallTime)>, at: WallTime) -> WallTime {
    last.map_or(at, |(_, last)| at.max(*last))
}

/// Fit for a log and a terminal, whoever wrote it.
pub(super) fn bounded(text: &str) -> String {
    let mut end = text.len().min(AUDIT_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
