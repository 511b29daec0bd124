//! What a watch knows of the nodes, and what each message changes in it.
//!
//! [`Picture`] is pure: messages in, changes out. After a loss the master resumes from the last
//! revision, or sends a snapshot; then the difference to what was known is told, so that nothing is
//! passed over in silence.

use std::collections::{BTreeMap, BTreeSet};

use piccolo_rpc::v1::{self, watch_nodes_response::Item};

use super::table::{container_state, reason};
use crate::{text::clean, words};

/// All nodes that the watch has seen and not seen removed.
#[derive(Debug, Default)]
pub struct Picture {
    nodes: BTreeMap<String, v1::Node>,
    /// Of the newest message: where to resume.
    revision: u64,
    /// Ids seen in the snapshot that is being received.
    snapshot: Option<BTreeSet<String>>,
    /// A whole snapshot has been seen.
    complete: bool,
}

/// What one message changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The node was there when the watch began.
    Found(Box<v1::Node>),
    Added(Box<v1::Node>),
    Updated {
        before: Box<v1::Node>,
        after: Box<v1::Node>,
    },
    Removed(Box<v1::Node>),
    /// The master could not resume and sends everything again.
    Resync(String),
    /// The first snapshot is complete.
    Complete,
}

impl Picture {
    pub fn nodes(&self) -> impl Iterator<Item = &v1::Node> {
        self.nodes.values()
    }

    pub fn get(&self, id: &str) -> Option<&v1::Node> {
        self.nodes.get(id)
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Where a new stream should begin. 0, a snapshot, while none was seen whole.
    pub fn resume_from(&self) -> u64 {
        if self.complete && self.snapshot.is_none() { self.revision } else { 0 }
    }

    pub fn apply(&mut self, message: v1::WatchNodesResponse) -> Vec<Change> {
        let revision = message.revision;
        let changes = match message.item {
            Some(Item::Changed(node)) => self.changed(node),
            Some(Item::Removed(id)) => self.nodes.remove(&id).map(removed).into_iter().collect(),
            Some(Item::SnapshotBegin(begin)) => {
                self.snapshot = Some(BTreeSet::new());
                let again = self.complete.then_some(Change::Resync(begin.reason));
                again.into_iter().collect()
            }
            Some(Item::SnapshotEnd(_)) => self.snapshot_ended(),
            // an item of a newer master
            None => vec![],
        };
        if revision > 0 {
            self.revision = revision;
        }
        changes
    }

    fn changed(&mut self, node: v1::Node) -> Vec<Change> {
        if let Some(seen) = &mut self.snapshot {
            seen.insert(node.id.clone());
        }
        let before = self.nodes.insert(node.id.clone(), node.clone());
        let after = Box::new(node);
        match before {
            Some(before) if before == *after => vec![],
            Some(before) => vec![Change::Updated { before: Box::new(before), after }],
            None if self.complete => vec![Change::Added(after)],
            None => vec![Change::Found(after)],
        }
    }

    fn snapshot_ended(&mut self) -> Vec<Change> {
        let seen = self.snapshot.take().unwrap_or_default();
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.nodes).into_iter().partition(|(id, _)| seen.contains(id));
        self.nodes = kept;
        let first = !std::mem::replace(&mut self.complete, true);
        gone.into_values().map(removed).chain(first.then_some(Change::Complete)).collect()
    }
}

fn removed(node: v1::Node) -> Change {
    Change::Removed(Box::new(node))
}

/// A change in words, one line for each thing that changed. Heartbeats and metrics change all the
/// time and say nothing here.
pub fn lines(change: &Change) -> Vec<String> {
    let line = |node: &v1::Node, what: &str| format!("{}  {}", clean(&node.name), clean(what));
    match change {
        Change::Found(node) => vec![line(node, &state(node))],
        Change::Added(node) => vec![line(node, &format!("added, {}", state(node)))],
        Change::Removed(node) => vec![line(node, "removed")],
        Change::Updated { before, after } => {
            differences(before, after).iter().map(|what| line(after, what)).collect()
        }
        Change::Resync(_) | Change::Complete => vec![],
    }
}

fn state(node: &v1::Node) -> String {
    match reason(node).as_str() {
        "-" => words::status(node.status),
        reason => format!("{} ({reason})", words::status(node.status)),
    }
}

