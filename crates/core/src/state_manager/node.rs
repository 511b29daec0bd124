//! One node at run time: its stored record, its detector, its session, what it last told.

use std::collections::BTreeMap;

use crate::{
    failure_detector::{FailureDetector, Timing, Verdict},
    model::{
        Condition, ConditionKind, ContainerReport, NodeRecord, NodeStatus, NodeView, SessionId,
    },
    mutant::mutant,
    time::{Timestamp, WallTime},
};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) record: NodeRecord,
    pub(super) detector: FailureDetector,
    /// The pace that it was told last: it can be held to no other.
    pub(super) timing: Timing,
    pub(super) session: Option<SessionId>,
    /// The one that the same process held before, as its Hello said.
    pub(super) session_before: Option<SessionId>,
    pub(super) last_heartbeat: Option<WallTime>,
    pub(super) containers: Vec<ContainerReport>,
    pub(super) metrics: BTreeMap<String, String>,
    /// What the agent itself has found.
    pub(super) own_conditions: Vec<Condition>,
    /// Why it could not apply the newest configuration.
    pub(super) config_rejected: Option<String>,
    pub(super) revision: u64,
    /// Its entry in the timers.
    pub(super) timer: Option<Timestamp>,
    /// When a Terminating node's record goes.
    pub(super) gone_at: Option<Timestamp>,
    pub(super) duplicate_told_at: Option<Timestamp>,
}

impl Node {
    pub(super) fn new(record: NodeRecord, timing: Timing, now: Timestamp) -> Self {
        Self {
            record,
            timing,
            detector: FailureDetector::unknown(now),
            session: None,
            session_before: None,
            last_heartbeat: None,
            containers: Vec::new(),
            metrics: BTreeMap::new(),
            own_conditions: Vec::new(),
            config_rejected: None,
            revision: 0,
            timer: None,
            gone_at: None,
            duplicate_told_at: None,
        }
    }

    pub(super) fn restored(
        record: NodeRecord,
        heard: Option<WallTime>,
        timing: Timing,
        now: Timestamp,
    ) -> Self {
        let own = record.conditions.iter().filter(|c| c.kind.from_agent()).cloned().collect();
        let gone_at = (record.status == NodeStatus::Terminating).then_some(now);
        let rejected = record
            .conditions
            .iter()
            .find(|c| c.kind == ConditionKind::ConfigRejected)
            .map(|c| c.message.clone());
        Self {
            last_heartbeat: heard,
            own_conditions: own,
            config_rejected: rejected,
            gone_at,
            ..Self::new(record, timing, now)
        }
    }

    pub(super) fn view(&self) -> NodeView {
        NodeView {
            record: self.record.clone(),
            last_heartbeat: self.last_heartbeat,
            connected: self.session.is_some(),
            containers: self.containers.clone(),
            metrics: self.metrics.clone(),
            revision: self.revision,
        }
    }

    /// Suspicion is about this moment: it is not stored.
    pub(super) fn record_to_store(&self) -> NodeRecord {
        let mut record = self.record.clone();
        record.conditions.retain(|c| c.kind != ConditionKind::Suspect);
        record
    }

    /// Every condition that should be there, given what the detector says.
    pub(super) fn wanted_conditions(&self, verdict: Verdict, now: WallTime) -> Vec<Condition> {
        let mut wanted = self.own_conditions.clone();
        let mut add = |kind: ConditionKind, message: String| {
            wanted.push(Condition { kind, reason: kind.name(), message, since: now });
        };
        if self.record.status == NodeStatus::Pending {
            add(ConditionKind::AwaitingApproval, "an operator has to approve it".to_owned());
        }
        if let Some(why) = &self.config_rejected {
            add(ConditionKind::ConfigRejected, why.clone());
        }
        match verdict {
            Verdict::Suspect => {
                add(ConditionKind::Suspect, "the session broke; waiting for a new one".to_owned())
            }
            // three missed heartbeats do not turn into a lost session because the master has started
            Verdict::SessionLost
                if self.detector.is_unheard()
                    && self.holds(ConditionKind::HeartbeatTimeout)
                    && !mutant!("a restart softens a verdict") =>
            {
                add(ConditionKind::HeartbeatTimeout, "heartbeats are missing".to_owned());
            }
            Verdict::SessionLost => {
                add(
                    ConditionKind::SessionLost,
                    "the session broke and did not come back".to_owned(),
                );
            }
            Verdict::HeartbeatTimeout => {
                add(ConditionKind::HeartbeatTimeout, "heartbeats are missing".to_owned());
            }
            // not heard since the master started: what was known still stands
            Verdict::Unknown => wanted.extend(
                self.record
                    .conditions
                    .iter()
                    .filter(|c| {
                        matches!(
                            c.kind,
                            ConditionKind::SessionLost | ConditionKind::HeartbeatTimeout
                        )
                    })
                    .cloned(),
            ),
            Verdict::Alive => {}
        }
        wanted
    }

    fn holds(&self, kind: ConditionKind) -> bool {
        self.record.conditions.iter().any(|c| c.kind == kind)
    }

    /// It was decided, and perhaps told, that nobody hears it.
    pub(super) fn is_given_up(&self) -> bool {
        self.holds(ConditionKind::SessionLost) || self.holds(ConditionKind::HeartbeatTimeout)
    }

    pub(super) fn is_impaired(&self) -> bool {
        self.record.conditions.iter().any(|c| c.kind.impairs())
    }
}
