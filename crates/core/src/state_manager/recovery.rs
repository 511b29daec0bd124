//! The master's part of recovery (HLD §10): what operators want of it, nodes that are silent, and probes.
//!
//! What fails on a node the node itself works on; it tells where that stands, and is told whether to. Of a
//! node that is silent nobody tells anything: there the master goes by the same plan. A probe asks more of
//! a node than beats: that its Podman answers, and that its disk takes a write.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Answer, COMMAND_TIMEOUT, Effect, PARKED_MAX, Parked, RequestId, StateManager,
    log::{Draft, bounded},
    node::Node,
    outbox::Outbox,
};
use crate::{
    action_controller::recovery::{
        Failure, Hold, Line, Next, Policy, REBOOT_WAIT, Step,
        plan::{changes_at, plan, tells_of_reboot},
    },
    api_server::{Code, Refusal},
    model::{
        ConditionKind, EventKind, FieldError, NodeId, NodeRecord, NodeStatus, ProbePart,
        ProbeReport, RECOVERY_LINES_MAX, RecoveryReport, SessionId, Severity,
    },
    session::{AgentCommand, RecoveryOrders, ToAgent},
    time::{Now, Timestamp, WallTime},
};

/// Of a pause at most: what is paused for longer was forgotten.
const PAUSE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// For a probe to be answered; a silent disk or Podman is told by the agent before that.
const PROBE_LIMIT: Duration = Duration::from_secs(15);
/// Until the next one where something could not be proved: it may have been mended.
const PROBE_AGAIN: Duration = Duration::from_secs(30);
/// The way there and back, of which it is told when it takes longer.
const LOOP_SLOW: Duration = Duration::from_secs(2);

/// Probes of one node: one at a time.
#[derive(Debug, Default)]
pub(super) struct Probing {
    /// When the next is due; `None` without a session.
    due: Option<Timestamp>,
    under_way: Option<UnderWay>,
    pub(super) newest: Option<ProbeReport>,
}

#[derive(Debug)]
struct UnderWay {
    command: String,
    since: Timestamp,
}

impl Probing {
    pub(super) fn wants_at(&self) -> Option<Timestamp> {
        match &self.under_way {
            Some(under_way) => Some(under_way.since + PROBE_LIMIT),
            None => self.due,
        }
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.newest.as_ref().and_then(ProbeReport::problem).map(|problem| bounded(&problem))
    }

    /// The session is over: what it asked is not answered any more.
    pub(super) fn stop(&mut self) {
        (self.due, self.under_way) = (None, None);
    }
}

impl Node {
    /// Points in time are by the node's clock, which may be wrong; they are kept by ours. Whether the record is
    /// another one by it.
    pub(super) fn take_recovery(
        &mut self,
        mut told: RecoveryReport,
        clock: Option<WallTime>,
        now: WallTime,
    ) -> bool {
        let by = clock.map_or(0, |clock| now.0.saturating_sub(clock.0));
        let ours = |at: WallTime| WallTime(at.0.saturating_add(by));
        for line in &mut told.lines {
            line.since = ours(line.since);
            line.next_at = line.next_at.map(ours);
        }
        let reboots = told.lines.iter().any(tells_of_reboot);
        let since = reboots.then(|| self.record.reboots_since.unwrap_or(now));
        self.recovery = told;
        std::mem::replace(&mut self.record.reboots_since, since) != since
    }

    pub(super) fn recovery_view(&self) -> RecoveryReport {
        let mut all = self.own_recovery.clone();
        all.extend(self.recovery.lines.iter().cloned());
        all.truncate(RECOVERY_LINES_MAX);
        RecoveryReport { lines: all, ..self.recovery }
    }
}

impl StateManager {
    pub(super) fn recovery_orders(&self, now: Now, id: &NodeId) -> RecoveryOrders {
        let Some(node) = self.nodes.get(id) else { return RecoveryOrders::default() };
        let until = node.record.recovery_paused_until.unwrap_or_default();
        RecoveryOrders {
            paused_for: until.since(now.wall),
            maintenance: node.record.status == NodeStatus::Maintenance,
        }
    }

    pub(super) fn send_recovery_orders(&self, now: Now, out: &mut Outbox, id: &NodeId) {
        let node = self.nodes.get(id).filter(|node| node.recovers);
        let Some(session) = node.and_then(|node| node.session.clone()) else { return };
        let message = ToAgent::Recovery(self.recovery_orders(now, id));
        out.effects.push(Effect::Send { node: id.clone(), session, message });
    }

