//! One node at run time: its stored record, its detector, its session, what it last told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{log::bounded, recovery::Probing};
use crate::{
    action_controller::recovery::Memory,
    failure_detector::{FailureDetector, Timing, Verdict},
    model::{
        Condition, ConditionKind, ContainerReport, LastContainers, NodeRecord, NodeStatus,
        NodeView, RecoveryLine, RecoveryReport, SessionId, SystemCheck,
    },
    mutant::mutant,
    time::{Now, Timestamp, WallTime},
    topology::Readiness,
};

/// Events of a node whose clock is this far from the master's are told at the wrong time.
const CLOCK_SKEW_RAISED: Duration = Duration::from_secs(30);
/// Not at the same value, or it would flap.
const CLOCK_SKEW_CLEARED: Duration = Duration::from_secs(10);

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
    pub(super) containers_at: Option<WallTime>,
    /// What is stored of them has the same ones in the same states.
    pub(super) containers_saved: bool,
    pub(super) metrics: BTreeMap<String, String>,
    pub(super) sampled_at: Option<WallTime>,
    /// What the agent itself has found.
    pub(super) own_conditions: Vec<Condition>,
    /// Why it could not apply the newest configuration.
    pub(super) config_rejected: Option<String>,
    /// How far its wall clock is from ours, while that is too far.
    pub(super) clock_skew: Option<String>,
    pub(super) system_check: Option<Arc<SystemCheck>>,
    pub(super) hardware: Option<Arc<SystemCheck>>,
    /// The errors of its newest system check; outlives the check itself over a restart of the master.
    pub(super) check_failed: Option<String>,
    /// It checks its system, and has not told yet what it found.
    pub(super) check_pending: bool,
    /// It takes orders about its recovery, and can be probed.
    pub(super) recovers: bool,
    pub(super) can_be_watched: bool,
    /// When it was told last that somebody looks at it.
    pub(super) watch_told_at: Option<Timestamp>,
    /// As it was told last, in the master's time.
    pub(super) recovery: RecoveryReport,
    /// What the master itself tries about it, and where that stands; the record has it as it is stored.
    pub(super) recovering: Memory,
    pub(super) own_recovery: Vec<RecoveryLine>,
    pub(super) recover_at: Option<Timestamp>,
    pub(super) probing: Probing,
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
            containers_at: None,
            containers_saved: true,
            metrics: BTreeMap::new(),
            sampled_at: None,
            own_conditions: Vec::new(),
            config_rejected: None,
            clock_skew: None,
            system_check: None,
            hardware: None,
            check_failed: None,
            check_pending: false,
            recovers: false,
            can_be_watched: false,
            watch_told_at: None,
            recovery: RecoveryReport::default(),
            recovering: Memory::default(),
            own_recovery: Vec::new(),
            recover_at: None,
            probing: Probing::default(),
            revision: 0,
            timer: None,
            gone_at: None,
            duplicate_told_at: None,
        }
    }

    pub(super) fn restored(
        record: NodeRecord,
        heard: Option<WallTime>,
        last: Option<LastContainers>,
        timing: Timing,
        now: Now,
    ) -> Self {
        let mut recovering = record.recovery.clone();
        recovering.restore(now);
        let now = now.at;
        let own = record.conditions.iter().filter(|c| c.kind.from_agent()).cloned().collect();
        let gone_at = (record.status == NodeStatus::Terminating).then_some(now);
        let told = |kind| record.conditions.iter().find(|c| c.kind == kind);
        let message = |kind| told(kind).map(|condition| condition.message.clone());
        let rejected = message(ConditionKind::ConfigRejected);
        let skew = message(ConditionKind::ClockSkew);
        // the policy may be another now: what was found is the same under both
        let check_failed = message(ConditionKind::SystemCheckFailed)
            .or_else(|| message(ConditionKind::SystemCheckTolerated));
        let (at, containers) = last.map(|last| (last.at, last.containers)).unzip();
        Self {
            last_heartbeat: heard,
            // until it was heard last they were the same, or they would have been stored anew
            containers_at: at.max(heard.filter(|_| at.is_some())),
            containers: containers.unwrap_or_default(),
            own_conditions: own,
            config_rejected: rejected,
            clock_skew: skew,
            check_failed,
            gone_at,
            recovering,
            ..Self::new(record, timing, now)
        }
    }

    /// `clock` is what the node's wall clock shows now, as far as it was not on its way for long.
    pub(super) fn clock_seen(&mut self, clock: WallTime, now: WallTime) {
        let ahead = clock >= now;
        let by = if ahead { clock.since(now) } else { now.since(clock) };
        let limit = if self.clock_skew.is_some() { CLOCK_SKEW_CLEARED } else { CLOCK_SKEW_RAISED };
        if by < limit && !mutant!("a clock that was wrong stays wrong") {
            self.clock_skew = None;
        } else if by >= limit {
            let side = if ahead { "ahead of" } else { "behind" };
            let by = roughly(by);
            self.clock_skew = Some(format!("its clock is {by} {side} the master's"));
        }
    }

    /// Their figures and restarts move all the time, and are not worth a write.
    pub(super) fn take_containers(&mut self, containers: Vec<ContainerReport>, now: WallTime) {
        let is_same = |(a, b): (&ContainerReport, &ContainerReport)| {
            (&a.name, &a.image, &a.state) == (&b.name, &b.image, &b.state)
        };
        self.containers_saved &= self.containers.len() == containers.len()
            && self.containers.iter().zip(&containers).all(is_same);
        self.containers = containers;
        self.containers_at = Some(now);
    }

    /// To store, where what is stored is not the same.
    pub(super) fn containers_to_save(&mut self) -> Option<LastContainers> {
        let at = self.containers_at.filter(|_| !self.containers_saved)?;
        self.containers_saved = true;
        Some(LastContainers::of(at, &self.containers))
    }

    /// What it found replaces what it found before, good or bad.
    pub(super) fn take_check(&mut self, check: SystemCheck) {
        if !mutant!("a check that failed stays failed") || check.has_errors() {
            self.check_failed = check.errors().map(|errors| bounded(&errors));
        }
        self.check_pending = false;
        self.system_check = Some(Arc::new(check));
    }

    /// Whether it has to tell first what its system check finds.
    pub(super) fn awaits_check(&self, readiness: Readiness) -> bool {
        readiness == Readiness::Enforce
            && self.check_pending
            && !mutant!("Ready before the system was checked")
    }

    pub(super) fn view(&self) -> NodeView {
        NodeView {
            record: self.record.clone(),
            last_heartbeat: self.last_heartbeat,
            connected: self.session.is_some(),
            containers: self.containers.clone(),
            containers_at: self.containers_at,
            metrics: self.metrics.clone(),
            sampled_at: self.sampled_at,
            system_check: self.system_check.clone(),
            hardware: self.hardware.clone(),
            recovery: self.recovery_view(),
            probe: self.probing.newest.clone(),
            revision: self.revision,
        }
    }

    /// Every condition that should be there, given what the detector says.
    pub(super) fn wanted_conditions(
        &self,
        verdict: Verdict,
        readiness: Readiness,
        now: WallTime,
    ) -> Vec<Condition> {
        let mut wanted = self.own_conditions.clone();
        let mut add = |kind: ConditionKind, message: String| {
            let reason = kind.name().to_owned();
            wanted.push(Condition { kind, reason, message, since: now });
        };
        if self.record.status == NodeStatus::Pending {
            add(ConditionKind::AwaitingApproval, "an operator has to approve it".to_owned());
        }
        if let Some(why) = &self.config_rejected {
            add(ConditionKind::ConfigRejected, why.clone());
        }
        if let Some(skew) = &self.clock_skew {
            add(ConditionKind::ClockSkew, skew.clone());
        }
        if let Some(errors) = &self.check_failed {
            add(check_condition(readiness), errors.clone());
        }
        if let Some(problem) = self.probing.problem() {
            add(ConditionKind::ProbeFailed, problem);
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

    /// What its silence means: of a node that waits for approval, nothing. Of a deadline that is due and was not served yet nothing is known before it is:
    /// after a stall its beats may wait behind what we are about.
    pub(super) fn verdict(&self, now: Timestamp) -> Verdict {
        if self.record.status == NodeStatus::Pending {
            return Verdict::Unknown;
        }
        let before = |due: Timestamp| Timestamp(due.0.saturating_sub(1));
        let due = self.timer.filter(|_| !mutant!("a deadline is judged before it is served"));
        let judged = due.map_or(now, |due| now.min(before(due)));
        self.detector.verdict(judged, &self.timing)
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

fn check_condition(readiness: Readiness) -> ConditionKind {
    match readiness {
        Readiness::Enforce if !mutant!("a failed check keeps nobody out") => {
            ConditionKind::SystemCheckFailed
        }
        Readiness::Enforce | Readiness::Warn => ConditionKind::SystemCheckTolerated,
    }
}

/// To the last whole unit: what is told of a clock that stays wrong is the same for a while.
fn roughly(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}
