//! The API Server (HLD §3.2, §7.1): the gRPC services on the mTLS port.
//!
//! A call is admitted (`caller`), converted, asked of the owner of the state, and its answer converted back.
//! `nodes`, `recovery`, `monitoring`, `alerts`, `logs`, `access` and `history` answer people, `node_agent` and
//! `registration` answer agents; `sessions` and
//! `watches` are the streams. Before all that, `requests` bounds what is on its way in.

mod access;
mod alerts;
pub(crate) mod caller;
pub(crate) mod connections;
pub(crate) mod credentials;
mod history;
mod kept;
mod logs;
mod monitoring;
mod node_agent;
mod nodes;
pub(crate) mod outgoing;
mod recovery;
mod registration;
mod requests;
pub(crate) mod sessions;
pub(crate) mod watches;

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use piccolo_core::api_server::Call;
use piccolo_rpc::{
    FILE_DESCRIPTOR_SET,
    tls::acceptor::{Incoming, peer_of},
    v1::{
        self, api_server_service_server::ApiServerServiceServer,
        node_agent_service_server::NodeAgentServiceServer,
    },
};
use piccolo_store::Store;
use tonic::{Request, Response, Status, transport::Server};
use tower::util::MapRequestLayer;

use self::{
    caller::caller_of, connections::Connections, requests::Arrivals, sessions::Sessions,
    watches::Watchers,
};
use crate::{
    alerts::board::AlertBoard,
    backup::schedule::BackupHealth,
    certificate_authority::CertificateAuthority,
    clock::MasterClock,
    config::Said,
    figures::Figures,
    logging::LogLevel,
    metrics::export::ExportHealth,
    monitoring_server::Monitoring,
    state_manager::{
        Published, StateHandle, board::Board, queue::EffectQueue, writer::StoreHealth,
    },
};

/// Bytes of one message at most, each way.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// A snapshot of thousands of nodes is one answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Calls and streams of one connection at once.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 64;
/// Bytes of a request's head at most; the connection that sends more is refused, or ended.
pub(crate) const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Streams of one connection that were reset before they were looked at; with more of them it is ended. No
/// client of ours resets that fast (CVE-2023-44487).
pub(crate) const RESETS_WAITING_MAX: usize = 20;
/// Streams of one connection that the master had to reset for errors of the client; with more of them it is ended.
pub(crate) const RESETS_FOR_ERRORS_MAX: usize = 256;
/// HTTP/2 flow-control windows, bytes: small, for they are memory that a stranger can fill.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;
/// A client that does not answer pings is gone; sessions notice it earlier by themselves.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);
pub(crate) const PING_WITHIN: Duration = Duration::from_secs(10);

/// Everything that a call may need. Cloned for each service.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) state: StateHandle,
    pub(crate) board: Arc<Board>,
    pub(crate) monitoring: Arc<Monitoring>,
    pub(crate) alerts: Arc<AlertBoard>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) store_kind: &'static str,
    pub(crate) health: Arc<StoreHealth>,
    pub(crate) backup: Arc<BackupHealth>,
    pub(crate) export: Arc<ExportHealth>,
    pub(crate) state_dir: PathBuf,
    pub(crate) settings: Arc<[Said]>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) published: Arc<Published>,
    pub(crate) clock: MasterClock,
    pub(crate) log_level: LogLevel,
    pub(crate) queue: Arc<EffectQueue>,
    /// All kept events are read for a past moment: for one at a time.
    pub(crate) one_past: Arc<tokio::sync::Mutex<()>>,
    /// For people: where this master is reached.
    pub(crate) address: String,
    /// Becomes true when the master stops: watches end.
    pub(crate) stopping: tokio::sync::watch::Receiver<bool>,
}

