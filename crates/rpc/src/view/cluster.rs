//! The cluster as a whole, and what is wrong with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{time, words};
use crate::v1;

/// What programs read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Status))]
pub struct StatusView {
    pub cluster_id: String,
    pub cluster_name: String,
    pub master_version: String,
    pub master_address: String,
    pub started_at: Option<String>,
    pub now: Option<String>,
    pub store_kind: String,
    /// `ok`, or what is wrong.
    pub store_health: String,
    pub store_size_bytes: u64,
    pub revision: u64,
    pub generation: u64,
    pub nodes_by_status: BTreeMap<String, u32>,
    pub containers_running: u32,
    pub containers_total: u32,
    pub sessions: u32,
    pub watchers: u32,
    /// `auto` or `manual`.
    pub approval: String,
    pub ca_expires_at: Option<String>,
    pub events_kept: u64,
    /// Absent where the master makes none by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupView>,
    /// Absent where the master sends no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<ExportView>,
    pub problems: Vec<ProblemView>,
}

/// Backups that the master makes by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Backup))]
pub struct BackupView {
    pub last_at: Option<String>,
    pub last_file: String,
    pub every_seconds: u64,
    /// Why the last one was not made; empty where it was.
    pub problem: String,
}

/// Figures that the master sends to a receiver of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Export))]
pub struct ExportView {
    /// When the receiver took them last.
    pub last_at: Option<String>,
    pub every_seconds: u64,
    /// Why it did not take the last; empty where it did.
    pub problem: String,
}

/// A node that is not well.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Problem))]
pub struct ProblemView {
    pub node: String,
    pub status: String,
    pub since: Option<String>,
    pub reasons: Vec<String>,
}

impl StatusView {
    #[must_use]
    pub fn new(status: &v1::GetClusterStatusResponse, nodes: &[v1::Node]) -> Self {
        let problems = nodes.iter().filter(|node| !is_well(node)).map(|node| ProblemView {
            node: node.name.clone(),
            status: words::status(node.status),
            since: time(node.status_since.as_ref()),
            reasons: reasons(node),
        });
        Self {
            cluster_id: status.cluster_id.clone(),
            cluster_name: status.cluster_name.clone(),
            master_version: status.master_version.clone(),
            master_address: status.master_address.clone(),
            started_at: time(status.started_at.as_ref()),
            now: time(status.now.as_ref()),
            store_kind: status.store_kind.clone(),
            store_health: status.store_health.clone(),
            store_size_bytes: status.store_size_bytes,
            revision: status.revision,
            generation: status.generation,
            nodes_by_status: status.nodes_by_status.clone().into_iter().collect(),
            containers_running: status.containers_running,
            containers_total: status.containers_total,
            sessions: status.sessions,
            watchers: status.watchers,
            approval: status.approval.clone(),
            ca_expires_at: time(status.ca_expires_at.as_ref()),
            events_kept: status.events_kept,
            backup: status.backup.as_ref().map(|backup| BackupView {
                last_at: time(backup.last_at.as_ref()),
                last_file: backup.last_file.clone(),
                every_seconds: backup.every_seconds,
                problem: backup.problem.clone(),
            }),
            otlp: status.otlp.as_ref().map(|export| ExportView {
                last_at: time(export.last_at.as_ref()),
                every_seconds: export.every_seconds,
                problem: export.problem.clone(),
            }),
            problems: problems.collect(),
        }
    }
}

/// Ready, without a condition, and so are its containers.
#[must_use]
pub fn is_well(node: &v1::Node) -> bool {
    node.status == v1::NodeStatus::Ready as i32
        && node.conditions.is_empty()
        && !node.containers.iter().any(is_unwell)
}

/// Sentences, one for each condition and each container that is not well.
#[must_use]
pub fn reasons(node: &v1::Node) -> Vec<String> {
    let conditions = node.conditions.iter().map(|condition| {
        if condition.message.is_empty() {
            condition.kind.clone()
        } else {
            format!("{}: {}", condition.kind, condition.message)
        }
    });
    let containers = node.containers.iter().filter(|container| is_unwell(container));
    let containers = containers
        .map(|container| format!("container {} {}", container.name, container_state(container)));
    conditions.chain(containers).collect()
}

#[must_use]
pub fn is_running(container: &v1::ContainerStatus) -> bool {
    container.state == "running"
}

/// Ended with an error, or running and unhealthy.
#[must_use]
pub fn is_unwell(container: &v1::ContainerStatus) -> bool {
    let failed = !is_running(container) && container.exit_code.is_some_and(|code| code != 0);
    failed || container.health == "unhealthy"
}

/// `running`, `running, healthy`, `exited (1)`.
#[must_use]
pub fn container_state(container: &v1::ContainerStatus) -> String {
    let state = &container.state;
    match (is_running(container), container.exit_code, container.health.as_str()) {
        (true, _, "") | (false, None, _) => state.clone(),
        (true, _, health) => format!("{state}, {health}"),
        (false, Some(code), _) => format!("{state} ({code})"),
    }
}