fn differences(before: &v1::Node, after: &v1::Node) -> Vec<String> {
    let mut all = Vec::new();
    if before.status != after.status {
        all.push(format!("{} -> {}", words::status(before.status), state(after)));
    }
    conditions(before, after, &mut all);
    let texts = [
        ("name", &before.name, &after.name),
        ("address", &before.ip, &after.ip),
        ("NodeAgent", &before.agent_version, &after.agent_version),
        ("Podman", &before.runtime_version, &after.runtime_version),
    ];
    for (what, old, new) in texts {
        if old != new {
            all.push(format!("{what} {old:?} -> {new:?}"));
        }
    }
    if before.connected != after.connected {
        all.push(if after.connected { "session open" } else { "session closed" }.to_owned());
    }
    if before.applied_generation != after.applied_generation {
        all.push(format!("generation {} applied", after.applied_generation));
    }
    if before.labels != after.labels {
        all.push(format!("labels {}", super::table::labels(after)));
    }
    containers(before, after, &mut all);
    all
}

fn conditions(before: &v1::Node, after: &v1::Node, all: &mut Vec<String>) {
    let has = |node: &v1::Node, kind: &str| node.conditions.iter().any(|c| c.kind == kind);
    for condition in &after.conditions {
        if !has(before, &condition.kind) {
            all.push(format!("{}: {}", condition.kind, condition.message));
        }
    }
    for condition in &before.conditions {
        if !has(after, &condition.kind) {
            all.push(format!("{} is over", condition.kind));
        }
    }
}