type Answered<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves until `stop` is over, and then until every call has ended.
pub(crate) async fn serve(
    api: Api,
    incoming: Incoming,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ApiServerServiceServer<Api>>().await;
    health.set_serving::<NodeAgentServiceServer<Api>>().await;
    let clock = api.clock.clone();
    let only_readers = move |request: Request<()>| {
        let by = caller_of(peer_of(&request), clock.seconds());
        by.check(Call::Reflection).map_err(|refusal| piccolo_rpc::status::status(&refusal))?;
        Ok(request)
    };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let api_server = ApiServerServiceServer::new(api.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let node_agent = NodeAgentServiceServer::new(api)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let arrivals = Arrivals::default();
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEAD_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_WAITING_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_FOR_ERRORS_MAX))
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_WITHIN))
        .layer(MapRequestLayer::new(move |request| arrivals.bounded(request)))
        .add_service(health_service)
        .add_service(tonic::service::interceptor::InterceptedService::new(reflection, only_readers))
        .add_service(api_server)
        .add_service(node_agent)
        .serve_with_incoming_shutdown(incoming, stop)
        .await?;
    Ok(())
}

#[tonic::async_trait]
impl v1::api_server_service_server::ApiServerService for Api {
    async fn get_nodes(&self, r: Request<v1::GetNodesRequest>) -> Answered<v1::GetNodesResponse> {
        nodes::get_nodes(self, r).await
    }

    async fn get_node(&self, r: Request<v1::GetNodeRequest>) -> Answered<v1::GetNodeResponse> {
        nodes::get_node(self, r).await
    }

    async fn register_node(
        &self,
        r: Request<v1::NodeRegistrationRequest>,
    ) -> Answered<v1::NodeRegistrationResponse> {
        registration::register(self, r).await
    }

    async fn get_topology(
        &self,
        r: Request<v1::GetTopologyRequest>,
    ) -> Answered<v1::GetTopologyResponse> {
        nodes::get_topology(self, r).await
    }

    async fn update_topology(
        &self,
        r: Request<v1::UpdateTopologyRequest>,
    ) -> Answered<v1::UpdateTopologyResponse> {
        nodes::update_topology(self, r).await
    }

    type WatchNodesStream = Streamed<v1::WatchNodesResponse>;

    async fn watch_nodes(
        &self,
        r: Request<v1::WatchNodesRequest>,
    ) -> Answered<Self::WatchNodesStream> {
        watches::watch_nodes(self, r).await
    }

    async fn list_events(
        &self,
        r: Request<v1::ListEventsRequest>,
    ) -> Answered<v1::ListEventsResponse> {
        history::list_events(self, r).await
    }

    type WatchEventsStream = Streamed<v1::WatchEventsResponse>;

    async fn watch_events(
        &self,
        r: Request<v1::WatchEventsRequest>,
    ) -> Answered<Self::WatchEventsStream> {
        watches::watch_events(self, r).await
    }

    async fn get_cluster_status(
        &self,
        r: Request<v1::GetClusterStatusRequest>,
    ) -> Answered<v1::GetClusterStatusResponse> {
        nodes::get_cluster_status(self, r).await
    }

    async fn query_metrics(
        &self,
        r: Request<v1::QueryMetricsRequest>,
    ) -> Answered<v1::QueryMetricsResponse> {
        monitoring::query_metrics(self, r).await
    }

    type ReadLogsStream = Streamed<v1::ReadLogsResponse>;

    async fn read_logs(&self, r: Request<v1::ReadLogsRequest>) -> Answered<Self::ReadLogsStream> {
        logs::read_logs(self, r).await
    }

    async fn approve_node(
        &self,
        r: Request<v1::ApproveNodeRequest>,
    ) -> Answered<v1::ApproveNodeResponse> {
        nodes::approve_node(self, r).await
    }

    async fn reject_node(
        &self,
        r: Request<v1::RejectNodeRequest>,
    ) -> Answered<v1::RejectNodeResponse> {
        nodes::reject_node(self, r).await
    }

    async fn set_maintenance(
        &self,
        r: Request<v1::SetMaintenanceRequest>,
    ) -> Answered<v1::SetMaintenanceResponse> {
        nodes::set_maintenance(self, r).await
    }

    async fn remove_node(
        &self,
        r: Request<v1::RemoveNodeRequest>,
    ) -> Answered<v1::RemoveNodeResponse> {
        nodes::remove_node(self, r).await
    }

    async fn label_node(
        &self,
        r: Request<v1::LabelNodeRequest>,
    ) -> Answered<v1::LabelNodeResponse> {
        nodes::label_node(self, r).await
    }

