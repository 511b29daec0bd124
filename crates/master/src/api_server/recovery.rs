//! Recovery of nodes, and probes (HLD §10).

use std::time::Duration;

use piccolo_core::{
    api_server::Call, model::check_text, session::AgentCommand, state_manager::Request,
};
use piccolo_rpc::{convert::recovery_step, v1};
use tonic::{Request as Asked, Response};

use super::{
    Answered, Api,
    nodes::{CONTAINER_BYTES_MAX, named},
};

pub(super) async fn probe_node(
    api: &Api,
    request: Asked<v1::ProbeNodeRequest>,
) -> Answered<v1::ProbeNodeResponse> {
    let convert = |w: v1::ProbeNodeRequest| {
        Ok(Request::Command { node: named(w.node_id)?, command: AgentCommand::Probe })
    };
    let node = api.node_call(request, Call::ProbeNode, convert).await?;
    Ok(Response::new(v1::ProbeNodeResponse { node: Some(node) }))
}

pub(super) async fn pause_recovery(
    api: &Api,
    request: Asked<v1::PauseRecoveryRequest>,
) -> Answered<v1::PauseRecoveryResponse> {
    let convert = |w: v1::PauseRecoveryRequest| {
        let span = Duration::from_secs(w.pause_seconds.into());
        Ok(Request::PauseRecovery { node: named(w.node_id)?, span })
    };
    let node = api.node_call(request, Call::PauseRecovery, convert).await?;
    Ok(Response::new(v1::PauseRecoveryResponse { node: Some(node) }))
}

pub(super) async fn force_recovery(
    api: &Api,
    request: Asked<v1::ForceRecoveryRequest>,
) -> Answered<v1::ForceRecoveryResponse> {
    let convert = |w: v1::ForceRecoveryRequest| {
        let step = recovery_step("step", &w.step)?;
        check_text("container", &w.container, CONTAINER_BYTES_MAX)?;
        step.check_forced(&w.container)?;
        let command = AgentCommand::Recover { step, container: w.container };
        Ok(Request::Command { node: named(w.node_id)?, command })
    };
    let message = api.command_call(request, Call::ForceRecovery, convert).await?;
    Ok(Response::new(v1::ForceRecoveryResponse { message }))
}