    pub(super) fn check_recovers(&self, id: &NodeId) -> Result<(), Refusal> {
        if self.nodes.get(id).is_some_and(|node| node.recovers) {
            return Ok(());
        }
        let message = "the agent of this node is too old to know of recovery";
        Err(Refusal::new(Code::FailedPrecondition, "AgentTooOld", message)
            .help("install the newer release there"))
    }

    /// Kept in the record: it outlives sessions, and the master's restart.
    pub(super) fn pause_recovery(
        &mut self,
        now: Now,
        out: &mut Outbox,
        node: &str,
        span: Duration,
    ) -> Result<Answer, Refusal> {
        if span > PAUSE_MAX {
            return Err(FieldError::new("pause_seconds", "is more than seven days").into());
        }
        let id = self.find(node)?;
        if let Some(node) = self.nodes.get_mut(&id) {
            let name = node.record.name.clone();
            let until = (!span.is_zero()).then(|| now.wall.plus(span));
            node.record.recovery_paused_until = until;
            let (kind, message) = if until.is_some() {
                let minutes = span.as_secs().div_ceil(60);
                let message = format!("the recovery of node {name} is paused for {minutes} min");
                (EventKind::RecoveryPaused, message)
            } else {
                (EventKind::RecoveryResumed, format!("the recovery of node {name} goes on"))
            };
            let draft = Draft::of(&node.record, Severity::Info, kind, message);
            out.touch(&id);
            self.happened(now, out, draft);
        }
        self.send_recovery_orders(now, out, &id);
        self.settle(now, out, &id);
        Ok(Answer::Node(Box::new(self.node_view(&id))))
    }

    /// Three missed heartbeats are what lets recovery act. Before that, and while it boots, it is told what is
    /// waited for.
    pub(super) fn recover_silent(&mut self, now: Now, out: &mut Outbox, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let silent_at = node.detector.timeout_at(&node.timing);
        let (record, memory) = (&mut node.record, &mut node.recovering);
        let leaves = record.status == NodeStatus::Terminating;
        let since = |kind: ConditionKind| {
            let conditions = record.conditions.iter().filter(|_| !leaves);
            conditions.filter(|c| c.kind == kind).map(|c| c.since).next()
        };
        let silent = since(ConditionKind::HeartbeatTimeout).is_some();
        let lost = since(ConditionKind::SessionLost);
        if !silent && lost.is_none() && memory.is_empty() && node.own_recovery.is_empty() {
            return;
        }
        let failing: BTreeSet<_> = silent.then_some(Failure::Silent).into_iter().collect();
        let hold = hold(record, now);
        let policy = Policy::default();
        memory.observe(&failing, &policy, now, &mut || 0);
        let mut alerts = Vec::new();
        for line in plan(&policy, hold, memory, now.at) {
            if line.next != Next::Attempt {
                continue;
            }
            memory.begin(&line.failure, line.step, now);
            if line.step == Step::Alert {
                let is = if record.reboots_since.is_some() { "was to reboot" } else { "is silent" };
                let message = format!("node {} {is}, and does not come back", record.name);
                let kind = EventKind::PersonNeeded;
                alerts.push(Draft::of(record, Severity::Critical, kind, message));
            }
        }
        let mut lines = plan(&policy, hold, memory, now.at);
        node.recover_at = changes_at(&lines, now.at);
        if let Some(since) = lost.filter(|_| !silent) {
            // that it was well again is over
            lines = vec![Line::of_lost_session(since, hold, silent_at)];
        }
        node.own_recovery = lines.iter().map(|line| line.told(&policy, now)).collect();
        let stored = memory.stored();
        if record.recovery != stored {
            record.recovery = stored;
            out.touch(id);
        }
        for draft in alerts {
            self.happened(now, out, draft.field("failure", "node"));
        }
    }

    /// The first comes within the interval, at a point of the node's own: not all at once after our start; and soon
    /// where the newest, of an earlier session, proved something wrong.
    pub(super) fn begin_probing(&mut self, now: Now, id: &NodeId) {
        let interval = self.settings.probe_interval;
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.probing.stop();
        if !node.recovers {
            return;
        }
        let sum = id
            .as_str()
            .bytes()
            .fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let first = interval * (1 + sum % 64) / 64;
        let wrong = node.probing.problem().is_some();
        node.probing.due = Some(now.at + if wrong { first.min(PROBE_AGAIN) } else { first });
    }

