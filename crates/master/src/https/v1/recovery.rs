//! What is done about failures of nodes, and probes (HLD §10).

use piccolo_rpc::{
    convert::timestamp,
    v1::{self, api_server_service_server::ApiServerService as _},
    view::recovery::{ProbeView, RecoveryView},
};
use serde::Deserialize;

use super::{
    Answer, Shown,
    asker::{Asker, Named},
    body::Given,
    problem::{Problems, Refusals},
    tags::{IfMatch, IfNoneMatch, Unchanged},
    writes::Told,
};

fn recovery(asker: &Asker, node: Option<v1::Node>) -> Answer<RecoveryView> {
    let now = timestamp(asker.api.clock.now().wall);
    let node = node.unwrap_or_default();
    Ok(Shown::ok(RecoveryView::of(&node, &now)).tagged(node.revision))
}

/// What is being done about a node's failures, and its newest probe.
#[utoipa::path(get, path = "/nodes/{node}/recovery", tag = "recovery",
    params(("node" = String, Path, description = "Id or name."), IfNoneMatch),
    responses((status = 200, description = "Its recovery.", body = RecoveryView), Unchanged, Refusals, Problems))]
pub(super) async fn get_recovery(asker: Asker, Named(id): Named) -> Answer<RecoveryView> {
    let request = asker.request(v1::GetNodeRequest { node_id: id });
    let node = asker.api.get_node(request).await?.into_inner().node;
    recovery(&asker, node)
}

/// For so long nothing is done by itself.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    /// Seven days at most.
    #[schema(minimum = 1, maximum = 604800)]
    seconds: u32,
}

/// Pause a node's recovery.
#[utoipa::path(put, path = "/nodes/{node}/recovery/pause", tag = "recovery",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    request_body = Pause,
    responses((status = 200, description = "Its recovery.", body = RecoveryView), Refusals, Problems))]
pub(super) async fn pause(
    asker: Asker,
    Named(id): Named,
    Given(given): Given<Pause>,
) -> Answer<RecoveryView> {
    let message = v1::PauseRecoveryRequest { node_id: id, pause_seconds: given.seconds.max(1) };
    let request = asker.request(message);
    let node = asker.api.pause_recovery(request).await?.into_inner().node;
    recovery(&asker, node)
}

/// Let a node's recovery go on.
#[utoipa::path(delete, path = "/nodes/{node}/recovery/pause", tag = "recovery",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    responses((status = 200, description = "Its recovery.", body = RecoveryView), Refusals, Problems))]
pub(super) async fn resume(asker: Asker, Named(id): Named) -> Answer<RecoveryView> {
    let request = asker.request(v1::PauseRecoveryRequest { node_id: id, pause_seconds: 0 });
    let node = asker.api.pause_recovery(request).await?.into_inner().node;
    recovery(&asker, node)
}

/// One step, out of turn.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Force {
    /// `restart-container`, `restart-podman` or `reboot`.
    step: String,
    /// Of `restart-container`.
    #[serde(default)]
    container: String,
}

/// Force a step of recovery; answered when it has begun.
#[utoipa::path(post, path = "/nodes/{node}/recovery/force", tag = "recovery",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    request_body = Force,
    responses((status = 200, description = "It has begun.", body = Told), Refusals, Problems))]
pub(super) async fn force(
    asker: Asker,
    Named(id): Named,
    Given(given): Given<Force>,
) -> Answer<Told> {
    let Force { step, container } = given;
    let request = asker.request(v1::ForceRecoveryRequest { node_id: id, step, container });
    let message = asker.api.force_recovery(request).await?.into_inner().message;
    Ok(Shown::ok(Told { message }))
}

/// Have a node prove that its loop, Podman and disk work; answered when it has, or has not.
#[utoipa::path(post, path = "/nodes/{node}/probe", tag = "recovery",
    params(("node" = String, Path, description = "Id or name."), IfMatch),
    responses((status = 200, description = "What it has found.", body = ProbeView), Refusals, Problems))]
pub(super) async fn probe(asker: Asker, Named(id): Named) -> Answer<ProbeView> {
    let request = asker.request(v1::ProbeNodeRequest { node_id: id });
    let node = asker.api.probe_node(request).await?.into_inner().node.unwrap_or_default();
    Ok(Shown::ok(ProbeView::from(&node.probe.unwrap_or_default())))
}
