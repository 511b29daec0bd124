//! What changes something: nodes and their recovery, the topology, the log level.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, StatusCode, header};
use piccolo_rpc::{
    v1::{self, api_server_service_server::ApiServerService as _},
    view::{
        node::{CheckedView, NodeView, SystemCheckView},
        topology::TopologyView,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Done, Shown,
    asker::{Asker, Named},
    body::{Given, Optional},
    problem::{Problem, Problems, Refusals},
    tags::IfMatch,
};

/// Why, for the event.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    #[serde(default)]
    reason: String,
}

/// A node's own words, or the master's.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Told {
    pub(super) message: String,
}

fn node(node: Option<v1::Node>) -> Answer<NodeView> {
    let node = node.unwrap_or_default();
    Ok(Shown::ok(NodeView::from(&node)).tagged(node.revision))
}

/// Let a node in that waits for approval.
#[utoipa::path(post, path = "/nodes/{node}/approve", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    responses((status = 200, description = "The node.", body = NodeView), Refusals, Problems))]
pub(super) async fn approve(asker: Asker, Named(id): Named) -> Answer<NodeView> {
    let request = asker.request(v1::ApproveNodeRequest { node_id: id });
    node(asker.api.approve_node(request).await?.into_inner().node)
}

/// Turn a node away that waits for approval.
#[utoipa::path(post, path = "/nodes/{node}/reject", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    request_body(content = Reason),
    responses((status = 200, description = "It is gone.", body = Done), Refusals, Problems))]
pub(super) async fn reject(
    asker: Asker,
    Named(id): Named,
    Optional(given): Optional<Reason>,
) -> Answer<Done> {
    let request = asker.request(v1::RejectNodeRequest { node_id: id, reason: given.reason });
    asker.api.reject_node(request).await?;
    Ok(Shown::ok(Done {}))
}

/// Into Maintenance, or out of it.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Maintenance {
    on: bool,
    /// Why, for the event and the audit log; 256 bytes at most.
    #[serde(default)]
    reason: String,
}

/// Put a node into Maintenance, or take it out.
#[utoipa::path(put, path = "/nodes/{node}/maintenance", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    request_body = Maintenance,
    responses((status = 200, description = "The node.", body = NodeView), Refusals, Problems))]
pub(super) async fn set_maintenance(
    asker: Asker,
    Named(id): Named,
    Given(given): Given<Maintenance>,
) -> Answer<NodeView> {
    let Maintenance { on, reason } = given;
    let request = asker.request(v1::SetMaintenanceRequest { node_id: id, on, reason });
    node(asker.api.set_maintenance(request).await?.into_inner().node)
}

/// Take a node out of the cluster; its certificate is worth nothing from then on.
#[utoipa::path(delete, path = "/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    responses((status = 200, description = "It is gone.", body = Done), Refusals, Problems))]
pub(super) async fn remove(asker: Asker, Named(id): Named) -> Answer<Done> {
    let request = asker.request(v1::RemoveNodeRequest { node_id: id });
    asker.api.remove_node(request).await?;
    Ok(Shown::ok(Done {}))
}

/// Labels by key; null takes one away.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelChanges {
    labels: BTreeMap<String, Option<String>>,
}

/// Set labels, and take labels away.
#[utoipa::path(patch, path = "/nodes/{node}/labels", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    request_body = LabelChanges,
    responses((status = 200, description = "The node.", body = NodeView), Refusals, Problems))]
pub(super) async fn label(
    asker: Asker,
    Named(id): Named,
    Given(given): Given<LabelChanges>,
) -> Answer<NodeView> {
    let (set, remove): (Vec<_>, Vec<_>) =
        given.labels.into_iter().partition(|(_, value)| value.is_some());
    let request = asker.request(v1::LabelNodeRequest {
        node_id: id,
        set: set.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        remove: remove.into_iter().map(|(key, _)| key).collect(),
    });
    node(asker.api.label_node(request).await?.into_inner().node)
}

/// Let the board of a node join again under its name, with any valid token.
#[utoipa::path(post, path = "/nodes/{node}/reset-identity", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    responses((status = 200, description = "It may.", body = Done), Refusals, Problems))]
pub(super) async fn reset_identity(asker: Asker, Named(id): Named) -> Answer<Done> {
    let request = asker.request(v1::ResetNodeIdentityRequest { node_id: id });
    asker.api.reset_node_identity(request).await?;
    Ok(Shown::ok(Done {}))
}

/// Restart a container, by name or id.
#[utoipa::path(post, path = "/nodes/{node}/containers/{container}/restart", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), ("container" = String, Path, description = "Name or id."), IfMatch),
    responses((status = 200, description = "It was restarted.", body = Told), Refusals, Problems))]
pub(super) async fn restart_container(
    asker: Asker,
    Named((id, container)): Named<(String, String)>,
) -> Answer<Told> {
    let request = asker.request(v1::RestartContainerRequest { node_id: id, container });
    let message = asker.api.restart_container(request).await?.into_inner().message;
    Ok(Shown::ok(Told { message }))
}

/// Have a node check its system now; answered when it has.
#[utoipa::path(post, path = "/nodes/{node}/check", tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    responses((status = 200, description = "Everything that was found.", body = CheckedView), Refusals, Problems))]
pub(super) async fn check(asker: Asker, Named(id): Named) -> Answer<CheckedView> {
    let request = asker.request(v1::CheckNodeRequest { node_id: id });
    let answer = asker.api.check_node(request).await?.into_inner();
    Ok(Shown::ok(CheckedView {
        node: NodeView::from(&answer.node.unwrap_or_default()),
        system_check: SystemCheckView::from(&answer.system_check.unwrap_or_default()),
    }))
}

/// The configuration that is to hold, if it is still as `If-Match` says.
#[utoipa::path(put, path = "/topology", tag = "topology",
    params(IfMatch),
    request_body = TopologyView,
    responses((status = 200, description = "The topology; its ETag is its generation.", body = TopologyView), Refusals, Problems))]
pub(super) async fn put_topology(
    asker: Asker,
    headers: HeaderMap,
    Given(mut given): Given<TopologyView>,
) -> Answer<TopologyView> {
    // the header goes before the body
    if headers.contains_key(header::IF_MATCH) {
        given.generation = 0;
    }
    let topology = given.to_wire().map_err(|problem| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidField", problem).field("type")
    })?;
    let request = asker.request(v1::UpdateTopologyRequest { topology: Some(topology) });
    let updated = asker.api.update_topology(request).await?.into_inner().updated_topology;
    let updated = updated.unwrap_or_default();
    Ok(Shown::ok(TopologyView::from(&updated)).tagged(updated.generation))
}

/// Levels by module, as `piccolo log-level` takes them.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLevel {
    filter: String,
    /// Then as it is configured, 86400 at most; 0: until it restarts.
    #[serde(default)]
    for_seconds: u32,
}

/// Change what the master logs, or a node.
#[utoipa::path(put, path = "/log-level/{target}", tag = "cluster",
    params(("target" = String, Path, description = "`master`, which has no ETag, or a node's id or name."), IfMatch),
    request_body = LogLevel,
    responses((status = 200, description = "It logs so now.", body = Told), Refusals, Problems))]
pub(super) async fn set_log_level(
    asker: Asker,
    Named(target): Named,
    Given(given): Given<LogLevel>,
) -> Answer<Told> {
    let request = asker.request(v1::SetLogLevelRequest {
        target,
        filter: given.filter,
        for_seconds: given.for_seconds,
    });
    let message = asker.api.set_log_level(request).await?.into_inner().message;
    Ok(Shown::ok(Told { message }))
}
