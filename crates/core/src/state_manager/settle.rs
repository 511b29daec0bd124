//! Status and conditions, derived from what is known: level, not edge.
//!
//! `settle` is called after everything that may matter to a node, and brings its record to what the
//! detector, the agent and the configuration say. It keeps no progress of its own. Silence alone is judged when
//! its deadline is served, and that is after all inputs that wait.

use super::{StateManager, log::Draft, node::Node, outbox::Outbox};
use crate::{
    failure_detector::Verdict,
    model::{Condition, ConditionKind, EventKind, NodeId, NodeStatus, Severity},
    mutant::mutant,
    node_lifecycle::{NodeEvent, next},
    time::{Now, Timestamp, WallTime},
    topology::Readiness,
};

impl StateManager {
    pub(super) fn settle(&mut self, now: Now, out: &mut Outbox, id: &NodeId) {
        let generation = self.topology.generation;
        let readiness = self.readiness();
        let Some(node) = self.nodes.get_mut(id) else { return };
        let verdict = node.verdict(now.at);
        let wanted = node.wanted_conditions(verdict, readiness, now.wall);
        match merge(&mut node.record.conditions, wanted) {
            Merged::Same => {}
            Merged::InMemory => out.change(id),
            Merged::Different => out.touch(id),
        }
        let mut drafts = Vec::new();
        while let Some(status) = step(node, verdict, generation, readiness) {
            drafts.push(enter(node, status, now.wall));
            out.touch(id);
        }
        for draft in drafts {
            self.happened(now, out, draft);
        }
        self.recover_silent(now, out, id);
        self.schedule(id, now.at);
    }

    /// Sees to it that the node is looked at when its verdict may change.
    pub(super) fn schedule(&mut self, id: &NodeId, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let watched = node.record.status != NodeStatus::Pending;
        let verdict = node.detector.deadline(now, &node.timing).filter(|_| watched).map(|d| d.at);
        let wants = [verdict, node.gone_at, node.recover_at, node.probing.wants_at()];
        let Some(at) = wants.into_iter().flatten().min() else { return };
        if let Some(timer) = node.timer {
            if timer <= at {
                return;
            }
            self.timers.remove(&(timer, id.clone()));
        }
        node.timer = Some(at);
        self.timers.insert((at, id.clone()));
    }

    /// The pace that it was told: from now on it is held to that.
    pub(super) fn hold_to_timing(&mut self, id: &NodeId) {
        let timing = self.timing();
        if let Some(node) = self.nodes.get_mut(id) {
            node.timing = timing;
        }
    }

    pub(super) fn node_timer(&mut self, now: Now, out: &mut Outbox, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.timer = None;
        if node.gone_at.is_some_and(|at| at <= now.at) {
            self.forget(out, id);
            return;
        }
        // a silent session is over once its grace is: until then its beats may only be late
        let verdict = node.verdict(now.at);
        let lost = matches!(verdict, Verdict::SessionLost | Verdict::HeartbeatTimeout);
        if node.session.is_some() && lost {
            self.drop_silent_session(out, id);
        }
        self.probe_if_due(now, out, id);
        self.settle(now, out, id);
    }
}

/// The next status on the way to what is known, if there is one.
fn step(
    node: &Node,
    verdict: Verdict,
    generation: u64,
    readiness: Readiness,
) -> Option<NodeStatus> {
    let record = &node.record;
    let impaired = node.is_impaired();
    let configured =
        record.applied_generation >= generation || mutant!("Ready without configuration");
    let event = match record.status {
        NodeStatus::Initializing | NodeStatus::Ready if impaired => NodeEvent::Impaired,
        NodeStatus::Initializing
            if configured && verdict == Verdict::Alive && !node.awaits_check(readiness) =>
        {
            NodeEvent::ConfigApplied
        }
        NodeStatus::NotReady if !impaired && verdict == Verdict::Alive => {
            let initialized = record.initialized || mutant!("straight to Ready");
            NodeEvent::Recovered { initialized }
        }
        NodeStatus::Pending
        | NodeStatus::Initializing
        | NodeStatus::Ready
        | NodeStatus::NotReady
        | NodeStatus::Maintenance
        | NodeStatus::Terminating => return None,
    };
    next(record.status, event)
}

/// Puts the node into `status`, and tells why.
pub(super) fn enter(node: &mut Node, status: NodeStatus, now: WallTime) -> Draft {
    let record = &mut node.record;
    record.status = status;
    record.status_since = now;
    let (severity, kind, message) = match status {
        NodeStatus::Pending => {
            (Severity::Info, EventKind::NodeRegistered, "waits for approval".to_owned())
        }
        NodeStatus::Initializing => {
            (Severity::Info, EventKind::NodeInitializing, "gets its configuration".to_owned())
        }
        NodeStatus::Ready => {
            record.initialized = true;
            (Severity::Info, EventKind::NodeReady, "is Ready".to_owned())
        }
        NodeStatus::NotReady => {
            let why: Vec<_> = record
                .conditions
                .iter()
                .filter(|c| c.kind.impairs())
                .map(|c| format!("{}: {}", c.kind.name(), c.message))
                .collect();
            (Severity::Warning, EventKind::NodeNotReady, format!("is NotReady: {}", why.join("; ")))
        }
        NodeStatus::Maintenance => {
            (Severity::Info, EventKind::NodeMaintenance, "is in Maintenance".to_owned())
        }
        NodeStatus::Terminating => {
            (Severity::Info, EventKind::NodeRemoved, "was removed from the cluster".to_owned())
        }
    };
    let reason = record.conditions.iter().find(|c| c.kind.impairs()).map(|c| c.reason.clone());
    let draft = Draft::of(record, severity, kind, format!("node {} {message}", record.name));
    match reason {
        Some(reason) if status == NodeStatus::NotReady => draft.field("reason", reason),
        Some(_) | None => draft,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Merged {
    Same,
    InMemory,
    Different,
}

/// Brings `held` to `wanted`; what was there already keeps its `since`.
fn merge(held: &mut Vec<Condition>, mut wanted: Vec<Condition>) -> Merged {
    wanted.sort_by_key(|c| c.kind);
    wanted.dedup_by_key(|c| c.kind);
    for condition in &mut wanted {
        if let Some(before) = held.iter().find(|c| c.kind == condition.kind) {
            condition.since = before.since;
        }
    }
    // a message may carry a figure that moves with every sample: that alone is not worth a write
    let stored = |list: &[Condition]| {
        let list = list.iter().filter(|c| c.kind != ConditionKind::Suspect);
        list.map(|c| (c.kind, c.reason.clone())).collect::<Vec<_>>()
    };
    let merged = if *held == wanted {
        Merged::Same
    } else if stored(held) == stored(&wanted) {
        Merged::InMemory
    } else {
        Merged::Different
    };
    *held = wanted;
    merged
}
