//! The cluster at a past moment.

use piccolo_core::{model::Condition, past, time::WallTime};
use serde::Serialize;

use super::{node::ConditionView, time};
use crate::convert::timestamp;

/// What kept events and present nodes tell of a past moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Past))]
pub struct PastView {
    pub at: Option<String>,
    /// Of the oldest event that is kept.
    pub kept_since: Option<String>,
    /// Events of then are kept: nodes that have been removed meanwhile are among these.
    pub whole: bool,
    /// A master was restored later from an earlier backup: what happened between is not known.
    pub in_gap: bool,
    /// By name.
    pub nodes: Vec<PastNodeView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PastNode))]
pub struct PastNodeView {
    pub id: String,
    pub name: String,
    /// Absent: nothing that is kept tells it.
    pub status: Option<String>,
    pub since: Option<String>,
    /// Of the event that tells the status.
    pub message: Option<String>,
    /// Those that have held ever since.
    pub conditions: Vec<ConditionView>,
    /// Those of which something is known.
    pub containers: Vec<PastContainerView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = PastContainer))]
pub struct PastContainerView {
    pub name: String,
    /// `running` or `exited`.
    pub state: String,
    pub exit_code: Option<i32>,
    pub since: Option<String>,
}

fn moment(at: WallTime) -> Option<String> {
    time(Some(&timestamp(at)))
}

impl From<&past::Past> for PastView {
    fn from(past: &past::Past) -> Self {
        Self {
            at: moment(past.at),
            kept_since: past.kept_since.and_then(moment),
            whole: past.is_whole,
            in_gap: past.is_in_gap,
            nodes: past.nodes.iter().map(PastNodeView::from).collect(),
        }
    }
}

impl From<&past::PastNode> for PastNodeView {
    fn from(node: &past::PastNode) -> Self {
        let condition = |held: &Condition| ConditionView {
            kind: held.kind.name().to_owned(),
            reason: held.reason.clone(),
            message: held.message.clone(),
            since: moment(held.since),
        };
        let container = |container: &past::PastContainer| PastContainerView {
            name: container.name.clone(),
            state: if container.is_running { "running" } else { "exited" }.to_owned(),
            exit_code: container.exit_code,
            since: moment(container.since),
        };
        Self {
            id: node.id.to_string(),
            name: node.name.to_string(),
            status: node.status.map(|status| status.to_string()),
            since: node.since.and_then(moment),
            message: Some(node.message.clone()).filter(|message| !message.is_empty()),
            conditions: node.conditions.iter().map(condition).collect(),
            containers: node.containers.iter().map(container).collect(),
        }
    }
}
