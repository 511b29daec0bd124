//! The unary calls of an agent, and the way into its session (HLD §7.1.2).

use std::{sync::Arc, time::Duration};

use piccolo_core::{
    api_server::Call,
    state_manager::{Answer, Request},
};
use piccolo_rpc::{
    convert::{ConfigPoll, ReportFrom, node_status_to_wire, whole_seconds},
    tls::acceptor::peer_of,
    v1,
};
use tonic::{Request as Asked, Response, Status, Streaming};

use super::{
    Answered, Api,
    caller::{DEADLINE, caller_of, unexpected},
    outgoing::{Outgoing, OutgoingStream},
    sessions::SessionTask,
};

/// Of a long poll at most; the machine answers at its own limit before.
const POLL_DEADLINE: Duration = Duration::from_secs(75);

pub(super) async fn heartbeat(
    api: &Api,
    request: Asked<v1::HeartbeatRequest>,
) -> Answered<v1::HeartbeatResponse> {
    let convert = |w: v1::HeartbeatRequest| Ok(Request::Heartbeat { node: w.node_id });
    let answer = api.call(request, Call::Heartbeat, convert).await?;
    let Answer::Heartbeat { next, generation, status } = answer else {
        return Err(unexpected(Call::Heartbeat));
    };
    Ok(Response::new(v1::HeartbeatResponse {
        next_interval_seconds: whole_seconds(next),
        generation,
        status: node_status_to_wire(status).into(),
    }))
}

pub(super) async fn report_status(
    api: &Api,
    request: Asked<v1::StatusReport>,
) -> Answered<v1::StatusAck> {
    let node_id = request.get_ref().node_id.clone();
    let convert = |wire: v1::StatusReport| {
        let ReportFrom { node, report } = wire.try_into()?;
        Ok(Request::ReportStatus { node, report: Box::new(report) })
    };
    let answer = api.call(request, Call::ReportStatus, convert).await?;
    let Answer::Status(status) = answer else { return Err(unexpected(Call::ReportStatus)) };
    let status = node_status_to_wire(status).into();
    Ok(Response::new(v1::StatusAck { node_id, status }))
}

pub(super) async fn receive_config(
    api: &Api,
    request: Asked<v1::ConfigRequest>,
) -> Answered<v1::ConfigResponse> {
    let convert = |wire: v1::ConfigRequest| {
        let ConfigPoll { node, applied, rejected, wait } = wire.into();
        Ok(Request::ReceiveConfig { node, applied, rejected, wait })
    };
    let deadline = POLL_DEADLINE.max(DEADLINE);
    let answer = api.call_within(request, Call::ReceiveConfig, deadline, convert).await?;
    let Answer::Config { generation, config } = answer else {
        return Err(unexpected(Call::ReceiveConfig));
    };
    Ok(Response::new(v1::ConfigResponse { generation, config: config.map(Into::into) }))
}

pub(super) async fn session(
    api: &Api,
    request: Asked<Streaming<v1::AgentMessage>>,
) -> Answered<OutgoingStream> {
    let by = caller_of(peer_of(&request), api.clock.seconds());
    // an agent whose certificate has just run out is told so by the machine, as a Goodbye that it understands
    if !(by.expired && by.role.is_node())
        && let Err(refusal) = by.check(Call::Session)
    {
        return Err(api.refuse(by, Call::Session, refusal).await);
    }
    let Some(connection) = peer_of(&request).map(|peer| peer.connection) else {
        return Err(Status::internal("the connection is not known"));
    };
    api.figures.called(Call::Session.name(), tonic::Code::Ok);
    let task = SessionTask {
        state: api.state.clone(),
        sessions: Arc::clone(&api.sessions),
        by,
        connection,
        inbound: request.into_inner(),
        outgoing: Arc::new(Outgoing::default()),
    };
    Ok(Response::new(task.start()))
}