    /// On the node's timer: the next probe, or the end of waiting for one.
    pub(super) fn probe_if_due(&mut self, now: Now, out: &mut Outbox, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.probing.wants_at().is_none_or(|at| at > now.at) {
            return;
        }
        if let Some(under_way) = &node.probing.under_way {
            let command = under_way.command.clone();
            let part = ProbePart {
                name: "loop".to_owned(),
                ok: false,
                took_ms: millis(PROBE_LIMIT),
                problem: format!("no answer within {} s", PROBE_LIMIT.as_secs()),
            };
            return self.take_probe(now, out, id, &command, vec![part]);
        }
        match node.session.clone() {
            Some(session) => drop(self.send_probe(now, out, id, &session)),
            None => node.probing.stop(),
        }
    }

    /// Who asks while one is under way is answered by that one.
    pub(super) fn probe_asked(
        &mut self,
        now: Now,
        out: &mut Outbox,
        request: RequestId,
        node: &str,
    ) -> Result<(), Refusal> {
        let (id, session) = self.session_of(node)?;
        self.check_recovers(&id)?;
        if self.parked.len() >= PARKED_MAX {
            return Err(Refusal::new(Code::ResourceExhausted, "Busy", "too many requests wait"));
        }
        let under_way = self.nodes.get(&id).and_then(|node| node.probing.under_way.as_ref());
        let command = match under_way.map(|under_way| under_way.command.clone()) {
            Some(command) => command,
            None => self.send_probe(now, out, &id, &session),
        };
        let until = now.at + COMMAND_TIMEOUT;
        let parked = Parked { node: id, until, command: Some(command), wants_node: true };
        self.parked.insert(request, parked);
        Ok(())
    }

    fn send_probe(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        session: &SessionId,
    ) -> String {
        self.commands_sent += 1;
        let command = format!("{}-{}", self.epoch, self.commands_sent);
        if let Some(node) = self.nodes.get_mut(id) {
            node.probing.under_way = Some(UnderWay { command: command.clone(), since: now.at });
        }
        let message = ToAgent::Command { id: command.clone(), command: AgentCommand::Probe };
        out.effects.push(Effect::Send { node: id.clone(), session: session.clone(), message });
        self.schedule(id, now.at);
        command
    }

    /// The agent's answer. The loop has proved itself by it, and how quickly.
    pub(super) fn probed(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        command: &str,
        parts: Vec<ProbePart>,
    ) {
        let Some(node) = self.nodes.get(id) else { return };
        let Some(under_way) = &node.probing.under_way else { return };
        let took = now.at.since(under_way.since);
        let others = parts.iter().map(|part| part.took_ms).max().unwrap_or(0);
        let took = took.saturating_sub(Duration::from_millis(others.into()));
        let slow = took > LOOP_SLOW;
        let problem = if slow { "slow" } else { "" }.to_owned();
        let (name, took_ms) = ("loop".to_owned(), millis(took));
        let mut all = vec![ProbePart { name, ok: !slow, took_ms, problem }];
        all.extend(parts);
        self.take_probe(now, out, id, command, all);
    }

    fn take_probe(
        &mut self,
        now: Now,
        out: &mut Outbox,
        id: &NodeId,
        command: &str,
        parts: Vec<ProbePart>,
    ) {
        let interval = self.settings.probe_interval;
        let Some(node) = self.nodes.get_mut(id) else { return };
        // the answer to one that was given up tells nothing of now
        if node.probing.under_way.as_ref().is_none_or(|under_way| under_way.command != command) {
            return;
        }
        node.probing.under_way = None;
        let report = ProbeReport { at: now.wall, parts };
        let soon = report.problem().is_some();
        let pause = if soon { interval.min(PROBE_AGAIN) } else { interval };
        node.probing.due = Some(now.at + pause);
        node.probing.newest = Some(report);
        out.change(id);
        self.settle(now, out, id);
        self.command_answered(out, id, command, true, String::new());
    }
}

fn hold(record: &NodeRecord, now: Now) -> Option<Hold> {
    if record.status == NodeStatus::Maintenance {
        return Some(Hold::Maintenance);
    }
    let paused_for = record.recovery_paused_until.unwrap_or_default().since(now.wall);
    if !paused_for.is_zero() {
        return Some(Hold::Paused { until: now.at + paused_for });
    }
    // a clock of ours that was set back holds nobody's hand
    let since = record.reboots_since.filter(|since| *since <= now.wall)?;
    let left = REBOOT_WAIT.saturating_sub(now.wall.since(since));
    (!left.is_zero()).then(|| Hold::Reboots { until: now.at + left })
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