    async fn reset_node_identity(
        &self,
        r: Request<v1::ResetNodeIdentityRequest>,
    ) -> Answered<v1::ResetNodeIdentityResponse> {
        nodes::reset_node_identity(self, r).await
    }

    async fn restart_container(
        &self,
        r: Request<v1::RestartContainerRequest>,
    ) -> Answered<v1::RestartContainerResponse> {
        nodes::restart_container(self, r).await
    }

    async fn check_node(
        &self,
        r: Request<v1::CheckNodeRequest>,
    ) -> Answered<v1::CheckNodeResponse> {
        nodes::check_node(self, r).await
    }

    async fn probe_node(
        &self,
        r: Request<v1::ProbeNodeRequest>,
    ) -> Answered<v1::ProbeNodeResponse> {
        recovery::probe_node(self, r).await
    }

    async fn pause_recovery(
        &self,
        r: Request<v1::PauseRecoveryRequest>,
    ) -> Answered<v1::PauseRecoveryResponse> {
        recovery::pause_recovery(self, r).await
    }

    async fn force_recovery(
        &self,
        r: Request<v1::ForceRecoveryRequest>,
    ) -> Answered<v1::ForceRecoveryResponse> {
        recovery::force_recovery(self, r).await
    }

    async fn create_token(
        &self,
        r: Request<v1::CreateTokenRequest>,
    ) -> Answered<v1::CreateTokenResponse> {
        access::create_token(self, r).await
    }

    async fn list_tokens(
        &self,
        r: Request<v1::ListTokensRequest>,
    ) -> Answered<v1::ListTokensResponse> {
        access::list_tokens(self, r).await
    }

    async fn revoke_token(
        &self,
        r: Request<v1::RevokeTokenRequest>,
    ) -> Answered<v1::RevokeTokenResponse> {
        access::revoke_token(self, r).await
    }

    async fn create_user(
        &self,
        r: Request<v1::CreateUserRequest>,
    ) -> Answered<v1::CreateUserResponse> {
        access::create_user(self, r).await
    }

    async fn list_users(
        &self,
        r: Request<v1::ListUsersRequest>,
    ) -> Answered<v1::ListUsersResponse> {
        access::list_users(self, r).await
    }

    async fn revoke_user(
        &self,
        r: Request<v1::RevokeUserRequest>,
    ) -> Answered<v1::RevokeUserResponse> {
        access::revoke_user(self, r).await
    }

    async fn create_api_token(
        &self,
        r: Request<v1::CreateApiTokenRequest>,
    ) -> Answered<v1::CreateApiTokenResponse> {
        credentials::create_api_token(self, r).await
    }

    async fn list_api_tokens(
        &self,
        r: Request<v1::ListApiTokensRequest>,
    ) -> Answered<v1::ListApiTokensResponse> {
        credentials::list_api_tokens(self, r).await
    }

    async fn revoke_api_token(
        &self,
        r: Request<v1::RevokeApiTokenRequest>,
    ) -> Answered<v1::RevokeApiTokenResponse> {
        credentials::revoke_api_token(self, r).await
    }

    async fn open_console(
        &self,
        r: Request<v1::OpenConsoleRequest>,
    ) -> Answered<v1::OpenConsoleResponse> {
        credentials::open_console(self, r).await
    }

    async fn list_audit(
        &self,
        r: Request<v1::ListAuditRequest>,
    ) -> Answered<v1::ListAuditResponse> {
        history::list_audit(self, r).await
    }

    async fn verify_audit(
        &self,
        r: Request<v1::VerifyAuditRequest>,
    ) -> Answered<v1::VerifyAuditResponse> {
        history::verify_audit(self, r).await
    }

    async fn set_log_level(
        &self,
        r: Request<v1::SetLogLevelRequest>,
    ) -> Answered<v1::SetLogLevelResponse> {
        access::set_log_level(self, r).await
    }

    type WatchAlertsStream = Streamed<v1::WatchAlertsResponse>;

    async fn watch_alerts(
        &self,
        r: Request<v1::WatchAlertsRequest>,
    ) -> Answered<Self::WatchAlertsStream> {
        alerts::watch(self, r).await
    }

