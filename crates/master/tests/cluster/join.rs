//! Joining with a token, and every way to be refused (HLD §5.1, §9.1).

use std::time::SystemTime;

use piccolo_core::state_manager::Approval;
use piccolo_rpc::{
    tls::{
        clock::Clock,
        connector::{ClientOptions, Connector},
        identity::PrivateKey,
    },
    v1::{self, node_agent_service_client::NodeAgentServiceClient},
};
use tonic::Code;

use crate::harness::{Cluster, Session, eventually, hello, refused, registration};

#[tokio::test]
async fn a_board_joins_with_a_token_and_becomes_ready() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    assert_eq!(cluster.status_of("n1").await, v1::NodeStatus::Initializing);
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    session.configure().await;
    cluster.wait_for("n1", v1::NodeStatus::Ready).await;
    let node = cluster.node("HOST-n1").await;
    assert_eq!(node.id, "n1");
    assert!(node.connected);
}

/// Registers with the token, and gives reason and field of the refusal.
async fn refusal(
    cluster: &Cluster,
    token: &str,
    change: impl Fn(&mut v1::NodeRegistrationRequest),
) -> (Code, String, Option<String>) {
    let mut request = registration("n9", token, &PrivateKey::generate().unwrap());
    change(&mut request);
    let options = ClientOptions::new(Clock::default());
    let authority = cluster.admin_identity().ca_digests()[0];
    let connector = Connector::joining(authority, options).unwrap();
    let channel = connector.channel(&cluster.address()).await.unwrap();
    let view = refused(NodeAgentServiceClient::new(channel).register_node(request).await);
    assert!(view.help.is_some() || view.code == Code::InvalidArgument, "{view:?} has no help");
    (view.code, view.reason, view.field)
}

#[tokio::test]
async fn every_fault_of_a_token_has_its_own_reason() {
    let cluster = Cluster::start().await;
    let other = Cluster::start().await;
    let field = || Some("credentials.token".to_owned());
    let denied = |reason: &str| (Code::PermissionDenied, reason.to_owned(), field());

    let mut unknown = cluster.token(|_| {}).await;
    let last = unknown.pop().unwrap();
    unknown.push(if last == '0' { '4' } else { '0' });
    assert_eq!(refusal(&cluster, &unknown, |_| {}).await, denied("TokenUnknown"));

    let once = cluster.token(|t| t.uses = 1).await;
    cluster.join_with(&once, "n1").await.unwrap();
    assert_eq!(refusal(&cluster, &once, |_| {}).await, denied("TokenUsedUp"));

    let master = cluster.token(|t| t.role = v1::NodeRole::Master.into()).await;
    assert_eq!(refusal(&cluster, &master, |_| {}).await, denied("TokenWrongRole"));

    let bound = cluster.token(|t| t.node_name = "somebody".to_owned()).await;
    assert_eq!(refusal(&cluster, &bound, |_| {}).await, denied("TokenWrongName"));

    let mut admin = cluster.admin().await;
    let role = v1::NodeRole::Sub.into();
    let short = v1::CreateTokenRequest { role, ttl_seconds: 1, ..Default::default() };
    let short = admin.create_token(short).await.unwrap().into_inner();
    let end: SystemTime = short.info.unwrap().expires_at.unwrap().try_into().unwrap();
    eventually("the token's second is over", async || SystemTime::now() > end).await;
    assert_eq!(refusal(&cluster, &short.token, |_| {}).await, denied("TokenExpired"));

    let foreign = other.token(|_| {}).await;
    assert_eq!(refusal(&cluster, &foreign, |_| {}).await, denied("TokenWrongCluster"));

    let (code, _, field) = refusal(&cluster, "PICCOLO1-abc", |_| {}).await;
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(field.as_deref(), Some("credentials.token"));

    let revoked = cluster.token(|_| {}).await;
    let listed = admin.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    for token in listed {
        admin.revoke_token(v1::RevokeTokenRequest { id: token.id }).await.unwrap();
    }
    let key = PrivateKey::generate().unwrap();
    let mut stranger = cluster.stranger(&revoked).await;
    let view = refused(stranger.register_node(registration("n9", &revoked, &key)).await);
    assert_eq!(view.reason, "TokenUnknown");
    let nodes = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert_eq!(nodes.len(), 1, "no refusal has left a node behind");
}

#[tokio::test]
async fn neither_token_nor_certificate_is_not_enough() {
    let cluster = Cluster::start().await;
    let (code, reason, _) = refusal(&cluster, "", |_| {}).await;
    assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "TokenRequired"));
}