fn containers(before: &v1::Node, after: &v1::Node, all: &mut Vec<String>) {
    let of = |node: &v1::Node| -> BTreeMap<String, (String, String)> {
        let states = node.containers.iter().map(|container| {
            (container.id.clone(), (container.name.clone(), container_state(container)))
        });
        states.collect()
    };
    let (old, new) = (of(before), of(after));
    for (id, (name, state)) in &new {
        match old.get(id) {
            Some((_, was)) if was == state => {}
            Some((_, was)) => all.push(format!("container {name}: {was} -> {state}")),
            None => all.push(format!("container {name}: {state}")),
        }
    }
    for (id, (name, _)) in &old {
        if !new.contains_key(id) {
            all.push(format!("container {name}: removed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(id: &str, status: v1::NodeStatus) -> v1::Node {
        v1::Node {
            id: id.to_owned(),
            name: id.to_uppercase(),
            status: status as i32,
            ..v1::Node::default()
        }
    }

    fn begin(revision: u64) -> v1::WatchNodesResponse {
        let begin = v1::SnapshotBegin { reason: "too old".to_owned() };
        v1::WatchNodesResponse { item: Some(Item::SnapshotBegin(begin)), revision }
    }

    fn end(revision: u64) -> v1::WatchNodesResponse {
        let item = Some(Item::SnapshotEnd(v1::SnapshotEnd {}));
        v1::WatchNodesResponse { item, revision }
    }

    fn changed(node: v1::Node, revision: u64) -> v1::WatchNodesResponse {
        v1::WatchNodesResponse { item: Some(Item::Changed(node)), revision }
    }

    /// Applies messages and gives the lines that a pipe would get.
    fn told(picture: &mut Picture, messages: Vec<v1::WatchNodesResponse>) -> Vec<String> {
        messages
            .into_iter()
            .flat_map(|message| picture.apply(message))
            .flat_map(|change| lines(&change))
            .collect()
    }

    fn begun() -> Picture {
        let mut picture = Picture::default();
        let first = vec![
            begin(7),
            changed(node("a", v1::NodeStatus::Ready), 3),
            changed(node("b", v1::NodeStatus::Ready), 7),
            end(7),
        ];
        assert_eq!(told(&mut picture, first), ["A  Ready", "B  Ready"]);
        picture
    }

    #[test]
    fn changes_are_told_one_by_one() {
        let mut picture = begun();
        let mut lost = node("a", v1::NodeStatus::NotReady);
        lost.conditions.push(v1::Condition {
            kind: "SessionLost".to_owned(),
            message: "no beat for 3 s\u{1b}[2J".to_owned(),
            ..v1::Condition::default()
        });
        let messages = vec![
            changed(lost, 8),
            changed(node("a", v1::NodeStatus::Ready), 9),
            changed(node("c", v1::NodeStatus::Pending), 10),
            v1::WatchNodesResponse { item: Some(Item::Removed("b".to_owned())), revision: 11 },
        ];
        let expect = [
            "A  Ready -> NotReady (SessionLost)",
            "A  SessionLost: no beat for 3 s\\u{1b}[2J",
            "A  NotReady -> Ready",
            "A  SessionLost is over",
            "C  added, Pending",
            "B  removed",
        ];
        assert_eq!(told(&mut picture, messages), expect);
        assert_eq!(picture.resume_from(), 11);
    }

    #[test]
    fn a_beating_heart_is_no_news() {
        let mut picture = begun();
        let mut beating = node("a", v1::NodeStatus::Ready);
        beating.metrics.insert("cpu_basis_points".to_owned(), "12".to_owned());
        beating.revision = 12;
        assert!(told(&mut picture, vec![changed(beating, 12)]).is_empty());
    }

    #[test]
    fn a_snapshot_after_a_loss_tells_what_was_missed() {
        let mut picture = begun();
        let again = vec![
            begin(20),
            changed(node("b", v1::NodeStatus::Maintenance), 19),
            changed(node("c", v1::NodeStatus::Ready), 20),
            end(20),
        ];
        let expect = ["B  Ready -> Maintenance", "C  added, Ready", "A  removed"];
        assert_eq!(told(&mut picture, again), expect);
        assert_eq!(picture.nodes().count(), 2);
        assert_eq!(picture.resume_from(), 20);
    }

    #[test]
    fn a_snapshot_that_broke_off_is_asked_for_again() {
        let mut picture = begun();
        told(&mut picture, vec![begin(30), changed(node("b", v1::NodeStatus::Ready), 30)]);
        assert_eq!(picture.resume_from(), 0);
        assert_eq!(picture.nodes().count(), 2, "nothing is forgotten before the end");
    }

    #[test]
    fn a_new_cluster_state_with_smaller_revisions_is_followed() {
        let mut picture = begun();
        told(&mut picture, vec![begin(2), changed(node("a", v1::NodeStatus::Ready), 2), end(2)]);
        assert_eq!(picture.resume_from(), 2);
    }

    #[test]
    fn containers_are_compared_by_id() {
        let mut picture = begun();
        let container = |state: &str, code: Option<i32>| v1::ContainerStatus {
            id: "c1".to_owned(),
            name: "web".to_owned(),
            state: state.to_owned(),
            exit_code: code,
            ..v1::ContainerStatus::default()
        };
        let with = |container: Option<v1::ContainerStatus>| v1::Node {
            containers: container.into_iter().collect(),
            ..node("a", v1::NodeStatus::Ready)
        };
        let messages = vec![
            changed(with(Some(container("running", None))), 8),
            changed(with(Some(container("exited", Some(137)))), 9),
            changed(with(None), 10),
        ];
        let expect = [
            "A  container web: running",
            "A  container web: running -> exited (137)",
            "A  container web: removed",
        ];
        assert_eq!(told(&mut picture, messages), expect);
    }

    fn any_message() -> impl Strategy<Value = v1::WatchNodesResponse> {
        let id = || prop::sample::select(vec!["a", "b", "c"]);
        let item = prop_oneof![
            6 => (id(), 1..=6).prop_map(|(id, status)| {
                let node = node(id, v1::NodeStatus::Ready);
                Some(Item::Changed(v1::Node { status, ..node }))
            }),
            2 => id().prop_map(|id| Some(Item::Removed(id.to_owned()))),
            1 => Just(Some(Item::SnapshotBegin(v1::SnapshotBegin::default()))),
            1 => Just(Some(Item::SnapshotEnd(v1::SnapshotEnd {}))),
            1 => Just(None),
        ];
        (item, 0_u64..50).prop_map(|(item, revision)| v1::WatchNodesResponse { item, revision })
    }

    proptest! {
        #[test]
        fn whoever_follows_the_changes_knows_the_whole(
            messages in prop::collection::vec(any_message(), 0..60),
        ) {
            let mut picture = Picture::default();
            let mut followed = BTreeMap::new();
            for message in messages {
                let begins = matches!(message.item, Some(Item::SnapshotBegin(_)));
                for change in picture.apply(message) {
                    match change {
                        Change::Found(node) | Change::Added(node) => {
                            prop_assert!(followed.insert(node.id.clone(), *node).is_none());
                        }
                        Change::Updated { before, after } => {
                            let known = followed.insert(after.id.clone(), *after);
                            prop_assert_eq!(known, Some(*before));
                        }
                        Change::Removed(node) => {
                            prop_assert_eq!(followed.remove(&node.id), Some(*node));
                        }
                        Change::Resync(_) | Change::Complete => {}
                    }
                }
                prop_assert!(!begins || picture.resume_from() == 0);
                prop_assert_eq!(&followed, &picture.nodes);
            }
        }
    }
}