    async fn list_alerts(
        &self,
        r: Request<v1::ListAlertsRequest>,
    ) -> Answered<v1::ListAlertsResponse> {
        alerts::list(self, r).await
    }

    async fn acknowledge_alerts(
        &self,
        r: Request<v1::AcknowledgeAlertsRequest>,
    ) -> Answered<v1::AcknowledgeAlertsResponse> {
        alerts::acknowledge(self, r).await
    }

    async fn silence_alerts(
        &self,
        r: Request<v1::SilenceAlertsRequest>,
    ) -> Answered<v1::SilenceAlertsResponse> {
        alerts::silence(self, r).await
    }

    async fn unsilence_alerts(
        &self,
        r: Request<v1::UnsilenceAlertsRequest>,
    ) -> Answered<v1::UnsilenceAlertsResponse> {
        alerts::unsilence(self, r).await
    }

    async fn list_alert_rules(
        &self,
        r: Request<v1::ListAlertRulesRequest>,
    ) -> Answered<v1::ListAlertRulesResponse> {
        alerts::list_rules(self, r).await
    }

    async fn apply_alert_rules(
        &self,
        r: Request<v1::ApplyAlertRulesRequest>,
    ) -> Answered<v1::ApplyAlertRulesResponse> {
        alerts::apply_rules(self, r).await
    }

    async fn delete_alert_rule(
        &self,
        r: Request<v1::DeleteAlertRuleRequest>,
    ) -> Answered<v1::DeleteAlertRuleResponse> {
        alerts::delete_rule(self, r).await
    }

    async fn list_alert_channels(
        &self,
        r: Request<v1::ListAlertChannelsRequest>,
    ) -> Answered<v1::ListAlertChannelsResponse> {
        alerts::list_channels(self, r).await
    }

    async fn apply_alert_channels(
        &self,
        r: Request<v1::ApplyAlertChannelsRequest>,
    ) -> Answered<v1::ApplyAlertChannelsResponse> {
        alerts::apply_channels(self, r).await
    }

    async fn delete_alert_channel(
        &self,
        r: Request<v1::DeleteAlertChannelRequest>,
    ) -> Answered<v1::DeleteAlertChannelResponse> {
        alerts::delete_channel(self, r).await
    }

    async fn switch_alert_channel(
        &self,
        r: Request<v1::SwitchAlertChannelRequest>,
    ) -> Answered<v1::SwitchAlertChannelResponse> {
        alerts::switch_channel(self, r).await
    }

    async fn test_alert_channel(
        &self,
        r: Request<v1::TestAlertChannelRequest>,
    ) -> Answered<v1::TestAlertChannelResponse> {
        alerts::test_channel(self, r).await
    }

    async fn resend_dead_letters(
        &self,
        r: Request<v1::ResendDeadLettersRequest>,
    ) -> Answered<v1::ResendDeadLettersResponse> {
        alerts::resend_dead_letters(self, r).await
    }

    async fn clear_dead_letters(
        &self,
        r: Request<v1::ClearDeadLettersRequest>,
    ) -> Answered<v1::ClearDeadLettersResponse> {
        alerts::clear_dead_letters(self, r).await
    }
}

#[tonic::async_trait]
impl v1::node_agent_service_server::NodeAgentService for Api {
    async fn register_node(
        &self,
        r: Request<v1::NodeRegistrationRequest>,
    ) -> Answered<v1::NodeRegistrationResponse> {
        registration::register(self, r).await
    }

    async fn report_status(&self, r: Request<v1::StatusReport>) -> Answered<v1::StatusAck> {
        node_agent::report_status(self, r).await
    }

    async fn heartbeat(&self, r: Request<v1::HeartbeatRequest>) -> Answered<v1::HeartbeatResponse> {
        node_agent::heartbeat(self, r).await
    }

    async fn receive_config(&self, r: Request<v1::ConfigRequest>) -> Answered<v1::ConfigResponse> {
        node_agent::receive_config(self, r).await
    }

    type SessionStream = outgoing::OutgoingStream;

    async fn session(
        &self,
        r: Request<tonic::Streaming<v1::AgentMessage>>,
    ) -> Answered<Self::SessionStream> {
        node_agent::session(self, r).await
    }
}
