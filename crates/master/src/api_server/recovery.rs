//! Recovery of nodes, and probes (HLD §10).

use std::time::Duration;

use piccolo_core::{
    api_server::Call,
    model::{FieldError, check_text},
    session::AgentCommand,
    state_manager::{Answer, Request},
};
use piccolo_rpc::{convert::recovery_step, v1};
use tonic::{Request as Asked, Response};

use super::{
    Answered, Api,
    caller::unexpected,
    nodes::{CONTAINER_BYTES_MAX, named, node_of},
};

pub(super) async fn probe_node(
    api: &Api,
    request: Asked<v1::ProbeNodeRequest>,
) -> Answered<v1::ProbeNodeResponse> {
    let convert = |w: v1::ProbeNodeRequest| {
        Ok(Request::Command { node: named(w.node_id)?, command: AgentCommand::Probe })
    };
    let answer = api.call(request, Call::ProbeNode, convert).await?;
    let node = Some(node_of(answer, Call::ProbeNode)?);
    Ok(Response::new(v1::ProbeNodeResponse { node }))
}

pub(super) async fn pause_recovery(
    api: &Api,
    request: Asked<v1::PauseRecoveryRequest>,
) -> Answered<v1::PauseRecoveryResponse> {
    let convert = |w: v1::PauseRecoveryRequest| {
        let span = Duration::from_secs(w.pause_seconds.into());
        Ok(Request::PauseRecovery { node: named(w.node_id)?, span })
    };
    let answer = api.call(request, Call::PauseRecovery, convert).await?;
    let node = Some(node_of(answer, Call::PauseRecovery)?);
    Ok(Response::new(v1::PauseRecoveryResponse { node }))
}

pub(super) async fn force_recovery(
    api: &Api,
    request: Asked<v1::ForceRecoveryRequest>,
) -> Answered<v1::ForceRecoveryResponse> {
    let convert = |w: v1::ForceRecoveryRequest| {
        let step = recovery_step("step", &w.step)?;
        if !step.is_ours() {
            return Err(FieldError::new("step", "happens by itself: it cannot be forced").into());
        }
        check_text("container", &w.container, CONTAINER_BYTES_MAX)?;
        let command = AgentCommand::Recover { step, container: w.container };
        Ok(Request::Command { node: named(w.node_id)?, command })
    };
    let answer = api.call(request, Call::ForceRecovery, convert).await?;
    let Answer::Command(message) = answer else { return Err(unexpected(Call::ForceRecovery)) };
    Ok(Response::new(v1::ForceRecoveryResponse { message }))
}
