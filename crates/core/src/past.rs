//! The cluster at a past moment (HLD §11.1, §14.3): what the kept events and the present nodes tell of it, and no more.
//!
//! The master keeps no second history. What is so since before the moment was so at the moment; else the newest event
//! before it tells; else it is unknown, and said to be. Events are told oldest first, all that are kept: also those after
//! the moment, since they tell which nodes there were.

use std::collections::BTreeMap;

use crate::{
    model::{Condition, Event, EventKind, NodeId, NodeName, NodeRecord, NodeStatus, NodeView},
    time::WallTime,
};

#[cfg(test)]
mod tests;

/// The cluster at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub at: WallTime,
    /// Of the oldest event that is kept.
    pub kept_since: Option<WallTime>,
    /// Events of then are kept: nodes that have been removed meanwhile are among these.
    pub is_whole: bool,
    /// A master was restored later from a backup that was made before: what happened between is not known.
    pub is_in_gap: bool,
    /// By name.
    pub nodes: Vec<PastNode>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastNode {
    pub id: NodeId,
    pub name: NodeName,
    /// `None`: nothing that is kept tells it.
    pub status: Option<NodeStatus>,
    pub since: Option<WallTime>,
    /// Of the event that tells the status; empty where the present tells it.
    pub message: String,
    /// Those that have held ever since.
    pub conditions: Vec<Condition>,
    /// Those of which something is known, by name.
    pub containers: Vec<PastContainer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastContainer {
    pub name: String,
    pub is_running: bool,
    pub exit_code: Option<i32>,
    pub since: WallTime,
}

/// What an event says of the status of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is one: which status it began with is told by what came next.
    Joined,
    Is(NodeStatus),
    Gone,
}

const STEPS: [(EventKind, Step); 11] = [
    (EventKind::NodeRegistered, Step::Joined),
    (EventKind::NodeAdopted, Step::Joined),
    (EventKind::NodeApproved, Step::Is(NodeStatus::Initializing)),
    (EventKind::NodeInitializing, Step::Is(NodeStatus::Initializing)),
    (EventKind::NodeReady, Step::Is(NodeStatus::Ready)),
    (EventKind::NodeNotReady, Step::Is(NodeStatus::NotReady)),
    (EventKind::NodeMaintenance, Step::Is(NodeStatus::Maintenance)),
    // until it is seen to be well
    (EventKind::NodeMaintenanceEnded, Step::Is(NodeStatus::NotReady)),
    (EventKind::NodeRemoved, Step::Gone),
    (EventKind::NodeRejected, Step::Gone),
    (EventKind::NodeReplaced, Step::Gone),
];

/// The status of a node that has just joined, by what came next.
const STATUS_BEFORE: [(EventKind, NodeStatus); 4] = [
    (EventKind::NodeApproved, NodeStatus::Pending),
    (EventKind::NodeRejected, NodeStatus::Pending),
    (EventKind::NodeReady, NodeStatus::Initializing),
    (EventKind::NodeNotReady, NodeStatus::Initializing),
];

/// Whether a container runs then; `None`: it is gone.
const CONTAINER_STEPS: [(EventKind, Option<bool>); 4] = [
    (EventKind::ContainerStarted, Some(true)),
    (EventKind::ContainerDied, Some(false)),
    (EventKind::ContainerExited, Some(false)),
    (EventKind::ContainerRemoved, None),
];

#[derive(Debug)]
struct Told {
    step: Step,
    at: WallTime,
    message: String,
}

/// What the events tell of one node.
#[derive(Debug)]
struct Line {
    name: NodeName,
    /// The newest step before the moment.
    last: Option<Told>,
    /// The first after it.
    next: Option<EventKind>,
    /// By id, `None` once one is removed; with when that was told.
    containers: BTreeMap<String, (WallTime, Option<PastContainer>)>,
}

/// Events become the cluster at a moment.
#[derive(Debug)]
pub struct Fold {
    at: WallTime,
    kept_since: Option<WallTime>,
    /// Of the event before.
    before: Option<WallTime>,
    is_in_gap: bool,
    lines: BTreeMap<NodeId, Line>,
}

impl Fold {
    pub fn new(at: WallTime) -> Self {
        Self { at, kept_since: None, before: None, is_in_gap: false, lines: BTreeMap::new() }
    }

