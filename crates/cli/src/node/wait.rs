//! `--wait`: until nodes are what was asked for.

use std::{cell::RefCell, pin::pin, time::Duration};

use futures_util::StreamExt as _;
use piccolo_rpc::v1;
use tokio::time::{Instant, timeout_at};

use super::{table::reason, watch::Picture};
use crate::{
    connection::{Cluster, Step, follow},
    failure::Failure,
    progress::Progress,
    words,
};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// These nodes, by id, are Ready.
    Ready(Vec<String>),
    /// These nodes, by id, are no longer known.
    Gone(Vec<String>),
    /// Every member has applied this generation of the configuration, or a newer one.
    Applied(u64),
}

impl Goal {
    /// Nothing to wait for.
    pub fn is_empty(&self) -> bool {
        match self {
            Goal::Ready(ids) | Goal::Gone(ids) => ids.is_empty(),
            Goal::Applied(_) => false,
        }
    }

    /// The nodes that are not there yet, with what they are instead.
    fn missing(&self, picture: &Picture) -> Vec<String> {
        match self {
            Goal::Ready(ids) => ids
                .iter()
                .filter_map(|id| match picture.get(id) {
                    Some(node) if node.status == v1::NodeStatus::Ready as i32 => None,
                    Some(node) => Some(state(node)),
                    None => Some(format!("{id} is not a node of this cluster")),
                })
                .collect(),
            Goal::Gone(ids) => ids.iter().filter_map(|id| picture.get(id)).map(state).collect(),
            Goal::Applied(generation) => picture
                .nodes()
                .filter(|node| is_configured(node) && node.applied_generation < *generation)
                .map(|node| format!("{}, generation {}", state(node), node.applied_generation))
                .collect(),
        }
    }
}

/// A node that waits for approval, or leaves, gets no configuration.
fn is_configured(node: &v1::Node) -> bool {
    node.status != v1::NodeStatus::Pending as i32
        && node.status != v1::NodeStatus::Terminating as i32
}

fn state(node: &v1::Node) -> String {
    match reason(node).as_str() {
        "-" => format!("{} is {}", node.name, words::status(node.status)),
        reason => format!("{} is {} ({reason})", node.name, words::status(node.status)),
    }
}

/// Waits until the goal is reached.
///
/// # Errors
/// After `limit`, with the nodes that are missing; or as the watch fails.
pub async fn wait(cluster: &Cluster, goal: &Goal, limit: Duration) -> Result<(), Failure> {
    let picture = RefCell::new(Picture::default());
    let what = "cannot watch the nodes";
    let mut steps = pin!(follow(cluster, what, async |api| {
        let from_revision = picture.borrow().resume_from();
        api.watch_nodes(v1::WatchNodesRequest { filter: None, from_revision }).await
    }));
    let deadline = Instant::now() + limit;
    let mut progress = Progress::new("waiting for the nodes");
    loop {
        let step = match timeout_at(deadline, progress.over(steps.next())).await {
            Ok(Some(step)) => step?,
            Ok(None) => return Ok(()),
            Err(_) => return Err(too_late(goal, &picture.borrow(), limit)),
        };
        match step {
            Step::Item(message) => drop(picture.borrow_mut().apply(message)),
            Step::Lost(text) | Step::Back(text) => progress.say(&text),
        }
        let picture = picture.borrow();
        if picture.is_complete() {
            let missing = goal.missing(&picture);
            if missing.is_empty() {
                return Ok(());
            }
            progress.set(format!("waiting: {}", missing.join("; ")));
        }
    }
}

fn too_late(goal: &Goal, picture: &Picture, limit: Duration) -> Failure {
    let what = match goal {
        Goal::Ready(_) => "not every node is Ready",
        Goal::Gone(_) => "not every node is gone",
        Goal::Applied(_) => "not every node has applied the configuration",
    };
    let failure = Failure::failed(format!("{what} after {} s", limit.as_secs_f32()));
    let missing = goal.missing(picture);
    missing
        .into_iter()
        .fold(failure, Failure::cause)
        .help("the change itself was made; go on watching with: piccolo node list --watch")
}

#[cfg(test)]
mod tests {
    use piccolo_rpc::v1::{SnapshotBegin, SnapshotEnd, watch_nodes_response::Item};

    use super::*;

    fn picture(nodes: &[(&str, v1::NodeStatus, u64)]) -> Picture {
        let mut picture = Picture::default();
        let begin = Item::SnapshotBegin(SnapshotBegin::default());
        let changed = nodes.iter().map(|(id, status, generation)| {
            Item::Changed(v1::Node {
                id: (*id).to_owned(),
                name: (*id).to_owned(),
                status: *status as i32,
                applied_generation: *generation,
                ..v1::Node::default()
            })
        });
        for item in [begin].into_iter().chain(changed).chain([Item::SnapshotEnd(SnapshotEnd {})]) {
            picture.apply(v1::WatchNodesResponse { item: Some(item), revision: 1 });
        }
        picture
    }

    #[test]
    fn what_is_missing_is_named_with_its_state() {
        use v1::NodeStatus::{Initializing, NotReady, Pending, Ready, Terminating};
        let picture = picture(&[
            ("a", Ready, 4),
            ("b", Initializing, 3),
            ("c", NotReady, 4),
            ("p", Pending, 0),
            ("t", Terminating, 0),
        ]);
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (goal, expect) in [
            (Goal::Ready(ids(&["a"])), vec![]),
            (
                Goal::Ready(ids(&["a", "b", "x"])),
                vec!["b is Initializing", "x is not a node of this cluster"],
            ),
            (Goal::Gone(ids(&["x"])), vec![]),
            (Goal::Gone(ids(&["t"])), vec!["t is Terminating"]),
            (Goal::Applied(4), vec!["b is Initializing, generation 3"]),
            (Goal::Applied(3), vec![]),
        ] {
            assert_eq!(goal.missing(&picture), expect, "{goal:?}");
        }
    }
}
