//! Nodes as they were at a past moment, in the shape in which nodes are told.

use piccolo_core::past::{Past, PastContainer, PastNode};

use super::{node_status_to_wire, timestamp};
use crate::v1;

impl From<&Past> for v1::Past {
    fn from(past: &Past) -> Self {
        Self {
            kept_since: past.kept_since.map(timestamp),
            whole: past.is_whole,
            in_gap: past.is_in_gap,
        }
    }
}

/// What is not known of it stays empty.
impl From<&PastNode> for v1::Node {
    fn from(node: &PastNode) -> Self {
        let status = node.status.map(node_status_to_wire).unwrap_or_default();
        Self {
            id: node.id.to_string(),
            name: node.name.to_string(),
            status: status.into(),
            status_since: node.since.map(timestamp),
            conditions: node.conditions.iter().cloned().map(Into::into).collect(),
            containers: node.containers.iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

impl From<&PastContainer> for v1::ContainerStatus {
    fn from(container: &PastContainer) -> Self {
        let PastContainer { name, is_running, exit_code, since } = container;
        let since = Some(timestamp(*since));
        Self {
            name: name.clone(),
            state: if *is_running { "running" } else { "exited" }.to_owned(),
            exit_code: *exit_code,
            started_at: since.filter(|_| *is_running),
            finished_at: since.filter(|_| !*is_running),
            ..Self::default()
        }
    }
}