    /// The next event.
    pub fn push(&mut self, event: &Event) {
        let is_master = event.node_sequence == 0;
        // agents have clocks of their own, and tell late
        if is_master {
            self.kept_since.get_or_insert(event.at);
            let lost = self.before.is_some_and(|before| before <= self.at) && self.at < event.at;
            self.is_in_gap |= lost && event.kind == EventKind::ClusterRestored;
            self.before = Some(event.at);
        }
        let (Some(id), Some(name)) = (&event.node, &event.node_name) else { return };
        let step = STEPS.iter().find(|(kind, _)| *kind == event.kind && is_master);
        let line = self.lines.entry(id.clone()).or_insert_with(|| Line::new(name));
        match step {
            Some((_, step)) if event.at <= self.at => {
                line.name = name.clone();
                line.last =
                    Some(Told { step: *step, at: event.at, message: event.message.clone() });
            }
            Some((kind, _)) => {
                line.next.get_or_insert(*kind);
            }
            None if event.at <= self.at => line.contain(event),
            None => {}
        }
    }

    /// `present`: all nodes as they are now, after the newest event.
    pub fn finish<'a>(mut self, present: impl Iterator<Item = &'a NodeView>) -> Past {
        let mut nodes = Vec::new();
        let was_there = |node: &&NodeView| {
            let NodeRecord { status, status_since, created_at, .. } = &node.record;
            let has_left = *status == NodeStatus::Terminating && *status_since <= self.at;
            *created_at <= self.at && !has_left
        };
        for node in present.filter(was_there) {
            let line = self.lines.remove(&node.record.id);
            nodes.push(of_present(node, line, self.at));
        }
        nodes.extend(self.lines.into_iter().filter_map(|(id, line)| of_gone(id, line)));
        nodes.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()).then_with(|| a.id.cmp(&b.id)));
        Past {
            at: self.at,
            kept_since: self.kept_since,
            is_whole: self.kept_since.is_some_and(|since| since <= self.at),
            is_in_gap: self.is_in_gap,
            nodes,
        }
    }
}

impl Line {
    fn new(name: &NodeName) -> Self {
        Self { name: name.clone(), last: None, next: None, containers: BTreeMap::new() }
    }

    fn contain(&mut self, event: &Event) {
        let told = CONTAINER_STEPS.iter().find(|(kind, _)| *kind == event.kind);
        let Some((_, is_running)) = told.copied() else { return };
        let field = |key: &str| event.fields.get(key).cloned();
        let (Some(id), Some(name)) = (field("id"), field("container")) else { return };
        if self.containers.get(&id).is_some_and(|(told, _)| *told > event.at) {
            return;
        }
        let exit_code = field("exit_code").and_then(|code| code.parse().ok());
        let exit_code = exit_code.filter(|_| is_running == Some(false));
        let made = |is_running| PastContainer { name, is_running, exit_code, since: event.at };
        self.containers.insert(id, (event.at, is_running.map(made)));
    }

    fn status(&self) -> Option<NodeStatus> {
        match self.last.as_ref()?.step {
            Step::Is(status) => Some(status),
            Step::Gone => None,
            Step::Joined => {
                let begun = STATUS_BEFORE.iter().find(|(kind, _)| Some(*kind) == self.next);
                begun.map(|(_, status)| *status)
            }
        }
    }

    fn into_node(self, id: NodeId) -> PastNode {
        let status = self.status();
        let (since, message) = match self.last {
            Some(told) => (Some(told.at), told.message),
            None => (None, String::new()),
        };
        let containers = self.containers.into_values().filter_map(|(_, container)| container);
        let (name, conditions) = (self.name, Vec::new());
        let mut containers: Vec<_> = containers.collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        PastNode { id, name, status, since, message, conditions, containers }
    }
}

/// What has been so since before the moment was so at it.
fn of_present(node: &NodeView, line: Option<Line>, at: WallTime) -> PastNode {
    let record = &node.record;
    let mut line = line.unwrap_or_else(|| Line::new(&record.name));
    for container in &node.containers {
        let is_running = container.is_running();
        let since = if is_running { container.started_at } else { container.finished_at };
        let Some(since) = since.filter(|since| *since <= at) else { continue };
        if is_running || container.has_ended() {
            let name = container.name.clone();
            let exit_code = container.exit_code.filter(|_| !is_running);
            let so = PastContainer { name, is_running, exit_code, since };
            line.containers.insert(container.id.clone(), (at, Some(so)));
        }
    }
    let mut past = line.into_node(record.id.clone());
    if record.status_since <= at {
        if past.since != Some(record.status_since) {
            past.message.clear();
        }
        (past.status, past.since) = (Some(record.status), Some(record.status_since));
    }
    let held = record.conditions.iter().filter(|condition| condition.since <= at);
    past.conditions = held.cloned().collect();
    past
}

/// Of a node that is not there any more, where it was then.
fn of_gone(id: NodeId, line: Line) -> Option<PastNode> {
    let was_there = match (&line.last, line.next) {
        (Some(told), _) => told.step != Step::Gone,
        (None, Some(next)) => {
            !STEPS.iter().any(|(kind, step)| *kind == next && *step == Step::Joined)
        }
        (None, None) => false,
    };
    was_there.then(|| line.into_node(id))
}