#[tokio::test]
async fn whoever_guesses_tokens_is_slowed_down() {
    let cluster = Cluster::start().await;
    let good = cluster.token(|_| {}).await;
    let mut stranger = cluster.stranger(&good).await;
    let key = PrivateKey::generate().unwrap();
    for _ in 0..20 {
        refused(stranger.register_node(registration("n1", "nonsense", &key)).await);
    }
    let view = refused(stranger.register_node(registration("n1", &good, &key)).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::ResourceExhausted, "TooManyAttempts"));
}

#[tokio::test]
async fn a_lost_answer_costs_nothing() {
    let cluster = Cluster::start().await;
    let token = cluster.token(|t| t.uses = 1).await;
    let key = PrivateKey::generate().unwrap();
    let mut stranger = cluster.stranger(&token).await;
    let request = registration("n1", &token, &key);
    let first = stranger.register_node(request.clone()).await.unwrap().into_inner();
    let again = stranger.register_node(request).await.unwrap().into_inner();
    assert_eq!(first.cluster_id, again.cluster_id);
    assert!(!again.certificate.is_empty());
    assert_eq!(again.heartbeat_interval_seconds, 10);
}

#[tokio::test]
async fn a_name_or_an_id_is_never_taken_over() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let token = cluster.token(|_| {}).await;
    let mut stranger = cluster.stranger(&token).await;
    let key = PrivateKey::generate().unwrap();
    let mut same_name = registration("n2", &token, &key);
    same_name.hostname = "HOST-N1".to_owned();
    let view = refused(stranger.register_node(same_name).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::AlreadyExists, "DuplicateName"));
    let view = refused(stranger.register_node(registration("n1", &token, &key)).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::AlreadyExists, "DuplicateIdentity"));
    let kinds: Vec<_> = cluster.events().await.into_iter().map(|event| event.kind).collect();
    assert!(kinds.iter().any(|kind| kind.starts_with("Duplicate")), "{kinds:?}");
}

#[tokio::test]
async fn a_re_flashed_board_comes_back_after_a_reset_of_its_identity() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let mut admin = cluster.admin().await;
    let request = v1::ResetNodeIdentityRequest { node_id: "host-n1".to_owned() };
    admin.reset_node_identity(request).await.unwrap();
    let token = cluster.token(|_| {}).await;
    let mut request = registration("n2", &token, &PrivateKey::generate().unwrap());
    request.hostname = "host-n1".to_owned();
    cluster.stranger(&token).await.register_node(request).await.unwrap();
    assert_eq!(cluster.node("host-n1").await.id, "n2");
    let view = refused(admin.get_node(v1::GetNodeRequest { node_id: "n1".to_owned() }).await);
    assert_eq!(view.reason, "NoSuchNode");
}

#[tokio::test]
async fn with_manual_approval_a_node_waits_for_an_operator() {
    let cluster = Cluster::start_with(|config| config.approval = Approval::Manual).await;
    let token = cluster.token(|_| {}).await;
    let mut stranger = cluster.stranger(&token).await;
    let request = registration("n1", &token, &PrivateKey::generate().unwrap());
    let answer = stranger.register_node(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.status(), v1::NodeStatus::Pending);
    assert!(answer.certificate.is_empty() && answer.retry_after_seconds > 0, "{answer:?}");
    let node = cluster.node("n1").await;
    assert_eq!(node.conditions[0].kind, "AwaitingApproval");

    let mut admin = cluster.admin().await;
    let approve = v1::ApproveNodeRequest { node_id: "n1".to_owned() };
    let node = admin.approve_node(approve.clone()).await.unwrap().into_inner().node.unwrap();
    assert_eq!(node.status(), v1::NodeStatus::Initializing);
    let view = refused(admin.approve_node(approve).await);
    assert_eq!(view.reason, "WrongStatus");
    let answer = stranger.register_node(request).await.unwrap().into_inner();
    assert!(!answer.certificate.is_empty());
}

#[tokio::test]
async fn a_rejected_node_is_gone() {
    let cluster = Cluster::start_with(|config| config.approval = Approval::Manual).await;
    let token = cluster.token(|_| {}).await;
    let request = registration("n1", &token, &PrivateKey::generate().unwrap());
    cluster.stranger(&token).await.register_node(request).await.unwrap();
    let mut admin = cluster.admin().await;
    let reject = v1::RejectNodeRequest { node_id: "n1".to_owned(), reason: "not ours".to_owned() };
    admin.reject_node(reject).await.unwrap();
    let nodes = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert_eq!(nodes, []);
}
