//! Nodes, and what their checks and probes found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{event::EventView, time, words};
use crate::v1;

/// `piccolo node list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Nodes))]
pub struct NodesView {
    pub nodes: Vec<NodeView>,
    /// A watch from here misses nothing.
    pub revision: u64,
}

/// `piccolo node describe`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = DescribedNodes))]
pub struct DescribedNodesView {
    pub nodes: Vec<DescribedView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Described))]
pub struct DescribedView {
    pub node: NodeView,
    /// Its newest, ascending.
    pub recent_events: Vec<EventView>,
    /// Of the topology; the node has applied its own `applied_generation`.
    pub newest_generation: u64,
}

impl DescribedView {
    #[must_use]
    pub fn new(node: &v1::Node, recent: &[v1::Event], newest_generation: u64) -> Self {
        let recent_events = recent.iter().map(EventView::from).collect();
        Self { node: NodeView::from(node), recent_events, newest_generation }
    }
}

/// One node (HLD §6.1).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Node))]
pub struct NodeView {
    pub id: String,
    pub name: String,
    pub ip: String,
    pub role: String,
    pub kind: String,
    pub status: String,
    pub status_since: Option<String>,
    pub connected: bool,
    pub conditions: Vec<ConditionView>,
    pub resources: ResourcesView,
    pub created_at: Option<String>,
    pub last_heartbeat: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub containers: Vec<ContainerView>,
    /// When they were so: of a node that is not connected, the last that is known.
    pub containers_at: Option<String>,
    pub metrics: BTreeMap<String, String>,
    pub agent_version: String,
    pub architecture: String,
    pub os: String,
    pub kernel: String,
    pub runtime_version: String,
    pub applied_generation: u64,
    pub certificate_expires_at: Option<String>,
    pub revision: u64,
    /// The newest that the node has told.
    pub system_check: Option<SystemCheckView>,
    /// What it has read of its hardware, in the same shape.
    pub hardware: Option<SystemCheckView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Condition))]
pub struct ConditionView {
    pub kind: String,
    pub reason: String,
    pub message: String,
    pub since: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Resources))]
pub struct ResourcesView {
    /// Cores.
    pub cpu: u32,
    /// MB.
    pub memory: u64,
    /// GB.
    pub disk: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Container))]
pub struct ContainerView {
    pub id: String,
    pub name: String,
    pub image: String,
    pub state: String,
    pub exit_code: Option<i32>,
    pub health: Option<String>,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub memory_bytes: u64,
    /// Of one core: 10000 is a whole core.
    pub cpu_basis_points: u32,
    pub restarts: u32,
    /// What recovery is asked for: `on-failure` or `always`.
    pub restart: Option<String>,
}

/// What the system check of a node found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = SystemCheck))]
pub struct SystemCheckView {
    /// By the node's clock.
    pub at: Option<String>,
    /// Findings that are `ok`, shown or not.
    pub passed: usize,
    /// Of a node: those that are not `ok`. Of `piccolo node check`: all. The worst first.
    pub findings: Vec<FindingView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Finding))]
pub struct FindingView {
    pub name: String,
    /// `ok`, `warning` or `error`.
    pub level: String,
    pub value: String,
    pub limit: String,
    pub remedy: String,
}

/// `piccolo node check`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Checked))]
pub struct CheckedView {
    pub node: NodeView,
    pub system_check: SystemCheckView,
}

impl From<&v1::Node> for NodeView {
    fn from(node: &v1::Node) -> Self {
        let resources = node.resources.unwrap_or_default();
        Self {
            id: node.id.clone(),
            name: node.name.clone(),
            ip: node.ip.clone(),
            role: words::role(node.role),
            kind: words::kind(node.kind),
            status: words::status(node.status),
            status_since: time(node.status_since.as_ref()),
            connected: node.connected,
            conditions: node.conditions.iter().map(ConditionView::from).collect(),
            resources: ResourcesView {
                cpu: resources.cpu,
                memory: resources.memory,
                disk: resources.disk,
            },
            created_at: time(node.created_at.as_ref()),
            last_heartbeat: time(node.last_heartbeat.as_ref()),
            labels: node.labels.clone().into_iter().collect(),
            containers: node.containers.iter().map(ContainerView::from).collect(),
            containers_at: time(node.containers_at.as_ref()),
            metrics: node.metrics.clone().into_iter().collect(),
            agent_version: node.agent_version.clone(),
            architecture: node.architecture.clone(),
            os: node.os.clone(),
            kernel: node.kernel.clone(),
            runtime_version: node.runtime_version.clone(),
            applied_generation: node.applied_generation,
            certificate_expires_at: time(node.certificate_expires_at.as_ref()),
            revision: node.revision,
            system_check: node.system_check.as_ref().map(SystemCheckView::from),
            hardware: node.hardware.as_ref().map(SystemCheckView::from),
        }
    }
}

impl From<&v1::Condition> for ConditionView {
    fn from(condition: &v1::Condition) -> Self {
        Self {
            kind: condition.kind.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since: time(condition.since.as_ref()),
        }
    }
}

impl From<&v1::ContainerStatus> for ContainerView {
    fn from(container: &v1::ContainerStatus) -> Self {
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            state: container.state.clone(),
            exit_code: container.exit_code,
            health: Some(container.health.clone()).filter(|health| !health.is_empty()),
            started_at: time(container.started_at.as_ref()),
            finished_at: time(container.finished_at.as_ref()),
            memory_bytes: container.memory_bytes,
            cpu_basis_points: container.cpu_basis_points,
            restarts: container.restarts,
            restart: Some(container.restart.clone()).filter(|restart| !restart.is_empty()),
        }
    }
}

impl From<&v1::SystemCheck> for SystemCheckView {
    fn from(check: &v1::SystemCheck) -> Self {
        let finding = |finding: &v1::CheckFinding| FindingView {
            name: finding.name.clone(),
            level: words::check_level(finding.level),
            value: finding.value.clone(),
            limit: finding.limit.clone(),
            remedy: finding.remedy.clone(),
        };
        Self {
            at: time(check.at.as_ref()),
            passed: passed(check),
            findings: check.findings.iter().map(finding).collect(),
        }
    }
}

/// One line of `piccolo node list --watch -o json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Watch))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchView {
    Changed {
        revision: u64,
        node: Box<NodeView>,
    },
    Removed {
        revision: u64,
        node_id: String,
    },
    /// What follows up to `snapshot_end` is the whole: forget what was known.
    SnapshotBegin {
        revision: u64,
        reason: String,
    },
    SnapshotEnd {
        revision: u64,
    },
}

impl WatchView {
    /// `None` for an item that a newer master may have.
    #[must_use]
    pub fn of(message: &v1::WatchNodesResponse) -> Option<Self> {
        use v1::watch_nodes_response::Item;
        let revision = message.revision;
        Some(match message.item.as_ref()? {
            Item::Changed(node) => Self::Changed { revision, node: Box::new(node.into()) },
            Item::Removed(id) => Self::Removed { revision, node_id: id.clone() },
            Item::SnapshotBegin(begin) => {
                Self::SnapshotBegin { revision, reason: begin.reason.clone() }
            }
            Item::SnapshotEnd(_) => Self::SnapshotEnd { revision },
        })
    }
}

/// Findings that are `ok`, told one by one or only counted.
fn passed(check: &v1::SystemCheck) -> usize {
    let ok = |finding: &&v1::CheckFinding| finding.level == v1::CheckLevel::Ok as i32;
    check.findings.iter().filter(ok).count() + check.passed as usize
}
